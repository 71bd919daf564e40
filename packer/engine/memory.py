"""The memory of the process: how it is returned to the system, and how fast it can be read."""

from __future__ import annotations

import contextlib
import mmap
from typing import TYPE_CHECKING

from packer.engine.native import ffi, lib, uncleared

if TYPE_CHECKING:
    from typing_extensions import Buffer


_LARGE_BYTES = 2 << 20
"""Length in bytes from which memory comes in large pages, where the system has them."""


def writable(size: int) -> memoryview:
    """Return memory to be written, for bytes that are then read.

    Where large buffers live shortly, what takes the time is the system's pages, and clearing them
    once more. Large pages take a third of it, and nothing is cleared here.

    Args:
        size: in bytes.

    Returns:
        Exactly `size` bytes, of any value.
    """
    if size < _LARGE_BYTES:
        return memoryview(ffi.buffer(uncleared("uint8_t[]", size)))
    mapped = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without them
            mapped.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(mapped)


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
