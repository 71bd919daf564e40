"""Files that appear whole or not at all: temporary files, durable renames, locks.

A temporary file is locked (``flock``) while its writer lives. The kernel drops the lock with the
process, so a temporary file that can be locked was left by a dead one.
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

from packer.errors import SizeMismatch
from packer.files.closing import Closing
from packer.files.syscalls import Writeback
from packer.oci import READ_BYTES, Descriptor

_UNSUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)
"""Errors of file systems that lack an operation: some FUSE and network ones sync no directory."""
_SUFFIX = ".tmp"
"""End of the names of temporary files."""
_SWEEP_SECONDS = 600.0
"""Age in seconds from which a temporary file is probed: far above the moment between its creation
and its lock."""


def sync(fd: int) -> None:
    """Flush a file or directory to the disk itself.

    On macOS, fsync(2) stops at the drive's cache. F_FULLFSYNC flushes that too, where the file
    system supports it.

    Args:
        fd: of the file or directory.

    Raises:
        OSError: the disk failed.
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


def sync_directory(path: str | bytes) -> None:
    """Make the names in a directory durable; do nothing on file systems that cannot.

    Args:
        path: of the directory.

    Raises:
        OSError: the disk failed, or the directory cannot be opened.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync_names(fd)
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fsdecode(path)) from None
    finally:
        os.close(fd)


def sync_names(fd: int) -> None:
    """Make the names in an open directory durable, as `sync_directory`.

    Args:
        fd: of the directory.

    Raises:
        OSError: the disk failed.
    """
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise


def make_directory(path: str, *, durable: bool = True) -> None:
    """Create a directory and its missing parents.

    Args:
        path: of the directory.
        durable: whether to sync the names that were created.

    Raises:
        OSError: it cannot be created or synced.
    """
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    make_directory(parent, durable=durable)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path)
    if durable:
        sync_directory(parent)


def open_regular(path: str) -> int:
    """Open a regular file for reading.

    A fifo or device is refused without blocking. Errors of opening pass through.

    Args:
        path: of the file.

    Returns:
        Its descriptor.

    Raises:
        IsADirectoryError: it is a directory, device, socket or fifo.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise IsADirectoryError(errno.EISDIR, "not a regular file", path)
    return fd


def read_bounded(path: str, limit: int) -> bytes:
    """Return the first `limit` + 1 bytes of a regular file: the last tells that it is too long."""
    with open(open_regular(path), "rb", buffering=0) as file:
        parts: list[bytes] = []
        left = limit + 1
        while left and (part := file.read(min(left, 1 << 20))):
            parts.append(part)
            left -= len(part)
        return b"".join(parts)


class TempFile:
    """A file under a temporary name; a context manager that removes it unless it was published.

    Args:
        directory: holds it; on the file system of its final name.
        prefix: begins its temporary name.
        durable: whether `flush` and `publish` sync. If not, a system that crashes within the next
            half minute or so may leave the published name with missing or empty content.
    """

    def __init__(self, directory: str, prefix: str = "", *, durable: bool = True) -> None:
        # os.urandom and O_EXCL instead of tempfile, whose import takes longer than a store's.
        self._pid = os.getpid()
        name = f"{prefix}{self._pid}-{os.urandom(8).hex()}{_SUFFIX}"
        self._path = os.path.join(directory, name)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._fd = os.open(self._path, flags, 0o666)
        self._durable = durable
        self._writeback = Writeback(active=durable)
        try:
            with contextlib.suppress(OSError):  # without locks, no sweeper removes what it has left
                fcntl.flock(self._fd, fcntl.LOCK_EX)
        except BaseException:
            self.discard()
            raise

    @property
    def is_open(self) -> bool:
        """Whether the file can still be written."""
        return self._fd >= 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append all of `data`."""
        rest = memoryview(data).cast("B")
        with self._named():
            done = os.write(self._fd, rest)
            while done < len(rest):  # a signal, or a disk about to be full
                done += os.write(self._fd, rest[done:])
        self._writeback.written(self._fd, done)

    def write_at(self, data: bytes | memoryview, offset: int) -> None:
        """Write all of `data` at a byte offset; callable from any thread."""
        view = memoryview(data)
        with self._named():
            done = os.pwrite(self._fd, view, offset)
            while done < len(view):
                done += os.pwrite(self._fd, view[done:], offset + done)
        self._writeback.written(self._fd, done)

    def read_at(self, length: int, offset: int) -> bytes:
        """Return up to `length` bytes at a byte offset."""
        return os.pread(self._fd, length, offset)

    def flush(self) -> None:
        """Flush the file to the disk, so that a later `publish` has little left to flush."""
        if self._durable:
            with self._named():
                sync(self._fd)

    def publish(self, path: str) -> None:
        """Flush the file and rename it to `path`, replacing a file there; durably, if it is so."""
        self.flush()
        # rename, not link: file systems of USB sticks have no hard links.
        os.replace(self._path, path)
        self._close()
        if self._durable:
            sync_directory(os.path.dirname(path))

    def discard(self) -> None:
        """Remove the file, unless it was published or discarded before."""
        if self._fd >= 0:
            if os.getpid() == self._pid:  # a forked child must not remove its parent's file
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._path)
            self._close()

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Put the file's path into system errors: of a full disk, it tells which disk."""
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
        """Remove the file if its writer was dropped without leaving the context."""
        if getattr(self, "_fd", -1) >= 0:
            self.discard()


def sweep(
    directory: str,
    prefix: str = "",
    age_seconds: float = _SWEEP_SECONDS,
    *,
    dry_run: bool = False,
) -> tuple[int, int]:
    """Remove temporary files whose writers are dead.

    A file is removed if it is old and not locked. The age protects a file in the moment between its
    creation and its lock, the lock a file whose writer is slow.

    Args:
        directory: holds the files; may be missing.
        prefix: begins their names.
        age_seconds: least age in seconds. 0 where files are created under a lock that the caller
            holds, so that none can be in that moment.
        dry_run: only count the files.

    Returns:
        The number of files removed, and their bytes.
    """
    count = size = 0
    try:
        entries = list(os.scandir(directory))
    except FileNotFoundError:
        return count, size
    now = time.time()
    for entry in entries:
        try:
            name = entry.name
            if not name.startswith(prefix) or not name.endswith(_SUFFIX):
                continue
            if not entry.is_file(follow_symlinks=False):
                continue
            status = entry.stat(follow_symlinks=False)
            if abs(now - status.st_mtime) < age_seconds:
                continue
            fd = os.open(entry.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            continue  # published or removed meanwhile, or another user's
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not dry_run:
                os.unlink(entry.path)
        except OSError:
            continue
        finally:
            os.close(fd)
        count += 1
        size += status.st_size
    return count, size


@contextlib.contextmanager
def locked(path: str) -> Iterator[None]:
    """Hold the lock file at `path` exclusively, against other threads and other processes.

    The file stays: if it were removed, two holders could lock two files of the same name.

    Args:
        path: of the lock file, created if missing.

    Yields:
        Nothing, while the lock is held.

    Raises:
        OSError: the file system has no locks.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
        except OSError as error:
            why = f"{error.strerror}: the file system has no locks (flock), which stores need"
            raise OSError(error.errno, why, path) from None
        yield
    finally:
        _unlock(fd)


@contextlib.contextmanager
def locked_directory(path: str | bytes, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock of a directory, which needs no lock file in it.

    Where the file system cannot lock directories (some network ones cannot), there is no lock.

    Args:
        path: of the directory.
        wait: whether to wait for another holder.

    Yields:
        Nothing, while the lock is held.

    Raises:
        BlockingIOError: the lock is held elsewhere, and `wait` is false.
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


class RangeReader(Closing):
    """Reads ``[start, end)`` of a file, unverified; closes the file in the end.

    Args:
        file: open for reading.
        start: first byte.
        end: behind the last byte.
        what: how errors name it.
    """

    def __init__(self, file: BinaryIO, start: int, end: int, what: str) -> None:
        self._file = file
        self._left = end - start
        self._what = what
        file.seek(start, io.SEEK_SET)

    def read(self, size: int = -1, /) -> bytes:
        """Return the next bytes.

        Args:
            size: greatest number of bytes; negative for all that remain.

        Returns:
            The bytes; none at the end.

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
        """Read into a buffer, as the protocol `Filler` asks.

        Args:
            buffer: filled from its start.

        Returns:
            Number of bytes; 0 at the end.

        Raises:
            SizeMismatch: the file was truncated meanwhile.
        """
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


class FileWriter:
    """A `BlobWriter` that writes a temporary file and hashes its bytes on the way.

    Args:
        file: takes the bytes.
        publish: stores the file as the blob of the descriptor; returns whether the blob is new.
    """

    def __init__(self, file: TempFile, publish: Callable[[TempFile, Descriptor], bool]) -> None:
        self._file = file
        self._publish = publish
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def digest(self) -> str:
        """Digest of the bytes written so far."""
        return "sha256:" + self._hash.hexdigest()

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        """Append bytes to the blob.

        Args:
            data: any C-contiguous buffer.

        Returns:
            Its length in bytes.

        Raises:
            ValueError: the blob was committed or discarded.
        """
        if not self._file.is_open:
            raise ValueError("write to a blob that is committed or discarded")
        self._file.write(data)
        self._hash.update(data)
        length = memoryview(data).nbytes
        self.size += length
        return length

    def commit(self, media_type: str) -> tuple[Descriptor, bool]:
        """Make the blob durable.

        Args:
            media_type: of its descriptor.

        Returns:
            The descriptor, and whether the blob is new to the store.

        Raises:
            ValueError: the blob was committed or discarded.
        """
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
        """Discard the blob unless it was committed."""
        self._file.discard()
