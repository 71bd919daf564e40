"""Deflate streams opened and given back bit for bit. Specification: docs/deflate.md."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from packer.engine.native import ffi, lib

if TYPE_CHECKING:
    from typing_extensions import Buffer

SEGMENT_BYTES: int = lib.PK_SEGMENT_PLAIN
"""A segment ends with the block that brings its plaintext to this."""
MAX_SEGMENT_BYTES: int = lib.PK_MAX_SEGMENT_PLAIN
"""Greatest plaintext of a segment."""
MAX_SEGMENT_INPUT = 24 << 20
"""No segment is longer than this, compressed."""
WINDOW_BYTES: int = lib.PK_FAR_WINDOW
"""Of plaintext before a segment, what its recipe may depend on.

Deflate refers 32 KiB back; which positions an encoder found there depends on what came before.
"""


def most_coded(plain_length: int) -> int:
    """Return how many bytes a segment may have, compressed, for so much plaintext.

    An encoder that ends a block behind every byte stays below. What rebuilds streams ahead counts
    on it, as a recipe from a stranger may ask for blocks without number.
    """
    return min(8 * plain_length + (64 << 10), MAX_SEGMENT_INPUT)


class NotDeflate(ValueError):
    """Bytes that are no deflate stream, or one that is not opened."""


class RecipeError(ValueError):
    """A recipe that does not fit its plaintext."""


class Inflated(NamedTuple):
    """A segment that was inflated.

    Args:
        plain_length: bytes of plaintext.
        end_bit: where the segment ends, counted in bits from the input's first byte.
        last: the stream ends with it.
    """

    plain_length: int
    end_bit: int
    last: bool


class Segment:
    """Memory for one segment of a deflate stream; used by one thread at a time."""

    def __init__(self) -> None:
        self._segment = ffi.gc(lib.pk_segment_new(), lib.pk_segment_free)
        if not self._segment:
            raise MemoryError
        self.tokens = (0, 0)
        """Tokens that the last `analyse` saw, and how many of them were predicted wrong."""

    def inflate(
        self, data: Buffer, bit: int, window: Buffer, position: int, target: int = SEGMENT_BYTES
    ) -> Inflated | None:
        """Inflate whole blocks until there are `target` bytes or the stream ends.

        Args:
            data: bytes of the stream, the first block beginning in the first one; copied.
            bit: where in it, 0 to 7.
            window: the WINDOW_BYTES of plaintext before, or as many as there are.
            position: bytes of plaintext before, in all.
            target: see above.

        Returns:
            what was found, or None if the blocks go on behind `data`.

        Raises:
            NotDeflate: there is no stream that can be opened.
        """
        view = ffi.from_buffer("uint8_t[]", data)
        before = ffi.from_buffer("uint8_t[]", window)
        segment = self._segment
        status = lib.pk_segment_inflate(
            segment, view, len(view), bit, before, len(before), position, target
        )
        if status == lib.PK_NEED_MORE:
            return None
        if status == lib.PK_NO_MEMORY:
            raise MemoryError
        if status != lib.PK_OK:
            raise NotDeflate
        return Inflated(segment.size - segment.window, segment.end_bit, bool(segment.last))

    @property
    def plain(self) -> memoryview:
        """The plaintext; valid until the next `inflate`."""
        segment = self._segment
        return memoryview(ffi.buffer(segment.data + segment.window, segment.size - segment.window))

    def analyse(self, guess: int = -1) -> bytes | None:
        """Return the recipe of what was inflated, or None if there is none that pays.

        The recipe was verified: `rebuild` gives back the input's bits.

        Args:
            guess: first byte of a recipe of the same stream, or -1: saves time, and does no more.
        """
        segment = self._segment
        out = bytearray(segment.end_bit // 8 * 3 // 100 + 64)
        tokens, length = ffi.new("uint64_t[2]"), ffi.new("size_t *")
        to = ffi.from_buffer("uint8_t[]", out)
        status = lib.pk_analyse(_codec(), segment, guess, to, len(out), length, tokens)
        self.tokens = tokens[0], tokens[1]
        if status == lib.PK_NO_MEMORY:
            raise MemoryError
        return bytes(out[: length[0]]) if status == lib.PK_OK else None


_local = threading.local()


def rebuild(
    plain: bytes | bytearray, window: bytes, position: int, recipe: Buffer, bit: int, most: int
) -> tuple[bytes, int]:
    """Return a segment's bytes, and the bit it ends at, counted from the first byte's first.

    Args:
        plain: its plaintext.
        window: the WINDOW_BYTES of plaintext before, or as many as there are.
        position: bytes of plaintext before, in all.
        recipe: of it, from a stranger.
        bit: where in the first byte it begins; the bits before are zero.
        most: bound on the bytes.

    Raises:
        RecipeError: the recipe does not fit.
    """
    codec = _codec()
    data = ffi.from_buffer("uint8_t[]", b"".join((window, plain, _PADDING)))
    coded = ffi.from_buffer("uint8_t[]", recipe)
    size = len(data) - len(_PADDING)
    end = ffi.new("uint64_t *")
    status = lib.pk_rebuild(
        codec, data, len(window), size, position, coded, len(coded), bit, most, end
    )
    if status == lib.PK_NO_MEMORY:
        raise MemoryError
    if status != lib.PK_OK:
        raise RecipeError("it does not fit the plaintext")
    return bytes(ffi.buffer(lib.pk_codec_result(codec), (end[0] + 7) // 8)), end[0]


def _codec() -> Any:
    if not hasattr(_local, "codec"):
        codec = ffi.gc(lib.pk_codec_new(), lib.pk_codec_free)
        if not codec:
            raise MemoryError
        _local.codec = codec
    return _local.codec


_PADDING = bytes(lib.PK_PAD)
