"""The index: one table of packed columns with everything that a version consists of.

It holds the tree (entries) and the directory of all layers, frames and chunks that the version
uses, so it is read without any other document. Offsets, ordinals and file sizes follow from the
columns by summing. They are not stored, so an index cannot contradict itself there.

This module holds the columns and what follows from them. `index_codec` reads and writes the bytes
(docs/format.md, section "Index"), `index_checks` checks what a stranger wrote, `frames` adds up
positions.
"""

from __future__ import annotations

import struct
import sys
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, chain, pairwise
from operator import sub

import blake3

from packer.files.name_column import Names
from packer.files.tree import FILE, SYMLINK
from packer.opening.expansion import Expansion
from packer.opening.predecessor import Predecessor

DIGEST_BYTES = 16
"""Bytes of a chunk's BLAKE3-256 that the index stores: enough to find and check a chunk, and half
the size of the part that does not compress. A restore of everything also checks the tree digest,
which covers all 32 bytes of each chunk's digest (docs/decisions.md, "Digests")."""
FULL_DIGEST_BYTES = 32
"""Bytes of a whole BLAKE3-256 digest."""


@dataclass
class Index:
    """The columns of one version, and what follows from them.

    A *run* is a pair (first chunk ordinal, number of chunks). A file's content is the chunks of its
    runs, one after another. Chunks are numbered through all frames of all layers in order.

    An index under construction has entries and runs only; methods that need a complete index say
    so.

    Args:
        paths: relative paths in strictly increasing byte order, every parent before its children.
        kinds: DIRECTORY, FILE or SYMLINK, one byte an entry.
        modes: permission bits of each entry, at most 0o777.
        run_counts: number of runs of each entry; 0 except for a file with content.
        targets: targets of the symbolic links, in order of their entries.
        run_starts: first chunk of each run, of all entries in order.
        run_lengths: number of chunks of each run.
        layer_frames: number of frames in each data layer, in the manifest's order.
        frame_stored: compressed bytes of each frame; frames fill their layer without a gap.
        frame_chunks: number of chunks in each frame.
        frame_depths: 0 for a frame without a prefix, else 1 + the depth of its deepest prefix.
        frame_prefix_runs: number of runs that make up each frame's prefix.
        prefix_starts: first chunk of each of those runs; all lie before the frame's own chunks.
        prefix_lengths: number of chunks of each of those runs.
        chunk_lengths: plaintext bytes of each chunk.
        chunk_digests: the first DIGEST_BYTES of the BLAKE3-256 of each chunk, joined.
        expansions: by entry, the files that are stored as content and a recipe.
        predecessors: files of older versions that recipes refer to; each is named by an expansion
            or a later predecessor.
    """

    paths: Sequence[bytes] = field(default_factory=Names)
    kinds: bytearray = field(default_factory=bytearray)
    modes: array[int] = field(default_factory=lambda: array("H"))
    run_counts: array[int] = field(default_factory=lambda: array("I"))
    targets: Sequence[bytes] = field(default_factory=Names)
    run_starts: array[int] = field(default_factory=lambda: array("I"))
    run_lengths: array[int] = field(default_factory=lambda: array("I"))
    layer_frames: array[int] = field(default_factory=lambda: array("I"))
    frame_stored: array[int] = field(default_factory=lambda: array("I"))
    frame_chunks: array[int] = field(default_factory=lambda: array("I"))
    frame_depths: bytearray = field(default_factory=bytearray)
    frame_prefix_runs: array[int] = field(default_factory=lambda: array("I"))
    prefix_starts: array[int] = field(default_factory=lambda: array("I"))
    prefix_lengths: array[int] = field(default_factory=lambda: array("I"))
    chunk_lengths: array[int] = field(default_factory=lambda: array("I"))
    chunk_digests: bytearray = field(default_factory=bytearray)
    expansions: dict[int, Expansion] = field(default_factory=dict)
    predecessors: list[Predecessor] = field(default_factory=list)

    @property
    def chunk_count(self) -> int:
        """Number of chunks in all layers, whether a file holds them or not."""
        return len(self.chunk_lengths)

    def chunk_digest(self, ordinal: int) -> bytes:
        """Return the stored part of a chunk's digest.

        Args:
            ordinal: the chunk's, below `chunk_count`.

        Returns:
            DIGEST_BYTES bytes.
        """
        at = ordinal * DIGEST_BYTES
        return bytes(self.chunk_digests[at : at + DIGEST_BYTES])

    @property
    def layer_sizes(self) -> list[int]:
        """Bytes that the frames of each data layer take."""
        ends = [0, *accumulate(self.frame_stored)]
        frames = (0, *accumulate(self.layer_frames))
        return [ends[last] - ends[first] for first, last in pairwise(frames)]

    @cached_property
    def first_run(self) -> array[int]:
        """Number of runs before each entry, and of all at the end; of a complete index."""
        return array("I", chain((0,), accumulate(self.run_counts)))

    def runs_of(self, entry: int) -> list[tuple[int, int]]:
        """Return the runs of one entry of a complete index.

        Args:
            entry: the entry's ordinal.

        Returns:
            pairs of first chunk and number of chunks; content first, then the recipe, if any.
        """
        at, end = self.first_run[entry], self.first_run[entry + 1]
        return list(zip(self.run_starts[at:end], self.run_lengths[at:end], strict=True))

    def add_runs(self, runs: Sequence[tuple[int, int]]) -> None:
        """Append the runs of the next entry to an index under construction.

        Args:
            runs: as `runs_of` returns them; empty for an entry without content.
        """
        self.run_counts.append(len(runs))
        for start, length in runs:
            self.run_starts.append(start)
            self.run_lengths.append(length)

    def entry_sizes(self) -> array[int]:
        """Return the size of each entry's content in bytes; 0 except for files."""
        ends = sums(self.chunk_lengths)
        runs = zip(self.run_starts, self.run_lengths, strict=True)
        sizes = self._by_entry(ends[start + length] - ends[start] for start, length in runs)
        for entry, row in self.expansions.items():
            sizes[entry] = row.size
        return sizes

    @cached_property
    def chunk_counts(self) -> array[int]:
        """Number of chunks of each entry, the recipe's included; of a complete index."""
        return array("I", self._by_entry(self.run_lengths))

    def forget_sums(self) -> None:
        """Free `first_run` and `chunk_counts`; they are computed again on the next use."""
        for name in ("first_run", "chunk_counts"):
            self.__dict__.pop(name, None)

    def _by_entry(self, of_runs: Iterable[int]) -> array[int]:
        """Return the sum over the runs of each entry."""
        until = sums(of_runs)
        last = array("Q", map(until.__getitem__, accumulate(self.run_counts)))
        return array("Q", map(sub, last, chain((0,), last)))

    def split_runs(self, entry: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """Return the runs of an entry's content and the runs of its recipe.

        Args:
            entry: the entry's ordinal.

        Returns:
            two lists of runs; the second is empty for a file that is stored as it is.
        """
        recipe_chunks = self.expansions[entry].recipe_chunks if entry in self.expansions else 0
        return split_runs(self.runs_of(entry), recipe_chunks)

    def find(self, path: bytes) -> int:
        """Return the ordinal of the entry at a path.

        Args:
            path: relative, as in `paths`.

        Returns:
            the ordinal, or -1 if there is no such entry.
        """
        at = bisect_right(self.paths, path) - 1
        return at if at >= 0 and self.paths[at] == path else -1

    def symlinks(self) -> dict[int, bytes]:
        """Return the target of each symbolic link, by entry ordinal."""
        links = (entry for entry, kind in enumerate(self.kinds) if kind == SYMLINK)
        return dict(zip(links, self.targets, strict=True))

    def content_key(self, runs: Iterable[tuple[int, int]]) -> bytes:
        """Return a key that is equal for equal content cut by the same chunk parameters.

        Args:
            runs: of the content.

        Returns:
            the stored digests of the runs' chunks, joined.
        """
        return b"".join(
            bytes(self.chunk_digests[start * DIGEST_BYTES : (start + length) * DIGEST_BYTES])
            for start, length in runs
        )

    @property
    def is_single_file(self) -> bool:
        """Whether the version is one file, such as an archive, and no directory."""
        return len(self.paths) == 1 and self.kinds[0] == FILE

    def tree_digest(self, contents: bytes) -> str:
        """Return a digest of the tree alone: paths, kinds, modes, targets, contents.

        Versions with equal content and chunk parameters have equal tree digests, however their
        chunks are spread over layers.

        Args:
            contents: BLAKE3-256 over the files in order: of each file the full digests of its
                chunks or, if it was opened, the full digest of the file.

        Returns:
            ``blake3:`` and 64 hexadecimal digits.
        """
        hasher = blake3.blake3(b"layer-packer tree v1\0")
        chunks = array("Q", self.chunk_counts)
        for entry in self.expansions:
            chunks[entry] = 0
        paths, targets = Names.of(self.paths).joined, Names.of(self.targets).joined
        for column in (paths, self.kinds, self.modes, targets, chunks):
            data = little_endian(column)
            hasher.update(struct.pack("<Q", data.nbytes))
            hasher.update(data)
        hasher.update(contents)
        return "blake3:" + hasher.hexdigest()


def split_runs(
    runs: Iterable[tuple[int, int]], recipe_chunks: int
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Return the runs of a file's content and the runs of its recipe.

    Args:
        runs: of both, the content first.
        recipe_chunks: number of chunks at their end that are the recipe.

    Returns:
        two lists of runs; the second is empty for a file that is stored as it is.
    """
    content, recipe, left = list(runs), list[tuple[int, int]](), recipe_chunks
    while left:
        start, length = content.pop()
        count = min(left, length)
        recipe.append((start + length - count, count))
        if count < length:
            content.append((start, length - count))
        left -= count
    return content, recipe[::-1]


def sums(numbers: Iterable[int]) -> array[int]:
    """Return the sum before each number, and the sum of all at the end.

    Args:
        numbers: any iterable; no list is made of it.

    Returns:
        one element more than there are numbers, in 8 bytes each.
    """
    return array("Q", chain((0,), accumulate(numbers)))


def little_endian(column: bytes | bytearray | array[int]) -> memoryview:
    """Return a column's bytes as they are stored: numbers with the least byte first.

    Args:
        column: bytes, or numbers of any array type.

    Returns:
        a view of the column where the machine's byte order is the same, of a copy elsewhere.
    """
    if isinstance(column, array) and sys.byteorder == "big":
        column = array(column.typecode, column)
        column.byteswap()
    return memoryview(column).cast("B") if column else memoryview(b"")
