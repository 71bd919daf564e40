"""A file being packed: read once, opened, cut into chunks, and watched for changes."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from packer.engine.chunking import BUFFER_BYTES, ChunkParams
from packer.errors import UnknownSize
from packer.files.tree import Found, Tree, show
from packer.format.index import DIGEST_BYTES
from packer.opening.closed import ClosedStreams
from packer.opening.expander import Expander
from packer.opening.expansion import Expansion
from packer.opening.finder import LOOK_AHEAD
from packer.opening.workers import IN_FLIGHT_BYTES, Workers
from packer.packing.small_files import SmallFiles, WholeFile
from packer.packing.stat_cache import Remembered
from packer.packing.watched_file import WatchedFile

if TYPE_CHECKING:
    from packer.opening.flat_file import FlatFile

MAX_AHEAD = 8
"""Greatest number of files opened before it is their turn: each holds a descriptor and a buffer."""
_AHEAD_BUFFER_BYTES = 4096
"""Read buffer of a file opened ahead: it is enough to see whether the file is an archive."""
_ZEROS = bytes(1 << 20)
"""Bytes of a hole at a time."""


class Source(NamedTuple):
    """The directory or file that is packed, as it was walked.

    Args:
        root: its path, without links in it.
        is_directory: whether it is a directory; else the tree has one entry, the file.
        found: its entries.
        remembered: what the stat cache knows of them.
    """

    root: bytes
    is_directory: bool
    found: Tree
    remembered: Remembered | None

    def path_of(self, item: Found) -> bytes:
        """Return the path of a file.

        Args:
            item: an entry of `found`.

        Returns:
            the path to open; `root` itself if that is a single file.
        """
        return self.root + b"/" + item.path if self.is_directory else self.root


class OpenedFile(WatchedFile):
    """The chunks of one file.

    Args:
        full: its path.
        found: the file as `walk` saw it.
        params: chunk sizes.
        buffer: memory for reading, at least twice the greatest chunk.
        workers: analyse deflate streams.
        report: called with the number of bytes whenever some were read.
        expand: open archives.
        flat: the file's text; None if that is the file itself.
    """

    def __init__(
        self,
        full: bytes,
        found: Found,
        params: ChunkParams,
        buffer: bytearray,
        workers: Workers,
        report: Callable[[int], None],
        *,
        expand: bool,
        flat: FlatFile | None = None,
    ) -> None:
        super().__init__(full, found, workers)
        self._report = report
        self._flat = flat
        blocks = os.fstat(self._file.fileno()).st_blocks
        self._is_sparse = hasattr(os, "SEEK_DATA") and 512 * blocks < found.size
        self._in_hole = False
        self._extent_end = 0  # of the data or hole being read
        self._seen = 0
        self._expander = Expander(
            self._fill if flat is None else flat.readinto,
            found.size,
            params,
            buffer,
            workers,
            expand=expand,
            parts=flat.parts if flat is not None else (),
        )
        self.recipe_chunks = 0
        """Number of chunks that make up the recipe; complete once `chunks` has ended."""

    def closed(self) -> list[ClosedStreams]:
        """Return what stayed closed in the file; to be called once `chunks` has ended."""
        return self._expander.closed.rows()

    def begin(self) -> bool:
        """Start opening the archive at the file's start, if there is one.

        Returns:
            whether there is one.
        """
        return self._expander.begin()

    @property
    def plain(self) -> bool:
        """Whether all chunks so far are, one after another, the file as it is."""
        return not self._expander.recipe.opened

    def chunks(self) -> Iterator[memoryview]:
        """Yield the chunks, each valid until the next is asked for.

        Yields:
            the chunks of the content, then the chunks of the recipe.

        Raises:
            SourceChanged: the file is not what `walk` saw, before, while or after it is read.
        """
        for chunk in self._expander.content():
            if not self.plain and self._found.size > LOOK_AHEAD:
                self._begin_digest()
            yield chunk
        if self._flat is not None:
            self._report(self._found.size)
        elif self._seen != self._found.size:
            self._raise_other_size(self._seen)
        for chunk in self._expander.recipe_chunks():
            self.recipe_chunks += 1
            yield chunk
        self._check()

    def expansion(self) -> tuple[Expansion, bytes]:
        """Return an opened file's row for the index, and its full digest.

        To be called once `chunks` has ended. It raises `SourceChanged` as `chunks` does.
        """
        digest = self._whole_digest()
        return Expansion(self._found.size, self.recipe_chunks, digest[:DIGEST_BYTES]), digest

    def _fill(self, out: memoryview) -> int | None:
        """Read some bytes for the expander; 0 at the end of the file as `walk` saw it."""
        if self._seen == self._found.size:
            # A file that has grown since fails in `_check`.
            if os.pread(self._file.fileno(), 1, self._seen):
                self._raise_other_size(self._seen + 1)
            return 0
        if self._is_sparse:
            out = out[: self._extent_left()]
        if self._in_hole:
            count: int | None = min(len(out), len(_ZEROS))
            out[:count] = _ZEROS[:count]
        else:
            count = self._file.readinto(out)
        if count:
            self._seen += count
            if self._seen > self._found.size:  # it may grow as fast as it is read
                self._raise_other_size(self._seen)
            self._report(count)
        return count

    def _extent_left(self) -> int:
        """Return how many bytes are left of the data, or of the hole, of a sparse file.

        The kernel takes as long to read a hole as to read data.
        """
        if self._seen == self._extent_end:
            fd, size = self._file.fileno(), self._found.size
            try:
                start = os.lseek(fd, self._seen, os.SEEK_DATA)
            except OSError as error:
                # Behind the last data, or on a file system that does not tell.
                start = size if error.errno == errno.ENXIO else self._seen
            self._in_hole = start > self._seen
            end = start if self._in_hole else size
            if not self._in_hole:
                with contextlib.suppress(OSError):
                    end = os.lseek(fd, self._seen, os.SEEK_HOLE)
                os.lseek(fd, self._seen, os.SEEK_SET)
            self._extent_end = max(min(end, size), self._seen + 1)
        return self._extent_end - self._seen

    def _raise_other_size(self, seen: int) -> NoReturn:
        """Raise the error about a file that has not as many bytes as the file system says."""
        self._check()
        told, more = self._found.size, " or more" if seen > self._found.size else ""
        why = f"the file system says {told} bytes, but it has {seen}{more}"
        raise UnknownSize(show(self._full), why)

    def close(self) -> None:
        """Close the file, and remove temporary ones."""
        self._expander.close()
        super().close()


class Opener:
    """Opens the files of a tree in turn, and starts on small archives before it is their turn.

    A tree that holds archives mostly holds several. An archive of a few MiB is analysed by one
    core, so the next ones are started beside it.

    Args:
        source: the tree.
        params: chunk sizes.
        workers: analyse deflate streams.
        report: called with a file's entry and a number of bytes whenever some were read.
        will_be_read: returns whether the file of an entry will have to be opened.
        expand: archives may be opened, so files that may hold some are opened by themselves.
        ahead: open archives before it is their turn.
    """

    def __init__(
        self,
        source: Source,
        params: ChunkParams,
        workers: Workers,
        report: Callable[[int, int], None],
        will_be_read: Callable[[int], bool],
        *,
        expand: bool,
        ahead: bool,
    ) -> None:
        self._source = source
        self._found = source.found
        self._small = SmallFiles(source.root, source.found, will_be_read, expand=expand)
        self._params = params
        self._workers = workers
        self._report = report
        self._will_be_read = will_be_read
        self._opens_ahead = ahead
        self.buffer = bytearray(max(BUFFER_BYTES, 2 * params.max_bytes))
        """Memory for reading a file whose turn it is."""
        self._ahead: dict[int, tuple[OpenedFile, bool]] = {}
        """Files opened before their turn, by entry, and whether an archive was found in each."""
        self._next = 0
        """The first entry that was not considered for opening ahead."""

    def whole(self, at: int) -> WholeFile | None:
        """Return a file that is small, was read already, and holds nothing to open.

        Args:
            at: its entry.

        Returns:
            the file; None if it has to be opened by itself.
        """
        if not self._source.is_directory or at in self._ahead:
            return None
        data = self._small.take(at)
        if data is None:
            return None
        self._report(at, len(data))
        return WholeFile(data, self._params)

    def open(self, at: int, *, expand: bool, flat: FlatFile | None = None) -> OpenedFile:
        """Return a file, which the caller closes.

        It raises `SourceChanged` if the file, or one opened ahead, is not the one that `walk` saw.

        Args:
            at: its entry.
            expand: open archives in it; those opened ahead are opened.
            flat: the file's text; None if that is the file itself.

        Returns:
            the file.
        """
        if flat is not None:
            self.discard(at)
            flat.rewind()
            return self._open(at, self.buffer, expand=expand, flat=flat)
        if at not in self._ahead:
            return self._open(at, self.buffer, expand=expand)
        opened, begun = self._ahead.pop(at)
        if begun:
            self.begin_behind(at)
        return opened

    def discard(self, at: int) -> None:
        """Close a file that was opened ahead, if it was.

        Args:
            at: its entry.
        """
        if at in self._ahead:
            self._ahead.pop(at)[0].close()

    def begin_behind(self, at: int) -> None:
        """Start on the archives behind an entry, if its file is small. It raises as `open` does.

        Args:
            at: the entry whose file is being read.
        """
        found = self._found
        if not self._opens_ahead or found.size(at) > LOOK_AHEAD:
            return  # a large file has work for all cores
        self._next = max(self._next, at + 1)
        while (
            self._next < len(found)
            and len(self._ahead) < MAX_AHEAD
            and self._workers.in_flight < IN_FLIGHT_BYTES // 2
        ):
            at = self._next
            self._next += 1
            if found.size(at) and self._will_be_read(at):
                opened = self._open(at, bytearray(_AHEAD_BUFFER_BYTES), expand=True)
                self._ahead[at] = opened, False  # before `begin`, so that `close` closes it
                begun = opened.begin()
                self._ahead[at] = opened, begun
                if not begun:
                    break

    def close(self) -> None:
        """Close the files that were opened ahead and not returned."""
        for opened, _ in self._ahead.values():
            opened.close()
        self._ahead.clear()
        self._small.close()

    def _open(
        self, at: int, buffer: bytearray, *, expand: bool, flat: FlatFile | None = None
    ) -> OpenedFile:
        item = self._found[at]
        return OpenedFile(
            self._source.path_of(item),
            item,
            self._params,
            buffer,
            self._workers,
            lambda count: self._report(at, count),
            expand=expand,
            flat=flat,
        )
