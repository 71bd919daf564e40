"""Recipes and deltas that wait: what stays in memory is bounded, and all of it comes back."""

from __future__ import annotations

import random
from contextlib import closing

from packer.opening.shelf import Shelf, Shelved

LARGE = 1000


def test_bytes_come_back_and_memory_is_bounded() -> None:
    made = [random.Random(at).randbytes(LARGE) for at in range(50)]
    with closing(Shelf(None, most=10 * LARGE)) as shelf:
        kept = [shelf.keep(data) for data in made]
        assert [bytes(each) for each in reversed(kept)] == made[::-1]
        assert [len(each) for each in kept] == [LARGE] * 50
        assert sum(isinstance(each, bytes) for each in kept) == 10


def test_what_is_kept_already_is_not_written_again() -> None:
    with closing(Shelf(None, most=0)) as shelf:
        kept = shelf.keep(b"x" * LARGE)
        assert isinstance(kept, Shelved)
        assert shelf.keep(kept) is kept


def test_few_bytes_need_no_file() -> None:
    with closing(Shelf(None, most=0)) as shelf:
        assert shelf.keep(b"few") == b"few"
