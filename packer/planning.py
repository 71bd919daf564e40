"""What a copy will cost, without copying anything."""

from __future__ import annotations

from dataclasses import dataclass

from packer.graph import known_digests, read_graph, resolve_or_none
from packer.model import Descriptor
from packer.promise import absent_blobs, missing_base
from packer.store.base import LocalBlobs, Store, Upload
from packer.transfer import PROBE_BYTES


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
        requests: to registries on either side, at most, without those for tokens and retries.
        unchanged: there is nothing to do.
    """

    digest: str
    blobs: int
    bytes: int
    blobs_present: int
    bytes_present: int
    requests: int
    unchanged: bool


def estimate_copy(
    source: Store, reference: str, destination: Store | None, tag: str | None
) -> Estimate:
    """Find out what `copy` would move, by asking for each blob that may be missing.

    Args:
        source: where the manifest is.
        reference: its tag or digest there.
        destination: where it would go; None for a store that is not there yet.
        tag: its name there.

    Raises:
        NotFound, IntegrityError, StoreError: as `copy`.
    """
    descriptor, data = source.get_manifest(reference)
    graph = read_graph(data, f"manifest {descriptor.digest}")
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
    if gone := [blob for blob in missing if blob in absent]:
        where = destination.name if destination is not None else "a store that is not there yet"
        raise missing_base(source, descriptor.digest, gone, where)
    unchanged = same and not missing
    if to_registry:
        requests += 1 if same else 1 + _upload_requests(missing, len(graph.blobs), bool(known))
    if not isinstance(source, LocalBlobs):
        requests += 1 + len(missing)
    missing_bytes = sum(blob.size for blob in missing)
    total_bytes = sum(blob.size for blob in graph.blobs)
    return Estimate(
        descriptor.digest,
        len(missing),
        missing_bytes + (0 if unchanged else descriptor.size),
        len(graph.blobs) - len(missing),
        total_bytes - missing_bytes,
        requests,
        unchanged,
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
