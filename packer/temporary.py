"""Temporary files: what would take too much memory."""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Iterable
from typing import IO


def temporary_file(directory: bytes | None) -> IO[bytes]:
    """Return an unnamed file that may grow large, by default on a disk rather than in memory."""
    import tempfile  # and what it imports: a small pack needs no temporary file

    on_disk = b"/var/tmp"
    if directory is None and os.path.isdir(on_disk) and not os.environ.get("TMPDIR"):
        directory = on_disk
    return tempfile.TemporaryFile(dir=directory, buffering=0)


def write_at(file: IO[bytes], data: bytes | bytearray | memoryview, offset: int) -> None:
    """Write all of `data` to an offset of a temporary file.

    Raises:
        OSError: there is no space.
    """
    if os.pwrite(file.fileno(), data, offset) != len(data):
        raise OSError(errno.ENOSPC, "no space for a temporary file")


def read_at(file: IO[bytes], size: int, offset: int) -> bytes:
    """Return bytes of a temporary file.

    Raises:
        OSError: it does not hold as many.
    """
    data = os.pread(file.fileno(), size, offset)
    if len(data) != size:
        raise OSError(errno.EIO, "a temporary file was cut short")
    return data


class Gathered:
    """Bytes that are read once, from the start to the end: in memory, or in a mapped file.

    Args:
        pieces: of the bytes.
        size: of all of them.
        most: more than this lie in a temporary file.
        directory: as `temporary_file` takes it.

    Raises:
        OSError: there is no space.
    """

    def __init__(
        self, pieces: Iterable[memoryview], size: int, most: int, directory: bytes | None
    ) -> None:
        self._mapped: mmap.mmap | None = None
        if size <= most:
            self.data = memoryview(b"".join(pieces))
            return
        with temporary_file(directory) as file:
            end = 0
            for piece in pieces:
                write_at(file, piece, end)
                end += len(piece)
            self._mapped = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
        self.data = memoryview(self._mapped)

    def release(self) -> None:
        """Give back the memory of what was read; it would be read again from the file."""
        if self._mapped is not None:
            self._mapped.madvise(mmap.MADV_DONTNEED)
