"""Checks of chunks and opened files against an index, and of the tree digest as a whole."""

from __future__ import annotations

import struct

import blake3

from packer.errors import DigestMismatch
from packer.format.index import DIGEST_BYTES, FULL_DIGEST_BYTES, Index

_SHORT = struct.Struct(f"{DIGEST_BYTES}s{FULL_DIGEST_BYTES - DIGEST_BYTES}x")


class ShortDigests:
    """Digest of a tree's contents by the digests as an index stores them, which are cut short.

    The tree digest needs full digests, and so the content. This one follows from an index alone:
    it tells an index that its writer damaged, although its config names the right tree.
    """

    def __init__(self) -> None:
        self._hasher = blake3.blake3()

    def update(self, digests: bytes | bytearray | memoryview) -> None:
        """Take the next full digests: of a file's chunks or, if it was opened, of the file."""
        self._hasher.update(b"".join(short for (short,) in _SHORT.iter_unpack(digests)))

    def tree_digest(self, index: Index) -> str:
        """Return the digest of the tree with the contents taken so far.

        Args:
            index: has the tree's entries.

        Returns:
            as `Index.tree_digest`, but no tree digest.
        """
        return index.tree_digest(self._hasher.digest())

    @classmethod
    def of(cls, index: Index) -> str:
        """Return the same digest of an index."""
        made = cls()
        hasher, view = made._hasher, memoryview(index.chunk_digests)
        done = 0
        for entry in sorted(index.expansions):
            _update(hasher, view, index, done, index.first_run[entry], DIGEST_BYTES)
            hasher.update(index.expansions[entry].digest)
            done = index.first_run[entry + 1]
        _update(hasher, view, index, done, len(index.run_starts), DIGEST_BYTES)
        return made.tree_digest(index)


class Check:
    """Compares digests with an index; enough for reading a part of a version.

    Args:
        index: the version's.
    """

    def __init__(self, index: Index) -> None:
        self._index = index

    def record(self, chunk: int, digest: bytes) -> bool:
        """Compare a chunk's digest with the index; record it if it is equal.

        Args:
            chunk: the chunk's ordinal.
            digest: full digest of its bytes.

        Returns:
            whether it is equal.
        """
        at = chunk * DIGEST_BYTES
        return digest[:DIGEST_BYTES] == self._index.chunk_digests[at : at + DIGEST_BYTES]

    def record_file(self, entry: int, digest: bytes) -> bool:
        """Compare the digest of an opened file with the index; record it if it is equal.

        Args:
            entry: the file's entry.
            digest: full digest of its bytes.

        Returns:
            whether it is equal.
        """
        return digest[:DIGEST_BYTES] == self._index.expansions[entry].digest


class TreeCheck(Check):
    """Records the full digests as well, so that the whole tree can be checked at the end.

    Args:
        index: the version's.
    """

    def __init__(self, index: Index) -> None:
        super().__init__(index)
        self._digests = bytearray(FULL_DIGEST_BYTES * index.chunk_count)
        self._files: dict[int, bytes] = {}

    def record(self, chunk: int, digest: bytes) -> bool:
        """Compare and record a chunk's digest, as `Check.record`."""
        sound = super().record(chunk, digest)
        if sound:
            at = chunk * FULL_DIGEST_BYTES
            self._digests[at : at + FULL_DIGEST_BYTES] = digest
        return sound

    def record_file(self, entry: int, digest: bytes) -> bool:
        """Compare and record the digest of an opened file, as `Check.record_file`."""
        sound = super().record_file(entry, digest)
        if sound:
            self._files[entry] = digest
        return sound

    def finish(self, expected: str) -> None:
        """Check the whole tree, once every chunk and opened file is recorded.

        Args:
            expected: the tree digest in the version's config.

        Raises:
            DigestMismatch: the tree is not the one that was packed.
        """
        index, view = self._index, memoryview(self._digests)
        hasher = blake3.blake3()
        done = 0
        for entry in sorted(index.expansions):
            self._update(hasher, view, done, index.first_run[entry])
            hasher.update(self._files.get(entry, b""))
            done = index.first_run[entry + 1]
        self._update(hasher, view, done, len(index.run_starts))
        actual = index.tree_digest(hasher.digest())
        if actual != expected:
            raise DigestMismatch("tree", expected, actual)

    def _update(self, hasher: blake3.blake3, view: memoryview, first: int, last: int) -> None:
        """Hash the full digests of the chunks of some runs."""
        _update(hasher, view, self._index, first, last, FULL_DIGEST_BYTES)


def _update(
    hasher: blake3.blake3, view: memoryview, index: Index, first: int, last: int, width: int
) -> None:
    """Hash the digests of the chunks of some runs, runs that adjoin in one call."""
    start = end = 0
    runs = zip(index.run_starts[first:last], index.run_lengths[first:last], strict=True)
    for at, length in runs:
        if at != end:
            hasher.update(view[start * width : end * width])
            start = at
        end = at + length
    hasher.update(view[start * width : end * width])
