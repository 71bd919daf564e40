"""Plaintext and matches of a zstd stream in an older file, with random access.

Neither is stored, and a stream of frames has no places where reading it could begin. So it is read
once, front to back, and both are kept in temporary files.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator
from threading import Lock
from typing import TYPE_CHECKING

from packer.engine.tokens import Span
from packer.engine.zstd_streams import (
    MATCH_BYTES,
    NotZstd,
    OldSequences,
    Parser,
    Segment,
)
from packer.engine.zstd_streams import Span as ZstdSpan
from packer.errors import FormatError
from packer.files.spool import Memory, Pile, Spool
from packer.opening.zstd_frames import MAX_WINDOW_BYTES

if TYPE_CHECKING:
    from typing_extensions import Buffer

INPUT_BYTES = 3 << 20
"""Bytes given to a parser at first; doubled where a segment is longer."""
_MORE_INPUT = 192 << 10
"""Bytes given to it beyond as many as the last segment had: what is not used is read once more."""


def parsed(
    read: Callable[[int, int], Buffer],
    start: int,
    end: int,
    *,
    is_whole: bool,
    spare: list[Segment],
) -> Iterator[Segment]:
    """Yield the segments of a stream.

    Args:
        read: reads what holds it.
        start: of its first byte there.
        end: behind its last byte, or of what holds it.
        is_whole: whether it has all bytes up to `end`.
        spare: segments that are done with, whose memory is used again.

    Yields:
        The segments, in order.

    Raises:
        NotZstd: the bytes are no stream, or not a whole one.
    """
    parser, wanted, at = Parser(MAX_WINDOW_BYTES), INPUT_BYTES, start
    while at < end:
        count = min(wanted, end - at)
        memory = spare.pop() if spare else Segment()
        segment = parser.next(read(at, count), at + count == end, memory)
        if segment is None:
            if at + count == end:
                raise NotZstd("cut off")
            spare.append(memory)
            wanted = max(INPUT_BYTES, 2 * wanted)
            continue
        at += segment.coded_length
        wanted = segment.coded_length + segment.coded_length // 16 + _MORE_INPUT
        yield segment
        if segment.last and not is_whole:
            return


class Parsing:
    """What several zstd streams share: one of them is read at a time, as that takes two windows.

    So their plaintexts lie in one temporary file, and their matches in another.

    Args:
        directory: of the files, as `temporary_file` takes it.
    """

    def __init__(self, directory: bytes | None) -> None:
        self.lock = Lock()
        self.plain, self.matches = Pile(directory), Pile(directory)
        self.directory = directory

    def close(self) -> None:
        """Remove the files, once the streams are closed."""
        self.plain.close()
        self.matches.close()


class ParsedStream:
    """A zstd stream, read when it is first asked for; may be used by several threads.

    Args:
        read: reads the file that holds it.
        end: size of that.
        offset: of its first byte there.
        size: bytes of its plaintext.
        what: how errors name it.
        memory: what its plaintext may take.
        parsing: shared with other streams.
    """

    def __init__(
        self,
        read: Callable[[int, int], Buffer],
        end: int,
        offset: int,
        size: int,
        what: str,
        memory: Memory,
        parsing: Parsing,
    ) -> None:
        self.size = size
        self.offset = offset
        self._read = read
        self._end = end
        self._what = what
        self._lock = parsing.lock
        directory, most = parsing.directory, size // 3 * MATCH_BYTES + MATCH_BYTES
        self._plain = Spool(size, memory, directory, parsing.plain)
        self._matches = Spool(most, Memory(0), directory, parsing.matches)
        self._is_there = False
        # Of each segment: where its plaintext and its matches begin.
        self._positions, self._places = array("Q", (0,)), array("Q", (0,))

    def check(self, start: int, length: int) -> None:
        """Raise FormatError if there is no such span."""
        if start < 0 or length < 0 or start + length > self.size:
            raise FormatError(self._what, f"it has no bytes {start} to {start + length}")

    @property
    def reached(self) -> int:
        """Bytes of the plaintext that can be read without waiting: all or none."""
        return self.size if self._is_there else 0

    def read(self, start: int, length: int) -> memoryview:
        """Return `length` bytes of the plaintext from `start` on."""
        self.check(start, length)
        self._make()
        return self._plain.read(start, length)

    def read_into(self, start: int, out: memoryview) -> None:
        """Copy the plaintext from `start` on."""
        self.check(start, len(out))
        self._make()
        self._plain.read_into(start, out)

    def fill(self, span: Span, out: OldSequences) -> None:
        """Let `out` hold a span.

        Args:
            span: the stretch, at most MAX_SPAN_BYTES.
            out: memory of another one.

        Raises:
            FormatError: there is no such span, or no stream of the size stated.
            RecipeError: the span is too long.
        """
        self.check(span.start, span.size)
        self._make()
        out.begin(ZstdSpan(*span))
        at = bisect_right(self._positions, span.start) - 1
        while self._positions[at] < span.start + span.size:
            first, place = self._positions[at], self._places[at]
            plain = self._plain.read(first, self._positions[at + 1] - first)
            matches = self._matches.read(place, self._places[at + 1] - place)
            out.put(plain, matches, first)
            at += 1

    def close(self) -> None:
        """Release the memory."""
        self._plain.close()
        self._matches.close()

    def _make(self) -> None:
        """Read the stream, unless that was done."""
        with self._lock:
            if self._is_there:
                return
            try:
                spare: list[Segment] = []
                segments = parsed(self._read, self.offset, self._end, is_whole=False, spare=spare)
                for segment in segments:
                    self._add(segment)
                    spare.append(segment)
            except NotZstd:
                raise FormatError(self._what, "it is no zstd stream") from None
            if self._plain.size != self.size:
                raise FormatError(self._what, f"its plaintext has not the {self.size} bytes stated")
            self._is_there = True

    def _add(self, segment: Segment) -> None:
        """Keep a segment."""
        fits = self._plain.append(segment.plain) and self._matches.append(segment.matches())
        if not fits:
            raise FormatError(self._what, f"its plaintext has not the {self.size} bytes stated")
        if segment.plain_length:
            self._positions.append(self._plain.size)
            self._places.append(self._matches.size)
