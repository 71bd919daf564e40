"""Recipes of zstd segments, followed by a second reader, written from docs/format.md alone."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import zstandard

from packer.engine.zstd_streams import Parser
from tests.conformance import zstd_decoder
from tests.updates import tar, texts

TEXT = tar(texts(files=12))[:60_000]
KLAUSPOST = sorted((Path(__file__).parents[1] / "unit/engine/zstd").glob("*.zst"))


def check(coded: bytes) -> None:
    """Rebuild each segment of a stream from its recipe, and compare."""
    parser, at = Parser(), 0
    while at < len(coded):
        segment = parser.next(coded[at:], True)
        assert segment is not None
        recipe = segment.analyse()
        assert recipe is not None
        made = zstd_decoder.segment(bytes(segment.plain), recipe)
        assert made == coded[at : at + segment.coded_length]
        at += segment.coded_length


@pytest.mark.parametrize("level", [1, 3, 19])
def test_libzstd(level: int) -> None:
    check(zstandard.ZstdCompressor(level=level, write_checksum=True).compress(TEXT))


@pytest.mark.slow
@pytest.mark.parametrize("path", KLAUSPOST, ids=lambda path: path.stem)
def test_klauspost(path: Path) -> None:
    check(path.read_bytes())


def test_raw_and_repeated_blocks() -> None:
    noise = random.Random(1).randbytes(200_000)
    check(zstandard.ZstdCompressor(level=3).compress(noise + TEXT[:20_000] + bytes(300_000)))


@pytest.mark.slow
def test_a_segment_that_begins_within_a_frame() -> None:
    noise = random.Random(1).randbytes(1_900_000)
    check(zstandard.ZstdCompressor(level=5).compress(TEXT + noise + bytes(200_000) + TEXT))
