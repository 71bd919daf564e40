"""The text of docs/deflate.md, "Recipes from tokens", against the package."""

from __future__ import annotations

import importlib
import random
import zlib
from collections.abc import Callable

import pytest

from packer.engine.deflate import Segment
from packer.engine.tokens import OldSpan, Span, span_of
from tests.conformance.token_decoder import (
    DISTANCES,
    LENGTHS,
    Block,
    Old,
    Reader,
    Token,
    extra_of_distance,
    extra_of_length,
)


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


def inflate(stream: bytes) -> tuple[bytes, list[Block]]:
    """Return plaintext and blocks of a raw deflate stream (RFC 1951)."""
    at, out, blocks = 0, bytearray(), []

    def take(count: int) -> int:
        nonlocal at
        at += count
        first = (at - count) // 8
        bits = int.from_bytes(stream[first : first + 8], "little")
        return bits >> (at - count) % 8 & ((1 << count) - 1)

    def table(lengths: list[int]) -> dict[tuple[int, int], int]:
        codes, code = {}, 0
        for length in range(1, 16):
            for symbol, own in enumerate(lengths):
                if own == length:
                    codes[length, code] = symbol
                    code += 1
            code <<= 1
        return codes

    def decode(codes: dict[tuple[int, int], int]) -> int:
        length = code = 0
        while (length, code) not in codes:
            length, code = length + 1, code << 1 | take(1)
        return codes[length, code]

    last = 0
    while not last:
        last, kind = take(1), take(2)
        start, tokens = len(out), []
        if kind == 0:
            at += -at % 8
            size = take(32) & 0xFFFF
            out += stream[at // 8 : at // 8 + size]
            at += 8 * size
            blocks.append(Block(0, size, []))
            continue
        lengths = [8] * 144 + [9] * 112 + [7] * 24 + [8] * 8 + [5] * 30
        literals = 288
        if kind == 2:
            literals, distances, count = take(5) + 257, take(5) + 1, take(4) + 4
            order = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15)
            coded = [0] * 19
            for symbol in order[:count]:
                coded[symbol] = take(3)
            codes, lengths = table(coded), []
            while len(lengths) < literals + distances:
                symbol = decode(codes)
                if symbol < 16:
                    lengths.append(symbol)
                elif symbol == 16:
                    lengths += [lengths[-1]] * (3 + take(2))
                else:
                    lengths += [0] * (3 + take(3) if symbol == 17 else 11 + take(7))
        first, second = table(lengths[:literals]), table(lengths[literals:])
        while (symbol := decode(first)) != 256:
            if symbol < 256:
                out.append(symbol)
                tokens.append((1, 0))
                continue
            length = LENGTHS[symbol - 257] + take(extra_of_length(symbol - 257))
            symbol = decode(second)
            distance = DISTANCES[symbol] + take(extra_of_distance(symbol))
            for _ in range(length):
                out.append(out[-distance])
            tokens.append((length, distance))
        blocks.append(Block(kind, len(out) - start, tokens))
    return bytes(out), blocks


def old_span(stream: bytes, span: Span) -> Old:
    """Return a span of a stream as the text describes it."""
    plain, blocks = inflate(stream)
    tokens: list[Token] = []
    ends, at = [], 0
    first, last = span.start, span.start + span.size
    for block in blocks:
        for length, distance in block.tokens or [(1, 0)] * block.size:
            if first <= at and at + length <= last:
                tokens.append((length, distance))
            else:
                inside = max(min(at + length, last) - max(at, first), 0)
                tokens += [(1, 0)] * inside
            at += length
        if block.size and first < at <= last:
            ends.append(at - first)
    return Old(plain[first:last], tokens, ends)


OLD = lines(52_000, 1)
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
    assert Reader(plain, 0, old_span(older, span_of(recipe)), recipe).blocks() == blocks
