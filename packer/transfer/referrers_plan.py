"""Decides what of all that refers to a version a copy moves; `copy_referrers` moves it."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from packer.errors import AuthError, IntegrityError, NotFound, RegistryError
from packer.oci import Descriptor, load_json
from packer.stores.graph import resolve_or_none
from packer.stores.partial import Beside
from packer.stores.protocols import Store
from packer.stores.referrers import Referrer, all_referrers

SERVER_ERROR = 500
"""Statuses from here on are failures of the server."""
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ReferrersPlan:
    """What refers to a version at the source, sorted by what a copy does with it.

    Args:
        missing: to be stored, what is referred to before what refers to it.
        present: the destination has these.
        kept: the destination has another manifest under the tag that attaches these, and that one
            has signatures which they lack.
    """

    missing: tuple[Referrer, ...] = ()
    present: tuple[Referrer, ...] = ()
    kept: tuple[Referrer, ...] = ()

    @property
    def blobs(self) -> list[Descriptor]:
        """The blobs of what is missing, each once."""
        return unique_blobs(self.missing)


NO_REFERRERS = ReferrersPlan()


def unique_blobs(referrers: Iterable[Referrer]) -> list[Descriptor]:
    """Return the blobs of referrers, each once."""
    return list({blob.digest: blob for one in referrers for blob in one.blobs}.values())


def decide_referrers(source: Store, digest: str, destination: Store | None) -> ReferrersPlan:
    """Decide what of all that refers to a version a destination lacks.

    Args:
        source: holds the version.
        digest: of the version.
        destination: where it is copied; None for a store that is not there yet.

    Returns:
        The sorted referrers.

    Raises:
        FormatError: there are too many, or a list is malformed.
        StoreError: a store failed.
    """
    if destination is source:
        return NO_REFERRERS
    missing: list[Referrer] = []
    present: list[Referrer] = []
    kept: list[Referrer] = []
    listed: dict[str, set[str]] = {}
    for one in all_referrers(source, digest):
        if destination is None:
            missing.append(one)
        elif one.tag is not None:
            _sort_attached(destination, one, missing, present, kept)
        else:
            if one.subject not in listed:
                found = destination.referrers(one.subject)
                listed[one.subject] = {item.digest for item in found}
            there = one.descriptor.digest in listed[one.subject]
            if there and resolve_or_none(destination, one.descriptor.digest) is not None:
                present.append(one)
            else:
                missing.append(one)
    return ReferrersPlan(tuple(missing), tuple(present), tuple(kept))


def referrers_if_listed(source: Store, digest: str, destination: Store | None) -> ReferrersPlan:
    """Decide as `decide_referrers`, where the version alone will do.

    A registry that refuses to list what refers to a version, or fails, is warned about: nothing
    asks for signatures, and the version's own bytes are complete. A list that lies is an error.

    Args:
        source: as for `decide_referrers`.
        digest: as for `decide_referrers`.
        destination: as for `decide_referrers`.

    Returns:
        The sorted referrers; none if they are not known.

    Raises:
        FormatError: as `decide_referrers`.
        RegistryError: the registry failed otherwise than by a refusal (401, 403) or with 5xx.
    """
    try:
        return decide_referrers(source, digest, destination)
    except RegistryError as error:
        if not isinstance(error, AuthError) and error.status < SERVER_ERROR:
            raise
        _LOG.warning("what refers to %s is not known, and not fetched: %s", digest, error)
        return NO_REFERRERS


def _sort_attached(
    destination: Store,
    one: Referrer,
    missing: list[Referrer],
    present: list[Referrer],
    kept: list[Referrer],
) -> None:
    """Put a referrer that its tag attaches into the list where it belongs.

    cosign adds a signature by replacing the manifest under the tag with one that has it besides the
    others. So the manifest that has all signatures of the other one is the newer.
    """
    assert one.tag is not None
    there = resolve_or_none(destination, one.tag)
    if there is None:
        missing.append(one)
        return
    if there.digest == one.descriptor.digest:
        present.append(one)
        return
    try:
        data = destination.get_manifest(there.digest)[1]
    except (NotFound, IntegrityError):
        missing.append(one)  # in place of what nobody can read
        return
    ours, theirs = _entries(one.data), _entries(data)
    if ours is None or theirs is None:
        kept.append(one)
    elif ours <= theirs:
        present.append(one)
    elif theirs < ours:
        missing.append(one)
    else:
        kept.append(one)


def _entries(data: bytes) -> set[tuple[str, tuple[tuple[str, str], ...]]] | None:
    """Return the layers of a manifest, each with its annotations; None for an image index.

    cosign's signatures by two keys have one digest, and differ in the annotation that is the
    signature.
    """
    layers = load_json(data, "manifest").get("layers")
    if not isinstance(layers, list):
        return None
    found = map(Descriptor.from_json, layers)
    return {(one.digest, tuple(sorted(one.annotations.items()))) for one in found}


def beside(plan: ReferrersPlan) -> list[Beside]:
    """Return the manifests that an archive gets beside the version's."""
    found: list[Beside] = []
    for one in plan.missing:
        found += [Beside(data, child.media_type, None, False) for child, data in one.children]
        found.append(Beside(one.data, one.descriptor.media_type, one.tag, True))
    return found
