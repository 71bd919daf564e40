"""Zstd streams: frames of real encoders come back; what is damaged or hostile is refused."""

from __future__ import annotations

import contextlib
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from packer.engine import zstd_streams
from packer.engine.zstd_streams import (
    BeyondLimits,
    NotZstd,
    OldSequences,
    Parser,
    RecipeError,
    Segment,
    Span,
    rebuild,
    span_of,
)
from tests.zstd_archives import zstd

SAMPLES = sorted((Path(__file__).parent / "zstd").glob("*.zst"))
SKIPPABLE = b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"


def lines(size: int, seed: int) -> bytes:
    """Return text in the manner of configuration files."""
    rng = random.Random(seed)
    words = [f"{rng.getrandbits(rng.choice((12, 30, 60))):x}" for _ in range(500)]
    out = bytearray()
    while len(out) < size:
        out += b"  " * rng.randrange(4) + f"{rng.choice(words)}: {rng.choice(words)}\n".encode()
    return bytes(out[:size])


TEXT = lines(200_000, 1) + bytes(300_000) + random.Random(2).randbytes(300_000) + lines(90_000, 3)
LONG_TEXT = TEXT + random.Random(4).randbytes(1_400_000) + TEXT[::-1] + TEXT


def by_tool(data: bytes, *options: str) -> bytes:
    return subprocess.run(
        ["zstd", "--quiet", "--stdout", *options], input=data, capture_output=True, check=True
    ).stdout


def compressed(data: bytes, level: int, checksum: bool = False, size: bool = True) -> bytes:
    encoder = zstandard.ZstdCompressor(
        level=level, write_checksum=checksum, write_content_size=size
    )
    return encoder.compress(data)


def segments(stream: bytes, most_window: int = zstd_streams.MAX_WINDOW_BYTES) -> Iterator[Segment]:
    parser, at = Parser(most_window), 0
    while True:
        segment = parser.next(memoryview(stream)[at:], final=True)
        assert segment is not None
        at += segment.coded_length
        yield segment
        if segment.last:
            return


def check(stream: bytes, plain: bytes, most_window: int = zstd_streams.MAX_WINDOW_BYTES) -> int:
    """Take a stream apart, put it together, and return how long its recipes are."""
    out, text, length = bytearray(), bytearray(), 0
    for segment in segments(stream, most_window):
        assert segment.plain_length <= zstd_streams.MAX_SEGMENT_BYTES
        recipe = segment.analyse()
        assert recipe is not None
        assert recipe[0] == zstd_streams.EXPLICIT_KIND
        out += rebuild(segment.plain, recipe, segment.coded_length)
        text += segment.plain
        length += len(recipe)
    assert text == plain
    assert out == stream
    return length


@pytest.mark.parametrize("level", [-5, -1, 1, 2, 3, 5, 7, 9, 12, 16, 19])
def test_streams_of_the_library_come_back(level: int) -> None:
    """A level whose tables, blocks or offsets are not understood."""
    check(compressed(TEXT, level), TEXT)


@pytest.mark.parametrize(
    "options",
    [["-1"], ["-3", "--rsyncable"], ["-3", "-T2"], ["-3", "--no-check"], ["-9"], ["-19"]],
    ids=" ".join,
)
def test_streams_of_the_tool_come_back(options: list[str]) -> None:
    """State that is lost where segments begin within a frame."""
    check(by_tool(LONG_TEXT, *options), LONG_TEXT)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.stem)
def test_streams_of_klauspost_come_back(sample: Path) -> None:
    """Forms that only this encoder writes; tables for which its rules do not hold cost more."""
    stream = sample.read_bytes()
    plain = zstandard.ZstdDecompressor().decompressobj().decompress(stream)
    assert check(stream, plain) < len(stream) // 2


def test_the_search_of_klauspost_default_is_followed() -> None:
    """A step of the search that is not the encoder's: each is told by later sequences."""
    sample = next(path for path in SAMPLES if path.stem.endswith("default"))
    stream = sample.read_bytes()
    plain = zstandard.ZstdDecompressor().decompressobj().decompress(stream)
    assert check(stream, plain) < 32


def test_a_segment_without_aligned_text_is_predicted_by_the_search() -> None:
    """Classes of places where there are no shifts."""
    (old,) = segments(compressed(random.Random(1).randbytes(70_000), 3))
    span = OldSequences(Span(0, old.plain_length))
    span.add(old, 0)
    stream = compressed(lines(120_000, 7), 3)
    (segment,) = segments(stream)
    alone = segment.analyse()
    recipe, _ = span.analyse(segment)
    assert recipe is not None and alone is not None
    assert len(recipe) < len(alone) + 32
    assert span.decode(segment.plain, recipe).write(segment.coded_length) == stream


def test_several_frames_with_and_without_size_and_checksum() -> None:
    """Frames that run into one another, and empty ones."""
    parts = [TEXT[:70_000], b"", TEXT[300_000:600_000], b"x", TEXT[-80_000:]]
    stream = b"".join(
        compressed(part, 3, checksum=bool(i & 1), size=bool(i & 2)) for i, part in enumerate(parts)
    )
    check(stream, b"".join(parts))


def test_a_frame_a_member() -> None:
    """Segments of many small frames; a header and a checksum for each cost little more."""
    parts = [TEXT[at : at + 500] for at in range(0, 300_000, 500)]
    stream = b"".join(compressed(part, 3, checksum=True) for part in parts)
    assert check(stream, b"".join(parts)) < len(stream)


def test_what_is_compressed_already_has_a_recipe_of_few_bytes() -> None:
    """Raw blocks that cost something."""
    data = random.Random(5).randbytes(5_000_000)
    assert check(compressed(data, 3), data) < 300


def test_tables_follow_from_their_counts() -> None:
    """Descriptions written in full, about 150 bytes a block."""
    data = lines(1_000_000, 6)
    stream = compressed(data, 1)
    sequences = sum(segment.sequences for segment in segments(stream))
    assert check(stream, data) < sequences * 2


def test_matches_from_far_back_are_read_if_asked_for() -> None:
    """A match into plaintext that is no longer there."""
    data = lines(900_000, 7)
    far = data + random.Random(8).randbytes(9 << 20) + data
    stream = by_tool(far, "-3", "--long=24")
    with pytest.raises(BeyondLimits):
        list(segments(stream))
    check(stream, far, most_window=16 << 20)


@pytest.mark.parametrize("window", [24, 27, 31])
@pytest.mark.parametrize("size", [False, True])
def test_windows_may_be_larger_than_what_is_kept(window: int, size: bool) -> None:
    """A bound on what a frame declares, where none of its matches needs it."""
    stream = zstd(TEXT, 3, window_log=window, content_size=size, enable_ldm=True)
    check(stream, TEXT)
    check(stream, TEXT, most_window=len(TEXT))


def test_memory_does_not_depend_on_the_window() -> None:
    """Memory that a header asks for: one frame of 2^41 bytes, another of 2^64 - 2."""
    last = ((8 << 3) | 1).to_bytes(3, "little") + b"12345678"
    wide = b"\x28\xb5\x2f\xfd\x00\xff" + last
    (segment,) = segments(wide)
    assert bytes(segment.plain) == b"12345678"
    with pytest.raises(NotZstd):
        Parser().next(b"\x28\xb5\x2f\xfd\xe0\xfe" + b"\xff" * 7 + last, final=True)


def test_frames_of_a_byte_have_too_many_bytes() -> None:
    """A stream that is told as damaged, and is not; damage that is told as a bound."""
    frame = compressed(b"a", 3)
    with pytest.raises(BeyondLimits):
        list(segments(frame * 40_000))
    with pytest.raises(NotZstd) as caught:
        list(segments(compressed(TEXT, 3)[:-1]))
    assert not isinstance(caught.value, BeyondLimits)


def test_a_stream_ends_before_what_is_no_frame() -> None:
    """A skippable frame or bytes behind the stream that are parsed."""
    stream = compressed(TEXT, 3)
    for behind in (SKIPPABLE + stream, b"trailing", b"\x28"):
        found = list(segments(stream + behind))
        assert sum(segment.coded_length for segment in found) == len(stream)
        assert found[-1].frame_end


def test_segments_do_not_depend_on_how_the_stream_is_given() -> None:
    """Segments that end where the data at hand do; a parser that loses its place."""
    stream = by_tool(LONG_TEXT, "-3")
    expected = [(s.plain_length, s.coded_length, s.last) for s in segments(stream)]
    parser, at, given = Parser(), 0, 1
    found: list[tuple[int, int, bool]] = []
    while not found or not found[-1][2]:
        segment = parser.next(stream[at : at + given], final=at + given >= len(stream))
        if segment is None:
            given = given * 3 + 1
            continue
        found.append((segment.plain_length, segment.coded_length, segment.last))
        at += segment.coded_length
        given = 1
    assert found == expected
    assert len(found) > 1


def test_segments_are_rebuilt_in_any_order() -> None:
    """A recipe that needs what another segment left."""
    stream = by_tool(LONG_TEXT, "-9")
    parts = [(s, s.analyse()) for s in segments(stream)]
    rebuilt = [rebuild(s.plain, r, s.coded_length) for s, r in reversed(parts) if r is not None]
    assert b"".join(reversed(rebuilt)) == stream


def test_a_recipe_that_is_too_long_is_given_up() -> None:
    """A bound on the recipe that is not kept."""
    segment = next(segments(compressed(TEXT, 3)))
    recipe = segment.analyse()
    assert recipe is not None
    assert segment.analyse(len(recipe)) == recipe
    assert segment.analyse(len(recipe) - 1) is None
    assert segment.analyse(0) is None


def test_dictionaries_truncated_and_damaged_streams_are_refused() -> None:
    """Anything that is taken for a stream without being one."""
    words = zstandard.ZstdCompressionDict(lines(5000, 8))
    stream = compressed(TEXT, 3)
    with_words = zstandard.ZstdCompressor(level=3, dict_data=words).compress(TEXT)
    # The sample dictionary has no number; a frame that names one is refused by its header.
    named = stream[:4] + bytes([stream[4] | 1, stream[5], 7]) + stream[6:]
    half = stream[: len(stream) // 2]
    for bad in (with_words, named, b"", b"\x28\xb5\x2f", TEXT, stream[:-1], half):
        with pytest.raises(NotZstd):
            list(segments(bad))
    assert Parser().next(stream[:-1]) is None


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_damaged_stream_comes_back_or_is_refused(data: st.DataObject) -> None:
    """A changed byte that leads outside the memory, or to a wrong recipe."""
    stream = bytearray(DAMAGED)
    for _ in range(data.draw(st.integers(1, 3))):
        stream[data.draw(st.integers(0, len(stream) - 1))] = data.draw(st.integers(0, 255))
    at = 0
    try:
        for segment in segments(bytes(stream)):
            recipe = segment.analyse()
            if recipe is not None:
                coded = rebuild(segment.plain, recipe, segment.coded_length)
                assert coded == stream[at : at + segment.coded_length]
            at += segment.coded_length
    except NotZstd:
        pass


DAMAGED = compressed(lines(6000, 9), 19) + compressed(lines(3000, 10), 1)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_strange_recipe_makes_bytes_within_its_bound_or_is_refused(data: st.DataObject) -> None:
    """A recipe from a stranger that is believed."""
    segment = next(segments(DAMAGED))
    good = segment.analyse()
    assert good is not None
    recipe = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        recipe[data.draw(st.integers(0, len(recipe) - 1))] = data.draw(st.integers(0, 255))
    most = data.draw(st.sampled_from([0, 100, segment.coded_length, 100_000]))
    with contextlib.suppress(RecipeError):
        assert len(rebuild(segment.plain, recipe, most)) <= most


@pytest.mark.parametrize("recipe", [b"", b"\x01", b"\x40abc", b"\x00"])
def test_recipes_of_no_known_kind_are_refused(recipe: bytes) -> None:
    """A kind that is not looked at; a recipe that leaves plaintext over."""
    with pytest.raises(RecipeError):
        rebuild(b"plaintext", recipe, 1000)


def test_plaintext_beyond_the_bound_is_refused() -> None:
    """Memory that a stranger decides on."""
    with pytest.raises(RecipeError):
        rebuild(bytes(zstd_streams.MAX_SEGMENT_BYTES + 1), b"\x00", 1000)


def edited(data: bytes, seed: int, edits: int = 12) -> bytes:
    """Return a text with some stretches replaced, removed and put in."""
    rng = random.Random(seed)
    out = bytearray(data)
    for _ in range(edits):
        at = rng.randrange(len(out) - 300)
        out[at : at + rng.randrange(200)] = lines(rng.randrange(1, 300), rng.randrange(1 << 30))
    return bytes(out)


OLD_TEXT = lines(250_000, 11) + random.Random(12).randbytes(2_100_000) + lines(250_000, 15)
NEW_TEXT = edited(OLD_TEXT, 13)


def parsed(stream: bytes) -> list[tuple[int, Segment]]:
    """Return segments with their positions in the plaintext."""
    out, position = [], 0
    for segment in segments(stream):
        out.append((position, segment))
        position += segment.plain_length
    return out


def span_with(old: list[tuple[int, Segment]], span: Span) -> OldSequences:
    out = OldSequences(span)
    for position, segment in old:
        out.add(segment, position)
    return out


@pytest.mark.parametrize("options", [["-1"], ["-3"], ["-9"], ["-19"]], ids=" ".join)
def test_old_sequences_predict_new_ones(options: list[str]) -> None:
    """Predictions that are wrong, or that rebuilding makes otherwise; chains of versions."""
    stream = by_tool(NEW_TEXT, *options)
    old, new = parsed(by_tool(OLD_TEXT, *options)), parsed(stream)
    span = Span(0, len(OLD_TEXT))
    out, decoded, length = b"", [], 0
    for position, segment in new:
        recipe, wrong = span_with(old, span).analyse(segment, NEW_TEXT[:position])
        assert recipe is not None
        assert wrong <= segment.sequences
        assert span_of(recipe) == span
        made = span_with(old, span).decode(segment.plain, recipe)
        out += made.write(segment.coded_length)
        decoded.append((position, made))
        length += len(recipe)
    assert out == stream
    assert len(new) > 1
    explicit = sum(len(segment.analyse() or b"") for _, segment in new)
    assert length < explicit // 3
    # What was decoded predicts as what was parsed.
    last = parsed(by_tool(edited(NEW_TEXT, 14), *options))
    span = Span(0, len(NEW_TEXT))
    for _, segment in last:
        recipe, wrong = span_with(new, span).analyse(segment)
        assert (recipe, wrong) == span_with(decoded, span).analyse(segment)
        assert recipe is not None


def test_a_span_in_the_middle_of_the_old_stream() -> None:
    """Positions that are taken from the stream's start."""
    stream = by_tool(NEW_TEXT, "-3")
    old = parsed(by_tool(OLD_TEXT, "-3"))
    position, segment = parsed(stream)[-1]
    span = Span(2_200_000, 300_000)
    recipe, _ = span_with(old, span).analyse(segment, NEW_TEXT[:position])
    assert recipe is not None
    made = span_with(old, span).decode(segment.plain, recipe)
    assert stream.endswith(made.write(segment.coded_length))
    with pytest.raises(RecipeError):
        span_with(old, Span(2_200_000, 200_000)).decode(segment.plain, recipe)
    with pytest.raises(RecipeError):
        rebuild(segment.plain, recipe, segment.coded_length)


def test_spans_with_gaps_and_spans_that_are_too_long_are_refused() -> None:
    """A span that is not what it is said to be."""
    old = parsed(by_tool(OLD_TEXT, "-1"))
    with pytest.raises(RecipeError):
        OldSequences(Span(0, zstd_streams.MAX_SPAN_BYTES + 1))
    with pytest.raises(RecipeError):
        OldSequences(Span(0, 1000)).add(old[0][1], 1)
    # A span that is not there as a whole makes no recipe.
    assert OldSequences(Span(0, 1000)).analyse(old[0][1])[0] is None


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_strange_recipe_from_old_sequences_is_refused_or_bounded(data: st.DataObject) -> None:
    """An alignment or a correction from a stranger that leads outside the memory."""
    (position, segment), *_ = parsed(DAMAGED)
    old = span_with([(position, segment)], Span(0, segment.plain_length))
    good, _ = old.analyse(segment)
    assert good is not None
    recipe = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        recipe[data.draw(st.integers(0, len(recipe) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(RecipeError):
        assert len(old.decode(segment.plain, recipe).write(100_000)) <= 100_000
