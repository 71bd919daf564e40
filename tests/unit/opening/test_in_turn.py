"""Functions called in turn: in order, one at a time, each whatever became of the one before."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from packer.opening.in_turn import InTurn


def test_functions_are_called_in_order_and_one_at_a_time() -> None:
    running, order = [], []

    def call(number: int) -> int:
        running.append(number)
        time.sleep(0.002)
        assert running == [number]
        running.remove(number)
        order.append(number)
        return number

    with ThreadPoolExecutor(4) as executor:
        turns = InTurn(executor)
        waits = [turns.submit(lambda number=number: call(number)) for number in range(20)]  # type: ignore[misc]
        assert [wait() for wait in waits] == list(range(20))
    assert order == list(range(20))


def test_an_error_is_its_own() -> None:
    with ThreadPoolExecutor(2) as executor:
        turns = InTurn(executor)
        first, second = turns.submit(lambda: 1 // 0), turns.submit(lambda: 2)
        with pytest.raises(ZeroDivisionError):
            first()
        assert second() == 2


def test_nothing_waits_for_an_executor_that_was_shut_down() -> None:
    executor = ThreadPoolExecutor(1)
    turns = InTurn(executor)
    first = turns.submit(lambda: time.sleep(0.05))
    second = turns.submit(lambda: 2)
    executor.shutdown()
    assert first() is None
    with pytest.raises(RuntimeError):
        second()
