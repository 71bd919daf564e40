"""Recipes, followed as docs/format.md says: a part of `decoder`."""

from __future__ import annotations

import bz2
import importlib
import re
import struct
import zlib
from typing import Any

from tests.conformance.frame_decoder import MIB, Bytes, Damaged, need, read_delta

BLOCK = 512
BZIP2_BLOCK, BZIP2_END = f"{0x314159265359:048b}", f"{0x177245385090:048b}"
FIELDS = (0, 100, 108, 116, 124, 136, 148, 156, 157, 257, 265, 297, 329, 337, 345, 512)
SIZE, MTIME, CHKSUM = 4, 5, 6


def replace_times(span: bytearray, start: int, times: dict[int, int]) -> None:
    """Replace times in the tar headers of a span that starts there in its stream."""
    octal = re.compile(rb"[0-7]+")
    for at in range(-start % BLOCK, len(span) - BLOCK + 1, BLOCK) if times else ():
        block = span[at : at + BLOCK]
        total = sum(block) - sum(block[148:156]) + 8 * 32
        if block[257:262] == b"ustar" and block[148:156] == b"%06o\0 " % total:
            old = block[136:147]
            if octal.fullmatch(old) and int(old, 8) in times:
                new = b"%011o" % times[int(old, 8)]
                span[at + 136 : at + 147] = new
                span[at + 148 : at + 156] = b"%06o\0 " % (total - sum(old) + sum(new))


def replace_zip_times(span: bytearray, times: dict[int, int]) -> None:
    """Replace times in the zip headers of a span."""
    at, header = 0, re.compile(rb"PK(\x03\x04.{26}|\x01\x02.{42})", re.DOTALL)
    while times and (found := header.search(span, at)):
        at = found.start()
        time, lengths, fixed = (10, 26, 30) if span[at + 2] == 3 else (12, 28, 46)
        name, extra = struct.unpack_from("<HH", span, at + lengths)
        places, field, end = [at + time], at + fixed + name, at + fixed + name + extra
        while field + 4 <= min(end, len(span)):
            kind, size = struct.unpack_from("<HH", span, field)
            field += 4
            if kind == 0x5455:
                last = min(field + size, end, len(span))
                places += range(field + 1, last - 3, 4)
            field += size
        for place in places[:4]:
            (old,) = struct.unpack_from("<I", span, place)
            struct.pack_into("<I", span, place, times.get(old, old) & 0xFFFFFFFF)
        at = end


def relink(text: bytearray, *, undo: bool = False) -> None:
    """Replace the offsets in central directories by what they are more than is due."""
    at, due, expected = 0, 0, -1
    while (at := text.find(b"PK\1\2", at)) >= 0 and at + 46 <= len(text):
        flags, size = struct.unpack_from("<8xH10xI", text, at)
        lengths = struct.unpack_from("<HHH", text, at + 28)
        (offset,) = struct.unpack_from("<I", text, at + 42)
        if at == expected:
            other = (offset + due if undo else offset - due) & 0xFFFFFFFF
            struct.pack_into("<I", text, at + 42, other)
            offset = other if undo else offset
        due = offset + 30 + lengths[0] + size + (16 if flags & 8 else 0)
        at = expected = at + 46 + sum(lengths)


class Recipe:
    """Makes a file of its content."""

    def __init__(
        self,
        recipe: bytes,
        content: bytes,
        size: int,
        older: list[Old | OldFrames | OldWhole] | None = None,
        *,
        as_text: bool = False,
    ) -> None:
        """Take the parts, and the old streams of the predecessors, raw; None if there are none."""
        self.as_text = as_text
        most = 32 * MIB + size // (32 if older is None else 2)
        need(len(recipe) <= min(most, 1 << 30), "length of a recipe")
        self.older = older or []
        self.span_bytes = 256 * size + (2 << 30)
        head = Bytes(recipe)
        version = head.take(1)
        need(version in (b"\1", b"\2"), "version of a recipe")
        self.has_zstd = version == b"\2"
        if self.has_zstd:
            head.number()  # bytes of the text
        lengths = [head.number() for _ in range(3)]
        count = head.number()
        need(count <= 1 << 21, "number of streams")
        streams = [head.number() for _ in range(count)]
        self.operations, self.headers, self.inline = (Bytes(head.take(n)) for n in lengths)
        self.streams = iter([Bytes(head.take(n)) for n in streams])
        head.end()
        self.content = Bytes(content)
        self.opened_bytes = 32 * size + 256 * MIB

    def file(self) -> bytes:
        """Return the file."""
        data = self.stream(0, within=False)
        for part in (self.operations, self.headers, self.inline, self.content):
            part.end()
        need(next(self.streams, None) is None, "a stream is left over")
        return data

    def stream(self, depth: int, *, within: bool = True) -> bytes:
        """Follow the operations up to END."""
        out = bytearray()
        header = bytes(BLOCK)
        held = Bytes(b"")
        while True:
            (operation,) = self.operations.take(1)
            if operation in (0, 11):
                held.end()
            if operation == 0:
                return bytes(out)
            if operation == 1:
                out += self.content.take(self.operations.number())
            elif operation == 2:
                out += self.inline.take(self.operations.number())
            elif operation in (4, 5):
                header = self.header(header)
                out += header
                if operation == 5:
                    size = size_of(header)
                    out += self.content.take(size) + bytes(-size % BLOCK)
            elif operation == 6:
                out += bytes(self.operations.number())
            elif operation == 8:
                out += self.delta(self.operations.number())
            elif operation == 11:
                held = Bytes(self.delta(self.operations.number()))
            elif operation == 12:
                size = self.operations.number()
                need(size > 0, "no bytes of those held")
                out += held.take(size)
            elif operation in (9, 10):
                allowed = self.has_zstd or operation == 10
                need(not within and allowed, "a zstd stream where none may be")
                out += self.zstd(depth + (operation == 10), is_text=operation == 9)
            else:
                need(operation in (3, 7), f"operation {operation} needs a later reader")
                need(depth < 4, "streams within one another")
                out += self.bzip2(depth + 1) if operation == 7 else self.deflate(depth + 1)

    def take_span(self, stream: int, start: int, size: int) -> Old | OldFrames | OldWhole:
        """Return the old stream that a span lies in."""
        need(stream < len(self.older) and size <= 16 * MIB, "a span")
        self.span_bytes -= max(size, 65536)
        need(self.span_bytes >= 0, "too many spans")
        need(start + size <= len(self.older[stream].plain), "a span behind the end")
        return self.older[stream]

    def delta(self, size: int) -> bytes:
        """Return what a delta makes of old streams."""
        need(1 <= size <= 16 * MIB, "length of a delta")
        records = self.next_stream()
        count = records.number()
        need(1 <= count <= 64, "number of spans")
        spans = [(records.number(), records.number(), records.number()) for _ in range(count)]
        need(all(length > 0 for _, _, length in spans), "an empty span")
        need(sum(length for _, _, length in spans) <= 16 * MIB, "spans of a delta")
        head = records.number()
        count, relinked = head >> 1, head & 1
        need(count <= 64, "number of times")
        times = [(records.number(), records.number()) for _ in range(count)]
        need(all(new < 1 << 33 for _, new in times), "a time")
        stored = records.take(len(records.data) - records.at)
        prefix = b""
        for stream, start, length in spans:
            old = self.take_span(stream, start, length)
            span = bytearray(old.plain[start : start + length])
            replace_times(span, start, dict(reversed(times)))
            replace_zip_times(span, dict(reversed(times)))
            if relinked:
                relink(span)
            prefix += span
        text = bytearray(read_delta(stored, prefix, size, 16 * MIB))
        if relinked:
            relink(text, undo=True)
        return bytes(text)

    def deflate(self, depth: int) -> bytes:
        """Return a deflate stream. Its bits are a text of zeros and ones, the lowest first."""
        records = self.next_stream()
        plain = Bytes(self.stream(depth))
        bits, window = "", b""
        while records.at < len(records.data):
            head = records.number()
            length, bit = head >> 3, head & 7
            need(bit == len(bits) % 8, "where a segment begins")
            self.opened_bytes -= length
            need(length <= 18 * MIB and self.opened_bytes >= 0, "too much plaintext")
            coded = Bytes(records.take(records.number()))
            need(coded.take(1) == b"\x40", "a recipe with a model, which this reader does not know")
            number = coded.number()
            rest = b"\x40" + coded.take(len(coded.data) - coded.at)
            text = plain.take(length)
            bits += self.segment(window, text, rest, number, bit)[bit:]
            window = (window + text)[-32768:]
        plain.end()
        return bytes(int(bits[at : at + 8][::-1], 2) for at in range(0, len(bits) - 7, 8))

    def segment(self, window: bytes, plain: bytes, coded: bytes, number: int, bit: int) -> str:
        """Return the bits of a segment that is rebuilt from tokens."""
        head = Bytes(coded)
        head.take(3)
        start, size = head.number(), head.number()
        old = self.take_span(number, start, size)
        need(isinstance(old, Old), "an old stream without tokens")
        assert isinstance(old, Old)
        span = reader_of("plain_deflate").old_span(*old.inflated(), start, size)
        reader = reader_of("token_decoder").Reader(window + plain, len(window), span, coded)
        made: str = reader.bits(bit)
        need(len(made) // 8 <= min(8 * len(plain) + 65536, 24 * MIB), "size of a segment")
        return made

    def zstd(self, depth: int, *, is_text: bool) -> bytes:
        """Return zstd frames, or their plaintext where that is the text of the file."""
        records = self.next_stream()
        plain = Bytes(self.stream(depth))
        if self.as_text and is_text:
            return plain.data
        out = b""
        while records.at < len(records.data):
            length, size = records.number(), records.number()
            self.opened_bytes -= length
            need(length <= 2228224 and self.opened_bytes >= 0, "too much plaintext")
            need(size <= min(4 * length + 65536, 8 * MIB), "size of a segment")
            coded = records.take(records.number())
            text = plain.take(length)
            if is_text or coded[:1] != b"\1":
                made: bytes = reader_of("zstd_decoder").segment(text, coded)
            else:
                made = self.frames(text, Bytes(coded))
            need(len(made) == size, "length of a segment")
            out += made
        plain.end()
        return out

    def frames(self, plain: bytes, coded: Bytes) -> bytes:
        """Return a segment of a zstd stream that is rebuilt from old sequences."""
        coded.take(1)
        number = coded.number()
        recipe = b"\1" + coded.take(len(coded.data) - coded.at)
        head = Bytes(recipe[1:])
        start, size = head.number(), head.number()
        old = self.take_span(number, start, size)
        need(isinstance(old, OldFrames), "an old stream without sequences")
        assert isinstance(old, OldFrames)
        made: bytes = reader_of("zstd_sequences").segment(plain, recipe, old.frames)
        return made

    def next_stream(self) -> Bytes:
        """Return the records of the next stream."""
        records = next(self.streams, None)
        need(records is not None, "a stream is missing")
        assert records is not None
        return records

    def bzip2(self, depth: int) -> bytes:
        """Return a bzip2 stream. Its bits are a text of zeros and ones."""
        records = self.next_stream()
        level = records.number()
        need(1 <= level <= 9, "level")
        plain = Bytes(self.stream(depth))
        bits = "".join(f"{byte:08b}" for byte in b"BZh%d" % level)
        checksum = 0
        while records.at < len(records.data):
            length = records.number()
            if length == 0:
                bits += BZIP2_END + f"{checksum:032b}"
                bits += "0" * (-len(bits) % 8)
                break
            self.opened_bytes -= length
            need(length <= 18 * MIB and self.opened_bytes >= 0, "too much plaintext")
            block, crc = bzip2_block(plain.take(length), level)
            bits += block
            checksum = (checksum << 1 | checksum >> 31) & 0xFFFFFFFF ^ crc
        records.end()
        plain.end()
        return bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits) - 7, 8))

    def header(self, last: bytes) -> bytes:
        """Return the next header of a tar archive."""
        coded = self.headers
        mask = coded.number()
        need(mask < 1 << 17, "mask of a header")
        out = bytearray(last)
        for field in range(15):
            start, end = FIELDS[field], FIELDS[field + 1]
            if not mask >> field & 1:
                continue
            if (field == SIZE and not mask >> 15 & 1) or (field == MTIME and not mask >> 16 & 1):
                value = coded.number()
                if field == MTIME:
                    value = (value >> 1) ^ -(value & 1)
                    digits = last[start : end - 1]
                    if all(byte in b"01234567" for byte in digits):
                        value += int(digits, 8)
                need(0 <= value < 8**11, "a number in a header")
                out[start : end - 1] = b"%011o" % value
                continue
            data = coded.take(coded.number())
            need(len(data) <= end - start, "length of a field")
            out[start:end] = data.ljust(end - start, b"\0")
        if not mask >> CHKSUM & 1:
            out[148:156] = bytes(8)
            out[148:156] = b"%06o\0 " % (sum(out) + 8 * ord(" "))
        return bytes(out)


class Old:
    """An old stream: its plaintext, and its tokens if they are asked for."""

    def __init__(self, stream: bytes, size: int) -> None:
        inflate = zlib.decompressobj(-15)
        self.stream = stream
        self.size = size
        try:
            self.plain = inflate.decompress(stream, size)
        except zlib.error:
            raise Damaged("an old stream") from None
        self.blocks: Any = None

    def inflated(self) -> tuple[bytes, Any]:
        """Return plaintext and blocks."""
        if self.blocks is None:
            self.blocks = reader_of("plain_deflate").inflate(self.stream, self.size)
        return self.plain, self.blocks[1]


class OldWhole:
    """The text of a predecessor as an old stream."""

    def __init__(self, text: bytes) -> None:
        self.plain = text


class OldFrames:
    """An old zstd stream: its plaintext and its sequences."""

    def __init__(self, stream: bytes) -> None:
        self.frames = reader_of("zstd_sequences").Frames(stream)
        self.plain: bytes = self.frames.plain


def reader_of(name: str) -> Any:
    """Return a module beside this one, which is slow to load."""
    return importlib.import_module(f"tests.conformance.{name}")


def size_of(header: bytes) -> int:
    """Return the size that a header tells."""
    if header[156:157] in (b"1", b"2", b"3", b"4", b"5", b"6"):
        return 0
    field = header[124:136]
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    return int(field.strip(b" \0") or b"0", 8)


def bzip2_block(plain: bytes, level: int) -> tuple[str, int]:
    """Return the bits of the one block that bzip2 makes of some plaintext, and its checksum."""
    bits = "".join(f"{byte:08b}" for byte in bz2.compress(plain, level))
    end = bits.rindex(BZIP2_END)
    block, checksum = bits[32:end], bits[end + 48 : end + 80]
    need(block[:48] == BZIP2_BLOCK and block[48:80] == checksum, "one block")
    return block, int(checksum, 2)
