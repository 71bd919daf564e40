"""Where in old streams the text of new ones lies: by fingerprints of what both hold.

Texts are cut where their content says so, and pieces that are equal vote for a place. So it does
not matter whether a stream was renamed, split, moved or grew.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from packer.engine.chunking import ChunkParams
from packer.engine.pieces import Course, Places, cut_pieces
from packer.engine.tokens import Span
from packer.opening.recipe import MAX_SPANS

if TYPE_CHECKING:
    from typing_extensions import Buffer

MARGIN_BYTES = 64 << 10
"""How far before and behind the place found a span reaches."""
NEAR_BYTES = 2 << 20
"""How far pieces of a text may have moved against one another, unless most of it has moved."""
GUESS_BYTES = 1 << 20
"""How far a span reaches around a place that was only guessed."""

_LEAST_PIECE, _MOST_PIECE = 1 << 10, 64 << 10
_MOST_MISSING = 1 << 18
"""Bytes of hashes of new pieces that are kept, at most."""
_MOST_PIECES, _MOST_OF_LARGE = 1 << 20, 1 << 19
"""Pieces of the old streams, about: longer pieces are taken where there would be more. Then they
are half as many, as large texts need memory for other things."""
_MOST_NEAR = 4 / 5
"""Share of the votes that must be near one another for the others to be left out."""
_TRIMMED = 50
"""One of this many votes on either side is left out, as it may be a piece that occurs twice."""
_WIDTHS = (
    (NEAR_BYTES, MARGIN_BYTES),
    (NEAR_BYTES, MARGIN_BYTES // 4),
    (NEAR_BYTES, MARGIN_BYTES // 16),
    (NEAR_BYTES // 64, MARGIN_BYTES // 16),
)
"""Bytes that pieces in one span of a delta may be apart, and bytes that it reaches around them. The
first pair counts with which all spans are not too long together."""
_LEAST_VOTES = 3
"""Votes for a span of a delta, at least, unless all have fewer: pieces that occur twice vote for
one of their places."""


class Place(NamedTuple):
    """A stretch of an old stream.

    Args:
        stream: its number.
        span: the stretch.
    """

    stream: int
    span: Span


class Fingerprints:
    """The pieces of old streams, by their hash.

    Args:
        plain_bytes: of all old streams, about.
    """

    def __init__(self, plain_bytes: int) -> None:
        average, most = _LEAST_PIECE, _MOST_PIECES
        while average < _MOST_PIECE and plain_bytes // average > most:
            average, most = 2 * average, _MOST_OF_LARGE
        self.average = average
        """Bytes of a piece, on average."""
        self._params = ChunkParams(average)
        self._places, self._course = Places(), Course()
        self._last, self._begin = -1, 0  # the stream that was added to last, and its first piece

    def add(self, stream: int, position: int, plain: Buffer, *, is_further: bool = False) -> None:
        """Record a part of an old stream.

        Args:
            stream: its number.
            position: of the part in the plaintext.
            plain: the part. One at position 0 begins the stream: if the one before had the same
                number, it turned out to be none.
            is_further: whether pieces that are known keep their place.
        """
        if not position:
            self.forget(stream)
            self._last, self._begin = stream, len(self._places)
        pieces = cut_pieces(plain, self._params, position)
        self._places.add(stream, self._places.unknown(pieces) if is_further else pieces)

    def forget(self, stream: int) -> None:
        """Forget the stream that was added to last, if it has a number: it turned out to be none.

        Args:
            stream: the number.
        """
        if self._last == stream:
            self._places.forget(self._begin)

    def find(self, position: int, plain: Buffer, votes: Votes) -> None:
        """Look up a part of a new stream.

        Args:
            position: of the part in the plaintext.
            plain: the part; the parts of a stream come in order, before those of another one.
            votes: takes what is found.
        """
        if not position:
            self._course = Course()
        pieces = cut_pieces(plain, self._params, position)
        if not pieces.starts:
            return
        found = self._places.look_up(pieces, self._course)
        votes.new.frombytes(found.starts)
        votes.stream.frombytes(found.streams)
        votes.old.frombytes(found.positions)
        votes.missing += found.missing[: max(_MOST_MISSING - len(votes.missing), 0)]

    def release(self) -> None:
        """Release the memory: nothing is looked up any more."""
        self._places = Places()


class Votes:
    """Pieces that a new stream has in common with old ones, in order."""

    __slots__ = ("missing", "new", "old", "stream")

    def __init__(self) -> None:
        self.new, self.stream, self.old = array("Q"), array("I"), array("Q")
        self.missing = bytearray()
        """Hashes of the pieces that no old stream has, PIECE_KEY_BYTES each; of many not all."""

    def best_stream(self) -> int:
        """Return the number of the stream with the most votes, -1 if there is no vote."""
        return _most(self.stream)

    def share(self, start: int, end: int, average: int) -> float:
        """Return how much of a stretch has votes, about: 1 if all pieces are old.

        Args:
            start: first byte of the stretch.
            end: byte behind the last one.
            average: bytes of a piece.
        """
        count = bisect_left(self.new, end) - bisect_left(self.new, start)
        return count * average / max(end - start, 1)

    def reaches(self, end: int) -> bool:
        """Return whether anything before `end` has a vote."""
        return bool(self.new) and self.new[0] < end

    def counterpart(self, start: int, end: int) -> tuple[int, int] | None:
        """Return where a stretch lies if all of it is old, by its first vote: stream and position.

        Args:
            start: first byte of the stretch.
            end: byte behind the last one.
        """
        at = bisect_left(self.new, start)
        if at == len(self.new) or self.new[at] >= end or self.old[at] < self.new[at] - start:
            return None
        return self.stream[at], self.old[at] - (self.new[at] - start)

    def locate(
        self, start: int, end: int, size: int, old: Sequence[int], guess: int, most: int
    ) -> Place:
        """Return where a stretch of the new stream probably lies.

        Args:
            start: first byte of the stretch.
            end: byte behind the last one.
            size: bytes of the new stream.
            old: size of each old stream.
            guess: old stream for a stretch without votes.
            most: greatest length of the place, in bytes.
        """
        first, last = bisect_left(self.new, start), bisect_left(self.new, end)
        stream = _most(self.stream[first:last])
        if stream < 0:
            return self._guess(first, start, end, size, old, guess, most)
        shifts = sorted(
            self.old[at] - self.new[at] for at in range(first, last) if self.stream[at] == stream
        )
        centre = shifts[len(shifts) // 2]
        near = [shift for shift in shifts if abs(shift - centre) <= NEAR_BYTES]
        if len(near) < _MOST_NEAR * len(shifts):
            near = shifts
        out = len(near) // _TRIMMED
        low, high = start + near[out], end + near[-1 - out]
        middle = (start + end) // 2 + centre
        return _place(stream, low - MARGIN_BYTES, high + MARGIN_BYTES, middle, old[stream], most)

    def spans(
        self, start: int, end: int, size: int, old: Sequence[int], guess: int, most: int
    ) -> tuple[Place, ...]:
        """Return where the parts of a stretch of the new stream probably lie.

        Args:
            start: first byte of the stretch.
            end: byte behind the last one.
            size: bytes of the new stream.
            old: size of each old stream.
            guess: old stream for a stretch without votes.
            most: greatest length of all places together, in bytes.

        Returns:
            At least one place, MAX_SPANS at most, in order, apart from one another.
        """
        first, last = bisect_left(self.new, start), bisect_left(self.new, end)
        if first == last:
            return (self._guess(first, start, end, size, old, guess, most),)
        kept: list[_Run] = []
        for near, margin in _WIDTHS:
            kept = _joined(self._runs(first, last, start, end, near), margin, old)
            if sum(run.size for run in kept) <= most:
                break
        kept.sort(key=lambda run: (-run.votes, run.stream, run.low))
        places: list[Place] = []
        for run in kept[:MAX_SPANS]:
            if places and run.votes < _LEAST_VOTES:
                break
            length = min(run.size, most)
            if length:
                places.append(Place(run.stream, Span(run.low, length)))
                most -= length
        return tuple(sorted(places))

    def _runs(self, first: int, last: int, start: int, end: int, near: int) -> list[_Run]:
        """Return the old stretches between votes that follow one another in both texts."""
        new, stream, old = self.new, self.stream, self.old
        out: list[_Run] = []
        number, high, votes = stream[first], old[first], 1
        low = max(high - min(new[first] - start, near), 0)
        for at in range(first + 1, last):
            place = old[at]
            if stream[at] == number and 0 <= place - high <= near:
                votes += 1
            else:
                out.append(_Run(number, low, high, votes))
                number, low, votes = stream[at], place, 1
            high = place
        out.append(_Run(number, low, high + min(end - new[last - 1], near), votes))
        return out

    def _guess(
        self,
        first: int,
        start: int,
        end: int,
        size: int,
        old: Sequence[int],
        guess: int,
        most: int,
    ) -> Place:
        """Return where a stretch may lie that has nothing in common with an old stream."""
        if first:  # behind what comes before it
            stream, shift = self.stream[first - 1], self.old[first - 1] - self.new[first - 1]
            low, high = start + shift, end + shift
        else:
            stream, shift = guess, old[guess] - size
            low, high = start + min(shift, 0), end + max(shift, 0)
        middle = (low + high) // 2
        return _place(stream, low - GUESS_BYTES, high + GUESS_BYTES, middle, old[stream], most)


class _Run(NamedTuple):
    """A stretch of an old stream, and how many pieces of it were found."""

    stream: int
    low: int
    high: int
    votes: int

    @property
    def size(self) -> int:
        """Its length in bytes."""
        return self.high - self.low


def _joined(runs: Iterable[_Run], margin: int, old: Sequence[int]) -> list[_Run]:
    """Return runs with a margin on either side, those joined that meet then."""
    out: list[_Run] = []
    for stream, low, high, votes in sorted(runs):
        low, high = max(low - margin, 0), min(high + margin, old[stream])
        if out and out[-1].stream == stream and low <= out[-1].high:
            before = out[-1]
            high, votes = max(high, before.high), votes + before.votes
            out[-1] = _Run(stream, before.low, high, votes)
        elif low < high:
            out.append(_Run(stream, low, high, votes))
    return out


def _place(stream: int, low: int, high: int, middle: int, size: int, most: int) -> Place:
    """Return a stretch of a stream, cut to what there is and what is allowed."""
    low, high = max(low, 0), min(high, size)
    if low >= high:  # beyond the stream's end
        low, high = max(size - 2 * GUESS_BYTES, 0), size
    if high - low > most:
        low = min(max(low, middle - most // 2), high - most)
        high = low + most
    return Place(stream, Span(low, high - low))


def _most(streams: array[int]) -> int:
    """Return the number that occurs most, the smallest of several; -1 if there is none."""
    counts = Counter(streams)
    return min(counts, key=lambda stream: (-counts[stream], stream), default=-1)
