"""Chunks to frames to layers.

A data layer is a sequence of frames; the index says which chunks each frame holds. Frames and
layers end where the digests of chunks say so, so equal runs of new chunks give equal blobs on
machines that never met. docs/format.md, section "Layers".
"""

from __future__ import annotations

import contextlib
from array import array
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from typing import Any, NamedTuple, Protocol

from packer.engine import zstd
from packer.engine.delta import encode as encode_delta
from packer.engine.memory import writable
from packer.errors import PackerError
from packer.format.frames import Runs, joined
from packer.format.index_checks import MAX_DEPTH
from packer.oci import DATA_TYPE, Descriptor
from packer.stores.protocols import BlobWriter, Ingest

FRAME_MIN_BYTES, FRAME_MAX_BYTES = 1 << 20, 3 << 20
"""Plaintext of a frame without a prefix in bytes: it ends at a chunk chosen by content between
these, 2 MiB on average. Reading one file decodes a whole frame, so frames stay small."""

DELTA_MIN_BYTES, DELTA_MAX_BYTES = 4 << 20, 8 << 20
"""The same for a frame with a prefix: it holds little that is new, so decoding it is cheap, and one
large frame shares its matches better than two small ones."""

PREFIX_BYTES = 15 << 20
"""Greatest prefix of a frame in bytes; the last chunk may overshoot it."""
MAX_DELTA_SHARE = 2 / 3
"""A delta larger than this share of the frame compressed alone is not worth its dependency."""
CLEARLY_SMALL = 24
"""A delta below 1/24 of its plaintext is kept at once; the frame is not also compressed alone to
compare."""
_QUICK_LEVEL, _QUICK_SHARE = 3, 1 / 2
"""A delta below half of the level-3 size is kept too: stronger levels gain less than a quarter over
level 3."""

_MIXED = 0.5, 0.995
"""Shares of its plaintext between which a frame of LARGE_LEVEL is compressed at the default level
too: most was compressed already, so that takes 20 ms for 8 MiB, and text in it shrinks by a tenth.
"""

LAYER_BYTES = 16 << 20
"""Average stored bytes of a layer in versions of up to LAYER_BYTES * LAYER_COUNT bytes."""
LAYER_COUNT = 64
"""Layers of a first pack of a larger version, about: its layers grow, as a manifest lists no more
than 128."""


LARGE_BYTES = 32 << 20
"""Size of a version in bytes above which its frames are compressed at zstd.LARGE_LEVEL by default.
Below, the stronger level takes half a second of two processors at most."""


def level_for(version_bytes: int, *, small: bool) -> int:
    """Return the zstd level of a version for which none is given.

    Args:
        version_bytes: size of all files together.
        small: bytes count more than time, as where archives are opened at first sight.

    Returns:
        the level.
    """
    is_weak = version_bytes > LARGE_BYTES and not small
    return zstd.LARGE_LEVEL if is_weak else zstd.DEFAULT_LEVEL


def layer_bytes_for(version_bytes: int) -> int:
    """Return the average layer size to aim for.

    Args:
        version_bytes: size of all files together.

    Returns:
        LAYER_BYTES times a power of two, in stored bytes.
    """
    size = LAYER_BYTES
    while size * LAYER_COUNT < version_bytes:
        size *= 2
    return size


def ends_here(draw: bytes, length: int, mean: int) -> bool:
    """Return whether a frame or layer ends behind an item, as its digest decides.

    It does for a share of ``length / mean`` of all digests. So lengths are geometric with that mean
    in bytes, and depend on nothing but the content.

    Args:
        draw: four bytes of the item's digest.
        length: bytes of the item.
        mean: average bytes of what is to be cut.

    Returns:
        True if it ends there.
    """
    return int.from_bytes(draw, "little") * mean < length << 32


class Older(Protocol):
    """Chunks that new frames may be compressed against: the base's, then the new ones.

    Ordinals below `base_chunks` are the base's.
    """

    @property
    def base_chunks(self) -> int:
        """Number of chunks in the base."""

    @property
    def max_depth(self) -> int:
        """Greatest depth of new frames, at most MAX_DEPTH."""

    def length_of(self, chunk: int) -> int:
        """Return the plaintext length of a chunk."""

    def depth_of(self, chunk: int) -> int:
        """Return the depth of the frame that holds a chunk of the base."""

    def read(self, start: int, length: int) -> list[memoryview]:
        """Return the bytes of `length` chunks from `start`, verified; called by any thread."""


class LayerWriter:
    """Takes new chunks in order and writes them as layers.

    Frames are compressed by `executor`, at most `backlog` at a time, and written in order by a
    thread of their own, as hashing and syncing take as long as compressing what does not shrink.
    So the result does not depend on the number of threads.

    Args:
        store: takes the layers.
        executor: compresses frames.
        level: zstd level.
        layer_bytes: average stored bytes of a layer, from `layer_bytes_for`.
        older: chunks that frames may be compressed against; None for none.
        backlog: greatest number of frames in flight, about 20 MiB of memory each.
    """

    def __init__(
        self,
        store: Ingest,
        executor: Executor,
        *,
        level: int,
        layer_bytes: int,
        older: Older | None = None,
        backlog: int = 4,
    ) -> None:
        self._store = store
        self._executor = executor
        self.level = level
        """zstd level of the frames."""
        self._half = layer_bytes // 2
        self._max = layer_bytes * 2
        self._older = older
        self._backlog = backlog
        self._pool: list[memoryview] = []
        self._buffer = self._new_buffer()
        self._length = 0  # bytes of the frame being filled
        self._chunks = 0
        self._last = b""
        self._prefix: dict[int, None] = {}
        self._prefix_bytes = 0
        self._around: dict[int, None] = {}
        self._first_new = older.base_chunks if older is not None else 0
        self._frame_first: list[int] = []  # ordinal of the first chunk of each frame that ended
        self._max_depth = older.max_depth if older is not None else 0
        self._planned_depths = bytearray()  # of those frames, if all of them become deltas
        self._pending: deque[_Pending] = deque()
        self._written: deque[Future[None]] = deque()  # of the first ones of these
        self._writing: ThreadPoolExecutor | None = None
        self._has_failed = False
        self._first_read: Future[None] | None = None
        self._blob: BlobWriter | None = None
        self._blob_bytes = 0
        self.layers: list[Descriptor] = []
        """Layers written so far."""
        self.layer_frames = array("I")
        """Number of frames in each layer, the one being written included."""
        self.frame_stored = array("I")
        self.frame_chunks = array("I")
        self.frame_depths = bytearray()
        self.frame_prefixes: list[Runs] = []
        """Prefix of each frame, in ordinals of the base's chunks, then the new ones.

        `Runs` sums up neighbours: a prefix may hold a hundred thousand chunks."""
        self.stored_bytes = self.plain_stored_bytes = self.plain_bytes = 0
        """Stored bytes of all frames; of frames without a prefix; plaintext of these."""
        self.new_bytes = 0
        """Stored bytes of the layers that the store lacked before."""

    def add(
        self,
        data: bytes | memoryview,
        digest: bytes,
        similar: Iterable[int] = (),
        around: Iterable[int] = (),
    ) -> None:
        """Append a chunk.

        Args:
            data: its bytes, which are copied.
            digest: their digest.
            similar: chunks that may hold much of it. Chunks that cannot be a prefix are left out.
            around: chunks that may hold something of it. They join the prefix if the similar chunks
                of the whole frame leave room.
        """
        most = DELTA_MAX_BYTES if self._prefix else FRAME_MAX_BYTES
        if self._length and self._length + len(data) > most:
            self._end_frame()
        end = self._length + len(data)
        self._buffer[self._length : end] = data
        self._length = end
        self._chunks += 1
        self._last = digest
        self._use(similar)
        self._around.update(dict.fromkeys(around))
        least = DELTA_MIN_BYTES if self._prefix else FRAME_MIN_BYTES
        if end >= least and ends_here(digest[:4], len(data), least):
            self._end_frame()

    def _new_buffer(self) -> memoryview:
        """Return memory for a frame, from a frame that was written if there is one.

        The system maps new memory page by page, which takes as long as compressing it quickly.
        """
        return self._pool.pop() if self._pool else writable(DELTA_MAX_BYTES)

    def _use(self, chunks: Iterable[int]) -> None:
        """Add to the prefix of the frame being filled."""
        for chunk in chunks:
            if (
                chunk not in self._prefix
                and self._prefix_bytes < PREFIX_BYTES
                and self.planned_depth(chunk) < self._max_depth
            ):
                assert self._older is not None
                if self._first_read is None and chunk < self._older.base_chunks:
                    # A small update often needs this frame only, so it is decoded while files are
                    # being read.
                    self._first_read = self._executor.submit(self._read_early, chunk)
                self._prefix[chunk] = None
                self._prefix_bytes += self._older.length_of(chunk)

    def _read_early(self, chunk: int) -> None:
        assert self._older is not None
        with contextlib.suppress(PackerError, OSError):  # `_compress` meets the error again
            self._older.read(chunk, 1)

    def flush(self) -> None:
        """Write the frames that are pending; the last layer stays open.

        No chunk may be added afterwards: the older chunks are released, whatever they hold.
        """
        if self._length:
            self._end_frame()
        self._settle(0)
        if self._writing is not None:
            self._writing.shutdown()
        self._pool.clear()
        self._buffer = memoryview(b"")
        if self._first_read is not None:
            self._first_read.result()
        self._older = None

    @property
    def frames_begun(self) -> int:
        """Number of frames that ended, written or not: the frame being filled has this ordinal."""
        return len(self._frame_first)

    @property
    def last_bytes(self) -> int:
        """Bytes of the layer that is being written, 0 if there is none."""
        return self._blob_bytes

    def close(self, behind: bytes = b"", media_type: str = DATA_TYPE) -> None:
        """Write what is left; afterwards `layers` is complete and durable.

        Args:
            behind: bytes that follow the frames of the last layer.
            media_type: media type of the last layer.
        """
        self.flush()
        if self._blob is not None:
            self._blob.write(behind)
            self._end_layer(media_type)

    def abort(self) -> None:
        """Discard the layer being written; call it when packing fails."""
        futures: list[Future[Any]] = [*self._written, *(each.future for each in self._pending)]
        for future in futures:
            future.cancel()
        wait(futures)  # until none reads a prefix or writes any more
        if self._writing is not None:
            self._writing.shutdown()
        if self._first_read is not None:
            wait([self._first_read])
        self._pending.clear()
        if self._blob is not None:
            self._blob.__exit__(None, None, None)
            self._blob = None

    def _end_frame(self) -> None:
        buffer, length = self._buffer, self._length
        self._use(self._around)
        prefix = Runs(sorted(self._prefix))
        depths = [self.planned_depth(chunk) for chunk in self._prefix]
        self._planned_depths.append(1 + max(depths) if depths else 0)
        self._frame_first.append(self._first_new)
        self._first_new += self._chunks
        future = self._executor.submit(self._compress, buffer[:length], prefix)
        self._pending.append(_Pending(future, self._chunks, self._last, length, prefix, buffer))
        self._length = 0
        self._chunks, self._prefix, self._prefix_bytes, self._around = 0, {}, 0, {}
        if len(self._pending) > 1:  # a version of one frame needs no thread
            self._writing = self._writing or ThreadPoolExecutor(1, "write")
            for pending in list(self._pending)[len(self._written) :]:
                self._written.append(self._writing.submit(self._write_behind, pending))
        self._settle(self._backlog)
        self._buffer = self._new_buffer()

    def _settle(self, most: int) -> None:
        """Wait until at most `most` frames are not written."""
        while len(self._pending) > most or (self._written and self._written[0].done()):
            if self._written:
                self._written.popleft().result()
            else:
                self._write_frame(self._pending[0])
            self._pool.append(self._pending.popleft().buffer)

    def _compress(self, data: memoryview, prefix: Runs) -> tuple[bytes, bool]:
        """Return a frame, and whether it is compressed against its prefix."""
        if not prefix or self._older is None:
            return self._alone(data), False
        buffer = joined(self._older.read, prefix)
        prefix_bytes = len(buffer)
        buffer += data
        delta = encode_delta(buffer, prefix_bytes, self.level, share=1 - MAX_DELTA_SHARE)
        del buffer
        if delta is None:
            return self._alone(data), False
        if len(delta) * CLEARLY_SMALL <= len(data):
            return delta, True
        if self.level > _QUICK_LEVEL:
            quick = len(zstd.compress(data, _QUICK_LEVEL))
            if len(delta) <= _QUICK_SHARE * quick:
                return delta, True
        plain = self._alone(data)
        return (delta, True) if len(delta) <= len(plain) * MAX_DELTA_SHARE else (plain, False)

    def _alone(self, data: memoryview) -> bytes:
        """Return a frame without a prefix."""
        frame = zstd.compress(data, self.level)
        least, most = (int(share * len(data)) for share in _MIXED)
        if self.level != zstd.LARGE_LEVEL or not least < len(frame) < most:
            return frame
        return min(frame, zstd.compress(data, zstd.DEFAULT_LEVEL), key=len)

    def _write_behind(self, pending: _Pending) -> None:
        """Write a frame, in the thread; none behind one that failed, as its layer lacks that."""
        if self._has_failed:
            return
        try:
            self._write_frame(pending)
        except BaseException:
            self._has_failed = True
            raise

    def _write_frame(self, pending: _Pending) -> None:
        frame, is_delta = pending.future.result()
        if self._blob is None:
            self._begin_layer()
        elif self._blob_bytes + len(frame) > self._max:
            self._end_layer()
            self._begin_layer()
        assert self._blob is not None
        self._blob.write(frame)
        self._blob_bytes += len(frame)
        self.layer_frames[-1] += 1
        self.frame_stored.append(len(frame))
        self.frame_chunks.append(pending.chunks)
        self.stored_bytes += len(frame)
        if is_delta:
            self.frame_depths.append(1 + max(map(self._depth, pending.prefix)))
            self.frame_prefixes.append(pending.prefix)
        else:
            self.frame_prefixes.append(Runs())
            self.frame_depths.append(0)
            self.plain_stored_bytes += len(frame)
            self.plain_bytes += pending.plain_bytes
        if self._blob_bytes >= self._half and ends_here(pending.last[4:8], len(frame), self._half):
            self._end_layer()

    def planned_depth(self, chunk: int) -> int:
        """Return the greatest depth that a chunk's frame may turn out to have.

        Whether a frame becomes a delta is known only once it is compressed. Prefixes are chosen by
        this bound, so they do not depend on the number of threads.

        Args:
            chunk: ordinal of a chunk of the base, or of a new one.

        Returns:
            0 to MAX_DEPTH; MAX_DEPTH in the frame being filled, which cannot be its own prefix.
        """
        assert self._older is not None
        if chunk < self._older.base_chunks:
            return self._older.depth_of(chunk)
        if chunk >= self._first_new:
            return MAX_DEPTH
        return self._planned_depths[bisect_right(self._frame_first, chunk) - 1]

    def _depth(self, run: tuple[int, int]) -> int:
        """Return the depth of the deepest frame that holds chunks of a run; all are written."""
        assert self._older is not None
        return max(
            self._older.depth_of(chunk)
            if chunk < self._older.base_chunks
            else self.frame_depths[bisect_right(self._frame_first, chunk) - 1]
            for chunk in range(run[0], sum(run))
        )

    def _begin_layer(self) -> None:
        self._blob = self._store.create().__enter__()
        self.layer_frames.append(0)

    def _end_layer(self, media_type: str = DATA_TYPE) -> None:
        blob = self._blob
        assert blob is not None
        descriptor, is_new = blob.commit(media_type)
        blob.__exit__(None, None, None)
        self.layers.append(descriptor)
        if is_new:
            self.new_bytes += descriptor.size
        self._blob, self._blob_bytes = None, 0


class _Pending(NamedTuple):
    """A frame being compressed: the future of its bytes, the columns known already, its memory."""

    future: Future[tuple[bytes, bool]]
    chunks: int
    last: bytes
    plain_bytes: int
    prefix: Runs
    buffer: memoryview
