"""Copy a manifest and what it names from one store to another: push, pull, export and import.

Order: layers, config, manifest, tag; so an interrupted copy leaves blobs that nothing names, never
a tag that names something incomplete, and the next try finds them. `packer.transfer` moves the
blobs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import cast

from packer.errors import InvalidParameter, NotFound
from packer.oci import Descriptor
from packer.progress import CancelEvent, ProgressCallback
from packer.stores.cancelling import until_cancelled
from packer.stores.graph import Graph, check_expected, known_digests, read_graph, resolve_or_none
from packer.stores.protocols import LocalBlobs, Partial, Repairable, Store
from packer.transfer.blob_mover import Run
from packer.transfer.mounts import mount_sources, promised_sources
from packer.transfer.promises import Promise, absent_blobs, encode_promises, missing_base


@dataclass(frozen=True, slots=True)
class CopyResult:
    """What a copy did.

    Args:
        descriptor: of the manifest.
        blobs_copied: how many blobs were sent.
        bytes_copied: their bytes.
        blobs_present: how many the destination had already, as far as was asked.
        unchanged: the destination had all of it, tag included.
        blobs_left_out: how many were left out, because the other side has them.
        bytes_left_out: their bytes.
        blobs_mounted: how many the registry took over from another repository.
        bytes_mounted: their bytes.
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
    progress: ProgressCallback | None = None,
    cancel: CancelEvent | None = None,
) -> CopyResult:
    """Copy one manifest, and the blobs that `destination` lacks.

    Args:
        source: where the manifest is.
        source_reference: its tag or digest there; read once, so a tag that moves does no harm.
        destination: where to copy it.
        tag: its name there; None for none.
        jobs: blobs moved at once, at least 1.
        verify: read a byte of each blob that a registry says it has, and send those again that it
            cannot give back. Of a layout, read all of each, and replace those that are damaged.
        force: send every blob again, whatever a registry says it has. For a layout, as `verify`.
        expect: digest that the manifest must have.
        promises: versions whose blobs an archive may leave out.
        own: `source` is the user's own store: blobs that it left in the destination's registry may
            be mounted from there.
        progress: told about the bytes moved.
        cancel: stops the copy once it is set.

    Returns:
        What was done. A manifest is copied as it is, byte for byte, whoever wrote it.

    Raises:
        NotFound: `source` lacks the manifest or a blob; or it is an archive that leaves blobs out,
            and `destination` lacks the version that promised them (kind "base"). Then nothing was
            written.
        UnsupportedVersion: the manifest is an image index.
        DigestMismatch: the manifest is not the one expected; nothing was copied.
        IntegrityError: bytes are not what their descriptor says; `destination` names nothing new.
        StoreError: a store failed. A second try goes on where this one ended.
        Cancelled: `cancel` was set.
    """
    if jobs < 1:
        raise InvalidParameter(f"jobs={jobs} is less than 1")
    run = Run(source, destination, jobs, progress, cancel)
    with until_cancelled(cancel, (source, destination), "copying"):
        return _copy(
            run,
            source_reference,
            tag,
            promises=promises,
            own=own,
            verify=verify,
            force=force,
            expect=expect,
        )


def _copy(
    run: Run,
    source_reference: str,
    tag: str | None,
    *,
    promises: Sequence[Promise],
    own: bool,
    verify: bool,
    force: bool,
    expect: str | None,
) -> CopyResult:
    source, destination, remote = run.source, run.destination, run.remote
    descriptor, data = source.get_manifest(source_reference)
    check_expected(descriptor.digest, expect, f"{source_reference} in {source.name}")
    graph = read_graph(data, f"manifest {descriptor.digest}")
    if isinstance(destination, Partial):
        if verify or force:
            raise InvalidParameter(f"{destination.name} is no registry: it proves what it has")
        return _copy_to_archive(run, _Goal(descriptor, data, graph, tag), promises)
    if promises:
        raise InvalidParameter(f"{destination.name}: only an archive may leave blobs out")
    if remote is not None:
        remote.expect_writes()
    elif verify or force:
        if not isinstance(destination, Repairable):
            raise InvalidParameter(f"{destination.name} is no registry: it proves what it has")
        discard_damaged(source, destination, graph.blobs)
    named = resolve_or_none(destination, tag if tag is not None else descriptor.digest)
    same = named is not None and named.digest == descriptor.digest
    if remote is not None and same and not (verify or force):
        return CopyResult(descriptor, 0, 0, len(graph.blobs), True)
    absent = run.absent = frozenset(absent_blobs(source, graph.blobs))
    known: frozenset[str] = frozenset()
    if remote is not None and (absent or not force):
        # The manifest itself, under another name, vouches for what the source lacks.
        if same or (absent and resolve_or_none(destination, descriptor.digest) is not None):
            known = frozenset(blob.digest for blob in graph.blobs)
        known = known or known_digests(source, destination, graph, named)
    # An archive may get no second try, so that nothing but the blobs themselves vouches for them.
    vouched = frozenset() if isinstance(source, Partial) else known
    doubtful = [blob for blob in graph.blobs if blob in absent and blob.digest not in vouched]
    lacking = _lacking(destination, doubtful, run.jobs)
    if lacking and own:
        lacking = run.mount_absent(
            lacking, promised_sources(source, destination, descriptor.digest)
        )
    if lacking:
        _check_sizes(source, lacking)
        raise missing_base(source, descriptor.digest, lacking, destination.name)
    if remote is None:
        missing = [blob for blob in graph.blobs if not destination.exists(blob)]
    elif force:
        missing = [blob for blob in graph.blobs if blob not in absent]
    else:
        known |= {blob.digest for blob in absent}
        missing = [blob for blob in graph.blobs if blob.digest not in known]
        if missing:
            mounts = mount_sources(source, destination, descriptor.digest, missing)
            missing = run.begin_mounts(missing, mounts) if mounts else run.probe(missing)
        if verify:
            missing += run.unreadable([blob for blob in graph.blobs if blob not in missing])
    if gone := [blob for blob in missing if blob in absent]:
        raise missing_base(source, descriptor.digest, gone, destination.name)
    run.blobs_present = len(graph.blobs) - len(missing) - run.blobs_mounted - run.blobs_copied
    if same and not missing:
        return CopyResult(descriptor, 0, 0, len(graph.blobs), True)
    run.begin(missing)
    run.move([blob for blob in missing if blob != graph.config])
    run.move([blob for blob in missing if blob == graph.config])
    if verify and (lost := run.unreadable([blob for blob in missing if blob in run.mounted])):
        run.begin(lost)
        run.move(lost)
    run.put_manifest(data, descriptor.media_type, tag, graph)
    return CopyResult(
        descriptor,
        run.blobs_copied,
        run.bytes_copied,
        run.blobs_present,
        False,
        blobs_mounted=run.blobs_mounted,
        bytes_mounted=run.bytes_mounted,
    )


@dataclass(frozen=True, slots=True)
class _Goal:
    """What a copy is to bring about."""

    descriptor: Descriptor
    data: bytes
    graph: Graph
    tag: str | None


@dataclass(frozen=True, slots=True)
class ArchiveContent:
    """What becomes of the blobs of a manifest in an archive.

    Args:
        there: are in it.
        left_out: are promised.
        missing: have to be written.
        promises: the annotation that says who promised what.
        unchanged: the archive holds all of it, under this name.
    """

    there: list[Descriptor]
    left_out: list[Descriptor]
    missing: list[Descriptor]
    promises: str | None
    unchanged: bool


def archive_content(
    source: Store,
    descriptor: Descriptor,
    graph: Graph,
    destination: Partial,
    tag: str | None,
    promises: Sequence[Promise],
) -> ArchiveContent:
    """Tell apart the blobs that an archive has, leaves out, and is to get.

    Args:
        source: where the manifest is.
        descriptor: of the manifest.
        graph: what it names.
        destination: the archive.
        tag: its name there.
        promises: versions whose blobs may be left out.

    Raises:
        NotFound: the source lacks a blob that nobody promised.
    """
    assert isinstance(destination, Store)
    promised = frozenset[str]().union(*(promise.blobs for promise in promises))
    there = [blob for blob in graph.blobs if destination.exists(blob)]
    left_out = [blob for blob in graph.blobs if blob.digest in promised and blob not in there]
    missing = [blob for blob in graph.blobs if blob not in there and blob not in left_out]
    if lacking := absent_blobs(source, missing):
        raise missing_base(source, descriptor.digest, lacking, destination.name)
    note = encode_promises(promises, left_out)
    named = resolve_or_none(destination, tag if tag is not None else descriptor.digest)
    unchanged = (
        named is not None
        and named.digest == descriptor.digest
        and not missing
        and destination.promises(descriptor.digest) == note
    )
    return ArchiveContent(there, left_out, missing, note, unchanged)


def _copy_to_archive(outer: Run, goal: _Goal, promises: Sequence[Promise]) -> CopyResult:
    """Write what an archive lacks and nobody promised, all at once."""
    source, destination = outer.source, outer.destination
    assert isinstance(destination, Partial)
    descriptor = goal.descriptor
    content = archive_content(source, descriptor, goal.graph, destination, goal.tag, promises)
    there, left_out, missing, note = (
        content.there,
        content.left_out,
        content.missing,
        content.promises,
    )
    counts = (len(left_out), sum(blob.size for blob in left_out))
    if content.unchanged:
        return CopyResult(descriptor, 0, 0, len(there), True, *counts)
    made = destination.assemble(goal.data, descriptor.media_type, goal.tag, missing, note)
    with made as assembly:
        run = outer.towards(cast(Store, assembly))
        unchanged = assembly.kept_all
        # In the order of the archive, so that parts are complete one after the other.
        needed = sorted((blob for blob in missing if assembly.needs(blob)), key=lambda b: b.digest)
        run.blobs_present = len(there) + len(missing) - len(needed)
        run.begin(needed)
        run.move(needed)
        assembly.commit()
    counted = (run.blobs_copied, run.bytes_copied, run.blobs_present)
    return CopyResult(descriptor, *counted, unchanged, *counts)


def discard_damaged(source: Store, destination: Store, blobs: Sequence[Descriptor]) -> bool:
    """Remove blobs that are damaged in a local store, so that a copy brings them; tell whether any.

    Only those that the source has: parts of a damaged one can still be read.
    """
    if not isinstance(destination, Repairable) or source.name == destination.name:
        return False
    found = [destination.discard(blob) for blob in blobs if source.exists(blob)]
    return True in found


def _check_sizes(source: Store, blobs: Sequence[Descriptor]) -> None:
    """Tell blobs that were cut from those that are not there.

    Raises:
        SizeMismatch: one is in a wrong size.
    """
    if isinstance(source, LocalBlobs):
        for blob in blobs:
            with contextlib.suppress(NotFound):
                source.open_file(blob).close()


def _lacking(destination: Store, blobs: Sequence[Descriptor], jobs: int) -> list[Descriptor]:
    """Return those of `blobs` that the destination lacks; each is asked for."""
    if not blobs:
        return []
    with ThreadPoolExecutor(min(jobs, len(blobs)), "packer-copy") as pool:
        found = list(pool.map(destination.exists, blobs))
    return [blob for blob, there in zip(blobs, found, strict=True) if not there]
