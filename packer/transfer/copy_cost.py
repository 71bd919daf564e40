"""Counts what a copy would move and ask, without copying anything."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from packer.format.closed_files import Closed
from packer.oci import Descriptor
from packer.stores.partial import Partial
from packer.stores.protocols import LocalBlobs, Store, Upload
from packer.transfer.copy_plan import (
    PROBE_BYTES,
    ArchivePlan,
    CopyPlan,
    check_no_promises,
    decide,
    decide_archive,
    probe,
    read_goal,
)
from packer.transfer.promises import Promise
from packer.transfer.referrers_plan import (
    NO_REFERRERS,
    ReferrersPlan,
    beside,
    decide_referrers,
    referrers_if_listed,
)

JOBS = 4
"""Blobs moved at once by a copy, unless its caller asks for another number."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """The cost of a push, pull or copy.

    Args:
        digest: the manifest's digest.
        blobs: number of blobs that would be moved or mounted, those of referrers among them.
        bytes: bytes of these blobs, and of the manifests that are not there. HTTP adds about a
            kilobyte for each request.
        blobs_present: number of blobs that the destination has.
        bytes_present: bytes of the blobs that the destination has.
        requests: greatest number of requests to registries on either side. Requests for tokens,
            retries and requests that find out what promised versions hold are not counted.
        unchanged: there is nothing to do.
        blobs_left_out: number of blobs that an archive leaves out because the other side has them.
        bytes_left_out: bytes of the blobs left out.
        archive_bytes: bytes of the finished archive, all parts together; 0 for other destinations.
        parts: number of parts that the archive is split into.
        mountable_blobs: number of the `blobs` that lie in another repository of the registry. The
            registry may mount them from there, which only trying can tell; then their bytes are not
            moved.
        mountable_bytes: bytes of the mountable blobs, which `bytes` includes.
        moved: digests of the `blobs`.
        closed: of a version that lies in a local store, archives that stayed closed in the blobs
            that would be moved, as in `Details`; at most 1000, the largest first.
        referrers: number of manifests to store that refer to the version at any depth.
    """

    digest: str
    blobs: int
    bytes: int
    blobs_present: int
    bytes_present: int
    requests: int
    unchanged: bool
    blobs_left_out: int = 0
    bytes_left_out: int = 0
    archive_bytes: int = 0
    parts: int = 1
    mountable_blobs: int = 0
    mountable_bytes: int = 0
    moved: frozenset[str] = frozenset()
    closed: tuple[Closed, ...] = ()
    referrers: int = 0


def estimate_copy(
    source: Store,
    reference: str,
    destination: Store | None,
    tag: str | None,
    promises: Sequence[Promise] = (),
    *,
    own: bool = False,
    referrers: bool = True,
    lists: bool = True,
) -> Estimate:
    """Return what `copy` would move, by asking for each blob that may be missing.

    Args:
        source: holds the manifest.
        reference: tag or digest of the manifest there.
        destination: where the manifest would go; None for a store that is not there yet.
        tag: the manifest's name there; None for none.
        promises: versions whose blobs an archive may leave out.
        own: as for `copy`.
        referrers: as for `copy`.
        lists: as for `copy_goal`.

    Returns:
        The cost. An estimate raises what the copy would raise before it moves anything.

    Raises:
        NotFound: as `copy`.
        InvalidParameter: as `copy`.
        IntegrityError: as `copy`.
        StoreError: a store failed.
    """
    goal = read_goal(source, reference, tag)
    attached = NO_REFERRERS
    if referrers:
        place = destination if isinstance(destination, Store) else None
        decided = decide_referrers if lists else referrers_if_listed
        attached = decided(source, goal.descriptor.digest, place)
    if isinstance(destination, Partial):
        plan = decide_archive(source, goal, destination, promises, attached)
        return _count_archive(source, plan, destination, asked=referrers)
    if destination is not None:
        check_no_promises(destination, promises)
    todo = decide(source, goal, destination, own=own)
    found = _count(source, todo, destination)
    return _with_referrers(found, source, todo, destination, attached) if referrers else found


def _with_referrers(
    found: Estimate,
    source: Store,
    todo: CopyPlan,
    destination: Store | None,
    plan: ReferrersPlan,
) -> Estimate:
    """Return an estimate of a version together with what refers to it."""
    own = {blob.digest for blob in todo.goal.graph.blobs}
    blobs = [blob for blob in plan.blobs if blob.digest not in own]
    blobs = [blob for blob in blobs if destination is None or not destination.exists(blob)]
    manifests = _manifest_bytes(plan)
    requests = found.requests
    requests += _asked(source, plan) + (0 if isinstance(source, LocalBlobs) else len(blobs))
    if isinstance(destination, Upload):
        # The list is asked for by API and tag and read, the manifest asked for; then the manifest
        # is sent, the list read, sent and read again. Each blob is asked for, and takes two.
        requests += 4 * (len(plan.present) + len(plan.kept)) + 10 * len(plan.missing)
        requests += 3 * len(plan.blobs)
    return replace(
        found,
        blobs=found.blobs + len(blobs),
        bytes=found.bytes + _bytes(blobs) + manifests,
        requests=requests,
        unchanged=found.unchanged and not plan.missing,
        referrers=len(plan.missing),
    )


def _asked(source: Store, plan: ReferrersPlan) -> int:
    """Return how many requests to the source find what refers to a version, at most."""
    if isinstance(source, LocalBlobs):
        return 0
    # A list, by API or tag, and three tags of cosign's, for the version and each referrer; also
    # the list under the tag is read, the referrer's manifest, and those within it.
    found = (*plan.missing, *plan.present, *plan.kept)
    return 5 + 7 * len(found) + sum(len(one.children) for one in found)


def _manifest_bytes(plan: ReferrersPlan) -> int:
    return sum(
        one.descriptor.size + sum(child.size for child, _ in one.children) for one in plan.missing
    )


def _count(source: Store, plan: CopyPlan, destination: Store | None) -> Estimate:
    blobs, descriptor = plan.goal.graph.blobs, plan.goal.descriptor
    moved = [*plan.lacking, *_to_send(plan, destination)]
    unchanged = plan.same and not moved
    mountable = [blob for blob in moved if blob.digest in plan.mounts]
    moved_bytes = _bytes(moved)
    return Estimate(
        digest=descriptor.digest,
        blobs=len(moved),
        bytes=moved_bytes + (0 if unchanged else descriptor.size),
        blobs_present=len(blobs) - len(moved),
        bytes_present=_bytes(blobs) - moved_bytes,
        requests=_requests(source, plan, moved, destination),
        unchanged=unchanged,
        mountable_blobs=len(mountable),
        mountable_bytes=_bytes(mountable),
        moved=frozenset(blob.digest for blob in moved),
    )


def _to_send(plan: CopyPlan, destination: Store | None) -> list[Descriptor]:
    """Return the missing blobs without those that a copy would find at a registry."""
    doubtful = [blob for blob in plan.missing if blob.digest not in plan.mounts]
    if not isinstance(destination, Upload) or not probe(destination, doubtful, JOBS):
        return list(plan.missing)
    found = {blob for blob in doubtful if destination.exists(blob)}
    return [blob for blob in plan.missing if blob not in found]


def _count_archive(
    source: Store, plan: ArchivePlan, destination: Partial, *, asked: bool
) -> Estimate:
    goal = plan.goal
    size = destination.measure(
        goal.data,
        goal.descriptor.media_type,
        goal.tag,
        list(plan.missing),
        plan.promises,
        beside=beside(plan.referrers),
    )
    moved = [blob for blob in plan.missing if blob.digest in size.needed]
    unchanged = plan.unchanged or size.complete
    own = set(goal.graph.blobs)
    left = _bytes(own) - _bytes(own.intersection(moved)) - _bytes(plan.left_out)
    found = plan.referrers
    requests = 0 if isinstance(source, LocalBlobs) else 1 + len(moved)
    requests += _asked(source, found) if asked else 0
    return Estimate(
        digest=goal.descriptor.digest,
        blobs=len(moved),
        bytes=_bytes(moved) + (0 if unchanged else goal.descriptor.size + _manifest_bytes(found)),
        blobs_present=len(own) - len(own.intersection(moved)) - len(plan.left_out),
        bytes_present=left,
        requests=requests,
        unchanged=unchanged,
        blobs_left_out=len(plan.left_out),
        bytes_left_out=_bytes(plan.left_out),
        archive_bytes=size.bytes,
        parts=size.parts,
        moved=frozenset(blob.digest for blob in moved),
        referrers=0 if unchanged else len(found.missing),
    )


def _requests(
    source: Store, plan: CopyPlan, moved: Sequence[Descriptor], destination: Store | None
) -> int:
    """Return the greatest number of requests that a copy by this plan makes."""
    requests = 0
    if isinstance(destination, Upload):
        if plan.absent:
            requests += len(plan.absent) + 1
        requests += 1
        if not plan.same:
            requests += _upload_requests(moved, len(plan.goal.graph.blobs), plan.vouched)
        # Each repository may refuse to mount, and the upload in its place has to be opened.
        requests += len(set(plan.mounts.values()))
    if not isinstance(source, LocalBlobs):
        requests += 1 + len(moved)
    return requests


def _upload_requests(moved: Sequence[Descriptor], blobs: int, vouched: bool) -> int:
    """Return how many requests the blobs and the manifest take.

    Args:
        moved: the blobs to send.
        blobs: number of blobs of the manifest.
        vouched: a manifest at the registry vouches for some blobs.

    Returns:
        Two requests for the manifest and two for each blob, and the questions about blobs that an
        earlier attempt may have left: three probes, or one for each blob.
    """
    asked = 0
    if _bytes(moved) >= PROBE_BYTES:
        asked = 3 if vouched or len(moved) == blobs else blobs
    return 2 + asked + 2 * len(moved)


def _bytes(blobs: Iterable[Descriptor]) -> int:
    return sum(blob.size for blob in blobs)
