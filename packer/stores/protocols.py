"""The store interface, as small protocols.

A store holds *blobs* (addressed by descriptor) and *manifests* (addressed by digest, named by
tags). What only some stores can do is a protocol of its own (`Ingest`, `Tags`, `LocalBlobs`), which
callers test with ``isinstance``. `packer.stores.partial` has those of stores that may lack blobs.
Threads may share every store.

Invariants that every store keeps (docs/architecture.md):

- `push` and `put_manifest` store nothing that differs from the given descriptor or digest;
- a blob is durable when `push` returns;
- a tag names only a manifest that is in the store;
- a manifest that was put with a ``subject`` is among the subject's `referrers`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import BinaryIO, Protocol, runtime_checkable

from packer.errors import SizeMismatch
from packer.oci import Descriptor


class Reader(AbstractContextManager["Reader"], Protocol):
    """Bytes of a blob, read once from front to back; a context manager."""

    def read(self, size: int = -1, /) -> bytes:
        """Return at most `size` bytes, b"" at the end."""

    def close(self) -> None:
        """Close the file, or return the connection."""


@runtime_checkable
class Filler(Protocol):
    """A reader that can fill a buffer of the caller's, which avoids a new object for each read."""

    def fill(self, buffer: memoryview, /) -> int:
        """Read into `buffer` as `Reader.read` does; return the number of bytes, 0 at the end."""


@runtime_checkable
class Store(Protocol):
    """What every store can do."""

    @property
    def name(self) -> str:
        """The store's name in errors and logs, without secrets."""

    def exists(self, blob: Descriptor) -> bool:
        """Return whether the store has a blob of this digest and size; its bytes are not read."""

    def fetch(self, blob: Descriptor, start: int = 0, length: int | None = None) -> Reader:
        """Open a blob, or `length` bytes of it from `start`.

        A whole blob is verified while it is read: the read that would return the final b"" raises
        DigestMismatch or SizeMismatch instead. A range is *not* verified; its users check the
        chunks in it.

        Args:
            blob: the blob.
            start: first byte, from 0.
            length: in bytes; None reads to the end of the blob.

        Returns:
            A reader, to be closed.

        Raises:
            NotFound: there is no such blob.
            SizeMismatch: the range does not lie in the blob.
        """

    def push(self, blob: Descriptor, source: BinaryIO) -> bool:
        """Store a blob, durably, unless the store has it.

        Args:
            blob: what the bytes must be.
            source: read from front to back. A store that must begin again (a registry that lost
                the connection) calls `source.seek(0)`, the only seek it may use. What `source`
                raises passes through; nothing is stored then.

        Returns:
            False if the blob was there already (`source` may then be unread).

        Raises:
            DigestMismatch: `source` has other bytes than `blob` says; nothing is stored.
            SizeMismatch: `source` has another length; nothing is stored.
        """

    def get_manifest(self, reference: str) -> tuple[Descriptor, bytes]:
        """Return a manifest's descriptor and exact bytes, verified.

        Args:
            reference: a tag or a digest.

        Returns:
            The descriptor (media type, digest, size) and the bytes.

        Raises:
            NotFound: there is no such tag or manifest.
        """

    def resolve(self, reference: str) -> Descriptor:
        """Return the descriptor that a tag or digest names, without reading the manifest.

        Args:
            reference: a tag or a digest.

        Returns:
            The descriptor. A registry's is its claim; `get_manifest` of the digest proves it.

        Raises:
            NotFound: there is no such tag or manifest.
        """

    def put_manifest(self, data: bytes, media_type: str, tag: str | None = None) -> Descriptor:
        """Store a manifest whose blobs are all in the store, durably, and name it.

        Args:
            data: the exact bytes.
            media_type: its media type.
            tag: moved to this manifest if given.

        Returns:
            The manifest's descriptor.

        Raises:
            NotFound: a blob that the manifest names is missing (kind "blob").
            FormatError: `data` is no manifest.
            InvalidParameter: `tag` is no tag, or `media_type` contradicts the manifest.
        """

    def referrers(self, digest: str) -> tuple[Descriptor, ...]:
        """Return the manifests whose ``subject`` is the manifest `digest`.

        Neither it nor what refers to it need be in the store. What attaches by its tag alone, as
        cosign's ``sha256-<hex>.sig``, is not listed: `packer.stores.referrers` finds both.

        Args:
            digest: of a manifest.

        Returns:
            Descriptors with artifact type and annotations, each digest once, in the store's order.
            A registry's are its claim; `get_manifest` of a digest proves the bytes, and the
            ``subject`` in them proves the reference.

        Raises:
            FormatError: more than `packer.stores.subjects.MAX_REFERRERS`, or a malformed list.
            RegistryError: the same, of a registry's API.
        """


@runtime_checkable
class Ingest(Protocol):
    """A store that takes blobs whose digest is known only at the end."""

    def create(self) -> BlobWriter:
        """Open a writer for a new blob."""


@runtime_checkable
class OnDisk(Protocol):
    """A store in a directory of its own, or a wrapper of a store that may be one."""

    @property
    def path(self) -> str | None:
        """The directory, absolute; None if the wrapped store has none."""

    @property
    def caches(self) -> str:
        """Directory for caches about the store's content, which anybody may remove; "" for none."""


@runtime_checkable
class Upload(Protocol):
    """A store where asking for a blob costs about as much as sending a small one."""

    def upload(self, blob: Descriptor, source: BinaryIO) -> None:
        """Store a blob as `Store.push` does, without asking for it first.

        This also repairs a blob that the store claims to have but cannot return.

        Args:
            blob: what the bytes must be.
            source: as for `Store.push`.
        """

    def expect_writes(self) -> None:
        """Announce that blobs will be written: the first token asked for then allows it."""


@runtime_checkable
class Repairable(Protocol):
    """A store that can find out which of its blobs are damaged."""

    def discard(self, blob: Descriptor) -> bool:
        """Read a blob and remove it if it is damaged, so that a push repairs it.

        Args:
            blob: the blob, by its digest; a stored one of another size counts as damaged.

        Returns:
            True if a damaged blob was removed, False if it is sound or missing.
        """


@runtime_checkable
class Mounter(Protocol):
    """A store that can take blobs over from stores beside it, without their bytes."""

    @property
    def registry(self) -> str:
        """Host of the registry, as references name it."""

    @property
    def repository(self) -> str:
        """Name of the store in its registry."""

    def neighbour(self, other: object) -> str | None:
        """Return the name of another repository of the same registry, None for other stores."""

    def upload_or_mount(self, blob: Descriptor, source: BinaryIO, repository: str) -> bool:
        """Store a blob by mounting it, or as `Upload.upload` does if the registry refuses.

        Args:
            blob: what the bytes must be.
            source: as for `Store.push`; read only if the blob is not mounted.
            repository: repository of the same registry that is said to have the blob.

        Returns:
            True if the bytes were sent, False if the blob was mounted. A mount is the registry's
            claim, as the answer of `Store.exists` is.
        """

    def mount(self, blob: Descriptor, repository: str) -> bool:
        """Mount a blob whose bytes are not at hand.

        Args:
            blob: the blob.
            repository: as for `upload_or_mount`.

        Returns:
            False if the registry does not mount it.
        """


@runtime_checkable
class Interruptible(Protocol):
    """A store whose calls wait for others, and can be made to end at once."""

    def interrupt(self) -> None:
        """Make calls that wait raise TransportError, in all threads, until `resume`."""

    def resume(self) -> None:
        """Allow calls again."""


@runtime_checkable
class Ranged(Protocol):
    """A store that may send whole blobs only."""

    @property
    def ignores_ranges(self) -> bool:
        """Whether it sent a whole blob when it was asked for a part."""


class BlobWriter(AbstractContextManager["BlobWriter"], Protocol):
    """A blob being written; a context manager that discards it unless `commit` was called."""

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        """Append `data` and return its length in bytes."""

    def commit(self, media_type: str) -> tuple[Descriptor, bool]:
        """Make the blob durable.

        Args:
            media_type: for the descriptor; the store does not keep it.

        Returns:
            The blob's descriptor, and whether the blob is new to the store.
        """


@runtime_checkable
class Tags(Protocol):
    """A store that can list its tags."""

    def tags(self) -> Iterator[tuple[str, Descriptor]]:
        """Yield each tag with its manifest's descriptor; local stores yield the newest last."""

    def untag(self, tag: str) -> None:
        """Remove a tag; the manifest and its blobs stay.

        Args:
            tag: the tag.

        Raises:
            NotFound: there is no such tag.
        """


@runtime_checkable
class TagNames(Protocol):
    """A store where listing the names of tags is cheaper than resolving them."""

    def tag_names(self) -> Iterator[str]:
        """Yield the names of all tags."""


@runtime_checkable
class ManifestDeleter(Protocol):
    """A store that removes a manifest by its digest, and with it the tags that name it."""

    def delete_manifest(self, digest: str) -> None:
        """Remove a manifest and all tags that name it; its blobs stay until they are collected.

        Args:
            digest: of the manifest.

        Raises:
            NotFound: there is no such manifest.
            RegistryError: the registry does not delete (status 405), or forbids it.
        """


@runtime_checkable
class LocalBlobs(Protocol):
    """A store whose blobs can be opened for random access at no cost worth counting."""

    def open_file(self, blob: Descriptor) -> BinaryIO:
        """Open a blob for reading, unbuffered, positioned at 0; only its size is verified.

        The file stays readable if the blob is removed meanwhile.

        Args:
            blob: the blob.

        Returns:
            From a store on disk a file with a ``fileno`` for ``os.pread``, from an archive a
            `Positioned` file, from memory a file with neither.

        Raises:
            NotFound: there is no such blob.
            SizeMismatch: it is stored with another size.
        """


@runtime_checkable
class Completed(Protocol):
    """A store that reads the blobs it lacks from other places."""

    def lacks(self, blob: Descriptor) -> bool:
        """Return whether reading a blob would take another place; asks none."""


@runtime_checkable
class Positioned(Protocol):
    """A file within another one, which any thread may read from anywhere."""

    def pread(self, length: int, offset: int) -> bytes:
        """Return up to `length` bytes from `offset`."""


def read_blob(store: Store, blob: Descriptor, limit: int) -> bytes:
    """Return a whole blob, verified; what `Store.fetch` raises passes through.

    Args:
        store: the store that has it.
        blob: its descriptor.
        limit: greatest size in bytes to hold in memory.

    Returns:
        The blob's bytes.

    Raises:
        SizeMismatch: the descriptor claims more than `limit`.
    """
    if blob.size > limit:
        raise SizeMismatch(f"blob {blob.digest} (limit)", limit, blob.size)
    with store.fetch(blob) as reader:
        return reader.read()
