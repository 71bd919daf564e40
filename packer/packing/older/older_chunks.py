"""Chunks that new frames may be compressed against: the base's, and new ones met before.

A new chunk is read again from the file it was found in. A chunk of an opened archive lies in no
file as it is, so it goes to a temporary file, the spool.
"""

from __future__ import annotations

import os
from array import array
from itertools import compress
from threading import Lock
from typing import IO

import blake3

from packer.engine.ordinals import Ordinals
from packer.errors import SourceChanged
from packer.files.temporary import read_at, temporary_file
from packer.files.tree import open_file, show
from packer.format.frame_reader import FrameReader
from packer.format.frames import Runs
from packer.format.index import DIGEST_BYTES
from packer.format.index_checks import MAX_DEPTH
from packer.packing.file_chunks import Source

FIRST_DEPTH = 2
"""Greatest depth of a first version's frames: enough for copies of copies within the version."""
SPOOL_BYTES = 1 << 30
"""Greatest spool in bytes. Chunks of opened archives beyond it are compressed, but nothing is
compressed against them."""

_SPOOLED = 0xFFFFFFFF
"""Stands for the spool where a file's entry is expected."""


class NewChunks:
    """The columns of the new chunks, in order."""

    def __init__(self) -> None:
        self.lengths = array("I")
        """Plaintext bytes of each chunk."""
        self.digests = bytearray()
        """DIGEST_BYTES of each chunk's digest, joined."""
        self.sketches = array("Q")
        """Super-features of the first MAX_SKETCHES chunks, SUPER_FEATURES each, 0 for none."""


class OlderChunks:
    """Implements `layer_writer.Older` for one scan. Reads may come from several threads.

    Args:
        source: the tree that is packed.
        base: reads the base's chunks; of an empty index if there is no base.
        dropped: base layers that must not be used.
    """

    def __init__(self, source: Source, base: FrameReader, dropped: frozenset[int]) -> None:
        self._source = source
        self._base = base
        self._dropped = dropped
        self._reading = Lock()
        self.new = NewChunks()
        self._entry = array("I")  # of each new chunk: the entry it was found in, or _SPOOLED
        self._offset = array("Q")  # of each new chunk: where it is in that file, or in the spool
        self._spool: IO[bytes] | None = None
        self._spool_bytes = 0

    def usable(self) -> Ordinals:
        """Return the base's chunks that files may refer to, by digest: all but dropped layers'."""
        index = self._base.index
        known = Ordinals(DIGEST_BYTES, index.chunk_digests)
        marks = self.referable()
        for start, length in Runs(compress(range(index.chunk_count), marks)):
            known.put_lent(start, length)
        return known

    def is_dropped(self, frame: int) -> bool:
        """Return whether a frame of the base lies in a layer that must not be used.

        Args:
            frame: its ordinal.

        Returns:
            True if its layer is given up.
        """
        return self._base.frames.layer[frame] in self._dropped

    def referable(self) -> bytearray:
        """Return one byte for each chunk of the base: 1 if the new version may refer to it."""
        return self._marked(MAX_DEPTH)

    def extendable(self) -> bytearray:
        """Return one byte for each chunk of the base: 1 if new frames may have it as prefix."""
        return self._marked(MAX_DEPTH - 1)

    def _marked(self, most_depth: int) -> bytearray:
        """Return one byte a base chunk: 1 in frames of up to a depth, outside dropped layers."""
        index, frames = self._base.index, self._base.frames
        marks = bytearray(index.chunk_count)
        for frame, (layer, depth) in enumerate(zip(frames.layer, index.frame_depths, strict=True)):
            if layer not in self._dropped and depth <= most_depth:
                first, last = frames.first_chunk[frame], frames.first_chunk[frame + 1]
                marks[first:last] = b"\1" * (last - first)
        return marks

    def add(
        self, chunk: memoryview, digest: bytes, entry: int, offset: int, *, plain: bool
    ) -> bool:
        """Add a new chunk.

        Args:
            chunk: its bytes.
            digest: the first DIGEST_BYTES of their digest.
            entry: the file it was found in.
            offset: where it begins in the file, in bytes.
            plain: the file holds it as it is.

        Returns:
            whether the chunk can be read again.
        """
        if not plain:
            entry, offset = _SPOOLED, self._spool_bytes
            if self._spool is None:
                self._spool = temporary_file(self._base.directory)
            if offset + len(chunk) <= SPOOL_BYTES:
                self._spool.write(chunk)
                self._spool_bytes += len(chunk)
            else:
                offset = SPOOL_BYTES
        self._entry.append(entry)
        self._offset.append(offset)
        self.new.lengths.append(len(chunk))
        self.new.digests += digest
        return plain or offset != SPOOL_BYTES

    @property
    def next_ordinal(self) -> int:
        """Ordinal of the next new chunk."""
        return self._base.index.chunk_count + len(self.new.lengths)

    @property
    def base_chunks(self) -> int:
        """Number of chunks in the base."""
        return self._base.index.chunk_count

    @property
    def max_depth(self) -> int:
        """Greatest depth of new frames: one more than the base's deepest.

        So a version never uses up several levels of the chain at once.
        """
        deepest = max(self._base.index.frame_depths, default=0)
        return min(max(deepest + 1, FIRST_DEPTH), MAX_DEPTH)

    def length_of(self, chunk: int) -> int:
        """Return the plaintext bytes of a chunk.

        Args:
            chunk: ordinal of a chunk of the base, or of a new one.

        Returns:
            its length.
        """
        new = chunk - self.base_chunks
        return self._base.index.chunk_lengths[chunk] if new < 0 else self.new.lengths[new]

    def depth_of(self, chunk: int) -> int:
        """Return the depth of the frame that holds a chunk of the base.

        Args:
            chunk: its ordinal.

        Returns:
            0 to MAX_DEPTH.
        """
        return self._base.index.frame_depths[self._base.frames.of_chunk(chunk)]

    def read(self, start: int, length: int) -> list[memoryview]:
        """Return the bytes of a run of chunks, each checked.

        A damaged frame of the base raises `IntegrityError`, a file that cannot be opened `OSError`.

        Args:
            start: first chunk, of the base or new.
            length: number of chunks.

        Returns:
            a view for each chunk.

        Raises:
            SourceChanged: a file does not hold the chunk any more.
        """
        base_chunks = self.base_chunks
        from_base = max(min(start + length, base_chunks) - start, 0)
        # One thread at a time, so that the frames of a chain are decoded once for all of them.
        with self._reading:
            out = self._base.chunks(start, from_base)
        for new in range(start + from_base - base_chunks, start + length - base_chunks):
            data, name = self._read_new(new)
            at = new * DIGEST_BYTES
            digest = blake3.blake3(data).digest()[:DIGEST_BYTES]
            if digest != self.new.digests[at : at + DIGEST_BYTES]:
                raise SourceChanged(show(name))
            out.append(memoryview(data))
        return out

    def _read_new(self, new: int) -> tuple[bytes, bytes]:
        """Return the bytes at a new chunk's place, and the name of the file they are from."""
        entry, offset = self._entry[new], self._offset[new]
        if entry == _SPOOLED:
            assert self._spool is not None
            return read_at(self._spool, self.new.lengths[new], offset), b"a temporary file"
        item = self._source.found[entry]
        full = self._source.path_of(item)
        fd = open_file(full, item)
        try:
            return os.pread(fd, self.new.lengths[new], offset), full
        finally:
            os.close(fd)

    def close(self) -> None:
        """Remove the spool; call it when no frame is being compressed."""
        if self._spool is not None:
            self._spool.close()
