"""A reader of recipes of zstd segments, written from docs/format.md and RFC 8878; slow and plain.

It makes blocks, sequences and tables of a recipe and its plaintext, and writes these as zstd does.
"""

from __future__ import annotations

from typing import NamedTuple

from tests.conformance.token_decoder import Coder
from tests.conformance.zstd_search import Search

LITERALS = 3
SYMBOLS = (36, 32, 53)
LOGS = (9, 8, 9)
HASHED, DEPTH = 4, 32
BEAT = (0, 473195, 504333, 520860, 550000, 700000, 750000, 830000)
PREDEFINED = (
    [4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1]
    + [-1] * 4,
    [1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1] + [-1] * 5,
    [1, 4, 3, 2, 2, 2, 2, 2, 2] + [1] * 37 + [-1] * 7,
)
PREDEFINED_LOGS = (6, 5, 6)
LENGTH_CODES = [(value, 0) for value in range(16)] + [
    *((16, 1), (18, 1), (20, 1), (22, 1), (24, 2), (28, 2), (32, 3), (40, 3), (48, 4), (64, 6)),
    *((1 << bits, bits) for bits in range(7, 17)),
]
MATCH_CODES = [(value, 0) for value in range(3, 35)] + [
    *((35, 1), (37, 1), (39, 1), (41, 1), (43, 2), (47, 2), (51, 3), (59, 3), (67, 4), (83, 4)),
    *((99, 5), *(((1 << bits) + 3, bits) for bits in range(7, 17))),
]


class Refused(Exception):
    """The recipe does not fit."""


def need(sound: bool, what: str) -> None:
    if not sound:
        raise Refused(what)


def hb(value: int) -> int:
    """Return the number of the highest bit."""
    return value.bit_length() - 1


class Sequence(NamedTuple):
    """Literals, then a match."""

    literals: int
    length: int
    value: int


def read_backward(parts: list[tuple[int, int]]) -> bytes:
    """Return a stream of bits that is read from its end, given values and bits in that order."""
    value = 1
    for part, bits in parts:
        value = value << bits | part
    return value.to_bytes((value.bit_length() + 7) // 8, "little")


# FSE, RFC 8878, 4.1


class Cell(NamedTuple):
    """A state: its symbol; the next state is `base` and `bits` bits."""

    symbol: int
    bits: int
    base: int


def cells_of(shares: list[int], log: int) -> list[Cell]:
    """Return the table."""
    size = 1 << log
    symbols, high = [-1] * size, size - 1
    for symbol, share in enumerate(shares):
        if share == -1:
            symbols[high] = symbol
            high -= 1
    at, step = 0, (size >> 1) + (size >> 3) + 3
    for symbol, share in enumerate(shares):
        for _ in range(max(share, 0)):
            symbols[at] = symbol
            at = (at + step) % size
            while at > high:
                at = (at + step) % size
    need(at == 0 and -1 not in symbols, "shares")
    following = [abs(share) for share in shares]
    out = []
    for symbol in symbols:
        state = following[symbol]
        following[symbol] += 1
        bits = log - hb(state)
        out.append(Cell(symbol, bits, (state << bits) - size))
    return out


def states_of(cells: list[Cell], symbols: list[int]) -> list[int]:
    """Return the state of each symbol: of the last one, its first cell."""
    out: list[int] = []
    for symbol in reversed(symbols):
        for state, cell in enumerate(cells):
            behind = out[-1] - cell.base if out else 0
            if cell.symbol == symbol and 0 <= behind < 1 << cell.bits:
                out.append(state)
                break
        else:
            raise Refused("a symbol without a share")
    return out[::-1]


def write_shares(shares: list[int], log: int) -> bytes:
    """Return a description, RFC 8878, 4.1.1."""
    value, bits = log - 5, 4

    def put(part: int, count: int) -> None:
        nonlocal value, bits
        value |= part << bits
        bits += count

    left, threshold, width, at, was_zero = (1 << log) + 1, 1 << log, log + 1, 0, False
    while left > 1:
        if was_zero:
            run = 0
            while shares[at] == 0:
                at, run = at + 1, run + 1
            while run >= 3:
                put(3, 2)
                run -= 3
            put(run, 2)
        share = shares[at]
        at += 1
        most = 2 * threshold - 1 - left
        left -= abs(share)
        was_zero = share == 0
        coded = share + 1
        if coded >= threshold:
            coded += most
        put(coded, width - (coded < most))
        while left < threshold:
            width, threshold = width - 1, threshold >> 1
    return value.to_bytes((bits + 7) // 8, "little")


def read_shares(text: bytes) -> tuple[list[int], int, int]:
    """Return shares, their log, and the bytes of a description."""
    bits, at = int.from_bytes(text, "little"), 4
    log = (bits & 15) + 5
    left, out = (1 << log) + 1, list[int]()
    while left > 1:
        width = hb(left) + 1
        low = (1 << width) - 1 - left
        value = bits >> at & ((1 << width) - 1)
        if value & ((1 << width - 1) - 1) < low:
            value &= (1 << width - 1) - 1
            at += width - 1
        else:
            at += width
            if value >= 1 << width - 1:
                value -= low
        out.append(value - 1)
        left -= abs(value - 1)
        if value == 1:
            while True:
                run = bits >> at & 3
                at += 2
                out += [0] * run
                if run < 3:
                    break
    return out, log, (at + 7) // 8


def shares_of(
    rule: int, counts: list[int], most: int, last: int | None, rare: int | None = None
) -> tuple[list[int], int] | None:
    """Return the shares that a rule makes, and their log."""
    m = max(symbol for symbol, count in enumerate(counts) if count)
    total = sum(counts)
    log = hb(total - 1) - 2
    log = log if 0 <= log < most else most
    log = min(max(log, min(hb(total) + 1, hb(m) + 2 if m else 1), 5), most)
    counts = counts[: m + 1]
    if last is not None and rule != 1 and counts[last] > 1:
        counts[last] -= 1
        total -= 1
    if total in counts:
        return None
    if rare is None:
        rare = 1 if rule != 1 and total < 2048 else -1
    size, low, fine, step = 1 << log, total >> log, 62 - log, (1 << 62) // total
    out, left = [], size
    for count in counts:
        share = 0
        if count and count <= low:
            share = rare
        elif count:
            share = count * step >> fine
            if share < 8:
                share += count * step - (share << fine) > (1 << fine - 20) * BEAT[share]
        out.append(share)
        left -= abs(share)
    best = max(range(len(out)), key=lambda symbol: (out[symbol], -symbol))
    if -left < out[best] >> 1:
        out[best] += left
    else:
        out = second_way(counts, total, log, low, rare)
    if any(count and not share for count, share in zip(counts, out, strict=True)):
        return None
    return (out, log) if sum(map(abs, out)) == size else None


def second_way(counts: list[int], total: int, log: int, low: int, rare: int) -> list[int]:
    """Return the shares of points 7 to 9."""
    one, out = 3 * total >> log + 1, [0] * len(counts)
    cells, left, open_ = 1 << log, total, list[int]()
    for symbol, count in enumerate(counts):
        if count and count <= one:
            out[symbol] = rare if count <= low else 1
            cells, left = cells - 1, left - count
        elif count:
            open_.append(symbol)
    if left // cells > one:
        one = 3 * left // (2 * cells)
        for symbol in [symbol for symbol in open_ if counts[symbol] <= one]:
            out[symbol] = 1
            cells, left = cells - 1, left - counts[symbol]
            open_.remove(symbol)
    fine = 62 - log
    middle = (1 << fine - 1) - 1
    unit = ((cells << fine) + middle) // left
    sum_ = middle
    for symbol in open_:
        end = sum_ + counts[symbol] * unit
        out[symbol] = (end >> fine) - (sum_ >> fine)
        sum_ = end
    return out


# Huffman, RFC 8878, 4.2


def depths_of(counts: list[int], most: int) -> dict[int, int]:
    """Return the depth of each symbol that occurs: points 1 and 2."""
    order = sorted((s for s, count in enumerate(counts) if count), key=lambda s: (-counts[s], s))
    symbols = [(counts[s], [s]) for s in reversed(order)]
    nodes: list[tuple[int, list[int]]] = []
    depth = dict.fromkeys(order, 0)

    def least() -> tuple[int, list[int]]:
        if symbols and (not nodes or symbols[0][0] < nodes[0][0]):
            return symbols.pop(0)
        return nodes.pop(0)

    while len(symbols) + len(nodes) > 1:
        one, other = least(), least()
        for symbol in one[1] + other[1]:
            depth[symbol] += 1
        nodes.append((one[0] + other[0], one[1] + other[1]))
    if max(depth.values()) > most:
        limit(depth, order, counts, most)
    return depth


def limit(depth: dict[int, int], order: list[int], counts: list[int], most: int) -> None:
    """Make no symbol deeper than `most`: point 2."""
    deepest = max(depth.values())
    owed = 0
    for symbol in order:
        if depth[symbol] > most:
            owed += (1 << deepest - most) - (1 << deepest - depth[symbol])
            depth[symbol] = most
    owed >>= deepest - most
    first = next(at for at, symbol in enumerate(order) if depth[symbol] == most)
    while first and depth[order[first - 1]] == most:
        first -= 1
    end: dict[int, int] = {}
    for at in range(first):
        end[most - depth[order[at]]] = at
    while owed > 0:
        k = hb(owed) + 1
        while k > 1:
            if k in end and k - 1 not in end:
                break
            if k in end and counts[order[end[k]]] <= 2 * counts[order[end[k - 1]]]:
                break
            k -= 1
        while k not in end:
            k += 1
        at = end[k]
        depth[order[at]] += 1
        owed -= 1 << k - 1
        end.setdefault(k - 1, at)
        if at and depth[order[at - 1]] == most - k:
            end[k] = at - 1
        else:
            del end[k]
    while owed < 0:
        if 1 not in end:
            end[1] = next(at for at, symbol in enumerate(order) if depth[symbol] == most)
        else:
            end[1] += 1
        depth[order[end[1]]] -= 1
        owed += 1


def describe_depths(depth: dict[int, int], rule: int) -> bytes | None:
    """Return the description of a code: point 3."""
    m, deepest = max(depth), max(depth.values())
    weights = [deepest + 1 - depth[s] if s in depth else 0 for s in range(m)]
    counts = [weights.count(weight) for weight in range(max(weights) + 1)]
    if len(weights) >= 3 and max(counts) < len(weights) and max(counts) > 1:
        made = shares_of(0 if rule == 2 else rule, counts, 6, None, -1 if rule == 1 else 1)
        if made is not None:
            cells = cells_of(*made)
            states = {}
            for parity in (0, 1):
                found = states_of(cells, weights[parity::2])
                states.update({2 * at + parity: state for at, state in enumerate(found)})
            parts = [(states[0], made[1]), (states[1], made[1])]
            for at in range(len(weights) - 2):
                cell = cells[states[at]]
                parts.append((states[at + 2] - cell.base, cell.bits))
            out = write_shares(*made) + read_backward(parts)
            if 1 < len(out) < (m + (rule == 1)) // 2:
                return bytes([len(out)]) + out
    if m > 128:
        return None
    padded = [*weights, 0] if m % 2 else weights
    pairs = zip(padded[::2], padded[1::2], strict=True)
    return bytes([127 + m]) + bytes(high << 4 | low for high, low in pairs)


def describe_literals(rule: int, counts: list[int]) -> bytes:
    """Return the description that a rule makes of a table of literals."""
    m = max(symbol for symbol, count in enumerate(counts) if count)
    total = sum(counts)
    if rule == 2:
        made = strongest(counts)
    else:
        log = hb(total - 1) - 1
        log = log if 0 <= log < 11 else 11
        log = min(max(log, min(hb(total) + 1, hb(m) + 2), 5), 11)
        made = describe_depths(depths_of(counts, log), rule)
    need(made is not None, "a description")
    assert made is not None
    return made


def strongest(counts: list[int]) -> bytes | None:
    """Return the description of rule 2: point 4."""
    best, least = None, 1 << 60
    first = hb(sum(count > 0 for count in counts)) + 1
    for most in range(first, 12):
        depth = depths_of(counts, most)
        if max(depth.values()) < most and most > first:
            break
        made = describe_depths(depth, 2)
        if made is None:
            continue
        size = sum(counts[s] * bits for s, bits in depth.items()) // 8 + len(made)
        if size > least + 1:
            break
        if size < least:
            best, least = made, size
    return best


def codes_of(text: bytes) -> dict[int, tuple[int, int]]:
    """Return the codes of a description, each with its bits."""
    if text[0] >= 128:
        count = text[0] - 127
        weights = [text[1 + at // 2] >> (4 if at % 2 == 0 else 0) & 15 for at in range(count)]
    else:
        weights = read_weights(text[1 : 1 + text[0]])
    left = sum(1 << weight - 1 for weight in weights if weight)
    most = hb(left) + 1
    weights.append(hb((1 << most) - left) + 1)
    out, code = {}, 0
    for weight in range(1, most + 1):
        for symbol, other in enumerate(weights):
            if other == weight:
                out[symbol] = (code >> weight - 1, most + 1 - weight)
                code += 1 << weight - 1
    return out


def read_weights(text: bytes) -> list[int]:
    """Return the weights that FSE holds, RFC 8878, 4.2.1.2."""
    shares, log, used = read_shares(text)
    cells = cells_of(shares, log)
    value = int.from_bytes(text[used:], "little")
    left = hb(value)

    def take(bits: int) -> int:
        nonlocal left
        left -= bits
        at = left
        return (value >> at if at >= 0 else value << -at) & ((1 << bits) - 1)

    states, out = [take(log), take(log)], list[int]()
    while True:
        cell = cells[states[len(out) % 2]]
        out.append(cell.symbol)
        if left < cell.bits:
            out.append(cells[states[len(out) % 2]].symbol)
            return out
        states[(len(out) - 1) % 2] = cell.base + take(cell.bits)


# Segments


class Block:
    """A compressed block: its sequences, and what is told of its literals and tables."""

    def __init__(self) -> None:
        self.sequences: list[Sequence] = []
        self.literals = b""
        self.kind = self.format = 0
        self.modes = [0, 0, 0]
        self.texts: dict[int, bytes] = {}


class Prediction(NamedTuple):
    """A sequence, and its kind."""

    kind: int
    sequence: Sequence


def recent(right: int) -> int:
    """Return a class of how many predictions were right since a wrong one."""
    return right if right < 6 else 6 if right < 28 else 7


class Reader:
    """Follows a recipe."""

    def __init__(self, plain: bytes, recipe: bytes) -> None:
        need(recipe[:1] == b"\0", "the kind of a recipe")
        self.plain = plain
        self.coder = Coder(recipe[1:], {})
        self.at = 0
        self.classed = self.literals_kind = 0
        self.modes, self.rules = [0, 0, 0], [0, 0, 0, 0]
        self.known = [False] * 4
        self.texts: dict[int, tuple[int, bytes]] = {}
        self.checksum = 0
        self.repeats = [0, 0, 0]
        self.search = Search(plain)
        self.right = self.found_right = 0
        self.hashes: dict[int, list[int]] = {}
        for at in range(len(plain) - HASHED + 1):
            self.hashes.setdefault(self.hash(at), []).append(at)

    def hash(self, at: int) -> int:
        word = int.from_bytes(self.plain[at : at + 4], "little")
        return (word * 0x9E3779B1 & 0xFFFFFFFF) >> 16

    def segment(self) -> bytes:
        """Return the bytes."""
        coder, out = self.coder, bytearray()
        in_frame = coder.bit("in frame")
        if in_frame:
            self.checksum = coder.bit("checksum")
            self.repeats = [coder.number("repeats") for _ in range(3)]
        kind, before = 0, 131072
        while coder.bit("more"):
            if not in_frame:
                out += b"\x28\xb5\x2f\xfd" + self.header()
            kind = coder.symbol(("kind", kind), 2)
            need(kind < 3, "type of a block")
            last = coder.bit(("last", kind))
            size = coder.number("plain") if coder.bit(("same", last)) else before
            need(size <= 131072 and size <= len(self.plain) - self.at, "size of a block")
            before = size
            data = self.plain[self.at : self.at + size]
            if kind == 2:
                coded = self.compressed(size)
                out += (len(coded) << 3 | kind << 1 | last).to_bytes(3, "little") + coded
            else:
                if kind == 0:
                    self.raw(size)
                out += (size << 3 | kind << 1 | last).to_bytes(3, "little")
                out += data[:1] if kind == 1 else data
            if last and self.checksum:
                out += bytes(coder.even(8) for _ in range(4))
            self.at += size
            in_frame = not last
        need(self.at == len(self.plain), "plaintext is left over")
        return bytes(out)

    def header(self) -> bytes:
        out = bytearray([self.coder.symbol(("header", 0), 8)])
        flags = out[0]
        need(not flags & 0x0B, "a frame header")
        single = flags >> 5 & 1
        for at in range(1, 1 + (not single) + (single, 2, 4, 8)[flags >> 6]):
            out.append(self.coder.symbol(("header", at), 8))
        self.checksum = flags >> 2 & 1
        self.repeats, self.known, self.texts = [1, 4, 8], [True] * 4, {}
        self.search.frame()
        return bytes(out)

    def raw(self, size: int) -> None:
        before = self.repeats
        self.search.raw(self.at, self.at + size, lambda: self.repeats, self.resolved)
        self.repeats = before

    def compressed(self, size: int) -> bytes:
        """Return a compressed block of a number of bytes of plaintext."""
        coder, block = self.coder, Block()
        end, at, literals = self.at + size, self.at, bytearray()
        count = coder.number("sequences")
        need(count <= size // 3, "number of sequences")
        self.search.block(at, end)
        for _ in range(count):
            sequence = self.sequence(at, end)
            literals += self.plain[at : at + sequence.literals]
            at += sequence.literals + sequence.length
            block.sequences.append(sequence)
        block.literals = bytes(literals + self.plain[at:end])
        block.kind = self.literals_kind = coder.symbol(("literals", self.literals_kind), 2)
        steps = (16, 32, 2048, 4096) if block.kind < 2 else (256, 1024, 16384)
        sized = sum(len(block.literals) >= step for step in steps) + 5 * (block.kind >= 2)
        block.format = coder.symbol(("format", sized), 2)
        if block.kind >= 2:
            counts = [block.literals.count(symbol) for symbol in range(256)]
            self.table(block, LITERALS, block.kind, counts, 0)
        out = self.written_literals(block)
        if not count:
            return out + b"\0"
        codes = [code_of(sequence) for sequence in block.sequences]
        symbols = [[code[table][0] for code in codes] for table in range(3)]
        for table in range(3):
            mode = coder.symbol(("mode", table, self.modes[table]), 2)
            block.modes[table] = self.modes[table] = mode
            counts = [symbols[table].count(symbol) for symbol in range(SYMBOLS[table])]
            self.table(block, table, mode, counts, symbols[table][-1])
        return out + self.written_sequences(block, codes, symbols)

    def predicted(self, at: int, left: int) -> Prediction | None:
        """Return what old sequences tell of the sequence that begins there: nothing here."""
        return None

    def zone(self, at: int) -> int:
        """Return how far it is from where predictions begin, as a class."""
        return sum(at >= 1 << bits for bits in (16, 18, 20))

    def sequence(self, at: int, end: int) -> Sequence:
        """Return a sequence that begins at a place, in a block that ends at another."""
        search, told = self.search, self.predicted(at, end - at)
        found = search.find(at, self.repeats)
        sequence = self.told(at, end, told, found)
        same = found == (sequence.literals, sequence.value)
        search.took(at, sequence.literals, sequence.length, sequence.value, found=same)
        return sequence

    def told(
        self, at: int, end: int, told: Prediction | None, found: tuple[int, int] | None
    ) -> Sequence:
        coder, zone = self.coder, self.zone(at)
        kind, guess = 5, found
        if told is not None:
            kind, hint = told
            guess = hint.literals, hint.value
            agreed = (
                0 if found is None else 1 if found == guess else 2 if self.found_right < 4 else 3
            )
            if not coder.bit(("right", kind, recent(self.right), zone, agreed)):
                self.right += 1
                self.classed = hint.value if hint.value < 4 else 0
                self.resolved(hint.value, hint.literals)
                return hint
            self.right = 0
        if found is not None:
            context = "found right", recent(self.found_right), zone, told is not None
            if not coder.bit(context):
                self.found_right += 1
                literals, value = found
                self.classed = value if value < 4 else 0
                p, left = at + literals, end - at - literals
                return Sequence(literals, self.length(p, left, value, literals, 1), value)
            self.found_right = 0
        same = False
        if guess is not None:
            literals, same = guess[0], not coder.bit(("same literals", kind))
        if not same:
            literals = coder.number(("literals length", self.classed))
        p, left = at + literals, end - at - literals
        need(left >= 3, "a sequence")
        if guess is None or coder.bit(("same offset", kind, same)):
            self.classed = coder.symbol(("class", literals == 0, self.classed), 2)
            value = self.classed or self.offset(p, left) + 3
        else:
            value = guess[1]
            self.classed = value if value < 4 else 0
        return Sequence(literals, self.length(p, left, value, literals, 0), value)

    def length(self, p: int, left: int, value: int, literals: int, found: int) -> int:
        """Return the length of a match at a place."""
        coder, offset = self.coder, self.resolved(value, literals)
        need(offset > 0 and value < 1 << 31, "an offset")
        if offset > p:
            length = coder.number("far length") + 3
        else:
            length = self.equal(p, p - offset, left)
            if length >= 1024 and left > 1024:
                if coder.bit("long"):
                    length = coder.number("long length") + 3
            elif coder.bit(("whole", found, self.classed)):
                length -= coder.number("less length")
        need(3 <= length <= left, "length of a match")
        return length

    def equal(self, one: int, other: int, most: int) -> int:
        count = 0
        while count < most and self.plain[one + count] == self.plain[other + count]:
            count += 1
        return count

    def offset(self, p: int, left: int) -> int:
        """Return an offset that is no repeated one."""
        coder = self.coder
        if p + HASHED <= len(self.plain):
            near = [q for q in self.hashes[self.hash(p)] if q < p][: -DEPTH - 1 : -1]
            found = [q for q in near if self.plain[q : q + 4] == self.plain[p : p + 4]]
            if found and not coder.bit("found"):
                most = min(left, 256)
                best = max(range(len(found)), key=lambda r: (self.equal(p, found[r], most), -r))
                if len(found) == 1 or not coder.bit(("best", len(found) > 2)):
                    return p - found[best]
                rank = coder.number("rank")
                need(rank < len(found), "a rank")
                return p - found[rank]
        return coder.number("offset") + 1

    def resolved(self, value: int, literals: int) -> int:
        """Return the offset of a value, and remember it: RFC 8878, 3.1.1.5."""
        repeats = self.repeats
        if value > 3:
            offset, self.repeats = value - 3, [value - 3, *repeats[:2]]
            return offset
        which = value - 1 + (literals == 0)
        offset = repeats[0] - 1 if which == 3 else repeats[which]
        if which:
            self.repeats = [offset, repeats[0], repeats[1] if which > 1 else repeats[2]]
        return offset

    def table(self, block: Block, table: int, mode: int, counts: list[int], last: int) -> None:
        """Read what is told of a table: as `mode` says, 0 to 3."""
        coder = self.coder
        if mode == 3 and not self.known[table]:
            kind = coder.symbol("repeated", 2)
            self.texts[table] = kind, self.text()
        self.known[table] = True
        if mode == 1:
            told = coder.bit(("one", table))
            self.texts[table] = 1, self.text() if told else bytes([last])
        elif mode == 2:
            rule = self.rules[table] = coder.symbol(("rule", table, self.rules[table]), 2)
            if rule == 3:
                text = self.text()
            elif table == LITERALS:
                text = describe_literals(rule, counts)
            else:
                need(rule < 2, "a rule")
                made = shares_of(rule, counts, LOGS[table] if rule == 0 else 8, last)
                need(made is not None, "shares")
                assert made is not None
                text = write_shares(*made)
            self.texts[table] = 2, text
        elif mode == 0:
            self.texts[table] = 0, b""
        need(table in self.texts, "a table that is not there")
        if mode in (1, 2):
            block.texts[table] = self.texts[table][1]

    def text(self) -> bytes:
        count = self.coder.number("text length")
        need(count <= 132, "a text")
        return bytes(self.coder.symbol("text", 8) for _ in range(count))

    def written_literals(self, block: Block) -> bytes:
        data, kind, form = block.literals, block.kind, block.format
        size = len(data)
        if kind < 2:
            head = {0: size << 3 | kind}.get(form, size << 4 | form << 2 | kind)
            out = head.to_bytes({0: 1, 1: 2, 3: 3}[form], "little")
            return out + (data[:1] if kind else data)
        told, text = self.texts[LITERALS]
        need(told == 2, "a table of literals")
        codes = codes_of(text)
        need(set(data) <= set(codes), "a literal without a code")
        each = size if form == 0 else (size + 3) // 4
        parts = [data[at : at + each] for at in range(0, size, each)] if form else [data]
        coded = [read_backward([codes[symbol] for symbol in part]) for part in parts]
        body = block.texts.get(LITERALS, b"")
        if form:
            need(len(coded) == 4, "four streams")
            body += b"".join(len(part).to_bytes(2, "little") for part in coded[:3])
        body += b"".join(coded)
        bits = {0: 10, 1: 10, 2: 14, 3: 18}[form]
        need(size < 1 << bits and len(body) < 1 << bits, "size of literals")
        head = kind | form << 2 | size << 4 | len(body) << 4 + bits
        return head.to_bytes({10: 3, 14: 4, 18: 5}[bits], "little") + body

    def written_sequences(
        self, block: Block, codes: list[tuple[tuple[int, int, int], ...]], symbols: list[list[int]]
    ) -> bytes:
        count = len(codes)
        if count < 128:
            out = bytes([count])
        elif count < 0x7F00:
            out = bytes([128 + (count >> 8), count & 255])
        else:
            out = b"\xff" + (count - 0x7F00).to_bytes(2, "little")
        out += bytes([block.modes[0] << 6 | block.modes[1] << 4 | block.modes[2] << 2])
        cells, logs, states = [], [], []
        for table in range(3):
            out += block.texts.get(table, b"")
            kind, text = self.texts[table]
            if kind == 1:
                made, log = [Cell(text[0], 0, 0)], 0
            else:
                shares, log = PREDEFINED[table], PREDEFINED_LOGS[table]
                if kind == 2:
                    shares, log, _ = read_shares(text)
                made = cells_of(shares, log)
            cells.append(made)
            logs.append(log)
            states.append(states_of(made, symbols[table]))
        parts = [(states[table][0], logs[table]) for table in range(3)]
        for at, code in enumerate(codes):
            parts += [code[table][1:] for table in (1, 2, 0)]
            if at + 1 < count:
                for table in (0, 2, 1):
                    cell = cells[table][states[table][at]]
                    parts.append((states[table][at + 1] - cell.base, cell.bits))
        return out + read_backward(parts)


def code_of(sequence: Sequence) -> tuple[tuple[int, int, int], ...]:
    """Return symbol, further bits and their number: of literals length, offset, match length."""
    out = []
    for value, table in ((sequence.literals, LENGTH_CODES), (sequence.length, MATCH_CODES)):
        symbol = max(at for at, (base, _) in enumerate(table) if base <= value)
        base, bits = table[symbol]
        out.append((symbol, value - base, bits))
    bits = hb(sequence.value)
    return out[0], (bits, sequence.value - (1 << bits), bits), out[1]


def segment(plain: bytes, recipe: bytes) -> bytes:
    """Return the bytes of a segment."""
    return Reader(plain, recipe).segment()
