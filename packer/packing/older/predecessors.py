"""The files of the base that changed archives are opened against.

The predecessor of a file is the base's file that `counterparts` finds. It may be closed, or opened
against a predecessor of its own: a chain. A chain that is long enough, or whose last link lies in a
layer that is given up, is left for a link half-way back, or the closed file at its other end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from packer.engine.memory import release_free_memory, release_large_blocks
from packer.files.tree import show
from packer.format.frame_reader import FrameReader
from packer.format.index import Index, split_runs
from packer.format.rebuilding import OldFiles, chunks, only_stream, random_access, rebuilt, unread
from packer.opening.expansion import Expansion
from packer.opening.predecessor import (
    MAX_LINKS,
    MAX_OLD_STREAMS,
    MAX_PREDECESSORS,
    MAX_RUNS,
    NO_FILE,
    PACKING_CACHE_BYTES,
    OldStream,
    Predecessor,
)
from packer.opening.recipe import Recipe
from packer.packing.older.alike import HEAD_BYTES, Alike
from packer.packing.older.counterparts import Counterparts

if TYPE_CHECKING:
    from packer.opening.ahead import Run
    from packer.opening.equal_stretches import Chunk
    from packer.opening.kept_texts import KeptTexts
    from packer.opening.old_text import OldText
    from packer.opening.tar_members import Read
    from packer.opening.workers import Workers

    Places = Callable[[Read, int, Iterable[Chunk]], Sequence[int] | None]

_SMALL_BYTES = 16 << 20
"""Size of a file in bytes up to which a chain may have MAX_LINKS."""
_LINKS_OF_LARGE = 4
"""Length of a chain of larger files, at most: each link takes up to 40 MB of memory, and time."""
_LARGE_BYTES = 4 << 20
"""Size of a predecessor in bytes above which blocks are released to the system when they are freed:
kept in an arena for each thread, they take 100 to 400 MB more."""


def _look_everywhere(read: Read, size: int, chunks: Iterable[Chunk]) -> None:
    """Let streams be looked for everywhere in a text."""


class Found(NamedTuple):
    """A predecessor of a file.

    Args:
        row: of the predecessor in the base's ordinals, without streams. What is not known before
            its recipe is read: its size and digest if it `is_file`.
        is_back: whether it lies further back in a chain that is not made longer.
        is_file: whether the row's size and digest are of the opened file, which may not be its
            text.
    """

    row: Predecessor
    is_back: bool
    is_file: bool = False


class Text(NamedTuple):
    """A predecessor that was read.

    Args:
        text: its streams.
        row: of the predecessor, with its digest and the size of its text.
    """

    text: OldText
    row: Predecessor


class Predecessors:
    """Finds predecessors, reads them, and lists them in the new index.

    Args:
        base: reads the base's chunks; of an empty index if there is no base.
        usable: one byte for each chunk of the base: 1 if a version may refer to it.
        index: of the new version; gets the rows of the predecessors.
        counterparts: finds the base's files.
        is_gone: returns whether the new version has no file at a path of the base.
        texts: as `OldFiles` takes it.
    """

    def __init__(
        self,
        base: FrameReader,
        usable: bytearray,
        index: Index,
        counterparts: Counterparts | None,
        is_gone: Callable[[bytes], bool],
        texts: KeptTexts | None = None,
    ) -> None:
        self._base = base
        self._usable = usable
        self._index = index
        self._counterparts = counterparts
        self._rows: dict[int, int] = {}  # of the base's predecessors that the new index lists
        self._links: dict[int, int] = {}
        # A predecessor that was opened needs segments of its own and of the file before it.
        self._old = OldFiles(base, cache_bytes=2 * PACKING_CACHE_BYTES, kept=texts, is_alone=True)
        self._alike = Alike(base.index, is_gone, self.head, self._root_head)
        self._stack = ExitStack()
        self._last: tuple[Predecessor, Text] | None = None
        self._ahead: _TextAhead | None = None

    def close(self) -> None:
        """Release memory and temporary files."""
        self.drop_ahead()
        self.release()
        self._old.close()

    def counterpart(self, path: bytes, head: bytes, size: int, run: Run | None = None) -> int:
        """Return the entry of the base that is most like a new file, -1 if there is none.

        Args:
            path: of the new file.
            head: its first bytes, HEAD_BYTES of `older.alike` at most.
            size: of the new file in bytes.
            run: as `Alike.find` takes it.
        """
        if self._counterparts is None:
            return -1
        entry = self._counterparts.entry(path)
        return entry if entry >= 0 else self._alike.find(head, size, run)

    def size(self, entry: int) -> int:
        """Return the size in bytes of an entry of the base, which is a file."""
        index = self._base.index
        row = index.expansions.get(entry)
        return row.size if row is not None else self._base.frames.run_bytes(index.runs_of(entry))

    def head(self, entry: int) -> bytes:
        """Return the first bytes of an entry of the base, HEAD_BYTES of them."""
        index, out = self._base.index, bytearray()
        expansion, runs = index.expansions.get(entry), index.runs_of(entry)
        if expansion is None:
            for piece in chunks(self._base, runs):
                out += piece
                if len(out) >= HEAD_BYTES:
                    break
        else:
            name = show(index.paths[entry])
            with self._old.streams(expansion, name, None) as streams:
                pieces = rebuilt(self._base, expansion, runs, name, streams, None)
                for part in pieces:
                    out += part
                    if len(out) >= HEAD_BYTES:
                        break
                pieces.close()
        return bytes(out[:HEAD_BYTES])

    def _root_head(self, entry: int) -> bytes:
        """Return the first bytes of the root of an entry's chain, HEAD_BYTES; none of a closed one.

        They are the bytes of chunks; those of the entry itself would have to be made.
        """
        index, out = self._base.index, bytearray()
        expansion = index.expansions.get(entry)
        if expansion is None or not expansion.predecessors:
            return b""
        row = index.predecessors[expansion.predecessors[0]]
        while row.predecessors:
            row = index.predecessors[row.predecessors[0]]
        if row.recipe_chunks:
            return b""
        for piece in chunks(self._base, row.runs):
            out += piece
            if len(out) >= HEAD_BYTES:
                break
        return bytes(out[:HEAD_BYTES])

    def is_modelled(self, entry: int, *, flat: bool) -> bool:
        """Return whether an entry of the base was opened by models, without a predecessor.

        Args:
            entry: its ordinal, or -1.
            flat: whether the new file has zstd streams that are opened. Then the entry may have
                such streams and nothing else that is opened, which is a text and no model.
        """
        row = self._base.index.expansions.get(entry)
        return (
            row is not None
            and not row.predecessors
            and not (flat and self._is_content(self._base.index.split_runs(entry)[1]))
        )

    def is_flat(self, entry: int) -> bool:
        """Return whether zstd streams of an entry of the base have their plaintext in its text.

        Args:
            entry: its ordinal, or -1.
        """
        if entry not in self._base.index.expansions:
            return False
        return self._recipe(self._base.index.split_runs(entry)[1]).text_bytes is not None

    def _is_content(self, runs: Iterable[tuple[int, int]]) -> bool:
        """Return whether the content of an opened file is its text, given the recipe's runs."""
        recipe = self._recipe(runs)
        return recipe.text_bytes is not None and recipe.is_content()

    def _recipe(self, runs: Iterable[tuple[int, int]]) -> Recipe:
        data = b"".join(chunks(self._base, runs))
        return Recipe(memoryview(data), "recipe of the base")

    def find(self, entry: int, *, flat: bool) -> Found | None:
        """Return the predecessor that an entry of the base gives.

        Args:
            entry: its ordinal.
            flat: as for `is_modelled`.

        Returns:
            The predecessor; None if there is none whose chunks may be referred to.
        """
        index = self._base.index
        opened = index.expansions.get(entry)
        runs = tuple(index.runs_of(entry))
        if opened is not None and not opened.predecessors:
            content, recipe = index.split_runs(entry)
            if not (flat and self._is_content(recipe)):
                return None
            opened, runs = None, tuple(content)
        if opened is None:
            row = Predecessor(self._base.frames.run_bytes(runs), 0, b"", runs)
            return Found(row, False) if self._may_use(row) else None
        row = Predecessor(
            opened.size, opened.recipe_chunks, opened.digest, runs, opened.predecessors
        )
        most = MAX_LINKS if row.size <= _SMALL_BYTES else _LINKS_OF_LARGE
        if self._links_of(row) <= most and self._may_use(row):
            return Found(row, False, is_file=True)
        while row.predecessors and (self._links_of(row) > most // 2 or not self._may_use(row)):
            row = index.predecessors[row.predecessors[0]]
        row = row._replace(streams=())
        return Found(row, True) if self._may_use(row) else None

    def extent(self, row: Predecessor) -> tuple[int, int]:
        """Return the length of a chain, and the number of predecessors of a file that it is of.

        Args:
            row: the file's predecessor, in the base's ordinals.
        """
        return self._links_of(row), sum(1 for _ in self.chain(row))

    def text(
        self,
        found: Found,
        what: bytes,
        places: Places = _look_everywhere,
        *,
        has_frames: bool = False,
        workers: Workers | None = None,
    ) -> Text:
        """Return a predecessor's text; valid until that of another one is asked for.

        Args:
            found: the predecessor.
            what: path of the file that is opened, for errors.
            places: given what reads the text, its size, and what it consists of, returns where
                streams may begin in it, as `Discovery` takes it.
            has_frames: whether to look for zstd streams as well.
            workers: do a part of the work; None reads it in the calling thread alone.
        """
        last = self._last
        if last is not None and last[0] == found.row and last[1].text.has_frames >= has_frames:
            return last[1]
        self.release()
        ahead = self._ahead
        if ahead is not None and ahead.found == found and not has_frames:
            self._ahead = None
            self._stack.callback(ahead.close)
            text = ahead.wait()
        else:
            opened = self.opened(found, what, places, has_frames=has_frames, workers=workers)
            text = self._stack.enter_context(opened)
        if text.text.is_whole:
            self._last = found.row, text
        return text

    def begin_text(
        self,
        found: Found,
        what: bytes,
        places: Places,
        workers: Workers,
    ) -> None:
        """Begin to read a predecessor that `text` will be asked for, in another thread.

        Args:
            found: the predecessor; not the one that was read last, which is there.
            what: as for `text`.
            places: as for `text`; called in the other thread.
            workers: read it.
        """
        self.drop_ahead()
        if workers.is_parallel and (self._last is None or self._last[0] != found.row):
            # By one thread alone: it must not wait for work that other threads are to do.
            opened = self.opened(found, what, places)
            self._ahead = _TextAhead(found, opened, workers)

    @property
    def has_ahead(self) -> bool:
        """Whether a predecessor was begun that nobody has asked for."""
        return self._ahead is not None

    def drop_ahead(self) -> None:
        """Forget the predecessor that was begun ahead, if there is one."""
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None

    @contextmanager
    def opened(
        self,
        found: Found,
        what: bytes,
        places: Places = _look_everywhere,
        *,
        has_frames: bool = False,
        beside: OldText | None = None,
        workers: Workers | None = None,
    ) -> Iterator[Text]:
        """Read a predecessor; in any thread.

        Args:
            found: the predecessor.
            what: path of the file that is opened, for errors.
            places: as for `text`.
            has_frames: as for `text`.
            beside: as for `OldText`.
            workers: as for `text`.

        Yields:
            Its text, valid within the context.
        """
        from packer.opening.old_text import OldText  # loaded by the first archive that changed

        row, name = found.row, f"predecessor of {show(what)}"
        if found.is_file:
            _, recipe = split_runs(row.runs, row.recipe_chunks)
            if (size := self._recipe(recipe).text_bytes) is not None:
                row = row._replace(size=size, digest=NO_FILE)
        if row.size > _LARGE_BYTES:
            release_large_blocks()
        executor = workers.executor if workers is not None else None
        with ExitStack() as stack:
            only = None
            if row.is_opened_file and not has_frames:  # else all of it has to be read for that
                only = stack.enter_context(only_stream(self._base, row, name, self._old, executor))
            read: Read = unread
            begins: Sequence[int] | None = None
            if only is None:
                old = stack.enter_context(random_access(self._base, row, name, self._old, executor))
                read, begins = old.read, places(old.read, row.size, old.chunks())
            text = OldText(
                read,
                row.size,
                self._base.directory,
                only,
                has_frames=has_frames,
                places=begins,
                beside=beside,
                run=workers.ahead if workers is not None else None,
            )
            stack.callback(text.close)
            yield Text(text, row)

    def has_room(self, found: Found, streams: int, further: Iterable[Predecessor] = ()) -> bool:
        """Return whether the new index may list a predecessor.

        Args:
            found: the predecessor.
            streams: number of streams that are listed, of further ones as well.
            further: rows that further predecessors add.
        """
        rows = [*self._index.predecessors, *self.chain(found.row), *further]
        return (
            len(rows) <= MAX_PREDECESSORS
            and sum(len(row.runs) for row in rows) <= MAX_RUNS
            and sum(len(row.streams) for row in rows) + streams <= MAX_OLD_STREAMS
        )

    def chain(self, row: Predecessor) -> Iterator[Predecessor]:
        """Yield a predecessor, and those that it refers to, each as often as it is referred to."""
        yield row
        for at in row.predecessors:
            yield from self.chain(self._base.index.predecessors[at])

    def add(self, row: Predecessor, streams: tuple[OldStream, ...]) -> int:
        """List a predecessor in the new index.

        Args:
            row: of the predecessor, as `Text` has it.
            streams: those that the new file's recipe refers to.

        Returns:
            Its ordinal there.
        """
        named = self._carry(row.predecessors)
        self._index.predecessors.append(row._replace(predecessors=named, streams=streams))
        return len(self._index.predecessors) - 1

    def keep(self, expansion: Expansion) -> Expansion | None:
        """Return the row for the new index of a file that the base holds opened.

        Args:
            expansion: its row in the base's index.

        Returns:
            The row; None if a predecessor lies in a layer that is given up.
        """
        rows = self._base.index.predecessors
        if not all(self._may_use(rows[at]) for at in expansion.predecessors):
            return None
        return expansion._replace(predecessors=self._carry(expansion.predecessors))

    def _carry(self, named: Iterable[int]) -> tuple[int, ...]:
        """List predecessors of the base in the new index; return their ordinals there."""
        out = []
        for at in named:
            if at not in self._rows:
                row = self._base.index.predecessors[at]
                row = row._replace(predecessors=self._carry(row.predecessors))
                self._index.predecessors.append(row)
                self._rows[at] = len(self._index.predecessors) - 1
            out.append(self._rows[at])
        return tuple(out)

    def _may_use(self, row: Predecessor) -> bool:
        """Return whether all chunks of a predecessor, and of its own, may be referred to."""
        rows = self._base.index.predecessors
        return all(
            self._usable.find(0, start, start + length) < 0 for start, length in row.runs
        ) and all(self._may_use(rows[at]) for at in row.predecessors)

    def _links_of(self, row: Predecessor) -> int:
        """Return the number of predecessors from one to the end of its chain, itself included."""
        rows = self._base.index.predecessors
        for at in row.predecessors:
            if at not in self._links:
                self._links[at] = self._links_of(rows[at])
        return 1 + max((self._links[at] for at in row.predecessors), default=0)

    def release(self) -> None:
        """Release the text that was returned last."""
        self._last = None
        self._stack.close()
        self._stack = ExitStack()


class _TextAhead:
    """A predecessor that is being read by another thread.

    Args:
        found: the predecessor.
        opened: opens it.
        workers: read it.
    """

    def __init__(
        self, found: Found, opened: AbstractContextManager[Text], workers: Workers
    ) -> None:
        self.found = found
        self._stack = ExitStack()
        self.wait = workers.run(partial(self._read, opened))
        """Returns its text, or raises what opening it raised."""

    def _read(self, opened: AbstractContextManager[Text]) -> Text:
        out = self._stack.enter_context(opened)
        out.text.release_segments()  # the file that is opened meanwhile needs the memory
        release_free_memory()
        return out

    def close(self) -> None:
        """Wait for the other thread; release memory and temporary files."""
        with suppress(Exception):  # told by `wait` to whoever needed the text
            self.wait()
        self._stack.close()
