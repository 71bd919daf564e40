"""Similar chunks wherever they are: found by sketch, in the base or earlier in the same version.

The sketches of a layer's chunks are kept in a cache beside the local store, so that packing on it
need not decode the base. The cache is a convenience: without it, or with a damaged one, sketches
are computed again, and the result of packing is the same.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable
from itertools import compress
from operator import and_
from typing import TYPE_CHECKING

from packer.engine.native import ffi, lib
from packer.engine.ordinals import Ordinals
from packer.files.cache_file import read_cache, write_cache
from packer.format.frame_reader import FrameReader, Runs
from packer.format.index import Index

if TYPE_CHECKING:
    from typing_extensions import Buffer

SUPER_FEATURES = 6
MAX_SKETCHES = 65_536
"""Chunks whose sketches are held at once, which takes about 12 MB; later ones are not noted."""

_FEATURE_BYTES = 8
_RECORD_BYTES = _FEATURE_BYTES * SUPER_FEATURES


def sketch(data: Buffer) -> array[int]:
    """Return the super-features of a chunk; none if it is too short or uniform.

    Similar chunks have at least one in common, at the same position. csrc/lookup/sketch.h says how
    they are made.

    Args:
        data: the chunk.

    Returns:
        SUPER_FEATURES numbers as "Q", or an empty array.
    """
    view = ffi.from_buffer("uint8_t[]", data)
    out = array("Q", bytes(_RECORD_BYTES))
    return out if lib.pk_sketch(view, len(view), ffi.from_buffer("uint64_t[]", out)) else array("Q")


class Similar:
    """Finds an earlier chunk that has a super-feature in common with a new one."""

    def __init__(self) -> None:
        self._chunks = Ordinals(_FEATURE_BYTES)
        self._count = 0

    def add(self, chunk: int, features: array[int]) -> None:
        """Note a chunk; a later one with the same feature replaces an earlier one."""
        if features and not self.is_full:
            self._count += 1
            self._chunks.put(features, chunk, each=SUPER_FEATURES)

    def add_all(self, chunks: range, features: array[int]) -> None:
        """Note chunks that follow one another and all have features, as `add` does."""
        chunks = chunks[: max(MAX_SKETCHES - self._count, 0)]
        self._count += len(chunks)
        taken = features[: len(chunks) * SUPER_FEATURES]
        self._chunks.put(taken, chunks.start, each=SUPER_FEATURES)

    @property
    def is_full(self) -> bool:
        """Whether no more chunks are noted."""
        return self._count >= MAX_SKETCHES

    def find(self, features: array[int], depth: Callable[[int], int]) -> list[int]:
        """Return the chunks that share features, best first.

        Args:
            features: of the new chunk.
            depth: of a chunk's frame; among equals the shallower is better.
        """
        found = list(filter((-1).__lt__, self._chunks.get_all(features, _FEATURE_BYTES)))
        return sorted(set(found), key=lambda chunk: (-found.count(chunk), depth(chunk), -chunk))


class SketchCache:
    """Sketches of layers' chunks, one file a layer.

    Args:
        directory: made when first written to; "" keeps nothing.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def get(self, layer_digest: str, chunk_count: int) -> array[int] | None:
        """Return the super-features of a layer's first chunks, six each (0 for none), or None."""
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
        """Keep those of a layer's first MAX_SKETCHES chunks, or of all, if that can be done."""
        if self._directory:
            write_cache(self._path(layer_digest), features.tobytes())

    def _path(self, layer_digest: str) -> str:
        return os.path.join(self._directory, layer_digest.removeprefix("sha256:"))


def note_base(similar: Similar, base: FrameReader, usable: bytearray, cache: SketchCache) -> None:
    """Note the chunks of the base in `similar`.

    Args:
        similar: where to.
        base: reads chunks whose sketches are not cached.
        usable: one byte a chunk: 1 if it may be a prefix.
        cache: of sketches; completed.

    Raises:
        IntegrityError: a frame of the base is damaged.
    """
    index: Index = base.index
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
            noted = map(and_, usable[first:last], map(bool, features[::SUPER_FEATURES]))
            for start, length in Runs(compress(range(first, last), noted)):
                at = (start - first) * SUPER_FEATURES
                of_run = features[at : at + length * SUPER_FEATURES]
                similar.add_all(range(start, start + length), of_run)
        frame += count


def _features(base: FrameReader, frame: int, chunks: int) -> array[int]:
    """Return the super-features of some chunks, from the first of a frame on."""
    out = array("Q")
    first = base.frames.first_chunk[frame]
    for _, start, count in base.frames.parts(first, chunks):
        for part in base.chunks(start, count):
            out.extend(sketch(part) or (0,) * SUPER_FEATURES)
    return out
