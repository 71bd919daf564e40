"""Pieces of bytes as a file."""

from __future__ import annotations

from collections.abc import Iterator


class Pieces:
    """A file of given pieces, for `iter_chunks`.

    Args:
        pieces: of the file, in order.
    """

    def __init__(self, pieces: Iterator[bytes | bytearray]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def readinto(self, buffer: bytearray | memoryview) -> int:
        """Fill `buffer` from its start; return the number of bytes, 0 at the end."""
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = memoryview(piece)
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count
