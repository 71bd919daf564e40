"""Older copies on this machine: content that they hold need not be fetched.

Seeds are directories of any origin. Their files are cut into chunks as a version's files are. A
file that equals an entry of the version is taken whole (sharing its blocks where the file system
can). A frame whose needed chunks all lie in seeds is assembled from them. The bytes written are
verified as if they came from a stranger.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

import blake3

from packer.engine.chunking import BUFFER_BYTES, ChunkParams, iter_chunks
from packer.files.syscalls import clone_file
from packer.files.tree import FILE
from packer.format.frames import Frames
from packer.format.index import DIGEST_BYTES, Index
from packer.format.tree_digest import Check
from packer.reading.entry_content import matches
from packer.reading.write_plan import Plan

_COPY_BYTES = 1 << 20
"""Bytes copied at a time."""
_HOLE = bytes(_COPY_BYTES)
"""Zeros that are not copied: a hole stands for them."""
READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
"""Open a file of a seed, which may have become a link or a pipe since it was listed."""


class Seeds:
    """Finds the content of a version in directories.

    Args:
        directories: searched in this order; unreadable parts are skipped.
        params: the version's sizes of chunks.
        frames: of the version.
        sizes: of its entries.
        entries: ordinals of the entries to write.
    """

    def __init__(
        self,
        directories: Iterable[bytes],
        params: ChunkParams,
        frames: Frames,
        sizes: Sequence[int],
        entries: Sequence[int],
    ) -> None:
        index = frames.index
        self._frames = frames
        self._index: Index = index
        self._files: list[bytes] = []
        self._places: dict[int, tuple[int, int]] = {}
        """By chunk: the number of the file that holds it, and the offset."""
        self.whole: dict[int, int] = {}
        """By entry: the number of the file that equals it."""
        self._wanted: dict[bytes, int] = {}  # digest -> chunk
        self._plain: dict[bytes, list[int]] = {}  # digests of all chunks -> entries
        self._opened: dict[int, list[int]] = {}  # size -> entries
        directories = tuple(directories)
        for entry in entries if directories else ():
            if entry in index.expansions:
                self._opened.setdefault(sizes[entry], []).append(entry)
            elif index.kinds[entry] == FILE and sizes[entry]:
                runs = index.runs_of(entry)
                self._plain.setdefault(index.content_key(runs), []).append(entry)
                for start, length in runs:
                    for chunk in range(start, start + length):
                        self._wanted.setdefault(index.chunk_digest(chunk), chunk)
        self._buffer = bytearray(max(BUFFER_BYTES, 2 * params.max_bytes))
        for directory in directories:
            for path in files_below(directory):
                if not (self._wanted or self._opened):
                    return
                with suppress(OSError):
                    self._look_into(path, params)

    def _look_into(self, path: bytes, params: ChunkParams) -> None:
        """Find wanted chunks and entries in a file."""
        number = len(self._files)
        places: dict[int, tuple[int, int]] = {}
        key = bytearray()
        whole: blake3.blake3 | None = None
        with open(os.open(path, READ_FLAGS), "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            if size in self._opened:
                whole = blake3.blake3()
            offset = 0
            for view, cuts in iter_chunks(file, params, buffer=self._buffer):
                if whole is not None:
                    whole.update(view)
                start = 0
                for end in cuts:
                    digest = blake3.blake3(view[start:end]).digest()[:DIGEST_BYTES]
                    key += digest
                    chunk = self._wanted.get(digest, -1)
                    if chunk >= 0:
                        places[chunk] = (number, offset + start)
                    start = end
                offset += start
        entries = self._plain.pop(bytes(key), [])
        if whole is not None:
            found = whole.digest()[:DIGEST_BYTES]
            same = [at for at in self._opened[size] if self._index.expansions[at].digest == found]
            entries = entries + same
            self._opened[size] = [at for at in self._opened[size] if at not in same]
            if not self._opened[size]:
                del self._opened[size]
        if entries or places:
            self._files.append(path)
            self.whole.update(dict.fromkeys(entries, number))
            self._places.update(places)
            for chunk in places:
                del self._wanted[self._index.chunk_digest(chunk)]

    def __bool__(self) -> bool:
        """Whether any chunk was found."""
        return bool(self._places)

    def write_whole(self, plan: Plan, fd: int, entry: int, check: Check) -> bool:
        """Write an entry from the file that equals it.

        Args:
            plan: writes the entry.
            fd: the staging directory.
            entry: its ordinal, in `whole`.
            check: records the digests that were verified.

        Returns:
            False if the file has changed since it was found; then nothing is left behind.
        """
        try:
            source = os.open(self._files[self.whole[entry]], READ_FLAGS)
        except OSError:
            return False
        size = plan.sizes[entry]

        def write(file: int) -> bool:
            if not clone_file(file, source):
                _copy(source, file, size)
            if os.fstat(file).st_size != size:
                return False
            with open(file, "rb", buffering=0, closefd=False) as written:
                return matches(written, self._frames, entry, check)

        try:
            return plan.fill(fd, entry, write)
        finally:
            os.close(source)

    def holds(self, chunks: Iterable[int]) -> bool:
        """Return whether all the chunks were found."""
        return all(chunk in self._places for chunk in chunks)

    def frame(self, frame: int, chunks: Iterable[int], check: Check) -> bytearray | None:
        """Assemble a frame's plaintext.

        Args:
            frame: ordinal of the frame.
            chunks: the chunks needed; the others stay zeros.
            check: records the digests that were verified.

        Returns:
            The plaintext, or None if a file has changed since it was found.
        """
        ends, first = self._frames.end, self._frames.first_chunk[frame]
        out = bytearray(self._frames.plain_bytes(frame))
        fd = at = -1
        try:
            for chunk in sorted(chunks):
                number, offset = self._places[chunk]
                if number != at:  # neighbours mostly lie in one file
                    if fd >= 0:
                        os.close(fd)
                    fd = -1
                    fd, at = os.open(self._files[number], READ_FLAGS), number
                length = ends[chunk + 1] - ends[chunk]
                data = os.pread(fd, length, offset)
                if len(data) != length or not check.record(chunk, blake3.blake3(data).digest()):
                    return None
                out[ends[chunk] - ends[first] : ends[chunk + 1] - ends[first]] = data
        except OSError:
            return None
        finally:
            if fd >= 0:
                os.close(fd)
        return out


def files_below(directory: bytes) -> Iterator[bytes]:
    """Yield the regular files of a seed; a missing or unreadable part has none."""
    for base, names, files in os.walk(directory):
        names.sort()
        for name in sorted(files):
            path = os.path.join(base, name)
            with suppress(OSError):
                if stat.S_ISREG(os.lstat(path).st_mode):
                    yield path


def _copy(source: int, to: int, size: int) -> None:
    """Copy at most `size` bytes, and one more if there are more: so a longer file is noticed."""
    left = size + 1
    offset = 0
    while left and (data := os.pread(source, min(left, _COPY_BYTES), offset)):
        if data != _HOLE:
            view = memoryview(data)
            while view:
                done = os.pwrite(to, view, offset + len(data) - len(view))
                view = view[done:]
        offset += len(data)
        left -= len(data)
    os.ftruncate(to, offset)


def seed_paths(seed: Iterable[str | bytes | os.PathLike[str]]) -> tuple[bytes, ...]:
    """Return the directories given as seeds, which may be one path or several."""
    if isinstance(seed, (str, bytes, os.PathLike)):
        return (os.fsencode(seed),)
    return tuple(os.fsencode(path) for path in seed)
