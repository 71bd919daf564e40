"""Bzip2 streams in a stream of bytes: decompressed, and compressed again ahead of their use.

The calling thread finds blocks and decompresses as many as may be in flight. `Workers` compress
them again, which takes longer, and compare. A block that does not come back ends the stream: what
another encoder wrote stays content of the source. The result never depends on how fast anything
was.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from packer.engine import bzip2
from packer.opening.closed import DAMAGED, ENCODER, LIMIT
from packer.opening.lookahead import Source
from packer.opening.workers import IN_FLIGHT_BYTES, Budget

MIN_PLAIN_BYTES = 512
"""Least plaintext of a stream that is opened, in bytes: a recipe of less would not pay."""

_RECORD_BYTES = 16
"""Greatest length in bytes of a block's record, of the stream's level and of its end."""
_TRAILER_BYTES = 11
"""Bytes that hold a stream's trailer wherever it begins in the first of them."""


@dataclass(slots=True)
class _Part:
    """A block that is being verified.

    Args:
        plain: its plaintext.
        start: position in the source at which the part begins: of the header, for the first.
        end: position behind the part's last whole byte: behind the trailer, if it is complete.
        is_complete: whether the stream's trailer follows the block and can be rebuilt.
        wait: waits for the result: whether the block comes back.
    """

    plain: memoryview
    start: int
    end: int
    is_complete: bool
    wait: Callable[[], bool]


class Bzip2Stream:
    """A bzip2 stream, block by block; its plaintext fills another source.

    It ends before the first block that does not come back: the bytes from there on are content of
    its source.

    Args:
        budget: limits of the file.
        source: holds the stream.
        start: position in the source at which the stream's header begins.
        level: that the header states.
    """

    def __init__(self, budget: Budget, source: Source, start: int, level: int) -> None:
        self._budget = budget
        self._source = source
        self.start = start
        self._level = level
        self._next = start + bzip2.HEADER_BYTES  # position of the byte to find the next block in
        self._bit = 0
        self._end = start
        self._trailer = bzip2.Trailer()
        self._last = False  # whether all blocks are decompressed
        self._parts: deque[_Part] = deque()
        self._current: _Part | None = None
        self._number = -1
        self._plain = memoryview(b"")

    @property
    def end(self) -> int:
        """Position in the source behind the block decompressed last."""
        return self._end

    @property
    def complete(self) -> bool:
        """Whether the whole stream has been decompressed."""
        return self._last

    @property
    def cut(self) -> str:
        """Why it ends before its trailer, for a stream that was read; "" if it does not."""
        if self._current is None or self._current.is_complete:
            return ""
        return LIMIT if self._budget.ended else ENCODER if self._parts else DAMAGED

    def begin(self) -> bool:
        """Decompress the first block; return whether there is a stream that may pay."""
        if self._inflate():
            return True
        if self._end == self.start:
            # Counted as the plaintext that a block may have: finding its end takes time.
            self._budget.try_out(bzip2.most_coded(self._level))
        return False

    def ready(self) -> bool:
        """Wait until the next block is verified; to be called once before the block is used.

        Returns:
            False if there is none, it does not come back, or the budget is used up.
        """
        if not self._parts or self._budget.ended:
            return False
        part = self._parts[0]
        return part.wait() and self._budget.open(
            len(part.plain), part.end - part.start, _RECORD_BYTES, begins=self._number < 0
        )

    @property
    def whole(self) -> memoryview | None:
        """The plaintext, if the stream is one block; valid until the stream is closed."""
        return self._parts[0].plain if self._last and len(self._parts) == 1 else None

    def use(self) -> None:
        """Record the first block, which is ready; the stream begins at the source's next byte."""
        self._number = self._budget.recipe.bzip2(self._level)
        self._accept()

    def open(self) -> Source:
        """Record the first block, as `use` does; return the plaintext."""
        self.use()
        return Source(self._fill, bytearray(len(self._plain) + 1))

    def close(self) -> None:
        """Release all memory; blocks that were not used stay content of the source."""
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
        self._budget.workers.in_flight -= len(part.plain)

    def _inflate(self) -> bool:
        """Decompress one more block and begin to verify it; return whether there is one."""
        if self._last:
            return False
        source, level = self._source, self._level
        at = self._next - source.position
        have = min(source.ahead(at + bzip2.most_coded(level)) - at, bzip2.most_coded(level))
        data = bytes(source.view(at, at + have))
        plain = b""
        behind = bzip2.find_magic(data, self._bit + 1)
        if behind is not None:
            try:
                block = bzip2.block_of(data, self._bit, behind.bit)
                plain = bzip2.inflate(block, level)
            except bzip2.NotBzip2:
                behind = None
        if behind is None or not plain or not self._budget.try_out(len(plain)):
            self._last = True
            return False
        start = self._end
        self._end = self._next + (behind.bit >> 3)
        self._trailer.add(block.crc)
        is_complete = False
        if behind.is_end:
            self._last = True
            joiner = bzip2.Joiner()
            bit = behind.bit & 7
            joiner.add(bzip2.Block(data[behind.bit >> 3] >> 8 - bit, bit, 0))
            trailer = joiner.add(self._trailer.block()) + joiner.finish()
            if data[behind.bit >> 3 : (behind.bit >> 3) + _TRAILER_BYTES].startswith(trailer):
                is_complete = True
                self._end += len(trailer)
            if start == self.start and len(plain) < MIN_PLAIN_BYTES:
                return False  # an archive may hold a hundred thousand such streams
        self._next, self._bit = self._next + (behind.bit >> 3), behind.bit & 7
        workers = self._budget.workers
        workers.in_flight += len(plain)
        wait = workers.run(lambda: bzip2.comes_back(block, plain, level))
        self._parts.append(_Part(memoryview(plain), start, self._end, is_complete, wait))
        return True

    def _accept(self) -> None:
        """Record the next block in the recipe, and let its plaintext be read."""
        if self._current is not None:
            self._release(self._current)
        part = self._current = self._parts.popleft()
        budget = self._budget
        self._plain = part.plain
        budget.recipe.number(self._number, len(part.plain))
        if part.is_complete:
            budget.recipe.number(self._number, 0)
        self._source.skip(part.end - self._source.position)
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
