"""Delta frames: text compressed against older bytes. docs/format.md, section "Delta frames".

The C core finds long stretches that the text shares with the older bytes, or repeats itself; zstd
compresses what is left against what is left of the older bytes. So the strongest levels of zstd,
which find small changes best, see kilobytes in place of megabytes.
"""

from __future__ import annotations

from typing import Any

from packer import codec
from packer._native import ffi, lib
from packer.errors import FormatError

MAX_COPIES_BYTES = 2 << 20
"""Greatest plaintext of the copies."""

_LEVELS = ((768 << 10, 19), (2 << 20, 17))
"""zstd levels by how much is left to compress, older bytes included: up to 0.3 s on one core."""
_LEAST_LEVEL = 12
"""For more: lower levels do not find what large texts share (docs/architecture.md)."""
_REACHES = (8, 2)
"""How far around a change the older bytes stay: the first that leaves at most _AMPLE_BYTES."""
_AMPLE_BYTES = 1 << 20
_COPY_BYTES = 64
"""Less than the shortest copy that the core makes; bounds their number."""


def encode(buffer: bytearray, prefix_bytes: int, level: int, *, share: float = 0) -> bytes | None:
    """Return a delta frame; None if it cannot save what it should.

    What the text repeats of itself costs little either way. Of what is left, the older bytes cover
    no more than their own length, nor save more than that share.

    Args:
        buffer: the older bytes, then the text; cleared, as both are large.
        prefix_bytes: length of the older bytes, at least 1.
        level: least zstd level.
        share: of the text's compressed length that a delta should save.

    Determinism: the same arguments and zstd version give the same bytes.
    """
    size = len(buffer)
    view = ffi.from_buffer("uint8_t[]", buffer)
    table_log = min(max((size // 16).bit_length(), 10), 22)
    capacity = (size - prefix_bytes) // _COPY_BYTES + 1
    copies = ffi.new("pk_copy[]", capacity)
    table = ffi.new("uint32_t[]", 1 << table_log)
    count = lib.pk_delta_find(view, prefix_bytes, size, table, table_log, copies, capacity)
    ffi.release(table)
    rest = bytearray(size - prefix_bytes)
    length = lib.pk_delta_rest(
        view, prefix_bytes, size, copies, count, ffi.from_buffer("uint8_t[]", rest)
    )
    if prefix_bytes < share * (size - prefix_bytes):  # else the copies need not be counted
        taken = (
            copies[at].length for at in range(count) if getattr(copies[at], "from") < prefix_bytes
        )
        if prefix_bytes < share * (length + sum(taken)):
            return None
    coded = bytearray(15 * count + 5)
    coded_length = lib.pk_delta_encode(
        copies, count, prefix_bytes, ffi.from_buffer("uint8_t[]", coded)
    )
    del coded[coded_length:], rest[length:]
    for reach in _REACHES:
        older = _older_rest(view, prefix_bytes, size, copies, count, reach)
        left = len(older) + length
        if left <= _AMPLE_BYTES:
            break
    del view
    buffer.clear()
    best = _LEAST_LEVEL
    if 4 * length <= size - prefix_bytes:  # much of it is copied, so there is time
        best = next((best for most, best in _LEVELS if left <= most), best)
    body = codec.compress(rest, max(level, best), older)
    if not count:
        return b"\0" + body
    head = codec.compress(coded, codec.MAX_LEVEL if count < 1000 else 19)
    return codec.number(len(head)) + bytes((reach,)) + head + body


def decode(frame: bytes, size: int, what: str, prefix: bytes | bytearray) -> bytes:
    """Return the text of a delta frame from a stranger.

    Args:
        frame: exactly one frame.
        size: length of the text in bytes, which the caller has bounded.
        what: how errors name the frame.
        prefix: the older bytes.

    Raises:
        FormatError: anything that docs/format.md does not allow.
    """
    length, start = codec.read_number(frame, what)
    view = memoryview(frame)[start:]
    if not length:
        return codec.decompress(view, size, what, bytes(prefix))
    if length >= len(view):
        raise FormatError(what, "the copies are cut off")
    reach, head, body = view[0], view[1 : length + 1], view[length + 1 :]
    coded = codec.decompress(head, codec.content_size(head, MAX_COPIES_BYTES, what), what)
    capacity = len(coded) // 3
    copies = ffi.new("pk_copy[]", capacity + 1)
    end = len(prefix) + size
    count = lib.pk_delta_decode(
        ffi.from_buffer("uint8_t[]", coded), len(coded), len(prefix), end, copies, capacity
    )
    if count < 1:
        raise FormatError(what, "the copies do not fit")
    buffer = bytearray(end)
    buffer[: len(prefix)] = prefix
    data = ffi.from_buffer("uint8_t[]", buffer)
    older = _older_rest(data, len(prefix), end, copies, count, reach)
    copied = sum(copies[at].length for at in range(count))
    rest = codec.decompress(body, size - copied, what, older)
    if lib.pk_delta_apply(
        data, len(prefix), end, copies, count, ffi.from_buffer("uint8_t[]", rest), len(rest)
    ):
        raise FormatError(what, "the copies do not fit the rest")
    del data
    return bytes(memoryview(buffer)[len(prefix) :])


def _older_rest(
    data: Any, prefix_bytes: int, size: int, copies: Any, count: int, reach: int
) -> bytearray:
    out = bytearray(prefix_bytes)
    kept = ffi.new("uint8_t[]", prefix_bytes // lib.PK_DELTA_BLOCK + 1)
    length = lib.pk_delta_older_rest(
        data, prefix_bytes, size, copies, count, reach, kept, ffi.from_buffer("uint8_t[]", out)
    )
    del out[length:]
    return out
