"""A record of the entries met so far: their runs, the digest of their contents, and stat facts."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import blake3

from packer.files.tree import Tree
from packer.format.index import Index
from packer.format.tree_digest import ShortDigests
from packer.opening.expansion import Expansion
from packer.packing.stat_cache import Facts, Remembered

Digests = bytes | bytearray | memoryview


class TreeRecord:
    """Collects, entry after entry, what the index and the caches need of a tree's files.

    Args:
        found: the tree as it was walked.
        remembered: what the stat cache knows of it.
    """

    def __init__(self, found: Tree, remembered: Remembered | None) -> None:
        self.index = Index(
            paths=found.paths,
            kinds=bytearray(found.kinds),
            modes=array("H", found.modes),
            targets=found.links,
        )
        """Entries and runs, in ordinals of all base chunks, then the new ones. The columns of
        layers, frames and chunks are still empty."""
        self.facts = Facts(len(found), remembered)
        """What the stat cache will know of the files."""
        self._contents = blake3.blake3()
        self._short = ShortDigests()

    def add_runs(self, runs: Sequence[tuple[int, int]]) -> None:
        """Append the runs of the next entry.

        Args:
            runs: its chunks; empty if it has no content.
        """
        self.index.add_runs(runs)

    def record(self, at: int, digests: Digests) -> None:
        """Record the content of a file that is stored as it is.

        Args:
            at: the file's entry; files are recorded in this order.
            digests: full digests of its chunks, joined.
        """
        self._contents.update(digests)
        self._short.update(digests)
        self.facts.note(at, digests)

    def record_stretch(self, at: int, counts: array[int], digests: memoryview, start: int) -> None:
        """Record files that follow one another, as the stat cache remembers them.

        Args:
            at: entry of the first one.
            counts: number of digests of each entry.
            digests: full digests of their chunks, joined.
            start: offset of `digests` in the remembered ones, in bytes.
        """
        self._contents.update(digests)
        self._short.update(digests)
        self.facts.take(at, counts, start, start + len(digests))

    def record_opened(
        self, at: int, expansion: Expansion, digest: Digests, digests: Digests | None
    ) -> None:
        """Record the content of a file that was opened.

        Args:
            at: the file's entry.
            expansion: its row for the index.
            digest: the file's own full digest.
            digests: full digests of its chunks, joined; None if they are not known, so that the
                stat cache learns only that the file was opened.
        """
        self.index.expansions[at] = expansion
        self._contents.update(digest)
        self._short.update(digest)
        self.facts.recipes[at] = expansion.recipe_chunks
        if digests is not None:
            self.facts.note(at, b"".join((digest, digests)))

    def tree_digest(self) -> str:
        """Return the tree digest, once all entries are recorded."""
        digest = self.index.tree_digest(self._contents.digest())
        self.index.forget_sums()
        return digest

    def is_held_by(self, index: Index) -> bool:
        """Return whether another version's index describes this tree."""
        same = self._short.tree_digest(self.index) == ShortDigests.of(index)
        self.index.forget_sums()
        return same
