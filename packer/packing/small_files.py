"""Small files, many at a time: a thread of their own reads them ahead, in few calls.

Most files of most trees are a few KiB with nothing in them to open. To open, check and read each by
itself costs more than all the work on its bytes.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import accumulate

from packer.engine.chunking import ChunkParams, chunks_of
from packer.files.syscalls import STAT_WORDS, read_files
from packer.files.tree import FILE, Tree
from packer.opening.lookahead import find_signature
from packer.opening.tar_headers import BLOCK, is_header

SMALL_BYTES = 64 << 10
"""Greatest size in bytes of a file that is read in a batch."""
BATCH_BYTES = 1 << 20
"""Greatest size of a batch in bytes, not counting its last file: two batches are in memory."""
BATCH_ENTRIES = 256
"""Greatest number of entries of the tree that a batch covers."""


class WholeFile:
    """A file in memory with nothing in it to open. `OpenedFile` has the same methods for others.

    Args:
        data: its content.
        params: chunk sizes.
    """

    plain = True
    """The chunks are, one after another, the file as it is."""

    def __init__(self, data: memoryview, params: ChunkParams) -> None:
        self._data = data
        self._params = params

    def chunks(self) -> Iterator[memoryview]:
        """Return the chunks, in order."""
        return chunks_of(self._data, self._params)


class SmallFiles:
    """Reads the small files of a tree in order, a batch ahead of their use.

    Args:
        root: the directory.
        found: its entries.
        will_be_read: returns whether the file of an entry will have to be read.
        expand: archives are opened, so files that may hold some are left to `OpenedFile`.
    """

    def __init__(
        self, root: bytes, found: Tree, will_be_read: Callable[[int], bool], *, expand: bool
    ) -> None:
        self._found = found
        self._will_be_read = will_be_read
        self._expand = expand
        self._root = root
        self._directory = -1  # opened when needed
        self._executor = ThreadPoolExecutor(1, "read")
        self._views: dict[int, memoryview] = {}  # files of the current batch, by entry
        self._end = 0  # the entry behind the current batch
        self._next: tuple[int, Future[dict[int, memoryview]]] | None = None

    def take(self, at: int) -> memoryview | None:
        """Return the bytes of a file. Entries must be asked for in order.

        Args:
            at: the file's entry.

        Returns:
            its content; None if it has to be read by itself: it is large, may hold an archive, or
            is not the file that was walked, which `OpenedFile` reports.
        """
        if self._found.size(at) > SMALL_BYTES:
            return None
        while at >= self._end:
            if self._next is None or self._next[0] <= at:
                self._begin(at)
            assert self._next is not None
            self._end, future = self._next
            self._views = future.result()
            self._begin(self._end)
        return self._views.pop(at, None)

    def close(self) -> None:
        """Wait for the thread, and end it."""
        self._executor.shutdown(cancel_futures=True)
        if self._directory >= 0:
            os.close(self._directory)

    def _begin(self, at: int) -> None:
        """Start reading the small files from an entry on."""
        if self._directory < 0:
            self._directory = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        found, wanted, size = self._found, array("I"), 0
        last = min(at + BATCH_ENTRIES, len(found))
        while at < last and size < BATCH_BYTES:
            if (
                found.kinds[at] == FILE
                and 0 < found.size(at) <= SMALL_BYTES
                and self._will_be_read(at)
            ):
                wanted.append(at)
                size += found.size(at)
            at += 1
        self._next = at, self._executor.submit(self._read, wanted)

    def _read(self, wanted: array[int]) -> dict[int, memoryview]:
        """Return the content of some files, without those that changed or may hold archives."""
        found = self._found
        stats = array("Q")
        for at in wanted:
            stats.extend(found.stats[at * STAT_WORDS : (at + 1) * STAT_WORDS])
        ends = list(accumulate(stats[2::STAT_WORDS], initial=0))
        out = bytearray(ends[-1])
        good = read_files(self._directory, [found.paths[at] for at in wanted], stats, out)
        view = memoryview(out).toreadonly()
        return {
            at: view[start:end]
            for at, start, end, is_good in zip(wanted, ends, ends[1:], good, strict=False)
            if is_good and not (self._expand and _may_hold_archive(view, start, end))
        }


def _may_hold_archive(view: memoryview, start: int, end: int) -> bool:
    """Return whether a part of a buffer holds the signature of an archive."""
    return find_signature(view, start, end) >= 0 or (
        end - start >= BLOCK and is_header(view[start : start + BLOCK])
    )
