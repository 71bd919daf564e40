"""The older counterpart of a changed file, and where in it each new chunk's older self lies.

A file is looked up in the base under the same path, then under the same path with numbers ignored
(``chart-1.4.1.tgz`` -> ``chart-1.4.2.tgz``), then by its name alone, as it may have moved. Within
the file, the last chunk that did not change, or that is similar, gives the shift of those behind.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from itertools import accumulate

from xxhash import xxh32_intdigest

from packer.format.index import Index

_DIGITS = re.compile(rb"\d+(?:\.\d+)*")
"""Numbers and versions, so that 2.10 and 2.10.1 are alike."""
_MOST_FOUND, _MOST_TRIED = 64, 256
"""Files of one shape that are compared, and hash entries looked at for them: a tree of a million
equal names must not cost a million comparisons for each file."""
_BLOCK = 4096
"""Paths decoded at a time."""


class Counterparts:
    """Finds the files of the base to compare new ones with.

    Args:
        base: the base's index.
    """

    def __init__(self, base: Index) -> None:
        self._base = base
        self._shapes: tuple[_Shapes, _Shapes] | None = None  # by path, and by name

    def open(self, path: bytes) -> Alignment | None:
        """Return the alignment with the base's file that is most like a new one.

        Args:
            path: the new file's path.

        Returns:
            the alignment; None if no file of the base is like it.
        """
        entry = self.entry(path)
        return Alignment(self._base, self._base.runs_of(entry)) if entry >= 0 else None

    def entry(self, path: bytes) -> int:
        """Return the entry of the base's file that is most like a new one, -1 if there is none.

        Args:
            path: the new file's path.
        """
        entry = self._base.find(path)
        if entry < 0 or not self._base.run_counts[entry]:
            entry = self._similar(path)
        return entry

    def _similar(self, path: bytes) -> int:
        """Return the entry of a file with a similar path, -1 if there is none."""
        if self._shapes is None:
            self._shapes = _Shapes(self._base, shape), _Shapes(self._base, _shape_of_name)
        paths = self._base.paths
        for shapes in self._shapes:
            if found := shapes.find(path):
                # Many files may be called values.yaml: the longest common end decides.
                return max(found, key=lambda entry: (*_common_end(paths[entry], path), -entry))
        return -1


class _Shapes:
    """The files of an index by the shape of their path.

    Entries are chained by the hash of their shape, and the shape is computed again on a lookup. So
    a million files take 8 MB; in a dict they would take 300 MB.

    Args:
        base: the index.
        shape: returns the key that a path is looked up by.
    """

    def __init__(self, base: Index, shape: Callable[[bytes], bytes]) -> None:
        self._paths = paths = base.paths
        self._shape = shape
        count = len(paths)
        self._first = first = array("I", [count]) * (1 << count.bit_length())
        self._next = following = array("I", [count]) * count
        self._mask = mask = len(first) - 1
        for start in range(count - count % _BLOCK, -1, -_BLOCK):  # so that chains ascend
            block = paths[start : start + _BLOCK]
            for entry in range(start + len(block) - 1, start - 1, -1):
                if base.run_counts[entry]:
                    chain = xxh32_intdigest(shape(block[entry - start])) & mask
                    following[entry] = first[chain]
                    first[chain] = entry

    def find(self, path: bytes) -> list[int]:
        """Return the first entries whose paths have the shape of another path, at most 64."""
        wanted = self._shape(path)
        entry, out = self._first[xxh32_intdigest(wanted) & self._mask], list[int]()
        for _ in range(_MOST_TRIED):
            if entry == len(self._next) or len(out) == _MOST_FOUND:
                break
            if self._shape(self._paths[entry]) == wanted:
                out.append(entry)
            entry = self._next[entry]
        return out


def shape(path: bytes) -> bytes:
    """Return a path with each number replaced by 0."""
    return _DIGITS.sub(b"0", path)


def _shape_of_name(path: bytes) -> bytes:
    """Return the shape of a path's last component."""
    return shape(path.rpartition(b"/")[2])


def _common_end(one: bytes, other: bytes) -> tuple[int, int]:
    """Return how many components at the end have the same shape, and how many of them are equal."""
    count = same = 0
    for left, right in zip(reversed(one.split(b"/")), reversed(other.split(b"/")), strict=False):
        if shape(left) != shape(right):
            break
        count += 1
        same += left == right
    return count, same


class Alignment:
    """Maps offsets of a new file to chunks of an old one.

    Args:
        base: the base's index.
        runs: runs of the old file.
    """

    def __init__(self, base: Index, runs: Iterable[tuple[int, int]]) -> None:
        self._chunks = array("I")
        for start, length in runs:
            self._chunks.extend(range(start, start + length))
        self._ends = array("Q", accumulate(base.chunk_lengths[chunk] for chunk in self._chunks))
        self._position = {chunk: at for at, chunk in enumerate(self._chunks)}
        self._shift = 0

    def align(self, chunk: int, end: int) -> None:
        """Set the shift by a chunk that both files hold, or that is similar in both.

        Args:
            chunk: ordinal of the base's chunk; ignored unless the old file holds it.
            end: offset behind it in the new file, in bytes.
        """
        at = self._position.get(chunk)
        if at is not None:
            self._shift = self._ends[at] - end

    def near(self, start: int, end: int, slack: int) -> tuple[array[int], array[int]]:
        """Return the old chunks where a part of the new file should be, and those around them.

        Args:
            start: first byte of the part in the new file.
            end: byte behind the last one.
            slack: bytes to look further on either side.

        Returns:
            ordinals of chunks that overlap ``[start, end)`` once shifted; and of the others that
            overlap that part widened by `slack`.
        """
        low, high = start + self._shift, end + self._shift
        if self._ends and low - slack >= self._ends[-1]:
            low = self._ends[-1] - (end - start)  # the old file is shorter: take its end
        outer = self._between(low - slack, high + slack)
        inner = self._between(low, high)
        chunks = self._chunks
        return (
            chunks[inner.start : inner.stop],
            chunks[outer.start : inner.start] + chunks[inner.stop : outer.stop],
        )

    def _between(self, low: int, high: int) -> range:
        """Return the positions of the old chunks that overlap some bytes of the old file."""
        first = bisect_right(self._ends, max(low, 0))
        last = bisect_left(self._ends, max(high, 1))
        return range(first, min(last + 1, len(self._ends)))
