"""A store in an OCI archive: one tar file of an image layout, whole or split into parts.

skopeo and podman read and write the same files as ``oci-archive:``. An archive is read in place and
never unpacked. A tar file cannot be changed in place, so each write makes a new one beside it and
renames it over the old one; `assemble` writes any number of blobs and a manifest in one such write.

An archive may lack blobs that its manifests name, if its writer was promised that the reader's side
has them. The promises are an annotation of the manifest's entry in index.json, which other tools
keep and ignore, and which changes no digest.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from packer.errors import FormatError, IntegrityError, InvalidParameter, NotFound, SizeMismatch
from packer.files.durable import RangeReader, locked_directory, make_directory
from packer.forks import Lock
from packer.oci import MAX_MANIFEST_BYTES, Descriptor, digest_of
from packer.stores.archive.parts import (
    ArchiveFile,
    BlamingReader,
    MemberFile,
    SplitFile,
    identity,
    open_archive,
)
from packer.stores.archive.tar import BLOB_PREFIX, Member, TarPlan, read_members
from packer.stores.archive.writer import Assembly, Source, bytes_source, part_list
from packer.stores.index_json import (
    EMPTY_INDEX,
    LAYOUT_BYTES,
    MAX_INDEX_BYTES,
    MAX_LAYOUT_BYTES,
    PROMISED,
    Index,
    IndexedManifests,
    annotations_of,
    check_layout_version,
    encode_index,
    parse_index,
    with_entry,
)
from packer.stores.manifests import check_manifest, check_range, check_tag
from packer.stores.partial import ArchiveSize, Beside
from packer.stores.protocols import Reader

_LAYOUT_FILE = "oci-layout"
_INDEX_FILE = "index.json"
_HEX = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True)
class _Snapshot:
    """The content of an archive at one time.

    Args:
        identity: of the archive then.
        file: the archive, None if there was none.
        blobs: members by digest.
        others: names of members that are no part of an image layout.
        index: its index.json.
    """

    identity: tuple[object, ...]
    file: ArchiveFile | None
    blobs: dict[str, Member]
    others: list[str]
    index: Index


class ArchiveStore(IndexedManifests):
    """An OCI archive; implements Store, Tags, LocalBlobs and Partial.

    Every write but `assemble` rewrites the archive, at the cost of all its bytes.

    Args:
        path: of the tar file, or of the file that the parts ``path.000``, ... make up.
        create: the archive need not exist; the first write makes it.
        part_bytes: write a new archive, in parts of this size; nothing can be read then.

    Raises:
        NotFound: there is no archive and `create` is false, or a part is missing.
        FormatError: not an OCI archive.
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
        super().__init__()
        self._path = os.path.abspath(os.fspath(path))
        self._part_bytes = part_bytes
        self._mutex = Lock()
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
        """The store's name in errors and logs."""
        return "oci-archive:" + self._path.encode("utf-8", "backslashreplace").decode()

    # Reading

    def _now(self) -> _Snapshot:
        """Return the archive's content, read again if the archive was replaced."""
        if self._part_bytes is not None:
            return _Snapshot((), None, {}, [], EMPTY_INDEX)
        now = identity(self._path)
        with self._mutex:
            if self._cache is None or self._cache.identity != now:
                self._cache = self._read(now)
            return self._cache

    def _read(self, now: tuple[object, ...]) -> _Snapshot:
        """Read the archive of this identity; of a split one, errors name the damaged part."""
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
        """Read oci-layout, index.json and the names of all members."""
        what = self.name
        members = read_members(lambda offset, length: file.pread(length, offset), file.size, what)

        def document(name: str, limit: int) -> bytes:
            member = members.pop(name, None)
            if member is None or not member.is_file:
                raise FormatError(what, f"no OCI archive: it has no file {name}")
            if member.size > limit:
                raise FormatError(what, f"{name} is above {limit} bytes")
            return file.pread(member.size, member.offset)

        check_layout_version(document(_LAYOUT_FILE, MAX_LAYOUT_BYTES), f"{_LAYOUT_FILE} of {what}")
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
        """Return whether the archive has the blob, in the right size; its bytes are not read."""
        member = self._now().blobs.get(blob.digest)
        return member is not None and member.size == blob.size

    def open_file(self, blob: Descriptor) -> BinaryIO:
        """Open a blob for random access, as `LocalBlobs`; the file is `Positioned`."""
        return cast(BinaryIO, self._open(blob))

    def _open(self, blob: Descriptor) -> MemberFile:
        """Open a blob; only its size is verified."""
        now = self._now()
        member = now.blobs.get(blob.digest)
        if member is None or now.file is None:
            raise NotFound("blob", blob.digest, self._why_missing(blob.digest))
        if member.size != blob.size:
            raise SizeMismatch(f"blob {blob.digest} in {self.name}", blob.size, member.size)
        return MemberFile(now.file, member)

    def _why_missing(self, digest: str) -> str:
        """Return the place of a missing blob for errors; one that was left out is told so."""
        for item in self._now().index.items:
            text = annotations_of(item).get(PROMISED)
            if text is not None and digest in text:
                return (
                    f"left out of {self.name}, which completes a store that has the version "
                    "before: pull it, or copy it there"
                )
        return self.name

    def fetch(self, blob: Descriptor, start: int = 0, length: int | None = None) -> Reader:
        """Open a blob, or a range of it, as `Store.fetch`."""
        first, end = check_range(blob, start, length)
        file = self._open(blob)
        what = f"blob {blob.digest} in {self.name}"
        if end - first == blob.size:
            return BlamingReader(file, blob, what)
        return RangeReader(cast(BinaryIO, file), first, end, what)

    # Manifests and tags

    def _current_index(self) -> Index:
        """Return index.json as it is now."""
        return self._now().index

    def _stored_size(self, digest: str) -> int | None:
        """Return the size of a blob's member, None if it is missing."""
        member = self._now().blobs.get(digest)
        return None if member is None else member.size

    # Writing

    @contextlib.contextmanager
    def _writing(self) -> Iterator[_Snapshot]:
        """Hold the lock, and yield the archive's content."""
        directory = os.path.dirname(self._path)
        make_directory(directory)
        with locked_directory(directory):
            yield self._now()

    def _assembly(
        self,
        now: _Snapshot,
        index: dict[str, Any],
        blobs: Sequence[Descriptor] = (),
        manifests: Sequence[bytes] = (),
        *,
        holds_lock: bool = True,
    ) -> Assembly:
        """Return an assembly of the archive's content and more."""
        plan, at_hand = self._plan(now, index, blobs, manifests)
        return Assembly(
            self._path, plan, at_hand, self._part_bytes, now.identity, holds_lock=holds_lock
        )

    def _plan(
        self,
        now: _Snapshot,
        index: dict[str, Any],
        blobs: Sequence[Descriptor],
        manifests: Sequence[bytes],
    ) -> tuple[TarPlan, dict[str, Source]]:
        """Return the new archive's layout, and its blobs that are at hand."""
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
        for manifest in manifests:
            digest = digest_of(manifest)
            sizes[digest] = len(manifest)
            at_hand[digest] = bytes_source(manifest)
        documents = {
            _LAYOUT_FILE: LAYOUT_BYTES,
            _INDEX_FILE: encode_index(index, f"{_INDEX_FILE} of {self.name}"),
        }
        return TarPlan(documents, sizes), at_hand

    def push(self, blob: Descriptor, source: BinaryIO) -> bool:
        """Store a blob durably unless the archive has it, as `Store.push`.

        An archive that is split, or holds more than an image layout, raises InvalidParameter.

        Args:
            blob: what the bytes must be.
            source: the bytes.

        Returns:
            False if the blob was there already.
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
        """Store a manifest whose blobs are all in the archive, as `Store.put_manifest`."""
        self._check_whole()
        if tag is not None:
            check_tag(tag)
        data = bytes(data)
        descriptor = Descriptor(media_type, digest_of(data), len(data))
        with self._writing() as now:
            check_manifest(data, media_type, self.exists, self.name)
            index = with_entry(now.index, descriptor, data, tag, None)
            if index != now.index.value or self._stored(now, descriptor.digest) != data:
                with self._assembly(now, index, manifests=(data,)) as assembly:
                    assembly.commit()
        return descriptor

    def _stored(self, now: _Snapshot, digest: str) -> bytes | None:
        """Return the stored bytes of a manifest, unverified."""
        member = now.blobs.get(digest)
        if member is None or now.file is None or member.size > MAX_MANIFEST_BYTES:
            return None
        return now.file.pread(member.size, member.offset)

    def untag(self, tag: str) -> None:
        """Remove a tag; the manifest and its blobs stay.

        Args:
            tag: the tag.

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
        *,
        beside: Sequence[Beside] = (),
    ) -> Assembly:
        """Begin to write a manifest and its blobs, as `Partial`; other writers need not wait."""
        if tag is not None:
            check_tag(tag)
        make_directory(os.path.dirname(self._path))
        now = self._now()
        own = Beside(manifest, media_type, tag, True)
        index = _with_entries(now.index, own, promises, beside)
        manifests = (manifest, *(one.data for one in beside))
        return self._assembly(now, index, blobs, manifests, holds_lock=False)

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
        """Return what `assemble` would write, as `Partial`."""
        now = self._now()
        index = _with_entries(now.index, Beside(manifest, media_type, tag, True), promises, beside)
        manifests = (manifest, *(one.data for one in beside))
        plan, at_hand = self._plan(now, index, blobs, manifests)
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
        """Refuse to change an archive that is being written in parts."""
        if self._part_bytes is not None:
            raise InvalidParameter(f"{self.name}: a split archive is written by copy, at once")


def _with_entries(
    index: Index, own: Beside, promises: str | None, beside: Sequence[Beside]
) -> dict[str, Any]:
    """Return index.json with a manifest, and others before it: the last one is the newest."""
    changed = index
    for one in (*beside, own):
        if one.listed:
            described = Descriptor(one.media_type, digest_of(one.data), len(one.data))
            note = promises if one is own else None
            value = with_entry(changed, described, one.data, one.tag, note)
            changed = Index(value, ())  # entries are taken from the value alone
    return changed.value


def _member_source(file: ArchiveFile, member: Member) -> Source:
    """Return a source of a member's bytes."""
    return lambda: cast(BinaryIO, MemberFile(file, member))
