"""All deflate streams in a file, nested ones too, by inflating each of them once.

Unlike `finder`, which reads a file front to back and opens as it goes, this knows of a stream where
it ends before anything is decided about it. It needs a file that can be read at random.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, NamedTuple

from packer.engine.deflate import SEGMENT_BYTES, WINDOW_BYTES
from packer.errors import FormatError
from packer.files.spool import Pile
from packer.opening.ahead import Run
from packer.opening.closed import DAMAGED, GZIP, LIMIT, ZIP
from packer.opening.deflate_streams import MIN_PLAIN_BYTES
from packer.opening.expansion import most_opened
from packer.opening.finder import SIGNATURE_BYTES, behind_gzip_header, behind_zip_header
from packer.opening.found_stream import FoundStream, Holder, MadeStream, Read
from packer.opening.inflated_stream import Windows
from packer.opening.lookahead import Source, find_signature
from packer.opening.predecessor import PACKING_CACHE_BYTES
from packer.opening.recipe import MAX_DEFLATE_DEPTH
from packer.opening.segment_cache import SegmentCache

if TYPE_CHECKING:
    from typing_extensions import Buffer


MAX_FOUND_STREAMS = 1 << 14
"""Greatest number of streams that are listed: each takes about 1 KB of memory."""
MAX_RATIO = 4
SPARE_BYTES = 1 << 30
"""At most MAX_RATIO times a file's size plus SPARE_BYTES of plaintext are inflated, all depths
together, as they go to a temporary file; and no more than `most_opened` allows. The streams behind
are bytes of what holds them."""

MAX_NAME_BYTES = 1 << 8
"""Bytes of an entry's name that are kept, at most."""

_NAME_LENGTH_AT, _NAME_AT = 26, 30
"""Where an entry's header has its name, and the length of it. APPNOTE.TXT of PKWARE, 4.3.7."""
_SCAN_BYTES = 256 << 10
"""Bytes searched for signatures at a time: they stay in the processor's cache, and their memory in
the process."""
_HEADER_BYTES = (512, 140 << 10)
"""Bytes read for a header: nearly always enough, and always enough."""
_TRIAL_BYTES = 64 << 10
"""Plaintext in bytes that a signature without a stream counts as inflated in vain."""
_MOST_SIGNATURES = 1 << 18
"""Greatest number of signatures in a stream that are looked at."""
_GZIP, _ZIP, _BZIP2 = 0x1F, 0x50, 0x42
_MOST_BZIP2 = 1 << 12
"""Greatest number of places in a text where bzip2 streams may begin that are listed."""


def most_found(size: int) -> int:
    """Return how much plaintext of a file of `size` bytes is inflated at most, in bytes."""
    return min(most_opened(size), MAX_RATIO * size + SPARE_BYTES)


Visit = Callable[[FoundStream | MadeStream, int, memoryview], None]
"""Takes a part of the plaintext of a stream, and its position; it is valid until this returns."""
Skip = Callable[[Read, int, int], tuple[int, str]]
"""Given what reads the surroundings of a stream, where the stream begins and where the surroundings
end, returns where it ends if nobody needs it, else 0; and why nothing is known of what follows, as
in `opening.closed`, "" if it really ends there."""


class Unread(NamedTuple):
    """A stretch that begins as an archive and was not inflated, or not to its end.

    Args:
        holder: the stream that holds it, of any kind; None for the file.
        start: its first byte there.
        end: behind its last byte: where the next archive begins, or its holder ends.
        kind: as in `closed.ClosedStreams`.
        reason: as in `opening.closed`.
    """

    holder: Holder | None
    start: int
    end: int
    kind: str
    reason: str


class Discovery:
    """The deflate streams of a file, found when it is made; those in zstd streams once these are.

    Args:
        read: reads the file.
        size: of the file in bytes.
        visit: called with the text of each segment of each stream, in order.
        skip: called with each stream that begins.
        directory: of temporary files, as `temporary_file` takes it.
        only: the only stream in the file itself, if that was made; the file is not read then.
        places: where streams may begin in the file, in order; None to look for them everywhere.
        first: number of the first stream.
        run: does work for the next segment while one is visited; None to wait with it.
    """

    def __init__(
        self,
        read: Read,
        size: int,
        *,
        visit: Visit,
        skip: Skip | None = None,
        directory: bytes | None = None,
        only: MadeStream | None = None,
        places: Sequence[int] | None = None,
        first: int = 0,
        run: Run | None = None,
    ) -> None:
        self._first = first
        self._windows = Windows(directory, WINDOW_BYTES)
        self._cache = SegmentCache(PACKING_CACHE_BYTES)
        self.spool = Pile(directory)
        """Holds plaintext of streams, each as a whole behind the one before."""
        self.left = most_found(size)
        """Plaintext in bytes that may still be found; negative once there is more."""
        self.streams: list[FoundStream | MadeStream] = []
        """In order: what holds a stream comes before it, and neighbours are in order; those in zstd
        streams come last."""
        self.roots: list[FoundStream] = []
        """Those that lie in the file itself."""
        self.unread: list[Unread] = []
        """What was not inflated, and why."""
        self._pending: Unread | None = None  # the last one; its end is not known yet
        self.bzip2: dict[int, list[int]] = {}
        """Where bzip2 streams may begin, by number of what holds them; -1 is the file."""
        self.is_full = False
        """Whether more streams may be there than are listed; those behind the last one are bytes of
        what holds them."""
        with self._calling(visit, skip, run):
            if only is None:
                found = signatures(read, size, 0, size) if places is None else iter(places)
                self._search(None, read, size, found)
            else:
                self.left -= only.size
                self.is_full = self.left < 0
                self.streams.append(only)
                with closing(only.measure(run)) as texts:
                    inner = array("Q", _inner_signatures(self._visited(only, texts)))
                self._search(only, only.read, only.size, iter(inner))

    @property
    def room(self) -> int:
        """Plaintext in bytes that may still be found, at least 0."""
        return max(self.left, 0)

    @property
    def number(self) -> int:
        """Number of the next stream."""
        return self._first + len(self.streams)

    def look_into(
        self,
        holder: Holder,
        read: Read,
        texts: Generator[memoryview, None, None],
        *,
        visit: Visit,
        skip: Skip | None = None,
        run: Run | None = None,
    ) -> list[FoundStream]:
        """Find the streams in one that was found in another way; they get the numbers behind its.

        Where there are more than may be inflated, or listed, those that were found are returned.

        Args:
            holder: the stream.
            read: reads its plaintext, once all of `texts` was taken.
            texts: the plaintext, in parts; what that raises is passed on.
            visit: as for the file.
            skip: as for the file.
            run: as for the file.

        Returns:
            The streams in order: what holds a stream comes before it.
        """
        known = len(self.streams)
        self._first = holder.number + 1 - known
        with closing(texts):
            inner = array("Q", _inner_signatures(texts))
        self.left -= holder.size
        with self._calling(visit, skip, run):
            self._search(holder, read, holder.size, iter(inner))
        return [each for each in self.streams[known:] if isinstance(each, FoundStream)]

    @contextmanager
    def _calling(self, visit: Visit, skip: Skip | None, run: Run | None) -> Iterator[None]:
        """Let a search call functions of the caller.

        They refer to the caller, who refers to this: a cycle would keep the memory of both until
        the garbage collector runs, which does not see how large it is.
        """
        self._visit, self._skip, self._run = visit, skip, run
        try:
            yield
        finally:
            del self._visit, self._skip, self._run

    def release(self) -> None:
        """Release inflated segments; they are inflated again if they are needed."""
        self._cache.clear()

    def close(self) -> None:
        """Release the memory, and remove temporary files."""
        self.streams, self.roots = [], []
        self._cache.clear()
        self._windows.close()
        self.spool.close()

    def _search(
        self,
        parent: Holder | None,
        read: Read,
        end: int,
        signatures: Iterator[int],
    ) -> None:
        """Find the streams in the file, or in a stream's plaintext."""
        behind = 0
        for at in signatures:
            if at < behind:
                continue
            first = bytes(read(at, 1))[0]
            if first == _BZIP2:
                places = self.bzip2.setdefault(parent.number if parent is not None else -1, [])
                places += [at] * (len(places) < _MOST_BZIP2)
                continue
            kind = GZIP if first == _GZIP else ZIP
            if self.is_full:
                self._leave(Unread(parent, at, end, kind, LIMIT))
                break
            offset, reason = behind_header(read, at, end)
            if reason:
                self._leave(Unread(parent, at, end, ZIP, reason))
            if not offset:
                continue
            skipped, reason = self._skip(read, offset, end) if self._skip is not None else (0, "")
            if skipped:
                self._settle(at)
                behind = skipped
                if reason:
                    self._leave(Unread(parent, behind, end, kind, reason))
                continue
            stream = FoundStream(
                self.number,
                parent,
                read,
                end,
                offset,
                self.left,
                self._windows,
                self._cache,
                self.spool,
                kind,
                entry_name(read, at) if kind == ZIP else b"",
            )
            inner, spooled = array("Q"), self.spool.size
            try:
                with closing(stream.measure(self._run)) as segments:
                    texts = ((position, segment.plain) for position, segment in segments)
                    inner.extend(_inner_signatures(self._visited(stream, texts)))
            except FormatError:
                self.left -= max(_TRIAL_BYTES, self.spool.size - spooled)
                self.is_full = self.is_full or stream.is_too_long or self.left < 0
                if not at or kind == ZIP:  # what looks like gzip elsewhere may be anything
                    reason = LIMIT if self.is_full else DAMAGED
                    self._leave(Unread(parent, at, end, kind, reason))
                continue
            self._settle(at)
            behind = offset + stream.closed_bytes
            if reason := stream.reason_behind(end - behind):
                self._leave(Unread(parent, behind, end, kind, reason))
            if stream.size < MIN_PLAIN_BYTES:
                continue
            self.left -= stream.size + (SEGMENT_BYTES if stream.is_cut else 0)
            self.streams.append(stream)
            (self.roots if parent is None else parent.children).append(stream)
            self.is_full = (
                stream.is_too_long or len(self.streams) >= MAX_FOUND_STREAMS or self.left < 0
            )
            if stream.depth < MAX_DEFLATE_DEPTH:
                pending, self._pending = self._pending, None
                self._search(stream, stream.read, stream.size, iter(inner))
                self._pending = pending
        self._settle(end)

    def _leave(self, unread: Unread) -> None:
        """Note what is not inflated: it ends where the next archive begins."""
        self._settle(unread.start)
        self._pending = unread

    def _settle(self, end: int) -> None:
        """Note where what was not inflated ends."""
        if self._pending is not None and len(self.unread) < MAX_FOUND_STREAMS:
            self.unread.append(self._pending._replace(end=end))
        self._pending = None

    def _visited(
        self, stream: FoundStream | MadeStream, texts: Iterator[tuple[int, memoryview]]
    ) -> Iterator[memoryview]:
        for position, plain in texts:
            self._visit(stream, position, plain)
            yield plain


def signatures(read: Read, size: int, begin: int, end: int) -> Iterator[int]:
    """Yield where archives may begin in a stretch of a file.

    Args:
        read: reads the file.
        size: of the file in bytes.
        begin: of the stretch.
        end: of the stretch.
    """
    for start in range(begin, end, _SCAN_BYTES):
        count = min(_SCAN_BYTES, end - start)
        data = bytes(read(start, min(count + SIGNATURE_BYTES - 1, size - start)))
        yield from _found_in(data, start, count)


def _inner_signatures(texts: Iterator[memoryview]) -> Iterator[int]:
    """Yield where archives may begin in a plaintext; not many more than may be looked at."""
    tail, position, left = b"", 0, _MOST_SIGNATURES
    for plain in texts:
        joint = tail + bytes(plain[: SIGNATURE_BYTES - 1])
        found = list(_found_in(joint, position - len(tail), len(tail)))
        found += _found_in(plain, position, len(plain))
        yield from found[:left]
        left -= min(len(found), left)
        position += len(plain)
        tail = (tail + bytes(plain[1 - SIGNATURE_BYTES :]))[1 - SIGNATURE_BYTES :]


def _found_in(data: Buffer, start: int, end: int) -> Iterator[int]:
    """Yield the signatures of gzip and zip that begin in the first `end` bytes of data."""
    view = memoryview(data)
    at = find_signature(view, 0, len(view))
    while 0 <= at < end:
        if view[at] in (_GZIP, _ZIP) or (view[at] == _BZIP2 and _is_bzip2(view, at)):
            yield start + at
        at = find_signature(view, at + 1, len(view))


def _is_bzip2(data: memoryview, at: int) -> bool:
    """Return whether a bzip2 stream may begin at a signature, as far as the data tells."""
    magic = bytes(data[at + 4 : at + 10])
    return magic == b"1AY&SY"[: len(magic)]


def is_archive(head: bytes) -> bool:
    """Return whether a file begins as a gzip or zip archive.

    Args:
        head: its first bytes.
    """
    return head[:1] in (b"\x1f", b"P") and next(_found_in(head, 0, 1), -1) == 0


def entry_name(read: Read, at: int) -> bytes:
    """Return the name of a zip entry, cut to MAX_NAME_BYTES.

    Args:
        read: reads what holds it.
        at: where its header begins.
    """
    length = int.from_bytes(bytes(read(at + _NAME_LENGTH_AT, 2)), "little")
    return bytes(read(at + _NAME_AT, min(length, MAX_NAME_BYTES)))


def behind_header(read: Read, at: int, end: int) -> tuple[int, str]:
    """Return where the deflate stream behind a signature begins, 0 if nowhere, and why.

    The reason is that of `opening.closed`, "" if there is nothing compressed.

    Args:
        read: reads what holds it.
        at: where the signature of gzip or zip begins.
        end: size of what holds it.
    """
    for length in _HEADER_BYTES:
        head = bytes(read(at, min(length, end - at)))
        source = Source(BytesIO(head).readinto, bytearray(len(head) + 1))
        source.ahead(len(head))
        start, reason = (
            (behind_gzip_header(source, 0), "")
            if head[0] == _GZIP
            else behind_zip_header(source, 0)
        )
        if start or reason:
            return (at + start if start else 0), reason
        if len(head) < length or (head[0] == _ZIP and head[8:10] != b"\x08\0"):
            break
    return 0, ""
