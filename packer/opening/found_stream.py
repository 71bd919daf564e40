"""Deflate streams that are found in a file, or made without the file.

Of a stream that was found, the plaintext stays in a temporary file, and the rest as in
`inflated_stream`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from typing import TYPE_CHECKING, Protocol

import blake3

from packer.engine.deflate import SEGMENT_BYTES, Inflated, Segment, most_coded
from packer.errors import FormatError
from packer.files.spool import Pile
from packer.opening.ahead import Run, one_ahead
from packer.opening.closed import DAMAGED, LIMIT
from packer.opening.inflated_stream import InflatedStream, Windows
from packer.opening.old_streams import PlainStream
from packer.opening.segment_cache import SegmentCache

if TYPE_CHECKING:
    from typing_extensions import Buffer

_TOKEN_BYTES = 8
"""Bytes that a token lies in, at most: less is left behind a stream that is cut off within one."""
HEAD_BYTES = 64
"""First bytes of a stream, which tell it from others."""
_LEAST_PARTIAL_BYTES = 4 << 10
"""Plaintext in bytes below which a stream that is cut off or damaged is none: anything may begin as
one."""
_FIRST_INPUT_BYTES = 128 << 10
"""Compressed bytes that are read first, as it is not known how long a stream is."""
_LEAST_SPOOLED_BYTES = 64 << 10
"""Plaintext in bytes below which a stream of one segment is inflated again when it is read: that
takes no longer than writing and reading it."""
Read = Callable[[int, int], "Buffer"]
"""Returns bytes, given the first one's offset and their number."""

_COMPARED_BYTES = 256 << 10
"""Bytes that are compared at a time."""


class Holder(Protocol):
    """A stream of any kind that may hold others."""

    children: list[FoundStream]
    """Those in it, in order."""

    @property
    def number(self) -> int:
        """Its number in the file."""

    @property
    def parent(self) -> Holder | None:
        """The stream that holds it; None for the file."""

    @property
    def depth(self) -> int:
        """Number of streams around it, itself included."""

    @property
    def offset(self) -> int:
        """Of its first byte in what holds it."""

    @property
    def size(self) -> int:
        """Bytes of its plaintext."""


class FoundStream(InflatedStream):
    """A deflate stream of a file.

    Args:
        number: its number in the file.
        parent: the stream that holds it; None for the file.
        read: reads what holds it.
        end: size of that.
        offset: of its first byte there.
        most: greatest size of its plaintext.
        windows: as `InflatedStream` takes it.
        cache: as `InflatedStream` takes it.
        spool: takes the plaintext of a stream that has more than one segment, and of others once
            it is in use.
        kind: of the archive, as in `closed.ClosedStreams`.
        name: of a zip entry; empty if it is none.
    """

    __slots__ = (
        "_digest",
        "_hasher",
        "_is_last",
        "_spool",
        "_spooled",
        "children",
        "depth",
        "is_cut",
        "is_too_long",
        "kind",
        "name",
        "number",
        "offset",
        "parent",
    )

    def __init__(
        self,
        number: int,
        parent: Holder | None,
        read: Read,
        end: int,
        offset: int,
        most: int,
        windows: Windows,
        cache: SegmentCache,
        spool: Pile,
        kind: str,
        name: bytes,
    ) -> None:
        super().__init__(read, end, offset, most, f"deflate stream at {offset}", windows, cache)
        self.number = number
        self.parent = parent
        self.offset = offset
        self.kind = kind
        self.name = name
        self.depth: int = 1 if parent is None else parent.depth + 1
        self.children: list[FoundStream] = []
        self._hasher, self._digest = blake3.blake3(), b""
        self._is_last = False
        self.is_cut = False
        """Whether it goes on behind its last segment, and is cut off there, or damaged."""
        self.is_too_long = False
        """Whether it goes on because it has more plaintext than it may."""
        self._spool = spool
        self._spooled = -1  # where its plaintext begins in the spool
        self._first_input = _FIRST_INPUT_BYTES

    @property
    def closed_bytes(self) -> int:
        """Length of the deflate stream."""
        return self.whole_bytes + (self._marks[-2] & 7 > 0)

    @property
    def whole_bytes(self) -> int:
        """The same without the last byte if it may be shared with what follows."""
        return self._offset(self.count) - self.offset

    @property
    def is_single(self) -> bool:
        """Whether it is known to have one segment; from any thread."""
        return self._is_last and self.count == 1  # in this order: the number is known by then

    @property
    def is_small(self) -> bool:
        """Whether it has one segment, and holds no stream."""
        return self.count == 1 and not self.children

    @property
    def head(self) -> bytes:
        """Its first HEAD_BYTES, or all bytes."""
        return bytes(self._read(self.offset, min(HEAD_BYTES, self._end - self.offset)))

    def reason_behind(self, left: int) -> str:
        """Return why it ends early, as in `opening.closed`; "" if it does not.

        Args:
            left: bytes that follow it.
        """
        if not self.is_cut or left < _TOKEN_BYTES:
            return ""
        return LIMIT if self.is_too_long else DAMAGED

    def is_equal(self, read: Read, offset: int) -> bool:
        """Return whether as many bytes from an offset on are the same.

        The byte in which it is cut off does not count.

        Args:
            read: reads them.
            offset: of the first one; there are as many.
        """
        size = self.whole_bytes if self.is_cut else self.closed_bytes
        hasher, end = blake3.blake3(), offset + size
        for start in range(offset, end, _COMPARED_BYTES):
            hasher.update(read(start, min(_COMPARED_BYTES, end - start)))
        return hasher.digest() == self._digest

    def measure(self, run: Run | None = None) -> Generator[tuple[int, Segment], None, None]:
        """Inflate it to its end; one that is cut off or damaged ends with what is whole of it.

        Args:
            run: inflates the next segment while this one is used; None to wait with it.

        Yields:
            The position of each segment, and the segment, which is valid until the next one is
            asked for: whoever needs it longer must hold it.

        Raises:
            FormatError: it is no deflate stream, or too long, before the end of a segment.
        """
        with closing(one_ahead(self._step, run)) as found:
            for at, segment in found:
                yield self._positions[at], segment
                self._cache.release((self._key, at), segment)

    def _step(self) -> tuple[int, Segment] | None:
        """Inflate one more segment, and return its number and itself; None behind the last."""
        with self._lock:
            if self._is_last:
                return None
            try:
                return self.count, self._go_on()
            except FormatError:
                if not self.count:
                    raise
                self.size, self._is_last, self.is_cut = self._positions[-1], True, True
                self._end_digest()
                return None

    def read(self, start: int, length: int) -> bytes | bytearray | memoryview:
        """Return `length` bytes of the plaintext from `start` on."""
        if self._is_last and self._spooled >= 0:
            return self._spool.read(self._spooled + start, length)
        return super().read(start, length)

    def read_into(self, start: int, out: memoryview) -> None:
        """Fill `out` with the plaintext from `start` on."""
        if self._is_last and self._spooled >= 0:
            self._spool.read_into(self._spooled + start, out)
        else:
            super().read_into(start, out)

    def _advance(self, segment: Segment, found: Inflated, offset: int) -> None:
        end = self._positions[-1] + found.plain_length
        if end > self.size or (end == self.size and not found.last):
            self.is_too_long = True
            raise FormatError(self._what, "it is too long")
        if found.last:
            self.size = end
        elif found.is_partial and not self.count and found.plain_length < _LEAST_PARTIAL_BYTES:
            raise FormatError(self._what, "it is cut off or damaged")
        if found.end_bit + 7 >> 3 > most_coded(found.plain_length):
            raise FormatError(self._what, "it holds next to nothing")
        if self._spooled < 0 and not (found.last and self._is_quick(found)):
            self._spooled = self._spool.size
        if self._spooled >= 0:
            self._spool.add(segment.plain)
        super()._advance(segment, found, offset)
        self._is_last = found.last
        whole = (found.end_bit >> 3) + (found.last and found.end_bit & 7 > 0)
        self._hasher.update(self._input(offset, whole, whole)[:whole])
        if found.last:
            self._end_digest()

    def _is_quick(self, found: Inflated) -> bool:
        """Return whether a stream of one segment is rather inflated again than kept.

        A file without a long stream mostly has few short ones, which stay in the cache.
        """
        return not self._spool.size or found.plain_length < _LEAST_SPOOLED_BYTES

    def _end_digest(self) -> None:
        """Keep the digest of the stream, and not the hasher, which takes 2 KB."""
        self._digest = self._hasher.digest()
        del self._hasher


class MadeStream:
    """The only deflate stream of a file, which was made without the file.

    Args:
        number: its number.
        offset: of its first byte in the file.
        plain: its plaintext, and segments on demand.
    """

    parent = None
    depth = 1
    name = b""

    def __init__(self, number: int, offset: int, plain: PlainStream) -> None:
        self.number = number
        self.offset = offset
        self.size = plain.size
        self.children: list[FoundStream] = []
        self.segments = plain.segments
        self.read = plain.read
        self.read_into = plain.read_into

    def measure(self, run: Run | None = None) -> Generator[tuple[int, memoryview], None, None]:
        """Return positions in the plaintext, and the text from each to the next one.

        Args:
            run: reads the next text while this one is used; None to wait with it.

        Returns:
            An iterator over pairs.
        """
        starts = iter(range(0, self.size, SEGMENT_BYTES))

        def step() -> tuple[int, memoryview] | None:
            for start in starts:
                return start, memoryview(self.read(start, min(SEGMENT_BYTES, self.size - start)))
            return None

        return one_ahead(step, run)
