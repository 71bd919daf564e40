"""Changed archives of a tree, and their predecessors: small ones are opened before their turn.

An archive of a few MiB has work for one core. So the next ones are opened beside it, each in one
thread. A large one has work for all cores, but its predecessor is read front to back, for the most
part by one thread: while it is opened, that of the next large one is read. What is opened ahead,
and what is known then, depends on the tree and the base alone; so does the result.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from packer.engine.ordinals import Ordinals
from packer.opening.closed import kind_of
from packer.opening.finder import may_begin
from packer.opening.predecessor import Predecessor
from packer.opening.workers import Workers
from packer.packing.file_chunks import Source
from packer.packing.job import PackJob
from packer.packing.older.further_files import FurtherFiles
from packer.packing.older.predecessors import Found, Predecessors
from packer.packing.text_source import TextSource
from packer.packing.updated_files import (
    LEAST_NEW_BYTES,
    LEAST_NEW_SHARE,
    UpdatedFile,
    head_of,
    may_hold_archives,
)

MAX_BACK_SHARE = 1 / 3
"""Share of an archive that its recipe may take if it goes back in a chain; above it, the archive is
stored closed, as the end of the next one."""
MAX_AHEAD = 16
"""Greatest number of archives opened before it is their turn: each holds a descriptor and its
recipe."""
MAX_AHEAD_BYTES = 16 << 20
"""Bytes of these files, at most: recipes may take 0.8 of them."""
MAX_LARGE = 8
"""Greatest number of larger archives that are read before it is their turn, to find the next one
that changed: each holds a descriptor, and 40 bytes for each of its chunks."""
MAX_LARGE_BYTES = 96 << 20
"""Greatest size in bytes of a predecessor that is read ahead: a million of its fingerprints would
take 30 MB beside the deltas of the archive before. None is read ahead for one with zstd streams:
these take memory of their own."""
SMALL_BYTES = 2 << 20
"""Greatest size in bytes of an archive, and of its predecessor, that one thread opens. A larger one
has work for all threads, and takes much memory."""
_LEAST_BYTES = 16 << 10
"""Size in bytes below which a file is not looked at ahead: to open many of them twice would take
longer than is gained."""
_MOST_ENTRIES = 1 << 10
"""Entries that are looked through for archives to open ahead, at most."""

_Begun = Callable[[], "Predecessor | None"]
"""Waits until it is decided what of a file is opened; returns the row of the predecessor, None if
nothing is opened."""


@dataclass(slots=True)
class Changed:
    """A file as it is compared with the base.

    Args:
        source: the file, and its text; whoever takes it closes it.
        head: its first bytes.
        entry: of the base that is most like it, -1 if there is none.
        found: its predecessor, None if it is not opened against one.
        file: the file, once its opening has begun; whoever takes it closes it.
        begun: waits for it.
    """

    source: TextSource
    head: bytes
    entry: int
    found: Found | None = None
    file: UpdatedFile | None = None
    begun: _Begun | None = None


class ChangedArchives:
    """Finds predecessors of files, and opens these.

    Args:
        job: what is packed, and how.
        source: the tree that is packed.
        workers: do the work.
        predecessors: finds and reads the older files.
        further: finds further ones.
        known: chunks by digest.
        report: called with an entry and its bytes, when all chunks of an opened file were taken.
        will_be_read: returns whether the file of an entry will have to be opened.
        buffer: memory for reading, at least twice the greatest chunk.
        has_base: whether there is a base.
    """

    def __init__(
        self,
        job: PackJob,
        source: Source,
        workers: Workers,
        predecessors: Predecessors,
        further: FurtherFiles,
        *,
        known: Ordinals,
        report: Callable[[int, int], None],
        will_be_read: Callable[[int], bool],
        buffer: bytearray,
        has_base: bool,
    ) -> None:
        self._job = job
        self._source = source
        self._workers = workers
        self._predecessors = predecessors
        self._further = further
        self._known = known
        self._report = report
        self._will_be_read = will_be_read
        self._buffer = buffer
        self._has_base = has_base
        self._ahead: dict[int, Changed] = {}
        self._ahead_bytes = 0
        self._next = 0
        """The first entry that was not considered for opening ahead."""
        self._large: dict[int, Changed] = {}
        """The next large archives; the predecessor of the last one is being read."""
        self._next_large = 0
        """The first entry that was not considered for these."""

    def take(self, at: int) -> Changed:
        """Compare a file with the base, unless that was done ahead; then open the next ones.

        It raises `SourceChanged` if a file is not the one that `walk` saw.

        Args:
            at: its entry; entries come in order.

        Returns:
            What was found.
        """
        large = self._large.pop(at, None)
        changed = large or self._ahead.get(at) or self._look(at)
        try:
            self._begin_behind(at)
            if large is None:  # else one predecessor after the other
                self._look_behind(at)
        except BaseException:
            if at not in self._ahead:  # else `close` closes it
                _close(changed)
            raise
        if self._ahead.pop(at, None) is not None:
            self._ahead_bytes -= self._source.found.size(at)
        return changed

    def begin(self, at: int, changed: Changed) -> UpdatedFile:
        """Return the file of an entry, whose opening has begun; the caller closes it.

        Args:
            at: its entry.
            changed: of the entry, with a predecessor.
        """
        file = changed.file = changed.file or self.file(at, changed.source)
        if changed.begun is None:
            assert changed.found is not None
            try:
                changed.begun = self._begun(at, file, changed.found, alone=False)
            except BaseException:
                file.close()
                raise
        return file

    def file(self, at: int, source: TextSource) -> UpdatedFile:
        """Return the file of an entry, to be compared with known chunks; the caller closes it.

        Args:
            at: its entry.
            source: the same file.
        """
        return UpdatedFile(
            source.full,
            source.found,
            self._job.params,
            self._buffer,
            self._workers,
            lambda count: self._report(at, count),
            source.text,
            source.texts,
        )

    def close(self) -> None:
        """Wait for what was begun and not taken, and close it."""
        self._predecessors.drop_ahead()
        for changed in (*self._ahead.values(), *self._large.values()):
            _close(changed)
        self._ahead.clear()
        self._large.clear()

    def _look(self, at: int) -> Changed:
        item = self._source.found[at]
        full = self._source.path_of(item)
        head = head_of(full, item, has_base=self._has_base)
        entry = self._predecessors.counterpart(item.path, head, item.size, self._workers.ahead)
        source = TextSource(full, item, self._workers)
        try:
            is_flat = source.look(partial(self._predecessors.is_flat, entry))
            changed = Changed(source, head, entry)
            if (
                entry >= 0
                and not self._predecessors.is_modelled(entry, flat=is_flat)
                and kind_of(head) != "bzip2"
                and (is_flat or source.texts or may_hold_archives(full, item, head))
            ):
                changed.found = self._predecessors.find(entry, flat=is_flat)
        except BaseException:
            source.close()
            raise
        return changed

    def _begin_behind(self, at: int) -> None:
        """Open the archives behind an entry, as far as they are small."""
        found = self._source.found
        if not self._has_base or not self._source.is_directory:
            return
        self._next = max(self._next, at + 1)
        last = min(at + _MOST_ENTRIES, len(found))
        while (
            self._next < last
            and len(self._ahead) < MAX_AHEAD
            and self._ahead_bytes + found.size(self._next) <= MAX_AHEAD_BYTES
        ):
            at = self._next
            self._next += 1
            if _LEAST_BYTES <= found.size(at) <= SMALL_BYTES and self._will_be_read(at):
                self._begin_ahead(at)

    def _begin_ahead(self, at: int) -> None:
        """Open the archive of an entry, if it is one that has a predecessor and changed."""
        item = self._source.found[at]
        if not may_begin(memoryview(head_of(self._source.path_of(item), item, has_base=False))):
            return
        changed = self._look(at)
        is_small = changed.found is not None and changed.found.row.size <= SMALL_BYTES
        if (
            changed.found is None
            or not is_small
            or changed.source.text is not None
            or changed.source.texts
        ):
            changed.source.close()
            return
        file = self.file(at, changed.source)
        try:
            changed.begun = self._begun(at, file, changed.found, alone=True)
        except BaseException:
            file.close()
            changed.source.close()
            raise
        changed.file = file
        self._ahead[at] = changed
        self._ahead_bytes += item.size

    def _look_behind(self, at: int) -> None:
        """Begin to read the predecessor of the next large archive behind an entry."""
        found = self._source.found
        if not (self._has_base and self._source.is_directory and self._workers.is_parallel):
            return
        for passed in [entry for entry in self._large if entry < at]:
            _close(self._large.pop(passed))  # its turn did not come: it was recalled
        if not self._large:
            self._predecessors.drop_ahead()
        self._next_large = max(self._next_large, at + 1)
        last = min(at + _MOST_ENTRIES, len(found))
        while (
            self._next_large < last
            and len(self._large) < MAX_LARGE
            and not self._predecessors.has_ahead
        ):
            at = self._next_large
            self._next_large += 1
            if found.size(at) > SMALL_BYTES and self._will_be_read(at):
                self._begin_reading(at)

    def _begin_reading(self, at: int) -> None:
        """Begin to read the predecessor of a large archive, if it has one and changed."""
        item = self._source.found[at]
        if not may_begin(memoryview(head_of(self._source.path_of(item), item, has_base=False))):
            return
        changed = self._large[at] = self._look(at)  # `close` closes it after an error
        if changed.found is None:
            return
        file = changed.file = self.file(at, changed.source)
        if (
            self._has_changed(file)
            and changed.found.row.size <= MAX_LARGE_BYTES
            and not file.has_text
        ):
            self._predecessors.begin_text(
                changed.found, item.path, file.places_in_old, self._workers
            )

    def _has_changed(self, file: UpdatedFile) -> bool:
        """Return whether so much of a file is new that it is compared with its predecessor."""
        return file.new_bytes(self._known) >= max(LEAST_NEW_BYTES, file.size * LEAST_NEW_SHARE)

    def _begun(self, at: int, file: UpdatedFile, found: Found, *, alone: bool) -> _Begun:
        """Begin to open a file, in another thread if it is to be one thread's work."""
        unknown = file.unknown
        if not self._has_changed(file):
            return _nothing
        if unknown and unknown != file.unknown:  # what its predecessor is read for has changed
            self._predecessors.drop_ahead()
        from packer.opening.frames_update import MAX_SHARE  # loaded by the first one that changed

        most = file.unknown_bytes * MAX_SHARE
        if found.is_back:
            most = min(most, file.size * MAX_BACK_SHARE)
        was_opened = found.is_back or found.row.recipe_chunks > 0
        item = self._source.found[at]
        turn = self._further.begin(
            at, self._source.path_of(item), item, found, has_text=file.has_text
        )
        further = partial(self._further.find, turn)
        try:
            if alone:
                opened = partial(self._predecessors.opened, found, item.path)
                return file.begin_alone(opened, most, further, turn.end, was_opened=was_opened)
            old = self._predecessors.text(
                found,
                item.path,
                file.places_in_old,
                has_frames=bool(file.texts),
                workers=self._workers,
            )
            self._look_behind(at)
            pays = file.begin(old.text, most, further, was_opened=was_opened)
        except BaseException:
            turn.end()
            raise
        turn.end()
        return lambda: old.row if pays else None


def _close(changed: Changed) -> None:
    if changed.file is not None:
        changed.file.close()
    changed.source.close()


def _nothing() -> None:
    return None
