"""A deflate stream in a file, with random access to its plaintext and tokens.

It is inflated front to back, as far as it is asked for. Where each of its segments begins, a
checkpoint keeps what inflating needs to go on from there. So any span can be had again, at the cost
of the segments that overlap it.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import IO, TYPE_CHECKING

from packer.engine.deflate import (
    MAX_SEGMENT_INPUT,
    Inflated,
    NotDeflate,
    Segment,
)
from packer.engine.memory import writable
from packer.errors import FormatError
from packer.files.spool import Spool
from packer.files.temporary import read_at, temporary_file, write_at
from packer.opening.segment_cache import SegmentCache

if TYPE_CHECKING:
    from typing_extensions import Buffer

DISTANCE = 32 << 10
"""How far back deflate refers, in bytes."""
_WINDOW_BYTES = 2 << 20
"""Windows of checkpoints kept in memory, in bytes; further ones go to a temporary file."""
_LEAST_INPUT_BYTES, _INPUT_BYTES = 4 << 10, 1 << 20
"""Compressed bytes that are read first; more where a segment turns out to be longer."""
_AHEAD_INPUT_BYTES = 512 << 10
"""Compressed bytes that are read at least behind those: other streams often begin there."""
_KEPT_INPUT_BYTES = 4 << 20
"""Compressed bytes that are kept for the next segment, at most."""
_BEHIND_BYTES = 3
"""Bytes from the one on that a segment ends in: the next code tells whether a long block ends."""


class InflatedStream:
    """A stream with a checkpoint where each segment begins.

    Args:
        read: reads the file, or the plaintext of the stream that holds it.
        end: size of that.
        offset: of its first byte there.
        size: bytes of its plaintext.
        what: how errors name it.
        windows: keeps the plaintext before checkpoints.
        cache: keeps segments.
    """

    # A file may have thousands of short streams: a dict of attributes would take 1.5 KB of each.
    __slots__ = (
        "_cache",
        "_carries",
        "_end",
        "_first_input",
        "_first_partial",
        "_key",
        "_lock",
        "_marks",
        "_plain",
        "_positions",
        "_read",
        "_what",
        "_windows",
        "size",
    )

    def __init__(
        self,
        read: Callable[[int, int], Buffer],
        end: int,
        offset: int,
        size: int,
        what: str,
        windows: Windows,
        cache: SegmentCache,
    ) -> None:
        self.size = size
        self._read = read
        self._end = end
        self._what = what
        self._windows = windows
        self._cache = cache
        self._key = cache.stream()
        self._lock = Lock()
        self._first_input = min(max(_LEAST_INPUT_BYTES, size // 2), _INPUT_BYTES)
        # Of each checkpoint: its position in the plaintext; the bit that its segment begins at, and
        # the place of its window, one after another. The last one is where inflating goes on.
        self._positions = array("Q", (0,))
        self._marks = array("q", (8 * offset, -1))
        # Of those within a block, what inflating must know of it: a KB, a 2000th of the plaintext.
        # None if there are none.
        self._carries: dict[int, bytes] | None = None
        # The first segment that ends early, and no whole one is behind it; -1 if there is none.
        self._first_partial = -1
        self._plain: Spool | None = None

    def keep(self, plain: Spool) -> None:
        """Keep its plaintext as it is inflated: reading it again costs no inflating.

        A delta may refer to a place far behind the last one, and the next delta to what was passed.

        Args:
            plain: empty, for all of the plaintext; closed with the stream.
        """
        self._plain = plain

    @property
    def reached(self) -> int:
        """Bytes of the plaintext that were inflated so far."""
        return self._positions[-1]

    @property
    def count(self) -> int:
        """Number of segments inflated so far, one after another from the first on."""
        return len(self._positions) - 1

    def extent(self, at: int) -> tuple[int, int, int]:
        """Return where a segment begins in the plaintext, its bytes, and the bit it begins at.

        Args:
            at: its number, below `count`.
        """
        start = self._positions[at]
        return start, self._positions[at + 1] - start, self._marks[2 * at] & 7

    def number_at(self, position: int) -> int:
        """Return the number of the segment that begins at a position of the plaintext."""
        return bisect_right(self._positions, position) - 1

    @contextmanager
    def held(self, at: int) -> Iterator[Segment]:
        """Hold a segment: within the context its memory is not used for another one.

        Args:
            at: its number, below `count`.

        Yields:
            The segment.
        """
        with self._lock:
            segment = self._kept(at)
        try:
            yield segment
        finally:
            self._cache.release((self._key, at), segment)

    def check(self, start: int, length: int) -> None:
        """Raise FormatError if there is no such span."""
        if start < 0 or length < 0 or start + length > self.size:
            raise FormatError(self._what, f"it has no bytes {start} to {start + length}")

    def read(self, start: int, length: int) -> bytes | bytearray | memoryview:
        """Return `length` bytes of the plaintext from `start` on."""
        self.check(start, length)
        if self._plain is not None:
            with self._lock:
                self._reach(start + length, start)
            return self._plain.read(start, length)
        out = writable(length)
        self._copy(start, out)
        return out

    def read_into(self, start: int, out: memoryview) -> None:
        """Copy the plaintext from `start` on."""
        self.check(start, len(out))
        if self._plain is None:
            self._copy(start, out)
            return
        with self._lock:
            self._reach(start + len(out), start)
        self._plain.read_into(start, out)

    def _copy(self, start: int, out: memoryview) -> None:
        """Copy plaintext from the segments that hold it."""
        done, end = 0, start + len(out)
        for position, segment in self.segments(start, end):
            part = segment.plain[max(start - position, 0) : end - position]
            out[done : done + len(part)] = part
            done += len(part)

    def segments(self, start: int, end: int) -> Iterator[tuple[int, Segment]]:
        """Yield the segments that overlap a stretch within the stream, and their positions.

        Args:
            start: of the stretch in the plaintext.
            end: of the stretch.

        Yields:
            The position of a segment in the plaintext, and the segment, which is valid until the
            next one is asked for.
        """
        position = start
        while position < end:
            with self._lock:
                at, segment = self._segment_at(position)
            yield self._positions[at], segment
            self._cache.release((self._key, at), segment)
            position = self._positions[at + 1]

    def close(self) -> None:
        """Release its segments, and what keeps its plaintext."""
        self._cache.drop(self._key)
        if self._plain is not None:
            self._plain.close()

    def _segment_at(self, position: int) -> tuple[int, Segment]:
        """Return the segment that holds a position, and its number."""
        self._reach(position + 1, position)
        at = bisect_right(self._positions, position) - 1
        return at, self._kept(at)

    def _reach(self, end: int, start: int) -> None:
        """Inflate as far as the byte before `end`.

        What ends before `start` is passed: it takes the place of no segment that was used.
        """
        while self._positions[-1] < end:
            at, segment = self.count, self._go_on(start)
            self._cache.release((self._key, at), segment)

    def _go_on(self, start: int = -1) -> Segment:
        """Inflate one more segment; one that ends at or before `start` is not kept."""
        at = self.count
        segment, found, offset = self._inflate(at)
        self._advance(segment, found, offset)
        if self._positions[-1] > start:
            self._cache.put((self._key, at), segment)
        else:
            self._cache.give(segment)
        return segment

    def _kept(self, at: int) -> Segment:
        """Return a segment that was inflated before."""
        kept = self._cache.get((self._key, at))
        if kept is None:
            kept, _, _ = self._inflate(at)
            self._cache.put((self._key, at), kept)
        return kept

    def _advance(self, segment: Segment, found: Inflated, offset: int) -> None:
        """Make a checkpoint behind a segment that was inflated for the first time."""
        position = self._positions[-1] + found.plain_length
        if found.is_partial and self._first_partial < 0:
            self._first_partial = self.count
        if position > self.size or (found.last and position < self.size):
            raise FormatError(self._what, f"its plaintext has not the {self.size} bytes stated")
        if self._plain is not None:
            self._plain.append(segment.plain)  # there is room: `position` was compared
        place = -1
        if position < self.size:
            size = self._windows.size
            tail = bytes(segment.plain[-size:])
            if len(tail) < size:
                tail = (self._windows.get(self._marks[-1]) + tail)[-size:]
            place = self._windows.add(tail)
        self._marks.extend((8 * offset + found.end_bit, place))
        self._positions.append(position)
        if found.carry:
            if self._carries is None:
                self._carries = {}
            before = self._carries.get(self.count - 1)
            self._carries[self.count] = before if before == found.carry else found.carry

    def _inflate(self, at: int) -> tuple[Segment, Inflated, int]:
        """Inflate the segment behind a checkpoint; return it, its extent and its first byte.

        Where the stream is damaged or cut off, it ends early.

        Args:
            at: number of the checkpoint.

        Returns:
            The segment, its extent, and the offset of the byte that it begins in.

        Raises:
            FormatError: nothing of it is whole.
        """
        position, offset, bit = self._positions[at], self._offset(at), self._marks[2 * at] & 7
        window = self._windows.get(self._marks[2 * at + 1])
        carry = self._carries.get(at, b"") if self._carries is not None else b""
        if at < self.count:
            wanted = least = self._offset(at + 1) + _BEHIND_BYTES - offset
        elif at:
            least = (offset - self._offset(at - 1)) * 5 // 4
            wanted = 2 * least
        else:
            least = self._first_input
            wanted = max(least, min(4 * least, _AHEAD_INPUT_BYTES))
        segment, found = self._cache.new(self.size - position), None
        partial = 0 <= self._first_partial <= at < self.count
        while found is None:
            data = self._input(offset, least, wanted)
            try:
                found = segment.inflate(data, bit, window, position, carry=carry, partial=partial)
            except NotDeflate:
                if partial:
                    raise FormatError(self._what, "it is no deflate stream") from None
                partial = True
                continue
            if found is None:
                if partial or len(data) >= MAX_SEGMENT_INPUT:
                    raise FormatError(self._what, "it is cut off")
                partial = offset + len(data) >= self._end
                least = wanted = max(2 * len(data), _INPUT_BYTES)
        return segment, found, offset

    def _offset(self, at: int) -> int:
        """Return the byte that the segment behind a checkpoint begins in."""
        return self._marks[2 * at] >> 3

    def _input(self, start: int, least: int, wanted: int) -> memoryview:
        """Return compressed bytes.

        Args:
            start: offset of the first one.
            least: how many there must be, unless the file or MAX_SEGMENT_INPUT ends before.
            wanted: how many are read if these are not at hand.
        """
        left = max(self._end - start, 0)
        least, wanted = (min(each, left, MAX_SEGMENT_INPUT) for each in (least, wanted))
        return self._windows.input.take(self._read, start, least, wanted)[:MAX_SEGMENT_INPUT]


class Input:
    """The bytes read last: where a segment or stream ends, the next one often begins in them."""

    def __init__(self) -> None:
        self._last: tuple[Callable[[int, int], Buffer], int, memoryview] | None = None

    def take(
        self, read: Callable[[int, int], Buffer], start: int, least: int, wanted: int
    ) -> memoryview:
        """Return bytes from an offset on, as many as are at hand.

        Args:
            read: reads them.
            start: offset of the first one.
            least: how many there must be.
            wanted: how many are read if there are not, but the first one is, or comes next; at
                least as many.
        """
        last, count = self._last, least
        if last is not None and last[0] == read and 0 <= start - last[1] <= len(last[2]):
            at, count = start - last[1], wanted
            if at + least <= len(last[2]):
                return last[2][at:]
        data = memoryview(read(start, count))
        self._last = (read, start, data) if len(data) <= _KEPT_INPUT_BYTES else None
        return data

    def clear(self) -> None:
        """Release the bytes."""
        self._last = None


class Windows:
    """The plaintext before checkpoints: in memory, or in a temporary file once there is much.

    Beside it, the compressed bytes that were read last.

    Args:
        directory: of the temporary file, as `temporary_file` takes it.
        size: bytes of a window. Inflating needs DISTANCE, models need more.
    """

    def __init__(self, directory: bytes | None, size: int = DISTANCE) -> None:
        self.size = size
        self._directory = directory
        self._lock = Lock()
        self._held: list[bytes] = []
        self._file: IO[bytes] | None = None
        self._filed = 0
        self.input = Input()

    def add(self, window: bytes) -> int:
        """Keep a window, `size` bytes or less at the start of a stream; return its place."""
        with self._lock:
            if len(self._held) * self.size < _WINDOW_BYTES:
                self._held.append(window)
                return len(self._held) - 1
            if self._file is None:
                self._file = temporary_file(self._directory)
            write_at(self._file, window, self._filed * self.size)
            self._filed += 1
            return len(self._held) + self._filed - 1

    def get(self, place: int) -> bytes:
        """Return the window at a place; -1 is the empty one."""
        if place < 0:
            return b""
        with self._lock:
            if place < len(self._held):
                return self._held[place]
            assert self._file is not None
            return read_at(self._file, self.size, (place - len(self._held)) * self.size)

    def close(self) -> None:
        """Release the memory, and remove the temporary file."""
        self.input.clear()
        with self._lock:
            self._held.clear()
            if self._file is not None:
                self._file.close()
