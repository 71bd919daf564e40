"""Small files, many at a time: read ahead by a thread of their own, in few calls.

Most files of most trees are a few KiB with nothing in them to open. Opening, checking and reading
each by itself costs more than all that is done with its bytes.
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
"""Greatest size of a file that is read so."""
BATCH_BYTES = 1 << 20
BATCH_ENTRIES = 256
"""Bounds of what is read together: bytes but for the last file, and entries of the tree."""


class WholeFile:
    """A file in memory with nothing in it to open; `OpenedFile` is for the others.

    Args:
        data: all of it.
        params: chunk sizes.
    """

    plain = True
    """As `OpenedFile.plain`."""

    def __init__(self, data: memoryview, params: ChunkParams) -> None:
        self._data = data
        self._params = params

    def chunks(self) -> Iterator[memoryview]:
        """Yield the chunks."""
        return chunks_of(self._data, self._params)


class SmallFiles:
    """Reads the small files of a tree in order, a batch ahead of their use.

    Args:
        root: the directory.
        found: what is in it.
        is_read: tells whether the file at a position will have to be read.
        expand: archives are opened, so files that may hold some are not for this.
    """

    def __init__(
        self, root: bytes, found: Tree, is_read: Callable[[int], bool], *, expand: bool
    ) -> None:
        self._found = found
        self._is_read = is_read
        self._expand = expand
        self._root = root
        self._directory = -1  # opened when needed
        self._executor = ThreadPoolExecutor(1, "read")
        self._views: dict[int, memoryview] = {}
        self._end = 0  # behind the last entry that was looked at for `_views`
        self._next: tuple[int, Future[dict[int, memoryview]]] | None = None

    def take(self, at: int) -> memoryview | None:
        """Return the bytes of the file at a position; to be called in order of position.

        Returns:
            None if it is not a small file with nothing in it to open, or not the one that was
            walked: it has to be read by itself, which tells.
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
        """Begin to read what is needed of the entries from `at` on."""
        if self._directory < 0:
            self._directory = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        found, wanted, size = self._found, array("I"), 0
        last = min(at + BATCH_ENTRIES, len(found))
        while at < last and size < BATCH_BYTES:
            if found.kinds[at] == FILE and 0 < found.size(at) <= SMALL_BYTES and self._is_read(at):
                wanted.append(at)
                size += found.size(at)
            at += 1
        self._next = at, self._executor.submit(self._read, wanted)

    def _read(self, wanted: array[int]) -> dict[int, memoryview]:
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
    return find_signature(view, start, end) >= 0 or (
        end - start >= BLOCK and is_header(view[start : start + BLOCK])
    )
