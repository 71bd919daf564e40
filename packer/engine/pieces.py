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


class Course:
    """Where a new text goes on in old ones: of equal pieces the one there is its own."""

    def __init__(self) -> None:
        self.handle = ffi.new("pk_piece_course *", [lib.PK_NO_PIECE, 0, lib.PK_NO_PIECE, 0])
        """That of the C core, as long as this lives."""


class Places:
    """Where the pieces of old texts are, in order; for one thread at a time."""

    def __init__(self) -> None:
        self._known = Ordinals(PIECE_KEY_BYTES)
        self._streams, self._positions = array("I"), array("Q")
        self._hashes = array("I")

    def __len__(self) -> int:
        """Return the number of pieces."""
        return len(self._streams)

    def add(self, stream: int, pieces: Pieces) -> None:
        """Add pieces; one that equals an earlier one takes its place.

        Args:
            stream: the number of the stream that has them.
            pieces: behind those that were added before.
        """
        self._known.put(pieces.keys, len(self._streams))
        self._streams.extend(array("I", [stream]) * len(pieces.starts))
        self._positions.extend(pieces.starts)
        self._hashes.extend(array("I", bytes(pieces.keys))[::2])

    def forget(self, begin: int) -> None:
        """Forget the pieces from a number on: what has them turned out to be no stream.

        Args:
            begin: of the first one.
        """
        for at in range(begin, len(self._streams)):
            self._streams[at] = NO_STREAM

    def unknown(self, pieces: Pieces) -> Pieces:
        """Return those pieces that were not added.

        Args:
            pieces: of any text.
        """
        found = self._known.get_all(pieces.keys, PIECE_KEY_BYTES)
        new = [at for at, place in enumerate(found) if place < 0]
        words = array("Q", bytes(pieces.keys))
        keys = array("Q", [words[at] for at in new]).tobytes()
        return Pieces(array("Q", [pieces.starts[at] for at in new]), bytearray(keys))

    def look_up(self, pieces: Pieces, course: Course) -> Found:
        """Return which pieces of a new text are known, and the others.

        Args:
            pieces: at least one.
            course: of the new text, whose parts come in order.
        """
        count = len(pieces.starts)
        begins, owners = uncleared("uint64_t[]", count), uncleared("uint32_t[]", count)
        old = uncleared("uint64_t[]", count)
        missing = uncleared("uint8_t[]", PIECE_KEY_BYTES * count)
        out = ffi.new("pk_piece_votes *", [begins, owners, old, missing])
        with (
            ffi.from_buffer("uint32_t[]", self._streams) as numbers,
            ffi.from_buffer("uint64_t[]", self._positions) as places,
            ffi.from_buffer("uint32_t[]", self._hashes) as hashes,
            ffi.from_buffer("uint8_t[]", pieces.keys) as keys,
            ffi.from_buffer("uint64_t[]", pieces.starts) as starts,
        ):
            known = [self._known.handle, numbers, places, hashes, len(self)]
            older = ffi.new("pk_piece_places *", known)
            votes = lib.pk_piece_look_up(older, course.handle, keys, starts, count, out)
        return Found(
            bytes(ffi.buffer(begins, 8 * votes)),
            bytes(ffi.buffer(owners, 4 * votes)),
            bytes(ffi.buffer(old, 8 * votes)),
            bytes(ffi.buffer(missing, PIECE_KEY_BYTES * (count - votes))),
        )
