"""Copy a manifest and what it names from one store to another: push, pull, export and import.

Order: layers, config, manifest, tag; so an interrupted copy leaves blobs that nothing names, never
a tag that names something incomplete, and the next try finds them. Threads live here and in pack.py
and restore.py only; what is copied does not depend on their number.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import BinaryIO, cast

from packer.errors import (
    FormatError,
    InvalidParameter,
    NotFound,
    PackerError,
    UnsupportedVersion,
)
from packer.model import MANIFEST_TYPE, MAX_LAYERS, Descriptor, check_annotations, load_json
from packer.progress import Progress, ProgressCallback
from packer.promise import Promise, absent_blobs, encode_promises, missing_base
from packer.store.base import Partial, Reader, Store, Upload

PARENT = "layer-packer.parent"
"""Manifest annotation that holds the digest of the manifest this version was packed against."""
DOCKER_MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
MAX_ANCESTORS = 4
"""How many generations back to look for a version that the destination has."""
PROBE_BYTES = 4 << 20
"""Below this many missing bytes it is cheaper to send them than to ask."""
LARGE_BYTES = 256 << 10
"""Blobs below this are not asked for while there are larger ones."""


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
    """

    descriptor: Descriptor
    blobs_copied: int
    bytes_copied: int
    blobs_present: int
    unchanged: bool
    blobs_left_out: int = 0
    bytes_left_out: int = 0


@dataclass(frozen=True, slots=True)
class Graph:
    """What a manifest names, each blob once."""

    layers: tuple[Descriptor, ...]
    config: Descriptor
    parent: str | None

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """Layers, then the config."""
        return (*self.layers, self.config)


def read_graph(data: bytes, what: str) -> Graph:
    """Parse any OCI (or docker schema 2) image manifest as far as copying needs it.

    Raises:
        UnsupportedVersion: an image index, or something else that is no image manifest.
        FormatError: malformed, or ambiguous.
    """
    value = load_json(data, what)
    if "manifests" in value:
        if "layers" in value:
            raise FormatError(what, "holds both layers and manifests")
        raise UnsupportedVersion(f"{what} is an image index; name one of its manifests by digest")
    media_type = value.get("mediaType", MANIFEST_TYPE)
    if value.get("schemaVersion") != 2 or media_type not in (MANIFEST_TYPE, DOCKER_MANIFEST_TYPE):
        raise UnsupportedVersion(f"{what} is not an OCI image manifest")
    entries = value.get("layers")
    if not isinstance(entries, list) or len(entries) > MAX_LAYERS:
        raise FormatError(what, f"layers is not a list of at most {MAX_LAYERS}")
    config = Descriptor.from_json(value.get("config"))
    unique: dict[str, Descriptor] = {}
    for layer in (Descriptor.from_json(entry) for entry in entries):
        if unique.setdefault(layer.digest, layer).size != layer.size:
            raise FormatError(what, f"two sizes for {layer.digest}")
    if unique.pop(config.digest, config).size != config.size:
        raise FormatError(what, f"two sizes for {config.digest}")
    annotations = value.get("annotations") or {}
    check_annotations(annotations)
    return Graph(tuple(unique.values()), config, annotations.get(PARENT))


def copy(
    source: Store,
    source_reference: str,
    destination: Store,
    tag: str | None,
    *,
    jobs: int = 4,
    promises: Sequence[Promise] = (),
    progress: ProgressCallback | None = None,
) -> CopyResult:
    """Copy one manifest, and the blobs that `destination` lacks.

    Args:
        source: where the manifest is.
        source_reference: its tag or digest there; read once, so a tag that moves does no harm.
        destination: where to copy it.
        tag: its name there; None for none.
        jobs: blobs moved at once, at least 1.
        promises: versions whose blobs an archive may leave out.
        progress: told about the bytes moved.

    Returns:
        What was done. A manifest is copied as it is, byte for byte, whoever wrote it.

    Raises:
        NotFound: `source` lacks the manifest or a blob; or it is an archive that leaves blobs out,
            and `destination` lacks the version that promised them (kind "base"). Then nothing was
            written.
        UnsupportedVersion: the manifest is an image index.
        IntegrityError: bytes are not what their descriptor says; `destination` names nothing new.
        StoreError: a store failed. A second try goes on where this one ended.
    """
    if jobs < 1:
        raise InvalidParameter(f"jobs={jobs} is less than 1")
    descriptor, data = source.get_manifest(source_reference)
    graph = read_graph(data, f"manifest {descriptor.digest}")
    if isinstance(destination, Partial):
        goal = _Goal(descriptor, data, graph, tag)
        return _copy_to_archive(source, destination, goal, promises, jobs, progress)
    if promises:
        raise InvalidParameter(f"{destination.name}: only an archive may leave blobs out")
    remote = destination if isinstance(destination, Upload) else None
    if remote is not None:
        remote.expect_writes()
    named = _resolve(destination, tag if tag is not None else descriptor.digest)
    same = named is not None and named.digest == descriptor.digest
    run = _Run(source, destination, remote, jobs, progress)
    if remote is not None and same:
        return CopyResult(descriptor, 0, 0, len(graph.blobs), True)
    absent = absent_blobs(source, graph.blobs)
    if lacking := _lacking(destination, absent, jobs):
        raise missing_base(source, descriptor.digest, lacking, destination)
    if remote is not None:
        known = _known_digests(source, destination, graph, named)
        known |= {blob.digest for blob in absent}
        run.skip(blob for blob in graph.blobs if blob.digest in known)
        missing = run.probe([blob for blob in graph.blobs if blob.digest not in known])
    else:
        missing = [blob for blob in graph.blobs if not destination.exists(blob)]
        run.skip(blob for blob in graph.blobs if blob not in missing)
        if same and not missing:
            return CopyResult(descriptor, 0, 0, len(graph.blobs), True)
    run.begin(missing)
    run.move([blob for blob in missing if blob != graph.config])
    run.move([blob for blob in missing if blob == graph.config])
    run.put_manifest(data, descriptor.media_type, tag, graph)
    return CopyResult(descriptor, run.blobs_copied, run.bytes_copied, run.blobs_present, False)


@dataclass(frozen=True, slots=True)
class _Goal:
    """What a copy is to bring about."""

    descriptor: Descriptor
    data: bytes
    graph: Graph
    tag: str | None


def _copy_to_archive(
    source: Store,
    destination: Store,
    goal: _Goal,
    promises: Sequence[Promise],
    jobs: int,
    progress: ProgressCallback | None,
) -> CopyResult:
    """Write what an archive lacks and nobody promised, all at once."""
    assert isinstance(destination, Partial)
    descriptor, blobs = goal.descriptor, goal.graph.blobs
    promised = frozenset[str]().union(*(promise.blobs for promise in promises))
    there = [blob for blob in blobs if destination.exists(blob)]
    left_out = [blob for blob in blobs if blob.digest in promised and blob not in there]
    missing = [blob for blob in blobs if blob not in there and blob not in left_out]
    if lacking := absent_blobs(source, missing):
        raise missing_base(source, descriptor.digest, lacking, destination)
    note = encode_promises(promises, left_out)
    named = _resolve(destination, goal.tag if goal.tag is not None else descriptor.digest)
    counts = (len(left_out), sum(blob.size for blob in left_out))
    if (
        named is not None
        and named.digest == descriptor.digest
        and not missing
        and destination.promises(descriptor.digest) == note
    ):
        return CopyResult(descriptor, 0, 0, len(there), True, *counts)
    made = destination.assemble(goal.data, descriptor.media_type, goal.tag, missing, note)
    with made as assembly:
        run = _Run(source, cast(Store, assembly), None, jobs, progress)
        unchanged = assembly.kept_all
        # In the order of the archive, so that parts are complete one after the other.
        needed = sorted((blob for blob in missing if assembly.needs(blob)), key=lambda b: b.digest)
        run.skip(there)
        run.skip(blob for blob in missing if blob not in needed)
        run.begin(needed)
        run.move(needed)
        assembly.commit()
    counted = (run.blobs_copied, run.bytes_copied, run.blobs_present)
    return CopyResult(descriptor, *counted, unchanged, *counts)


def _lacking(destination: Store, blobs: Sequence[Descriptor], jobs: int) -> list[Descriptor]:
    """Return those of `blobs` that the destination lacks; each is asked for."""
    if not blobs:
        return []
    with ThreadPoolExecutor(min(jobs, len(blobs)), "packer-copy") as pool:
        found = list(pool.map(destination.exists, blobs))
    return [blob for blob, there in zip(blobs, found, strict=True) if not there]


def _resolve(store: Store, reference: str) -> Descriptor | None:
    try:
        return store.resolve(reference)
    except NotFound:
        return None


def _known_digests(
    source: Store, destination: Store, graph: Graph, named: Descriptor | None
) -> frozenset[str]:
    """Return digests of blobs that a manifest at `destination` names, at one or two requests.

    A manifest there vouches for its blobs: registries keep what a manifest names. Looks at the
    ancestors of the version, whose manifests the source mostly has, then at what the tag names now.
    """
    parent = graph.parent
    for _ in range(MAX_ANCESTORS):
        if parent is None:
            break
        try:
            found, data = source.get_manifest(parent)
            ancestor = read_graph(data, f"manifest {parent}")
        except PackerError:
            break  # only a saving is lost
        if found.digest == (named.digest if named else "") or _resolve(destination, found.digest):
            return frozenset(blob.digest for blob in ancestor.blobs)
        parent = ancestor.parent
    if named is None:
        return frozenset()
    try:
        _, data = destination.get_manifest(named.digest)
        return frozenset(blob.digest for blob in read_graph(data, "manifest").blobs)
    except PackerError:
        return frozenset()  # an image index, or gone meanwhile


class _Stopped(Exception):
    """Another thread failed, or the user interrupted; never leaves this module."""


class _Run:
    """State of one copy, shared by its threads."""

    def __init__(
        self,
        source: Store,
        destination: Store,
        remote: Upload | None,
        jobs: int,
        progress: ProgressCallback | None,
    ) -> None:
        self.blobs_copied = 0
        self.bytes_copied = 0
        self.blobs_present = 0
        self._source = source
        self._destination = destination
        self._remote = remote
        self._jobs = jobs
        self._progress = progress
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._ask = False
        self._done_bytes = 0
        self._total_bytes = 0

    def skip(self, blobs: Iterable[Descriptor]) -> None:
        """Count blobs that are there."""
        self.blobs_present += sum(1 for _ in blobs)

    def begin(self, missing: list[Descriptor]) -> None:
        """Say how much there is to move."""
        self._total_bytes = sum(blob.size for blob in missing)
        self.report(0, "")

    def report(self, count: int, item: str) -> None:
        """Add `count` to the bytes done (negative to take back) and tell the caller."""
        if self._stop.is_set():
            raise _Stopped
        with self._lock:
            self._done_bytes += count
            if self._progress is not None:
                self._progress(Progress("copy", self._done_bytes, self._total_bytes, item))

    def probe(self, missing: list[Descriptor]) -> list[Descriptor]:
        """Find out whether an earlier attempt left something, at three requests at most.

        Blobs are sent in order, `jobs` at a time. So if any were sent before, then the first or the
        second is there, or the one `jobs` places on, unless the first `jobs` were all cut off. If
        none is there, all are sent without asking: two requests each. If one is, each is asked for.
        """
        assert self._remote is not None
        if sum(blob.size for blob in missing) < PROBE_BYTES:
            return missing
        large = [blob for blob in missing if blob.size >= LARGE_BYTES] or missing
        places = dict.fromkeys(place for place in (0, 1, self._jobs) if place < len(large))
        there = {large[place] for place in places if self._destination.exists(large[place])}
        self._ask = bool(there)
        self.blobs_present += len(there)
        return [blob for blob in missing if blob not in there]

    def move(self, blobs: list[Descriptor]) -> None:
        """Copy blobs, `jobs` at a time; the first error stops all and is raised."""
        if len(blobs) == 1 or self._jobs == 1:
            for blob in blobs:
                self._move(blob)
            return
        if not blobs:
            return
        with ThreadPoolExecutor(min(self._jobs, len(blobs)), "packer-copy") as pool:
            futures = [pool.submit(self._move, blob) for blob in blobs]
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
            finally:
                # Also on KeyboardInterrupt: threads stop at their next read.
                if not all(_succeeded(future) for future in futures):
                    self._stop.set()
                    pool.shutdown(wait=True, cancel_futures=True)
        errors = [error for future in futures if (error := _error(future)) is not None]
        for error in errors:
            if not isinstance(error, _Stopped):
                raise error

    def put_manifest(self, data: bytes, media_type: str, tag: str | None, graph: Graph) -> None:
        """Store the manifest; send again, once each, blobs it turns out to need."""
        sent: set[str] = set()
        while True:
            try:
                self._destination.put_manifest(data, media_type, tag)
                return
            except NotFound as error:
                if error.kind != "blob":
                    raise
                again = [blob for blob in graph.blobs if blob.digest == error.name]
                if not again:  # the registry does not say which
                    again = [blob for blob in graph.blobs if not self._destination.exists(blob)]
                again = [blob for blob in again if blob.digest not in sent]
                if not again:
                    raise
            for blob in again:
                sent.add(blob.digest)
                self._total_bytes += blob.size
                self._send(blob)

    def _move(self, blob: Descriptor) -> None:
        if self._stop.is_set():
            raise _Stopped
        if self._ask and self._destination.exists(blob):
            with self._lock:
                self.blobs_present += 1
            self.report(blob.size, blob.digest)
            return
        self._send(blob)

    def _send(self, blob: Descriptor) -> None:
        body = _BlobSource(self._source, blob, self)
        new = True
        with body:
            if self._remote is not None:
                self._remote.upload(blob, cast(BinaryIO, body))
            else:
                new = self._destination.push(blob, cast(BinaryIO, body))
        with self._lock:
            if new:
                self.blobs_copied += 1
                self.bytes_copied += blob.size
            else:
                self.blobs_present += 1


class _BlobSource(io.RawIOBase):
    """A blob of one store as the source of a push to another.

    Not verified here: every store verifies what it is given, and once is enough. Going back to the
    start opens the blob anew, so nothing is kept in memory or in a temporary file for a retry.
    """

    def __init__(self, store: Store, blob: Descriptor, run: _Run) -> None:
        super().__init__()
        self._store = store
        self._blob = blob
        self._run = run
        self._reader: Reader | None = None
        self._seen = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        if self._reader is None:
            # A range that is the whole blob: the same bytes, without the verification.
            self._reader = self._store.fetch(self._blob, 0, self._blob.size)
        data = self._reader.read(size)
        self._seen += len(data)
        self._run.report(len(data), self._blob.digest)
        return data

    def seek(self, offset: int, whence: int = 0, /) -> int:
        if offset or whence:
            raise io.UnsupportedOperation("only seek(0)")
        self._drop()
        if self._seen:
            self._run.report(-self._seen, self._blob.digest)
            self._seen = 0
        return 0

    def close(self) -> None:
        self._drop()
        super().close()

    def _drop(self) -> None:
        reader, self._reader = getattr(self, "_reader", None), None
        if reader is not None:
            reader.close()


def _succeeded(future: Future[None]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None


def _error(future: Future[None]) -> BaseException | None:
    return None if future.cancelled() else future.exception()
