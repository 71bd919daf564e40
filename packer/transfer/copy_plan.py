"""What a copy will cost, without copying anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from packer.oci import Descriptor
from packer.stores.graph import Graph, known_digests, read_graph, resolve_or_none
from packer.stores.protocols import LocalBlobs, Partial, Store, Upload
from packer.transfer.blob_mover import PROBE_BYTES
from packer.transfer.copy_graph import archive_content
from packer.transfer.mounts import mount_sources, promised_sources
from packer.transfer.promises import Promise, absent_blobs, missing_base


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a push, pull or copy would do.

    Args:
        digest: of the manifest.
        blobs: how many would be moved.
        bytes: their bytes, and the manifest's if it is not there; HTTP adds about a kilobyte for
            each request.
        blobs_present: how many the destination has.
        bytes_present: their bytes.
        requests: to registries on either side, at most, without those for tokens and
            retries, and to find out what promised versions hold.
        unchanged: there is nothing to do.
        blobs_left_out: how many an archive leaves out, because the other side has them.
        bytes_left_out: their bytes.
        archive_bytes: of the archive as it will be, all parts together; 0 for other destinations.
        parts: into how many it is split.
        mountable_blobs: of `blobs`, those that lie in another repository of the registry. If it
            mounts them from there, which only trying can tell, their bytes are not moved.
        mountable_bytes: their bytes, which `bytes` includes.
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


def estimate_copy(
    source: Store,
    reference: str,
    destination: Store | None,
    tag: str | None,
    promises: Sequence[Promise] = (),
    *,
    own: bool = False,
) -> Estimate:
    """Find out what `copy` would move, by asking for each blob that may be missing.

    Args:
        source: where the manifest is.
        reference: its tag or digest there.
        destination: where it would go; None for a store that is not there yet.
        tag: its name there.
        promises: versions whose blobs an archive may leave out.
        own: as for `copy`.

    Raises:
        NotFound, InvalidParameter, IntegrityError, StoreError: as `copy`.
    """
    descriptor, data = source.get_manifest(reference)
    graph = read_graph(data, f"manifest {descriptor.digest}")
    if isinstance(destination, Partial):
        return _estimate_archive(source, descriptor, data, graph, destination, tag, promises)
    to_registry = isinstance(destination, Upload)
    named = resolve_or_none(destination, tag or descriptor.digest) if destination else None
    same = named is not None and named.digest == descriptor.digest
    known: frozenset[str] = frozenset()
    absent = absent_blobs(source, graph.blobs)
    requests = len(absent) + 1 if to_registry and absent else 0
    if destination is None:
        missing = list(graph.blobs)
    else:
        if to_registry and (same or (absent and _has(destination, descriptor.digest))):
            known = frozenset(blob.digest for blob in graph.blobs)
        elif to_registry:
            known = known_digests(source, destination, graph, named)
        unknown = [blob for blob in graph.blobs if blob.digest not in known]
        missing = [blob for blob in unknown if not destination.exists(blob)]
    mounts: dict[str, str] = {}
    if destination is not None:
        here = [blob for blob in missing if blob not in absent]
        mounts = mount_sources(source, destination, descriptor.digest, here)
        if own and absent:
            mounts = promised_sources(source, destination, descriptor.digest) | mounts
    if gone := [blob for blob in missing if blob in absent and blob.digest not in mounts]:
        where = destination.name if destination is not None else "a store that is not there yet"
        raise missing_base(source, descriptor.digest, gone, where)
    unchanged = same and not missing
    if to_registry:
        requests += 1 if same else 1 + _upload_requests(missing, len(graph.blobs), bool(known))
        requests += len(set(mounts.values()))  # each may refuse, and an upload has to be opened
    if not isinstance(source, LocalBlobs):
        requests += 1 + len(missing)
    missing_bytes = sum(blob.size for blob in missing)
    mountable = [blob for blob in missing if blob.digest in mounts]
    total_bytes = sum(blob.size for blob in graph.blobs)
    return Estimate(
        descriptor.digest,
        len(missing),
        missing_bytes + (0 if unchanged else descriptor.size),
        len(graph.blobs) - len(missing),
        total_bytes - missing_bytes,
        requests,
        unchanged,
        mountable_blobs=len(mountable),
        mountable_bytes=sum(blob.size for blob in mountable),
    )


def _estimate_archive(
    source: Store,
    descriptor: Descriptor,
    data: bytes,
    graph: Graph,
    destination: Partial,
    tag: str | None,
    promises: Sequence[Promise],
) -> Estimate:
    content = archive_content(source, descriptor, graph, destination, tag, promises)
    size = destination.measure(data, descriptor.media_type, tag, content.missing, content.promises)
    moved = [blob for blob in content.missing if blob.digest in size.needed]
    unchanged = content.unchanged or size.complete
    present = len(graph.blobs) - len(moved) - len(content.left_out)
    moved_bytes = sum(blob.size for blob in moved)
    left_out_bytes = sum(blob.size for blob in content.left_out)
    total_bytes = sum(blob.size for blob in graph.blobs)
    return Estimate(
        descriptor.digest,
        len(moved),
        moved_bytes + (0 if unchanged else descriptor.size),
        present,
        total_bytes - moved_bytes - left_out_bytes,
        0 if isinstance(source, LocalBlobs) else 1 + len(moved),
        unchanged,
        len(content.left_out),
        left_out_bytes,
        size.bytes,
        size.parts,
    )


def _has(destination: Store, digest: str) -> bool:
    return resolve_or_none(destination, digest) is not None


def _upload_requests(missing: list[Descriptor], blobs: int, vouched: bool) -> int:
    """Return how many requests the blobs and the manifest take, see `packer.copy`."""
    asked = 0
    if sum(blob.size for blob in missing) >= PROBE_BYTES:
        # Three probes; and a question each, if an earlier attempt left something.
        asked = 3 if vouched or len(missing) == blobs else blobs
    return 2 + asked + 2 * len(missing)
