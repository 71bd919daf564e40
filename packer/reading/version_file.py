"""A file of a version as a seekable file object, which reads only the frames it needs."""

from __future__ import annotations

import contextlib
import io
import os
from bisect import bisect_right
from itertools import accumulate
from typing import IO

from packer.errors import InvalidParameter, NotFound
from packer.files.temporary import temporary_file
from packer.files.tree import FILE, KIND_NAMES, show
from packer.format.cost import Cost
from packer.format.frame_reader import opened_frames
from packer.format.version import Version
from packer.reading.entry_content import read_entry

BUFFER_BYTES = 64 << 10
"""Bytes that the buffered file reads at a time: a chunk of the default size."""


def open_entry(version: Version, path: str | bytes) -> EntryFile:
    """Open one file of a version.

    Args:
        version: in any store. From a registry, only the frames that hold the bytes read are
            fetched, and the frames that they were compressed against.
        path: of the file.

    Returns:
        A seekable file for one thread at a time. Each byte is verified before it is returned. An
        opened archive is rebuilt as a whole, in a temporary file, at the first read. Its `cost`
        tells what was read so far.

    Raises:
        NotFound: the version has no such path.
        InvalidParameter: the path names no file.
    """
    name = os.fsencode(path).strip(b"/")
    entry = version.index.find(name)
    if entry < 0:
        raise NotFound("path", show(name), f"in {version.name}")
    if version.index.kinds[entry] != FILE:
        kind = KIND_NAMES[version.index.kinds[entry]]
        raise InvalidParameter(f"{show(name)} is a {kind}, not a file")
    return EntryFile(VersionFile(version, entry))


class EntryFile(io.BufferedReader):
    """One file, buffered.

    Args:
        file: unbuffered; closed with this one.
    """

    def __init__(self, file: VersionFile) -> None:
        super().__init__(file, BUFFER_BYTES)
        self.cost = file.cost
        """What was read and made so far."""


class VersionFile(io.RawIOBase):
    """One file, unbuffered.

    Args:
        version: holds the file.
        entry: ordinal of the file.
    """

    def __init__(self, version: Version, entry: int) -> None:
        super().__init__()
        index = version.index
        self.name = show(index.paths[entry])
        self.mode = "rb"
        self._entry = entry
        self._position = 0
        self.cost = Cost()
        """What was read and made so far."""
        self._stack = contextlib.ExitStack()
        self._rebuilt: IO[bytes] | None = None
        self._reader = self._stack.enter_context(opened_frames(version, cost=self.cost))
        self._expansion = index.expansions.get(entry)
        if self._expansion is not None:
            self.size = self._expansion.size
            self._chunks: list[int] = []
            self._ends: list[int] = []
        else:
            self._chunks = [
                chunk
                for start, length in index.runs_of(entry)
                for chunk in range(start, start + length)
            ]
            self._ends = list(accumulate(index.chunk_lengths[chunk] for chunk in self._chunks))
            self.size = self._ends[-1] if self._ends else 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position of the next byte."""
        return self._position

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Move to a position; reading behind the end returns nothing.

        Args:
            offset: in bytes.
            whence: 0 from the start, 1 from the position, 2 from the end.

        Returns:
            The new position.

        Raises:
            ValueError: `whence` is unknown, the position negative, or the file closed.
        """
        self._check_open()
        start = {0: 0, 1: self._position, 2: self.size}.get(whence)
        if start is None:
            raise ValueError(f"whence {whence} is not 0, 1 or 2")
        if start + offset < 0:
            raise ValueError(f"position {start + offset} is before the start")
        self._position = start + offset
        return self._position

    def readinto(self, buffer: memoryview | bytearray, /) -> int:  # type: ignore[override]
        """Fill the buffer as far as one chunk reaches; return the number of bytes, 0 at the end."""
        self._check_open()
        if self._position >= self.size or not len(buffer):
            return 0
        if self._expansion is not None:
            data: bytes | memoryview = self._read_rebuilt(len(buffer))
        else:
            at = bisect_right(self._ends, self._position)
            before = self._ends[at - 1] if at else 0
            chunk = self._reader.chunks(self._chunks[at], 1)[0]
            data = chunk[self._position - before :][: len(buffer)]
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        """Release files and memory."""
        if not self.closed:
            if self._rebuilt is not None:
                self._rebuilt.close()
            self._stack.close()
        super().close()

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")

    def _read_rebuilt(self, count: int) -> bytes:
        """Read from the rebuilt archive, and rebuild it first if it was not."""
        if self._rebuilt is None:
            file = temporary_file(None)
            try:
                for piece in read_entry(self._reader, self._entry):
                    file.write(piece)
            except BaseException:
                file.close()
                raise
            self._rebuilt = file
        return os.pread(self._rebuilt.fileno(), count, self._position)
