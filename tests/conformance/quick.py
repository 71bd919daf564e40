"""Rebuilds deflate segments by the rules of zlib-ng and igzip, as docs/deflate.md says.

It is a second implementation, written for reading, from the specification alone, and shares no code
with the product. Rules 40 to 43 are here; what all rules have in common comes from
`model_recipes`.
"""

from __future__ import annotations

import re
from functools import cache
from heapq import heapify, heappop, heappush
from pathlib import Path

from tests.conformance.model_recipes import (
    CODE_ORDER,
    COUNT,
    DISTANCE_BASE,
    DYNAMIC,
    FAR,
    FIXED,
    FIXED_LENGTHS,
    LAST,
    LENGTH_BASE,
    LITERAL,
    LONGEST,
    STORED,
    TYPE,
    WINDOW,
    Bits,
    Corrections,
    GivenBlocks,
    Header,
    Numbers,
    Token,
    canonical,
    equal_bytes,
    need,
    run_lengths,
    symbol,
    write_empty_blocks,
    write_tokens,
)

ZLIB_NG, LEVEL_0, LEVEL_1, LEVEL_2 = RULES = range(40, 44)
GOES_ON, OPEN = 128, 256
HASHED, LONG, LARGE, MOST = 4, 8, 264, 4128

Codes = tuple[list[int], list[int]]
"""Code lengths of literals and lengths, and of distances."""


class Table:
    """What both models have in common: positions by a hash of four bytes."""

    def __init__(self, data: bytes, size: int, origin: int, rule: int, flags: int) -> None:
        self.data, self.sees, self.origin, self.rule = data, size, origin, rule
        self.reach = 4 * WINDOW if flags & FAR else WINDOW

    def start(self, at: int) -> None:
        self.table: dict[int, int] = {}
        position = max(0, at - self.reach)
        self.begin(position)
        while position < at:
            token = self.predict(position)
            self.accept(position, token, token)
            position += token[0]
        self.reach = WINDOW

    def begin(self, at: int) -> None:
        raise NotImplementedError

    def predict(self, at: int) -> Token:
        raise NotImplementedError

    def accept(self, at: int, predicted: Token, actual: Token) -> None:
        raise NotImplementedError

    def key(self, at: int) -> int:
        raise NotImplementedError

    def enter(self, at: int) -> None:
        if 0 <= at <= self.sees - HASHED:
            self.table[self.key(at)] = at

    def equal(self, at: int, distance: int, most: int) -> int:
        """Return how many bytes are equal; 0 for fewer than four."""
        length = equal_bytes(self.data, at, at - distance, min(most, self.sees - at))
        return length if length >= HASHED else 0


class ZlibNg(Table):
    """The model of zlib-ng's level 1."""

    def key(self, at: int) -> int:
        return int.from_bytes(self.data[at : at + 4], "little") * 2654435761 % 2**32 >> 16

    def begin(self, at: int) -> None:
        self.seen = self.sees
        self.passed = 0
        self.pass_below(self.origin + at)

    def pass_below(self, position: int) -> None:
        while 65274 + 32768 * self.passed < position:
            self.passed += 1

    def predict(self, at: int) -> Token:
        if self.seen == at:
            for before in (3, 2, 1):
                self.enter(at - before)
        self.seen = self.sees
        moves = 65274 + 32768 * self.passed
        if self.origin + at > moves:
            if self.origin + self.sees > moves + 262:
                self.enter(at - 1)
            self.pass_below(self.origin + at)
        if self.sees - at < HASHED:
            return LITERAL
        held = self.table.get(self.key(at), at)
        self.enter(at)
        length = self.equal(at, at - held, LONGEST) if 0 < at - held <= 32506 else 0
        return (length, at - held) if length else LITERAL

    def accept(self, at: int, predicted: Token, actual: Token) -> None:
        pass


@cache
def crc(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    return byte


class Igzip(Table):
    """The model of igzip."""

    def key(self, at: int) -> int:
        value = 0
        for byte in self.data[at : at + 4]:
            value = value >> 8 ^ crc((value ^ byte) & 255)
        return value & (32767 if self.rule == LEVEL_2 else 8191)

    def begin(self, at: int) -> None:
        self.from_start = not at and not self.origin
        self.is_second = False
        self.left = self.distance = 0

    def look(self, at: int) -> tuple[int, int]:
        """Look a position up, and enter it; return the equal bytes and the distance."""
        if self.sees - at < HASHED:
            return 0, 0
        held = self.table.get(self.key(at), 0 if self.from_start else at)
        self.enter(at)
        distance = (at - held - 1) % 32768 + 1
        return (0, 0) if held >= at or distance > at else (self.equal(at, distance, MOST), distance)

    def predict(self, at: int) -> Token:
        if self.left:
            return min(self.left, LONGEST), self.distance
        if not at and not self.origin:
            self.enter(at)
            self.match = self.other = 0, 0
            return LITERAL
        if self.is_second:
            self.match = self.other
        else:
            self.match, self.other = self.look(at), self.look(at + 1)
            if self.match[0] < LONG <= self.other[0]:
                self.match = 0, 0
        return (min(self.match[0], LONGEST), self.match[1]) if self.match[0] else LITERAL

    def accept(self, at: int, predicted: Token, actual: Token) -> None:
        length, self.distance = actual
        is_right = predicted == actual
        if self.left and is_right:
            self.left = self.left - LONGEST if self.left >= LARGE else 0
            for before in (4, 3, 2, 1) if not self.left else ():
                self.enter(at + length - before)
            return
        if not self.distance:
            self.is_second = not (self.is_second or self.left) and at + self.origin > 0
            self.left = 0
            return
        whole = self.equal(at, self.distance, MOST) if length == LONGEST else 0
        is_large = whole >= LARGE
        if is_large and self.is_second:
            for hashed in (at + 1, at + 2):
                if self.sees - hashed >= HASHED + 1:
                    self.table[self.key(hashed)] = hashed + 1
        else:
            for entered in (at + 1, at + 2, at + 3):
                self.enter(entered)
        self.left = whole - LONGEST if is_large else 0
        self.is_second = False


def code_lengths(counts: list[int], most: int) -> list[int]:
    """Return the lengths of codes in igzip's manner."""
    leaves = [(count, at) for at, count in enumerate(counts) if count]
    spare = (at for at, count in enumerate(counts) if not count)
    while len(leaves) < 2:
        leaves.append((1, next(spare)))
    nodes = [(count, 0, at, [at]) for count, at in leaves]
    heapify(nodes)
    out, made = [0] * len(counts), 0
    while len(nodes) > 1:
        one, other, made = heappop(nodes), heappop(nodes), made + 1
        for at in one[3] + other[3]:
            out[at] += 1
        heappush(nodes, (one[0] + other[0], 1, -made, one[3] + other[3]))
    longest = max(out)
    if longest <= most:
        return out
    many = [out.count(length) if length else 0 for length in range(longest + 1)]
    while longest > most:
        shorter = max(length for length in range(1, most) if many[length])
        many[shorter] -= 1
        many[shorter + 1] += 2
        many[longest - 1] += 1
        many[longest] -= 2
        longest -= not many[longest]
    lengths = [length for length, count in enumerate(many) for _ in range(count)]
    for length, (_, at) in zip(lengths, sorted(leaves, reverse=True), strict=True):
        out[at] = length
    return out


class OwnHeader(Header):
    """A header with igzip's codes."""

    def __init__(self, codes: Codes) -> None:
        self.literals, self.distances = (
            lengths[: max(at + 1 for at, it in enumerate(lengths) if it)] for lengths in codes
        )
        self.runs = run_lengths(self.literals + self.distances)
        counts = [0] * 19
        for code, _ in self.runs:
            counts[code] += 1
        self.codes = code_lengths(counts, 7)
        self.count = max(4, *(at + 1 for at, it in enumerate(CODE_ORDER) if self.codes[it]))


class UsualHeader(Header):
    """The header of level 0, from the specification."""

    def __init__(self) -> None:
        text = (Path(__file__).parents[2] / "docs" / "deflate.md").read_text()
        part = text[text.index("With rule 41 the header is always the same.") :]
        digits = "".join(re.findall(r"^    ([0-9a-f]+)$", part[: part.index("Run-length")], re.M))
        found = re.search(r"from 0 to 18, are `([0-9a-f]{19})`", part)
        assert found is not None
        lengths = [int(digit, 16) for digit in digits]
        self.literals, self.distances = lengths[:286], lengths[286:]
        self.codes = [int(digit, 16) for digit in found[1]]
        self.count = 19
        self.runs = []
        at = 0
        while at < len(lengths):
            more = 0
            while at + 1 + more < len(lengths) and lengths[at + 1 + more] == lengths[at]:
                more += 1
            self.runs.append((lengths[at], 0))
            value, at = lengths[at], at + 1 + more
            while more >= 4:
                self.runs.append((16, min(more, 6) - 3))
                more -= min(more, 6)
            self.runs += [(value, 0)] * more


def header_of(tokens: list[Token], plain: bytes) -> tuple[Header, int]:
    """Return igzip's header and the type for a block."""
    literals, distances, at = [0] * 286, [0] * 30, 0
    for length, distance in tokens:
        if distance:
            literals[257 + symbol(length, LENGTH_BASE)] += 1
            distances[symbol(distance, DISTANCE_BASE)] += 1
        else:
            literals[plain[at]] += 1
        at += length
    literals[256] = 1
    header = OwnHeader((code_lengths(literals, 15), code_lengths(distances, 15)))

    def size(of: list[int], counts: list[int]) -> int:
        return sum(length * count for length, count in zip(of, counts, strict=False))

    own = header.bits() + size(header.literals, literals) + size(header.distances, distances)
    return header, FIXED if 3 + size(FIXED_LENGTHS, literals) + 5 * sum(
        distances
    ) <= own else DYNAMIC


def write_block(
    out: Bits, codes: Codes, made: list[Token], data: bytes, start: int, *, is_open: bool
) -> None:
    """Write the tokens of a block, and its end."""
    write_tokens(out, made, data, start, *codes)
    if is_open:
        _, bits = canonical(codes[0])[256]
        out.count -= bits
        out.value &= (1 << out.count) - 1


def rebuild(
    plain: bytes, window: bytes, position: int, recipe: bytes, bit: int
) -> tuple[bytes, int]:
    """Return a segment's bytes, and the bit it ends at."""
    head = Numbers(recipe)
    rule, flags, limit, flushes = head.byte(), head.number(), head.number(), head.number()
    need(rule in RULES and 1 <= limit <= 1 << 21, "rules of zlib-ng and igzip only")
    need(not flags & ~(LAST | FAR | GOES_ON | OPEN), "no such flags")
    sizes = head.number(), head.number()
    points, blocks = head.take(sizes[0]), GivenBlocks(head.take(sizes[1]), COUNT | TYPE)
    corrections = Corrections(head.take(len(recipe) - head.at))
    data = window + plain
    kind = ZlibNg if rule == ZLIB_NG else Igzip
    model = kind(data, len(data), position - len(window), rule, flags)
    at = len(window)
    model.start(at)
    out = Bits(bit)
    begun, is_open = bool(flags & GOES_ON), False
    while True:
        coded = points.number() if flushes else points.byte()
        code, end = (coded & 3, at + (coded >> 2)) if flushes else (coded, len(data))
        last = bool(flags & LAST) and not flushes
        goes_on = bool(flags & OPEN) and not flushes
        need(not goes_on or code == 2, "empty blocks within a block")
        model.sees = end
        while at < end:
            given = blocks.next()
            start, units, is_half = at, 0, False
            made: list[Token] = []
            while at < end:
                predicted = model.predict(at)
                actual = corrections.token(predicted)
                made.append(actual)
                model.accept(at, predicted, actual)
                at += actual[0]
                is_pair = is_half and not actual[1]
                units += not is_pair
                is_half = not is_pair and not actual[1]
                if given.tokens:
                    if len(made) == given.tokens:
                        break
                elif rule >= LEVEL_1 and units >= limit and not is_half:
                    break
            header: Header | None = None
            type_ = FIXED
            if rule == LEVEL_0:
                header, type_ = UsualHeader(), DYNAMIC
            elif rule != ZLIB_NG:
                header, type_ = header_of(made, data[start:at])
            type_ = given.type if given.flags & TYPE else type_
            final = last and at == end and code == 2
            is_open = goes_on and at == end
            if type_ == STORED:
                need(not begun and not is_open, "a stored block that goes on")
                out.stored(data[start:at], final)
                continue
            if not begun:
                out.put(final | type_ << 1, 3)
            if type_ == FIXED:
                codes = FIXED_LENGTHS, [5] * 30
            else:
                need(header is not None, "no header is predicted")
                assert header is not None
                codes = header.literals, header.distances
                if not begun:
                    header.write(out)
            begun = False
            write_block(out, codes, made, data[:at], start, is_open=is_open)
        need(not begun, "the block that began is not there")
        write_empty_blocks(out, points, code, last)
        if not flushes:
            break
        flushes -= 1
    need(is_open or not flags & OPEN, "the block that goes on is not there")
    need(points.empty and blocks.empty and corrections.empty, "something is left over")
    return out.value.to_bytes((out.count + 7) // 8, "little"), out.count
