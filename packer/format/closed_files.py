"""Archives that stayed closed, and what their files cost. From the index, and from packing.

Which archives stayed closed, and why, is known while a file is packed and is not stored. Afterwards
the index says which files were not opened, their first bytes which of these are archives, and the
parent whether there was an older one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from packer.errors import IntegrityError, NotFound, PackerError
from packer.files.tree import show
from packer.format.archive_heads import archive_heads
from packer.format.frames import Frames
from packer.format.index import Index
from packer.format.version import Version, load_version
from packer.opening.closed import FORMAT, NEW, TEXT, ClosedStreams, is_opened, unopened

_KINDS = {
    "gzip": (".gz", ".tgz"),
    "zip": (".zip", ".whl", ".jar", ".war", ".ear", ".nupkg", ".apk", ".aar"),
    "bzip2": (".bz2", ".tbz", ".tbz2"),
    "xz": (".xz", ".txz"),
    "zstd": (".zst", ".tzst"),
    "7z": (".7z",),
    "rar": (".rar",),
    "lz4": (".lz4",),
}
_BY_SUFFIX = {suffix: kind for kind, suffixes in _KINDS.items() for suffix in suffixes}
UNKNOWN = "unknown"
"""Reason of an archive that stayed closed when only packing could know why."""
_LEAST_BYTES, _LEAST_SHARE = 4 << 10, 0.5
"""Size of a file that may be an archive whatever its name is, and what its frame has to take as
stored, as a share of its plaintext."""
MAX_CLOSED = 1000
"""Rows of closed archives that are kept: those of the most bytes."""


@dataclass(frozen=True, slots=True)
class Closed:
    """Archives in a file that stayed closed, for the same reason.

    Args:
        path: of the file.
        kind: of the archives: "gzip", "zip", "bzip2", "xz", "zstd", "7z", "rar" or "lz4".
        reason: "encoder", it is by one without a model; "format", of a kind that is never opened;
            "method", of a zip entry; "encrypted"; "damaged"; "limit", the file reaches a reader's
            bounds; "depth", too deep in other archives; "new", the base holds no older self of it,
            or one that shares too little with it; "text", zstd of what is not compressed already;
            "unknown", one that stayed closed earlier, when only packing knew why; or the name of
            the file alone tells.
        streams: number of gzip members, say, or zip entries.
        bytes: of them together.
        stored_bytes: what the whole file added to the store, about: its bytes in new frames, taken
            not to compress again unless these frames are smaller.
    """

    path: str
    kind: str
    reason: str
    streams: int
    bytes: int
    stored_bytes: int


class ClosedFiles:
    """Collects what stays closed while a tree is packed, in little memory."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, ClosedStreams]] = []
        self.bytes = 0
        """Bytes of all closed archives, also of those that are not kept."""

    def add(self, entry: int, rows: Iterable[ClosedStreams]) -> None:
        """Add what stayed closed in a file.

        Args:
            entry: ordinal of the file.
            rows: by kind and reason.
        """
        for row in rows:
            self._rows.append((entry, row))
            self.bytes += row.bytes
        if len(self._rows) > 2 * MAX_CLOSED:
            self._rows = self._largest()

    def rows(self, index: Index, first_layer: int) -> tuple[Closed, ...]:
        """Return at most `MAX_CLOSED` rows, those of the most bytes first.

        Args:
            index: of the version that was packed; complete.
            first_layer: the first data layer that counts as new.
        """
        return _with_costs(index, range(first_layer, len(index.layer_frames)), self._largest())

    def _largest(self) -> list[tuple[int, ClosedStreams]]:
        return sorted(self._rows, key=lambda item: (-item[1].bytes, item))[:MAX_CLOSED]


def closed_in(
    version: Version, parent: Version | None, new_layers: Collection[int]
) -> tuple[Closed, ...]:
    """Return the archives that are stored as they are, as far as can be told afterwards.

    The first bytes of files tell, which are not verified: of files that are named like archives,
    and of those whose frames hardly compress. Of what cannot be read the name tells. Nothing says
    what stayed closed within a file that was opened.

    Args:
        version: complete.
        parent: of the version; None if it has none, or not at hand.
        new_layers: ordinals of the data layers that count as new.

    Returns:
        At most `MAX_CLOSED` rows, those of the most bytes first. Those of archives of a kind that
        is opened have the reason "unknown" if an older one was there: only packing knew why.

    Raises:
        StoreError: the store failed.
    """
    index = version.index
    frames = Frames(index)
    sizes = dict(_unopened(index, frames))
    heads = archive_heads(version, frames, sizes)
    found: list[tuple[int, ClosedStreams]] = []
    for entry, size in sizes.items():
        if entry in heads:
            found += [(entry, row) for row in unopened(heads[entry], size)]
        elif kind := _kind_of_name(index.paths[entry]):
            reason = UNKNOWN if is_opened(kind) else FORMAT
            found.append((entry, ClosedStreams(kind, reason, 1, size)))
    found = sorted(found, key=lambda item: (-item[1].bytes, item[0]))[:MAX_CLOSED]
    doubtful = [entry for entry, row in found if row.reason in (NEW, TEXT)]
    if parent is not None and doubtful:
        changed = _changed(version, parent, frames, doubtful)
        found = [
            (entry, row._replace(reason=UNKNOWN) if entry in changed else row)
            for entry, row in found
        ]
    return _with_costs(index, new_layers, found)


def parent_of(version: Version) -> Version | None:
    """Return a version's parent; None if it has none, or not in its store."""
    if not version.manifest.parent:
        return None
    try:
        return load_version(version.store, version.manifest.parent)
    except PackerError:
        return None


def _unopened(index: Index, frames: Frames) -> Iterator[tuple[int, int]]:
    """Yield entry and size of the files that may be archives and were not opened."""
    for entry, size in enumerate(index.entry_sizes()):
        if not size or entry in index.expansions:
            continue
        if not _kind_of_name(index.paths[entry]):
            frame = frames.of_chunk(index.runs_of(entry)[0][0])
            hardly = index.frame_stored[frame] > _LEAST_SHARE * frames.plain_bytes(frame)
            if size < _LEAST_BYTES or not hardly:
                continue
        yield entry, size


def _kind_of_name(path: bytes) -> str:
    """Return the kind of archive that a file is named like; "" for none."""
    name = path[path.rfind(b"/") + 1 :]
    dot = name.rfind(b".")
    return _BY_SUFFIX.get(name[dot:].decode(errors="replace").lower(), "") if dot > 0 else ""


def _changed(version: Version, parent: Version, frames: Frames, entries: Sequence[int]) -> set[int]:
    """Return the entries that the version's parent holds with another content."""
    index = version.index
    known = {layer.digest for layer in parent.manifest.data_layers}
    old = [layer.digest in known for layer in version.manifest.data_layers]
    new = {
        entry
        for entry in entries
        if not all(
            old[frames.layer[frame]]
            for start, length in index.runs_of(entry)
            for frame, _, _ in frames.parts(start, length)
        )
    }
    try:
        return {entry for entry in new if parent.index.find(index.paths[entry]) >= 0}
    except (IntegrityError, NotFound):
        return set()


def _with_costs(
    index: Index, new_layers: Collection[int], rows: Iterable[tuple[int, ClosedStreams]]
) -> tuple[Closed, ...]:
    """Add paths and costs to rows with the ordinals of their files."""
    rows = list(rows)
    frames = Frames(index)
    paid: set[int] = set()  # new chunks of the files before
    parts: list[tuple[int, int, int]] = []  # entry, frame, bytes in it
    in_frame: dict[int, int] = {}  # bytes of closed files in each frame
    for entry in sorted({entry for entry, _ in rows}):
        for start, length in index.runs_of(entry):
            for chunk in range(start, start + length):
                frame, size = frames.of_chunk(chunk), index.chunk_lengths[chunk]
                if frames.layer[frame] in new_layers and chunk not in paid:
                    paid.add(chunk)
                    parts.append((entry, frame, size))
                    in_frame[frame] = in_frame.get(frame, 0) + size
    costs = {entry: 0.0 for entry, _ in rows}
    for entry, frame, size in parts:
        # A closed archive hardly compresses again, whatever else the frame holds.
        costs[entry] += size * min(1.0, index.frame_stored[frame] / in_frame[frame])
    return tuple(Closed(show(index.paths[entry]), *row, round(costs[entry])) for entry, row in rows)
