"""Archives that stayed closed, and what their files cost. From the index, and from packing.

Which archives stayed closed, and why, is known while a file is packed and is not stored. Afterwards
the index alone says which files were not opened; their names say which of them are archives.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from packer.files.tree import show
from packer.format.frames import Frames
from packer.format.index import Index
from packer.opening.closed import FORMAT, ClosedStreams, is_opened

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
"""Reason of a file that only its name shows to be an archive."""
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
            "unknown", from the name of a file that has not been opened.
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


def closed_by_name(index: Index, new_layers: Collection[int]) -> tuple[Closed, ...]:
    """Return the files that are named like archives and were not opened.

    The index does not say what stayed closed within a file that was opened, nor why.

    Args:
        index: the version's; complete.
        new_layers: ordinals of the data layers that count as new.

    Returns:
        At most `MAX_CLOSED` rows, those of the most bytes first.
    """
    found = []
    sizes = index.entry_sizes()
    for entry, path in enumerate(index.paths):
        name = path[path.rfind(b"/") + 1 :]
        dot = name.rfind(b".")
        kind = _BY_SUFFIX.get(name[dot:].decode(errors="replace").lower()) if dot > 0 else None
        if kind is not None and sizes[entry] and entry not in index.expansions:
            found.append((-sizes[entry], entry, kind))
    found = sorted(found)[:MAX_CLOSED]
    return _with_costs(
        index,
        new_layers,
        [
            (entry, ClosedStreams(kind, UNKNOWN if is_opened(kind) else FORMAT, 1, -size))
            for size, entry, kind in found
        ],
    )


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
