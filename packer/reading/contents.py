"""What is in a version, what differs between two, and whether it is sound.

Listing and comparing need the manifest and the index only; no data layer is touched.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import chain

from packer.errors import IntegrityError, InvalidParameter, NotFound, PackerError
from packer.files.name_column import side_by_side
from packer.files.tree import DIRECTORY, FILE, KIND_NAMES, show
from packer.format.blob_ranges import BlobRanges
from packer.format.damage import touched
from packer.format.frame_reader import FrameReader
from packer.format.frames import Frames
from packer.format.index import Index
from packer.format.tree_digest import TreeCheck
from packer.format.usage import Opened, Use, opened, uses
from packer.format.version import Version, load_version
from packer.oci import READ_BYTES
from packer.opening.expansion import most_opened
from packer.opening.member_listing import SEPARATOR, Member, find, members
from packer.progress import Progress, ProgressCallback
from packer.reading.entry_content import frames_of, read_entry


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a listing.

    Args:
        path: relative, as text; bytes that are no UTF-8 are surrogate-escaped.
        kind: "file", "directory" or "symlink"; "member" of a file in an archive, whose path comes
            before ``!/``.
        mode: permission bits.
        size: bytes of a file, else 0.
        target: of a link, else "".
    """

    path: str
    kind: str
    mode: int
    size: int
    target: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between two versions.

    Args:
        path: relative, as text.
        change: "added", "removed" or "changed".
        old_size, new_size: bytes; 0 where there is no file.
        new_chunk_bytes: bytes of the new file in chunks that its old self did not have; of what is
            inside an archive, of all that is new or changed.
        inside: it is part of an archive, whose path comes before ``!/``.
    """

    path: str
    change: str
    old_size: int
    new_size: int
    new_chunk_bytes: int
    inside: bool = False


@dataclass(frozen=True, slots=True)
class LayerUse:
    """How a version uses one of its data layers.

    Args:
        digest, size: of the blob.
        frames: zstd frames in it.
        chunks: chunks in it.
        live_chunks: those the version refers to.
        plain_bytes: plaintext in the layer.
        live_bytes: plaintext of the live chunks.
    """

    digest: str
    size: int
    frames: int
    chunks: int
    live_chunks: int
    plain_bytes: int
    live_bytes: int


@dataclass(frozen=True, slots=True)
class Details:
    """All that a version says of itself.

    Args:
        digest: of its manifest.
        created: as the manifest says, or "".
        parent: digest of the base's manifest, or "".
        tool, zstd, level, average_chunk_bytes: what it was packed with.
        files, directories, symlinks, bytes, chunks: totals of the tree.
        stored_bytes: all its blobs, manifest and config included.
        index_bytes: plaintext of the index.
        index_layers: number of index layers; the first is full, the others are patches.
        index_stored_bytes: their size.
        layers: the data layers, in order.
        parts: what is below each first component of the paths, and what it added to the parent
            (to nothing, if the parent is not in the store any more).
        opened: files that were opened.
    """

    digest: str
    created: str
    parent: str
    tool: str
    zstd: str
    level: int
    average_chunk_bytes: int
    files: int
    directories: int
    symlinks: int
    bytes: int
    chunks: int
    stored_bytes: int
    index_bytes: int
    index_layers: int
    index_stored_bytes: int
    layers: tuple[LayerUse, ...]
    parts: tuple[Use, ...]
    opened: tuple[Opened, ...]


@dataclass(frozen=True, slots=True)
class Verified:
    """The result of verifying a version.

    Args:
        digest: of its manifest.
        blobs: how many were read, the manifest included.
        bytes: their size.
        chunks: how many were decoded and checked.
    """

    digest: str
    blobs: int
    bytes: int
    chunks: int


def entries(version: Version, *, inside: bool = False) -> Iterator[Entry]:
    """Yield the entries of a version, in byte order of the path.

    Args:
        version: to list.
        inside: also list the files in archives, behind each; reads the archives.
    """
    index = version.index
    links = index.symlinks()
    columns = zip(index.paths, index.kinds, index.modes, index.entry_sizes(), strict=True)
    with _Files(version) as files:
        for at, (path, kind, mode, size) in enumerate(columns):
            name = show(path)
            yield Entry(name, KIND_NAMES[kind], mode, size, show(links.get(at, b"")))
            if inside and kind == FILE:
                for member in files.members(at):
                    yield Entry(name + SEPARATOR + member.path, "member", 0, member.size)


def content(version: Version, path: bytes, *, inside: bool = False) -> Iterator[bytes]:
    """Yield the content of one file, verified, reading only the frames it needs.

    Args:
        version: that holds it.
        path: of the file.
        inside: the path may lead into an archive, with ``!/`` behind the archive's own.

    Raises:
        NotFound: the version has no such path.
        InvalidParameter: it is no file.
    """
    index = version.index
    entry = index.find(path)
    within = ""
    if entry < 0 and inside:
        outer, _, rest = path.partition(SEPARATOR.encode())
        entry, within = index.find(outer), show(rest)
    if entry < 0:
        raise NotFound("path", show(path), f"in {version.descriptor.digest}")
    if index.kinds[entry] != FILE:
        raise InvalidParameter(f"{show(path)} is a {KIND_NAMES[index.kinds[entry]]}, not a file")
    with _Files(version) as files:
        if not within:
            for piece in files.read(entry, alone=True):
                yield bytes(piece)
            return
        try:
            yield from find(files.read(entry, alone=True), within, most_opened(files.sizes[entry]))
        except KeyError:
            raise NotFound("path", show(path), f"in {version.descriptor.digest}") from None
        except ValueError as error:
            raise InvalidParameter(f"{show(path)}: the archive cannot be read: {error}") from error


class _Files:
    """Reads files of a version; a context manager."""

    def __init__(self, version: Version) -> None:
        self._stack = ExitStack()
        self._index = version.index
        self._version = version
        self._opened: tuple[FrameReader, Executor] | None = None
        self.sizes = version.index.entry_sizes()

    def __enter__(self) -> _Files:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def read(self, entry: int, *, alone: bool = False) -> Iterator[bytes | memoryview]:
        """Yield a file's bytes; with `alone`, frames are forgotten after it."""
        if self._opened is None:
            enter = self._stack.enter_context
            version = self._version
            layers = version.manifest.data_layers
            ranges = enter(BlobRanges(version.store, layers))
            reader = enter(
                FrameReader(
                    self._index, layers, ranges.read, remote=ranges.remote, store=version.store
                )
            )
            helpers = enter(ThreadPoolExecutor(os.cpu_count() or 1, "read"))
            self._opened = reader, helpers
        reader, executor = self._opened
        if alone:
            reader.expect(frames_of(reader, entry))
        yield from read_entry(reader, entry, executor)

    def members(self, entry: int) -> Iterator[Member]:
        """Yield the files in an archive."""
        yield from members(self.read(entry), most_opened(self.sizes[entry]))


def differences(old: Version, new: Version, *, inside: bool = False) -> Iterator[Change]:
    """Yield what differs between two versions, in byte order of the path, from the indexes alone.

    A file counts as changed if its bytes, kind, permissions or link target differ. Versions that
    were cut with different chunk sizes are compared by size only where sizes differ, else reported
    as changed.

    Args:
        old: the one version.
        new: the other.
        inside: behind each archive that changed, or whose name changed in its digits alone, also
            yield what changed in it; reads both.
    """
    if not inside:
        yield from (change for change, _, _ in _differences(old, new))
        return
    found = list(_differences(old, new))
    pairs = _renamed(found)
    with _Files(old) as old_files, _Files(new) as new_files:
        for change, then, now in found:
            yield change
            if now is None or (then := pairs.get(now, then)) is None:
                continue
            before = {item.path: item for item in old_files.members(then)}
            after = {item.path: item for item in new_files.members(now)}
            for path in sorted(before.keys() | after.keys()):
                if (member := _inside(path, before.get(path), after.get(path))) is not None:
                    yield replace(member, path=change.path + SEPARATOR + member.path)


_Difference = tuple[Change, "int | None", "int | None"]
"""A change, and the entries of the files before and after it."""


def _renamed(found: list[_Difference]) -> dict[int, int]:
    """Return the file that was removed for each that was added, if their names say so."""
    gone: dict[str, list[int]] = {}
    come: dict[str, list[int]] = {}
    for change, then, now in found:
        name = re.sub("[0-9]+", "0", change.path)
        if now is None and then is not None:
            gone.setdefault(name, []).append(then)
        elif then is None and now is not None:
            come.setdefault(name, []).append(now)
    return {
        entries[0]: gone[name][0]
        for name, entries in come.items()
        if len(entries) == len(gone.get(name, ())) == 1
    }


def _inside(path: str, then: Member | None, now: Member | None) -> Change | None:
    if then is None and now is not None:
        return Change(path, "added", 0, now.size, now.size, inside=True)
    if then is not None and now is None:
        return Change(path, "removed", then.size, 0, 0, inside=True)
    if then is not None and now is not None and then.digest != now.digest:
        return Change(path, "changed", then.size, now.size, now.size, inside=True)
    return None


def _differences(old: Version, new: Version) -> Iterator[tuple[Change, int | None, int | None]]:
    before, after = _Contents(old.index), _Contents(new.index)
    for path, then, now in side_by_side(old.index.paths, new.index.paths):
        old_size = before.sizes[then] if then is not None else 0
        new_size = after.sizes[now] if now is not None else 0
        if then is None and now is not None:
            yield Change(show(path), "added", 0, new_size, new_size), None, after.file(now)
        elif then is not None and now is None:
            yield Change(show(path), "removed", old_size, 0, 0), before.file(then), None
        elif then is not None and now is not None and before.key(then) != after.key(now):
            fresh = after.bytes_not_in(now, before, then)
            change = Change(show(path), "changed", old_size, new_size, fresh)
            yield change, before.file(then), after.file(now)


class _Contents:
    """An index prepared for comparing entries."""

    def __init__(self, index: Index) -> None:
        self.index = index
        self.sizes = index.entry_sizes()
        self.links = index.symlinks()

    def key(self, entry: int) -> tuple[int, int, int, bytes, bytes]:
        index = self.index
        expansion = index.expansions.get(entry)
        return (
            index.kinds[entry],
            index.modes[entry],
            self.sizes[entry],
            self.links.get(entry, b""),
            expansion.digest if expansion else index.content_key(index.runs_of(entry)),
        )

    def file(self, entry: int) -> int | None:
        return entry if self.index.kinds[entry] == FILE else None

    def chunks(self, entry: int) -> Iterator[int]:
        for start, length in self.index.runs_of(entry):
            yield from range(start, start + length)

    def bytes_not_in(self, entry: int, other: _Contents, other_entry: int) -> int:
        known = {other.index.chunk_digest(chunk) for chunk in other.chunks(other_entry)}
        return sum(
            self.index.chunk_lengths[chunk]
            for chunk in self.chunks(entry)
            if self.index.chunk_digest(chunk) not in known
        )


def details(version: Version) -> Details:
    """Return all that a version says of itself, from its manifest, config and index."""
    index, config, manifest = version.index, version.config, version.manifest
    blobs = (version.descriptor, manifest.config, *manifest.layers)
    return Details(
        digest=version.descriptor.digest,
        created=manifest.annotations.get("org.opencontainers.image.created", ""),
        parent=version.manifest.parent,
        tool=config.tool,
        zstd=config.zstd,
        level=config.level,
        average_chunk_bytes=config.chunking.average_bytes,
        files=index.kinds.count(FILE),
        directories=index.kinds.count(DIRECTORY),
        symlinks=len(index.targets),
        bytes=sum(index.entry_sizes()),
        chunks=sum(index.run_lengths),
        stored_bytes=sum(blob.size for blob in blobs),
        index_bytes=version.config.index_bytes,
        index_layers=len(manifest.index_layers),
        index_stored_bytes=sum(version.read_index()[1]),
        layers=tuple(_layer_uses(version)),
        parts=uses(index, _reused_layers(version)),
        opened=opened(index),
    )


def _reused_layers(version: Version) -> int:
    """Return how many of a version's layers are its parent's; 0 if the parent is not there."""
    if not version.manifest.parent:
        return 0
    try:
        parent = load_version(version.store, version.manifest.parent)
    except PackerError:
        return 0
    known = {layer.digest for layer in parent.manifest.data_layers}
    layers = version.manifest.data_layers
    return next((at for at, layer in enumerate(layers) if layer.digest not in known), len(layers))


def _layer_uses(version: Version) -> Iterator[LayerUse]:
    index = version.index
    frames = Frames(index)
    live = _live_chunks(index)
    frame = 0
    for layer, count in zip(version.manifest.data_layers, index.layer_frames, strict=True):
        first, last = frames.first_chunk[frame], frames.first_chunk[frame + count]
        used = live[first:last]
        yield LayerUse(
            layer.digest,
            layer.size,
            count,
            last - first,
            sum(used),
            frames.end[last] - frames.end[first],
            sum(
                length
                for length, flag in zip(index.chunk_lengths[first:last], used, strict=True)
                if flag
            ),
        )
        frame += count


def _live_chunks(index: Index) -> bytearray:
    """Return one byte a chunk: 1 if a file of the version holds it."""
    live = bytearray(index.chunk_count)
    for start, length in zip(index.run_starts, index.run_lengths, strict=True):
        live[start : start + length] = b"\1" * length
    return live


def verify(version: Version, progress: ProgressCallback | None = None) -> Verified:
    """Read every blob of a version and check digests, frames and chunks.

    Raises:
        NotFound, IntegrityError: about the first blob that is missing or damaged, by digest.
    """
    index, manifest = version.index, version.manifest
    total = sum(layer.size for layer in manifest.layers)
    done = 0
    for blob in (manifest.config, *manifest.layers):
        try:
            with version.store.fetch(blob) as reader:
                while data := reader.read(READ_BYTES):
                    done += len(data)
                    if progress is not None:
                        progress(Progress("verify", done, 2 * total, blob.digest))
        except IntegrityError as error:
            if blob in manifest.data_layers:
                frames = Frames(index)
                damaged = frames.of_layer(manifest.data_layers.index(blob))
                error.touched = touched(frames, damaged, blob.digest, version.store)
            raise
    checked = 0
    live, check = _live_chunks(index), TreeCheck(index)
    with (
        BlobRanges(version.store, manifest.data_layers) as ranges,
        FrameReader(
            index,
            manifest.data_layers,
            ranges.read,
            check=check,
            remote=ranges.remote,
            store=version.store,
        ) as frames_reader,
        ThreadPoolExecutor(os.cpu_count() or 1, "verify") as executor,
    ):
        first_chunk = frames_reader.frames.first_chunk
        needed = [
            frame
            for frame in range(len(index.frame_chunks))
            if 1 in live[first_chunk[frame] : first_chunk[frame + 1]]
        ]
        frames_reader.expect(
            chain(needed, *(frames_of(frames_reader, entry) for entry in index.expansions))
        )
        for frame in needed:
            frames_reader.decode(frame)
            checked += sum(live[first_chunk[frame] : first_chunk[frame + 1]])
            done += index.frame_stored[frame]
            if progress is not None:
                progress(Progress("verify", done, 2 * total))
        for entry in index.expansions:
            for _ in read_entry(frames_reader, entry, executor):
                pass
        check.finish(version.config.tree)
    blobs = (version.descriptor, manifest.config, *manifest.layers)
    return Verified(
        version.descriptor.digest, len(blobs), sum(blob.size for blob in blobs), checked
    )
