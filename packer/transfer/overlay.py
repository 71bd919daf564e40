"""Reads a version whose blobs lie partly in a local store and partly in a registry, as one store.

`packer.pack` on a base in a registry makes such versions. The promise beside their tag names the
registry.
"""

from __future__ import annotations

from collections.abc import Callable

from packer.errors import InvalidReference, NotFound
from packer.oci import Descriptor
from packer.reference import Reference, parse_location
from packer.stores.forwarding import Forwarding
from packer.stores.manifests import read_graph
from packer.stores.protocols import Interruptible, PartialIngest, Ranged, Reader, Store
from packer.stores.registry.access import Access
from packer.transfer.promises import Promise, absent_blobs, decode_promises


class Overlay(Forwarding):
    """A local store that fetches the blobs it lacks from registries; nothing is written there.

    Args:
        near: the local store. It is asked first, and for everything but blobs.
        promises: references in registries that hold the blobs which the local store lacks.
        open_far: opens the repository of a reference; called when the repository is first needed.
    """

    def __init__(
        self,
        near: Store,
        promises: list[Promise],
        open_far: Callable[[Reference], Store],
    ) -> None:
        super().__init__(near)
        self._promises = promises
        self._open = open_far
        self._far: dict[str, Store] = {}

    def fetch(self, blob: Descriptor, start: int = 0, length: int | None = None) -> Reader:
        """Open a blob, wherever it lies.

        Args:
            blob: the blob.
            start: first byte to read.
            length: number of bytes to read; None for all.

        Returns:
            A reader of the bytes.

        Raises:
            NotFound: the blob is in neither place (kind "base", with the version that had it).
            StoreError: the registry failed.
        """
        try:
            return self._store.fetch(blob, start, length)
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
    """Return the promises for the blobs of a version that a local store lacks.

    Args:
        store: the local store.
        digest: the version's digest.

    Returns:
        The promises; none if the store has every blob.

    Raises:
        NotFound: the store lacks the version.
    """
    if not isinstance(store, PartialIngest):
        return []
    promises = decode_promises(store.promises(digest))
    if not promises:
        return []
    _, data = store.get_manifest(digest)
    return promises if absent_blobs(store, read_graph(data, f"manifest {digest}").blobs) else []


def completed(store: Store, name: str, options: Access) -> Store:
    """Return the store to read a local version from.

    Args:
        store: the local store.
        name: tag or digest of the version.
        options: how to reach the registries that hold blobs which the store lacks.

    Returns:
        `store` itself if it has every blob, else an overlay over the registries.

    Raises:
        NotFound: the store lacks the version.
    """
    if not isinstance(store, PartialIngest):
        return store
    promises = promises_of(store, store.resolve(name).digest)
    return Overlay(store, promises, options.open) if promises else store
