"""Deflate streams in a stream of bytes: found, inflated, analysed ahead of their use.

Inflating is quick and goes in order; analysing is slow, and parts of streams are independent of one
another. So the calling thread finds and inflates as much as may be in flight, and an executor
analyses. What comes out never depends on how fast anything was.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

from packer.engine.deflate import (
    MAX_SEGMENT_INPUT,
    WINDOW_BYTES,
    Inflated,
    NotDeflate,
    Segment,
    most_coded,
)
from packer.opening.expansion import most_opened, most_recipe
from packer.opening.lookahead import Source, find_signature
from packer.opening.recipe import MAX_STREAMS, RecipeWriter
from packer.opening.recipe_cache import RecipeCache, key_of

_T = TypeVar("_T")

LOOK_AHEAD = 1 << 20
"""Bytes of a stream that are looked at together."""
MIN_PLAIN_BYTES = 512
"""Streams with less plaintext are not opened."""
IN_FLIGHT_BYTES = min((os.cpu_count() or 1) + 2, 6) << 21
"""Plaintext in flight, above which nothing is begun that is not needed at once: a segment for each
processor and two more, which costs about four times as much memory."""
MAX_FOUND = 8
"""Streams found ahead."""
SIGNATURE_BYTES = 4
"""Length of the longest signature that is looked for."""

RESERVED_BYTES = 4 << 10
"""Of a recipe: for its first bytes, for a piece before a stream, and for ends of whatever is open.
`Budget.has_room` is asked before all else."""

_INPUT_BYTES = 1 << 20
_RECORD_BYTES = 16
"""Of the recipe, what a part takes beside its own."""
_TRIAL_BYTES = 64 << 10
_POOLED_BYTES = 512 << 10
_SHORT_BYTES = 2 << 10
"""Plaintext that is analysed at once: that takes 0.15 ms, to have another thread do it as long."""
_GZIP = 0x1F
"""First byte of a gzip member."""


class Workers:
    """Threads and memory for parts of streams; used by one thread at a time.

    Args:
        executor: analyses; None to do it in the calling thread.
        recipes: what need not be analysed again.
        directory: of temporary files, as `temporary_file` takes it.
    """

    def __init__(
        self,
        executor: Executor | None = None,
        recipes: RecipeCache | None = None,
        directory: bytes | None = None,
    ) -> None:
        self.directory = directory
        self._executor = executor
        self._recipes = recipes if recipes is not None else RecipeCache("")
        self._pool: list[Segment] = []
        self.in_flight = 0
        """Bytes of plaintext in parts that were not given back."""

    def take(self) -> Segment:
        """Return memory for a part."""
        return self._pool.pop() if self._pool else Segment()

    def give(self, segment: Segment, plain_bytes: int) -> None:
        """Take back what a part used."""
        if plain_bytes <= _POOLED_BYTES:
            self._pool.append(segment)

    def run(self, function: Callable[[], _T]) -> Callable[[], _T]:
        """Begin to call a function; return what waits for its result."""
        if self._executor is None:
            return function
        return self._executor.submit(function).result

    def analyse(self, segment: Segment, key: bytes, guess: int) -> Callable[[], bytes | None]:
        """Begin to analyse; return what waits for the recipe.

        Args:
            segment: a part that was inflated.
            key: of it.
            guess: as `Segment.analyse` takes it.
        """
        recipes = self._recipes
        with contextlib.suppress(KeyError):
            known = recipes[key]
            return lambda: known
        if self._executor is None or len(segment.plain) <= _SHORT_BYTES:
            recipe = segment.analyse(guess)
            recipes.put(key, recipe)
            return lambda: recipe
        future = self._executor.submit(segment.analyse, guess)

        def wait() -> bytes | None:
            recipe = future.result()
            recipes.put(key, recipe)
            return recipe

        return wait


class Budget:
    """What opening a file may still cost: what readers bound, and what is done in vain.

    Where any of it is used up, the rest of the file stays as it is. What the recipe gets is counted
    when it does, not when it is found: so nothing depends on how much is found ahead.

    Args:
        size: of the file in bytes.
        recipe: of the file.
        workers: threads and memory.
    """

    def __init__(self, size: int, recipe: RecipeWriter, workers: Workers) -> None:
        most = most_opened(size)
        self._plain = self._vain = most
        self._growth = most - size  # the content is the file, and what streams grow by
        self._most_recipe = most_recipe(size) - RESERVED_BYTES
        self.recipe = recipe
        self.workers = workers
        self.guess = -1
        """First byte of the last recipe that was used, -1 if there is none."""
        self.ended = False
        """Whether no more of deflate streams is opened."""

    def try_out(self, count: int) -> bool:
        """Take plaintext that may be inflated in vain; False if that is used up."""
        self._vain -= count
        self.ended = self.ended or self._vain < 0
        return not self.ended

    def open(self, plain_bytes: int, coded_bytes: int, recipe_bytes: int, *, begins: bool) -> bool:
        """Take a part of a deflate stream; False if it is too much, as is all that follows.

        Args:
            plain_bytes: its plaintext, which was tried out.
            coded_bytes: its own.
            recipe_bytes: its recipe's.
            begins: it is the stream's first.
        """
        self._vain += plain_bytes
        self._plain -= plain_bytes
        self._growth -= plain_bytes - coded_bytes
        self.ended = (
            self.ended
            or min(self._plain, self._growth) < 0
            or not self.has_room(recipe_bytes)
            or (begins and self.recipe.streams >= MAX_STREAMS)
        )
        return not self.ended

    def has_room(self, count: int) -> bool:
        """Tell whether the recipe may get so many bytes more."""
        return self.recipe.size + count <= self._most_recipe


class _Part:
    """Some blocks of a stream, being analysed.

    Args:
        segment: that holds them.
        inflated: what they are.
        bit: where in its first byte the part begins.
        start: where in the source it begins, in whole bytes.
        end: where it ends.
        wait: returns the recipe.
    """

    def __init__(
        self,
        segment: Segment,
        inflated: Inflated,
        bit: int,
        start: int,
        end: int,
        wait: Callable[[], bytes | None],
    ) -> None:
        self.segment = segment
        self.inflated = inflated
        self.bit = bit
        self.start = start
        self.end = end
        self.wait = wait


class DeflateStream:
    """A deflate stream, part by part; its plaintext fills another source.

    It ends where a part cannot be given back: from that byte on, it is content of its source.

    Args:
        budget: of the file.
        source: that holds it.
        start: where in the source it begins.
    """

    def __init__(self, budget: Budget, source: Source, start: int) -> None:
        self._budget = budget
        self._source = source
        self.start = start
        self._next = start  # of what is to be inflated
        self._bit = 0
        self._window = b""
        self._position = 0
        self._input = _INPUT_BYTES
        self._last = False  # nothing is left to inflate
        self._parts: deque[_Part] = deque()
        self._guess = budget.guess
        self._current: _Part | None = None
        self._number = -1
        self._plain = memoryview(b"")

    @property
    def end(self) -> int:
        """Where in the source the part inflated last ends."""
        return self._next

    @property
    def complete(self) -> bool:
        """Whether all of it has been inflated."""
        return self._last

    def begin(self) -> bool:
        """Inflate the first part; False if there is no stream that may pay."""
        if self._inflate():
            return True
        if self._next == self.start:
            self._budget.try_out(_TRIAL_BYTES)
        return False

    def ready(self) -> bool:
        """Wait for the next part; False if none can be given back, or no more may be opened.

        To be called once before each part is used.
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
        """The plaintext, if one part is all of it: valid until the stream is closed."""
        return self._parts[0].segment.plain if self._last and len(self._parts) == 1 else None

    def use(self) -> None:
        """Note the first part, which is ready and begins at the source's next byte."""
        self._number = self._budget.recipe.deflate()
        self._accept()

    def open(self) -> Source:
        """Note the first part, as `use`; return the plaintext."""
        self.use()
        return Source(self._fill, bytearray(len(self._plain) + 1))

    def close(self) -> None:
        """Give back all memory; what was not accepted stays content."""
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
        """Take one more part in flight; False if there is none."""
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
                got = segment.inflate(view, self._bit, self._window, self._position)
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
            # An archive may hold a hundred thousand of them: they are not analysed in vain.
            budget.workers.give(segment, got.plain_length)
            self._next, self._last = end, True
            return False
        budget.workers.in_flight += got.plain_length
        key = key_of(
            view[: got.end_bit + 7 >> 3], self._bit, got.end_bit, self._window, self._position
        )
        wait = budget.workers.analyse(segment, key, self._guess)
        self._parts.append(_Part(segment, got, self._bit, self._next, end, wait))
        self._next, self._bit, self._last = end, got.end_bit & 7, got.last
        self._window = (self._window + bytes(segment.plain[-WINDOW_BYTES:]))[-WINDOW_BYTES:]
        self._position += got.plain_length
        return True

    def _accept(self) -> None:
        """Note the next part, and let its plaintext be read."""
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
        """Write plaintext to a buffer, as `Source` asks."""
        if not self._plain:
            if not self.ready():
                return 0
            self._accept()
        count = min(len(out), len(self._plain))
        out[:count] = self._plain[:count]
        self._plain = self._plain[count:]
        return count


class Finder:
    """The deflate streams of gzip members and zip entries in a source, in order.

    Args:
        budget: of the file.
        source: to look at.
    """

    def __init__(self, budget: Budget, source: Source) -> None:
        self._budget = budget
        self._source = source
        self._searched = source.position
        self._found: deque[DeflateStream] = deque()

    def look(self, have: int) -> bool:
        """Begin what is found within bytes in hand; False if nothing is."""
        self._look(self._source.position + have)
        return bool(self._found)

    def next(self, have: int) -> DeflateStream | None:
        """Return the next stream that begins within bytes in hand and can be given back."""
        while True:
            self._look(self._source.position + have)
            if not self._found:
                return None
            stream = self._found.popleft()
            if stream.ready():
                return stream
            stream.close()

    def used(self, stream: DeflateStream) -> None:
        """Go on behind a stream that was returned and read."""
        stream.close()
        self._searched = max(self._searched, self._source.position)

    def _look(self, end: int) -> None:
        """Find streams ahead, as many as may be in flight."""
        found, workers, source = self._found, self._budget.workers, self._source
        while not self._budget.ended and (
            not found
            or (
                found[-1].complete
                and len(found) < MAX_FOUND
                and workers.in_flight < IN_FLIGHT_BYTES
            )
        ):
            begin, position = self._searched, source.position
            at = source.find_signature(max(begin - position, 0), end - position)
            if at < 0:
                # One may begin in the last bytes.
                self._searched = max(begin, end - SIGNATURE_BYTES + 1)
                return
            is_gzip = source.view(at, at + 1)[0] == _GZIP
            start = (_behind_gzip_header if is_gzip else _behind_zip_header)(source, at)
            self._searched = position + at + 1
            if not start:
                continue
            stream = DeflateStream(self._budget, source, source.position + start)
            if stream.begin():
                found.append(stream)
                self._searched = stream.end
            else:
                # What inflates is not searched for other streams, whether it pays or not.
                if stream.end > stream.start:
                    self._searched = stream.end
                stream.close()


def may_begin(data: memoryview) -> bool:
    """Tell whether a gzip member or a zip entry may begin within bytes."""
    return find_signature(data, 0, len(data)) >= 0


def _behind_gzip_header(source: Source, at: int) -> int:
    """Return where the deflate stream of a gzip member begins, 0 if it has none. RFC 1952."""
    have = source.ahead(at + 10)
    if have < at + 10:
        return 0
    flags = source.view(at + 3, at + 4)[0]
    end = at + 10
    if flags & 0xE0:
        return 0
    if flags & 4:
        if source.ahead(end + 2) < end + 2:
            return 0
        end += 2 + int.from_bytes(source.view(end, end + 2), "little")
    for flag in (8, 16):
        if flags & flag:
            have = min(source.ahead(end + 4096), end + 4096)
            zero = source.find(b"\0", end, have) if end < have else -1
            if zero < 0:
                return 0
            end = zero + 1
    if flags & 2:
        end += 2
    return end if source.ahead(end) >= end else 0


def _behind_zip_header(source: Source, at: int) -> int:
    """Return where the deflate stream of a zip entry begins, 0 if it has none.

    Source: APPNOTE.TXT of PKWARE, 4.3.7.
    """
    if source.ahead(at + 30) < at + 30:
        return 0
    head = bytes(source.view(at, at + 30))
    encrypted = head[6] & 1
    if encrypted or int.from_bytes(head[8:10], "little") != 8:
        return 0
    end = at + 30 + int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
    return end if source.ahead(end) >= end else 0
