"""Files that need not be read, or not be opened: their chunks are known from before.

The stat cache remembers the digests of files that look as they did when they were packed last; the
base knows the archives that it holds opened by their digest. Either way the chunks are looked up
like those of a file that was read, so the result of packing is the same.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import chain
from operator import add

from packer.engine.ordinals import Ordinals
from packer.format.index import DIGEST_BYTES, FULL_DIGEST_BYTES, Index, split_runs
from packer.opening.expansion import Expansion
from packer.opening.predecessor import Predecessor
from packer.packing.file_chunks import Source
from packer.packing.older.predecessors import Predecessors
from packer.packing.tree_record import TreeRecord
from packer.packing.watched_file import digest_of

STRETCH_ENTRIES = 8192
"""Greatest number of entries recalled at a time: their digests, of 32 bytes each, and ordinals are
in memory meanwhile."""


class Recall:
    """Looks up the chunks of files without reading them.

    Args:
        source: the tree that is packed.
        base: index of the base; empty if there is none.
        base_tree: tree digest of the base, "" if there is none.
        record: takes what is recalled.
        predecessors: of files that the base holds opened.
        report: called with the last entry and the number of bytes recalled.
        expand: archives are opened, so the base's opened archives count.
    """

    def __init__(
        self,
        source: Source,
        base: Index,
        base_tree: str,
        record: TreeRecord,
        predecessors: Predecessors,
        report: Callable[[int, int], None],
        *,
        expand: bool,
    ) -> None:
        self._found = source.found
        self._remembered = source.remembered
        self._source = source
        self._base = base
        self._record = record
        self._predecessors = predecessors
        self._report = report
        self._archives: dict[int, list[int]] = defaultdict(list)  # of the base, by size
        self._links: dict[int, list[Predecessor]] = defaultdict(list)  # opened ones, by size
        if expand:
            for entry, row in base.expansions.items():
                self._archives[row.size].append(entry)
            for link in base.predecessors:
                if link.is_opened_file:
                    self._links[link.size].append(link)
        remembered = source.remembered
        self._rows_are_base = remembered is not None and remembered.tree == base_tree
        """Whether the rows of what is remembered are the entries of the base."""
        self._stretch = STRETCH_ENTRIES

    def will_be_read(self, at: int) -> bool:
        """Return whether a file will be opened, as far as that is known before its turn.

        Args:
            at: its entry.

        Returns:
            False if it will probably be recalled.
        """
        if self._remembered is not None and self._remembered.find(at) is not None:
            return False
        size = self._found.size(at)
        return size not in self._archives and size not in self._links

    def stretch(self, at: int, known: Ordinals) -> int:
        """Recall many entries at once, which is much faster than `file` for each.

        Args:
            at: the first entry.
            known: chunks by digest.

        Returns:
            the number of entries recalled; 0 if the first one has to be looked at by itself.
        """
        if self._remembered is None:
            return 0
        rows = self._remembered.stretch(at, self._stretch)
        if not rows:
            return 0
        (start, end), counts = self._remembered.span(rows), self._remembered.counts(rows)
        digests = self._remembered.digests[start:end]
        ordinals = known.get_all(digests, FULL_DIGEST_BYTES)
        last = at + len(rows)
        if -1 in ordinals or lacks_digests(self._found.sizes(at, last), counts):
            # Some chunk is not known: its layer was dropped, or the base is another version. It may
            # be one file of thousands, so the next attempt takes half as many.
            self._stretch = max(len(rows) // 2, 1)
            return 0
        self._stretch = min(2 * self._stretch, STRETCH_ENTRIES)
        if not self._take_runs_of_base(rows, counts, ordinals):
            done = 0
            for count in counts:
                self._record.add_runs(as_runs(ordinals[done : done + count]))
                done += count
        self._record.record_stretch(at, counts, digests, start)
        self._remembered.release(end - start)
        self._report(last - 1, self._found.bytes_of(at, last))
        return len(rows)

    def _take_runs_of_base(self, rows: range, counts: array[int], ordinals: array[int]) -> bool:
        """Copy the runs of the base's entries, if the base has them and they are these chunks."""
        base, index = self._base, self._record.index
        if not self._rows_are_base or base.chunk_counts[rows.start : rows.stop] != counts:
            return False
        runs = slice(base.first_run[rows.start], base.first_run[rows.stop])
        starts, lengths = base.run_starts[runs], base.run_lengths[runs]
        if ordinals != ordinals_of_runs(starts, lengths):  # the base holds a chunk twice
            return False
        index.run_counts.extend(base.run_counts[rows.start : rows.stop])
        index.run_starts.extend(starts)
        index.run_lengths.extend(lengths)
        return True

    def file(self, at: int, known: Ordinals) -> list[tuple[int, int]]:
        """Recall one file.

        Args:
            at: its entry.
            known: chunks by digest.

        Returns:
            the file's runs; empty if it has to be read.
        """
        remembered = self._remembered.find(at) if self._remembered is not None else None
        if remembered is None:
            return []
        digests, recipe_chunks = remembered
        width = FULL_DIGEST_BYTES
        own, chunks = digests[:width], digests[width if recipe_chunks else 0 :]
        ordinals = known.get_all(chunks, width)
        if -1 in ordinals:  # a layer was dropped, or the base is another version
            return []
        size = self._found.size(at)
        if recipe_chunks:
            starts = range(len(chunks) - recipe_chunks * width, len(chunks), width)
            recipe = [bytes(chunks[start : start + DIGEST_BYTES]) for start in starts]
            expansion = self._opened(size, bytes(own[:DIGEST_BYTES]), recipe)
            if expansion is None:
                return []
            self._record.record_opened(at, expansion, own, chunks)
        else:
            self._record.record(at, chunks)
        self._report(at, size)
        return as_runs(ordinals)

    def archive_of_base(self, at: int, known: Ordinals) -> list[tuple[int, int]]:
        """Recall an archive that the base holds opened, by its digest.

        The base holds the archives of its files, and older ones that these are opened against.
        Reading it for the digest is a hundred times faster than opening it.

        Args:
            at: its entry.
            known: chunks by digest.

        Returns:
            the file's runs; empty if the base does not hold it.
        """
        size = self._found.size(at)
        if size not in self._archives and size not in self._links:
            return []
        item = self._found[at]
        digest = digest_of(self._source.path_of(item), item)
        for row, runs in self._held(size, digest[:DIGEST_BYTES]):
            ordinals = array("q", map(known.get, self._digests(runs)))
            if -1 in ordinals:  # a layer was dropped
                continue
            expansion = self._predecessors.keep(row)
            if expansion is not None:
                self._record.record_opened(at, expansion, digest, None)
                self._report(at, size)
                return as_runs(ordinals)
        return []

    def _held(self, size: int, digest: bytes) -> Iterator[tuple[Expansion, list[tuple[int, int]]]]:
        """Yield the rows and runs of archives that the base holds opened and that are equal."""
        base = self._base
        for entry in self._archives.get(size, ()):
            row = base.expansions[entry]
            if row.digest == digest:
                yield row, list(base.runs_of(entry))
        for link in self._links.get(size, ()):
            if link.digest == digest:
                row = Expansion(size, link.recipe_chunks, digest, link.predecessors)
                yield row, list(link.runs)

    def _digests(self, runs: list[tuple[int, int]]) -> Iterator[bytes]:
        """Yield the digests of the base's chunks in some runs."""
        for start, length in runs:
            yield from map(self._base.chunk_digest, range(start, start + length))

    def _opened(self, size: int, digest: bytes, recipe: list[bytes]) -> Expansion | None:
        """Return the row of an opened file whose chunks are all known; None if it is not known.

        Its recipe may refer to predecessors, which only the base can tell.

        Args:
            size: of the file in bytes.
            digest: of the file, as the index has it.
            recipe: digests of the chunks of its recipe, likewise.
        """
        for row, runs in self._held(size, digest):
            if row.recipe_chunks == len(recipe):
                tail = split_runs(runs, row.recipe_chunks)[1]
                if list(self._digests(tail)) == recipe:
                    return self._predecessors.keep(row)
        return None


def lacks_digests(sizes: array[int], counts: array[int]) -> bool:
    """Return whether some file has content but no remembered digest.

    Args:
        sizes: bytes of each file.
        counts: number of digests of each file.

    Returns:
        True if there is such a file.
    """
    return any(size > 0 and not count for size, count in zip(sizes, counts, strict=True))


def ordinals_of_runs(starts: array[int], lengths: array[int]) -> array[int]:
    """Return the ordinals of the chunks in some runs, one after another.

    Args:
        starts: first chunk of each run.
        lengths: number of chunks of each run.

    Returns:
        the ordinals, of array type "q".
    """
    return array("q", chain.from_iterable(map(range, starts, map(add, starts, lengths))))


def as_runs(ordinals: array[int]) -> list[tuple[int, int]]:
    """Return chunks as runs.

    Args:
        ordinals: of the chunks, in the order of the content.

    Returns:
        pairs of first chunk and number of chunks; empty for no chunks.
    """
    runs = []
    start = end = ordinals[0] if ordinals else 0
    for ordinal in ordinals:
        if ordinal != end:
            runs.append((start, end - start))
            start = end = ordinal
        end += 1
    if ordinals:
        runs.append((start, end - start))
    return runs
