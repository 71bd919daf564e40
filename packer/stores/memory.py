"""A store in memory: for tests, and for versions that never need a disk."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from types import TracebackType
from typing import BinaryIO

from packer.errors import DigestMismatch, NotFound, SizeMismatch
from packer.forks import Lock
from packer.oci import READ_BYTES, Descriptor, digest_of, is_digest
from packer.stores.index_json import is_promised
from packer.stores.manifests import check_manifest, check_range, check_tag
from packer.stores.protocols import Reader
from packer.stores.subjects import as_referrer, check_count, subject_of
from packer.stores.verifying import VerifyingReader


class MemoryStore:
    """Blobs in a dictionary; implements Store, Ingest, PartialIngest, Tags and LocalBlobs.

    Thread safety: all methods may be called from any thread.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._blobs: dict[str, bytes] = {}
        self._manifests: dict[str, str] = {}  # digest -> media type
        self._tags: dict[str, Descriptor] = {}  # in the order they were moved
        self._promises: dict[str, str] = {}  # digest of a manifest -> who has what it lacks
        self._referrers: dict[str, dict[str, Descriptor]] = {}  # by subject, then by digest

    @property
    def name(self) -> str:
        """The store's name in errors and logs."""
        return "memory"

    def _get(self, blob: Descriptor) -> bytes:
        """Return the stored bytes, of the right number."""
        data = self._blobs.get(blob.digest)
        if data is None:
            raise NotFound("blob", blob.digest, self.name)
        if len(data) != blob.size:
            raise SizeMismatch(f"blob {blob.digest} in {self.name}", blob.size, len(data))
        return data

    def exists(self, blob: Descriptor) -> bool:
        """Return whether the store has the blob, in the right size."""
        data = self._blobs.get(blob.digest)
        return data is not None and len(data) == blob.size

    def fetch(self, blob: Descriptor, start: int = 0, length: int | None = None) -> Reader:
        """Open a blob, or a range of it, as `Store.fetch`."""
        first, end = check_range(blob, start, length)
        data = self._get(blob)
        if start == 0 and length is None:
            return VerifyingReader(io.BytesIO(data), blob, f"blob {blob.digest} in {self.name}")
        return io.BytesIO(data[first:end])

    def open_file(self, blob: Descriptor) -> BinaryIO:
        """Open a blob for random access, as `LocalBlobs`."""
        return io.BytesIO(self._get(blob))

    def push(self, blob: Descriptor, source: BinaryIO) -> bool:
        """Store a blob unless the store has it, as `Store.push`.

        Args:
            blob: what the bytes must be.
            source: the bytes.

        Returns:
            False if the blob was there already.

        Raises:
            DigestMismatch: `source` has other bytes than `blob` says; nothing is stored.
            SizeMismatch: `source` has another length; nothing is stored.
        """
        if self.exists(blob):
            return False
        what = f"source of blob {blob.digest}"
        parts: list[bytes] = []
        seen = 0
        while data := source.read(READ_BYTES):
            seen += len(data)
            if seen > blob.size:
                raise SizeMismatch(what, blob.size, seen)
            parts.append(bytes(data))
        if seen != blob.size:
            raise SizeMismatch(what, blob.size, seen)
        whole = b"".join(parts)
        actual = digest_of(whole)
        if actual != blob.digest:
            raise DigestMismatch(what, blob.digest, actual)
        return self._keep(blob.digest, whole)

    def _keep(self, digest: str, data: bytes) -> bool:
        """Store bytes known to have `digest`, replacing others; return whether they are new."""
        with self._lock:
            is_new = len(self._blobs.get(digest, b"")) != len(data) or digest not in self._blobs
            self._blobs[digest] = data
            return is_new

    def create(self) -> MemoryWriter:
        """Open a writer for a new blob."""
        return MemoryWriter(self)

    def discard(self, blob: Descriptor) -> bool:
        """Remove a blob if it is damaged, so that a push repairs it, as `Repairable`."""
        with self._lock:
            data = self._blobs.get(blob.digest)
            if data is None or digest_of(data) == blob.digest:
                return False
            del self._blobs[blob.digest]
            return True

    def get_manifest(self, reference: str) -> tuple[Descriptor, bytes]:
        """Return a manifest's descriptor and exact bytes, as `Store.get_manifest`.

        Args:
            reference: a tag or a digest.

        Returns:
            The descriptor and the bytes, verified.

        Raises:
            NotFound: there is no such tag or manifest.
        """
        descriptor = self.resolve(reference)
        try:
            with self.fetch(descriptor) as reader:
                return descriptor, reader.read()
        except NotFound:
            raise NotFound("manifest", descriptor.digest, self.name) from None

    def resolve(self, reference: str) -> Descriptor:
        """Return the descriptor that a tag or digest names, as `Store.resolve`.

        Args:
            reference: a tag or a digest.

        Returns:
            The descriptor.

        Raises:
            NotFound: there is no such tag or manifest.
        """
        with self._lock:
            if not is_digest(reference):
                if reference not in self._tags:
                    raise NotFound("tag", reference, self.name)
                return self._tags[reference]
            if reference not in self._manifests or reference not in self._blobs:
                raise NotFound("manifest", reference, self.name)
            size = len(self._blobs[reference])
            return Descriptor(self._manifests[reference], reference, size)

    def put_manifest(self, data: bytes, media_type: str, tag: str | None = None) -> Descriptor:
        """Store a manifest whose blobs are all in the store, as `Store.put_manifest`."""
        return self._put_manifest(data, media_type, tag, None)

    def put_partial(
        self, data: bytes, media_type: str, tag: str | None, promises: str
    ) -> Descriptor:
        """Store a manifest whose blobs are here or promised, as `PartialIngest`."""
        return self._put_manifest(data, media_type, tag, promises)

    def promises(self, digest: str) -> str | None:
        """Return who promised the missing blobs of the manifest `digest`, as `Promised`."""
        return self._promises.get(digest)

    def _put_manifest(
        self, data: bytes, media_type: str, tag: str | None, promises: str | None
    ) -> Descriptor:
        if tag is not None:
            check_tag(tag)
        data = bytes(data)
        descriptor = Descriptor(media_type, digest_of(data), len(data))
        promises = promises or self._promises.get(descriptor.digest)

        def is_known(blob: Descriptor) -> bool:
            return self.exists(blob) or is_promised(promises, blob)

        value = check_manifest(data, media_type, is_known, self.name)
        subject = subject_of(value, "manifest")
        with self._lock:
            if subject is not None:
                referrer = as_referrer(data, media_type, "manifest")
                self._referrers.setdefault(subject.digest, {})[referrer.digest] = referrer
            if tag is not None and promises is not None:
                self._promises[descriptor.digest] = promises
            self._blobs[descriptor.digest] = data
            self._manifests[descriptor.digest] = media_type
            if tag is not None:
                self._tags.pop(tag, None)
                self._tags[tag] = descriptor
        return descriptor

    def referrers(self, digest: str) -> tuple[Descriptor, ...]:
        """Return what refers to a manifest, as `Store.referrers`."""
        with self._lock:
            found = tuple(self._referrers.get(digest, {}).values())
        check_count(len(found), f"referrers of {digest} in {self.name}")
        return found

    def tags(self) -> Iterator[tuple[str, Descriptor]]:
        """Yield each tag with its manifest's descriptor, the one moved last at the end."""
        with self._lock:
            found = list(self._tags.items())
        yield from found

    def untag(self, tag: str) -> None:
        """Remove a tag; the manifest and its blobs stay.

        Args:
            tag: the tag.

        Raises:
            NotFound: there is no such tag.
        """
        with self._lock:
            if self._tags.pop(tag, None) is None:
                raise NotFound("tag", tag, self.name)


class MemoryWriter:
    """A blob being written to a MemoryStore, as `BlobWriter`.

    Args:
        store: takes the blob.
    """

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._parts: list[bytes] | None = []
        self._hash = hashlib.sha256()

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        """Append `data`.

        Args:
            data: bytes, copied.

        Returns:
            Its length in bytes.

        Raises:
            ValueError: the blob is committed or discarded.
        """
        if self._parts is None:
            raise ValueError("write to a blob that is committed or discarded")
        copy = bytes(data)
        self._hash.update(copy)
        self._parts.append(copy)
        return len(copy)

    def commit(self, media_type: str) -> tuple[Descriptor, bool]:
        """Store the blob.

        Args:
            media_type: for the descriptor.

        Returns:
            The blob's descriptor, and whether the blob is new to the store.

        Raises:
            ValueError: the blob is committed or discarded.
        """
        if self._parts is None:
            raise ValueError("commit of a blob that is committed or discarded")
        data = b"".join(self._parts)
        self._parts = None
        descriptor = Descriptor(media_type, "sha256:" + self._hash.hexdigest(), len(data))
        return descriptor, self._store._keep(descriptor.digest, data)

    def __enter__(self) -> MemoryWriter:
        """Return the writer."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Discard what was not committed."""
        self._parts = None
