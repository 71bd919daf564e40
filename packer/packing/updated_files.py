"""A file that is opened against its predecessor, and watched for changes while it is packed."""

from __future__ import annotations

import contextlib
import io
import os
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import pairwise
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING

import blake3

from packer.engine import zstd
from packer.engine.chunking import ChunkParams, iter_chunks
from packer.engine.memory import writable
from packer.engine.ordinals import Ordinals
from packer.errors import SourceChanged
from packer.files.tree import Found, open_file, show
from packer.format.index import DIGEST_BYTES, FULL_DIGEST_BYTES
from packer.opening.closed import SIGNATURE_BYTES as KIND_BYTES
from packer.opening.closed import ClosedStreams
from packer.opening.expansion import MAX_FILE_BYTES, Expansion
from packer.opening.finder import SIGNATURE_BYTES, may_begin
from packer.opening.lookahead import find_signature
from packer.opening.predecessor import Predecessor
from packer.opening.workers import Workers
from packer.opening.zstd_frames import Frames
from packer.packing.older.alike import HEAD_BYTES
from packer.packing.older.predecessors import Text
from packer.packing.watched_file import WatchedFile

if TYPE_CHECKING:
    from packer.opening.equal_stretches import Chunk
    from packer.opening.flat_file import FlatFile
    from packer.opening.further import Find
    from packer.opening.old_text import OldText
    from packer.opening.tar_members import Read
    from packer.opening.updating import Update

_SAMPLE_BYTES = 4 << 10
"""Bytes that tell whether a part of a chunk looks compressed."""
_DENSE = 0.6
"""Share of them, above which it does, that a quick compressor leaves. Of deflate streams that are
literals alone it leaves 0.62 to 0.97, of programs 0.2 to 0.7, of text less."""
_MOST_TRIED = 16
"""Signatures in a chunk that are looked at: short streams may come before a long one."""
LEAST_NEW_BYTES = 1 << 10
"""Bytes of unknown chunks below which a file is not opened: a recipe and its predecessor's row take
about a hundred."""
LEAST_NEW_SHARE = 1 / 500
"""Share of a file that these bytes must have as well: all of the older file is read for them."""
_LEAST_CHANGED_SHARE = 1 / 128
"""Share that the changed archives of a tar archive must have of what is read for them, of both
files: at 50 MB/s that takes as long as to send them at 3 Mb/s."""
_MOST_KEPT = 16 << 30
"""Greatest size in bytes of a file whose chunks are remembered when it turns out that it stays
closed: 40 bytes each, 10 MB."""
_SEARCH_BYTES = 1 << 20
"""Bytes of a file that are searched for archives at a time."""


def head_of(full: bytes, found: Found, *, has_base: bool) -> bytes:
    """Return the first bytes of a file.

    Args:
        full: its path.
        found: the file as `walk` saw it.
        has_base: whether to return as many as `older.alike` compares, not as few as tell its kind.
    """
    with io.FileIO(open_file(full, found)) as file:
        return os.pread(file.fileno(), HEAD_BYTES if has_base else KIND_BYTES, 0)


def may_hold_archives(full: bytes, found: Found, head: bytes) -> bool:
    """Return whether a gzip member, a zip entry or a bzip2 stream may begin anywhere in a file.

    Args:
        full: its path.
        found: the file as `walk` saw it.
        head: its first bytes, as `head_of` returns them.
    """
    if may_begin(memoryview(head)) or found.size <= len(head):
        return may_begin(memoryview(head))
    buffer, at = memoryview(bytearray(_SEARCH_BYTES)), len(head) - SIGNATURE_BYTES
    with io.FileIO(open_file(full, found)) as file:
        while True:
            file.seek(at)
            count = file.readinto(buffer) or 0
            if count <= SIGNATURE_BYTES:
                return False
            if may_begin(buffer[:count]):
                return True
            at += count - SIGNATURE_BYTES


class UpdatedFile(WatchedFile):
    """The chunks of one file, opened against a predecessor.

    Args:
        full: its path.
        found: the file as `walk` saw it.
        params: chunk sizes.
        buffer: memory for reading, at least twice the greatest chunk.
        workers: do the work.
        report: called with the number of bytes, once, when all chunks were taken.
        flat: the file's text; None if that is the file itself.
        texts: zstd streams of text in it, in order.
    """

    plain = False
    """Whether all chunks so far are, one after another, the file as it is."""

    def __init__(
        self,
        full: bytes,
        found: Found,
        params: ChunkParams,
        buffer: bytearray,
        workers: Workers,
        report: Callable[[int], None],
        flat: FlatFile | None = None,
        texts: Sequence[Frames] = (),
    ) -> None:
        super().__init__(full, found, workers)
        self._flat = flat
        self.texts = texts
        """Zstd streams of text, in order."""
        self._params = params
        self._buffer = buffer
        self._report = report
        # Of the closed file's chunks: lengths, where a stream begins in each, and digests.
        self._lengths, self._begins, self._digests = array("I"), array("I"), bytearray()
        self.unknown: list[tuple[int, int]] = []
        """The stretches of the file that are in no known chunk, once `new_bytes` has returned."""
        self._places: Sequence[int] | None = None
        self._update: Update | None = None
        self._begun: Callable[[], Predecessor | None] | None = None
        self.recipe_chunks = 0
        """Number of chunks that make up the recipe so far."""
        self.unknown_bytes = 0
        """Bytes of all unknown chunks of the closed file, once `new_bytes` has returned."""

    @property
    def has_text(self) -> bool:
        """Whether zstd streams of the file have their plaintext in its text."""
        return self._flat is not None or bool(self.texts)

    def new_bytes(self, known: Ordinals) -> int:
        """Return how many bytes of closed streams lie in unknown chunks.

        Where a stream changed, the bytes behind the change are new, and look compressed up to its
        end. So what looks so counts, if an archive begins there or in what looks compressed before
        it. The file is read by the first call only.

        Args:
            known: chunks by digest.
        """
        if self._found.size > MAX_FILE_BYTES:
            return 0
        if self._found.size <= _MOST_KEPT and not self._lengths:
            for length, begin, digest in self._cut():
                self._lengths.append(length)
                self._begins.append(begin)
                self._digests += digest
        new = self.unknown_bytes = offset = 0
        unknown: list[tuple[int, int]] = []
        for length, begin, digest in self._kept() if self._lengths else self._cut():
            if known.get(digest) < 0:
                new += length - begin
                self.unknown_bytes += length
                if self._lengths:
                    unknown.append((offset, offset + length))
            offset += length
        self.unknown = unknown
        return new

    def _cut(self) -> Iterator[tuple[int, int, bytes]]:
        """Read the file; yield of each chunk its length, where a stream begins, and its digest."""
        offset, in_stream = 0, False
        text = self._file if self._flat is None else self._flat
        for view, cuts in iter_chunks(text, self._params, buffer=self._buffer):
            for start, end in pairwise((0, *cuts)):
                chunk = view[start:end]
                begin = _stream_in(chunk, goes_on=in_stream)
                in_stream = begin < len(chunk)
                begin = min(begin, _first_in(self.texts, offset, offset + len(chunk)) - offset)
                yield len(chunk), begin, blake3.blake3(chunk).digest()
                offset += len(chunk)
        self._check()

    def _kept(self) -> Iterator[tuple[int, int, bytes]]:
        """Yield the same of chunks that were read before."""
        size = FULL_DIGEST_BYTES
        digests = (
            bytes(self._digests[at : at + size]) for at in range(0, len(self._digests), size)
        )
        return zip(self._lengths, self._begins, digests, strict=True)

    def closed_chunks(self, known: Ordinals) -> Iterator[tuple[memoryview, int, bytes]] | None:
        """Return the chunks of the file as it is, without reading known ones again.

        Args:
            known: chunks by digest.

        Returns:
            Bytes (empty for a known chunk), length and full digest of each chunk; None if
            `new_bytes` has not kept them, or they are those of the file's text. `SourceChanged` is
            raised as by `chunks`.
        """
        return self._closed_chunks(known) if self._lengths and self._flat is None else None

    def _closed_chunks(self, known: Ordinals) -> Iterator[tuple[memoryview, int, bytes]]:
        at, size = 0, FULL_DIGEST_BYTES
        for number, length in enumerate(self._lengths):
            digest = bytes(self._digests[number * size : (number + 1) * size])
            is_known = known.get(digest) >= 0
            chunk = memoryview(b"") if is_known else self._read(at, length)
            if not is_known and blake3.blake3(chunk).digest() != digest:
                raise SourceChanged(show(self._full))
            yield chunk, length, digest
            at += length
        self._check()
        self._report(self._found.size)

    def places_in_old(
        self, old_read: Read, old_size: int, old_chunks: Iterable[Chunk]
    ) -> Sequence[int] | None:
        """Find what the predecessor has alike, before `begin`.

        Args:
            old_read: reads the predecessor's text.
            old_size: of that in bytes.
            old_chunks: what that consists of, in order.

        Returns:
            Where streams may begin in that text, as `Discovery` takes it.
        """
        if self._found.size > _MOST_KEPT:
            return None
        from packer.opening.equal_archives import TarText, changed_archives

        size = self._found.size if self._flat is None else self._flat.size
        chunks = ((length, digest[:DIGEST_BYTES]) for length, _, digest in self._kept())
        changed = changed_archives(
            TarText(self._read_text, size, chunks), TarText(old_read, old_size, old_chunks)
        )
        if changed is None:
            return None
        self._places = changed.places
        least = max(LEAST_NEW_BYTES, changed.read_bytes * _LEAST_CHANGED_SHARE)
        if changed.bytes < least and not self.texts:
            self._places = ()
            return ()
        return changed.old_places

    def begin(self, old: OldText, most: float, further: Find, *, was_opened: bool) -> bool:
        """Open the file.

        Args:
            old: the predecessor.
            most: bytes that the recipe, and content beside it, may take.
            further: finds further predecessors.
            was_opened: whether the base holds an older self opened, so that its chunks do not hold
                all of the streams.

        Returns:
            Whether that pays.
        """
        self._begin_digest()
        from packer.opening.updating import Update  # loaded by the first file that is opened

        flat = self._flat
        self._update = Update(
            self._read_text,
            self._found.size if flat is None else flat.size,
            old,
            self._workers,
            unknown=self._unknown_in,
            was_opened=was_opened,
            further=further,
            parts=() if flat is None else flat.parts,
            texts=self.texts,
            places=self._places,
        )
        return self._update.begin(most)

    def begin_alone(
        self,
        opened: Callable[[], AbstractContextManager[Text]],
        most: float,
        further: Find,
        ended: Callable[[], None],
        *,
        was_opened: bool,
    ) -> Callable[[], Predecessor | None]:
        """Begin to open the file in another thread, which does all of it.

        Args:
            opened: opens the predecessor.
            most: as for `begin`.
            further: as for `begin`.
            ended: called when it is done, or failed.
            was_opened: as for `begin`.

        Returns:
            Waits; returns the row of the predecessor, None if opening the file does not pay.
        """
        from packer.opening.updating import Update

        self._begin_digest()
        workers = self._workers.alone()

        def made() -> Predecessor | None:
            if self._stopped:
                return None
            with opened() as old:
                size = self._found.size
                update = Update(
                    self._read,
                    size,
                    old.text,
                    workers,
                    unknown=self._unknown_in,
                    was_opened=was_opened,
                    further=further,
                )
                self._update = update
                pays = update.begin(most)
                update.release()
                return old.row if pays else None

        def done() -> Predecessor | None:
            try:
                return made()
            finally:
                ended()

        self._begun = self._workers.run(done)
        return self._begun

    @property
    def update(self) -> Update:
        """What `begin` found."""
        assert self._update is not None
        return self._update

    def chunks(self) -> Iterator[memoryview]:
        """Yield the chunks, each valid until the next is asked for.

        Yields:
            the chunks of the content, then the chunks of the recipe.

        Raises:
            SourceChanged: the file is not what `walk` saw.
        """
        yield from self.update.content(self._params)
        for chunk in self.update.recipe_chunks(self._params):
            self.recipe_chunks += 1
            yield chunk
        self._check()
        self._report(self._found.size)

    def place(self) -> int:
        """Return where the last chunk begins in the text; -1 if it lies in a stream or recipe."""
        return self.update.place

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self._found.size

    @property
    def was_compared(self) -> bool:
        """Whether so much of the file is new that it was compared with its predecessor."""
        return self._update is not None

    def leave_closed(self) -> None:
        """Release what comparing it took; `closed` still tells what stayed closed."""
        self.update.close()

    def closed(self) -> list[ClosedStreams]:
        """Return what is new in the file and stayed closed."""
        return self.update.closed.rows()

    def expansion(self, predecessors: tuple[int, ...]) -> tuple[Expansion, bytes]:
        """Return the file's row for the index, and its full digest, once all chunks were taken.

        Args:
            predecessors: ordinals in the index.
        """
        digest = self._whole_digest()
        row = Expansion(self._found.size, self.recipe_chunks, digest[:DIGEST_BYTES], predecessors)
        return row, digest

    def close(self) -> None:
        """Close the file, and release memory and temporary files."""
        self._stopped = True
        if self._begun is not None and self._workers.is_parallel:
            with contextlib.suppress(Exception):  # whoever waited for it has it
                self._begun()
        if self._update is not None:
            self._update.close()
        super().close()

    def _unknown_in(self, start: int, end: int) -> list[tuple[int, int]]:
        """Return the parts of a stretch of the file's text that are in no known chunk."""
        unknown, out = self.unknown, list[tuple[int, int]]()
        for at in range(bisect_right(unknown, start, key=itemgetter(1)), len(unknown)):
            first, last = unknown[at]
            if first >= end:
                break
            out.append((max(first, start), min(last, end)))
        return out

    def _read_text(self, start: int, length: int) -> bytearray | memoryview:
        """Return a part of the file's text."""
        return self._read(start, length) if self._flat is None else self._flat.read(start, length)

    def _read(self, start: int, length: int) -> memoryview:
        """Return a part of the file."""
        out = writable(length)
        if os.preadv(self._file.fileno(), [out], start) != length:
            raise SourceChanged(show(self._full))
        return out


def _first_in(runs: Sequence[Frames], start: int, end: int) -> int:
    """Return the first byte of a stretch that lies in a run of frames; its end if none does."""
    at = bisect_right(runs, start, key=attrgetter("end"))
    return min(max(runs[at].start, start), end) if at < len(runs) else end


def _stream_in(chunk: memoryview, *, goes_on: bool) -> int:
    """Return where a compressed stream begins in a chunk; the chunk's length if there is none.

    Args:
        chunk: of the closed file.
        goes_on: whether one reached the chunk's start; if the middle looks compressed, it goes on.
    """
    if goes_on and _is_dense(chunk, (len(chunk) - _SAMPLE_BYTES) // 2):
        return 0
    at = -1
    for _ in range(_MOST_TRIED):
        at = find_signature(chunk, at + 1, len(chunk))
        if at < 0:
            break
        if _is_dense(chunk, at):
            return at
    return len(chunk)


def _is_dense(chunk: memoryview, start: int) -> bool:
    """Return whether a chunk looks compressed from a place on."""
    sample = chunk[max(start, 0) :][:_SAMPLE_BYTES]
    return len(zstd.compress(sample, zstd.MIN_LEVEL)) > _DENSE * len(sample)
