"""What an index records of an opened file, and its bounds. docs/format.md, "Expansions"."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import NamedTuple

from packer.errors import FormatError

MAX_RATIO = 32
SPARE_BYTES = 256 << 20
"""A file opens to at most MAX_RATIO times its size plus SPARE_BYTES, all depths together: the bound
on a reader's work."""
SPARE_RECIPE_BYTES = 32 << 20
RECIPE_RATIO = 32
DELTA_RATIO = 2
MAX_RECIPE_BYTES = 1 << 30
"""A recipe has at most SPARE_RECIPE_BYTES plus the file's size divided by RECIPE_RATIO (DELTA_RATIO
if it refers to predecessors), and never more than MAX_RECIPE_BYTES: the bound on a reader's memory
and temporary files."""
MAX_FILE_BYTES = 1 << 44
"""Greatest size of a file that may be opened, in bytes (16 TiB)."""

_ROW = struct.Struct("<IIQ16s")


class Expansion(NamedTuple):
    """A file that is stored as content and a recipe.

    Args:
        size: of the file in bytes.
        recipe_chunks: number of chunks at the end of its runs that are the recipe.
        digest: first 16 bytes of the BLAKE3-256 of the file.
        predecessors: ordinals of the predecessors that the recipe refers to; their old streams are
            numbered in this order. The index holds them in a section of their own.
    """

    size: int
    recipe_chunks: int
    digest: bytes
    predecessors: tuple[int, ...] = ()


def encode(expansions: Mapping[int, Expansion]) -> bytes:
    """Code expansions for the index.

    Args:
        expansions: by ordinal of the entry.

    Returns:
        A row for each opened entry, in order.
    """
    out = bytearray()
    last = -1
    for entry, row in sorted(expansions.items()):
        # Relative to the entry before, so that one more file changes one row alone.
        out += _ROW.pack(entry - last - 1, row.recipe_chunks, row.size, row.digest)
        last = entry
    return bytes(out)


def decode(data: bytes, what: str) -> dict[int, Expansion]:
    """Decode the section that `encode` returns.

    Args:
        data: the section, from a stranger.
        what: how errors name the index.

    Returns:
        The expansions, by ordinal of the entry.

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
    """Return the greatest number of bytes that a file of `size` bytes may open to."""
    return MAX_RATIO * size + SPARE_BYTES


def most_recipe(size: int, *, against: bool = False) -> int:
    """Return the greatest length in bytes of the recipe of a file of `size` bytes.

    Args:
        size: of the file in bytes.
        against: whether it refers to predecessors, so that it may hold deltas.
    """
    ratio = DELTA_RATIO if against else RECIPE_RATIO
    return min(SPARE_RECIPE_BYTES + size // ratio, MAX_RECIPE_BYTES)
