"""Recipes: programs that turn a file's content back into the file. docs/format.md, "Recipes".

The operations of a recipe produce a stream of bytes from the file's content (the bytes that were
cut into chunks), from bytes kept in the recipe itself, from headers of tar archives, and from
deflate, bzip2 and zstd streams, whose plaintext is a stream of the same kind.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import IO, NamedTuple, NoReturn

from packer.errors import FormatError
from packer.files.temporary import read_at, temporary_file, write_at

VERSION = 1
"""First byte of a recipe without zstd streams."""
ZSTD_VERSION = 2
"""First byte of a recipe with zstd streams; the size of the file's text follows: of the file with
their plaintext in their place."""

END = 0
"""The stream ends here."""
CONTENT = 1
"""n: the next n bytes of the content."""
INLINE = 2
"""n: the next n of the bytes kept in the recipe."""
DEFLATE = 3
"""The next deflate stream; the operations of its plaintext follow, up to their END."""
HEADER = 4
"""The next header block of a tar archive."""
MEMBER = 5
"""HEADER, CONTENT of the size the header tells, ZEROS up to a multiple of 512."""
ZEROS = 6
"""n: n zero bytes."""
BZIP2 = 7
"""The next stream is a bzip2 stream; the operations of its plaintext follow, up to their END."""
DELTA = 8
"""n: the next n bytes come from a delta against an old stream; its record is the next stream's."""
ZSTD = 9
"""The next stream is one of zstd frames, which lies in no other stream; the operations of its
plaintext follow, up to their END."""
SEQUENCES = 10
"""As ZSTD, but recipes may need old streams, and the file's text has the frames."""
HOLD = 11
"""n: as DELTA, but the n bytes are held: HELD gives them, before the stream's END."""
HELD = 12
"""n: the next n of the bytes held."""

MAX_DELTA_BYTES = 16 << 20
"""Greatest number of bytes of one DELTA: a reader holds them for each thread."""
MAX_SPANS = 64
"""Spans of one DELTA, at most: a reader looks each up."""

MAX_DEFLATE_DEPTH = 4
"""Greatest number of streams within one another, but for ZSTD; bounds a reader's windows."""
MAX_STREAMS = 1 << 21
"""Greatest number of streams and deltas in a file; bounds a reader's table of them (16 MiB)."""
SPILL_BYTES = 1 << 20
"""Length in bytes above which a part of a recipe moves to a temporary file."""


class ZstdSegment(NamedTuple):
    """A segment of a zstd stream.

    Args:
        plain_bytes: length of its plaintext.
        coded_bytes: its own length.
        recipe: makes the segment of the plaintext (`engine.zstd_streams`).
    """

    plain_bytes: int
    coded_bytes: int
    recipe: bytes


class RecipeWriter:
    """Collects a recipe's operations while a file is opened.

    Args:
        directory: of temporary files, as `temporary_file` takes it.
    """

    def __init__(self, directory: bytes | None = None) -> None:
        self._operations = _Part(directory)
        self._headers = _Part(directory)
        self._inline = _Part(directory)
        # Records of segments, by depth: at each depth, one stream at a time is written.
        # A delta within MAX_DEFLATE_DEPTH streams is one deeper, and so is all in a zstd stream.
        self._records = [_Part(directory) for _ in range(MAX_DEFLATE_DEPTH + 2)]
        self._depth = 0
        self._depths = bytearray()  # depth of each stream
        self._starts, self._lengths = array("Q"), array("Q")  # of its records at this depth
        self._parts = (self._operations, self._headers, self._inline, *self._records)
        self._length_bytes = 0  # of these lengths, coded
        self._pending_inline = 0
        self._text_bytes: int | None = None
        self.opened = False
        """Whether the recipe has anything but content."""

    @property
    def size(self) -> int:
        """Length in bytes so far, without the head and a pending operation (less than 64)."""
        size = self._length_bytes
        for part in self._parts:
            size += part.in_file + len(part.tail)
        return size

    @property
    def spilled(self) -> bool:
        """Whether a part lies in a temporary file."""
        return any(part.spilled for part in self._parts)

    @property
    def streams(self) -> int:
        """Number of streams and deltas."""
        return len(self._starts)

    def end(self) -> None:
        """End the stream."""
        self._put(END)
        self._depth -= 1

    def content(self, length: int) -> None:
        """Append `length` bytes of the content."""
        self._put(CONTENT, length)

    def inline(self, data: bytes | memoryview) -> None:
        """Append bytes that the recipe keeps."""
        self.opened = True
        self.keep(data)
        self._pending_inline += len(data)

    def deflate(self) -> int:
        """Append a deflate stream, which lasts until its `end`; return its number."""
        return self._begin(DEFLATE)

    def bzip2(self, level: int) -> int:
        """Append a bzip2 stream, which lasts until its `end`.

        Args:
            level: of its header, 1 to 9.

        Returns:
            Its number.
        """
        stream = self._begin(BZIP2)
        self.number(stream, level)
        return stream

    def text(self, size: int) -> None:
        """State the size of the file's text, in bytes; to be called if there are zstd streams."""
        self._text_bytes = size

    def zstd(self, segments: Iterable[ZstdSegment], *, is_text: bool = True) -> None:
        """Append a stream of zstd frames, which lasts until its `end`.

        Args:
            segments: of the stream.
            is_text: whether the file's text has the plaintext in its place; if not, recipes may be
                `against` old streams.
        """
        stream, record = self._begin(ZSTD if is_text else SEQUENCES), bytearray()
        for plain_bytes, coded_bytes, recipe in segments:
            for value in (plain_bytes, coded_bytes, len(recipe)):
                put_number(record, value)
            record += recipe
        self._record(stream, record)

    def delta(
        self,
        length: int,
        spans: Sequence[tuple[int, int, int]],
        payload: bytes,
        *,
        times: Sequence[tuple[int, int]] = (),
        relinked: bool = False,
        hold: bool = False,
    ) -> None:
        """Append bytes that come from a delta.

        Args:
            length: their number, 1 to MAX_DELTA_BYTES.
            spans: 1 to MAX_SPANS of old streams: number of the stream, start of the span in its
                plaintext and size of it in bytes.
            payload: of `engine.delta.encode`, the spans being its prefix.
            times: replaced in the spans before, as `header_times.retime` does.
            relinked: whether spans and bytes are what `header_times.relink` makes of them.
            hold: whether the bytes are held for `held`; all that were held before are taken.
        """
        own = self._begin(HOLD if hold else DELTA, length)
        self._depth -= 1
        record = bytearray()
        put_number(record, len(spans))
        for value in chain(*spans, (len(times) << 1 | relinked,), *times):
            put_number(record, value)
        self._record(own, record + payload)

    def held(self, length: int) -> None:
        """Append `length` of the bytes held, at least 1."""
        self._put(HELD, length)

    def number(self, stream: int, value: int) -> None:
        """Append a number to the records of a stream that has not ended.

        Args:
            stream: its number.
            value: at least 0.
        """
        coded = bytearray()
        put_number(coded, value)
        self._record(stream, coded)

    def _begin(self, operation: int, number: int | None = None) -> int:
        self.opened = True
        self._put(operation, number)
        self._depths.append(self._depth)
        self._starts.append(self._records[self._depth].length)
        self._lengths.append(0)
        self._length_bytes += 1
        self._depth += 1
        return len(self._starts) - 1

    def segment(self, stream: int, plain_bytes: int, bit: int, recipe: bytes) -> None:
        """Append a segment to a deflate stream that has not ended.

        Args:
            stream: its number.
            plain_bytes: length of the segment's plaintext.
            bit: where in its first byte the segment begins.
            recipe: of the segment, from `engine.deflate`, or `against` an old stream.
        """
        head = bytearray()
        put_number(head, plain_bytes << 3 | bit)
        put_number(head, len(recipe))
        self._record(stream, head + recipe)

    def _record(self, stream: int, data: bytearray) -> None:
        part = self._records[self._depths[stream]]
        part.tail += data
        old = self._lengths[stream]
        new = self._lengths[stream] = old + len(data)
        self._length_bytes += _number_bytes(new) - _number_bytes(old)
        part.spill()

    def header(self, coded: bytes) -> None:
        """Append a tar header, coded by `encode_header`."""
        self.opened = True
        self._put(HEADER)
        self._headers.tail += coded

    def members(self, operations: bytes, headers: bytes, kept: int) -> None:
        """Append members of a tar archive that `take_members` found; `keep` appends their bytes.

        Args:
            operations: of all members.
            headers: of all members, coded as by `encode_header`.
            kept: number of kept bytes at the end that have no operation yet.
        """
        self.opened = True
        self._put_inline()
        self._operations.tail += operations
        self._headers.tail += headers
        self._headers.spill()
        self._pending_inline = kept

    def keep(self, data: bytes | memoryview) -> None:
        """Keep bytes whose operation has been appended already."""
        self._inline.tail += data
        self._inline.spill()

    def zeros(self, length: int) -> None:
        """Append zero bytes."""
        if length:
            self.opened = True
            self._put(ZEROS, length)

    def finish(self) -> Iterator[bytes | bytearray]:
        """End the stream; yield the recipe in pieces."""
        self.end()
        out = bytearray((VERSION if self._text_bytes is None else ZSTD_VERSION,))
        if self._text_bytes is not None:
            put_number(out, self._text_bytes)
        parts = (self._operations, self._headers, self._inline)
        for part in parts:
            put_number(out, part.length)
        put_number(out, len(self._lengths))
        for length in self._lengths:
            put_number(out, length)
        yield out
        for part in parts:
            for start in range(0, part.length, SPILL_BYTES):
                yield part.read(start, min(SPILL_BYTES, part.length - start))
        for depth, start, length in zip(self._depths, self._starts, self._lengths, strict=True):
            yield self._records[depth].read(start, length)

    def close(self) -> None:
        """Close the temporary files, and lose the recipe."""
        for part in self._parts:
            part.close()

    def _put_inline(self) -> None:
        if self._pending_inline:
            self._operations.tail.append(INLINE)
            put_number(self._operations.tail, self._pending_inline)
            self._pending_inline = 0

    def _put(self, operation: int, number: int | None = None) -> None:
        self._put_inline()
        self._operations.tail.append(operation)
        if number is not None:
            put_number(self._operations.tail, number)
        self._operations.spill()


class _Part:
    """Bytes of a recipe: a tail in memory, the bytes before it in a temporary file if many.

    Args:
        directory: of the temporary file, as `temporary_file` takes it.
    """

    __slots__ = ("_directory", "_file", "in_file", "tail")

    def __init__(self, directory: bytes | None) -> None:
        self._directory = directory
        self._file: IO[bytes] | None = None
        self.in_file = 0
        self.tail = bytearray()

    @property
    def length(self) -> int:
        return self.in_file + len(self.tail)

    @property
    def spilled(self) -> bool:
        return self._file is not None

    def spill(self) -> None:
        """Move a long tail to the file."""
        if len(self.tail) > SPILL_BYTES:
            if self._file is None:
                self._file = temporary_file(self._directory)
            write_at(self._file, self.tail, self.in_file)
            self.in_file += len(self.tail)
            self.tail.clear()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def read(self, start: int, length: int) -> bytes:
        """Return `length` bytes from the offset `start`."""
        stored = max(min(self.in_file - start, length), 0)
        at = start + stored - self.in_file
        rest = bytes(self.tail[at : at + length - stored]) if length > stored else b""
        if not stored:
            return rest
        assert self._file is not None
        return read_at(self._file, stored, start) + rest


def against(recipe: bytes, stream: int) -> bytes:
    """Return a recipe from tokens, or from old sequences, with the old stream it needs, as stored.

    Args:
        recipe: of a segment.
        stream: number of the old stream.
    """
    out = bytearray(recipe[:1])
    put_number(out, stream)
    return bytes(out + recipe[1:])


class Cursor:
    """Reads numbers and bytes of a recipe from a stranger.

    Args:
        data: of the recipe, or of a part.
        what: how errors name it.
    """

    def __init__(self, data: memoryview, what: str) -> None:
        self._data = data
        self._at = 0
        self.what = what

    @property
    def ended(self) -> bool:
        """Whether nothing is left."""
        return self._at == len(self._data)

    def number(self) -> int:
        """Return the next number.

        Raises:
            FormatError: no number below 2^63 follows.
        """
        value = shift = 0
        while True:
            if self._at == len(self._data) or shift > 56:
                self.fail("a number is cut off or too large")
            byte = self._data[self._at]
            self._at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def copy(self) -> Cursor:
        """Return a cursor of the bytes left."""
        return Cursor(self.rest(), self.what)

    def rest(self) -> memoryview:
        """Return the bytes left, without taking them."""
        return self._data[self._at :]

    def fail(self, why: str) -> NoReturn:
        """Raise the error.

        Args:
            why: what is wrong with the recipe.

        Raises:
            FormatError: always.
        """
        raise FormatError(self.what, why)

    def take(self, length: int) -> memoryview:
        """Return the next `length` bytes.

        Raises:
            FormatError: fewer are left.
        """
        if length > len(self._data) - self._at:
            self.fail("it is cut off")
        start, self._at = self._at, self._at + length
        return self._data[start : self._at]


class Recipe:
    """A recipe, split into its parts.

    Args:
        data: the recipe, from a stranger.
        what: how errors name it.

    Raises:
        FormatError: the bytes are not a recipe.
    """

    def __init__(self, data: memoryview, what: str) -> None:
        version = data[0] if data else 0
        if version not in (VERSION, ZSTD_VERSION):
            raise FormatError(what, "not a recipe that this reader knows")
        head = Cursor(data[1:], what)
        self.text_bytes = head.number() if version == ZSTD_VERSION else None
        """Size of the file's text; None if the file has no zstd streams, and is its text."""
        lengths = [head.number() for _ in range(3)]
        count = head.number()
        if count > MAX_STREAMS:
            raise FormatError(what, f"{count} streams")
        most = len(data)  # caps each length, so that their sum cannot overflow
        self._streams = array("Q", (min(head.number(), most + 1) for _ in range(count)))
        self._next = 0  # number of the next stream
        self.operations, self.headers, self.inline = (
            Cursor(head.take(length), what) for length in lengths
        )
        self._records = Cursor(head.take(sum(self._streams)), what)
        if not head.ended:
            raise FormatError(what, "bytes behind the last part")
        self.what = what

    def next_stream(self) -> Cursor:
        """Return the records of the next stream or delta.

        Returns:
            A cursor of them.

        Raises:
            FormatError: no stream is left.
        """
        if self._next == len(self._streams):
            raise FormatError(self.what, "a stream is missing")
        self._next += 1
        return Cursor(self._records.take(self._streams[self._next - 1]), self.what)

    def is_content(self) -> bool:
        """Return whether the file's text is the content as it is, whatever the zstd streams."""
        operations = self.operations.copy()
        while not operations.ended:
            operation = operations.number()
            if operation == CONTENT:
                operations.number()
            elif operation not in (END, ZSTD):
                return False
        return True

    @property
    def ended(self) -> bool:
        """Whether all parts, and all streams, have been read."""
        parts = (self.operations, self.headers, self.inline, self._records)
        return self._next == len(self._streams) and all(part.ended for part in parts)


def put_number(out: bytearray, value: int) -> None:
    """Append a number, coded as in docs/format.md, "Recipes".

    Args:
        out: what it is appended to.
        value: at least 0, below 2^63.
    """
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def _number_bytes(value: int) -> int:
    return max(value.bit_length() + 6, 7) // 7
