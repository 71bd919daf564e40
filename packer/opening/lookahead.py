"""A stream of bytes with as much look-ahead as its reader wants, and the search for archives."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from packer.engine.native import ffi, lib
from packer.errors import InvalidParameter

if TYPE_CHECKING:
    from typing_extensions import Buffer


def find_signature(data: Buffer, start: int, end: int) -> int:
    """Return where a gzip member, a zip entry or a bzip2 stream may begin in ``data[start:end]``.

    Args:
        data: any C-contiguous buffer, borrowed for the call.
        start: first offset to look at, in bytes.
        end: the signature ends at or before this offset.

    Returns:
        The offset of the first signature in `data`, -1 if there is none.
    """
    # Released at once: a view that a traceback keeps borrowed crashes Python's collector.
    with ffi.from_buffer("uint8_t[]", data) as view:
        found = start + lib.pk_find_signature(view + start, end - start) if start < end else end
    return found if found < end else -1


def find_zstd(data: Buffer) -> int:
    """Return where a zstd frame may begin in `data`, -1 if nowhere.

    Args:
        data: any C-contiguous buffer, borrowed for the call.
    """
    view = ffi.from_buffer("uint8_t[]", data)
    found: int = lib.pk_find_zstd(view, len(view))
    return found if found < len(view) else -1


class Source:
    """A stream of bytes, from a file or a deflate stream, with its next bytes in hand.

    Args:
        fill: writes the next bytes to the start of a buffer and returns their number, 0 at the end,
            None if the file is in non-blocking mode and has none.
        buffer: memory to start with.
    """

    def __init__(self, fill: Callable[[memoryview], int | None], buffer: bytearray) -> None:
        self._fill = fill
        self.buffer = buffer
        """The bytes in hand are ``buffer[at:at + ahead(n)]``."""
        self.at = 0
        self._end = 0
        self._before = 0  # bytes of the stream before the buffer
        self._limit: int | None = None
        self._ended = False

    @property
    def position(self) -> int:
        """Bytes of the stream before the next byte."""
        return self._before + self.at

    def ahead(self, count: int) -> int:
        """Read until the next `count` bytes, or all that are left, are in hand.

        Args:
            count: number of bytes wanted.

        Returns:
            How many bytes are in hand.
        """
        if self._limit is not None:
            count = min(count, self._limit - self.position)
        if self._end - self.at < count and not self._ended:
            self._read(count)
        have = self._end - self.at
        return have if self._limit is None else min(have, self._limit - self.position)

    def view(self, start: int, end: int) -> memoryview:
        """Return bytes in hand, counted from the next byte; valid until `ahead` is called."""
        return memoryview(self.buffer)[self.at + start : self.at + end]

    def find(self, needle: bytes, start: int, end: int) -> int:
        """Return where `needle` begins in the bytes in hand ``[start, end)``, -1 if nowhere."""
        found = self.buffer.find(needle, self.at + start, self.at + end)
        return found - self.at if found >= 0 else -1

    def find_signature(self, start: int, end: int) -> int:
        """Return where an archive may begin in bytes in hand ``[start, end)``, -1 if nowhere."""
        found = find_signature(self.buffer, self.at + start, self.at + end)
        return found - self.at if found >= 0 else -1

    def skip(self, count: int) -> None:
        """Drop the next `count` bytes, which are in hand."""
        self.at += count

    def limit(self, end: int | None) -> int | None:
        """Make the stream end at position `end`, or lift the limit; return the limit before."""
        before, self._limit = self._limit, end
        return before

    def _read(self, count: int) -> None:
        if count > len(self.buffer) - self.at and self._end - self.at <= 3 * self.at:
            self._move(self.buffer)
        while self._end - self.at < count:
            if self._end == len(self.buffer):
                # A new buffer, as views of the old one may be in use. Only when the old one is
                # full, so that short streams need no more than their length. With room to spare, so
                # that a reader that advances by a few bytes does not move everything each time: a
                # third of the bytes moved were read since the last move, or the buffer is an eighth
                # longer.
                self._move(bytearray(max(min(count + count // 2, 2 * len(self.buffer)), 4096)))
            got = self._fill(memoryview(self.buffer)[self._end :])
            if got is None:
                raise InvalidParameter("a file in non-blocking mode has no data")
            if got == 0:
                self._ended = True
                break
            self._end += got

    def _move(self, buffer: bytearray) -> None:
        have = self._end - self.at
        buffer[:have] = self.buffer[self.at : self._end]
        self.buffer = buffer
        self._before += self.at
        self.at, self._end = 0, have
