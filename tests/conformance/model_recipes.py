"""What recipes by models have in common, as docs/deflate.md says: numbers, headers, blocks, bits.

It is part of the second implementation, written from the specification alone. `klauspost` and
`miniz` have the rules.
"""

from __future__ import annotations

from itertools import accumulate
from typing import NamedTuple

from tests.conformance.code_constructions import package_merge

TRUNCATES, GO_TREES, LAST, FAR, PRIMED, FILLED, QUEUES = 1, 2, 4, 8, 16, 32, 64
COUNT, TYPE, HEADER, BYTES = 1, 2, 4, 8
STORED, FIXED, DYNAMIC = 0, 1, 2
WINDOW, LONGEST = 32768, 258
CODE_ORDER = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15)
LENGTH_EXTRA = [0] * 8 + [bits for bits in range(1, 6) for _ in range(4)] + [0]
LENGTH_BASE = [*accumulate((1 << bits for bits in LENGTH_EXTRA[:-2]), initial=3), 258]
DISTANCE_EXTRA = [0] * 4 + [bits for bits in range(1, 14) for _ in range(2)]
DISTANCE_BASE = list(accumulate((1 << bits for bits in DISTANCE_EXTRA[:-1]), initial=1))
FIXED_LENGTHS = [8] * 144 + [9] * 112 + [7] * 24 + [8] * 8

Token = tuple[int, int]
"""Length and distance; a literal has length 1 and distance 0."""
LITERAL = (1, 0)


class Refused(ValueError):
    """A recipe that a rule of the specification forbids, or one of another rule."""


def need(sound: bool, rule: str) -> None:
    """Refuse what breaks a rule."""
    if not sound:
        raise Refused(rule)


def symbol(value: int, base: list[int]) -> int:
    """Return the last entry of a table that is not greater."""
    return max(at for at, least in enumerate(base) if least <= value)


def equal_bytes(data: bytes, one: int, other: int, most: int) -> int:
    """Return how many bytes are equal from two positions on."""
    if data[one : one + most] == data[other : other + most]:
        return most
    length = 0
    while data[one + length] == data[other + length]:
        length += 1
    return length


class Numbers:
    """Numbers and bytes of a part of a recipe."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def byte(self) -> int:
        need(self.at < len(self.data), "a part ends early")
        self.at += 1
        return self.data[self.at - 1]

    def number(self) -> int:
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def take(self, count: int) -> Numbers:
        need(self.at + count <= len(self.data), "a part ends early")
        self.at += count
        return Numbers(self.data[self.at - count : self.at])

    @property
    def empty(self) -> bool:
        return self.at == len(self.data)


class Corrections:
    """Tokens that are otherwise than predicted, in order."""

    def __init__(self, numbers: Numbers) -> None:
        self._numbers = numbers
        self._next = None if numbers.empty else numbers.number()

    @property
    def empty(self) -> bool:
        """Whether all were read."""
        return self._numbers.empty

    def token(self, predicted: Token) -> Token:
        """Return the token that is, given what is predicted."""
        if self._next is None:
            return predicted
        if self._next >> 1:
            self._next -= 2
            return predicted
        actual = LITERAL
        if not self._next & 1:
            actual = (self._numbers.number() + 3, self._numbers.number() + 1)
        self._next = None if self._numbers.empty else self._numbers.number()
        return actual


class Given(NamedTuple):
    """What is told of a block: flags, its tokens, its type, and its bytes if it is stored."""

    flags: int = 0
    tokens: int = 0
    type: int = 0
    stored: int = 0


class GivenBlocks:
    """Blocks of which something is told, in order."""

    def __init__(self, numbers: Numbers, allowed: int) -> None:
        self._numbers, self._allowed = numbers, allowed
        self._next = None if numbers.empty else numbers.number()

    @property
    def empty(self) -> bool:
        """Whether all were read."""
        return self._numbers.empty

    def next(self) -> Given:
        """Return what is told of the next block."""
        if self._next is None:
            return Given()
        if self._next:
            self._next -= 1
            return Given()
        numbers = self._numbers
        flags = numbers.byte()
        need(not flags & ~self._allowed, "what is given otherwise is not read here")
        count = numbers.number() if flags & COUNT else 0
        kind = numbers.byte() if flags & TYPE else 0
        length = numbers.number() if flags & BYTES else 0
        self._next = None if numbers.empty else numbers.number()
        return Given(flags, count, kind, length)


class Bits:
    """The output."""

    def __init__(self, skipped: int) -> None:
        self.value, self.count = 0, skipped

    def put(self, value: int, count: int) -> None:
        self.value |= value << self.count
        self.count += count

    def align(self) -> None:
        self.count += -self.count & 7

    def stored(self, data: bytes, last: int) -> None:
        self.put(last, 3)
        self.align()
        self.put(len(data) | (len(data) ^ 65535) << 16, 32)
        self.put(int.from_bytes(data, "little"), 8 * len(data))


def code_lengths(counts: list[int], most: int, queues: bool) -> list[int]:
    leaves = sorted((count, at) for at, count in enumerate(counts) if count)
    if not queues or len(leaves) <= 2:
        return package_merge(counts, most)
    nodes: list[tuple[int, list[int]]] = []
    single = [(count, [at]) for count, at in leaves]
    taken = 0
    lengths = [0] * len(counts)
    for _ in range(len(leaves) - 1):
        weight = 0
        below: list[int] = []
        for _ in range(2):
            if single and (taken == len(nodes) or single[0][0] <= nodes[taken][0]):
                front = single.pop(0)
            else:
                front = nodes[taken]
                taken += 1
            weight, below = weight + front[0], below + front[1]
        nodes.append((weight, below))
        for at in below:
            lengths[at] += 1
    return lengths if max(lengths) <= most else package_merge(counts, most)


def run_lengths(lengths: list[int]) -> list[tuple[int, int]]:
    out = []
    at = 0
    while at < len(lengths):
        value, run = lengths[at], 1
        while at + run < len(lengths) and lengths[at + run] == value:
            run += 1
        at += run
        if value:
            out.append((value, 0))
            run -= 1
            while run >= 3:
                out.append((16, min(run, 6) - 3))
                run -= min(run, 6)
        else:
            while run >= 11:
                out.append((18, min(run, 138) - 11))
                run -= min(run, 138)
            if run >= 3:
                out.append((17, run - 3))
                run = 0
        out += [(value, 0)] * run
    return out


class Header:
    """The header of a dynamic block: code lengths, and how they are written."""

    def __init__(self, literals: list[int], distances: list[int], queues: bool) -> None:
        self.literals, self.distances = literals, distances
        self.runs = run_lengths(literals + distances)
        counts = [0] * 19
        for code, _ in self.runs:
            counts[code] += 1
        self.codes = code_lengths(counts, 7, queues)
        self.count = max(4, *(at + 1 for at, it in enumerate(CODE_ORDER) if self.codes[it]))

    def write(self, out: Bits) -> None:
        out.put(len(self.literals) - 257, 5)
        out.put(len(self.distances) - 1, 5)
        out.put(self.count - 4, 4)
        for at in CODE_ORDER[: self.count]:
            out.put(self.codes[at], 3)
        codes = canonical(self.codes)
        for code, extra in self.runs:
            out.put(*codes[code])
            if code >= 16:
                out.put(extra, (2, 3, 7)[code - 16])

    def bits(self) -> int:
        out = Bits(0)
        self.write(out)
        return out.count + 3


def canonical(lengths: list[int]) -> list[tuple[int, int]]:
    out, code = [(0, 0)] * len(lengths), 0
    for length in range(1, 16):
        for at, it in enumerate(lengths):
            if it == length:
                out[at] = int(f"{code:0{length}b}"[::-1], 2), length
                code += 1
        code <<= 1
    return out


def write_block(
    out: Bits,
    final: bool,
    type_: int,
    header: Header,
    made: list[Token],
    data: bytes,
    start: int,
) -> None:
    """Write a block: its tokens make `data` from `start` on."""
    if type_ == STORED:
        out.stored(data[start:], final)
        return
    out.put(final | type_ << 1, 3)
    if type_ == DYNAMIC:
        header.write(out)
        write_tokens(out, made, data, start, header.literals, header.distances)
    else:
        write_tokens(out, made, data, start, FIXED_LENGTHS, [5] * 30)


def write_empty_blocks(out: Bits, points: Numbers, code: int, last: int) -> None:
    """Write the empty blocks that a flush ends with."""
    empties = {0: [STORED], 2: []}.get(code)
    if empties is None:
        need(code == 3, "pigz aligns otherwise")
        empties = [points.byte() for _ in range(points.number())]
    for place, empty in enumerate(empties):
        final = last and place + 1 == len(empties)
        if empty == STORED:
            out.stored(b"", final)
        else:
            out.put(final | FIXED << 1, 10)


def write_tokens(
    out: Bits, tokens: list[Token], data: bytes, at: int, literals: list[int], distances: list[int]
) -> None:
    lits, dists = canonical(literals), canonical(distances)
    for length, distance in tokens:
        if distance:
            long, far = symbol(length, LENGTH_BASE), symbol(distance, DISTANCE_BASE)
            out.put(*lits[257 + long])
            out.put(length - LENGTH_BASE[long], LENGTH_EXTRA[long])
            out.put(*dists[far])
            out.put(distance - DISTANCE_BASE[far], DISTANCE_EXTRA[far])
        else:
            out.put(*lits[data[at]])
        at += length
    out.put(*lits[256])
