"""Copy a manifest and what it names from one store to another: push, pull, export and import.

Order: layers, config, manifest, tag; so an interrupted copy leaves blobs that nothing names, never
a tag that names something incomplete, and the next try finds them. Threads live here and in pack.py
and restore.py only; what is copied does not depend on their number.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import BinaryIO, TypeVar, cast

from packer.errors import (
    AuthError,
    Cancelled,
    DigestMismatch,
    FormatError,
    IntegrityError,
    InvalidParameter,
    NotFound,
    PackerError,
    StoreError,
    UnsupportedVersion,
)
from packer.interrupting import POLL_SECONDS, interrupted, until_cancelled
from packer.model import (
    MANIFEST_TYPE,
    MAX_LAYERS,
    Descriptor,
    check_annotations,
    is_digest,
    load_json,
)
from packer.progress import CancelEvent, Progress, ProgressCallback, cancellable
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

T = TypeVar("T")


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
    verify: bool = False,
    force: bool = False,
    expect: str | None = None,
    promises: Sequence[Promise] = (),
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
            cannot give back.
        force: send every blob again, whatever a registry says it has.
        expect: digest that the manifest must have.
        promises: versions whose blobs an archive may leave out.
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
    run = _Run(source, destination, jobs, progress, cancel)
    with until_cancelled(cancel, (source, destination), "copying"):
        return _copy(
            run,
            source_reference,
            tag,
            promises=promises,
            verify=verify,
            force=force,
            expect=expect,
        )


def _copy(
    run: _Run,
    source_reference: str,
    tag: str | None,
    *,
    promises: Sequence[Promise],
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
        raise InvalidParameter(f"{destination.name} is no registry: it proves what it has")
    named = resolve_or_none(destination, tag if tag is not None else descriptor.digest)
    same = named is not None and named.digest == descriptor.digest
    if remote is not None and same and not (verify or force):
        return CopyResult(descriptor, 0, 0, len(graph.blobs), True)
    absent = absent_blobs(source, graph.blobs)
    if lacking := _lacking(destination, absent, run.jobs):
        raise missing_base(source, descriptor.digest, lacking, destination)
    if remote is None:
        missing = [blob for blob in graph.blobs if not destination.exists(blob)]
    elif force:
        missing = [blob for blob in graph.blobs if blob not in absent]
    else:
        known = {blob.digest for blob in graph.blobs} if same else frozenset[str]()
        known = known or known_digests(source, destination, graph, named)
        known |= {blob.digest for blob in absent}
        missing = [blob for blob in graph.blobs if blob.digest not in known]
        if missing:
            missing = run.probe(missing)
        if verify:
            missing += run.unreadable([blob for blob in graph.blobs if blob not in missing])
    run.blobs_present = len(graph.blobs) - len(missing)
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


def _copy_to_archive(outer: _Run, goal: _Goal, promises: Sequence[Promise]) -> CopyResult:
    """Write what an archive lacks and nobody promised, all at once."""
    source, destination = outer.source, outer.destination
    assert isinstance(destination, Partial)
    descriptor, blobs = goal.descriptor, goal.graph.blobs
    promised = frozenset[str]().union(*(promise.blobs for promise in promises))
    there = [blob for blob in blobs if destination.exists(blob)]
    left_out = [blob for blob in blobs if blob.digest in promised and blob not in there]
    missing = [blob for blob in blobs if blob not in there and blob not in left_out]
    if lacking := absent_blobs(source, missing):
        raise missing_base(source, descriptor.digest, lacking, destination)
    note = encode_promises(promises, left_out)
    named = resolve_or_none(destination, goal.tag if goal.tag is not None else descriptor.digest)
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


def _lacking(destination: Store, blobs: Sequence[Descriptor], jobs: int) -> list[Descriptor]:
    """Return those of `blobs` that the destination lacks; each is asked for."""
    if not blobs:
        return []
    with ThreadPoolExecutor(min(jobs, len(blobs)), "packer-copy") as pool:
        found = list(pool.map(destination.exists, blobs))
    return [blob for blob, there in zip(blobs, found, strict=True) if not there]


def check_expected(actual: str, expect: str | None, what: str) -> None:
    """Raise unless `actual` is the digest the caller expects, if any.

    Raises:
        InvalidParameter: `expect` is no digest.
        DigestMismatch: they differ.
    """
    if expect is None:
        return
    if not is_digest(expect):
        raise InvalidParameter(f"{expect[:80]!r} is not sha256:<64 hex digits>")
    if actual != expect:
        raise DigestMismatch(what, expect, actual)


def resolve_or_none(store: Store, reference: str) -> Descriptor | None:
    """Return what a tag or digest stands for, None if it is not there."""
    try:
        return store.resolve(reference)
    except NotFound:
        return None


def known_digests(
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
        if found.digest == (named.digest if named else "") or resolve_or_none(
            destination, found.digest
        ):
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
        jobs: int,
        progress: ProgressCallback | None,
        cancel: CancelEvent | None,
    ) -> None:
        self.blobs_copied = 0
        self.bytes_copied = 0
        self.blobs_present = 0
        self.source = source
        self.destination = destination
        self.remote = destination if isinstance(destination, Upload) else None
        self.jobs = jobs
        self._given = progress
        self._progress = cancellable(progress, cancel, "copying")
        self._cancel = cancel
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._ask = False
        self._lost: set[Descriptor] = set()
        self._done_bytes = 0
        self._total_bytes = 0

    def towards(self, destination: Store) -> _Run:
        """Return the state of a copy to somewhere else, watched in the same way."""
        return _Run(self.source, destination, self.jobs, self._given, self._cancel)

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
        assert self.remote is not None
        if sum(blob.size for blob in missing) < PROBE_BYTES:
            return missing
        large = [blob for blob in missing if blob.size >= LARGE_BYTES] or missing
        places = dict.fromkeys(place for place in (0, 1, self.jobs) if place < len(large))
        there = {large[place] for place in places if self.destination.exists(large[place])}
        self._ask = bool(there)
        return [blob for blob in missing if blob not in there]

    def unreadable(self, blobs: list[Descriptor]) -> list[Descriptor]:
        """Return those of which the destination cannot give back a byte, at a request each."""

        def is_lost(blob: Descriptor) -> bool:
            self.report(0, blob.digest)
            try:
                with self.destination.fetch(blob, 0, min(1, blob.size)) as reader:
                    return len(reader.read(1)) != min(1, blob.size)
            except (NotFound, IntegrityError):
                return True
            except StoreError as error:
                # A registry that promises bytes and hangs up, as docker-registry does for what its
                # cache remembers and its disk lost. What refuses all of them is another matter.
                if isinstance(error, AuthError):
                    raise
                return True

        found = zip(blobs, self._each(is_lost, blobs), strict=True)
        self._lost.update(blob for blob, lost in found if lost)
        return [blob for blob in blobs if blob in self._lost]

    def move(self, blobs: list[Descriptor]) -> None:
        """Copy blobs, `jobs` at a time; the first error stops all and is raised."""
        self._each(self._move, blobs)

    def _each(self, work: Callable[[Descriptor], T], blobs: list[Descriptor]) -> list[T]:
        """Call `work` for each blob, `jobs` at a time; the first error stops all and is raised."""
        if self._cancel is None and (len(blobs) <= 1 or self.jobs == 1):
            return [work(blob) for blob in blobs]
        if not blobs:
            return []
        with ThreadPoolExecutor(min(self.jobs, len(blobs)), "packer-copy") as pool:
            futures: list[Future[T]] = []
            try:
                futures.extend(pool.submit(work, blob) for blob in blobs)
                self._wait(futures)
            except BaseException:
                # KeyboardInterrupt, or the caller's event: threads that wait for an answer would
                # go on doing so until their time is out.
                self._stop.set()
                with interrupted((self.source, self.destination)):
                    pool.shutdown(wait=True, cancel_futures=True)
                raise
            if not all(_succeeded(future) for future in futures):
                self._stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
        errors = [error for future in futures if (error := _error(future)) is not None]
        for error in errors:
            if not isinstance(error, _Stopped):
                raise error
        return [future.result() for future in futures]

    def _wait(self, futures: list[Future[T]]) -> None:
        """Wait for all, or for the first that fails, or until the caller cancels."""
        while True:
            done, pending = wait(futures, timeout=POLL_SECONDS, return_when=FIRST_EXCEPTION)
            failed = not all(_succeeded(future) for future in done)
            if (pending or failed) and self._cancel is not None and self._cancel.is_set():
                raise Cancelled("copying")
            if failed or not pending:
                return

    def put_manifest(self, data: bytes, media_type: str, tag: str | None, graph: Graph) -> None:
        """Store the manifest; send again, once each, blobs it turns out to need."""
        sent: set[str] = set()
        while True:
            try:
                self.destination.put_manifest(data, media_type, tag)
                return
            except NotFound as error:
                if error.kind != "blob":
                    raise
                again = [blob for blob in graph.blobs if blob.digest == error.name]
                if not again:  # the registry does not say which
                    again = [blob for blob in graph.blobs if not self.destination.exists(blob)]
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
        if self._ask and blob not in self._lost and self.destination.exists(blob):
            with self._lock:
                self.blobs_present += 1
            self.report(blob.size, blob.digest)
            return
        self._send(blob)

    def _send(self, blob: Descriptor) -> None:
        body = _BlobSource(self.source, blob, self)
        new = True
        with body:
            if self.remote is not None:
                self.remote.upload(blob, cast(BinaryIO, body))
            else:
                new = self.destination.push(blob, cast(BinaryIO, body))
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


def _succeeded(future: Future[T]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None


def _error(future: Future[T]) -> BaseException | None:
    return None if future.cancelled() else future.exception()
