"""Old streams that new ones probably were, by names and order."""

from __future__ import annotations

from typing import NamedTuple

from packer.opening.guesses import guesses


class Stream(NamedTuple):
    number: int
    name: bytes = b""


def named(*names: bytes) -> list[Stream]:
    return [Stream(number, name) for number, name in enumerate(names)]


def test_names_come_first() -> None:
    old, new = named(b"a", b"b", b"c"), named(b"c", b"a", b"b")
    assert guesses(new, old, set()) == {0: 2, 1: 0, 2: 1}


def test_names_but_for_numbers() -> None:
    old = named(b"m@v1.8.0/x", b"m@v1.8.0/y1", b"m@v1.8.0/y2")
    new = named(b"m@v1.10.0/y1", b"m@v1.10.0/y2", b"m@v1.10.0/x")
    assert guesses(new, old, set()) == {0: 1, 1: 2, 2: 0}


def test_the_exact_name_is_taken_before_one_but_for_numbers() -> None:
    old, new = named(b"a1", b"a2"), named(b"a3", b"a1")
    assert guesses(new, old, set()) == {1: 0, 0: 1}


def test_equal_names_in_order() -> None:
    old, new = named(b"a", b"a"), named(b"a", b"a", b"a")
    assert guesses(new, old, set()) == {0: 0, 1: 1, 2: 1}


def test_without_names_changed_ones_in_order() -> None:
    old, new = named(b"", b"", b"", b"z"), named(b"", b"", b"", b"")
    assert guesses(new, old, {1}) == {0: 0, 1: 2, 2: 3, 3: 3}


def test_an_unchanged_one_is_taken_by_its_name() -> None:
    assert guesses(named(b"a"), named(b"b", b"a"), {1}) == {0: 1}
