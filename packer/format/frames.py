"""Positions of frames and chunks, summed up from an index; and runs of chunks."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator

from packer.format.index import Index, sums


class Frames:
    """Positions of frames and chunks, computed once from an index's columns.

    Args:
        index: complete; checked, or about to be checked.
    """

    def __init__(self, index: Index) -> None:
        self.index = index
        self.first_chunk = sums(index.frame_chunks)
        """Ordinal of each frame's first chunk; the number of all chunks at the end."""
        self.end = sums(index.chunk_lengths)
        """Plaintext bytes before each chunk, through all layers; of all chunks at the end."""
        self.first_prefix_run = sums(index.frame_prefix_runs)
        """Number of prefix runs before each frame's own; of all at the end."""
        self.layer = array("I")
        """Layer of each frame."""
        self.offset = array("Q")
        """Offset in bytes of each frame in its layer."""
        frame = 0
        for layer, count in enumerate(index.layer_frames):
            at = 0
            for stored in index.frame_stored[frame : frame + count]:
                self.layer.append(layer)
                self.offset.append(at)
                at += stored
            frame += count

    def of_chunk(self, chunk: int) -> int:
        """Return the frame that holds a chunk.

        Args:
            chunk: its ordinal, below the index's `chunk_count`.

        Returns:
            the frame's ordinal.
        """
        return bisect_right(self.first_chunk, chunk) - 1

    def of_layer(self, layer: int) -> range:
        """Return the frames of a data layer.

        Args:
            layer: its ordinal in the manifest's data layers.

        Returns:
            ordinals of frames.
        """
        return range(bisect_left(self.layer, layer), bisect_right(self.layer, layer))

    def parts(self, start: int, length: int) -> Iterator[tuple[int, int, int]]:
        """Split a run of chunks at the ends of frames.

        Args:
            start: first chunk of the run.
            length: number of chunks.

        Yields:
            (frame, first chunk, number of chunks), in order.
        """
        while length:
            frame = self.of_chunk(start)
            count = min(length, self.first_chunk[frame + 1] - start)
            yield frame, start, count
            start += count
            length -= count

    def run_bytes(self, runs: Iterable[tuple[int, int]]) -> int:
        """Return the plaintext bytes of some runs, of which each has a first chunk and a number."""
        return sum(self.end[start + length] - self.end[start] for start, length in runs)

    def plain_bytes(self, frame: int) -> int:
        """Return the plaintext bytes of a frame.

        Args:
            frame: its ordinal.

        Returns:
            the sum of its chunks' lengths.
        """
        return self.end[self.first_chunk[frame + 1]] - self.end[self.first_chunk[frame]]

    def prefix_runs(self, frame: int) -> list[tuple[int, int]]:
        """Return the runs of chunks that a frame is compressed against.

        Args:
            frame: its ordinal.

        Returns:
            pairs of first chunk and number of chunks; empty for a frame without a prefix.
        """
        first, last = self.first_prefix_run[frame], self.first_prefix_run[frame + 1]
        index = self.index
        return list(
            zip(index.prefix_starts[first:last], index.prefix_lengths[first:last], strict=True)
        )


class Runs:
    """Runs of chunks in 8 bytes each: pairs of the first ordinal and the number of chunks.

    A frame's prefix may have a hundred thousand runs; as tuples they would take 120 bytes each.

    Args:
        chunks: ordinals of the chunks; successive ones that adjoin become one run.
    """

    __slots__ = ("_counts", "_starts")

    def __init__(self, chunks: Iterable[int] = ()) -> None:
        self._starts, self._counts = array("I"), array("I")
        end = -1
        for chunk in chunks:
            if chunk == end:
                self._counts[-1] += 1
            else:
                self._starts.append(chunk)
                self._counts.append(1)
            end = chunk + 1

    def __len__(self) -> int:
        """Return the number of runs."""
        return len(self._starts)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield the runs."""
        return zip(self._starts, self._counts, strict=True)


def joined(
    read: Callable[[int, int], list[memoryview]], runs: Iterable[tuple[int, int]]
) -> bytearray:
    """Return the bytes of runs, one after another.

    Args:
        read: returns the bytes of a run's chunks, given first chunk and number of chunks.
        runs: pairs of first chunk and number of chunks.

    Returns:
        a new buffer.
    """
    out = bytearray()
    for start, length in runs:
        # Each part keeps the whole frame it lies in alive, so only one run's parts are held.
        for part in read(start, length):
            out += part
    return out
