"""A file of a version as bytes: its chunks, or what its recipe makes of them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor

import blake3

from packer.errors import DigestMismatch
from packer.index import DIGEST_BYTES
from packer.layer import FrameReader, Runs
from packer.rebuild import Rebuilder
from packer.tree import show


def frames_of(reader: FrameReader, entry: int) -> Iterator[int]:
    """Yield the frames that `read_entry` decodes, as often as it does."""
    for start, length in reader.index.runs_of(entry):
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
    data = b"".join(_chunks(reader, recipe))
    hasher = blake3.blake3()
    rebuilder = Rebuilder(data, _chunks(reader, content), expansion.size, what, executor)
    for piece in rebuilder.pieces():
        hasher.update(piece)
        yield piece
    digest = hasher.digest()
    if not reader.check.record_file(entry, digest):
        raise DigestMismatch(
            what, "blake3:" + expansion.digest.hex(), "blake3:" + digest[:DIGEST_BYTES].hex()
        )


def _chunks(reader: FrameReader, runs: Runs) -> Iterator[memoryview]:
    for start, length in runs:
        for _, first, count in reader.frames.parts(start, length):
            yield from reader.chunks(first, count)
