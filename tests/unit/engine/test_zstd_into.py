"""Frames that are decompressed into memory of the caller."""

from __future__ import annotations

import random

import pytest
import zstandard

from packer.engine import zstd
from packer.errors import FormatError

TEXT = b"".join(b"line %d of a text\n" % n for n in range(30_000))
NOISE = random.Random(1).randbytes(300_000)


@pytest.mark.parametrize("data", [b"", b"a", bytes(400_000), TEXT, NOISE, NOISE + TEXT])
@pytest.mark.parametrize("checksum", [False, True])
def test_a_frame_fills_the_memory(data: bytes, checksum: bool) -> None:
    frame = zstandard.ZstdCompressor(level=3, write_checksum=checksum).compress(data)
    out = memoryview(bytearray(len(data)))
    zstd.decompress_into(out, frame, "it")
    zstd.decompress_into(out, memoryview(frame), "it")  # the context serves again
    assert out == data == zstd.decompress(frame, len(data), "it")


def test_what_is_no_whole_frame_of_the_size_is_refused() -> None:
    frame = zstandard.ZstdCompressor(level=3, write_checksum=True).compress(TEXT)
    damaged = bytearray(frame)
    damaged[-1] ^= 1
    skippable = b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"
    empty = zstd.compress(b"", 3)
    wrong = [frame[:at] for at in (0, 3, 5, 9, 20, len(frame) // 2, len(frame) - 5, len(frame) - 1)]
    wrong += [frame + b"\0", frame + empty, frame + skippable, frame + frame, bytes(damaged)]
    for part in wrong:
        with pytest.raises(FormatError):
            zstd.decompress_into(memoryview(bytearray(len(TEXT))), part, "it")
    for size in (len(TEXT) - 1, len(TEXT) + 1, 0):
        with pytest.raises(FormatError, match="expected"):
            zstd.decompress_into(memoryview(bytearray(size)), frame, "it")
    with pytest.raises(FormatError):
        zstd.decompress_into(memoryview(bytearray(4)), skippable, "it")
    dictionary = zstandard.train_dictionary(
        1024, [TEXT[at : at + 500] for at in range(0, 99_000, 500)]
    )
    with pytest.raises(FormatError, match="wants dictionary"):
        zstd.decompress_into(
            memoryview(bytearray(len(TEXT))),
            zstandard.ZstdCompressor(dict_data=dictionary).compress(TEXT),
            "it",
        )
