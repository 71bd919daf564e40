"""Streams of opened files, made without their files: as if the file had been made and inflated."""

from __future__ import annotations

import gc
import random
import weakref
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial

import pytest

from packer.engine.tokens import OldSpan, Span
from packer.errors import FormatError
from packer.files.spool import Memory, Spool
from packer.files.temporary import Gathered
from packer.opening import rebuilder
from packer.opening.old_streams import OldFile, OldStreams
from packer.opening.predecessor import OldStream
from packer.opening.rebuilder import FirstStream, Rebuilder
from packer.opening.rebuilt_stream import RebuiltStream
from packer.opening.segment_cache import SegmentCache
from tests.builders import text
from tests.predecessors import File, Maker, gzip_against, segments
from tests.updates import as_gzip, one_block, texts

PLAIN = text("old", 40_000)
NEXT = PLAIN[:9000] + text("new", 700) + PLAIN[9100:] + text("more", 2000)


def zipped(data: bytes) -> bytes:
    """Return a gzip file with a header of 10 bytes, and small blocks."""
    stream = zlib.compressobj(9, zlib.DEFLATED, 31, 4)
    return stream.compress(data) + stream.flush()


OLD_FILE, NEXT_FILE = zipped(PLAIN), zipped(NEXT)
TOKENS = gzip_against(NEXT_FILE, OLD_FILE, (NEXT, PLAIN), target=6000, most=15_000).file(NEXT_FILE)


def modelled() -> File:
    """Return NEXT_FILE, whose recipe needs no old tokens."""
    maker = Maker()
    maker.add(NEXT_FILE[:10])
    number = maker.writer.deflate()
    parts, size = segments(NEXT_FILE[10:], 9000)
    for part in parts:
        recipe = part.segment.analyse()
        assert recipe is not None
        maker.writer.segment(number, len(part.segment.plain), part.bit, recipe)
    maker.patch(NEXT, PLAIN, most=15_000)
    maker.writer.end()
    maker.add(NEXT_FILE[10 + size :])
    return maker.file(NEXT_FILE)


def old_file(data: bytes, size: int) -> OldFile:
    def read(start: int, length: int) -> bytes:
        return data[start : start + length]

    return OldFile(read, len(data), [OldStream(0, 10, size)], "older")


def first_of(recipe: bytes, content: bytes, old: OldStreams, offset: int) -> FirstStream | None:
    gathered = Gathered([memoryview(recipe)], len(recipe), 1 << 20, None)
    pieces = iter([memoryview(content)])
    return Rebuilder(gathered, pieces, len(NEXT_FILE), "f", None, old).first_stream(offset)


@contextmanager
def rebuilt(recipe: bytes, content: bytes, memory: int, cached: int) -> Iterator[OldStreams]:
    """Make the stream of NEXT_FILE without the file."""
    cache = SegmentCache(cached)
    with closing(OldStreams([old_file(OLD_FILE, len(PLAIN))], None, cache)) as old:
        first = first_of(recipe, content, old, 10)
        assert first is not None
        spool = partial(Spool, memory=Memory(memory), directory=None)

        def make(what: str, cache: SegmentCache) -> RebuiltStream:
            return RebuiltStream(first, len(NEXT), len(NEXT_FILE), what, cache, spool)

        file = old_file(b"", len(NEXT))
        file.first = make
        with closing(OldStreams([file], None, cache)) as streams:
            yield streams


@pytest.mark.parametrize("memory", [0, 50_000, 1 << 20])
@pytest.mark.parametrize("made", [TOKENS, modelled()], ids=["tokens", "model"])
def test_spans_are_those_of_the_file(made: File, memory: int) -> None:
    parts, _ = segments(zipped(text("last", 500) + NEXT[300:])[10:])
    draw = random.Random(3)
    starts = [draw.randrange(len(NEXT)) for _ in range(30)]
    spans = [Span(0, len(NEXT)), *(Span(at, draw.randrange(len(NEXT) - at)) for at in starts)]
    with (
        closing(OldStreams([old_file(NEXT_FILE, len(NEXT))])) as inflated,
        rebuilt(made.recipe, made.content, memory, 30_000) as streams,
        ThreadPoolExecutor(4) as executor,
    ):
        filled = [executor.submit(streams.fill, 0, span) for span in spans]
        plain = [executor.submit(streams.plain, 0, span) for span in spans]
        for span, found, bytes_ in zip(spans, filled, plain, strict=True):
            assert bytes_.result() == NEXT[span.start : span.start + span.size]
            # Equal tokens and ends of blocks give equal recipes.
            expected, _ = inflated.fill(0, span).analyse(parts[0].segment)
            assert found.result().analyse(parts[0].segment)[0] == expected


def test_segments_of_a_long_block() -> None:
    plain = b"".join(texts(files=600).values())
    new = plain[: 1 << 20] + b"other" + plain[(1 << 20) + 90 :]
    old_gzip, new_gzip = (as_gzip(one_block(data), data) for data in (plain, new))
    made = gzip_against(new_gzip, old_gzip, (new, plain)).file(new_gzip)
    parts, _ = segments(one_block(b"last" + new), 1 << 20)
    assert len(parts) == 3
    with (
        closing(OldStreams([old_file(old_gzip, len(plain))])) as old,
        closing(OldStreams([old_file(new_gzip, len(new))])) as inflated,
    ):
        gathered = Gathered([memoryview(made.recipe)], len(made.recipe), 1 << 20, None)
        pieces = iter([memoryview(made.content)])
        first = Rebuilder(gathered, pieces, len(new_gzip), "f", None, old).first_stream(10)
        assert first is not None
        spool = partial(Spool, memory=Memory(1 << 24), directory=None)
        # A cache of no bytes: each segment is made again whenever it is asked for.
        stream = RebuiltStream(first, len(new), len(new_gzip), "it", SegmentCache(0), spool)
        with closing(stream):
            for _ in range(2):
                for part, span in zip(parts, (0, 1 << 20, 3 << 20), strict=True):
                    wanted = Span(span, min(3 << 20, len(new) - span))
                    found = OldSpan(wanted)
                    for _, segment in stream.segments(wanted.start, sum(wanted)):
                        found.add(segment)
                    expected, _ = inflated.fill(0, wanted).analyse(part.segment)
                    assert expected is not None
                    assert found.analyse(part.segment)[0] == expected


def test_spans_outside_are_refused() -> None:
    with rebuilt(TOKENS.recipe, TOKENS.content, 0, 1 << 20) as streams:
        for span in (Span(len(NEXT), 1), Span(0, len(NEXT) + 1)):
            with pytest.raises(FormatError, match="it has no bytes"):
                streams.plain(0, span)
            with pytest.raises(FormatError, match="it has no bytes"):
                streams.fill(0, span)


def test_what_cannot_be_made_without_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(OldStreams([old_file(OLD_FILE, len(PLAIN))])) as old:
        for offset in (0, 9, 11, 1 << 40):
            assert first_of(TOKENS.recipe, TOKENS.content, old, offset) is None
        assert first_of(TOKENS.recipe, TOKENS.content, old, 10) is not None
        for name, most in (("_FIRST_BYTES", len(NEXT) - 1), ("_FIRST_SEGMENTS", 2)):
            with monkeypatch.context() as patched:
                patched.setattr(rebuilder, name, most)
                assert first_of(TOKENS.recipe, TOKENS.content, old, 10) is None


def test_a_stream_of_another_size_is_refused() -> None:
    with closing(OldStreams([old_file(OLD_FILE, len(PLAIN))])) as old:
        first = first_of(TOKENS.recipe, TOKENS.content, old, 10)
        assert first is not None
        spool = partial(Spool, memory=Memory(0), directory=None)
        with pytest.raises(FormatError, match=r"has not the 9 bytes stated"):
            RebuiltStream(first, 9, len(NEXT_FILE), "a stream", SegmentCache(1), spool)


@pytest.mark.slow
@pytest.mark.parametrize("made", [TOKENS, modelled()], ids=["tokens", "model"])
def test_bytes_of_a_recipe_changed_at_random(made: File) -> None:
    draw, refused = random.Random(8), 0
    for _ in range(600):
        recipe = bytearray(made.recipe)
        for _ in range(draw.randint(1, 3)):
            at = draw.randrange(len(recipe))
            recipe[at] = draw.choice([0, 1, 64, 127, 128, 255, recipe[at] ^ 1 << draw.randrange(8)])
        try:
            with rebuilt(bytes(recipe), made.content, 0, 1 << 20) as streams:
                streams.fill(0, Span(0, len(NEXT)))
                streams.plain(0, Span(0, len(NEXT)))
        except FormatError:
            refused += 1
        except AssertionError:
            pass  # no stream there any more
    assert refused


@pytest.mark.parametrize("plain", [NEXT[:-1], b"", NEXT + b"!"], ids=["short", "none", "long"])
def test_another_plaintext_than_the_segments_say_is_refused(plain: bytes) -> None:
    with closing(OldStreams([old_file(OLD_FILE, len(PLAIN))])) as old:
        first = first_of(TOKENS.recipe, TOKENS.content, old, 10)
        assert first is not None
        spool = partial(Spool, memory=Memory(0), directory=None)
        first = first._replace(plain=iter([plain[:9000], plain[9000:]]))
        stream = RebuiltStream(first, len(NEXT), 9, "a stream", SegmentCache(1), spool)
        with closing(stream), pytest.raises(FormatError, match="plaintext is too"):
            stream.read(len(NEXT) - 1, 1)


def test_more_bytes_than_the_file_has_are_refused() -> None:
    with closing(OldStreams([old_file(OLD_FILE, len(PLAIN))])) as old:
        first = first_of(TOKENS.recipe, TOKENS.content, old, 10)
        assert first is not None
        spool = partial(Spool, memory=Memory(0), directory=None)
        stream = RebuiltStream(first, len(NEXT), 100, "a stream", SegmentCache(1), spool)
        with closing(stream), pytest.raises(FormatError, match="segments are too long"):
            list(stream.segments(0, len(NEXT)))


@pytest.mark.parametrize(
    ("behind", "is_only"),
    [(b"", True), (b"!" * 900, True), (b"!" * 1100, False), (OLD_FILE[10:], False)],
    ids=["nothing", "little", "much", "stream"],
)
def test_whether_a_stream_is_the_only_one(behind: bytes, is_only: bool) -> None:
    maker = gzip_against(NEXT_FILE, OLD_FILE, (NEXT, PLAIN), target=6000, most=15_000)
    if behind == OLD_FILE[10:]:
        maker.begin(behind, behind, target=6000)
        maker.patch(PLAIN, PLAIN)
        maker.writer.end()
    else:
        maker.add(behind)
    made = maker.file(NEXT_FILE)
    with closing(OldStreams([old_file(OLD_FILE, len(PLAIN))])) as old:
        first = first_of(made.recipe, made.content, old, 10)
        assert first is not None
        assert first.offset == 10
        assert b"".join(first.plain) == NEXT
        assert first.is_only() == is_only
        first = first_of(made.recipe, made.content, old, 10)
        assert first is not None
        assert not first.is_only()  # its plaintext was not taken


def test_a_stream_is_released_without_the_collector() -> None:
    # Cycles kept hundreds of MB in a process that restores one version after another.
    enabled = gc.isenabled()
    gc.disable()
    try:
        with closing(OldStreams([old_file(OLD_FILE, len(PLAIN))])) as old:
            first = first_of(TOKENS.recipe, TOKENS.content, old, 10)
            assert first is not None
            assert b"".join(first.plain) == NEXT
            assert first.is_only()
            held = weakref.ref(first.against)
            del first
            assert held() is None
    finally:
        if enabled:
            gc.enable()
