"""Plaintext and tokens of the streams in older files, with random access.

Neither is stored. Deflate streams: `inflated_stream`, `rebuilt_stream`; zstd streams:
`parsed_stream`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from packer.engine.deflate import (
    SEGMENT_BYTES,
    Segment,
)
from packer.engine.tokens import OldSpan, Span
from packer.engine.zstd_streams import OldSequences
from packer.errors import FormatError
from packer.files.spool import Memory, Spool
from packer.opening.inflated_stream import InflatedStream, Windows
from packer.opening.parsed_stream import ParsedStream, Parsing
from packer.opening.predecessor import WHOLE, ZSTD, OldStream
from packer.opening.recipe import MAX_DEFLATE_DEPTH
from packer.opening.segment_cache import SegmentCache

if TYPE_CHECKING:
    from typing_extensions import Buffer

CACHE_BYTES = 40 << 20
"""Memory of inflated segments that are kept, in bytes: those that a delta of the greatest length
refers to stay for the recipes from tokens that follow it."""

_PLAIN_BYTES = 8 << 20
"""Memory for plaintext of streams, in bytes; more goes to temporary files."""
_MOST_KEPT_BYTES = 1 << 30
"""Plaintext of a deflate stream that is kept, at most, in bytes, as it may take so much disk."""


class OldFile:
    """An older file whose streams are referred to.

    Args:
        read: returns a part of the file, given its first byte and its length; from any thread.
        size: of the file in bytes.
        streams: the streams in it that are referred to, from a stranger.
        what: how errors name the file.
        first: makes the only stream that lies in no other, given how errors name it and what keeps
            its segments; None inflates it.
    """

    def __init__(
        self,
        read: Callable[[int, int], Buffer],
        size: int,
        streams: Sequence[OldStream],
        what: str,
        first: Callable[[str, SegmentCache], PlainStream] | None = None,
    ) -> None:
        self.read = read
        self.size = size
        self.streams = streams
        self.what = what
        self.first = first


class PlainStream(Protocol):
    """A stream whose plaintext and segments are there, or made when they are asked for."""

    @property
    def size(self) -> int:
        """Bytes of its plaintext."""

    def check(self, start: int, length: int) -> None:
        """Raise FormatError if there is no such span."""

    @property
    def reached(self) -> int:
        """Bytes of the plaintext that were made so far."""

    def read(self, start: int, length: int) -> bytes | bytearray | memoryview:
        """Return `length` bytes of the plaintext from `start` on."""

    def read_into(self, start: int, out: memoryview) -> None:
        """Copy the plaintext from `start` on."""

    def segments(self, start: int, end: int) -> Iterator[tuple[int, Segment]]:
        """Yield the segments that overlap a stretch, as `InflatedStream` does."""

    def close(self) -> None:
        """Release memory and files."""


class WholeText:
    """The text of an older file, as an old stream without tokens.

    Args:
        read: reads it; from any thread.
        size: of it in bytes.
        what: how errors name it.
    """

    def __init__(self, read: Callable[[int, int], Buffer], size: int, what: str) -> None:
        self._read = read
        self.size = size
        self._what = what

    @property
    def reached(self) -> int:
        """Bytes that are there: all."""
        return self.size

    def check(self, start: int, length: int) -> None:
        """Raise FormatError if there is no such span."""
        if start < 0 or length < 0 or start + length > self.size:
            raise FormatError(self._what, f"it has no bytes {start} to {start + length}")

    def read(self, start: int, length: int) -> bytes:
        """Return `length` bytes from `start` on."""
        self.check(start, length)
        return bytes(self._read(start, length))

    def read_into(self, start: int, out: memoryview) -> None:
        """Copy bytes from `start` on."""
        self.check(start, len(out))
        out[:] = memoryview(self._read(start, len(out)))

    def segments(self, start: int, end: int) -> Iterator[tuple[int, Segment]]:
        """Raise FormatError: it has none."""
        raise FormatError(self._what, "it is no deflate stream")

    def close(self) -> None:
        """Do nothing: it has no memory of its own."""


class OldStreams:
    """The streams of some older files, numbered through all of them.

    May be used by several threads. Whatever the files hold, it takes about CACHE_BYTES, in the
    cache, and 32 bytes for each MiB of plaintext that was asked for, and a temporary file of a 64th
    of it; of a zstd stream, two windows while it is read, and temporary files of its plaintext and
    matches.

    Args:
        files: in order.
        directory: of the temporary file, as `temporary_file` takes it.
        cache: keeps segments, of other streams too; None for a cache of its own.
        memory: what plaintext takes, of other streams too; None for memory of its own.

    Raises:
        FormatError: a stream lies in one that is not before it, or too deep in others.
    """

    def __init__(
        self,
        files: Sequence[OldFile],
        directory: bytes | None = None,
        cache: SegmentCache | None = None,
        memory: Memory | None = None,
    ) -> None:
        self._windows = Windows(directory)
        self._cache = SegmentCache(CACHE_BYTES) if cache is None else cache
        self._directory = directory
        self._memory = Memory(_PLAIN_BYTES) if memory is None else memory
        self._parsing = Parsing(directory)
        self._streams: list[PlainStream | ParsedStream] = []
        for file in files:
            first, depths = len(self._streams), [0]
            for number, stream in enumerate(file.streams, 1):
                if not 0 <= stream.parent < number:
                    raise FormatError(file.what, "an old stream lies in a later one")
                depths.append(depths[stream.parent] + 1)
                if depths[-1] > MAX_DEFLATE_DEPTH:
                    raise FormatError(file.what, "old streams within one another, too many")
                parent = self._streams[first + stream.parent - 1] if stream.parent else None
                self._streams.append(self._stream(file, stream, parent))

    def _stream(
        self, file: OldFile, stream: OldStream, parent: PlainStream | ParsedStream | None
    ) -> PlainStream | ParsedStream:
        """Return a stream, which makes nothing yet."""
        if stream.kind == ZSTD:
            return ParsedStream(
                file.read,
                file.size,
                stream.offset,
                stream.size,
                f"zstd stream at offset {stream.offset} in {file.what}",
                self._memory,
                self._parsing,
            )
        if stream.kind == WHOLE:
            return WholeText(file.read, file.size, file.what)
        what = f"deflate stream at offset {stream.offset} in {file.what}"
        if parent is None and file.first is not None:
            return file.first(what, self._cache)
        made = InflatedStream(
            parent.read if parent is not None else file.read,
            parent.size if parent is not None else file.size,
            stream.offset,
            stream.size,
            what,
            self._windows,
            self._cache,
        )
        if SEGMENT_BYTES < stream.size <= _MOST_KEPT_BYTES:
            made.keep(Spool(stream.size, self._memory, self._directory))
        return made

    def __len__(self) -> int:
        """Return the number of streams."""
        return len(self._streams)

    def size(self, stream: int) -> int:
        """Return the bytes of a stream's plaintext, as its file's list of streams says.

        Args:
            stream: its number.

        Raises:
            FormatError: there is no such stream.
        """
        return self._get(stream).size

    def reached(self, stream: int) -> int:
        """Return the bytes of a stream's plaintext that were made so far: they are read soon.

        Args:
            stream: its number.

        Raises:
            FormatError: there is no such stream.
        """
        return self._get(stream).reached

    @property
    def made_bytes(self) -> int:
        """Bytes of plaintext that were made so far, of all streams."""
        return sum(stream.reached for stream in self._streams)

    def plain(self, stream: int, span: Span) -> bytes | bytearray | memoryview:
        """Return a span of a stream's plaintext.

        Args:
            stream: its number.
            span: the stretch wanted, which the caller has bounded.

        Returns:
            Exactly `span.size` bytes.

        Raises:
            FormatError: there is no such stream or span, or the stream is no deflate stream of the
                size that it is said to have (or zstd stream, as may be).
        """
        return self._get(stream).read(span.start, span.size)

    def plain_into(self, stream: int, span: Span, out: memoryview) -> None:
        """Copy a span of a stream's plaintext.

        Args:
            stream: its number.
            span: the stretch wanted.
            out: filled; as long as the span.

        Raises:
            FormatError: as `plain` raises it.
        """
        self._get(stream).read_into(span.start, out)

    def fill(self, stream: int, span: Span, out: OldSpan | None = None) -> OldSpan:
        """Return a span of a deflate stream with its tokens.

        Args:
            stream: its number.
            span: the stretch wanted, at most MAX_SPAN_BYTES.
            out: memory to use again; None for new memory.

        Returns:
            `out`, or the new one.

        Raises:
            FormatError: as `plain` raises it.
            RecipeError: the span is too long, or has too many tokens.
        """
        source = self._get(stream)
        if isinstance(source, ParsedStream):
            raise FormatError("recipe", f"old stream {stream} has no tokens")
        source.check(span.start, span.size)
        if out is None:
            out = OldSpan(span)
        else:
            out.begin(span)
        for _, segment in source.segments(span.start, span.start + span.size):
            out.add(segment)
        return out

    def sequences(self, stream: int, span: Span, out: OldSequences) -> None:
        """Let `out` hold a span of a zstd stream with its sequences.

        Args:
            stream: its number.
            span: the stretch wanted, at most MAX_SPAN_BYTES.
            out: memory of another one.

        Raises:
            FormatError: as `plain` raises it, and if it is no zstd stream.
            RecipeError: the span is too long.
        """
        source = self._get(stream)
        if not isinstance(source, ParsedStream):
            raise FormatError("recipe", f"old stream {stream} has no sequences")
        source.fill(span, out)

    def close(self) -> None:
        """Release the memory, and remove the temporary files."""
        for stream in self._streams:
            stream.close()
        self._parsing.close()
        self._windows.close()

    def _get(self, stream: int) -> PlainStream | ParsedStream:
        if not 0 <= stream < len(self._streams):
            raise FormatError("recipe", f"old stream {stream} does not exist")
        return self._streams[stream]
