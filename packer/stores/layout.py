"""A store in a directory that is an OCI image layout: the embedded default.

    oci-layout                  the version of the layout
    index.json                  tags: descriptors with a ref.name annotation, newest last
    blobs/sha256/<hex>          blobs, manifests among them
    ingest/                     ours, other tools ignore it: files being written, the lock, and
                                what running writers need
    cache/                      ours: what can be computed again

Any number of threads and processes may use one directory. A blob appears whole (temporary file,
fsync, rename, fsync of the directory). Steps that must hold together (the manifest's blobs are
there, then it is named; nothing names a blob, then it is removed) happen under one lock,
``ingest/lock``; pushing and reading blobs never take it. Source: OCI image-spec 1.1
``image-layout.md``.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, BinaryIO

from packer.errors import DigestMismatch, NotFound, SizeMismatch
from packer.files.durable import (
    FileWriter,
    RangeReader,
    TempFile,
    open_regular,
    read_bounded,
)
from packer.oci import READ_BYTES, Descriptor, digest_of
from packer.stores.index_json import (
    Index,
    IndexedManifests,
    IndexFile,
    is_promised,
    with_entry,
    with_origin,
    with_tag,
)
from packer.stores.layout_directory import LayoutDirectory
from packer.stores.layout_use import record_use
from packer.stores.manifests import check_manifest, check_range, check_tag, reachable
from packer.stores.protocols import OnDisk, Reader, Store
from packer.stores.subjects import subject_of
from packer.stores.verifying import VerifyingReader

if TYPE_CHECKING:
    from packer.stores.layout_garbage import Garbage

_UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)
"""Errors of a file system that takes no new file."""


class LayoutStore(IndexedManifests):
    """An OCI image layout; implements Store, Ingest, PartialIngest, Tags, LocalBlobs and OnDisk.

    Layouts of other tools are read and added to; entries and files that are not ours are kept.
    Missing blobs and blobs that nothing names are legal, as the image-spec has it. A manifest is
    only stored when its blobs are there, or by `put_partial`, which records beside the tag who has
    the missing ones.

    Args:
        path: the directory.
        create: make a missing or empty directory a layout. Opening a layout that exists writes
            nothing, so one on a read-only disk can be read.
        late: make it when something is first written; until then, it is an empty store.
        durable: whether everything that is written is synced. If not, a system that crashes may
            lose or damage what was written in the last half minute or so, the tags among it.

    Raises:
        NotFound: there is no layout, and neither `create` nor `late` is given.
        InvalidParameter: `path` is a file, or a directory that holds something else.
        UnsupportedVersion: a layout of a later version.

    Thread safety: all methods may be called from any thread, and from any number of processes.
    """

    def __init__(
        self,
        path: str | bytes | os.PathLike[str] | os.PathLike[bytes],
        *,
        create: bool = True,
        late: bool = False,
        durable: bool = True,
    ) -> None:
        super().__init__()
        self._directory = LayoutDirectory(
            os.fsdecode(path), create=create, late=late, durable=durable
        )
        self._index = IndexFile(self._directory.index)

    @property
    def name(self) -> str:
        """The store's name in errors and logs."""
        return "oci:" + self.path.encode("utf-8", "backslashreplace").decode()

    @property
    def path(self) -> str:
        """The directory, absolute."""
        return self._directory.path

    @property
    def caches(self) -> str:
        """Directory for caches about the store's content, as `OnDisk`."""
        return os.path.join(self.path, "cache")

    # Blobs

    def exists(self, blob: Descriptor) -> bool:
        """Return whether the store has the blob, in the right size; its bytes are not read."""
        try:
            status = os.stat(self._directory.blob_path(blob.digest))
        except (FileNotFoundError, NotADirectoryError):
            return False
        return stat.S_ISREG(status.st_mode) and status.st_size == blob.size

    def open_file(self, blob: Descriptor) -> BinaryIO:
        """Open a blob for random access, as `LocalBlobs`.

        Args:
            blob: the blob.

        Returns:
            An unbuffered file; only its size is verified.

        Raises:
            NotFound: there is no such blob.
            SizeMismatch: the file has another size.
        """
        try:
            fd = open_regular(self._directory.blob_path(blob.digest))
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise NotFound("blob", blob.digest, self.name) from None
        size = os.fstat(fd).st_size
        if size != blob.size:
            os.close(fd)
            raise SizeMismatch(f"blob {blob.digest} in {self.name}", blob.size, size)
        return open(fd, "rb", buffering=0)

    def fetch(self, blob: Descriptor, start: int = 0, length: int | None = None) -> Reader:
        """Open a blob, or a range of it, as `Store.fetch`."""
        first, end = check_range(blob, start, length)
        file = self.open_file(blob)
        what = f"blob {blob.digest} in {self.name}"
        if start == 0 and length is None:
            return VerifyingReader(file, blob, what)
        return RangeReader(file, first, end, what)

    def push(self, blob: Descriptor, source: BinaryIO) -> bool:
        """Store a blob durably unless the store has it, as `Store.push`.

        A blob that is there in the right size is not read again; `discard` one that proved to be
        damaged before pushing it. A blob that is there in a wrong size is replaced.

        Args:
            blob: what the bytes must be.
            source: the bytes.

        Returns:
            False if the blob was there already.

        Raises:
            DigestMismatch: `source` has other bytes than `blob` says; nothing is stored.
            SizeMismatch: `source` has another length; nothing is stored.
        """
        if self._renew(blob):
            return False
        what = f"source of blob {blob.digest}"
        with self.create() as writer:
            while data := source.read(READ_BYTES):
                writer.write(data)
                if writer.size > blob.size:
                    break
            if writer.size != blob.size:
                raise SizeMismatch(what, blob.size, writer.size)
            if writer.digest != blob.digest:
                raise DigestMismatch(what, blob.digest, writer.digest)
            return writer.commit(blob.media_type)[1]

    def _renew(self, blob: Descriptor) -> bool:
        """Return whether the blob is there; if so, keep `collect_garbage` off it for a while."""
        if not self.exists(blob):
            return False
        try:
            os.utime(self._directory.blob_path(blob.digest))
        except FileNotFoundError:
            return False  # collected just now
        except OSError:
            pass  # read-only, or another user's: then its age counts from when it was written
        return True

    def create(self) -> FileWriter:
        """Open a writer for a new blob."""
        self._directory.prepare()
        return FileWriter(self._directory.temporary(), self._publish)

    def _publish(self, file: TempFile, blob: Descriptor) -> bool:
        """Give a written file its digest as name; return whether the blob was missing."""
        # A file of that name is replaced: it may be damaged, this one is not.
        is_new = not self.exists(blob)
        file.publish(self._directory.blob_path(blob.digest))
        return is_new

    def discard(self, blob: Descriptor) -> bool:
        """Remove a blob if its stored bytes are damaged, so that a push repairs it.

        The blob is read and hashed first: a sound one stays. Call this when reading raised an
        IntegrityError, then `push` the blob again.

        Args:
            blob: the blob.

        Returns:
            True if a damaged blob was removed, False if it is sound or missing.
        """
        path = self._directory.blob_path(blob.digest)
        try:
            fd = open_regular(path)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return False
        with open(fd, "rb", buffering=0) as file:
            actual = hashlib.sha256()
            while data := file.read(READ_BYTES):
                actual.update(data)
            if "sha256:" + actual.hexdigest() == blob.digest:
                return False
            self._directory.prepare()
            with self._directory.lock():
                # It may be repaired by now. The file being open, its number is not used again.
                try:
                    if not os.path.samestat(os.stat(path), os.fstat(fd)):
                        return False
                    os.unlink(path)
                except FileNotFoundError:
                    return False
                self._directory.sync_blobs()
        return True

    # Manifests and tags

    def _current_index(self) -> Index:
        """Return index.json as it is now."""
        return self._index.load()

    def _stored_size(self, digest: str) -> int | None:
        """Return the size of a blob's file, None if it is missing."""
        try:
            return os.stat(self._directory.blob_path(digest)).st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    def put_manifest(self, data: bytes, media_type: str, tag: str | None = None) -> Descriptor:
        """Store a manifest whose blobs are all in the store, durably, as `Store.put_manifest`.

        A manifest without a tag is found by its digest. It is in index.json only if it has a
        subject; else other tools do not see it, and `collect_garbage` removes it unless a manifest
        with a tag names it. One with a subject stays as long as the subject is needed. Blobs
        may be missing that another tag of the same manifest promises.

        Args:
            data: the exact bytes.
            media_type: its media type.
            tag: moved to this manifest if given.

        Returns:
            The manifest's descriptor.
        """
        return self._put_manifest(data, media_type, tag, None)

    def put_partial(
        self, data: bytes, media_type: str, tag: str | None, promises: str
    ) -> Descriptor:
        """Store a manifest whose blobs are here or promised, as `PartialIngest`."""
        return self._put_manifest(data, media_type, tag, promises)

    def _put_manifest(
        self, data: bytes, media_type: str, tag: str | None, promises: str | None
    ) -> Descriptor:
        """Store a manifest; `promises` may come from another tag of it."""
        if tag is not None:
            check_tag(tag)
        self._directory.prepare()
        with self._directory.lock():
            promises = promises or self.promises(digest_of(data))
            absent: list[Descriptor] = []

            def is_known(blob: Descriptor) -> bool:
                if self.exists(blob):
                    return True
                absent.append(blob)
                return is_promised(promises, blob)

            value = check_manifest(data, media_type, is_known, self.name)
            descriptor = Descriptor(media_type, digest_of(data), len(data))
            self._write_manifest(descriptor, data)
            if tag is not None:
                index = self._current_index()
                kept = promises if absent else None
                changed = with_tag(index, tag, descriptor, value.get("artifactType"), kept)
                if changed is not index.value:
                    self._directory.write_index(changed)
            elif subject_of(value, "manifest") is not None:
                index = self._current_index()
                changed = with_entry(index, descriptor, data, None, None)
                if changed is not index.value:
                    self._directory.write_index(changed)
        return descriptor

    def _write_manifest(self, descriptor: Descriptor, data: bytes) -> None:
        """Store a manifest's bytes, also in place of damaged ones; the lock is held."""
        path = self._directory.blob_path(descriptor.digest)
        if self._renew(descriptor) and read_bounded(path, len(data)) == data:
            # What is there may be another process's, renamed but not yet durable.
            self._directory.sync_blobs()
            return
        with self._directory.temporary() as file:
            file.write(data)
            file.publish(path)

    def untag(self, tag: str) -> None:
        """Remove a tag; the manifest and its blobs stay until `collect_garbage`.

        Args:
            tag: the tag.

        Raises:
            NotFound: there is no such tag.
        """
        if tag not in self._current_index().tags():
            raise NotFound("tag", tag, self.name)  # before anything is written
        self._directory.prepare()
        with self._directory.lock():
            index = self._current_index()
            kept = index.without(tag)
            if len(kept) == len(index.items):
                raise NotFound("tag", tag, self.name)
            self._directory.write_index({**index.value, "manifests": kept})

    # Origins

    def note_origin(self, tag: str, origin: str) -> None:
        """Record where the version of a tag was fetched from, and move the tag to the end.

        Args:
            tag: the tag.
            origin: a reference.

        Raises:
            NotFound: there is no such tag.
        """
        self._directory.prepare()
        with self._directory.lock():
            index = self._current_index()
            changed = with_origin(index, tag, origin)
            if changed is None:
                raise NotFound("tag", tag, self.name)
            if changed is not index.value:
                self._directory.write_index(changed)

    # Housekeeping

    @contextlib.contextmanager
    def in_use(self, blobs: Iterable[Descriptor] = ()) -> Iterator[None]:
        """Keep `collect_garbage` of all processes off what the block relies on.

        Until the block ends, these stay: each version that has a tag now, though another process
        may remove the tag; `blobs`; and each blob that is written from now on. A layout that cannot
        be written is used without a record: a pull may find all it needs there.

        Args:
            blobs: blobs that may be here without a name, and that the caller will name.

        Yields:
            Nothing, while the blobs are kept.

        Raises:
            OSError: the file system has no locks.
        """
        record = None
        try:
            self._directory.prepare()
            with self._directory.lock():
                named = self._current_index().descriptors
                record = record_use(self._directory.ingest, named, blobs)
        except OSError as error:
            if error.errno not in _UNWRITABLE:
                raise
        try:
            yield
        finally:
            if record is not None:
                record.discard()

    def collect_garbage(self, grace_seconds: float = 3600.0, *, dry_run: bool = False) -> Garbage:
        """Remove the blobs that no manifest in index.json needs, and leftover temporary files.

        What a running writer relies on stays; see `in_use`. Nothing is removed if a manifest in
        index.json is missing (NotFound) or damaged (IntegrityError): its needs are not known then.
        Repair or untag it first.

        Args:
            grace_seconds: blobs written, or pushed again, more recently than this stay: a process
                that does not say so by `in_use`, such as another tool, may be about to name them.
                If it takes longer, its `put_manifest` raises NotFound, and pushing again helps; a
                tag is never left without its blobs.
            dry_run: only count what would be removed.

        Returns:
            The numbers of blobs and files removed.
        """
        from packer.stores.layout_garbage import Garbage, collect  # few calls collect

        if self._directory.is_missing:
            return Garbage()
        self._directory.prepare()
        leftovers = self._directory.sweep(dry_run=dry_run)
        with self._directory.lock():
            index = self._current_index()
            needed, unneeded = self._needed_by((), index.descriptors)
            found = collect(
                self._directory,
                index,
                needed,
                unneeded,
                self._reach,
                grace_seconds=grace_seconds,
                dry_run=dry_run,
            )
        return found._replace(leftovers=leftovers[0], leftover_bytes=leftovers[1])

    def _reach(self, root: Descriptor) -> set[str]:
        """Return the digests of all blobs that a manifest needs, its own among them."""
        return reachable((root,), self._read_manifest, self.name)

    def needed(self) -> set[str]:
        """Return the digests of all blobs that the manifests in index.json need.

        What refers to a manifest is needed as long as the manifest is.

        Returns:
            Digests, of manifests too.

        Raises:
            NotFound: a manifest is missing.
            IntegrityError: a manifest is damaged.
        """
        return self._needed_by((), self._current_index().descriptors)[0]

    def blob_sizes(self) -> dict[str, int]:
        """Return the stored size of each blob, by digest, without looking at what needs it."""
        return {digest: status.st_size for digest, status in self._directory.blob_files()}


def lies_in(store: Store, folder: bytes) -> bool:
    """Return whether a store's directory is `folder` or lies below it; links are followed."""
    if not isinstance(store, OnDisk) or store.path is None:
        return False
    outside = os.path.realpath(folder)
    return os.path.commonpath((os.path.realpath(os.fsencode(store.path)), outside)) == outside


def caches_of(store: Store) -> str:
    """Return the directory for caches about a store's content, "" if it has none."""
    return store.caches if isinstance(store, OnDisk) else ""


def using(
    store: Store, blobs: Iterable[Descriptor] = ()
) -> contextlib.AbstractContextManager[None]:
    """Return a context that keeps garbage collection off a store, as `LayoutStore.in_use`.

    Args:
        store: a store that the block writes; one that collects no garbage is left alone.
        blobs: blobs that may be there without a name.

    Returns:
        The context.
    """
    return store.in_use(blobs) if isinstance(store, LayoutStore) else contextlib.nullcontext()
