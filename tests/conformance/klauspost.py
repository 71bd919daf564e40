"""Rebuilds deflate segments by klauspost's rules, as docs/deflate.md says: a second implementation.

It is written for reading, from the specification alone, and shares no code with the product. Rules
29 to 38 are here and in `klauspost_lazy`; what all recipes by models have in common is in
`model_recipes`.
"""

from __future__ import annotations

from tests.conformance.klauspost_lazy import DICTIONARY, Lazy, Match
from tests.conformance.model_recipes import (
    BYTES,
    COUNT,
    DISTANCE_BASE,
    DISTANCE_EXTRA,
    DYNAMIC,
    FAR,
    FILLED,
    FIXED,
    FIXED_LENGTHS,
    GO_TREES,
    LAST,
    LENGTH_BASE,
    LENGTH_EXTRA,
    LITERAL,
    PRIMED,
    QUEUES,
    STORED,
    TRUNCATES,
    TYPE,
    WINDOW,
    Bits,
    Corrections,
    GivenBlocks,
    Header,
    Numbers,
    Token,
    code_lengths,
    equal_bytes,
    need,
    symbol,
    write_block,
    write_empty_blocks,
)

UNIT = 65535


# The plan of a unit, levels 1 to 6


class Units:
    """The model of levels 1 to 6; of level 4 as it was before release 1.18.0, too."""

    def __init__(self, data: bytes, size: int, origin: int, rule: int, flags: int) -> None:
        self.data, self.size, self.origin = data, size, origin
        self.level = rule - 28 if rule < 35 else 4
        self.by_length = rule == 35
        self.primed = bool(flags & PRIMED)
        self.small = bool(flags & QUEUES)
        self.reach = 4 * WINDOW if flags & FAR else WINDOW
        self.least = 0
        self.match: Match | None = None
        self.blind = self.literal = False
        self.whole = 0
        self.after: int | None = None

    def start(self, at: int) -> None:
        self.short: dict[int, int] = {}
        self.long: dict[int, tuple[int, ...]] = {}
        self.oldest = self.least
        self.end = -1
        self.after = None
        self.held = 0
        sees, small = self.size, self.small
        known = min(at - self.least, DICTIONARY if self.primed else self.reach)
        if self.primed:
            self.oldest, self.small = at - known, True
        elif known >= UNIT:
            known -= known % UNIT
        if not self.primed:
            units = (self.origin + at - known) // UNIT
            self.held = UNIT * units if units <= 5 else WINDOW + UNIT * ((units - 6) % 4 + 1)
        self.sees = at
        position = at - known
        while position < at:
            token = self.predict(position)
            self.accept(position, token, token)
            position += token[0]
        self.sees, self.end, self.small = sees, at, small
        self.reach = WINDOW

    def predict(self, at: int) -> Token:
        if at >= self.end:
            self.begin(at)
        if self.match is None or at != self.match[0]:
            return LITERAL
        left = self.match[1]
        return (left if left <= 258 else 258 if left > 261 else 255), self.match[2]

    def accept(self, at: int, predicted: Token, actual: Token) -> None:
        length, distance = actual
        if self.blind or (not distance and (predicted == actual or self.literal)):
            return
        if not distance:
            if self.match and self.match[1] != self.whole:
                self.emitted = at
            self.bound = at + 1
            self.look()
            return
        if actual != predicted:
            self.literal = False
            self.next, self.whole = at + 1, length
            self.match = (at, length, distance)
            if distance <= at and at + length <= self.end:
                longest = self.equal(at, at - distance)
                self.match = (at, longest, distance)
                if self.predict(at)[0] == length:
                    self.whole = longest
                else:
                    self.match = (at, length, distance)
        assert self.match is not None
        left = self.match[1] - length
        if left:
            self.match = (at + length, left, distance)
        else:
            self.behind(at + length, self.whole, distance)

    def begin(self, at: int) -> None:
        held = self.after if at == self.end else None
        self.held = self.held if held is None else held
        self.unit = self.emitted = self.bound = self.next = at
        self.end = min(at + UNIT, self.sees)
        self.second, self.distance = False, 1
        count = self.end - at
        if self.held + count > 5 * UNIT:
            self.held = WINDOW
        self.after = self.held + count
        self.match = None
        self.literal = True
        self.blind = count < 13 or (count < 128 and not self.small)
        if count < 128 and not self.small:
            self.oldest, self.after = self.end, 0
        if self.blind:
            return
        before = self.short.copy(), self.long.copy()
        saved = matches = 0
        self.look()
        while self.match:
            start, length, distance = self.match
            matches += 1
            while length:
                piece = self.predict(self.match[0])[0]
                saved += piece - 1
                length -= piece
                self.match = (start, length, distance)
            if saved >= count // 16:
                break
            self.behind(start + self.whole, self.whole, distance)
        if not matches or saved < count // 16:
            self.match = None
            return
        self.short, self.long = before
        self.emitted = self.bound = self.next = at
        self.second, self.distance = False, 1
        self.literal = False
        self.look()

    # tables

    def string(self, at: int) -> int:
        return int.from_bytes(self.data[at : at + 8].ljust(8, b"\0"), "little")

    def four(self, string: int) -> int:
        return ((string & 0xFFFFFFFF) * 2654435761 & 0xFFFFFFFF) >> 17

    def five(self, string: int) -> int:
        bits = {1: 15, 2: 17, 3: 16}[self.level]
        return ((string << 24) * 889523592379 & (1 << 64) - 1) >> (64 - bits)

    def seven(self, string: int) -> int:
        return ((string << 8) * 58295818150454627 & (1 << 64) - 1) >> 49

    def enter_short(self, string: int, at: int) -> None:
        self.short[self.four(string)] = at

    def enter_long(self, string: int, at: int) -> None:
        key = self.five(string) if self.level == 3 else self.seven(string)
        held = self.long.get(key, ())
        self.long[key] = (at, *held[:1]) if self.level != 4 else (at,)

    def enter_one(self, string: int, at: int) -> None:
        self.short[self.five(string)] = at

    def enter(self, at: int) -> None:
        string = self.string(at)
        if self.level >= 4:
            self.enter_short(string, at)
        if self.level >= 3:
            self.enter_long(string, at)
        else:
            self.enter_one(string, at)

    def held_long(self, at: int) -> tuple[int | None, int | None]:
        string = self.string(at)
        key = self.five(string) if self.level == 3 else self.seven(string)
        held = self.long.get(key, ())
        return held[0] if held else None, held[1] if len(held) > 1 else None

    def usable(self, found: int | None, at: int, reach: int = WINDOW - 1) -> bool:
        return found is not None and self.oldest <= found < at <= found + reach

    def fits(self, found: int | None, at: int, reach: int = WINDOW - 1) -> bool:
        if found is None or not self.usable(found, at, reach):
            return False
        return self.data[found : found + 4] == self.data[at : at + 4]

    def equal(self, at: int, other: int, most: int | None = None) -> int:
        most = self.end - at if most is None else min(most, self.end - at)
        return equal_bytes(self.data, at, other, most)

    # looking

    def plan(self, at: int, found: int, length: int) -> None:
        least = max(self.emitted, self.bound)
        while found > self.oldest and at > least and self.data[found - 1] == self.data[at - 1]:
            found, at, length = found - 1, at - 1, length + 1
        self.match, self.whole = (at, length, at - found), length

    def look(self) -> None:
        shift = {1: 5, 2: 5, 3: 7, 4: 6, 5: 6, 6: 7}[self.level]
        pairs = self.level <= 2
        self.match = None
        while True:
            at, second = self.next, self.second
            self.next = at + 1
            if not second:
                self.next += pairs + (at - self.emitted >> shift)
                if self.next > self.end - 11:
                    return
            self.second = pairs and not second
            if self.find(at, second):
                return

    def find(self, at: int, second: bool) -> bool:
        if self.level <= 2:
            key = self.five(self.string(at))
            found = self.short.get(key)
            self.short[key] = at
            if found is None or not self.fits(found, at):
                return False
            if not second:
                self.enter(self.next)
            elif self.level == 1:
                self.short[key] = self.next
            self.plan(at, found, self.equal(at, found))
            return True
        newer, older = self.held_long(at)
        brief = self.short.get(self.four(self.string(at)))
        self.enter(at)
        if self.level == 3:
            return self.find_pair(at, newer, older)
        if self.level == 4:
            return self.find_measured(at, newer, brief)
        return self.find_farther(at, newer, older, brief)

    def find_pair(self, at: int, newer: int | None, older: int | None) -> bool:
        if newer is None or not self.usable(newer, at, 32764):
            return False
        best = newer
        if self.fits(newer, at):
            if older is not None and self.fits(older, at, 32764):
                best = older if self.equal(at, older) > self.equal(at, newer) else newer
        elif older is not None and self.fits(older, at, 32763):
            best = older
        else:
            return False
        self.plan(at, best, self.equal(at, best))
        return True

    def find_measured(self, at: int, held: int | None, brief: int | None) -> bool:
        if held is not None and self.fits(held, at):
            self.plan(at, held, self.equal(at, held))
            return True
        if brief is None or not self.fits(brief, at):
            return False
        length, found = self.equal(at, brief), brief
        later = self.held_long(self.next)[0]
        if later is not None and self.fits(later, self.next):
            measured = self.equal(self.next, later)
            if not self.by_length:
                place = self.unit - self.held + self.next - later
                measured = 4 + self.equal(self.next + 4, place + 4) if place >= 0 else 0
            if measured > length:
                at, found = self.next, later
        self.plan(at, found, self.equal(at, found))
        return True

    def find_farther(
        self, at: int, newer: int | None, older: int | None, brief: int | None
    ) -> bool:
        found = None
        if newer is not None and self.usable(newer, at):
            found = newer if self.fits(newer, at) else None
            if (
                older is not None
                and self.fits(older, at)
                and (found is None or self.equal(at, older, 258) > self.equal(at, found, 258))
            ):
                found = older
        if found is not None:
            self.enter(self.next)
            self.farther(at, found)
            return True
        if brief is None or not self.fits(brief, at):
            return False
        start, found, best = at, brief, self.equal(at, brief, 258)
        one, other = self.held_long(self.next)
        self.enter(self.next)
        same = start + 1 - self.distance
        again = self.level == 6 and same >= self.oldest
        again = again and self.data[same : same + 4] == self.data[start + 1 : start + 5]
        if again and self.equal(start + 1, same, 258) > best:
            self.farther(start + 1, same)
            return True
        if one is not None and self.usable(one, self.next):
            for held in (one, other):
                if held is None or not self.fits(held, self.next):
                    continue
                length = self.equal(self.next, held, 258)
                if length > best:
                    at, found, best = self.next, held, length
                    if self.level == 5:
                        break
        self.farther(at, found)
        return True

    def farther(self, start: int, found: int) -> None:
        at, length = start, self.equal(start, found)
        end = start + length
        if end < self.end - 11 and (self.level == 6 or length < 30):
            newer, older = self.held_long(end)
            tried = [newer]
            if self.level == 6 and newer is not None and self.oldest <= newer:
                tried += [older] if end - newer <= WINDOW - 1 else []
            for held in tried:
                if held is None or not self.usable(held, start + length):
                    continue
                source = held - length + 2
                if source >= self.oldest and self.equal(start + 2, source) > length:
                    at, found, length = start + 2, source, self.equal(start + 2, source)
        self.plan(at, found, length)

    def behind(self, at: int, length: int, distance: int) -> None:
        self.emitted = self.bound = at
        self.distance = distance
        self.match = None
        source = at - distance
        at = max(at, self.next + 1) if self.next >= at else at
        level, string = self.level, self.string
        if at >= self.end - 11:
            if level <= 2 and at + length + 8 < self.end:
                self.enter(at)
            if level == 3 and self.oldest < source and source + 8 < self.end and distance >= 1:
                self.enter(source)
            if level == 4 and at + 8 < self.end:
                self.enter(at)
            for within in range(self.next + 1, self.end - 8, 2) if level == 6 else ():
                self.enter(within)
            return
        if level == 2:
            for within in range(at - length + 2, at - 5, 7):
                for shift in (0, 2, 4):
                    self.enter_one(string(within) >> 8 * shift, within + shift)
        if level == 3:
            for within in range(at - length + 2, at - 5, 6):
                self.enter(within)
        if level <= 3:
            for within in range(at - 2, at - (level == 1)):
                self.enter(within)
            if level == 3:
                newer, older = self.held_long(at)
            else:
                newer, older = self.short.get(self.five(string(at))), None
            self.enter(at)
            reach = 32763 if level == 3 else WINDOW
            for held in (newer, older) if self.usable(newer, at, reach) else ():
                if held is not None and self.fits(held, at, reach):
                    self.plan(at, held, self.equal(at, held))
                    return
            self.next, self.second = at + 1, False
            self.look()
            return
        if level == 4:
            for within in range(self.next, at - 1, 3):
                self.enter_long(string(within), within)
                self.enter_long(string(within + 1), within + 1)
                self.enter_short(string(within + 1), within + 1)
        first = at - length + 1
        if level == 5 and first + 1 < at:
            self.enter(first)
            self.enter_long(string(first + 1), first + 1)
            self.enter_short(string(first + 2), first + 2)
            for within in range(first + 4, at - 1, 3):
                self.enter_long(string(within), within)
                self.enter_short(string(within + 1), within + 1)
        if level == 6:
            for within in range(self.next + 1, at - 1, 2):
                self.enter_short(string(within), within)
                self.enter_long(string(within), within)
                self.enter_long(string(within + 1), within + 1)
        else:
            self.enter(at - 1)
        self.next = at
        self.look()


# Headers


def header_of(
    unit: list[Token], plain: bytes, rule: int, flags: int, flushed: bool
) -> tuple[Header, int]:
    """Return header and type that are predicted for a block that begins with this unit."""
    literals, distances, extra, at = [0] * 286, [0] * 30, 0, 0
    for length, distance in unit:
        if distance:
            long, far = symbol(length, LENGTH_BASE), symbol(distance, DISTANCE_BASE)
            literals[257 + long] += 1
            distances[far] += 1
            extra += LENGTH_EXTRA[long] + DISTANCE_EXTRA[far]
        else:
            literals[plain[at]] += 1
        at += length
    literals[256] = 1
    matches = sum(literals[257:])
    queues = bool(flags & QUEUES)
    in_units = rule <= 35
    many, far = max(at + 1 for at in range(286) if literals[at]), 30
    if flags & FILLED and not flushed and not (in_units and not matches):
        many = 286
    else:
        if not matches:
            distances[0] = 1
        far = max(at + 1 for at in range(30) if distances[at])
    header = Header(
        code_lengths(literals, 15, queues)[:many], code_lengths(distances, 15, queues)[:far], queues
    )

    def size(of: list[int], counts: list[int]) -> int:
        return sum(length * count for length, count in zip(of, counts, strict=False))

    count = len(plain)
    stored = 8 * (count + 5) if count <= 65535 else 1 << 60
    if in_units and not matches:
        spread = sum((256 * it - count) ** 2 for it in literals[:256])
        bits = size(header.literals, literals) + 560
        if count <= (12 if queues else 32) or (1024 < count <= 65535 and spread < 131072 * count):
            return header, STORED
        return header, STORED if stored <= bits + bits // 128 else DYNAMIC
    dynamic = header.bits() + extra
    dynamic += size(header.literals, literals) + size(header.distances, distances)
    fixed = 3 + extra + size(FIXED_LENGTHS, literals) + 5 * sum(distances)
    if len(unit) + flushed < 250 and fixed <= dynamic:
        return header, STORED if stored <= fixed else FIXED
    return header, STORED if stored <= dynamic else DYNAMIC


# Rebuilding


def rebuild(
    plain: bytes, window: bytes, position: int, recipe: bytes, bit: int
) -> tuple[bytes, int]:
    """Return a segment's bytes, and the bit it ends at."""
    head = Numbers(recipe)
    rule, flags, limit, flushes = head.byte(), head.byte(), head.number(), head.number()
    need(29 <= rule <= 38, "klauspost's rules only")
    need(not flags & (TRUNCATES | GO_TREES | 128), "no such flags")
    need(not (flags & PRIMED and flags & FAR), "PRIMED with FAR")
    need(not (flags & FILLED and flags & QUEUES), "FILLED with QUEUES")
    sizes = head.number(), head.number()
    points, blocks = head.take(sizes[0]), GivenBlocks(head.take(sizes[1]), COUNT | TYPE | BYTES)
    tokens = Corrections(head.take(len(recipe) - head.at))
    data = window + plain
    kind = Units if rule <= 35 else Lazy
    model = kind(data, len(data), position - len(window), rule, flags)
    model.start(len(window))
    out = Bits(bit)
    at = len(window)
    while True:
        coded = points.number() if flushes else points.byte()
        code, end = (coded & 3, at + (coded >> 2)) if flushes else (coded, len(data))
        last = bool(flags & LAST) and not flushes
        model.sees = end
        while at < end:
            given = blocks.next()
            if given.flags & BYTES:
                final = last and at + given.stored == end and code == 2
                out.stored(data[at : at + given.stored], final)
                at += given.stored
                model.start(at)
                continue
            start, made, unit = at, [], 0
            while at < end:
                predicted = model.predict(at)
                actual = tokens.token(predicted)
                made.append(actual)
                model.accept(at, predicted, actual)
                at += actual[0]
                ends = at - start == UNIT if rule <= 35 else len(made) == limit
                if not unit and (at - start >= UNIT if rule <= 35 else ends):
                    unit = len(made)
                if len(made) == given.tokens if given.tokens else ends:
                    break
            unit = unit or len(made)
            size = sum(token[0] for token in made[:unit])
            flushed = start + size == end and (flushes > 0 or bool(flags & LAST))
            header, type_ = header_of(made[:unit], data[start : start + size], rule, flags, flushed)
            type_ = given.type if given.flags & TYPE else type_
            final = last and at == end and code == 2
            write_block(out, final, type_, header, made, data[:at], start)
        write_empty_blocks(out, points, code, last)
        if not flushes:
            break
        flushes -= 1
        if flags & PRIMED:
            model.start(at)
    need(points.empty and blocks.empty and tokens.empty, "something is left over")
    return out.value.to_bytes((out.count + 7) // 8, "little"), out.count
