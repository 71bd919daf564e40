"""Delta frames: text compressed against older bytes. docs/format.md, section "Delta frames".

The C core finds long stretches of the text that occur in the older bytes, or earlier in the text.
Of the rest, it finds which blocks of the older bytes have something in common with it. zstd then
compresses the rest against these blocks. The strongest levels of zstd, which find small changes
best, so work on kilobytes instead of megabytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

from packer.engine import zstd
from packer.engine.native import ffi, lib, uncleared
from packer.errors import FormatError

MAX_COPIES = 1 << 18
"""Greatest number of copies in one frame; bounds the memory of a reader."""

_EXTRA_BYTES = 9
"""Greatest length of a copy's extra bits, in bytes."""
_LEVELS = ((768 << 10, 19), (5 << 19, 17))
"""Bytes of selected blocks and rest, and the zstd level that is used up to so many: 0.2 and 0.5 s
on a core."""
_QUICK_LEVELS = ((32 << 10, 19), (256 << 10, 15), (384 << 10, 17))
"""The same below level 9, where time counts more: 0.1 s. Of so many bytes, levels 15 and 17 are an
optimal parser that weighs fewer choices: a third less time, for 1.5 % of the bytes."""
_QUICKEST = 5
"""Level below which time counts most: no stronger level than the least is used, fewer fingerprints
are taken, and old text that was copied is not looked at again. That takes half of the time, for 2 %
of the bytes."""
_MUCH_BYTES = 384 << 10
"""Bytes of both from which zstd takes tens of MB for its tables."""
_LEAST_LEVEL = zstd.ROWS_LEVEL
"""Level for more bytes than that. Lower levels miss copies in large texts
(docs/decisions.md)."""
_COLUMN_LEVEL = 15
"""zstd level of copies: level 22 takes four times as long for 0.1 % of their bytes."""
_SHORT_COLUMN = 16
"""Bytes of a column that zstd does not make fewer: a frame of less than 17 is as long."""
_PART_COLUMN = 1000
"""Bytes of a column up to which it is left to what compresses the delta with others: many archives
that got the same change have columns alike."""
_LONGEST_REST = 11 << 18
"""Bytes of a rest from which a quick delta takes a faster level: rows would take 20 to 40 ns a byte
more, and save 2 to 5 % of the rest."""
_BLOCK_LOG: int = lib.PK_COVERED_LOG
"""Binary logarithm of the size of a block of the older bytes, in bytes."""
_FEW_BYTES, _LONG_REST = 8 << 20, 1 << 20
"""Bytes of older text and rest, and of the rest alone, above which fewer fingerprints are taken and
compared: time grows with their number."""
_MOST_SAMPLES = 3 << 20
"""Greatest number of fingerprints; bounds the memory for an index, as frames have fewer."""
_LEAST_COVERED = 1 / 10
"""Share of the text that must be found in the older bytes for a delta to be tried. On all corpora,
frames that saved a third had at least 0.13."""
_ESTIMATE_LOG, _ESTIMATE_SHARE = 7, 3
"""Of a long rest, one position in 2^7 tells how much of it may be found: at how many of these begin
eight bytes that the older bytes have. A match of n bytes has n - 7 such positions, a third of its
bytes where it has 10 or 11: so three times as many bytes may be found."""
_DENSE_LEVEL, _DENSE_SHARE = 1, 0.98
"""zstd level that tells in 1 to 3 ns a byte whether a rest can be compressed, and the share of its
length from which it cannot."""
_LEAST_FRESH = 1 / 8
"""Least share of a text that is assumed not to repeat the text itself."""
_COPY_BYTES = 64
"""A length below the shortest copy that the core makes; bounds the number of copies."""

_at_once = nullcontext()


class Delta(NamedTuple):
    """A delta frame that was made.

    Args:
        copies: coded.
        selection: blocks of the older bytes that the body is compressed against.
        body: the rest, compressed.
        rest: what no copy covers.
    """

    copies: bytes
    selection: bytes
    body: bytes
    rest: bytearray

    def frame(self) -> bytes:
        """Return the frame."""
        return _frame(self.copies, self.selection, self.body)

    def plain_frame(self) -> bytes:
        """Return the frame with a rest that is not compressed."""
        return _frame(self.copies, b"", zstd.plain_frame(self.rest))


def encode(buffer: bytearray, prefix_bytes: int, level: int, *, share: float = 0) -> bytes | None:
    """Return a delta frame of a text, or None if it would not save `share`.

    Args:
        buffer: as `delta_of` takes it.
        prefix_bytes: likewise.
        level: likewise.
        share: likewise.

    Returns:
        The frame (docs/format.md, "Delta frames"), or None.

    Determinism: the same arguments and zstd version give the same bytes.
    """
    delta = delta_of(buffer, prefix_bytes, level, share=share)
    return delta.frame() if delta is not None else None


def delta_of(
    buffer: bytearray | memoryview,
    prefix_bytes: int,
    level: int,
    *,
    share: float = 0,
    is_part: bool = False,
    alone: AbstractContextManager[object] = _at_once,
) -> Delta | None:
    """Return the parts of a delta frame of a text, or None if it would not save `share`.

    Repetitions within the text compress well with and without a delta. Of the rest, the older bytes
    cover at most their own length, so few of them cannot save much; nor can they where next to
    nothing of the text was found in them.

    Args:
        buffer: the older bytes, then the text; a bytearray is cleared early, as both are large.
        prefix_bytes: length of the older bytes, at least 1.
        level: least zstd level.
        share: part of the text's compressed length that a delta should save, 0 to 1.
        is_part: the delta will be compressed with others, so that short columns stay as they are.
        alone: entered while much is compressed: zstd takes 40 MB of tables for that.

    Returns:
        The parts of the frame, or None.
    """
    size, is_quick = len(buffer), level < _QUICKEST
    if prefix_bytes < share * _LEAST_FRESH * (size - prefix_bytes):
        return None
    # Released before the buffer is emptied, and on any error.
    with ffi.from_buffer("uint8_t[]", buffer) as view:
        table_log = min(max((size // 32).bit_length(), 10), 22)
        capacity = min((size - prefix_bytes) // _COPY_BYTES + 1, MAX_COPIES)
        copies = uncleared("pk_copy[]", capacity)
        table = uncleared("uint32_t[]", 1 << table_log)
        # Beyond it the check below fails whatever else is found; a byte more than rounding could
        # hide.
        most_fresh = int(prefix_bytes / share) + 1 if share else size
        kept = bytearray(_blocks(prefix_bytes))  # first the blocks that are not looked at
        covered = ffi.from_buffer("uint8_t[]", kept) if is_quick else ffi.NULL
        count = lib.pk_delta_find_fresh(
            view, prefix_bytes, size, most_fresh, table, table_log, covered, copies, capacity
        )
        ffi.release(table)
        if count == lib.PK_TOO_FRESH:
            return None
        copied = lib.pk_delta_copied(copies, count, prefix_bytes)
        length = size - prefix_bytes - lib.pk_delta_copied(copies, count, size)
        if prefix_bytes < share * (length + copied):
            return None
        rest = bytearray(length)
        text = ffi.from_buffer("uint8_t[]", rest)
        lib.pk_delta_rest(view, prefix_bytes, size, copies, count, text)
        least = _LEAST_COVERED * (size - prefix_bytes) if share else 0
        if share and length > _LONG_REST:
            alike = copied + _estimate(view, prefix_bytes, rest)
            if alike < least or (alike < share * (size - prefix_bytes) and _is_dense(rest)):
                return None
        selection, older, shared = _select(view, prefix_bytes, rest, kept, is_quick=is_quick)
        if copied + shared < least:
            return None
        coded = _coded(copies, count, prefix_bytes, is_part=is_part) if count else b""
        left = len(older) + length
    if isinstance(buffer, bytearray):
        buffer.clear()
    # Where much of it is copied, there is time.
    best = _best_level(left, level) if 4 * length <= size - prefix_bytes else _LEAST_LEVEL
    best = max(level, best)
    if is_quick:
        best = _LEAST_LEVEL if length < _LONGEST_REST else zstd.FAST_LEVEL
    with alone if best <= _LEAST_LEVEL and left > _MUCH_BYTES else _at_once:
        body = zstd.compress(rest, best, older)
    return Delta(coded, selection, body, rest)


def _best_level(left: int, level: int) -> int:
    """Return the zstd level that there is time for.

    Args:
        left: bytes of selected blocks and rest.
        level: least level.
    """
    levels = _QUICK_LEVELS if level < zstd.DEFAULT_LEVEL else _LEVELS
    return next((best for most, best in levels if left <= most), _LEAST_LEVEL)


def decode(frame: bytes, size: int, what: str, prefix: bytes | bytearray | memoryview) -> bytearray:
    """Return the text of a delta frame from a stranger.

    Args:
        frame: exactly one frame.
        size: length of the text in bytes, which the caller has bounded.
        what: how errors name the frame.
        prefix: the older bytes.

    Returns:
        The text, `size` bytes.

    Raises:
        FormatError: the frame is not one that docs/format.md allows.
    """
    out = bytearray(size)
    decode_into(memoryview(out), frame, what, prefix)
    return out


def decode_into(
    out: memoryview, frame: bytes | memoryview, what: str, prefix: bytes | bytearray | memoryview
) -> None:
    """Decode a delta frame from a stranger into memory.

    Args:
        out: filled with the text, whose length the caller has bounded.
        frame: exactly one frame.
        what: how errors name the frame.
        prefix: the older bytes.

    Raises:
        FormatError: the frame is not one that docs/format.md allows; `out` is undefined then.
    """
    copies, count, rest = _decoded(frame, what, prefix, len(out))
    start, end = len(prefix), len(prefix) + len(out)
    # Released at once: a view that a traceback keeps borrowed crashes Python's collector.
    with ffi.from_buffer("uint8_t[]", prefix) as before, ffi.from_buffer("uint8_t[]", out) as text:
        status = lib.pk_delta_apply(before, start, end, copies, count, rest, len(rest), text)
    if status:
        raise FormatError(what, "the copies do not fit the rest")


def is_frame_of(
    text: memoryview, frame: bytes, what: str, prefix: bytes | bytearray | memoryview
) -> bool:
    """Return whether a delta frame decodes to a text; it is compared, and not made once more.

    Args:
        text: to compare with.
        frame: exactly one frame.
        what: how errors name the frame.
        prefix: the older bytes.

    Raises:
        FormatError: the frame is not one that docs/format.md allows.
    """
    copies, count, rest = _decoded(frame, what, prefix, len(text))
    start, end = len(prefix), len(prefix) + len(text)
    with ffi.from_buffer("uint8_t[]", prefix) as before, ffi.from_buffer("uint8_t[]", text) as data:
        status = lib.pk_delta_check(before, start, end, copies, count, rest, len(rest), data)
    return not status


def _decoded(
    frame: bytes | memoryview, what: str, prefix: bytes | bytearray | memoryview, size: int
) -> tuple[Any, int, bytes]:
    """Decode a stranger's frame of a text of `size` bytes.

    Returns:
        Its copies, their number, and the rest.

    Raises:
        FormatError: as `decode_into` does.
    """
    parts, at = [], 0
    for name in ("copies", "selection"):
        length, start = zstd.read_number(bytes(frame[at : at + 4]), what)
        at += start + length
        parts.append(bytes(frame[at - length : at]))
        if at >= len(frame):
            raise FormatError(what, f"the {name} are cut off")
    start, end = len(prefix), len(prefix) + size
    copies, count = _copies(parts[0], what, start, end) if parts[0] else (ffi.NULL, 0)
    length = size - lib.pk_delta_copied(copies, count, end)
    older = _selected(prefix, parts[1], length, what)
    return copies, count, zstd.decompress(memoryview(frame)[at:], length, what, older)


def _frame(copies: bytes, selection: bytes, body: bytes) -> bytes:
    parts = (zstd.number(len(copies)), copies, zstd.number(len(selection)), selection, body)
    return b"".join(parts)


def _coded(copies: Any, count: int, prefix_bytes: int, *, is_part: bool) -> bytes:
    """Code copies for a frame: their number, then four columns, each compressed if that helps."""
    classes, extra = bytearray(3 * count), bytearray(_EXTRA_BYTES * count)
    length = lib.pk_delta_encode(
        copies,
        count,
        prefix_bytes,
        ffi.from_buffer("uint8_t[]", classes),
        ffi.from_buffer("uint8_t[]", extra),
    )
    short = _PART_COLUMN if is_part else _SHORT_COLUMN
    parts = [zstd.number(count)]
    columns = [bytes(classes[at : at + count]) for at in range(0, 3 * count, count or 1)]
    for column in (*columns, bytes(extra[:length])):
        packed = zstd.compress(column, _COLUMN_LEVEL) if len(column) > short else column
        shorter = len(packed) < len(column)
        parts += (zstd.number(len(packed)), packed) if shorter else (b"\0", column)
    return b"".join(parts)


def _copies(coded: bytes, what: str, prefix_bytes: int, end: int) -> tuple[Any, int]:
    """Decode a stranger's copies; return them and their number."""
    count, at = zstd.read_number(coded, what)
    if not 1 <= count <= MAX_COPIES:
        raise FormatError(what, f"{count} copies")
    columns = []
    for column in range(4):
        length, start = zstd.read_number(coded[at : at + 4], what)
        at += start
        stop = at + length if length else at + count if column < 3 else len(coded)
        part, at = coded[at:stop], stop
        if stop > len(coded):
            raise FormatError(what, "the copies are cut off")
        if length:
            size = zstd.content_size(part, _EXTRA_BYTES * count, what) if column == 3 else count
            part = zstd.decompress(part, size, what)
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


def _select(
    data: Any, prefix_bytes: int, rest: bytearray, kept: bytearray, *, is_quick: bool
) -> tuple[bytes, bytearray, int]:
    """Choose the blocks that the rest is compressed against.

    Args:
        data: the older bytes.
        prefix_bytes: length of them.
        rest: of the text.
        kept: a byte a block, 1 where a quick search need not look; changed.
        is_quick: whether time counts most.

    Returns:
        The selection as it is stored, the selected bytes, and how many bytes of the rest occur in
        the older bytes.
    """
    both = prefix_bytes + len(rest)
    sample_log, depth = (2 if both <= _FEW_BYTES else 3), 64
    if is_quick or len(rest) > _LONG_REST:
        sample_log, depth = 4, 16
    if is_quick and len(rest) > _LONG_REST:
        sample_log, depth = 5, 8
    while both >> sample_log > _MOST_SAMPLES:  # of an index; frames are smaller
        sample_log += 1
    marks = ffi.from_buffer("uint8_t[]", kept)
    text = ffi.from_buffer("uint8_t[]", rest)
    with _select_table(both >> sample_log) as table:
        shared = lib.pk_select(
            data, prefix_bytes, text, len(rest), sample_log, depth, _BLOCK_LOG, table, marks
        )
    out = bytearray(len(kept) + 16)
    length = lib.pk_select_encode(marks, len(kept), ffi.from_buffer("uint8_t[]", out))
    return bytes(out[:length]), _gathered(data, prefix_bytes, kept, len(rest)), int(shared)


def _is_dense(rest: bytearray) -> bool:
    """Return whether the rest cannot be compressed, so that a delta saves what it finds alone."""
    return len(zstd.compress(rest, _DENSE_LEVEL)) > _DENSE_SHARE * len(rest)


def _estimate(data: Any, prefix_bytes: int, rest: bytearray) -> int:
    """Return how many bytes of the rest `_select` would find in the older ones, at most (about)."""
    text = ffi.from_buffer("uint8_t[]", rest)
    with _select_table(prefix_bytes >> _ESTIMATE_LOG) as table:
        alike = lib.pk_select_estimate(data, prefix_bytes, text, len(rest), _ESTIMATE_LOG, table)
    return _ESTIMATE_SHARE * int(alike)


@contextmanager
def _select_table(samples: int) -> Iterator[Any]:
    """Return working memory for about so many samples, which is released behind the context."""
    capacity = samples * 9 // 8 + 1024
    memory = [
        uncleared("uint8_t[]", 1 << lib.PK_SELECT_HEADS),
        *(uncleared("uint32_t[]", n) for n in (1 << lib.PK_SELECT_HEADS, capacity, capacity)),
    ]
    try:
        yield ffi.new("pk_select_table *", [*memory, capacity])
    finally:
        for part in memory:
            ffi.release(part)


def _selected(
    prefix: bytes | bytearray | memoryview, selection: bytes, rest_bytes: int, what: str
) -> bytearray:
    """Return the blocks that a stranger's selection names."""
    kept = bytearray(_blocks(len(prefix)))
    if lib.pk_select_decode(
        selection, len(selection), ffi.from_buffer("uint8_t[]", kept), len(kept)
    ):
        raise FormatError(what, "the selection does not fit")
    with ffi.from_buffer("uint8_t[]", prefix) as data:
        return _gathered(data, len(prefix), kept, rest_bytes)


def _blocks(prefix_bytes: int) -> int:
    """Return the number of blocks of the older bytes."""
    return (prefix_bytes + (1 << _BLOCK_LOG) - 1) >> _BLOCK_LOG


def _gathered(data: Any, prefix_bytes: int, kept: bytearray, rest_bytes: int) -> bytearray:
    """Return the kept blocks, behind zeros if they are shorter than the rest.

    zstd sizes its tables by the prefix. With tables for a short one, it would lose the prefix
    before the end of a long rest.
    """
    size = sum(kept) << _BLOCK_LOG
    if not size:
        return bytearray()
    if kept[-1]:
        size -= (len(kept) << _BLOCK_LOG) - prefix_bytes
    zeros = max(rest_bytes - size, 0)
    out = bytearray(zeros + size)
    to = ffi.from_buffer("uint8_t[]", out) + zeros
    marks = ffi.from_buffer("uint8_t[]", kept)
    lib.pk_select_gather(data, prefix_bytes, _BLOCK_LOG, marks, to)
    return out
