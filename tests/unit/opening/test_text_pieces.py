"""How a stretch of text is cut into pieces."""

from __future__ import annotations

from itertools import pairwise

import pytest

from packer.engine import zstd
from packer.opening.locating import MARGIN_BYTES
from packer.opening.recipe import MAX_DELTA_BYTES
from packer.opening.text_pieces import (
    MANY_PIECES_BYTES,
    PIECE_BYTES,
    SHORT_PIECE_BYTES,
    _alone,
    cut_pieces,
)
from packer.opening.workers import MOST_AT_ONCE
from tests.builders import text


@pytest.mark.parametrize(
    ("size", "most"),
    [
        (1, MAX_DELTA_BYTES),
        (MAX_DELTA_BYTES, MAX_DELTA_BYTES),
        (MAX_DELTA_BYTES + 1, PIECE_BYTES),
        (MANY_PIECES_BYTES, PIECE_BYTES),
        (MANY_PIECES_BYTES + 1, SHORT_PIECE_BYTES),
        (200 << 20, SHORT_PIECE_BYTES),
    ],
)
def test_pieces_follow_one_another_and_are_as_few_as_may_be(size: int, most: int) -> None:
    pieces = cut_pieces(1000, 1000 + size)
    assert (pieces[0][0], pieces[-1][1]) == (1000, 1000 + size)
    assert all(one[1] == other[0] for one, other in pairwise(pieces))
    assert max(end - start for start, end in pieces) <= most
    assert len(pieces) == -(-size // most)


def test_two_pieces_of_a_large_stream_are_made_at_a_time() -> None:
    assert 2 * (SHORT_PIECE_BYTES + SHORT_PIECE_BYTES + 2 * MARGIN_BYTES) <= MOST_AT_ONCE


def test_nothing_has_no_pieces() -> None:
    assert cut_pieces(5, 5) == []


@pytest.mark.parametrize("size", [100, 1 << 20, (2 << 20) + 1])
def test_what_a_text_takes_alone_is_exact_unless_it_is_far_more_than_its_delta(size: int) -> None:
    data = memoryview(text("alone", size))
    exact = len(zstd.compress(data, 3))
    assert _alone(data, exact) == exact
    assert exact * 0.9 < _alone(data, 1) < exact * 1.3
