"""Names in one column: paths, link targets.

A million paths as bytes objects take 80 MB more than their bytes.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain
from typing import overload

_END = b"\0"
_BLOCK_BYTES = 64 << 10
"""Bytes of a column that are split into names at a time; bounds the objects held at once."""


class Names(Sequence[bytes]):
    """A sequence of byte strings without NULs, in one buffer.

    Args:
        joined: the names, each followed by a NUL.
    """

    def __init__(self, joined: bytes = b"") -> None:
        self.joined = joined

    @classmethod
    def of(cls, names: Sequence[bytes]) -> Names:
        """Return names as a column; a column is returned as it is."""
        if isinstance(names, cls):
            return names
        return cls(_END.join(names) + _END if names else b"")

    def _blocks(self) -> Iterator[list[bytes]]:
        joined, at = self.joined, 0
        while at < len(joined):
            end = joined.find(_END, at + _BLOCK_BYTES)
            if end < 0:
                end = len(joined) - 1
            yield joined[at:end].split(_END)
            at = end + 1

    @cached_property
    def _starts(self) -> array[int]:
        """Offset of each name, and the offset behind the last one's NUL."""
        starts, at = array("I" if len(self.joined) < 1 << 32 else "Q", [0]), 0
        for block in self._blocks():
            for name in block:
                at += len(name) + 1
                starts.append(at)
        return starts

    @cached_property
    def _count(self) -> int:
        return self.joined.count(_END)

    def __len__(self) -> int:
        """Return the number of names."""
        return self._count

    def __iter__(self) -> Iterator[bytes]:
        """Return the names in order."""
        return chain.from_iterable(self._blocks())

    @overload
    def __getitem__(self, at: int) -> bytes: ...
    @overload
    def __getitem__(self, at: slice) -> list[bytes]: ...
    def __getitem__(self, at: int | slice) -> bytes | list[bytes]:
        """Return the name at a position, or the names of a slice.

        Args:
            at: position, or slice of positions.

        Returns:
            A name, or a list of names.

        Raises:
            IndexError: there is no such position.
        """
        starts = self._starts
        if isinstance(at, slice):
            first, last, step = at.indices(len(self))
            if step != 1 or first >= last:
                return [self[each] for each in range(first, last, step)]
            return self.joined[starts[first] : starts[last] - 1].split(_END)
        if at < 0:
            at += len(self)
        if not 0 <= at < len(self):
            raise IndexError(at)
        return self.joined[starts[at] : starts[at + 1] - 1]

    def __eq__(self, other: object) -> bool:
        """Return whether another sequence holds the same names in the same order."""
        if isinstance(other, Names):
            return self.joined == other.joined
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


def side_by_side(
    old: Iterable[bytes], new: Iterable[bytes]
) -> Iterator[tuple[bytes, int | None, int | None]]:
    """Merge two columns of names that are in ascending order.

    Args:
        old: the one column.
        new: the other one.

    Yields:
        Each name, in order, with its position in `old` and in `new`; None where it is missing.
    """
    one, other = enumerate(old), enumerate(new)
    before, after = next(one, None), next(other, None)
    while before is not None or after is not None:
        if after is None or (before is not None and before[1] < after[1]):
            assert before is not None
            yield before[1], before[0], None
            before = next(one, None)
        elif before is None or after[1] < before[1]:
            yield after[1], None, after[0]
            after = next(other, None)
        else:
            yield before[1], before[0], after[0]
            before, after = next(one, None), next(other, None)
