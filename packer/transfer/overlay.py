"""Reads a version whose blobs lie partly in a local store and partly in a registry, as one store.

`packer.pack` on a base in a registry makes such versions. The promise beside their tag names the
registry.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from packer.errors import InvalidReference, NotFound
from packer.oci import Descriptor
from packer.reference import Reference, parse_location
from packer.stores.forwarding import Forwarding
from packer.stores.manifests import read_graph
from packer.stores.partial import PartialIngest
from packer.stores.protocols import Interruptible, Ranged, Reader, Store
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

    def lacks(self, blob: Descriptor) -> bool:
        """Return whether a blob is not in the local store, as `Completed`."""
        return not self._store.exists(blob)

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


class AtHand(Forwarding):
    """An archive whose left-out blobs are read from the versions that are said to have them.

    The places of the versions are the caller's: a name in an archive opens no connection.

    Args:
        near: the archive.
        promises: the versions that the archive says have its missing blobs.
        bases: the stores that may have these versions, asked in order.
    """

    def __init__(self, near: Store, promises: list[Promise], bases: Sequence[Store]) -> None:
        super().__init__(near)
        self._promises = promises
        self._bases = bases
        self._known: dict[str, frozenset[str] | None] = {}

    def fetch(self, blob: Descriptor, start: int = 0, length: int | None = None) -> Reader:
        """Open a blob of the archive, or of a version that is said to have it.

        Args:
            blob: the blob.
            start: first byte to read.
            length: number of bytes to read; None for all.

        Returns:
            A reader of the bytes.

        Raises:
            NotFound: the blob is not at hand, or the version that is said to have it does not name
                it (kind "base", with that version).
            StoreError: a registry failed.
        """
        try:
            return self._store.fetch(blob, start, length)
        except NotFound:
            promise = next((one for one in self._promises if blob.digest in one.blobs), None)
            if promise is None:
                why = f"{self.name} lacks it, and names no version that has it"
                raise NotFound("blob", blob.digest, why) from None
        named = self._blobs_of(promise)
        if named is not None and blob.digest not in named:
            why = f"{self.name} leaves out {blob.digest}, which this version does not name"
            raise NotFound("base", str(promise), why)
        for base in self._bases:
            try:
                return base.fetch(blob, start, length)
            except NotFound:
                continue
        where = " or ".join(base.name for base in self._bases)
        why = f"{self.name} leaves out {blob.digest}, which is not in {where}"
        raise NotFound("base", str(promise), why)

    def _blobs_of(self, promise: Promise) -> frozenset[str] | None:
        """Return the blobs that a promised version names; None if its manifest is not at hand."""
        if promise.digest and promise.digest not in self._known:
            found = None
            for base in self._bases:
                try:
                    _, data = base.get_manifest(promise.digest)
                except NotFound:
                    continue
                graph = read_graph(data, f"manifest {promise.digest}")
                found = frozenset(blob.digest for blob in graph.blobs)
                break
            self._known[promise.digest] = found
        return self._known.get(promise.digest)


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
