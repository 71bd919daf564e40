"""Recipes from tokens: streams of any encoder come back; bad recipes are refused."""

from __future__ import annotations

import importlib
import itertools
import random
import shutil
import subprocess
import zlib
from collections.abc import Callable
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packer.engine.deflate import RecipeError, Segment
from packer.engine.tokens import KIND, MAX_SPAN_BYTES, OldSpan, Span, bits_of, span_of

Encoder = Callable[[bytes], bytes]

SEGMENT_BYTES = 64 << 10
WINDOW_BYTES = 128 << 10


def lines(size: int, seed: int) -> bytes:
    """Return text in the manner of configuration files."""
    rng = random.Random(seed)
    words = [f"{rng.getrandbits(rng.choice((12, 30, 60))):x}" for _ in range(500)]
    out = bytearray()
    while len(out) < size:
        out += b"  " * rng.randrange(4) + f"{rng.choice(words)}: {rng.choice(words)}\n".encode()
    return bytes(out[:size])


def edited(data: bytes, seed: int, edits: int = 6) -> bytes:
    """Return a text with some stretches replaced, removed and put in."""
    rng = random.Random(seed)
    out = bytearray(data)
    for _ in range(edits):
        at = rng.randrange(len(out) - 300)
        out[at : at + rng.randrange(200)] = lines(rng.randrange(1, 300), rng.randrange(1 << 30))
    return bytes(out)


OLD = lines(230_000, 1) + random.Random(2).randbytes(9_000) + lines(40_000, 3)
NEW = edited(OLD, 4)


def deflated(level: int = 6, strategy: int = 0, memory: int = 8, window: int = -15) -> Encoder:
    def encode(data: bytes) -> bytes:
        encoder = zlib.compressobj(level, zlib.DEFLATED, window, memory, strategy)
        return encoder.compress(data) + encoder.flush()

    return encode


def flushed(mode: int) -> Encoder:
    def encode(data: bytes) -> bytes:
        encoder = zlib.compressobj(6, zlib.DEFLATED, -15)
        parts = []
        for at in range(0, len(data), 30_011):
            parts += [encoder.compress(data[at : at + 30_011]), encoder.flush(mode)]
        return b"".join(parts) + encoder.flush()

    return encode


def of_package(module: str, encode: Callable[..., bytes], *arguments: int) -> Encoder:
    """Return an encoder from a package; the test is skipped where that is not installed."""

    def run(data: bytes) -> bytes:
        pytest.importorskip(module)
        return encode(importlib.import_module(module), data, *arguments)

    return run


def of_command(*words: str) -> Encoder:
    def run(data: bytes) -> bytes:
        if shutil.which(words[0]) is None:
            pytest.skip(f"{words[0]} is not installed")
        out = subprocess.run(words, input=data, stdout=subprocess.PIPE, check=True).stdout
        return out[10 + (out.index(b"\0", 10) - 9 if out[3] & 8 else 0) :]

    return run


def _zlib_ng(module: object, data: bytes, level: int) -> bytes:
    encoder = module.compressobj(level, module.DEFLATED, -15)  # type: ignore[attr-defined]
    return bytes(encoder.compress(data) + encoder.flush())


ENCODERS: dict[str, Encoder] = {
    **{f"zlib-{level}": deflated(level) for level in (0, 1, 3, 4, 6, 9)},
    "zlib-small-memory": deflated(6, memory=1),
    "zlib-small-window": deflated(6, window=-9),
    "zlib-fixed": deflated(6, zlib.Z_FIXED),
    "zlib-huffman": deflated(6, zlib.Z_HUFFMAN_ONLY),
    "zlib-rle": deflated(6, zlib.Z_RLE),
    "zlib-sync": flushed(zlib.Z_SYNC_FLUSH),
    "zlib-full": flushed(zlib.Z_FULL_FLUSH),
    "gzip": of_command("gzip", "-6n"),
    "pigz": of_command("pigz", "-np2"),
    "pigz-independent": of_command("pigz", "-inp2"),
    "7-Zip": of_command("7zz", "a", "-tgzip", "-mx=5", "-si", "-so", "x.gz"),
    **{
        f"libdeflate-{level}": of_package(
            "deflate", lambda m, data, at: bytes(m.deflate_compress(data, at)), level
        )
        for level in (1, 6, 9, 12)
    },
    **{
        f"igzip-{level}": of_package(
            "isal.igzip_lib", lambda m, data, at: m.compress(data, at, m.COMP_DEFLATE), level
        )
        for level in (0, 1, 2, 3)
    },
    **{f"zlib-ng-{at}": of_package("zlib_ng.zlib_ng", _zlib_ng, at) for at in (1, 2, 6, 9)},
    "zopfli": of_package("zopfli.zlib", lambda m, data: m.compress(data)[2:-4]),
}


class Piece(NamedTuple):
    segment: Segment
    position: int
    plain: bytes
    at: int
    bit: int
    end_bit: int


def pieces(stream: bytes, target: int = SEGMENT_BYTES) -> list[Piece]:
    out, at, bit, window, position, carry = [], 0, 0, b"", 0, b""
    while True:
        segment = Segment()
        found = segment.inflate(stream[at:], bit, window, position, target, carry=carry)
        assert found is not None
        plain = bytes(segment.plain)
        out.append(Piece(segment, position, plain, at, bit, found.end_bit))
        window = (window + plain)[-WINDOW_BYTES:]
        at, bit = at + (found.end_bit >> 3), found.end_bit & 7
        position, carry = position + len(plain), found.carry
        if found.last:
            return out


def filled(span: Span, segments: list[Segment]) -> OldSpan:
    out = OldSpan(span)
    for segment in segments:
        out.add(segment)
    return out


def check_bits(stream: bytes, piece: Piece, made: Segment) -> None:
    data, bits = bits_of(made, piece.bit, len(stream))
    assert bits == piece.end_bit
    whole, rest = divmod(bits, 8)
    given = bytearray(stream[piece.at : piece.at + whole + 1])
    given[0] &= 0xFF << piece.bit & 0xFF
    if rest:
        given[whole] &= (1 << rest) - 1
    assert data == given[: len(data)]


class Outcome(NamedTuple):
    size: int
    closed: int
    made: list[Segment]


def round_trip(old: list[Segment], old_size: int, stream: bytes, target: int) -> Outcome:
    """Analyse a stream against an old one and rebuild it, each segment on its own."""
    size = closed = 0
    made = []
    before = b""
    for piece in pieces(stream, target):
        span = filled(Span(0, min(old_size, MAX_SPAN_BYTES)), old)
        recipe, report = span.analyse(piece.segment)
        if recipe is None:
            closed += 1
            made.append(piece.segment)
        else:
            assert report.wrong <= report.tokens
            assert recipe[0] == KIND
            size += len(recipe)
            again = filled(span_of(recipe), old)
            window = before[-(32 << 10) :]
            segment = again.decode(piece.plain, window, piece.position, recipe)
            check_bits(stream, piece, segment)
            made.append(segment)
        before = (before + piece.plain)[-WINDOW_BYTES:]
    return Outcome(size, closed, made)


def against(old: bytes, new: bytes, target: int = SEGMENT_BYTES) -> Outcome:
    segments = [piece.segment for piece in pieces(old)]
    return round_trip(segments, sum(len(piece.plain) for piece in pieces(old)), new, target)


def test_no_recipe_is_longer_than_the_caller_wants() -> None:
    old = [piece.segment for piece in pieces(deflated()(OLD))]
    piece = pieces(deflated()(NEW))[1]
    span = Span(0, len(OLD))
    whole, _ = filled(span, old).analyse(piece.segment)
    assert whole is not None
    assert filled(span, old).analyse(piece.segment, len(whole))[0] == whole
    for most in (len(whole) - 1, len(whole) // 2, 8, 0):
        assert filled(span, old).analyse(piece.segment, most)[0] is None


def test_no_recipe_takes_more_work_than_the_caller_wants() -> None:
    old = [piece.segment for piece in pieces(deflated()(OLD))]
    piece = pieces(deflated()(NEW))[1]
    span = Span(0, len(OLD))
    whole, report = filled(span, old).analyse(piece.segment)
    assert whole is not None and report.wrong
    assert filled(span, old).analyse(piece.segment, work=1 << 30)[0] == whole
    for work in (0, 1 << 12):
        assert filled(span, old).analyse(piece.segment, work=work)[0] is None


def test_a_segment_is_as_it_was_behind_a_recipe_that_became_too_long() -> None:
    encode = ENCODERS["zopfli"]  # whose headers are told in full
    old = [piece.segment for piece in pieces(encode(OLD[:60_000]))]
    (piece,) = pieces(encode(edited(OLD[:60_000], 9)))
    span = Span(0, 60_000)
    expected, report = filled(span, old).analyse(piece.segment)
    assert expected is not None and report.headers
    for most in range(len(expected)):
        assert filled(span, old).analyse(piece.segment, most)[0] is None
    assert filled(span, old).analyse(piece.segment)[0] == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", ENCODERS)
def test_every_encoder_comes_back_for_little(name: str) -> None:
    old, new = ENCODERS[name](OLD), ENCODERS[name](NEW)
    outcome = against(old, new)
    assert outcome.closed == 0
    assert outcome.size < len(new) // 12


@pytest.mark.parametrize("target", [1, 1 << 14, 1 << 30])
def test_segments_of_any_size_are_rebuilt_on_their_own(target: int) -> None:
    old, new = deflated()(OLD), deflated()(NEW)
    assert against(old, new, target).closed == 0


def test_a_chain_is_rebuilt_from_tokens_without_bits_between() -> None:
    encode = ENCODERS["zlib-6"]
    texts = [OLD, NEW, edited(NEW, 5), edited(edited(NEW, 5), 6)]
    segments = [piece.segment for piece in pieces(encode(texts[0]))]
    for before, text in itertools.pairwise(texts):
        outcome = round_trip(segments, len(before), encode(text), SEGMENT_BYTES)
        assert outcome.closed == 0
        segments = outcome.made


def test_what_is_put_in_front_shifts_the_rest() -> None:
    encode = ENCODERS["zlib-6"]
    new = encode(random.Random(7).randbytes(1000) + OLD)
    assert against(encode(OLD), new).size < 1500


def test_another_level_costs_what_it_chooses_otherwise() -> None:
    new = deflated(9)(NEW)
    outcome = against(deflated(6)(OLD), new)
    assert outcome.closed == 0
    assert outcome.size < len(new) // 8


def test_an_archive_that_shrank_and_one_that_grew() -> None:
    encode = ENCODERS["zlib-6"]
    small, large = OLD[100_000:127_000], lines(500_000, 9) + OLD + lines(900_000, 10)
    assert against(encode(OLD), encode(small)).closed == 0
    assert against(encode(large), encode(OLD), 1 << 20).size < 400


def test_the_old_stream_may_be_stored() -> None:
    assert against(deflated(0)(OLD), deflated(0)(NEW)).closed == 0


def test_what_shares_nothing_stays_closed_or_costs_less_than_a_third() -> None:
    new = deflated(1)(random.Random(8).randbytes(50_000) + lines(50_000, 11))
    outcome = against(deflated(9)(OLD), new)
    assert outcome.size <= len(new) // 3 + 16 * 3


def test_empty_streams() -> None:
    encode = ENCODERS["zlib-6"]
    assert against(encode(b""), encode(b"")).closed == 0
    assert against(encode(OLD), encode(b"")).closed == 0
    assert against(encode(b""), encode(b"a")).closed == 0


def test_the_same_bytes_give_the_same_recipe() -> None:
    old = [piece.segment for piece in pieces(deflated()(OLD))]
    piece = pieces(deflated()(NEW))[1]
    span = Span(0, len(OLD))
    first, _ = filled(span, old).analyse(piece.segment)
    reused = filled(span, old)
    reused.analyse(pieces(deflated(1)(NEW))[0].segment)
    reused.begin(span)
    for segment in old:
        reused.add(segment)
    again, _ = reused.analyse(piece.segment)
    assert first == again


def test_a_span_of_other_bytes_is_refused() -> None:
    old = [piece.segment for piece in pieces(deflated()(OLD))]
    piece = pieces(deflated()(NEW))[0]
    recipe, _ = filled(Span(0, len(OLD)), old).analyse(piece.segment)
    assert recipe is not None
    span = span_of(recipe)
    for wrong in (Span(span.start, span.size - 1), Span(span.start + 1, span.size)):
        with pytest.raises(RecipeError):
            filled(wrong, old).decode(piece.plain, b"", 0, recipe)
    with pytest.raises(RecipeError, match="span"):
        OldSpan(Span(0, MAX_SPAN_BYTES + 1))
    with pytest.raises(RecipeError, match="gap"):
        filled(Span(0, 1000), old[1:])
    for bad in (b"", b"\x06\x04\0", bytes((KIND, 8, 0, 0, 0, 0)), bytes((KIND, 0, 255, 0, 0, 0))):
        with pytest.raises(RecipeError):
            span_of(bad)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_a_recipe_from_a_stranger_gives_some_bytes_or_none(data: st.DataObject) -> None:
    old = [piece.segment for piece in pieces(deflated()(OLD[:40_000]))]
    piece = pieces(deflated()(NEW[:30_000]))[0]
    recipe, _ = filled(Span(0, 40_000), old).analyse(piece.segment)
    assert recipe is not None
    bad = bytearray(recipe)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(3, len(bad) - 1))
        bad[at] = data.draw(st.integers(0, 255))
    bad = bad[: data.draw(st.integers(3, len(bad)))]
    try:
        span = span_of(bad)
        if span.size > MAX_SPAN_BYTES:
            return
        segment = filled(span, old).decode(piece.plain, b"", 0, bad)
        bits_of(segment, 0, 1 << 20)
    except RecipeError:
        return
    assert bytes(segment.plain) == piece.plain
