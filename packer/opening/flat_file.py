"""A file whose zstd streams are taken for their plaintext, where that is compressed already.

A package of compressed layers, compressed by zstd once more, is raw blocks for the most part: a few
bytes tell how its frames are made. So its plaintext takes the place of the stream, at first sight
and later, and archives in it are found as in any file. The file as it is then, the *text* of the
file, is what is cut into chunks, opened against older texts, and kept as a predecessor.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

from packer.engine.zstd_streams import BeyondLimits, NotZstd, Segment
from packer.files.spool import Pile
from packer.opening.closed import DAMAGED, LIMIT, TEXT, ClosedTally
from packer.opening.parsed_stream import parsed
from packer.opening.recipe import ZstdSegment
from packer.opening.workers import IN_FLIGHT_BYTES, Workers
from packer.opening.zstd_frames import Frames, Read, frame_runs

RECIPE_SHARE = 1 / 100
"""Share of a stream that its recipe may take; above it, the stream stays closed."""
AGAIN_SHARE = 1 / 20
"""The same where the older file has plaintext in place of its streams: closed, all would be new."""
MAX_RECIPE_BYTES = 64 << 20
"""Greatest length of the recipes of all streams of a file: they are in memory."""
MAX_RATIO = 4
"""A stream with more plaintext than MAX_RATIO times its size stays closed."""
MAX_PARTS = 1 << 12
"""Greatest number of streams in a file that are opened."""

_RECORD_BYTES = 16
"""Bytes of a segment's record beside its recipe, about."""


class FlatPart(NamedTuple):
    """A stretch of a text: the plaintext of a stream, or bytes of the file as they are.

    Args:
        start: first byte in the text.
        end: byte behind the last one.
        segments: of the stream; none for bytes of the file.
    """

    start: int
    end: int
    segments: Sequence[ZstdSegment]


class _Places:
    """Where the bytes of a text are: most of them in the file itself, in raw blocks."""

    def __init__(self) -> None:
        self.size = 0
        """Bytes of the text."""
        self._starts, self._offsets = array("Q"), array("q")

    def add(self, length: int, offset: int, *, in_file: bool) -> None:
        """Append bytes of the file, or of the spool.

        Args:
            length: their number.
            offset: of the first one.
            in_file: whether it is in the file.
        """
        shift = offset if in_file else ~offset
        if length:
            self._starts.append(self.size)
            self._offsets.append(shift)
            self.size += length

    def truncate(self, size: int) -> None:
        """Forget what was appended behind the first `size` bytes."""
        while self._starts and self._starts[-1] >= size:
            del self._starts[-1], self._offsets[-1]
        self.size = size

    def at(self, start: int) -> Iterator[tuple[int, int, bool]]:
        """Yield the stretches from a byte of the text on: length, offset, whether in the file."""
        first = bisect_right(self._starts, start) - 1
        for at in range(first, len(self._starts)):
            end = self._starts[at + 1] if at + 1 < len(self._starts) else self.size
            offset, skipped = self._offsets[at], start - self._starts[at]
            yield end - start, (offset if offset >= 0 else ~offset) + skipped, offset >= 0
            start = end


class FlatFile:
    """The text of a file.

    Args:
        read: reads the file, from any thread.
        spool: holds the plaintexts, but for raw blocks; closed with this object.
        parts: of the text, in order, without gaps.
        places: of its bytes.
    """

    def __init__(self, read: Read, spool: Pile, parts: Sequence[FlatPart], places: _Places) -> None:
        self._read = read
        self._spool = spool
        self.parts = parts
        self.size = places.size
        """Bytes of the text."""
        self._places = places
        self._position = 0

    def read(self, start: int, length: int) -> bytearray:
        """Return `length` bytes of the text from `start` on."""
        out = bytearray(length)
        self._fill(start, memoryview(out))
        return out

    def readinto(self, out: bytearray | memoryview) -> int:
        """Fill a buffer with the next bytes of the text; return their number, 0 at the end."""
        count = min(len(out), self.size - self._position)
        self._fill(self._position, memoryview(out)[:count])
        self._position += count
        return count

    def rewind(self) -> None:
        """Let `readinto` begin at the start once more."""
        self._position = 0

    def close(self) -> None:
        """Remove the temporary file."""
        self._spool.close()

    def _fill(self, start: int, out: memoryview) -> None:
        if not out:
            return
        for length, offset, in_file in self._places.at(start):
            count = min(length, len(out))
            if in_file:
                out[:count] = self._read(offset, count)
            else:
                self._spool.read_into(offset, out[:count])
            out = out[count:]
            if not out:
                break


def flattened(
    read: Read,
    size: int,
    workers: Workers,
    closed: ClosedTally,
    texts: list[Frames],
    *,
    again: bool = False,
) -> FlatFile | None:
    """Return the text of a file.

    Args:
        read: reads the file, from any thread.
        size: of the file in bytes.
        workers: make and verify recipes.
        closed: gets the streams that stay closed.
        texts: gets those with the reason TEXT instead; places are in the text returned.
        again: whether the older file has plaintext in place of its streams.

    Returns:
        The text; None if it is the file itself.
    """
    spool = Pile(workers.directory)
    parts: list[FlatPart] = []
    places, done = _Places(), 0
    room = MAX_RECIPE_BYTES
    try:
        for run in frame_runs(read, size):
            reason = "" if again and run.reason == TEXT else run.reason
            reason = reason or (LIMIT if len(parts) >= MAX_PARTS else "")
            text, spooled = places.size, spool.size
            start = text + run.start - done
            places.add(run.start - done, done, in_file=True)
            most = (AGAIN_SHARE if again else RECIPE_SHARE) * (run.end - run.start)
            opened = _Opening(read, run, workers, spool, places, min(int(most), room))
            if reason or (reason := opened.run()):
                spool.truncate(spooled)
                places.truncate(text)
                if reason == TEXT:
                    texts.append(run.moved(text - done))
                else:
                    closed.add("zstd", reason, run.end - run.start)
                continue
            if start > text:
                parts.append(FlatPart(text, start, ()))
            parts.append(FlatPart(start, places.size, opened.segments))
            done = run.end
            room -= opened.recipe_bytes
    except BaseException:
        spool.close()
        raise
    if not parts:
        spool.close()
        return None
    if done < size:
        parts.append(FlatPart(places.size, places.size + size - done, ()))
        places.add(size - done, done, in_file=True)
    return FlatFile(read, spool, parts, places)


class _Opening:
    """Opens a run of frames.

    Args:
        read: reads the file.
        frames: the run.
        workers: make recipes.
        spool: takes the plaintext, but for raw blocks.
        places: gets where it is.
        room: greatest length of the recipe in bytes.
    """

    def __init__(
        self,
        read: Read,
        frames: Frames,
        workers: Workers,
        spool: Pile,
        places: _Places,
        room: int,
    ) -> None:
        self._read = read
        self._frames = frames
        self._workers = workers
        self._spool = spool
        self._places = places
        self._room = room
        self.recipe_bytes = 0
        """Length of the recipe so far."""
        self._most_plain = MAX_RATIO * (frames.end - frames.start)
        self._waiting: deque[tuple[Segment, Callable[[], bytes | None]]] = deque()
        self._in_flight = 0
        self._spare: list[Segment] = []
        self.segments: list[ZstdSegment] = []
        """Those whose recipes are made."""

    def run(self) -> str:
        """Open it; return why that fails, "" if it does not."""
        try:
            return self._parse() or self._settle(0)
        except BeyondLimits:
            return LIMIT
        except NotZstd:
            return DAMAGED
        finally:
            for _, wait in self._waiting:
                wait()

    def _parse(self) -> str:
        """Go through the frames."""
        plain, at = 0, self._frames.start
        segments = parsed(self._read, at, self._frames.end, is_whole=True, spare=self._spare)
        for segment in segments:
            plain += segment.plain_length
            if plain > self._most_plain:
                return TEXT
            self._keep(segment, at)
            at += segment.coded_length
            self._in_flight += segment.plain_length
            run = partial(segment.analyse, max(self._room - self.recipe_bytes, 0))
            self._waiting.append((segment, self._workers.run(run)))
            if reason := self._settle(IN_FLIGHT_BYTES):
                return reason
        return "" if plain else DAMAGED

    def _keep(self, segment: Segment, start: int) -> None:
        """Keep the plaintext of a segment that begins at a byte of the file."""
        done, text = 0, segment.plain
        for plain, coded, length in (*segment.raw_blocks(), (len(text), 0, 0)):
            if plain > done:
                self._places.add(plain - done, self._spool.size, in_file=False)
                self._spool.add(text[done:plain])
            self._places.add(length, start + coded, in_file=True)
            done = plain + length

    def _settle(self, most: int) -> str:
        """Wait for recipes until no more than `most` plaintext is in flight."""
        while self._waiting and (self._in_flight > most or not most):
            segment, wait = self._waiting.popleft()
            recipe = wait()
            self._in_flight -= segment.plain_length
            if recipe is None:
                return TEXT
            self.recipe_bytes += len(recipe) + _RECORD_BYTES
            if self.recipe_bytes > self._room:
                return TEXT
            coded = segment.coded_length
            self.segments.append(ZstdSegment(segment.plain_length, coded, recipe))
            self._spare.append(segment)
        return ""
