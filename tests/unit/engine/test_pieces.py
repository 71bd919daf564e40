"""Pieces of texts: their hashes, and what a new text has in common with old ones."""

import random
from array import array
from collections.abc import Sequence
from itertools import pairwise

from packer.engine.chunking import ChunkParams, cut_points
from packer.engine.pieces import PIECE_KEY_BYTES, Course, Pieces, Places, cut_pieces, key_set

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
    none, old, new = (draw.randbytes(size) for size in (9_000, 500_000, 100_000))
    places = Places()
    places.add(3, cut_pieces(none, PARAMS))
    places.forget(0)  # it turned out to be no stream
    pieces = cut_pieces(old, PARAMS, 1000)
    places.add(3, pieces)
    found = places.look_up(cut_pieces(new + old + none, PARAMS, 50), Course())
    starts, positions = array("Q", found.starts), array("Q", found.positions)
    assert len(starts) >= len(pieces.starts) - 4  # but for what the joints cut anew
    assert array("I", found.streams) == array("I", [3]) * len(starts)
    shift = 50 + len(new) - 1000
    assert [start - shift for start in starts] == list(positions)
    assert set(positions) <= set(pieces.starts)
    both = keys_of(cut_pieces(new + old + none, PARAMS))
    alive = set(keys_of(pieces))
    assert found.missing == b"".join(key for key in both if key not in alive)


def pieces_of(numbers: Sequence[int], start: int = 0) -> Pieces:
    """Return pieces of 1000 bytes, whose hashes are numbers."""
    starts = array("Q", range(start, start + 1000 * len(numbers), 1000))
    keys = b"".join(number.to_bytes(PIECE_KEY_BYTES, "little") for number in numbers)
    return Pieces(starts, bytearray(keys))


def course_of(old: Sequence[int], *parts: Sequence[int]) -> list[int]:
    """Return the numbers of the old pieces that those of a new text are found at."""
    places, course, out, start = Places(), Course(), array("Q"), 0
    places.add(1, pieces_of(old))
    for part in parts:
        out.frombytes(places.look_up(pieces_of(part, start), course).positions)
        start += 1000 * len(part)
    return [position // 1000 for position in out]


def test_equal_pieces_are_found_where_the_text_goes_on() -> None:
    old = [1, 7, 7, 2, 7, 8, 3, 7, 8, 7, 4, 8, 8, 7]
    every = list(range(14))
    assert course_of(old, old) == every
    assert course_of(old, old[:6], old[6:]) == every  # part after part
    assert course_of(old, [1, 7, 9, 2, 7, 8, 3, 7]) == [0, 1, 3, 4, 5, 6, 7]  # one replaced
    assert course_of(old, [1, 7, 7, 9, 9, 2, 7, 8, 3]) == every[:7]  # two more
    assert course_of(old, [3, 7, 8, 7, 1, 7, 7, 2, 7]) == [6, 7, 8, 9, 0, 1, 2, 3, 4]  # moved


def test_no_piece_is_found_beyond_the_old_ones() -> None:
    assert course_of([], [1, 2]) == []
    assert course_of([1, 2], [1, 2, 1, 2, 2, 2, 3]) == [0, 1, 0, 1, 1, 1]


def test_keys_as_numbers_are_in_the_order_of_their_bytes() -> None:
    keys = [bytes(7) + b"\2", b"\1" + bytes(7), bytes(6) + b"\1\1"]
    assert key_set(b"".join(keys)) == {2, 1 << 56, 257}
    assert [each.to_bytes(8, "big") for each in sorted(key_set(b"".join(keys)))] == sorted(keys)
    assert key_set(b"") == frozenset()
