"""An archive as it is stored: a stream of pieces, some of them deflate streams already inflated.

A file that was opened is stored as content and recipe (docs/format.md, "Recipes"). Its bytes need
not be rebuilt to look into it: where the file has a deflate stream, the recipe has the plaintext.
So the file is a stream of *pieces*: runs of the content, bytes that the recipe keeps, and
`Deflated` pieces, whose plaintext is a stream of the same kind. Readers of tar, gzip and zip take
the plaintext where there is one, and inflate where there is none. A piece that is skipped is never
read. Only a reader that wants the exact bytes of a deflate stream has them rebuilt.

The recipe does not say how long a deflate stream is. `Extent` derives it from the size of the tar
member that holds the stream. `Irregular` says that this failed; the caller then rebuilds the file.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Protocol

from packer.engine import bzip2
from packer.engine.deflate import MAX_SEGMENT_BYTES, WINDOW_BYTES, RecipeError, most_coded, rebuild
from packer.engine.zstd_streams import RecipeError as ZstdRecipeError
from packer.opening import recipe as op
from packer.opening.against import Against, is_against, rebuilt_zstd
from packer.opening.deferred import BlockJoint
from packer.opening.rebuilder import check_zstd
from packer.opening.recipe import Cursor

_ZEROS = bytes(64 << 10)
"""Zeros given out at a time."""


class Irregular(Exception):
    """The pieces cannot be attributed to the members of an archive; its exact bytes can."""


class Content(Protocol):
    """Bytes with random access: of a file of a version, or of a temporary file."""

    @property
    def size(self) -> int:
        """Number of bytes."""

    def read(self, start: int, length: int) -> Iterator[bytes | memoryview]:
        """Yield the bytes ``[start, start + length)``, which exist."""


class Run:
    """A run of bytes of a content.

    Args:
        content: holds the bytes.
        start: of the first one.
        length: in bytes.
    """

    __slots__ = ("content", "length", "start")

    def __init__(self, content: Content, start: int, length: int) -> None:
        self.content = content
        self.start = start
        self.length = length

    def __len__(self) -> int:
        return self.length

    def split(self, at: int) -> tuple[Run, Run]:
        """Return the first `at` bytes, and the rest."""
        first, rest = self.start, self.length - at
        return Run(self.content, first, at), Run(self.content, first + at, rest)

    def read(self) -> Iterator[bytes | memoryview]:
        """Yield the bytes."""
        return self.content.read(self.start, self.length)


class Data:
    """Bytes in memory."""

    __slots__ = ("data",)

    def __init__(self, data: bytes | memoryview) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def split(self, at: int) -> tuple[Data, Data]:
        """Return the first `at` bytes, and the rest."""
        return Data(self.data[:at]), Data(self.data[at:])

    def read(self) -> Iterator[bytes | memoryview]:
        """Yield the bytes."""
        yield self.data


class Header(Data):
    """A header of a tar archive, as the recipe records it; its parts are mere bytes."""

    __slots__ = ()


class Zeros:
    """Zero bytes."""

    __slots__ = ("length",)

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def split(self, at: int) -> tuple[Zeros, Zeros]:
        """Return the first `at` bytes, and the rest."""
        return Zeros(at), Zeros(self.length - at)

    def read(self) -> Iterator[bytes | memoryview]:
        """Yield the bytes."""
        for start in range(0, self.length, len(_ZEROS)):
            yield _ZEROS[: min(self.length - start, len(_ZEROS))]


class Patched:
    """Bytes that a delta makes of an old stream, made when they are read.

    Args:
        make: makes the bytes.
        last: keeps what was made last: for all DELTA of a file, or for one HOLD.
        start: of the first byte, in what is made.
        length: in bytes.
    """

    __slots__ = ("_last", "_make", "_start", "length")

    def __init__(
        self, make: Callable[[], memoryview], last: LastMade, start: int, length: int
    ) -> None:
        self._make = make
        self._last = last
        self._start = start
        self.length = length

    def __len__(self) -> int:
        return self.length

    def split(self, at: int) -> tuple[Patched, Patched]:
        """Return the first `at` bytes, and the rest."""
        make, last, start = self._make, self._last, self._start
        return Patched(make, last, start, at), Patched(make, last, start + at, self.length - at)

    def read(self) -> Iterator[bytes | memoryview]:
        """Yield the bytes."""
        yield memoryview(self._last.get(self._make))[self._start : self._start + self.length]


class LastMade:
    """What a delta made last: the members of a tar archive in it are read one after another."""

    def __init__(self) -> None:
        self._held: tuple[Callable[[], memoryview], memoryview] | None = None

    def get(self, make: Callable[[], memoryview]) -> memoryview:
        """Return what `make` makes."""
        held = self._held
        if held is None or held[0] is not make:
            self._held = None  # so that memory holds one at a time
            held = self._held = make, make()
        return held[1]


class Hole(Zeros):
    """Zero bytes that are not stored: a sparse file may claim any number of them."""

    __slots__ = ()


class Deflated:
    """A deflate, bzip2 or zstd stream, of which the plaintext is stored.

    Args:
        plain: the plaintext; it lies in the same sequence of operations as the pieces behind it, so
            it is read, or drained, before them.
        records: of its segments or blocks; consumed when the stream is rebuilt.
        against: of the recipe.
        kind: the operation of the recipe: DEFLATE; BZIP2, with header and trailer; ZSTD and
            SEQUENCES, whole frames.
    """

    __slots__ = ("_plain", "against", "coded_length", "kind", "records")

    def __init__(self, plain: Stream, records: Cursor, against: Against, kind: int) -> None:
        self._plain = plain
        self.records = records
        self.against = against
        self.kind = kind
        self.coded_length: int | None = None
        """Bytes of the stream; None as long as they are not known."""

    def plaintext(self) -> Stream:
        """Return the plaintext: from its start if it is held, else what is left of it.

        Call it once, and read what it returns: a stream that is held begins anew at each call.
        """
        return self._plain

    def is_whole_bzip2(self) -> bool:
        """Return whether all blocks of a bzip2 stream were opened, and so its trailer."""
        return self.kind == op.BZIP2 and 0 in self._lengths()

    def plain_length(self) -> int:
        """Return the length of the plaintext in bytes."""
        return sum(self._lengths())

    def _lengths(self) -> Iterator[int]:
        """Yield the plaintext lengths of segments or blocks; of bzip2, 0 is the trailer."""
        records, kind = self.records.copy(), self.kind
        if kind == op.BZIP2:
            records.number()  # the level
        while not records.ended:
            head = records.number()
            if kind in (op.ZSTD, op.SEQUENCES):
                records.number()  # its own length
            if kind != op.BZIP2:
                records.take(records.number())
            yield head >> 3 if kind == op.DEFLATE else head

    def again(self) -> Deflated:
        """Return the stream as it was before it was read; only for those that can be."""
        return Deflated(self.plaintext(), self.records, self.against, self.kind)

    def drain(self) -> None:
        """Consume the rest of the plaintext, so that the pieces behind can be had."""
        self._plain.drain()

    def rebuilt(self) -> Iterator[Data]:
        """Yield the stream's bytes; its plaintext must not have been read."""
        total = 0
        makes = {op.DEFLATE: self._segments, op.BZIP2: self._blocks}
        for data in makes.get(self.kind, self._frames)():
            total += len(data)
            yield data
        self.coded_length = total

    def _blocks(self) -> Iterator[Data]:
        """Rebuild a bzip2 stream, as `Rebuilder` does."""
        stream, records = self.plaintext(), self.records
        plain = _Joined(stream, records)
        level = records.number()
        if not 1 <= level <= 9:
            records.fail("a bzip2 stream has no such level")
        joint = BlockJoint(records.what)
        yield Data(bzip2.header(level))
        while not records.ended:
            length = records.number()
            if not length:
                yield Data(joint.trailer())
                return
            if length > bzip2.MAX_BLOCK_PLAIN:
                records.fail("a bzip2 stream is too long")
            yield Data(joint.add(partial(bzip2.rebuild, plain.take(length), level)))

    def _frames(self) -> Iterator[Data]:
        """Rebuild a zstd stream, as `Rebuilder` does."""
        stream, records = self.plaintext(), self.records
        plain = _Joined(stream, records)
        while not records.ended:
            length, coded_length = records.number(), records.number()
            coded = bytes(records.take(records.number()))
            check_zstd(records, length, coded_length)
            try:
                data = plain.take(length)
                if self.kind == op.ZSTD:
                    yield Data(rebuilt_zstd(data, coded, coded_length))
                else:
                    yield Data(self.against.frames(data, coded, coded_length)())
            except ZstdRecipeError as error:
                records.fail(str(error))

    def _segments(self) -> Iterator[Data]:
        """Rebuild a deflate stream, as `Rebuilder` does."""
        stream, records = self.plaintext(), self.records
        plain = _Joined(stream, records)
        shared, window, position = 0, b"", 0
        while not records.ended:
            head = records.number()
            bit, length = head & 7, head >> 3
            if length > MAX_SEGMENT_BYTES:
                records.fail("a deflate stream is too long")
            coded = bytes(records.take(records.number()))
            data, most = plain.take(length), most_coded(length)
            try:
                if is_against(coded):
                    fill = self.against.segment(data, window, position, coded)
                    out, bits = self.against.bits(fill, bit, most)
                else:
                    out, bits = rebuild(data, window, position, coded, bit, most)
            except RecipeError as error:
                records.fail(str(error))
            if out:
                out[0] |= shared
            shared = out[-1] if bits & 7 else 0
            yield Data(memoryview(out)[: bits >> 3])
            window = (window + data[-WINDOW_BYTES:])[-WINDOW_BYTES:]
            position += length


class _Joined:
    """The bytes of a stream, in any lengths."""

    def __init__(self, stream: Stream, records: Cursor) -> None:
        self._stream = stream
        self._records = records

    def take(self, count: int) -> bytes:
        data = self._stream.read(count)
        if len(data) < count:
            self._records.fail("the content is too short")
        return data


Piece = Run | Data | Zeros | Patched | Deflated


class Stream:
    """A sequence of pieces, consumed from the front.

    Args:
        pieces: in order.
        is_sequential: whether bytes come out of an inflater, so that skipping them saves nothing.
    """

    def __init__(self, pieces: Iterable[Piece], *, is_sequential: bool = False) -> None:
        self._sources = [iter(pieces)]
        """What pieces come from: the last one first, the one before when that is used up."""
        self._front: deque[Piece] = deque()
        self._inner: Deflated | None = None
        self.is_sequential = is_sequential

    def peek(self) -> Piece | None:
        """Return the next piece without consuming it, None at the end."""
        if not self._front:
            if self._inner is not None:
                inner, self._inner = self._inner, None
                inner.drain()
            while self._sources:
                piece = next(self._sources[-1], None)
                if piece is not None:
                    self._front.append(piece)
                    break
                self._sources.pop()
            else:
                return None
        return self._front[0]

    def pop(self, most: int = 1 << 63) -> Piece | None:
        """Consume the next piece, or its first `most` bytes.

        The plaintext of a `Deflated` piece is drained when the next piece is asked for.

        Args:
            most: greatest number of bytes; a `Deflated` piece is never divided.

        Returns:
            The piece, None at the end.
        """
        piece = self.peek()
        if piece is None:
            return None
        if isinstance(piece, Deflated):
            self._inner = piece
        elif len(piece) > most:
            piece, self._front[0] = piece.split(most)
            return piece
        return self._front.popleft()

    def push(self, piece: Piece) -> None:
        """Put a piece back to the front."""
        self._front.appendleft(piece)

    def drain(self) -> None:
        """Consume everything, reading nothing."""
        while self.pop() is not None:
            pass

    def raw(self, most: int = 1 << 63) -> Iterator[Run | Data | Zeros | Patched]:
        """Consume pieces as exact bytes: deflate streams are rebuilt.

        Args:
            most: number of bytes after which to stop.

        Yields:
            Pieces without `Deflated` ones.
        """
        while most > 0:
            piece = self.pop(most)
            if piece is None:
                return
            if isinstance(piece, Deflated):
                self._inner = None
                self._expand(piece)
                continue
            most -= len(piece)
            yield piece

    def _expand(self, piece: Deflated) -> None:
        """Let the rebuilt bytes of a piece be the next pieces."""

        def rebuilt() -> Iterator[Piece]:
            yield from piece.rebuilt()
            piece.drain()

        assert not self._front
        self._sources.append(rebuilt())

    def read(self, count: int) -> bytes:
        """Return the next `count` bytes, fewer at the end."""
        return b"".join(part for piece in self.raw(count) for part in piece.read())

    def skip(self, count: int) -> int:
        """Consume `count` bytes without reading them; return how many there were."""
        return sum(map(len, self.raw(count)))

    def look(self, count: int) -> bytes:
        """Return the next bytes without consuming them: `count`, or fewer before a `Deflated`."""
        taken: list[Piece] = []
        have = 0
        while have < count and (piece := self.peek()) is not None:
            if isinstance(piece, Deflated):
                break
            self.pop()
            taken.append(piece)
            have += len(piece)
        self._front.extendleft(reversed(taken))
        out: list[bytes | memoryview] = []
        left = count
        for piece in taken:
            assert not isinstance(piece, Deflated)
            head = piece.split(left)[0] if len(piece) > left else piece
            out += head.read()
            left -= len(head)
        return b"".join(out)


class Extent(Stream):
    """The next `size` bytes of a stream: the content of a tar member.

    After a `Deflated` piece, whose length is not known, the member ends where the recipe says that
    something else begins: its padding, the next header, or the end of the archive. That gives the
    length. Where the member is a tar archive itself, its own members tell.

    Args:
        parent: the stream, at the member's first byte.
        size: of the member in bytes.
        is_recorded: whether the recipe has the member's header as one. Otherwise nothing tells
            where the member ends, and deflate streams in it are rebuilt.
    """

    def __init__(self, parent: Stream, size: int, *, is_recorded: bool) -> None:
        self._parent = parent
        self._is_recorded = is_recorded
        self._left = size
        self._unknown: list[Deflated] = []
        self._is_tar = False
        self.is_cut = False
        """Whether the stream ended before the member did."""
        super().__init__(self._limited(), is_sequential=parent.is_sequential)

    def nested(self) -> None:
        """Record that a tar archive in the member is being read, which resolves the lengths."""
        self._is_tar = True

    def is_untouched_tar(self) -> bool:
        """Return whether nothing was consumed of a member that is a tar archive, opened as such."""
        return not self._is_tar and not self._unknown and isinstance(self.peek(), Header)

    def _limited(self) -> Iterator[Piece]:
        parent = self._parent
        if not self._is_recorded:
            for part in parent.raw(self._left):
                self._left -= len(part)
                yield part
            self.is_cut = self._left > 0
            return
        while True:
            piece = parent.peek()
            if self._unknown and all(each.coded_length is not None for each in self._unknown):
                self._left -= sum(each.coded_length or 0 for each in self._unknown)
                self._unknown.clear()
            if self._left < 0:
                raise Irregular
            if piece is None:
                if self._unknown:
                    raise Irregular
                self.is_cut = self._left > 0
                return
            if not self._unknown and not self._left:
                return
            if isinstance(piece, Deflated):
                self._unknown.append(piece)
                parent.pop()
            elif not self._unknown:
                piece = parent.pop(self._left)
                assert piece is not None and not isinstance(piece, Deflated)
                self._left -= len(piece)
            elif self._is_tar or not isinstance(piece, Header | Zeros):
                parent.pop()
                self._left -= len(piece)
            else:
                break
            yield piece
        if self._unknown:
            self._unknown[0].coded_length = self._left
            for each in self._unknown[1:]:
                each.coded_length = 0
            self._left = 0
