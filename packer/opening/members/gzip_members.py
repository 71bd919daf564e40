"""The plaintext of gzip files and raw deflate streams, for listings. RFC 1951, RFC 1952."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from packer.opening.members.stored_pieces import Data, Deflated, Irregular, Piece, Stream
from packer.opening.recipe import DEFLATE

MAGIC = b"\x1f\x8b\x08"
"""First bytes of a gzip member with a deflate stream."""

_INPUT_BYTES = 64 << 10
"""Compressed bytes that are taken at a time."""
_OUTPUT_BYTES = 256 << 10
"""Greatest piece of plaintext, in bytes."""
_MAX_FIELD_BYTES = 64 << 10
"""Greatest length of a name or comment in a header; longer ones are not taken for a header."""


class Damaged(Exception):
    """A part of an archive that cannot be read, and why."""


def inflated(coded: Stream) -> Iterator[Data]:
    """Yield the plaintext of a raw deflate stream, and leave the bytes behind it.

    Args:
        coded: begins with the stream.

    Yields:
        Plaintext, in pieces.

    Raises:
        Damaged: it is not a deflate stream, or is cut short.
    """
    decoder = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        while not decoder.eof:
            data = decoder.unconsumed_tail or coded.read(_INPUT_BYTES)
            if not data:
                raise Damaged("a deflate stream is cut short")
            if out := decoder.decompress(data, _OUTPUT_BYTES):
                yield Data(out)
    except zlib.error as error:
        raise Damaged(f"a deflate stream is damaged: {error}") from None
    if decoder.unused_data:
        coded.push(Data(decoder.unused_data))


class GzipReader:
    """Reads a gzip file: the plaintext of all its members.

    Args:
        stream: begins with the first member.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._shared_bytes = 0
        piece: Piece | None = None
        self._header = _skip_header(stream)
        if self._header:
            piece = stream.peek()
        self.plain = Stream(self._pieces(), is_sequential=not isinstance(piece, Deflated))
        self.plain_bytes = 0
        """Bytes of plaintext that were consumed."""

    def _pieces(self) -> Iterator[Piece]:
        stream, header = self._stream, self._header
        while header:
            if isinstance(piece := stream.peek(), Deflated) and piece.kind == DEFLATE:
                stream.pop()
                yield from self._stored(piece)
                stream.skip(self._shared_bytes)
            else:
                for data in inflated(stream):
                    self.plain_bytes += len(data)
                    yield data
            if len(stream.read(8)) < 8:
                raise Damaged("a gzip file is cut short")
            header = stream.look(3) == MAGIC and _skip_header(stream)

    def _stored(self, deflated: Deflated) -> Iterator[Piece]:
        """Yield the plaintext of a stream that was opened, and check that it is all of it."""
        plain, length = deflated.plaintext(), deflated.plain_length()
        while (piece := plain.pop()) is not None:
            yield piece
        # The stream's last byte belongs to the piece behind it if the stream ends within that byte.
        tail = self._stream.look(12)
        for shared in (1, 0):
            told = int.from_bytes(tail[4 + shared : 8 + shared], "little")
            behind = tail[8 + shared :]
            if (
                len(tail) >= 8 + shared
                and told == length & 0xFFFFFFFF
                and (not behind.strip(b"\0") or behind[:3] == MAGIC[: len(behind)])
            ):
                break
        else:
            raise Irregular  # the rest of the stream was not opened
        self._shared_bytes = shared
        self.plain_bytes += length


def _skip_header(stream: Stream) -> bool:
    """Consume the header of a gzip member; return whether there is one."""
    head = stream.read(10)
    if len(head) < 10 or head[:3] != MAGIC or head[3] & 0xE0:
        return False
    flags = head[3]
    if flags & 4:
        stream.skip(int.from_bytes(stream.read(2), "little"))
    for flag in (8, 16):
        if flags & flag:
            field = stream.look(_MAX_FIELD_BYTES)
            end = field.find(b"\0")
            if end < 0:
                return False
            stream.skip(end + 1)
    if flags & 2:
        stream.skip(2)
    return True
