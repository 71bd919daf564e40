"""A tree's digest, checked while its chunks are verified one by one."""

from __future__ import annotations

import blake3

from packer.errors import DigestMismatch
from packer.index import DIGEST_BYTES, FULL_DIGEST_BYTES, Index


class TreeCheck:
    """Collects the full digests of a version's chunks while they are verified one by one.

    Args:
        index: of the version.
    """

    def __init__(self, index: Index) -> None:
        self._index = index
        self._digests = bytearray(FULL_DIGEST_BYTES * index.chunk_count)
        self._files: dict[int, bytes] = {}

    def record(self, chunk: int, digest: bytes) -> bool:
        """Tell whether the digest of a chunk's bytes is what the index says; note it if so."""
        at = chunk * DIGEST_BYTES
        if digest[:DIGEST_BYTES] != self._index.chunk_digests[at : at + DIGEST_BYTES]:
            return False
        at = chunk * FULL_DIGEST_BYTES
        self._digests[at : at + FULL_DIGEST_BYTES] = digest
        return True

    def record_file(self, entry: int, digest: bytes) -> bool:
        """Tell whether the digest of a file that was opened is the index's; note it if so."""
        if digest[:DIGEST_BYTES] != self._index.expansions[entry].digest:
            return False
        self._files[entry] = digest
        return True

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
