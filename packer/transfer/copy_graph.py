"""Copies a manifest and its blobs from one store to another: push, pull, export and import.

A copy writes layers, then the config, then the manifest, then the tag. So an interrupted copy
leaves blobs that no manifest names, never a tag that names something incomplete, and the next copy
finds those blobs. `copy_plan` decides which blobs to move, `blob_mover` moves them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from packer.errors import InvalidParameter
from packer.oci import Descriptor
from packer.progress import CancelEvent, ProgressCallback
from packer.stores.cancelling import until_cancelled
from packer.stores.layout import using
from packer.stores.partial import Partial
from packer.stores.protocols import Repairable, Store, Upload
from packer.transfer.blob_mover import BlobMover
from packer.transfer.copy_plan import (
    ArchivePlan,
    CopyPlan,
    Goal,
    check_no_promises,
    decide,
    decide_archive,
    read_goal,
    refuse,
)
from packer.transfer.copy_referrers import copy_referrers, warn_of_kept
from packer.transfer.promises import Promise
from packer.transfer.referrers_plan import (
    NO_REFERRERS,
    beside,
    decide_referrers,
    referrers_if_listed,
    unique_blobs,
)

if TYPE_CHECKING:
    from packer.trust.checking import Trusted


@dataclass(frozen=True, slots=True)
class CopyResult:
    """The result of a copy.

    Args:
        descriptor: the manifest's descriptor.
        blobs_copied: number of blobs sent, those of referrers among them.
        bytes_copied: bytes of the blobs sent.
        blobs_present: number of blobs that the destination had, as far as it was asked.
        unchanged: the destination had everything, tag and referrers included.
        blobs_left_out: number of blobs left out because the other side has them.
        bytes_left_out: bytes of the blobs left out.
        blobs_mounted: number of blobs that the registry took from another repository.
        bytes_mounted: bytes of the mounted blobs.
        referrers_copied: number of manifests stored that refer to the version at any depth:
            signatures, attestations, SBOMs.
        referrers_present: number of those that the destination had.
        referrers_kept: number of those that were not copied, as the destination has other ones
            under their tag.
        trusted: the policy that let the version pass; None if none was asked.
    """

    descriptor: Descriptor
    blobs_copied: int
    bytes_copied: int
    blobs_present: int
    unchanged: bool
    blobs_left_out: int = 0
    bytes_left_out: int = 0
    blobs_mounted: int = 0
    bytes_mounted: int = 0
    referrers_copied: int = 0
    referrers_present: int = 0
    referrers_kept: int = 0
    trusted: Trusted | None = None


def copy(
    source: Store,
    source_reference: str,
    destination: Store,
    tag: str | None,
    *,
    jobs: int = 4,
    verify: bool = False,
    force: bool = False,
    expect: str | None = None,
    promises: Sequence[Promise] = (),
    own: bool = False,
    referrers: bool = True,
    progress: ProgressCallback | None = None,
    cancel: CancelEvent | None = None,
) -> CopyResult:
    """Copy a manifest, and the blobs that `destination` lacks.

    The manifest is copied byte for byte, whatever tool wrote it.

    Args:
        source: holds the manifest.
        source_reference: tag or digest of the manifest there. It is read once, so a tag that moves
            meanwhile does no harm.
        destination: where to copy the manifest.
        tag: the manifest's name there; None for none.
        jobs: blobs moved at once, at least 1.
        verify: read all of each blob that the destination has, and of the manifest, and send again
            each that is lost or damaged.
        force: send every blob again, whatever a registry says it has. For a layout, as `verify`.
        expect: digest that the manifest must have; None for any.
        promises: versions whose blobs an archive may leave out.
        own: `source` is the user's own store. Blobs that it left in the destination's registry may
            be mounted from there.
        referrers: copy what refers to the manifest as well, at any depth, also if the manifest
            itself is there.
        progress: called with the bytes moved.
        cancel: stops the copy once it is set.

    Returns:
        The numbers of blobs sent, present, mounted and left out.

    Raises:
        NotFound: `source` lacks the manifest or a blob; or it is an archive that leaves blobs out,
            and `destination` lacks the version that promised them (kind "base"). Then nothing was
            written.
        UnsupportedVersion: the manifest is an image index.
        DigestMismatch: the manifest has another digest than `expect`; nothing was copied.
        IntegrityError: bytes differ from their descriptor; `destination` names nothing new.
        StoreError: a store failed. A second copy goes on where this one ended.
        InvalidParameter: `jobs` is below 1, or `destination` cannot do what an argument asks for.
        Cancelled: `cancel` was set.
    """
    with until_cancelled(cancel, (source,), "copying"):
        goal = read_goal(source, source_reference, tag, expect)
    return copy_goal(
        source,
        goal,
        destination,
        jobs=jobs,
        verify=verify,
        force=force,
        promises=promises,
        own=own,
        referrers=referrers,
        progress=progress,
        cancel=cancel,
    )


def copy_goal(
    source: Store,
    goal: Goal,
    destination: Store,
    *,
    jobs: int = 4,
    verify: bool = False,
    force: bool = False,
    promises: Sequence[Promise] = (),
    own: bool = False,
    referrers: bool = True,
    lists: bool = True,
    progress: ProgressCallback | None = None,
    cancel: CancelEvent | None = None,
) -> CopyResult:
    """Copy a manifest that was read already, and the blobs that `destination` lacks.

    Args:
        source: holds the blobs.
        goal: the manifest and its name at the destination.
        destination: where to copy the manifest.
        jobs: as for `copy`, as are the other arguments.
        verify: as for `copy`.
        force: as for `copy`.
        promises: as for `copy`.
        own: as for `copy`.
        referrers: as for `copy`.
        lists: whether the source has to say what refers to the manifest; else, a registry that
            refuses to, or fails, is warned about. For destinations that are no archives.
        progress: as for `copy`.
        cancel: as for `copy`.

    Returns:
        The numbers of blobs sent, present, mounted and left out.

    Raises:
        InvalidParameter: `jobs` is below 1, or `destination` cannot do what an argument asks for.
        NotFound: as `copy`.
        IntegrityError: as `copy`.
        StoreError: as `copy`.
        Cancelled: `cancel` was set.
    """
    if jobs < 1:
        raise InvalidParameter(f"jobs={jobs} is less than 1")
    mover = BlobMover(source, destination, jobs, progress, cancel)
    kept = using(destination, (goal.descriptor, *goal.graph.blobs))
    with kept, until_cancelled(cancel, (source, destination), "copying"):
        if isinstance(destination, Partial):
            _check_repairable(destination, verify=verify, force=force)
            attached = NO_REFERRERS
            if referrers:
                attached = decide_referrers(source, goal.descriptor.digest, destination)
            plan = decide_archive(source, goal, destination, promises, attached)
            return _copy_to_archive(mover, plan)
        check_no_promises(destination, promises)
        if isinstance(destination, Upload):
            destination.expect_writes()
        elif verify or force:
            _check_repairable(destination, verify=verify, force=force)
            discard_damaged(source, destination, goal.graph.blobs)
        todo = decide(source, goal, destination, own=own, again=verify, force=force, jobs=jobs)
        done = _carry_out(mover, todo, verify=verify, force=force)
        if not referrers:
            return done
        return _complete(mover, done, verify=verify, force=force, lists=lists)


def _check_repairable(destination: Store | Partial, *, verify: bool, force: bool) -> None:
    if (verify or force) and not isinstance(destination, Repairable):
        assert isinstance(destination, Store)
        raise InvalidParameter(f"{destination.name} is no registry: it proves what it has")


def _carry_out(mover: BlobMover, plan: CopyPlan, *, verify: bool, force: bool) -> CopyResult:
    """Move what a plan says, then store and tag the manifest."""
    goal = plan.goal
    blobs, config = goal.graph.blobs, goal.graph.config
    if plan.complete:
        return CopyResult(goal.descriptor, 0, 0, len(blobs), True)
    mover.absent = plan.absent
    if plan.lacking and (left := mover.mount_absent(list(plan.lacking), plan.mounts)):
        refuse(mover.source, goal, left, mover.destination)
    missing = list(plan.missing)
    if mover.remote is not None and missing and not force:
        digests = {blob.digest for blob in missing}
        mounts = {key: place for key, place in plan.mounts.items() if key in digests}
        missing = mover.begin_mounts(missing, mounts) if mounts else mover.probe(missing)
    lost: list[Descriptor] = []
    check = verify or (force and mover.remote is None)
    if verify and mover.remote is not None and not force:
        lost = mover.damaged([blob for blob in blobs if blob not in missing])
        missing += lost
    if gone := [blob for blob in missing if blob in plan.absent]:
        refuse(mover.source, goal, gone, mover.destination)
    mover.blobs_present = len(blobs) - len(missing) - mover.blobs_mounted - mover.blobs_copied
    if plan.same and not missing:
        mended = check and mover.put_sound_manifest(goal)
        return CopyResult(goal.descriptor, 0, 0, len(blobs), not mended)
    mover.begin(missing)
    mover.move([blob for blob in missing if blob != config])
    mover.move([blob for blob in missing if blob == config])
    if verify and (lies := mover.damaged([blob for blob in missing if blob in mover.mounted])):
        mover.begin(lies)
        mover.move(lies)
        lost += lies
    mover.refuse_damaged(lost)
    mover.put_manifest(goal.data, goal.descriptor.media_type, goal.tag, goal.graph)
    if check:
        mover.put_sound_manifest(goal)
    return CopyResult(
        goal.descriptor,
        mover.blobs_copied,
        mover.bytes_copied,
        mover.blobs_present,
        False,
        blobs_mounted=mover.blobs_mounted,
        bytes_mounted=mover.bytes_mounted,
    )


def copy_attached(source: Store, digest: str, destination: Store) -> tuple[int, int]:
    """Copy what refers to a version that a local store has, also in place of damaged blobs.

    Args:
        source: has the referrers.
        digest: of the version.
        destination: the local store.

    Returns:
        The number of blobs copied, and their bytes.

    Raises:
        NotFound: the source lacks a blob.
        IntegrityError: bytes differ from their digest.
        StoreError: a store failed.
    """
    mover = BlobMover(source, destination, 1, None, None)
    none = CopyResult(destination.resolve(digest), 0, 0, 0, True)
    done = _complete(mover, none, verify=True, force=False)
    return done.blobs_copied, done.bytes_copied


def _complete(
    mover: BlobMover, done: CopyResult, *, verify: bool, force: bool, lists: bool = True
) -> CopyResult:
    """Copy what refers to a version that the destination has now."""
    decided = decide_referrers if lists else referrers_if_listed
    plan = decided(mover.source, done.descriptor.digest, mover.destination)
    if plan == NO_REFERRERS:
        return done
    if mover.remote is None and (verify or force):
        blobs = unique_blobs((*plan.missing, *plan.present))
        discard_damaged(mover.source, mover.destination, blobs)
    before = (mover.blobs_copied, mover.bytes_copied, mover.blobs_present)
    stored = copy_referrers(mover, plan, verify=verify, force=force)
    return replace(
        done,
        blobs_copied=done.blobs_copied + mover.blobs_copied - before[0],
        bytes_copied=done.bytes_copied + mover.bytes_copied - before[1],
        blobs_present=done.blobs_present + mover.blobs_present - before[2],
        unchanged=done.unchanged and not stored,
        referrers_copied=stored,
        referrers_present=len(plan.missing) + len(plan.present) - stored,
        referrers_kept=len(plan.kept),
    )


def _copy_to_archive(outer: BlobMover, plan: ArchivePlan) -> CopyResult:
    """Write the blobs that a plan says are missing, all at once."""
    destination, goal = outer.destination, plan.goal
    assert isinstance(destination, Partial)
    left_out = (len(plan.left_out), sum(blob.size for blob in plan.left_out))
    attached = plan.referrers
    there, kept = len(attached.present), len(attached.kept)
    warn_of_kept(cast(Store, destination), attached)
    if plan.unchanged:
        same = CopyResult(goal.descriptor, 0, 0, len(plan.there), True, *left_out)
        return replace(same, referrers_present=there, referrers_kept=kept)
    made = destination.assemble(
        goal.data,
        goal.descriptor.media_type,
        goal.tag,
        list(plan.missing),
        plan.promises,
        beside=beside(attached),
    )
    with made as assembly:
        mover = outer.towards(cast(Store, assembly))
        unchanged = assembly.kept_all
        # In the order of the archive, so that parts are complete one after the other.
        needed = sorted((b for b in plan.missing if assembly.needs(b)), key=lambda b: b.digest)
        mover.blobs_present = len(plan.there) + len(plan.missing) - len(needed)
        mover.begin(needed)
        mover.move(needed)
        assembly.commit()
    counted = (mover.blobs_copied, mover.bytes_copied, mover.blobs_present)
    return CopyResult(
        goal.descriptor,
        *counted,
        unchanged,
        *left_out,
        referrers_copied=0 if unchanged else len(attached.missing),
        referrers_present=there + (len(attached.missing) if unchanged else 0),
        referrers_kept=kept,
    )


def discard_damaged(source: Store, destination: Store, blobs: Sequence[Descriptor]) -> bool:
    """Remove the damaged blobs of a local store, so that a copy brings them again.

    Only blobs that the source has are removed: parts of a damaged blob can still be read.

    Args:
        source: where a copy would fetch the blobs.
        destination: the local store; another store is left alone.
        blobs: the blobs to check.

    Returns:
        Whether a blob was removed.
    """
    if not isinstance(destination, Repairable) or source.name == destination.name:
        return False
    found = [destination.discard(blob) for blob in blobs if source.exists(blob)]
    return True in found
