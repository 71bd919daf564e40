"""Recipes from tokens: deflate streams of any encoder, rebuilt from their predecessor's tokens.

Specification: docs/deflate.md, section "Recipes from tokens".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from packer.engine.deflate import RecipeError, Segment
from packer.engine.native import ffi, lib
from packer.engine.workspaces import workspace

if TYPE_CHECKING:
    from typing_extensions import Buffer

KIND = 64
"""First byte of a recipe from tokens. Recipes with a model begin with a smaller one."""
MAX_SPAN_BYTES = 16 << 20
"""Greatest plaintext of a span of an old stream: what one segment may depend on."""

_UNBOUNDED = (1 << 64) - 1
_INVALID, _NO_MEMORY = -1, -2


class Span(NamedTuple):
    """A stretch of an old stream's plaintext.

    Args:
        start: position of its first byte in the plaintext of the stream.
        size: its length in bytes.
    """

    start: int
    size: int


class Report(NamedTuple):
    """What an analysis found.

    Args:
        tokens: number of tokens of the segment.
        wrong: how many of them were predicted wrong.
        aligned: bytes of plaintext that equal the old ones they are aligned with.
        shifts: entries of the alignment.
        headers: block headers that the recipe holds in full.
    """

    tokens: int
    wrong: int
    aligned: int
    shifts: int
    headers: int


class OldSpan:
    """Plaintext, tokens and ends of blocks of a stretch of an old stream.

    Used by one thread at a time; about 20 to 50 MB for MAX_SPAN_BYTES.

    Args:
        span: the stretch.
    """

    def __init__(self, span: Span) -> None:
        self._old = ffi.gc(lib.pk_old_new(), lib.pk_old_free)
        if not self._old:
            raise MemoryError
        self.begin(span)

    def begin(self, span: Span) -> None:
        """Discard what was added and begin another span, in the same memory.

        Raises:
            RecipeError: the span is too long.
        """
        if span.start >= 1 << 63 or lib.pk_old_begin(self._old, span.start, span.size):
            raise RecipeError(f"a span of {span.size} bytes")

    def add(self, segment: Segment) -> None:
        """Add what a segment of the old stream holds of the span.

        Segments come in the order of the stream; those before or behind the span add nothing.

        Raises:
            RecipeError: the segment leaves a gap, or the span has too many tokens.
            MemoryError: there is too little memory.
        """
        status = lib.pk_old_add(self._old, segment._segment)
        if status == _NO_MEMORY:
            raise MemoryError
        if status:
            raise RecipeError("the span has a gap or too many tokens")

    @property
    def size(self) -> int:
        """Bytes of the span that were added."""
        return int(lib.pk_old_size(self._old))

    def analyse(
        self, segment: Segment, most: int | None = None, work: int | None = None
    ) -> tuple[bytes | None, Report]:
        """Return the recipe of a segment that was inflated, and a report.

        The recipe was verified: `rebuild` gives back the input's bits. It is None if there is none
        of at most a third of the segment. Of the span, what the recipe does not need is discarded:
        `begin` it again for another segment.

        Args:
            segment: that was inflated.
            most: bytes of the recipe above which there is none, which is known early.
            work: what may be spent on text that is aligned with nothing or near to changes, in
                analysis and in rebuilding: about 2 ns each.

        Raises:
            MemoryError: there is too little memory.
        """
        inflated = segment._segment
        third = inflated.end_bit // 24 + 64
        out = bytearray(third if most is None else min(third, most))
        report = ffi.new("pk_tokens_report *")
        length = ffi.new("size_t *")
        status = lib.pk_tokens_analyse(
            _tokens(),
            inflated,
            self._old,
            _UNBOUNDED if work is None else work,
            ffi.from_buffer("uint8_t[]", out),
            len(out),
            length,
            report,
        )
        if status == _NO_MEMORY:
            raise MemoryError
        found = Report(report.tokens, report.wrong, report.aligned, report.shifts, report.headers)
        return bytes(out[: length[0]]) if status == 0 else None, found

    def decode(
        self,
        plain: Buffer,
        window: Buffer,
        position: int,
        recipe: Buffer,
        out: Segment | None = None,
    ) -> Segment:
        """Return the segment that a recipe makes of its plaintext, without its bits.

        Args:
            plain: plaintext of the segment.
            window: plaintext before it: at least 32 KiB, or as much as there is.
            position: bytes of plaintext before, in all.
            recipe: of the segment, from a stranger.
            out: memory to use again; None for new memory.

        Returns:
            `out`, or the new one.

        Raises:
            RecipeError: the recipe does not fit plaintext and span.
            MemoryError: there is too little memory.
        """
        segment = Segment() if out is None else out
        made = segment._segment
        # Released at once: a view that a traceback keeps borrowed crashes Python's collector.
        with (
            ffi.from_buffer("uint8_t[]", plain) as text,
            ffi.from_buffer("uint8_t[]", window) as before,
            ffi.from_buffer("uint8_t[]", recipe) as coded,
        ):
            status = lib.pk_segment_fill(made, before, len(before), text, len(text))
            if not status:
                made.position = position
                status = lib.pk_tokens_decode(_tokens(), made, self._old, coded, len(coded))
        if status == _NO_MEMORY:
            raise MemoryError
        if status:
            raise RecipeError("it does not fit the plaintext and the old span")
        return segment


def span_of(recipe: Buffer) -> Span:
    """Return the span that a recipe from a stranger needs.

    Raises:
        RecipeError: it is no recipe from tokens.
    """
    start, size = ffi.new("uint64_t *"), ffi.new("uint32_t *")
    with ffi.from_buffer("uint8_t[]", recipe) as coded:
        status = lib.pk_tokens_span(coded, len(coded), start, size)
    if status:
        raise RecipeError("no recipe from tokens")
    return Span(start[0], size[0])


def bits_of(segment: Segment, bit: int, most: int) -> tuple[bytearray, int]:
    """Return the bytes of a decoded segment, and the bit it ends at.

    Args:
        segment: made by `OldSpan.decode`.
        bit: where in the first byte it begins; the bits before are zero.
        most: bound on the bytes.

    Returns:
        the bytes, and the number of bits before its end, from the first byte's first one on.

    Raises:
        RecipeError: the segment has more bytes.
        MemoryError: there is too little memory.
    """
    tokens = _tokens()
    end = ffi.new("uint64_t *")
    status = lib.pk_tokens_write(tokens, segment._segment, bit, most, end)
    if status == _NO_MEMORY:
        raise MemoryError
    if status:
        raise RecipeError(f"a segment of more than {most} bytes")
    bits = int(end[0])
    return bytearray(ffi.buffer(lib.pk_tokens_result(tokens), (bits + 7) // 8)), bits


def _tokens() -> Any:
    return workspace("tokens", lib.pk_tokens_new, lib.pk_tokens_free)
