"""Completion of an index: layers that stay, then new ones, and the numbers of all chunks."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable

from packer.format.frames import Frames
from packer.format.index import DIGEST_BYTES, Index
from packer.format.layer_writer import LayerWriter
from packer.packing.older.older_chunks import NewChunks


def complete_index(
    index: Index, base: Frames, kept: set[int], new: NewChunks, writer: LayerWriter
) -> None:
    """Fill in the columns of layers, frames and chunks, and renumber the runs.

    The runs of predecessors are renumbered as well as those of the entries.

    Args:
        index: entries and runs, in ordinals of all base chunks, then the new ones.
        base: frames of the base.
        kept: ordinals of the base layers that stay. They hold the prefixes of their own frames.
        new: the new chunks.
        writer: wrote the new frames; flushed. Its layers follow the kept ones.
    """
    index.chunk_lengths, index.chunk_digests = array("I"), bytearray()
    shifts = _Shifts()
    for layer in range(len(base.index.layer_frames)):
        _add_layer(index, base, layer, shifts, is_kept=layer in kept)
    index.layer_frames.extend(writer.layer_frames)
    index.frame_stored.extend(writer.frame_stored)
    index.frame_chunks.extend(writer.frame_chunks)
    index.frame_depths += writer.frame_depths
    for runs in writer.frame_prefixes:
        index.frame_prefix_runs.append(len(runs))
        _add_prefix(index, runs, shifts)
    index.chunk_lengths.extend(new.lengths)
    index.chunk_digests += new.digests
    if shifts:
        index.run_starts = array("I", map(shifts.apply, index.run_starts))
        index.predecessors = [
            row._replace(runs=tuple((shifts.apply(start), length) for start, length in row.runs))
            for row in index.predecessors
        ]


def _add_layer(index: Index, base: Frames, layer: int, shifts: _Shifts, *, is_kept: bool) -> None:
    """Append a layer of the base, or leave its chunks out."""
    frames, old = base.of_layer(layer), base.index
    first, last = frames.start, frames.stop
    start, end = base.first_chunk[first], base.first_chunk[last]
    if not is_kept:
        shifts.leave_out(start, end)
        return
    index.layer_frames.append(last - first)
    index.frame_stored.extend(old.frame_stored[first:last])
    index.frame_chunks.extend(old.frame_chunks[first:last])
    index.frame_depths += old.frame_depths[first:last]
    index.frame_prefix_runs.extend(old.frame_prefix_runs[first:last])
    for frame in frames:
        _add_prefix(index, base.prefix_runs(frame), shifts)
    index.chunk_lengths.extend(old.chunk_lengths[start:end])
    index.chunk_digests += old.chunk_digests[start * DIGEST_BYTES : end * DIGEST_BYTES]


def _add_prefix(index: Index, runs: Iterable[tuple[int, int]], shifts: _Shifts) -> None:
    """Append the runs of a frame's prefix."""
    for start, length in runs:
        index.prefix_starts.append(shifts.apply(start))
        index.prefix_lengths.append(length)


class _Shifts:
    """Distances by which ordinals move down when chunks before them are left out."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._totals = [0]

    def __bool__(self) -> bool:
        """Return whether anything was left out."""
        return bool(self._starts)

    def leave_out(self, start: int, end: int) -> None:
        """Leave out the chunks from `start` to `end`, which lie behind all earlier ones."""
        self._starts.append(start)
        self._totals.append(self._totals[-1] + end - start)

    def apply(self, ordinal: int) -> int:
        """Return the new ordinal of a chunk that stays."""
        return ordinal - self._totals[bisect_right(self._starts, ordinal)]
