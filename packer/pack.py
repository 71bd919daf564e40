"""A directory to a version in a local store: walk, chunk, digest, frames, layers, index, manifest.

The flow, in one pass over the files: known chunks become references; new ones go to the
`LayerWriter`. What the base's layers hold and this version no longer uses is *dead*; when it
outgrows the live bytes, or the layers their budget, layers are dropped and what still lived there
is read again from the files (compaction, docs/architecture.md).
"""

from __future__ import annotations

import os
import time
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import BinaryIO, Protocol, cast

import blake3

from packer import codec
from packer.chunking import cut_points
from packer.compaction import layers_to_drop, liveness
from packer.errors import SourceChanged
from packer.index import DIGEST_BYTES, Frames, Index
from packer.layer import LayerWriter, layer_bytes_for
from packer.model import (
    CONFIG_TYPE,
    INDEX_TYPE,
    MANIFEST_TYPE,
    ChunkParams,
    Descriptor,
    Manifest,
)
from packer.progress import Progress, ProgressCallback
from packer.store.base import Ingest, Store
from packer.tree import DIRECTORY, FILE, SYMLINK, Found, identity_of, open_file, show, walk
from packer.version import (
    CREATED,
    PARENT,
    TITLE,
    VERSION,
    Config,
    Version,
    encode_index,
    version_label,
)

READ_BYTES = 4 << 20
"""How much of a file is read and chunked at a time."""


class LocalStore(Store, Ingest, Protocol):
    """What pack writes to: memory or an image layout."""


@dataclass(frozen=True, slots=True)
class Packed:
    """The result of packing.

    Args:
        descriptor: of the manifest.
        tag: under which the store has it.
        files: number of files in the version.
        bytes: their size.
        new_bytes: bytes added to the store: layers, index, config and manifest.
        new_layers: data layers that were written.
        layers: data layers the version uses.
        unchanged: True if the same tree was there already and nothing was added.
        parent: manifest digest of the base, or "".
    """

    descriptor: Descriptor
    tag: str
    files: int
    bytes: int
    new_bytes: int
    new_layers: int
    layers: int
    unchanged: bool
    parent: str

    @property
    def digest(self) -> str:
        """The manifest's digest, which names the version for good."""
        return self.descriptor.digest


def pack_tree(
    root: bytes,
    store: LocalStore,
    tag: str,
    *,
    base: Version | None,
    candidates: tuple[Version, ...],
    params: ChunkParams,
    level: int,
    created: int | None,
    tool: str,
    progress: ProgressCallback | None = None,
) -> Packed:
    """Pack the directory or file at `root` and tag it.

    Args:
        root: what to pack.
        store: where everything goes.
        tag: name for the version.
        base: version whose chunks are referred to; its blobs must be in `store`.
        candidates: versions that are reused whole if their tree is the same.
        params: chunk sizes; a base with other ones is not used.
        level: zstd level of new frames.
        created: seconds since the epoch for the manifest; None means now.
        tool: name and version of the writer, for the config.
        progress: called now and then from the calling thread.

    Raises:
        SourceChanged, UnsupportedFile, OSError: about a file of the directory, by name.
    """
    if base is not None and base.config.chunking != params:
        base = None
    found = walk(given := os.path.abspath(root))
    work = _Work(os.path.realpath(given), found, store, base, params, level, progress)
    try:
        index = work.scan()
        tree = index.tree_digest()
        for version in candidates:
            if version.config.tree == tree and version.config.chunking == params:
                work.writer.abort()
                data = version.manifest.encode()
                descriptor = store.put_manifest(data, MANIFEST_TYPE, tag)
                return _result(descriptor, tag, version.manifest, version.config, unchanged=True)
        layers = work.finish(index)
    except BaseException:
        work.writer.abort()
        raise
    finally:
        work.executor.shutdown(cancel_futures=True)

    parent = base.descriptor.digest if base is not None else ""
    plain = index.encode()
    blob, chain = encode_index(plain, base)
    index_layer, index_bytes = _put(store, blob, INDEX_TYPE)
    config = Config(
        params,
        "blake3:" + blake3.blake3(plain).hexdigest(),
        len(plain),
        tree,
        _totals(index),
        level,
        tool,
        codec.zstd_version(),
        parent,
    )
    config_blob, config_bytes = _put(store, config.encode(), CONFIG_TYPE)
    stamp = datetime.fromtimestamp(time.time() if created is None else created, timezone.utc)
    annotations = {CREATED: stamp.strftime("%Y-%m-%dT%H:%M:%SZ"), TITLE: tag}
    if label := version_label(tag):
        annotations[VERSION] = label
    if parent:
        annotations[PARENT] = parent
    manifest = Manifest(config_blob, (*layers, *chain, index_layer), annotations)
    data = manifest.encode()
    descriptor = store.put_manifest(data, MANIFEST_TYPE, tag)
    return _result(
        descriptor,
        tag,
        manifest,
        config,
        new_bytes=work.writer.new_bytes + index_bytes + config_bytes + len(data),
        new_layers=len(work.writer.layers),
    )


def _result(
    descriptor: Descriptor,
    tag: str,
    manifest: Manifest,
    config: Config,
    *,
    new_bytes: int = 0,
    new_layers: int = 0,
    unchanged: bool = False,
) -> Packed:
    return Packed(
        descriptor,
        tag,
        config.totals["files"],
        config.totals["bytes"],
        new_bytes,
        new_layers,
        len(manifest.data_layers),
        unchanged,
        config.parent,
    )


def _put(store: Ingest, data: bytes, media_type: str) -> tuple[Descriptor, int]:
    """Store a small blob; return its descriptor and the bytes it added."""
    with store.create() as writer:
        writer.write(data)
        descriptor, is_new = writer.commit(media_type)
    return descriptor, descriptor.size if is_new else 0


def _totals(index: Index) -> dict[str, int]:
    return {
        "files": index.kinds.count(FILE),
        "directories": index.kinds.count(DIRECTORY),
        "symlinks": index.kinds.count(SYMLINK),
        "bytes": sum(index.entry_sizes()),
        "chunks": sum(index.run_lengths),
    }


class _Work:
    """One run of pack over the files of one tree."""

    def __init__(
        self,
        root: bytes,
        found: list[Found],
        store: LocalStore,
        base: Version | None,
        params: ChunkParams,
        level: int,
        progress: ProgressCallback | None,
    ) -> None:
        self.root = root
        self.found = found
        self.params = params
        self.base = base.index if base is not None else Index()
        self.base_layers = base.manifest.data_layers if base is not None else ()
        self.progress = progress
        self.is_directory = os.path.isdir(root)
        self.total_bytes = sum(item.size for item in found)
        self.done_bytes = 0
        self.buffer = bytearray(READ_BYTES + params.max_bytes)
        digests = bytes(self.base.chunk_digests)
        self.known = {
            digests[at * DIGEST_BYTES : (at + 1) * DIGEST_BYTES]: at
            for at in range(self.base.chunk_count)
        }
        self.new_lengths = array("I")
        self.new_digests = bytearray()
        self.executor = ThreadPoolExecutor(os.cpu_count() or 1, "pack")
        self.writer = LayerWriter(
            store,
            self.executor,
            level=level,
            layer_bytes=layer_bytes_for(self.total_bytes),
            backlog=2 * (os.cpu_count() or 1),
        )

    def scan(self) -> Index:
        """Read every file; return entries and runs, in ordinals of all base, then new chunks.

        The index's chunk columns cover all these chunks; its layers and frames are not there yet.
        """
        index = Index()
        for item in self.found:
            index.paths.append(item.path)
            index.kinds.append(item.kind)
            index.modes.append(item.mode)
            if item.kind == SYMLINK:
                index.targets.append(item.target)
            runs = self._pack_file(item) if item.size and item.kind == FILE else []
            index.run_counts.append(len(runs))
            for start, length in runs:
                index.run_starts.append(start)
                index.run_lengths.append(length)
        index.chunk_lengths = self.base.chunk_lengths + self.new_lengths
        index.chunk_digests = self.base.chunk_digests + self.new_digests
        return index

    def finish(self, index: Index) -> tuple[Descriptor, ...]:
        """Choose the base layers that stay, write the new ones, and complete `index`.

        Returns:
            the version's data layers, in order.
        """
        found = liveness(self.base, index.run_starts, index.run_lengths)
        dropped = layers_to_drop(found)
        if dropped:
            self._store_again(index, dropped)
        self.writer.close()
        kept = found.kept(dropped)
        _renumber(index, self.base, kept, self.writer, self.new_lengths, self.new_digests)
        return (
            *(layer for at, layer in enumerate(self.base_layers) if at in kept),
            *self.writer.layers,
        )

    def _full_path(self, item: Found) -> bytes:
        return self.root + b"/" + item.path if self.is_directory else self.root

    def _pack_file(self, item: Found) -> list[tuple[int, int]]:
        """Return the runs of a file's chunks, handing the new ones to the writer."""
        runs: list[tuple[int, int]] = []
        known = self.known
        hasher = blake3.blake3
        start = end = 0
        for chunk in self._chunks(item):
            digest = hasher(chunk).digest()
            ordinal = known.get(digest)
            if ordinal is None:
                ordinal = self._add(chunk, digest)
            if ordinal == end and end:
                end += 1
                continue
            if end:
                runs.append((start, end - start))
            start, end = ordinal, ordinal + 1
        runs.append((start, end - start))
        return runs

    def _add(self, chunk: memoryview, digest: bytes) -> int:
        ordinal = self.base.chunk_count + len(self.new_lengths)
        self.known[digest] = ordinal
        self.new_lengths.append(len(chunk))
        self.new_digests += digest
        self.writer.add(chunk, digest)
        return ordinal

    def _chunks(self, item: Found) -> Iterator[memoryview]:
        """Yield a file's chunks; each is valid until the next is asked for.

        Raises:
            SourceChanged: the file is not what `walk` saw, before, while or after it is read.
        """
        full = self._full_path(item)
        fd = open_file(full, item)
        with cast(BinaryIO, open(fd, "rb", buffering=0)) as file:
            held = 0  # bytes in the buffer that belong to no chunk yet
            remaining = item.size
            view = memoryview(self.buffer)
            while remaining:
                want = min(len(view) - held, remaining)
                count = file.readinto(view[held : held + want])  # type: ignore[attr-defined]
                if not count:
                    raise SourceChanged(show(full), "it became shorter")
                remaining -= count
                held += count
                if remaining and held < len(view):
                    continue
                self._report(count, item.path)
                start = 0
                data = view[:held]
                for end in cut_points(data, self.params, final=not remaining):
                    yield data[start:end]
                    start = end
                held -= start
                view[:held] = data[start:]
            if file.read(1) or identity_of(os.fstat(fd)) != item.identity:
                raise SourceChanged(show(full))

    def _report(self, count: int, path: bytes) -> None:
        self.done_bytes += count
        if self.progress is not None:
            self.progress(Progress("pack", self.done_bytes, self.total_bytes, show(path)))

    def _store_again(self, index: Index, dropped: frozenset[int]) -> None:
        """Hand what lives in dropped base layers to the writer, and point the runs there."""
        frames = Frames(self.base)
        doomed = bytearray(self.base.chunk_count)
        for frame, layer in enumerate(frames.layer):
            if layer in dropped:
                first, last = frames.first_chunk[frame], frames.first_chunk[frame + 1]
                doomed[first:last] = b"\1" * (last - first)
        for digest in [digest for digest, at in self.known.items() if doomed[at : at + 1] == b"\1"]:
            del self.known[digest]
        starts, lengths, counts = array("I"), array("I"), array("I")
        for item, runs in zip(self.found, list(index.entry_runs()), strict=True):
            if any(1 in doomed[start : start + length] for start, length in runs):
                runs = self._pack_file(item)
            counts.append(len(runs))
            for start, length in runs:
                starts.append(start)
                lengths.append(length)
        index.run_counts, index.run_starts, index.run_lengths = counts, starts, lengths


def _renumber(
    index: Index,
    base: Index,
    kept: set[int],
    writer: LayerWriter,
    new_lengths: array[int],
    new_digests: bytearray,
) -> None:
    """Fill in the layer, frame and chunk columns of `index`, and renumber its runs.

    Args:
        index: entries and runs, in ordinals of all base chunks, then the new ones.
        base: the base's index.
        kept: ordinals of the base layers that stay; they hold the prefixes of their own frames.
        writer: closed; its layers follow the kept ones.
        new_lengths, new_digests: its chunks.
    """
    frames = Frames(base)
    index.chunk_lengths, index.chunk_digests = array("I"), bytearray()
    shifts = _Shifts()
    frame = 0
    for layer, count in enumerate(base.layer_frames):
        first, last = frame, frame + count
        start, end = frames.first_chunk[first], frames.first_chunk[last]
        frame = last
        if layer not in kept:
            shifts.leave_out(start, end)
            continue
        index.layer_digests += base.layer_digests[layer * DIGEST_BYTES : (layer + 1) * DIGEST_BYTES]
        index.layer_sizes.append(base.layer_sizes[layer])
        index.layer_frames.append(count)
        index.frame_stored.extend(base.frame_stored[first:last])
        index.frame_chunks.extend(base.frame_chunks[first:last])
        index.frame_depths += base.frame_depths[first:last]
        index.frame_prefix_runs.extend(base.frame_prefix_runs[first:last])
        for at in range(first, last):
            for run_start, run_length in frames.prefix_runs(at):
                index.prefix_starts.append(shifts.apply(run_start))
                index.prefix_lengths.append(run_length)
        index.chunk_lengths.extend(base.chunk_lengths[start:end])
        index.chunk_digests += base.chunk_digests[start * DIGEST_BYTES : end * DIGEST_BYTES]
    for descriptor in writer.layers:
        index.layer_digests += bytes.fromhex(descriptor.digest.removeprefix("sha256:"))
        index.layer_sizes.append(descriptor.size)
    index.layer_frames.extend(writer.layer_frames)
    index.frame_stored.extend(writer.frame_stored)
    index.frame_chunks.extend(writer.frame_chunks)
    index.frame_depths += bytes(len(writer.frame_chunks))
    index.frame_prefix_runs.extend([0] * len(writer.frame_chunks))
    index.chunk_lengths.extend(new_lengths)
    index.chunk_digests += new_digests
    index.run_starts = array("I", map(shifts.apply, index.run_starts))


class _Shifts:
    """How far ordinals move down when chunks before them are left out."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._totals = [0]

    def leave_out(self, start: int, end: int) -> None:
        """Leave out the chunks from `start` to `end`, which lie behind all earlier ones."""
        self._starts.append(start)
        self._totals.append(self._totals[-1] + end - start)

    def apply(self, ordinal: int) -> int:
        """Return the new ordinal of a chunk that stays."""
        return ordinal - self._totals[bisect_right(self._starts, ordinal)]
