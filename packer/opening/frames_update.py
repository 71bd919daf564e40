"""Zstd streams of text: those of an older file, and the segments of new ones made from them.

Where old text and new text agree, their encoder decided alike. So the segments of a new stream
become recipes from old sequences, as those of deflate become recipes from tokens (`updating`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from functools import partial

from packer.engine.tokens import MAX_SPAN_BYTES, Span
from packer.engine.zstd_streams import (
    MAX_BEFORE_BYTES,
    BeyondLimits,
    NotZstd,
    OldSequences,
    RecipeError,
    Segment,
)
from packer.engine.zstd_streams import Span as ZstdSpan
from packer.errors import FormatError
from packer.files.spool import Memory, Pile
from packer.opening.closed import DAMAGED, LIMIT, TEXT
from packer.opening.found_stream import FoundStream, Holder, Read
from packer.opening.locating import Fingerprints, Place, Votes
from packer.opening.parsed_stream import ParsedStream, Parsing, parsed
from packer.opening.predecessor import ZSTD
from packer.opening.shelf import Shelf
from packer.opening.update_plan import FramesRecipe
from packer.opening.workers import IN_FLIGHT_BYTES, Workers
from packer.opening.zstd_frames import Frames

MAX_SHARE = 0.8
"""Share of a closed stream, of any kind, that its recipes and deltas may take; above it, the stream
stays closed."""
_LARGE_SHARE = 1 / 8
"""Share of a segment that a recipe from old sequences may take without one being tried that needs
nothing but the plaintext."""
_SPARE_BYTES = 64 << 10
"""Bytes that recipes may take beyond that share before all of them are there."""
_SPARE_RECIPE = 4 << 10
"""Bytes that a recipe may have more than its segment: the last one of a stream may be short."""


class OldFrames(ParsedStream):
    """A zstd stream of a predecessor, which is there once `measure` has ended.

    Args:
        read: reads the predecessor.
        size: of that in bytes.
        run: the frames.
        number: of the stream among those of the predecessor.
        most: greatest size of its plaintext.
        parsing: shared with other streams.
    """

    parent: Holder | None = None
    depth = 1
    kind = ZSTD

    def __init__(
        self, read: Read, size: int, run: Frames, number: int, most: int, parsing: Parsing
    ) -> None:
        what = f"zstd stream at {run.start}"
        super().__init__(read, size, run.start, most, what, Memory(0), parsing)
        self.number = number
        self.children: list[FoundStream] = []

    @property
    def reached(self) -> int:
        """Bytes of the plaintext that were read so far."""
        return self._plain.size

    def measure(self) -> Generator[tuple[int, memoryview], None, None]:
        """Read it to its end.

        Yields:
            The position of each segment, and its plaintext, valid until the next is asked for.

        Raises:
            FormatError: it is no stream, or has more plaintext.
        """
        try:
            spare: list[Segment] = []
            segments = parsed(self._read, self.offset, self._end, is_whole=False, spare=spare)
            for segment in segments:
                yield self._plain.size, segment.plain
                self._add(segment)
                spare.append(segment)
        except NotZstd:
            raise FormatError(self._what, "it is no zstd stream") from None
        if not self._plain.size:
            raise FormatError(self._what, "it is empty")
        self.size = self._plain.size
        self._is_there = True


class FoundFrames:
    """A zstd stream of a new file; its plaintext is there as far as it was parsed.

    Args:
        run: the frames.
        number: among the streams of the file.
        guess: the old stream that it probably was.
        spool: takes the plaintext; no other stream adds to it before this one has ended.
    """

    parent: Holder | None = None
    depth = 1

    def __init__(self, run: Frames, number: int, guess: int, spool: Pile) -> None:
        self.run = run
        self.number = number
        self.guess = guess
        self.offset = run.start
        self.whole_bytes = self.closed_bytes = run.end - run.start
        self.size = 0
        self.children: list[FoundStream] = []
        self.recipes: list[FramesRecipe] = []
        """Of its segments, if all were made."""
        self._spool = spool
        self._start = spool.size

    def add(self, plain: memoryview) -> None:
        """Append plaintext."""
        self._spool.add(plain)
        self.size += len(plain)

    def read(self, start: int, length: int) -> bytes:
        """Return `length` bytes of the plaintext from `start` on."""
        return self._spool.read(self._start + start, length)

    def read_into(self, start: int, out: memoryview) -> None:
        """Fill `out` with the plaintext from `start` on."""
        self._spool.read_into(self._start + start, out)

    def forget(self) -> None:
        """Give back the room that its plaintext takes: it stays closed."""
        self._spool.truncate(self._start)


class StaysClosed(Exception):
    """A zstd stream cannot be read, or its recipes are too long.

    Args:
        reason: as in `opening.closed`.
    """

    def __init__(self, reason: str = TEXT) -> None:
        super().__init__(reason)
        self.reason = reason


class FramesOpening:
    """Makes the recipes of a stream's segments.

    Args:
        stream: the stream.
        read: reads the file that holds it.
        votes: takes the places of its text in the old streams.
        prints: of the old streams.
        locate: returns the place of a stretch of the stream in the predecessor.
        old: the predecessor's streams.
        workers: do the work.
        most: greatest size of its plaintext.
        shelf: keeps the recipes.
    """

    def __init__(
        self,
        stream: FoundFrames,
        read: Read,
        votes: Votes,
        prints: Fingerprints,
        locate: Callable[[int, int], Place],
        *,
        old: Callable[[int], object],
        workers: Workers,
        most: int,
        shelf: Shelf,
    ) -> None:
        self._shelf = shelf
        self._stream = stream
        self._read = read
        self._votes = votes
        self._prints = prints
        self._locate = locate
        self._old = old
        self._workers = workers
        self._most = most
        self._spans: list[OldSequences] = []
        self._spare: list[Segment] = []
        self._waiting: deque[tuple[Segment, Callable[[], FramesRecipe | None]]] = deque()
        self._in_flight = 0
        self._coded = self._cost = 0

    def texts(self) -> Generator[memoryview, None, None]:
        """Parse the stream, and make the recipes.

        Yields:
            The plaintext of each segment, valid until the next is asked for.

        Raises:
            StaysClosed: it does.
        """
        stream, run = self._stream, self._stream.run
        try:
            spare = self._spare
            for segment in parsed(self._read, run.start, run.end, is_whole=True, spare=spare):
                position = stream.size
                if position + segment.plain_length > self._most:
                    raise StaysClosed
                self._prints.find(position, segment.plain, self._votes)
                stream.add(segment.plain)
                yield segment.plain
                place = self._locate(position, stream.size)
                job = partial(self._recipe, segment, position, place)
                self._in_flight += segment.plain_length
                self._waiting.append((segment, self._workers.run(job)))
                while self._in_flight > IN_FLIGHT_BYTES:
                    self._settle()
            while self._waiting:
                self._settle()
        except BeyondLimits:
            raise StaysClosed(LIMIT) from None
        except NotZstd:
            raise StaysClosed(DAMAGED) from None
        finally:
            for _, wait in self._waiting:
                wait()
        if not stream.size:
            raise StaysClosed

    def _settle(self) -> None:
        """Wait for a recipe; raise `StaysClosed` unless they pay so far."""
        segment, wait = self._waiting.popleft()
        recipe = wait()
        self._in_flight -= segment.plain_length
        self._spare.append(segment)
        if recipe is None:
            raise StaysClosed
        self._stream.recipes.append(recipe._replace(recipe=self._shelf.keep(recipe.recipe)))
        self._coded += recipe.coded_bytes
        self._cost += len(recipe.recipe)
        if self._cost > MAX_SHARE * self._coded + _SPARE_BYTES:
            raise StaysClosed

    def _recipe(self, segment: Segment, position: int, place: Place) -> FramesRecipe | None:
        """Return the recipe of a segment; None if there is none."""
        old, made = self._old(place.stream), None
        if isinstance(old, OldFrames):
            made = self._from_old(segment, position, place, old)
        number, coded = place.stream if made is not None else -1, segment.coded_length
        if made is None or len(made) > _LARGE_SHARE * coded:
            alone = segment.analyse(coded + _SPARE_RECIPE if made is None else len(made) - 1)
            if alone is not None:
                made, number = alone, -1
        if made is None:
            return None
        return FramesRecipe(number, made, segment.plain_length, coded)

    def _from_old(
        self, segment: Segment, position: int, place: Place, old: OldFrames
    ) -> bytes | None:
        """Return the recipe of a segment from old sequences; None if there is none."""
        before = min(self._stream.run.window, MAX_BEFORE_BYTES)
        window = self._stream.read(max(position - before, 0), min(position, before))
        end = place.span.start + place.span.size
        start = max(place.span.start - before, end - MAX_SPAN_BYTES, 0)
        try:
            span = self._spans.pop()
        except IndexError:
            span = OldSequences(ZstdSpan(0, 0))
        try:
            old.fill(Span(start, end - start), span)
            return span.analyse(segment, window, segment.coded_length + _SPARE_RECIPE)[0]
        except (RecipeError, FormatError):
            return None
        finally:
            self._spans.append(span)
