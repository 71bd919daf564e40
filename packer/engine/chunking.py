"""Buffers in, cut points out: content-defined chunking by the rule of docs/chunking.md.

Cut points depend on the bytes and on `ChunkParams` alone: they are the same for every kernel,
thread and split into buffers. The environment variable PACKER_KERNEL, or ``kernel=``, demands a
kernel by name; it is an error, not a hint, if that kernel cannot run here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from packer.engine import native
from packer.errors import InvalidParameter
from packer.oci import ChunkParams

if TYPE_CHECKING:
    from typing_extensions import Buffer

DEFAULT_PARAMS = ChunkParams()
BUFFER_BYTES = 1 << 20
"""What `iter_chunks` reads at a time: it stays in a core's cache from the read over the cut points
to the digests. With BLAKE3, 3.3 GB/s from the page cache; 3.2, 3.0 and 2.8 with 2, 4 and 8 MiB."""


class Readable(Protocol):
    """The part of a binary file that `iter_chunks` needs."""

    def readinto(self, buffer: bytearray | memoryview, /) -> int | None:
        """Fill `buffer` from its start; return the number of bytes, 0 at the end."""


def kernels() -> tuple[str, ...]:
    """Return the names of the kernels that can run here, the portable one first."""
    return native.USABLE


def default_kernel() -> str:
    """Return the kernel used when none is named: PACKER_KERNEL if set, else the fastest.

    Raises:
        InvalidParameter: PACKER_KERNEL names a kernel that is unknown, not built, or that the CPU
            lacks.
    """
    name = os.environ.get("PACKER_KERNEL", "")
    if not name:
        return native.DEFAULT
    native.kernel_number(name)
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
        final: True if the input ends with `data`: the last cut point is its length, and empty
            input has none. False: only the cut points that no later byte can change, which are
            those of chunks whose start has `max_bytes` behind it; present the bytes after the last
            one again, in front of what follows.
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
        number = native.kernel_number(kernel)  # a demand is checked even where no kernel runs
    length = len(data) if type(data) is bytes else memoryview(data).nbytes
    if final:
        if length < 2 * params.min_bytes:
            return [length] if length else []
    elif length < params.max_bytes:
        return []
    if kernel is None:
        number = native.kernel_number(default_kernel())
    return native.cut_points(data, params.min_bytes, params.max_bytes, final, number)


def chunks_of(data: memoryview, params: ChunkParams) -> Iterator[memoryview]:
    """Yield the chunks of an input that is all in memory, as views of it."""
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

    Each batch is ``(view, cuts)``: `view` starts at a chunk start and ends at a cut point, `cuts`
    are the cut points within it. The chunks are thus ``view[a:b]`` for successive ``a, b`` of
    ``0, *cuts``. The view is of one reused buffer: copy what must outlive the step. A file shorter
    than the buffer is one batch, an empty one none.

    Args:
        file: anything with ``readinto``; unbuffered files are best, since reads are large.
        params: sizes of chunks.
        buffer_bytes: size of the buffer, raised to twice `max_bytes` if less.
        buffer: memory to use in place of a new buffer, at least twice `max_bytes`; for callers that
            chunk many files.
        kernel: as in `cut_points`.

    Raises:
        InvalidParameter: as `cut_points`, and for a `buffer` that is too small.
        BlockingIOError: `file` is in non-blocking mode and has no data.
        OSError: from reading.
    """
    if buffer is None:
        buffer = bytearray(max(buffer_bytes, 2 * params.max_bytes))
    elif len(buffer) < 2 * params.max_bytes:
        raise InvalidParameter(
            f"a buffer of {len(buffer)} bytes is below twice the greatest chunk, {params.max_bytes}"
        )
    with memoryview(buffer) as whole:
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
            with whole[:last] as view:
                yield view, cuts
            whole[: filled - last] = whole[last:filled]
            filled -= last
