"""Temporary files and directories: what would take too much memory.

A file has no name, so that it goes with its process. A directory is locked (``flock``) while its
process lives; the next one that makes a directory removes those that can be locked.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import re
import time
from collections.abc import Iterable, Iterator
from typing import IO

_NAME = re.compile(r"layer-packer-[0-9a-f]{16}(\.new)?\Z")
_NEW = ".new"
"""End of a directory's name until it is locked."""
_NEW_SECONDS = 600.0
"""Age at which one that is not locked was given up: far above the moment that this takes."""


def temporary_file(directory: bytes | None) -> IO[bytes]:
    """Return an unnamed file that may grow large, by default on a disk rather than in memory."""
    import tempfile  # and what it imports: a small pack needs no temporary file

    on_disk = b"/var/tmp"
    if directory is None and os.path.isdir(on_disk) and not os.environ.get("TMPDIR"):
        directory = on_disk
    return tempfile.TemporaryFile(dir=directory, buffering=0)


@contextlib.contextmanager
def temporary_directory() -> Iterator[str]:
    """Give a directory of one's own below the system's (``TMPDIR``); it is removed at the end.

    What processes of this user left behind that were killed is removed before.

    Raises:
        OSError: none can be made.
    """
    import shutil
    import tempfile  # as in `temporary_file`

    base = os.path.abspath(tempfile.gettempdir())
    _sweep(base)
    path = os.path.join(base, f"layer-packer-{os.urandom(8).hex()}")
    new = path + _NEW
    os.mkdir(new, 0o700)
    fd = -1
    try:
        fd = os.open(new, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # as on some network file systems: under a name that nobody sweeps
            path += ".unlocked"
        os.rename(new, path)
        yield path
    finally:
        for name in (path, new):
            shutil.rmtree(name, ignore_errors=True)
        if fd >= 0:
            os.close(fd)


def _sweep(base: str) -> None:
    """Remove this user's temporary directories that no process holds the lock of."""
    import shutil

    with contextlib.suppress(OSError), os.scandir(base) as entries:
        for name in [entry.name for entry in entries if _NAME.match(entry.name)]:
            path = os.path.join(base, name)
            try:
                fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except OSError:
                continue  # a link or a file, another user's, or gone
            try:
                info = os.fstat(fd)
                if info.st_uid != os.geteuid():
                    continue
                if name.endswith(_NEW) and abs(time.time() - info.st_mtime) < _NEW_SECONDS:
                    continue
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Its owner may have given it another name, with the lock, and then ended.
                if os.path.samestat(os.lstat(path), info):
                    shutil.rmtree(path, ignore_errors=True)
            except OSError:
                continue  # in use, or locks are not for directories here
            finally:
                os.close(fd)


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
