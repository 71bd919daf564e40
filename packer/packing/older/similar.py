"""Similar chunks, wherever they are: found by sketch, in the base or earlier in the same version.

A sketch is a few *super-features*: hashes over samples of a chunk, which mostly survive a small
change. Two chunks that share one are probably alike.

The sketches of a layer's chunks are kept in a cache beside the local store, so packing on the layer
need not decode it. The cache is a convenience: without it, or with a damaged one, sketches are
computed again, and the result of packing is the same.

Sources: in csrc/lookup/sketch.h.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable
from itertools import compress, islice
from operator import and_
from typing import TYPE_CHECKING

from packer.engine.native import ffi, lib
from packer.engine.ordinals import Ordinals
from packer.files.cache_file import read_cache, write_cache
from packer.format.frame_reader import FrameReader
from packer.format.frames import Runs
from packer.format.layer_writer import LayerWriter

if TYPE_CHECKING:
    from typing_extensions import Buffer

SUPER_FEATURES = 6
"""Super-features of a chunk."""
MAX_SKETCHES = 65_536
"""Greatest number of chunks whose sketches are held at once, which takes about 12 MB; later chunks
are not recorded."""

_FEATURE_BYTES = 8
_RECORD_BYTES = _FEATURE_BYTES * SUPER_FEATURES
"""Bytes of a chunk's sketch in the cache."""


def sketch(data: Buffer) -> array[int]:
    """Return the super-features of a chunk; none if it is too short or uniform.

    Similar chunks have at least one in common, at the same position. csrc/lookup/sketch.h says how
    they are made.

    Args:
        data: the chunk.

    Returns:
        SUPER_FEATURES numbers as "Q", or an empty array.
    """
    out = array("Q", bytes(_RECORD_BYTES))
    # Released at once: a view that a traceback keeps borrowed crashes Python's collector.
    with ffi.from_buffer("uint8_t[]", data) as view, ffi.from_buffer("uint64_t[]", out) as to:
        found = lib.pk_sketch(view, len(view), to)
    return out if found else array("Q")


class Similar:
    """Finds recorded chunks that have a super-feature in common with a new one."""

    def __init__(self) -> None:
        self._chunks = Ordinals(_FEATURE_BYTES)
        self._count = 0

    def add(self, chunk: int, features: array[int]) -> None:
        """Record a chunk; it replaces an earlier one under each feature that they share.

        Args:
            chunk: its ordinal.
            features: its super-features; nothing is recorded if there are none.
        """
        if features and not self.is_full:
            self._count += 1
            self._chunks.put(features, chunk, each=SUPER_FEATURES)

    def add_all(self, chunks: range, features: array[int]) -> None:
        """Record chunks that follow one another, as `add` does each.

        Args:
            chunks: their ordinals.
            features: SUPER_FEATURES for each of them.
        """
        chunks = chunks[: max(MAX_SKETCHES - self._count, 0)]
        self._count += len(chunks)
        taken = features[: len(chunks) * SUPER_FEATURES]
        self._chunks.put(taken, chunks.start, each=SUPER_FEATURES)

    @property
    def is_full(self) -> bool:
        """Whether no more chunks are recorded."""
        return self._count >= MAX_SKETCHES

    def find(self, features: array[int], depth: Callable[[int], int]) -> list[int]:
        """Return the chunks that share features with a new one, best first.

        Args:
            features: super-features of the new chunk.
            depth: returns the depth of a chunk's frame; among equals the shallower is better.

        Returns:
            ordinals of chunks.
        """
        found = list(filter((-1).__lt__, self._chunks.get_all(features, _FEATURE_BYTES)))
        return sorted(set(found), key=lambda chunk: (-found.count(chunk), depth(chunk), -chunk))


class SketchCache:
    """Sketches of layers' chunks, one file a layer.

    Args:
        directory: the directory of the files, made when first written to; "" keeps nothing.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def get(self, layer_digest: str, chunk_count: int) -> array[int] | None:
        """Return the sketches of a layer's first chunks.

        Args:
            layer_digest: ``sha256:<hex>``.
            chunk_count: number of chunks.

        Returns:
            SUPER_FEATURES for each chunk, zeros for a chunk without a sketch; None if the cache has
            not that many.
        """
        if not self._directory:
            return None
        size = chunk_count * _RECORD_BYTES
        body = read_cache(self._path(layer_digest), size)
        if body is None or len(body) != size:
            return None
        features = array("Q")
        features.frombytes(body)
        return features

    def put(self, layer_digest: str, features: array[int]) -> None:
        """Keep the sketches of a layer's first chunks, if the file can be written.

        Args:
            layer_digest: ``sha256:<hex>``.
            features: SUPER_FEATURES for each of the first MAX_SKETCHES chunks, or of all.
        """
        if self._directory:
            write_cache(self._path(layer_digest), features.tobytes())

    def _path(self, layer_digest: str) -> str:
        return os.path.join(self._directory, layer_digest.removeprefix("sha256:"))


def save_sketches(cache: SketchCache, writer: LayerWriter, features: array[int]) -> None:
    """Keep the sketches of new layers, so that the next pack need not read them.

    Args:
        cache: where to.
        writer: wrote the layers; closed.
        features: SUPER_FEATURES for each of the first MAX_SKETCHES new chunks, or of all.
    """
    chunks = iter(writer.frame_chunks)
    start = 0
    for layer, frames in zip(writer.layers, writer.layer_frames, strict=True):
        of_layer = sum(islice(chunks, frames))
        end = start + SUPER_FEATURES * min(of_layer, MAX_SKETCHES)
        if end <= len(features):
            cache.put(layer.digest, features[start:end])
        start += SUPER_FEATURES * of_layer


def record_base(similar: Similar, base: FrameReader, usable: bytearray, cache: SketchCache) -> None:
    """Record the chunks of the base in `similar`. A damaged frame raises `IntegrityError`.

    Args:
        similar: takes the chunks.
        base: reads chunks whose sketches are not cached.
        usable: one byte a chunk: 1 if new frames may have it as prefix.
        cache: sketches of layers; completed.
    """
    index = base.index
    frame = 0
    for layer, count in enumerate(index.layer_frames):
        if similar.is_full:
            break
        first = base.frames.first_chunk[frame]
        last = min(base.frames.first_chunk[frame + count], first + MAX_SKETCHES)
        if 1 in usable[first:last]:
            features = cache.get(base.layers[layer].digest, last - first)
            if features is None:
                features = _features(base, frame, last - first)
                cache.put(base.layers[layer].digest, features)
            recorded = map(and_, usable[first:last], map(bool, features[::SUPER_FEATURES]))
            for start, length in Runs(compress(range(first, last), recorded)):
                at = (start - first) * SUPER_FEATURES
                of_run = features[at : at + length * SUPER_FEATURES]
                similar.add_all(range(start, start + length), of_run)
        frame += count


def _features(base: FrameReader, frame: int, chunks: int) -> array[int]:
    """Return the sketches of some chunks, from the first chunk of a frame on."""
    out = array("Q")
    first = base.frames.first_chunk[frame]
    for _, start, count in base.frames.parts(first, chunks):
        for part in base.chunks(start, count):
            out.extend(sketch(part) or (0,) * SUPER_FEATURES)
    return out
