"""A reader of versions, written from docs/format.md alone: small, slow, obvious.

It imports nothing from packer, and holds everything in memory. Section titles of the specification
stand above the code that follows them. `frame_decoder` has frames, `recipe_decoder` recipes.

    python -m tests.conformance.decoder LAYOUT TAG      lists a version of an OCI image layout
"""

from __future__ import annotations

import hashlib
import itertools
import json
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from blake3 import blake3

from tests.conformance.frame_decoder import (
    MIB,
    Bytes,
    Damaged,
    decompress,
    need,
    number,
    read_delta,
)
from tests.conformance.recipe_decoder import Old, OldFrames, OldWhole, Recipe

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
ARTIFACT = "application/vnd.layer-packer.version.v1"
CONFIG = "application/vnd.layer-packer.config.v1+json"
DATA = "application/vnd.layer-packer.data.v1+zstd"
INDEX = "application/vnd.layer-packer.index.v1+zstd"
UPDATE = "application/vnd.layer-packer.update.v1"

DIRECTORY, FILE, SYMLINK = 0, 1, 2

Run = tuple[int, int]


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
            size, recipe_chunks = coded.number(), coded.number()
            digest = coded.take(16) if recipe_chunks else b""
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
        parent, kind = head >> 2, head & 3
        need(kind < 3 and (not kind or parent == 0), "an old stream of another kind within one")
        need(not parent or parent > len(out) or out[parent - 1].kind < 2, "a stream in a text")
        need(kind < 2 or (not out and gap == 0 and plain == size), "the text as an old stream")
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
    older: list[Old | OldFrames | OldWhole] = []
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
    need(len(data) == row.size, "size of an opened file")
    if isinstance(row, Expansion) or row.digest != bytes(16):
        need(blake3(data).digest()[:16] == row.digest, "an opened file")
    return data


def old_streams(
    index: Index, contents: Contents, row: Predecessor
) -> list[Old | OldFrames | OldWhole]:
    """Return the old streams of a predecessor."""
    if row.is_closed:
        data = b"".join(contents.chunk(at) for at in row.chunks)
    else:
        data = opened(index, contents, row, row.chunks)
    out: list[Old | OldFrames | OldWhole] = []
    plains = [data]
    for stream in row.streams:
        begun = plains[stream.parent][stream.offset :]
        if stream.kind == 2:
            out.append(OldWhole(data))
        else:
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
        *(index.raw[section] for section in (10, 11, 12, 14)),
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
