"""Recipes of parts of deflate streams that were analysed before, by what they were made of.

To find how an encoder came to its output takes as long as encoding it; to hash it, next to nothing.
So recipes are kept beside the local store, each under the digest of all that it depends on. They
were verified when they were made, and are a function of the stream, so packing gives the same bytes
with the cache, without it, or with a damaged one.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import struct
from array import array
from itertools import accumulate, chain, pairwise

import blake3
import xxhash

from packer._version import VERSION

MAX_RECIPES = 65_536
"""Recipes that are held and kept, about 20 MB in memory."""
MAX_BYTES = 16 << 20
"""Their bytes, added up."""

_KEY_BYTES = 16
_HASH_BYTES = 8
_NONE = 0xFFFFFFFF  # length of what does not pay
_HEAD = struct.Struct("=16sQ")
_MAGIC = blake3.blake3(b"recipes of layer-packer " + VERSION.encode()).digest(16)


def key_of(data: memoryview, bit: int, end_bit: int, window: bytes, position: int) -> bytes:
    """Return what names a recipe: a digest of all that it depends on.

    Args:
        data: the part of the stream, from the byte it begins in to the one it ends in.
        bit: where in the first byte it begins.
        end_bit: where it ends, counted from the first byte.
        window: the plaintext before it, as `Segment.inflate` takes it.
        position: bytes of plaintext before it, in all.
    """
    hasher = blake3.blake3(struct.pack("<4Q", len(window), position, bit, end_bit))
    hasher.update(window)
    hasher.update(data)
    return hasher.digest(_KEY_BYTES)


class RecipeCache:
    """Recipes, by key; None for parts whose recipe does not pay. Used by one thread at a time.

    Args:
        directory: of the file that keeps them, made when first written to; "" keeps nothing.
    """

    def __init__(self, directory: str) -> None:
        self._path = os.path.join(directory, "recipes") if directory else ""
        self._kept: dict[bytes, bytes | None] | None = None  # of the file, not used so far
        self._used: dict[bytes, bytes | None] = {}
        self._bytes = 0
        self._changed = False

    def __contains__(self, key: bytes) -> bool:
        if key in self._used:
            return True
        if self._kept is None:
            self._kept = self._load()
        if key not in self._kept:
            return False
        self._note(key, self._kept.pop(key))
        return True

    def __getitem__(self, key: bytes) -> bytes | None:
        """Return a recipe that is contained."""
        return self._used[key]

    def put(self, key: bytes, recipe: bytes | None) -> None:
        """Note a recipe that was made, if there is room."""
        size = len(recipe or b"")
        if len(self._used) < MAX_RECIPES and self._bytes + size <= MAX_BYTES:
            self._note(key, recipe)
            self._changed = True

    def save(self) -> None:
        """Keep what was used, and of the rest as much as there is room for, if that can be done."""
        if not self._path or not self._changed:
            return
        keys, lengths, recipes = bytearray(), array("I"), bytearray()
        for key, recipe in chain(self._used.items(), (self._kept or {}).items()):
            if len(lengths) == MAX_RECIPES or len(recipes) + len(recipe or b"") > MAX_BYTES:
                break
            keys += key
            lengths.append(_NONE if recipe is None else len(recipe))
            recipes += recipe or b""
        body = b"".join((_HEAD.pack(_MAGIC, len(lengths)), keys, lengths.tobytes(), recipes))
        temporary = f"{self._path}.{secrets.token_hex(4)}"
        with contextlib.suppress(OSError):  # a full or read-only disk costs only the saving
            os.makedirs(os.path.dirname(self._path), exist_ok=True)
            with open(temporary, "wb") as file:
                file.write(body + xxhash.xxh3_64_digest(body))
            os.replace(temporary, self._path)
            self._changed = False

    def _note(self, key: bytes, recipe: bytes | None) -> None:
        if key not in self._used:
            self._used[key] = recipe
            self._bytes += len(recipe or b"")

    def _load(self) -> dict[bytes, bytes | None]:
        most = _HEAD.size + MAX_RECIPES * (_KEY_BYTES + 4) + MAX_BYTES + _HASH_BYTES
        try:
            with open(self._path, "rb") as file:
                data = file.read(most + 1)
        except OSError:
            return {}
        body, check = data[:-_HASH_BYTES], data[-_HASH_BYTES:]
        if len(body) < _HEAD.size or len(data) > most or xxhash.xxh3_64_digest(body) != check:
            return {}
        magic, count = _HEAD.unpack_from(body)
        if magic != _MAGIC or count > MAX_RECIPES:
            return {}
        at = _HEAD.size
        keys = body[at : at + count * _KEY_BYTES]
        lengths = array("I")
        lengths.frombytes(body[at + len(keys) : at + len(keys) + 4 * count])
        recipes = memoryview(body)[at + len(keys) + 4 * count :]
        ends = accumulate((0 if length == _NONE else length for length in lengths), initial=0)
        return {
            keys[place * _KEY_BYTES : (place + 1) * _KEY_BYTES]: (
                None if lengths[place] == _NONE else bytes(recipes[start:end])
            )
            for place, (start, end) in enumerate(pairwise(ends))
        }
