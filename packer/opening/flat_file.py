"""A file whose zstd streams are taken for their plaintext, where that is compressed already.

A package of compressed layers, compressed by zstd once more, is raw blocks for the most part: a few
bytes tell how its frames are made. So its plaintext takes the place of the stream, at first sight
and later, and archives in it are found as in any file. The file as it is then, the *text* of the
file, is what is cut into chunks, opened against older texts, and kept as a predecessor.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from packer.engine.zstd_streams import NotZstd, Segment
from packer.files.spool import Pile
from packer.opening.closed import DAMAGED, LIMIT, TEXT, ClosedTally
from packer.opening.parsed_stream import parsed
from packer.opening.recipe import ZstdSegment
from packer.opening.workers import IN_FLIGHT_BYTES, Workers
from packer.opening.zstd_frames import Frames, Read, frame_runs

RECIPE_SHARE = 1 / 100
"""Share of a stream that its recipe may take; above it, the stream stays closed."""
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
        offset: of the first byte in the file; of a stream, in the spool.
        segments: of the stream; none for bytes of the file.
    """

    start: int
    end: int
    offset: int
    segments: Sequence[ZstdSegment]


class FlatFile:
    """The text of a file.

    Args:
        read: reads the file, from any thread.
        spool: holds the plaintexts; closed with this object.
        parts: of the text, in order, without gaps.
    """

    def __init__(self, read: Read, spool: Pile, parts: Sequence[FlatPart]) -> None:
        self._read = read
        self._spool = spool
        self.parts = parts
        self.size: int = parts[-1].end
        """Bytes of the text."""
        self._starts = [part.start for part in parts]
        self._position = 0

    def read(self, start: int, length: int) -> bytearray:
        """Return `length` bytes of the text from `start` on."""
        out = bytearray(length)
        with memoryview(out) as view:
            self._fill(start, view)
        return out

    def readinto(self, out: bytearray | memoryview) -> int:
        """Fill a buffer with the next bytes of the text; return their number, 0 at the end."""
        count = min(len(out), self.size - self._position)
        with memoryview(out) as view:
            self._fill(self._position, view[:count])
        self._position += count
        return count

    def rewind(self) -> None:
        """Let `readinto` begin at the start once more."""
        self._position = 0

    def close(self) -> None:
        """Remove the temporary file."""
        self._spool.close()

    def _fill(self, start: int, out: memoryview) -> None:
        at = bisect_right(self._starts, start) - 1
        while out:
            part = self.parts[at]
            count = min(part.end - start, len(out))
            offset = part.offset + start - part.start
            if part.segments:
                self._spool.read_into(offset, out[:count])
            else:
                out[:count] = self._read(offset, count)
            out = out[count:]
            start += count
            at += 1


def flattened(
    read: Read, size: int, workers: Workers, closed: ClosedTally, texts: list[Frames]
) -> FlatFile | None:
    """Return the text of a file.

    Args:
        read: reads the file, from any thread.
        size: of the file in bytes.
        workers: make and verify recipes.
        closed: gets the streams that stay closed.
        texts: gets those with the reason TEXT instead; places are in the text returned.

    Returns:
        The text; None if it is the file itself.
    """
    spool = Pile(workers.directory)
    parts: list[FlatPart] = []
    done = text = 0
    room = MAX_RECIPE_BYTES
    try:
        for run in frame_runs(read, size):
            reason = run.reason or (LIMIT if len(parts) >= MAX_PARTS else "")
            opened = _Opening(read, run, workers, spool, room)
            offset = spool.size
            if reason or (reason := opened.run()):
                spool.truncate(offset)
                if reason == TEXT:
                    texts.append(run.moved(text - done))
                else:
                    closed.add("zstd", reason, run.end - run.start)
                continue
            if run.start > done:
                parts.append(FlatPart(text, text + run.start - done, done, ()))
                text = parts[-1].end
            parts.append(FlatPart(text, text + spool.size - offset, offset, opened.segments))
            done, text = run.end, parts[-1].end
            room -= opened.recipe_bytes
    except BaseException:
        spool.close()
        raise
    if not parts:
        spool.close()
        return None
    if done < size:
        parts.append(FlatPart(text, text + size - done, done, ()))
    return FlatFile(read, spool, parts)


class _Opening:
    """Opens a run of frames.

    Args:
        read: reads the file.
        frames: the run.
        workers: make recipes.
        spool: takes the plaintext.
        room: greatest length of the recipe in bytes.
    """

    def __init__(
        self, read: Read, frames: Frames, workers: Workers, spool: Pile, room: int
    ) -> None:
        self._read = read
        self._frames = frames
        self._workers = workers
        self._spool = spool
        size = frames.end - frames.start
        self._room = min(int(RECIPE_SHARE * size), room)
        self.recipe_bytes = 0
        """Length of the recipe so far."""
        self._most_plain = MAX_RATIO * size
        self._waiting: deque[tuple[Segment, Callable[[], bytes | None]]] = deque()
        self._in_flight = 0
        self._spare: list[Segment] = []
        self.segments: list[ZstdSegment] = []
        """Those whose recipes are made."""

    def run(self) -> str:
        """Open it; return why that fails, "" if it does not."""
        try:
            return self._parse() or self._settle(0)
        except NotZstd:
            return DAMAGED
        finally:
            for _, wait in self._waiting:
                wait()

    def _parse(self) -> str:
        """Go through the frames."""
        plain = 0
        start, end, spare = self._frames.start, self._frames.end, self._spare
        for segment in parsed(self._read, start, end, is_whole=True, spare=spare):
            plain += segment.plain_length
            if plain > self._most_plain:
                return TEXT
            self._spool.add(segment.plain)
            self._in_flight += segment.plain_length
            run = partial(segment.analyse, max(self._room - self.recipe_bytes, 0))
            self._waiting.append((segment, self._workers.run(run)))
            if reason := self._settle(IN_FLIGHT_BYTES):
                return reason
        return "" if plain else DAMAGED

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
