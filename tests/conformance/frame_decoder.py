"""Numbers, zstd frames and delta frames, read as docs/format.md says: a part of `decoder`."""

from __future__ import annotations

import zstandard

MIB = 1 << 20


class Damaged(Exception):
    """The specification forbids what was found."""


def need(sound: bool, rule: str) -> None:
    """Refuse what breaks a rule."""
    if not sound:
        raise Damaged(rule)


class Bytes:
    """Bytes that are read from their start to their end."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        """Return the next bytes."""
        need(count <= len(self.data) - self.at, "too few bytes")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self) -> int:
        """Return the next number."""
        value = shift = 0
        while True:
            need(shift <= 56, "a number is too large")
            (byte,) = self.take(1)
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def end(self) -> None:
        """Check that nothing is left."""
        need(self.at == len(self.data), "something is left over")


# Frames and prefixes


def decompress(frame: bytes, prefix: bytes, size: int | None, limit: int) -> bytes:
    """Return the content of one frame: `size` bytes if that is known, at most `limit`."""
    header = zstandard.get_frame_parameters(frame)
    need(header.content_size <= limit, "a content size that is not stated, or above the limit")
    need(size is None or header.content_size == size, "another content size than expected")
    need(header.dict_id == 0, "a frame with a dictionary id")
    need(header.window_size <= 1 << 28, "a window above 2^28")
    dictionary = None
    if prefix:
        dictionary = zstandard.ZstdCompressionDict(prefix, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    context = zstandard.ZstdDecompressor(dict_data=dictionary)
    plain: bytes = context.decompress(frame, allow_extra_data=False)
    return plain


# Delta frames


def numbers(data: bytes) -> list[int]:
    """Return all numbers of which `data` consists."""
    out, value, shift = [], 0, 0
    for byte in data:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            out.append(value)
            value = shift = 0
    need(shift == 0, "a number is cut off")
    need(max(out, default=0) < 1 << 32, "a number above 2^32")
    return out


def number(data: bytes, start: int) -> tuple[int, int]:
    """Return the number of at most 4 bytes at `start`, and where it ends."""
    end = next(at for at in range(start, len(data)) if data[at] < 0x80) + 1
    need(end - start <= 4, "a number of more than 4 bytes")
    return numbers(data[start:end])[0], end


def read_copies(coded: bytes) -> tuple[list[int], list[int], list[tuple[int, bool]]]:
    """Return gaps, lengths, and places with whether the source lies in the text."""
    count, at = number(coded, 0)
    need(1 <= count <= 262144, "number of copies")
    columns = []
    for size in (count, count, count, None):
        length, at = number(coded, at)
        end = at + length if length else len(coded) if size is None else at + size
        column = coded[at:end]
        at = end
        columns.append(decompress(column, b"", size, 9 * count) if length else column)
        need(size is None or len(columns[-1]) == size, "a column of copies")
    need(at == len(coded), "the end of the copies")
    bits = int.from_bytes(columns[3], "little")
    left = 8 * len(columns[3])

    def value(code: int) -> int:
        nonlocal bits, left
        need(code <= 115, "a class above 115")
        if code < 32:
            return code
        extra = (code - 32) // 4 + 3
        need(extra <= left, "extra bits are missing")
        out = (4 + code % 4 << extra) + bits % (1 << extra)
        bits >>= extra
        left -= extra
        return out

    gaps = [value(code) for code in columns[0]]
    lengths = [value(code) for code in columns[1]]
    places = [(value(code % 128), code >= 128) for code in columns[2]]
    need(left < 8 and bits == 0, "extra bits are left")
    return gaps, lengths, places


def read_selection(coded: bytes, blocks: int) -> list[int]:
    """Return the ordinals of the blocks that are kept."""
    if not coded:
        return []
    bits = int.from_bytes(coded[1:], "little")
    left = 8 * len(coded) - 8
    orders = coded[0] % 16, coded[0] // 16
    need(max(orders) < 12, "an order")

    def take(count: int) -> int:
        nonlocal bits, left
        need(count <= left, "the selection is cut off")
        value = bits % (1 << count)
        bits >>= count
        left -= count
        return value

    kind = take(1)
    kept: list[int] = []
    at = 0
    while not at or left >= 8 or bits or not kept or kept[-1] < at - 1:
        low = orders[kind]
        while not take(1):
            low += 1
            need(low <= 31, "a run")
        run = (1 << low) + take(low) - (1 << orders[kind]) + 1
        if kind:
            kept.extend(range(at, at + run))
        at += run
        need(at <= blocks, "blocks behind the prefix")
        kind = 1 - kind
    return kept


def read_delta(stored: bytes, prefix: bytes, size: int, limit: int = 8 * MIB) -> bytes:
    """Return the plaintext of a delta frame."""
    length, start = number(stored, 0)
    copies, start = stored[start : start + length], start + length
    gaps, lengths, places = read_copies(copies) if copies else ([], [], [])
    length, start = number(stored, start)
    kept = read_selection(stored[start : start + length], (len(prefix) + 1023) // 1024)
    start += length
    need(sum(gaps) + sum(lengths) <= size and min(lengths, default=1) > 0, "copies behind the end")
    sources, shifts, at = [], [len(prefix), 0], len(prefix)
    for gap, copied, (place, in_text) in zip(gaps, lengths, places, strict=True):
        at += gap
        shifts[in_text] += -(place + 1) // 2 if place & 1 else place // 2
        source = (at - shifts[in_text]) % (1 << 32)
        sources.append(source)
        at += copied
        need(in_text == (source >= len(prefix)), "the kind of a source")
        need(in_text or source + copied <= len(prefix), "a source in prefix and text")
    older = b"".join(prefix[1024 * block : 1024 * block + 1024] for block in kept)
    left = size - sum(lengths)
    rest = decompress(stored[start:], older and older.rjust(left, b"\0"), left, limit)
    both = bytearray(prefix)
    for gap, copied, source in zip(gaps, lengths, sources, strict=True):
        both += rest[:gap]
        rest = rest[gap:]
        need(source + copied <= len(both), "a source that is not there yet")
        both += both[source : source + copied]
    return bytes(both[len(prefix) :]) + rest
