"""Files that appear whole or not at all: temporary files, durable renames, locks.

A temporary file lives in a directory of its own and is locked (``flock``) while its writer lives;
the kernel drops the lock with the process, so one that can be locked was left behind by a dead one.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import io
import os
import stat
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import BinaryIO

from packer.engine.native import Writeback
from packer.errors import SizeMismatch
from packer.oci import READ_BYTES, Descriptor

_SUFFIX = ".tmp"
_SWEEP_SECONDS = 600.0
"""Age before a temporary file is looked at: far above the moment between its creation and lock."""


def sync(fd: int) -> None:
    """Flush a file or directory to the disk itself.

    On macOS fsync(2) stops at the drive's cache; F_FULLFSYNC goes on, where the file system has it.
    """
    full = getattr(fcntl, "F_FULLFSYNC", None)
    if full is not None:
        try:
            fcntl.fcntl(fd, full)
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.EINVAL, errno.ENOTTY):
                raise
        else:
            return
    os.fsync(fd)


def sync_directory(path: str) -> None:
    """Make the names in a directory durable; a no-op on file systems that cannot."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some FUSE and network file systems
            raise
    finally:
        os.close(fd)


def make_directory(path: str) -> None:
    """Create a directory and its missing parents, durably."""
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    make_directory(parent)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path)
    sync_directory(parent)


def open_regular(path: str) -> int:
    """Open a regular file for reading and return its descriptor.

    Raises:
        FileNotFoundError: there is none.
        IsADirectoryError: it is a directory, device, socket or fifo (which must not block us).
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise IsADirectoryError(errno.EISDIR, "not a regular file", path)
    return fd


def read_bounded(path: str, limit: int) -> bytes:
    """Return the first `limit` + 1 bytes of a regular file, so that the caller sees an excess."""
    with open(open_regular(path), "rb", buffering=0) as file:
        parts: list[bytes] = []
        left = limit + 1
        while left and (part := file.read(min(left, 1 << 20))):
            parts.append(part)
            left -= len(part)
        return b"".join(parts)


class TempFile:
    """A file being written under a temporary name; a context manager that removes it at the end.

    Args:
        directory: where it lives; on the file system of its later name.
        prefix: of its temporary name.
    """

    def __init__(self, directory: str, prefix: str = "") -> None:
        # os.urandom and O_EXCL in place of tempfile, whose import costs more than a store's.
        self._pid = os.getpid()
        name = f"{prefix}{self._pid}-{os.urandom(8).hex()}{_SUFFIX}"
        self._path = os.path.join(directory, name)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._fd = os.open(self._path, flags, 0o666)
        self._writeback = Writeback()
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX)
        except BaseException:
            self.discard()
            raise

    @property
    def is_open(self) -> bool:
        """Whether it can still be written."""
        return self._fd >= 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append all of `data`."""
        with memoryview(data) as view, view.cast("B") as rest, self._named():
            done = os.write(self._fd, rest)
            while done < len(rest):  # a signal, or a disk about to be full
                done += os.write(self._fd, rest[done:])
        self._writeback.written(self._fd, done)

    def write_at(self, data: bytes | memoryview, offset: int) -> None:
        """Write all of `data` from `offset` on; from any thread."""
        with memoryview(data) as view, self._named():
            done = os.pwrite(self._fd, view, offset)
            while done < len(view):
                done += os.pwrite(self._fd, view[done:], offset + done)
        self._writeback.written(self._fd, done)

    def read_at(self, length: int, offset: int) -> bytes:
        """Return up to `length` bytes from `offset`."""
        return os.pread(self._fd, length, offset)

    def flush(self) -> None:
        """Flush the file to the disk; `publish` does so too, and then finds little to do."""
        with self._named():
            sync(self._fd)

    def publish(self, path: str) -> None:
        """Flush the file and give it its name, in place of what bears it, durably."""
        self.flush()
        # rename and not link: USB sticks have file systems without hard links.
        os.replace(self._path, path)
        self._close()
        sync_directory(os.path.dirname(path))

    def discard(self) -> None:
        """Remove the file, unless it was published or discarded before."""
        if self._fd >= 0:
            if os.getpid() == self._pid:  # a forked child drops its copy, not its parent's file
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._path)
            self._close()

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Let errors of the system tell the file: of a full disk, it tells which one."""
        try:
            yield
        except OSError as error:
            raise OSError(error.errno, error.strerror, self._path) from None

    def _close(self) -> None:
        """Close the file descriptor, once."""
        fd, self._fd = self._fd, -1
        os.close(fd)

    def __enter__(self) -> TempFile:
        """Return the file."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the file unless it was published."""
        self.discard()

    def __del__(self) -> None:
        """Remove the file of a writer that was dropped without leaving its context."""
        if getattr(self, "_fd", -1) >= 0:
            self.discard()


def sweep(directory: str, prefix: str = "", age_seconds: float = _SWEEP_SECONDS) -> None:
    """Remove temporary files whose writers are dead.

    One is removed when it is older than ten minutes and not locked: the age covers the moment
    between creation and lock, the lock a writer that is slow.

    Args:
        directory: where they live.
        prefix: of their names.
        age_seconds: 0 where nobody can be at that moment, since files are made under a lock.
    """
    try:
        entries = list(os.scandir(directory))
    except FileNotFoundError:
        return
    now = time.time()
    for entry in entries:
        try:
            name = entry.name
            if not name.startswith(prefix) or not name.endswith(_SUFFIX):
                continue
            if not entry.is_file(follow_symlinks=False):
                continue
            if abs(now - entry.stat(follow_symlinks=False).st_mtime) < age_seconds:
                continue
            fd = os.open(entry.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            continue  # published or removed meanwhile, or another user's
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(entry.path)
        except OSError:
            continue
        finally:
            os.close(fd)


@contextlib.contextmanager
def locked(path: str) -> Iterator[None]:
    """Hold the lock file at `path` exclusively, against other threads and other processes.

    The file stays: removing it would let two holders lock two files of the same name.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        _unlock(fd)


@contextlib.contextmanager
def locked_directory(path: str | bytes, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock of a directory, which leaves no file in it.

    Where the file system cannot lock directories (some network ones), goes on without.

    Raises:
        BlockingIOError: another one holds it, and `wait` is false.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:
            pass
        yield
    finally:
        _unlock(fd)


def _unlock(fd: int) -> None:
    """Release a lock and close its file."""
    # Closing alone would not release it while a child that was forked meanwhile has a copy.
    with contextlib.suppress(OSError):
        fcntl.flock(fd, fcntl.LOCK_UN)
    os.close(fd)


class RangeReader:
    """Reads `[start, end)` of a file, unverified."""

    def __init__(self, file: BinaryIO, start: int, end: int, what: str) -> None:
        self._file = file
        self._left = end - start
        self._what = what
        file.seek(start, io.SEEK_SET)

    def read(self, size: int = -1, /) -> bytes:
        """Return at most `size` bytes, all that remain if negative.

        Raises:
            SizeMismatch: the file was truncated meanwhile.
        """
        if size < 0:
            return b"".join(iter(lambda: self.read(READ_BYTES), b""))
        data = self._file.read(min(size, self._left))
        if not data and size and self._left:
            raise SizeMismatch(self._what, self._file.tell() + self._left, self._file.tell())
        self._left -= len(data)
        return data

    def fill(self, buffer: memoryview, /) -> int:
        """Read into `buffer`, as `Filler`."""
        if not isinstance(self._file, io.FileIO):
            data = self.read(len(buffer))
            buffer[: len(data)] = data
            return len(data)
        count = self._file.readinto(buffer[: min(len(buffer), self._left)]) or 0
        if not count and self._left:
            raise SizeMismatch(self._what, self._file.tell() + self._left, self._file.tell())
        self._left -= count
        return count

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> RangeReader:
        """Return the reader."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        self._file.close()


class FileWriter:
    """A blob being written to a temporary file, hashed on the way; see `BlobWriter`.

    Args:
        file: where its bytes go.
        publish: given the file and the blob's descriptor, stores it and tells whether it is new.
    """

    def __init__(self, file: TempFile, publish: Callable[[TempFile, Descriptor], bool]) -> None:
        self._file = file
        self._publish = publish
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def digest(self) -> str:
        """Digest of what was written so far."""
        return "sha256:" + self._hash.hexdigest()

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        """Append `data` and return its length in bytes."""
        if not self._file.is_open:
            raise ValueError("write to a blob that is committed or discarded")
        self._file.write(data)
        self._hash.update(data)
        length = memoryview(data).nbytes
        self.size += length
        return length

    def commit(self, media_type: str) -> tuple[Descriptor, bool]:
        """Make the blob durable; return its descriptor and whether it is new to the store."""
        if not self._file.is_open:
            raise ValueError("commit of a blob that is committed or discarded")
        descriptor = Descriptor(media_type, self.digest, self.size)
        return descriptor, self._publish(self._file, descriptor)

    def __enter__(self) -> FileWriter:
        """Return the writer."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Discard what was not committed."""
        self._file.discard()
