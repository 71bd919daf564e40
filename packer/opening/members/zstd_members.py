"""The plaintext of zstd files, for listings. RFC 8878."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, cast

import zstandard

from packer.opening.members.coded_reader import CodedReader
from packer.opening.members.gzip_members import Damaged
from packer.opening.members.stored_pieces import Data, Deflated, Irregular, Piece, Stream
from packer.opening.recipe import SEQUENCES, ZSTD
from packer.opening.zstd_frames import MAGIC, begins

_OUTPUT_BYTES = 256 << 10
"""Greatest piece of plaintext, in bytes."""
_MAX_WINDOW_BYTES = 128 << 20
"""Greatest window that is decompressed, in bytes: what zstd itself takes unasked."""


def is_zstd(head: bytes) -> bool:
    """Return whether a file with these first bytes is a zstd file."""
    return begins(head)


class ZstdReader(CodedReader):
    """Reads a zstd file: the plaintext of all its frames.

    Args:
        stream: begins with the first frame.
    """

    def _pieces(self) -> Iterator[Piece]:
        stream = self._stream
        while True:
            if isinstance(piece := stream.peek(), Deflated):
                stream.pop()
                yield from self._stored(piece)
                continue
            head = stream.look(8)
            if head[:4] == MAGIC:
                yield from self._decompressed()
                return
            if not begins(head):
                return
            stream.skip(8 + int.from_bytes(head[4:], "little"))  # skippable

    def _stored(self, deflated: Deflated) -> Iterator[Piece]:
        """Yield the plaintext of frames that were opened."""
        if deflated.kind not in (ZSTD, SEQUENCES):
            raise Irregular
        yield from self._opened(deflated)

    def _decompressed(self) -> Iterator[Data]:
        """Yield the plaintext of all frames up to the end."""
        decoder = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES)
        coded = cast("IO[bytes]", _Coded(self._stream))
        reader = decoder.stream_reader(coded, read_across_frames=True)
        try:
            while data := reader.read(_OUTPUT_BYTES):
                self.plain_bytes += len(data)
                yield Data(data)
        except (zstandard.ZstdError, MemoryError) as error:
            raise Damaged(f"a zstd frame is damaged: {error}") from None


class _Coded:
    """The bytes of a stream as a file."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        return self._stream.read(size if size >= 0 else 1 << 20)
