"""Where a version's bytes went: by path, and in archives that were opened. From the index alone."""

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


def uses(index: Index, first_layer: int) -> tuple[Use, ...]:
    """Return what each part of the tree costs, in byte order of the path.

    Args:
        index: of the version.
        first_layer: the first layer that is this version's own; those before it are reused.
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

    What is below a directory is one range, found by bisection; the directory itself may stand apart
    from it (``a``, ``a-b``, ``a/c``).
    """
    at = 0
    below: list[tuple[int, int]] = []  # ranges below directories that were met already
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
    """Return the files that were opened, in byte order of the path."""
    ends = [0, *accumulate(index.chunk_lengths)] if index.expansions else []

    def size(runs: list[tuple[int, int]]) -> int:
        return sum(ends[start + length] - ends[start] for start, length in runs)

    out = []
    for entry, row in index.expansions.items():
        content, recipe = index.split_runs(entry)
        out.append(Opened(show(index.paths[entry]), row.size, size(content), size(recipe)))
    return tuple(out)
