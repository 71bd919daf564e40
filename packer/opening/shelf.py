"""Recipes and deltas that wait until all of a file is decided: in memory, or in a temporary file.

What is stored of a file is known only when all its streams were looked at. Until then, recipes and
deltas may grow with the file to 0.8 of it.
"""

from __future__ import annotations

from threading import Lock
from typing import IO

from packer.files.temporary import read_at, temporary_file, write_at

SHELF_BYTES = 4 << 20
"""Memory of one shelf, in bytes; further bytes go to a temporary file."""
_LEAST_BYTES = 192
"""Length below which bytes stay in memory, uncounted: a place in the file takes as much."""


class Shelf:
    """Keeps byte strings; may be used by several threads.

    Args:
        directory: of the temporary file, as `temporary_file` takes it.
        most: bytes that stay in memory.
    """

    def __init__(self, directory: bytes | None, most: int = SHELF_BYTES) -> None:
        self._directory = directory
        self._left = most
        self._lock = Lock()
        self._file: IO[bytes] | None = None
        self._end = 0

    def keep(self, data: Kept) -> Kept:
        """Return what stands for bytes: themselves, or their place in the file.

        Args:
            data: the bytes, or what stands for them already.
        """
        if isinstance(data, Shelved) or len(data) < _LEAST_BYTES:
            return data
        with self._lock:
            if len(data) <= self._left:
                self._left -= len(data)
                return data
            if self._file is None:
                self._file = temporary_file(self._directory)
            start, self._end = self._end, self._end + len(data)
        write_at(self._file, data, start)
        return Shelved(self._file, start, len(data))

    def close(self) -> None:
        """Remove the temporary file; what lies there is lost."""
        if self._file is not None:
            self._file.close()


class Shelved:
    """Bytes in the file of a shelf.

    Args:
        file: the file.
        start: offset of the first byte there.
        length: their number.
    """

    __slots__ = ("_file", "_length", "_start")

    def __init__(self, file: IO[bytes], start: int, length: int) -> None:
        self._file = file
        self._start = start
        self._length = length

    def __len__(self) -> int:
        """Return the number of bytes."""
        return self._length

    def __bytes__(self) -> bytes:
        """Return the bytes; `OSError` if the file was cut short."""
        return read_at(self._file, self._length, self._start)


Kept = bytes | Shelved
"""Bytes, or what stands for them: `len` tells their number, and `bytes` returns them."""
