"""Reads the texts of predecessors: any part, wherever it lies.

One that is stored closed lies in its chunks. One that was opened is what its recipe makes, in
memory or a temporary file; long stretches of its content stay where they are, in chunks as well.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from packer.engine.memory import writable
from packer.files.temporary import read_at, temporary_file, write_at
from packer.format.frame_reader import FrameReader
from packer.format.index import split_runs
from packer.opening.predecessor import Predecessor
from packer.opening.recipe import SPILL_BYTES

if TYPE_CHECKING:
    from packer.opening.equal_stretches import Chunk


class RunContent:
    """The bytes of some runs of chunks, with random access.

    Args:
        reader: of the version's frames.
        runs: first chunk and number of chunks of each.
    """

    def __init__(self, reader: FrameReader, runs: Iterable[tuple[int, int]]) -> None:
        self._reader = reader
        self._chunks = array("I")
        self._ends = array("Q")
        ends, size = reader.frames.end, 0
        for start, length in runs:
            self._chunks.extend(range(start, start + length))
            self._ends.extend(
                size + ends[at] - ends[start] for at in range(start + 1, start + length + 1)
            )
            size += ends[start + length] - ends[start]
        self.size = size

    def read(self, start: int, length: int) -> Iterator[memoryview]:
        """Yield the bytes ``[start, start + length)``, verified."""
        while length > 0:
            at, before = self.chunk_at(start)
            part = self.chunk(at)[start - before :][:length]
            yield part
            start, length = start + len(part), length - len(part)

    def chunk_at(self, position: int) -> tuple[int, int]:
        """Return the number of the chunk that holds a position, and the bytes before it."""
        at = bisect_right(self._ends, position)
        return at, self._ends[at - 1] if at else 0

    def chunk(self, at: int) -> memoryview:
        """Return a chunk."""
        return self._reader.chunks(self._chunks[at], 1)[0]

    def listed(self, start: int, end: int) -> Iterator[Chunk]:
        """Yield the chunks of a stretch; what it has of chunks beside it is none."""
        at, before = self.chunk_at(start)
        while start < end:
            behind = self._ends[at]
            is_whole = start == before and behind <= end
            digest = self._reader.index.chunk_digest(self._chunks[at]) if is_whole else b""
            yield min(behind, end) - start, digest
            at, before, start = at + 1, behind, min(behind, end)


class ClosedText:
    """A text that consists of chunks.

    Args:
        content: its bytes.
    """

    def __init__(self, content: RunContent) -> None:
        self._content = content
        self._last = -1, memoryview(b"")
        """The chunk that a read ended within: the next one often goes on there."""

    def read(self, start: int, length: int) -> memoryview:
        """Return a part of the text, verified."""
        out = writable(length)
        self.fill(out, start)
        return out

    def fill(self, out: memoryview, start: int) -> None:
        """Read a part of the text into memory."""
        done, end = 0, start + len(out)
        while done < len(out):
            at, before = self._content.chunk_at(start + done)
            last, chunk = self._last
            if last != at:
                chunk = self._content.chunk(at)
                if before + len(chunk) > end:
                    chunk = memoryview(bytes(chunk))  # a view keeps a whole frame alive
                    self._last = at, chunk
            part = chunk[start + done - before :][: len(out) - done]
            out[done : done + len(part)] = part
            done += len(part)

    def chunks(self) -> Iterator[Chunk]:
        """Yield what the text consists of."""
        return self._content.listed(0, self._content.size)


class HeldText:
    """A text in memory, or in a temporary file.

    Args:
        most: its greatest size in bytes.
        directory: of a temporary file, as `temporary_file` takes it.
    """

    def __init__(self, most: int, directory: bytes | None) -> None:
        self._file = temporary_file(directory) if most > SPILL_BYTES else None
        self._held = bytearray()
        self.size = 0

    def append(self, piece: bytes | memoryview) -> None:
        """Write the next bytes of the text."""
        if self._file is not None:
            write_at(self._file, piece, self.size)
        else:
            self._held += piece
        self.size += len(piece)

    def read(self, start: int, length: int) -> bytes | memoryview:
        """Return a part of the text."""
        if self._file is not None:
            return read_at(self._file, length, start)
        return memoryview(self._held)[start : start + length]

    def close(self) -> None:
        """Remove the temporary file."""
        if self._file is not None:
            self._file.close()


class OpenedText:
    """The text of a predecessor that was opened, once it has got all of it in order.

    Args:
        row: of the predecessor.
        reader: of the version's frames.
    """

    def __init__(self, row: Predecessor, reader: FrameReader) -> None:
        content = RunContent(reader, split_runs(row.runs, row.recipe_chunks)[0])
        self._content, self._chunks = content, ClosedText(content)
        self._made = HeldText(row.size, reader.directory)
        # Of each stretch, where it begins in the text, and where in the content; if it was made,
        # -1 minus where it is held.
        self._starts, self._places = array("Q"), array("q")
        self.size = 0

    @property
    def is_made(self) -> bool:
        """Whether nothing of the text was left in the content."""
        return self._made.size == self.size

    def append(self, piece: bytes | memoryview) -> None:
        """Hold the next bytes, which the recipe made."""
        if not len(piece):
            return
        if not self._places or self._places[-1] >= 0:
            self._begin(-1 - self._made.size)
        self._made.append(piece)
        self.size += len(piece)

    def leave(self, start: int, length: int) -> None:
        """Leave the next bytes in the content.

        Args:
            start: where they begin in the content.
            length: of them.
        """
        self._begin(start)
        self.size += length

    def _begin(self, place: int) -> None:
        self._starts.append(self.size)
        self._places.append(place)

    def read(self, start: int, length: int) -> bytes | memoryview:
        """Return a part of the text; chunks are verified."""
        at = max(bisect_right(self._starts, start) - 1, 0)
        if start + length <= self._end(at) and self._places and self._places[at] < 0:
            return self._made.read(start - self._starts[at] - 1 - self._places[at], length)
        out, done = writable(length), 0
        while done < length:
            place, within = self._places[at], start + done - self._starts[at]
            part = out[done:][: self._end(at) - start - done]
            if place < 0:
                part[:] = self._made.read(within - 1 - place, len(part))
            else:
                self._chunks.fill(part, place + within)
            done += len(part)
            at += 1
        return out

    def chunks(self) -> Iterator[Chunk]:
        """Yield what the text consists of: chunks of its content, and the rest."""
        for at, (start, place) in enumerate(zip(self._starts, self._places, strict=True)):
            size = self._end(at) - start
            if place < 0:
                yield size, b""
            else:
                yield from self._content.listed(place, place + size)

    def _end(self, at: int) -> int:
        return self._starts[at + 1] if at + 1 < len(self._starts) else self.size

    def close(self) -> None:
        """Remove the temporary file."""
        self._made.close()


class ContentPieces:
    """The chunks of some runs in order, of which some are passed over without being read.

    Args:
        reader: of the version's frames.
        runs: first chunk and number of chunks of each.
    """

    def __init__(self, reader: FrameReader, runs: Iterable[tuple[int, int]]) -> None:
        self._reader = reader
        self._runs = [*runs]
        self._runs.reverse()
        self._read: list[memoryview] = []  # the last one is the next

    def __iter__(self) -> Iterator[memoryview]:
        """Return the chunks."""
        return self

    def __next__(self) -> memoryview:
        """Return the next chunk."""
        if not self._read:
            if not self._runs:
                raise StopIteration
            start, length = self._runs.pop()
            _, first, count = next(iter(self._reader.frames.parts(start, length)))
            if count < length:
                self._runs.append((start + count, length - count))
            self._read = self._reader.chunks(first, count)
            self._read.reverse()
        return self._read.pop()

    def skip(self, most: int) -> int:
        """Pass over whole chunks.

        Args:
            most: bytes that may be passed over.

        Returns:
            Bytes of the chunks.
        """
        left, ends = most, self._reader.frames.end
        while self._read and len(self._read[-1]) <= left:
            left -= len(self._read.pop())
        while not self._read and self._runs:
            start, length = self._runs.pop()
            at = bisect_right(ends, ends[start] + left, start, start + length + 1) - 1
            left -= ends[at] - ends[start]
            if at < start + length:
                self._runs.append((at, start + length - at))
                break
        return most - left
