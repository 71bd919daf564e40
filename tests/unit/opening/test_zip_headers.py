"""Headers of zip archives, made like those of new ones before a delta is made."""

from __future__ import annotations

import random
import struct

import pytest

from packer.opening.header_times import relink, replaced_times, retime
from tests.conformance import recipe_decoder
from tests.updates import texts, unix_times
from tests.updates import zip_archive as archive

FILES = texts(3, 6)
OLD, NEW = (2023, 5, 6, 7, 8, 10), (2024, 2, 3, 4, 5, 6)


def dos(time: tuple[int, int, int, int, int, int]) -> int:
    """Return a time as DOS codes it."""
    year, month, day, hour, minute, second = time
    date = (year - 1980) << 9 | month << 5 | day
    return date << 16 | hour << 11 | minute << 5 | second // 2


def retimed(text: bytes, times: list[tuple[int, int]]) -> bytes:
    out = bytearray(text)
    with memoryview(out) as view:
        retime(view, 1, times)
    return bytes(out)


def relinked(text: bytes, *, undo: bool = False) -> bytes:
    out = bytearray(text)
    with memoryview(out) as view:
        relink(view, undo=undo)
    return bytes(out)


def offsets(text: bytes) -> list[int]:
    """Return the offsets that the one central directory of an archive tells."""
    out, at = [], text.index(b"PK\1\2")
    while text[at : at + 4] == b"PK\1\2":
        out.append(struct.unpack_from("<I", text, at + 42)[0])
        at += 46 + sum(struct.unpack_from("<HHH", text, at + 28))
    return out


@pytest.mark.parametrize("streamed", [False, True])
def test_an_archive_with_the_times_of_another(streamed: bool) -> None:
    old = archive(FILES, OLD, unix_times(1_600_000_000, 5), streamed=streamed)
    new = archive(FILES, NEW, unix_times(1_700_000_000, 6), streamed=streamed)
    times = replaced_times([(old, 3)], [(new, 9)])
    assert dict(times) == {dos(OLD): dos(NEW), 1_600_000_000: 1_700_000_000, 5: 6}
    assert retimed(old, list(times)) == new
    assert retimed(old, []) == old
    # A header whose fields are cut off stays as it is.
    whole = old.index(b"PK\3\4", 4)
    assert retimed(old[: whole + 29], list(times)) == new[:whole] + old[whole : whole + 29]


@pytest.mark.parametrize("streamed", [False, True])
def test_offsets_that_are_due(streamed: bool) -> None:
    old = archive(FILES, OLD, streamed=streamed)
    name = sorted(FILES)[2]
    new = archive({**FILES, name: FILES[name] + b"more"}, OLD, streamed=streamed)
    assert offsets(old)[:3] == offsets(new)[:3]
    assert offsets(old)[3:] != offsets(new)[3:]
    assert offsets(relinked(old)) == offsets(relinked(new)) == [0] * len(FILES)
    assert relinked(relinked(new), undo=True) == new
    assert relink(memoryview(bytearray(new))) == len(FILES) - 1
    assert relink(memoryview(bytearray(b"PK\1\2" * 3))) == 0
    assert relink(memoryview(bytearray())) == 0


@pytest.mark.parametrize("seed", range(4))
def test_the_second_reader_does_the_same(seed: int) -> None:
    draw = random.Random(seed)
    old = archive(FILES, OLD, unix_times(1_600_000_000, 5, 6, 7), streamed=seed % 2 > 0)
    whole = b"PK" + old + b"PK\3\4PK\1\2" + relinked(old) + old[-300:]
    places = [at for at in range(len(whole)) if whole[at : at + 2] == b"PK"]
    for _ in range(400):
        text = bytearray(whole)
        for _ in range(draw.randrange(6)):  # lengths and other fields, anywhere near a signature
            at = min(draw.choice(places) + draw.randrange(60), len(text) - 1)
            text[at] = draw.choice([0, 1, 8, 255, text[at] ^ 1 << draw.randrange(8)])
        cut = slice(draw.choice([0, 1, *places]), len(text) - draw.randrange(400))
        text = text[cut]
        times = [(dos(OLD), draw.randrange(1 << 33)), (5, 6), (6, 1 << 32), (1 << 60, 3), (5, 9)]
        expected = bytearray(text)
        recipe_decoder.replace_zip_times(expected, dict(reversed(times)))
        assert retimed(bytes(text), times) == expected
        expected = bytearray(text)
        recipe_decoder.relink(expected)
        assert relinked(bytes(text)) == expected
        assert relinked(bytes(expected), undo=True) == text
        recipe_decoder.relink(expected, undo=True)
        assert expected == text
