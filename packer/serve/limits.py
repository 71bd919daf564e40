"""Bounds of a request: how long its work may take, and that it ends with its connection."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import BinaryIO

from packer.errors import Cancelled
from packer.format.version import Version
from packer.oci import Descriptor
from packer.stores.forwarding import Forwarding
from packer.stores.protocols import LocalBlobs, Positioned, Reader, Store

REQUEST_SECONDS = 30.0
"""Time that one request may work."""
DOWNLOAD_SECONDS = 600.0
"""Time that a download may work for each piece that it sends."""


class Stop:
    """A `packer.progress.CancelEvent` that is also set when the time is over.

    Args:
        seconds: from now until the work has to end.
    """

    def __init__(self, seconds: float = REQUEST_SECONDS) -> None:
        self._seconds = seconds
        self._gone = threading.Event()
        self._until = time.monotonic() + seconds

    def set(self) -> None:
        """End the work: nobody waits for it any more."""
        self._gone.set()

    def wait(self, seconds: float) -> bool:
        """Wait until `set` was called, and return whether it was."""
        return self._gone.wait(seconds)

    def renew(self) -> None:
        """Begin the time anew, as something was sent."""
        self._until = time.monotonic() + self._seconds

    @property
    def is_gone(self) -> bool:
        """Whether `set` was called."""
        return self._gone.is_set()

    def is_set(self) -> bool:
        """Return whether to stop."""
        return self._gone.is_set() or time.monotonic() > self._until

    def check(self) -> None:
        """Raise `Cancelled` if the work has to end."""
        if self.is_set():
            raise Cancelled("the request")


def watched(version: Version, stop: Stop) -> Version:
    """Return a version whose reads end once a request has to.

    The store itself is shared between requests, so it is not interrupted: each read of a part looks
    at the event first, and parts have at most some MiB.

    Args:
        version: to read; its decoded index is shared.
        stop: of the request.

    Returns:
        A version for one request.
    """
    store = version.store
    kind = _WatchedLocal if isinstance(store, LocalBlobs) else _Watched
    copy = replace(version, store=kind(store, stop))
    copy.__dict__["index"] = version.index
    return copy


class _Watched(Forwarding):
    """A store that raises `Cancelled` instead of reading for a request that has ended."""

    def __init__(self, store: Store, stop: Stop) -> None:
        super().__init__(store)
        self._stop = stop

    def fetch(self, blob: Descriptor, start: int = 0, length: int | None = None) -> Reader:
        """Open a blob, or a range of it, as `Store.fetch`."""
        self._stop.check()
        return super().fetch(blob, start, length)

    def get_manifest(self, reference: str) -> tuple[Descriptor, bytes]:
        """Return a manifest, as `Store.get_manifest`."""
        self._stop.check()
        return super().get_manifest(reference)


class _WatchedLocal(_Watched):
    """The same of a store with `LocalBlobs`."""

    def open_file(self, blob: Descriptor) -> BinaryIO:
        """Open a blob, as `LocalBlobs.open_file`."""
        assert isinstance(self._store, LocalBlobs)
        return _WatchedFile(self._store.open_file(blob), self._stop)  # type: ignore[return-value]


class _WatchedFile:
    """A blob that is read from anywhere, as `Positioned`."""

    def __init__(self, file: BinaryIO, stop: Stop) -> None:
        self._file = file
        self._stop = stop
        self._lock = threading.Lock()

    def pread(self, length: int, offset: int) -> bytes:
        """Return up to `length` bytes from `offset`."""
        self._stop.check()
        if isinstance(self._file, Positioned):
            return self._file.pread(length, offset)
        with self._lock:
            self._file.seek(offset)
            out = bytearray()
            while len(out) < length and (data := self._file.read(length - len(out))):
                out += data
        return bytes(out)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
