"""Plans which bytes of which frame go to which file of a private directory, and writes them."""

from __future__ import annotations

import os
from array import array
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import islice
from operator import le
from typing import TYPE_CHECKING

import blake3

from packer.engine.chunking import ChunkParams
from packer.files.syscalls import Writeback, reserve, write_files
from packer.files.tree import DIRECTORY, FILE, SYMLINK
from packer.format.frames import Frames
from packer.format.index import DIGEST_BYTES, Index

if TYPE_CHECKING:
    from typing_extensions import Buffer

RESERVE_BYTES = 8 << 20
"""Size in bytes from which space is reserved for a file before it is written: in one piece of the
disk, and with an early error where there is no room."""

_WRITE = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class Plan:
    """Which bytes of which frame go where in the staging directory.

    A *part* is a run of chunks of one frame that goes to one place in one file. Parts are columns
    in order of their first chunk, so the parts of a frame are neighbours.

    Args:
        frames: of the version.
        sizes: of its entries.
        entries: ordinals of the entries to write, in order.
        flat: whether files are named by ordinal instead of path, without directories.
        leave_out: entries whose content comes from elsewhere.
        zeros: chunks that hold zeros alone; they become holes.
        durable: whether a sync will follow, so that the disk begins early.
    """

    def __init__(
        self,
        frames: Frames,
        sizes: Sequence[int],
        entries: Sequence[int],
        *,
        flat: bool,
        leave_out: Iterable[int] = (),
        zeros: Collection[int] = (),
        durable: bool = True,
    ) -> None:
        self.frames = frames
        self.index: Index = frames.index
        self.sizes = sizes
        self.entries = entries
        self.flat = flat
        left_out = set(leave_out)
        opened = self.index.expansions.keys()
        self.expanded = [entry for entry in entries if entry in opened and entry not in left_out]
        self.in_parts: set[int] = set()
        """Entries of more than one part, and those with holes."""
        self.holes: dict[int, int] = {}
        """Bytes of holes, by entry."""
        self._zeros = zeros
        self._durable = durable
        self._entry, self._offset = array("I"), array("Q")
        self._first, self._count = array("I"), array("I")
        self._writebacks: dict[int, Writeback] = {}  # large files, by entry
        self._mask = 0o777
        self._collect(left_out | opened)

    def _collect(self, left_out: set[int]) -> None:
        """Make the columns of parts."""
        index, frames = self.index, self.frames
        first_run, starts, lengths = index.first_run, index.run_starts, index.run_lengths
        ends, bounds = frames.end, frames.first_chunk
        frame, zeros = 0, self._zeros
        for entry in self.entries:
            begin, end = first_run[entry], first_run[entry + 1]
            if begin == end or entry in left_out:
                continue
            offset = parts = 0
            for run in range(begin, end):
                start, left = starts[run], lengths[run]
                if start in zeros:  # a chunk of a hole is a run of its own, or begins one
                    hole = ends[start + 1] - ends[start]
                    self.holes[entry] = self.holes.get(entry, 0) + hole
                    offset += hole
                    start += 1
                    left -= 1
                while left:
                    if not bounds[frame] <= start < bounds[frame + 1]:
                        frame = frames.of_chunk(start)
                    count = min(left, bounds[frame + 1] - start)
                    self._entry.append(entry)
                    self._offset.append(offset)
                    self._first.append(start)
                    self._count.append(count)
                    offset += ends[start + count] - ends[start]
                    start += count
                    left -= count
                    parts += 1
            if parts > 1 or entry in self.holes:
                self.in_parts.add(entry)
        if not _is_sorted(self._first):
            order = sorted(range(len(self._first)), key=self._first.__getitem__)
            self._entry = array("I", map(self._entry.__getitem__, order))
            self._offset = array("Q", map(self._offset.__getitem__, order))
            self._count = array("I", map(self._count.__getitem__, order))
            self._first = array("I", map(self._first.__getitem__, order))

    def name(self, entry: int) -> bytes:
        """Return the name of an entry in the staging directory."""
        return b"%d" % entry if self.flat else self.index.paths[entry]

    def frames_used(self) -> Iterator[int]:
        """Yield the frames that have parts, in order."""
        at = 0
        while at < len(self._first):
            frame = self.frames.of_chunk(self._first[at])
            yield frame
            at = bisect_left(self._first, self.frames.first_chunk[frame + 1], at)

    def parts_of(self, frame: int) -> range:
        """Return the parts of a frame."""
        first, last = self.frames.first_chunk[frame], self.frames.first_chunk[frame + 1]
        begin = bisect_left(self._first, first)
        return range(begin, bisect_left(self._first, last, begin))

    def chunks_of(self, frame: int) -> set[int]:
        """Return the chunks of a frame that go to a file."""
        out: set[int] = set()
        for part in self.parts_of(frame):
            out.update(range(self._first[part], self._first[part] + self._count[part]))
        return out

    def prepare(self, fd: int) -> None:
        """Make directories, links and empty files, and reserve space for large files.

        Args:
            fd: the staging directory; its permissions show the umask.
        """
        index, links = self.index, self.index.symlinks()
        self._mask = ~os.fstat(fd).st_mode & 0o777
        empty: list[int] = []
        for entry in self.entries:
            kind = index.kinds[entry]
            if kind == DIRECTORY and not self.flat:
                os.mkdir(index.paths[entry], 0o700, dir_fd=fd)
            elif kind == SYMLINK:
                os.symlink(links[entry], self.name(entry), dir_fd=fd)
            elif kind == FILE and not self.sizes[entry]:
                empty.append(entry)
        self._write_new(fd, empty, b"", array("Q", bytes(16 * len(empty))))
        for entry in self.in_parts:
            is_large = self.sizes[entry] >= RESERVE_BYTES
            if is_large or entry in self.holes:
                file = os.open(self.name(entry), _WRITE | os.O_EXCL, 0o600, dir_fd=fd)
                try:
                    if entry in self.holes:
                        os.ftruncate(file, self.sizes[entry])
                    else:
                        reserve(file, self.sizes[entry])
                finally:
                    os.close(file)
            if is_large:
                self._writebacks[entry] = Writeback(active=self._durable)

    def write_frame(self, fd: int, frame: int, data: bytearray | memoryview) -> tuple[int, int]:
        """Write all parts of a frame.

        Args:
            fd: the staging directory.
            frame: ordinal of the frame.
            data: its plaintext.

        Returns:
            The number of bytes written, and the ordinal of the last entry.
        """
        base, ends = self.frames.end[self.frames.first_chunk[frame]], self.frames.end
        view = memoryview(data)
        whole: list[int] = []
        spans = array("Q")
        written = entry = 0
        for part in self.parts_of(frame):
            entry, first = self._entry[part], self._first[part]
            start, end = ends[first] - base, ends[first + self._count[part]] - base
            written += end - start
            if entry in self.in_parts:
                self._write_part(fd, entry, self._offset[part], view[start:end])
            else:
                whole.append(entry)
                spans.extend((start, end))
        self._write_new(fd, whole, data, spans)
        return written, entry

    def _write_new(self, fd: int, entries: list[int], data: Buffer, spans: array[int]) -> None:
        """Write whole files, with their permissions."""
        if entries:
            modes = array("H", map(self.index.modes.__getitem__, entries))
            write_files(fd, [self.name(entry) for entry in entries], data, spans, modes, self._mask)

    def _write_part(self, fd: int, entry: int, offset: int, data: memoryview) -> None:
        """Write a part of a file."""
        file = os.open(self.name(entry), _WRITE, 0o600, dir_fd=fd)
        try:
            while data:
                count = os.pwrite(file, data, offset)
                data, offset = data[count:], offset + count
                if entry in self._writebacks:
                    self._writebacks[entry].written(file, count)
        finally:
            os.close(file)

    def write_all(self, fd: int, entry: int, pieces: Iterable[bytes | memoryview]) -> None:
        """Write a whole file.

        Args:
            fd: the staging directory.
            entry: ordinal of the file.
            pieces: its content.
        """
        file = os.open(self.name(entry), _WRITE | os.O_EXCL, 0o600, dir_fd=fd)
        writeback = Writeback(active=self._durable)
        with open(file, "wb", buffering=1 << 20) as out:
            if self.sizes[entry] >= RESERVE_BYTES:
                reserve(file, self.sizes[entry])
            for piece in pieces:
                writeback.written(file, out.write(piece))
            os.fchmod(file, self.index.modes[entry])

    def fill(self, fd: int, entry: int, write: Callable[[int], bool]) -> bool:
        """Make a file and let a function write its content.

        Args:
            fd: the staging directory.
            entry: ordinal of the file.
            write: writes the content to a descriptor; returns whether it could.

        Returns:
            The result of `write`; after False the file is removed.
        """
        name = self.name(entry)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.open(name, flags, 0o600, dir_fd=fd)
        try:
            done = write(file)
            if done:
                os.fchmod(file, self.index.modes[entry])
        finally:
            os.close(file)
        if not done:
            os.unlink(name, dir_fd=fd)
        return done

    def finish(self, fd: int) -> None:
        """Set the permissions that would have denied writing."""
        kinds, modes = self.index.kinds, self.index.modes
        for entry in reversed(self.entries):
            if entry in self.in_parts or (kinds[entry] == DIRECTORY and not self.flat):
                os.chmod(self.name(entry), modes[entry], dir_fd=fd)


def zero_chunks(index: Index, params: ChunkParams) -> dict[int, bytes]:
    """Find the chunks of long runs of zeros: they have no cut point, so all have one length.

    Args:
        index: of the version.
        params: sizes of its chunks.

    Returns:
        The full digest of each, by ordinal.
    """
    digest = blake3.blake3(bytes(params.max_bytes)).digest()
    digests, wanted, found = index.chunk_digests, digest[:DIGEST_BYTES], {}
    at = digests.find(wanted)
    while at >= 0:
        chunk, rest = divmod(at, DIGEST_BYTES)
        if not rest and index.chunk_lengths[chunk] == params.max_bytes:
            found[chunk] = digest
        at = digests.find(wanted, at + 1)
    return found


def hole_bytes(index: Index, params: ChunkParams) -> int:
    """Return how many bytes of a version's files become holes when it is restored."""
    zeros = zero_chunks(index, params)
    holes = sum(map(zeros.__contains__, index.run_starts)) if zeros else 0
    return holes * params.max_bytes


def _is_sorted(numbers: Sequence[int]) -> bool:
    """Return whether numbers ascend; one comparison a number, without bytecode."""
    return all(map(le, numbers, islice(numbers, 1, None)))
