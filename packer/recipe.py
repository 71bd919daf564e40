"""Recipes: what turns a file's expansion back into the file. docs/format.md, section "Recipes".

A recipe is a small program. Its operations produce a stream of bytes from the file's content (the
bytes that were cut into chunks), from bytes kept in the recipe itself, from headers of tar archives
and from deflate streams, whose plaintext is a stream of the same kind.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NoReturn

from packer.errors import FormatError

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
BLOCK = 512
"""Bytes of a block of a tar archive."""

# Where the fields of a header block start; the last two are the prefix with what follows it, and
# the end. POSIX.1-2017, pax, "ustar Interchange Format".
_STARTS = (0, 100, 108, 116, 124, 136, 148, 156, 157, 257, 265, 297, 329, 337, 345, BLOCK)
_FIELDS = tuple(pairwise(_STARTS))
_SIZE, _MTIME, _CHECKSUM = 4, 5, 6
_RAW_SIZE, _RAW_MTIME = 1 << 15, 1 << 16
_NO_CONTENT = b"123456"
"""Types of members that have no content whatever their size says: links, devices, directories."""


class RecipeWriter:
    """Collects a recipe's operations while a file is opened."""

    def __init__(self) -> None:
        self._operations = bytearray()
        self._headers = bytearray()
        self._inline = bytearray()
        self._streams: list[bytearray] = []
        self._pending_inline = 0
        self._size = 0
        self.opened = False
        """Whether there is anything but content."""

    @property
    def size(self) -> int:
        """Bytes so far, about."""
        return self._size + len(self._operations) + len(self._headers) + len(self._inline)

    def end(self) -> None:
        """End the stream."""
        self._put(END)

    def content(self, length: int) -> None:
        """Append bytes that the content holds."""
        self._put(CONTENT, length)

    def inline(self, data: bytes | memoryview) -> None:
        """Append bytes and keep them here."""
        self.opened = True
        self._inline += data
        self._pending_inline += len(data)

    def deflate(self) -> int:
        """Append a deflate stream; return its number, for `segment`."""
        self.opened = True
        self._put(DEFLATE)
        self._streams.append(bytearray())
        return len(self._streams) - 1

    def segment(self, stream: int, plain_bytes: int, bit: int, recipe: bytes) -> None:
        """Append a segment to a deflate stream.

        Args:
            stream: its number.
            plain_bytes: plaintext of the segment.
            bit: where in a byte it starts.
            recipe: of `packer.deflate`.
        """
        out = self._streams[stream]
        before = len(out)
        _put_number(out, plain_bytes << 3 | bit)
        _put_number(out, len(recipe))
        out += recipe
        self._size += len(out) - before

    def header(self, coded: bytes, *, is_member: bool) -> None:
        """Append a tar header, coded by `encode_header`; with content and padding as usual?"""
        self.opened = True
        self._put(MEMBER if is_member else HEADER)
        self._headers += coded

    def zeros(self, length: int) -> None:
        """Append zero bytes."""
        if length:
            self.opened = True
            self._put(ZEROS, length)

    def finish(self) -> bytes:
        """Return the recipe."""
        self.end()
        out = bytearray((VERSION,))
        parts = (self._operations, self._headers, self._inline)
        for part in parts:
            _put_number(out, len(part))
        _put_number(out, len(self._streams))
        for stream in self._streams:
            _put_number(out, len(stream))
        for part in (*parts, *self._streams):
            out += part
        return bytes(out)

    def _put(self, operation: int, number: int | None = None) -> None:
        if self._pending_inline:
            self._operations.append(INLINE)
            _put_number(self._operations, self._pending_inline)
            self._pending_inline = 0
        self._operations.append(operation)
        if number is not None:
            _put_number(self._operations, number)


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

    def __init__(self, data: bytes, what: str) -> None:
        if data[:1] != bytes((VERSION,)):
            raise FormatError(what, "not a recipe that this reader knows")
        head = Cursor(memoryview(data)[1:], what)
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


def is_header(block: bytes) -> bool:
    """Tell whether a block is a header of a tar archive: its checksum is right."""
    if len(block) < BLOCK or block[0] == 0:
        return False
    try:
        told = int(block[148:156].strip(b" \0"), 8)
    except ValueError:
        return False
    return told == _checksum(block)


def content_size(header: bytes) -> int:
    """Return how many bytes of content follow a tar header; -1 if that cannot be told."""
    if header[156] in _NO_CONTENT:
        return 0
    field = header[124:136]
    if field[0] == 0x80:  # GNU: binary, for 8 GiB and more
        return int.from_bytes(field[1:], "big") if field[1:4] == b"\0\0\0" else -1
    try:
        return int(field.rstrip(b" \0") or b"0", 8) if field[:1] not in b"+-_" else -1
    except ValueError:
        return -1


def encode_header(block: bytes, previous: bytes) -> bytes:
    """Return a tar header as its differences to the one before.

    Sizes and times that are written in the usual way are coded as numbers, times relative to the
    previous one, and a right checksum not at all.

    Args:
        block: the header.
        previous: the last one of the same deflate stream (or outside of all), of whichever
            archive; zeros for the first.
    """
    mask, out = 0, bytearray()
    for field, (start, end) in enumerate(_FIELDS):
        value = block[start:end]
        if field == _CHECKSUM:
            if value == b"%06o\0 " % _checksum(block):
                continue
        elif value == previous[start:end]:
            continue
        mask |= 1 << field
        if field in (_SIZE, _MTIME):
            number = _canonical(value, previous[end - 1])
            if number >= 0:
                if field == _MTIME:
                    number -= max(_canonical(previous[start:end], previous[end - 1]), 0)
                    number = number << 1 if number >= 0 else (-number << 1) - 1
                _put_number(out, number)
                continue
            mask |= _RAW_SIZE if field == _SIZE else _RAW_MTIME
        text = value.rstrip(b"\0")
        _put_number(out, len(text))
        out += text
    coded = bytearray()
    _put_number(coded, mask)
    return bytes(coded + out)


def decode_header(cursor: Cursor, previous: bytes) -> bytes:
    """Return the next tar header; the inverse of `encode_header`.

    Raises:
        FormatError: through the cursor, or a field is too long.
    """
    mask = cursor.number()
    block = bytearray(previous)
    for field, (start, end) in enumerate(_FIELDS):
        if not mask >> field & 1:
            continue
        if field == _SIZE and not mask & _RAW_SIZE:
            block[start:end] = _octal(cursor.number(), previous[end - 1], cursor)
        elif field == _MTIME and not mask & _RAW_MTIME:
            coded = cursor.number()
            number = coded >> 1 if not coded & 1 else -(coded + 1 >> 1)
            number += max(_canonical(previous[start:end], previous[end - 1]), 0)
            block[start:end] = _octal(number, previous[end - 1], cursor)
        else:
            text = bytes(cursor.take(cursor.number()))
            if len(text) > end - start:
                cursor.fail("a field of a tar header is too long")
            block[start:end] = text.ljust(end - start, b"\0")
    if not mask >> _CHECKSUM & 1:
        block[148:156] = b"%06o\0 " % _checksum(block)
    return bytes(block)


def _checksum(block: bytes | bytearray) -> int:
    return sum(block) - sum(block[148:156]) + 8 * 0x20


def _canonical(field: bytes, last: int) -> int:
    """Return the number of an octal field with 11 digits and this last byte, else -1."""
    if field[11] != last or not field[:11].isdigit():
        return -1
    try:
        return int(field[:11], 8)
    except ValueError:
        return -1


def _octal(number: int, last: int, cursor: Cursor) -> bytes:
    if not 0 <= number < 8**11:
        cursor.fail("a number of a tar header is out of range")
    return b"%011o%c" % (number, last)
