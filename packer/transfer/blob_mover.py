"""Moves blobs from one store to another, several at a time: the threads and counters of a copy.

The result of a copy does not depend on the number of threads.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import BinaryIO, TypeVar, cast

from packer.errors import (
    Cancelled,
    IntegrityError,
    NotFound,
    RegistryError,
    StoreError,
)
from packer.oci import READ_BYTES, Descriptor, digest_of
from packer.progress import CancelEvent, Progress, ProgressCallback, cancellable
from packer.stores.cancelling import POLL_SECONDS, interrupted
from packer.stores.manifests import Graph
from packer.stores.protocols import Filler, Mounter, Reader, Store, Upload
from packer.transfer.copy_plan import Goal, probe
from packer.transfer.promises import refuse_incomplete
from packer.transfer.referrers_plan import SERVER_ERROR

T = TypeVar("T")

KEPT_HINT = (
    "remove them from its storage, or delete the versions that need them and collect its garbage, "
    "then push again"
)
"""What mends a registry that takes no blob that it has."""


class _Stopped(Exception):
    """Ends a thread because another failed or the user interrupted; never leaves this module."""


class BlobMover:
    """Moves blobs from one store to another; shared by the threads of one copy.

    Args:
        source: holds the blobs.
        destination: where to move them.
        jobs: blobs moved at once, at least 1.
        progress: called with the bytes moved, or None.
        cancel: stops the work once it is set, or None.
    """

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
        self.blobs_mounted = 0
        self.bytes_mounted = 0
        self.source = source
        self.destination = destination
        self.remote = destination if isinstance(destination, Upload) else None
        self.jobs = jobs
        self.absent: frozenset[Descriptor] = frozenset()
        """Blobs that the source lacks and the destination has."""
        self.mounts: dict[str, str] = {}
        """Other repositories of the destination's registry that may have blobs, by digest."""
        self.mounted: set[Descriptor] = set()
        self._given = progress
        self._progress = cancellable(progress, cancel, "copying")
        self._cancel = cancel
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._ask = False
        self._lost: set[Descriptor] = set()
        self._done_bytes = 0
        self._total_bytes = 0

    def towards(self, destination: Store) -> BlobMover:
        """Return a mover to another destination, with the same progress and cancel event."""
        return BlobMover(self.source, destination, self.jobs, self._given, self._cancel)

    def begin(self, missing: list[Descriptor]) -> None:
        """Announce the blobs to move, for the progress."""
        self._total_bytes = self._done_bytes + sum(blob.size for blob in missing)
        self.report(0, "")

    def report(self, count: int, item: str) -> None:
        """Add `count` bytes (negative to subtract) to the progress, and report it."""
        if self._stop.is_set():
            raise _Stopped
        with self._lock:
            self._done_bytes += count
            if self._progress is not None:
                self._progress(Progress("copy", self._done_bytes, self._total_bytes, item))

    def probe(self, missing: list[Descriptor]) -> list[Descriptor]:
        """Find out whether an earlier attempt left blobs at the registry.

        If it left any, `move` asks for each blob before it sends it; else all are sent unasked, at
        two requests each.

        Args:
            missing: blobs that the registry may lack, in the order of sending.

        Returns:
            The blobs without those that were found.

        Raises:
            StoreError: the registry failed.
        """
        found = probe(self.destination, missing, self.jobs)
        self._ask = found is not None
        return [blob for blob in missing if found is None or blob not in found]

    def begin_mounts(
        self, missing: list[Descriptor], mounts: Mapping[str, str]
    ) -> list[Descriptor]:
        """Probe each repository by mounting its smallest blob.

        A refused mount turns into an upload of that blob, so the probe must be cheap. Only the
        repositories from which it was mounted are asked for more.

        Args:
            missing: blobs that the destination lacks.
            mounts: repositories that may hold them, by digest.

        Returns:
            The blobs that are left to move.

        Raises:
            StoreError: the registry failed.
        """
        tried: set[str] = set()
        left = list(missing)
        self.mounts = dict(mounts)
        self.begin(missing)
        for blob in sorted(missing, key=lambda blob: (blob.size, blob.digest)):
            repository = self.mounts.get(blob.digest)
            if repository is None or repository in tried:
                continue
            tried.add(repository)
            left.remove(blob)
            self._send(blob)
            if blob not in self.mounted:
                self.mounts = {key: at for key, at in self.mounts.items() if at != repository}
        sent = set(self.probe([blob for blob in left if blob.digest not in self.mounts]))
        return [blob for blob in left if blob.digest in self.mounts or blob in sent]

    def mount_absent(self, blobs: list[Descriptor], mounts: Mapping[str, str]) -> list[Descriptor]:
        """Mount blobs that the source lacks.

        Args:
            blobs: the blobs, which the destination lacks as well.
            mounts: repositories that hold them, by digest.

        Returns:
            The blobs that the destination still lacks.

        Raises:
            StoreError: the registry failed.
        """
        destination = self.destination
        if not isinstance(destination, Mounter) or any(blob.digest not in mounts for blob in blobs):
            return blobs

        def work(blob: Descriptor) -> bool:
            done = destination.mount(blob, mounts[blob.digest])
            if done:
                self._count_mounted(blob)
            return done

        if not work(blobs[0]):
            return blobs
        found = zip(blobs[1:], self._each(work, blobs[1:]), strict=True)
        return [blob for blob, there in found if not there]

    def _count_mounted(self, blob: Descriptor) -> None:
        with self._lock:
            self.mounted.add(blob)
            self.blobs_mounted += 1
            self.bytes_mounted += blob.size

    def _uncount_mounted(self, blobs: Iterable[Descriptor]) -> None:
        """Subtract mounted blobs that turned out to be missing."""
        for blob in self.mounted.intersection(blobs):
            self.mounted.remove(blob)
            self.blobs_mounted -= 1
            self.bytes_mounted -= blob.size

    def damaged(self, blobs: list[Descriptor]) -> list[Descriptor]:
        """Return the blobs that the destination cannot return whole and sound; all are read.

        Args:
            blobs: the blobs to check.

        Returns:
            The lost and the damaged ones. `move` sends them without asking.

        Raises:
            RegistryError: the registry refuses access (401 or 403).
        """

        def is_lost(blob: Descriptor) -> bool:
            self.report(0, blob.digest)
            try:
                with self.destination.fetch(blob) as reader:
                    while reader.read(READ_BYTES):
                        self.report(0, blob.digest)
            except (NotFound, IntegrityError):
                return True
            except StoreError as error:
                # The registry promises bytes and hangs up, as docker-registry does for a blob that
                # its cache remembers and its disk lost. Refused access concerns every blob.
                if isinstance(error, RegistryError) and error.status in (401, 403):
                    raise
                return True
            return False

        found = zip(blobs, self._each(is_lost, blobs), strict=True)
        lost = [blob for blob, is_so in found if is_so]
        self._lost.update(lost)
        self._uncount_mounted(self._lost)
        return lost

    def refuse_damaged(self, blobs: list[Descriptor]) -> None:
        """Check blobs that were sent again because they were damaged.

        Args:
            blobs: the blobs.

        Raises:
            IntegrityError: the registry has kept its damaged bytes, as distribution does: it takes
                no blob that it has.
        """
        if kept := self.damaged(blobs):
            raise IntegrityError(
                f"{self.destination.name} keeps damaged bytes of {kept[0].digest}"
                + (f" and {len(kept) - 1} more" if len(kept) > 1 else "")
                + f" although they were sent again: {KEPT_HINT}"
            )

    def put_sound_manifest(self, goal: Goal) -> bool:
        """Store a manifest again if the destination's bytes of it are damaged or missing.

        Args:
            goal: the manifest, which the destination names.

        Returns:
            Whether the manifest was damaged; now it is sound.

        Raises:
            IntegrityError: the registry has kept its damaged bytes.
            StoreError: the registry failed.
        """
        if self._has_manifest(goal):
            return False
        self.put_manifest(goal.data, goal.descriptor.media_type, goal.tag, goal.graph)
        if not self._has_manifest(goal):
            raise IntegrityError(
                f"{self.destination.name} keeps damaged bytes of manifest {goal.descriptor.digest} "
                f"although it was sent again: {KEPT_HINT}"
            )
        return True

    def _has_manifest(self, goal: Goal) -> bool:
        """Return whether the destination returns a manifest's bytes, by digest and by tag."""
        for reference in dict.fromkeys((goal.descriptor.digest, goal.reference)):
            try:
                if self.destination.get_manifest(reference)[1] != goal.data:
                    return False
            except (NotFound, IntegrityError):
                return False
            except RegistryError as error:
                if error.status < SERVER_ERROR:
                    raise
                return False
        return True

    def move(self, blobs: list[Descriptor], *, ask: bool = False) -> None:
        """Move blobs, `jobs` at a time; the first error stops all and is raised.

        Args:
            blobs: the blobs.
            ask: ask the destination for each, but for those known to be lost.
        """
        self._ask = self._ask or ask
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
                # KeyboardInterrupt, or the caller's event. Threads that wait for an answer would
                # wait until their timeout.
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
        """Wait until all are done, the first one fails, or the caller cancels."""
        while True:
            done, pending = wait(futures, timeout=POLL_SECONDS, return_when=FIRST_EXCEPTION)
            failed = not all(_succeeded(future) for future in done)
            if (pending or failed) and self._cancel is not None and self._cancel.is_set():
                raise Cancelled("copying")
            if failed or not pending:
                return

    def put_manifest(self, data: bytes, media_type: str, tag: str | None, graph: Graph) -> None:
        """Store the manifest; blobs that the registry says it lacks are sent again, once each.

        Args:
            data: the manifest's bytes.
            media_type: the manifest's media type.
            tag: the manifest's name; None for none.
            graph: the blobs that the manifest names.

        Raises:
            NotFound: the registry lacks a blob that was sent again, or that the source lacks.
            StoreError: the store failed.
        """
        sent: set[str] = set()
        while True:
            try:
                self.destination.put_manifest(data, media_type, tag)
                return
            except NotFound as error:
                if error.kind != "blob":
                    raise
                again = [blob for blob in graph.blobs if blob.digest == error.name]
                if not again:  # the registry does not name the blob
                    again = [blob for blob in graph.blobs if not self.destination.exists(blob)]
                again = [blob for blob in again if blob.digest not in sent]
                if not again:
                    raise
                if gone := [blob for blob in again if blob in self.absent]:
                    digest = digest_of(data)
                    refuse_incomplete(self.source, digest, gone, self.destination.name)
            self.mounts = {}  # the registry claimed to have mounted a blob, and had not
            self._uncount_mounted(again)
            for blob in again:
                sent.add(blob.digest)
                self._total_bytes += blob.size
                self._send(blob)

    def _move(self, blob: Descriptor) -> None:
        if self._stop.is_set():
            raise _Stopped
        asked = self._ask and blob.digest not in self.mounts and blob not in self._lost
        if asked and self.destination.exists(blob):
            with self._lock:
                self.blobs_present += 1
            self.report(blob.size, blob.digest)
            return
        self._send(blob)

    def _send(self, blob: Descriptor) -> None:
        body = _BlobSource(self.source, blob, self)
        new = True
        repository = None if blob in self._lost else self.mounts.get(blob.digest)
        with body:
            if repository is not None and isinstance(self.destination, Mounter):
                if not self.destination.upload_or_mount(blob, cast(BinaryIO, body), repository):
                    self._count_mounted(blob)
                    self.report(blob.size, blob.digest)
                    return
            elif self.remote is not None:
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

    It does not verify the bytes: every store verifies the bytes that it is given. Seeking to the
    start opens the blob again, so a retry needs no copy in memory or in a temporary file.
    """

    def __init__(self, store: Store, blob: Descriptor, mover: BlobMover) -> None:
        super().__init__()
        self._store = store
        self._blob = blob
        self._mover = mover
        self._reader: Reader | None = None
        self._seen = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        data = self._open().read(size)
        self._count(len(data))
        return data

    def fill(self, buffer: memoryview, /) -> int:
        """Read into `buffer`, as `Filler.fill`."""
        reader = self._open()
        if isinstance(reader, Filler):
            count = reader.fill(buffer)
        else:
            data = reader.read(len(buffer))
            count = len(data)
            buffer[:count] = data
        self._count(count)
        return count

    def _open(self) -> Reader:
        if self._reader is None:
            # A range over the whole blob gives the same bytes without verifying them.
            self._reader = self._store.fetch(self._blob, 0, self._blob.size)
        return self._reader

    def _count(self, count: int) -> None:
        self._seen += count
        self._mover.report(count, self._blob.digest)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        if offset or whence:
            raise io.UnsupportedOperation("only seek(0)")
        self._drop()
        if self._seen:
            self._mover.report(-self._seen, self._blob.digest)
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
