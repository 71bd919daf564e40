"""Runs of zstd frames in a file: where they lie, and why they stay closed."""

from __future__ import annotations

import random
from functools import partial

import pytest
import zstandard

from packer.opening.zstd_frames import LEAST_BYTES, Frames, frame_runs, may_hold_frames
from tests.updates import tar, texts
from tests.zstd_archives import SKIPPABLE, frames, zstd

NOISE = random.Random(1).randbytes(400_000)
TEXT = tar(texts())


def part(data: bytes, start: int, length: int) -> bytes:
    return data[start : start + length]


def runs(data: bytes) -> list[Frames]:
    found = frame_runs(partial(part, data), len(data))
    return [run._replace(window=0) for run in found]


def test_windows() -> None:
    data = zstd(NOISE, 3) + SKIPPABLE + zstd(NOISE, content_size=True, window_log=17)
    found = frame_runs(partial(part, data), len(data))
    assert [run.window for run in found] == [1 << 21, 1 << 17]


@pytest.mark.parametrize("checksum", [False, True])
@pytest.mark.parametrize("size", [False, True])
def test_one_frame(checksum: bool, size: bool) -> None:
    data = zstd(NOISE, write_checksum=checksum, content_size=size)
    assert runs(data) == [Frames(0, len(data), "")]


def test_frames_one_behind_another_are_one_run() -> None:
    data = frames(NOISE, 70_000)
    assert runs(data) == [Frames(0, len(data), "")]
    assert runs(b"before" + data + b"behind") == [Frames(6, 6 + len(data), "")]


def test_a_skippable_frame_ends_a_run() -> None:
    one = zstd(NOISE)
    data = SKIPPABLE + one + SKIPPABLE + one + SKIPPABLE
    first, gap = len(SKIPPABLE), len(SKIPPABLE) + len(one)
    assert [(run.start, run.end) for run in runs(data)] == [
        (first, first + len(one)),
        (first + gap, first + gap + len(one)),
    ]


def test_text_stays_closed() -> None:
    data = zstd(TEXT)
    assert [run.reason for run in runs(data)] == ["text"]
    mixed = zstd(NOISE) + zstd(TEXT * 2, 1)
    assert [run.reason for run in runs(mixed)] == ["text"]


def test_what_is_cut_off_or_needs_more_stays_closed() -> None:
    whole = zstd(NOISE, write_checksum=True)
    for end in (len(whole) - 1, len(whole) - 5, len(whole) // 2):
        assert [run.reason for run in runs(whole[:end])] == ["damaged"]
    dictionary = zstandard.ZstdCompressionDict(NOISE[:4096] * 2)
    dictionary = zstandard.train_dictionary(
        8192, [TEXT[at : at + 500] for at in range(0, 90_000, 500)]
    )
    coded = zstandard.ZstdCompressor(dict_data=dictionary).compress(NOISE)
    assert runs(coded) == [Frames(0, len(coded), "format")]
    assert runs(whole + coded + b"gap" + whole) == [
        Frames(0, len(whole), ""),
        Frames(len(whole), len(whole) + len(coded), "format"),
        Frames(len(whole) + len(coded) + 3, 2 * len(whole) + len(coded) + 3, ""),
    ]


@pytest.mark.parametrize("size", [False, True])
def test_windows_that_are_more_than_is_kept_may_not_be_needed(size: bool) -> None:
    for log in (25, 27, 31):
        data = zstd(NOISE, window_log=log, content_size=size)
        (run,) = frame_runs(partial(part, data), len(data))
        assert (run.start, run.end, run.reason) == (0, len(data), "")
        assert run.window == (len(NOISE) if size else 1 << log)


def test_a_short_run_is_not_told() -> None:
    assert runs(zstd(NOISE[: LEAST_BYTES // 2])) == []


def test_many_signatures_end_the_search() -> None:
    # Each begins a frame whose raw blocks hold the next ones: walking all would take a square.
    head = b"\x28\xb5\x2f\xfd\x00\x50"
    block = (8 << 3).to_bytes(3, "little")
    data = (head + block + b"x") * 40_000
    assert runs(data) in ([], [Frames(0, len(data), "damaged")])


def test_signatures_that_begin_nothing_are_not_searched_for_ever() -> None:
    # Bit 3 of the byte behind the signature is reserved: there is no block that could be counted.
    data = bytes(512) + b"\x28\xb5\x2f\xfd\x08" * 100_000
    lengths: list[int] = []

    def read(start: int, length: int) -> bytes:
        lengths.append(length)
        return data[start : start + length]

    assert list(frame_runs(read, len(data))) == []
    assert len(lengths) < 70_000
    assert sum(lengths) < 5 * len(data)


@pytest.mark.parametrize("before", [(1 << 20) - 3, (1 << 20) - 1, 1 << 20, 3 << 20])
def test_signatures_across_parts_of_the_search_are_found(before: int) -> None:
    one = zstd(NOISE)
    data = bytes(before) + one + b"\x28\xb5\x2f\xfd\x08" + bytes(before) + one + b"\x28\xb5"
    second = 2 * before + len(one) + 5
    assert [(run.start, run.end) for run in runs(data)] == [
        (before, before + len(one)),
        (second, second + len(one)),
    ]


def test_what_is_searched() -> None:
    for head in (zstd(NOISE), SKIPPABLE, b"!<arch>\n", b"PK\x03\x04", b"\xed\xab\xee\xdb", TEXT):
        assert may_hold_frames(head[:512])
    for head in (b"", b"\x1f\x8b\x08\0", NOISE, b"\x28\xb5\x2f", b"x" * 512):
        assert not may_hold_frames(head[:512])


def test_random_bytes_with_signatures_raise_nothing() -> None:
    drawn = random.Random(2)
    for _ in range(300):
        data = bytearray(drawn.randbytes(drawn.randrange(40_000)))
        for _ in range(drawn.randrange(4)):
            at = drawn.randrange(len(data) + 1)
            data[at : at + 4] = b"\x28\xb5\x2f\xfd"
        for run in runs(bytes(data)):
            assert 0 <= run.start < run.end <= len(data)
