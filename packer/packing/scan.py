"""Reading a tree once: files to chunks, chunks to references or to new frames."""

from __future__ import annotations

import os
from array import array
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from itertools import chain, compress, islice
from operator import add, gt
from threading import Lock
from typing import IO

import blake3

from packer.engine.chunking import ChunkParams
from packer.engine.ordinals import Ordinals
from packer.errors import SourceChanged
from packer.files.temporary import read_at, temporary_file
from packer.files.tree import Tree, open_file, show
from packer.format.frame_reader import FrameReader, Runs
from packer.format.index import DIGEST_BYTES, FULL_DIGEST_BYTES, MAX_DEPTH, Index
from packer.format.layer_writer import LayerWriter, layer_bytes_for
from packer.opening.expansion import Expansion
from packer.opening.recipe_cache import RecipeCache
from packer.opening.workers import Workers
from packer.packing.counterparts import Alignment, Counterparts
from packer.packing.file_chunks import OpenedFile, Opener, digest_of
from packer.packing.similar import (
    MAX_SKETCHES,
    SUPER_FEATURES,
    Similar,
    SketchCache,
    note_base,
    sketch,
)
from packer.packing.small_files import WholeFile
from packer.packing.stat_cache import Facts, Remembered
from packer.progress import Progress, ProgressCallback
from packer.stores.protocols import Ingest

FIRST_DEPTH = 2
"""Depth that the frames of a first version may have."""
SPOOL_BYTES = 1 << 30
"""New chunks of opened archives, up to this many bytes, serve later ones as prefixes."""

STRETCH_ENTRIES = 8192
"""Entries that are taken over from the base at a time."""

REPORT_ENTRIES, REPORT_BYTES = 64, 1 << 20
"""Progress is told once in so many entries, or bytes."""
_SPOOLED = 0xFFFFFFFF


class Scan:
    """One pass over the files of a tree.

    Known chunks become references to the base; new ones go to `writer`, each with the base chunks
    that are probably like it.

    Args:
        root: the directory, or the single file.
        found: what is in it.
        remembered: what is known of its files without reading them.
        base_tree: the tree digest of the base.
        store: where new layers go.
        executor: compresses frames and analyses deflate streams.
        base: reads the base's chunks; an empty index if there is no base.
        dropped: base layers that must not be used.
        cache: of the sketches of the base's chunks.
        recipes: of deflate streams that were met before.
        params: chunk sizes.
        level: zstd level of new frames.
        expand: open archives.
        progress: called now and then from the calling thread.
    """

    def __init__(
        self,
        root: bytes,
        found: Tree,
        remembered: Remembered | None,
        base_tree: str,
        store: Ingest,
        executor: Executor,
        base: FrameReader,
        dropped: frozenset[int],
        cache: SketchCache,
        recipes: RecipeCache,
        params: ChunkParams,
        level: int,
        expand: bool,
        progress: ProgressCallback | None,
    ) -> None:
        self._found = found
        self._remembered = remembered
        self.facts = Facts(len(found), remembered)
        """What is known of the files now."""
        self._params = params
        self._expand = expand
        self._opener = Opener(
            root,
            found,
            params,
            Workers(executor, recipes, base.directory),
            self._report,
            self._is_read,
            expand=expand,
        )
        self._progress = progress
        self._total_bytes = found.bytes_of(0, len(found))
        self._done_bytes = 0
        self._reported = (-REPORT_ENTRIES, 0)  # where the last report was: entry and bytes
        self._base = base.index
        self._counterparts = Counterparts(self._base) if self._base.paths else None
        usable, self._extendable = _usable_chunks(base, dropped)
        self._reader = base
        self._reading = Lock()
        self._cache = cache
        self._similar = Similar()
        self._sketches = array("Q")  # of the new chunks
        self._base_noted = not self._base.paths
        self._known = Ordinals(DIGEST_BYTES, self._base.chunk_digests)
        for start, length in Runs(compress(range(self._base.chunk_count), usable)):
            self._known.put_lent(start, length)
        self._base_archives: dict[int, list[int]] = defaultdict(list)  # by size
        for entry, row in self._base.expansions.items():
            self._base_archives[row.size].append(entry)
        # Whether the rows of what is remembered are the entries of the base.
        self._is_base = remembered is not None and remembered.tree == base_tree
        self._stretch = STRETCH_ENTRIES  # so many are looked up at once
        self._new_item = array("I")  # of each new chunk: the file it was found in, or _SPOOLED,
        self._new_offset = array("Q")  # and where
        self._spool: IO[bytes] | None = None  # new chunks that no file holds as they are
        self._spool_bytes = 0
        self.new_lengths = array("I")
        """Plaintext length of each new chunk."""
        self.new_digests = bytearray()
        """Digests of the new chunks, DIGEST_BYTES each."""
        self.contents = blake3.blake3()
        """As `Index.tree_digest` wants it."""
        self.writer = LayerWriter(
            store,
            executor,
            level=level,
            layer_bytes=layer_bytes_for(self._total_bytes),
            older=self,
            backlog=1 + (os.cpu_count() or 1),
        )

    def run(self) -> Index:
        """Read every file; return entries and runs, in ordinals of all base, then new chunks.

        To be called once. The index's layers, frames and chunks are not there yet.

        Raises:
            SourceChanged, OSError: about a file, by name.
        """
        found = self._found
        index = Index(
            paths=found.paths,
            kinds=bytearray(found.kinds),
            modes=array("H", found.modes),
            targets=found.links,
        )
        at = 0
        while at < len(found):
            if self._remembered is not None and (count := self._recall_stretch(at, index)):
                at += count
                continue
            runs: list[tuple[int, int]] = []
            if found.size(at):
                runs = (
                    self._recall(at, index)
                    or self._archive_of_base(at, index)
                    or self._read_file(at, index)
                )
            _add_runs(index, runs)
            at += 1
        # What only this pass looks up takes as much as all that is known of the files.
        del self._known, self._similar, self._counterparts, self._extendable
        self._base.forget_sums()
        return index

    def save_sketches(self) -> None:
        """Keep those of the new layers, which are complete: the next version need not read them."""
        chunks, frames = iter(self.writer.frame_chunks), self.writer.layer_frames
        start = 0
        for layer, count in zip(self.writer.layers, frames, strict=True):
            of_layer = sum(islice(chunks, count))
            end = start + SUPER_FEATURES * min(of_layer, MAX_SKETCHES)
            if end <= len(self._sketches):
                self._cache.put(layer.digest, self._sketches[start:end])
            start += SUPER_FEATURES * of_layer

    def close(self) -> None:
        """Forget all but what was found out; call it when no frame is being compressed."""
        self._opener.close()
        del self._opener, self._found, self._remembered, self._new_item, self._new_offset
        del self._base, self._reader
        if self._spool is not None:
            self._spool.close()

    def _recall_stretch(self, at: int, index: Index) -> int:
        """Take the runs of entries from `at` on that look the same; return how many.

        This is `_recall` for many files, only faster.
        """
        assert self._remembered is not None
        rows = self._remembered.stretch(at, self._stretch)
        if not rows:
            return 0
        (start, end), counts = self._remembered.span(rows), self._remembered.counts(rows)
        digests = self._remembered.digests[start:end]
        ordinals = self._known.get_all(digests, FULL_DIGEST_BYTES)
        last = at + len(rows)
        sizes = self._found.sizes(at, last)
        # Dropped, or the base is another version; or a file of which nothing is noted.
        if -1 in ordinals or any(map(gt, map(bool, sizes), counts)):
            self._stretch = max(len(rows) // 2, 1)
            return 0
        self._stretch = min(2 * self._stretch, STRETCH_ENTRIES)
        if not self._take_runs_of_base(rows, counts, ordinals, index):
            done = 0
            for count in counts:
                runs = _as_runs(ordinals[done : done + count]) if count else []
                _add_runs(index, runs)
                done += count
        self.contents.update(digests)
        self.facts.take(at, counts, start, end)
        self._remembered.give_back(end - start)
        self._report(last - 1, self._found.bytes_of(at, last))
        return len(rows)

    def _take_runs_of_base(
        self, rows: range, counts: array[int], ordinals: array[int], index: Index
    ) -> bool:
        """Take the runs of the same entries of the base, if the base has them and they fit."""
        base = self._base
        if not self._is_base or base.chunk_counts[rows.start : rows.stop] != counts:
            return False
        runs = slice(base.first_run[rows.start], base.first_run[rows.stop])
        starts, lengths = base.run_starts[runs], base.run_lengths[runs]
        wanted = array("q", chain.from_iterable(map(range, starts, map(add, starts, lengths))))
        if ordinals != wanted:  # the base holds a chunk twice
            return False
        index.run_counts.extend(base.run_counts[rows.start : rows.stop])
        index.run_starts.extend(starts)
        index.run_lengths.extend(lengths)
        return True

    def _recall(self, at: int, index: Index) -> list[tuple[int, int]]:
        """Return the runs of a file that need not be read; none if it must be."""
        noted = self._remembered.find(at) if self._remembered is not None else None
        if noted is None:
            return []
        digests, recipe_chunks = noted
        width = FULL_DIGEST_BYTES
        ordinals = self._known.get_all(digests[width if recipe_chunks else 0 :], width)
        if -1 in ordinals:
            return []  # dropped, or the base is another version
        if recipe_chunks:
            self.contents.update(digests[:width])
            own = bytes(digests[:DIGEST_BYTES])
            index.expansions[at] = Expansion(self._found.size(at), recipe_chunks, own)
            self.facts.recipes[at] = recipe_chunks
        else:
            self.contents.update(digests)
        self.facts.note(at, digests)
        self._report(at, self._found.size(at))
        return _as_runs(ordinals)

    def _archive_of_base(self, at: int, index: Index) -> list[tuple[int, int]]:
        """Return the runs of an archive that the base has opened already; none if it has not.

        Its digest tells: a hundred times faster than opening it again.
        """
        size = self._found.size(at)
        if not self._expand or size not in self._base_archives:
            return []
        item = self._found[at]
        digest = digest_of(self._opener.path_of(item), item)
        for entry in self._base_archives[size]:
            if self._base.expansions[entry].digest == digest[:DIGEST_BYTES]:
                break
        else:
            return []
        ordinals = array("q")
        for start, length in self._base.runs_of(entry):
            for ordinal in range(start, start + length):
                ordinals.append(self._known.get(self._base.chunk_digest(ordinal)))
        if -1 in ordinals:
            return []  # layers were dropped
        index.expansions[at] = self._base.expansions[entry]
        self.contents.update(digest)
        # The full digests of its chunks are not known: the stat cache learns that it was opened.
        self.facts.recipes[at] = index.expansions[at].recipe_chunks
        self._report(at, size)
        return _as_runs(ordinals)

    def _read_file(self, at: int, index: Index) -> list[tuple[int, int]]:
        """Return the runs of a file that is read."""
        whole = self._opener.whole(at)
        if whole is not None:
            runs, digests = self._pack_file(at, whole)
            self.contents.update(digests)
            self.facts.note(at, digests)
            return runs
        with self._opener.open(at) as opened:
            runs, digests = self._pack_file(at, opened)
            if opened.recipe_chunks:
                self._opener.begin_behind(at)
                index.expansions[at], digest = opened.expansion()
                self.contents.update(digest)
                self.facts.recipes[at] = opened.recipe_chunks
                self.facts.note(at, digest + digests)
            else:
                self.contents.update(digests)
                self.facts.note(at, digests)
        return runs

    def _pack_file(
        self, at: int, opened: OpenedFile | WholeFile
    ) -> tuple[list[tuple[int, int]], bytearray]:
        """Return the runs of a file's chunks, and their digests; hand new ones to the writer."""
        runs: list[tuple[int, int]] = []
        known = self._known
        hasher = blake3.blake3
        digests = bytearray()
        start = end = offset = 0
        aligned = (-1, 0)  # last base chunk that the file holds, and where it ends
        alignment: Alignment | None = None
        for chunk in opened.chunks():
            full = hasher(chunk).digest()
            digests += full
            ordinal = known.get(full)
            length = len(chunk)
            if ordinal >= 0:
                aligned = (ordinal, offset + length)
            else:
                if alignment is None and self._counterparts is not None:
                    alignment = self._counterparts.open(self._found.paths[at])
                near: tuple[Iterable[int], Iterable[int]] = (), ()
                if alignment is not None:
                    alignment.align(*aligned)
                    near = alignment.near(offset, offset + length, self._params.average_bytes)
                ordinal = self._base.chunk_count + len(self.new_lengths)
                digest = full[:DIGEST_BYTES]
                known.put(digest, ordinal)
                readable = self._note_place(at, offset, chunk, plain=opened.plain)
                self.new_lengths.append(length)
                self.new_digests += digest
                like, beside = self._prefixes(ordinal, chunk, near[0], readable)
                if beside:  # the next ones are in step with it
                    aligned = (like[-1], offset + length)
                around = [older for older in chain(near[1], beside) if self._extendable[older]]
                self.writer.add(chunk, full, like, around)
            offset += length
            if ordinal == end and end:
                end += 1
                continue
            if end:
                runs.append((start, end - start))
            start, end = ordinal, ordinal + 1
        runs.append((start, end - start))
        return runs, digests

    def _note_place(self, at: int, offset: int, chunk: memoryview, *, plain: bool) -> bool:
        """Note where a new chunk can be read again; False if it can not."""
        if not plain:
            at, offset = _SPOOLED, self._spool_bytes
            if self._spool is None:
                self._spool = temporary_file(self._reader.directory)
            if offset + len(chunk) <= SPOOL_BYTES:
                self._spool.write(chunk)
                self._spool_bytes += len(chunk)
            else:
                offset = SPOOL_BYTES
        self._new_item.append(at)
        self._new_offset.append(offset)
        return offset != SPOOL_BYTES or plain

    def _prefixes(
        self, ordinal: int, chunk: memoryview, near: Iterable[int], readable: bool
    ) -> tuple[list[int], Sequence[int]]:
        """Return what a new chunk may be compressed against, and what lies beside that in the base.

        The chunk is noted for later ones.

        Args:
            ordinal: of the new chunk.
            chunk: its bytes.
            near: base chunks where its file's older self has it.
            readable: later chunks may be compressed against it.
        """
        out = [older for older in near if self._extendable[older]]
        beside: Sequence[int] = ()
        if not self._base_noted:
            self._base_noted = True
            note_base(self._similar, self._reader, self._extendable, self._cache)
        features = sketch(chunk)
        if ordinal - self._base.chunk_count < MAX_SKETCHES:
            self._sketches.extend(features or (0,) * SUPER_FEATURES)
        similar = self._similar.find(features, self.writer.planned_depth)
        in_step = bool(similar) and similar[0] in out  # the file is where it is expected
        for older in similar:
            if older not in out:
                out.append(older)
                if not in_step:
                    # What is beside it in the base belongs to what is beside this one, most likely,
                    # whose own sketch may find nothing.
                    beside = range(max(older - 1, 0), min(older + 2, self._base.chunk_count))
                break
        if readable:
            self._similar.add(ordinal, features)
        return out, beside

    @property
    def base_chunks(self) -> int:
        """Number of chunks in the base."""
        return self._base.chunk_count

    @property
    def max_depth(self) -> int:
        """Depth that new frames may have.

        One more than the base's deepest, so that a version never uses up several levels of the
        chain at once; two where there is no base, for copies of copies within the version.
        """
        deepest = max(self._base.frame_depths, default=0)
        return min(max(deepest + 1, FIRST_DEPTH), MAX_DEPTH)

    def length_of(self, chunk: int) -> int:
        """Return the plaintext length of a chunk of the base, or of a new one."""
        new = chunk - self._base.chunk_count
        return self._base.chunk_lengths[chunk] if new < 0 else self.new_lengths[new]

    def depth_of(self, chunk: int) -> int:
        """Return the depth of the frame that holds a chunk of the base."""
        return self._base.frame_depths[self._reader.frames.of_chunk(chunk)]

    def read(self, start: int, length: int) -> list[memoryview]:
        """Return the bytes of `length` chunks from `start`; new ones are read from their files.

        Raises:
            SourceChanged: a file does not hold the chunk any more.
        """
        base = max(min(start + length, self._base.chunk_count) - start, 0)
        with self._reading:  # frames of one chain at a time, decoded once for both threads
            out = self._reader.chunks(start, base)
        for new in range(
            start + base - self._base.chunk_count, start + length - self._base.chunk_count
        ):
            at, offset = self._new_item[new], self._new_offset[new]
            if at == _SPOOLED:
                assert self._spool is not None
                full = b"a temporary file"
                data = read_at(self._spool, self.new_lengths[new], offset)
            else:
                item = self._found[at]
                full = self._opener.path_of(item)
                fd = open_file(full, item)
                try:
                    data = os.pread(fd, self.new_lengths[new], offset)
                finally:
                    os.close(fd)
            at = new * DIGEST_BYTES
            if (
                blake3.blake3(data).digest()[:DIGEST_BYTES]
                != self.new_digests[at : at + DIGEST_BYTES]
            ):
                raise SourceChanged(show(full))
            out.append(memoryview(data))
        return out

    def _is_read(self, at: int) -> bool:
        """Tell whether a file will be opened, as far as that is known before its turn."""
        if self._remembered is not None and self._remembered.find(at) is not None:
            return False
        return self._found.size(at) not in self._base_archives

    def _report(self, at: int, count: int) -> None:
        self._done_bytes += count
        entry, done = self._reported
        # Not at each of many small files: that takes longer than looking one of them up.
        if self._progress is not None and (
            at >= entry + REPORT_ENTRIES
            or self._done_bytes >= done + REPORT_BYTES
            or self._done_bytes == self._total_bytes
        ):
            self._reported = at, self._done_bytes
            path = show(self._found.paths[at])
            self._progress(Progress("pack", self._done_bytes, self._total_bytes, path))


def _add_runs(index: Index, runs: list[tuple[int, int]]) -> None:
    """Add an entry's runs to an index that is being made."""
    index.run_counts.append(len(runs))
    for start, length in runs:
        index.run_starts.append(start)
        index.run_lengths.append(length)


def _as_runs(ordinals: array[int]) -> list[tuple[int, int]]:
    """Return the runs of chunks with these ordinals."""
    runs = []
    start = end = ordinals[0]
    for ordinal in ordinals:
        if ordinal != end:
            runs.append((start, end - start))
            start = end = ordinal
        end += 1
    runs.append((start, end - start))
    return runs


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
