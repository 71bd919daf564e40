"""Versions made by hand: files that are stored closed, or opened against predecessors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import blake3

from packer.engine import delta, zstd
from packer.engine.chunking import ChunkParams
from packer.engine.deflate import Segment
from packer.engine.tokens import OldSpan, Span
from packer.format.index import Index
from packer.format.index_codec import encode_index
from packer.format.version import Config
from packer.oci import Manifest
from packer.opening.expansion import Expansion
from packer.opening.predecessor import OldStream, Predecessor
from packer.opening.recipe import RecipeWriter, against

CHUNK = 5000
"""Bytes of a chunk; not a power of two, so that reads cross chunks anywhere."""


class File(NamedTuple):
    """A file of a version, or a predecessor.

    Args:
        data: its bytes.
        content: what is stored of it before the recipe; its bytes if it is closed.
        recipe: empty if it is closed.
        predecessors: positions in the list of predecessors.
        streams: of a predecessor.
    """

    data: bytes
    content: bytes
    recipe: bytes = b""
    predecessors: tuple[int, ...] = ()
    streams: tuple[OldStream, ...] = ()


def closed(data: bytes, streams: Sequence[OldStream] = ()) -> File:
    return File(data, data, streams=tuple(streams))


class _Chunks:
    """Chunks, each a frame; equal ones are stored once."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self._known: dict[bytes, int] = {}

    def add(self, data: bytes) -> tuple[list[tuple[int, int]], int]:
        """Return the runs of some bytes, and the number of their chunks."""
        pieces = [data[at : at + CHUNK] for at in range(0, len(data), CHUNK)]
        runs = []
        for piece in pieces:
            if piece not in self._known:
                self._known[piece] = len(self.parts)
                self.parts.append(piece)
            runs.append((self._known[piece], 1))
        return runs, len(pieces)


def build(files: dict[str, File], older: Sequence[File] = ()) -> tuple[Index, bytes, str]:
    """Return the index, the data layer and the tree digest of a version."""
    chunks, index = _Chunks(), Index()
    contents = blake3.blake3()
    for row in older:
        runs, _ = chunks.add(row.content)
        recipe, count = chunks.add(row.recipe)
        digest = blake3.blake3(row.data).digest()[:16] if row.recipe else b""
        index.predecessors.append(
            Predecessor(
                len(row.data), count, digest, (*runs, *recipe), row.predecessors, row.streams
            )
        )
    names = sorted(files)
    for at, name in enumerate(names):
        file = files[name]
        runs, _ = chunks.add(file.content)
        recipe, count = chunks.add(file.recipe)
        index.add_runs([*runs, *recipe])
        index.kinds.append(1)
        index.modes.append(0o644)
        digest = blake3.blake3(file.data).digest()
        if file.recipe:
            index.expansions[at] = Expansion(len(file.data), count, digest[:16], file.predecessors)
            contents.update(digest)
        else:
            for start, _ in runs:
                contents.update(blake3.blake3(chunks.parts[start]).digest())
    index.paths = [name.encode() for name in names]
    layer = bytearray()
    for part in chunks.parts:
        stored = zstd.compress(part, 3)
        layer += stored
        index.frame_stored.append(len(stored))
        index.frame_chunks.append(1)
        index.frame_depths.append(0)
        index.frame_prefix_runs.append(0)
        index.chunk_lengths.append(len(part))
        index.chunk_digests += blake3.blake3(part).digest()[:16]
    index.layer_frames.append(len(chunks.parts))
    return index, bytes(layer), index.tree_digest(contents.digest())


def write(layout: Path, tag: str, files: dict[str, File], older: Sequence[File] = ()) -> Index:
    """Write a version into a new image layout; return its index."""
    index, layer, tree = build(files, older)
    plain = encode_index(index)
    config = Config(
        chunking=ChunkParams(),
        index_digest="blake3:" + blake3.blake3(plain).hexdigest(),
        index_bytes=len(plain),
        tree=tree,
        totals={"files": len(files)},
        level=3,
        tool="by hand",
        zstd="1",
    )
    blobs = layout / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def put(data: bytes, media_type: str) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"digest": f"sha256:{digest}", "mediaType": media_type, "size": len(data)}

    data_type = "application/vnd.layer-packer.data.v1+zstd"
    index_type = "application/vnd.layer-packer.index.v1+zstd"
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "application/vnd.layer-packer.version.v1",
        "config": put(config.encode(), "application/vnd.layer-packer.config.v1+json"),
        "layers": [put(layer, data_type), put(zstd.compress(plain, 3), index_type)],
    }
    data = json.dumps(manifest).encode()
    Manifest.decode(data)
    entry = put(data, str(manifest["mediaType"]))
    entry["annotations"] = {"org.opencontainers.image.ref.name": tag}
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    return index


def delta_of(old: bytes, new: bytes) -> bytes:
    """Return the payload of a delta."""
    payload = delta.encode(bytearray(old + new), len(old), 19)
    assert payload is not None
    return payload


class Part(NamedTuple):
    """A segment of a deflate stream: its memory, its first bit and its place in the plaintext."""

    segment: Segment
    bit: int
    position: int


def segments(coded: bytes, target: int = 1 << 20) -> tuple[list[Part], int]:
    """Inflate a deflate stream; return its segments, and the number of its whole bytes."""
    out: list[Part] = []
    at = bit = 0
    window, position, is_last, carry = b"", 0, False, b""
    while not is_last:
        segment = Segment()
        found = segment.inflate(coded[at:], bit, window, position, target, carry=carry)
        assert found is not None
        out.append(Part(segment, bit, position))
        window = (window + bytes(segment.plain))[-(128 << 10) :]
        position, carry = position + found.plain_length, found.carry
        at, bit, is_last = at + (found.end_bit >> 3), found.end_bit & 7, found.last
    return out, at


class Maker:
    """Makes the recipe and content of a file by hand."""

    def __init__(self) -> None:
        self.writer = RecipeWriter()
        self.content = bytearray()

    def add(self, data: bytes) -> None:
        """Append content."""
        self.writer.content(len(data))
        self.content += data

    def patch(self, data: bytes, old: bytes, stream: int = 0, most: int = 1 << 20) -> None:
        """Append bytes as deltas against the plaintext of an old stream."""
        for at in range(0, len(data), most):
            part = data[at : at + most]
            start = min(max(at - most // 2, 0), max(len(old) - 2 * most, 0))
            span = old[start : start + 2 * most]
            self.writer.delta(len(part), [(stream, start, len(span))], delta_of(span, part))

    def begin(self, coded: bytes, old: bytes, stream: int = 0, target: int = 1 << 20) -> int:
        """Begin a deflate stream, rebuilt from the tokens of an old one.

        Its plaintext is to follow, then `writer.end()`.

        Args:
            coded: begins with the stream.
            old: begins with the old stream.
            stream: number of the old stream.
            target: plaintext of a segment.

        Returns:
            the number of its whole bytes.
        """
        number = self.writer.deflate()
        parts, size = segments(coded, target)
        older, _ = segments(old, target)
        for part in parts:
            start = max(part.position - 2 * target, 0)
            end = older[-1].position + len(older[-1].segment.plain)
            span = OldSpan(Span(start, min(5 * target, end - start)))
            for item in older:
                span.add(item.segment)
            recipe, _ = span.analyse(part.segment)
            assert recipe is not None
            plain = len(part.segment.plain)
            self.writer.segment(number, plain, part.bit, against(recipe, stream))
        return size

    def file(
        self,
        data: bytes,
        predecessors: tuple[int, ...] = (0,),
        streams: Sequence[OldStream] = (),
    ) -> File:
        """Return the file that was made."""
        recipe = b"".join(self.writer.finish())
        return File(data, bytes(self.content), recipe, predecessors, tuple(streams))


def gzip_against(data: bytes, old: bytes, plain_of: tuple[bytes, bytes], **changes: int) -> Maker:
    """Open a gzip file without a name against another one.

    Args:
        data: the file.
        old: the other one; old stream 0.
        plain_of: the plaintext of both.
        changes: `target` of segments, `most` of a delta, `stream`.
    """
    maker = Maker()
    plain, old_plain = plain_of
    stream = changes.get("stream", 0)
    maker.add(data[:10])
    size = maker.begin(data[10:], old[10:], stream, changes.get("target", 1 << 20))
    maker.patch(plain, old_plain, stream, changes.get("most", 1 << 20))
    maker.writer.end()
    maker.add(data[10 + size :])
    return maker
