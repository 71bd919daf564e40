"""The memory of the process: how it is returned to the system, and how fast it can be read."""

from __future__ import annotations

import contextlib
import mmap
import weakref
from typing import TYPE_CHECKING

from packer.engine.native import ffi, lib, uncleared

if TYPE_CHECKING:
    from typing_extensions import Buffer


_PAGE_BYTES = 2 << 20
"""Length of a large page in bytes."""
_LEAST_BYTES = 1 << 20
"""Length in bytes from which memory comes in large pages, where the system has them, and is used
again: glibc gets so long a block from the system, too."""
_IDLE_BYTES = 10 << 20
"""Memory that is kept to be written again, at most, in bytes."""
_WASTE = 4
"""How many times as long as what is asked for such memory may be: all of it may be in use."""

_idle: list[mmap.mmap] = []


def writable(size: int) -> memoryview:
    """Return memory to be written, for bytes that are then read.

    Where large buffers live shortly, what takes the time is the system's pages: to find and to
    clear them takes as long as two copies. So large memory is used again once nothing refers to it,
    and has large pages.

    Args:
        size: in bytes.

    Returns:
        Exactly `size` bytes, of any value.
    """
    if size < _LEAST_BYTES:
        return memoryview(ffi.buffer(uncleared("uint8_t[]", size)))
    mapped = _taken(size)
    part = ffi.buffer(ffi.from_buffer(mapped), size)
    weakref.finalize(part, _keep, mapped).atexit = False
    return memoryview(part)


def _taken(size: int) -> mmap.mmap:
    """Return memory of at least so many bytes: some that was kept, or else new memory."""
    for mapped in sorted(_idle, key=len):
        if size <= len(mapped) <= _WASTE * size:
            with contextlib.suppress(ValueError):  # another thread has taken it
                _idle.remove(mapped)
                return mapped
    # Linux begins a mapping at a large page if its length is a multiple of them. Bytes that fill
    # less than half of the last one take small ones.
    length = -(-size // _PAGE_BYTES) * _PAGE_BYTES
    large = (size + _PAGE_BYTES // 2) // _PAGE_BYTES * _PAGE_BYTES
    mapped = mmap.mmap(-1, length, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without them
            mapped.madvise(mmap.MADV_HUGEPAGE, 0, large)
    return mapped


def _keep(mapped: mmap.mmap) -> None:
    """Keep memory that nothing refers to any more; release what was kept longest."""
    _idle.append(mapped)
    while sum(map(len, list(_idle))) > _IDLE_BYTES:
        try:
            _idle.pop(0)
        except IndexError:  # another thread has released it
            break


def release_large_blocks() -> None:
    """Make the C library return large blocks to the system when they are freed.

    glibc keeps freed blocks for later allocations. The sizes here differ from one allocation to
    the next, so kept blocks rarely fit, and the process would take a third more memory. Smaller
    blocks come from arenas, of which threads then share four. The setting holds for the whole
    process.
    """
    lib.pk_release_large_blocks()


def release_free_memory() -> None:
    """Return memory that is free now to the system.

    glibc keeps what threads freed in an arena for each, where other threads do not find it. After
    large archives, that is up to 200 MB. The call takes milliseconds.
    """
    _idle.clear()
    lib.pk_release_free_memory()


def read_sum(data: Buffer) -> int:
    """Return the sum of the 64-bit words of `data`: reading it is the ceiling of benchmarks.

    Args:
        data: any C-contiguous buffer, borrowed for the call.

    Returns:
        The sum modulo 2^64.
    """
    with ffi.from_buffer("uint8_t[]", data) as view:
        return int(lib.pk_read_sum(view, len(view)))
