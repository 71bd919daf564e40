"""A reader of recipes of zstd segments, written from docs/format.md alone; slow and plain.

It makes blocks, sequences and tables of a recipe and its plaintext, and writes these as zstd does.
"""

from __future__ import annotations

from typing import NamedTuple

from tests.conformance.plain_zstd import (
    LENGTH_CODES,
    LITERALS,
    LOGS,
    MATCH_CODES,
    PREDEFINED,
    PREDEFINED_LOGS,
    SYMBOLS,
    Cell,
    Sequence,
    cells_of,
    codes_of,
    describe_literals,
    hb,
    need,
    read_backward,
    read_shares,
    shares_of,
    states_of,
    write_shares,
)
from tests.conformance.token_decoder import Coder
from tests.conformance.zstd_search import Search

HASHED, DEPTH = 4, 32


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
