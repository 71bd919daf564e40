"""Older counterparts of new chunks: what a frame of them is best compressed against.

A changed file is looked up in the base under the same path, then under the same path with digits
ignored (``chart-1.4.1.tgz`` -> ``chart-1.4.2.tgz``), then by its name alone (it moved). Within the
file, the last chunk that did not change, or is similar, tells where its neighbours are.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left, bisect_right
from collections import defaultdict
from itertools import accumulate

from packer.index import Index
from packer.tree import FILE

_DIGITS = re.compile(rb"\d+")


class Counterparts:
    """Finds base files to compare with.

    Args:
        base: index of the base.
    """

    def __init__(self, base: Index) -> None:
        self._base = base
        self._by_shape: dict[bytes, list[int]] | None = None
        self._by_name: dict[bytes, list[int]] = {}

    def open(self, path: bytes) -> Alignment | None:
        """Return the alignment with the base file most like the one at `path`, or None.

        Args:
            path: of the new file.
        """
        base = self._base
        entry = base.find(path)
        if entry < 0 or not base.run_counts[entry]:
            entry = self._similar(path)
        if entry < 0:
            return None
        return Alignment(base, base.runs_of(entry))

    def _similar(self, path: bytes) -> int:
        base = self._base
        if self._by_shape is None:
            self._by_shape = defaultdict(list)
            self._by_name = defaultdict(list)
            for entry, (old, kind) in enumerate(zip(base.paths, base.kinds, strict=True)):
                if kind == FILE and base.run_counts[entry]:
                    self._by_shape[_shape(old)].append(entry)
                    self._by_name[_shape(old.rpartition(b"/")[2])].append(entry)
        found = self._by_shape.get(_shape(path))
        if not found:
            found = self._by_name.get(_shape(path.rpartition(b"/")[2]))
        if not found:
            return -1
        # Many files may be called values.yaml: the longest common end of the path decides.
        # A few are enough to choose from; a tree of a million equal names must not cost a million.
        return max(found[:64], key=lambda entry: (*_common_end(base.paths[entry], path), -entry))


def _shape(path: bytes) -> bytes:
    return _DIGITS.sub(b"0", path)


def _common_end(one: bytes, other: bytes) -> tuple[int, int]:
    """Return how many names at the end are the same with digits ignored, and how many exactly."""
    count = same = 0
    for left, right in zip(reversed(one.split(b"/")), reversed(other.split(b"/")), strict=False):
        if _shape(left) != _shape(right):
            break
        count += 1
        same += left == right
    return count, same


class Alignment:
    """Where the parts of a new file lie in an old one.

    Args:
        base: index of the base.
        runs: of the old file.
    """

    def __init__(self, base: Index, runs: list[tuple[int, int]]) -> None:
        self._chunks = array("I")
        for start, length in runs:
            self._chunks.extend(range(start, start + length))
        self._ends = array("Q", accumulate(base.chunk_lengths[chunk] for chunk in self._chunks))
        self._position = {chunk: at for at, chunk in enumerate(self._chunks)}
        self._shift = 0

    def align(self, chunk: int, end: int) -> None:
        """Say that the new file holds base chunk `chunk`, or one like it, up to offset `end`."""
        at = self._position.get(chunk)
        if at is not None:
            self._shift = self._ends[at] - end

    def near(self, start: int, end: int, slack: int) -> tuple[array[int], array[int]]:
        """Return the old chunks where ``[start, end)`` of the new file should be, and those around.

        Args:
            start: first byte in the new file.
            end: behind the last one.
            slack: how many bytes to look further on either side.
        """
        low, high = start + self._shift, end + self._shift
        if self._ends and low - slack >= self._ends[-1]:
            low = self._ends[-1] - (end - start)  # the old file is shorter: its end
        outer = self._between(low - slack, high + slack)
        inner = self._between(low, high)
        chunks = self._chunks
        return (
            chunks[inner.start : inner.stop],
            chunks[outer.start : inner.start] + chunks[inner.stop : outer.stop],
        )

    def _between(self, low: int, high: int) -> range:
        first = bisect_right(self._ends, max(low, 0))
        last = bisect_left(self._ends, max(high, 1))
        return range(first, min(last + 1, len(self._ends)))
