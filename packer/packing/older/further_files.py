"""Files beside its predecessor that a changed archive is opened against.

Two kinds of file may hold text that is new to an archive: archives of the base that the new version
lacks, as they may have been merged into this one, and archives of the new version that changed as
well, as they may have got the same text. The latter are small ones that come before it in the tree.

What is found depends on the tree and the base alone: a file asks only those whose opening began
before its own, and waits until they know what is new to them.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from threading import Event, Lock
from typing import TYPE_CHECKING

from packer.engine.pieces import key_set
from packer.errors import SourceChanged
from packer.files.tree import FILE, identity_of, open_file, show
from packer.files.tree import Found as Item
from packer.format.index import Index
from packer.opening.predecessor import MAX_LINKS, OldStream, Predecessor
from packer.packing.older.alike import samples
from packer.packing.older.counterparts import shape
from packer.packing.older.predecessors import Found, Predecessors

if TYPE_CHECKING:
    from packer.opening.further import Further
    from packer.opening.old_text import OldText

_LEAST_BYTES = 32 << 10
"""Text in bytes, about, that a further predecessor has in common with what is new, more than. It
makes chains longer, and a reader makes one more file: smaller changes that many archives got are
stored once by `RepeatedText`."""
_SAME_VERSION_BYTES = 2 << 20
"""Size of a file of the new version that others are opened against, at most: it is in memory."""
_MOST_ASKED = 64
"""Files of the new version that one file asks: those before it."""
_MOST_KEYS = 1 << 12
"""Pieces of new text that are kept of each."""
_MOST_DEPTH = 1
"""Files of the new version that are opened against one another, in a row, at most."""
_MOST_FILES = 32
"""Predecessors of a file, with those that they refer to: what a reader makes."""
_MOST_ENTRIES = 1 << 12
"""Entries of a version whose archives are looked through, at most."""
_MOST_GONE = 32
"""Archives that the new version lacks that are compared, at most."""
_GONE_RATIO = 4
"""Greatest size of such an archive, as a multiple of the file's."""
_GONE_SHARE = 1 / 4
"""Share of its samples that are new to the file."""
_PIECE_BYTES = 1 << 10


@dataclass
class Turn:
    """A file whose opening has begun.

    Args:
        entry: of the new version.
        full: its path.
        item: the file as `walk` saw it.
        before: the files that it may ask.
        links: of its predecessor, and from there to the end of the chain.
        files: its predecessor and those that this one refers to.
    """

    entry: int
    full: bytes
    item: Item
    before: Sequence[Turn]
    links: int
    files: int
    depth: int = 0
    keys: frozenset[int] = frozenset()
    known: Event = field(default_factory=Event)
    """Set once all this is final."""

    def end(self) -> None:
        """Say that nothing more will be known; a second call does nothing."""
        self.before = ()
        self.known.set()


class FurtherFiles:
    """Finds further predecessors.

    Args:
        base: the base's index.
        new: the new version's, under construction.
        predecessors: find and read the files of the base.
        directory: of temporary files, as `temporary_file` takes it.
    """

    def __init__(
        self,
        base: Index,
        new: Index,
        predecessors: Predecessors,
        directory: bytes | None,
    ) -> None:
        self._base = base
        self._new = new
        self._predecessors = predecessors
        self._directory = directory
        self._turns: list[Turn] = []
        self._entries: set[int] = set()  # those of turns
        self._gone: list[int] | None = None
        self._samples: dict[int, frozenset[int]] = {}
        self._lock = Lock()
        self._runs: dict[int, tuple[tuple[int, int], ...]] = {}

    def begin(self, entry: int, full: bytes, item: Item, found: Found, *, has_text: bool) -> Turn:
        """Return the turn of a file; to be called in the thread that begins files.

        Args:
            entry: of the new version.
            full: its path.
            item: the file as `walk` saw it.
            found: its predecessor.
            has_text: whether it has zstd streams: of such a predecessor a reader makes the text,
                and others are opened against the file here.
        """
        if self._gone is None:
            self._gone = self._archives_gone()
        links, files = self._predecessors.extent(found.row)
        before = [turn for turn in self._turns if turn.entry < entry][-_MOST_ASKED:]
        turn = Turn(entry, full, item, before, links, files)
        if item.size <= _SAME_VERSION_BYTES and not has_text:
            self._turns.append(turn)
            self._entries.add(entry)
        return turn

    def find(self, turn: Turn, missing: bytes) -> list[Further]:
        """Return further predecessors; in any thread.

        Args:
            turn: of the file.
            missing: hashes of pieces of text that its predecessor lacks, one behind another.
        """
        keys = key_set(missing)
        out: list[Further] = []
        if len(keys) * _PIECE_BYTES >= _LEAST_BYTES:
            out += self._same_version(turn, keys)
        if len(keys) * _PIECE_BYTES >= turn.item.size:
            out += self._of_base(turn, keys)
        turn.keys = frozenset(sorted(keys)[:_MOST_KEYS]) if len(keys) > _MOST_KEYS else keys
        turn.end()
        return out

    def written(self, entry: int, runs: Sequence[tuple[int, int]]) -> None:
        """Remember the chunks of a file of the new version, all of which were taken.

        Args:
            entry: of the new version.
            runs: of the chunks.
        """
        if entry in self._entries:
            self._runs[entry] = tuple(runs)

    def row(self, turn: Turn) -> Predecessor:
        """Return the row of a file of the new version, which was written.

        Args:
            turn: of the file.
        """
        row = Predecessor(turn.item.size, 0, b"", self._runs[turn.entry])
        expansion = self._new.expansions.get(turn.entry)
        if expansion is None:
            return row
        return row._replace(
            recipe_chunks=expansion.recipe_chunks,
            digest=expansion.digest,
            predecessors=expansion.predecessors,
        )

    def add(self, row: Predecessor) -> int:
        """List a file of the new version as a predecessor.

        Args:
            row: from `row`, with the streams that are referred to.

        Returns:
            Its ordinal in the new index.
        """
        self._new.predecessors.append(row)
        return len(self._new.predecessors) - 1

    def _same_version(self, turn: Turn, keys: frozenset[int]) -> Iterator[Further]:
        """Yield the file of the new version that has most of the missing text, if one has."""
        best, most = None, _LEAST_BYTES // _PIECE_BYTES
        for other in turn.before:
            other.known.wait()
            common = len(keys & other.keys)
            if (
                common > most
                and other.depth < _MOST_DEPTH
                and other.links < MAX_LINKS
                and turn.files + other.files < _MOST_FILES
            ):
                best, most = other, common
        if best is not None:
            turn.depth = best.depth + 1
            turn.links = max(turn.links, best.links + 1)
            turn.files += 1 + best.files
            yield _OfNewVersion(self, best, self._directory)

    def _of_base(self, turn: Turn, keys: frozenset[int]) -> Iterator[Further]:
        """Yield archives that are gone and hold much of the missing text."""
        from packer.opening.further import MAX_FURTHER  # loaded by the first archive that changed

        for _ in range(MAX_FURTHER):
            best = self._best_gone(turn, keys)
            row = self._predecessors.find(best, flat=False) if best >= 0 else None
            if row is None:
                return
            links, files = self._predecessors.extent(row.row)
            if turn.files + files >= _MOST_FILES:
                return
            turn.links, turn.files = max(turn.links, links), turn.files + files
            keys -= self._samples[best]
            yield _OfBase(self._predecessors, row, turn.item.path)

    def _best_gone(self, turn: Turn, keys: frozenset[int]) -> int:
        """Return the archive that is gone and has most of some pieces of text, -1 if none has."""
        best, most = -1, _GONE_SHARE
        for entry in self._gone or ():
            if self._predecessors.size(entry) > _GONE_RATIO * turn.item.size:
                continue
            with self._lock:
                if entry not in self._samples:
                    head = self._predecessors.head(entry)
                    self._samples[entry] = samples(head)
            found = self._samples[entry]
            share = len(found & keys) / max(len(found), 1)
            if share > most:
                best, most = entry, share
        return best

    def _archives_gone(self) -> list[int]:
        """Return files of the base that have no counterpart in the new version."""
        base = self._base
        if max(len(base.kinds), len(self._new.paths)) > _MOST_ENTRIES:
            return []
        there = {shape(path) for path in self._new.paths}
        gone = (
            entry
            for entry, kind in enumerate(base.kinds)
            if kind == FILE
            and base.run_counts[entry]
            and (entry not in base.expansions or base.expansions[entry].predecessors)
            and shape(base.paths[entry]) not in there
        )
        return [entry for entry, _ in zip(gone, range(_MOST_GONE), strict=False)]


class _OfNewVersion:
    """A file of the new version, read again.

    Args:
        files: know its chunks, once it was written.
        turn: of the file.
        directory: of temporary files.
    """

    def __init__(self, files: FurtherFiles, turn: Turn, directory: bytes | None) -> None:
        self._files = files
        self._turn = turn
        self._directory = directory

    @contextmanager
    def open(self, beside: OldText) -> Iterator[OldText]:
        """Read it."""
        from packer.opening.old_text import OldText

        turn = self._turn
        with io.FileIO(open_file(turn.full, turn.item)) as file:
            data = file.readall()
            if identity_of(os.fstat(file.fileno())) != turn.item.identity:
                raise SourceChanged(show(turn.full))

        def read(start: int, length: int) -> bytes:
            return data[start : start + length]

        text = OldText(read, len(data), self._directory, beside=beside)
        with closing(text):
            yield text

    def rows(self) -> list[Predecessor]:
        """Return the rows that `add` adds to the new index, without streams."""
        return [self._files.row(self._turn)]

    def add(self, streams: tuple[OldStream, ...]) -> int:
        """List it in the new index; return its ordinal there."""
        return self._files.add(self._files.row(self._turn)._replace(streams=streams))


class _OfBase:
    """An archive of the base.

    Args:
        predecessors: read it.
        found: what is known of it.
        what: path of the file that is opened, for errors.
    """

    def __init__(self, predecessors: Predecessors, found: Found, what: bytes) -> None:
        self._predecessors = predecessors
        self._found = found
        self._what = what

    @contextmanager
    def open(self, beside: OldText) -> Iterator[OldText]:
        """Read it."""
        with self._predecessors.opened(self._found, self._what, beside=beside) as (text, row):
            self._found = self._found._replace(row=row, is_file=False)
            yield text

    def rows(self) -> list[Predecessor]:
        """Return the rows that `add` adds to the new index, without streams."""
        return list(self._predecessors.chain(self._found.row))

    def add(self, streams: tuple[OldStream, ...]) -> int:
        """List it in the new index; return its ordinal there."""
        return self._predecessors.add(self._found.row, streams)
