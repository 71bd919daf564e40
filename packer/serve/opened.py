"""Versions that were opened last, with sums over their indexes that pages look things up in."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import accumulate

from packer.files.tree import DIRECTORY
from packer.forks import Lock
from packer.format.frames import Frames
from packer.format.index import Index
from packer.format.version import Version
from packer.reading.contents import Details, details
from packer.serve.places import Place

MAX_VERSIONS = 16
"""Versions that are kept open."""
MAX_INDEX_BYTES = 192 << 20
"""Plaintext of the indexes of the versions kept open; columns and sums take about as much again."""


class Opened:
    """A version, and sums over its index that are made when they are first asked for.

    Args:
        version: the version.
    """

    def __init__(self, version: Version) -> None:
        self.version = version
        self.digest = version.descriptor.digest
        self.index: Index = version.index

    @cached_property
    def details(self) -> Details:
        """What the version says of itself."""
        return details(self.version)

    @cached_property
    def sizes(self) -> array[int]:
        """Size of each entry in bytes."""
        return self.index.entry_sizes()

    @cached_property
    def size_before(self) -> array[int]:
        """Bytes of all entries before each one, and of all at the end."""
        return array("Q", accumulate(self.sizes, initial=0))

    @cached_property
    def files_before(self) -> array[int]:
        """Number of entries that are no directories before each one, and of all at the end."""
        kinds = (kind != DIRECTORY for kind in self.index.kinds)
        return array("Q", accumulate(kinds, initial=0))

    @cached_property
    def stored_before(self) -> array[float]:
        """Stored bytes of all entries before each one, and of all at the end.

        A frame's bytes are shared out by the lengths of its chunks; a chunk counts for the first
        entry that holds it, itself or as a part of an older file that its recipe refers to.
        """
        index, frames = self.index, Frames(self.index)
        cost = array("d", [0.0])
        for frame, stored in enumerate(index.frame_stored):
            first, last = frames.first_chunk[frame], frames.first_chunk[frame + 1]
            share = stored / max(frames.plain_bytes(frame), 1)
            base, start = cost[-1], frames.end[first]
            cost.extend(base + share * (end - start) for end in frames.end[first + 1 : last + 1])
        seen = bytearray(index.chunk_count)

        def of_entries() -> Iterator[float]:
            at = 0
            for entry, count in enumerate(index.run_counts):
                total = 0.0
                for run in range(at, at + count):
                    total += _unseen(seen, cost, index.run_starts[run], index.run_lengths[run])
                if entry in index.expansions:
                    for run_of_old in _older_runs(index, entry):
                        total += _unseen(seen, cost, *run_of_old)
                at += count
                yield total

        return array("d", accumulate(of_entries(), initial=0.0))

    def below(self, path: bytes) -> tuple[int, int]:
        """Return the range of entries below a directory, b"" for the root."""
        if not path:
            return 0, len(self.index.paths)
        first = bisect_left(self.index.paths, path + b"/")
        return first, bisect_left(self.index.paths, path + b"0", first)  # "0" follows "/"

    def children(self, path: bytes) -> Iterator[tuple[bytes, int, int, int]]:
        """Yield what lies in a directory: name, entry, and the range of entries below that."""
        paths = self.index.paths
        at, end = self.below(path)
        skip = len(path) + 1 if path else 0
        behind: dict[int, int] = {}  # ranges that lie behind entries between, as of a, a-b, a/c
        while at < end:
            if at in behind:
                at = behind.pop(at)
                continue
            whole = paths[at]
            first = last = at + 1
            if self.index.kinds[at] == DIRECTORY:
                first = bisect_left(paths, whole + b"/", at + 1, end)
                last = bisect_left(paths, whole + b"0", first, end)
                if first < last:
                    behind[first] = last
            yield whole[skip:], at, first, last
            at += 1


def _older_runs(index: Index, entry: int) -> Iterator[tuple[int, int]]:
    """Yield the runs of the older files that a file's recipe refers to, in any number of steps."""
    ahead = list(index.expansions[entry].predecessors)
    met = set(ahead)
    while ahead:
        row = index.predecessors[ahead.pop()]
        yield from row.runs
        new = set(row.predecessors) - met
        met |= new
        ahead += new


def _unseen(seen: bytearray, cost: array[float], start: int, length: int) -> float:
    """Return the cost of the chunks of a run that no run before had."""
    end = start + length
    if seen.find(1, start, end) < 0:
        seen[start:end] = b"\1" * length
        return cost[end] - cost[start]
    total = 0.0
    for chunk in range(start, end):
        if not seen[chunk]:
            seen[chunk] = 1
            total += cost[chunk + 1] - cost[chunk]
    return total


class Versions:
    """The versions that were used last; threads may share it.

    Args:
        place: opens them.
        on_open: called when one is opened that was not kept.
    """

    def __init__(self, place: Place, on_open: Callable[[], None] = lambda: None) -> None:
        self._place = place
        self._on_open = on_open
        self._lock = Lock()
        self._held: OrderedDict[str, Opened] = OrderedDict()

    def open(self, app: str, name: str) -> Opened:
        """Return a version of an application.

        Args:
            app: the application.
            name: of the version, or its digest.

        Returns:
            The version, its index decoded.
        """
        version = self._place.version(app, name)
        with self._lock:
            found = self._held.get(version.descriptor.digest)
            if found is not None:
                self._held.move_to_end(found.digest)
                return found
        self._on_open()
        made = Opened(version)
        with self._lock:
            self._held[made.digest] = made
            while len(self._held) > 1 and self._too_much():
                self._held.popitem(last=False)
        return made

    def _too_much(self) -> bool:
        held = sum(one.version.config.index_bytes for one in self._held.values())
        return len(self._held) > MAX_VERSIONS or held > MAX_INDEX_BYTES
