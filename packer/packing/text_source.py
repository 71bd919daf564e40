"""A file that is packed, and its text: without zstd around what is compressed anyway."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from packer.errors import SourceChanged
from packer.files.tree import Found, open_file, show
from packer.opening.closed import FORMAT, TEXT, ClosedStreams, ClosedTally
from packer.opening.expansion import MAX_FILE_BYTES
from packer.opening.tar_headers import BLOCK
from packer.opening.workers import Workers
from packer.opening.zstd_frames import Frames, may_hold_frames

if TYPE_CHECKING:
    from packer.opening.flat_file import FlatFile

LEAST_BYTES = 64 << 10
"""Bytes of a file below which its text is not looked for."""


class TextSource:
    """A file, and its text once it is asked for; whoever makes it closes it.

    Args:
        full: path of the file.
        found: the file as `walk` saw it.
        workers: make recipes.
    """

    def __init__(self, full: bytes, found: Found, workers: Workers) -> None:
        self.full = full
        self.found = found
        self._workers = workers
        self._file: io.FileIO | None = None
        self.text: FlatFile | None = None
        """The text, if `look` found that it is not the file itself."""
        self.closed = ClosedTally()
        """What stays closed, zstd streams and members of `ar` archives, once `look` was called."""
        self.texts: list[Frames] = []
        """Those of text, which may be opened against older ones; places are in the text."""

    def close(self) -> None:
        """Close the file, and remove temporary files."""
        if self.text is not None:
            self.text.close()
        if self._file is not None:
            self._file.close()

    def look(self, again: Callable[[], bool] = lambda: False) -> bool:
        """Return whether the file's text is not the file itself; `SourceChanged` if it changed.

        Args:
            again: returns whether that of the older file is not that file.
        """
        size = self.found.size
        if not LEAST_BYTES <= size <= MAX_FILE_BYTES:
            return False
        self._file = io.FileIO(open_file(self.full, self.found))
        if may_hold_frames(self._read(0, BLOCK)):
            from packer.opening.ar_members import closed_members
            from packer.opening.flat_file import flattened

            for kind, length in closed_members(self._read, size):
                self.closed.add(kind, FORMAT, length)
            self.text = flattened(
                self._read, size, self._workers, self.closed, self.texts, again=again()
            )
        return self.text is not None

    def told(self) -> list[ClosedStreams]:
        """Return what stays closed if the file is not opened against an older one."""
        out = ClosedTally()
        for run in self.texts:
            out.add("zstd", TEXT, run.end - run.start)
        return [*self.closed.rows(), *out.rows()]

    def _read(self, start: int, length: int) -> bytes:
        """Return a part of the file."""
        assert self._file is not None
        data = os.pread(self._file.fileno(), length, start)
        if len(data) != max(min(length, self.found.size - start), 0):
            raise SourceChanged(show(self.full))
        return data
