"""Names as one column: paths, link targets.

As objects of their own, a million paths take 80 MB more than their bytes.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain
from typing import overload

_END = b"\0"
_BLOCK_BYTES = 64 << 10
"""So much is split into names at a time."""


class Names(Sequence[bytes]):
    """Byte strings without a NUL, in one buffer.

    Args:
        joined: the names, a NUL behind each.
    """

    def __init__(self, joined: bytes = b"") -> None:
        self.joined = joined

    @classmethod
    def of(cls, names: Sequence[bytes]) -> Names:
        """Return some names as a column."""
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
        """Where each name starts, and where one behind the last would."""
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
        """Return a name, or some."""
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
        """Tell whether another sequence holds the same names."""
        if isinstance(other, Names):
            return self.joined == other.joined
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


def side_by_side(
    old: Iterable[bytes], new: Iterable[bytes]
) -> Iterator[tuple[bytes, int | None, int | None]]:
    """Yield each name, and its position in each of two columns that are in order, or None."""
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
