"""What readers of compressed files have in common: the plaintext, and streams that were opened."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

from packer.opening.members.stored_pieces import Deflated, Piece, Stream


class CodedReader(ABC):
    """Reads a compressed file: the plaintext of all its streams.

    Args:
        stream: begins with the first stream.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.plain = Stream(self._pieces(), is_sequential=not isinstance(stream.peek(), Deflated))
        self.plain_bytes = 0
        """Bytes of plaintext that were consumed."""

    @abstractmethod
    def _pieces(self) -> Iterator[Piece]:
        """Yield the plaintext, and count it."""

    def _opened(self, stream: Deflated) -> Iterator[Piece]:
        """Yield the plaintext of a stream that was opened, and count it."""
        plain = stream.plaintext()
        while (piece := plain.pop()) is not None:
            yield piece
        self.plain_bytes += stream.plain_length()
