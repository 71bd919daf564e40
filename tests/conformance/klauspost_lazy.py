"""klauspost's levels 7 to 9, as docs/deflate.md says; slow and plain, as `klauspost`."""

from __future__ import annotations

from bisect import bisect_left

from tests.conformance.model_recipes import (
    DISTANCE_BASE,
    DISTANCE_EXTRA,
    FILLED,
    LENGTH_BASE,
    LENGTH_EXTRA,
    LITERAL,
    LONGEST,
    PRIMED,
    QUEUES,
    WINDOW,
    Token,
    code_lengths,
    equal_bytes,
    symbol,
)

DICTIONARY = 16384

Match = tuple[int, int, int]
"""Position, length, distance."""


class Lazy:
    """The model of levels 7 to 9."""

    def __init__(self, data: bytes, size: int, origin: int, rule: int, flags: int) -> None:
        self.data, self.size, self.origin, self.flags = data, size, origin, flags
        self.lazy, self.nice, self.chain = {
            36: (12, 16, 24),
            37: (30, 40, 64),
            38: (258, 258, 1024),
        }[rule]
        self.weighs = rule == 38
        self.sees = size

    def start(self, at: int) -> None:
        self.least = max(0, at - (DICTIONARY if self.flags & PRIMED else WINDOW))
        self.begun = self.origin + self.least if self.flags & PRIMED else 0
        self.chains: dict[int, list[int]] = {}
        self.entered = self.least
        self.moved = -1
        self.literals = self.skipped = 0
        self.plan: Match | None = None
        self.known: Token | None = None
        self.enter(at, at if self.flags & PRIMED else self.size)
        self.entered = at

    def hash(self, at: int) -> int:
        return (int.from_bytes(self.data[at : at + 4], "little") * 2654435761 & 0xFFFFFFFF) >> 15

    def enter(self, end: int, whole: int) -> None:
        for at in range(self.entered, min(end, whole - 3)):
            self.chains.setdefault(self.hash(at), []).append(at)
        self.entered = max(self.entered, end)

    def moves(self, at: int) -> int:
        position = self.origin + at - self.begun
        return (position - 65275) // WINDOW + 1 if position > 65274 else 0

    def buffer_end(self, at: int) -> int:
        return min((self.moves(at) + 2) * WINDOW + self.begun - self.origin, self.sees)

    def lowest(self, at: int) -> int:
        buffer = self.moves(at) * WINDOW + self.begun - self.origin
        return max(buffer, self.least, at - WINDOW, 0)

    def weigh(self, at: int) -> None:
        moves, end = self.moves(at), self.buffer_end(at)
        if moves == self.moved:
            return
        if self.moved < 0 and moves:
            first = 65275 + (moves - 1) * WINDOW + self.begun - self.origin
            at = max(first, self.least)
        self.moved = moves
        if not self.flags & FILLED:
            end = min(end, at + 32768)
        counts = [0] * 256
        for byte in self.data[at:end]:
            counts[byte] += 1
        self.bits = code_lengths(counts, 15, bool(self.flags & QUEUES))
        if not self.flags & (FILLED | QUEUES):
            self.bits = [max(1, bits) for bits in self.bits]

    def gain(self, at: int, length: int, distance: int) -> int:
        bits = sum(self.bits[byte] for byte in self.data[at : at + length])
        extra = 6 if distance == 32768 else DISTANCE_EXTRA[symbol(distance + 1, DISTANCE_BASE)]
        return bits - 3 - LENGTH_EXTRA[symbol(length, LENGTH_BASE)] - extra

    def equal(self, one: int, other: int, most: int) -> int:
        return equal_bytes(self.data, one, other, most)

    def search(self, at: int, before: int) -> Token | None:
        if at >= self.sees:
            return None
        if self.weighs:
            self.weigh(at)
        self.enter(at + 1, self.size)
        most = min(self.sees - at, LONGEST)
        if self.sees - at <= before or before >= self.lazy or most < 4:
            return None
        best, found, least = 3, None, 4
        chain = self.chains.get(self.hash(at), [])
        first, end = bisect_left(chain, self.lowest(at)), bisect_left(chain, at)
        for place in range(end - 1, max(first, end - self.chain) - 1, -1):
            other = chain[place]
            if self.data[other + best] != self.data[at + best]:
                continue
            length = self.equal(other, at, most)
            if length <= best:
                continue
            if self.weighs:
                gain = self.gain(at, length, at - other)
                if gain <= least:
                    continue
                least = gain
            best, found = length, (length, at - other)
            if length >= min(self.nice, most):
                break
        return found

    def predict(self, at: int) -> Token:
        if self.plan is None and at >= self.skipped:
            if self.known is None:
                self.here = self.search(at, 3)
                if self.here:
                    self.literals = 0
            else:
                self.here = self.known if self.known[1] else None
            self.later = self.search(at + 1, self.here[0] if self.here else 3)
            if self.here and not (self.later and self.later[0] > self.here[0]):
                self.plan = self.extend(at, *self.here)
        if self.plan and self.plan[0] == at:
            return self.plan[1:]
        return LITERAL

    def extend(self, at: int, length: int, distance: int) -> Match:
        end = at + length
        if length >= 256 or end + 4 > self.sees:
            return at, length, distance
        chain = self.chains.get(self.hash(end), [])
        place = bisect_left(chain, at + 2)
        source = chain[place - 1] - length if place else -1
        if source < self.lowest(at + 1) + 3 or at - source == distance:
            return at, length, distance
        most = min(258, self.sees - at - 3)
        longer = self.equal(source + 2, at + 2, most)
        if longer <= length:
            return at, length, distance
        start, distance = at + 2, at - source
        while (
            start > at and longer < 258 and self.data[start - 1] == self.data[start - 1 - distance]
        ):
            start, longer = start - 1, longer + 1
        return start, longer, distance

    def accept(self, at: int, predicted: Token, actual: Token) -> None:
        self.known = None
        if actual[1] or actual != predicted:
            self.literals = self.skipped = 0
            self.plan = None
            return
        if self.plan or at < self.skipped:
            return
        self.known = self.later or (0, 0)
        self.literals = ((0 if self.later else self.literals) + 1) & 65535
        over = self.literals - self.chain
        if over > 0:
            count = max(1, min(2 + over // 64, self.buffer_end(at + 1) - at - 2))
            self.skipped = at + 1 + count
            self.known = None
