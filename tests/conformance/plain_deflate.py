"""Deflate streams (RFC 1951) for the readers of recipes: read to tokens, and written from them;
slow and plain.
"""

from __future__ import annotations

from typing import NamedTuple

WINDOW = 32768
MOST = 258
Token = tuple[int, int]
"""Length and distance; (1, 0) is a literal."""


class Refused(Exception):
    """The recipe does not fit."""


def need(sound: bool, what: str) -> None:
    if not sound:
        raise Refused(what)


class Old(NamedTuple):
    """A span: plaintext, tokens, ends of blocks."""

    plain: bytes
    tokens: list[Token]
    ends: list[int]


class Block(NamedTuple):
    """A block: 0 stored, 1 fixed, 2 dynamic; its plaintext bytes and tokens."""

    kind: int
    size: int
    tokens: list[Token]
    ends: bool = True


class Header(NamedTuple):
    """The header of a dynamic block: lengths of codes, and how they are told."""

    literals: list[int]
    distances: list[int]
    runs: list[tuple[int, int]]
    codes: list[int]
    given: int


LENGTHS = [
    *range(3, 11),
    *(b for s in range(3, 8) for b in range((4 << s - 2) + 3, (8 << s - 2) + 3, 1 << s - 2)),
    258,
]
DISTANCES = [1, 2, 3, 4]
while len(DISTANCES) < 30:
    DISTANCES.append(DISTANCES[-1] + (1 << (len(DISTANCES) - 1) // 2 - 1))


def extra_of_distance(symbol: int) -> int:
    return max(symbol // 2 - 1, 0)


def extra_of_length(symbol: int) -> int:
    return 0 if symbol < 8 or symbol == 28 else symbol // 4 - 1


def symbol_in(bases: list[int], value: int) -> int:
    return max(at for at, base in enumerate(bases) if base <= value)


FIXED = [8] * 144 + [9] * 112 + [7] * 24 + [8] * 8


ORDER = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15)
EXTRA = {16: 2, 17: 3, 18: 7}


def low(value: int, count: int) -> str:
    """Return the bits of a number, the lowest first."""
    return f"{value:0{count}b}"[::-1] if count else ""


def coded(lengths: list[int]) -> list[str]:
    """Return the canonical codes for some lengths."""
    codes, code = [""] * len(lengths), 0
    for length in range(1, 16):
        for symbol, own in enumerate(lengths):
            if own == length:
                codes[symbol] = f"{code:0{length}b}"
                code += 1
        code <<= 1
    return codes


def head(header: Header) -> str:
    """Return the bits of a header."""
    codes = coded(header.codes)
    out = [low(len(header.literals) - 257, 5), low(len(header.distances) - 1, 5)]
    out.append(low(header.given - 4, 4))
    out += [low(header.codes[symbol], 3) for symbol in ORDER[: header.given]]
    for symbol, extra in header.runs:
        out.append(codes[symbol] + low(extra, EXTRA.get(symbol, 0)))
    return "".join(out)


def written(
    tokens: list[Token], plain: bytes, first: list[int], second: list[int], ends: bool
) -> str:
    """Return the bits of tokens, and of the end of block if it `ends`."""
    literals, distances = coded(first), coded(second)
    out, at = [], 0
    for length, distance in tokens:
        if distance:
            one, other = symbol_in(LENGTHS, length), symbol_in(DISTANCES, distance)
            out.append(literals[257 + one] + low(length - LENGTHS[one], extra_of_length(one)))
            out.append(
                distances[other] + low(distance - DISTANCES[other], extra_of_distance(other))
            )
        else:
            out.append(literals[plain[at]])
        at += length
    return "".join([*out, literals[256]] if ends else out)


def inflate(stream: bytes, size: int | None = None) -> tuple[bytes, list[Block]]:
    """Return plaintext and blocks of a raw deflate stream (RFC 1951), up to `size` bytes.

    Where the stream is cut off, its last block has what is whole, and no end.
    """
    at, out, blocks = 0, bytearray(), []

    def take(count: int) -> int:
        nonlocal at
        at += count
        first = (at - count) // 8
        bits = int.from_bytes(stream[first : first + 8], "little")
        return bits >> (at - count) % 8 & ((1 << count) - 1)

    def table(lengths: list[int]) -> dict[tuple[int, int], int]:
        codes, code = {}, 0
        for length in range(1, 16):
            for symbol, own in enumerate(lengths):
                if own == length:
                    codes[length, code] = symbol
                    code += 1
            code <<= 1
        return codes

    def decode(codes: dict[tuple[int, int], int]) -> int:
        length = code = 0
        while (length, code) not in codes:
            need(length < 16, "a code")
            length, code = length + 1, code << 1 | take(1)
        return codes[length, code]

    last = 0
    while not last and (size is None or len(out) < size):
        last, kind = take(1), take(2)
        start, tokens = len(out), []
        if kind == 0:
            at += -at % 8
            length = take(32) & 0xFFFF
            out += stream[at // 8 : at // 8 + length]
            at += 8 * length
            blocks.append(Block(0, length, []))
            continue
        lengths = [8] * 144 + [9] * 112 + [7] * 24 + [8] * 8 + [5] * 30
        literals = 288
        if kind == 2:
            literals, distances, count = take(5) + 257, take(5) + 1, take(4) + 4
            told = [0] * 19
            for symbol in ORDER[:count]:
                told[symbol] = take(3)
            codes, lengths = table(told), []
            while len(lengths) < literals + distances:
                symbol = decode(codes)
                if symbol < 16:
                    lengths.append(symbol)
                elif symbol == 16:
                    lengths += [lengths[-1]] * (3 + take(2))
                else:
                    lengths += [0] * (3 + take(3) if symbol == 17 else 11 + take(7))
        first, second = table(lengths[:literals]), table(lengths[literals:])
        ends = True
        while True:
            if size is not None and len(out) >= size and at + 48 > 8 * len(stream):
                try:
                    ends = decode(first) == 256 and at <= 8 * len(stream)
                except Refused:
                    ends = False
                last |= not ends
                break
            if (symbol := decode(first)) == 256:
                break
            if symbol < 256:
                out.append(symbol)
                tokens.append((1, 0))
                continue
            length = LENGTHS[symbol - 257] + take(extra_of_length(symbol - 257))
            symbol = decode(second)
            distance = DISTANCES[symbol] + take(extra_of_distance(symbol))
            for _ in range(length):
                out.append(out[-distance])
            tokens.append((length, distance))
        blocks.append(Block(kind, len(out) - start, tokens, ends))
    return bytes(out), blocks


def old_span(plain: bytes, blocks: list[Block], first: int, size: int) -> Old:
    """Return a span of a stream as the text describes it."""
    tokens: list[Token] = []
    ends, at = [], 0
    last = first + size
    for block in blocks:
        for length, distance in block.tokens or [(1, 0)] * block.size:
            if first <= at and at + length <= last:
                tokens.append((length, distance))
            else:
                inside = max(min(at + length, last) - max(at, first), 0)
                tokens += [(1, 0)] * inside
            at += length
        if block.size and block.ends and first < at <= last:
            ends.append(at - first)
    return Old(plain[first:last], tokens, ends)
