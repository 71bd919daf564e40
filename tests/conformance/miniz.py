"""Rebuilds deflate segments by the rule of miniz, as docs/deflate.md says: a second implementation.

It is written for reading, from the specification alone, and shares no code with the product. Rule
39 is here; what all rules have in common comes from `model_recipes`.
"""

from __future__ import annotations

from tests.conformance.model_recipes import (
    CODE_ORDER,
    COUNT,
    DISTANCE_BASE,
    DISTANCE_EXTRA,
    DYNAMIC,
    FAR,
    FIXED,
    FIXED_LENGTHS,
    LAST,
    LENGTH_BASE,
    LENGTH_EXTRA,
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
    equal_bytes,
    need,
    run_lengths,
    symbol,
    write_block,
    write_empty_blocks,
)

RULE, PIECE, FULL = 39, 4096, 65528


class Pieces:
    """The model."""

    def __init__(self, data: bytes, size: int, origin: int, flags: int) -> None:
        self.data, self.sees, self.origin = data, size, origin
        self.reach = 4 * WINDOW if flags & FAR else WINDOW
        self.end: int | None = None
        self.other: int | None = None

    def start(self, at: int) -> None:
        self.table: dict[int, int] = {}
        sees, position = self.sees, max(0, at - self.reach)
        self.from_start = not position and not self.origin
        self.begin(position)
        self.end = self.end if self.from_start else None
        self.sees = at
        while position < at:
            token = self.predict(position)
            self.accept(position, token, token)
            position += token[0]
        self.sees, self.reach = sees, WINDOW
        self.begin(at)

    def begin(self, at: int) -> None:
        """Begin a block and a piece, at a start or behind a flush point."""
        self.end, self.other = at + PIECE, None
        self.codes = self.tokens = 0

    def predict(self, at: int) -> Token:
        while self.end is not None and self.end <= at:
            self.end += PIECE
        while self.other is not None and self.other <= at:
            self.other += PIECE
        end = self.sees if self.end is None else min(self.end, self.sees)
        if end - at < 4:
            return LITERAL
        string = int.from_bytes(self.data[at : at + 3], "little")
        key = (string ^ string >> 17) & 4095
        held = self.table.get(key, 0 if self.from_start else at)
        self.table[key] = at
        distance = (at - held) & 65535
        holds = (at if self.end is None else end) - (at - distance) <= WINDOW
        if not distance or distance > at or not holds:
            return LITERAL
        length = equal_bytes(self.data, at, at - distance, min(end - at, LONGEST))
        if length < 3 or (length == 3 and distance >= 8192):
            return LITERAL
        return length, distance

    def accept(self, at: int, predicted: Token, actual: Token) -> None:
        if predicted != actual:
            self.move(at, predicted, actual)
        self.tokens += 1
        self.codes += 3 if actual[1] else 1
        if 1 + self.codes + self.tokens // 8 > FULL:
            self.codes = self.tokens = 0
            self.end, self.other = at + actual[0] + PIECE, self.end

    def move(self, at: int, predicted: Token, actual: Token) -> None:
        length, distance = actual
        if distance and distance == predicted[1] and length < predicted[0]:
            self.end, self.other = at + length, None
        elif distance and self.end is not None and self.end < at + length:
            fits = self.other is not None and self.other >= at + length
            self.end, self.other = self.other if fits else None, None
        elif not distance and self.other is not None and self.other - at < 4:
            self.end, self.other = self.other, None


def code_lengths(counts: list[int], most: int) -> list[int]:
    """Return the lengths of Huffman's codes, the too long ones cut."""
    out = [0] * len(counts)
    leaves = sorted((count, at) for at, count in enumerate(counts) if count)
    if len(leaves) <= 2:
        for _, at in leaves:
            out[at] = 1
        return out
    depths = [0] * len(leaves)
    symbols = [(count, [place]) for place, (count, _) in enumerate(leaves)]
    nodes: list[tuple[int, list[int]]] = []
    while len(symbols) + len(nodes) > 1:
        weight = 0
        below: list[int] = []
        for _ in range(2):
            of_nodes = not symbols or (nodes and nodes[0][0] < symbols[0][0])
            front = (nodes if of_nodes else symbols).pop(0)
            weight, below = weight + front[0], below + front[1]
        nodes.append((weight, below))
        for place in below:
            depths[place] += 1
    many = [0] * (most + 1)
    for depth in depths:
        many[min(depth, most)] += 1
    while sum(count << (most - length) for length, count in enumerate(many) if length) > 1 << most:
        many[most] -= 1
        longest = max((length for length in range(1, most) if many[length]), default=0)
        if longest:
            many[longest] -= 1
            many[longest + 1] += 2
    lengths = [length for length, count in enumerate(many) for _ in range(count)]
    for length, (_, at) in zip(lengths, reversed(leaves), strict=True):
        out[at] = length
    return out


class CutHeader(Header):
    """A header with these codes."""

    def __init__(self, literals: list[int], distances: list[int]) -> None:
        self.literals, self.distances = literals, distances
        self.runs = run_lengths(literals + distances)
        counts = [0] * 19
        for code, _ in self.runs:
            counts[code] += 1
        self.codes = code_lengths(counts, 7)
        self.count = max(4, *(at + 1 for at, it in enumerate(CODE_ORDER) if self.codes[it]))


def header_of(tokens: list[Token], plain: bytes) -> tuple[Header, int]:
    """Return header and type that are predicted for a block."""
    literals, distances, extra, at = [0] * 286, [0] * 30, 0, 0
    for length, distance in tokens:
        if distance:
            long, far = symbol(length, LENGTH_BASE), symbol(distance, DISTANCE_BASE)
            literals[257 + long] += 1
            distances[far] += 1
            extra += LENGTH_EXTRA[long] + DISTANCE_EXTRA[far]
        else:
            literals[plain[at]] += 1
        at += length
    literals[256] = 1
    many = max(at + 1 for at in range(286) if literals[at])
    far = max((at + 1 for at in range(30) if distances[at]), default=1)
    header = CutHeader(code_lengths(literals, 15)[:many], code_lengths(distances, 15)[:far])

    def size(of: list[int], counts: list[int]) -> int:
        return sum(length * count for length, count in zip(of, counts, strict=False))

    count = len(plain)
    kind = FIXED if count < 48 else DYNAMIC
    bits = header.bits() + size(header.literals, literals) + size(header.distances, distances)
    if kind == FIXED:
        bits = 3 + size(FIXED_LENGTHS, literals) + 5 * sum(distances)
    if 32 < count <= WINDOW and (bits + extra) // 8 + 1 >= count:
        kind = STORED
    return header, kind


def rebuild(
    plain: bytes, window: bytes, position: int, recipe: bytes, bit: int
) -> tuple[bytes, int]:
    """Return a segment's bytes, and the bit it ends at."""
    head = Numbers(recipe)
    rule, flags, limit, flushes = head.byte(), head.byte(), head.number(), head.number()
    need(rule == RULE and 1 <= limit <= 1 << 21, "the rule of miniz only")
    need(not flags & ~(LAST | FAR), "no such flags")
    sizes = head.number(), head.number()
    points, blocks = head.take(sizes[0]), GivenBlocks(head.take(sizes[1]), COUNT | TYPE)
    corrections = Corrections(head.take(len(recipe) - head.at))
    data = window + plain
    model = Pieces(data, len(data), position - len(window), flags)
    at = len(window)
    model.start(at)
    out = Bits(bit)
    while True:
        coded = points.number() if flushes else points.byte()
        code, end = (coded & 3, at + (coded >> 2)) if flushes else (coded, len(data))
        last = bool(flags & LAST) and not flushes
        model.sees = end
        while at < end:
            given = blocks.next()
            start, made, codes = at, [], 1
            while at < end:
                predicted = model.predict(at)
                actual = corrections.token(predicted)
                made.append(actual)
                model.accept(at, predicted, actual)
                at += actual[0]
                codes += 3 if actual[1] else 1
                if len(made) == given.tokens if given.tokens else codes + len(made) // 8 > FULL:
                    break
            header, kind = header_of(made, data[start:at])
            kind = given.type if given.flags & TYPE else kind
            final = last and at == end and code == 2
            write_block(out, final, kind, header, made, data[:at], start)
        write_empty_blocks(out, points, code, last)
        if not flushes:
            break
        flushes -= 1
        if at < len(data):
            model.begin(at)
    need(points.empty and blocks.empty and corrections.empty, "something is left over")
    return out.value.to_bytes((out.count + 7) // 8, "little"), out.count
