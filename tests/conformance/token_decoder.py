"""A reader of recipes from tokens, written from docs/deflate.md alone; slow and plain.

It makes the tokens and headers of each block, and of these the bits. Of deflate itself (RFC 1951)
it has what reading an old stream takes.
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


def zlib_lengths(counts: list[int], most: int) -> list[int]:
    """Huffman's algorithm on zlib's heap (trees.c, build_tree)."""
    symbols = len(counts)
    weight = [*counts, *([0] * (symbols + 1))]
    depth, parent = [0] * len(weight), [0] * len(weight)
    heap = [0, *(at for at, count in enumerate(counts) if count)]
    greatest = heap[-1] if len(heap) > 1 else -1
    while len(heap) < 3:
        made = greatest = greatest + 1 if greatest < 2 else greatest
        made = made if greatest == made and made not in heap[1:] else 0
        heap.append(made)
        weight[made] = 1

    def before(one: int, other: int) -> bool:
        return (weight[one], depth[one]) <= (weight[other], depth[other])

    def sift(hole: int) -> None:
        node = heap[hole]
        child = 2 * hole
        while child < len(heap):
            if child + 1 < len(heap) and before(heap[child + 1], heap[child]):
                child += 1
            if before(node, heap[child]):
                break
            heap[hole] = heap[child]
            hole, child = child, 2 * child
        heap[hole] = node

    for at in range((len(heap) - 1) // 2, 0, -1):
        sift(at)
    order: list[int] = []
    node = symbols
    while True:
        one = heap[1]
        last = heap.pop()
        if len(heap) > 1:
            heap[1] = last
            sift(1)
        other = heap[1]
        order += [one, other]
        weight[node] = weight[one] + weight[other]
        depth[node] = max(depth[one], depth[other]) + 1
        parent[one] = parent[other] = node
        heap[1] = node
        node += 1
        if len(heap) == 2:
            break
        sift(1)
    bits = {heap[1]: 0}
    lengths, count, over = [0] * symbols, [0] * (most + 1), 0
    for at in reversed(order):
        length = bits[parent[at]] + 1
        if length > most:
            length, over = most, over + 1
        bits[at] = length
        if at < symbols:
            lengths[at] = length
            count[length] += 1
    if not over:
        return lengths
    while over > 0:
        length = most - 1
        while not count[length]:
            length -= 1
        count[length] -= 1
        count[length + 1] += 2
        count[most] -= 1
        over -= 2
    leaves = [at for at in order if at < symbols]
    for length in range(most, 0, -1):
        for _ in range(count[length]):
            lengths[leaves.pop(0)] = length
    return lengths


def queue_lengths(counts: list[int], most: int) -> list[int]:
    leaves = sorted((count, at) for at, count in enumerate(counts) if count)
    lengths = [0] * len(counts)
    if len(leaves) < 2:
        used = leaves[0][1] if leaves else 0
        lengths[0] = lengths[used or 1] = 1
        return lengths
    weights: list[int] = []
    parents: dict[int, int] = {}
    leaf = node = 0
    for made in range(len(leaves) - 1):
        weights.append(0)
        for _ in range(2):
            if leaf < len(leaves) and (node == made or leaves[leaf][0] <= weights[node]):
                weights[made] += leaves[leaf][0]
                leaf += 1
            else:
                weights[made] += weights[node]
                parents[node] = made
                node += 1
    codes = [0, 2] + [0] * most
    depths = {len(weights) - 1: 0}
    for at in range(len(weights) - 2, -1, -1):
        depth = depths[at] = depths[parents[at]] + 1
        if depth >= most:
            depth = max(length for length in range(1, most) if codes[length])
        codes[depth] -= 1
        codes[depth + 1] += 2
    place = 0
    for length in range(most, 0, -1):
        for _ in range(codes[length]):
            lengths[leaves[place][1]] = length
            place += 1
    return lengths


def package_merge(counts: list[int], most: int) -> list[int]:
    """Return optimal lengths of codes, in Go's manner."""
    lengths = [0] * len(counts)
    leaves = sorted((count, at) for at, count in enumerate(counts) if count)
    if len(leaves) <= 2:
        for _, at in leaves:
            lengths[at] = 1
        return lengths
    single = [(count, [at]) for count, at in leaves]
    level = single
    for _ in range(min(most, len(leaves) - 1) - 1):
        pairs = [
            (level[at][0] + level[at + 1][0], level[at][1] + level[at + 1][1])
            for at in range(0, len(level) - 1, 2)
        ]
        level = []
        left = single[::-1]
        for pair in pairs:
            while left and left[-1][0] < pair[0]:
                level.append(left.pop())
            level.append(pair)
        level += left[::-1]
    for _, symbols in level[: 2 * len(leaves) - 2]:
        for at in symbols:
            lengths[at] += 1
    # Of symbols with the same count, those with greater values get the shorter codes.
    order = sorted((lengths[at] for _, at in leaves), reverse=True)
    for (_, at), length in zip(leaves, order, strict=True):
        lengths[at] = length
    return lengths


FIXED = [8] * 144 + [9] * 112 + [7] * 24 + [8] * 8


ORDER = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15)
EXTRA = {16: 2, 17: 3, 18: 7}


def told(make: int, first: list[int], second: list[int]) -> Header:
    """Return the header by which a construction tells lengths."""
    joined = make in (1, 2)
    parts = [first + second] if joined else [first, second]
    runs = [run for part in parts for run in run_lengths(part, not joined)]
    used = [0] * 19
    for symbol, _ in runs:
        used[symbol] += 1
    codes = (zlib_lengths, package_merge, queue_lengths)[min(make, 2)](used, 7)
    given = max(4, max(at for at, symbol in enumerate(ORDER) if codes[symbol]) + 1)
    return Header(first, second, runs, codes, given)


def construct(make: int, tokens: list[Token], literals: bytes, plain: int) -> tuple[int, Header]:
    """Return the type a construction chooses, and its header."""
    counts, far, extra, at = [0] * 286, [0] * 30, 0, 0
    for length, distance in tokens:
        if distance:
            one, other = symbol_in(LENGTHS, length), symbol_in(DISTANCES, distance)
            counts[257 + one] += 1
            far[other] += 1
            extra += extra_of_length(one) + extra_of_distance(other)
        else:
            counts[literals[at]] += 1
        at += length
    counts[256] = 1
    if make == 0:
        first, second = zlib_lengths(counts, 15), zlib_lengths(far, 15)
    elif make == 1:
        far[0] += not any(far)
        first, second = package_merge(counts, 15), package_merge(far, 15)
    else:
        most = 14 if make == 2 else make + 6
        first, second = queue_lengths(counts, most), queue_lengths(far, 15 if make == 2 else most)
    shown = max(257, max(at for at, length in enumerate(first) if length) + 1)
    behind = max([at for at, length in enumerate(second) if length] or [0]) + 1
    header = told(make, first[:shown], second[:behind])
    head = 17 + 3 * header.given
    head += sum(header.codes[symbol] + EXTRA.get(symbol, 0) for symbol, _ in header.runs)
    body = sum(a * b for a, b in zip([*counts, *far], [*first, *second], strict=True))
    fixed = 3 + sum(a * b for a, b in zip(counts, FIXED[:286], strict=True)) + 5 * sum(far)
    dynamic, fixed = head + body + extra, fixed + extra
    if make == 0:
        dynamic, fixed = dynamic + 7 >> 3, fixed + 7 >> 3
        if plain + 4 <= min(dynamic, fixed) and plain <= 65535:
            return 0, header
        return (1 if fixed <= dynamic else 2), header
    if make == 1 and plain <= 65535 and 8 * (plain + 5) < min(dynamic, fixed):
        return 0, header
    return (2 if dynamic < fixed else 1), header


def run_lengths(lengths: list[int], zlib: bool) -> list[tuple[int, int]]:
    """Return run-length symbols and the values of their extra bits."""
    out: list[tuple[int, int]] = []
    at = 0
    previous = -1
    while at < len(lengths):
        value, run = lengths[at], 1
        while at + run < len(lengths) and lengths[at + run] == value:
            run += 1
        if not zlib:
            at += run
            if value:
                out.append((value, 0))
                run -= 1
            while run >= (3 if value else 11):
                taken = min(run, 6 if value else 138)
                run -= taken
                out.append((16, taken - 3) if value else (18, taken - 11))
            if not value and run >= 3:
                out.append((17, run - 3))
                run = 0
            out += [(value, 0)] * run
            continue
        run = min(run, 138 if not value else 6 if value == previous else 7)
        at += run
        if run < (4 if value and value != previous else 3):
            out += [(value, 0)] * run
        elif value:
            single = value != previous
            out += [(value, 0)] * single + [(16, run - single - 3)]
        else:
            out.append((17, run - 3) if run <= 10 else (18, run - 11))
        previous = value
    return out


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


# RFC 1951


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
