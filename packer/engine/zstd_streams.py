"""Zstandard streams (RFC 8878) to plaintext and recipe, and back byte for byte.

A stream is a run of frames. It is handled in segments of whole blocks, about 2 MiB of plaintext
each; the recipe of a segment holds what its plaintext does not tell: sequences, kinds of blocks
and tables, headers, checksums. Specification: docs/format.md, section "Zstd streams".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from packer.engine.native import ffi, lib
from packer.engine.workspaces import workspace

if TYPE_CHECKING:
    from typing_extensions import Buffer

SEGMENT_BYTES: int = lib.PK_ZSTD_SEGMENT
"""Plaintext at which a segment ends: with the block that reaches it."""
MAX_SEGMENT_BYTES: int = lib.PK_ZSTD_MOST_PLAIN
"""Greatest plaintext of a segment, in bytes."""
MAX_SEGMENT_INPUT: int = lib.PK_ZSTD_MOST_INPUT
"""Greatest coded length of a segment, in bytes."""
MAX_WINDOW_BYTES: int = lib.PK_ZSTD_WINDOW
"""How far back a match may reach unless more is asked for, in bytes."""
EXPLICIT_KIND: int = lib.PK_ZSTD_EXPLICIT
"""First byte of a recipe that needs nothing but the plaintext."""
FROM_OLD_KIND: int = lib.PK_ZSTD_FROM_OLD
"""First byte of a recipe that needs a span of an old stream."""
MAX_SPAN_BYTES: int = lib.PK_ZSTD_OLD_PLAIN
"""Greatest plaintext of a span of an old stream, in bytes."""
MAX_BEFORE_BYTES: int = lib.PK_ZSTD_MOST_BEFORE
"""Plaintext before a segment that is aligned with the old stream's, in bytes."""

LEAST_RAW_BYTES = 16 << 10
"""Bytes of a raw block that `Segment.raw_blocks` tells, at least."""
MATCH_BYTES: int = ffi.sizeof("pk_zstd_old_match")
"""Bytes of a match, of `Segment.matches`."""


class NotZstd(ValueError):
    """The bytes are not a zstd stream, or one that is not supported."""


class BeyondLimits(NotZstd):
    """A match of the stream reaches back too far, or it has too many coded bytes."""


class RecipeError(ValueError):
    """The recipe does not fit its plaintext."""


def most_coded(plain_length: int) -> int:
    """Return the greatest coded length of a segment that has `plain_length` bytes.

    The bound protects readers: a recipe from a stranger may ask for any number of empty blocks.
    """
    return int(lib.pk_zstd_most_coded(plain_length))


class Segment:
    """Whole blocks of a stream, with copies of their plaintext and of their coded bytes.

    Used by one thread at a time.
    """

    def __init__(self) -> None:
        self._segment = ffi.gc(lib.pk_zstd_segment_new(), lib.pk_zstd_segment_free)
        if not self._segment:
            raise MemoryError

    @property
    def plain(self) -> memoryview:
        """The plaintext; valid as long as the segment lives."""
        return memoryview(ffi.buffer(self._segment.plain, self._segment.size))

    @property
    def plain_length(self) -> int:
        """Bytes of plaintext."""
        return int(self._segment.size)

    @property
    def coded_length(self) -> int:
        """Bytes of the stream."""
        return int(self._segment.coded)

    @property
    def frame_end(self) -> bool:
        """Whether a frame ends with it, its checksum included."""
        return bool(self._segment.frame_end)

    @property
    def last(self) -> bool:
        """Whether the stream ends with it: what follows is not the magic number of a frame."""
        return bool(self._segment.last)

    @property
    def sequences(self) -> int:
        """How many sequences it has."""
        return int(self._segment.sequence_count)

    def raw_blocks(self) -> list[tuple[int, int, int]]:
        """Return where plaintext of a parsed segment is stored as it is, LEAST_RAW_BYTES and more.

        Returns:
            Of each such stretch, in order, where it is in the plaintext and in the coded bytes, and
            its length.
        """
        out = ffi.new("pk_zstd_stored[]", self.plain_length // LEAST_RAW_BYTES + 1)
        count = lib.pk_zstd_raw_blocks(self._segment, LEAST_RAW_BYTES, out)
        return [(out[at].plain, out[at].input, out[at].length) for at in range(count)]

    def matches(self) -> memoryview:
        """Return the matches of its sequences, which `OldSequences.put` takes.

        The form is that of this machine and release: it may go to a temporary file, no further.
        """
        out = bytearray(self.sequences * MATCH_BYTES)
        room = ffi.cast("pk_zstd_old_match *", ffi.from_buffer(out))
        return memoryview(out)[: lib.pk_zstd_matches(self._segment, room) * MATCH_BYTES]

    def analyse(self, most: int | None = None) -> bytes | None:
        """Return the explicit recipe of a parsed segment.

        It has been verified: `rebuild` returns the coded bytes.

        Args:
            most: greatest length of the recipe, in bytes; the default is the coded length and
                64 KiB. A longer one is given up as soon as it is longer.

        Returns:
            The recipe, or None: it would be longer, or the encoder took another way than all
            that are known.

        Raises:
            MemoryError: there is too little memory.
        """
        return _analysed(self, ffi.NULL, b"", most)[0]

    def write(self, most: int) -> bytes:
        """Return the coded bytes of a segment that was decoded.

        Args:
            most: greatest number of bytes to return.

        Raises:
            RecipeError: there are more, or the recipe made blocks that cannot be written.
            MemoryError: there is too little memory.
        """
        codec = _codec()
        _check(lib.pk_zstd_encode(codec, self._segment, most))
        return _result(codec)


class Span(NamedTuple):
    """A stretch of an old stream's plaintext.

    Args:
        start: position of its first byte in the plaintext of the stream.
        size: its length in bytes; 0 for a recipe that needs none.
    """

    start: int
    size: int


class OldSequences:
    """Plaintext and sequences of a stretch of an old stream; used by one thread at a time.

    Args:
        span: the stretch, of at most MAX_SPAN_BYTES.

    Raises:
        RecipeError: the span is too long.
    """

    def __init__(self, span: Span) -> None:
        self._old = ffi.gc(lib.pk_zstd_old_new(), lib.pk_zstd_old_free)
        if not self._old:
            raise MemoryError
        self.begin(span)

    def add(self, segment: Segment, position: int) -> None:
        """Add what a segment of the old stream, parsed or decoded, has of the span.

        Segments come in the order of the stream; those before or behind the span add nothing.

        Args:
            segment: the segment.
            position: bytes of the old stream's plaintext before it.

        Raises:
            RecipeError: it leaves a gap.
            MemoryError: there is too little memory.
        """
        self.put(segment.plain, segment.matches(), position)

    def begin(self, span: Span) -> None:
        """Forget everything, and begin another span; as `OldSequences` does."""
        if span.start >= 1 << 63 or lib.pk_zstd_old_begin(self._old, span.start, span.size):
            raise RecipeError(f"a span of {span.size} bytes")

    def put(self, plain: Buffer, matches: Buffer, position: int) -> None:
        """Add what a segment has of the span, as `add` does.

        Args:
            plain: its plaintext.
            matches: of `Segment.matches`.
            position: as for `add`.

        Raises:
            RecipeError: it leaves a gap, or has not such matches.
            MemoryError: there is too little memory.
        """
        text, told = ffi.from_buffer("uint8_t[]", plain), ffi.from_buffer(matches)
        count = len(told) // MATCH_BYTES
        cast = ffi.cast("pk_zstd_old_match *", told)
        _check(lib.pk_zstd_old_add(self._old, text, len(text), cast, count, position))

    def analyse(
        self, segment: Segment, window: Buffer = b"", most: int | None = None
    ) -> tuple[bytes | None, int]:
        """Return the recipe of a parsed segment from the span.

        It has been verified, and needs all of the span.

        Args:
            segment: of the new stream.
            window: plaintext before it; the last MAX_BEFORE_BYTES are looked at. It tells where
                matches from there have moved to; `decode` does without.
            most: as in `Segment.analyse`.

        Returns:
            The recipe, or None as in `Segment.analyse`, and how many sequences were not predicted.

        Raises:
            MemoryError: there is too little memory.
        """
        return _analysed(segment, self._old, memoryview(window)[-MAX_BEFORE_BYTES:], most)

    def decode(self, plain: Buffer, recipe: Buffer) -> Segment:
        """Return the segment that a recipe makes of its plaintext, without its coded bytes.

        Args:
            plain: plaintext of the segment.
            recipe: of the segment, from a stranger; `span_of` tells the span that it needs.

        Raises:
            RecipeError: the recipe does not fit plaintext and span.
            MemoryError: there is too little memory.
        """
        return _decoded(plain, recipe, self._old)


def span_of(recipe: Buffer) -> Span:
    """Return the span that a recipe from a stranger needs.

    Raises:
        RecipeError: it is no recipe.
    """
    coded = ffi.from_buffer("uint8_t[]", recipe)
    start, size = ffi.new("uint64_t *"), ffi.new("uint32_t *")
    if lib.pk_zstd_span(coded, len(coded), start, size):
        raise RecipeError("no recipe of a zstd segment")
    return Span(start[0], size[0])


class Parser:
    """Reads a stream, segment by segment; used by one thread at a time.

    Its memory is at most two windows and two segments.

    Args:
        most_window: how far back a match may reach, in bytes, at most 128 MiB; frames may declare
            larger windows.
    """

    def __init__(self, most_window: int = MAX_WINDOW_BYTES) -> None:
        self._parser = ffi.gc(lib.pk_zstd_parser_new(most_window), lib.pk_zstd_parser_free)
        if not self._parser:
            raise MemoryError

    def next(
        self, data: Buffer, final: bool = False, segment: Segment | None = None
    ) -> Segment | None:
        """Parse the stream's next segment.

        Where segments end depends on the stream alone, not on how much of it is given.

        Args:
            data: the stream, from where the segment before ended.
            final: whether nothing follows these bytes.
            segment: memory of another one, which is overwritten.

        Returns:
            The segment, or None if `data` ends before it does; then the parser is as before.

        Raises:
            NotZstd: damaged or truncated, or with a dictionary; the parser is of no more use.
            BeyondLimits: a match from too far back, or more coded bytes than `most_coded` allows.
            MemoryError: there is too little memory.
        """
        if segment is None:
            segment = Segment()
        view = ffi.from_buffer("uint8_t[]", data)
        status = lib.pk_zstd_parser_next(self._parser, segment._segment, view, len(view), final)
        if status == lib.PK_NEED_MORE:
            return None
        if status == lib.PK_NO_MEMORY:
            raise MemoryError
        if status == lib.PK_TOO_LONG:
            raise BeyondLimits("a zstd stream that reaches back too far, or has too many bytes")
        if status != lib.PK_OK:
            raise NotZstd("no zstd stream that can be opened")
        return segment


def rebuild(plain: Buffer, recipe: Buffer, most: int) -> bytes:
    """Return the coded bytes of a segment.

    Args:
        plain: its plaintext.
        recipe: an explicit one, from a stranger.
        most: greatest number of bytes to return.

    Returns:
        The bytes.

    Raises:
        RecipeError: the recipe does not fit the plaintext, or asks for more bytes.
        MemoryError: there is too little memory.
    """
    return _decoded(plain, recipe, ffi.NULL).write(most)


def _check(status: int) -> None:
    if status == lib.PK_NO_MEMORY:
        raise MemoryError
    if status != lib.PK_OK:
        raise RecipeError("it does not fit the plaintext")


def _decoded(plain: Buffer, recipe: Buffer, old: Any) -> Segment:
    segment = Segment()
    text, coded = ffi.from_buffer("uint8_t[]", plain), ffi.from_buffer("uint8_t[]", recipe)
    _check(lib.pk_zstd_fill(segment._segment, text, len(text)))
    _check(lib.pk_zstd_decode(_codec(), segment._segment, old, coded, len(coded)))
    return segment


def _analysed(
    segment: Segment, old: Any, window: Buffer, most: int | None
) -> tuple[bytes | None, int]:
    codec, wrong = _codec(), ffi.new("uint64_t *")
    bound = segment.coded_length + (64 << 10) if most is None else max(most, 0)
    before = ffi.from_buffer("uint8_t[]", window)
    status = lib.pk_zstd_analyse(codec, segment._segment, old, before, len(before), bound, wrong)
    if status == lib.PK_NO_MEMORY:
        raise MemoryError
    return _result(codec) if status == lib.PK_OK else None, int(wrong[0])


def _result(codec: Any) -> bytes:
    length = ffi.new("size_t *")
    made = lib.pk_zstd_result(codec, length)
    return bytes(ffi.buffer(made, length[0])) if length[0] else b""


def _codec() -> Any:
    """Return this thread's working memory."""
    return workspace("zstd_streams", lib.pk_zstd_codec_new, lib.pk_zstd_codec_free)
