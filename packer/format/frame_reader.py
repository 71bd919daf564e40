"""Frames to chunks: each frame is decoded once if memory allows, and every chunk is verified."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from threading import Condition

import blake3

from packer.engine import zstd
from packer.engine.delta import decode_into
from packer.engine.memory import writable
from packer.errors import DigestMismatch, IntegrityError, NotFound, SizeMismatch
from packer.files.room import Room
from packer.forks import renew_in_children
from packer.format.blob_ranges import BlobRanges
from packer.format.cost import Cost
from packer.format.damage import touched
from packer.format.frame_cache import FrameCache
from packer.format.frames import Frames, joined
from packer.format.index import DIGEST_BYTES, Index
from packer.format.tree_digest import Check
from packer.format.version import Version
from packer.oci import Descriptor
from packer.stores.protocols import Store

_WORK_BYTES = 48 << 20
"""Memory of frames that are decoded and of segments that are rebuilt at a time, in bytes."""
_OFTEN = 1 << 40
"""Uses of a frame, more than there can be. An old stream is inflated again from a checkpoint, so
nobody knows how often the frames that hold it are asked for; fetching one again costs too much."""


class FrameReader:
    """Decodes the frames of one version, and verifies every chunk in them.

    Frames that are prefixes of others stay in a `FrameCache`. Decoding such a frame again would
    mean decoding its own prefix again, and so on down the chain, with a cost that multiplies.
    Safe to share between threads: several may decode at once, none decodes what another decodes.
    A context manager that removes the temporary file.

    Args:
        index: complete and checked.
        layers: the version's data layers, in the index's order.
        fetch: returns stored bytes of a layer, given its ordinal, an offset and a length in bytes.
        cache_bytes: bound on the decoded frames kept in memory.
        check: compares chunks with the index; by default one that records nothing.
        remote: fetching is slow, so no frame that is still of use is lost.
        directory: where the temporary file may grow; None as for `FrameCache`.
        store: the store that holds the layers, so that errors can say what damage touches.
        ahead: told the parts that `fetch` will be asked for, as tuples of its arguments.
        cost: counts what is read; None for one of its own.
    """

    def __init__(
        self,
        index: Index,
        layers: Sequence[Descriptor],
        fetch: Callable[[int, int, int], bytes | memoryview],
        *,
        cache_bytes: int = 24 << 20,
        check: Check | None = None,
        remote: bool = False,
        directory: bytes | None = None,
        store: Store | None = None,
        ahead: Callable[[Iterable[tuple[int, int, int]]], None] | None = None,
        cost: Cost | None = None,
    ) -> None:
        self.index = index
        self.layers = layers
        self.frames = Frames(index)
        self.check = check or Check(index)
        """Compares chunks and files with the index."""
        self.directory = directory
        """Where temporary files go."""
        self.room = Room(_WORK_BYTES)
        """Taken by threads for what they decode or rebuild beside one another."""
        self.spent = Cost() if cost is None else cost
        """Counts what is read."""
        self._fetch = fetch
        self._ahead = ahead
        self._store = store
        self._remote = remote
        self._cache = FrameCache(
            cache_bytes,
            self.frames.plain_bytes,
            lambda frame: remote or index.frame_depths[frame] > 0,
            directory,
        )
        self._decoding: set[int] = set()
        self._changed = Condition()
        """Guards the cache and `_decoding`; notified when a frame leaves the latter."""
        self._prefix_frames = set(self._prefixes_of(range(len(index.frame_stored))))
        renew_in_children(self)

    def renew_after_fork(self) -> None:
        """In a forked child: work without the threads, and the temporary file, of the parent."""
        self._decoding = set()
        self._changed = Condition()
        self._cache.renew_after_fork()

    def __enter__(self) -> FrameReader:
        """Return the reader."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the temporary file."""
        self.close()

    def close(self) -> None:
        """Remove the temporary file; no frame may be asked for any more."""
        self._cache.close()

    def expect(self, frames: Iterable[int]) -> None:
        """Set which frames will be decoded, so that each is released after its last use.

        Args:
            frames: ordinals; a frame that will be asked for twice is in them twice.
        """
        uses = Counter(iter(frames))
        todo = list(uses)
        while todo:
            # A frame is read once for each run of a prefix that lies in it.
            for prefix in self._prefixes_of((todo.pop(),)):
                if prefix not in uses:
                    todo.append(prefix)
                uses[prefix] += 1
        if self._remote:
            for frame in self._frames_of_predecessors():
                if frame in uses:
                    uses[frame] += _OFTEN
        self._cache.expect(uses)
        if self._ahead is not None:
            at, stored = self.frames, self.index.frame_stored
            self._ahead((at.layer[frame], at.offset[frame], stored[frame]) for frame in uses)

    def cost(self, frame: int) -> int:
        """Return the memory that decoding a frame takes, in bytes, its content included.

        Args:
            frame: its ordinal.
        """
        frames = self.frames
        prefix = sum(
            frames.end[start + length] - frames.end[start]
            for start, length in frames.prefix_runs(frame)
        )
        return frames.plain_bytes(frame) + prefix + self.index.frame_stored[frame]

    def decode(self, frame: int, *, keep: bool = False) -> memoryview:
        """Return the plaintext of a frame, every chunk in it verified.

        A damaged frame raises `FormatError`, a chunk that is not the index's `DigestMismatch`, a
        layer that is cut off `SizeMismatch`; each says which files and versions need the frame.

        Args:
            frame: its ordinal.
            keep: it may soon be asked for again. Frames that are prefixes are kept anyway.

        Returns:
            the plaintext, which the caller must not change.
        """
        with self._alone(frame):
            with self._changed:
                data = self._cache.find(frame)
                if data is not None:
                    self._cache.count_use(frame)
                    return data
            data = self._decode(frame)
            with self._changed:
                again = self._cache.count_use(frame)
                if again and (keep or frame in self._prefix_frames):
                    self._cache.keep(frame, data)
            return data

    def chunks(self, start: int, length: int) -> list[memoryview]:
        """Return the bytes of a run of chunks, verified. It raises what `decode` raises.

        Args:
            start: first chunk.
            length: number of chunks.

        Returns:
            a view for each chunk; it keeps the whole frame alive.
        """
        out: list[memoryview] = []
        frames = self.frames
        for frame, first, count in frames.parts(start, length):
            base = frames.end[frames.first_chunk[frame]]
            with self._changed:
                part = self._cache.read_part(
                    frame, frames.end[first] - base, frames.end[first + count] - base
                )
            if part is None:
                view = self.decode(frame, keep=True)
            else:
                view, base = part, frames.end[first]
            for chunk in range(first, first + count):
                out.append(view[frames.end[chunk] - base : frames.end[chunk + 1] - base])
        return out

    @contextmanager
    def _alone(self, frame: int) -> Iterator[None]:
        """Let no other thread look for the frame or decode it meanwhile."""
        with self._changed:
            self._changed.wait_for(lambda: frame not in self._decoding)
            self._decoding.add(frame)
        try:
            yield
        finally:
            with self._changed:
                self._decoding.remove(frame)
                self._changed.notify_all()

    def _prepare(self, frame: int) -> None:
        """Decode a frame into the cache, unless it is there."""
        with self._alone(frame):
            if frame not in self._cache:
                data = self._decode(frame)
                with self._changed:
                    self._cache.keep(frame, data)

    def _decode(self, frame: int) -> memoryview:
        """Return a frame that is not in the cache."""
        frames, index = self.frames, self.index
        # One prefix after the other, so that a chain of sixteen does not hold sixteen at once.
        for before in dict.fromkeys(self._prefixes_of((frame,))):
            if index.frame_depths[before]:
                self._prepare(before)
        prefix = joined(self.chunks, frames.prefix_runs(frame))
        layer, offset = frames.layer[frame], frames.offset[frame]
        digest = self.layers[layer].digest
        try:
            stored = self._fetch(layer, offset, index.frame_stored[frame])
            with self._changed:
                self.spent.read_bytes += len(stored)
            return self._verified(
                frame, stored, prefix, f"frame at offset {offset} of layer {digest}"
            )
        except (IntegrityError, NotFound) as error:
            # A layer that was cut off, or is gone, is damaged as a whole.
            whole = isinstance(error, (SizeMismatch, NotFound))
            damaged = frames.of_layer(layer) if whole else range(frame, frame + 1)
            error.touched = touched(frames, damaged, digest, self._store)
            raise

    def _verified(
        self, frame: int, stored: bytes | memoryview, prefix: bytearray, name: str
    ) -> memoryview:
        """Return the plaintext of a stored frame, once each chunk has the digest of the index."""
        frames, index = self.frames, self.index
        size = frames.plain_bytes(frame)
        data = writable(size)
        if prefix:
            decode_into(data, stored, name, prefix)
        else:
            zstd.decompress_into(data, stored, name)
        first, last = frames.first_chunk[frame], frames.first_chunk[frame + 1]
        base = frames.end[first]
        for chunk in range(first, last):
            part = data[frames.end[chunk] - base : frames.end[chunk + 1] - base]
            digest = blake3.blake3(part).digest()
            if not self.check.record(chunk, digest):
                raise DigestMismatch(
                    f"chunk {chunk} in {name}",
                    "blake3:" + index.chunk_digest(chunk).hex(),
                    "blake3:" + digest[:DIGEST_BYTES].hex(),
                )
        return data

    def _frames_of_predecessors(self) -> set[int]:
        """Return the frames that hold predecessors."""
        of_chunk = self.frames.of_chunk
        return {
            frame
            for row in self.index.predecessors
            for start, length in row.runs
            for frame in range(of_chunk(start), of_chunk(start + length - 1) + 1)
        }

    def _prefixes_of(self, frames: Iterable[int]) -> Iterator[int]:
        """Yield the frames that hold the frames' prefixes, once for each run that meets them."""
        of_chunk = self.frames.of_chunk
        for frame in frames:
            for start, length in self.frames.prefix_runs(frame):
                yield from range(of_chunk(start), of_chunk(start + length - 1) + 1)


@contextmanager
def opened_frames(
    version: Version,
    index: Index | None = None,
    *,
    check: Check | None = None,
    cost: Cost | None = None,
) -> Iterator[FrameReader]:
    """Read the frames of a version from the store that it was loaded from.

    Args:
        version: whose layers are read.
        index: of a part of it; None for all.
        check: as for `FrameReader`.
        cost: as for `FrameReader`.

    Yields:
        The reader, until the block ends.
    """
    layers = version.manifest.data_layers
    with (
        BlobRanges(version.store, layers) as ranges,
        FrameReader(
            version.index if index is None else index,
            layers,
            ranges.read,
            check=check,
            remote=ranges.remote,
            store=version.store,
            ahead=ranges.expect,
            cost=cost,
        ) as reader,
    ):
        yield reader
