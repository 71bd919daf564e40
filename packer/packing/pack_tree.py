"""A directory to a version in a local store: walk, chunk, digest, frames, layers, index, manifest.

A `Scan` reads the files and writes new frames. Small layers at the end of the base may be given up
before it (`merging`). If the version would still cost much more to pull than one packed alone, more
layers are given up and the files are scanned once more without them (`compaction`).
`complete_index` numbers all chunks, `publish` writes the documents.

Each step is a function that returns only what the next one needs, so the tables of a tree of a
million files are freed before the next step makes its own.
"""

from __future__ import annotations

import logging
import os
from array import array
from collections.abc import Iterable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

from packer.errors import FormatError, InvalidParameter, PackerError
from packer.files.name_column import Names
from packer.files.tree import DIRECTORY, FILE, SYMLINK, check_empty_files, show
from packer.format.blob_ranges import BlobRanges
from packer.format.closed_files import ClosedFiles
from packer.format.frame_reader import FrameReader
from packer.format.frames import Frames
from packer.format.index import FULL_DIGEST_BYTES, Index
from packer.format.index_checks import check_expansions
from packer.format.index_codec import encode_index
from packer.format.layer_writer import LayerWriter
from packer.format.tree_digest import ShortDigests
from packer.format.usage import uses
from packer.format.version import Version
from packer.opening.recipe_cache import RecipeCache
from packer.opening.workers import AT_ONCE
from packer.packing.file_chunks import Source
from packer.packing.job import LocalStore, Packed, PackJob
from packer.packing.numbering import complete_index
from packer.packing.older.compaction import layers_to_drop, liveness
from packer.packing.older.merging import layers_to_merge
from packer.packing.older.older_chunks import NewChunks
from packer.packing.older.similar import SketchCache, save_sketches
from packer.packing.publish import Table, publish, reuse
from packer.packing.recall import STRETCH_ENTRIES
from packer.packing.scan import Scan, ScanBase
from packer.packing.stat_cache import Facts, Remembered, StatCache
from packer.stores.layout import caches_of, lies_in
from packer.stores.protocols import OnDisk, Store

_LOG = logging.getLogger(__name__)

CACHE_BYTES = 16 << 20
"""Decoded frames of the base in memory, in bytes: they fit 256 MiB beside what opening a large
archive takes."""

__all__ = ["LocalStore", "PackJob", "Packed", "check_outside", "pack_tree"]


def check_outside(store: Store, root: bytes) -> None:
    """Refuse to pack a directory that holds the store.

    It changes while it is packed, and each version would hold all those before.

    Args:
        store: the store to pack into.
        root: the directory or file to pack.

    Raises:
        InvalidParameter: the store lies in the directory.
    """
    if lies_in(store, root):
        raise InvalidParameter(f"{show(root)} holds the store {store.name}: keep it elsewhere")


def pack_tree(job: PackJob, base: Version | None, candidates: Iterable[Version]) -> Packed:
    """Pack a directory or file, and tag it.

    A store within the directory raises `InvalidParameter`; a file that changes meanwhile
    `SourceChanged`, a socket or device `UnsupportedFile`, any other trouble with a file `OSError`,
    each with its name. Then nothing is tagged.

    Args:
        job: what to pack, where to, and how.
        base: the version whose chunks are referred to. Its blobs are in the job's store, or that
            store vouches for them. They are read from the version's own store, by ranges if that is
            a registry.
        candidates: versions that are reused whole if their tree is the same.

    Returns:
        what was packed, and what it cost.
    """
    check_outside(job.store, job.root)
    if base is not None and base.config.chunking != job.params:
        base = None
    same_params = [item for item in candidates if item.config.chunking == job.params]
    while True:
        try:
            table = _make_table(job, base, same_params)
            break
        except _UnsoundIndex as error:
            unsound = error.version.descriptor.digest
            _LOG.warning(
                "%s is damaged, so nothing is packed on it: its index is not of the tree that its "
                "config names",
                error.version.name,
            )
            same_params = [item for item in same_params if item.descriptor.digest != unsound]
            if base is not None and base.descriptor.digest == unsound:
                base = None
    if isinstance(table, Version):
        return reuse(job, table)
    try:
        packed = publish(job, base, table)
    except BaseException:
        table.writer.abort()
        raise
    save_sketches(_sketches(job), table.writer, table.sketches)
    return packed


class _UnsoundIndex(Exception):
    """A version names the tree that is packed, and its index is of another; never leaves here."""

    def __init__(self, version: Version) -> None:
        super().__init__(version)
        self.version = version


@dataclass(frozen=True, slots=True)
class _Scanned:
    """A tree whose new frames are all written.

    Args:
        index: entries and runs, in ordinals of all base chunks, then the new ones.
        tree: the tree digest.
        new: the new chunks.
        writer: of the new layers; flushed.
        base: frames of the base.
        kept: ordinals of the base's data layers that stay.
        content_bytes: size of all files together.
        closed: archives that stayed closed.
    """

    index: Index
    tree: str
    new: NewChunks
    writer: LayerWriter
    base: Frames
    kept: set[int]
    content_bytes: int
    closed: ClosedFiles


@dataclass(frozen=True, slots=True)
class _Numbered:
    """The same with a complete index, and without the base's.

    Args:
        index: complete.
        tree: as in `_Scanned`.
        sketches: of the new chunks.
        writer: as in `_Scanned`.
        kept: as in `_Scanned`.
        content_bytes: as in `_Scanned`.
        closed: as in `_Scanned`.
        base_bytes: stored bytes of the base's frames.
    """

    index: Index
    tree: str
    sketches: array[int]
    writer: LayerWriter
    kept: set[int]
    content_bytes: int
    closed: ClosedFiles
    base_bytes: int


def _make_table(job: PackJob, base: Version | None, candidates: list[Version]) -> Table | Version:
    """Return the version up to its encoded index, or the candidate that has the same tree."""
    done = _number(job, base, candidates)
    if base is not None:  # of a large index the bytes are needed from now on, not the columns
        base.forget_index()
    if isinstance(done, Version):
        return done
    index, writer = done.index, done.writer
    try:
        check_expansions(index, job.tag)
    except FormatError as error:  # no reader would take it: better no version than that
        writer.abort()
        raise PackerError(
            f"{error.why}: pack it without opening archives (--opening none)"
        ) from error
    first_layer = len(index.layer_frames) - len(writer.layer_frames)
    return Table(
        plain=encode_index(index),
        tree=done.tree,
        totals=_totals(index, done.content_bytes),
        parts=uses(index, first_layer),
        closed=done.closed.rows(index, first_layer),
        closed_bytes=done.closed.bytes,
        kept=done.kept,
        base_bytes=done.base_bytes,
        writer=writer,
        sketches=done.sketches,
    )


def _totals(index: Index, content_bytes: int) -> dict[str, int]:
    """Return the counts of the tree for the config."""
    return {
        "files": index.kinds.count(FILE),
        "directories": index.kinds.count(DIRECTORY),
        "symlinks": index.kinds.count(SYMLINK),
        "bytes": content_bytes,
        "chunks": sum(index.run_lengths),
    }


def _number(job: PackJob, base: Version | None, candidates: list[Version]) -> _Numbered | Version:
    """Scan the tree and complete its index; or return the candidate that has the same tree."""
    done = _scan_tree(job, base, candidates)
    if isinstance(done, Version):
        return done
    complete_index(done.index, done.base, done.kept, done.new, done.writer)
    return _Numbered(
        index=done.index,
        tree=done.tree,
        sketches=done.new.sketches,
        writer=done.writer,
        kept=done.kept,
        content_bytes=done.content_bytes,
        closed=done.closed,
        base_bytes=sum(done.base.index.frame_stored),
    )


def _scan_tree(job: PackJob, base: Version | None, candidates: list[Version]) -> _Scanned | Version:
    """Walk the tree and scan its files; or return the candidate that has the same tree."""
    stats, source = _walk(job)
    if source.remembered is not None and source.remembered.unchanged:
        same = _same_tree(candidates, source.remembered.tree)
        if same is not None and _is_sound(source, source.remembered, same):
            return same
    place = _place(job.store)
    recipes = RecipeCache(caches_of(job.store) if job.cache else "")
    old = base.index if base is not None else Index()
    if Names.of(old.paths).joined == Names.of(source.found.paths).joined:
        old.paths = source.found.paths  # so that memory holds them once
    layers = base.manifest.data_layers if base is not None else ()
    threads = os.cpu_count() or 1
    with (
        ThreadPoolExecutor(threads, "pack") as executor,
        ThreadPoolExecutor(threads if base is None else AT_ONCE, "open") as openers,
        BlobRanges(base.store if base is not None else job.store, layers) as ranges,
        FrameReader(
            old,
            layers,
            ranges.read,
            cache_bytes=CACHE_BYTES,
            remote=ranges.remote,
            directory=os.fsencode(place) if place is not None else None,
            store=base.store if base is not None else None,
        ) as reader,
    ):
        on = ScanBase(reader, base.config.tree if base is not None else "", _sketches(job))
        if base is not None:
            on = on._replace(dropped=layers_to_merge(base.manifest.layers))
        done = _scan_once(job, source, on, executor, openers, recipes, candidates)
        if isinstance(done, frozenset):
            # Rare: once more without the layers given up, so that nothing new depends on them.
            on = on._replace(dropped=done, is_compacted=True)
            done = _scan_once(job, source, on, executor, openers, recipes, candidates)
    assert not isinstance(done, frozenset)
    if job.remember:
        stats.save(source.found, done.facts, done.tree)
    return done.outcome


def _walk(job: PackJob) -> tuple[StatCache, Source]:
    """Walk the tree; return it, and the stat cache to save what is learnt of it."""
    resolved = os.path.realpath(given := os.path.abspath(job.root))
    settings = f"{job.tool} {job.params.average_bytes} {job.opening}"
    stats = StatCache(
        caches_of(job.store), resolved, settings
    )  # before the walk: it reads the clock
    found = job.walk(given)
    check_empty_files(given, found)
    remembered = stats.load(found) if job.cache else None
    return stats, Source(resolved, os.path.isdir(resolved), found, remembered)


class _Pass(NamedTuple):
    """One pass over the tree.

    Args:
        outcome: what was scanned, or the candidate that has the same tree.
        tree: the tree digest.
        facts: for the stat cache.
    """

    outcome: _Scanned | Version
    tree: str
    facts: Facts


def _scan_once(
    job: PackJob,
    source: Source,
    base: ScanBase,
    executor: Executor,
    openers: Executor,
    recipes: RecipeCache,
    candidates: list[Version],
) -> _Pass | frozenset[int]:
    """Scan the files; or return the base layers to give up, if that is not decided yet."""
    scan = Scan(job, source, base, executor=executor, openers=openers, recipes=recipes)
    try:
        scan.run()
        recipes.save()
        tree = scan.record.tree_digest()
        if (same := _same_tree(candidates, tree)) is not None:
            if not scan.record.is_held_by(same.index):
                raise _UnsoundIndex(same)
            scan.writer.abort()
            return _Pass(same, tree, scan.record.facts)
        scan.writer.flush()
        use = liveness(base.reader, scan.record.index, scan.new.lengths, scan.writer)
        if not base.is_compacted:
            too_dear = layers_to_drop(use, len(scan.writer.layers) + 1, base.dropped)
            if too_dear:
                scan.writer.abort()
                # Layers that only served those as prefixes are not to serve again.
                stay = use.kept(base.dropped | too_dear)
                return frozenset(range(len(base.reader.layers))) - stay
        scanned = _Scanned(
            index=scan.record.index,
            tree=tree,
            new=scan.new,
            writer=scan.writer,
            base=base.reader.frames,
            kept=use.kept(base.dropped),
            content_bytes=source.found.bytes_of(0, len(source.found)),
            closed=scan.closed,
        )
        return _Pass(scanned, tree, scan.record.facts)
    except BaseException:
        scan.writer.abort()
        raise
    finally:
        scan.close()


def _same_tree(candidates: list[Version], tree: str) -> Version | None:
    """Return the first candidate that has a tree digest."""
    return next((item for item in candidates if item.config.tree == tree), None)


def _is_sound(source: Source, remembered: Remembered, version: Version) -> bool:
    """Return whether a version's index describes a tree that looks as it did.

    Raises:
        _UnsoundIndex: it describes another.
    """
    found, short = source.found, ShortDigests()
    entry = 0
    while entry < len(found):
        if rows := remembered.stretch(entry, STRETCH_ENTRIES):
            start, end = remembered.span(rows)
            short.update(remembered.digests[start:end])
            remembered.release(end - start)
            entry += len(rows)
            continue
        known = remembered.find(entry)
        if known is None or not known[1]:
            return False  # not all is known: it is read
        short.update(known[0][:FULL_DIGEST_BYTES])
        entry += 1
    index = version.index
    expected = ShortDigests.of(index)
    same = (
        Names.of(index.paths).joined == Names.of(found.paths).joined
        and Names.of(index.targets).joined == Names.of(found.links).joined
        and (index.kinds, index.modes) == (found.kinds, found.modes)
        and short.tree_digest(index) == expected
    )
    version.forget_index()
    if not same:
        raise _UnsoundIndex(version)
    return True


def _place(store: Store) -> str | None:
    """Return the directory that a store lies in; None for a store in memory."""
    return store.path if isinstance(store, OnDisk) else None


def _sketches(job: PackJob) -> SketchCache:
    """Return the cache of the base's sketches, and of the new layers'."""
    return job.sketches or SketchCache(caches_of(job.store))
