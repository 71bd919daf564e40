"""Deflate streams in a stream of bytes: found, inflated, and analysed ahead of their use.

Inflating is quick and goes in order. Analysing is slow, and parts of streams are independent of one
another. So the calling thread finds and inflates as many parts as may be in flight, and `Workers`
analyses them. The result never depends on how fast anything was.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from packer.engine.deflate import (
    MAX_SEGMENT_INPUT,
    WINDOW_BYTES,
    Inflated,
    NotDeflate,
    Segment,
    most_coded,
)
from packer.opening.closed import DAMAGED, ENCODER, LIMIT
from packer.opening.lookahead import Source
from packer.opening.recipe_cache import key_of
from packer.opening.workers import IN_FLIGHT_BYTES, Budget

MIN_PLAIN_BYTES = 512
"""Least plaintext of a stream that is opened, in bytes: a recipe of less would not pay."""

_INPUT_BYTES = 1 << 20
"""Compressed bytes given to the inflater at first; doubled where a part is longer."""
_RECORD_BYTES = 16
"""Greatest length in bytes of a part's record in the recipe, without the part's own recipe."""
_TRIAL_BYTES = 64 << 10
"""Plaintext in bytes that a signature without a stream counts as inflated in vain."""


@dataclass(slots=True)
class _Part:
    """Some blocks of a stream, being analysed.

    Args:
        segment: holds them.
        inflated: their extent.
        bit: where in its first byte the part begins.
        start: position of that byte in the source.
        end: position behind the part's last whole byte.
        wait: waits for the recipe and returns it; None if the part cannot be opened.
    """

    segment: Segment
    inflated: Inflated
    bit: int
    start: int
    end: int
    wait: Callable[[], bytes | None]


class DeflateStream:
    """A deflate stream, part by part; its plaintext fills another source.

    It ends before the first part that has no recipe: the bytes from there on are content of its
    source.

    Args:
        budget: limits of the file.
        source: holds the stream.
        start: position in the source at which the stream begins.
    """

    def __init__(self, budget: Budget, source: Source, start: int) -> None:
        self._budget = budget
        self._source = source
        self.start = start
        self._next = start  # position of the byte to inflate next
        self._bit = 0
        self._window = b""
        self._position = 0
        self._carry = b""
        self._input = _INPUT_BYTES
        self._last = False  # whether all parts are inflated
        self._parts: deque[_Part] = deque()
        self._guess = budget.guess
        self._current: _Part | None = None
        self._number = -1
        self._plain = memoryview(b"")

    @property
    def end(self) -> int:
        """Position in the source behind the part inflated last."""
        return self._next

    @property
    def complete(self) -> bool:
        """Whether the whole stream has been inflated."""
        return self._last

    @property
    def cut(self) -> str:
        """Why it ends before its last block, for a stream that was read; "" if it does not."""
        if self._current is None or self._current.inflated.last:
            return ""
        return LIMIT if self._budget.ended else ENCODER if self._parts else DAMAGED

    def begin(self) -> bool:
        """Inflate the first part; return whether there is a stream that may pay."""
        if self._inflate():
            return True
        if self._next == self.start:
            self._budget.try_out(_TRIAL_BYTES)
        return False

    def ready(self) -> bool:
        """Wait for the next part's recipe; to be called once before the part is used.

        Returns:
            False if there is none, it has no recipe, or the budget is used up.
        """
        if not self._parts or self._budget.ended:
            return False
        part = self._parts[0]
        recipe = part.wait()
        return recipe is not None and self._budget.open(
            part.inflated.plain_length,
            part.end - part.start,
            len(recipe) + _RECORD_BYTES,
            begins=self._number < 0,
        )

    @property
    def whole(self) -> memoryview | None:
        """The plaintext, if the stream is one part; valid until the stream is closed."""
        return self._parts[0].segment.plain if self._last and len(self._parts) == 1 else None

    def use(self) -> None:
        """Record the first part, which is ready and begins at the source's next byte."""
        self._number = self._budget.recipe.deflate()
        self._accept()

    def open(self) -> Source:
        """Record the first part, as `use` does; return the plaintext."""
        self.use()
        return Source(self._fill, bytearray(len(self._plain) + 1))

    def close(self) -> None:
        """Release all memory; parts that were not used stay content of the source."""
        for part in self._parts:
            part.wait()
            self._release(part)
        self._parts.clear()
        if self._current is not None:
            self._release(self._current)
            self._current = None
        self._plain = memoryview(b"")
        self._last = True

    def _release(self, part: _Part) -> None:
        workers = self._budget.workers
        workers.in_flight -= part.inflated.plain_length
        workers.give(part.segment, part.inflated.plain_length)

    def _inflate(self) -> bool:
        """Inflate one more part and begin to analyse it; return whether there is one."""
        if self._last:
            return False
        budget, source = self._budget, self._source
        segment = budget.workers.take()
        start = self._next - source.position
        wanted = self._input
        got = None
        while got is None:
            have = source.ahead(start + wanted) - start
            view = source.view(start, start + min(have, wanted))
            try:
                got = segment.inflate(
                    view, self._bit, self._window, self._position, carry=self._carry
                )
            except NotDeflate:
                break
            if got is None:
                if have < wanted or wanted >= MAX_SEGMENT_INPUT:
                    break
                wanted = self._input = min(2 * wanted, MAX_SEGMENT_INPUT)
        if (
            got is None
            or got.end_bit + 7 >> 3 > most_coded(got.plain_length)
            or not budget.try_out(got.plain_length)
        ):
            budget.workers.give(segment, 0)
            self._last = True
            return False
        end = self._next + (got.end_bit >> 3)
        if got.last and not self._position and got.plain_length < MIN_PLAIN_BYTES:
            # Too short to pay. An archive may hold a hundred thousand such streams.
            budget.workers.give(segment, got.plain_length)
            self._next, self._last = end, True
            return False
        budget.workers.in_flight += got.plain_length
        key = key_of(
            view[: got.end_bit + 7 >> 3],
            self._bit,
            got.end_bit,
            self._window,
            self._position,
            self._carry,
        )
        wait = budget.workers.analyse(segment, key, self._guess)
        self._parts.append(_Part(segment, got, self._bit, self._next, end, wait))
        self._next, self._bit, self._last = end, got.end_bit & 7, got.last
        self._carry = got.carry
        self._window = (self._window + bytes(segment.plain[-WINDOW_BYTES:]))[-WINDOW_BYTES:]
        self._position += got.plain_length
        return True

    def _accept(self) -> None:
        """Record the next part in the recipe, and let its plaintext be read."""
        if self._current is not None:
            self._release(self._current)
        part = self._current = self._parts.popleft()
        recipe = part.wait()
        assert recipe is not None
        budget = self._budget
        self._plain = part.segment.plain
        budget.recipe.segment(self._number, len(self._plain), part.bit, recipe)
        self._source.skip(part.end - self._source.position)
        self._guess = budget.guess = recipe[0]
        while not self._parts or budget.workers.in_flight < IN_FLIGHT_BYTES:
            if not self._inflate():
                break

    def _fill(self, out: memoryview) -> int:
        """Write the next plaintext to a buffer, as `Source` asks."""
        if not self._plain:
            if not self.ready():
                return 0
            self._accept()
        count = min(len(out), len(self._plain))
        out[:count] = self._plain[:count]
        self._plain = self._plain[count:]
        return count
