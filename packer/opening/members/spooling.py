"""Bytes copied to where they can be read in any order: to memory, or to a temporary file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import IO

from packer.files.temporary import read_at, temporary_file, write_at
from packer.opening.members.stored_pieces import Content

_SPOOL_BYTES = 8 << 20
"""Bytes that stay in memory; more go to a temporary file."""
_COPY_BYTES = 256 << 10
"""Bytes read from the file at a time."""


class Stopped(Exception):
    """A bound was reached, or a temporary file cannot be written: the rest is not listed."""


class _FileContent:
    """Bytes in a temporary file, the last of them in memory.

    Args:
        file: closed with this object.
        in_file: number of bytes in the file.
        tail: the bytes behind these.
    """

    def __init__(self, file: IO[bytes], in_file: int, tail: bytes) -> None:
        self._file = file
        self._in_file = in_file
        self._tail = tail
        self.size = in_file + len(tail)

    def read(self, start: int, length: int) -> Iterator[bytes]:
        """Yield the bytes ``[start, start + length)``."""
        end = start + length
        while start < min(end, self._in_file):
            count = min(end, self._in_file, start + _COPY_BYTES) - start
            yield read_at(self._file, count, start)
            start += count
        if start < end:
            yield self._tail[start - self._in_file : end - self._in_file]

    def __del__(self) -> None:
        self._file.close()


class _MemoryContent:
    """Bytes in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def read(self, start: int, length: int) -> Iterator[memoryview]:
        yield memoryview(self._data)[start : start + length]


def spooled(pieces: Iterable[bytes | memoryview]) -> Content:
    """Copy bytes to where they can be read in any order: to memory, or to a temporary file if many.

    Args:
        pieces: the bytes.

    Returns:
        The bytes with random access.

    Raises:
        Stopped: the temporary file cannot be written.
    """
    held = bytearray()
    file: IO[bytes] | None = None
    size = 0
    for piece in pieces:
        held += piece
        if len(held) > _SPOOL_BYTES:
            try:
                file = file or temporary_file(None)
                write_at(file, held, size)
            except OSError as error:
                raise Stopped(f"a temporary file cannot be written: {error.strerror}") from None
            size += len(held)
            held.clear()
    if file is None:
        return _MemoryContent(bytes(held))
    return _FileContent(file, size, bytes(held))
