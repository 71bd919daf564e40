"""Temporary files and directories, for data that would take too much memory.

A file has no name, so it goes with its process. A directory is locked (``flock``) while its process
lives; whoever makes a directory first removes those that can be locked.
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
"""End of a directory's name until the directory is locked."""
_NEW_SECONDS = 600.0
"""Age in seconds from which such a directory is taken for abandoned: far above the moment between
its creation and its lock."""


def temporary_file(directory: bytes | None) -> IO[bytes]:
    """Create an unnamed file that may grow large.

    Args:
        directory: holds it; None for TMPDIR, else /var/tmp (which is on a disk where /tmp may be in
            memory), else the system's directory.

    Returns:
        The file, unbuffered, open for reading and writing.
    """
    import tempfile  # here for start-up time: a small pack needs no temporary file

    if directory is None:
        directory = _on_disk()
    return tempfile.TemporaryFile(dir=directory, buffering=0)


def _on_disk() -> bytes | None:
    """Return a directory that is on a disk where /tmp may be in memory; None for the system's."""
    on_disk = b"/var/tmp"
    return on_disk if os.path.isdir(on_disk) and not os.environ.get("TMPDIR") else None


@contextlib.contextmanager
def temporary_directory(*, on_disk: bool = False) -> Iterator[str]:
    """Make a private directory below the system's (``TMPDIR``) and remove it in the end.

    Directories that killed processes of this user left are removed first.

    Args:
        on_disk: its content may be large: make it where `temporary_file` makes files.

    Yields:
        The path.
    """
    import shutil
    import tempfile  # here for start-up time, as in `temporary_file`

    base = os.path.abspath(os.fsdecode((on_disk and _on_disk()) or tempfile.gettempdir()))
    _sweep(base)
    path = os.path.join(base, f"layer-packer-{os.urandom(8).hex()}")
    new = path + _NEW
    os.mkdir(new, 0o700)
    fd = -1
    try:
        fd = os.open(new, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # no locks on some network file systems: take a name that is never swept
            path += ".unlocked"
        os.rename(new, path)
        yield path
    finally:
        for name in (path, new):
            shutil.rmtree(name, ignore_errors=True)
        if fd >= 0:
            os.close(fd)


def _sweep(base: str) -> None:
    """Remove this user's temporary directories whose lock no process holds."""
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
                # Its owner may have locked and renamed it meanwhile, and then ended.
                if os.path.samestat(os.lstat(path), info):
                    shutil.rmtree(path, ignore_errors=True)
            except OSError:
                continue  # in use, or locks are not for directories here
            finally:
                os.close(fd)


def write_at(file: IO[bytes], data: bytes | bytearray | memoryview, offset: int) -> None:
    """Write all of `data` to a temporary file.

    Args:
        file: of `temporary_file`.
        data: the bytes.
        offset: in the file, in bytes.

    Raises:
        OSError: the disk is full; it names the directory, as the file has no name.
    """
    try:
        written = os.pwrite(file.fileno(), data, offset)
    except OSError as error:
        raise OSError(error.errno, error.strerror, _directory_of(file)) from None
    if written != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), _directory_of(file))


def _directory_of(file: IO[bytes]) -> str | None:
    """Return the directory of a file without a name; None if the system does not tell."""
    with contextlib.suppress(OSError):
        return os.path.dirname(os.readlink(f"/proc/self/fd/{file.fileno()}"))
    return None


def free_bytes(file: IO[bytes]) -> int:
    """Return how many bytes are free where a temporary file is."""
    info = os.fstatvfs(file.fileno())
    return info.f_bavail * info.f_frsize


def read_at(file: IO[bytes], size: int, offset: int) -> bytes:
    """Read bytes of a temporary file.

    Args:
        file: of `temporary_file`.
        size: number of bytes.
        offset: in the file, in bytes.

    Returns:
        Exactly `size` bytes.

    Raises:
        OSError: the file is shorter.
    """
    data = os.pread(file.fileno(), size, offset)
    if len(data) != size:
        raise OSError(errno.EIO, "a temporary file was cut short")
    return data


def fill_at(file: IO[bytes], out: memoryview, offset: int) -> None:
    """Read bytes of a temporary file into memory.

    Args:
        file: of `temporary_file`.
        out: filled.
        offset: of the first byte in the file.

    Raises:
        OSError: the file is shorter.
    """
    if os.preadv(file.fileno(), [out], offset) != len(out):
        raise OSError(errno.EIO, "a temporary file was cut short")


class Gathered:
    """Bytes that are read once from start to end: in memory, or in a mapped file if they are many.

    Args:
        pieces: the bytes, in pieces.
        size: of all pieces, in bytes.
        most: greatest size that stays in memory.
        directory: of the temporary file, as `temporary_file` takes it.

    Raises:
        OSError: the disk is full.
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
        """Release the memory of the mapped file; bytes read later come from the file again."""
        if self._mapped is not None:
            self._mapped.madvise(mmap.MADV_DONTNEED)
