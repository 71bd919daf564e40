"""The text of docs/deflate.md, "Recipes from tokens", against the package."""

from __future__ import annotations

import importlib
import random
import zlib
from collections.abc import Callable

import pytest

from packer.engine.deflate import RecipeError, Segment
from packer.engine.tokens import OldSpan, Span, bits_of, span_of
from tests.conformance.plain_deflate import Refused, inflate, old_span
from tests.conformance.token_decoder import Reader


def lines(size: int, seed: int) -> bytes:
    rng = random.Random(seed)
    words = [f"{rng.getrandbits(rng.choice((12, 30, 60))):x}" for _ in range(200)]
    out = bytearray()
    while len(out) < size:
        out += b"  " * rng.randrange(4) + f"{rng.choice(words)}: {rng.choice(words)}\n".encode()
    return bytes(out[:size])


def edited(data: bytes, seed: int, edits: int) -> bytes:
    rng = random.Random(seed)
    out = bytearray(data)
    for _ in range(edits):
        at = rng.randrange(len(out) // 3, len(out) - 300)
        out[at : at + rng.randrange(60)] = lines(rng.randrange(1, 90), rng.randrange(1 << 30))
    return bytes(out)


def deflated(data: bytes, level: int = 6, memory: int = 8) -> bytes:
    encoder = zlib.compressobj(level, zlib.DEFLATED, -15, memory)
    return (
        encoder.compress(data[:-9000])
        + encoder.flush(zlib.Z_SYNC_FLUSH)
        + encoder.compress(data[-9000:])
        + encoder.flush()
    )


def libdeflate(level: int) -> Callable[[bytes], bytes]:
    def encode(data: bytes) -> bytes:
        pytest.importorskip("deflate")
        return bytes(importlib.import_module("deflate").deflate_compress(data, level))

    return encode


def igzip(data: bytes) -> bytes:
    pytest.importorskip("isal")
    encoder = importlib.import_module("isal.isal_zlib").compressobj(2, wbits=-15)
    return bytes(encoder.compress(data) + encoder.flush())


OLD = lines(51_000, 1) + bytes(1000)
NEW = edited(OLD, 3, 5)


@pytest.mark.parametrize(
    ("before", "encode"),
    [
        (deflated, deflated),
        (lambda data: deflated(data, 1), lambda data: deflated(data, 1)),
        (lambda data: deflated(data, 6, 1), lambda data: deflated(data, 6, 1)),
        (lambda data: deflated(data, 9), deflated),
        (lambda data: deflated(data, 0), lambda data: deflated(data, 0)),
        (libdeflate(6), libdeflate(6)),
        (deflated, libdeflate(1)),
        (igzip, igzip),
        (libdeflate(12), libdeflate(12)),
    ],
)
@pytest.mark.parametrize("offered", [Span(0, 52_000), Span(17_003, 30_011)])
def test_the_text_gives_the_tokens_of_the_stream(
    before: Callable[[bytes], bytes], encode: Callable[[bytes], bytes], offered: Span
) -> None:
    older, newer = before(OLD), encode(NEW)
    segment, old = Segment(), OldSpan(offered)
    assert segment.inflate(older, 0, b"", 0) is not None
    old.add(segment)
    found = Segment()
    assert found.inflate(newer, 0, b"", 0) is not None
    recipe, _ = old.analyse(found)
    assert recipe is not None
    plain, blocks = inflate(newer)
    assert plain == NEW
    span = old_span(*inflate(older), *span_of(recipe))
    assert Reader(plain, 0, span, recipe).blocks() == blocks
    bits = Reader(plain, 0, span, recipe).bits(0)
    whole = "".join(f"{byte:08b}"[::-1] for byte in newer)
    assert whole.startswith(bits)
    assert len(whole) - len(bits) < 8


@pytest.mark.parametrize("flags", range(8))
@pytest.mark.parametrize("level", [0, 1, 6])
def test_segments_that_begin_or_end_within_a_block(flags: int, level: int) -> None:
    before, after = OLD[:12_000], edited(OLD[:12_000], 5, 2)
    older, newer = deflated(before, level), deflated(after, level)
    segment, old, found = Segment(), OldSpan(Span(0, len(before))), Segment()
    assert segment.inflate(older, 0, b"", 0) is not None
    old.add(segment)
    assert found.inflate(newer, 0, b"", 0) is not None
    recipe, _ = old.analyse(found)
    assert recipe is not None
    cut = recipe[:1] + bytes((flags,)) + recipe[2:]
    span = old_span(*inflate(older), *span_of(recipe))
    if not level and flags & 6:
        with pytest.raises(Refused):
            Reader(after, 0, span, cut).blocks()
        with pytest.raises(RecipeError):
            old.decode(after, b"", 0, cut)
        return
    made = old.decode(after, b"", 0, cut)
    assert made.is_cut == (flags > 1)
    data, end = bits_of(made, 3, len(newer) + 9)
    text = "".join(f"{byte:08b}"[::-1] for byte in data)[:end]
    assert Reader(after, 0, span, cut).bits(3) == text
