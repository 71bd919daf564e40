"""File-system calls that Python's os module does not offer, and whole batches of those it does.

A batch is one call into C without the GIL: small files cost more in the interpreter than in the
kernel. The C side is csrc/files.
"""

from __future__ import annotations

import errno
import os
from array import array
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from packer.engine.native import ffi, lib

if TYPE_CHECKING:
    from typing_extensions import Buffer

STAT_WORDS: int = lib.PK_STAT_WORDS
"""64-bit numbers that identify the state of a file: device, inode, size in bytes, and mtime and
ctime in nanoseconds. A file that was written to or replaced differs in one of them."""

_WRITEBACK_BYTES = 4 << 20
"""Bytes written between two requests to start writing a file to the disk. More would leave more to
wait for at the final sync; less would be more system calls."""


def sync_filesystem(fd: int) -> bool:
    """Make everything written to the file system that holds `fd` durable, in one call.

    Args:
        fd: any open file or directory of it.

    Returns:
        False if the operating system has no such call (all but Linux): fsync each file then.

    Raises:
        OSError: the call failed.
    """
    if lib.pk_sync_filesystem(fd) == 0:
        return True
    if ffi.errno == errno.ENOSYS:
        return False
    raise OSError(ffi.errno, os.strerror(ffi.errno))


class Writeback:
    """Starts to write a growing file to the disk every few megabytes.

    A sync at the end then waits for the last megabytes only. The count is not exact where several
    threads write one file, and need not be.

    Args:
        active: False where no sync will follow: the system then writes when it likes.
    """

    __slots__ = ("_active", "_waiting")

    def __init__(self, *, active: bool = True) -> None:
        self._active = active
        self._waiting = 0

    def written(self, fd: int, count: int) -> None:
        """Record that the file grew, and start writing it when enough has gathered.

        Args:
            fd: the file.
            count: bytes that were written since the last call.
        """
        self._waiting += count
        if self._active and self._waiting >= _WRITEBACK_BYTES:
            self._waiting = 0
            lib.pk_start_writeback(fd)


def has_local_times(fd: int) -> bool:
    """Return whether this machine's clock sets the times of files on the file system of `fd`.

    False for network file systems, FUSE, and every file system not known to be local.
    """
    return bool(lib.pk_has_local_times(fd) == 1)


def write_files(
    directory: int,
    names: Sequence[bytes],
    data: Buffer,
    bounds: array[int],
    modes: array[int],
    mask: int,
) -> None:
    """Create files below an open directory, in one call and without the GIL.

    Args:
        directory: its descriptor.
        names: paths relative to it; nothing may exist at them.
        data: holds the content of all the files.
        bounds: start and end of each file in `data`, two offsets a file, as "Q".
        modes: permission bits, one a file, as "H".
        mask: the process's umask.

    Raises:
        OSError: a file could not be written; the error carries its name.
    """
    # Released at once: a view that a traceback keeps borrowed crashes Python's collector.
    with (
        ffi.from_buffer("uint8_t[]", data) as content,
        ffi.from_buffer("uint64_t[]", bounds) as ends,
        ffi.from_buffer("uint16_t[]", modes) as bits,
    ):
        done = lib.pk_write_files(
            directory, b"\0".join(names), content, ends, bits, mask, len(names)
        )
        error = ffi.errno
    if done != len(names):
        raise OSError(error, os.strerror(error), os.fsdecode(names[done]))


def read_files(
    directory: int, names: Sequence[bytes], stats: array[int], out: bytearray
) -> bytearray:
    """Read whole files below an open directory, in one call and without the GIL.

    Args:
        directory: its descriptor.
        names: paths relative to it.
        stats: STAT_WORDS numbers a file, as `walk_directory` found them.
        out: filled with the files, one behind another; exactly as long as all of them.

    Returns:
        One byte a file: 1 if its state before and after reading is the one in `stats`, else 0.
    """
    read = bytearray(len(names))
    with (
        ffi.from_buffer("uint64_t[]", stats) as states,
        ffi.from_buffer("uint8_t[]", out) as content,
        ffi.from_buffer("uint8_t[]", read) as same,
    ):
        lib.pk_read_files(directory, b"\0".join(names), states, content, same, len(names))
    return read


def clone_file(to: int, source: int) -> bool:
    """Let an empty file share the blocks of another; return False where that is not supported."""
    return bool(lib.pk_clone_file(to, source) == 0)


def reserve(fd: int, size: int) -> None:
    """Reserve space for a file, where the file system can.

    Args:
        fd: the file, open for writing.
        size: bytes that it will have.

    Raises:
        OSError: the space is not there.
    """
    if lib.pk_reserve(fd, size) != 0:
        raise OSError(ffi.errno, os.strerror(ffi.errno))


class Listing(NamedTuple):
    """Columns of some entries of a tree; csrc/files/walk.h says what is in them."""

    paths: bytes
    targets: bytes
    kinds: bytes
    modes: bytes
    stats: bytes


class WalkFailed(Exception):
    """`walk_directory` met an entry that it cannot list.

    Args:
        number: errno.
        path: of the entry, relative to the root.
        mode: st_mode of an entry that is no file, directory or link; 0 after any other error.
    """

    def __init__(self, number: int, path: bytes, mode: int) -> None:
        super().__init__(number, path, mode)
        self.number = number
        self.path = path
        self.mode = mode


def walk_directory(root: bytes, batch: int = 8192) -> Iterator[Listing]:
    """Yield everything below a directory, in byte order of the path.

    Args:
        root: the directory; without NULs.
        batch: entries listed at a time, without the GIL.

    Yields:
        The next `batch` entries, or the last ones.

    Raises:
        MemoryError: no memory for the walk.
        WalkFailed: an entry, or `root`, cannot be listed.
    """
    walker = ffi.gc(lib.pk_walk_new(root), lib.pk_walk_free)
    if not walker:
        raise MemoryError
    while True:
        if lib.pk_walk_next(walker, batch):
            where = ffi.string(walker.where) if walker.where else root
            raise WalkFailed(ffi.errno, where, walker.mode)
        count = walker.count
        if not count:
            return
        yield Listing(
            ffi.buffer(walker.paths, walker.paths_length)[:],
            ffi.buffer(walker.targets, walker.targets_length)[:] if walker.targets_length else b"",
            ffi.buffer(walker.kinds, count)[:],
            ffi.buffer(walker.modes, 2 * count)[:],
            ffi.buffer(walker.stats, 8 * STAT_WORDS * count)[:],
        )
