"""Archives of the base that a new one is like, whatever their names.

Blobs of image layouts are named by their digest, so no name says which one was replaced. What the
first archives in them hold does: samples of the first MiB of plaintext are compared.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

from xxhash import xxh3_64_intdigest

from packer.engine.chunking import ChunkParams, cut_points
from packer.files.tree import FILE
from packer.format.index import Index

if TYPE_CHECKING:
    from typing_extensions import Buffer

HEAD_BYTES = 512 << 10
"""Bytes of an archive that are read to compare it."""

_PLAIN_BYTES = 1 << 20
"""Plaintext that is compared, in bytes."""
_SAMPLES = 128
"""Pieces of it that are compared: those of the smallest hashes, so that equal texts give the same.
"""
_LEAST_COMMON = 1 / 16
"""Share of the samples that two archives have in common at least."""
_MOST_RATIO = 16
"""Greatest ratio of the sizes of two archives that are compared."""
_MOST_TRIED = 64
"""Archives of the base that are read: those nearest in size to the first new one."""
_LEAST_BYTES = 1 << 10
_PIECES = ChunkParams(1 << 10)


class Alike:
    """Finds archives of the base by what they begin with.

    Args:
        base: index of the base.
        is_gone: returns whether the new version has no file at a path of the base.
        read: returns the first bytes of an entry of the base, at most HEAD_BYTES of them.
    """

    def __init__(
        self, base: Index, is_gone: Callable[[bytes], bool], read: Callable[[int], bytes]
    ) -> None:
        self._base = base
        self._is_gone = is_gone
        self._read = read
        self._samples: dict[int, frozenset[int]] | None = None
        self._sizes: dict[int, int] = {}

    def find(self, head: bytes, size: int) -> int:
        """Return the entry of the base that an archive is most like, -1 if there is none.

        Args:
            head: the archive's first HEAD_BYTES.
            size: of the archive in bytes.
        """
        if size < _LEAST_BYTES or not _is_archive(head):
            return -1
        if self._samples is None:
            self._samples = dict(self._archives(size))
        wanted = samples(head)
        best, entry = _LEAST_COMMON, -1
        for other, found in self._samples.items():
            low, high = sorted((size, self._sizes[other]))
            if high <= _MOST_RATIO * low:
                common = len(wanted & found) / max(min(len(wanted), len(found)), 1)
                if common > best:
                    best, entry = common, other
        return entry

    def _archives(self, size: int) -> Iterator[tuple[int, frozenset[int]]]:
        """Yield the archives of the base that the new version lacks, and their samples."""
        base = self._base
        sizes = base.entry_sizes()
        gone = [
            entry
            for entry, kind in enumerate(base.kinds)
            if kind == FILE
            and sizes[entry] >= _LEAST_BYTES
            and (entry not in base.expansions or base.expansions[entry].predecessors)
            and self._is_gone(base.paths[entry])
        ]
        gone.sort(key=lambda entry: (abs(sizes[entry] - size), entry))
        for entry in sorted(gone[:_MOST_TRIED]):
            head = self._read(entry)
            if _is_archive(head):
                self._sizes[entry] = sizes[entry]
                yield entry, samples(head)


def samples(head: bytes) -> frozenset[int]:
    """Return hashes of some pieces of the plaintext that an archive begins with.

    Args:
        head: its first bytes.
    """

    def read(start: int, length: int) -> Buffer:
        return head[start : start + length]

    from packer.opening.discovery import behind_header

    start = behind_header(read, 0, len(head)) if _is_archive(head) else 0
    plain = b""
    if start:
        try:
            plain = zlib.decompressobj(-15).decompress(head[start:], _PLAIN_BYTES)
        except zlib.error:
            plain = b""
    view = memoryview(plain)
    cuts = (0, *cut_points(view, _PIECES))
    return frozenset(sorted({xxh3_64_intdigest(view[a:b]) for a, b in pairwise(cuts)})[:_SAMPLES])


def _is_archive(head: bytes) -> bool:
    """Return whether a gzip member or a zip entry begins here."""
    from packer.opening.discovery import is_archive  # loaded by the first file that is compared

    return is_archive(head)
