"""The map from digests and sketches to ordinals, against a dict."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packer.engine.ordinals import Ordinals


@pytest.mark.parametrize("width", [8, 16])
def test_many_keys_in_any_order(width: int) -> None:
    draw = random.Random(width)
    table, expected = Ordinals(width), {}
    keys = [draw.randbytes(width) for _ in range(20_000)]
    for number, key in enumerate(keys):
        if number % 3:
            expected[key] = number
            table.put(key, number)
    draw.shuffle(keys)
    assert [table.get(key) for key in keys] == [expected.get(key, -1) for key in keys]
    assert table.get_all(b"".join(keys), width).tolist() == [expected.get(key, -1) for key in keys]


@given(st.lists(st.tuples(st.binary(min_size=8, max_size=8), st.integers(0, 2**32 - 1))))
def test_the_last_number_of_a_key_counts(pairs: list[tuple[bytes, int]]) -> None:
    table = Ordinals(8)
    for key, number in pairs:
        table.put(key, number)
    assert {key: table.get(key) for key, _ in pairs} == dict(pairs)


def test_several_keys_at_once() -> None:
    keys = [bytes([at]) * 16 for at in range(12)]
    table = Ordinals(16)
    table.put(b"".join(keys), 100, each=3)
    assert [table.get(key) for key in keys] == [100 + at // 3 for at in range(12)]
    wide = b"".join(key + b"something else  " for key in keys[::-1])
    assert table.get_all(wide, 32).tolist() == [103 - at // 3 for at in range(12)]
    assert table.get(bytes(15) + b"\1") == -1
    assert not table.get_all(b"", 16)


def test_lent_keys_are_used_where_they_are() -> None:
    lent = bytearray(b"".join(bytes([at]) * 16 for at in range(100)))
    table = Ordinals(16, lent)
    table.put_lent(10, 50)
    table.put(bytes([99]) * 16, 7)
    table.put(bytes([20]) * 16, 123456)
    expected = [
        123456 if at == 20 else 7 if at == 99 else at if 10 <= at < 60 else -1 for at in range(100)
    ]
    assert table.get_all(lent, 16).tolist() == expected
    with pytest.raises(BufferError):
        lent.append(0)
    with pytest.raises(AssertionError):
        table.put_lent(99, 2)
