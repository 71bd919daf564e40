"""A deflate stream of an older file that was itself opened: its plaintext and tokens, not its bits.

What a recipe refers to is plaintext and tokens of old streams. The recipe of the older file gives
the plaintext, and of each segment the tokens. So the file need not be made and inflated, and
segments whose tokens nothing refers to are never made. Neither is the digest of the older file
compared, since its bytes are never there: its content and recipe are verified like all chunks, and
the digest of the file that is made in the end decides.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator
from threading import Lock

from packer.engine.deflate import (
    WINDOW_BYTES,
    NotDeflate,
    RecipeError,
    Segment,
    carry_of_rebuilt,
    is_cut,
    most_coded,
    rebuild,
)
from packer.engine.tokens import bits_of
from packer.errors import FormatError
from packer.files.spool import Memory, Spool
from packer.opening.against import is_against
from packer.opening.inflated_stream import DISTANCE
from packer.opening.kept_texts import MOST_BYTES, KeptTexts
from packer.opening.rebuilder import FirstStream
from packer.opening.segment_cache import SegmentCache

MEMORY_BYTES = 16 << 20
"""Memory of plaintext and of segments that were made, in bytes; more goes to temporary files."""
_LOCKS = 16
"""Segments that may be made at a time."""


class RebuiltStream:
    """A stream of a file that was opened, made from its recipe as far as it is asked for.

    May be used by several threads. Whatever is asked for, and how often: its plaintext is made
    once, and so is each of its segments.

    Args:
        first: the stream in its file's recipe.
        size: bytes of its plaintext.
        file_size: bytes of its file.
        what: how errors name it.
        cache: keeps segments.
        spool: makes what keeps plaintext and segments, given the greatest size in bytes.
        kept: texts that may have its plaintext, and get it; and its key there. None for none.

    Raises:
        FormatError: its segments have not `size` bytes of plaintext.
    """

    def __init__(
        self,
        first: FirstStream,
        size: int,
        file_size: int,
        what: str,
        cache: SegmentCache,
        spool: Callable[[int], Spool],
        kept: tuple[KeptTexts, bytes] | None = None,
    ) -> None:
        if first.size != size:
            raise FormatError(what, f"its plaintext has not the {size} bytes stated")
        self.size = size
        self._first = first
        self._what = what
        self._cache = cache
        self._key = cache.stream()
        self._rest: Iterator[bytes | memoryview] | None = first.plain
        self._plain_lock = Lock()
        self._kept = kept if size <= MOST_BYTES else None
        text = kept[0].get(kept[1]) if kept is not None else None
        if text is not None and len(text) == size:
            self._plain = Spool.of(text)
            self._rest = self._kept = None
        elif self._kept is not None:  # in memory from the start
            self._plain = Spool(size, Memory(size), None)
        else:
            self._plain = spool(size)
        self._made = spool(file_size + len(first.segments))
        self._made_lock = Lock()
        self._locks = [Lock() for _ in range(_LOCKS)]
        self._ends = array("Q")
        end = 0
        for segment in first.segments:
            end += segment.length
            self._ends.append(end)
        # Where each is in what was made, and its bytes; -1 if it was not made.
        self._places = array("q", [-1]) * len(first.segments)
        self._lengths = array("Q", [0]) * len(first.segments)

    def check(self, start: int, length: int) -> None:
        """Raise FormatError if there is no such span."""
        if start < 0 or length < 0 or start + length > self.size:
            raise FormatError(self._what, f"it has no bytes {start} to {start + length}")

    @property
    def reached(self) -> int:
        """Bytes of the plaintext that were made so far."""
        return self._plain.size

    def read(self, start: int, length: int) -> bytes | memoryview:
        """Return `length` bytes of the plaintext from `start` on."""
        self._reach(start, length)
        return self._plain.read(start, length)

    def read_into(self, start: int, out: memoryview) -> None:
        """Copy the plaintext from `start` on."""
        self._reach(start, len(out))
        self._plain.read_into(start, out)

    def segments(self, start: int, end: int) -> Iterator[tuple[int, Segment]]:
        """Yield the segments that overlap a stretch, as `InflatedStream` does.

        Args:
            start: of the stretch in the plaintext.
            end: of the stretch.

        Yields:
            The position of a segment in the plaintext, and the segment, which is valid until the
            next one is asked for.
        """
        at = bisect_right(self._ends, start)
        while start < end:
            with self._locks[at % _LOCKS]:
                segment = self._segment(at)
            yield self._ends[at] - self._first.segments[at].length, segment
            self._cache.release((self._key, at), segment)
            start = self._ends[at]
            at += 1

    def close(self) -> None:
        """Release memory and files."""
        self._rest = None
        self._cache.drop(self._key)
        self._plain.close()
        self._made.close()

    def _reach(self, start: int, length: int) -> None:
        """Make the plaintext as far as a span."""
        self.check(start, length)
        with self._plain_lock:
            while self._plain.size < start + length:
                self._go_on()

    def _go_on(self) -> None:
        """Make more of the plaintext."""
        piece = next(self._rest, None) if self._rest is not None else None
        if piece is None:
            self._rest = None
            raise FormatError(self._what, "its plaintext is too short")
        if not self._plain.take(piece):
            raise FormatError(self._what, "its plaintext is too long")
        if self._plain.size == self.size:
            self._rest = None
            if self._kept is not None:
                texts, key = self._kept
                texts.put(key, self._plain.read(0, self.size))

    def _segment(self, at: int) -> Segment:
        """Return a segment, to be released."""
        segment = self._cache.get((self._key, at))
        if segment is not None:
            return segment
        end, (bit, length, _) = self._ends[at], self._first.segments[at]
        position = end - length
        before = min(position, WINDOW_BYTES)
        text = memoryview(self.read(position - before, before + length))
        segment, window = self._cache.new(length), text[:before]
        try:
            if self._places[at] >= 0 or not self._make(at, text, before, segment):
                data = self._made.read(self._places[at], self._lengths[at])
                found = segment.inflate(data, bit, window[-DISTANCE:], position, length)
                if found is None or found.plain_length != length:
                    raise NotDeflate
        except (NotDeflate, RecipeError):
            raise FormatError(self._what, "a segment does not fit its plaintext") from None
        self._cache.put((self._key, at), segment)
        return segment

    def _make(self, at: int, text: memoryview, before: int, out: Segment) -> bool:
        """Make a segment's bits, and keep them; return whether `out` is the segment now."""
        bit, length, coded = self._first.segments[at]
        window, plain, position = text[:before], text[before:], self._ends[at] - length
        most, is_filled = most_coded(length), is_against(coded)
        if is_filled:
            self._first.against.segment(plain, window, position, coded)(out)
            if out.is_cut:
                return True  # its bits alone do not tell what they mean
            data, _ = bits_of(out, bit, most)
        else:
            data, _ = rebuild(plain, window, position, coded, bit, most)
            if is_cut(coded):  # its bits alone do not tell what they mean
                carry, before_it = carry_of_rebuilt(), window[-DISTANCE:]
                found = out.inflate(
                    data, bit, before_it, position, length, carry=carry, partial=True
                )
                if found is None or found.plain_length != length:
                    raise NotDeflate
                return True
        with self._made_lock:
            place = self._made.size
            if not self._made.append(data):
                raise FormatError(self._what, "its segments are too long")
        self._places[at], self._lengths[at] = place, len(data)
        return is_filled
