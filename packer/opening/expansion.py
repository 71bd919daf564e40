"""What an index says of a file that was opened. docs/format.md, section "Expansions"."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import NamedTuple

from packer.errors import FormatError

MAX_RATIO = 32
SPARE_BYTES = 256 << 20
"""What a file is opened to is at most MAX_RATIO times its size and this, all depths together."""
SPARE_RECIPE_BYTES = 32 << 20
RECIPE_RATIO = 32
MAX_RECIPE_BYTES = 1 << 30
"""The recipe of a file has at most SPARE_RECIPE_BYTES and a RECIPE_RATIO-th of the file's size, and
never more than MAX_RECIPE_BYTES."""
MAX_FILE_BYTES = 1 << 44
"""Greatest file that may be opened."""

_ROW = struct.Struct("<IIQ16s")


class Expansion(NamedTuple):
    """A file that is stored as content and a recipe.

    Args:
        size: of the file in bytes.
        recipe_chunks: how many of the last chunks of its runs are the recipe.
        digest: the first 16 bytes of the BLAKE3-256 of the file.
    """

    size: int
    recipe_chunks: int
    digest: bytes


def encode(expansions: Mapping[int, Expansion]) -> bytes:
    """Return the index's section: a row for each entry that was opened, in their order."""
    out = bytearray()
    last = -1
    for entry, (size, recipe_chunks, digest) in sorted(expansions.items()):
        # Relative to the entry before, so that one more file changes one row alone.
        out += _ROW.pack(entry - last - 1, recipe_chunks, size, digest)
        last = entry
    return bytes(out)


def decode(data: bytes, what: str) -> dict[int, Expansion]:
    """Return what `encode` was given.

    Raises:
        FormatError: the section is damaged.
    """
    if len(data) % _ROW.size:
        raise FormatError(what, "section 30 has a broken length")
    out: dict[int, Expansion] = {}
    entry = -1
    for gap, recipe_chunks, size, digest in _ROW.iter_unpack(data):
        entry += gap + 1
        out[entry] = Expansion(size, recipe_chunks, digest)
    return out


def most_opened(size: int) -> int:
    """Return how many bytes a file of `size` bytes may be opened to."""
    return MAX_RATIO * size + SPARE_BYTES


def most_recipe(size: int) -> int:
    """Return how many bytes the recipe of a file of `size` bytes may have."""
    return min(SPARE_RECIPE_BYTES + size // RECIPE_RATIO, MAX_RECIPE_BYTES)
