"""Blobs from one store to another, several at a time: the threads and counters of a copy.

Threads live here and in pack.py and restore.py only; what is copied does not depend on their
number.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import BinaryIO, TypeVar, cast

from packer.errors import (
    AuthError,
    Cancelled,
    IntegrityError,
    NotFound,
    StoreError,
)
from packer.oci import Descriptor, digest_of
from packer.progress import CancelEvent, Progress, ProgressCallback, cancellable
from packer.stores.cancelling import POLL_SECONDS, interrupted
from packer.stores.graph import Graph
from packer.stores.protocols import Filler, Mounter, Reader, Store, Upload
from packer.transfer.copy_plan import probe
from packer.transfer.promises import missing_base

T = TypeVar("T")


class _Stopped(Exception):
    """Another thread failed, or the user interrupted; never leaves a copy."""


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
        """Blobs that the source lacks; the destination has them."""
        self.mounts: dict[str, str] = {}
        """Repositories beside the destination that may have blobs, by digest."""
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
        """Return the state of a copy to somewhere else, watched in the same way."""
        return BlobMover(self.source, destination, self.jobs, self._given, self._cancel)

    def begin(self, missing: list[Descriptor]) -> None:
        """Say how much there is to move."""
        self._total_bytes = self._done_bytes + sum(blob.size for blob in missing)
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
        """Mount the smallest blob of each repository beside; return what is left to move.

        Only those that gave it are asked further. From the others it was uploaded instead, by the
        upload that the registry's answer had opened: so it should be small.
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
        """Mount blobs that the source lacks; return those that the destination still lacks."""
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
        """Take back what turned out not to be there."""
        for blob in self.mounted.intersection(blobs):
            self.mounted.remove(blob)
            self.blobs_mounted -= 1
            self.bytes_mounted -= blob.size

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
        self._uncount_mounted(self._lost)
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
                if gone := [blob for blob in again if blob in self.absent]:
                    digest = digest_of(data)
                    raise missing_base(self.source, digest, gone, self.destination.name) from error
            self.mounts = {}  # what was said to be mounted was not
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

    Not verified here: every store verifies what it is given, and once is enough. Going back to the
    start opens the blob anew, so nothing is kept in memory or in a temporary file for a retry.
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
        """Read into `buffer`, as `Filler`."""
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
            # A range that is the whole blob: the same bytes, without the verification.
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
