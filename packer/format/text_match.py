"""Compares bytes with the text of a predecessor, as they come.

A closed predecessor is its chunks, and each of these has its digest in the index: other bytes of
the same size are told by the first chunk that differs. One that was opened has a digest as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator

import blake3

from packer.format.index import DIGEST_BYTES, Index
from packer.opening.predecessor import Predecessor


class TextMatch:
    """Compares bytes with a predecessor's text.

    Args:
        row: of the predecessor; if it was opened, its text is a file.
        index: that lists it.
    """

    def __init__(self, row: Predecessor, index: Index) -> None:
        self._row = row
        self._index = index
        self._size = 0
        self._hasher = blake3.blake3()  # of the text, or of the chunk that has begun
        self._chunks = _chunks(row)
        self._chunk = -1
        self._left = 0  # bytes of that chunk
        self._differs = False

    def take(self, data: bytes) -> bool:
        """Compare the next bytes.

        Args:
            data: the bytes.

        Returns:
            Whether all so far may be the first ones of the text.
        """
        self._size += len(data)
        if self._size > self._row.size:
            self._differs = True
        elif self._row.recipe_chunks:
            self._hasher.update(data)
        else:
            self._compare(memoryview(data))
        return not self._differs

    @property
    def is_whole(self) -> bool:
        """Whether the bytes are the text."""
        if self._differs or self._size != self._row.size:
            return False
        if self._row.recipe_chunks:
            return self._hasher.digest()[:DIGEST_BYTES] == self._row.digest
        return not self._left and next(self._chunks, None) is None

    def _compare(self, data: memoryview) -> None:
        """Compare the next bytes of a closed predecessor."""
        while len(data):
            if not self._left:
                self._chunk = next(self._chunks, -1)
                if self._chunk < 0:
                    self._differs = True
                    return
                self._left = self._index.chunk_lengths[self._chunk]
                self._hasher.reset()
            part = data[: self._left]
            self._hasher.update(part)
            self._left -= len(part)
            data = data[len(part) :]
            if not self._left:
                digest = self._hasher.digest()[:DIGEST_BYTES]
                if digest != self._index.chunk_digest(self._chunk):
                    self._differs = True
                    return


def _chunks(row: Predecessor) -> Iterator[int]:
    """Yield the ordinals of a closed predecessor's chunks, in the order of its text."""
    for start, length in row.runs:
        yield from range(start, start + length)
