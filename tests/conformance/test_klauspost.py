"""What klauspost/compress, pgzip, Go 1.27, miniz, zlib-ng and igzip wrote, rebuilt from the
specification alone."""

from __future__ import annotations

import importlib
import random
import zlib
from pathlib import Path
from typing import NamedTuple

import pytest

from packer.engine import deflate
from tests.conformance import klauspost, miniz, quick

ENGINE = Path(__file__).parents[1] / "unit" / "engine"
FOLDERS = ("klauspost", "miniz", "quick")
SAMPLES = sorted(path for name in FOLDERS for path in (ENGINE / name).iterdir())
RULES = range(29, 44)
"""Of these encoders."""
FEW_BYTES = 400
"""Plaintext of a segment for which another rule may do as well, or none pay."""


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
    at, bit, window, position, carry = 0, 0, b"", 0, b""
    segment = deflate.Segment()
    while True:
        inflated = segment.inflate(stream[at:], bit, window, position, target, carry=carry)
        assert inflated is not None
        plain, recipe = bytes(segment.plain), segment.analyse()
        if recipe is None:
            break  # miniz behind two flushes, and zlib-ng's last bytes, in short segments
        coded = stream[at : at + (inflated.end_bit + 7) // 8]
        found.append(Opened(plain, window, position, recipe, bit, coded, inflated.end_bit))
        at, bit = at + (inflated.end_bit >> 3), inflated.end_bit & 7
        window = (window + plain)[-deflate.WINDOW_BYTES :]
        position += len(plain)
        carry = inflated.carry
        if inflated.last:
            break
    return found


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
@pytest.mark.parametrize("target", [2 << 20, 1])
def test_segments_are_rebuilt(path: Path, target: int) -> None:
    rules = set()
    stream = path.read_bytes()
    opened = segments(stream, target)
    if "flushed" not in path.stem and (target > 1 or "zlib-ng" not in path.stem):
        assert b"".join(it.plain for it in opened) == zlib.decompress(stream, -15)
    for it in opened:
        if not it.plain or (it.recipe[0] < RULES[0] and len(it.plain) < FEW_BYTES):
            continue  # empty blocks, or next to nothing, by any rule
        rules.add(it.recipe[0])
        check(it)
    assert len(rules) == 1


@pytest.mark.parametrize("level", [0, 1])
def test_one_block_for_a_whole_stream(level: int) -> None:
    # It is cut where there are 2 MiB and many tokens, or 16 MiB less the longest match.
    data = random.Random(1).randbytes(135_000) + bytes(2 << 20) if level == 0 else bytes(17 << 20)
    module = importlib.import_module("isal.isal_zlib" if level == 0 else "zlib_ng.zlib_ng")
    encoder = module.compressobj(level, zlib.DEFLATED, -15)
    stream = encoder.compress(data) + encoder.flush()
    opened = segments(stream, 2 << 20)
    flags = [(it.recipe[1] & 127 | it.recipe[2] << 7) & (quick.GOES_ON | quick.OPEN)
             for it in opened[:2]]  # fmt: skip
    assert flags == [quick.OPEN, quick.GOES_ON]
    for it in opened[:2]:
        check(it)


def check(it: Opened) -> None:
    """Rebuild a segment and compare its bits."""
    rule = it.recipe[0]
    rebuild = (
        miniz.rebuild
        if rule == miniz.RULE
        else quick.rebuild
        if rule in quick.RULES
        else klauspost.rebuild
    )
    out, bits = rebuild(it.plain, it.window, it.position, it.recipe, it.bit)
    assert bits == it.end
    value = int.from_bytes(it.coded, "little") >> it.bit << it.bit & (1 << it.end) - 1
    assert int.from_bytes(out, "little") == value
