"""Content-defined chunking: buffers in, cut points out, by the rule of docs/chunking.md.

Cut points depend on the bytes and on `ChunkParams` alone: they are the same for every kernel,
thread and split into buffers. The environment variable PACKER_KERNEL, or ``kernel=``, demands a
kernel by name. A kernel that cannot run here is an error; no other one replaces it.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from packer.engine.native import ffi, lib, uncleared
from packer.errors import InvalidParameter

if TYPE_CHECKING:
    from typing_extensions import Buffer


@dataclass(frozen=True, slots=True)
class ChunkParams:
    """Sizes of chunks in bytes; every config records them, because cut points depend on them.

    Args:
        average_bytes: 1 KiB to 4 MiB; the minimum is half of it, the maximum one and a half.
    """

    average_bytes: int = 64 << 10

    def __post_init__(self) -> None:
        """Check the range.

        Raises:
            InvalidParameter: the average is odd or out of range.
        """
        if not 1 << 10 <= self.average_bytes <= 4 << 20 or self.average_bytes % 2:
            raise InvalidParameter(
                f"average chunk size {self.average_bytes} is not an even number from 1 KiB to 4 MiB"
            )

    @property
    def min_bytes(self) -> int:
        """Least length of a chunk that is not the last of its file."""
        return self.average_bytes // 2

    @property
    def max_bytes(self) -> int:
        """Greatest length of a chunk."""
        return self.average_bytes + self.average_bytes // 2


def _known_kernels() -> tuple[str, ...]:
    """Return the names of all kernels, whether they can run here or not."""
    names: list[str] = []
    while name := lib.pk_kernel_name(len(names)):
        names.append(ffi.string(name).decode())
    return tuple(names)


KERNELS = _known_kernels()
"""Every kernel there can be, usable here or not; the number of a kernel is its index."""

DEFAULT_PARAMS = ChunkParams()
BUFFER_BYTES = 1 << 20
"""Bytes that `iter_chunks` reads at a time. They stay in a core's cache from reading to digesting:
with BLAKE3, 3.3 GB/s from the page cache; 3.2, 3.0 and 2.8 with 2, 4 and 8 MiB."""

USABLE = tuple(
    name for number, name in enumerate(KERNELS) if lib.pk_kernel_state(number) == lib.PK_USABLE
)
"""The kernels that this build has and this machine can run, the portable one first."""

_NUMBERS = {name: KERNELS.index(name) for name in USABLE}
_FASTEST: str = KERNELS[lib.pk_kernel_default()]


class Readable(Protocol):
    """The part of a binary file that `iter_chunks` needs."""

    def readinto(self, buffer: bytearray | memoryview, /) -> int | None:
        """Fill `buffer` from its start; return the number of bytes, 0 at the end."""


def kernels() -> tuple[str, ...]:
    """Return the names of the kernels that can run here, the portable one first."""
    return USABLE


def kernel_number(name: str) -> int:
    """Return the number of a kernel that can run here.

    Args:
        name: one of `kernels`.

    Returns:
        Its index in KERNELS.

    Raises:
        InvalidParameter: the kernel is unknown, not built, or the CPU lacks it; the message says
            which of them.
    """
    number = _NUMBERS.get(name)
    if number is not None:
        return number
    if name not in KERNELS:
        raise InvalidParameter(f"unknown chunking kernel {name!r}; known are {', '.join(KERNELS)}")
    if lib.pk_kernel_state(KERNELS.index(name)) == lib.PK_NOT_BUILT:
        raise InvalidParameter(f"chunking kernel {name!r} is not part of this build")
    raise InvalidParameter(f"this CPU or operating system lacks {name!r} for chunking")


def default_kernel() -> str:
    """Return the kernel used when none is named: PACKER_KERNEL if set, else the fastest.

    Returns:
        One of `kernels`.

    Raises:
        InvalidParameter: PACKER_KERNEL names a kernel that cannot run here.
    """
    name = os.environ.get("PACKER_KERNEL", "")
    if not name:
        return _FASTEST
    kernel_number(name)
    return name


def cut_points(
    data: Buffer,
    params: ChunkParams = DEFAULT_PARAMS,
    *,
    final: bool = True,
    kernel: str | None = None,
) -> list[int]:
    """Return the cut points of `data`, which starts at a chunk start.

    Cut points are exclusive ends, strictly increasing. Every chunk but the last has a length in
    ``[min_bytes, max_bytes]``. One call into C finds them all, without the GIL.

    Args:
        data: any C-contiguous buffer, borrowed for the call.
        params: sizes of chunks.
        final: True if the input ends with `data`: the last cut point is then its length, and empty
            input has none. False: only cut points that no later byte can change, which end chunks
            that have `max_bytes` behind their start; present the bytes after the last one again, in
            front of the next ones.
        kernel: demand this kernel; the default is `default_kernel`.

    Returns:
        Offsets in bytes.

    Raises:
        InvalidParameter: the kernel is unknown, not built, or the CPU lacks it.

    Determinism: a function of the content and `params`.
    Thread safety: no state; threads run in parallel.
    Source: docs/chunking.md.
    """
    if kernel is not None:
        number = kernel_number(kernel)  # a demand is checked even where no kernel runs
    length = len(data) if type(data) is bytes else memoryview(data).nbytes
    if final:
        if length < 2 * params.min_bytes:
            return [length] if length else []
    elif length < params.max_bytes:
        return []
    if kernel is None:
        number = kernel_number(default_kernel())
    cuts, count = _cut_points(data, params.min_bytes, params.max_bytes, final, number)
    out: list[int] = ffi.unpack(cuts, count)
    return out


def cut_array(data: Buffer, params: ChunkParams) -> array[int]:
    """Return the cut points of a whole input as "Q": of small chunks, there are many.

    Args:
        data: as for `cut_points`.
        params: likewise.
    """
    number = kernel_number(default_kernel())
    cuts, count = _cut_points(data, params.min_bytes, params.max_bytes, True, number)
    out = array("Q")
    out.frombytes(ffi.buffer(cuts, count * out.itemsize))
    return out


def _cut_points(
    data: Buffer, min_bytes: int, max_bytes: int, final: bool, kernel: int
) -> tuple[Any, int]:
    """Call the C core, which takes `min_bytes` from 512 and `max_bytes` up to 6 MiB.

    Returns:
        The cut points, and their number.

    Raises:
        InvalidParameter: the sizes are out of range.
    """
    count = ffi.new("size_t *")
    # Released at once: a view that a traceback keeps borrowed crashes Python's collector.
    with ffi.from_buffer("uint8_t[]", data) as view:
        length = len(view)
        capacity = length // min_bytes + 1
        cuts = uncleared("uint64_t[]", capacity)
        failed = lib.pk_cut_points(
            view, length, min_bytes, max_bytes, final, kernel, cuts, capacity, count
        )
    if failed:
        raise InvalidParameter(f"chunk sizes {min_bytes} to {max_bytes} are out of range")
    return cuts, count[0]


def chunks_of(data: memoryview, params: ChunkParams) -> Iterator[memoryview]:
    """Yield the chunks of an input that is in memory as a whole, as views of it."""
    start = 0
    for end in cut_points(data, params):
        yield data[start:end]
        start = end


def iter_chunks(
    file: Readable,
    params: ChunkParams = DEFAULT_PARAMS,
    *,
    buffer_bytes: int = BUFFER_BYTES,
    buffer: bytearray | None = None,
    kernel: str | None = None,
) -> Iterator[tuple[memoryview, list[int]]]:
    """Read `file` to its end and yield its chunks in batches, in order.

    A file shorter than the buffer is one batch, an empty one none. Errors of reading pass through.

    Args:
        file: anything with ``readinto``; unbuffered files are best, since reads are large.
        params: sizes of chunks.
        buffer_bytes: size of the buffer, raised to twice `max_bytes` if less.
        buffer: memory to use instead of a new buffer, at least twice `max_bytes`; for callers that
            chunk many files.
        kernel: demand this kernel, as in `cut_points`.

    Yields:
        ``(view, cuts)``: `view` starts at a chunk start and ends at a cut point, `cuts` are the cut
        points within it. The chunks are ``view[a:b]`` for successive ``a, b`` of ``0, *cuts``. All
        views are of one buffer: copy what must outlive the step.

    Raises:
        InvalidParameter: `buffer` is too small, or the kernel cannot run here.
        BlockingIOError: `file` is in non-blocking mode and has no data.
    """
    if buffer is None:
        buffer = bytearray(max(buffer_bytes, 2 * params.max_bytes))
    elif len(buffer) < 2 * params.max_bytes:
        raise InvalidParameter(
            f"a buffer of {len(buffer)} bytes is below twice the greatest chunk, {params.max_bytes}"
        )
    whole = memoryview(buffer)
    filled, ended = 0, False
    while not ended:
        while filled < len(buffer):
            count = file.readinto(whole[filled:])
            if count is None:
                raise BlockingIOError("the file is in non-blocking mode and has no data")
            if count == 0:
                ended = True
                break
            filled += count
        cuts = cut_points(whole[:filled], params, final=ended, kernel=kernel)
        if not cuts:
            break
        last = cuts[-1]
        view = whole[:last]
        yield view, cuts
        with suppress(BufferError):  # a profiler of this process may hold frames that use it
            view.release()
        whole[: filled - last] = whole[last:filled]
        filled -= last
