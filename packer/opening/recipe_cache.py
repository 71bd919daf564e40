"""Recipes of segments that were analysed before, under digests of their input.

Analysing a segment takes as long as encoding it; hashing it takes next to nothing. So recipes are
kept beside the local store, each under the digest of everything it depends on. A recipe is verified
when it is made and is a function of the stream: packing writes the same bytes with the cache,
without it, or with a damaged one.
"""

from __future__ import annotations

import os
import struct
from array import array
from itertools import accumulate, chain, pairwise

import blake3

from packer._version import VERSION
from packer.files.cache_file import read_cache, write_cache

MAX_RECIPES = 65_536
"""Greatest number of recipes kept from before, and of new ones: about 25 MB of memory each."""
MAX_BYTES = 16 << 20
"""Greatest sum of the lengths of the recipes used, in bytes."""

_KEY_BYTES = 16
"""Length of a key: the first bytes of a BLAKE3 digest."""
_NONE = 0xFFFFFFFF
"""Length that stands for a segment whose recipe does not pay."""
_HEAD = struct.Struct("=16sQ")
"""Head of the file: _MAGIC, and the number of recipes in native byte order."""
# Another version may find other recipes; another byte order would read another count.
_MAGIC = blake3.blake3(b"recipes of layer-packer " + VERSION.encode()).digest(16)


def key_of(
    data: memoryview, bit: int, end_bit: int, window: bytes, position: int, carry: bytes = b""
) -> bytes:
    """Return the key of a segment's recipe: a digest of everything the recipe depends on.

    Args:
        data: the segment, from the byte it begins in to the byte it ends in.
        bit: where in the first byte it begins.
        end_bit: where it ends, in bits from the first byte.
        window: plaintext before it, as `Segment.inflate` takes it.
        position: bytes of plaintext before it.
        carry: what is known of the block that it begins within, as `Segment.inflate` takes it.

    Returns:
        16 bytes.
    """
    hasher = blake3.blake3(struct.pack("<5Q", len(window), position, bit, end_bit, len(carry)))
    hasher.update(carry)
    hasher.update(window)
    hasher.update(data)
    return hasher.digest(_KEY_BYTES)


class RecipeCache:
    """Recipes by key; None for segments whose recipe does not pay. For one thread at a time.

    Args:
        directory: of the cache file, created at the first `save`; "" for no file.
    """

    def __init__(self, directory: str) -> None:
        self._path = os.path.join(directory, "recipes") if directory else ""
        self._kept: dict[bytes, bytes | None] | None = None  # from the file, not used so far
        self._used: dict[bytes, bytes | None] = {}
        self._bytes = 0
        self._changed = False

    def __getitem__(self, key: bytes) -> bytes | None:
        """Return a recipe, or None if it did not pay; mark it as used. KeyError if unknown."""
        if key not in self._used:
            if self._kept is None:
                self._kept = self._load()
            self._use(key, self._kept.pop(key))
        return self._used[key]

    def put(self, key: bytes, recipe: bytes | None) -> None:
        """Add a new recipe, or None if it does not pay, if there is room."""
        if len(self._used) < MAX_RECIPES and self._bytes + len(recipe or b"") <= MAX_BYTES:
            self._changed = True
            self._use(key, recipe)

    def save(self) -> None:
        """Write the used recipes, and others while there is room, if the disk allows it."""
        if not self._path or not self._changed:
            return
        keys, lengths, recipes = bytearray(), array("I"), bytearray()
        for key, recipe in chain(self._used.items(), (self._kept or {}).items()):
            if len(lengths) == MAX_RECIPES or len(recipes) + len(recipe or b"") > MAX_BYTES:
                break
            keys += key
            lengths.append(_NONE if recipe is None else len(recipe))
            recipes += recipe or b""
        head = _HEAD.pack(_MAGIC, len(lengths))
        write_cache(self._path, b"".join((head, keys, lengths.tobytes(), recipes)))
        self._changed = False

    def _use(self, key: bytes, recipe: bytes | None) -> None:
        if key not in self._used:
            self._used[key] = recipe
            self._bytes += len(recipe or b"")

    def _load(self) -> dict[bytes, bytes | None]:
        row = _KEY_BYTES + array("I").itemsize
        body = read_cache(self._path, _HEAD.size + MAX_RECIPES * row + MAX_BYTES)
        if body is None or len(body) < _HEAD.size:
            return {}
        magic, count = _HEAD.unpack_from(body)
        if magic != _MAGIC or count > MAX_RECIPES:
            return {}
        keys = range(_HEAD.size, _HEAD.size + count * _KEY_BYTES, _KEY_BYTES)
        lengths = array("I")
        lengths.frombytes(body[keys.stop : _HEAD.size + count * row])
        sizes = (0 if length == _NONE else length for length in lengths)
        ends = pairwise(accumulate(sizes, initial=_HEAD.size + count * row))
        return {
            body[key : key + _KEY_BYTES]: None if length == _NONE else body[start:end]
            for key, length, (start, end) in zip(keys, lengths, ends, strict=True)
        }
