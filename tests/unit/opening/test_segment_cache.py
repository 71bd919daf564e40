"""Segments that are kept, and what their memory counts for."""

from __future__ import annotations

import random
import zlib

from packer.engine.deflate import SEGMENT_BYTES, Segment
from packer.opening.segment_cache import SegmentCache

NOISE = random.Random(1).randbytes(1 << 20)


def filled(segment: Segment, size: int) -> Segment:
    coder = zlib.compressobj(wbits=-15)
    assert segment.inflate(coder.compress(NOISE[:size]) + coder.flush(), 0, b"", 0) is not None
    return segment


def test_memory_that_was_taken_is_counted_as_long_as_it_is_held() -> None:
    segment = filled(Segment(), len(NOISE))
    long = segment.memory
    assert long > 2 * len(NOISE)
    assert filled(segment, 1000).memory == long


def test_memory_grows_to_about_what_a_segment_needs() -> None:
    drawn = random.Random(5)
    words = [drawn.randbytes(drawn.randrange(3, 9)) for _ in range(500)]
    text = b"".join(drawn.choice(words) for _ in range(600_000))
    segment, coder = Segment(), zlib.compressobj(wbits=-15)
    coded = coder.compress(text) + coder.flush()
    found = segment.inflate(coded, 0, b"", 0)
    assert found is not None
    assert found.plain_length >= SEGMENT_BYTES
    tokens = segment._segment.token_count
    needed = found.plain_length + 4 * tokens + found.end_bit // 8
    assert needed < segment.memory < 1.3 * needed


def test_a_short_segment_counts_with_all_of_its_arrays() -> None:
    assert filled(Segment(), 10).memory > 64 << 10


def test_long_segments_get_the_memory_of_long_ones() -> None:
    cache = SegmentCache(1)
    long = filled(cache.new(len(NOISE)), len(NOISE))
    cache.put((1, 0), long)
    cache.release((1, 0), long)
    short = filled(cache.new(1000), 1000)
    cache.put((1, 1), short)  # drops the long one
    cache.release((1, 1), short)
    assert cache.new(1000) is not long
    assert cache.new(len(NOISE)) is long
    other = filled(cache.new(len(NOISE)), 1000)
    cache.put((1, 2), other)  # drops the short one
    assert cache.new(len(NOISE)) is not short


def test_memory_in_use_is_given_to_another_once_it_is_released() -> None:
    cache = SegmentCache(1)
    first = filled(cache.new(len(NOISE)), len(NOISE))
    cache.put((1, 0), first)
    cache.put((1, 1), filled(cache.new(len(NOISE)), len(NOISE)))
    assert cache.new(len(NOISE)) is not first
    cache.release((1, 0), first)
    assert cache.new(len(NOISE)) is first
