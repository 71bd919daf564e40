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

MAX_COPIES = 1 << 18
"""In one frame."""

_EXTRA_BYTES = 9
"""Most extra bits of a copy, in bytes."""
_REACHES = (8, 2)
"""How far around a change the older bytes stay: the first that leaves at most _AMPLE_BYTES."""
_AMPLE_BYTES = 5 << 19
_SMALL_TEXT, _SMALL_BYTES = 192 << 10, 768 << 10
"""So much text, or so much with the older bytes, gets level 19, else 17: up to 0.3 s on a core."""
_LEAST_LEVEL = 12
"""For more: lower levels do not find what large texts share (docs/architecture.md)."""
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
    coded = _coded(copies, count, prefix_bytes)
    del rest[length:]
    for reach in _REACHES:
        older = _older_rest(view, prefix_bytes, size, copies, count, reach)
        left = len(older) + length
        if left <= _AMPLE_BYTES:
            break
    del view
    buffer.clear()
    best = _LEAST_LEVEL
    if 4 * length <= size - prefix_bytes:  # much of it is copied, so there is time
        if length <= _SMALL_TEXT or left <= _SMALL_BYTES:
            best = 19
        elif left <= _AMPLE_BYTES:
            best = 17
    body = codec.compress(rest, max(level, best), older)
    if not count:
        return b"\0" + body
    return codec.number(len(coded)) + bytes((reach,)) + coded + body


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
    end = len(prefix) + size
    copies, count = _copies(bytes(head), what, len(prefix), end)
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


def _coded(copies: Any, count: int, prefix_bytes: int) -> bytes:
    """Return copies as they are stored."""
    classes, extra = bytearray(3 * count), bytearray(_EXTRA_BYTES * count)
    length = lib.pk_delta_encode(
        copies,
        count,
        prefix_bytes,
        ffi.from_buffer("uint8_t[]", classes),
        ffi.from_buffer("uint8_t[]", extra),
    )
    parts = [codec.number(count)]
    columns = [bytes(classes[at : at + count]) for at in range(0, 3 * count, count or 1)]
    for column in (*columns, bytes(extra[:length])):
        packed = codec.compress(column, codec.MAX_LEVEL)
        shorter = len(packed) < len(column)
        parts += (codec.number(len(packed)), packed) if shorter else (b"\0", column)
    return b"".join(parts)


def _copies(coded: bytes, what: str, prefix_bytes: int, end: int) -> tuple[Any, int]:
    """Return copies from a stranger, and how many there are."""
    count, at = codec.read_number(coded, what)
    if not 1 <= count <= MAX_COPIES:
        raise FormatError(what, f"{count} copies")
    columns = []
    for column in range(4):
        length, start = codec.read_number(coded[at : at + 4], what)
        at += start
        stop = at + length if length else at + count if column < 3 else len(coded)
        part, at = coded[at:stop], stop
        if stop > len(coded):
            raise FormatError(what, "the copies are cut off")
        if length:
            size = codec.content_size(part, _EXTRA_BYTES * count, what) if column == 3 else count
            part = codec.decompress(part, size, what)
        columns.append(part)
    if at != len(coded):
        raise FormatError(what, "bytes behind the copies")
    classes, extra = bytearray(b"".join(columns[:3])), bytearray(columns[3])
    copies = ffi.new("pk_copy[]", count)
    if lib.pk_delta_decode(
        ffi.from_buffer("uint8_t[]", classes),
        count,
        ffi.from_buffer("uint8_t[]", extra),
        len(extra),
        prefix_bytes,
        end,
        copies,
    ):
        raise FormatError(what, "the copies do not fit")
    return copies, count


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
