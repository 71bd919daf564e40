"""Reading a tree once: files to chunks, chunks to references or to new frames."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from concurrent.futures import Executor

import blake3

from packer.chunking import BUFFER_BYTES, iter_chunks
from packer.counterparts import Alignment, Counterparts
from packer.errors import SourceChanged
from packer.index import DIGEST_BYTES, MAX_DEPTH, Index
from packer.layer import FrameReader, LayerWriter, layer_bytes_for
from packer.model import ChunkParams
from packer.progress import Progress, ProgressCallback
from packer.store.base import Ingest
from packer.tree import FILE, SYMLINK, Found, identity_of, open_file, show


class Scan:
    """One pass over the files of a tree.

    Known chunks become references to the base; new ones go to `writer`, each with the base chunks
    that are probably like it.

    Args:
        root: the directory, or the single file.
        found: what is in it.
        store: where new layers go.
        executor: compresses frames.
        base: reads the base's chunks; an empty index if there is no base.
        dropped: base layers that must not be used.
        params: chunk sizes.
        level: zstd level of new frames.
        progress: called now and then from the calling thread.
    """

    def __init__(
        self,
        root: bytes,
        found: list[Found],
        store: Ingest,
        executor: Executor,
        base: FrameReader,
        dropped: frozenset[int],
        params: ChunkParams,
        level: int,
        progress: ProgressCallback | None,
    ) -> None:
        self._root = root
        self._found = found
        self._params = params
        self._progress = progress
        self._is_directory = os.path.isdir(root)
        self._total_bytes = sum(item.size for item in found)
        self._done_bytes = 0
        self._buffer = bytearray(max(BUFFER_BYTES, 2 * params.max_bytes))
        self._base = base.index
        self._counterparts = Counterparts(self._base) if self._base.paths else None
        usable, extendable = _usable_chunks(base, dropped)
        self._extendable = extendable
        digests = bytes(self._base.chunk_digests)
        self._known = {
            digests[at * DIGEST_BYTES : (at + 1) * DIGEST_BYTES]: at
            for at in range(self._base.chunk_count)
            if usable[at]
        }
        self.new_lengths = array("I")
        """Plaintext length of each new chunk."""
        self.new_digests = bytearray()
        """Digests of the new chunks, DIGEST_BYTES each."""
        self.contents = blake3.blake3()
        """Over the full digests of all chunks, for the tree digest."""
        self.writer = LayerWriter(
            store,
            executor,
            level=level,
            layer_bytes=layer_bytes_for(self._total_bytes),
            base=base,
            backlog=2 * (os.cpu_count() or 1),
        )

    def run(self) -> Index:
        """Read every file; return entries and runs, in ordinals of all base, then new chunks.

        The index's chunk columns cover all these chunks; its layers and frames are not there yet.

        Raises:
            SourceChanged, OSError: about a file, by name.
        """
        index = Index()
        for item in self._found:
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
        index.chunk_lengths = self._base.chunk_lengths + self.new_lengths
        index.chunk_digests = self._base.chunk_digests + self.new_digests
        return index

    def _pack_file(self, item: Found) -> list[tuple[int, int]]:
        """Return the runs of a file's chunks, handing the new ones to the writer."""
        runs: list[tuple[int, int]] = []
        known = self._known
        hasher = blake3.blake3
        contents = self.contents.update
        start = end = offset = 0
        aligned = (-1, 0)  # last base chunk that the file holds, and where it ends
        alignment: Alignment | None = None
        for chunk in self._chunks(item):
            full = hasher(chunk).digest()
            contents(full)
            digest = full[:DIGEST_BYTES]
            ordinal = known.get(digest)
            length = len(chunk)
            if ordinal is not None:
                aligned = (ordinal, offset + length)
            else:
                similar: list[int] = []
                if self._counterparts is not None:
                    if alignment is None:
                        alignment = self._counterparts.open(item.path)
                    if alignment is not None:
                        alignment.align(*aligned)
                        similar = self._similar(alignment, offset, length)
                ordinal = self._base.chunk_count + len(self.new_lengths)
                known[digest] = ordinal
                self.new_lengths.append(length)
                self.new_digests += digest
                self.writer.add(chunk, full, similar)
            offset += length
            if ordinal == end and end:
                end += 1
                continue
            if end:
                runs.append((start, end - start))
            start, end = ordinal, ordinal + 1
        runs.append((start, end - start))
        return runs

    def _similar(self, alignment: Alignment, offset: int, length: int) -> list[int]:
        """Return the base chunks that a new chunk of a file may be compressed against."""
        near = alignment.near(offset, offset + length, self._params.average_bytes)
        return [chunk for chunk in near if self._extendable[chunk]]

    def _chunks(self, item: Found) -> Iterator[memoryview]:
        """Yield a file's chunks; each is valid until the next is asked for.

        Raises:
            SourceChanged: the file is not what `walk` saw, before, while or after it is read.
        """
        full = self._root + b"/" + item.path if self._is_directory else self._root
        fd = open_file(full, item)
        with open(fd, "rb", buffering=0) as file:
            seen = 0
            for view, cuts in iter_chunks(file, self._params, buffer=self._buffer):
                seen += len(view)
                if seen > item.size:  # it grows as fast as it is read: do not follow
                    break
                self._report(len(view), item.path)
                start = 0
                for end in cuts:
                    yield view[start:end]
                    start = end
            if seen != item.size or identity_of(os.fstat(fd)) != item.identity:
                raise SourceChanged(show(full))

    def _report(self, count: int, path: bytes) -> None:
        self._done_bytes += count
        if self._progress is not None:
            self._progress(Progress("pack", self._done_bytes, self._total_bytes, show(path)))


def _usable_chunks(base: FrameReader, dropped: frozenset[int]) -> tuple[bytearray, bytearray]:
    """Return one byte a base chunk: 1 if it may be referred to, and if it may be a prefix."""
    index, frames = base.index, base.frames
    usable, extendable = bytearray(index.chunk_count), bytearray(index.chunk_count)
    for frame, (layer, depth) in enumerate(zip(frames.layer, index.frame_depths, strict=True)):
        first, last = frames.first_chunk[frame], frames.first_chunk[frame + 1]
        if layer not in dropped:
            usable[first:last] = b"\1" * (last - first)
            if depth < MAX_DEPTH:
                extendable[first:last] = b"\1" * (last - first)
    return usable, extendable
