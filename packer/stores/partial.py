"""Protocols of stores that may lack blobs of their manifests: a *promise* names who has them.

A layout is such a store for versions packed on a base elsewhere, an archive for one that leaves out
what its reader was said to have.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import BinaryIO, NamedTuple, Protocol, runtime_checkable

from packer.oci import Descriptor


class Assembling(AbstractContextManager["Assembling"], Protocol):
    """A manifest and its blobs being written as one; a context manager that discards them."""

    @property
    def kept_all(self) -> bool:
        """Whether an earlier attempt had written everything."""

    def needs(self, blob: Descriptor) -> bool:
        """Return whether the blob must be pushed before `commit`."""

    def exists(self, blob: Descriptor) -> bool:
        """Return whether the blob is written."""

    def push(self, blob: Descriptor, source: BinaryIO) -> bool:
        """Write a blob as `Store.push` does; it is durable after `commit`."""

    def commit(self) -> None:
        """Store everything, durably.

        Raises:
            NotFound: a blob that `needs` was true of was not pushed.
        """


@runtime_checkable
class Promised(Protocol):
    """A store that may lack blobs of its manifests, if another place was said to have them."""

    def promises(self, digest: str) -> str | None:
        """Return who promised the missing blobs of the manifest `digest`, None if nobody did.

        The text is the annotation `packer.transfer.promises` encodes.
        """


@runtime_checkable
class PartialIngest(Promised, Protocol):
    """A store to pack versions into whose base keeps its blobs elsewhere."""

    def put_partial(
        self, data: bytes, media_type: str, tag: str | None, promises: str
    ) -> Descriptor:
        """Store a manifest as `Store.put_manifest` does; each blob is here or promised.

        Args:
            data: the exact bytes.
            media_type: its media type.
            tag: moved to this manifest if given. Without a tag the promises are not kept.
            promises: who has the missing blobs, as an annotation; kept beside the tag.

        Returns:
            The manifest's descriptor.

        Raises:
            NotFound: a blob is neither here nor promised.
        """


class Beside(NamedTuple):
    """A manifest that an archive gets in the same step as another one.

    Args:
        data: the exact bytes.
        media_type: its media type.
        tag: its tag; None for none.
        listed: whether index.json names it; a manifest within another one needs no entry.
    """

    data: bytes
    media_type: str
    tag: str | None
    listed: bool


class ArchiveSize(NamedTuple):
    """The size of an archive before it is written.

    Args:
        bytes: of all parts together.
        parts: number of parts; 1 if the archive is not split.
        needed: digests of the blobs that lie in parts an earlier attempt did not complete.
        complete: an earlier attempt had written everything.
    """

    bytes: int
    parts: int
    needed: frozenset[str]
    complete: bool


@runtime_checkable
class Partial(Promised, Protocol):
    """A store that is written as one, and may lack blobs that its reader was said to have."""

    def assemble(
        self,
        manifest: bytes,
        media_type: str,
        tag: str | None,
        blobs: Sequence[Descriptor],
        promises: str | None,
        *,
        beside: Sequence[Beside] = (),
    ) -> Assembling:
        """Begin to write a manifest and its blobs.

        Args:
            manifest: the exact bytes. Each blob it names is in the store, in `blobs`, or promised.
            media_type: of the manifest.
            tag: moved to the manifest if given.
            blobs: to be pushed to the assembly, as far as it `needs` them.
            promises: the annotation that says who has the blobs left out; None if none are.
            beside: further manifests, all of whose blobs are in the store or in `blobs`.

        Returns:
            The assembly; nothing of it is in the store before `commit`.

        Raises:
            InvalidParameter: `tag` is no tag, or nothing can be added to the store.
        """

    def measure(
        self,
        manifest: bytes,
        media_type: str,
        tag: str | None,
        blobs: Sequence[Descriptor],
        promises: str | None,
        *,
        beside: Sequence[Beside] = (),
    ) -> ArchiveSize:
        """Return what `assemble` of the same arguments would write; writes nothing.

        Parts of an earlier attempt are believed to hold what their list says: they are not read.

        Args:
            manifest: as for `assemble`.
            media_type: as for `assemble`.
            tag: as for `assemble`.
            blobs: as for `assemble`.
            promises: as for `assemble`.
            beside: as for `assemble`.

        Returns:
            Bytes, parts, and the blobs that would be needed.

        Raises:
            InvalidParameter: as `assemble`.
        """
