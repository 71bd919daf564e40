"""A reader of recipes from tokens, written from docs/deflate.md alone; slow and plain.

It makes the tokens and headers of each block, and of these the bits.
"""

from __future__ import annotations

from tests.conformance.code_constructions import construct, told
from tests.conformance.plain_deflate import (
    DISTANCES,
    EXTRA,
    FIXED,
    MOST,
    ORDER,
    WINDOW,
    Block,
    Header,
    Old,
    Token,
    extra_of_distance,
    head,
    low,
    need,
    written,
)


class Coder:
    """Reads bits; contexts come to be when they are asked for the first time."""

    def __init__(self, data: bytes, contexts: dict[object, list[int]]) -> None:
        self.data = data
        self.contexts = contexts
        self.at = 4
        self.range = (1 << 32) - 1
        self.value = int.from_bytes(data[:4].ljust(4, b"\0"), "big")

    def _fill(self) -> None:
        while self.range < 1 << 24:
            self.range <<= 8
            byte = self.data[self.at] if self.at < len(self.data) else 0
            self.value = (self.value << 8 | byte) & 0xFFFFFFFF
            self.at += 1

    def bit(self, context: object, start: tuple[int, int] = (32768, 0)) -> int:
        state = self.contexts.setdefault(context, list(start))
        p, n = state
        rate = 131072 // (2 * n + 3) if n else 32768
        bound = (self.range >> 16) * p
        out = int(self.value >= bound)
        if out:
            self.value -= bound
            self.range -= bound
            p -= (p - 24) * rate >> 16
        else:
            self.range = bound
            p += (65512 - p) * rate >> 16
        state[:] = p, min(n + 1, 30)
        self._fill()
        return out

    def even(self, count: int) -> int:
        out = 0
        for _ in range(count):
            self.range >>= 1
            one = int(self.value >= self.range)
            self.value -= self.range * one
            out = out << 1 | one
            self._fill()
        return out

    def symbol(self, context: object, bits: int) -> int:
        node = 1
        for _ in range(bits):
            node = node << 1 | self.bit((context, node))
        return node - (1 << bits)

    def number(self, context: object) -> int:
        length = self.symbol((context, "length"), 5)
        upper = min(length, 2)
        value = 1 << upper | self.symbol((context, length), upper)
        return (value << (length - upper) | self.even(length - upper)) - 1

    def signed(self, context: object) -> int:
        coded = self.number(context)
        return -(coded + 1) // 2 if coded & 1 else coded // 2


class Finder:
    """The fall-back: every answer is found anew."""

    def __init__(self, data: bytes, rule: int) -> None:
        self.data, self.rule = data, rule
        self.hashed = 4 if rule & 2 else 3
        self.depth = 8 << (rule >> 3)
        self.known: dict[int, Token | None] = {}
        self.chains: dict[int, tuple[dict[int, list[int]], int]] = {}
        for count in (3, 4):
            table: dict[int, list[int]] = {}
            for at in range(len(data) - count + 1):
                table.setdefault(self._hash(at, count), []).append(at)
            self.chains[count] = (table, count)

    def _hash(self, at: int, count: int) -> int:
        value = int.from_bytes(self.data[at : at + count].ljust(4, b"\0"), "big")
        return (value * 0x9E3779B1 & 0xFFFFFFFF) >> 16

    def links(self, at: int, count: int) -> list[int]:
        table, _ = self.chains[count]
        found = [p for p in table.get(self._hash(at, count), ()) if at - WINDOW <= p < at]
        return found[::-1][: self.depth]

    def equal(self, at: int, other: int, most: int) -> int:
        most = min(most, len(self.data) - at)
        length = 0
        while length < most and self.data[at + length] == self.data[other + length]:
            length += 1
        return length

    def longest(self, at: int) -> Token | None:
        if at not in self.known:
            self.known[at] = self._longest(at)
        return self.known[at]

    def _longest(self, at: int) -> Token | None:
        best = None
        if len(self.data) - at >= self.hashed:
            for link in self.links(at, self.hashed):
                length = self.equal(at, link, MOST)
                if length >= self.hashed and (best is None or length > best[0]):
                    best = length, at - link
        return best

    def choice(self, at: int) -> Token:
        best = self.longest(at)
        if best is None or (self.rule & 4 and best[0] == self.hashed and best[1] > 4096):
            return 1, 0
        if self.rule & 1 and best[0] < MOST:
            following = self.longest(at + 1)
            if following is not None and following[0] > best[0]:
                return 1, 0
        return best

    def ranked(self, at: int, rank: int) -> int:
        need(len(self.data) - at >= 4, "a rank at the end")
        out = [p for p in self.links(at, self.hashed) if self.equal(at, p, 4) >= self.hashed]
        if self.hashed == 4:
            out += [p for p in self.links(at, 3) if self.equal(at, p, 4) == 3]
        need(rank < len(out), "a rank that is not there")
        return at - out[rank]


def number(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 0x80:
            return value, at


class Reader:
    """Decodes one recipe."""

    def __init__(self, data: bytes, window: int, old: Old, recipe: bytes) -> None:
        need(recipe[0] == 64 and recipe[1] <= 7 and recipe[2] <= 71, "head")
        self.is_last, self.goes_on, self.is_open = (bool(recipe[1] & flag) for flag in (1, 2, 4))
        self.headers: list[Header | None] = []
        _, at = number(recipe, 3)
        size, at = number(recipe, at)
        runs, at = number(recipe, at)
        need(size == len(old.plain), "another span")
        contexts: dict[object, list[int]] = {}
        self.runs = Coder(recipe[at : at + runs], contexts)
        self.coder = Coder(recipe[at + runs :], contexts)
        self.data, self.old, self.at = data, old, window
        self.finder = Finder(data, recipe[2])
        self.starts: dict[int, int] = {}
        place = 0
        self.covers: list[int] = []
        for at, (length, _) in enumerate(old.tokens):
            self.starts[place] = at
            self.covers += [place] * length
            place += length
        self.recent = 32
        self.known = (-1, 0, 0)
        base = max(window - WINDOW, 0)
        by = p = base
        self.shifts = []
        for _ in range(self.coder.number("shifts")):
            p += self.coder.number("gap")
            by += self.coder.signed("by")
            self.shifts.append((p, by))
        self.right = self.run()

    def run(self) -> int:
        return 1 << 40 if self.runs.bit("no run") else self.runs.number("runs")

    def shift(self, p: int) -> int:
        return max([at for at, (place, _) in enumerate(self.shifts) if place <= p] or [0])

    def stretch(self, at: int) -> tuple[int, int]:
        end = self.shifts[at + 1][0] if at + 1 < len(self.shifts) else len(self.data)
        return self.shifts[at][0], end

    def agrees(self, p: int, by: int) -> bool:
        return 0 <= p - by < len(self.old.plain) and self.data[p] == self.old.plain[p - by]

    def align(self, p: int) -> tuple[int, int, int] | None:
        """Return by, since and equal_to, or None."""
        if not self.shifts:
            return None
        at = self.shift(p)
        by = self.shifts[at][1]
        first, end = self.stretch(at)
        if not self.agrees(p, by):
            return None
        if not (self.known[0] == at and self.known[1] <= p < self.known[2]):
            low = to = p
            while to < end and self.agrees(to, by):
                to += 1
            while low > first and self.agrees(low - 1, by):
                low -= 1
            self.known = at, low, to
        _, low, to = self.known
        since = min(p - low, WINDOW)
        return by, since, to

    def moved(self, place: int, p: int) -> int | None:
        now = self.shift(p)
        for at in range(now, max(now - 64, 0) - 1, -1):
            first, end = self.stretch(at)
            if first <= place + self.shifts[at][1] < min(end, p):
                to = place + self.shifts[at][1]
                return to if p - to <= WINDOW else None
            if p - first > WINDOW:
                break
        return None

    def recent_class(self) -> int:
        return sum(self.recent >= bound for bound in (2, 8, 32))

    def falls(self, p: int, kind: int) -> tuple[Token, int, object]:
        choice, longest = self.finder.choice(p), self.finder.longest(p)
        length = longest[0] if longest else 0
        size = sum(length >= bound for bound in (1, 4, 5, 7, 12, 32))
        return choice, kind, ("fall", size, self.recent_class(), choice[1] > 0)

    def predict(self, p: int) -> tuple[Token, int, object]:
        found = self.align(p)
        if found is None:
            return self.falls(p, 7)
        by, since, to = found
        place = self.covers[p - by]
        length, distance = self.old.tokens[self.starts[place]]
        token, kind = (1, 0), 0
        if place != p - by:
            length = place + length - (p - by)
            kind = 5 if length >= 3 else 6
        if distance and kind != 6:
            kind = kind or 1
            source: int | None = p - distance
            if distance > since:
                source = self.moved(p - by - distance, p)
                if source is None:
                    return self.falls(p, 8)
                kind = 2 if kind == 1 else kind
            assert source is not None
            if distance > since or p + length >= to:
                equal = self.finder.equal(p, source, MOST)
                if equal < length:
                    length, kind = equal, 4
                elif equal > length:
                    behind = p - by + length
                    plain = self.old.plain
                    if behind >= len(plain) or (
                        behind >= distance and plain[behind] != plain[behind - distance]
                    ):
                        length, kind = equal, 3
                if length < 3:
                    return self.falls(p, 8)
            token = length, p - source
        end, recent = p + token[0], self.recent_class()
        size, agreement = int(end < to), 0
        if end + 8 <= to:
            counted = token[0]
            if recent < 3:
                agreement = 2 if self.finder.choice(p) == token else 1
                longest = self.finder.longest(p)
                if not token[1]:
                    counted = longest[0] if longest else 0
            size = 2 + sum(counted >= bound for bound in (4, 5, 7))
        zone = sum(since >= bound for bound in (64, 1024, 8192, 32768))
        return token, kind, ("right", kind, zone, recent, size, agreement)

    def wrong(self, p: int, token: Token, kind: int) -> Token:
        coder, finder = self.coder, self.finder
        ahead = min(len(self.data) - p, MOST)
        choice = finder.choice(p)
        if choice != token and coder.bit(("second", kind, choice[1] > 0)):
            return choice
        if token[1] and choice[1] and (ahead < 3 or coder.bit(("literal", kind))):
            return 1, 0
        need(ahead >= 3, "a match at the end")
        best = finder.longest(p)
        if best and best != choice and coder.bit(("best", token[1] > 0)):
            return best
        if token[1] and coder.bit(("distance", kind)):
            distance = token[1]
        elif coder.bit("found"):
            symbol = coder.symbol("far", 5)
            need(symbol < 30, "a distance's symbol")
            distance = DISTANCES[symbol] + coder.even(extra_of_distance(symbol))
        else:
            distance = finder.ranked(p, coder.number("rank"))
        need(distance <= p, "a distance before the data")
        whole = finder.equal(p, p - distance, MOST)
        told = token[0] if token[1] else 0
        if whole >= 3 and whole != told and coder.bit(("whole", token[1] > 0)):
            return whole, distance
        length = coder.symbol(("length", token[1] > 0), 8) + 3
        need(length <= ahead, "a length behind the data")
        return length, distance

    def token(self, p: int) -> Token:
        found = self.align(p) if self.recent == 32 else None
        if found and found[1] >= WINDOW and found[2] - p > 524 and p - found[0] in self.starts:
            if self.right:
                self.right -= 1
                return self.old.tokens[self.starts[p - found[0]]]
            self.right = self.run()
            token, kind, _ = self.predict(p)
        else:
            token, kind, context = self.predict(p)
            start = (32768, 0)
            if isinstance(context, tuple) and context[0] == "right":
                start = (50000 if context[5] == 1 else 62000, 3)
            if not self.coder.bit(context, start):
                self.recent = min(self.recent + 1, 32)
                return token
        self.recent = 0
        return self.wrong(p, token, kind)

    def old_end(self, p: int) -> int:
        now = self.shift(p) if self.shifts else 0
        for at in range(now, min(now + 1024, len(self.shifts))):
            first, end = self.stretch(at)
            by = self.shifts[at][1]
            last = at + 1 == len(self.shifts)
            for place in self.old.ends:
                if max(p + 1, first) <= place + by < end + last:
                    return place + by
        return len(self.data)

    def header(self, like: int, header: Header) -> Header:
        """Return a header that is told, relative to that of a construction."""
        coder = self.coder
        literals = coder.symbol("literals", 5) + 257
        distances = coder.symbol("distances", 5) + 1
        need(literals <= 286 and distances <= 30, "bounds of a header")
        lengths: list[list[int]] = []
        for count, other in ((literals, header.literals), (distances, header.distances)):
            padded = [*other, *[0] * count]
            lengths.append([coder.symbol(("code", padded[at]), 4) for at in range(count)])
        made = told(like, *lengths)
        if coder.bit("other runs"):
            runs: list[tuple[int, int]] = []
            at = before = 0
            while at < literals + distances:
                before = coder.symbol(("run", before), 5)
                need(before <= 18 and (before != 16 or at > 0), "a run")
                extra = coder.symbol(("extra", before), EXTRA[before]) if before > 15 else 0
                runs.append((before, extra))
                at += extra + (11 if before == 18 else 3) if before > 15 else 1
            need(at == literals + distances, "runs behind the end")
            made = made._replace(runs=runs)
        if coder.bit("other codes"):
            given, codes = coder.even(4) + 4, [0] * 19
            need(given <= 19, "number of code lengths")
            for at in range(given):
                codes[ORDER[at]] = coder.symbol(("three", at), 3)
            made = made._replace(given=given, codes=codes)
        return made

    def blocks(self) -> list[Block]:
        coder, size = self.coder, len(self.data)
        mode = count = length = make = stored = 0
        out: list[Block] = []
        p = self.at
        while p < size or coder.bit("more"):
            stored = coder.bit(("stored", stored))
            mode = coder.symbol(("mode", mode), 3)
            need(mode < 7, "a mode")
            stop, most = size, 2097152
            if mode == 0:
                stop = self.old_end(p)
            elif mode == 1:
                most = count
            elif mode == 2:
                stop = min(p + length, size)
            elif mode == 4:
                most = count = coder.number("count")
            elif mode == 5:
                length = coder.number("bytes")
                stop = p + length
            elif mode == 6:
                stop = p
            self.headers.append(None)
            if stored:
                out.append(Block(0, stop - p, []))
                p = stop
                continue
            first = p
            tokens: list[Token] = []
            while p < stop and len(tokens) < most:
                tokens.append(self.token(p))
                p += tokens[-1][0]
            kind, header = construct(make, tokens, self.data[first:p], p - first)
            if coder.bit(("fixed", kind)):
                out.append(Block(1, p - first, tokens))
                continue
            made = coder.symbol(("make", make), 4)
            need(made <= 9 or made == 15, "a construction that this reader does not know")
            if made == 15:
                header = self.header(make, header)
            elif made != make:
                make = made
                _, header = construct(make, tokens, self.data[first:p], p - first)
            self.headers[-1] = header
            out.append(Block(2, p - first, tokens))
        need(coder.at >= len(coder.data), "decisions that are left")
        need(not self.goes_on or bool(out and out[0].kind), "a stored block that is cut")
        need(not self.is_open or bool(out and out[-1].kind), "a stored block that is cut")
        return out

    def bits(self, bit: int) -> str:
        """Return the segment as a text of zeros and ones, behind `bit` zeros."""
        out, at = ["0" * bit], self.at
        done = bit
        blocks = self.blocks()
        for number, (block, header) in enumerate(zip(blocks, self.headers, strict=True), 1):
            last = self.is_last and number == len(blocks)
            plain = self.data[at : at + block.size]
            at += block.size
            is_new, ends = number > 1 or not self.goes_on, number < len(blocks) or not self.is_open
            text = low(int(last) | block.kind << 1, 3) if is_new else ""
            if block.kind == 0:
                need(block.size <= 65535, "size of a stored block")
                text += "0" * (-(done + 3) % 8)
                text += low(block.size, 16) + low(block.size ^ 0xFFFF, 16)
                text += "".join(low(byte, 8) for byte in plain)
            elif header is None:
                text += written(block.tokens, plain, FIXED, [5] * 30, ends)
            else:
                text += head(header) if is_new else ""
                text += written(block.tokens, plain, header.literals, header.distances, ends)
            out.append(text)
            done += len(text)
        return "".join(out)
