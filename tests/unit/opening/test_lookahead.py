"""Look-ahead in a stream: what it gives, and how much is moved for it."""

from __future__ import annotations

import io
import random
from collections.abc import Callable

import pytest

from packer.opening.lookahead import Source

LOOK_AHEAD = 100_000


class Counted(Source):
    """Counts the bytes that are moved within memory."""

    moved = 0

    def _move(self, buffer: bytearray) -> None:
        self.moved += self._end - self.at
        super()._move(buffer)


def in_small_steps(source: Source) -> int:
    """As many short streams one after another are read."""
    while source.ahead(LOOK_AHEAD):
        source.skip(min(source.ahead(LOOK_AHEAD), 50))
    return source.position


def farther_and_farther(source: Source) -> int:
    """As headers of an archive are looked for behind others, in front of which all stays."""
    while source.ahead(LOOK_AHEAD):
        for start in range(0, LOOK_AHEAD, 50):
            source.ahead(start + LOOK_AHEAD)
        source.skip(min(source.ahead(LOOK_AHEAD), LOOK_AHEAD))
    return source.position


@pytest.mark.parametrize("read", [in_small_steps, farther_and_farther])
@pytest.mark.parametrize("buffer", [1, LOOK_AHEAD - 1, LOOK_AHEAD, LOOK_AHEAD + 1, 10 * LOOK_AHEAD])
def test_what_is_moved_is_in_proportion_to_the_stream(
    read: Callable[[Source], int], buffer: int
) -> None:
    """An archive of 100,000 members took a minute: each of them moved all that was in hand."""
    size = 20 * LOOK_AHEAD
    source = Counted(io.BytesIO(bytes(size)).readinto, bytearray(buffer))
    assert read(source) == size
    assert source.moved < 10 * size
    assert len(source.buffer) <= max(buffer, 3 * LOOK_AHEAD)


def test_a_short_stream_takes_no_more_than_its_length() -> None:
    source = Source(io.BytesIO(bytes(1000)).readinto, bytearray(1001))
    assert source.ahead(LOOK_AHEAD) == 1000
    source.skip(500)
    assert source.ahead(LOOK_AHEAD) == 500
    assert len(source.buffer) == 1001


@pytest.mark.parametrize("buffer", [1, 100, 5000])
def test_the_bytes_are_those_of_the_stream(buffer: int) -> None:
    rng = random.Random(buffer)
    data = rng.randbytes(60_000)
    source = Source(io.BytesIO(data).readinto, bytearray(buffer))
    while source.position < len(data):
        wanted = rng.randrange(1, 9000)
        have = source.ahead(wanted)
        at = source.position
        assert have >= min(wanted, len(data) - at)
        assert source.view(0, have) == data[at : at + have]
        source.skip(rng.randrange(min(have, rng.choice((10, 9000))) + 1))
