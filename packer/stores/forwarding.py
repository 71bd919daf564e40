"""The base of stores that wrap another one and change some of its calls."""

from __future__ import annotations

from typing import BinaryIO

from packer.oci import Descriptor
from packer.stores.protocols import Interruptible, OnDisk, Reader, Store


class Forwarding:
    """Passes every call of `Store` on to another store; for subclasses.

    Args:
        store: answers the calls that a subclass does not.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def name(self) -> str:
        """The store's name in errors and logs."""
        return self._store.name

    @property
    def path(self) -> str | None:
        """The store's directory, as `OnDisk`."""
        return self._store.path if isinstance(self._store, OnDisk) else None

    @property
    def caches(self) -> str:
        """Directory for caches about the store's content, as `OnDisk`."""
        return self._store.caches if isinstance(self._store, OnDisk) else ""

    def exists(self, blob: Descriptor) -> bool:
        """Return whether the store has a blob, as `Store.exists`."""
        return self._store.exists(blob)

    def fetch(self, blob: Descriptor, start: int = 0, length: int | None = None) -> Reader:
        """Open a blob, or a range of it, as `Store.fetch`."""
        return self._store.fetch(blob, start, length)

    def push(self, blob: Descriptor, source: BinaryIO) -> bool:
        """Store a blob, as `Store.push`."""
        return self._store.push(blob, source)

    def get_manifest(self, reference: str) -> tuple[Descriptor, bytes]:
        """Return a manifest, as `Store.get_manifest`."""
        return self._store.get_manifest(reference)

    def resolve(self, reference: str) -> Descriptor:
        """Return what a tag or digest names, as `Store.resolve`."""
        return self._store.resolve(reference)

    def put_manifest(self, data: bytes, media_type: str, tag: str | None = None) -> Descriptor:
        """Store a manifest, as `Store.put_manifest`."""
        return self._store.put_manifest(data, media_type, tag)

    def referrers(self, digest: str) -> tuple[Descriptor, ...]:
        """Return what refers to a manifest, as `Store.referrers`."""
        return self._store.referrers(digest)

    def interrupt(self) -> None:
        """Make requests end at once, as `Interruptible`."""
        if isinstance(self._store, Interruptible):
            self._store.interrupt()

    def resume(self) -> None:
        """Allow requests again, as `Interruptible`."""
        if isinstance(self._store, Interruptible):
            self._store.resume()
