"""Pieces of texts, by a hash of each: what a new text has in common with old ones, and where.

Hashes are compared within a process and never stored: those who make equal ones get a larger
update.
"""

from __future__ import annotations

from array import array
from struct import unpack
from typing import TYPE_CHECKING, NamedTuple

from packer.engine.chunking import ChunkParams, cut_array
from packer.engine.native import ffi, lib, uncleared
from packer.engine.ordinals import Ordinals

if TYPE_CHECKING:
    from typing_extensions import Buffer

PIECE_KEY_BYTES: int = lib.PK_PIECE_KEY
"""Length of the hash of a piece in bytes."""
NO_STREAM: int = lib.PK_NO_STREAM
"""Instead of the number of a stream that turned out to be none."""


class Pieces(NamedTuple):
    """The pieces of a part of a text.

    Args:
        starts: where each begins in the text, as "Q".
        keys: their hashes, PIECE_KEY_BYTES each.
    """

    starts: array[int]
    keys: bytearray


class Found(NamedTuple):
    """Pieces of a new text that old ones have, in order, and what they lack.

    Args:
        starts: where each begins in the new text, "Q" in bytes.
        streams: which stream has it, "I" in bytes.
        positions: where it begins there, "Q" in bytes.
        missing: hashes of the others, PIECE_KEY_BYTES each.
    """

    starts: bytes
    streams: bytes
    positions: bytes
    missing: bytes


def cut_pieces(text: Buffer, params: ChunkParams, position: int = 0) -> Pieces:
    """Return the pieces of a text, cut where its content says so.

    Args:
        text: the text, or a part of it.
        params: sizes of pieces.
        position: where the part begins in the text.
    """
    ends = cut_array(text, params)
    starts, keys = array("Q", bytes(8 * len(ends))), bytearray(PIECE_KEY_BYTES * len(ends))
    # Released at once: a view that a traceback keeps borrowed crashes Python's collector.
    with (
        ffi.from_buffer("uint8_t[]", text) as view,
        ffi.from_buffer("uint64_t[]", ends) as cuts,
        ffi.from_buffer("uint64_t[]", starts) as begins,
        ffi.from_buffer("uint8_t[]", keys) as to,
    ):
        lib.pk_piece_keys(view, cuts, len(ends), to)
        lib.pk_piece_starts(cuts, len(ends), position, begins)
    return Pieces(starts, keys)


def key_set(keys: bytes | bytearray) -> frozenset[int]:
    """Return hashes of pieces as numbers, whose order is that of the bytes.

    Args:
        keys: the hashes, PIECE_KEY_BYTES each.
    """
    return frozenset(unpack(f">{len(keys) // PIECE_KEY_BYTES}Q", keys))


def look_up(pieces: Pieces, known: Ordinals, streams: array[int], positions: array[int]) -> Found:
    """Return which pieces of a new text are known, and the others.

    Args:
        pieces: at least one.
        known: from hashes of old pieces to their numbers.
        streams: which stream each of them is in, by its number, as "I"; NO_STREAM for none.
        positions: where it begins there, as "Q".
    """
    count = len(pieces.starts)
    begins, owners = uncleared("uint64_t[]", count), uncleared("uint32_t[]", count)
    old, missing = uncleared("uint64_t[]", count), uncleared("uint8_t[]", PIECE_KEY_BYTES * count)
    out = ffi.new("pk_piece_votes *", [begins, owners, old, missing])
    with (
        ffi.from_buffer("uint32_t[]", streams) as numbers,
        ffi.from_buffer("uint64_t[]", positions) as places,
        ffi.from_buffer("uint8_t[]", pieces.keys) as keys,
        ffi.from_buffer("uint64_t[]", pieces.starts) as starts,
    ):
        votes = lib.pk_piece_look_up(known.handle, numbers, places, keys, starts, count, out)
    return Found(
        bytes(ffi.buffer(begins, 8 * votes)),
        bytes(ffi.buffer(owners, 4 * votes)),
        bytes(ffi.buffer(old, 8 * votes)),
        bytes(ffi.buffer(missing, PIECE_KEY_BYTES * (count - votes))),
    )
