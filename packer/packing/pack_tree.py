"""A directory to a version in a local store: walk, chunk, digest, frames, layers, index, manifest.

One `Scan` reads the files and writes new layers; here the base's layers that stay are chosen, and
index, config and manifest written. When a version would cost much more to pull than one packed
alone, layers are given up and the files scanned once more without them (compaction).
"""

from __future__ import annotations

import os
import time
from array import array
from bisect import bisect_right
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Protocol, runtime_checkable

import blake3

from packer.engine import zstd
from packer.errors import FormatError, InvalidParameter, PackerError
from packer.files.name_column import Names
from packer.files.tree import DIRECTORY, FILE, SYMLINK, show, walk
from packer.format.blob_ranges import BlobRanges
from packer.format.frame_reader import FrameReader
from packer.format.index import DIGEST_BYTES, Frames, Index
from packer.format.layer_writer import LayerWriter
from packer.format.usage import Use, uses
from packer.format.version import (
    CREATED,
    TITLE,
    UPDATE_BYTES,
    UPDATE_TAIL,
    VERSION,
    Config,
    Version,
    encode_index,
    version_label,
)
from packer.oci import (
    CONFIG_TYPE,
    DATA_TYPE,
    INDEX_TYPE,
    MANIFEST_TYPE,
    PARENT,
    UPDATE_TYPE,
    ChunkParams,
    Descriptor,
    Manifest,
)
from packer.opening.recipe_cache import RecipeCache
from packer.packing.compaction import Liveness, layers_to_drop, liveness
from packer.packing.scan import Scan
from packer.packing.similar import SketchCache
from packer.packing.stat_cache import StatCache
from packer.progress import ProgressCallback
from packer.stores.layout import caches_of, lies_in
from packer.stores.protocols import Ingest, OnDisk, Store

CACHE_BYTES = 24 << 20
"""Of frames of the base in memory: beside those being compressed, they fit 256 MiB."""


@runtime_checkable
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
        index_bytes: added by the index layer.
        parts: what is below each first component of the paths, and what it cost.
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
    index_bytes: int
    parts: tuple[Use, ...]

    @property
    def digest(self) -> str:
        """The manifest's digest, which names the version for good."""
        return self.descriptor.digest


def check_outside(store: Store, root: bytes) -> None:
    """Refuse to pack a directory that holds the store.

    It changes while it is packed, and each version would hold all those before.

    Raises:
        InvalidParameter: the store lies in the directory.
    """
    if lies_in(store, root):
        raise InvalidParameter(f"{show(root)} holds the store {store.name}: keep it elsewhere")


def pack_tree(
    root: bytes,
    store: LocalStore,
    tag: str,
    *,
    base: Version | None,
    candidates: Iterable[Version],
    params: ChunkParams,
    level: int,
    expand: bool,
    cache: bool,
    created: int | None,
    tool: str,
    progress: ProgressCallback | None = None,
    sketches: SketchCache | None = None,
) -> Packed:
    """Pack the directory or file at `root` and tag it.

    Args:
        root: what to pack.
        store: where everything goes.
        tag: name for the version.
        base: version whose chunks are referred to. `store` has its blobs or vouches for them; they
            are read from the store the version is in, by ranges if that is a registry.
        candidates: versions that are reused whole if their tree is the same; looked at when needed.
        params: chunk sizes; a base with other ones is not used.
        level: zstd level of new frames.
        expand: open archives.
        cache: do not read files again that look as they did when they were last packed, nor analyse
            deflate streams again.
        created: seconds since the epoch for the manifest; None means now.
        tool: name and version of the writer, for the config.
        progress: called now and then from the calling thread.
        sketches: cache of the base's sketches; by default beside `store`.

    Raises:
        InvalidParameter: the store lies in the directory.
        SourceChanged, UnsupportedFile, OSError: about a file of the directory, by name.
    """
    check_outside(store, root)
    if base is not None and base.config.chunking != params:
        base = None
    resolved = os.path.realpath(given := os.path.abspath(root))
    caches = caches_of(store)
    stats = StatCache(caches, resolved, f"{tool} {params.average_bytes} {expand}")
    found = walk(given)
    remembered = stats.load(found) if cache else None
    candidates = [item for item in candidates if item.config.chunking == params]
    if remembered is not None and remembered.unchanged:
        for version in candidates:
            if version.config.tree == remembered.tree:
                del found, remembered  # before the index takes as much
                return _reuse(version, store, tag)
    old = base.index if base is not None else Index()
    if Names.of(old.paths).joined == Names.of(found.paths).joined:
        old.paths = found.paths  # held once
    old_layers = base.manifest.data_layers if base is not None else ()
    dropped: frozenset[int] = frozenset()
    place = store.path if isinstance(store, OnDisk) else None
    directory = os.fsencode(place) if place is not None else None
    sketches = sketches or SketchCache(caches)
    recipes = RecipeCache(caches if cache else "")
    with (
        ThreadPoolExecutor(os.cpu_count() or 1, "pack") as executor,
        BlobRanges(base.store if base is not None else store, old_layers) as ranges,
        FrameReader(
            old,
            old_layers,
            ranges.read,
            cache_bytes=CACHE_BYTES,
            remote=ranges.remote,
            directory=directory,
            store=base.store if base is not None else None,
        ) as reader,
    ):
        while True:
            scan = Scan(
                resolved,
                found,
                remembered,
                base.config.tree if base is not None else "",
                store,
                executor,
                reader,
                dropped,
                sketches,
                recipes,
                params,
                level,
                expand,
                progress,
            )
            try:
                index = scan.run()
                recipes.save()
                tree = index.tree_digest(scan.contents.digest())
                index.forget_sums()
                same = next((item for item in candidates if item.config.tree == tree), None)
                if same is not None:
                    scan.writer.abort()
                    break
                scan.writer.flush()
                use = liveness(
                    reader.frames,
                    index.run_starts,
                    index.run_lengths,
                    scan.writer.frame_prefixes,
                    (at for at, layer in enumerate(old_layers) if layer.media_type == UPDATE_TYPE),
                )
                if not dropped and (dropped := _compaction(use, reader.frames, scan)):
                    # Rare: pack once more without them, so that nothing new depends on them.
                    scan.writer.abort()
                    del index, use
                    continue
                break
            except BaseException:
                scan.writer.abort()
                raise
            finally:
                scan.close()
    total_bytes = found.bytes_of(0, len(found))
    stats.save(found, scan.facts, tree)
    del found, remembered, scan.facts  # before the index takes as much
    if same is not None:
        del index, old, reader
        if base is not None:
            base.forget_index()
        return _reuse(same, store, tag)
    kept = use.kept(dropped)
    _renumber(index, reader.frames, kept, scan)
    data_bytes = sum(old.frame_stored)
    del old, reader, use
    if base is not None:  # of a large one the bytes are needed from now on, not the columns
        base.forget_index()
    try:
        index.check_expansions(tag)
    except FormatError as error:  # no reader would take it: better no version than that
        scan.writer.abort()
        raise PackerError(f"{error.why}: pack it without opening archives (--no-expand)") from error
    first_layer = len(index.layer_frames) - len(scan.writer.layer_frames)
    totals, parts = _totals(index, total_bytes), uses(index, first_layer)
    parent = base.descriptor.digest if base is not None else ""
    plain = index.encode()
    del index
    try:
        layers, index_bytes, new_bytes = _write_index(
            plain, base, data_bytes, kept, scan.writer, store
        )
        scan.save_sketches()
    except BaseException:
        scan.writer.abort()
        raise
    config = Config(
        params,
        "blake3:" + blake3.blake3(plain).hexdigest(),
        len(plain),
        tree,
        totals,
        level,
        tool,
        zstd.zstd_version(),
    )
    config_blob, config_bytes = _put(store, config.encode(), CONFIG_TYPE)
    stamp = datetime.fromtimestamp(time.time() if created is None else created, timezone.utc)
    annotations = {CREATED: stamp.strftime("%Y-%m-%dT%H:%M:%SZ"), TITLE: tag}
    if label := version_label(tag):
        annotations[VERSION] = label
    if parent:
        annotations[PARENT] = parent
    manifest = Manifest(config_blob, layers, annotations)
    data = manifest.encode()
    descriptor = store.put_manifest(data, MANIFEST_TYPE, tag)
    return _result(
        descriptor,
        tag,
        manifest,
        config,
        parts,
        new_bytes=new_bytes + config_bytes + len(data),
        new_layers=len(scan.writer.layers),
        index_bytes=index_bytes,
    )


def _result(
    descriptor: Descriptor,
    tag: str,
    manifest: Manifest,
    config: Config,
    parts: tuple[Use, ...],
    *,
    new_bytes: int = 0,
    new_layers: int = 0,
    index_bytes: int = 0,
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
        manifest.parent,
        index_bytes,
        parts,
    )


def _reuse(version: Version, store: LocalStore, tag: str) -> Packed:
    """Tag a version that has the same tree already."""
    descriptor = store.put_manifest(version.manifest_bytes, MANIFEST_TYPE, tag)
    parts = uses(version.index, len(version.manifest.data_layers))
    return _result(descriptor, tag, version.manifest, version.config, parts, unchanged=True)


def _compaction(use: Liveness, frames: Frames, scan: Scan) -> frozenset[int]:
    """Return the base layers to give up."""
    old = frames.index
    plain, stored = scan.writer.plain_bytes, scan.writer.plain_stored_bytes
    for frame, depth in enumerate(old.frame_depths):
        if not depth:
            plain += frames.plain_bytes(frame)
            stored += old.frame_stored[frame]
    return layers_to_drop(
        use,
        new_bytes=scan.writer.stored_bytes,
        new_layers=len(scan.writer.layers) + 1,
        plain_ratio=stored / plain if plain else 1.0,
        new_plain_bytes=sum(scan.new_lengths),
    )


def _write_index(
    plain: bytes,
    base: Version | None,
    data_bytes: int,
    kept: set[int],
    writer: LayerWriter,
    store: Ingest,
) -> tuple[tuple[Descriptor, ...], int, int]:
    """Write the last new layer and the index.

    Args:
        plain: the index.
        base: what the version was packed on.
        data_bytes: of the base's data layers.
        kept: ordinals of the base's data layers that stay.
        writer: of the new layers, flushed.
        store: where it goes.

    Returns:
        all layers of the version; bytes that the index added; bytes that it and new layers added.
    """
    old = base.manifest.data_layers if base is not None else ()
    gone = {layer.digest for at, layer in enumerate(old) if at not in kept}
    keep = not any(layer.digest in gone for layer in old if layer.media_type == UPDATE_TYPE)
    part, chain = encode_index(plain, base, data_bytes, keep=keep)
    listed = []
    for layer in base.manifest.layers if base is not None else ():
        if layer.media_type == UPDATE_TYPE and not chain:
            layer = replace(layer, media_type=DATA_TYPE)
        if layer.digest not in gone and (layer.media_type != INDEX_TYPE or chain):
            listed.append(layer)
    tail = part + UPDATE_TAIL.pack(len(part))
    if not writer.layers and 0 < writer.last_bytes <= UPDATE_BYTES - len(tail):
        writer.close(tail, UPDATE_TYPE)
        return (*listed, *writer.layers), len(tail) if writer.new_bytes else 0, writer.new_bytes
    writer.close()
    layer, index_bytes = _put(store, part, INDEX_TYPE)
    return (*listed, *writer.layers, layer), index_bytes, writer.new_bytes + index_bytes


def _put(store: Ingest, data: bytes, media_type: str) -> tuple[Descriptor, int]:
    """Store a small blob; return its descriptor and the bytes it added."""
    with store.create() as writer:
        writer.write(data)
        descriptor, is_new = writer.commit(media_type)
    return descriptor, descriptor.size if is_new else 0


def _totals(index: Index, tree_bytes: int) -> dict[str, int]:
    return {
        "files": index.kinds.count(FILE),
        "directories": index.kinds.count(DIRECTORY),
        "symlinks": index.kinds.count(SYMLINK),
        "bytes": tree_bytes,
        "chunks": sum(index.run_lengths),
    }


def _renumber(
    index: Index,
    frames: Frames,
    kept: set[int],
    scan: Scan,
) -> None:
    """Fill in the layer, frame and chunk columns of `index`, and renumber its runs.

    Args:
        index: entries and runs, in ordinals of all base chunks, then the new ones.
        frames: of the base.
        kept: ordinals of the base layers that stay; they hold the prefixes of their own frames.
        scan: complete; its layers follow the kept ones.
    """
    base = frames.index
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
    writer = scan.writer
    index.layer_frames.extend(writer.layer_frames)
    index.frame_stored.extend(writer.frame_stored)
    index.frame_chunks.extend(writer.frame_chunks)
    index.frame_depths += writer.frame_depths
    for runs in writer.frame_prefixes:
        index.frame_prefix_runs.append(len(runs))
        for run_start, run_length in runs:
            index.prefix_starts.append(shifts.apply(run_start))
            index.prefix_lengths.append(run_length)
    index.chunk_lengths.extend(scan.new_lengths)
    index.chunk_digests += scan.new_digests
    if shifts:
        index.run_starts = array("I", map(shifts.apply, index.run_starts))


class _Shifts:
    """How far ordinals move down when chunks before them are left out."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._totals = [0]

    def __bool__(self) -> bool:
        """Whether anything was left out."""
        return bool(self._starts)

    def leave_out(self, start: int, end: int) -> None:
        """Leave out the chunks from `start` to `end`, which lie behind all earlier ones."""
        self._starts.append(start)
        self._totals.append(self._totals[-1] + end - start)

    def apply(self, ordinal: int) -> int:
        """Return the new ordinal of a chunk that stays."""
        return ordinal - self._totals[bisect_right(self._starts, ordinal)]
