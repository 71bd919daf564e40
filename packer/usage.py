"""Where a version's bytes went: by path, and in archives that were opened. From the index alone."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

from packer.index import Frames, Index
from packer.tree import FILE, show


@dataclass(frozen=True, slots=True)
class Use:
    """What a part of a tree costs.

    Args:
        path: the first component of its paths.
        files: how many.
        bytes: their size.
        reused_bytes: content that was there before, or occurred earlier in this version.
        new_bytes: content in frames that stand alone.
        delta_bytes: content in frames that are compressed against older content.
        stored_bytes: its share of these frames, as they are stored.
    """

    path: str
    files: int
    bytes: int
    reused_bytes: int
    new_bytes: int
    delta_bytes: int
    stored_bytes: int


@dataclass(frozen=True, slots=True)
class Opened:
    """A file that was opened: archives in it are stored as what they hold.

    Args:
        path: of the file.
        bytes: its size.
        content_bytes: what it was opened to.
        recipe_bytes: what turns that back into the file, before compression.
    """

    path: str
    bytes: int
    content_bytes: int
    recipe_bytes: int


class _Sum:
    def __init__(self) -> None:
        self.files = self.bytes = self.reused = self.new = self.delta = 0
        self.stored = 0.0


def uses(index: Index, first_layer: int) -> tuple[Use, ...]:
    """Return what each part of the tree costs, in byte order of the path.

    Args:
        index: of the version.
        first_layer: the first layer that is this version's own; those before it are reused.
    """
    frames = Frames(index)
    ends = [0, *accumulate(index.chunk_lengths)]
    first_new = frames.first_chunk[sum(index.layer_frames[:first_layer])]
    seen = bytearray(index.chunk_count)
    sums: dict[bytes, _Sum] = {}
    columns = zip(index.paths, index.kinds, index.entry_sizes(), index.entry_runs(), strict=True)
    for path, kind, size, runs in columns:
        if kind != FILE:
            continue
        found = sums.setdefault(path.partition(b"/")[0], _Sum())
        found.files += 1
        found.bytes += size
        for start, length in runs:
            old = max(min(start + length, first_new) - start, 0)
            found.reused += ends[start + old] - ends[start]
            for chunk in range(start + old, start + length):
                plain = index.chunk_lengths[chunk]
                if seen[chunk]:
                    found.reused += plain
                    continue
                seen[chunk] = 1
                frame = frames.of_chunk(chunk)
                if index.frame_depths[frame]:
                    found.delta += plain
                else:
                    found.new += plain
                found.stored += index.frame_stored[frame] * plain / frames.plain_bytes(frame)
    return tuple(
        Use(
            show(path),
            found.files,
            found.bytes,
            found.reused,
            found.new,
            found.delta,
            round(found.stored),
        )
        for path, found in sums.items()
    )


def opened(index: Index) -> tuple[Opened, ...]:
    """Return the files that were opened, in byte order of the path."""
    ends = [0, *accumulate(index.chunk_lengths)] if index.expansions else []

    def size(runs: list[tuple[int, int]]) -> int:
        return sum(ends[start + length] - ends[start] for start, length in runs)

    out = []
    for entry, row in index.expansions.items():
        content, recipe = index.split_runs(entry)
        out.append(Opened(show(index.paths[entry]), row.size, size(content), size(recipe)))
    return tuple(out)
