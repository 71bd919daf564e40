"""Deflate streams (RFC 1951) to plaintext and recipe, and back bit for bit. See docs/deflate.md.

A stream is handled in segments of a few MiB. The recipe of a segment says how the encoder's output
differs from the output of a model of that encoder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from packer.engine.native import ffi, lib
from packer.engine.workspaces import buffer, workspace

if TYPE_CHECKING:
    from typing_extensions import Buffer

SEGMENT_BYTES: int = lib.PK_SEGMENT_PLAIN
"""Plaintext at which a segment ends: with the block that reaches it."""
MAX_SEGMENT_BYTES: int = lib.PK_MAX_SEGMENT_PLAIN
"""Greatest plaintext of a segment, in bytes; bounds the memory of writer and reader."""
MAX_SEGMENT_INPUT = 24 << 20
"""Greatest compressed length of a segment, in bytes."""
WINDOW_BYTES: int = lib.PK_FAR_WINDOW
"""Plaintext before a segment that its recipe may depend on, in bytes.

Deflate refers 32 KiB back. Which positions an encoder found there depends on earlier bytes.
"""


_TOKEN_BYTES, _BLOCK_BYTES = 4, 1024
"""Memory of a token, and about that of a block with its header, in bytes."""


def most_coded(plain_length: int) -> int:
    """Return the greatest compressed length of a segment that has `plain_length` bytes.

    An encoder that ends a block behind every byte stays below it. The bound protects readers: a
    recipe from a stranger may ask for any number of empty blocks.
    """
    return min(8 * plain_length + (64 << 10), MAX_SEGMENT_INPUT)


class NotDeflate(ValueError):
    """The bytes are not a deflate stream, or one that is not supported."""


class RecipeError(ValueError):
    """The recipe does not fit its plaintext."""


class Inflated(NamedTuple):
    """The extent of an inflated segment.

    Args:
        plain_length: bytes of plaintext.
        end_bit: where the segment ends, in bits from the input's first byte.
        last: whether the stream ends with it.
        carry: what `Segment.inflate` must know of the block that it ends within; empty if it ends
            with a block.
        is_partial: whether it ends earlier than it would if the stream were whole.
    """

    plain_length: int
    end_bit: int
    last: bool
    carry: bytes = b""
    is_partial: bool = False


class Segment:
    """Memory for one segment of a deflate stream; used by one thread at a time."""

    def __init__(self) -> None:
        self._segment = ffi.gc(lib.pk_segment_new(), lib.pk_segment_free)
        if not self._segment:
            raise MemoryError
        self._most_memory = 0
        self.tokens = (0, 0)
        """Tokens in the segment analysed last, and how many of them the model predicted wrong."""

    def inflate(
        self,
        data: Buffer,
        bit: int,
        window: Buffer,
        position: int,
        target: int = SEGMENT_BYTES,
        *,
        carry: bytes = b"",
        partial: bool = False,
    ) -> Inflated | None:
        """Inflate blocks until there are `target` bytes, a long block is cut, or the stream ends.

        Args:
            data: bytes of the stream; the segment begins in the first of them. Copied.
            bit: where in that byte, 0 to 7.
            window: the last WINDOW_BYTES of plaintext before the segment, or all if there are less.
            position: bytes of plaintext before the segment.
            target: bytes of plaintext to reach.
            carry: as the segment before gave it.
            partial: whether to end the segment earlier where the stream is damaged, or cut off
                where `data` ends: with the last whole block, or, if there is none and `data` ends,
                behind the last whole token.

        Returns:
            The segment's extent, or None if `data` ends before the segment does.

        Raises:
            NotDeflate: the bytes are not a deflate stream that can be opened.
            MemoryError: no memory for the plaintext.
        """
        segment, goes_on = self._segment, ffi.NULL
        if carry:
            goes_on = ffi.new("pk_carry *")
            ffi.memmove(goes_on, carry, ffi.sizeof("pk_carry"))
        # Released at once: a view that a traceback keeps borrowed crashes Python's collector.
        with (
            ffi.from_buffer("uint8_t[]", data) as view,
            ffi.from_buffer("uint8_t[]", window) as before,
        ):
            status = lib.pk_segment_inflate(
                segment,
                view,
                len(view),
                bit,
                before,
                len(before),
                position,
                target,
                goes_on,
                partial,
            )
        if status == lib.PK_NEED_MORE:
            return None
        if status == lib.PK_NO_MEMORY:
            raise MemoryError
        if status != lib.PK_OK:
            raise NotDeflate
        size, is_last = segment.size - segment.window, bool(segment.last)
        if not segment.open:
            return Inflated(size, segment.end_bit, is_last, is_partial=partial)
        behind = ffi.new("pk_carry *")
        lib.pk_segment_carry(segment, behind)
        return Inflated(size, segment.end_bit, False, bytes(ffi.buffer(behind)), partial)

    @property
    def is_cut(self) -> bool:
        """Whether the segment begins or ends within a block."""
        return bool(self._segment.goes_on or self._segment.open)

    @property
    def memory(self) -> int:
        """The memory that its arrays take, in bytes.

        All of it counts, as what small blocks have not used yet was used by others before.
        """
        own = self._segment
        parts = _TOKEN_BYTES * own.token_capacity + _BLOCK_BYTES * own.block_capacity
        return int(own.capacity + parts + own.input_capacity)

    @property
    def coded_share(self) -> float:
        """Its length by that of its plaintext: about as many tokens has each byte, or less."""
        segment = self._segment
        return int(segment.end_bit) / (8 * max(int(segment.size - segment.window), 1))

    @property
    def plain(self) -> memoryview:
        """The plaintext of the segment; valid until the next `inflate`."""
        segment = self._segment
        return memoryview(ffi.buffer(segment.data + segment.window, segment.size - segment.window))

    def analyse(self, guess: int = -1) -> bytes | None:
        """Find the recipe of the inflated segment.

        It has been verified: `rebuild` returns the input's bits.

        Args:
            guess: first byte of a recipe of the same stream, or -1. It names the model to try
                first, which saves time; the recipe does not depend on it.

        Returns:
            The recipe, or None if none is below 3 % of the segment's length.

        Raises:
            MemoryError: no memory for the model's tables.
        """
        segment = self._segment
        out = bytearray(segment.end_bit // 8 * 3 // 100 + 64)
        tokens, length = ffi.new("uint64_t[2]"), ffi.new("size_t *")
        with ffi.from_buffer("uint8_t[]", out) as to:
            status = lib.pk_analyse(_codec(), segment, guess, to, len(out), length, tokens)
        self.tokens = tokens[0], tokens[1]
        if status == lib.PK_NO_MEMORY:
            raise MemoryError
        return bytes(out[: length[0]]) if status == lib.PK_OK else None


_LAST_FLAGS_OF_A_BYTE = b"\x7f"
"""Flags of a recipe up to which it has neither GOES_ON nor OPEN; they are a number."""

_PADDING = bytes(lib.PK_PAD)
"""Zeros behind the plaintext, so that the C core compares ahead without checking for the end: the
longest match has 258 bytes, and reads go by words."""


def rebuild(
    plain: bytes | bytearray | memoryview,
    window: bytes | memoryview,
    position: int,
    recipe: Buffer,
    bit: int,
    most: int,
) -> tuple[bytearray, int]:
    """Rebuild a segment of a deflate stream.

    Args:
        plain: its plaintext.
        window: the last WINDOW_BYTES of plaintext before it, or all if there are less.
        position: bytes of plaintext before it.
        recipe: of the segment, from a stranger.
        bit: where in the first byte the segment begins; the bits before it are zero.
        most: greatest number of bytes to return.

    Returns:
        The segment's bytes, and the bit at which it ends, counted from the first byte's first bit.

    Raises:
        RecipeError: the recipe does not fit the plaintext, or asks for more than `most` bytes.
        MemoryError: no memory for the model's tables.
    """
    codec = _codec()
    size = len(window) + len(plain)
    memory = buffer("segment", size + len(_PADDING))
    memory[: len(window)] = window
    memory[len(window) : size] = plain
    memory[size : size + len(_PADDING)] = _PADDING
    end = ffi.new("uint64_t *")
    with (
        ffi.from_buffer("uint8_t[]", recipe) as coded,
        ffi.from_buffer("uint8_t[]", memory) as data,
    ):
        status = lib.pk_rebuild(
            codec, data, len(window), size, position, coded, len(coded), bit, most, end
        )
    if status == lib.PK_NO_MEMORY:
        raise MemoryError
    if status != lib.PK_OK:
        raise RecipeError("it does not fit the plaintext")
    return bytearray(ffi.buffer(lib.pk_codec_result(codec), (end[0] + 7) // 8)), end[0]


def is_cut(recipe: Buffer) -> bool:
    """Return whether the segment of a model's recipe begins or ends within a block."""
    return bytes(memoryview(recipe)[1:2]) > _LAST_FLAGS_OF_A_BYTE


def carry_of_rebuilt() -> bytes:
    """Return the carry of the segment that this thread rebuilt last; see `Inflated`."""
    carry = ffi.new("pk_carry *")
    return bytes(ffi.buffer(carry)) if lib.pk_codec_carry(_codec(), carry) else b""


def _codec() -> Any:
    """Return this thread's working memory."""
    return workspace("deflate", lib.pk_codec_new, lib.pk_codec_free)
