"""Pieces of texts: their hashes, and what a new text has in common with old ones."""

import random
from array import array
from itertools import pairwise

from packer.engine.chunking import ChunkParams, cut_points
from packer.engine.ordinals import Ordinals
from packer.engine.pieces import NO_STREAM, PIECE_KEY_BYTES, Pieces, cut_pieces, key_set, look_up

PARAMS = ChunkParams(1 << 10)
WHOLE = ChunkParams(1 << 20)
"""Leave short texts uncut."""


def keys_of(pieces: Pieces) -> list[bytes]:
    keys = bytes(pieces.keys)
    return [keys[at : at + PIECE_KEY_BYTES] for at in range(0, len(keys), PIECE_KEY_BYTES)]


def test_pieces_are_the_chunks_of_the_text() -> None:
    text = random.Random(1).randbytes(200_000)
    ends = cut_points(text, PARAMS)
    pieces = cut_pieces(memoryview(text), PARAMS, 7)
    assert list(pieces.starts) == [7 + end for end in (0, *ends[:-1])]
    parts = [text[start:end] for start, end in pairwise((0, *ends))]
    assert keys_of(pieces) == [bytes(cut_pieces(part, WHOLE).keys) for part in parts]
    assert cut_pieces(b"", PARAMS) == (array("Q"), bytearray())


def test_keys_of_pieces_depend_on_their_bytes_alone() -> None:
    draw = random.Random(5)
    pieces = [draw.randbytes(size) for size in range(1, 300)]
    pieces += [bytes(size) for size in range(1, 100)]
    for at in range(256):  # a bit changed in each byte
        near = bytearray(pieces[280])
        near[at] ^= 0x80
        pieces.append(bytes(near))
    found = [bytes(cut_pieces(memoryview(b"head" + piece)[4:], PARAMS).keys) for piece in pieces]
    assert found == [bytes(cut_pieces(piece, PARAMS).keys) for piece in pieces]
    assert {len(key) for key in found} == {PIECE_KEY_BYTES}
    assert len(set(found)) == len(pieces)
    assert found[280] != bytes(cut_pieces(pieces[280] + b"\0", PARAMS).keys)


def test_pieces_that_are_known_are_told_from_others() -> None:
    draw = random.Random(2)
    old, new = draw.randbytes(500_000), draw.randbytes(100_000)
    known = Ordinals(PIECE_KEY_BYTES)
    pieces = cut_pieces(old, PARAMS, 1000)
    known.put(pieces.keys, 0)
    streams = array("I", [3]) * len(pieces.starts)
    for at in range(5):
        streams[at] = NO_STREAM  # what was there turned out to be no stream
    found = look_up(cut_pieces(new + old, PARAMS, 50), known, streams, pieces.starts)
    starts, positions = array("Q", found.starts), array("Q", found.positions)
    assert len(starts) >= len(pieces.starts) - 7  # but for those, and what the join cut anew
    assert array("I", found.streams) == array("I", [3]) * len(starts)
    shift = 50 + len(new) - 1000
    assert [start - shift for start in starts] == list(positions)
    assert set(positions) <= set(pieces.starts[5:])
    both = keys_of(cut_pieces(new + old, PARAMS))
    alive = set(keys_of(pieces)[5:])
    assert found.missing == b"".join(key for key in both if key not in alive)


def test_keys_as_numbers_are_in_the_order_of_their_bytes() -> None:
    keys = [bytes(7) + b"\2", b"\1" + bytes(7), bytes(6) + b"\1\1"]
    assert key_set(b"".join(keys)) == {2, 1 << 56, 257}
    assert [each.to_bytes(8, "big") for each in sorted(key_set(b"".join(keys)))] == sorted(keys)
    assert key_set(b"") == frozenset()
