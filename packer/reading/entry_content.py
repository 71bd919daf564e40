"""A file of a version as bytes: its chunks, or what its recipe makes of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from typing import BinaryIO

import blake3

from packer.errors import DigestMismatch
from packer.files.temporary import Gathered
from packer.files.tree import show
from packer.format.frame_reader import FrameReader
from packer.format.frames import Frames
from packer.format.index import DIGEST_BYTES
from packer.format.tree_digest import Check
from packer.opening.rebuilder import Rebuilder
from packer.opening.recipe import SPILL_BYTES


def frames_of(reader: FrameReader, entry: int) -> Iterator[int]:
    """Yield the frames that `read_entry` decodes, as often as it does."""
    for runs in reader.index.split_runs(entry):  # the content, then the recipe
        for start, length in runs:
            for frame, _, _ in reader.frames.parts(start, length):
                yield frame


def read_entry(
    reader: FrameReader, entry: int, executor: Executor | None = None
) -> Iterator[bytes | memoryview]:
    """Yield the bytes of a file in pieces, each valid until the next is asked for.

    Args:
        reader: of the version.
        entry: ordinal of the file.
        executor: helps with large archives.

    Raises:
        FormatError: a frame or the recipe is damaged.
        DigestMismatch: a chunk, or the file, is not what the index says.
    """
    index = reader.index
    expansion = index.expansions.get(entry)
    if expansion is None:
        yield from _chunks(reader, index.runs_of(entry))
        return
    content, recipe = index.split_runs(entry)
    what = show(index.paths[entry])
    ends = reader.frames.end
    size = sum(ends[start + length] - ends[start] for start, length in recipe)
    gathered = Gathered(_chunks(reader, recipe), size, SPILL_BYTES, reader.directory)
    hasher = blake3.blake3()
    rebuilder = Rebuilder(gathered, _chunks(reader, content), expansion.size, what, executor)
    for piece in rebuilder.pieces():
        hasher.update(piece)
        yield piece
    digest = hasher.digest()
    if not reader.check.record_file(entry, digest):
        raise DigestMismatch(
            what, "blake3:" + expansion.digest.hex(), "blake3:" + digest[:DIGEST_BYTES].hex()
        )


def matches(file: BinaryIO, frames: Frames, entry: int, check: Check) -> bool:
    """Tell whether a file holds the content of an entry of the same size; read from its start.

    Args:
        file: open for reading.
        frames: of the version.
        entry: ordinal of the entry.
        check: notes what has been verified.
    """
    index = frames.index
    file.seek(0)
    if entry in index.expansions:
        hasher = blake3.blake3()
        while data := file.read(1 << 20):
            hasher.update(data)
        return check.record_file(entry, hasher.digest())
    for start, length in index.runs_of(entry):
        for chunk in range(start, start + length):
            data = file.read(frames.end[chunk + 1] - frames.end[chunk])
            if not check.record(chunk, blake3.blake3(data).digest()):
                return False
    return True


def _chunks(reader: FrameReader, runs: Iterable[tuple[int, int]]) -> Iterator[memoryview]:
    for start, length in runs:
        for _, first, count in reader.frames.parts(start, length):
            yield from reader.chunks(first, count)
