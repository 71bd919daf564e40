"""The store interface, as small protocols, and the reader that verifies what a store returns.

A store holds *blobs* (addressed by descriptor) and *manifests* (addressed by digest, named by
tags). Capabilities beyond `Store` are protocols of their own (`Ingest`, `Tags`, `LocalBlobs`),
which callers test with ``isinstance``. All stores are safe to share between threads.

Invariants every implementation keeps (docs/architecture.md):

- `push` and `put_manifest` store nothing that differs from the descriptor or digest given;
- a blob is durable when `push` returns;
- a tag names only a manifest that is in the store.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import BinaryIO, Protocol, runtime_checkable

from packer.errors import DigestMismatch, SizeMismatch
from packer.oci import Descriptor

READ_BYTES = 256 << 10
"""How much is moved at a time between stores: what is read, hashed and written should still be in
the processor's cache. 1 MiB took a third more system time (a pull over loopback, 2 cores, 2026)."""


class Reader(Protocol):
    """Bytes of a blob, read once from front to back; a context manager."""

    def read(self, size: int = -1, /) -> bytes:
        """Return at most `size` bytes, b"" at the end."""

    def close(self) -> None:
        """Give back the file or connection."""

    def __enter__(self) -> Reader:
        """Return the reader."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the reader."""


@runtime_checkable
class Filler(Protocol):
    """A reader that can put bytes into memory that is used again, instead of making new objects."""

    def fill(self, buffer: memoryview, /) -> int:
        """Read as `Reader.read` does into `buffer`; return how many bytes, 0 at the end."""


@runtime_checkable
class Store(Protocol):
    """What every store can do."""

    @property
    def name(self) -> str:
        """How errors and logs name the store, without secrets."""

    def exists(self, blob: Descriptor) -> bool:
        """Tell whether the store has the blob (by digest and size)."""

    def fetch(self, blob: Descriptor, start: int = 0, length: int | None = None) -> Reader:
        """Open a blob, or `length` bytes of it from `start`.

        A whole blob is verified while it is read: `read` raises DigestMismatch or SizeMismatch in
        place of the final b"". A range is *not* verified; its users check the chunks inside.

        Raises:
            NotFound: there is no such blob.
        """

    def push(self, blob: Descriptor, source: BinaryIO) -> bool:
        """Store a blob, durably, if the store lacks it.

        Args:
            blob: what the bytes must be.
            source: read from front to back. A store that must begin again (a registry that lost
                the connection) calls `source.seek(0)`, the only seek it may use. What `source`
                raises passes through, and nothing is stored then.

        Returns:
            False if the blob was there already (`source` may then be unread).

        Raises:
            DigestMismatch, SizeMismatch: `source` is not what `blob` says; nothing is stored.
        """

    def get_manifest(self, reference: str) -> tuple[Descriptor, bytes]:
        """Return a manifest's descriptor and exact bytes, verified.

        Args:
            reference: a tag or a digest.

        Raises:
            NotFound: there is no such tag or manifest.
        """

    def resolve(self, reference: str) -> Descriptor:
        """Return the descriptor a tag or digest stands for, without reading the manifest."""

    def put_manifest(self, data: bytes, media_type: str, tag: str | None = None) -> Descriptor:
        """Store a manifest whose blobs are all in the store, and name it.

        Args:
            data: the exact bytes.
            media_type: its media type.
            tag: moved to this manifest if given.

        Raises:
            NotFound: a blob that the manifest names is missing (kind "blob").
        """


@runtime_checkable
class Ingest(Protocol):
    """A store that takes blobs whose digest is known only at the end."""

    def create(self) -> BlobWriter:
        """Open a writer for a new blob."""


@runtime_checkable
class Upload(Protocol):
    """A store where asking whether a blob is there costs about as much as sending a small one."""

    def upload(self, blob: Descriptor, source: BinaryIO) -> None:
        """Store a blob as `Store.push` does, but without asking for it first.

        Also repairs a blob that the store says it has and cannot give back.
        """

    def expect_writes(self) -> None:
        """Say that blobs will be written, so that the right to do so is asked for at once."""


@runtime_checkable
class Repairable(Protocol):
    """A store that can find out what is damaged in it."""

    def discard(self, blob: Descriptor) -> bool:
        """Read a blob and remove it if it is damaged, so that a push repairs it; tell whether."""


@runtime_checkable
class Mounter(Protocol):
    """A store that may take blobs over from others beside it, so that their bytes need not move."""

    @property
    def registry(self) -> str:
        """Host of the registry, as references name it."""

    @property
    def repository(self) -> str:
        """Name of the store in its registry."""

    def neighbour(self, other: object) -> str | None:
        """Return the repository that another store is, None unless it is of the same registry."""

    def upload_or_mount(self, blob: Descriptor, source: BinaryIO, repository: str) -> bool:
        """Store a blob as `Upload.upload` does, or by mounting it.

        Args:
            blob: what the bytes must be.
            source: as for `Store.push`; read only if the blob is not mounted.
            repository: that is said to have the blob.

        Returns:
            False if it was mounted. That is the registry's claim, as that of `Store.exists`.
        """

    def mount(self, blob: Descriptor, repository: str) -> bool:
        """Mount a blob whose bytes are not at hand; False if the registry does not."""


@runtime_checkable
class Interruptible(Protocol):
    """A store whose calls wait for others, and can be made to end at once."""

    def interrupt(self) -> None:
        """Make calls that wait raise TransportError, also in other threads, until `resume`."""

    def resume(self) -> None:
        """Go back to normal."""


@runtime_checkable
class Ranged(Protocol):
    """A store that may turn out to give out whole blobs alone."""

    @property
    def ignores_ranges(self) -> bool:
        """Whether it sent a whole blob when it was asked for a part."""


class BlobWriter(Protocol):
    """A blob being written; a context manager that discards it unless `commit` was called."""

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        """Append `data` and return its length in bytes."""

    def commit(self, media_type: str) -> tuple[Descriptor, bool]:
        """Make the blob durable; return its descriptor and whether it is new to the store."""

    def __enter__(self) -> BlobWriter:
        """Return the writer."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Discard what was not committed."""


@runtime_checkable
class Tags(Protocol):
    """A store that can list its tags."""

    def tags(self) -> Iterator[tuple[str, Descriptor]]:
        """Yield tags and what they name; a layout yields the one tagged last at the end."""

    def untag(self, tag: str) -> None:
        """Remove a tag; the manifest and its blobs stay.

        Raises:
            NotFound: there is no such tag.
        """


@runtime_checkable
class TagNames(Protocol):
    """A store that can list its tags' names more cheaply than what they name."""

    def tag_names(self) -> Iterator[str]:
        """Yield the names of all tags."""


@runtime_checkable
class ManifestDeleter(Protocol):
    """A store that removes manifests by digest, and with one the tags that name it."""

    def delete_manifest(self, digest: str) -> None:
        """Remove a manifest and all tags that name it; its blobs stay until they are collected.

        Raises:
            NotFound: there is no such manifest.
            RegistryError: the registry does not delete (status 405), or forbids it.
        """


@runtime_checkable
class LocalBlobs(Protocol):
    """A store whose blobs can be opened for random access, at no cost worth counting."""

    def open_file(self, blob: Descriptor) -> BinaryIO:
        """Open a blob for reading, unbuffered, positioned at 0; *not* verified but for its size.

        The file stays readable if the blob is removed meanwhile. A store on disk returns a file
        with a ``fileno`` for ``os.pread``, an archive a `Positioned` file; one in memory returns a
        file without either.

        Raises:
            NotFound: there is no such blob.
            SizeMismatch: it is stored with another size.
        """


@runtime_checkable
class Positioned(Protocol):
    """A file within another, which any thread may read from anywhere."""

    def pread(self, length: int, offset: int) -> bytes:
        """Return up to `length` bytes from `offset`."""


class Assembling(Protocol):
    """A manifest and its blobs being written at once; a context manager that discards them."""

    @property
    def kept_all(self) -> bool:
        """Whether an earlier attempt had written everything."""

    def needs(self, blob: Descriptor) -> bool:
        """Tell whether the blob must be pushed."""

    def exists(self, blob: Descriptor) -> bool:
        """Tell whether the blob is written."""

    def push(self, blob: Descriptor, source: BinaryIO) -> bool:
        """Write a blob as `Store.push` does; it is durable after `commit`."""

    def commit(self) -> None:
        """Store everything, durably."""

    def __enter__(self) -> Assembling:
        """Return the assembly."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Discard what was not committed."""


@runtime_checkable
class Promised(Protocol):
    """A store that may lack blobs its manifests name, if another place was said to have them."""

    def promises(self, digest: str) -> str | None:
        """Return who promised the blobs that a manifest lacks, as an annotation."""


@runtime_checkable
class PartialIngest(Promised, Protocol):
    """A store that versions are packed into, on a base whose blobs stay where they are."""

    def put_partial(
        self, data: bytes, media_type: str, tag: str | None, promises: str
    ) -> Descriptor:
        """Store a manifest as `put_manifest` does, whose blobs are here or promised.

        Args:
            data: the exact bytes.
            media_type: its media type.
            tag: moved to this manifest if given.
            promises: who has the blobs that are missing, as an annotation; kept with the tag.
        """


@dataclass(frozen=True, slots=True)
class ArchiveSize:
    """How large an archive will be.

    Args:
        bytes: of all parts together.
        parts: into how many it is split; 1 if it is not.
        needed: digests of blobs that are not in parts an earlier attempt completed.
        complete: an earlier attempt had written everything.
    """

    bytes: int
    parts: int
    needed: frozenset[str]
    complete: bool


@runtime_checkable
class Partial(Promised, Protocol):
    """A store written at once, which may lack blobs that the other side was said to have."""

    def assemble(
        self,
        manifest: bytes,
        media_type: str,
        tag: str | None,
        blobs: Sequence[Descriptor],
        promises: str | None,
    ) -> Assembling:
        """Begin to write a manifest and `blobs`, with the annotation of those left out."""

    def measure(
        self,
        manifest: bytes,
        media_type: str,
        tag: str | None,
        blobs: Sequence[Descriptor],
        promises: str | None,
    ) -> ArchiveSize:
        """Return what `assemble` would write; the parts that are there are not read."""


class VerifyingReader:
    """Wraps a raw stream of a whole blob and checks size and digest at its end.

    Source: image-spec ``descriptor.md``, "Verification": size first, then digest.
    """

    def __init__(self, raw: BinaryIO, blob: Descriptor, what: str) -> None:
        self._raw = raw
        self._blob = blob
        self._what = what
        self._hash = hashlib.sha256()
        self._seen = 0
        self._done = False

    def read(self, size: int = -1, /) -> bytes:
        """Return at most `size` bytes (all that remain if negative).

        Raises:
            SizeMismatch: more or fewer bytes came than the descriptor says.
            DigestMismatch: the bytes are not the blob's.
        """
        if size < 0:
            return b"".join(iter(lambda: self.read(READ_BYTES), b""))
        if size == 0 or self._done:
            return b""
        data = self._raw.read(size)
        self._seen += len(data)
        if self._seen > self._blob.size or (not data and self._seen < self._blob.size):
            raise SizeMismatch(self._what, self._blob.size, self._seen)
        self._hash.update(data)
        if not data:
            self._done = True
            actual = "sha256:" + self._hash.hexdigest()
            if actual != self._blob.digest:
                raise DigestMismatch(self._what, self._blob.digest, actual)
        return data

    def close(self) -> None:
        """Close the raw stream."""
        self._raw.close()

    def __enter__(self) -> VerifyingReader:
        """Return the reader."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the reader."""
        self.close()


def read_blob(store: Store, blob: Descriptor, limit: int) -> bytes:
    """Return a whole blob, verified.

    Args:
        store: where it is.
        blob: its descriptor.
        limit: greatest size in bytes to hold in memory.

    Raises:
        SizeMismatch: the descriptor claims more than `limit`.
        NotFound, DigestMismatch: as `Store.fetch`.
    """
    if blob.size > limit:
        raise SizeMismatch(f"blob {blob.digest} (limit)", limit, blob.size)
    with store.fetch(blob) as reader:
        return reader.read()
