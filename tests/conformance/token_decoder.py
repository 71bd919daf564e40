"""A reader of recipes from tokens, written from docs/deflate.md alone; slow and plain.

It makes the tokens of each block, not the stream's bits. Go's construction of headers is left out.
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
    *(b for s in range(3, 7) for b in range((4 << s - 2) + 3, (8 << s - 2) + 3, 1 << s - 2)),
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


FIXED = [8] * 144 + [9] * 112 + [7] * 24 + [8] * 8


def construct(make: int, tokens: list[Token], literals: bytes, plain: int) -> tuple[int, list[int]]:
    """Return the type a construction chooses, and its lengths of literals, then distances."""
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
    else:
        most = 14 if make == 2 else make + 6
        first, second = queue_lengths(counts, most), queue_lengths(far, 15 if make == 2 else most)
    shown = max(257, max(at for at, length in enumerate(first) if length) + 1)
    behind = max([at for at, length in enumerate(second) if length] or [0]) + 1
    parts = [first[:shown], second[:behind]] if make != 2 else [first[:shown] + second[:behind]]
    used, runs = [0] * 19, 0
    for part in parts:
        for symbol, bits in run_lengths(part, make != 2):
            used[symbol] += 1
            runs += bits
    coded = zlib_lengths(used, 7) if make == 0 else queue_lengths(used, 7)
    order = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15)
    given = max(4, max(at for at, symbol in enumerate(order) if coded[symbol]) + 1)
    head = 17 + 3 * given + runs + sum(a * b for a, b in zip(used, coded, strict=True))
    body = sum(a * b for a, b in zip([*counts, *far], [*first, *second], strict=True))
    fixed = 3 + sum(a * b for a, b in zip(counts, FIXED[:286], strict=True)) + 5 * sum(far)
    dynamic, fixed = head + body + extra, fixed + extra
    lengths = [*first, 0, 0, *second]
    if make == 0:
        dynamic, fixed = dynamic + 7 >> 3, fixed + 7 >> 3
        if plain + 4 <= min(dynamic, fixed) and plain <= 65535:
            return 0, lengths
        return (1 if fixed <= dynamic else 2), lengths
    return (2 if dynamic < fixed else 1), lengths


def run_lengths(lengths: list[int], zlib: bool) -> list[tuple[int, int]]:
    """Return run-length symbols and their extra bits."""
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
                run -= min(run, 6 if value else 138)
                out.append((16, 2) if value else (18, 7))
            if not value and run >= 3:
                out.append((17, 3))
                run = 0
            out += [(value, 0)] * run
            continue
        run = min(run, 138 if not value else 6 if value == previous else 7)
        at += run
        if run < (4 if value and value != previous else 3):
            out += [(value, 0)] * run
        elif value:
            out += [(value, 0)] * (value != previous) + [(16, 2)]
        else:
            out.append((17, 3) if run <= 10 else (18, 7))
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
        need(recipe[0] == 64 and recipe[1] <= 1 and recipe[2] <= 71, "head")
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
            if stored:
                out.append(Block(0, stop - p, []))
                p = stop
                continue
            first = p
            tokens: list[Token] = []
            while p < stop and len(tokens) < most:
                tokens.append(self.token(p))
                p += tokens[-1][0]
            kind, _ = construct(make, tokens, self.data[first:p], p - first)
            if coder.bit(("fixed", kind)):
                out.append(Block(1, p - first, tokens))
                continue
            made = coder.symbol(("make", make), 4)
            need(made in (0, 2, *range(3, 10)), "a construction that this reader does not know")
            make = made
            out.append(Block(2, p - first, tokens))
        need(coder.at >= len(coder.data), "decisions that are left")
        return out
