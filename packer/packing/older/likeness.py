"""How alike two trees are, by their paths and sizes; no file is read.

A tree is summed up by a sample: of the hashes of all its paths the smallest ones. Two samples hold
the same paths where both trees have them, so the share of common paths among the sampled ones
estimates the share among all. Trees of up to `SAMPLE_PATHS` paths are compared exactly.

Source: Broder, "On the resemblance and containment of documents", SEQUENCES 1997 (the smallest
hashes as a sample; resemblance).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from xxhash import xxh3_64_intdigest

from packer.files.tree import DIRECTORY, Tree
from packer.format.index import Index

SAMPLE_PATHS = 4096
"""Paths in a sample, at most: 0.4 MB, and the estimate is off by about 0.008."""
ALIKE = 1 / 3
"""Least share of common paths of trees that look alike: two trees of equal size have half of their
paths in common then."""

_DIGITS = re.compile(rb"\d+")
_ALL = 1 << 64
"""Bound on the hashes of a sample that holds every path."""


class Likeness(NamedTuple):
    """How alike two trees are.

    Args:
        paths: the share of paths that both have among the paths that either has, 0 to 1. Numbers in
            paths count as equal: ``app-1.4.1.tgz`` and ``app-1.4.2.tgz`` are one path.
        same_bytes: the same share of files with equal path and size, weighed by size: what an
            update may leave as it is.
    """

    paths: float
    same_bytes: float


class _Sample(NamedTuple):
    """Weights by hash, of the smallest hashes.

    Args:
        weights: the weight of each hash below `bound`.
        bound: every hash of the tree below it is in the sample.
    """

    weights: dict[int, int]
    bound: int

    @classmethod
    def of(cls, items: Iterable[tuple[bytes, int]]) -> _Sample:
        """Take a sample of keys with weights; the weights of equal keys are added."""
        weights: dict[int, int] = {}
        bound = _ALL
        for key, weight in items:
            digest = xxh3_64_intdigest(key)
            if digest >= bound:
                continue
            weights[digest] = weights.get(digest, 0) + weight
            if len(weights) > 2 * SAMPLE_PATHS:
                bound = sorted(weights)[SAMPLE_PATHS]
                weights = {each: found for each, found in weights.items() if each < bound}
        return cls(weights, bound)

    def resemblance(self, other: _Sample) -> float:
        """Return the weight that both have, as a share of the weight that either has."""
        bound = min(self.bound, other.bound)
        both = either = 0
        for key in self.weights.keys() | other.weights.keys():
            if key < bound:
                one, two = self.weights.get(key, 0), other.weights.get(key, 0)
                both += min(one, two)
                either += max(one, two)
        return both / either if either else 0.0


class Looks:
    """What a tree looks like: its paths and the sizes of its files.

    Args:
        tree: the entries of a directory, or the index of a version.
    """

    def __init__(self, tree: Tree | Index) -> None:
        sizes = tree.sizes(0, len(tree)) if isinstance(tree, Tree) else tree.entry_sizes()
        # Directories are left out: their files stand for them.
        self._shapes = _Sample.of(
            (_DIGITS.sub(b"0", path), 1)
            for path, kind in zip(tree.paths, tree.kinds, strict=True)
            if kind != DIRECTORY
        )
        self._files = _Sample.of(
            (b"%s\0%d" % (path, size), size)
            for path, size in zip(tree.paths, sizes, strict=True)
            if size
        )
        self.entries = len(tree.kinds) - tree.kinds.count(DIRECTORY)
        """Number of files and links."""

    def may_resemble(self, entries: int) -> bool:
        """Return whether a tree of some number of files and links can look alike at all."""
        few, many = sorted((self.entries, entries))
        return few >= ALIKE * many

    def compare(self, other: Looks) -> Likeness:
        """Return how alike another tree is."""
        return Likeness(
            self._shapes.resemblance(other._shapes), self._files.resemblance(other._files)
        )
