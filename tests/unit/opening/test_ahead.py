"""What is made one step ahead is the same, in order, and is waited for."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from typing import Any

import pytest

from packer.opening.ahead import all_ahead, one_ahead
from packer.opening.discovery import Discovery
from packer.opening.found_stream import FoundStream, MadeStream
from packer.opening.workers import Workers
from tests.builders import text

PLAIN = text("ahead", 9 << 20)
STREAM = zlib.compress(PLAIN, 1, 31)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as executor:
        yield executor


def test_the_next_step_is_done_while_this_one_is_used(pool: ThreadPoolExecutor) -> None:
    begun = [threading.Event() for _ in range(4)]
    left = iter(range(4))

    def step() -> int | None:
        at = next(left, None)
        if at is not None:
            begun[at].set()
        return at

    for at in one_ahead(step, Workers(pool).ahead):
        assert all(event.wait(10) for event in begun[: at + 2])
    assert Workers(None).ahead is None
    left = iter(range(4))
    assert list(one_ahead(step, None)) == [0, 1, 2, 3]


def test_an_iterator_that_is_closed_waits_for_the_step_that_was_begun(
    pool: ThreadPoolExecutor,
) -> None:
    going_on = threading.Event()
    done: list[int] = []

    def step() -> int:
        if done:
            going_on.wait(10)
        done.append(threading.get_ident())
        return len(done)

    made = one_ahead(step, Workers(pool).ahead)
    assert next(made) == 1
    threading.Timer(0.05, going_on.set).start()
    made.close()
    assert len(done) == 2
    assert done[0] == threading.get_ident() != done[1]


def test_an_error_comes_where_its_step_does(pool: ThreadPoolExecutor) -> None:
    left = iter((1, 2))

    def step() -> int:
        for value in left:
            return value
        raise ValueError("third")

    made = one_ahead(step, Workers(pool).ahead)
    assert [next(made), next(made)] == [1, 2]
    with pytest.raises(ValueError, match="third"):
        next(made)


def test_jobs_that_nobody_asks_for_are_waited_for(pool: ThreadPoolExecutor) -> None:
    done: list[int] = []
    jobs = [partial(done.append, at) for at in range(9)]
    with pytest.raises(KeyError), all_ahead(jobs, Workers(pool).ahead) as waiting:
        waiting[0]()
        raise KeyError
    assert sorted(done) == list(range(9))
    with all_ahead(jobs, None) as waiting:
        waiting[3]()
    assert done[9:] == [3]


@pytest.mark.parametrize("behind", [b"", b"cut"])
def test_streams_are_found_alike_ahead_and_not(pool: ThreadPoolExecutor, behind: bytes) -> None:
    data = STREAM[: -1 << 20] if behind else STREAM

    def found(run: Callable[..., Any] | None) -> list[Any]:
        seen: list[Any] = []

        def visit(stream: FoundStream | MadeStream, position: int, plain: memoryview) -> None:
            assert isinstance(stream, FoundStream)
            seen.append((stream.number_at(position), position, bytes(plain)))

        made = Discovery(lambda at, n: data[at : at + n], len(data), visit=visit, run=run)
        with closing(made):
            (stream,) = made.roots
            return [*seen, stream.size, stream.is_cut, stream.read(0, stream.size)]

    ahead = found(Workers(pool).ahead)
    assert ahead == found(None)
    assert ahead[-1] == PLAIN[: len(ahead[-1])] and ahead[-2] == bool(behind)
