"""Members of `ar` archives that are never opened."""

from __future__ import annotations

import lzma
import random

import pytest

from packer.opening.ar_members import closed_members
from tests.updates import zlib_gzip

NOISE = random.Random(1).randbytes(90_001)
XZ = lzma.compress(NOISE)


def archive(*members: bytes) -> bytes:
    out = b"!<arch>\n"
    for data in members:
        out += f"{'name':<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode()
        out += data + b"\n" * (len(data) % 2)
    return out


def found(data: bytes) -> list[tuple[str, int]]:
    return list(closed_members(lambda start, length: data[start : start + length], len(data)))


def test_what_is_never_opened_is_told() -> None:
    data = archive(
        b"2.0\n",
        lzma.compress(b"small"),
        zlib_gzip(NOISE),
        XZ,
        NOISE,
        b"7z\xbc\xaf\x27\x1c" + NOISE,
    )
    assert found(data) == [("xz", len(XZ)), ("7z", len(NOISE) + 6)]


@pytest.mark.parametrize("cut", [0, 7, 8, 9, 67, 68, 72, 100])
def test_archives_that_are_cut_off(cut: int) -> None:
    assert found(archive(b"2.0\n", XZ)[:cut]) == []


def test_a_member_that_is_cut_off() -> None:
    whole = archive(b"2.0\n", XZ)
    assert found(whole[:-9000]) == [("xz", len(whole) - 9000 - 132)]


@pytest.mark.parametrize("told", [b"-1", b"9" * 10, b"", b"1e5", b"0"])
def test_sizes_that_are_none(told: bytes) -> None:
    data = bytearray(archive(XZ))
    data[56:66] = told.ljust(10)
    assert found(bytes(data)) == ([("xz", len(data) - 68)] if told.startswith(b"9") else [])


def test_many_members_end_the_search() -> None:
    data = archive(*[b""] * 100, XZ)
    assert found(data) == []
