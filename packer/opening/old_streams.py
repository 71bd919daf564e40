"""Plaintext and tokens of the streams in older files, with random access.

Neither is stored: a deflate stream is inflated from its file, front to back and as far as it is
asked for. Where each of its segments begins, a checkpoint keeps what inflating needs to go on from
there. So any span can be had again, at the cost of the segments that overlap it. Zstd streams:
`parsed_stream`.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import IO, TYPE_CHECKING, Protocol

from packer.engine.deflate import (
    MAX_SEGMENT_INPUT,
    SEGMENT_BYTES,
    Inflated,
    NotDeflate,
    Segment,
)
from packer.engine.memory import writable
from packer.engine.tokens import OldSpan, Span
from packer.engine.zstd_streams import OldSequences
from packer.errors import FormatError
from packer.files.spool import Memory, Spool
from packer.files.temporary import read_at, temporary_file, write_at
from packer.opening.parsed_stream import ParsedStream
from packer.opening.predecessor import ZSTD, OldStream
from packer.opening.recipe import MAX_DEFLATE_DEPTH
from packer.opening.segment_cache import SegmentCache

if TYPE_CHECKING:
    from typing_extensions import Buffer

CACHE_BYTES = 40 << 20
"""Memory of inflated segments that are kept, in bytes: those that a delta of the greatest length
refers to stay for the recipes from tokens that follow it."""

DISTANCE = 32 << 10
"""How far back deflate refers, in bytes."""
_PLAIN_BYTES = 8 << 20
"""Memory for plaintext of streams, in bytes; more goes to temporary files."""
_MOST_KEPT_BYTES = 1 << 30
"""Plaintext of a deflate stream that is kept, at most, in bytes, as it may take so much disk."""
_WINDOW_BYTES = 8 << 20
"""Windows of checkpoints kept in memory, in bytes; further ones go to a temporary file."""
_LEAST_INPUT_BYTES, _INPUT_BYTES = 4 << 10, 1 << 20
"""Compressed bytes that are read first; more where a segment turns out to be longer."""
_BEHIND_BYTES = 3
"""Bytes from the one on that a segment ends in: the next code tells whether a long block ends."""


class OldFile:
    """An older file whose streams are referred to.

    Args:
        read: returns a part of the file, given its first byte and its length; from any thread.
        size: of the file in bytes.
        streams: the streams in it that are referred to, from a stranger.
        what: how errors name the file.
        first: makes the only stream that lies in no other, given how errors name it and what keeps
            its segments; None inflates it.
    """

    def __init__(
        self,
        read: Callable[[int, int], Buffer],
        size: int,
        streams: Sequence[OldStream],
        what: str,
        first: Callable[[str, SegmentCache], PlainStream] | None = None,
    ) -> None:
        self.read = read
        self.size = size
        self.streams = streams
        self.what = what
        self.first = first


class PlainStream(Protocol):
    """A stream whose plaintext and segments are there, or made when they are asked for."""

    @property
    def size(self) -> int:
        """Bytes of its plaintext."""

    def check(self, start: int, length: int) -> None:
        """Raise FormatError if there is no such span."""

    @property
    def reached(self) -> int:
        """Bytes of the plaintext that were made so far."""

    def read(self, start: int, length: int) -> bytes | bytearray | memoryview:
        """Return `length` bytes of the plaintext from `start` on."""

    def read_into(self, start: int, out: memoryview) -> None:
        """Copy the plaintext from `start` on."""

    def segments(self, start: int, end: int) -> Iterator[tuple[int, Segment]]:
        """Yield the segments that overlap a stretch, as `InflatedStream` does."""

    def close(self) -> None:
        """Release memory and files."""


class OldStreams:
    """The streams of some older files, numbered through all of them.

    May be used by several threads. Whatever the files hold, it takes about CACHE_BYTES, in the
    cache, and 32 bytes for each MiB of plaintext that was asked for, and a temporary file of a 64th
    of it; of a zstd stream, two windows while it is read, and temporary files of its plaintext and
    matches.

    Args:
        files: in order.
        directory: of the temporary file, as `temporary_file` takes it.
        cache: keeps segments, of other streams too; None for a cache of its own.
        memory: what plaintext takes, of other streams too; None for memory of its own.

    Raises:
        FormatError: a stream lies in one that is not before it, or too deep in others.
    """

    def __init__(
        self,
        files: Sequence[OldFile],
        directory: bytes | None = None,
        cache: SegmentCache | None = None,
        memory: Memory | None = None,
    ) -> None:
        self._windows = Windows(directory)
        self._cache = SegmentCache(CACHE_BYTES) if cache is None else cache
        self._directory = directory
        self._memory = Memory(_PLAIN_BYTES) if memory is None else memory
        self._parsing = Lock()
        self._streams: list[PlainStream | ParsedStream] = []
        for file in files:
            first, depths = len(self._streams), [0]
            for number, stream in enumerate(file.streams, 1):
                if not 0 <= stream.parent < number:
                    raise FormatError(file.what, "an old stream lies in a later one")
                depths.append(depths[stream.parent] + 1)
                if depths[-1] > MAX_DEFLATE_DEPTH:
                    raise FormatError(file.what, "old streams within one another, too many")
                parent = self._streams[first + stream.parent - 1] if stream.parent else None
                self._streams.append(self._stream(file, stream, parent))

    def _stream(
        self, file: OldFile, stream: OldStream, parent: PlainStream | ParsedStream | None
    ) -> PlainStream | ParsedStream:
        """Return a stream, which makes nothing yet."""
        if stream.kind == ZSTD:
            return ParsedStream(
                file.read,
                file.size,
                stream.offset,
                stream.size,
                f"zstd stream at offset {stream.offset} in {file.what}",
                self._memory,
                directory=self._directory,
                lock=self._parsing,
            )
        what = f"deflate stream at offset {stream.offset} in {file.what}"
        if parent is None and file.first is not None:
            return file.first(what, self._cache)
        made = InflatedStream(
            parent.read if parent is not None else file.read,
            parent.size if parent is not None else file.size,
            stream.offset,
            stream.size,
            what,
            self._windows,
            self._cache,
        )
        if SEGMENT_BYTES < stream.size <= _MOST_KEPT_BYTES:
            made.keep(Spool(stream.size, self._memory, self._directory))
        return made

    def __len__(self) -> int:
        """Return the number of streams."""
        return len(self._streams)

    def size(self, stream: int) -> int:
        """Return the bytes of a stream's plaintext, as its file's list of streams says.

        Args:
            stream: its number.

        Raises:
            FormatError: there is no such stream.
        """
        return self._get(stream).size

    def reached(self, stream: int) -> int:
        """Return the bytes of a stream's plaintext that were made so far: they are read soon.

        Args:
            stream: its number.

        Raises:
            FormatError: there is no such stream.
        """
        return self._get(stream).reached

    def plain(self, stream: int, span: Span) -> bytes | bytearray | memoryview:
        """Return a span of a stream's plaintext.

        Args:
            stream: its number.
            span: the stretch wanted, which the caller has bounded.

        Returns:
            Exactly `span.size` bytes.

        Raises:
            FormatError: there is no such stream or span, or the stream is no deflate stream of the
                size that it is said to have (or zstd stream, as may be).
        """
        return self._get(stream).read(span.start, span.size)

    def plain_into(self, stream: int, span: Span, out: memoryview) -> None:
        """Copy a span of a stream's plaintext.

        Args:
            stream: its number.
            span: the stretch wanted.
            out: filled; as long as the span.

        Raises:
            FormatError: as `plain` raises it.
        """
        self._get(stream).read_into(span.start, out)

    def fill(self, stream: int, span: Span, out: OldSpan | None = None) -> OldSpan:
        """Return a span of a deflate stream with its tokens.

        Args:
            stream: its number.
            span: the stretch wanted, at most MAX_SPAN_BYTES.
            out: memory to use again; None for new memory.

        Returns:
            `out`, or the new one.

        Raises:
            FormatError: as `plain` raises it.
            RecipeError: the span is too long, or has too many tokens.
        """
        source = self._get(stream)
        if isinstance(source, ParsedStream):
            raise FormatError("recipe", f"old stream {stream} has no tokens")
        source.check(span.start, span.size)
        if out is None:
            out = OldSpan(span)
        else:
            out.begin(span)
        for _, segment in source.segments(span.start, span.start + span.size):
            out.add(segment)
        return out

    def sequences(self, stream: int, span: Span, out: OldSequences) -> None:
        """Let `out` hold a span of a zstd stream with its sequences.

        Args:
            stream: its number.
            span: the stretch wanted, at most MAX_SPAN_BYTES.
            out: memory of another one.

        Raises:
            FormatError: as `plain` raises it, and if it is no zstd stream.
            RecipeError: the span is too long.
        """
        source = self._get(stream)
        if not isinstance(source, ParsedStream):
            raise FormatError("recipe", f"old stream {stream} has no sequences")
        source.fill(span, out)

    def close(self) -> None:
        """Release the memory, and remove the temporary files."""
        for stream in self._streams:
            stream.close()
        self._windows.close()

    def _get(self, stream: int) -> PlainStream | ParsedStream:
        if not 0 <= stream < len(self._streams):
            raise FormatError("recipe", f"old stream {stream} does not exist")
        return self._streams[stream]


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
        # Of each checkpoint: the byte and bit that its segment begins at, its position in the
        # plaintext, and its window. The last one is where inflating goes on.
        self._offsets = array("Q", (offset,))
        self._bits = bytearray(1)
        self._positions = array("Q", (0,))
        self._places = array("q", (-1,))
        # Of those within a block, what inflating must know of it: a KB, a 2000th of the plaintext.
        self._carries: dict[int, bytes] = {}
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
        return start, self._positions[at + 1] - start, self._bits[at]

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
                self._reach(start + length)
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
            self._reach(start + len(out))
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
        self._reach(position + 1)
        at = bisect_right(self._positions, position) - 1
        return at, self._kept(at)

    def _reach(self, end: int) -> None:
        """Inflate as far as the byte before `end`."""
        while self._positions[-1] < end:
            segment = self._go_on()
            self._cache.release((self._key, self.count - 1), segment)

    def _go_on(self) -> Segment:
        """Inflate one more segment."""
        at = self.count
        segment, found, offset = self._inflate(at)
        self._advance(segment, found, offset)
        self._cache.put((self._key, at), segment)
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
        if position > self.size or (found.last and position < self.size):
            raise FormatError(self._what, f"its plaintext has not the {self.size} bytes stated")
        if self._plain is not None:
            self._plain.append(segment.plain)  # there is room: `position` was compared
        place = -1
        if position < self.size:
            size = self._windows.size
            tail = bytes(segment.plain[-size:])
            if len(tail) < size:
                tail = (self._windows.get(self._places[-1]) + tail)[-size:]
            place = self._windows.add(tail)
        self._offsets.append(offset + (found.end_bit >> 3))
        self._bits.append(found.end_bit & 7)
        self._places.append(place)
        self._positions.append(position)
        if found.carry:
            before = self._carries.get(self.count - 1)
            self._carries[self.count] = before if before == found.carry else found.carry

    def _inflate(self, at: int) -> tuple[Segment, Inflated, int]:
        """Inflate the segment behind a checkpoint; return it, its extent and its first byte."""
        offset, bit, position = self._offsets[at], self._bits[at], self._positions[at]
        window, carry = self._windows.get(self._places[at]), self._carries.get(at, b"")
        if at + 1 < len(self._offsets):
            wanted = self._offsets[at + 1] + _BEHIND_BYTES - offset
        elif at:
            wanted = (self._offsets[at] - self._offsets[at - 1]) * 5 // 4
        else:
            wanted = self._first_input
        wanted = min(wanted, MAX_SEGMENT_INPUT)
        segment, found = self._cache.new(self.size - position), None
        while found is None:
            have = max(min(wanted, self._end - offset), 0)
            try:
                found = segment.inflate(
                    self._read(offset, have), bit, window, position, carry=carry
                )
            except NotDeflate:
                raise FormatError(self._what, "it is no deflate stream") from None
            if found is None:
                if have < wanted or wanted >= MAX_SEGMENT_INPUT:
                    raise FormatError(self._what, "it is cut off")
                wanted = min(2 * wanted, MAX_SEGMENT_INPUT)
        return segment, found, offset


class Windows:
    """The plaintext before checkpoints: in memory, or in a temporary file once there is much.

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
        with self._lock:
            self._held.clear()
            if self._file is not None:
                self._file.close()
