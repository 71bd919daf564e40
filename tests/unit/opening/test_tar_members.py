"""Members of a tar archive, found by their headers."""

from __future__ import annotations

import random

import pytest

from packer.opening import tar_members as module
from packer.opening.tar_members import LEAST_BYTES, members
from tests.updates import tar

NOISE = random.Random(3).randbytes(LEAST_BYTES)


def found(data: bytes) -> list[tuple[bytes, bytes]]:
    def read(start: int, length: int) -> bytes:
        assert 0 <= start <= start + length <= len(data)
        return data[start : start + length]

    return [
        (member.name.rstrip(b"\0"), data[slice(*member.content)])
        for member in members(read, len(data))
    ]


def test_large_members() -> None:
    data = tar({"a": NOISE, "b": NOISE + b"1", "c": b"small", "d": NOISE[:-1]})
    assert found(data) == [(b"a", NOISE), (b"b", NOISE + b"1")]


@pytest.mark.parametrize(
    "text",
    [b"", bytes(1024), b"no archive" * 100, tar({"a": NOISE})[: 512 + 9], b"a" + tar({"a": NOISE})],
)
def test_what_is_no_archive_has_no_members(text: bytes) -> None:
    assert not found(text)


def test_the_number_of_headers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_HEADERS", 1)
    assert found(tar({"a": NOISE, "b": NOISE})) == [(b"a", NOISE)]
