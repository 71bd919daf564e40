"""Rebuilds files that were opened, and the predecessors that their recipes refer to.

A predecessor that is stored closed is read from its frames, as far as its old streams are asked
for. One that was opened itself is rebuilt first, in memory or a temporary file. Either is copied
from a file on this machine if there is an equal one.
"""

from __future__ import annotations

import os
from array import array
from bisect import bisect_right
from collections.abc import Callable, Container, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING

import blake3

from packer.engine.memory import release_free_memory, release_large_blocks, writable
from packer.errors import DigestMismatch
from packer.files.spool import Memory, Spool
from packer.files.temporary import Gathered, read_at, temporary_file, write_at
from packer.format.cost import Cost
from packer.format.frame_reader import FrameReader
from packer.format.index import DIGEST_BYTES, Index, split_runs
from packer.format.text_match import TextMatch
from packer.opening.expansion import Expansion
from packer.opening.predecessor import DEFLATE, Predecessor
from packer.opening.recipe import SPILL_BYTES

if TYPE_CHECKING:  # loaded by the first file that was opened: most versions hold none
    from packer.opening.kept_texts import KeptTexts
    from packer.opening.old_streams import OldStreams
    from packer.opening.rebuilder import Rebuilder
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
    for piece in _rebuilder(reader, row, runs, what, old, executor).pieces():
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
) -> Rebuilder:
    """Return what rebuilds a file that was opened; arguments as for `rebuilt`."""
    from packer.opening.rebuilder import Rebuilder

    content, recipe = split_runs(runs, row.recipe_chunks)
    ends = reader.frames.end
    size = sum(ends[start + length] - ends[start] for start, length in recipe)
    gathered = Gathered(chunks(reader, recipe), size, SPILL_BYTES, reader.directory)
    return Rebuilder(
        gathered,
        chunks(reader, content),
        row.size,
        what,
        executor,
        old,
        as_text=isinstance(row, Predecessor),
        room=reader.room,
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
        for start, length in row.runs:
            for frame, _, count in reader.frames.parts(start, length):
                yield from (frame,) * (1 if row.recipe_chunks else count)
        yield from frames_of_predecessors(reader, row.predecessors, copied)


@contextmanager
def random_access(
    reader: FrameReader,
    row: Predecessor,
    what: str,
    old: OldFiles,
    executor: Executor | None,
) -> Iterator[Callable[[int, int], bytes | memoryview]]:
    """Open a predecessor for reading any part; one that was opened is rebuilt first.

    Args:
        reader: of the version's frames.
        row: of the predecessor; its streams do not matter.
        what: how errors name it.
        old: makes the streams that it refers to itself.
        executor: as for `rebuilt`.

    Yields:
        Returns bytes, given the first one and a length; in any thread.

    Raises:
        FormatError: a frame or recipe is damaged.
        DigestMismatch: a chunk, or the rebuilt file, has another digest than the index says.
    """
    if not row.recipe_chunks:
        yield _Closed(RunContent(reader, row.runs)).read
        return
    file = _Held(row, reader)
    try:
        _rebuild(file, reader, row, what, old, executor)
        yield file.read
    finally:
        file.close()


@contextmanager
def only_stream(
    reader: FrameReader, row: Predecessor, what: str, old: OldFiles
) -> Iterator[tuple[int, RebuiltStream] | None]:
    """Make the plaintext of a predecessor that is one deflate stream, without the predecessor.

    Args:
        reader: of the version's frames.
        row: of the predecessor; only its streams do not matter.
        what: how errors name it.
        old: makes the streams that it refers to itself.

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

    with old.streams(row, what, None) as streams:
        first = _rebuilder(reader, row, row.runs, what, streams, None).first_stream()
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
    ) -> None:
        self._reader = reader
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
                    found.fill(self, self._reader, what, executor)
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
                read = self._stack.enter_context(random_access(reader, row, name, old, executor))
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
            rebuilder = _rebuilder(reader, row, row.runs, what, streams, None)
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


class _Held:
    """A predecessor as a whole, in memory or in a temporary file.

    Args:
        row: of the predecessor.
        reader: of the version's frames.
    """

    def __init__(self, row: Predecessor, reader: FrameReader) -> None:
        self._file = temporary_file(reader.directory) if row.size > SPILL_BYTES else None
        self._held = bytearray()
        self.size = 0

    def append(self, piece: bytes | memoryview) -> None:
        """Write the next bytes of the file."""
        if self._file is not None:
            write_at(self._file, piece, self.size)
        else:
            self._held += piece
        self.size += len(piece)

    def read(self, start: int, length: int) -> bytes | memoryview:
        """Return a part of the file."""
        if self._file is not None:
            return read_at(self._file, length, start)
        return memoryview(self._held)[start : start + length]

    def close(self) -> None:
        """Remove the temporary file."""
        if self._file is not None:
            self._file.close()


def _rebuild(
    file: _Held,
    reader: FrameReader,
    row: Predecessor,
    what: str,
    old: OldFiles,
    executor: Executor | None,
) -> None:
    """Rebuild a predecessor that was opened."""
    with old.streams(row, what, executor) as streams:
        pieces = rebuilt(reader, row, row.runs, what, streams, executor)
        while True:
            try:
                piece = next(pieces)
            except StopIteration as end:
                digest: bytes = end.value
                break
            file.append(piece)
    if row.is_opened_file and digest[:DIGEST_BYTES] != row.digest:
        raise DigestMismatch(
            what, "blake3:" + row.digest.hex(), "blake3:" + digest[:DIGEST_BYTES].hex()
        )


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


def _copied(path: bytes, row: Predecessor, reader: FrameReader) -> _Held | None:
    """Copy a file that equalled a predecessor; return None if it has changed since."""
    try:
        source = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    match, file = TextMatch(row, reader.index), _Held(row, reader)
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


class RunContent:
    """The bytes of some runs of chunks, with random access.

    Args:
        reader: of the version's frames.
        runs: first chunk and number of chunks of each.
    """

    def __init__(self, reader: FrameReader, runs: Iterable[tuple[int, int]]) -> None:
        self._reader = reader
        self._chunks = array("I")
        self._ends = array("Q")
        ends, size = reader.frames.end, 0
        for start, length in runs:
            self._chunks.extend(range(start, start + length))
            self._ends.extend(
                size + ends[at] - ends[start] for at in range(start + 1, start + length + 1)
            )
            size += ends[start + length] - ends[start]
        self.size = size

    def read(self, start: int, length: int) -> Iterator[memoryview]:
        """Yield the bytes ``[start, start + length)``, verified."""
        while length > 0:
            at, before = self.chunk_at(start)
            part = self.chunk(at)[start - before :][:length]
            yield part
            start, length = start + len(part), length - len(part)

    def chunk_at(self, position: int) -> tuple[int, int]:
        """Return the number of the chunk that holds a position, and the bytes before it."""
        at = bisect_right(self._ends, position)
        return at, self._ends[at - 1] if at else 0

    def chunk(self, at: int) -> memoryview:
        """Return a chunk."""
        return self._reader.chunks(self._chunks[at], 1)[0]


class _Closed:
    """A predecessor that is stored as it is.

    Args:
        content: its bytes.
    """

    def __init__(self, content: RunContent) -> None:
        self._content = content
        self._last = -1, memoryview(b"")
        """The chunk that a read ended within: the next one often goes on there."""

    def read(self, start: int, length: int) -> memoryview:
        """Return a part of the file."""
        out, done = writable(length), 0
        while done < length:
            at, before = self._content.chunk_at(start + done)
            last, chunk = self._last
            if last != at:
                chunk = self._content.chunk(at)
                if before + len(chunk) > start + length:
                    chunk = memoryview(bytes(chunk))  # a view keeps a whole frame alive
                    self._last = at, chunk
            part = chunk[start + done - before :][: length - done]
            out[done : done + len(part)] = part
            done += len(part)
        return out
