"""The first bytes of zstd frames: where they lie, and how they are found without the rest."""

from __future__ import annotations

import random

import pytest

from packer.engine import zstd
from packer.errors import FormatError

NOISE = random.Random(7).randbytes(3_000_000)
WORDS = b"".join(b"%d lines of text\n" % number for number in range(200_000))


@pytest.mark.parametrize("level", [1, 3, 9])
@pytest.mark.parametrize("size", [65_792, 131_072, 131_073, 3_000_000])
def test_what_does_not_compress_lies_in_a_known_place(level: int, size: int) -> None:
    data = NOISE[:size]
    for frame in (zstd.compress(data, level), zstd.plain_frame(data)):
        for at in (0, 1, 70, 65_000, size // 2, size - 10):
            position = zstd.plain_position(len(frame), size, at)
            assert position is not None
            if at % (128 << 10) + 10 <= 128 << 10:
                assert frame[position : position + 10] == data[at : at + 10]


@pytest.mark.parametrize(
    "data", [WORDS, NOISE + bytes(9000), WORDS[:100] + NOISE, NOISE[:65_791], b"x"]
)
def test_other_frames_are_decompressed_from_their_start(data: bytes) -> None:
    frame = zstd.compress(data, 3)
    if len(data) > 65_791:
        assert zstd.plain_position(len(frame), len(data), 0) is None or len(frame) > len(data)
    for size in (1, 10, 70_000, len(data)):
        part = frame[: zstd.start_bytes(size)]
        assert zstd.decompress_start(part, size, "it") == data[:size]


def test_a_part_that_ends_early_gives_less() -> None:
    frame = zstd.plain_frame(NOISE)
    found = zstd.decompress_start(frame[:200_000], 250_000, "it")
    assert len(found) < 200_000
    assert NOISE.startswith(found)


def test_a_bomb_gives_no_more_than_was_asked_for() -> None:
    frame = zstd.compress(bytes(1 << 28), 1)
    assert zstd.decompress_start(frame, 100, "it") == bytes(100)


@pytest.mark.parametrize("part", [b"no frame at all", zstd.plain_frame(NOISE)[:9] + b"\xff" * 40])
def test_damage_is_an_error(part: bytes) -> None:
    with pytest.raises(FormatError):
        zstd.decompress_start(part, 10, "it")
