"""Old zstd streams, and recipes from their sequences: docs/format.md, "From old sequences".

Reading a stream takes RFC 8878; its plaintext comes from a library. As `zstd_decoder`: slow, plain.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple

import zstandard

import tests.conformance.zstd_decoder as plain_reader
from tests.conformance.plain_zstd import (
    LENGTH_CODES,
    MATCH_CODES,
    PREDEFINED,
    PREDEFINED_LOGS,
    Cell,
    Sequence,
    cells_of,
    need,
    read_shares,
)

MAGIC = b"\x28\xb5\x2f\xfd"
MIB = 1 << 20
FARTHEST = 32 * MIB


class Match(NamedTuple):
    """A match: its place, and the Offset_Value if that is below 4, else 0."""

    at: int
    length: int
    offset: int
    value: int
    written: bool


class Frames:
    """A stream of frames: its matches and its plaintext."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self.matches: list[Match] = []
        self.size = 0
        self.plain = b""
        while self.data[self.at : self.at + 4] == MAGIC:
            start = self.at
            self.frame()
            frame = self.data[start : self.at]
            reader = zstandard.ZstdDecompressor(max_window_size=1 << 31)
            self.plain += reader.decompressobj().decompress(frame)
        need(self.at > 0 and len(self.plain) == self.size, "a zstd stream")
        need(all(match.offset <= FARTHEST for match in self.matches), "a match from too far back")

    def frame(self) -> None:
        flags = self.data[self.at + 4]
        single = flags >> 5 & 1
        need(not flags & 0x0B, "a frame header")
        self.at += 5 + (not single) + (single, 2, 4, 8)[flags >> 6]
        self.tables: list[tuple[list[Cell], int]] = [([], 0)] * 3
        self.repeats = [1, 4, 8]
        last = 0
        while not last:
            head = int.from_bytes(self.data[self.at : self.at + 3], "little")
            last, kind, size = head & 1, head >> 1 & 3, head >> 3
            self.at += 3
            if kind == 2:
                self.block(self.data[self.at : self.at + size])
            else:
                self.size += size
            self.at += 1 if kind == 1 else size
        self.at += 4 * (flags >> 2 & 1)

    def block(self, data: bytes) -> None:
        """Read a compressed block."""
        head, kind, form = int.from_bytes(data[:5], "little"), data[0] & 3, data[0] >> 2 & 3
        if kind < 2:
            length = {1: 2, 3: 3}.get(form, 1)
            literals = (head & (1 << 8 * length) - 1) >> (3 if length == 1 else 4)
            at = length + (1 if kind else literals)
        else:
            bits = (10, 10, 14, 18)[form]
            literals = head >> 4 & (1 << bits) - 1
            at = (4 + 2 * bits) // 8 + (head >> 4 + bits & (1 << bits) - 1)
        end, used = self.size + literals, 0
        for sequence in self.sequences(data[at:]):
            self.size += sequence.literals
            used += sequence.literals
            before, value = self.repeats, sequence.value
            offset = self.resolved(value, sequence.literals)
            written = value > 3 and offset in before
            self.matches.append(
                Match(self.size, sequence.length, offset, value if value < 4 else 0, written)
            )
            self.size += sequence.length
            end += sequence.length
        self.size = end

    def resolved(self, value: int, literals: int) -> int:
        repeats = self.repeats
        if value > 3:
            self.repeats = [value - 3, *repeats[:2]]
            return value - 3
        which = value - 1 + (literals == 0)
        offset = repeats[0] - 1 if which == 3 else repeats[which]
        if which:
            self.repeats = [offset, repeats[0], repeats[1] if which > 1 else repeats[2]]
        return offset

    def sequences(self, data: bytes) -> list[Sequence]:
        """Read the sequences section of a block."""
        count, at = data[0], 1
        if count == 255:
            count, at = int.from_bytes(data[1:3], "little") + 0x7F00, 3
        elif count >= 128:
            count, at = (count - 128 << 8) + data[1], 2
        if not count:
            return []
        modes, at = data[at], at + 1
        for table in range(3):
            mode = modes >> 6 - 2 * table & 3
            if mode == 0:
                log = PREDEFINED_LOGS[table]
                cells = cells_of(PREDEFINED[table], log)
                self.tables[table] = cells, log
            elif mode == 1:
                self.tables[table] = [Cell(data[at], 0, 0)], 0
                at += 1
            elif mode == 2:
                shares, log, length = read_shares(data[at : at + 132])
                self.tables[table] = cells_of(shares, log), log
                at += length
        coded = int.from_bytes(data[at:], "little")
        left = coded.bit_length() - 1

        def take(bits: int) -> int:
            nonlocal left
            left -= bits
            need(left >= 0, "bits of sequences")
            return coded >> left & (1 << bits) - 1

        states, out = [take(log) for _, log in self.tables], []
        for number in range(count):
            now = [self.tables[table][0][states[table]] for table in range(3)]
            value = (1 << now[1].symbol) + take(now[1].symbol)
            base, bits = MATCH_CODES[now[2].symbol]
            length = base + take(bits)
            base, bits = LENGTH_CODES[now[0].symbol]
            out.append(Sequence(base + take(bits), length, value))
            if number + 1 < count:
                for table in (0, 2, 1):
                    states[table] = now[table].base + take(now[table].bits)
        need(left == 0, "bits are left over")
        return out


class Reader(plain_reader.Reader):
    """Follows a recipe of kind 1."""

    def __init__(self, plain: bytes, recipe: bytes, start: int, size: int, old: Frames) -> None:
        super().__init__(plain, b"\0" + recipe)
        self.span = old.plain[start : start + size]
        self.old = [
            match._replace(at=match.at - start)
            for match in old.matches
            if start <= match.at and match.at + match.length <= start + size
        ]
        self.ends = [match.at + match.length for match in self.old]
        count = self.coder.number("shifts")
        need(count <= 65536, "number of shifts")
        self.shifts: list[tuple[int, int]] = []
        by = place = 0
        for number in range(count):
            gap = self.coder.number("gap")
            by += self.coder.signed("by")
            place = place + gap if number else -gap
            need(gap > 0 if number else gap <= 8 * MIB, "gap of a shift")
            need(place <= len(plain) and abs(by) <= 24 * MIB, "a shift")
            self.shifts.append((place, by))

    def predicted(self, at: int, left: int) -> plain_reader.Prediction | None:
        """Return what is predicted of the sequence that begins there."""
        first = max([n for n, shift in enumerate(self.shifts) if shift[0] <= at], default=0)
        place = at
        for number in range(first, min(first + 16, len(self.shifts))):
            by = self.shifts[number][1]
            last = number + 1 == len(self.shifts)
            end = len(self.plain) if last else self.shifts[number + 1][0]
            there = place - by
            if 0 <= there < len(self.span):
                which = bisect_right(self.ends, there)
                if which == len(self.old):
                    return None
                match = self.old[which]
                begin, length, kind = match.at, match.length, 4 if number > first else 0
                if begin < there:
                    begin, length, kind = there, length - (there - begin), 1
                if begin + by < end:
                    return self.made(match, begin, length, kind, (at, left, number))
            place = end
        return None

    def made(
        self, match: Match, begin: int, length: int, kind: int, where: tuple[int, int, int]
    ) -> plain_reader.Prediction | None:
        """Return the sequence that becomes of a match, which may have been cut."""
        at, left, number = where
        q = begin + self.shifts[number][1]
        left -= q - at
        if left < 3 or length < 3:
            return None
        offset = self.moved(begin - match.offset, q, number, match.offset)
        if offset != match.offset and kind == 0:
            kind = 2
        most = min(length, left)
        if offset <= q:
            equal = self.equal(q, q - offset, min(most, 1024))
            if equal < min(most, 1024):
                most = equal
            elif most <= 1024 and left > most and not self.was_longer(match):
                most += self.equal(q + most, q + most - offset, min(left - most, 1024))
        if most != length and kind == 0:
            kind = 3
        if most < 3:
            return None
        value = offset + 3
        for tried in () if match.written else (match.value, 1, 2, 3):
            before = self.repeats
            fits = tried > 0 and self.resolved(tried, q - at) == offset
            self.repeats = before
            if fits:
                value = tried
                break
        return plain_reader.Prediction(kind, Sequence(q - at, most, value))

    def moved(self, source: int, q: int, number: int, offset: int) -> int:
        """Return the offset, now that the source has moved."""
        end = q
        for at in range(number, max(number - 65, -1), -1):
            place, by = self.shifts[at]
            now = source + by
            if (now >= place or at == 0) and now < end and q - now < 1 << 31:
                return q - now
            end = place
        return offset

    def was_longer(self, match: Match) -> bool:
        """Return whether an old match could have been longer."""
        end = match.at + match.length
        return (
            end < len(self.span)
            and end >= match.offset
            and self.span[end] == self.span[end - match.offset]
        )

    def zone(self, at: int) -> int:
        if not self.shifts:
            return super().zone(at)
        shift = max(place for place, _ in self.shifts if place <= at)
        return sum(at - shift >= step for step in (256, 4096, 65536))


def segment(plain: bytes, recipe: bytes, old: Frames) -> bytes:
    """Return the bytes of a segment, given a recipe of kind 1 without the old stream's number."""
    start, at = number(recipe, 1)
    size, at = number(recipe, at)
    need(size <= 16 * MIB and start + size <= len(old.plain), "a span")
    return Reader(plain, recipe[at:], start, size, old).segment()


def number(data: bytes, at: int) -> tuple[int, int]:
    """Return the number at a place, and the place behind it."""
    value = shift = 0
    while True:
        need(at < len(data) and shift <= 56, "a number")
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 0x80:
            return value, at
