"""Blocks of bzip2 streams to plaintext, and back bit for bit. See docs/deflate.md, "bzip2".

A bzip2 stream is a header, blocks and a trailer, one after another without regard to bytes. Blocks
are independent of one another, and libbz2 writes the same bits for the same plaintext and level:
so a block needs no recipe but the length of its plaintext. Bits are counted from the most
significant one of the first byte.

A block is compressed by making a stream of it alone, with Python's `bz2`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing_extensions import Buffer

try:
    import bz2
except ImportError:  # a Python that was built without libbz2
    bz2 = None  # type: ignore[assignment]

HEADER_BYTES = 4
"""Length of a stream's header: "BZh" and the level as a digit."""
MAX_BLOCK_PLAIN = 18 << 20
"""Greatest plaintext of a block, in bytes; bounds the memory of writer and reader.

A block holds up to 900,000 bytes after runs are shortened, so only long runs exceed it."""

_BLOCK, _END = 0x314159265359, 0x177245385090
"""Magic numbers before a block and before the trailer."""
_MAGIC_BITS, _CRC_BITS = 48, 32
_TRAILER_BITS = _MAGIC_BITS + _CRC_BITS


class NotBzip2(ValueError):
    """The bits are no block, or one that another encoder wrote."""


class Block(NamedTuple):
    """The bits of a block.

    Args:
        value: the bits as an integer, the first one the most significant.
        bits: their number.
        crc: of the block, as its header states it.
    """

    value: int
    bits: int
    crc: int


class Magic(NamedTuple):
    """Where a block or the trailer begins.

    Args:
        bit: of its first bit.
        is_end: whether it is the trailer.
    """

    bit: int
    is_end: bool


def is_available() -> bool:
    """Return whether this Python has libbz2."""
    return bz2 is not None


def most_coded(level: int) -> int:
    """Return the greatest length in bytes of a block that libbz2 writes, and of what follows it.

    Source: the manual of bzip2, 3.5.1: the output is at most 1 % and 600 bytes longer.
    """
    return level * 101_000 + 1024


def _patterns(magic: int) -> list[tuple[int, bytes, int, int, bytes]]:
    """Return, for each bit of a byte, how a magic number that begins there looks in bytes.

    Args:
        magic: the number.

    Returns:
        The bit; the bytes that it fills; mask and value of the byte before; mask and value of the
        byte behind.
    """
    out = []
    for shift in range(8):
        data = (magic << 8 - shift).to_bytes(7, "big")
        if shift:
            before = 0xFF >> shift
            out.append((shift, data[1:6], before, data[0], bytes((0xFF - before, data[6]))))
        else:
            out.append((0, data[:6], 0, 0, b"\0\0"))
    return out


_PATTERNS = [(False, _patterns(_BLOCK)), (True, _patterns(_END))]


def find_magic(data: bytes, start: int) -> Magic | None:
    """Return where the next block or trailer begins.

    It is a hint: other bits contain the magic numbers by chance, though rarely.

    Args:
        data: searched.
        start: the first bit to look at.

    Returns:
        The place; None if there is none in the bytes.
    """
    best: Magic | None = None
    end = len(data)
    for is_end, patterns in _PATTERNS:
        for shift, inner, mask, first, (last_mask, last) in patterns:
            at = start >> 3
            while (at := data.find(inner, at, end)) >= 0:
                bit = 8 * (at - 1) + shift if shift else 8 * at
                behind = at + len(inner)
                if bit >= start and (
                    not shift
                    or (
                        data[at - 1] & mask == first
                        and behind < len(data)
                        and data[behind] & last_mask == last
                    )
                ):
                    best = Magic(bit, is_end)
                    end = min(end, behind)
                    break
                at += 1
    return best


def is_block(data: Buffer) -> bool:
    """Return whether the bytes begin with a block: not with the trailer of an empty stream."""
    return bytes(data) == _BLOCK.to_bytes(6, "big")


def block_of(data: bytes, start: int, end: int) -> Block:
    """Return the block in a range of bits, unchecked.

    Args:
        data: holds it.
        start: its first bit.
        end: the bit behind it.

    Raises:
        NotBzip2: the range is too short for a block.
    """
    bits = end - start
    if bits < _TRAILER_BITS:
        raise NotBzip2
    value = int.from_bytes(data[start >> 3 : end + 7 >> 3], "big") >> (-end & 7)
    value &= (1 << bits) - 1
    crc = value >> bits - _TRAILER_BITS & 0xFFFFFFFF
    return Block(value, bits, crc)


def _stream_of(block: Block, level: int) -> bytes:
    """Return the stream that has one block."""
    head = int.from_bytes(header(level), "big")
    value = (head << block.bits | block.value) << _TRAILER_BITS | _END << _CRC_BITS | block.crc
    bits = 8 * HEADER_BYTES + block.bits + _TRAILER_BITS
    return (value << (-bits & 7)).to_bytes(bits + 7 >> 3, "big")


def header(level: int) -> bytes:
    """Return the header of a stream of a level, 1 to 9."""
    return b"BZh%d" % level


def inflate(block: Block, level: int) -> bytes:
    """Decompress a block.

    Args:
        block: from a stranger.
        level: of its stream, 1 to 9.

    Returns:
        The plaintext.

    Raises:
        NotBzip2: it is damaged, or has more than `MAX_BLOCK_PLAIN` bytes.
    """
    decompressor = bz2.BZ2Decompressor()
    try:
        plain = decompressor.decompress(_stream_of(block, level), MAX_BLOCK_PLAIN + 1)
    except (OSError, ValueError):
        raise NotBzip2 from None
    if not decompressor.eof or decompressor.unused_data or len(plain) > MAX_BLOCK_PLAIN:
        raise NotBzip2
    return plain


def comes_back(block: Block, plain: bytes, level: int) -> bool:
    """Return whether libbz2 turns a block's plaintext into the block's bits."""
    return bz2.compress(plain, level) == _stream_of(block, level)


def rebuild(plain: bytes | bytearray | memoryview, level: int) -> Block:
    """Compress the plaintext of one block.

    Args:
        plain: at most `MAX_BLOCK_PLAIN` bytes, from a stranger.
        level: 1 to 9.

    Returns:
        The block.

    Raises:
        NotBzip2: libbz2 makes none or several blocks of it, or this Python lacks libbz2.
    """
    if bz2 is None:
        raise NotBzip2("this Python was built without bz2")
    data = bz2.compress(plain, level)
    tail = int.from_bytes(data[-11:], "big")
    for padding in range(8):
        magic_at = padding + _CRC_BITS
        if tail >> magic_at & (1 << _MAGIC_BITS) - 1 == _END:
            block = block_of(data, 8 * HEADER_BYTES, 8 * len(data) - padding - _TRAILER_BITS)
            # The checksum of a stream is its block's if there is one block only.
            if tail >> padding & 0xFFFFFFFF == block.crc:
                return block
    raise NotBzip2("its plaintext is not one block")


class Trailer:
    """The trailer of a stream: it holds a checksum over the checksums of all blocks."""

    def __init__(self) -> None:
        self._crc = 0

    def add(self, crc: int) -> None:
        """Count the next block.

        Args:
            crc: of the block.
        """
        self._crc = (self._crc << 1 | self._crc >> 31) & 0xFFFFFFFF ^ crc

    def block(self) -> Block:
        """Return the trailer's bits."""
        return Block(_END << _CRC_BITS | self._crc, _TRAILER_BITS, self._crc)


class Joiner:
    """Joins blocks that end and begin within a byte."""

    def __init__(self) -> None:
        self._value = 0
        self._bits = 0  # bits left over, less than 8

    def add(self, block: Block) -> bytes:
        """Return the whole bytes up to the end of a block.

        Args:
            block: the next one.
        """
        bits = self._bits + block.bits
        value = self._value << block.bits | block.value
        self._bits = bits & 7
        self._value = value & (1 << self._bits) - 1
        return (value >> self._bits).to_bytes(bits >> 3, "big")

    def finish(self) -> bytes:
        """Return the last byte, filled with zero bits; none if a byte has just ended."""
        return bytes((self._value << 8 - self._bits,)) if self._bits else b""
