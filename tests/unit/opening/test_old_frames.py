"""Recipes that refer to old zstd streams, changed anywhere: refused, or other bytes; no worse."""

from __future__ import annotations

import random

import pytest

from packer.engine.tokens import Span
from packer.engine.zstd_streams import OldSequences
from packer.engine.zstd_streams import Span as ZstdSpan
from packer.errors import FormatError
from packer.files.spool import Memory
from packer.files.temporary import Gathered
from packer.opening.old_streams import OldFile, OldStreams
from packer.opening.parsed_stream import ParsedStream, Parsing, parsed
from packer.opening.predecessor import DEFLATE, ZSTD, OldStream
from packer.opening.rebuilder import Rebuilder
from packer.opening.recipe import RecipeWriter, ZstdSegment, against
from tests.predecessors import delta_of
from tests.updates import tar, texts
from tests.zstd_archives import SKIPPABLE, zstd

PLAIN = tar(texts(4, 12))
NEW = PLAIN[:30_000] + b"something new" * 9 + PLAIN[30_100:]
OLD_FILE, NEW_FILE = b"head" + zstd(PLAIN) + SKIPPABLE, zstd(NEW)
STREAM = OldStream(0, 4, len(PLAIN), ZSTD)


def streams(old_file: bytes = OLD_FILE, stream: OldStream = STREAM) -> OldStreams:
    return OldStreams(
        [
            OldFile(
                lambda start, size: old_file[start : start + size], len(old_file), [stream], "old"
            )
        ]
    )


def recipe(operation_is_text: bool = False) -> bytes:
    """Return a recipe of NEW_FILE without content."""
    old = OldSequences(ZstdSpan(0, len(PLAIN)))
    (whole,) = parsed(
        lambda start, size: OLD_FILE[start : start + size],
        4,
        len(OLD_FILE),
        is_whole=False,
        spare=[],
    )
    old.add(whole, 0)
    (segment,) = parsed(
        lambda start, size: NEW_FILE[start : start + size],
        0,
        len(NEW_FILE),
        is_whole=True,
        spare=[],
    )
    coded, _ = old.analyse(segment)
    assert coded is not None
    writer = RecipeWriter()
    if operation_is_text:
        writer.text(len(NEW))
    stored = ZstdSegment(len(NEW), len(NEW_FILE), against(coded, 0))
    writer.zstd([stored], is_text=operation_is_text)
    writer.delta(len(NEW), [(0, 0, len(PLAIN))], delta_of(PLAIN, NEW))
    writer.end()
    return b"".join(writer.finish())


def rebuilt(data: bytes, old: OldStreams) -> bytes:
    """Return what a recipe gives."""
    try:
        gathered = Gathered([memoryview(data)], len(data), 1 << 20, None)
        rebuilder = Rebuilder(gathered, iter([]), len(NEW_FILE), "f", None, old)
        return b"".join(rebuilder.pieces())
    finally:
        old.close()


def test_a_recipe() -> None:
    made = recipe()
    assert len(made) < len(NEW_FILE) / 10
    assert rebuilt(made, streams()) == NEW_FILE


def test_a_text_needs_no_old_stream() -> None:
    """A stream that has its plaintext in the text is made of that alone."""
    with pytest.raises(FormatError, match="recipe of f"):
        rebuilt(recipe(operation_is_text=True), streams())


@pytest.mark.parametrize("kind", ["deflate", "sequences"])
def test_streams_within_one_another(kind: str) -> None:
    """Four at most, of which a zstd stream is one; refused before anything of them is made."""
    writer = RecipeWriter()
    if kind == "sequences":
        writer.zstd([ZstdSegment(1, 1, b"")], is_text=False)
    for _ in range(4 if kind == "sequences" else 5):
        writer.deflate()
    for _ in range(5):
        writer.end()
    with pytest.raises(FormatError, match="within one another, too many"):
        rebuilt(b"".join(writer.finish()), streams())


@pytest.mark.slow
def test_bytes_of_a_recipe_changed_at_random() -> None:
    made, draw, wrong = recipe(), random.Random(5), 0
    for _ in range(1500):
        data = bytearray(made)
        for _ in range(draw.randint(1, 3)):
            at = draw.randrange(len(data))
            data[at] = draw.choice([0, 1, 64, 127, 128, 255, data[at] ^ 1 << draw.randrange(8)])
        try:
            wrong += rebuilt(bytes(data), streams()) != NEW_FILE
        except FormatError as error:
            assert "recipe" in str(error) or "old" in str(error)
    assert wrong < 1500


@pytest.mark.slow
def test_bytes_of_a_predecessor_changed_at_random() -> None:
    made, draw = recipe(), random.Random(6)
    for _ in range(300):
        old = bytearray(OLD_FILE)
        old[draw.randrange(4, len(old) - len(SKIPPABLE))] ^= 1 << draw.randrange(8)
        try:
            rebuilt(made, streams(bytes(old)))
        except FormatError as error:
            assert "recipe" in str(error) or "old" in str(error)


@pytest.mark.parametrize("size", [len(PLAIN) - 1, len(PLAIN) + 1, 1, 10 * len(PLAIN)])
def test_an_old_stream_of_another_size(size: int) -> None:
    old = streams(stream=STREAM._replace(size=size))
    with pytest.raises(FormatError, match="zstd stream at offset 4 in old: its plaintext has not"):
        old.plain(0, Span(0, 1))
    with pytest.raises(FormatError, match="zstd stream at offset 4"):
        old.sequences(0, Span(0, 1), OldSequences(ZstdSpan(0, 0)))
    old.close()


def test_an_old_stream_that_is_none() -> None:
    for data, offset in ((OLD_FILE, 5), (OLD_FILE[:-200], 4), (OLD_FILE, len(OLD_FILE) - 1)):
        old = streams(data, STREAM._replace(offset=offset))
        with pytest.raises(FormatError, match="it is no zstd stream"):
            old.plain(0, Span(0, 1))
        old.close()


def test_a_span_that_is_not_there() -> None:
    old = streams()
    for start, size in ((0, len(PLAIN) + 1), (len(PLAIN), 1), (1 << 62, 1)):
        with pytest.raises(FormatError, match="it has no bytes"):
            old.sequences(0, Span(start, size), OldSequences(ZstdSpan(0, 0)))
    old.close()


def test_kinds_are_not_confused() -> None:
    old = streams()
    with pytest.raises(FormatError, match="has no tokens"):
        old.fill(0, Span(0, 9))
    old.close()
    other = streams(stream=STREAM._replace(kind=DEFLATE))
    with pytest.raises(FormatError, match="has no sequences"):
        other.sequences(0, Span(0, 9), OldSequences(ZstdSpan(0, 0)))
    with pytest.raises(FormatError):
        rebuilt(recipe(), other)


@pytest.mark.parametrize("memory", [0, 1 << 30])
def test_spans_of_a_long_stream(memory: int) -> None:
    drawn = random.Random(8)
    text = b"".join(PLAIN[drawn.randrange(len(PLAIN) // 2) :] for _ in range(90))
    data = zstd(text, 1)
    parsing = Parsing(None)
    stream = ParsedStream(
        lambda start, size: data[start : start + size],
        len(data),
        0,
        len(text),
        "it",
        Memory(memory),
        parsing,
    )
    segments = list(
        parsed(
            lambda start, size: data[start : start + size], 0, len(data), is_whole=True, spare=[]
        )
    )
    assert len(segments) > 2
    for _ in range(8):
        start = drawn.randrange(len(text))
        size = drawn.randrange(1, len(text) - start + 1)
        assert bytes(stream.read(start, size)) == text[start : start + size]
        span, expected = OldSequences(ZstdSpan(0, 0)), OldSequences(ZstdSpan(start, size))
        stream.fill(Span(start, size), span)
        position = 0
        for segment in segments:
            expected.add(segment, position)
            position += segment.plain_length
        assert span.analyse(segments[1]) == expected.analyse(segments[1])
    stream.close()
    parsing.close()
