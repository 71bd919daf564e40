"""A store in an OCI archive: one tar file of an image layout, whole or split into parts.

As skopeo and podman read and write ``oci-archive:``. It is read where it lies and never unpacked.
A tar file cannot be changed in place, so each write makes a new one beside it and renames it over
the old one; `assemble` writes any number of blobs and a manifest at once.

An archive may lack blobs that its manifests name, if who wrote it was promised that the other side
has them. The promises are an annotation of the manifest's entry in index.json, which other tools
keep and overlook, and which changes no digest.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from packer.errors import (
    FormatError,
    IntegrityError,
    InvalidParameter,
    NotFound,
    SizeMismatch,
    UnsupportedVersion,
)
from packer.files.durable import RangeReader, locked_directory, make_directory
from packer.oci import MAX_MANIFEST_BYTES, Descriptor, digest_of, is_digest, load_json
from packer.stores.archive.members import BlamingReader, MemberFile
from packer.stores.archive.parts import ArchiveFile, SplitFile, identity, open_archive
from packer.stores.archive.tar import BLOB_PREFIX, Member, TarPlan, read_members
from packer.stores.archive.writer import Assembly, Source, bytes_source, part_list
from packer.stores.manifests import check_manifest, check_range, check_tag, media_type_of
from packer.stores.protocols import ArchiveSize, Reader
from packer.stores.tags import (
    EMPTY_INDEX,
    MAX_INDEX_BYTES,
    PROMISED,
    Index,
    annotations_of,
    encode_index,
    parse_index,
    with_entry,
)

_LAYOUT_FILE = "oci-layout"
_INDEX_FILE = "index.json"
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_HEX = re.compile(r"[0-9a-f]{64}\Z")
_MAX_LAYOUT_BYTES = 4096


@dataclass(frozen=True)
class _Snapshot:
    """What an archive held at one time."""

    identity: tuple[object, ...]
    file: ArchiveFile | None
    blobs: dict[str, Member]
    others: list[str]
    index: Index


class ArchiveStore:
    """An OCI archive; implements Store, Tags and LocalBlobs.

    Every write but `assemble` rewrites the archive, at the cost of all its bytes.

    Args:
        path: of the tar file; or of the file that its parts ``path.000``, ... make up.
        create: it need not exist, and is made by the first write.
        part_bytes: write a new archive, in parts of this size; nothing can be read then.

    Raises:
        NotFound: there is no archive and `create` is false, or a part is missing.
        IntegrityError: not an OCI archive.
        InvalidParameter: `part_bytes` is given and there is an archive that is not split.

    Thread safety: all methods may be called from any thread, and from any number of processes.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        create: bool = True,
        part_bytes: int | None = None,
    ) -> None:
        self._path = os.path.abspath(os.fspath(path))
        self._part_bytes = part_bytes
        self._mutex = threading.Lock()
        self._cache: _Snapshot | None = None
        if part_bytes is not None:
            if re.search(r"[\n\r\\]", os.path.basename(self._path)):
                raise InvalidParameter("a list of checksums cannot hold this archive's name")
            if os.path.lexists(self._path):
                raise InvalidParameter(f"{self._path} is there and not split: choose another name")
        elif self._now().file is None and not create:
            raise NotFound("archive", self._path)

    @property
    def name(self) -> str:
        """How errors and logs name the store."""
        return "oci-archive:" + self._path.encode("utf-8", "backslashreplace").decode()

    # Reading

    def _now(self) -> _Snapshot:
        """Return what the archive holds; read again if it was replaced."""
        if self._part_bytes is not None:
            return _Snapshot((), None, {}, [], EMPTY_INDEX)
        now = identity(self._path)
        with self._mutex:
            if self._cache is None or self._cache.identity != now:
                self._cache = self._read(now)
            return self._cache

    def _read(self, now: tuple[object, ...]) -> _Snapshot:
        file = open_archive(self._path)
        if file is None:
            return _Snapshot(now, None, {}, [], EMPTY_INDEX)
        try:
            return self._parse(now, file)
        except IntegrityError as error:
            if (damage := file.blame(0, file.size)) is not None:
                raise damage from error
            raise

    def _parse(self, now: tuple[object, ...], file: ArchiveFile) -> _Snapshot:
        what = self.name
        members = read_members(lambda offset, length: file.pread(length, offset), file.size, what)

        def document(name: str, limit: int) -> bytes:
            member = members.pop(name, None)
            if member is None or not member.is_file:
                raise FormatError(what, f"no OCI archive: it has no file {name}")
            if member.size > limit:
                raise FormatError(what, f"{name} is above {limit} bytes")
            return file.pread(member.size, member.offset)

        layout = load_json(document(_LAYOUT_FILE, _MAX_LAYOUT_BYTES), f"{_LAYOUT_FILE} of {what}")
        version = layout.get("imageLayoutVersion")
        if not isinstance(version, str) or not version.startswith("1."):
            raise UnsupportedVersion(f"{what}: image layout version {version!r} is not 1.x")
        index = parse_index(document(_INDEX_FILE, MAX_INDEX_BYTES), f"{_INDEX_FILE} of {what}")
        blobs: dict[str, Member] = {}
        others: list[str] = []
        for name, member in members.items():
            hexadecimal = name.removeprefix(BLOB_PREFIX)
            if name.startswith(BLOB_PREFIX) and _HEX.match(hexadecimal):
                if not member.is_file:
                    raise FormatError(what, f"{name} is no regular file")
                blobs["sha256:" + hexadecimal] = member
            else:
                others.append(name)
        return _Snapshot(now, file, blobs, others, index)

    def exists(self, blob: Descriptor) -> bool:
        """Tell whether the archive has the blob, in the right size; its bytes are not read."""
        member = self._now().blobs.get(blob.digest)
        return member is not None and member.size == blob.size

    def open_file(self, blob: Descriptor) -> BinaryIO:
        """Open a blob for random access, unverified but for its size; see `LocalBlobs`.

        Raises:
            NotFound: there is no such blob.
            SizeMismatch: it is stored with another size.
        """
        return cast(BinaryIO, self._open(blob))

    def _open(self, blob: Descriptor) -> MemberFile:
        now = self._now()
        member = now.blobs.get(blob.digest)
        if member is None or now.file is None:
            raise NotFound("blob", blob.digest, self._why_missing(blob.digest))
        if member.size != blob.size:
            raise SizeMismatch(f"blob {blob.digest} in {self.name}", blob.size, member.size)
        return MemberFile(now.file, member)

    def _why_missing(self, digest: str) -> str:
        """Return where a blob was looked for, and who promised it if it was left out."""
        for item in self._now().index.items:
            text = annotations_of(item).get(PROMISED)
            if text is not None and digest in text:
                return (
                    f"left out of {self.name}, which completes a store that has the version "
                    "before: pull it, or copy it there"
                )
        return self.name

    def fetch(self, blob: Descriptor, start: int = 0, length: int | None = None) -> Reader:
        """Open a blob (verified), or `length` bytes of it from `start` (not verified).

        Raises:
            NotFound: there is no such blob.
            SizeMismatch: it has another size, or the range does not lie inside the blob.
        """
        first, end = check_range(blob, start, length)
        file = self._open(blob)
        what = f"blob {blob.digest} in {self.name}"
        if end - first == blob.size:
            return BlamingReader(file, blob, what)
        return RangeReader(cast(BinaryIO, file), first, end, what)

    # Manifests and tags

    def tags(self) -> Iterator[tuple[str, Descriptor]]:
        """Yield tags and what they name, the one moved last at the end."""
        yield from self._now().index.tags().items()

    def sole_manifest(self) -> Descriptor:
        """Return the one manifest of an archive that holds one.

        Raises:
            NotFound: the archive is empty.
            InvalidParameter: it holds several, so that a tag is needed.
        """
        found = {entry.digest: entry for entry in self._now().index.descriptors}
        if not found:
            raise NotFound("manifest", "any", self.name)
        if len(found) > 1:
            raise InvalidParameter(f"{self.name} holds {len(found)} manifests: name one by its tag")
        return next(iter(found.values()))

    def resolve(self, reference: str) -> Descriptor:
        """Return the descriptor a tag or digest stands for.

        Raises:
            NotFound: there is no such tag, or no manifest of that digest.
        """
        if not is_digest(reference):
            found = self._now().index.tags().get(reference)
            if found is None:
                raise NotFound("tag", reference, self.name)
            return found
        return self._listed(reference) or self._read_unlisted(reference)[0]

    def _listed(self, digest: str) -> Descriptor | None:
        for descriptor in self._now().index.descriptors:
            if descriptor.digest == digest:
                return descriptor
        return None

    def get_manifest(self, reference: str) -> tuple[Descriptor, bytes]:
        """Return a manifest's descriptor and exact bytes, verified.

        Raises:
            NotFound: there is no such tag, or its manifest is missing.
            DigestMismatch, SizeMismatch: it is damaged.
        """
        entry = self.resolve(reference) if not is_digest(reference) else self._listed(reference)
        if entry is None:
            return self._read_unlisted(reference)
        return entry, self._read_manifest(entry)

    def _read_manifest(self, descriptor: Descriptor) -> bytes:
        if descriptor.size > MAX_MANIFEST_BYTES:
            what = f"manifest {descriptor.digest} in {self.name}"
            raise FormatError(what, f"its size {descriptor.size} is above {MAX_MANIFEST_BYTES}")
        try:
            with self.fetch(descriptor) as reader:
                return reader.read()
        except NotFound as error:
            if error.kind != "blob":
                raise
            raise NotFound("manifest", descriptor.digest, self.name) from None

    def _read_unlisted(self, digest: str) -> tuple[Descriptor, bytes]:
        """Return a manifest that index.json does not name."""
        missing = NotFound("manifest", digest, self.name)
        member = self._now().blobs.get(digest)
        if member is None or member.size > MAX_MANIFEST_BYTES:
            raise missing
        data = self._read_manifest(Descriptor("", digest, member.size))
        try:
            media_type = media_type_of(load_json(data, f"manifest {digest}"))
        except FormatError:
            media_type = ""
        if not media_type:
            raise missing  # a config or layer
        return Descriptor(media_type, digest, member.size), data

    def promises(self, digest: str) -> str | None:
        """Return the annotation that says what was left out of a manifest's blobs."""
        return self._now().index.promises(digest)

    # Writing

    @contextlib.contextmanager
    def _writing(self) -> Iterator[_Snapshot]:
        """Hold the lock, and yield what the archive holds."""
        directory = os.path.dirname(self._path)
        make_directory(directory)
        with locked_directory(directory):
            yield self._now()

    def _assembly(
        self,
        now: _Snapshot,
        index: dict[str, Any],
        blobs: Sequence[Descriptor] = (),
        manifest: bytes | None = None,
        *,
        holds_lock: bool = True,
    ) -> Assembly:
        """Return an assembly of what the archive holds, and more."""
        plan, at_hand = self._plan(now, index, blobs, manifest)
        return Assembly(
            self._path, plan, at_hand, self._part_bytes, now.identity, holds_lock=holds_lock
        )

    def _plan(
        self,
        now: _Snapshot,
        index: dict[str, Any],
        blobs: Sequence[Descriptor],
        manifest: bytes | None,
    ) -> tuple[TarPlan, dict[str, Source]]:
        """Return how the archive will be laid out, and which of its blobs are at hand."""
        if isinstance(now.file, SplitFile):
            raise InvalidParameter(
                f"{self.name} is split into parts, to which nothing can be added: "
                "write another archive"
            )
        if now.others:
            shown = now.others[0].encode("utf-8", "backslashreplace").decode()
            raise InvalidParameter(
                f"{self.name} holds more than an image layout ({shown}), which writing it anew "
                "would lose: write another archive"
            )
        sizes: dict[str, int] = {}
        at_hand: dict[str, Source] = {}
        if now.file is not None:
            for digest, member in now.blobs.items():
                sizes[digest] = member.size
                at_hand[digest] = _member_source(now.file, member)
        for blob in blobs:
            sizes[blob.digest] = blob.size
            at_hand.pop(blob.digest, None)
        if manifest is not None:
            digest = digest_of(manifest)
            sizes[digest] = len(manifest)
            at_hand[digest] = bytes_source(manifest)
        documents = {
            _LAYOUT_FILE: _LAYOUT,
            _INDEX_FILE: encode_index(index, f"{_INDEX_FILE} of {self.name}"),
        }
        return TarPlan(documents, sizes), at_hand

    def push(self, blob: Descriptor, source: BinaryIO) -> bool:
        """Store a blob durably, if the archive lacks it; see `Store.push`.

        Raises:
            DigestMismatch, SizeMismatch: `source` is not what `blob` says; nothing is stored.
            InvalidParameter: the archive is split, or holds more than an image layout.
            OSError: the disk is full, or the directory may not be written.
        """
        self._check_whole()
        with self._writing() as now:
            if self.exists(blob):
                return False
            with self._assembly(now, now.index.value, [blob]) as assembly:
                assembly.push(blob, source)
                assembly.commit()
        return True

    def put_manifest(self, data: bytes, media_type: str, tag: str | None = None) -> Descriptor:
        """Store a manifest whose blobs are all in the archive, and name it, durably.

        Raises:
            NotFound: a blob or child manifest that it names is missing.
            FormatError: not a manifest.
            InvalidParameter: `tag` is no tag, or `media_type` contradicts the manifest's own.
            OSError: the disk is full, or the directory may not be written.
        """
        self._check_whole()
        if tag is not None:
            check_tag(tag)
        data = bytes(data)
        descriptor = Descriptor(media_type, digest_of(data), len(data))
        with self._writing() as now:
            check_manifest(data, media_type, self.exists, self.name)
            index = with_entry(now.index, descriptor, data, tag, None)
            if index != now.index.value or self._stored(now, descriptor.digest) != data:
                with self._assembly(now, index, manifest=data) as assembly:
                    assembly.commit()
        return descriptor

    def _stored(self, now: _Snapshot, digest: str) -> bytes | None:
        """Return the stored bytes of a manifest, as they are."""
        member = now.blobs.get(digest)
        if member is None or now.file is None or member.size > MAX_MANIFEST_BYTES:
            return None
        return now.file.pread(member.size, member.offset)

    def untag(self, tag: str) -> None:
        """Remove a tag; the manifest and its blobs stay.

        Raises:
            NotFound: there is no such tag.
        """
        self._check_whole()
        with self._writing() as now:
            kept = now.index.without(tag)
            if len(kept) == len(now.index.items):
                raise NotFound("tag", tag, self.name)
            with self._assembly(now, {**now.index.value, "manifests": kept}) as assembly:
                assembly.commit()

    def assemble(
        self,
        manifest: bytes,
        media_type: str,
        tag: str | None,
        blobs: Sequence[Descriptor],
        promises: str | None,
    ) -> Assembly:
        """Begin to write a manifest and blobs at once; other writers are not kept waiting.

        Args:
            manifest: its exact bytes. What it names is in the archive, in `blobs`, or promised.
            media_type: of the manifest.
            tag: its name; None for none.
            blobs: to be pushed to the assembly, unless it does not need them.
            promises: the annotation of what is left out.

        Raises:
            InvalidParameter: `tag` is no tag, or the archive cannot be added to.
        """
        if tag is not None:
            check_tag(tag)
        make_directory(os.path.dirname(self._path))
        now = self._now()
        descriptor = Descriptor(media_type, digest_of(manifest), len(manifest))
        index = with_entry(now.index, descriptor, manifest, tag, promises)
        return self._assembly(now, index, blobs, manifest, holds_lock=False)

    def measure(
        self,
        manifest: bytes,
        media_type: str,
        tag: str | None,
        blobs: Sequence[Descriptor],
        promises: str | None,
    ) -> ArchiveSize:
        """Return what `assemble` would write, as `Partial`; raises what it would raise."""
        now = self._now()
        descriptor = Descriptor(media_type, digest_of(manifest), len(manifest))
        index = with_entry(now.index, descriptor, manifest, tag, promises)
        plan, at_hand = self._plan(now, index, blobs, manifest)
        parts = part_list(self._path, plan, self._part_bytes)
        earlier = parts.earlier() if self._part_bytes is not None else None
        done = earlier.sums.keys() if earlier is not None else frozenset[int]()
        needed = (
            blob.digest
            for blob in blobs
            if blob.digest not in at_hand
            and not done >= set(parts.numbers(at := plan.offsets[blob.digest], at + blob.size))
        )
        return ArchiveSize(plan.size, parts.count, frozenset(needed), len(done) == parts.count)

    def _check_whole(self) -> None:
        if self._part_bytes is not None:
            raise InvalidParameter(f"{self.name}: a split archive is written by copy, at once")


def _member_source(file: ArchiveFile, member: Member) -> Source:
    return lambda: cast(BinaryIO, MemberFile(file, member))
