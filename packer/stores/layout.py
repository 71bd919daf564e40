"""A store in a directory that is an OCI image layout: the embedded default.

    oci-layout                  the version of the layout
    index.json                  tags: descriptors with a ref.name annotation, newest last
    blobs/sha256/<hex>          blobs, manifests among them
    ingest/                     ours, other tools ignore it: files being written, and the lock

Any number of threads and processes may use one directory. A blob appears whole (temporary file,
fsync, rename, fsync of the directory). What must hold together (a manifest's blobs are there, then
it is named; what nothing names is removed) happens under one lock, ``ingest/lock``; pushing and
reading blobs never take it. Source: OCI image-spec 1.1 ``image-layout.md``.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import time
from collections.abc import Iterator
from typing import Any, BinaryIO

from packer.errors import (
    DigestMismatch,
    FormatError,
    InvalidParameter,
    NotFound,
    SizeMismatch,
    UnsupportedVersion,
)
from packer.files.durable import (
    FileWriter,
    RangeReader,
    TempFile,
    locked,
    make_directory,
    open_regular,
    read_bounded,
    sweep,
    sync_directory,
)
from packer.oci import MAX_MANIFEST_BYTES, Descriptor, digest_of, is_digest, load_json
from packer.stores.manifests import (
    check_manifest,
    check_range,
    check_tag,
    media_type_of,
    reachable,
)
from packer.stores.protocols import READ_BYTES, Reader, Store, VerifyingReader
from packer.stores.tags import PROMISED, REF_NAME, encode_index, is_promised, load_index

_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_EMPTY_INDEX = b'{"schemaVersion":2,"manifests":[]}'
_HEX = re.compile(r"[0-9a-f]{64}\Z")


class LayoutStore:
    """An OCI image layout; implements Store, Ingest, PartialIngest, Tags and LocalBlobs.

    Layouts of other tools are read and added to; entries and files that are not ours are kept.
    Missing blobs and blobs that nothing names are legal, as the image-spec has it. A manifest is
    only stored when its blobs are there, or by `put_partial`, which notes beside the tag who has
    those that are not.

    Args:
        path: the directory.
        create: make a missing or empty directory a layout. Opening a layout that exists writes
            nothing, so one on a read-only disk can be read.
        late: make it when something is first written; until then, it is an empty store.

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
    ) -> None:
        self._path = os.path.abspath(os.fsdecode(path))
        self._blobs = os.path.join(self._path, "blobs", "sha256")
        self._ingest = os.path.join(self._path, "ingest")
        self._index = os.path.join(self._path, "index.json")
        self._is_writable = False  # directories made, leftovers swept
        self._is_missing = False  # and made when something is written
        marker = self._marker = os.path.join(self._path, "oci-layout")
        if not os.path.lexists(marker):
            self._is_missing = not self._is_there() and late
            if self._is_missing:
                return
            self._create(create)
        found = load_json(read_bounded(marker, 4096), marker).get("imageLayoutVersion")
        if not isinstance(found, str) or not found.startswith("1."):
            raise UnsupportedVersion(f"{marker}: image layout version {found!r} is not 1.x")

    def _is_there(self) -> bool:
        """Tell whether another process has just made the layout; if not, it may be made here."""
        try:
            others = set(os.listdir(self._path)) - {"ingest"}
        except FileNotFoundError:
            others = set()
        except NotADirectoryError:
            if os.path.lexists(self._path):
                raise InvalidParameter(
                    f"{self._path} is not a directory, so no image layout"
                ) from None
            others = set()  # a parent is a file, as with HOME=/dev/null
        if os.path.lexists(self._marker):
            return True
        if others:
            raise InvalidParameter(
                f"{self._path} is not empty and no OCI image layout (it has no file oci-layout)"
            )
        return False

    def _create(self, create: bool) -> None:
        """Make the directory a layout, or say why not."""
        if self._is_there():
            return
        if not create:
            raise NotFound("image layout", self._path, "no file oci-layout there")
        # Only ingest/ may exist before the marker does: one who finds less than a layout after a
        # crash, or while another process is at this very place, can tell it from a stranger's.
        make_directory(self._ingest)
        with self._lock(), TempFile(self._ingest) as file:
            if not os.path.lexists(self._marker):
                file.write(_LAYOUT)
                file.publish(self._marker)
        self._is_missing = False
        self._prepare()

    def _prepare(self) -> None:
        """Before the first write: make missing directories and index.json, sweep leftovers."""
        if self._is_writable:
            return
        if self._is_missing:
            self._create(True)
            self._is_missing = False
        make_directory(self._ingest)
        make_directory(self._blobs)
        with self._lock():
            if not os.path.lexists(self._index):
                with TempFile(self._ingest) as file:
                    file.write(_EMPTY_INDEX)
                    file.publish(self._index)
        sweep(self._ingest)
        self._is_writable = True

    def _lock(self) -> contextlib.AbstractContextManager[None]:
        """Hold the lock of the layout."""
        return locked(os.path.join(self._ingest, "lock"))

    @property
    def name(self) -> str:
        """How errors and logs name the store."""
        return "oci:" + self._path.encode("utf-8", "backslashreplace").decode()

    @property
    def path(self) -> str:
        """The directory, absolute."""
        return self._path

    # Blobs

    def _blob_path(self, digest: str) -> str:
        """Return where a blob lies; `digest` has been checked."""
        return os.path.join(self._blobs, digest[7:])

    def exists(self, blob: Descriptor) -> bool:
        """Tell whether the store has the blob, in the right size; its bytes are not read."""
        try:
            status = os.stat(self._blob_path(blob.digest))
        except (FileNotFoundError, NotADirectoryError):
            return False
        return stat.S_ISREG(status.st_mode) and status.st_size == blob.size

    def open_file(self, blob: Descriptor) -> BinaryIO:
        """Open a blob for random access, unverified but for its size; see `LocalBlobs`.

        Raises:
            NotFound: there is no such blob.
            SizeMismatch: the file has another size.
        """
        try:
            fd = open_regular(self._blob_path(blob.digest))
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise NotFound("blob", blob.digest, self.name) from None
        size = os.fstat(fd).st_size
        if size != blob.size:
            os.close(fd)
            raise SizeMismatch(f"blob {blob.digest} in {self.name}", blob.size, size)
        return open(fd, "rb", buffering=0)

    def fetch(self, blob: Descriptor, start: int = 0, length: int | None = None) -> Reader:
        """Open a blob (verified), or `length` bytes of it from `start` (not verified).

        Raises:
            NotFound: there is no such blob.
            SizeMismatch: the file has another size, or the range does not lie inside the blob.
        """
        first, end = check_range(blob, start, length)
        file = self.open_file(blob)
        what = f"blob {blob.digest} in {self.name}"
        if start == 0 and length is None:
            return VerifyingReader(file, blob, what)
        return RangeReader(file, first, end, what)

    def push(self, blob: Descriptor, source: BinaryIO) -> bool:
        """Store a blob durably, if the store lacks it; see `Store.push`.

        A blob that is there in the right size is not read again; to replace one that proved to be
        damaged, `discard` it first. One that is there in a wrong size is replaced.

        Raises:
            DigestMismatch, SizeMismatch: `source` is not what `blob` says; nothing is stored.
            OSError: the disk is full, or the directory may not be written.
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
        """Tell whether the blob is there; if so, keep `collect_garbage` off it for a while."""
        if not self.exists(blob):
            return False
        try:
            os.utime(self._blob_path(blob.digest))
        except FileNotFoundError:
            return False  # collected just now
        except OSError:
            pass  # read-only, or another user's: then its age counts from when it was written
        return True

    def create(self) -> FileWriter:
        """Open a writer for a new blob."""
        self._prepare()
        return FileWriter(TempFile(self._ingest), self._publish)

    def _publish(self, file: TempFile, blob: Descriptor) -> bool:
        """Give a written file its digest as name; tell whether it was missing.

        It takes the place of one that is there: that may be damaged, and this one is not.
        """
        is_new = not self.exists(blob)
        file.publish(self._blob_path(blob.digest))
        return is_new

    def discard(self, blob: Descriptor) -> bool:
        """Remove the stored bytes of a blob if they are damaged, so that a push can repair it.

        The blob is read and hashed first: a sound one stays. Call it when reading raised an
        IntegrityError, then `push` the blob again.

        Returns:
            True if a damaged blob was removed, False if it is sound or missing.
        """
        path = self._blob_path(blob.digest)
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
            self._prepare()
            with self._lock():
                # It may be repaired by now. The file being open, its number is not used again.
                try:
                    if not os.path.samestat(os.stat(path), os.fstat(fd)):
                        return False
                    os.unlink(path)
                except FileNotFoundError:
                    return False
                sync_directory(self._blobs)
        return True

    # Manifests and tags

    def _store_index(self, value: dict[str, Any]) -> None:
        """Replace index.json; the lock is held."""
        data = encode_index(value, self._index)
        with TempFile(self._ingest) as file:
            file.write(data)
            file.publish(self._index)

    def tags(self) -> Iterator[tuple[str, Descriptor]]:
        """Yield tags and what they name, the one moved last at the end.

        Raises:
            FormatError, UnsupportedVersion: index.json is malformed.
        """
        yield from load_index(self._index).tags().items()

    def sole_manifest(self) -> Descriptor:
        """Return the one manifest of a layout that holds one, as ``oci:DIR`` without a tag means.

        Raises:
            NotFound: the layout is empty.
            InvalidParameter: it holds several, so that a tag is needed.
        """
        found = {entry.digest: entry for entry in load_index(self._index).descriptors}
        if not found:
            raise NotFound("manifest", "any", self.name)
        if len(found) > 1:
            raise InvalidParameter(f"{self.name} holds {len(found)} manifests: name one by its tag")
        return next(iter(found.values()))

    def resolve(self, reference: str) -> Descriptor:
        """Return the descriptor a tag or digest stands for.

        A digest need not be listed in index.json; then the manifest is read for its media type.

        Raises:
            NotFound: there is no such tag, or no manifest of that digest.
            FormatError, UnsupportedVersion: index.json is malformed.
        """
        if not is_digest(reference):
            found = load_index(self._index).tags().get(reference)
            if found is None:
                raise NotFound("tag", reference, self.name)
            return found
        return self._listed(reference) or self._read_unlisted(reference)[0]

    def _listed(self, digest: str) -> Descriptor | None:
        """Return the descriptor of `digest` in index.json, if it is there."""
        for descriptor in load_index(self._index).descriptors:
            if descriptor.digest == digest:
                return descriptor
        return None

    def get_manifest(self, reference: str) -> tuple[Descriptor, bytes]:
        """Return a manifest's descriptor and exact bytes, verified.

        Raises:
            NotFound: there is no such tag, or its manifest is missing.
            DigestMismatch, SizeMismatch: it is damaged.
            FormatError, UnsupportedVersion: index.json is malformed.
        """
        if not is_digest(reference):
            entry = self.resolve(reference)
        elif (listed := self._listed(reference)) is not None:
            entry = listed
        else:
            return self._read_unlisted(reference)
        return entry, self._read_manifest(entry)

    def _read_manifest(self, descriptor: Descriptor) -> bytes:
        """Return the verified bytes of a manifest."""
        if descriptor.size > MAX_MANIFEST_BYTES:
            what = f"manifest {descriptor.digest} in {self.name}"
            raise FormatError(what, f"its size {descriptor.size} is above {MAX_MANIFEST_BYTES}")
        try:
            with self.fetch(descriptor) as reader:
                return reader.read()
        except NotFound:
            raise NotFound("manifest", descriptor.digest, self.name) from None

    def _read_unlisted(self, digest: str) -> tuple[Descriptor, bytes]:
        """Return a manifest that index.json does not name."""
        missing = NotFound("manifest", digest, self.name)
        try:
            size = os.stat(self._blob_path(digest)).st_size
        except (FileNotFoundError, NotADirectoryError):
            raise missing from None
        if size > MAX_MANIFEST_BYTES:
            raise missing  # a layer
        data = self._read_manifest(Descriptor("", digest, size))
        try:
            media_type = media_type_of(load_json(data, f"manifest {digest}"))
        except FormatError:
            media_type = ""
        if not media_type:
            raise missing  # a config or layer
        return Descriptor(media_type, digest, size), data

    def put_manifest(self, data: bytes, media_type: str, tag: str | None = None) -> Descriptor:
        """Store a manifest whose blobs are all in the store, and name it, durably.

        A manifest without a tag is found by its digest, but is not in index.json: other tools do
        not see it, and `collect_garbage` removes it unless a manifest with a tag names it. Blobs
        may be missing that another tag of the same manifest says are elsewhere.

        Raises:
            NotFound: a blob or child manifest that it names is missing.
            FormatError: not a manifest.
            InvalidParameter: `tag` is no tag, or `media_type` contradicts the manifest's own.
            StoreError: index.json would grow too large.
            OSError: the disk is full, or the directory may not be written.
        """
        return self._put_manifest(data, media_type, tag, None)

    def put_partial(
        self, data: bytes, media_type: str, tag: str | None, promises: str
    ) -> Descriptor:
        """Store a manifest whose blobs are here or promised, as `PartialIngest`."""
        return self._put_manifest(data, media_type, tag, promises)

    def promises(self, digest: str) -> str | None:
        """Return the annotation that says who has the blobs that are missing of a manifest."""
        return load_index(self._index).promises(digest)

    def _put_manifest(
        self, data: bytes, media_type: str, tag: str | None, promises: str | None
    ) -> Descriptor:
        if tag is not None:
            check_tag(tag)
        self._prepare()
        with self._lock():
            promises = promises or self.promises(digest_of(data))
            absent: list[Descriptor] = []

            def is_known(blob: Descriptor) -> bool:
                if self.exists(blob):
                    return True
                absent.append(blob)
                return is_promised(promises, blob)

            value = check_manifest(data, media_type, is_known, self.name)
            descriptor = Descriptor(media_type, digest_of(data), len(data))
            path = self._blob_path(descriptor.digest)
            # The bytes are at hand, so a damaged manifest is repaired on the way.
            if not self._renew(descriptor) or read_bounded(path, len(data)) != data:
                with TempFile(self._ingest) as file:
                    file.write(data)
                    file.publish(path)
            else:
                # What is there may be another process's, renamed but not yet durable.
                sync_directory(self._blobs)
            if tag is not None:
                notes = {PROMISED: promises} if absent and promises is not None else {}
                self._move_tag(tag, descriptor, value.get("artifactType"), notes)
        return descriptor

    def _move_tag(
        self, tag: str, descriptor: Descriptor, artifact_type: object, notes: dict[str, str]
    ) -> None:
        """Let `tag` name `descriptor`, as the last entry of index.json; the lock is held."""
        entry = {**descriptor.to_json(), "annotations": {REF_NAME: tag, **notes}}
        if isinstance(artifact_type, str):
            entry["artifactType"] = artifact_type
        index = load_index(self._index)
        kept = index.without(tag)
        if index.items[-1:] != [entry] or len(kept) + 1 != len(index.items):
            self._store_index({**index.value, "manifests": [*kept, entry]})

    def untag(self, tag: str) -> None:
        """Remove a tag; the manifest and its blobs stay until `collect_garbage`.

        Raises:
            NotFound: there is no such tag.
        """
        if tag not in load_index(self._index).tags():
            raise NotFound("tag", tag, self.name)  # before anything is written
        self._prepare()
        with self._lock():
            index = load_index(self._index)
            kept = index.without(tag)
            if len(kept) == len(index.items):
                raise NotFound("tag", tag, self.name)
            self._store_index({**index.value, "manifests": kept})

    # Housekeeping

    def collect_garbage(self, grace_seconds: float = 3600.0) -> tuple[int, int]:
        """Remove the blobs that no manifest in index.json needs, and leftover temporary files.

        Args:
            grace_seconds: blobs written, or pushed again, more recently than this stay: a process
                may be about to name them. Should it take longer, its `put_manifest` raises
                NotFound, and pushing again helps; a tag is never left without its blobs.

        Returns:
            How many blobs were removed, and their bytes.

        Raises:
            NotFound, IntegrityError: a manifest in index.json is missing or damaged, so what it
                needs is not known; nothing was removed. Repair or untag it first.
        """
        self._prepare()
        sweep(self._ingest)
        count = size = 0
        with self._lock():
            needed = reachable(load_index(self._index).descriptors, self._read_manifest, self.name)
            limit = time.time() - grace_seconds
            for entry in list(os.scandir(self._blobs)):
                if not _HEX.match(entry.name) or "sha256:" + entry.name in needed:
                    continue
                with contextlib.suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode) and status.st_mtime <= limit:
                        os.unlink(entry.path)
                        count += 1
                        size += status.st_size
        return count, size


def lies_in(store: Store, folder: bytes) -> bool:
    """Tell whether a store is a folder or lies below it; links are followed."""
    place = getattr(store, "path", None)  # of those in the file system
    if place is None:
        return False
    outside = os.path.realpath(folder)
    return os.path.commonpath((os.path.realpath(os.fsencode(place)), outside)) == outside
