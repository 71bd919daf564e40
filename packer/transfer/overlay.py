"""Versions in a local store of which some blobs lie in a registry: read together, as one store.

`packer.pack` on a base in a registry makes them. The entry of their tag says where the rest is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO

from packer.errors import InvalidReference, NotFound
from packer.oci import Descriptor
from packer.reference import Reference, parse_location
from packer.stores.graph import read_graph
from packer.stores.protocols import Interruptible, PartialIngest, Ranged, Reader, Store
from packer.stores.registry.access import Access
from packer.transfer.promises import Promise, absent_blobs, decode_promises


class Overlay:
    """A store whose blobs come from elsewhere where it lacks them; nothing is written there.

    Args:
        near: asked first, and for everything but blobs.
        promises: who has the blobs that it lacks, by references in registries.
        open_far: opens the repository of a reference; called when it is first needed.
    """

    def __init__(
        self,
        near: Store,
        promises: list[Promise],
        open_far: Callable[[Reference], Store],
    ) -> None:
        self._near = near
        self.path = getattr(near, "path", None)
        self._promises = promises
        self._open = open_far
        self._far: dict[str, Store] = {}
        self.name = near.name
        self.exists = near.exists
        self.get_manifest = near.get_manifest
        self.resolve = near.resolve
        self.put_manifest = near.put_manifest

    def push(self, blob: Descriptor, source: BinaryIO) -> bool:
        """Store a blob near."""
        return self._near.push(blob, source)

    def fetch(self, blob: Descriptor, start: int = 0, length: int | None = None) -> Reader:
        """Open a blob, wherever it is.

        Raises:
            NotFound: it is in neither place: kind "base", with the version that had it.
        """
        try:
            return self._near.fetch(blob, start, length)
        except NotFound:
            promise = next((one for one in self._promises if blob.digest in one.blobs), None)
            if promise is None:
                raise
        far = self._store_of(promise, blob)
        try:
            return far.fetch(blob, start, length)
        except NotFound as error:
            raise NotFound(
                "base",
                str(promise),
                f"{self.name} left its blobs in {far.name}, where {blob.digest} is not any more",
            ) from error

    def _store_of(self, promise: Promise, blob: Descriptor) -> Store:
        try:
            location = parse_location(promise.name)
        except InvalidReference:
            location = None
        if not isinstance(location, Reference):  # written by somebody else
            raise NotFound("blob", blob.digest, f"in {self.name}")
        found = self._far.get(promise.name)
        if found is None:
            found = self._far.setdefault(promise.name, self._open(location))
        return found

    @property
    def ignores_ranges(self) -> bool:
        """Whether a registry sent a whole blob when it was asked for a part."""
        return any(isinstance(far, Ranged) and far.ignores_ranges for far in self._far.values())

    def interrupt(self) -> None:
        """Make requests end at once, as `Interruptible`."""
        for far in list(self._far.values()):
            if isinstance(far, Interruptible):
                far.interrupt()

    def resume(self) -> None:
        """Allow requests again."""
        for far in list(self._far.values()):
            if isinstance(far, Interruptible):
                far.resume()


def promises_of(store: Store, digest: str) -> list[Promise]:
    """Return who has the blobs that a local store lacks of a version; none if it lacks none."""
    if not isinstance(store, PartialIngest):
        return []
    promises = decode_promises(store.promises(digest))
    if not promises:
        return []
    _, data = store.get_manifest(digest)
    return promises if absent_blobs(store, read_graph(data, f"manifest {digest}").blobs) else []


def completed(store: Store, name: str, options: Access) -> Store:
    """Return the store to read a local version from: with what it lacks from where that lies."""
    if not isinstance(store, PartialIngest):
        return store
    promises = promises_of(store, store.resolve(name).digest)
    return Overlay(store, promises, options.open) if promises else store
