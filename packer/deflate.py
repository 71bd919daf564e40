"""Deflate streams opened and given back bit for bit. Specification: docs/deflate.md."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

from packer._native import ffi, lib

if TYPE_CHECKING:
    from typing_extensions import Buffer

SEGMENT_BYTES = 2 << 20
"""A segment ends with the block that brings its plaintext to this."""
MAX_SEGMENT_BYTES = 18 << 20
"""Greatest plaintext of a segment."""
MAX_SEGMENT_INPUT = 24 << 20
"""No segment is longer than this, compressed."""
WINDOW_BYTES = 32 << 10
"""How far back a deflate stream refers."""

_INVALID, _NO_MEMORY = -1, -2


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
        self._codec = ffi.gc(lib.pk_codec_new(), lib.pk_codec_free)
        if not self._segment or not self._codec:
            raise MemoryError

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
        if status > 0:
            return None
        if status == _NO_MEMORY:
            raise MemoryError
        if status < 0:
            raise NotDeflate
        return Inflated(
            lib.pk_segment_plain_length(segment),
            lib.pk_segment_end_bit(segment),
            bool(lib.pk_segment_last(segment)),
        )

    @property
    def plain(self) -> memoryview:
        """The plaintext; valid until the next `inflate`."""
        segment = self._segment
        length = lib.pk_segment_plain_length(segment)
        return memoryview(ffi.buffer(lib.pk_segment_plain(segment), length))

    def analyse(self, hint: int = -1) -> bytes | None:
        """Return the recipe of what was inflated, or None if there is none that pays.

        The recipe was verified: `rebuild` gives back the input's bits.

        Args:
            hint: first byte of a recipe of the same stream, -1 if there is none.
        """
        length = lib.pk_analyse(self._codec, self._segment, hint)
        if length == _NO_MEMORY:
            raise MemoryError
        if length < 0:
            return None
        return bytes(ffi.buffer(lib.pk_codec_result(self._codec), length))

    @property
    def tokens(self) -> tuple[int, int]:
        """Tokens that the last `analyse` saw, and how many of them were predicted wrong."""
        return lib.pk_codec_tokens(self._codec), lib.pk_codec_mispredicted(self._codec)


_local = threading.local()


def rebuild(
    plain: bytes, window: bytes, position: int, recipe: Buffer, bit: int, most: int
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
    if not hasattr(_local, "codec"):
        _local.codec = ffi.gc(lib.pk_codec_new(), lib.pk_codec_free)
    codec = _local.codec
    data = ffi.from_buffer("uint8_t[]", b"".join((window, plain, _PADDING)))
    coded = ffi.from_buffer("uint8_t[]", recipe)
    size = len(data) - len(_PADDING)
    bits = lib.pk_rebuild(codec, data, len(window), size, position, coded, len(coded), bit, most)
    if bits == _NO_MEMORY:
        raise MemoryError
    if bits < 0:
        raise RecipeError("it does not fit the plaintext")
    return bytes(ffi.buffer(lib.pk_codec_result(codec), (bits + 7) // 8)), bits


_PADDING = bytes(288)
