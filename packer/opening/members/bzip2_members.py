"""The plaintext of bzip2 files, for listings."""

from __future__ import annotations

from collections.abc import Iterator

from packer.opening.members.coded_reader import CodedReader
from packer.opening.members.gzip_members import Damaged
from packer.opening.members.stored_pieces import Data, Deflated, Irregular, Piece, Stream

_BLOCK, _END = b"1AY&SY", b"\x17\x72\x45\x38\x50\x90"
"""What follows the header of a stream: its first block, or its end."""
_INPUT_BYTES = 64 << 10
"""Compressed bytes that are taken at a time."""
_OUTPUT_BYTES = 256 << 10
"""Greatest piece of plaintext, in bytes."""


def is_bzip2(head: bytes) -> bool:
    """Return whether a file with these first bytes is a bzip2 file."""
    return head[:3] == b"BZh" and b"1" <= head[3:4] <= b"9" and head[4:10] in (_BLOCK, _END)


class Bzip2Reader(CodedReader):
    """Reads a bzip2 file: the plaintext of all its streams.

    Args:
        stream: begins with the first stream.
    """

    def _pieces(self) -> Iterator[Piece]:
        stream = self._stream
        while True:
            if isinstance(piece := stream.peek(), Deflated):
                stream.pop()
                yield from self._stored(piece)
            elif is_bzip2(stream.look(10)):
                for data in _inflated(stream):
                    self.plain_bytes += len(data)
                    yield data
            else:
                return

    def _stored(self, deflated: Deflated) -> Iterator[Piece]:
        """Yield the plaintext of a stream that was opened, if all of it was."""
        if not deflated.is_whole_bzip2():
            raise Irregular
        yield from self._opened(deflated)


def _inflated(coded: Stream) -> Iterator[Data]:
    """Yield the plaintext of a bzip2 stream, and leave the bytes behind it."""
    try:
        import bz2
    except ImportError as error:  # Python can be built without it
        raise Damaged(str(error)) from None
    decoder = bz2.BZ2Decompressor()
    try:
        while not decoder.eof:
            data = coded.read(_INPUT_BYTES) if decoder.needs_input else b""
            out = decoder.decompress(data, _OUTPUT_BYTES)
            if not out and not data and not decoder.eof:
                raise Damaged("a bzip2 stream is cut short")
            if out:
                yield Data(out)
    except (OSError, ValueError, EOFError) as error:
        raise Damaged(f"a bzip2 stream is damaged: {error}") from None
    if decoder.unused_data:
        coded.push(Data(decoder.unused_data))
