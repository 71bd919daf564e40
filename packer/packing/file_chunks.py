"""A file being packed: read once, opened, cut into chunks, and watched for changes."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterator
from types import TracebackType

import blake3

from packer.engine.chunking import BUFFER_BYTES, ChunkParams
from packer.errors import SourceChanged
from packer.files.tree import Found, Tree, identity_of, open_file, show
from packer.format.index import DIGEST_BYTES
from packer.opening.deflate_streams import LOOK_AHEAD
from packer.opening.expander import Expander
from packer.opening.expansion import Expansion
from packer.opening.workers import IN_FLIGHT_BYTES, Workers
from packer.packing.small_files import SmallFiles, WholeFile

MAX_AHEAD = 8
"""Files opened before it is their turn."""


def digest_of(full: bytes, found: Found) -> bytes:
    """Return the full digest of a file that is not opened.

    Raises:
        SourceChanged: it is not the file that `walk` saw.
    """
    with io.FileIO(open_file(full, found)) as file:
        digest = _digest_of(file, found.size, lambda: False)
        if identity_of(os.fstat(file.fileno())) != found.identity:
            raise SourceChanged(show(full))
    return digest


def _digest_of(file: io.FileIO, size: int, is_stopped: Callable[[], bool]) -> bytes:
    hasher, at = blake3.blake3(), 0
    while at < size and not is_stopped() and (data := os.pread(file.fileno(), 1 << 20, at)):
        hasher.update(data)
        at += len(data)
    return hasher.digest()


class OpenedFile:
    """A file's chunks; a context manager.

    Args:
        full: its path.
        found: what `walk` saw.
        params: chunk sizes.
        buffer: memory for reading, at least twice the greatest chunk.
        workers: analyse deflate streams.
        report: called with the number of bytes whenever some were read.
        expand: open archives.

    Raises:
        SourceChanged: it is not the file that `walk` saw.
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
    ) -> None:
        self._full = full
        self._found = found
        self._report = report
        self._file = io.FileIO(open_file(full, found))
        self._seen = 0
        self._workers = workers
        self._digest: Callable[[], bytes] | None = None
        self._stopped = False
        self._expander = Expander(self._fill, found.size, params, buffer, workers, expand=expand)
        self.recipe_chunks = 0
        """How many of the chunks are the recipe's; known at the end."""

    def begin(self) -> bool:
        """Begin to open what the file's first bytes hold; False if that is nothing."""
        return self._expander.begin()

    @property
    def plain(self) -> bool:
        """Whether all chunks so far are, one after another, the file as it is."""
        return not self._expander.recipe.opened

    def chunks(self) -> Iterator[memoryview]:
        """Yield the chunks, each valid until the next is asked for: content, then recipe.

        Raises:
            SourceChanged: the file is not what `walk` saw, before, while or after it is read.
        """
        for chunk in self._expander.content():
            if self._digest is None and not self.plain and self._found.size > LOOK_AHEAD:
                # The second reading takes place beside the first.
                self._digest = self._workers.run(self._digest_now)
            yield chunk
        if self._seen != self._found.size:
            raise SourceChanged(show(self._full))
        for chunk in self._expander.recipe_chunks():
            self.recipe_chunks += 1
            yield chunk
        self._check()

    def expansion(self) -> tuple[Expansion, bytes]:
        """Return what the index says of a file with a recipe, and the file's full digest.

        Raises:
            SourceChanged: as `chunks`.
        """
        digest = (self._digest or self._digest_now)()
        self._check()
        return Expansion(self._found.size, self.recipe_chunks, digest[:DIGEST_BYTES]), digest

    def _digest_now(self) -> bytes:
        return _digest_of(self._file, self._found.size, lambda: self._stopped)

    def _check(self) -> None:
        if identity_of(os.fstat(self._file.fileno())) != self._found.identity:
            raise SourceChanged(show(self._full))

    def _fill(self, out: memoryview) -> int | None:
        if self._seen == self._found.size:
            return 0  # if there is more by now, `_check` will see it
        count = self._file.readinto(out)
        if count:
            self._seen += count
            if self._seen > self._found.size:  # it grows as fast as it is read: do not follow
                raise SourceChanged(show(self._full))
            self._report(count)
        return count

    def close(self) -> None:
        """Close the file, and remove temporary ones."""
        self._expander.close()
        self._stopped = True
        if self._digest is not None:
            with contextlib.suppress(OSError):  # `expansion` has raised it, or it is of no use now
                self._digest()
        self._file.close()

    def __enter__(self) -> OpenedFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Opener:
    """Opens the files of a tree in turn, and begins with small ones before it is their turn.

    What holds archives mostly holds several. One that ends within a few MiB is analysed by one
    core, so the next ones are begun beside it.

    Args:
        root: the directory, or the single file.
        found: what is in it.
        params: chunk sizes.
        workers: analyse deflate streams.
        report: called with a file's position and a number of bytes whenever some were read.
        is_read: tells whether the file at a position will have to be opened.
        expand: open archives.
    """

    def __init__(
        self,
        root: bytes,
        found: Tree,
        params: ChunkParams,
        workers: Workers,
        report: Callable[[int, int], None],
        is_read: Callable[[int], bool],
        *,
        expand: bool,
    ) -> None:
        self._root = root
        self._is_directory = os.path.isdir(root)
        self._small = SmallFiles(root, found, is_read, expand=expand)
        self._found = found
        self._params = params
        self._workers = workers
        self._report = report
        self._is_read = is_read
        self._expand = expand
        self._buffer = bytearray(max(BUFFER_BYTES, 2 * params.max_bytes))
        self._ahead: dict[int, tuple[OpenedFile, bool]] = {}  # and whether it was begun
        self._next = 0  # the first file that was not looked at

    def path_of(self, item: Found) -> bytes:
        """Return the path of a file of the tree."""
        return self._root + b"/" + item.path if self._is_directory else self._root

    def whole(self, at: int) -> WholeFile | None:
        """Return the file at a position if it is small, was read and has nothing in it to open."""
        if not self._is_directory or at in self._ahead:
            return None
        data = self._small.take(at)
        if data is None:
            return None
        self._report(at, len(data))
        return WholeFile(data, self._params)

    def open(self, at: int) -> OpenedFile:
        """Return the file at a position, which the caller closes.

        Raises:
            SourceChanged: it, or one of the next, is not the file that `walk` saw.
        """
        if at not in self._ahead:
            return self._open(at, self._buffer)
        opened, begun = self._ahead.pop(at)
        if begun:
            self.begin_behind(at)
        return opened

    def begin_behind(self, at: int) -> None:
        """Begin with the archives behind the one at a position, if that is a small one.

        Raises:
            SourceChanged: as `open`.
        """
        found = self._found
        if found.size(at) > LOOK_AHEAD:
            return  # it has work for all cores
        self._next = max(self._next, at + 1)
        while (
            self._next < len(found)
            and len(self._ahead) < MAX_AHEAD
            and self._workers.in_flight < IN_FLIGHT_BYTES // 2
        ):
            at = self._next
            self._next += 1
            if found.size(at) and self._is_read(at):
                opened = self._open(at, bytearray(4096))
                self._ahead[at] = opened, False  # so that it is closed if this fails
                begun = opened.begin()
                self._ahead[at] = opened, begun
                if not begun:
                    break

    def close(self) -> None:
        """Close what was opened and not returned."""
        for opened, _ in self._ahead.values():
            opened.close()
        self._ahead.clear()
        self._small.close()

    def _open(self, at: int, buffer: bytearray) -> OpenedFile:
        item = self._found[at]
        return OpenedFile(
            self.path_of(item),
            item,
            self._params,
            buffer,
            self._workers,
            lambda count: self._report(at, count),
            expand=self._expand,
        )
