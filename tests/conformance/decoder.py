"""A reader of versions, written from docs/format.md alone: small, slow, obvious.

It imports nothing from packer, and holds everything in memory. Section titles of the specification
stand above the code that follows them.

    python decoder.py LAYOUT TAG      lists a version of an OCI image layout
"""

from __future__ import annotations

import bz2
import hashlib
import importlib
import itertools
import json
import re
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import zstandard
from blake3 import blake3

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
ARTIFACT = "application/vnd.layer-packer.version.v1"
CONFIG = "application/vnd.layer-packer.config.v1+json"
DATA = "application/vnd.layer-packer.data.v1+zstd"
INDEX = "application/vnd.layer-packer.index.v1+zstd"
UPDATE = "application/vnd.layer-packer.update.v1"

DIRECTORY, FILE, SYMLINK = 0, 1, 2
MIB = 1 << 20

Run = tuple[int, int]


class Damaged(Exception):
    """The specification forbids what was found."""


class Entry(NamedTuple):
    """One entry of a version; `content` of files, `target` of symbolic links."""

    path: bytes
    kind: int
    mode: int
    content: bytes
    target: bytes


class Frame(NamedTuple):
    """A frame: where it is, what it holds, and what it is compressed against."""

    layer: int
    offset: int
    stored: int
    chunks: range
    depth: int
    prefix: list[Run]


class Expansion(NamedTuple):
    """An opened file: how many of its chunks are content, the file's size and digest."""

    content_chunks: int
    size: int
    digest: bytes
    predecessors: tuple[int, ...] = ()


class OldStream(NamedTuple):
    """A stream in a predecessor: 0 or 1 + the number of what it lies in, place, size, kind."""

    parent: int
    offset: int
    size: int
    kind: int


class Predecessor(NamedTuple):
    """A file that recipes refer to; `content_chunks` of its chunks come before its recipe."""

    content_chunks: int
    size: int
    digest: bytes
    predecessors: list[int]
    chunks: list[int]
    is_closed: bool
    streams: list[OldStream]
    links: int
    files: int


def need(sound: bool, rule: str) -> None:
    """Refuse what breaks a rule."""
    if not sound:
        raise Damaged(rule)


# Image layout


def read_blob(layout: Path, descriptor: dict[str, Any]) -> bytes:
    """Return a blob, with size and digest checked."""
    algorithm, _, value = descriptor["digest"].partition(":")
    need(algorithm == "sha256" and len(value) == 64, "digest")
    need(set(value) <= set("0123456789abcdef"), "digest")
    data: bytes = (layout / "blobs" / "sha256" / value).read_bytes()
    need(len(data) == descriptor["size"], f"size of {descriptor['digest']}")
    need(hashlib.sha256(data).hexdigest() == value, f"bytes of {descriptor['digest']}")
    return data


def find_tag(layout: Path, tag: str) -> dict[str, Any]:
    """Return the descriptor that a tag names."""
    name = "org.opencontainers.image.ref.name"
    found = [
        item
        for item in json.loads((layout / "index.json").read_bytes())["manifests"]
        if item.get("annotations", {}).get(name) == tag
    ]
    if not found:
        raise KeyError(tag)
    return dict(found[-1])


# JSON rules


def parse_json(data: bytes) -> dict[str, Any]:
    """Parse a manifest or config."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        need(len({name for name, _ in pairs}) == len(pairs), "a name occurs twice")
        return dict(pairs)

    def integer(text: str) -> int:
        need(len(text) < 20 and abs(int(text)) < 1 << 53, "a number is out of range")
        return int(text)

    def refuse(text: str) -> None:
        raise Damaged(f"{text} is not an integer")

    need(len(data) <= 4 * MIB, "a JSON document above 4 MiB")
    value = json.loads(
        data, object_pairs_hook=unique, parse_int=integer, parse_float=refuse, parse_constant=refuse
    )
    need(isinstance(value, dict), "not a JSON object")
    return dict(value)


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


# Index layers


def read_index(layout: Path, manifest: dict[str, Any], config: dict[str, Any]) -> bytes:
    """Return the plaintext of the version's index."""
    layers = [layer for layer in manifest["layers"] if layer["mediaType"] in (INDEX, UPDATE)]
    need(1 <= len(layers) <= 64, "number of index layers")
    plain = b""
    for layer in layers:
        stored = read_blob(layout, layer)
        if layer["mediaType"] == UPDATE:
            need(4 <= len(stored) <= MIB, "size of an update layer")
            end = len(stored) - 4
            length = int.from_bytes(stored[end:], "little")
            need(length <= end, "the index of an update layer")
            stored = stored[end - length : end]
        if len(plain) > 192 << 10:
            size, start = number(stored, 0)
            plain = read_delta(stored[start:], plain, size, 256 * MIB)
        else:
            plain = decompress(stored, plain, None, 256 * MIB)
    need("blake3:" + blake3(plain).hexdigest() == config["index"]["digest"], "index digest")
    return plain


# The index

ELEMENTS = {
    10: None,
    11: "B",
    12: "H",
    13: "I",
    14: None,
    20: "I",
    21: "I",
    30: None,
    42: "I",
    50: "I",
    51: "I",
    52: "B",
    53: "I",
    54: "I",
    55: "I",
    60: "I",
    61: None,
}


def sections(data: bytes) -> dict[int, bytes]:
    """Return the sections of an index."""
    need(len(data) >= 16 and data[:8] == b"LPINDEX\x01", "magic")
    count, zero = struct.unpack_from("<II", data, 8)
    need(count <= 1000 and zero == 0 and 16 + 16 * count <= len(data), "header")
    out: dict[int, bytes] = {}
    at, last = 16 + 16 * count, -1
    for row in range(count):
        number, zero, length = struct.unpack_from("<IIQ", data, 16 + 16 * row)
        need(number > last and zero == 0 and at + length <= len(data), "section directory")
        known = number in ELEMENTS or number == 70 or number >= 1000
        need(known, f"section {number} needs a later reader")
        out[number] = data[at : at + length]
        at, last = at + length, number
    need(at == len(data), "bytes behind the last section")
    need(ELEMENTS.keys() <= out.keys(), "a section is missing")
    return out


def integers(data: bytes, element: str) -> list[int]:
    """Return the elements of a section."""
    need(len(data) % struct.calcsize("<" + element) == 0, "length of a section")
    return [value for (value,) in struct.iter_unpack("<" + element, data)]


def names(data: bytes) -> list[bytes]:
    """Return the strings of a section."""
    need(not data or data[-1] == 0, "a string without NUL")
    return data.split(b"\0")[:-1]


def split(items: list[Run], counts: list[int]) -> list[list[Run]]:
    """Deal out `items`: the first counts[0] of them, then the next counts[1], and so on."""
    need(sum(counts) == len(items), "counts of runs")
    rest = iter(items)
    return [[next(rest) for _ in range(count)] for count in counts]


class Index:
    """A parsed and checked index."""

    def __init__(self, data: bytes) -> None:
        self.raw = sections(data)
        column = {
            number: integers(self.raw[number], element)
            for number, element in ELEMENTS.items()
            if element is not None
        }
        self.paths, self.targets = names(self.raw[10]), names(self.raw[14])
        self.kinds, self.modes = column[11], column[12]
        need(len(column[20]) == len(column[21]), "columns of runs")
        need(len(column[54]) == len(column[55]), "columns of prefix runs")
        runs: list[Run] = []
        expected = 0
        for delta, count in zip(column[20], column[21], strict=True):
            start = (delta + expected) % (1 << 32)
            runs.append((start, count))
            expected = start + count
        self.runs = split(runs, column[13])
        self.lengths = column[60]
        self.expansions = self.place_expansions()
        self.predecessors = self.place_predecessors() if 70 in self.raw else []
        need(len(self.raw[61]) == 16 * len(self.lengths), "chunk digests")
        self.check_entries()
        self.frames = self.place_frames(column)
        self.check_frames()

    def check_entries(self) -> None:
        """Check rules 1 to 3."""
        count = len(self.paths)
        need(len(self.kinds) == len(self.modes) == len(self.runs) == count, "entry columns")
        need(self.kinds.count(SYMLINK) == len(self.targets), "number of targets")
        need(all(0 < len(target) <= 4095 for target in self.targets), "length of a target")
        directories: set[bytes] = set()
        last = b""
        for path, kind, mode, runs in zip(
            self.paths, self.kinds, self.modes, self.runs, strict=True
        ):
            need(kind in (DIRECTORY, FILE, SYMLINK) and mode <= 0o777, "kind or mode")
            need(kind == FILE or not runs, "content of what is not a file")
            parts = path.split(b"/")
            need(all(part not in (b"", b".", b"..") for part in parts), f"path {path!r}")
            need(all(len(part) <= 255 for part in parts) and len(path) <= 4095, "long path")
            need(path > last, "order of paths")
            need(len(parts) == 1 or b"/".join(parts[:-1]) in directories, "parent of a path")
            if kind == DIRECTORY:
                directories.add(path)
            last = path
            for start, length in runs:
                need(length > 0 and start + length <= len(self.lengths), "a run")

    def place_expansions(self) -> dict[int, Expansion]:
        """Check rule 7, but for the length of content and recipe."""
        need(len(self.raw[30]) % 32 == 0, "length of section 30")
        out, entry = {}, -1
        for gap, recipe_chunks, size, digest in struct.iter_unpack("<IIQ16s", self.raw[30]):
            entry += gap + 1
            need(entry < len(self.runs), "expansion of no entry")
            chunks = sum(length for _, length in self.runs[entry])
            need(0 < recipe_chunks <= chunks and 0 < size <= 1 << 44, "an expansion")
            out[entry] = Expansion(chunks - recipe_chunks, size, digest)
        return out

    def place_predecessors(self) -> list[Predecessor]:
        """Check rules 9 to 12, but for the length of content and recipe."""
        coded = Bytes(self.raw[70])
        count = coded.number()
        need(0 < count <= 65536, "number of predecessors")
        out: list[Predecessor] = []
        named: set[int] = set()
        expected = runs = streams = 0

        def refer(count: int, others: Iterator[int]) -> list[int]:
            need(count <= 256, "number of predecessors of a file")
            found = [next(others) for _ in range(count)]
            need(all(0 <= other < len(out) for other in found), "a later predecessor")
            need(len(set(found)) == count, "a predecessor twice")
            need(sum(out[other].files for other in found) <= 256, "predecessors of a file")
            named.update(found)
            return found

        for own in range(count):
            size, recipe_chunks, digest = coded.number(), coded.number(), coded.take(16)
            need(0 < size <= 1 << 44, "size of a predecessor")
            number = coded.number()
            runs += number
            need(number > 0 and runs <= 524288, "runs of predecessors")
            chunks: list[int] = []
            for _ in range(number):
                value = coded.number()
                start = expected + ((value >> 1) ^ -(value & 1))
                length = coded.number()
                expected = start + length
                need(start >= 0 and length > 0 and expected <= len(self.lengths), "a run")
                chunks += range(start, expected)
            need(recipe_chunks <= len(chunks), "recipe of a predecessor")
            if not recipe_chunks:
                need(sum(self.lengths[at] for at in chunks) == size, "size of a predecessor")
            others = (own - 1 - coded.number() for _ in itertools.count())
            older = refer(coded.number(), others)
            need(not older or recipe_chunks > 0, "a closed file with predecessors")
            links = 1 + max((out[other].links for other in older), default=0)
            need(links <= 8, "a chain")
            number = coded.number()
            streams += number
            need(streams <= 262144, "number of old streams")
            out.append(
                Predecessor(
                    len(chunks) - recipe_chunks,
                    size,
                    digest,
                    older,
                    chunks,
                    not recipe_chunks,
                    read_old_streams(coded, number, size),
                    links,
                    1 + sum(out[other].files for other in older),
                )
            )
        entry = -1
        while coded.at < len(coded.data):
            entry += coded.number() + 1
            need(entry in self.expansions, "predecessors of what is not opened")
            older = refer(coded.number(), (coded.number() for _ in itertools.count()))
            need(bool(older), "no predecessors")
            self.expansions[entry] = self.expansions[entry]._replace(predecessors=tuple(older))
        need(len(named) == count, "a predecessor that nothing refers to")
        return out

    def place_frames(self, column: dict[int, list[int]]) -> list[Frame]:
        """Check rules 4 and 5, and derive where everything is."""
        count = len(column[50])
        need(sum(column[42]) == count, "frames of layers")
        need(len(column[51]) == len(column[52]) == len(column[53]) == count, "frame columns")
        need(sum(column[51]) == len(self.lengths), "chunks of frames")
        need(0 not in column[42] and 0 not in column[51] and 0 not in self.lengths, "emptiness")
        prefixes = split(list(zip(column[54], column[55], strict=True)), column[53])
        frames: list[Frame] = []
        chunk = 0
        self.layer_sizes: list[int] = []
        for layer, frame_count in enumerate(column[42]):
            offset = 0
            for _ in range(frame_count):
                at = len(frames)
                stored, chunks = column[50][at], range(chunk, chunk + column[51][at])
                frames.append(Frame(layer, offset, stored, chunks, column[52][at], prefixes[at]))
                offset += stored
                chunk = chunks.stop
            self.layer_sizes.append(offset)
        return frames

    def check_frames(self) -> None:
        """Check rules 6 and 8."""
        self.frame_of = {chunk: frame for frame in self.frames for chunk in frame.chunks}
        need(max(self.lengths, default=0) <= 8 * MIB, "size of a chunk")
        for frame in self.frames:
            need(sum(self.lengths[chunk] for chunk in frame.chunks) <= 8 * MIB, "size of a frame")
            total, depth = 0, 0
            for start, length in frame.prefix:
                need(length > 0 and start + length <= frame.chunks.start, "a prefix run")
                for chunk in range(start, start + length):
                    total += self.lengths[chunk]
                    depth = max(depth, 1 + self.frame_of[chunk].depth)
            need(total <= 16 * MIB, "size of a prefix")
            need(frame.depth == depth <= 16, "depth of a frame")


def read_old_streams(coded: Bytes, count: int, size: int) -> list[OldStream]:
    """Read the old streams of a predecessor, and check rule 11."""
    out: list[OldStream] = []
    sizes, depths = [size], [0]
    last: dict[int, int] = {}
    for _ in range(count):
        head, gap, plain = coded.number(), coded.number(), coded.number()
        parent, kind = head >> 1, head & 1
        need(not kind or parent == 0, "zstd frames within an old stream")
        need(parent <= len(out), "an old stream within a later one")
        need(parent not in last or gap > 0, "order of old streams")
        offset = last.get(parent, 0) + gap
        need(offset < sizes[parent] and plain > 0, "an old stream")
        need(depths[parent] < 4, "old streams within one another")
        last[parent] = offset
        sizes.append(plain)
        depths.append(depths[parent] + 1)
        out.append(OldStream(parent, offset, plain, kind))
    need(sum(stream.size for stream in out) <= 32 * size + 256 * MIB, "plaintext of old streams")
    return out


# Reading content


class Contents:
    """Reads chunks."""

    def __init__(self, index: Index, layers: list[bytes]) -> None:
        self.index = index
        self.layers = layers
        self.plain_of: dict[int, bytes] = {}

    def chunk(self, ordinal: int) -> bytes:
        """Return a chunk, checked."""
        if ordinal not in self.plain_of:
            self.read_frame(self.index.frame_of[ordinal])
        return self.plain_of[ordinal]

    def run(self, run: Run) -> bytes:
        """Return the bytes of a run."""
        return b"".join(self.chunk(ordinal) for ordinal in range(run[0], run[0] + run[1]))

    def read_frame(self, frame: Frame) -> None:
        """Decompress a frame, take it apart and check its chunks."""
        prefix = b"".join(self.run(run) for run in frame.prefix)
        stored = self.layers[frame.layer][frame.offset : frame.offset + frame.stored]
        size = sum(self.index.lengths[chunk] for chunk in frame.chunks)
        plain = (
            read_delta(stored, prefix, size) if prefix else decompress(stored, b"", size, 8 * MIB)
        )
        at = 0
        for chunk in frame.chunks:
            part = plain[at : at + self.index.lengths[chunk]]
            expected = self.index.raw[61][16 * chunk : 16 * chunk + 16]
            need(blake3(part).digest()[:16] == expected, f"bytes of chunk {chunk}")
            self.plain_of[chunk] = part
            at += len(part)


# Recipes

BLOCK = 512
BZIP2_BLOCK, BZIP2_END = f"{0x314159265359:048b}", f"{0x177245385090:048b}"
FIELDS = (0, 100, 108, 116, 124, 136, 148, 156, 157, 257, 265, 297, 329, 337, 345, 512)
SIZE, MTIME, CHKSUM = 4, 5, 6


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


class Recipe:
    """Makes a file of its content."""

    def __init__(
        self,
        recipe: bytes,
        content: bytes,
        size: int,
        older: list[Old | OldFrames] | None = None,
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
        while True:
            (operation,) = self.operations.take(1)
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
            elif operation in (9, 10):
                allowed = self.has_zstd or operation == 10
                need(not within and allowed, "a zstd stream where none may be")
                out += self.zstd(depth + (operation == 10), is_text=operation == 9)
            else:
                need(operation in (3, 7), f"operation {operation} needs a later reader")
                need(depth < 4, "streams within one another")
                out += self.bzip2(depth + 1) if operation == 7 else self.deflate(depth + 1)

    def take_span(self, stream: int, start: int, size: int) -> Old | OldFrames:
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
        count = records.number()
        need(count <= 64, "number of times")
        times = [(records.number(), records.number()) for _ in range(count)]
        need(all(new < 1 << 33 for _, new in times), "a time")
        stored = records.take(len(records.data) - records.at)
        prefix = b""
        for stream, start, length in spans:
            old = self.take_span(stream, start, length)
            span = bytearray(old.plain[start : start + length])
            replace_times(span, start, dict(reversed(times)))
            prefix += span
        return read_delta(stored, prefix, size, 16 * MIB)

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
        span = tokens().old_span(*old.inflated(), start, size)
        reader = tokens().Reader(window + plain, len(window), span, coded)
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
            self.blocks = tokens().inflate(self.stream, self.size)
        return self.plain, self.blocks[1]


class OldFrames:
    """An old zstd stream: its plaintext and its sequences."""

    def __init__(self, stream: bytes) -> None:
        self.frames = reader_of("zstd_sequences").Frames(stream)
        self.plain: bytes = self.frames.plain


def tokens() -> Any:
    """Return the reader of recipes from tokens."""
    return reader_of("token_decoder")


def reader_of(name: str) -> Any:
    """Return a module beside this one, which is slow to load."""
    return importlib.import_module(f"{__package__}.{name}" if __package__ else name)


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


def file_of(index: Index, contents: Contents, entry: int) -> bytes:
    """Return the content of a file; the digest of an opened one is checked."""
    chunks = [at for start, length in index.runs[entry] for at in range(start, start + length)]
    if entry not in index.expansions:
        return b"".join(contents.chunk(at) for at in chunks)
    return opened(index, contents, index.expansions[entry], chunks)


def opened(
    index: Index, contents: Contents, row: Expansion | Predecessor, chunks: list[int]
) -> bytes:
    """Return an opened file, or the text of an opened predecessor."""
    content = b"".join(contents.chunk(at) for at in chunks[: row.content_chunks])
    recipe = b"".join(contents.chunk(at) for at in chunks[row.content_chunks :])
    need(len(content) <= 32 * row.size + 256 * MIB, "size of the content")
    older: list[Old | OldFrames] = []
    for ordinal in row.predecessors:
        older += old_streams(index, contents, index.predecessors[ordinal])
    recipe_of = Recipe(
        recipe,
        content,
        row.size,
        older if row.predecessors else None,
        as_text=isinstance(row, Predecessor),
    )
    data = recipe_of.file()
    need(len(data) == row.size and blake3(data).digest()[:16] == row.digest, "an opened file")
    return data


def old_streams(index: Index, contents: Contents, row: Predecessor) -> list[Old | OldFrames]:
    """Return the old streams of a predecessor."""
    if row.is_closed:
        data = b"".join(contents.chunk(at) for at in row.chunks)
    else:
        data = opened(index, contents, row, row.chunks)
    out: list[Old | OldFrames] = []
    plains = [data]
    for stream in row.streams:
        begun = plains[stream.parent][stream.offset :]
        out.append(OldFrames(begun) if stream.kind else Old(begun, stream.size))
        plains.append(out[-1].plain)
        need(len(plains[-1]) == stream.size, "size of an old stream")
    return out


# Tree digest


def tree_digest(index: Index, contents: Contents) -> str:
    """Return the tree digest."""
    counts = [
        0 if entry in index.expansions else sum(length for _, length in runs)
        for entry, runs in enumerate(index.runs)
    ]
    hasher = blake3(b"layer-packer tree v1\0")
    for data in (
        *(index.raw[number] for number in (10, 11, 12, 14)),
        struct.pack(f"<{len(counts)}Q", *counts),
    ):
        hasher.update(struct.pack("<Q", len(data)) + data)
    chunks = blake3()
    for entry, runs in enumerate(index.runs):
        if entry in index.expansions:
            chunks.update(blake3(file_of(index, contents, entry)).digest())
            continue
        for start, length in runs:
            for ordinal in range(start, start + length):
                chunks.update(blake3(contents.chunk(ordinal)).digest())
    hasher.update(chunks.digest())
    return "blake3:" + hasher.hexdigest()


# What a version consists of


def decode(layout: Path, tag: str) -> Iterator[Entry]:
    """Yield the entries of a version, after all of it has been checked."""
    manifest = parse_json(read_blob(layout, find_tag(layout, tag)))
    need(manifest["schemaVersion"] == 2 and manifest["mediaType"] == MANIFEST, "manifest")
    need(manifest["artifactType"] == ARTIFACT and "manifests" not in manifest, "manifest")
    need(manifest["config"]["mediaType"] == CONFIG, "type of the config")
    need(len(manifest["layers"]) <= 4096, "number of layers")
    need(
        all(layer["mediaType"] in (DATA, INDEX, UPDATE) for layer in manifest["layers"]),
        "layer type",
    )
    config = parse_json(read_blob(layout, manifest["config"]))
    need(config["format"] == 1 and config["chunking"]["rule"] == 1, "format version")

    index = Index(read_index(layout, manifest, config))
    data_layers = [layer for layer in manifest["layers"] if layer["mediaType"] != INDEX]
    need(len(data_layers) == len(index.layer_sizes), "number of data layers")
    for layer, size in zip(data_layers, index.layer_sizes, strict=True):
        need(size <= layer["size"], "frames behind the end of a layer")
    contents = Contents(index, [read_blob(layout, layer) for layer in data_layers])
    need(tree_digest(index, contents) == config["tree"], "tree digest")

    targets = iter(index.targets)
    for entry, (path, kind, mode) in enumerate(
        zip(index.paths, index.kinds, index.modes, strict=True)
    ):
        content = file_of(index, contents, entry)
        target = next(targets) if kind == SYMLINK else b""
        yield Entry(path, kind, mode, content, target)


def main() -> None:
    """List a version."""
    layout, tag = Path(sys.argv[1]), sys.argv[2]
    for entry in decode(layout, tag):
        kind = ("directory", "file", "symlink")[entry.kind]
        print(f"{entry.mode:04o} {kind:9} {len(entry.content):10} {entry.path!r} {entry.target!r}")


if __name__ == "__main__":
    main()
