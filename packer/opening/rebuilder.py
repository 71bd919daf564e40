"""Rebuilds a file from content and recipe: the inverse of `opening.expander`."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from functools import partial
from typing import NamedTuple, TypeVar

from packer.engine import bzip2, zstd_streams
from packer.engine.deflate import MAX_SEGMENT_BYTES, WINDOW_BYTES, RecipeError, most_coded, rebuild
from packer.errors import FormatError
from packer.files.room import Room
from packer.files.temporary import Gathered
from packer.opening import recipe as op
from packer.opening.against import Against, is_against, rebuilt_zstd
from packer.opening.deferred import (
    DEFERRED_BYTES,
    NOTHING_HELD,
    BlockJoint,
    Bytes,
    Deferred,
    Held,
    Joint,
    Piece,
)
from packer.opening.expansion import most_opened
from packer.opening.in_turn import InTurn
from packer.opening.old_streams import OldStreams
from packer.opening.recipe import MAX_DEFLATE_DEPTH, Cursor, Recipe
from packer.opening.tar_headers import BLOCK, content_size, decode_header

_T = TypeVar("_T")
_ZEROS = bytes(64 << 10)
_AHEAD_BYTES = 8 << 20
"""Bytes held behind a segment that is being rebuilt, while others are rebuilt beside it: four
segments of the usual length. Two archives are rebuilt at a time: there is room for no more."""
_WORK_FACTOR = 8
"""Memory that rebuilding a segment takes while it is done, in bytes for each of its plaintext, its
bytes and those of the old text that it refers to included."""
_DELTA_FACTOR = 3
"""The same for a delta: its text, and the old text twice."""
_FIRST_BYTES, _FIRST_SEGMENTS = 1 << 30, 1024
"""Greatest plaintext in bytes, and number of segments, of a stream that is made without its file:
it may take so much of the disk, and a table of them little of the memory."""
_BESIDE_BYTES = 1 << 10
"""Bytes before and behind a stream that hold no other one that matters."""
_RELEASE_OPERATIONS = 8192
"""Operations between two releases of the recipe's memory."""
_LEAST_LEFT_BYTES = 256 << 10
"""Content below which it is not left where it is."""


class Leave(NamedTuple):
    """How long stretches of content are left where they are.

    Args:
        skip: passes over pieces of the content, as `Bytes.leave` takes it.
        left: called with the place and length of each such stretch in the content, when all before
            it was yielded.
    """

    skip: Callable[[int], int]
    left: Callable[[int, int], None]


class Rebuilder:
    """Rebuilds one file.

    Args:
        recipe: from a stranger.
        content: the file's content, in pieces of any length.
        size: of the file in bytes.
        what: how errors name the file.
        executor: rebuilds parts of streams; None rebuilds them in the calling thread.
        old: streams of the file's predecessors; None if it has none.
        as_text: whether to rebuild the file's text, in which zstd streams have their plaintext in
            their place.
        room: memory that the executor's threads take while they work; None does not bound it.
        leave: leaves long stretches of content that lie in no stream, of a text; None leaves none.
    """

    def __init__(
        self,
        recipe: Gathered,
        content: Iterator[memoryview],
        size: int,
        what: str,
        executor: Executor | None = None,
        old: OldStreams | None = None,
        *,
        as_text: bool = False,
        room: Room | None = None,
        leave: Leave | None = None,
    ) -> None:
        assert as_text or leave is None
        self._as_text = as_text
        self._leave = leave
        self._left = 0
        """Bytes of the file that were left in the content."""
        self._room = room
        self._recipe = Recipe(recipe.data, f"recipe of {what}")
        self._against = Against(old, size, self._recipe.what)
        self._release = recipe.release
        self._content = Bytes(content, self._recipe.what)
        self._size = size
        self._spare = most_opened(size)
        self._executor = executor
        self._in_turn = InTurn(executor) if executor is not None else None

    def pieces(self) -> Iterator[bytes | memoryview]:
        """Yield the file's bytes in pieces, but for those that are left in the content.

        FormatError is raised if the recipe does not fit the content or the size; errors of reading
        the content pass through.

        Yields:
            The next bytes; valid until the next piece is asked for.
        """
        done = 0
        for piece in self._resolved(self._stream(0, within=False)):
            done += len(piece)
            if done + self._left > self._size:
                self._fail("it gives more than the file's size")
            yield piece
        if done + self._left != self._size:
            self._fail("it gives less than the file's size")
        if not self._recipe.ended or not self._content.ended:
            self._fail("something is left over")

    def first_stream(self, offset: int | None = None) -> FirstStream | None:
        """Return the first deflate stream, to be made without the file; instead of `pieces`.

        Args:
            offset: where it begins in the file; None for anywhere.

        Returns:
            The stream; None if none begins there, something whose length is not known is before
            it, or it takes too much memory or disk to be made so.

        Raises:
            FormatError: the recipe is damaged.
        """
        # Nothing here refers to what is returned: a cycle would keep its memory for long.
        found: list[tuple[list[SegmentRecord], int, Iterator[bytes | memoryview]] | None] = []
        count = position = 0

        def first(depth: int) -> Iterator[Piece]:
            nonlocal count
            count += 1
            if count == 1:
                found.append(self._first(depth))
            yield b""

        def is_alone() -> bool:
            left = _BESIDE_BYTES - position
            for piece in pieces:
                left -= len(piece)
                if left < 0 or count > 1 or isinstance(piece, Deferred):
                    return False
            return left >= 0

        pieces = self._stream(0, first, within=False)
        for piece in pieces:
            if found:
                stream = found.pop()
                if stream is None or offset not in (None, position):
                    return None
                return FirstStream(*stream, self._against, position, is_alone)
            position += len(piece)
            if isinstance(piece, Deferred) or (offset is not None and position > offset):
                return None
        return None

    def _first(
        self, depth: int
    ) -> tuple[list[SegmentRecord], int, Iterator[bytes | memoryview]] | None:
        """Read the records of the first deflate stream; return them, its size and its plaintext."""
        segments, size = [], 0
        records = self._recipe.next_stream()
        while not records.ended:
            head = records.number()
            bit, length = head & 7, head >> 3
            coded = records.take(records.number())
            if length > MAX_SEGMENT_BYTES:
                self._fail("a segment is too long")
            if length:
                segments.append(SegmentRecord(bit, length, coded))
                size += length
            if size > min(_FIRST_BYTES, self._spare) or len(segments) > _FIRST_SEGMENTS:
                return None
        return segments, size, self._resolved(self._stream(depth))

    def _fail(self, why: str) -> None:
        raise FormatError(self._recipe.what, why)

    def _stream(
        self,
        depth: int,
        deflate: Callable[[int], Iterator[Piece]] | None = None,
        *,
        within: bool = True,
    ) -> Iterator[Piece]:
        """Follow the operations of a stream up to its end.

        Args:
            depth: number of streams around it, but for ZSTD.
            deflate: yields a deflate stream within it, given its depth.
            within: whether it lies in another one, of any kind.

        Yields:
            Its bytes.
        """
        deflate = self._deflate if deflate is None else deflate
        recipe = self._recipe
        number, inline = recipe.operations.number, recipe.inline.take
        header = bytes(BLOCK)
        held = NOTHING_HELD
        for count in itertools.count(1):
            if not count % _RELEASE_OPERATIONS:
                self._release()
            operation = number()
            if operation == op.MEMBER or operation == op.HEADER:
                header = decode_header(recipe.headers, header)
                yield header
                if operation == op.MEMBER:
                    size = content_size(header)
                    if size < 0:
                        self._fail("a member's size cannot be told")
                    yield from self._content_of(size, depth)
                    yield _ZEROS[: -size % BLOCK]
            elif operation == op.CONTENT:
                yield from self._content_of(number(), depth)
            elif operation == op.INLINE:
                yield inline(number())
            elif operation == op.ZEROS:
                left = number()
                while left:
                    count = min(left, len(_ZEROS))
                    yield _ZEROS[:count]
                    left -= count
            elif operation == op.DELTA:
                yield self._delta(number())
            elif operation == op.HOLD:
                if held.left:
                    self._fail("bytes held are left over")
                size = number()
                held = Held(self._delta(size), size)
            elif operation == op.HELD:
                size = number()
                if not 1 <= size <= held.left:
                    self._fail("bytes that are not held")
                yield held.take(size)
            elif operation == op.DEFLATE or operation == op.BZIP2:
                if depth >= MAX_DEFLATE_DEPTH:
                    self._fail("deflate streams within one another, too many")
                yield from (deflate if operation == op.DEFLATE else self._bzip2)(depth + 1)
            elif operation == op.ZSTD or operation == op.SEQUENCES:
                is_text = operation == op.ZSTD
                if within or (is_text and self._recipe.text_bytes is None):
                    self._fail("a zstd stream where none may be")
                yield from self._zstd(deflate, depth if is_text else depth + 1, is_text=is_text)
            elif operation == op.END:
                if held.left:
                    self._fail("bytes held are left over")
                return
            else:
                self._fail(f"unknown operation {operation}")

    def _content_of(self, size: int, depth: int) -> Iterator[Piece]:
        """Take bytes of the content; yield those that are not left."""
        if self._leave is None or depth or size < _LEAST_LEFT_BYTES:
            return self._content.pieces(size)
        start = self._content.position
        self._content.leave(size, self._leave.skip)
        # Deferred, so that it comes in turn: where it lies in the file is known only then.
        return iter((Deferred(DEFERRED_BYTES, partial(self._pass_over, start, size)),))

    def _pass_over(self, start: int, size: int) -> memoryview:
        """Tell where content was left; return no bytes."""
        assert self._leave is not None
        self._left += size
        self._leave.left(start, size)
        return memoryview(b"")

    def _delta(self, size: int) -> Deferred:
        """Return the plaintext that a delta makes of a span of an old stream."""
        make, is_there = self._against.delta(self._recipe.next_stream(), size)
        cost = _DELTA_FACTOR * size
        if is_there or self._in_turn is None:
            return Deferred(size + DEFERRED_BYTES, self._run(make, cost))
        return Deferred(
            size + DEFERRED_BYTES, self._in_turn.submit(partial(self._within_room, make, cost))
        )

    def _deflate(self, depth: int) -> Iterator[Deferred]:
        """Yield the whole bytes of a deflate stream; the recipe keeps a shared last byte."""
        recipe = self._recipe
        records = recipe.next_stream()
        plain = Bytes(self._resolved(self._stream(depth)), recipe.what)
        joint = Joint()
        window, position = b"", 0
        while not records.ended:
            head = records.number()
            bit, length = head & 7, head >> 3
            self._spare -= length
            if length > MAX_SEGMENT_BYTES or self._spare < 0:
                self._fail("a deflate stream is too long")
            coded = bytes(records.take(records.number()))
            data = plain.take(length)
            wait = self._rebuild(data, window, position, coded, bit)
            yield Deferred(length + DEFERRED_BYTES, partial(self._joined, joint, wait))
            self._release()
            window = b"".join((window, data[-WINDOW_BYTES:]))[-WINDOW_BYTES:]
            position += length
        if not plain.ended:
            self._fail("plaintext is left over")

    def _zstd(
        self, deflate: Callable[[int], Iterator[Piece]], depth: int, *, is_text: bool
    ) -> Iterator[Piece]:
        """Yield a stream of zstd frames, or its plaintext.

        Args:
            deflate: as for `_stream`.
            depth: as for `_stream`, of its plaintext.
            is_text: whether the file's text has the plaintext.

        Yields:
            The bytes.
        """
        recipe = self._recipe
        records = recipe.next_stream()
        if self._as_text and is_text:
            yield from self._stream(depth, deflate)
            return
        plain = Bytes(self._resolved(self._stream(depth)), recipe.what)
        while not records.ended:
            length, coded_length = records.number(), records.number()
            coded = bytes(records.take(records.number()))
            self._spare -= length
            check_zstd(records, length, coded_length)
            if self._spare < 0:
                self._fail("a zstd stream is too long")
            data = plain.take(length)
            if is_text:
                make: Callable[[], bytes] = partial(rebuilt_zstd, data, coded, coded_length)
            else:
                make = self._against.frames(data, coded, coded_length)
            wait = self._run(make, _WORK_FACTOR * length)
            yield Deferred(length + DEFERRED_BYTES, partial(self._made, wait))
            self._release()
        if not plain.ended:
            self._fail("plaintext is left over")

    def _made(self, wait: Callable[[], bytes]) -> memoryview:
        """Wait for a segment of a zstd stream."""
        try:
            return memoryview(wait())
        except zstd_streams.RecipeError as error:
            raise FormatError(self._recipe.what, str(error)) from None

    def _bzip2(self, depth: int) -> Iterator[Piece]:
        """Yield a bzip2 stream; without its trailer, the whole bytes of its blocks."""
        recipe = self._recipe
        records = recipe.next_stream()
        level = records.number()
        if not 1 <= level <= 9:
            self._fail("a bzip2 stream has no such level")
        plain = Bytes(self._resolved(self._stream(depth)), recipe.what)
        joint = BlockJoint(recipe.what)
        yield bzip2.header(level)
        while not records.ended:
            length = records.number()
            if not length:
                yield Deferred(DEFERRED_BYTES, joint.trailer)
                break
            self._spare -= length
            if length > bzip2.MAX_BLOCK_PLAIN or self._spare < 0:
                self._fail("a bzip2 stream is too long")
            make = partial(bzip2.rebuild, plain.take(length), level)
            wait = self._run(make, _WORK_FACTOR * length)
            yield Deferred(length + DEFERRED_BYTES, partial(joint.add, wait))
            self._release()
        if not records.ended:
            self._fail("records are left over")
        if not plain.ended:
            self._fail("plaintext is left over")

    def _resolved(self, pieces: Iterator[Piece]) -> Iterator[bytes | memoryview]:
        """Yield the bytes of all pieces in order, waiting for rebuilt ones as late as possible.

        So segments are rebuilt beside one another, whether streams are long or many. A delta may be
        longer than what is held: the next one is made while the text of the one before is used.
        """
        most = _AHEAD_BYTES if self._executor is not None else 0
        held: deque[Piece] = deque()
        size = 0
        for piece in pieces:
            if held and not isinstance(piece, Deferred):
                piece = bytes(piece)  # a view keeps a whole frame alive
            held.append(piece)
            size += len(piece)
            del piece  # it has the bytes once they are made
            while held and (size > most or not isinstance(held[0], Deferred)):
                first = held.popleft()
                size -= len(first)
                if not isinstance(first, Deferred):
                    yield first
                    continue
                ready = [first.result()]
                del first
                after = next(pieces, None) if not held and most else None
                if after is not None:
                    held.append(after)
                    size += len(after)
                yield ready.pop()  # nothing here holds it any longer
        for piece in held:
            yield piece.result() if isinstance(piece, Deferred) else piece

    def _rebuild(
        self,
        data: bytes | bytearray | memoryview,
        window: bytes,
        position: int,
        coded: bytes,
        bit: int,
    ) -> Callable[[], tuple[bytearray, int]]:
        """Begin to rebuild a segment; return a function that waits for the result."""
        # Not bounded by the file's size: a stream within another may be larger than that one.
        most = most_coded(len(data))
        if is_against(coded):
            fill = self._against.segment(data, window, position, coded)
            make = partial(self._against.bits, fill, bit, most)
        else:
            make = partial(rebuild, data, window, position, coded, bit, most)
        return self._run(make, _WORK_FACTOR * len(data))

    def _run(self, function: Callable[[], _T], cost: int) -> Callable[[], _T]:
        """Begin to call a function, in another thread if there is one.

        Args:
            function: waits for none that is begun so: what it asks old streams for is made in its
                own thread.
            cost: memory that it takes, in bytes.

        Returns:
            A function that waits for the result.
        """
        if self._executor is None:
            return function
        return self._executor.submit(self._within_room, function, cost).result

    def _within_room(self, function: Callable[[], _T], cost: int) -> _T:
        """Call a function once there is room for it."""
        if self._room is None:
            return function()
        with self._room.take(cost):
            return function()

    def _joined(self, joint: Joint, wait: Callable[[], tuple[bytearray, int]]) -> memoryview:
        """Wait for a segment; return its whole bytes."""
        try:
            return joint.add(*wait())
        except RecipeError as error:
            raise FormatError(self._recipe.what, str(error)) from None


class SegmentRecord(NamedTuple):
    """A segment of a deflate stream in a recipe.

    Args:
        bit: where in its first byte it begins.
        length: bytes of its plaintext, at most MAX_SEGMENT_BYTES.
        coded: its recipe, from a stranger.
    """

    bit: int
    length: int
    coded: memoryview


class FirstStream(NamedTuple):
    """The first deflate stream of a file, which has not been made.

    Args:
        segments: those with plaintext, in order.
        size: bytes of the plaintext, as they say.
        plain: makes the plaintext, in pieces that nobody changes later; not as many bytes if the
            recipe does not fit.
        against: makes segments for which `is_against` holds.
        offset: of its first byte in the file.
        is_alone: returns, once all of `plain` was taken, whether there is next to nothing beside it
            in the file; to be called once.
    """

    segments: list[SegmentRecord]
    size: int
    plain: Iterator[bytes | memoryview]
    against: Against
    offset: int
    is_alone: Callable[[], bool]

    def is_only(self) -> bool:
        """Return whether `plain` has ended and `is_alone` holds; to be called once."""
        return next(self.plain, None) is None and self.is_alone()


def check_zstd(records: Cursor, plain_bytes: int, coded_bytes: int) -> None:
    """Check the lengths of a segment of a zstd stream, from a stranger's records."""
    most = zstd_streams.most_coded(plain_bytes)
    if plain_bytes > zstd_streams.MAX_SEGMENT_BYTES or coded_bytes > most:
        records.fail("a segment of a zstd stream is too long")
