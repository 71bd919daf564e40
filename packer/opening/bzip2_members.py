"""Bzip2 streams in a file that is opened against its predecessor, or within its archives.

They have no tokens that could be taken over. One that changed becomes its plaintext, which is
content: its chunks are stored once, and the next version pays for what changed of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

from packer.engine import bzip2
from packer.files.spool import Pile
from packer.opening.closed import SIGNATURE_BYTES, kind_of
from packer.opening.found_stream import Read

_COST_SHARE = 0.3
"""What a stream is said to cost, as a share of its length: all of it once, and little later."""
_LEAST_BYTES = 1 << 10
"""Length in bytes of a stream that is opened, at least."""
_MOST_BYTES = 32 << 20
"""Length in bytes of a stream that is opened, at most: it lies in memory until it is opened."""


OLD_SHARE = 0.5
"""Share of a stream that is found in the predecessor from which it did not change."""
_MOST_FAILURES = 16
"""Places that look like the start of a stream and are none, in one text, at most: each takes up to
50 ms."""
_MOST_PLAIN_BYTES = 32 << 20
"""Plaintext in bytes of all streams of a file that are opened, at most: it takes as much of the
disk, and a second of a core for each 5 MB, in each restore once for each link of the chain."""

Ahead = Callable[[Iterable[Callable[[], bytes | None]]], Iterator[bytes | None]]
"""Yields the results of jobs in order, some of which are done ahead."""


class Coded(NamedTuple):
    """A bzip2 stream as it lies in what holds it.

    Args:
        offset: of its first byte there.
        end: behind its trailer.
        level: that its header states.
        blocks: in order, unchecked.
    """

    offset: int
    end: int
    level: int
    blocks: Sequence[bzip2.Block]


class OpenedBzip2:
    """A bzip2 stream that comes back.

    Args:
        coded: the stream.
        sizes: bytes of the plaintext of each block.
        spool: holds the plaintext.
        begin: where it begins there.
    """

    def __init__(self, coded: Coded, sizes: Sequence[int], spool: Pile, begin: int) -> None:
        self.offset = coded.offset
        self.closed_bytes = self.whole_bytes = coded.end - coded.offset
        self.level = coded.level
        self.sizes = sizes
        self.size = sum(sizes)
        self._spool = spool
        self._begin = begin

    def read(self, start: int, length: int) -> bytes:
        """Return `length` bytes of the plaintext from `start` on."""
        return self._spool.read(self._begin + start, length)


class Bzip2Piece(NamedTuple):
    """A stream whose plaintext becomes chunks, which take `stored` bytes, about."""

    stream: OpenedBzip2
    stored: int


class Bzip2Opening:
    """Opens the streams of one file.

    Args:
        spool: takes the plaintext; nobody else adds to it meanwhile.
        most: bytes of the plaintext of all of them, at most.
    """

    def __init__(self, spool: Pile, most: int) -> None:
        self._spool = spool
        self._left = min(most, _MOST_PLAIN_BYTES)

    def pieces(
        self,
        read: Read,
        end: int,
        places: Iterable[int],
        is_new: Callable[[int, int], bool],
        ahead: Ahead,
    ) -> Iterator[Bzip2Piece]:
        """Yield the streams in a text that changed and come back, in order.

        Args:
            read: reads the text.
            end: size of it.
            places: where streams may begin, in order.
            is_new: returns whether the predecessor lacks most of a stretch of the text.
            ahead: decompresses blocks, and compresses them again.
        """
        behind = failures = 0
        for at in places:
            if at < behind or failures >= _MOST_FAILURES:
                continue
            coded = _coded_at(read, at, end)
            if coded is None:
                failures += 1
                continue
            behind = coded.end
            stream = self._opened(coded, ahead) if is_new(at, behind) else None
            if stream is not None:
                self._left -= stream.size
                yield Bzip2Piece(stream, int(_COST_SHARE * stream.closed_bytes))

    def _opened(self, coded: Coded, ahead: Ahead) -> OpenedBzip2 | None:
        """Decompress a stream; return None if it does not come back, or is too long."""
        sizes: list[int] = []
        begin = self._spool.size
        for plain in ahead(partial(_plain, block, coded.level) for block in coded.blocks):
            if plain is None or sum(sizes) + len(plain) > self._left:
                self._spool.truncate(begin)
                return None
            sizes.append(len(plain))
            self._spool.add(plain)
        return OpenedBzip2(coded, sizes, self._spool, begin)


def _coded_at(read: Read, at: int, end: int) -> Coded | None:
    """Return the bzip2 stream at an offset; None if there is none that may be opened.

    Args:
        read: reads what holds it.
        at: the offset.
        end: size of what holds it.
    """
    head = bytes(read(at, min(SIGNATURE_BYTES, end - at)))
    if kind_of(head) != "bzip2" or not bzip2.is_available():
        return None
    level, most = head[3] - ord("0"), min(end, at + _MOST_BYTES)
    blocks: list[bzip2.Block] = []
    trailer = bzip2.Trailer()
    start, bit = at + bzip2.HEADER_BYTES, 0
    while start < most:
        data = bytes(read(start, min(bzip2.most_coded(level), end - start)))
        behind = bzip2.find_magic(data, bit + 1)
        if behind is None:
            return None
        try:
            blocks.append(bzip2.block_of(data, bit, behind.bit))
        except bzip2.NotBzip2:
            return None
        trailer.add(blocks[-1].crc)
        start, bit, data = start + (behind.bit >> 3), behind.bit & 7, data[behind.bit >> 3 :]
        if behind.is_end:
            joiner = bzip2.Joiner()
            joiner.add(bzip2.Block(data[0] >> 8 - bit, bit, 0))
            last = joiner.add(trailer.block()) + joiner.finish()
            size = start + len(last) - at
            is_sound = data.startswith(last) and size >= _LEAST_BYTES
            return Coded(at, at + size, level, blocks) if is_sound else None
    return None


def _plain(block: bzip2.Block, level: int) -> bytes | None:
    """Return the plaintext of a block; None if it does not come back."""
    try:
        plain = bzip2.inflate(block, level)
    except bzip2.NotBzip2:
        return None
    return plain if plain and bzip2.comes_back(block, plain, level) else None
