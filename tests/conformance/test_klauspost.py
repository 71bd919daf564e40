"""What klauspost/compress, pgzip, Go 1.27 and miniz wrote, rebuilt from the specification alone."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import NamedTuple

import pytest

from packer.engine import deflate
from tests.conformance import klauspost, miniz

ENGINE = Path(__file__).parents[1] / "unit" / "engine"
SAMPLES = sorted((*(ENGINE / "klauspost").iterdir(), *(ENGINE / "miniz").iterdir()))


class Opened(NamedTuple):
    """A segment and its recipe; `coded` begins at bit `bit` and ends at bit `end`."""

    plain: bytes
    window: bytes
    position: int
    recipe: bytes
    bit: int
    coded: bytes
    end: int


def segments(stream: bytes, target: int) -> list[Opened]:
    """Return the segments of a stream, cut at the blocks that bring them to `target` bytes."""
    found: list[Opened] = []
    at, bit, window, position = 0, 0, b"", 0
    segment = deflate.Segment()
    while True:
        inflated = segment.inflate(stream[at:], bit, window, position, target)
        assert inflated is not None
        plain, recipe = bytes(segment.plain), segment.analyse()
        if recipe is None:
            break  # miniz behind two flushes, in short segments
        coded = stream[at : at + (inflated.end_bit + 7) // 8]
        found.append(Opened(plain, window, position, recipe, bit, coded, inflated.end_bit))
        at, bit = at + (inflated.end_bit >> 3), inflated.end_bit & 7
        window = (window + plain)[-deflate.WINDOW_BYTES :]
        position += len(plain)
        if inflated.last:
            break
    return found


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
@pytest.mark.parametrize("target", [2 << 20, 1])
def test_segments_are_rebuilt(path: Path, target: int) -> None:
    rules = set()
    stream = path.read_bytes()
    opened = segments(stream, target)
    if "flushed" not in path.stem:
        assert b"".join(it.plain for it in opened) == zlib.decompress(stream, -15)
    for it in opened:
        if not it.plain:
            continue  # empty blocks alone, by any rule
        rules.add(it.recipe[0])
        rebuild = miniz.rebuild if it.recipe[0] == miniz.RULE else klauspost.rebuild
        out, bits = rebuild(it.plain, it.window, it.position, it.recipe, it.bit)
        assert bits == it.end
        value = int.from_bytes(it.coded, "little") >> it.bit << it.bit & (1 << it.end) - 1
        assert int.from_bytes(out, "little") == value
    assert len(rules) == 1
