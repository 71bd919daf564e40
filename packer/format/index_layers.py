"""Index layers: an index in full, or as a patch on the index of the base.

A version lists a chain of index layers: the first holds an index in full, each later one a patch on
the result so far. A small data layer and an index part share one *update layer*, so that a small
update is one blob. docs/format.md, section "Index layers", is the specification.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

import blake3

from packer.engine import delta, zstd
from packer.errors import DigestMismatch, FormatError
from packer.format.index_codec import MAX_INDEX_BYTES
from packer.format.reading_ahead import read_blobs
from packer.oci import UPDATE_TYPE, Descriptor
from packer.stores.protocols import Store

MAX_PATCHES = 32
"""Patches in a chain before the index is written in full again: each is a request of a fresh
pull."""
READ_PATCHES = 64
"""Index layers that a reader applies at most."""

FIRST_INDEX_LEVEL = 15
"""zstd level of the index of a version without a base: level 19 takes three times as long and saves
half a per cent. A small index is compressed at `index_level`."""
SMALL_INDEX_BYTES = 16 << 10
"""Greatest plaintext in bytes of an index that counts as small."""

UPDATE_BYTES = 64 << 10
"""Greatest update layer in bytes that is written: a reader of the index fetches all of it."""
READ_UPDATE_BYTES = 1 << 20
"""Greatest update layer in bytes that is read for its index."""
UPDATE_TAIL = struct.Struct("<I")
"""Last bytes of an update layer: the length of the index part in front of them."""

DELTA_INDEX_BYTES = 192 << 10
"""Greatest index in bytes whose patch is a zstd frame with the index as prefix, which is 1 to 3 %
smaller there. The patch on a larger index is a delta frame, as zstd finds matches only in the last
few MiB of a prefix."""

Plain = tuple[bytes | bytearray, list[int]]
"""An index's plaintext, and the bytes that it takes in each index layer."""


def read_index(store: Store, layers: Sequence[Descriptor], digest: str | None) -> Plain:
    """Return the plaintext of an index.

    A missing layer raises `NotFound`, a damaged one `IntegrityError`.

    Args:
        store: where the layers are.
        layers: the version's index layers, in the manifest's order.
        digest: ``blake3:<hex>`` of the plaintext, from the version's config; None for an older
            index, which the layers' own digests protect.

    Returns:
        the plaintext, and the bytes that it takes in each layer.

    Raises:
        FormatError: there are too many layers.
        DigestMismatch: the result is not the index that the config names.
    """
    if len(layers) > READ_PATCHES:
        raise FormatError("manifest", f"{len(layers)} index layers, the limit is {READ_PATCHES}")
    plain: bytes | bytearray = b""
    parts: list[int] = []
    limits = [
        READ_UPDATE_BYTES if layer.media_type == UPDATE_TYPE else MAX_INDEX_BYTES
        for layer in layers
    ]
    for layer, data in zip(layers, read_blobs(store, layers, limits), strict=True):
        what = f"index layer {layer.digest}"
        if layer.media_type == UPDATE_TYPE:
            data = _index_of_update(data, what)
        parts.append(len(data))
        if len(plain) > DELTA_INDEX_BYTES:
            size, start = zstd.read_number(data, what)
            plain = delta.decode(data[start:], size, what, plain)
        else:
            size = zstd.content_size(data, MAX_INDEX_BYTES, what)
            plain = zstd.decompress(data, size, what, plain)
    actual = "blake3:" + blake3.blake3(plain).hexdigest()
    if digest is not None and actual != digest:
        raise DigestMismatch("index", digest, actual)
    return plain, parts


def _index_of_update(data: bytes, what: str) -> bytes:
    """Return the index part of an update layer."""
    end = len(data) - UPDATE_TAIL.size
    if end >= 0:
        (length,) = UPDATE_TAIL.unpack_from(data, end)
        if length <= end:
            return data[end - length : end]
    raise FormatError(what, "an update layer whose index is cut off")


def first_index(plain: bytes) -> bytes:
    """Return the index part of a version without a base.

    Args:
        plain: the index.

    Returns:
        the index in full, compressed.
    """
    level = index_level(len(plain))
    if len(plain) > SMALL_INDEX_BYTES:
        level = min(level, FIRST_INDEX_LEVEL)
    return zstd.compress(plain, level)


def full_index(plain: bytes) -> bytes:
    """Return an index in full, for a version that starts a new chain.

    Args:
        plain: the index.

    Returns:
        the index, compressed.
    """
    return zstd.compress(plain, index_level(len(plain)))


def patch_or_full(
    plain: bytes, read_base: Callable[[], Plain], data_bytes: int
) -> tuple[bytes, bool]:
    """Return an index as a patch on the base's index, or in full where that is better.

    It is better once the patches of the chain outgrow both the index in full and a twentieth of
    the data. Below that they add little to a fresh pull.

    Args:
        plain: the index.
        read_base: returns the base's index; called once.
        data_bytes: stored bytes of the base's data layers.

    Returns:
        the index part, and whether it is a patch.
    """
    old, parts = read_base()
    before, level = len(old), index_level(len(plain) + len(old))
    if before > DELTA_INDEX_BYTES:
        buffer = bytearray(old)
        del old  # as large as the buffer
        buffer += plain
        frame = delta.encode(buffer, before, level)
        assert frame is not None
        patch = zstd.number(len(plain)) + frame
    else:
        patch = zstd.compress(plain, level, prefix=old)
    patches = sum(parts[1:]) + len(patch)
    if patches > data_bytes // 20 and patches > len(full := full_index(plain)):
        return full, False
    return patch, True


def index_level(plain_bytes: int) -> int:
    """Return the strongest zstd level that compresses an index in less than about 0.1 s.

    Args:
        plain_bytes: plaintext of the index, and of its prefix.

    Returns:
        a level.
    """
    return 19 if plain_bytes <= 256 << 10 else 12 if plain_bytes <= 4 << 20 else 6
