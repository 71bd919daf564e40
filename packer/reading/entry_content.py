"""Reads files of a version: their chunks, or the archive that a recipe rebuilds from them."""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterator, Set
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, BinaryIO

import blake3

from packer.errors import DigestMismatch
from packer.files.temporary import Gathered
from packer.files.tree import show
from packer.forks import renew_in_children
from packer.format.cost import Cost
from packer.format.frame_reader import FrameReader, opened_frames
from packer.format.frames import Frames
from packer.format.index import DIGEST_BYTES
from packer.format.predecessor_texts import RunContent
from packer.format.rebuilding import OldFiles, chunks, frames_of_predecessors, rebuilt
from packer.format.tree_digest import Check
from packer.format.version import Version
from packer.opening.expansion import most_opened
from packer.opening.recipe import SPILL_BYTES, Recipe

if TYPE_CHECKING:  # a restore does not look into archives: it need not load what does
    from packer.opening.kept_texts import KeptTexts
    from packer.opening.members.archive import Factory
    from packer.opening.members.member_listing import Listing


def frames_of(reader: FrameReader, entry: int, copied: Container[int] = ()) -> Iterator[int]:
    """Yield the frames that `read_entry` decodes for an entry, each as often as it does.

    Args:
        reader: of the version's frames.
        entry: ordinal of the file.
        copied: ordinals of the predecessors that files on this machine equal.
    """
    for runs in reader.index.split_runs(entry):  # the content, then the recipe
        for start, length in runs:
            for frame, _, _ in reader.frames.parts(start, length):
                yield frame
    expansion = reader.index.expansions.get(entry)
    if expansion is not None:
        yield from frames_of_predecessors(reader, expansion.predecessors, copied)


def read_entry(
    reader: FrameReader,
    entry: int,
    executor: Executor | None = None,
    old: OldFiles | None = None,
) -> Iterator[bytes | memoryview]:
    """Yield the bytes of a file.

    Args:
        reader: of the version's frames.
        entry: ordinal of the file.
        executor: rebuilds parts of archives; None rebuilds them in the calling thread.
        old: makes the streams of predecessors; None makes them for this file alone.

    Yields:
        The bytes, in pieces, each valid until the next is asked for.

    Raises:
        FormatError: a frame or the recipe is damaged.
        DigestMismatch: a chunk, or the file, has another digest than the index says.
    """
    index = reader.index
    row = index.expansions.get(entry)
    if row is None:
        yield from chunks(reader, index.runs_of(entry))
        return
    what = show(index.paths[entry])
    with ExitStack() as stack:
        if old is None:
            old = OldFiles(reader)
            stack.callback(old.close)
        streams = stack.enter_context(old.streams(row, what, executor))
        runs = index.runs_of(entry)
        digest = yield from rebuilt(reader, row, runs, what, streams, executor)
    if not reader.check.record_file(entry, digest):
        raise DigestMismatch(
            what, "blake3:" + row.digest.hex(), "blake3:" + digest[:DIGEST_BYTES].hex()
        )


def matches(file: BinaryIO, frames: Frames, entry: int, check: Check) -> bool:
    """Compare a file with an entry of the same size.

    Args:
        file: open for reading; read from its start.
        frames: of the version.
        entry: ordinal of the entry.
        check: records the digests that were verified.

    Returns:
        Whether the file has the entry's content.
    """
    index = frames.index
    file.seek(0)
    if entry in index.expansions:
        hasher = blake3.blake3()
        while data := file.read(1 << 20):
            hasher.update(data)
        return check.record_file(entry, hasher.digest())
    for start, length in index.runs_of(entry):
        for chunk in range(start, start + length):
            data = file.read(frames.end[chunk + 1] - frames.end[chunk])
            if not check.record(chunk, blake3.blake3(data).digest()):
                return False
    return True


class FileReader:
    """Reads files of a version, through one frame reader made at the first read; a context manager.

    Args:
        version: holds the files.
        kept: keeps texts for readers of other versions; None keeps none.
        cost: counts what is read, complete once the reader is closed; None counts nothing.
    """

    def __init__(
        self, version: Version, kept: KeptTexts | None = None, cost: Cost | None = None
    ) -> None:
        self._kept = kept
        self._cost = cost
        self._stack = ExitStack()
        self._version = version
        self._opened: tuple[FrameReader, Executor, OldFiles] | None = None
        self.sizes = version.index.entry_sizes()
        renew_in_children(self)

    def renew_after_fork(self) -> None:
        """In a forked child: begin anew, without the threads and the open files of the parent."""
        self._stack = ExitStack()
        self._opened = None

    def __enter__(self) -> FileReader:
        """Return the reader."""
        return self

    def __exit__(self, *error: object) -> None:
        """Release frames, threads and files."""
        self._stack.close()

    def read(self, entry: int, *, alone: bool = False) -> Iterator[bytes | memoryview]:
        """Yield the bytes of a file.

        Args:
            entry: its ordinal.
            alone: whether it is the only file to be read: frames are released as it goes on.

        Yields:
            The bytes, in pieces, each valid until the next is asked for.
        """
        reader, executor, old = self._tools()
        if alone:
            reader.expect(frames_of(reader, entry))
        yield from read_entry(reader, entry, executor, old)

    def _open(self) -> tuple[FrameReader, Executor, OldFiles]:
        enter = self._stack.enter_context
        reader = enter(opened_frames(self._version, cost=self._cost))
        old = enter(closing(OldFiles(reader, kept=self._kept)))
        return reader, enter(ThreadPoolExecutor(os.cpu_count() or 1, "read")), old

    def members(self, entry: int, *, digests: bool = False) -> Listing | None:
        """List the archive at `entry`, from what is stored of it.

        Args:
            entry: its ordinal.
            digests: whether to compute digests of the members, which reads all of them.

        Returns:
            The members; None if the file is no archive.
        """
        from packer.opening.members.member_listing import list_members

        with ExitStack() as stack:
            return list_members(
                self._factory(entry, stack),
                most_opened(self.sizes[entry]),
                digests=digests,
                exact=self._exact(entry),
            )

    def member(self, entry: int, path: str) -> Iterator[bytes | memoryview]:
        """Read a file in the archive at `entry`.

        Args:
            entry: its ordinal.
            path: of the member.

        Returns:
            The content, in pieces.

        Raises:
            KeyError: the archive has no such file.
            ValueError: the file cannot be read; also while the pieces are taken.
        """
        from packer.opening.members.member_reading import read_member

        with ExitStack() as stack:
            pieces = read_member(
                self._factory(entry, stack),
                path,
                most_opened(self.sizes[entry]),
                exact=self._exact(entry),
            )
            later = stack.pop_all()

        def read() -> Iterator[bytes | memoryview]:
            with later:
                yield from pieces

        return read()

    def member_texts(
        self, entry: int, paths: Set[str], max_bytes: int, total_bytes: int
    ) -> dict[str, bytes | str]:
        """Read files in the archive at `entry`, going through it once.

        Args:
            entry: its ordinal.
            paths: of the members.
            max_bytes: greatest file that is read; of a larger one, one byte more is.
            total_bytes: greatest number of bytes of all files together.

        Returns:
            By path, the content, or why the file cannot be read; a NUL for a file that holds a
            compressed stream. What the archive does not have is missing.
        """
        from packer.opening.members.member_texts import read_texts

        most = most_opened(self.sizes[entry])
        with ExitStack() as stack:
            factory = self._factory(entry, stack)
            return read_texts(
                factory,
                paths,
                most,
                max_bytes,
                total_bytes=total_bytes,
                exact=self._exact(entry),
            )

    def _factory(self, entry: int, stack: ExitStack) -> Factory:
        """Return a function that opens a file as it is stored, until the stack is closed."""
        from packer.opening.members.stored_pieces import Run, Stream
        from packer.opening.members.stored_stream import stored_stream

        reader, executor, old = self._tools()
        index = self._version.index
        runs, recipe_runs = index.split_runs(entry)
        content = RunContent(reader, runs)
        if entry not in index.expansions:
            whole = [Run(content, 0, content.size)] if content.size else []
            return lambda: Stream(whole)
        from packer.opening.against import Against

        recipe = RunContent(reader, recipe_runs)
        held = Gathered(recipe.read(0, recipe.size), recipe.size, SPILL_BYTES, reader.directory)
        row, name = index.expansions[entry], show(index.paths[entry])
        what = f"recipe of {name}"
        streams = stack.enter_context(old.streams(row, name, executor))

        def opened() -> Stream:
            return stored_stream(Recipe(held.data, what), content, Against(streams, row.size, what))

        return opened

    def _exact(self, entry: int) -> Callable[[], Factory] | None:
        """Return a function that rebuilds a file that was opened; None for other files."""
        if entry not in self._version.index.expansions:
            return None
        from packer.opening.members.spooling import spooled
        from packer.opening.members.stored_pieces import Run, Stream

        def whole() -> Factory:
            content = spooled(self.read(entry))
            return lambda: Stream([Run(content, 0, content.size)])

        return whole

    def _tools(self) -> tuple[FrameReader, Executor, OldFiles]:
        if self._opened is None:
            self._opened = self._open()
        return self._opened
