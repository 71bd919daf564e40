"""The parts of a recipe that depend on old streams: deltas, and segments made from old ones.

docs/format.md, "Recipes".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING

from packer.engine import delta, zstd_streams
from packer.engine.deflate import RecipeError, Segment
from packer.engine.memory import writable
from packer.engine.tokens import KIND, MAX_SPAN_BYTES, OldSpan, Span, bits_of, span_of
from packer.opening.expansion import most_opened
from packer.opening.header_times import MAX_TIME, MAX_TIMES, relink, retime
from packer.opening.old_streams import OldStreams
from packer.opening.recipe import MAX_DELTA_BYTES, MAX_SPANS, Cursor

if TYPE_CHECKING:
    from typing_extensions import Buffer

_SPAN_RATIO = 8
_LEAST_SPAN = 64 << 10
"""The spans of a recipe, each counted as at least _LEAST_SPAN bytes, are together at most
_SPAN_RATIO times the bytes that the file may open to: the bound on a reader's work."""


def is_against(coded: bytes | memoryview) -> bool:
    """Return whether a segment's recipe depends on an old stream."""
    return coded[:1] == bytes((KIND,))


class Against:
    """Makes what a recipe takes from old streams.

    Args:
        old: the streams; None if the file has no predecessor.
        size: of the file in bytes.
        what: how errors name the recipe.
    """

    def __init__(self, old: OldStreams | None, size: int, what: str) -> None:
        self._old = old
        self._what = what
        self._spare = _SPAN_RATIO * most_opened(size)
        self._lock = Lock()
        self._spans: list[OldSpan] = []
        self._segments: list[Segment] = []
        """Memory of spans and segments, to be used again: at most one for each thread."""
        self._sequences: list[zstd_streams.OldSequences] = []

    def delta(self, record: Cursor, size: int) -> tuple[Callable[[], memoryview], bool]:
        """Read the record of a delta.

        Args:
            record: from a stranger; consumed.
            size: of the plaintext in bytes.

        Returns:
            Makes the plaintext, in any thread; FormatError if the delta is damaged. And whether the
            old text for it is there: if not, calls wait for one another.

        Raises:
            FormatError: the record is damaged.
        """
        if not 1 <= size <= MAX_DELTA_BYTES:
            record.fail(f"a delta of {size} bytes")
        parts = self._spans_of(record)
        head = record.number()
        count, relinked = head >> 1, bool(head & 1)
        if count > MAX_TIMES:
            record.fail(f"{count} times of a delta")
        times = [(record.number(), record.number()) for _ in range(count)]
        if any(new > MAX_TIME for _, new in times):
            record.fail("a time of a delta is too large")
        payload = bytes(record.take(len(record.rest())))
        is_there = all(span.start + span.size <= old.reached(stream) for old, stream, span in parts)

        def made() -> memoryview:
            older = self._older(parts, times, relinked=relinked)
            out = writable(size)
            delta.decode_into(out, payload, self._what, older)
            if relinked:
                relink(out, undo=True)
            return out

        return made, is_there

    @staticmethod
    def _older(
        parts: Sequence[tuple[OldStreams, int, Span]],
        times: list[tuple[int, int]],
        *,
        relinked: bool,
    ) -> bytes | bytearray | memoryview:
        """Return spans of old streams, one behind the other, with new times."""
        if len(parts) == 1 and not times and not relinked:
            old, stream, span = parts[0]
            return old.plain(stream, span)
        out, at = writable(sum(span.size for _, _, span in parts)), 0
        for old, stream, span in parts:
            part = out[at : at + span.size]
            old.plain_into(stream, span, part)
            retime(part, span.start, times)
            if relinked:
                relink(part)
            at += span.size
        return out

    def segment(
        self, data: Buffer, window: Buffer, position: int, coded: Buffer
    ) -> Callable[[Segment], None]:
        """Read the recipe of a segment, for which `is_against` holds.

        Args:
            data: plaintext of the segment.
            window: plaintext before it.
            position: bytes of plaintext before it, in all.
            coded: the recipe, from a stranger.

        Returns:
            Fills a segment, without its bits, in any thread; RecipeError if the recipe does not
            fit.

        Raises:
            FormatError: the recipe is damaged.
        """
        cursor = Cursor(memoryview(coded)[1:], self._what)
        stream = cursor.number()
        recipe = bytes((KIND,)) + cursor.rest()
        try:
            span = span_of(recipe)
        except RecipeError as error:
            cursor.fail(str(error))
        old = self._charge(cursor, stream, span)

        def fill(out: Segment) -> None:
            try:
                memory = self._spans.pop()
            except IndexError:
                memory = None
            filled = old.fill(stream, span, memory)
            filled.decode(data, window, position, recipe, out)
            self._spans.append(filled)

        return fill

    def bits(self, fill: Callable[[Segment], None], bit: int, most: int) -> tuple[bytearray, int]:
        """Return a segment's bytes and its end, as `engine.deflate.rebuild` does, in any thread.

        Args:
            fill: fills the segment.
            bit: where in its first byte it begins.
            most: greatest number of its bytes.
        """
        try:
            segment = self._segments.pop()
        except IndexError:
            segment = Segment()
        fill(segment)
        made = bits_of(segment, bit, most)
        self._segments.append(segment)
        return made

    def frames(self, plain: Buffer, coded: bytes, coded_bytes: int) -> Callable[[], bytes]:
        """Read the recipe of a segment of a zstd stream.

        Args:
            plain: its plaintext.
            coded: the recipe, from a stranger.
            coded_bytes: its length, as its record says it.

        Returns:
            Makes its bytes, in any thread; `zstd_streams.RecipeError` if the recipe does not fit.

        Raises:
            FormatError: the recipe is damaged.
        """
        kind = bytes((zstd_streams.FROM_OLD_KIND,))
        if coded[:1] != kind:
            return partial(rebuilt_zstd, plain, coded, coded_bytes)
        cursor = Cursor(memoryview(coded)[1:], self._what)
        stream = cursor.number()
        recipe = kind + cursor.rest()
        try:
            span = Span(*zstd_streams.span_of(recipe))
        except zstd_streams.RecipeError as error:
            cursor.fail(str(error))
        old = self._charge(cursor, stream, span)

        def made() -> bytes:
            try:
                memory = self._sequences.pop()
            except IndexError:
                memory = zstd_streams.OldSequences(zstd_streams.Span(0, 0))
            old.sequences(stream, span, memory)
            out = memory.decode(plain, recipe).write(coded_bytes)
            self._sequences.append(memory)
            return _of_length(out, coded_bytes)

        return made

    def _spans_of(self, record: Cursor) -> list[tuple[OldStreams, int, Span]]:
        """Read the spans of a delta."""
        count, total, out = record.number(), 0, []
        if not 1 <= count <= MAX_SPANS:
            record.fail(f"a delta with {count} spans")
        for _ in range(count):
            stream, span = record.number(), Span(record.number(), record.number())
            if not span.size:
                record.fail("an empty span")
            total += span.size
            if total > MAX_SPAN_BYTES:
                record.fail(f"spans of {total} bytes")
            out.append((self._charge(record, stream, span), stream, span))
        return out

    def _charge(self, cursor: Cursor, stream: int, span: Span) -> OldStreams:
        """Check a reference to an old stream, and count its cost."""
        if self._old is None or stream >= len(self._old):
            cursor.fail(f"old stream {stream} does not exist")
        if span.size > MAX_SPAN_BYTES:
            cursor.fail(f"a span of {span.size} bytes")
        with self._lock:
            self._spare -= max(span.size, _LEAST_SPAN)
        if self._spare < 0:
            cursor.fail("too many spans of old streams")
        return self._old


def rebuilt_zstd(plain: Buffer, coded: bytes, coded_bytes: int) -> bytes:
    """Return a segment of a zstd stream from a recipe that needs no old stream.

    Args:
        plain: its plaintext.
        coded: its recipe, from a stranger.
        coded_bytes: its length, as the recipe says it.

    Raises:
        RecipeError: (of `zstd_streams`) the recipe does not fit the plaintext or the length.
    """
    return _of_length(zstd_streams.rebuild(plain, coded, coded_bytes), coded_bytes)


def _of_length(made: bytes, length: int) -> bytes:
    if len(made) != length:
        raise zstd_streams.RecipeError("a segment of a zstd stream has another length")
    return made
