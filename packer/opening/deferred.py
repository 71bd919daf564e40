"""Bytes of a file that are being rebuilt: made later, held, joined, and taken in any lengths."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from packer.engine import bzip2
from packer.engine.memory import writable
from packer.errors import FormatError

DEFERRED_BYTES = 4 << 10
"""Memory of a segment without its plaintext, about, in bytes."""
_VIEW_SHARE = 8
"""A segment is a view of the piece that its plaintext lies in, if it is so large a part of it: the
whole piece stays in memory with it."""


class Deferred:
    """Bytes of a segment, or of a delta, that are being made.

    Args:
        size: of the memory that it holds, in bytes.
        result: waits for the bytes; to be called once, in the order of the stream.
    """

    __slots__ = ("_size", "result")

    def __init__(self, size: int, result: Callable[[], memoryview]) -> None:
        self._size = size
        self.result = result

    def __len__(self) -> int:
        return self._size


Piece = bytes | memoryview | Deferred


class Held:
    """The bytes of a delta, taken in parts.

    Args:
        made: the delta.
        size: of its plaintext in bytes.
    """

    def __init__(self, made: Deferred, size: int) -> None:
        self._made = made
        self._plain = memoryview(b"")
        self._size = size
        self.left = size
        """Bytes that were not taken yet."""

    def take(self, size: int) -> Deferred:
        """Return the next bytes, at most `left`; the first part counts with all of the memory."""
        start = self._size - self.left
        self.left -= size
        memory = size + DEFERRED_BYTES if start else len(self._made)
        return Deferred(memory, partial(self._part, start, size))

    def _part(self, start: int, size: int) -> memoryview:
        """Return a part of the plaintext; the parts are asked for in order."""
        if not start:
            self._plain = self._made.result()
        return self._plain[start : start + size]


NOTHING_HELD = Held(Deferred(0, lambda: memoryview(b"")), 0)


class Joint:
    """Joins parts of a deflate stream that end and begin within a byte."""

    def __init__(self) -> None:
        self._partial = 0

    def add(self, out: bytearray, bits: int) -> memoryview:
        """Return the whole bytes of a part, which changes: it gets the bits of the one before."""
        if out:
            out[0] |= self._partial
        self._partial = out[-1] if bits & 7 else 0
        return memoryview(out)[: bits >> 3]


class BlockJoint:
    """Joins the blocks of a bzip2 stream.

    Args:
        what: how errors name the recipe.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._joiner = bzip2.Joiner()
        self._trailer = bzip2.Trailer()

    def add(self, wait: Callable[[], bzip2.Block]) -> memoryview:
        """Wait for the next block; return the whole bytes up to its end."""
        try:
            block = wait()
        except bzip2.NotBzip2 as error:
            raise FormatError(self._what, str(error)) from None
        self._trailer.add(block.crc)
        return memoryview(self._joiner.add(block))

    def trailer(self) -> memoryview:
        """Return the end of the stream, behind all blocks."""
        return memoryview(self._joiner.add(self._trailer.block()) + self._joiner.finish())


class Bytes:
    """Pieces of bytes, taken in any lengths.

    Args:
        pieces: of any length.
        what: how errors name the recipe.
    """

    def __init__(self, pieces: Iterator[bytes | memoryview], what: str) -> None:
        self._pieces = pieces
        self.position = 0
        """Bytes taken so far."""
        self._rest: bytes | memoryview = b""
        self._whole = 0
        """Bytes of the piece that the rest is of."""
        self._what = what

    @property
    def ended(self) -> bool:
        """Whether nothing is left."""
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return True
            self._rest = piece
            self._whole = len(piece)
        return False

    def pieces(self, count: int) -> Iterator[bytes | memoryview]:
        """Yield the next `count` bytes.

        Args:
            count: number of bytes.

        Yields:
            The bytes, in pieces.

        Raises:
            FormatError: fewer are left.
        """
        while count:
            if self.ended:
                raise FormatError(self._what, "the content is too short")
            piece = self._rest[:count]
            self._rest = self._rest[len(piece) :]
            count -= len(piece)
            self.position += len(piece)
            yield piece

    def leave(self, count: int, skip: Callable[[int], int]) -> None:
        """Take the next `count` bytes without looking at them.

        Args:
            count: number of bytes.
            skip: passes over whole pieces that have not been asked for, of so many bytes at most;
                returns their bytes.

        Raises:
            FormatError: fewer are left.
        """
        part = min(count, len(self._rest))
        self._rest = self._rest[part:]
        skipped = part + skip(count - part)
        self.position += skipped
        for _ in self.pieces(count - skipped):
            pass

    def take(self, count: int) -> bytes | memoryview:
        """Return the next `count` bytes in one buffer."""
        if not self.ended and count <= len(self._rest) and count * _VIEW_SHARE >= self._whole:
            data, self._rest = self._rest[:count], self._rest[count:]
            self.position += count
            return data
        # Copied one by one: a list of pieces would keep a whole frame alive for each.
        out = writable(count)
        at = 0
        for piece in self.pieces(count):
            out[at : at + len(piece)] = piece
            at += len(piece)
        return out
