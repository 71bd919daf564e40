"""Reading a registry with a memory: small blobs from RAM, others from a layout that has them."""

from __future__ import annotations

import io
from collections import OrderedDict

from packer.forks import Lock
from packer.oci import Descriptor
from packer.stores.forwarding import Forwarding
from packer.stores.layout import LayoutStore
from packer.stores.protocols import Reader, Store

SMALL_BYTES = 8 << 20
"""Blobs up to this size are kept in memory: indexes, their patches, configs."""
MEMORY_BYTES = 64 << 20
"""Bytes of small blobs kept; beyond, the one used longest ago goes."""


class SmallBlobs:
    """The bytes of the blobs that were read last; shared by any number of stores.

    Thread safety: threads may share it.
    """

    def __init__(self) -> None:
        self._held = 0
        self._blobs: OrderedDict[str, bytes] = OrderedDict()
        self._lock = Lock()

    def get(self, digest: str) -> bytes | None:
        """Return a blob's bytes if they are held."""
        with self._lock:
            data = self._blobs.get(digest)
            if data is not None:
                self._blobs.move_to_end(digest)
            return data

    def put(self, digest: str, data: bytes) -> None:
        """Hold a blob's bytes, which the caller has verified."""
        with self._lock:
            if digest not in self._blobs:
                self._blobs[digest] = data
                self._held += len(data)
            while self._held > MEMORY_BYTES:
                self._held -= len(self._blobs.popitem(last=False)[1])


class CachedStore(Forwarding):
    """A store whose blobs come from memory or from a layout where these have them.

    Args:
        store: answers everything else.
        small: shared between stores; blobs are identified by their digest alone.
        disk: a layout, or None.
    """

    def __init__(self, store: Store, small: SmallBlobs, disk: LayoutStore | None) -> None:
        super().__init__(store)
        self._small = small
        self._disk = disk

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
