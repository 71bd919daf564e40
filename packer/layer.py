"""Chunks to frames to layers, and back: the only place that knows a data layer's bytes.

A data layer is a sequence of zstd frames, nothing else; what is in them is written in the index.
Frame and layer boundaries follow content (digests of chunks), so equal runs of new chunks give
equal blobs on machines that never met. docs/format.md, section "Layers".
"""

from __future__ import annotations

import errno
import os
import tempfile
from array import array
from bisect import bisect_right
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, wait
from threading import Condition
from typing import IO, NamedTuple, Protocol

import blake3

from packer import codec
from packer.delta import decode as decode_delta
from packer.delta import encode as encode_delta
from packer.errors import DigestMismatch
from packer.index import DIGEST_BYTES, MAX_DEPTH, Frames, Index
from packer.model import DATA_TYPE, Descriptor
from packer.store.base import BlobWriter, Ingest
from packer.treecheck import TreeCheck

Runs = list[tuple[int, int]]
"""Runs of chunks: (first ordinal, count)."""

FRAME_MIN_BYTES = 1 << 20
FRAME_MAX_BYTES = 3 << 20
"""A frame's plaintext ends at a content-defined chunk between these, 2 MiB on average."""

DELTA_MIN_BYTES, DELTA_MAX_BYTES = 4 << 20, 8 << 20
"""The same for a frame with a prefix: what is new in it is found once, and costs little to skip."""

PREFIX_BYTES = 15 << 20
"""Bound on what a frame is compressed against (a little more: whole chunks)."""
MAX_DELTA_SHARE = 2 / 3
"""A delta that is larger than this share of the plain frame is not worth its dependency."""
CLEARLY_SMALL = 24
"""A delta of this part of its plaintext pays without being compared with the plain frame."""

LAYER_BYTES = 16 << 20
"""Average stored size of a layer of a version of up to `LAYER_BYTES * LAYER_COUNT` bytes."""
LAYER_COUNT = 64
"""Layers of larger versions grow, so that a first pack has about this many at most."""


def layer_bytes_for(version_bytes: int) -> int:
    """Return the average layer size to aim for: LAYER_BYTES times a power of two."""
    size = LAYER_BYTES
    while size * LAYER_COUNT < version_bytes:
        size *= 2
    return size


def ends_here(draw: bytes, length: int, mean: int) -> bool:
    """Tell whether a run ends behind something of `length` bytes with the digest part `draw`.

    True for a share of ``length / mean`` of all digests: what follows is then geometric with that
    mean in bytes, and depends on nothing but the content.
    """
    return int.from_bytes(draw, "little") * mean < length << 32


class Older(Protocol):
    """Chunks that new frames may be compressed against: the base's, then the new ones."""

    @property
    def base_chunks(self) -> int:
        """Number of chunks in the base; ordinals from there on are new chunks."""

    @property
    def max_depth(self) -> int:
        """Depth that new frames may have, at most MAX_DEPTH."""

    def length_of(self, chunk: int) -> int:
        """Return the plaintext length of a chunk."""

    def depth_of(self, chunk: int) -> int:
        """Return the depth of the frame that holds a chunk of the base."""

    def read(self, start: int, length: int) -> list[memoryview]:
        """Return the bytes of `length` chunks from `start`, verified; called by any thread."""


class LayerWriter:
    """Takes new chunks in order and writes them as layers.

    Frames are compressed by `executor`, at most `backlog` at a time, and written in order, so
    the result does not depend on the number of threads.

    Args:
        store: where the layers go.
        executor: compresses frames.
        level: zstd level.
        layer_bytes: average stored size of a layer, from `layer_bytes_for`.
        older: what frames may be compressed against; None for frames that stand alone.
        backlog: frames in flight; bounds memory to about 20 MiB each.
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
        self._level = level
        self._half = layer_bytes // 2
        self._max = layer_bytes * 2
        self._older = older
        self._backlog = backlog
        self._buffer = bytearray()
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
        """Prefix of each frame, in ordinals of the base's chunks, then the new ones."""
        self.stored_bytes = self.plain_stored_bytes = self.plain_bytes = 0
        """Stored length of all frames; of those without prefix; and their plaintext length."""
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
            digest: of them.
            similar: chunks that may hold much of it; those that cannot be a prefix are left out.
            around: chunks that may hold something of it: they become part of the prefix as far as
                those like the frame's chunks leave room.
        """
        most = DELTA_MAX_BYTES if self._prefix else FRAME_MAX_BYTES
        if self._buffer and len(self._buffer) + len(data) > most:
            self._end_frame()
        self._buffer += data
        self._chunks += 1
        self._last = digest
        self._use(similar)
        self._around.update(dict.fromkeys(around))
        least = DELTA_MIN_BYTES if self._prefix else FRAME_MIN_BYTES
        if len(self._buffer) >= least and ends_here(digest[:4], len(data), least):
            self._end_frame()

    def _use(self, chunks: Iterable[int]) -> None:
        """Add to the prefix of the frame being filled."""
        for chunk in chunks:
            if (
                chunk not in self._prefix
                and self._prefix_bytes < PREFIX_BYTES
                and self.planned_depth(chunk) < self._max_depth
            ):
                assert self._older is not None
                self._prefix[chunk] = None
                self._prefix_bytes += self._older.length_of(chunk)

    def flush(self) -> None:
        """Write the frames that are pending; the last layer stays open."""
        if self._buffer:
            self._end_frame()
        while self._pending:
            self._write_frame()

    @property
    def last_bytes(self) -> int:
        """Bytes of the layer that is being written, 0 if there is none."""
        return self._blob_bytes

    def close(self, behind: bytes = b"", media_type: str = DATA_TYPE) -> None:
        """Write what is left; afterwards `layers` is complete and durable.

        Args:
            behind: what follows the frames of the last layer.
            media_type: of that layer.
        """
        self.flush()
        if self._blob is not None:
            self._blob.write(behind)
            self._end_layer(media_type)

    def abort(self) -> None:
        """Discard the layer being written; call it when packing fails."""
        for pending in self._pending:
            pending.future.cancel()
        wait([pending.future for pending in self._pending])  # none reads a prefix any more
        self._pending.clear()
        if self._blob is not None:
            self._blob.__exit__(None, None, None)
            self._blob = None

    def _end_frame(self) -> None:
        data, self._buffer = self._buffer, bytearray()
        self._use(self._around)
        prefix = runs_of(sorted(self._prefix))
        depths = [self.planned_depth(chunk) for chunk in self._prefix]
        self._planned_depths.append(1 + max(depths) if depths else 0)
        self._frame_first.append(self._first_new)
        self._first_new += self._chunks
        future = self._executor.submit(self._compress, data, prefix)
        self._pending.append(_Pending(future, self._chunks, self._last, len(data), prefix))
        self._chunks, self._prefix, self._prefix_bytes, self._around = 0, {}, 0, {}
        while len(self._pending) > self._backlog or (
            self._pending and self._pending[0].future.done()
        ):
            self._write_frame()

    def _compress(self, data: bytearray, prefix: Runs) -> tuple[bytes, bool]:
        """Return a frame, and whether it is compressed against its prefix."""
        if not prefix or self._older is None:
            return codec.compress(data, self._level), False
        buffer = joined(self._older.read, prefix)
        prefix_bytes = len(buffer)
        buffer += data
        delta = encode_delta(buffer, prefix_bytes, self._level, share=1 - MAX_DELTA_SHARE)
        if delta is not None and len(delta) * CLEARLY_SMALL <= len(data):
            return delta, True
        plain = codec.compress(data, self._level)
        if delta is not None and len(delta) <= len(plain) * MAX_DELTA_SHARE:
            return delta, True
        return plain, False

    def _write_frame(self) -> None:
        pending = self._pending.popleft()
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
            self.frame_prefixes.append([])
            self.frame_depths.append(0)
            self.plain_stored_bytes += len(frame)
            self.plain_bytes += pending.plain_bytes
        if self._blob_bytes >= self._half and ends_here(pending.last[4:8], len(frame), self._half):
            self._end_layer()

    def planned_depth(self, chunk: int) -> int:
        """Return the greatest depth a chunk's frame may turn out to have; MAX_DEPTH if open."""
        assert self._older is not None
        if chunk < self._older.base_chunks:
            return self._older.depth_of(chunk)
        if chunk >= self._first_new:
            return MAX_DEPTH  # in the frame being filled: no frame can be its own prefix
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
    """A frame on its way: the future of its bytes, and what is known of it already."""

    future: Future[tuple[bytes, bool]]
    chunks: int
    last: bytes
    plain_bytes: int
    prefix: Runs


def runs_of(chunks: Iterable[int]) -> Runs:
    """Return chunk ordinals as runs, neighbours merged."""
    runs: Runs = []
    for chunk in chunks:
        if runs and sum(runs[-1]) == chunk:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((chunk, 1))
    return runs


def joined(read: Callable[[int, int], list[memoryview]], runs: Runs) -> bytearray:
    """Return the bytes of runs, one after another."""
    out = bytearray()
    for start, length in runs:
        # Run by run: every part keeps the whole frame it lies in alive.
        for part in read(start, length):
            out += part
    return out


class FrameReader:
    """Decodes frames of one version, each at most once, and verifies every chunk in them.

    Frames that are prefixes of others stay in a cache of `cache_bytes` and, if they have prefixes
    themselves, behind it in a temporary file: decoding one again would mean decoding its prefixes
    again, and theirs, with a cost that multiplies along the chain. Thread-safe: several threads
    may decode at once.

    Args:
        index: checked.
        layers: the data layers, in the index's order.
        fetch: returns the stored bytes of a frame: (layer ordinal, offset, length) -> bytes.
        cache_bytes: bound on decoded frames kept in memory.
        check: records what has been verified; by default one of its own.
        remote: fetching is slow: no frame that is still of use is forgotten.
        directory: where the temporary file may grow; by default where temporary files survive a
            restart, which is on a disk more often than the other place.
    """

    def __init__(
        self,
        index: Index,
        layers: Sequence[Descriptor],
        fetch: Callable[[int, int, int], bytes],
        *,
        cache_bytes: int = 32 << 20,
        check: TreeCheck | None = None,
        remote: bool = False,
        directory: bytes | None = None,
    ) -> None:
        self.index = index
        self.layers = layers
        self.frames = Frames(index)
        self.check = check or TreeCheck(index)
        """What has been verified so far."""
        self._fetch = fetch
        self._cache: OrderedDict[int, bytes] = OrderedDict()
        self._cached = 0
        self._cache_bytes = cache_bytes
        self._remote = remote
        self.directory = directory
        """Where temporary files go."""
        self._spill: IO[bytes] | None = None
        self._spilled: dict[int, int] = {}  # frame -> where it is in the temporary file
        self._uses: Counter[int] | None = None
        self._decoding: set[int] = set()
        self._changed = Condition()
        self._prefix_frames = set(self._prefixes_of(range(len(index.frame_stored))))

    def __enter__(self) -> FrameReader:
        return self

    def __exit__(self, *_: object) -> None:
        if self._spill is not None:
            self._spill.close()
            self._spill = None

    def expect(self, frames: Iterable[int]) -> None:
        """Say which frames will be decoded, so that each is forgotten after its last use."""
        self._uses = uses = Counter(iter(frames))
        todo = list(uses)
        while todo:
            for prefix in self._prefixes_of((todo.pop(),)):  # once for each run in it
                if prefix not in uses:
                    todo.append(prefix)
                uses[prefix] += 1

    def decode(self, frame: int, *, keep: bool = False) -> bytes:
        """Return the plaintext of a frame, every chunk in it verified.

        Args:
            frame: its ordinal.
            keep: it may soon be asked for again; frames that are prefixes are kept anyway.

        Raises:
            FormatError: the frame is damaged.
            DigestMismatch: a chunk in it is not what the index says.
        """
        with self._changed:
            self._changed.wait_for(lambda: frame not in self._decoding)
            data = self._find(frame)
            if data is not None:
                if not self._count_use(frame) and frame in self._cache:
                    self._cached -= len(self._cache.pop(frame))
                return data
            self._decoding.add(frame)
        try:
            data = self._decode(frame)
            with self._changed:
                if self._count_use(frame) and (keep or frame in self._prefix_frames):
                    self._keep(frame, data)
            return data
        finally:
            self._decoded(frame)

    def _prepare(self, frame: int) -> None:
        """Decode a frame that will be asked for, unless it is here; nothing is returned."""
        with self._changed:
            self._changed.wait_for(lambda: frame not in self._decoding)
            if frame in self._cache or frame in self._spilled:
                return
            self._decoding.add(frame)
        try:
            data = self._decode(frame)
            with self._changed:
                self._keep(frame, data)
        finally:
            self._decoded(frame)

    def _decoded(self, frame: int) -> None:
        with self._changed:
            self._decoding.remove(frame)
            self._changed.notify_all()

    def chunks(self, start: int, length: int) -> list[memoryview]:
        """Return the bytes of `length` chunks from `start`, verified.

        Raises:
            FormatError, DigestMismatch: as `decode`.
        """
        out: list[memoryview] = []
        frames = self.frames
        for frame, first, count in frames.parts(start, length):
            base = frames.end[frames.first_chunk[frame]]
            data = self._read_spilled(
                frame, frames.end[first] - base, frames.end[first + count] - base
            )
            if data is None:
                data = self.decode(frame, keep=True)
            else:
                base = frames.end[first]
            view = memoryview(data)
            for chunk in range(first, first + count):
                out.append(view[frames.end[chunk] - base : frames.end[chunk + 1] - base])
        return out

    def _decode(self, frame: int) -> bytes:
        frames, index = self.frames, self.index
        # One after the other, so that a chain of sixteen does not hold sixteen prefixes at once.
        for before in dict.fromkeys(self._prefixes_of((frame,))):
            if index.frame_depths[before]:
                self._prepare(before)
        prefix = joined(self.chunks, frames.prefix_runs(frame))
        layer, offset = frames.layer[frame], frames.offset[frame]
        name = f"frame at offset {offset} of layer {self.layers[layer].digest}"
        stored = self._fetch(layer, offset, index.frame_stored[frame])
        size = frames.plain_bytes(frame)
        if prefix:
            data = decode_delta(stored, size, name, prefix)
        else:
            data = codec.decompress(stored, size, name)
        first, last = frames.first_chunk[frame], frames.first_chunk[frame + 1]
        base = frames.end[first]
        view = memoryview(data)
        for chunk in range(first, last):
            part = view[frames.end[chunk] - base : frames.end[chunk + 1] - base]
            digest = blake3.blake3(part).digest()
            if not self.check.record(chunk, digest):
                raise DigestMismatch(
                    f"chunk {chunk} in {name}",
                    "blake3:" + index.chunk_digest(chunk).hex(),
                    "blake3:" + digest[:DIGEST_BYTES].hex(),
                )
        return data

    def _find(self, frame: int) -> bytes | None:
        """Return a frame that was decoded before, if it is still here."""
        data = self._cache.get(frame)
        if data is not None:
            self._cache.move_to_end(frame)
        elif frame in self._spilled:
            data = self._pread(self.frames.plain_bytes(frame), self._spilled[frame])
            self._keep(frame, data)
        return data

    def _read_spilled(self, frame: int, start: int, end: int) -> bytes | None:
        """Return part of a frame if it is in the temporary file only.

        Content that is put together from all over a version would else read each frame, and have
        it in memory, as often as there are chunks in it.
        """
        with self._changed:
            if frame in self._cache or frame not in self._spilled:
                return None
            self._count_use(frame)
            return self._pread(end - start, self._spilled[frame] + start)

    def _pread(self, size: int, offset: int) -> bytes:
        assert self._spill is not None
        data = os.pread(self._spill.fileno(), size, offset)
        if len(data) != size:
            raise OSError(errno.EIO, "a temporary file was cut short")
        return data

    def _keep(self, frame: int, data: bytes) -> None:
        self._cache[frame] = data
        self._cached += len(data)
        while self._cached > self._cache_bytes:
            old, data = self._cache.popitem(last=False)
            self._cached -= len(data)
            if old not in self._spilled and (self._remote or self.index.frame_depths[old]):
                if self._spill is None:
                    self._spill = temporary_file(self.directory)
                self._spilled[old] = self._spill.seek(0, os.SEEK_END)
                self._spill.write(data)

    def _count_use(self, frame: int) -> bool:
        """Tell whether a frame may be asked for again after this time."""
        if self._uses is None:
            return True
        self._uses[frame] -= 1
        return self._uses[frame] != 0

    def _prefixes_of(self, frames: Iterable[int]) -> Iterator[int]:
        of_chunk = self.frames.of_chunk
        for frame in frames:
            for start, length in self.frames.prefix_runs(frame):
                yield from range(of_chunk(start), of_chunk(start + length - 1) + 1)


def temporary_file(directory: bytes | None) -> IO[bytes]:
    """Return an unnamed file that may grow large, by default on a disk rather than in memory."""
    on_disk = b"/var/tmp"
    if directory is None and os.path.isdir(on_disk) and not os.environ.get("TMPDIR"):
        directory = on_disk
    return tempfile.TemporaryFile(dir=directory, buffering=0)
