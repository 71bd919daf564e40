"""Large memory is used again once nothing refers to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from packer.engine import memory
from packer.engine.memory import release_free_memory, writable

LARGE = 5 << 20


@pytest.fixture(autouse=True)
def empty() -> Iterator[None]:
    release_free_memory()
    yield
    release_free_memory()


@pytest.mark.parametrize("size", [0, 1, (2 << 20) - 1, 2 << 20, LARGE + 1])
def test_it_has_as_many_bytes_as_are_asked_for_and_can_be_written(size: int) -> None:
    made = writable(size)
    assert len(made) == made.nbytes == size and not made.readonly
    made[:] = bytes(size)
    assert bytes(made) == bytes(size)


def test_it_is_kept_once_nothing_refers_to_it() -> None:
    first = writable(LARGE)
    part = first[100:200]
    part[:] = b"a" * 100
    del first
    assert not memory._idle  # a part of it is in use
    other = writable(LARGE)
    other[:] = bytes(LARGE)
    assert bytes(part) == b"a" * 100
    del part
    (kept,) = memory._idle
    again = writable(LARGE - 1)
    assert not memory._idle and len(again) == LARGE - 1
    del again
    assert memory._idle == [kept]


def test_a_short_one_does_not_take_a_long_one() -> None:
    kept = [writable(10 << 20)]
    kept.clear()
    assert [len(each) for each in memory._idle] == [10 << 20]
    short = writable(2 << 20)
    assert len(memory._idle) == 1 and len(short) == 2 << 20


def test_not_much_is_kept_and_all_is_released() -> None:
    made = [writable(6 << 20) for _ in range(4)]
    made.clear()
    assert sum(map(len, memory._idle)) <= memory._IDLE_BYTES
    assert memory._idle
    release_free_memory()
    assert not memory._idle
