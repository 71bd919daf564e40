"""Decides what a copy must move. It asks the stores, and moves nothing.

`copy_graph` carries a plan out and `copy_cost` counts it, so an estimate promises what a copy does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NoReturn

from packer.errors import InvalidParameter, NotFound, RegistryError
from packer.oci import Descriptor
from packer.stores.graph import check_expected, known_digests, resolve_or_none
from packer.stores.manifests import Graph, read_graph
from packer.stores.partial import Partial
from packer.stores.protocols import LocalBlobs, Store, Upload
from packer.transfer.mounts import mount_sources, promised_sources
from packer.transfer.promises import Promise, absent_blobs, encode_promises, refuse_incomplete
from packer.transfer.referrers_plan import NO_REFERRERS, SERVER_ERROR, ReferrersPlan

PROBE_BYTES = 4 << 20
"""Bytes of missing blobs below which sending all costs less than asking for each."""
LARGE_BYTES = 256 << 10
"""Bytes from which a blob is probed for first: a small one says little and is soon sent."""
NO_STORE_YET = "a store that is not there yet"
"""Names a destination that the copy would create, in errors."""


@dataclass(frozen=True, slots=True)
class Goal:
    """A manifest, and the name that the destination shall give it.

    Args:
        descriptor: of the manifest.
        data: the manifest's bytes.
        graph: the blobs that the manifest names.
        tag: the name at the destination; None for none.
    """

    descriptor: Descriptor
    data: bytes
    graph: Graph
    tag: str | None

    @property
    def reference(self) -> str:
        """What to ask the destination for: the tag, or the digest where there is no tag."""
        return self.descriptor.digest if self.tag is None else self.tag


def read_goal(source: Store, reference: str, tag: str | None, expect: str | None = None) -> Goal:
    """Read a manifest from its source.

    Args:
        source: holds the manifest.
        reference: tag or digest of the manifest there. It is read once, so a tag that moves
            meanwhile does no harm.
        tag: the name at the destination; None for none.
        expect: digest that the manifest must have; None for any.

    Returns:
        The manifest with the blobs that it names.

    Raises:
        NotFound: the source lacks the manifest.
        DigestMismatch: the manifest has another digest than `expect`.
        UnsupportedVersion: the manifest is an image index.
        FormatError: the manifest is malformed.
    """
    descriptor, data = source.get_manifest(reference)
    check_expected(descriptor.digest, expect, f"{reference} in {source.name}")
    return Goal(descriptor, data, read_graph(data, f"manifest {descriptor.digest}"), tag)


@dataclass(frozen=True, slots=True)
class CopyPlan:
    """The blobs of a manifest, sorted by what a copy does with them.

    Args:
        goal: the manifest and its name at the destination.
        same: the destination names this manifest already.
        complete: the destination has every blob, as far as can be known without asking for each.
        absent: blobs that the source lacks.
        lacking: absent blobs that the destination lacks as well. Each can be mounted.
        missing: blobs to move. A registry was not asked for each of them: an earlier attempt may
            have left some.
        mounts: repositories of the destination's registry that may hold blobs, by digest.
        vouched: a manifest at the destination vouches for some of the blobs.
    """

    goal: Goal
    same: bool
    complete: bool = False
    absent: frozenset[Descriptor] = frozenset()
    lacking: Sequence[Descriptor] = ()
    missing: Sequence[Descriptor] = ()
    mounts: Mapping[str, str] = field(default_factory=dict)
    vouched: bool = False

    @property
    def unchanged(self) -> bool:
        """Whether there is nothing to do."""
        return self.same and not self.missing and not self.lacking


def decide(
    source: Store,
    goal: Goal,
    destination: Store | None,
    *,
    own: bool = False,
    again: bool = False,
    force: bool = False,
    jobs: int = 4,
) -> CopyPlan:
    """Decide which blobs a copy to a registry or local store must move.

    Args:
        source: holds the manifest.
        goal: the manifest and its name at the destination.
        destination: where to copy it; None for a store that is not there yet.
        own: `source` is the user's own store. Blobs that it left in the destination's registry may
            be mounted from there.
        again: look at the blobs even if the destination names this manifest already.
        force: plan to send every blob that the source has, whatever a registry says it has.
        jobs: questions asked at once, at least 1.

    Returns:
        What to mount and what to move.

    Raises:
        NotFound: source and destination both lack a blob, and it cannot be mounted (kind "base" if
            the source knows which version has it).
        SizeMismatch: the source holds a truncated blob.
        StoreError: a store failed.
    """
    blobs = goal.graph.blobs
    remote = isinstance(destination, Upload)
    named = None if destination is None else _named(destination, goal.reference, doubtful=again)
    same = named is not None and named.digest == goal.descriptor.digest
    if remote and same and not again and not force:
        return CopyPlan(goal, same, complete=True)
    absent = frozenset(absent_blobs(source, blobs))
    known: frozenset[str] = frozenset()
    if remote and destination is not None and (absent or not force):
        known = _known(source, goal, destination, named, same=same, partial=bool(absent))
    lacking = _lacking(source, goal, destination, absent, known, jobs)
    promised: dict[str, str] = {}
    if lacking:
        if own and destination is not None:
            promised = promised_sources(source, destination, goal.descriptor.digest)
        if any(blob.digest not in promised for blob in lacking):
            refuse(source, goal, lacking, destination)
    if destination is None:
        missing = [blob for blob in blobs if blob not in absent]
    elif not remote:
        missing = [blob for blob in blobs if blob not in absent and not destination.exists(blob)]
    elif force:
        missing = [blob for blob in blobs if blob not in absent]
    else:
        missing = [blob for blob in blobs if blob.digest not in known and blob not in absent]
    mounts: dict[str, str] = {}
    if destination is not None and missing and not force:
        mounts = mount_sources(source, destination, goal.descriptor.digest, missing)
    return CopyPlan(
        goal,
        same,
        absent=absent,
        lacking=lacking,
        missing=missing,
        mounts=mounts | {blob.digest: promised[blob.digest] for blob in lacking},
        vouched=bool(known),
    )


def _named(destination: Store, reference: str, *, doubtful: bool) -> Descriptor | None:
    """Return the manifest that a reference names; None if there is none.

    Where the destination is in doubt, a manifest that it fails to read does not count either:
    distribution answers 500 to one that is damaged.

    Raises:
        RegistryError: the registry failed otherwise.
    """
    try:
        return resolve_or_none(destination, reference)
    except RegistryError as error:
        if not doubtful or error.status < SERVER_ERROR:
            raise
        return None


def _known(
    source: Store,
    goal: Goal,
    destination: Store,
    named: Descriptor | None,
    *,
    same: bool,
    partial: bool,
) -> frozenset[str]:
    """Return the digests of the blobs that a manifest at the registry vouches for."""
    digest = goal.descriptor.digest
    # The manifest itself, under another name, vouches for what the source lacks.
    if same or (partial and resolve_or_none(destination, digest) is not None):
        return frozenset(blob.digest for blob in goal.graph.blobs)
    return known_digests(source, destination, goal.graph, named)


def _lacking(
    source: Store,
    goal: Goal,
    destination: Store | None,
    absent: frozenset[Descriptor],
    known: frozenset[str],
    jobs: int,
) -> list[Descriptor]:
    """Return the blobs that neither side has; the destination is asked for each in doubt."""
    # Media that carry an archive may come only once, so only the blobs themselves vouch for them.
    vouched = frozenset[str]() if isinstance(source, Partial) else known
    doubtful = [blob for blob in goal.graph.blobs if blob in absent and blob.digest not in vouched]
    if not doubtful or destination is None:
        return doubtful
    with ThreadPoolExecutor(min(jobs, len(doubtful)), "packer-copy") as pool:
        found = list(pool.map(destination.exists, doubtful))
    return [blob for blob, there in zip(doubtful, found, strict=True) if not there]


def probe(destination: Store, missing: Sequence[Descriptor], jobs: int) -> set[Descriptor] | None:
    """Find out whether an earlier attempt left blobs at a registry, with three questions at most.

    Blobs are sent in order, `jobs` at a time. So if an earlier attempt sent any, the first or the
    second blob is there, or the one `jobs` places on; unless the first `jobs` were all cut off.

    Args:
        destination: the registry.
        missing: blobs that it may lack, in the order of sending.
        jobs: blobs sent at once.

    Returns:
        The blobs that were found; None if none was, so that asking for the others does not pay.

    Raises:
        StoreError: the registry failed.
    """
    if sum(blob.size for blob in missing) < PROBE_BYTES:
        return None
    large = [blob for blob in missing if blob.size >= LARGE_BYTES] or missing
    places = dict.fromkeys(place for place in (0, 1, jobs) if place < len(large))
    return {large[place] for place in places if destination.exists(large[place])} or None


def refuse(
    source: Store, goal: Goal, blobs: Sequence[Descriptor], destination: Store | None
) -> NoReturn:
    """Refuse a copy because both sides lack blobs, naming the version to bring first.

    Args:
        source: lacks the blobs.
        goal: the manifest that names them.
        blobs: the blobs that both sides lack.
        destination: lacks them as well; None for a store that is not there yet.

    Raises:
        SizeMismatch: the source holds one of the blobs, truncated.
        NotFound: in all other cases.
    """
    if isinstance(source, LocalBlobs):
        for blob in blobs:
            with contextlib.suppress(NotFound):
                source.open_file(blob).close()
    where = NO_STORE_YET if destination is None else destination.name
    refuse_incomplete(source, goal.descriptor.digest, blobs, where)


@dataclass(frozen=True, slots=True)
class ArchivePlan:
    """The blobs of a manifest, sorted by what a copy to an archive does with them.

    Args:
        goal: the manifest and its name in the archive.
        there: blobs that the archive has.
        left_out: blobs that the other side has, by the given promises.
        missing: blobs to write.
        promises: the annotation that records who promised which blobs.
        unchanged: the archive holds all of it under this name.
        referrers: what refers to the version.
    """

    goal: Goal
    there: Sequence[Descriptor]
    left_out: Sequence[Descriptor]
    missing: Sequence[Descriptor]
    promises: str | None
    unchanged: bool
    referrers: ReferrersPlan


def decide_archive(
    source: Store,
    goal: Goal,
    destination: Partial,
    promises: Sequence[Promise],
    referrers: ReferrersPlan = NO_REFERRERS,
) -> ArchivePlan:
    """Decide which blobs an archive has, leaves out, and must get.

    Args:
        source: holds the manifest.
        goal: the manifest and its name in the archive.
        destination: the archive.
        promises: versions whose blobs may be left out.
        referrers: what refers to the version; all its blobs are written.

    Returns:
        The sorted blobs.

    Raises:
        NotFound: the source lacks a blob that the archive lacks and nobody promised.
    """
    assert isinstance(destination, Store)
    blobs = goal.graph.blobs
    attached = [blob for blob in referrers.blobs if not destination.exists(blob)]
    promised = frozenset[str]().union(*(promise.blobs for promise in promises))
    promised -= {blob.digest for blob in attached}
    there = [blob for blob in blobs if destination.exists(blob)]
    left_out = [blob for blob in blobs if blob.digest in promised and blob not in there]
    missing = [blob for blob in blobs if blob not in there and blob not in left_out]
    digests = {blob.digest for blob in missing}  # `{}` may be a config of several media types
    missing += [blob for blob in attached if blob.digest not in digests]
    if lacking := absent_blobs(source, missing):
        refuse_incomplete(source, goal.descriptor.digest, lacking, destination.name)
    note = encode_promises(promises, left_out)
    named = resolve_or_none(destination, goal.reference)
    unchanged = (
        named is not None
        and named.digest == goal.descriptor.digest
        and not missing
        and not referrers.missing
        and destination.promises(goal.descriptor.digest) == note
    )
    return ArchivePlan(goal, there, left_out, missing, note, unchanged, referrers)


def check_no_promises(destination: Store, promises: Sequence[Promise]) -> None:
    """Refuse promises for a destination that must hold every blob.

    Args:
        destination: no archive.
        promises: versions whose blobs were to be left out.

    Raises:
        InvalidParameter: there is a promise.
    """
    if promises:
        raise InvalidParameter(f"{destination.name}: only an archive may leave blobs out")
