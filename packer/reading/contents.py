"""Lists a version: its entries, the content of one file, and its details.

Listing needs the manifest and the index alone; no data layer is read. `content`, and listing the
insides of archives, read the frames that hold the files, and `details` a few bytes of some.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, compress

from packer.errors import InvalidParameter, NotFound
from packer.files.tree import DIRECTORY, FILE, KIND_NAMES, show
from packer.format.closed_files import Closed, closed_in, parent_of
from packer.format.cost import Cost
from packer.format.frames import Frames
from packer.format.index import Index
from packer.format.usage import Opened, Use, opened, uses
from packer.format.version import Version
from packer.opening.members.archive import SEPARATOR
from packer.opening.members.member_listing import Listing
from packer.reading.entry_content import FileReader


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a listing.

    Args:
        path: relative, as text; bytes that are not UTF-8 are surrogate-escaped.
        kind: "file", "directory" or "symlink"; "member" for a file in an archive, whose path
            begins with the archive's path and ``!/``; "incomplete" for an archive of which not all
            members could be listed.
        mode: permission bits.
        size: of a file in bytes, else 0.
        target: of a link, else ""; of an incomplete archive, why.
    """

    path: str
    kind: str
    mode: int
    size: int
    target: str = ""


@dataclass(frozen=True, slots=True)
class LayerUse:
    """How a version uses one of its data layers.

    Args:
        digest: of the blob.
        size: of the blob in bytes.
        frames: number of frames in it.
        chunks: number of chunks in it.
        live_chunks: number of chunks that the version refers to.
        plain_bytes: plaintext of all chunks.
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
    """The facts that a version's manifest, config and index record.

    Args:
        digest: of its manifest.
        created: time in the manifest, RFC 3339, or "".
        parent: digest of the base's manifest, or "".
        tool: name and version of the program that packed it.
        zstd: version of the zstd library that packed it.
        level: zstd level.
        average_chunk_bytes: average size of chunks.
        files: number of files.
        directories: number of directories.
        symlinks: number of symbolic links.
        bytes: sum of the files' sizes.
        chunks: number of references to chunks.
        stored_bytes: size of all blobs, manifest and config included.
        index_bytes: plaintext of the index.
        index_layers: number of index layers; the first is full, the others are patches.
        index_stored_bytes: size of the index layers.
        layers: the data layers, in order.
        parts: by first component of the paths: the files below it, and the bytes that the version
            added to its parent (all bytes, if the parent is no longer in the store).
        opened: files that were opened.
        closed: archives that are stored as they are, as far as their first bytes tell, at most
            1000, the largest first.
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
    closed: tuple[Closed, ...]


def entries(version: Version, *, inside: bool = False) -> Iterator[Entry]:
    """Yield the entries of a version, in byte order of the path.

    Args:
        version: to list.
        inside: also list the files in archives, behind each archive; reads the archives.

    Yields:
        One entry a file, directory, link, and member.
    """
    index = version.index
    links = index.symlinks()
    columns = zip(index.paths, index.kinds, index.modes, index.entry_sizes(), strict=True)
    with FileReader(version) as files:
        for at, (path, kind, mode, size) in enumerate(columns):
            name = show(path)
            yield Entry(name, KIND_NAMES[kind], mode, size, show(links.get(at, b"")))
            if inside and kind == FILE and (listing := files.members(at)) is not None:
                yield from _members(name, listing)


def _members(archive: str, listing: Listing) -> Iterator[Entry]:
    """Yield the files in an archive, and why there may be more."""
    sizes = {path: member.size for path, member in listing.walk()}
    for path, member in listing.walk():
        if member.kind == "file":
            yield Entry(archive + SEPARATOR + path, "member", member.mode, member.size)
        elif member.kind == "hardlink":
            before = path[: path.rfind(SEPARATOR) + len(SEPARATOR)] if SEPARATOR in path else ""
            size = sizes.get(before + member.target, 0)
            full = archive + SEPARATOR + path
            yield Entry(full, "member", member.mode, size, member.target)
    for path, problem in listing.all_problems(archive):
        yield Entry(path, "incomplete", 0, 0, problem)


def content(
    version: Version, path: bytes, *, inside: bool = False, cost: Cost | None = None
) -> Iterator[bytes]:
    """Yield the content of one file, verified, reading only the frames it needs.

    Args:
        version: holds the file.
        path: of the file.
        inside: whether the path may lead into an archive: the archive's path, ``!/``, the
            member's.
        cost: counts what is read, complete behind the last piece.

    Yields:
        The content, in pieces.

    Raises:
        NotFound: the version has no such path.
        InvalidParameter: the path names no file, or the archive cannot be read.
    """
    index = version.index
    entry = index.find(path)
    within: list[str] = []
    if entry < 0 and inside:
        entry, within = _archive_of(index, path)
    if entry < 0:
        raise NotFound("path", show(path), f"in {version.name}")
    if index.kinds[entry] != FILE:
        raise InvalidParameter(f"{show(path)} is a {KIND_NAMES[index.kinds[entry]]}, not a file")
    with FileReader(version, cost=cost) as files:
        if not within:
            pieces = files.read(entry, alone=True)
        else:
            try:
                pieces = files.member(entry, within[0])
            except KeyError:
                raise NotFound("path", show(path), f"in {version.name}") from None
            except ValueError as error:
                raise InvalidParameter(f"{show(path)} cannot be read: {error}") from None
        while True:
            try:
                piece = next(pieces, None)
            except ValueError as error:
                raise InvalidParameter(f"{show(path)} cannot be read: {error}") from None
            if piece is None:
                return
            yield bytes(piece)


def _archive_of(index: Index, path: bytes) -> tuple[int, list[str]]:
    """Return the file that a path leads into, -1 if there is none, and the path in it."""
    separator = SEPARATOR.encode()
    at = path.find(separator)
    while at >= 0:
        entry = index.find(path[:at])
        if entry >= 0:
            return entry, [show(path[at + len(separator) :])]
        at = path.find(separator, at + 1)
    return -1, []


def details(version: Version) -> Details:
    """Return the facts that a version's manifest, config and index record."""
    index, config, manifest = version.index, version.config, version.manifest
    blobs = (version.descriptor, manifest.config, *manifest.layers)
    parent = parent_of(version)
    reused = _reused_layers(version, parent)
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
        parts=uses(index, reused),
        opened=opened(index),
        closed=closed_in(version, parent, range(reused, len(index.layer_frames))),
    )


def _reused_layers(version: Version, parent: Version | None) -> int:
    """Return how many layers at the start are the parent's; 0 if the parent is missing."""
    if parent is None:
        return 0
    known = {layer.digest for layer in parent.manifest.data_layers}
    layers = version.manifest.data_layers
    return next((at for at, layer in enumerate(layers) if layer.digest not in known), len(layers))


def _layer_uses(version: Version) -> Iterator[LayerUse]:
    """Yield the use of each data layer, in order."""
    index = version.index
    frames = Frames(index)
    live = live_chunks(index)
    frame = 0
    for layer, count in zip(version.manifest.data_layers, index.layer_frames, strict=True):
        first, last = frames.first_chunk[frame], frames.first_chunk[frame + count]
        used = live[first:last]
        yield LayerUse(
            digest=layer.digest,
            size=layer.size,
            frames=count,
            chunks=last - first,
            live_chunks=sum(used),
            plain_bytes=frames.end[last] - frames.end[first],
            live_bytes=sum(compress(index.chunk_lengths[first:last], used)),
        )
        frame += count


def live_chunks(index: Index) -> bytearray:
    """Return one byte a chunk: 1 if a file or predecessor of the version holds it, else 0."""
    live = bytearray(index.chunk_count)
    runs = zip(index.run_starts, index.run_lengths, strict=True)
    for start, length in chain(runs, *(row.runs for row in index.predecessors)):
        live[start : start + length] = b"\1" * length
    return live
