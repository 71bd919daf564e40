"""Spans of old deflate streams: equal to the plaintext, in any order, in bounded memory."""

import random
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import deflate
import pytest

from packer.engine.deflate import Inflated, Segment
from packer.engine.tokens import Span
from packer.errors import FormatError
from packer.opening import inflated_stream, old_streams
from packer.opening.old_streams import OldFile, OldStreams
from packer.opening.predecessor import OldStream
from packer.opening.segment_cache import SegmentCache


def _text(size: int, seed: int) -> bytes:
    drawn = random.Random(seed)
    words = [drawn.randbytes(drawn.randrange(3, 9)) for _ in range(500)]
    out = bytearray()
    while len(out) < size:
        out += drawn.choice(words)
    return bytes(out[:size])


def _file(data: bytes, *streams: OldStream) -> OldFile:
    return OldFile(lambda at, count: data[at : at + count], len(data), streams, "old.tgz")


@pytest.mark.parametrize(
    ("memory", "most"), [(16 << 20, 1 << 30), (0, 1 << 30), (0, 0)], ids=["memory", "file", "not"]
)
def test_any_span_in_any_order(monkeypatch: pytest.MonkeyPatch, memory: int, most: int) -> None:
    # Small limits, so that segments fall out of the cache, and windows go to the file. The
    # plaintext is kept in memory, in a file, or not at all.
    monkeypatch.setattr(old_streams, "_PLAIN_BYTES", memory)
    monkeypatch.setattr(old_streams, "_MOST_KEPT_BYTES", most)
    monkeypatch.setattr(old_streams, "CACHE_BYTES", 8 << 20)
    monkeypatch.setattr(inflated_stream, "_WINDOW_BYTES", 32 << 10)
    text = _text(9 << 20, 1)
    coded = deflate.deflate_compress(text, 6)
    streams = OldStreams([_file(b"headr" + bytes(coded), OldStream(0, 5, len(text)))])
    drawn = random.Random(2)
    spans = [(drawn.randrange(len(text)), drawn.randrange(3 << 20)) for _ in range(20)]
    with ThreadPoolExecutor(4) as executor:
        for start, size in [*spans, (0, len(text)), (len(text), 0)]:
            size = min(size, len(text) - start)
            plain = executor.submit(streams.plain, 0, Span(start, size))
            filled = executor.submit(streams.fill, 0, Span(start, size))
            assert plain.result() == text[start : start + size]
            out = memoryview(bytearray(size))
            streams.plain_into(0, Span(start, size), out)
            assert out == text[start : start + size]
            assert start + size <= streams.reached(0) <= len(text)
            assert filled.result().size == size
    streams.close()


def test_plaintext_that_is_read_again_is_not_inflated_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(old_streams, "CACHE_BYTES", 1 << 20)
    text, calls = _text(9 << 20, 6), []
    inflate = Segment.inflate

    def counted(segment: Segment, *args: Any, **named: Any) -> Inflated | None:
        found = inflate(segment, *args, **named)
        calls.append(found.plain_length if found is not None else 0)
        return found

    monkeypatch.setattr(Segment, "inflate", counted)
    streams = OldStreams([_file(zlib.compress(text)[2:], OldStream(0, 0, len(text)))])
    for start in (0, 8 << 20, 1 << 20, 5 << 20, 0):
        assert streams.plain(0, Span(start, 1 << 20)) == text[start : start + (1 << 20)]
    assert sum(calls) == len(text)
    streams.close()


def test_streams_within_streams_and_of_several_files() -> None:
    inner = _text(300_000, 3)
    outer = b"x" * 1000 + zlib.compress(inner)[2:] + b"behind"
    one = _file(
        zlib.compress(outer, 9)[2:], OldStream(0, 0, len(outer)), OldStream(1, 1000, 300_000)
    )
    two = _file(zlib.compress(inner, 1)[2:], OldStream(0, 0, len(inner)))
    streams = OldStreams([one, two])
    assert streams.plain(0, Span(0, len(outer))) == outer
    assert streams.plain(1, Span(7, 100_000)) == inner[7:100_007]
    assert streams.plain(2, Span(0, len(inner))) == inner
    assert [streams.size(at) for at in range(3)] == [len(outer), 300_000, 300_000]
    streams.close()


@pytest.mark.parametrize("stated", [99_999, 100_001])
def test_a_stream_of_another_size_is_refused(stated: int) -> None:
    coded = zlib.compress(_text(100_000, 4))[2:]
    streams = OldStreams([_file(coded, OldStream(0, 0, stated))])
    with pytest.raises(FormatError, match=r"old\.tgz.*bytes stated"):
        streams.plain(0, Span(0, 10))


@pytest.mark.parametrize(
    ("stream", "span"),
    [(0, Span(90_000, 10_001)), (0, Span(100_001, 0)), (1, Span(0, 1)), (0, Span(0, 1 << 62))],
)
def test_spans_outside_are_refused(stream: int, span: Span) -> None:
    coded = zlib.compress(_text(100_000, 5))[2:]
    streams = OldStreams([_file(coded, OldStream(0, 0, 100_000))])
    with pytest.raises(FormatError):
        streams.plain(stream, span)
    with pytest.raises(FormatError):
        streams.fill(stream, span)


def test_what_is_no_deflate_stream_or_ends_early_is_refused() -> None:
    coded = zlib.compress(_text(100_000, 6))[2:]
    for data in (b"\xff" * 1000, coded[:-1000]):
        streams = OldStreams([_file(data, OldStream(0, 0, 100_000))])
        with pytest.raises(FormatError, match=r"old\.tgz"):
            streams.fill(0, Span(0, 100_000))
    deep = [OldStream(at, 0, 10) for at in range(5)]
    with pytest.raises(FormatError, match="too many"):
        OldStreams([_file(coded, *deep)])
    with pytest.raises(FormatError, match="later"):
        OldStreams([_file(coded, OldStream(1, 0, 10))])


def test_segments_that_are_passed_take_the_place_of_none(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def inflate(
        self: Segment, data: Any, bit: int, window: Any, position: int, *args: Any, **more: Any
    ) -> Inflated | None:
        calls.append(position)
        return original(self, data, bit, window, position, *args, **more)

    original = Segment.inflate
    monkeypatch.setattr(Segment, "inflate", inflate)
    text = _text(4 << 20, 5) * 8
    coded = bytes(deflate.deflate_compress(text, 1))
    streams = OldStreams([_file(coded, OldStream(0, 0, len(text)))], cache=SegmentCache(20 << 20))
    first = Span(0, 1 << 20)
    assert streams.plain(0, first) == text[: 1 << 20]
    assert streams.plain(0, Span(len(text) - 10, 10)) == text[-10:]
    calls.clear()
    assert streams.fill(0, first).size == 1 << 20
    assert not calls
    streams.close()


def test_bytes_at_hand_are_not_read_again() -> None:
    reads: list[tuple[int, int]] = []

    def read(at: int, count: int) -> bytes:
        reads.append((at, count))
        return data[at : at + count]

    def other(at: int, count: int) -> bytes:
        return bytes(count)

    data, taken = random.Random(7).randbytes(9 << 20), inflated_stream.Input()
    assert taken.take(read, 10, 50, 100) == data[10:60]
    assert taken.take(read, 20, 40, 100) == data[20:60]
    assert reads == [(10, 50)]
    assert taken.take(read, 30, 40, 100) == data[30:130]
    assert taken.take(read, 130, 40, 100) == data[130:230]
    assert taken.take(other, 140, 50, 70) == bytes(50)
    assert taken.take(read, 140, 20, 40) == data[140:160]
    assert taken.take(read, 139, 8 << 20, 8 << 20) == data[139 : 139 + (8 << 20)]  # is not kept
    assert taken.take(read, 140, 20, 40) == data[140:160]
    assert len(reads) == 6
