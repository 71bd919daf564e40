"""The cost of each part of a version, and of each opened archive, from the index alone."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import add

from packer.files.tree import FILE, show
from packer.format.frames import Frames
from packer.format.index import Index


@dataclass(frozen=True, slots=True)
class Use:
    """The cost of the part of a tree that shares the first component of its paths.

    Args:
        path: that component.
        files: number of files.
        bytes: size of the files together.
        reused_bytes: content that the base has, or that occurred earlier in this version.
        new_bytes: new content in frames without a prefix.
        delta_bytes: new content in frames that are compressed against older content.
        stored_bytes: this part's share of those frames, as they are stored.
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
    """A file that was opened: stored as the content of its archives and a recipe.

    Args:
        path: the file's path.
        bytes: the file's size.
        content_bytes: size of the content.
        recipe_bytes: size of the recipe that turns the content back into the file, before
            compression.
        predecessors: number of older files that the recipe refers to, by itself or through others.
        links: number of these that are rebuilt or read one after the other, at most 8.
        kept_bytes: size of their chunks that no file of the version holds, before compression; a
            chunk counts for each predecessor that refers to it.
    """

    path: str
    bytes: int
    content_bytes: int
    recipe_bytes: int
    predecessors: int = 0
    links: int = 0
    kept_bytes: int = 0


def uses(index: Index, first_layer: int) -> tuple[Use, ...]:
    """Return the cost of each part of a tree.

    Args:
        index: the version's; complete.
        first_layer: the first data layer that this version added. Layers before it are reused.

    Returns:
        one row for each first component of the paths that holds files, in byte order.
    """
    frames = Frames(index)
    first_new = frames.first_chunk[sum(index.layer_frames[:first_layer])]
    sizes = index.entry_sizes()
    seen = bytearray(index.chunk_count - first_new)
    out = []
    for name, entries in _parts(index.paths):
        files = sum(index.kinds.count(FILE, *part) for part in entries)
        if not files:
            continue
        size = sum(sum(sizes[first:last]) for first, last in entries)
        reused = new = delta = 0
        stored = 0.0
        for first, last in entries:
            runs = slice(index.first_run[first], index.first_run[last])
            starts, lengths = index.run_starts[runs], index.run_lengths[runs]
            if max(map(add, starts, lengths), default=0) <= first_new:  # as nearly everywhere
                reused += sum(map(frames.end.__getitem__, map(add, starts, lengths)))
                reused -= sum(map(frames.end.__getitem__, starts))
                continue
            for start, length in zip(starts, lengths, strict=True):
                old = max(min(start + length, first_new) - start, 0)
                reused += frames.end[start + old] - frames.end[start]
                for chunk in range(start + old, start + length):
                    plain = index.chunk_lengths[chunk]
                    if seen[chunk - first_new]:
                        reused += plain
                        continue
                    seen[chunk - first_new] = 1
                    frame = frames.of_chunk(chunk)
                    if index.frame_depths[frame]:
                        delta += plain
                    else:
                        new += plain
                    stored += index.frame_stored[frame] * plain / frames.plain_bytes(frame)
        out.append(Use(show(name), files, size, reused, new, delta, round(stored)))
    return tuple(out)


def _parts(paths: Sequence[bytes]) -> Iterator[tuple[bytes, tuple[tuple[int, int], ...]]]:
    """Yield each first component of the paths, and the ranges of entries that have it.

    The entries below a directory are one range, found by bisection. The directory itself may stand
    apart from it (``a``, ``a-b``, ``a/c``).
    """
    at = 0
    below: list[tuple[int, int]] = []  # ranges below directories met before
    while at < len(paths):
        if below and at == below[0][0]:
            at = below.pop(0)[1]
            continue
        name = paths[at]
        first = bisect_left(paths, name + b"/", at + 1)
        last = bisect_left(paths, name + b"0", first)  # "0" follows "/"
        if first < last:
            insort(below, (first, last))
        yield name, ((at, at + 1), (first, last))
        at += 1


def opened(index: Index) -> tuple[Opened, ...]:
    """Return the files that were opened.

    Args:
        index: the version's; complete.

    Returns:
        one row for each, in byte order of the path.
    """
    ends = [0, *accumulate(index.chunk_lengths)] if index.expansions else []

    def size(runs: list[tuple[int, int]]) -> int:
        return sum(ends[start + length] - ends[start] for start, length in runs)

    older = _Older(index)
    out = []
    for entry, row in index.expansions.items():
        content, recipe = index.split_runs(entry)
        out.append(
            Opened(
                show(index.paths[entry]),
                row.size,
                size(content),
                size(recipe),
                *older.cost(row.predecessors),
            )
        )
    return tuple(out)


class _Older:
    """What the predecessors of a version take beside its files."""

    def __init__(self, index: Index) -> None:
        self._rows = index.predecessors
        self._links: list[int] = []
        self._kept: list[int] = []
        if not self._rows:
            return
        held = bytearray(index.chunk_count)
        for start, length in zip(index.run_starts, index.run_lengths, strict=True):
            held[start : start + length] = b"\1" * length
        lengths = (
            0 if is_held else it for it, is_held in zip(index.chunk_lengths, held, strict=True)
        )
        ends = list(accumulate(lengths, initial=0))
        for row in self._rows:
            self._links.append(1 + max((self._links[it] for it in row.predecessors), default=0))
            self._kept.append(sum(ends[start + length] - ends[start] for start, length in row.runs))

    def cost(self, named: Sequence[int]) -> tuple[int, int, int]:
        """Return the number of predecessors that a recipe needs, of links, and of bytes."""
        needed, ahead = set(named), list(named)
        while ahead:
            found = set(self._rows[ahead.pop()].predecessors) - needed
            needed |= found
            ahead += found
        links = max((self._links[it] for it in named), default=0)
        return len(needed), links, sum(self._kept[it] for it in needed)
