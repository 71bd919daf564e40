"""Reading a registry with a memory: small blobs in RAM, others from a layout."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from typing import BinaryIO

from packer.oci import Descriptor
from packer.stores.layout import LayoutStore
from packer.stores.protocols import Interruptible, Reader, Store

SMALL_BYTES = 8 << 20
"""Blobs up to this size (indexes, their patches, configs) are kept in memory."""
MEMORY_BYTES = 64 << 20
"""How much of them."""


class SmallBlobs:
    """The blobs that were read last; thread-safe."""

    def __init__(self, limit_bytes: int = MEMORY_BYTES) -> None:
        self._limit = limit_bytes
        self._held = 0
        self._blobs: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, digest: str) -> bytes | None:
        """Return a blob's bytes if they are held."""
        with self._lock:
            data = self._blobs.get(digest)
            if data is not None:
                self._blobs.move_to_end(digest)
            return data

    def put(self, digest: str, data: bytes) -> None:
        """Hold a blob's bytes, which were verified."""
        with self._lock:
            if digest not in self._blobs:
                self._blobs[digest] = data
                self._held += len(data)
            while self._held > self._limit:
                self._held -= len(self._blobs.popitem(last=False)[1])


class CachedStore:
    """A store whose blobs come from memory or from a layout where these have them.

    Args:
        store: everything else is asked there.
        small: shared between stores; blobs are told apart by their digest alone.
        disk: a layout, or None.
    """

    def __init__(self, store: Store, small: SmallBlobs, disk: LayoutStore | None) -> None:
        self._store = store
        self._small = small
        self._disk = disk
        self.name = store.name
        self.get_manifest = store.get_manifest
        self.resolve = store.resolve
        self.put_manifest = store.put_manifest

    def interrupt(self) -> None:
        """Make requests end at once, as `Interruptible`."""
        if isinstance(self._store, Interruptible):
            self._store.interrupt()

    def resume(self) -> None:
        """Allow requests again."""
        if isinstance(self._store, Interruptible):
            self._store.resume()

    def exists(self, blob: Descriptor) -> bool:
        """Tell whether the store has a blob."""
        return self._store.exists(blob)

    def push(self, blob: Descriptor, source: BinaryIO) -> bool:
        """Store a blob in the store."""
        return self._store.push(blob, source)

    def fetch(self, blob: Descriptor, start: int = 0, length: int | None = None) -> Reader:
        """Open a blob, or a range of it, as `Store.fetch`."""
        if self._disk is not None and self._disk.exists(blob):
            return self._disk.fetch(blob, start, length)
        if start or length is not None or blob.size > SMALL_BYTES:
            return self._store.fetch(blob, start, length)
        data = self._small.get(blob.digest)
        if data is None or len(data) != blob.size:
            with self._store.fetch(blob) as reader:
                data = reader.read()
            self._small.put(blob.digest, data)
        return io.BytesIO(data)
