"""The boundary to the C extension, and the only importer of it."""

from __future__ import annotations

import errno
import os
from array import array
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from packer._version import VERSION
from packer.engine._native import ffi as ffi
from packer.engine._native import lib as lib
from packer.errors import InvalidParameter

if TYPE_CHECKING:
    from typing_extensions import Buffer

_WRITEBACK_BYTES = 4 << 20

if ffi.string(lib.pk_version()).decode() != VERSION:
    raise ImportError(
        f"the compiled module is of version {ffi.string(lib.pk_version()).decode()}, "
        f"the Python files are of {VERSION}: install the package again"
    )


def _names() -> tuple[str, ...]:
    names: list[str] = []
    while name := lib.pk_kernel_name(len(names)):
        names.append(ffi.string(name).decode())
    return tuple(names)


KERNELS = _names()
"""Every kernel there can be, usable here or not; a kernel's number is its index."""

USABLE = tuple(
    name for number, name in enumerate(KERNELS) if lib.pk_kernel_state(number) == lib.PK_USABLE
)
"""The kernels that this build has and this machine can run, the portable one first."""

DEFAULT: str = KERNELS[lib.pk_kernel_default()]
"""The fastest of them."""

_NUMBERS = {name: KERNELS.index(name) for name in USABLE}


def kernel_number(name: str) -> int:
    """Return the number of a usable kernel.

    Raises:
        InvalidParameter: no such kernel, not built, or the CPU lacks it; the message says which.
    """
    number = _NUMBERS.get(name)
    if number is not None:
        return number
    if name not in KERNELS:
        raise InvalidParameter(f"unknown chunking kernel {name!r}; known are {', '.join(KERNELS)}")
    if lib.pk_kernel_state(KERNELS.index(name)) == lib.PK_NOT_BUILT:
        raise InvalidParameter(f"chunking kernel {name!r} is not part of this build")
    raise InvalidParameter(f"this CPU or operating system lacks {name!r} for chunking")


def cut_points(data: Buffer, min_bytes: int, max_bytes: int, final: bool, kernel: int) -> list[int]:
    """Return the cut points of `data`; `packer.chunking.cut_points` says what they are.

    Args:
        data: any C-contiguous buffer, borrowed for the call, which releases the GIL.
        min_bytes: 512 or more.
        max_bytes: above `min_bytes`, at most 6 MiB.
        final: whether the input ends with `data`.
        kernel: a number from `kernel_number`.

    Raises:
        InvalidParameter: the sizes are out of range.
    """
    view = ffi.from_buffer("uint8_t[]", data)
    length = len(view)
    capacity = length // min_bytes + 1
    cuts = ffi.new("uint64_t[]", capacity)
    count = ffi.new("size_t *")
    if lib.pk_cut_points(view, length, min_bytes, max_bytes, final, kernel, cuts, capacity, count):
        raise InvalidParameter(f"chunk sizes {min_bytes} to {max_bytes} are out of range")
    out: list[int] = ffi.unpack(cuts, count[0])
    return out


def read_sum(data: Buffer) -> int:
    """Read `data` once and return the sum of its 64-bit words: the ceiling of the benchmarks."""
    view = ffi.from_buffer("uint8_t[]", data)
    return int(lib.pk_read_sum(view, len(view)))


def find_signature(data: Buffer, start: int, end: int) -> int:
    """Return where in ``[start, end)`` a gzip member or a zip entry may begin, -1 if nowhere."""
    view = ffi.from_buffer("uint8_t[]", data)
    found = start + lib.pk_find_signature(view + start, end - start) if start < end else end
    return found if found < end else -1


def sketch(data: Buffer) -> array[int]:
    """Return the six super-features of a chunk, as "Q"; none if it is too short or uniform.

    Similar chunks have at least one in common, and in the same place.
    csrc/lookup/sketch.h says how.
    """
    view = ffi.from_buffer("uint8_t[]", data)
    out = array("Q", bytes(8 * lib.PK_SUPER_FEATURES))
    return out if lib.pk_sketch(view, len(view), ffi.from_buffer("uint64_t[]", out)) else array("Q")


def sync_filesystem(fd: int) -> bool:
    """Make everything written to the file system that holds `fd` durable, in one call.

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
    """Starts to write a file to the disk every few megabytes that it grows by.

    A sync in the end then waits for the last of them only. Counting is not exact where several
    threads write the file, and need not be.
    """

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting = 0

    def written(self, fd: int, count: int) -> None:
        """Take note of `count` bytes more in the file `fd`."""
        self._waiting += count
        if self._waiting >= _WRITEBACK_BYTES:
            self._waiting = 0
            lib.pk_start_writeback(fd)


def has_local_times(fd: int) -> bool:
    """Tell whether files of the file system that holds `fd` carry times of this machine's clock.

    False for network file systems, FUSE, and all that are not known to.
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
    """Make new files below an open directory, in one call and without the GIL.

    Args:
        directory: its descriptor.
        names: paths of the files relative to it; nothing may be there.
        data: what holds their bytes.
        bounds: two offsets a file, as "Q".
        modes: permission bits, as "H".
        mask: the process's umask.

    Raises:
        OSError: with the name of the file it is about.
    """
    done = lib.pk_write_files(
        directory,
        b"\0".join(names),
        ffi.from_buffer("uint8_t[]", data),
        ffi.from_buffer("uint64_t[]", bounds),
        ffi.from_buffer("uint16_t[]", modes),
        mask,
        len(names),
    )
    if done != len(names):
        raise OSError(ffi.errno, os.strerror(ffi.errno), os.fsdecode(names[done]))


def read_files(
    directory: int, names: Sequence[bytes], stats: array[int], out: bytearray
) -> bytearray:
    """Read files below an open directory whole, in one call and without the GIL.

    Args:
        directory: its descriptor.
        names: paths of the files relative to it.
        stats: what `walk_directory` said of each.
        out: filled with one after another; as long as all of them.

    Returns:
        one byte a file: 1 if it is, before and after reading, the file that was walked, else 0.
    """
    read = bytearray(len(names))
    lib.pk_read_files(
        directory,
        b"\0".join(names),
        ffi.from_buffer("uint64_t[]", stats),
        ffi.from_buffer("uint8_t[]", out),
        ffi.from_buffer("uint8_t[]", read),
        len(names),
    )
    return read


def clone_file(to: int, source: int) -> bool:
    """Let an empty file share the blocks of another; False where that cannot be done."""
    return bool(lib.pk_clone_file(to, source) == 0)


def reserve(fd: int, size: int) -> None:
    """Reserve space for a file that will have `size` bytes, where the file system can.

    Raises:
        OSError: there is no such space.
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
    """What `walk_directory` could not do.

    Args:
        number: errno.
        path: what it is about.
        mode: of what is no file, directory or link; 0 after another error.
    """

    def __init__(self, number: int, path: bytes, mode: int) -> None:
        super().__init__(number, path, mode)
        self.number = number
        self.path = path
        self.mode = mode


def walk_directory(root: bytes, batch: int = 8192) -> Iterator[Listing]:
    """Yield what is below the directory `root`, in byte order of the path.

    Args:
        root: without NULs.
        batch: entries at a time; the GIL is released meanwhile.

    Raises:
        WalkFailed: about a path below `root`, or `root`.
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
            ffi.buffer(walker.stats, 8 * lib.PK_STAT_WORDS * count)[:],
        )
