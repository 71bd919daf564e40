"""Frames to chunks: decoded once, verified, kept in bounded memory."""

from __future__ import annotations

from array import array
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from threading import Condition
from typing import IO

import blake3

from packer.engine import zstd
from packer.engine.delta import decode as decode_delta
from packer.errors import DigestMismatch, IntegrityError, SizeMismatch
from packer.files.temporary import read_at, temporary_file, write_at
from packer.format.damage import touched
from packer.format.index import DIGEST_BYTES, Frames, Index
from packer.format.tree_digest import Check
from packer.oci import Descriptor
from packer.stores.protocols import Store

_SPILL_BYTES, _EXPECTED_SPILL_BYTES = 64 << 20, 256 << 20
"""So much of what could be fetched and decoded again is written to a temporary file: reading it
back takes a fifth of the time. More if it is known that it will be asked for again."""


class Runs:
    """Runs of chunks, neighbours merged: pairs of the first ordinal and their number.

    A frame's prefix may have a hundred thousand; they take 8 bytes each so, and 120 as tuples.

    Args:
        chunks: ordinals of the chunks.
    """

    __slots__ = ("_counts", "_starts")

    def __init__(self, chunks: Iterable[int] = ()) -> None:
        self._starts, self._counts = array("I"), array("I")
        end = -1
        for chunk in chunks:
            if chunk == end:
                self._counts[-1] += 1
            else:
                self._starts.append(chunk)
                self._counts.append(1)
            end = chunk + 1

    def __len__(self) -> int:
        """Return the number of runs."""
        return len(self._starts)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield the runs."""
        return zip(self._starts, self._counts, strict=True)


def joined(
    read: Callable[[int, int], list[memoryview]], runs: Iterable[tuple[int, int]]
) -> bytearray:
    """Return the bytes of runs, one after another."""
    out = bytearray()
    for start, length in runs:
        # Run by run: every part keeps the whole frame it lies in alive.
        for part in read(start, length):
            out += part
    return out


class FrameReader:
    """Decodes frames of one version, each at most once, and verifies every chunk in them.

    Frames that are prefixes of others stay in a cache of `cache_bytes` and behind it in a temporary
    file, those that have prefixes themselves whatever the file's size: decoding one again would
    mean decoding its prefixes again, and theirs, with a cost that multiplies along the chain.
    Thread-safe: several threads may decode at once.

    Args:
        index: checked.
        layers: the data layers, in the index's order.
        fetch: returns the stored bytes of a frame: (layer ordinal, offset, length) -> bytes.
        cache_bytes: bound on decoded frames kept in memory.
        check: of chunks; by default one that notes nothing.
        remote: fetching is slow: no frame that is still of use is forgotten.
        directory: where the temporary file may grow; by default where temporary files survive a
            restart, which is on a disk more often than the other place.
        store: where the layers are; for errors, which say what damage touches.
    """

    def __init__(
        self,
        index: Index,
        layers: Sequence[Descriptor],
        fetch: Callable[[int, int, int], bytes],
        *,
        cache_bytes: int = 32 << 20,
        check: Check | None = None,
        remote: bool = False,
        directory: bytes | None = None,
        store: Store | None = None,
    ) -> None:
        self.index = index
        self.layers = layers
        self.frames = Frames(index)
        self.check = check or Check(index)
        """What chunks and files are held against."""
        self._fetch = fetch
        self._store = store
        self._cache: OrderedDict[int, bytes | bytearray] = OrderedDict()
        self._cached = 0
        self._cache_bytes = cache_bytes
        self._remote = remote
        self.directory = directory
        """Where temporary files go."""
        self._spill: IO[bytes] | None = None
        self._spill_bytes = 0
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

    def decode(self, frame: int, *, keep: bool = False) -> bytes | bytearray:
        """Return the plaintext of a frame, every chunk in it verified.

        Args:
            frame: its ordinal.
            keep: it may soon be asked for again; frames that are prefixes are kept anyway.

        Raises:
            FormatError: the frame is damaged.
            DigestMismatch: a chunk in it is not what the index says.
        """
        with self._alone(frame):
            with self._changed:
                data = self._find(frame)
                if data is not None:
                    if not self._count_use(frame) and frame in self._cache:
                        self._cached -= len(self._cache.pop(frame))
                    return data
            data = self._decode(frame)
            with self._changed:
                if self._count_use(frame) and (keep or frame in self._prefix_frames):
                    self._keep(frame, data)
            return data

    def _prepare(self, frame: int) -> None:
        """Decode a frame that will be asked for, unless it is here; nothing is returned."""
        with self._alone(frame):
            if frame not in self._cache and frame not in self._spilled:
                data = self._decode(frame)
                with self._changed:
                    self._keep(frame, data)

    @contextmanager
    def _alone(self, frame: int) -> Iterator[None]:
        """Be the only thread that looks for or decodes a frame."""
        with self._changed:
            self._changed.wait_for(lambda: frame not in self._decoding)
            self._decoding.add(frame)
        try:
            yield
        finally:
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
            spilled = self._read_spilled(
                frame, frames.end[first] - base, frames.end[first + count] - base
            )
            if spilled is None:
                view = memoryview(self.decode(frame, keep=True))
            else:
                view, base = memoryview(spilled), frames.end[first]
            for chunk in range(first, first + count):
                out.append(view[frames.end[chunk] - base : frames.end[chunk + 1] - base])
        return out

    def _decode(self, frame: int) -> bytes | bytearray:
        frames, index = self.frames, self.index
        # One after the other, so that a chain of sixteen does not hold sixteen prefixes at once.
        for before in dict.fromkeys(self._prefixes_of((frame,))):
            if index.frame_depths[before]:
                self._prepare(before)
        prefix = joined(self.chunks, frames.prefix_runs(frame))
        layer, offset = frames.layer[frame], frames.offset[frame]
        digest = self.layers[layer].digest
        try:
            stored = self._fetch(layer, offset, index.frame_stored[frame])
            return self._verified(
                frame, stored, prefix, f"frame at offset {offset} of layer {digest}"
            )
        except IntegrityError as error:
            # A layer that was cut is damaged as a whole.
            whole = isinstance(error, SizeMismatch)
            damaged = frames.of_layer(layer) if whole else range(frame, frame + 1)
            error.touched = touched(frames, damaged, digest, self._store)
            raise

    def _verified(
        self, frame: int, stored: bytes, prefix: bytearray, name: str
    ) -> bytes | bytearray:
        frames, index = self.frames, self.index
        size = frames.plain_bytes(frame)
        data: bytes | bytearray
        if prefix:
            data = decode_delta(stored, size, name, prefix)
        else:
            data = zstd.decompress(stored, size, name)
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

    def _find(self, frame: int) -> bytes | bytearray | None:
        """Return a frame that was decoded before, if it is still here."""
        data = self._cache.get(frame)
        if data is not None:
            self._cache.move_to_end(frame)
        elif frame in self._spilled:
            assert self._spill is not None
            size = self.frames.plain_bytes(frame)
            data = read_at(self._spill, size, self._spilled[frame])
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
            assert self._spill is not None
            return read_at(self._spill, end - start, self._spilled[frame] + start)

    def _keep(self, frame: int, data: bytes | bytearray) -> None:
        self._cache[frame] = data
        self._cached += len(data)
        while self._cached > self._cache_bytes:
            old, data = self._cache.popitem(last=False)
            self._cached -= len(data)
            if old not in self._spilled:
                self._spill_frame(old, data)

    def _spill_frame(self, frame: int, data: bytes | bytearray) -> None:
        """Write a frame to the temporary file, if it is worth that."""
        needed = self._remote or self.index.frame_depths[frame]
        most = _SPILL_BYTES if self._uses is None else _EXPECTED_SPILL_BYTES
        if not needed and self._spill_bytes + len(data) > most:
            return
        try:
            if self._spill is None:
                self._spill = temporary_file(self.directory)
            write_at(self._spill, data, self._spill_bytes)
        except OSError:
            if needed:
                raise
            return  # it is decoded again
        self._spilled[frame] = self._spill_bytes
        self._spill_bytes += len(data)

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
