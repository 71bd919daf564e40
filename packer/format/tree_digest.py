"""Chunks and files checked against the index one by one, and the tree's digest by them."""

from __future__ import annotations

import blake3

from packer.errors import DigestMismatch
from packer.format.index import DIGEST_BYTES, FULL_DIGEST_BYTES, Index


class Check:
    """Compares digests with those of an index; for who reads a part of a version.

    Args:
        index: of the version.
    """

    def __init__(self, index: Index) -> None:
        self._index = index

    def record(self, chunk: int, digest: bytes) -> bool:
        """Tell whether the digest of a chunk's bytes is what the index says; note it if so."""
        at = chunk * DIGEST_BYTES
        return digest[:DIGEST_BYTES] == self._index.chunk_digests[at : at + DIGEST_BYTES]

    def record_file(self, entry: int, digest: bytes) -> bool:
        """Tell whether the digest of a file that was opened is the index's; note it if so."""
        return digest[:DIGEST_BYTES] == self._index.expansions[entry].digest


class TreeCheck(Check):
    """Collects the full digests as well, so that at the end the whole tree can be checked."""

    def __init__(self, index: Index) -> None:
        super().__init__(index)
        self._digests = bytearray(FULL_DIGEST_BYTES * index.chunk_count)
        self._files: dict[int, bytes] = {}

    def record(self, chunk: int, digest: bytes) -> bool:
        """As `Check.record`."""
        sound = super().record(chunk, digest)
        if sound:
            at = chunk * FULL_DIGEST_BYTES
            self._digests[at : at + FULL_DIGEST_BYTES] = digest
        return sound

    def record_file(self, entry: int, digest: bytes) -> bool:
        """As `Check.record_file`."""
        sound = super().record_file(entry, digest)
        if sound:
            self._files[entry] = digest
        return sound

    def finish(self, expected: str) -> None:
        """Compare the whole tree, once every chunk or file has been noted.

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
        """Hash the digests of the chunks of some runs; those of runs that adjoin in one go."""
        index, width = self._index, FULL_DIGEST_BYTES
        start = end = 0
        runs = zip(index.run_starts[first:last], index.run_lengths[first:last], strict=True)
        for at, length in runs:
            if at != end:
                hasher.update(view[start * width : end * width])
                start = at
            end = at + length
        hasher.update(view[start * width : end * width])
