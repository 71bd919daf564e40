"""The section of predecessors: coded, decoded, and every rule of it checked."""

from __future__ import annotations

from typing import Any

import pytest

from packer.errors import FormatError
from packer.opening.expansion import Expansion, most_opened
from packer.opening.predecessor import MAX_LINKS, OldStream, Predecessor, decode, encode

D = bytes(range(16))
ROWS = [
    Predecessor(1000, 0, b"", ((3, 2), (0, 1)), (), (OldStream(0, 10, 5000), OldStream(1, 0, 9))),
    Predecessor(
        70000,
        1,
        D,
        ((5, 1), (7, 2)),
        (0,),
        (OldStream(0, 10, 300), OldStream(0, 60000, 9), OldStream(2, 8, 1), OldStream(1, 299, 1)),
    ),
]
NAMED = {2: (1,), 9: (1, 0)}


def opened(*entries: int) -> dict[int, Expansion]:
    return {entry: Expansion(99, 1, D) for entry in entries}


def coded(rows: list[Predecessor], named: dict[int, tuple[int, ...]]) -> bytes:
    expansions = {
        entry: Expansion(99, 1, D, predecessors=others) for entry, others in named.items()
    }
    return encode(rows, expansions)


def test_there_and_back() -> None:
    expansions = opened(1, 2, 9)
    assert decode(memoryview(coded(ROWS, NAMED)), expansions, 9, "index") == ROWS
    assert {at: row.predecessors for at, row in expansions.items()} == {1: (), **NAMED}
    assert encode([], opened(1)) == b""


def test_no_cut_is_decoded() -> None:
    data = coded(ROWS, {9: (1, 0)})
    for end in range(1, len(data)):
        with pytest.raises(FormatError, match="index"):
            decode(memoryview(data[:end]), opened(1, 2, 9), 9, "index")


def one(**changes: Any) -> list[Predecessor]:
    return [ROWS[0]._replace(**changes)]


def chain(links: int) -> list[Predecessor]:
    rows = [ROWS[0]]
    for at in range(1, links):
        rows.append(Predecessor(10, 1, D, ((0, 1),), (at - 1,)))
    return rows


def nested(depth: int) -> tuple[OldStream, ...]:
    return tuple(OldStream(at, 1, 9) for at in range(depth))


def fan(width: int) -> list[Predecessor]:
    """Return three levels: each row names all of the level below."""
    rows = [ROWS[0]] * width
    rows += [Predecessor(10, 1, D, ((0, 1),), tuple(range(width)))] * width
    return [*rows, Predecessor(10, 1, D, ((0, 1),), tuple(range(width, 2 * width)))]


REFUSED = {
    "too many files": fan(16),
    "no runs": one(runs=()),
    "run outside": one(runs=((8, 2),)),
    "run far outside": one(runs=((1 << 40, 1),)),
    "run before": one(runs=((-1, 1),)),
    "empty run": one(runs=((0, 0),)),
    "more recipe than chunks": one(recipe_chunks=4),
    "stream in a later one": one(streams=(OldStream(1, 0, 9),)),
    "stream behind the file": one(streams=(OldStream(0, 1000, 9),)),
    "stream behind its parent": one(streams=(OldStream(0, 1, 9), OldStream(1, 9, 1))),
    "stream at the same place": one(streams=(OldStream(0, 1, 9), OldStream(0, 1, 9))),
    "zstd stream within another": one(streams=(OldStream(0, 1, 9), OldStream(1, 2, 1, 1))),
    "a text within another": one(streams=(OldStream(0, 1, 9), OldStream(1, 0, 9, 2))),
    "a text that is not first": one(streams=(OldStream(0, 0, 9), OldStream(0, 1, 1000, 2))),
    "a part of the text": one(streams=(OldStream(0, 0, 999, 2),)),
    "a text that begins later": one(streams=(OldStream(0, 1, 1000, 2),)),
    "a stream in a text": one(streams=(OldStream(0, 0, 1000, 2), OldStream(1, 9, 9))),
    "a kind that does not exist": one(streams=(OldStream(0, 0, 9, 3),)),
    "empty stream": one(streams=(OldStream(0, 1, 0),)),
    "too much plaintext": one(streams=(OldStream(0, 1, most_opened(1000) - 8), OldStream(0, 2, 9))),
    "too deep": one(streams=nested(5)),
    "named twice": [*ROWS[:1], ROWS[1]._replace(predecessors=(0, 0))],
    "closed with a predecessor": [*ROWS[:1], ROWS[0]._replace(predecessors=(0,))],
    "too long a chain": chain(MAX_LINKS + 1),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    rows = REFUSED[name]
    data = coded(rows, {2: (len(rows) - 1,)})
    with pytest.raises(FormatError, match="index"):
        decode(memoryview(data), opened(2), 9, "index")


def test_just_allowed() -> None:
    for rows in (
        one(streams=(OldStream(0, 999, most_opened(1000)),)),
        one(streams=nested(4)),
        one(streams=(OldStream(0, 0, 1000, 2), OldStream(0, 10, 9), OldStream(2, 0, 1))),
        chain(MAX_LINKS),
        fan(15),
    ):
        data = coded(rows, {2: (len(rows) - 1,)})
        assert decode(memoryview(data), opened(2), 9, "index") == rows


@pytest.mark.parametrize("named", [{}, {2: (0,)}, {2: (2,)}, {2: (1, 1)}, {3: (1,)}], ids=str)
def test_names_of_entries(named: dict[int, tuple[int, ...]]) -> None:
    with pytest.raises(FormatError, match="index"):
        decode(memoryview(coded(ROWS, named)), opened(2), 9, "index")


def test_no_cycle_can_be_written() -> None:
    # The ordinal of a predecessor's predecessor is stored as a distance backwards.
    with pytest.raises(ValueError, match="byte"):
        coded([*ROWS[:1], ROWS[1]._replace(predecessors=(1,))], {})
    data = coded(ROWS, NAMED)
    for distance in (1, 5):
        changed = data.replace(b"\1\0\4", b"\1%c\4" % distance)
        assert changed != data
        with pytest.raises(FormatError, match="index"):
            decode(memoryview(changed), opened(2), 9, "index")


@pytest.mark.parametrize("at", range(3))
def test_counts_are_bounded(at: int) -> None:
    huge = b"\xff\xff\xff\xff\x7f"
    row = b"\x05\0" + D
    data = [huge, b"\1" + row + huge, b"\1" + row + b"\1\0\1\0" + huge][at]
    with pytest.raises(FormatError, match="index"):
        decode(memoryview(data), opened(2), 9, "index")
