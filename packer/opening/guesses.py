"""Which old stream a new one probably was, where their texts share no piece: by names and order.

A class of a jar that was compiled anew has no stretch of a KiB in common with its older self, and
yet a delta against it takes half of what the class takes alone.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

_NUMBERS = re.compile(rb"[0-9]+")


class _Named(Protocol):
    """A stream of either file."""

    @property
    def number(self) -> int:
        """Its number in the file."""

    @property
    def name(self) -> bytes:
        """Of the zip entry; empty if it is none."""


def guesses(
    new: Sequence[_Named], old: Sequence[_Named], unchanged: Collection[int]
) -> dict[int, int]:
    """Return the number of an old stream for each new one.

    Zip entries are taken by their names, then by their names but for numbers, as a directory may be
    named by the version; all others in order.

    Args:
        new: the streams that changed, in order.
        old: the old streams, in order; not empty.
        unchanged: numbers of those that the new file has as they are.
    """
    out: dict[int, int] = {}
    for key in (_exact, _without_numbers):
        by_name: dict[bytes, deque[int]] = {}
        used = set(out.values())
        for each in old:
            if each.name and each.number not in used:
                by_name.setdefault(key(each.name), deque()).append(each.number)
        for each in new:
            if each.name and each.number not in out and (found := by_name.get(key(each.name))):
                out[each.number] = found.popleft()
    used = set(out.values())
    rest: Iterable[int] = (
        each.number for each in old if each.number not in unchanged and each.number not in used
    )
    rest = iter(rest)
    for each in new:
        if each.number not in out:
            out[each.number] = next(rest, old[-1].number)
    return out


def _exact(name: bytes) -> bytes:
    return name


def _without_numbers(name: bytes) -> bytes:
    return _NUMBERS.sub(b"0", name)
