"""A predecessor as its successor is compared with it: its streams, and where their text lies."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING

from packer.errors import FormatError
from packer.opening.ahead import Run
from packer.opening.discovery import Discovery
from packer.opening.found_stream import HEAD_BYTES, FoundStream, MadeStream, Read
from packer.opening.frames_update import OldFrames
from packer.opening.locating import Fingerprints
from packer.opening.old_streams import PlainStream, WholeText
from packer.opening.parsed_stream import Parsing
from packer.opening.zstd_frames import Frames, frame_runs, frames_end

if TYPE_CHECKING:
    from typing_extensions import Buffer

ZIP = b"PK\3\4"
"""First bytes of a zip archive with entries."""
_RATIO = 4
"""Plaintext of a file by its size, about."""


class WholeOldText(WholeText):
    """The text of a predecessor as an old stream: what lies between its streams, and these.

    Args:
        number: its number.
        read: reads it; from any thread.
        size: of it in bytes.
    """

    def __init__(self, number: int, read: Read, size: int) -> None:
        super().__init__(read, size, "predecessor")
        self.number = number
        self.parent = None
        self.offset = 0


class OldText:
    """A predecessor, and the streams in it.

    Args:
        read: reads it; from any thread.
        size: of it in bytes.
        directory: of temporary files, as `temporary_file` takes it.
        only: where its only stream begins, and the stream, if that was made without the file; then
            nothing of the file is read.
        has_frames: whether to look for zstd streams as well.
        places: as `Discovery` takes it, without those in what the successor has alike.
        beside: another predecessor of the same file: streams are numbered behind its own, and
            pieces of text that it has keep their place.
        run: as `Discovery` takes it.
    """

    def __init__(
        self,
        read: Read,
        size: int,
        directory: bytes | None,
        only: tuple[int, PlainStream] | None = None,
        *,
        has_frames: bool = False,
        places: Sequence[int] | None = None,
        beside: OldText | None = None,
        run: Run | None = None,
    ) -> None:
        first = len(beside.streams) if beside is not None else 0
        self._is_further = beside is not None
        self.read = read
        self.has_frames = has_frames
        self.is_whole = places is None
        """Whether deflate streams were looked for everywhere."""
        self._size = size
        self.frames: list[Frames] = list(frame_runs(self._part, size)) if has_frames else []
        """Runs of zstd frames in it, which are streams once `parse` was called."""
        self._parsing, self._run = Parsing(directory), run
        self._parsed: dict[int, OldFrames | None] = {}  # by offset
        self.prints: Fingerprints = Fingerprints(_RATIO * size) if beside is None else beside.prints
        self._found = Discovery(
            read,
            size,
            visit=self._add,
            skip=self._skip if has_frames else None,
            directory=directory,
            only=MadeStream(first, *only) if only is not None else None,
            first=first,
            places=places,
            run=run,
        )
        self.prints.forget(self._found.number)
        self.frame_prints = Fingerprints(_RATIO * size if has_frames else 0)
        """Of the zstd streams: a segment needs an old one of its own kind."""
        self.streams: list[FoundStream | MadeStream | OldFrames | WholeOldText] = [
            *self._found.streams
        ]
        self._whole: WholeOldText | None = None
        self.is_zip = only is None and bytes(self._part(0, len(ZIP))) == ZIP
        """Whether it is a zip archive that can be read."""
        self.sizes = [stream.size for stream in self.streams]
        self._further: list[int] = []  # where the streams of each further text begin and end
        self._heads: dict[bytes, list[FoundStream]] = {}
        self._list(self._found.streams)

    @property
    def is_full(self) -> bool:
        """Whether it may hold more streams than are listed."""
        return self._found.is_full

    def add(self, further: OldText) -> None:
        """Add the streams of a further predecessor.

        Args:
            further: made beside this one; it stays open as long.
        """
        self._further += len(self.streams), len(self.streams) + len(further.streams)
        self.streams += further.streams
        self.sizes += further.sizes

    def whole(self) -> WholeOldText:
        """Return the text as an old stream, which is numbered behind those found so far."""
        if self._whole is None:
            self._whole = WholeOldText(len(self.streams), self.read, self._size)
            self.streams.append(self._whole)
            self.sizes.append(self._size)
        return self._whole

    def owner(self, number: int) -> int:
        """Return which predecessor holds a stream: 0 this one, else 1 + that of a further one.

        Args:
            number: of the stream.
        """
        at = bisect_right(self._further, number)
        return at // 2 + 1 if at % 2 else 0

    def same(self, read: Read, offset: int, end: int) -> FoundStream | None:
        """Return the stream that is equal to the one at an offset, byte for byte.

        Args:
            read: reads what holds the new stream.
            offset: where that begins.
            end: size of what holds it.
        """
        head = bytes(read(offset, min(HEAD_BYTES, end - offset)))
        for stream in self._heads.get(head, ()):
            if stream.is_cut and not stream.is_too_long:
                continue  # the new one may go on where this is damaged
            if offset + stream.closed_bytes <= end and stream.is_equal(read, offset):
                return stream
        return None

    def parse(self, run: Frames) -> OldFrames | None:
        """Make a stream of a run of frames.

        Args:
            run: one of `frames`.

        Returns:
            The stream, whose own streams are numbered behind it; None if it is none.
        """
        if run.start not in self._parsed:
            self._parsed[run.start] = self._parse(run)
        return self._parsed[run.start]

    def _parse(self, run: Frames) -> OldFrames | None:
        """Read a run of frames, and find the streams in it."""
        found, number = self._found, len(self.streams)
        made = OldFrames(self.read, self._size, run, number, found.room, self._parsing)
        try:
            inner = found.look_into(
                made, made.read, self._texts(made), visit=self._add, run=self._run
            )
        except FormatError:
            self.frame_prints.forget(number)
            found.left -= made.reached
            made.close()
            return None
        self.prints.forget(found.number)
        self.streams += [made, *inner]
        self.sizes += [made.size, *(stream.size for stream in inner)]
        self._list(inner)
        return made

    def _texts(self, made: OldFrames) -> Generator[memoryview, None, None]:
        for position, plain in made.measure():
            self.frame_prints.add(made.number, position, plain)
            yield plain

    def _add(self, stream: FoundStream | MadeStream, position: int, plain: memoryview) -> None:
        """Take the fingerprints of a part of a deflate stream."""
        self.prints.add(stream.number, position, plain, is_further=self._is_further)

    def _list(self, streams: Sequence[FoundStream | MadeStream]) -> None:
        """Let `same` know streams."""
        for stream in streams:
            if isinstance(stream, FoundStream):  # else its file was opened: so is what is equal
                self._heads.setdefault(stream.head, []).append(stream)

    def _part(self, start: int, length: int) -> Buffer:
        """Return as much of a part as there is."""
        return self.read(start, max(min(length, self._size - start), 0))

    def _skip(self, read: Read, offset: int, end: int) -> tuple[int, str]:
        return (frames_end(self.frames, offset) if read is self.read else 0), ""

    def release_prints(self) -> None:
        """Release the fingerprints, once no text is looked for any more."""
        self.prints.release()
        self.frame_prints.release()

    def release_segments(self) -> None:
        """Release inflated segments; they are inflated again if they are needed."""
        self._found.release()

    def close(self) -> None:
        """Release the memory, and remove temporary files."""
        self._found.close()
        for stream in self._parsed.values():
            if stream is not None:
                stream.close()
        self._parsing.close()
        self.streams = []
        self._heads.clear()
