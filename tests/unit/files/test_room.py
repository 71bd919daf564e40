"""Tests of memory that threads share."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event, Lock

from packer.files.room import Room


def test_threads_never_hold_more_than_there_is() -> None:
    room, lock, held, most = Room(10), Lock(), 0, 0

    def work(size: int) -> None:
        nonlocal held, most
        with room.take(size):
            with lock:
                held += size
                most = max(most, held)
            with lock:
                held -= size

    with ThreadPoolExecutor(8) as executor:
        list(executor.map(work, [1, 3, 4, 6, 10] * 40))
    assert (held, most <= 10) == (0, True)


def test_what_takes_more_than_there_is_is_done_alone() -> None:
    room, first, second = Room(10), Event(), Event()

    def large() -> None:
        with room.take(11):
            first.set()
            assert not second.wait(0.05)

    def small() -> None:
        with room.take(1):
            second.set()

    with ThreadPoolExecutor(2) as executor:
        begun = executor.submit(large)
        assert first.wait(10)
        executor.submit(small).result()
        begun.result()
    assert second.is_set()


def test_room_is_given_back_on_an_error() -> None:
    room = Room(1)
    for _ in range(2):
        try:
            with room.take(1):
                raise ValueError
        except ValueError:
            pass
    with room.take(1):
        pass


def test_a_forked_child_has_all_of_it() -> None:
    room = Room(1)
    with room.take(1):
        room.renew_after_fork()  # what a child calls
        with room.take(1):
            pass
        room.renew_after_fork()
