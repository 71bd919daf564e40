"""The search of fast encoders: docs/format.md, "The search of fast encoders"."""

from __future__ import annotations

from collections.abc import Callable


class Search:
    """Finds literals and Offset_Value of sequences.

    Args:
        plain: of the segment.
    """

    def __init__(self, plain: bytes) -> None:
        self.plain = plain
        self.frame()

    def frame(self) -> None:
        """Begin the segment, or a frame of it."""
        self.longs: dict[int, int] = {}
        self.shorts: dict[int, int] = {}

    def block(self, at: int, end: int) -> None:
        self.end, self.steps, self.count = end, 4 * (end - at), 0
        self.again = self.behind = False
        self.back: list[tuple[dict[int, int], int, int | None, int]] = []

    def bytes_at(self, at: int, count: int) -> int:
        return int.from_bytes(self.plain[at : at + count], "little")

    def long(self, at: int) -> int:
        return (self.bytes_at(at, 8) * 0xCF1BBCDCB7A56463 & (1 << 64) - 1) >> 47

    def short(self, at: int) -> int:
        return (self.bytes_at(at, 5) * 889523592379 << 24 & (1 << 64) - 1) >> 49

    def enter(self, table: dict[int, int], key: int, place: int) -> None:
        self.back.append((table, key, table.get(key), place))
        table[key] = place

    def fits(self, one: int, other: int | None) -> bool:
        return other is not None and self.plain[one : one + 4] == self.plain[other : other + 4]

    def before(self, one: int, other: int, most: int) -> int:
        """Return how many bytes before two places are equal."""
        count = 0
        while (
            count < min(most, 1024) and self.plain[one - count - 1] == self.plain[other - count - 1]
        ):
            count += 1
        return count

    def find(self, at: int, repeats: list[int]) -> tuple[int, int] | None:
        """Return literals and Offset_Value of the sequence that begins at a place."""
        self.back, self.next = [], at
        last, other = repeats[0], repeats[1]
        if self.behind and at + 10 < self.end and other <= at and self.fits(at, at - other):
            return 0, 1
        while self.next + 10 < self.end and self.steps:
            place = self.next
            self.steps -= 1
            self.next += 1 + (place - at) // 128
            long, short = self.long(place), self.short(place)
            far, near = self.longs.get(long), self.shorts.get(short)
            self.enter(self.longs, long, place)
            self.enter(self.shorts, short, place)
            source = place + 1 - last
            if self.again and source >= 0 and self.fits(place + 1, source):
                earlier = self.before(source, place + 1, min(place - at, source))
                return place + 1 - at - earlier, 1
            if not self.fits(place, far):
                if not self.fits(place, near):
                    continue
                long, far = self.long(place + 1), self.longs.get(self.long(place + 1))
                self.enter(self.longs, long, place + 1)
                if self.fits(place + 1, far):
                    place += 1
                else:
                    far = near
            assert far is not None
            earlier = self.before(far, place, min(place - at, far))
            return place - at - earlier, place - far + 3
        return None

    def took(self, at: int, literals: int, length: int, value: int, *, found: bool) -> None:
        """Go on behind a sequence that begins at a place."""
        place = at + literals
        if not found:
            while self.back and self.back[-1][3] > place:
                table, key, was, _ = self.back.pop()
                if was is None:
                    del table[key]
                else:
                    table[key] = was
            while self.steps and self.next <= place and self.next + 10 < self.end:
                self.steps -= 1
                self.both(self.next)
                self.next += 1 + (self.next - at) // 128
        self.count += 1
        end = place + length
        if end + 10 >= self.end:
            return
        if value == 1:
            self.behind = self.behind and literals == 0
            if self.behind:
                self.both(place)
            return
        self.behind, self.again = self.again, self.count >= 3
        for entered in (place + 1, end - 2):
            self.longs[self.long(entered)] = entered
        for entered in (place + 2, end - 1):
            self.shorts[self.short(entered)] = entered

    def both(self, place: int) -> None:
        self.longs[self.long(place)] = self.shorts[self.short(place)] = place

    def raw(
        self,
        at: int,
        end: int,
        repeats: Callable[[], list[int]],
        resolve: Callable[[int, int], int],
    ) -> None:
        """Go through a raw block.

        Args:
            at: where it begins.
            end: behind it.
            repeats: returns the repeated offsets.
            resolve: makes an offset of Offset_Value and literals, and changes them.
        """
        self.block(at, end)
        while (found := self.find(at, repeats())) is not None:
            literals, value = found
            place = at + literals
            offset = resolve(value, literals)
            length = 0
            while (
                place + length < end
                and self.plain[place + length] == self.plain[place + length - offset]
            ):
                length += 1
            self.took(at, literals, length, value, found=True)
            at = place + length
