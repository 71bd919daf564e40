"""Rebuilds files that were opened, and the predecessors that their recipes refer to.

A predecessor that is stored closed is read from its frames, as far as its old streams are asked
for. Of one that was opened itself, what its recipe makes is made first. Either is copied from a
file on this machine if there is an equal one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING

import blake3

from packer.engine.memory import release_free_memory, release_large_blocks
from packer.errors import DigestMismatch
from packer.files.spool import Memory, Spool
from packer.files.temporary import Gathered
from packer.format.cost import Cost
from packer.format.frame_reader import FrameReader
from packer.format.index import DIGEST_BYTES, Index, split_runs
from packer.format.predecessor_texts import (
    ClosedText,
    ContentPieces,
    HeldText,
    OpenedText,
    RunContent,
)
from packer.format.text_match import TextMatch
from packer.opening.expansion import Expansion
from packer.opening.predecessor import DEFLATE, Predecessor
from packer.opening.recipe import SPILL_BYTES

if TYPE_CHECKING:  # loaded by the first file that was opened: most versions hold none
    from packer.opening.kept_texts import KeptTexts
    from packer.opening.old_streams import OldStreams
    from packer.opening.rebuilder import Leave, Rebuilder
    from packer.opening.rebuilt_stream import RebuiltStream
    from packer.opening.segment_cache import SegmentCache

HEAVY_BYTES = 8 << 20
"""Plaintext of old streams in bytes above which they take up to 100 MB of memory."""
_COPY_BYTES = 1 << 20
"""Bytes copied at a time."""


def rebuilt(
    reader: FrameReader,
    row: Expansion | Predecessor,
    runs: Iterable[tuple[int, int]],
    what: str,
    old: OldStreams | None,
    executor: Executor | None,
) -> Generator[bytes | memoryview, None, bytes]:
    """Yield the bytes of a file that was opened, the text of a predecessor; return its digest.

    Args:
        reader: of the version's frames.
        row: of the file or the predecessor.
        runs: of its content, then its recipe.
        what: how errors name the file.
        old: streams of its predecessors.
        executor: rebuilds parts of it; None rebuilds them in the calling thread.

    Yields:
        The bytes, in pieces, each valid until the next is asked for.

    Returns:
        The BLAKE3-256 of these bytes, which the caller compares.
    """
    hasher = blake3.blake3()
    content, _ = split_runs(runs, row.recipe_chunks)
    source = chunks(reader, content)
    for piece in _rebuilder(reader, row, runs, what, old, executor, source).pieces():
        hasher.update(piece)
        yield piece
    return hasher.digest()


def _rebuilder(
    reader: FrameReader,
    row: Expansion | Predecessor,
    runs: Iterable[tuple[int, int]],
    what: str,
    old: OldStreams | None,
    executor: Executor | None,
    content: Iterator[memoryview],
    leave: Leave | None = None,
) -> Rebuilder:
    """Return what rebuilds a file that was opened.

    Args:
        reader: as for `rebuilt`, like all arguments but the last two.
        row: of the file or the predecessor.
        runs: of its content, then its recipe.
        what: how errors name the file.
        old: streams of its predecessors.
        executor: rebuilds parts of it.
        content: its content.
        leave: as for `Rebuilder`.
    """
    from packer.opening.rebuilder import Rebuilder

    _, recipe = split_runs(runs, row.recipe_chunks)
    size = reader.frames.run_bytes(recipe)
    gathered = Gathered(chunks(reader, recipe), size, SPILL_BYTES, reader.directory)
    return Rebuilder(
        gathered,
        content,
        row.size,
        what,
        executor,
        old,
        as_text=isinstance(row, Predecessor),
        room=reader.room,
        leave=leave,
    )


def chunks(reader: FrameReader, runs: Iterable[tuple[int, int]]) -> Iterator[memoryview]:
    """Yield the chunks of runs, joined where a frame holds neighbours."""
    for start, length in runs:
        for _, first, count in reader.frames.parts(start, length):
            yield from reader.chunks(first, count)


def frames_of_predecessors(
    reader: FrameReader, named: Iterable[int], copied: Container[int] = ()
) -> Iterator[int]:
    """Yield the frames that `OldFiles` decodes for predecessors, about as often as it does.

    Args:
        reader: of the version's frames.
        named: ordinals of the predecessors.
        copied: ordinals of the predecessors that files on this machine equal.
    """
    for ordinal in named:
        if ordinal in copied:
            continue
        row = reader.index.predecessors[ordinal]
        # What lies in chunks for the most part is left there, and a frame read for each chunk.
        in_chunks = 2 * reader.frames.run_bytes(row.runs) > row.size
        for start, length in row.runs:
            for frame, _, count in reader.frames.parts(start, length):
                yield from (frame,) * (count if in_chunks else 1)
        yield from frames_of_predecessors(reader, row.predecessors, copied)


@contextmanager
def random_access(
    reader: FrameReader,
    row: Predecessor,
    what: str,
    old: OldFiles,
    executor: Executor | None,
) -> Iterator[ClosedText | OpenedText]:
    """Open a predecessor for reading any part; what the recipe of an opened one makes is made.

    Args:
        reader: of the version's frames.
        row: of the predecessor; its streams do not matter.
        what: how errors name it.
        old: makes the streams that it refers to itself.
        executor: as for `rebuilt`.

    Yields:
        Its text; to be read in any thread.

    Raises:
        FormatError: a frame or recipe is damaged.
        DigestMismatch: a chunk, or a file all of which was made, has another digest than the index
            says.
    """
    if not row.recipe_chunks:
        yield ClosedText(RunContent(reader, row.runs))
        return
    text = OpenedText(row, reader)
    try:
        _rebuild(text, reader, row, what, old, executor)
        yield text
    finally:
        text.close()


@contextmanager
def only_stream(
    reader: FrameReader, row: Predecessor, what: str, old: OldFiles, executor: Executor | None
) -> Iterator[tuple[int, RebuiltStream] | None]:
    """Make the plaintext of a predecessor that is one deflate stream, without the predecessor.

    Args:
        reader: of the version's frames.
        row: of the predecessor; only its streams do not matter.
        what: how errors name it.
        old: makes the streams that it refers to itself.
        executor: as for `rebuilt`.

    Yields:
        Where the stream begins in the predecessor, and the stream, not to be used behind the
        context; None if the predecessor is to be read as a file.

    Raises:
        FormatError: a frame or recipe is damaged.
        DigestMismatch: a chunk has another digest than the index says.
    """
    if not row.recipe_chunks:
        yield None
        return
    from packer.opening.rebuilt_stream import RebuiltStream

    with old.streams(row, what, executor) as streams:
        content = chunks(reader, split_runs(row.runs, row.recipe_chunks)[0])
        rebuilder = _rebuilder(reader, row, row.runs, what, streams, executor, content)
        first = rebuilder.first_stream()
        if first is None or not first.size:
            yield None
            return
        spool = partial(Spool, memory=old.memory, directory=reader.directory)
        name = f"deflate stream in {what}"
        kept = None
        if old.kept is not None:  # for the next version's reader
            kept = old.kept, _text_key(reader.index, row, first.offset)
        made = RebuiltStream(first, first.size, row.size, name, old.cache, spool, kept)
        with closing(made):
            made.read(first.size - 1, 1)
            if first.size > HEAVY_BYTES:  # what made it is not needed to compare with it
                release_free_memory()
            yield (first.offset, made) if first.is_only() else None


def unread(start: int, length: int) -> bytes:
    """Stand for reading a file that is never made: nothing refers to its bytes.

    Args:
        start: of the bytes.
        length: of the bytes.

    Raises:
        AssertionError: always.
    """
    raise AssertionError(f"bytes {start} to {start + length} of a file that was not made")


class OldFiles:
    """Makes old streams for the files of one version; safe to share between threads.

    Streams that several files use at a time are the same object, and those used last are kept for
    the next one.

    Args:
        reader: of the version's frames.
        copies: by ordinal of a predecessor, the path of a file that equalled it; one that has
            changed since is not used.
        cache_bytes: memory of segments, in bytes; None for what a reader takes.
        kept: keeps texts for readers of other versions; None keeps none.
        is_alone: whether the streams are made without an executor, as its threads ask for the same:
            they must not wait for one that waits for them.
    """

    cache: SegmentCache
    """Keeps segments of all old streams; there once some are asked for, as is `memory`."""
    memory: Memory
    """What plaintext of old streams takes, and segments of opened predecessors."""

    def __init__(
        self,
        reader: FrameReader,
        copies: Mapping[int, bytes] | None = None,
        cache_bytes: int | None = None,
        kept: KeptTexts | None = None,
        *,
        is_alone: bool = False,
    ) -> None:
        self._reader = reader
        self._is_alone = is_alone
        self.kept = kept
        self.copies = copies or {}
        self._cache_bytes = cache_bytes
        self._lock = Lock()
        self._sets: dict[tuple[int, ...], _Set] = {}
        self._idle: _Set | None = None
        self._is_used = False

    def close(self) -> None:
        """Release all streams; none may be used any more."""
        with self._lock:
            held = [*self._sets.values(), self._idle]
            self._idle = None
        for item in held:
            if item is not None:
                item.close()
        if self._is_used:
            self.cache.clear()
            release_free_memory()

    def _prepare(self) -> None:
        """Make what all streams share; under the lock."""
        from packer.opening.old_streams import CACHE_BYTES
        from packer.opening.rebuilt_stream import MEMORY_BYTES
        from packer.opening.segment_cache import SegmentCache

        most = CACHE_BYTES if self._cache_bytes is None else self._cache_bytes
        self.cache, self.memory = SegmentCache(most), Memory(MEMORY_BYTES)
        self._is_used = True

    def is_heavy(self, entry: int) -> bool:
        """Return whether the old streams of an entry may take much memory."""
        row = self._reader.index.expansions.get(entry)
        return row is not None and self._plain(row.predecessors) > HEAVY_BYTES

    def _plain(self, named: Iterable[int]) -> int:
        """Return the bytes of plaintext of predecessors, and of their own."""
        rows = self._reader.index.predecessors
        return sum(
            sum(stream.size for stream in rows[at].streams) + self._plain(rows[at].predecessors)
            for at in named
        )

    @contextmanager
    def streams(
        self, row: Expansion | Predecessor, what: str, executor: Executor | None
    ) -> Iterator[OldStreams | None]:
        """Make the old streams that a file's recipe refers to; rebuild what they lie in.

        Args:
            row: of the file.
            what: how errors name the file.
            executor: as for `rebuilt`.

        Yields:
            The streams, None if there are none; not to be used behind the context.

        Raises:
            FormatError: a frame, or a recipe of a predecessor, is damaged.
            DigestMismatch: a chunk, or a predecessor, has another digest than the index says.
        """
        if not row.predecessors:
            yield None
            return
        key = row.predecessors
        with self._lock:
            if not self._is_used:
                self._prepare()
            if self._idle is not None and self._idle.key == key:
                self._sets[key], self._idle = self._idle, None
            found = self._sets.setdefault(key, _Set(key))
            found.users += 1
        try:
            with found.lock:
                if found.streams is None:
                    found.fill(self, self._reader, what, None if self._is_alone else executor)
            yield found.streams
        finally:
            released: list[_Set] = []
            with self._lock:
                found.users -= 1
                if not found.users:
                    del self._sets[key]
                    # Not kept: the streams of a link of a chain, which are done with.
                    if isinstance(row, Expansion) and found.streams is not None:
                        released += [self._idle] if self._idle is not None else []
                        self._idle = found
                    else:
                        released.append(found)
            for item in released:
                item.close()


class _Set:
    """The streams of some predecessors, and the files rebuilt for them.

    Args:
        key: ordinals of the predecessors.
    """

    def __init__(self, key: tuple[int, ...]) -> None:
        self.key = key
        self.users = 0
        self.lock = Lock()
        self.streams: OldStreams | None = None
        self._stack = ExitStack()

    def fill(
        self, old: OldFiles, reader: FrameReader, what: str, executor: Executor | None
    ) -> None:
        """Make the streams."""
        from packer.opening.old_streams import OldFile, OldStreams

        files = []
        for ordinal in self.key:
            row = reader.index.predecessors[ordinal]
            name = f"predecessor {ordinal} of {what}"
            copy = _copied(old.copies[ordinal], row, reader) if ordinal in old.copies else None
            first = self._first(old, reader, ordinal, name, executor) if copy is None else None
            read: Callable[[int, int], bytes | memoryview]
            if copy is not None:
                self._stack.callback(copy.close)
                read = copy.read
            elif first is not None:
                read = unread
            else:
                opened = random_access(reader, row, name, old, executor)
                read = self._stack.enter_context(opened).read
            files.append(OldFile(read, row.size, row.streams, name, first))
        if sum(stream.size for file in files for stream in file.streams) > HEAVY_BYTES:
            release_large_blocks()
        self.streams = OldStreams(files, reader.directory, old.cache, old.memory)
        self._stack.callback(self._end, self.streams, reader.spent)

    def _first(
        self,
        old: OldFiles,
        reader: FrameReader,
        ordinal: int,
        what: str,
        executor: Executor | None,
    ) -> Callable[[str, SegmentCache], RebuiltStream] | None:
        """Return what makes the only stream of an opened predecessor, without its file."""
        row = reader.index.predecessors[ordinal]
        outer = [stream for stream in row.streams if not stream.parent]
        if not row.recipe_chunks or len(outer) != 1 or outer[0].kind != DEFLATE:
            return None
        with ExitStack() as stack:
            streams = stack.enter_context(old.streams(row, what, executor))
            # Without the executor: its threads ask for the stream, and must not wait for one.
            content = chunks(reader, split_runs(row.runs, row.recipe_chunks)[0])
            rebuilder = _rebuilder(reader, row, row.runs, what, streams, None, content)
            first = rebuilder.first_stream(outer[0].offset)
            if first is None:
                return None
            self._stack.push(stack.pop_all())
        kept = None
        if old.kept is not None:
            kept = old.kept, _text_key(reader.index, row, outer[0].offset)

        from packer.opening.rebuilt_stream import RebuiltStream

        def made(name: str, cache: SegmentCache) -> RebuiltStream:
            spool = partial(Spool, memory=old.memory, directory=reader.directory)
            return RebuiltStream(first, outer[0].size, row.size, name, cache, spool, kept)

        return made

    @staticmethod
    def _end(streams: OldStreams, cost: Cost) -> None:
        """Count what the streams took, and release them."""
        cost.old_text_bytes += streams.made_bytes
        streams.close()

    def close(self) -> None:
        """Release memory and files."""
        self._stack.close()


def _rebuild(
    text: OpenedText,
    reader: FrameReader,
    row: Predecessor,
    what: str,
    old: OldFiles,
    executor: Executor | None,
) -> None:
    """Make what the recipe of a predecessor makes.

    Where long stretches of its content are left in their chunks, nobody has the digest of all of
    it. Those chunks have digests, and so has the file that is made of it.

    Raises:
        FormatError: a frame or recipe is damaged.
        DigestMismatch: a chunk, or a file all of which was made, has another digest than the index
            says.
    """
    from packer.opening.rebuilder import Leave

    content = ContentPieces(reader, split_runs(row.runs, row.recipe_chunks)[0])
    hasher = blake3.blake3()
    with old.streams(row, what, executor) as streams:
        rebuilder = _rebuilder(
            reader, row, row.runs, what, streams, executor, content, Leave(content.skip, text.leave)
        )
        for piece in rebuilder.pieces():
            text.append(piece)
            if text.is_made:
                hasher.update(piece)
    digest = hasher.digest()[:DIGEST_BYTES]
    if text.is_made and row.is_opened_file and digest != row.digest:
        raise DigestMismatch(what, "blake3:" + row.digest.hex(), "blake3:" + digest.hex())


def _text_key(index: Index, row: Predecessor, offset: int) -> bytes:
    """Return a digest of all that the text of a predecessor's stream is made of.

    Not of what the index says that comes of it: another version could say anything.

    Args:
        index: of the version.
        row: of the predecessor; its streams do not matter.
        offset: where the stream begins in it.
    """
    hasher = blake3.blake3(repr((row.size, row.recipe_chunks, offset)).encode())
    for start, length in row.runs:
        hasher.update(index.chunk_digests[start * DIGEST_BYTES : (start + length) * DIGEST_BYTES])
    for at in row.predecessors:
        older = index.predecessors[at]
        hasher.update(_text_key(index, older, -1) + repr(older.streams).encode())
    return hasher.digest()


def _copied(path: bytes, row: Predecessor, reader: FrameReader) -> HeldText | None:
    """Copy a file that equalled a predecessor; return None if it has changed since."""
    try:
        source = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    match, file = TextMatch(row, reader.index), HeldText(row.size, reader.directory)
    sound = False
    try:
        with suppress(OSError):
            while (data := os.read(source, _COPY_BYTES)) and match.take(data):
                file.append(data)
            sound = match.is_whole
    finally:
        os.close(source)
        if not sound:
            file.close()
    return file if sound else None
