"""Texts kept from one version to the next: those used last, in bounded memory."""

from __future__ import annotations

from contextlib import closing
from functools import partial

import pytest

from packer.files.spool import Memory, Spool
from packer.opening import kept_texts
from packer.opening.kept_texts import KeptTexts
from packer.opening.old_streams import OldStreams
from packer.opening.rebuilder import FirstStream
from packer.opening.rebuilt_stream import RebuiltStream
from packer.opening.segment_cache import SegmentCache
from tests.unit.opening.test_rebuilt_stream import (
    NEXT,
    NEXT_FILE,
    OLD_FILE,
    PLAIN,
    TOKENS,
    first_of,
    old_file,
)


def test_texts_used_last_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_texts, "MOST_BYTES", 10)
    kept = KeptTexts()
    for key in (b"a", b"b"):
        kept.put(key, memoryview(key * 5))
    assert kept.get(b"a") is not None
    kept.put(b"c", memoryview(b"cc"))
    kept.put(b"d", memoryview(b"d" * 11))
    found = {key: kept.get(key) for key in (b"a", b"b", b"c", b"d")}
    assert found == {b"a": b"aaaaa", b"b": None, b"c": b"cc", b"d": None}


def stream_of(old: OldStreams, kept: KeptTexts) -> tuple[FirstStream, RebuiltStream]:
    """Return a stream that is made of old ones, and what makes it."""
    first = first_of(TOKENS.recipe, TOKENS.content, old, 10)
    assert first is not None
    spool = partial(Spool, memory=Memory(1 << 20), directory=None)
    key = (kept, b"key")
    cache = SegmentCache(1)
    stream = RebuiltStream(first, len(NEXT), len(NEXT_FILE), "a stream", cache, spool, key)
    return first, stream


def test_a_text_is_made_once() -> None:
    kept = KeptTexts()
    with closing(OldStreams([old_file(OLD_FILE, len(PLAIN))])) as old:
        for _ in range(2):
            first, stream = stream_of(old, kept)
            with closing(stream):
                assert stream.read(0, len(NEXT)) == NEXT
                made = b"".join(
                    bytes(segment.plain) for _, segment in stream.segments(0, len(NEXT))
                )
                assert made == NEXT
            plain = next(first.plain, None)
        assert plain is not None, "the second stream made nothing"


def test_a_text_of_another_length_is_not_used() -> None:
    kept = KeptTexts()
    kept.put(b"key", memoryview(NEXT[1:]))
    with closing(OldStreams([old_file(OLD_FILE, len(PLAIN))])) as old:
        _, stream = stream_of(old, kept)
        with closing(stream):
            assert stream.read(0, len(NEXT)) == NEXT
