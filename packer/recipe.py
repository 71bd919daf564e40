"""Recipes: what turns a file's expansion back into the file. docs/format.md, section "Recipes".

A recipe is a small program. Its operations produce a stream of bytes from the file's content (the
bytes that were cut into chunks), from bytes kept in the recipe itself, from headers of tar archives
and from deflate streams, whose plaintext is a stream of the same kind.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, NoReturn

from packer.errors import FormatError
from packer.temporary import read_at, temporary_file, write_at

VERSION = 1

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

MAX_DEFLATE_DEPTH = 4
"""Deflate streams within deflate streams."""


SPILL_BYTES = 4 << 20
"""What a recipe has beyond this lies in a temporary file, while it is made and while it is read."""


class RecipeWriter:
    """Collects a recipe's operations while a file is opened.

    Args:
        directory: as `temporary_file` takes it.
    """

    def __init__(self, directory: bytes | None = None) -> None:
        self._directory = directory
        self._operations = _Part()
        self._headers = _Part()
        self._inline = _Part()
        self._streams: list[_Part] = []
        self._spill: IO[bytes] | None = None
        self._spilled = 0
        self._open_streams = 0  # in memory: bytes of their segments
        self._pending_inline = 0
        self.opened = False
        """Whether there is anything but content."""

    @property
    def spilled(self) -> bool:
        """Whether some of it lies in a temporary file."""
        return self._spill is not None

    @property
    def size(self) -> int:
        """Bytes so far, about."""
        return self._spilled + self._in_memory

    def end(self) -> None:
        """End the stream."""
        self._put(END)

    def content(self, length: int) -> None:
        """Append bytes that the content holds."""
        self._put(CONTENT, length)

    def inline(self, data: bytes | memoryview) -> None:
        """Append bytes and keep them here."""
        self.opened = True
        self.keep(data)
        self._pending_inline += len(data)

    def deflate(self) -> int:
        """Append a deflate stream; return its number, for `segment`."""
        self.opened = True
        self._put(DEFLATE)
        self._streams.append(_Part())
        return len(self._streams) - 1

    def segment(self, stream: int, plain_bytes: int, bit: int, recipe: bytes) -> None:
        """Append a segment to a deflate stream.

        Args:
            stream: its number.
            plain_bytes: plaintext of the segment.
            bit: where in a byte it starts.
            recipe: of `packer.deflate`.
        """
        out = self._streams[stream].tail
        before = len(out)
        _put_number(out, plain_bytes << 3 | bit)
        _put_number(out, len(recipe))
        out += recipe
        self._open_streams += len(out) - before
        if self._in_memory > SPILL_BYTES:
            self._spill_all()

    def header(self, coded: bytes, *, is_member: bool) -> None:
        """Append a tar header, coded by `encode_header`; with content and padding as usual?"""
        self.opened = True
        self._put(MEMBER if is_member else HEADER)
        self._headers.tail += coded

    def members(self, operations: bytes, headers: bytes, kept: int) -> None:
        """Append members of a tar archive, as `take_members` found them, but for what is `keep`t.

        Args:
            operations: all of theirs.
            headers: coded as by `encode_header`.
            kept: the last bytes that are kept have no operation yet.
        """
        self.opened = True
        self._put_inline()
        self._operations.tail += operations
        self._headers.tail += headers
        self._pending_inline = kept
        if self._in_memory > SPILL_BYTES:
            self._spill_all()

    def keep(self, data: bytes | memoryview) -> None:
        """Keep bytes whose operation is there already."""
        self._inline.tail += data
        if len(self._inline.tail) > SPILL_BYTES:
            self._spill_all()

    def zeros(self, length: int) -> None:
        """Append zero bytes."""
        if length:
            self.opened = True
            self._put(ZEROS, length)

    def finish(self) -> Iterator[bytes | bytearray]:
        """End the stream; yield the recipe in pieces."""
        self.end()
        out = bytearray((VERSION,))
        parts = (self._operations, self._headers, self._inline)
        for part in parts:
            _put_number(out, part.length)
        _put_number(out, len(self._streams))
        for part in self._streams:
            _put_number(out, part.length)
        yield out
        for part in (*parts, *self._streams):
            for start, length in part.spilled:
                assert self._spill is not None
                yield read_at(self._spill, length, start)
            yield part.tail
        if self._spill is not None:
            self._spill.close()

    @property
    def _in_memory(self) -> int:
        parts = len(self._operations.tail) + len(self._headers.tail) + len(self._inline.tail)
        return self._open_streams + parts

    def _spill_all(self) -> None:
        if self._spill is None:
            self._spill = temporary_file(self._directory)
        for part in (self._operations, self._headers, self._inline, *self._streams):
            if part.tail:
                write_at(self._spill, part.tail, self._spilled)
                part.spilled.append((self._spilled, len(part.tail)))
                self._spilled += len(part.tail)
                part.tail.clear()
        self._open_streams = 0

    def _put_inline(self) -> None:
        if self._pending_inline:
            self._operations.tail.append(INLINE)
            _put_number(self._operations.tail, self._pending_inline)
            self._pending_inline = 0

    def _put(self, operation: int, number: int | None = None) -> None:
        self._put_inline()
        self._operations.tail.append(operation)
        if number is not None:
            _put_number(self._operations.tail, number)


class _Part:
    """Part of a recipe: what lies in the temporary file, by offset and length, and the rest."""

    __slots__ = ("spilled", "tail")

    def __init__(self) -> None:
        self.spilled: list[tuple[int, int]] = []
        self.tail = bytearray()

    @property
    def length(self) -> int:
        return sum(length for _, length in self.spilled) + len(self.tail)


class Cursor:
    """Reads numbers and bytes of a recipe, from a stranger.

    Args:
        data: to read.
        what: how errors name it.
    """

    def __init__(self, data: memoryview, what: str) -> None:
        self._data = data
        self._at = 0
        self._what = what

    @property
    def ended(self) -> bool:
        """Whether nothing is left."""
        return self._at == len(self._data)

    def number(self) -> int:
        """Return the next number.

        Raises:
            FormatError: there is none, or it is above 2^63.
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

    def rest(self) -> memoryview:
        """Return what is left, without taking it."""
        return self._data[self._at :]

    def fail(self, why: str) -> NoReturn:
        """Raise FormatError."""
        raise FormatError(self._what, why)

    def take(self, length: int) -> memoryview:
        """Return the next bytes.

        Raises:
            FormatError: there are not as many.
        """
        if length > len(self._data) - self._at:
            self.fail("it is cut off")
        start, self._at = self._at, self._at + length
        return self._data[start : self._at]


class Recipe:
    """A recipe, split into its parts.

    Args:
        data: from a stranger.
        what: how errors name it.

    Raises:
        FormatError: it is no recipe.
    """

    def __init__(self, data: memoryview, what: str) -> None:
        if data[:1] != bytes((VERSION,)):
            raise FormatError(what, "not a recipe that this reader knows")
        head = Cursor(data[1:], what)
        lengths = [head.number() for _ in range(3)]
        count = head.number()
        if count > len(data):
            raise FormatError(what, f"{count} deflate streams")
        lengths += [head.number() for _ in range(count)]
        parts = [Cursor(head.take(length), what) for length in lengths]
        if not head.ended:
            raise FormatError(what, "bytes behind the last part")
        self.what = what
        self.operations, self.headers, self.inline = parts[:3]
        self.streams = parts[3:]

    @property
    def ended(self) -> bool:
        """Whether all parts have been read to their end."""
        parts = (self.operations, self.headers, self.inline, *self.streams)
        return all(part.ended for part in parts)


def _put_number(out: bytearray, value: int) -> None:
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
