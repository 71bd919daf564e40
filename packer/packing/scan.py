"""Reading a tree once: files to chunks, chunks to references or to new frames."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from contextlib import closing
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import blake3

from packer.engine.memory import release_free_memory
from packer.engine.ordinals import Ordinals
from packer.files.tree import Tree, show
from packer.format.closed_files import ClosedFiles
from packer.format.frame_reader import FrameReader
from packer.format.index import DIGEST_BYTES, split_runs
from packer.format.layer_writer import LayerWriter, layer_bytes_for, level_for
from packer.opening.choice import ALL, NONE
from packer.opening.closed import GZIP, LIMIT, ClosedStreams, kind_of, unopened
from packer.opening.recipe_cache import RecipeCache
from packer.opening.repeated_text import RepeatedText
from packer.opening.workers import Workers
from packer.packing.changed_archives import Changed, ChangedArchives
from packer.packing.file_chunks import OpenedFile, Opener, Source
from packer.packing.job import PackJob
from packer.packing.older.counterparts import Alignment
from packer.packing.older.further_files import FurtherFiles
from packer.packing.older.older_chunks import OlderChunks
from packer.packing.older.predecessors import Found, Predecessors
from packer.packing.older.prefixes import PrefixFinder
from packer.packing.older.similar import SketchCache
from packer.packing.recall import Recall
from packer.packing.small_files import WholeFile
from packer.packing.tree_record import TreeRecord
from packer.packing.updated_files import LEAST_NEW_BYTES, UpdatedFile
from packer.progress import Progress, ProgressCallback

if TYPE_CHECKING:
    from packer.opening.updating import Update

REPORT_ENTRIES = 64
"""Entries between two reports of progress: to report each of many small files would take longer
than looking one of them up."""
REPORT_BYTES = 1 << 20
"""Bytes between two reports of progress, where these are fewer entries."""
_LEAST_RECIPE_BYTES = 1 << 10
"""Bytes of a recipe that is compressed against the older one, at least. It then depends on the
layer of that one, which a reader that has the older file on its disk would not ask for."""


class ScanBase(NamedTuple):
    """The base of a scan.

    Args:
        reader: reads the base's chunks; of an empty index if there is no base.
        tree: tree digest of the base, or "".
        sketches: cache of the base's sketches.
        dropped: base layers that must not be used.
        is_compacted: whether `dropped` includes all layers that compaction gives up.
    """

    reader: FrameReader
    tree: str
    sketches: SketchCache
    dropped: frozenset[int] = frozenset()
    is_compacted: bool = False


class Scan:
    """One pass over the files of a tree.

    Known chunks become references to the base. New ones go to `writer`, each with older chunks that
    are probably like it.

    Args:
        job: what is packed, and how.
        source: the tree that is packed.
        base: what new chunks are compared with.
        executor: compresses frames.
        openers: analyse streams; few if older ones are compared with, as that takes memory.
        recipes: of deflate streams that were met before.
    """

    def __init__(
        self,
        job: PackJob,
        source: Source,
        base: ScanBase,
        *,
        executor: Executor,
        openers: Executor,
        recipes: RecipeCache,
    ) -> None:
        self._job = job
        self._source = source
        self._base = base
        self._has_base = bool(base.reader.index.paths)
        self._workers = Workers(openers, recipes, base.reader.directory)
        self._repeated = RepeatedText()
        self._older = OlderChunks(source, base.reader, base.dropped)
        self.new = self._older.new
        """The new chunks."""
        self.record = TreeRecord(source.found, source.remembered)
        """Entries and runs, and what the stat cache is to know."""
        self.closed = ClosedFiles()
        """Archives that stayed closed in the files that were read."""
        version_bytes = source.found.bytes_of(0, len(source.found))
        level = job.level
        if level is None:
            level = level_for(version_bytes, small=job.opening == ALL)
        self.writer = LayerWriter(
            job.store,
            executor,
            level=level,
            layer_bytes=layer_bytes_for(version_bytes),
            older=self._older,
            backlog=1 + (os.cpu_count() or 1),
        )

    def run(self) -> None:
        """Read every file; to be called once. The last frames are still to be written.

        A file that changed meanwhile raises `SourceChanged`, one that cannot be read `OSError`,
        by name.
        """
        found, base = self._source.found, self._base
        # These tables take as much memory as all that is known of the files. They are freed when
        # this method returns, before the last frames are compressed.
        known = self._older.usable()
        prefixes = PrefixFinder(base.reader, self._older, self.writer, base.sketches)
        report = _Reports(found, self._job.progress).add
        opening = self._job.opening

        def is_gone(path: bytes) -> bool:
            return self.record.index.find(path) < 0

        usable, index = self._older.referable(), self.record.index
        predecessors = Predecessors(
            base.reader, usable, index, prefixes.counterparts, is_gone, self._job.texts
        )
        further = FurtherFiles(base.reader.index, index, predecessors, base.reader.directory)
        recall = Recall(
            self._source,
            base.reader.index,
            base.tree,
            self.record,
            predecessors,
            report,
            expand=opening != NONE,
        )
        opener = Opener(
            self._source,
            self._job.params,
            self._workers,
            report,
            recall.will_be_read,
            expand=opening != NONE,
            ahead=opening == ALL,
        )
        self._report = report
        archives = ChangedArchives(
            self._job,
            self._source,
            self._workers,
            predecessors,
            further,
            known=known,
            report=report,
            will_be_read=recall.will_be_read,
            buffer=opener.buffer,
            has_base=self._has_base,
        )
        with closing(predecessors), closing(opener), closing(archives):
            at = 0
            while at < len(found):
                if count := recall.stretch(at, known):
                    at += count
                    continue
                runs: list[tuple[int, int]] = []
                if found.size(at):
                    runs = (
                        recall.file(at, known)
                        or recall.archive_of_base(at, known)
                        or self._read_file(at, opener, archives, known, prefixes, predecessors)
                    )
                self.record.add_runs(runs)
                further.written(at, runs)
                at += 1
        base.reader.index.forget_sums()

    def close(self) -> None:
        """Remove temporary files; call it when no frame is being compressed."""
        self._older.close()

    def _read_file(
        self,
        at: int,
        opener: Opener,
        archives: ChangedArchives,
        known: Ordinals,
        prefixes: PrefixFinder,
        predecessors: Predecessors,
    ) -> list[tuple[int, int]]:
        """Read a file, record its content, and return its runs."""
        whole = opener.whole(at)
        if whole is not None:
            runs, digests = self._pack_file(at, whole, known, prefixes)
            self.record.record(at, digests)
            return runs
        if self._job.opening == NONE:
            with opener.open(at, expand=False) as opened:
                return self._pack_opened(at, opened, opener, known, prefixes, [])
        changed = archives.take(at)
        with closing(changed.source):
            return self._read_archive(at, changed, archives, opener, known, prefixes, predecessors)

    def _read_archive(
        self,
        at: int,
        changed: Changed,
        archives: ChangedArchives,
        opener: Opener,
        known: Ordinals,
        prefixes: PrefixFinder,
        predecessors: Predecessors,
    ) -> list[tuple[int, int]]:
        """Read a file in which archives may be opened; return its runs."""
        expand, told = self._job.opening == ALL, list[ClosedStreams]()
        source, head, entry = changed.source, changed.head, changed.entry
        is_flat = source.text is not None
        if predecessors.is_modelled(entry, flat=is_flat):
            expand = True
        elif entry >= 0 and kind_of(head) == "bzip2":
            # There are no tokens to take over. But it changes, so from now on it is opened.
            with archives.file(at, source) as file:
                expand = file.new_bytes(known) >= LEAST_NEW_BYTES
        elif changed.found is not None:
            updated = self._update_file(at, changed, archives, known, prefixes, predecessors)
            if updated:
                opener.discard(at)
                return updated
        told += source.told()
        if not (expand or is_flat or told):
            told = unopened(head, source.found.size)
        with opener.open(at, expand=expand, flat=source.text) as opened:
            return self._pack_opened(at, opened, opener, known, prefixes, told)

    def _pack_opened(
        self,
        at: int,
        opened: OpenedFile,
        opener: Opener,
        known: Ordinals,
        prefixes: PrefixFinder,
        told: list[ClosedStreams],
    ) -> list[tuple[int, int]]:
        """Hand an open file to the writer, record it, and return its runs."""
        runs, digests = self._pack_file(at, opened, known, prefixes)
        self.closed.add(at, [*told, *opened.closed()])
        if opened.recipe_chunks:
            opener.begin_behind(at)
            self.record.record_opened(at, *opened.expansion(), digests)
        else:
            self.record.record(at, digests)
        return runs

    def _update_file(
        self,
        at: int,
        changed: Changed,
        archives: ChangedArchives,
        known: Ordinals,
        prefixes: PrefixFinder,
        predecessors: Predecessors,
    ) -> list[tuple[int, int]]:
        """Read a file against its predecessor; return its runs.

        Returns:
            The runs; none if the file is to be read otherwise.
        """
        found, source = changed.found, changed.source
        assert found is not None
        with archives.begin(at, changed) as file:
            assert changed.begun is not None
            row = changed.begun()
            if row is not None and _has_room(predecessors, found, file.update):
                file.update.repeated = self._repeated
                text = None if row.recipe_chunks else prefixes.alignment(row.runs)
                recipe = split_runs(row.runs, row.recipe_chunks)[1]
                older = [chunk for start, count in recipe for chunk in range(start, start + count)]
                runs, digests = self._pack_file(at, file, known, prefixes, text, older)
                self.closed.add(at, [*source.closed.rows(), *file.closed()])
                named = [predecessors.add(row, tuple(file.update.old_streams[0]))]
                named += [each.add(tuple(streams)) for each, streams in file.update.used()]
                self.record.record_opened(at, *file.expansion(tuple(named)), digests)
                return runs
            if file.was_compared:
                file.leave_closed()
                predecessors.release()
                release_free_memory()
            closed = file.closed_chunks(known)
            if closed is None or self._job.opening == ALL:
                return []
            runs, digests = self._pack_chunks(at, closed, known, prefixes, lambda: True)
            if row is not None:
                kind = kind_of(changed.head) or GZIP
                self.closed.add(at, [ClosedStreams(kind, LIMIT, 1, source.found.size)])
            elif file.was_compared:
                self.closed.add(at, [*source.closed.rows(), *file.closed()])
            self.record.record(at, digests)
        return runs

    def _pack_file(
        self,
        at: int,
        file: OpenedFile | UpdatedFile | WholeFile,
        known: Ordinals,
        prefixes: PrefixFinder,
        text: Alignment | None = None,
        older_recipe: Iterable[int] = (),
    ) -> tuple[list[tuple[int, int]], bytearray]:
        """Hand a file's new chunks to the writer.

        Args:
            at: entry of the file.
            file: that is read.
            known: chunks by digest.
            prefixes: finds older chunks that are like new ones.
            text: the alignment with the chunks of the predecessor, if they are its text.
            older_recipe: chunks of the predecessor's recipe.

        Returns:
            The runs, and the digests of all chunks.
        """
        hasher = blake3.blake3
        chunks = ((chunk, len(chunk), hasher(chunk).digest()) for chunk in file.chunks())
        is_plain = (lambda: True) if isinstance(file, WholeFile) else (lambda: file.plain)
        # The recipe of an update is deltas and entropy-coded. Of what is older, only the recipe of
        # its predecessor helps: where the same entries change each time, both are alike.
        is_coded = (lambda: file.recipe_chunks > 0) if isinstance(file, UpdatedFile) else None
        where = file.place if text is not None and isinstance(file, UpdatedFile) else None
        return self._pack_chunks(
            at, chunks, known, prefixes, is_plain, is_coded, text, where, older_recipe
        )

    def _pack_chunks(
        self,
        at: int,
        chunks: Iterable[tuple[memoryview, int, bytes]],
        known: Ordinals,
        prefixes: PrefixFinder,
        is_plain: Callable[[], bool],
        is_coded: Callable[[], bool] | None = None,
        alignment: Alignment | None = None,
        where: Callable[[], int] | None = None,
        older_recipe: Iterable[int] = (),
    ) -> tuple[list[tuple[int, int]], bytearray]:
        """Hand new chunks to the writer.

        Args:
            at: entry of the file.
            chunks: bytes, length and full digest of each; the bytes only if it is not known.
            known: chunks by digest.
            prefixes: finds older chunks that are like new ones.
            is_plain: returns whether the chunks so far are the file as it is.
            is_coded: returns whether the next chunk is of a recipe that is coded; None for never.
            alignment: with the older chunks that help; None if the base's file has them.
            where: returns where the last chunk begins, for the alignment, -1 if no older one helps;
                None if the chunks follow one another.
            older_recipe: chunks of the predecessor's recipe.

        Returns:
            The runs, and the digests of all chunks.
        """
        runs: list[tuple[int, int]] = []
        digests = bytearray()
        start = end = offset = 0
        aligned = (-1, 0)  # the last base chunk that the file holds, and where it ends there
        average = self._job.params.average_bytes
        for chunk, length, full in chunks:
            digests += full
            place = offset if where is None else where()
            ordinal = known.get(full)
            if ordinal >= 0:
                if place >= 0:
                    aligned = (ordinal, place + length)
            else:
                is_recipe = is_coded is not None and is_coded()
                near: tuple[Iterable[int], Iterable[int]] = (), ()
                if is_recipe and length >= _LEAST_RECIPE_BYTES:
                    near = (), older_recipe
                helps = place >= 0 and not is_recipe
                if alignment is None and helps:
                    alignment = prefixes.counterpart(self._source.found.paths[at])
                if alignment is not None and helps:
                    alignment.align(*aligned)
                    near = alignment.near(place, place + length, average)
                ordinal = self._older.next_ordinal
                digest = full[:DIGEST_BYTES]
                known.put(digest, ordinal)
                readable = self._older.add(chunk, digest, at, offset, plain=is_plain())
                like, beside = prefixes.find(ordinal, chunk, near[0], readable=readable)
                if beside and place >= 0:  # what follows is probably in step with the similar one
                    aligned = (like[-1], place + length)
                self.writer.add(chunk, full, like, prefixes.usable(chain(near[1], beside)))
            offset += length
            if ordinal == end and end:
                end += 1
                continue
            if end:
                runs.append((start, end - start))
            start, end = ordinal, ordinal + 1
        runs.append((start, end - start))
        return runs, digests


def _has_room(predecessors: Predecessors, found: Found, update: Update) -> bool:
    """Return whether the new index may list the predecessors of a file."""
    further = [row for each, _ in update.used() for row in each.rows()]
    return predecessors.has_room(found, sum(map(len, update.old_streams)), further)


class _Reports:
    """Reports the progress of a scan, but not each small file.

    Args:
        found: the tree.
        progress: takes the reports.
    """

    def __init__(self, found: Tree, progress: ProgressCallback | None) -> None:
        self._found = found
        self._progress = progress
        self._total_bytes = found.bytes_of(0, len(found))
        self._done_bytes = 0
        self._last = -REPORT_ENTRIES, 0  # entry and bytes of the last report

    def add(self, at: int, count: int) -> None:
        """Add bytes that are done, up to an entry."""
        self._done_bytes += count
        entry, done = self._last
        if self._progress is not None and (
            at >= entry + REPORT_ENTRIES
            or self._done_bytes >= done + REPORT_BYTES
            or self._done_bytes == self._total_bytes
        ):
            self._last = at, self._done_bytes
            path = show(self._found.paths[at])
            self._progress(Progress("pack", self._done_bytes, self._total_bytes, path))
