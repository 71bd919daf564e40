"""Where archives may begin: against two plain searches."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from packer.opening.lookahead import find_signature

SIGNATURES = b"\x1f\x8b\x08", b"PK\x03\x04", b"BZh1", b"BZh9"

pieces = st.one_of(
    st.sampled_from(
        [*SIGNATURES, b"\x1f\x8b", b"PK\x03", b"P", b"\x1f", b"K", b"\x8b\x08", b"BZ", b"BZh0"]
    ),
    st.binary(max_size=70),
    st.integers(1, 300).map(bytes),
)


@given(st.lists(pieces, max_size=8).map(b"".join), st.integers(0, 80), st.integers(0, 80))
@example(b"", 0, 0)
def test_the_first_of_all(data: bytes, start: int, cut: int) -> None:
    end = max(len(data) - cut, 0)
    start = min(start, end)
    found = [data.find(signature, start, end) for signature in SIGNATURES]
    expected = min((at for at in found if at >= 0), default=-1)
    assert find_signature(bytearray(data), start, end) == expected


def test_at_every_place_of_a_block() -> None:
    for signature in SIGNATURES:
        for at in range(200):
            data = bytes(at) + signature + bytes(90)
            assert find_signature(data, 0, len(data)) == at
            assert find_signature(data, 0, at + len(signature) - 1) == -1
            assert find_signature(data, at + 1, len(data)) == -1
