"""Names: a sequence of byte strings in one buffer."""

from __future__ import annotations

from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packer.files.name_column import Names

NAMES = st.lists(st.binary(max_size=40).map(lambda name: name.replace(b"\0", b"")), max_size=30)


@given(NAMES)
def test_like_a_list(names: list[bytes]) -> None:
    column = Names.of(names)
    assert len(column) == len(names)
    assert list(column) == names
    assert column == names
    assert Names(column.joined) == column
    assert [column[at] for at in range(-len(names), len(names))] == names + names
    for name in (*names, b"other"):
        assert (name in column) == (name in names)


@given(NAMES, st.slices(30))
def test_slices(names: list[bytes], part: slice) -> None:
    assert Names.of(names)[part] == names[part]


def test_many() -> None:
    """More than what is split at a time, and a name that is longer than that."""
    names = [*sorted(b"%d" % at for at in range(20_000)), b"x" * 200_000, b"y"]
    column = Names.of(names)
    assert list(column) == names
    assert column[17_000] == names[17_000]
    assert column[15_990:16_010] == names[15_990:16_010]
    assert bisect_left(column, names[12_345]) == 12_345


def test_out_of_range() -> None:
    column = Names(b"a\0b\0")
    for at in (2, -3):
        with pytest.raises(IndexError):
            column[at]
    assert column != [b"a"]
    assert column != 5
