"""Differences of two texts, line by line, as hunks of a unified diff.

Lines that occur once in both texts anchor the comparison, as in a patience diff: they are what a
person would take for the same. Between anchors the shortest edit is looked for. That takes time
that grows with the square of the edit, so it is bounded, and a stretch beyond the bound counts as
replaced: a result is never wrong, it may be longer than it need be.

Sources: E. W. Myers, "An O(ND) Difference Algorithm and Its Variations", Algorithmica 1 (1986);
B. Cohen, "Patience Diff Advantages" (2010). The form of hunks: POSIX.1-2017, diff, "-u".
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

MAX_EDITS = 400
"""Greatest number of lines removed and added between two anchors that are searched for a shortest
edit."""
MAX_STEPS = 2_000_000
"""Bound on the steps of all searches in one text: a second or two."""

Block = tuple[int, int, int]
"""A stretch that both texts have: its first line in the old one, in the new one, and its length."""


class Line(NamedTuple):
    """A line of a hunk.

    Args:
        mark: " " for a line of both texts, "-" of the old one, "+" of the new one.
        text: with the end of the line; the last line of a text may have none. Bytes that are not
            UTF-8 are surrogate-escaped.
    """

    mark: str
    text: str


class Hunk(NamedTuple):
    """A stretch of lines that differ, and the lines around them.

    Args:
        old_start: number of the first line in the old text, from 1; 0 if it has none.
        old_lines: number of lines of the old text.
        new_start: number of the first line in the new text, from 1; 0 if it has none.
        new_lines: number of lines of the new text.
        lines: the lines, in order.
    """

    old_start: int
    old_lines: int
    new_start: int
    new_lines: int
    lines: tuple[Line, ...]


def hunks_of(old: bytes, new: bytes, context: int = 3) -> Iterator[Hunk]:
    """Compare two texts.

    Args:
        old: the one text.
        new: the other text.
        context: number of equal lines shown around those that differ, 0 or more.

    Yields:
        The hunks, in order.
    """
    before, after = _lines(old), _lines(new)
    numbers: dict[bytes, int] = {}
    one = [numbers.setdefault(line, len(numbers)) for line in before]
    other = [numbers.setdefault(line, len(numbers)) for line in after]
    for group in _groups(_gaps(matching_blocks(one, other), len(one), len(other)), context):
        yield _hunk(before, after, group, context)


def _lines(text: bytes) -> list[bytes]:
    r"""Return the lines of a text; only ``\n`` ends one."""
    lines = text.split(b"\n")
    last = lines.pop()
    return [line + b"\n" for line in lines] + ([last] if last else [])


def matching_blocks(old: Sequence[int], new: Sequence[int]) -> list[Block]:
    """Return stretches that two sequences have in common, in order and without overlaps.

    Args:
        old: the one sequence.
        new: the other one.

    Returns:
        The stretches.
    """
    out: list[Block] = []
    steps = MAX_STEPS
    todo = [(0, len(old), 0, len(new))]
    while todo:
        first, last, begin, end = todo.pop()
        head = _common(old, new, range(first, last), range(begin, end))
        tail = _common(
            old, new, range(last - 1, first + head - 1, -1), range(end - 1, begin + head - 1, -1)
        )
        out += [(first, begin, head), (last - tail, end - tail, tail)]
        first, last, begin, end = first + head, last - tail, begin + head, end - tail
        if first == last or begin == end or steps <= 0:
            continue
        steps -= last - first + end - begin
        anchors = _anchors(old[first:last], new[begin:end])
        if anchors:
            marks = [(first, begin), *((first + at, begin + to) for at, to in anchors), (last, end)]
            for (at, to), (next_at, next_to) in pairwise(marks):
                todo.append((at, next_at, to, next_to))
        else:
            found, used = _shortest(old[first:last], new[begin:end], steps)
            steps -= used
            out += [(first + at, begin + to, 1) for at, to in found]
    return sorted(block for block in out if block[2])


def _common(old: Sequence[int], new: Sequence[int], at: range, to: range) -> int:
    """Return how many lines at two places are equal, one after the other."""
    count = 0
    for one, other in zip(at, to, strict=False):
        if old[one] != new[other]:
            break
        count += 1
    return count


def _anchors(old: Sequence[int], new: Sequence[int]) -> list[tuple[int, int]]:
    """Return lines that occur once in both, as many as stand in the same order in both."""
    once = {line for line, count in Counter(old).items() if count == 1}
    once &= {line for line, count in Counter(new).items() if count == 1}
    place = {line: at for at, line in enumerate(new) if line in once}
    pairs = [(at, place[line]) for at, line in enumerate(old) if line in once]
    # The longest ascending sequence of places: the least end of each length, and links back.
    ends: list[int] = []
    tops: list[int] = []
    before: list[int] = []
    for number, (_, to) in enumerate(pairs):
        length = bisect_left(ends, to)
        before.append(tops[length - 1] if length else -1)
        if length == len(ends):
            ends.append(to)
            tops.append(number)
        else:
            ends[length], tops[length] = to, number
    chain: list[tuple[int, int]] = []
    number = tops[-1] if tops else -1
    while number >= 0:
        chain.append(pairs[number])
        number = before[number]
    return chain[::-1]


def _shortest(
    old: Sequence[int], new: Sequence[int], steps: int
) -> tuple[list[tuple[int, int]], int]:
    """Return the lines that the shortest edit keeps, and the steps that the search took.

    None are kept if the edit has more than MAX_EDITS lines, or the search takes more steps.
    """
    reach = {1: 0}
    trace: list[dict[int, int]] = []
    used = 0
    for edits in range(min(len(old) + len(new), MAX_EDITS) + 1):
        trace.append(reach.copy())
        used += 2 * edits + 1
        if used > steps:
            break
        for line in range(-edits, edits + 1, 2):
            down = line == -edits or (line != edits and reach[line - 1] < reach[line + 1])
            at = reach[line + 1] if down else reach[line - 1] + 1
            to = at - line
            while at < len(old) and to < len(new) and old[at] == new[to]:
                at, to = at + 1, to + 1
                used += 1
            reach[line] = at
            if at >= len(old) and to >= len(new):
                return _kept(trace, at, to), used
    return [], used


def _kept(trace: list[dict[int, int]], at: int, to: int) -> list[tuple[int, int]]:
    """Return the equal lines on the way that a search took."""
    out: list[tuple[int, int]] = []
    for edits in range(len(trace) - 1, -1, -1):
        reach, line = trace[edits], at - to
        down = line == -edits or (line != edits and reach[line - 1] < reach[line + 1])
        before = line + 1 if down else line - 1
        start = reach[before]
        while at > start + (not down) and to > start - before + down and edits:
            at, to = at - 1, to - 1
            out.append((at, to))
        if edits:
            at, to = start, start - before
    while at > 0 and to > 0:
        at, to = at - 1, to - 1
        out.append((at, to))
    return out


def _gaps(blocks: list[Block], old: int, new: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield the stretches that differ: first and last line in the old text, and in the new."""
    at = to = 0
    for first, begin, length in [*blocks, (old, new, 0)]:
        if first > at or begin > to:
            yield at, first, to, begin
        at, to = first + length, begin + length


Gap = tuple[int, int, int, int]


def _groups(gaps: Iterator[Gap], context: int) -> Iterator[list[Gap]]:
    """Yield stretches whose surroundings touch, together."""
    group: list[Gap] = []
    for gap in gaps:
        if group and gap[0] - group[-1][1] > 2 * context:
            yield group
            group = []
        group.append(gap)
    if group:
        yield group


def _hunk(before: list[bytes], after: list[bytes], group: list[Gap], context: int) -> Hunk:
    """Return the hunk of some stretches that differ."""
    lead = min(context, group[0][0])
    start, begin = group[0][0] - lead, group[0][2] - lead
    trail = min(context, len(before) - group[-1][1])
    end, stop = group[-1][1] + trail, group[-1][3] + trail
    lines: list[Line] = []
    at = start
    for first, last, new_first, new_last in group:
        lines += [_line(" ", line) for line in before[at:first]]
        lines += [_line("-", line) for line in before[first:last]]
        lines += [_line("+", line) for line in after[new_first:new_last]]
        at = last
    lines += [_line(" ", line) for line in before[at:end]]
    return Hunk(
        start + (end > start), end - start, begin + (stop > begin), stop - begin, tuple(lines)
    )


def _line(mark: str, line: bytes) -> Line:
    return Line(mark, line.decode("utf-8", "surrogateescape"))
