"""Plans how the streams of a file are opened, once all of them were found.

The text of a changed stream becomes deltas against old text, its segments become recipes from old
tokens or by a model. A stream for which that does not pay stays closed. Small streams are each the
work of one thread; of large ones segments and deltas are made beside one another.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from operator import attrgetter
from typing import TypeVar

from packer.engine.memory import release_free_memory
from packer.engine.workspaces import release_workspaces
from packer.opening.bzip2_members import OLD_SHARE, Bzip2Opening, Bzip2Piece, OpenedBzip2
from packer.opening.discovery import Discovery
from packer.opening.flat_file import FlatPart
from packer.opening.found_stream import FoundStream, Read
from packer.opening.frames_update import MAX_SHARE, FoundFrames
from packer.opening.locating import Votes
from packer.opening.old_text import OldText
from packer.opening.recipe import MAX_DEFLATE_DEPTH, MAX_DELTA_BYTES
from packer.opening.segment_recipes import SegmentRecipes
from packer.opening.shelf import Shelf
from packer.opening.tar_members import Stretch, is_same
from packer.opening.text_pieces import (
    INLINE_BYTES,
    PIECE_BYTES,
    Stream,
    TextPieces,
    cut_pieces,
)
from packer.opening.update_plan import (
    ContentPiece,
    DeltaPiece,
    HeldPiece,
    InlinePiece,
    Item,
    Opened,
    SegmentRecipe,
)
from packer.opening.workers import AT_ONCE, Workers

_T = TypeVar("_T")
_Laid = Stream | OpenedBzip2
_Part = Opened | Bzip2Piece | tuple[int, int]
"""What is opened, or a stretch of text."""

_MUCH_TEXT = 8 << 20
"""Text in bytes from which its deltas take so much memory that the memory of its segments is
released before."""
_RECORD_BYTES = 16
"""Bytes of a record beside what it holds, about."""
_HELD_BYTES = 4
"""Bytes of an operation, about."""
MAX_RAW_BYTES = 256 << 10
"""What a delta of all that lies between the streams of a zip archive takes at most, if content may
take its place: more are whole new entries, which others may have as chunks."""
HEADERS_SHARE = 1 / 16
"""What such a delta may take of new bytes if no stream is opened: more is not headers alone."""


def is_mostly(parts: Sequence[Stretch], start: int, end: int) -> bool:
    """Return whether parts of a stretch, none of which overlap, are more than half of it."""
    return 2 * sum(last - first for first, last in parts) > end - start


class StreamPlans:
    """Plans of one file's streams.

    Args:
        read: reads the file's text; from any thread.
        size: of the text in bytes.
        old: the predecessor.
        workers: do the work.
        found: the streams in the text.
        votes: by number of a stream, where its text lies in the old one.
        recipes: of segments.
        shelf: keeps recipes and deltas until all is decided.
        unknown: returns the parts of a stretch of the text that are in no known chunk.
        parts: of the text; none if it is the file itself.
        raw_share: what a delta of all that lies between the streams of a zip archive may take of
            the bytes that are in no known chunk; 0 if text or old text is none.
        guesses: by number of a stream, the old stream that it probably was.
        foreign: gets the numbers of streams whose encoder is not known.
    """

    def __init__(
        self,
        read: Read,
        size: int,
        old: OldText,
        workers: Workers,
        found: Discovery,
        *,
        votes: Mapping[int, Votes],
        recipes: SegmentRecipes,
        shelf: Shelf,
        unknown: Callable[[int, int], Sequence[Stretch]],
        parts: Sequence[FlatPart],
        raw_share: float,
        guesses: Mapping[int, int],
        foreign: set[int],
    ) -> None:
        self._read = read
        self._size = size
        self._old = old
        self._workers = workers
        self._found = found
        self._votes = votes
        self._recipes = recipes
        self._shelf = shelf
        self._unknown = unknown
        self._parts = parts
        self._raw_share = raw_share
        self._text = TextPieces(old, votes, workers, size)
        self._bzip2 = Bzip2Opening(found.spool, found.room)
        self._guesses = guesses
        self._foreign = foreign

    def fill_file(
        self,
        plan: Opened,
        frames: Sequence[FoundFrames],
    ) -> bool:
        """Plan what a file consists of.

        Args:
            plan: of the file, still empty.
            frames: its zstd streams of text, in order.

        Returns:
            Whether any stream is opened.
        """
        self._make_room(self._size)
        bzip2 = self._bzip2_in(None)
        outer: list[Stream] = [*self._found.roots, *frames]
        outer.sort(key=attrgetter("offset"))
        laid: list[tuple[_Laid, Opened | Bzip2Piece | None]] = [
            *zip(outer, self._open_all(outer, None), strict=True),
            *((piece.stream, piece) for piece in bzip2),
        ]
        laid.sort(key=lambda each: each[0].offset)
        roots, plans = [each[0] for each in laid], [each[1] for each in laid]
        if self._raw_share:
            return self._fill_zip(plan, [each for each in plans if each is not None])
        if not any(plans):
            return False
        if self._parts:
            self._fill_text(plan, roots, plans)
        else:
            self._fill_raw(plan, roots, plans, 0, self._size)
        return True

    def _open_all(self, streams: Sequence[Stream], holder: Stream | None) -> list[Opened | None]:
        """Return how each stream in a holder, or in the file, is opened; None for a closed one."""
        waiting: deque[Callable[[], Opened | None]] = deque()
        out: list[Opened | None] = []
        most = 2 * AT_ONCE
        try:
            for stream in streams:
                guess = self._guesses.get(stream.number, 0)
                if self._old.is_full and self._is_unlisted(stream, holder):
                    waiting.append(partial(_same, None))
                    continue
                bzip2 = self._bzip2_in(stream)
                if isinstance(stream, FoundStream) and stream.is_small:
                    waiting.append(self._workers.run(partial(self._small, stream, guess, bzip2)))
                else:
                    plan = self._open(stream, guess, bzip2)
                    waiting.append(partial(_same, plan))
                while len(waiting) > most:
                    out.append(waiting.popleft()())
            while waiting:
                out.append(waiting.popleft()())
        finally:
            self._settle(waiting)
        return out

    def _is_unlisted(self, stream: Stream, holder: Stream | None) -> bool:
        """Return whether the predecessor has a stream byte for byte that it does not list."""
        start, size = stream.offset, stream.whole_bytes
        if holder is None:
            return not self._unknown(start, start + size)
        found = self._votes[holder.number].counterpart(start, start + size)
        if found is None:
            return False
        old, at = self._old.streams[found[0]], found[1]
        return at + size <= old.size and is_same(holder.read, start, old.read, at, size)

    def _bzip2_in(self, holder: Stream | None) -> list[Bzip2Piece]:
        """Open the bzip2 streams that changed in a stream's plaintext; None for the file's text."""
        read, end, number = self._read, self._size, -1
        if holder is not None:
            read, end, number = holder.read, holder.size, holder.number
        if self._parts or (holder is not None and holder.depth >= MAX_DEFLATE_DEPTH):
            return []
        places = self._found.bzip2.get(number, ())
        is_new = partial(self._is_new, holder)
        return list(self._bzip2.pieces(read, end, places, is_new, self._ahead))

    def _is_new(self, holder: Stream | None, start: int, end: int) -> bool:
        """Return whether the predecessor lacks most of a stretch of a stream, or of the file."""
        if holder is None:
            return is_mostly(self._unknown(start, end), start, end)
        return self._votes[holder.number].share(start, end, self._old.prints.average) < OLD_SHARE

    def _small(self, stream: FoundStream, guess: int, bzip2: Sequence[Bzip2Piece]) -> Opened | None:
        """Open a stream of one segment, in one thread."""
        out = Opened(stream)
        if not self._add_segment(out, self._recipes.get(stream, 0, guess)):
            return None
        for part in _laid_out(stream.size, bzip2):
            if isinstance(part, Opened | Bzip2Piece):
                self._add(out, part)
            else:
                self._add(out, self._text.make(stream, *part, guess))
        return out if self._pays(out) else None

    def _open(self, stream: Stream, guess: int, bzip2: Sequence[Bzip2Piece]) -> Opened | None:
        """Open a stream of several segments, or one that holds streams."""
        children = self._open_all(stream.children, stream)
        out = Opened(stream)
        if isinstance(stream, FoundFrames):
            out.sequences = stream.recipes
            out.cost = sum(len(each.recipe) + _RECORD_BYTES for each in stream.recipes)
        else:
            jobs = (partial(self._recipes.get, stream, at, guess) for at in range(stream.count))
            for segment in self._ahead(jobs):
                if not self._add_segment(out, segment):
                    return None
        self._fill(out, stream, [*(plan for plan in children if plan), *bzip2], guess)
        return out if self._pays(out) else None

    def _fill_text(
        self,
        out: Opened,
        streams: Sequence[_Laid],
        opened: Sequence[Opened | Bzip2Piece | None],
    ) -> None:
        """Add what the text of the file consists of."""
        starts = [stream.offset for stream in streams]
        for part in self._parts:
            first, last = bisect_left(starts, part.start), bisect_left(starts, part.end)
            inner = Opened(None, frames=part.segments) if part.segments else out
            self._fill_raw(inner, streams[first:last], opened[first:last], part.start, part.end)
            if inner is not out:
                inner.cost += sum(len(each.recipe) + _RECORD_BYTES for each in part.segments)
                self._add(out, inner)

    def _fill_raw(
        self,
        out: Opened,
        streams: Sequence[_Laid],
        opened: Sequence[Opened | Bzip2Piece | None],
        start: int,
        end: int,
    ) -> None:
        """Add what a stretch of the file's text consists of."""
        for stream, plan in zip(streams, opened, strict=True):
            # What seemed to be a stream may reach out of a zstd stream.
            if plan is not None and start <= stream.offset <= end - stream.whole_bytes:
                self._add(out, self._raw(start, stream.offset))
                self._add(out, plan)
                start = stream.offset + stream.whole_bytes
        self._add(out, self._raw(start, end))

    def _fill(
        self,
        out: Opened,
        stream: Stream,
        inner: Sequence[Opened | Bzip2Piece],
        guess: int,
    ) -> None:
        """Add what the plaintext of a stream consists of, given what is opened in it."""
        groups = _groups(_laid_out(stream.size, inner))
        self._make_room(stream.size)
        for items in self._ahead(partial(self._made, stream, group, guess) for group in groups):
            for item in items:
                self._add(out, item)

    def _made(self, stream: Stream, group: Sequence[_Part], guess: int) -> Sequence[Item]:
        """Return how a part of a stream's plaintext is made, given what is opened in it."""
        stretches = _stretches(group)
        if len(stretches) > 1:
            held = self._text.make_held(stream, stretches, guess)
            if held is not None:
                return _with(held, group)
        return [
            part if isinstance(part, Opened | Bzip2Piece) else self._text.make(stream, *part, guess)
            for part in group
        ]

    def _fill_zip(self, out: Opened, inner: Sequence[Opened | Bzip2Piece]) -> bool:
        """Add what a zip archive consists of, given what is opened in it.

        What lies between opened streams, headers and entries that did not change, comes from the
        old archive, unless its chunks are known or it is new.

        Returns:
            Whether anything but content was added.
        """
        is_opened = bool(inner)
        share = self._raw_share if inner else min(self._raw_share, HEADERS_SHARE)
        for group in _groups(_laid_out(self._size, inner)):
            stretches = _stretches(group)
            new = sum(end - start for each in stretches for start, end in self._unknown(*each))
            held = None
            if new >= INLINE_BYTES:
                old, most = self._old.whole().number, share * new
                if share < 1:
                    most = min(most, MAX_RAW_BYTES)
                held = self._text.make_raw(self._read, stretches, self._size, old, most)
            is_opened |= held is not None
            items: Sequence[Item]
            if held is None:
                items = [
                    part if isinstance(part, Opened | Bzip2Piece) else self._raw(*part)
                    for part in group
                ]
            else:
                items = _with(held, group)
            for item in items:
                self._add(out, item)
        return is_opened

    def _make_room(self, text_bytes: int) -> None:
        """Release what only recipes of segments need, before so much text becomes deltas."""
        if text_bytes < _MUCH_TEXT:
            return
        self._recipes.release()
        self._old.release_segments()
        self._found.release()
        release_workspaces()
        release_free_memory()

    def _raw(self, start: int, end: int) -> ContentPiece | InlinePiece:
        """Return bytes of the file's text that lie between opened streams."""
        if end - start < INLINE_BYTES:
            return InlinePiece(bytes(self._read(start, end - start)))
        return ContentPiece(start, end - start)

    def _ahead(self, jobs: Iterable[Callable[[], _T]]) -> Iterator[_T]:
        """Yield the results of jobs in order, some of which are done ahead."""
        waiting: deque[Callable[[], _T]] = deque()
        most = AT_ONCE + 1
        try:
            for job in jobs:
                waiting.append(self._workers.run(job))
                if len(waiting) > most:
                    yield waiting.popleft()()
            while waiting:
                yield waiting.popleft()()
        finally:
            self._settle(waiting)

    def _settle(self, waiting: Iterable[Callable[[], object]]) -> None:
        """Wait for jobs whose results nobody wants: they read files that are closed next."""
        if self._workers.is_parallel:
            for wait in waiting:
                with suppress(Exception):
                    wait()

    @staticmethod
    def _pays(out: Opened) -> bool:
        assert out.stream is not None
        return out.cost <= MAX_SHARE * out.stream.closed_bytes

    def _add_segment(self, out: Opened, segment: SegmentRecipe | None) -> bool:
        """Add a segment; return whether it has a recipe, and recipes pay so far."""
        if segment is not None:
            out.segments.append(segment._replace(recipe=self._shelf.keep(segment.recipe)))
            out.cost += len(segment.recipe) + _RECORD_BYTES
            if self._pays(out):
                return True
        assert isinstance(out.stream, FoundStream)
        self._foreign.add(out.stream.number)
        return False

    def _add(self, out: Opened, item: Item) -> None:
        if isinstance(item, Opened):
            out.cost += item.cost + _RECORD_BYTES
        elif isinstance(item, DeltaPiece):
            out.cost += len(item.payload) + _RECORD_BYTES
            item.payload = self._shelf.keep(item.payload)
        elif isinstance(item, InlinePiece):
            if not item.data:
                return
            out.cost += len(item.data)
        elif isinstance(item, HeldPiece):
            out.cost += _HELD_BYTES
        else:
            out.cost += item.stored
        out.items.append(item)


def _laid_out(size: int, inner: Sequence[Opened | Bzip2Piece]) -> list[_Part]:
    """Return what so many bytes of text consist of: what is opened, and the stretches between."""
    out: list[_Part] = []
    position = 0
    for plan in sorted(inner, key=_offset):
        start = _offset(plan)
        if start >= position:
            out += [*cut_pieces(position, start), plan]
            assert plan.stream is not None
            position = start + plan.stream.whole_bytes
    return [*out, *cut_pieces(position, size)]


def _groups(parts: Sequence[_Part]) -> Iterator[Sequence[_Part]]:
    """Yield parts of a text in groups, the stretches of each of which may be one delta."""
    most = MAX_DELTA_BYTES
    if sum(end - start for start, end in _stretches(parts)) > most:
        most = PIECE_BYTES
    group: list[_Part] = []
    size = 0
    for part in parts:
        if not isinstance(part, Opened | Bzip2Piece):
            length = part[1] - part[0]
            # Two stretches without anything between them were cut to be deltas of their own.
            if size and (size + length > most or not isinstance(group[-1], Opened | Bzip2Piece)):
                yield group
                group, size = [], 0
            size += length
        group.append(part)
    if group:
        yield group


def _stretches(parts: Sequence[_Part]) -> list[tuple[int, int]]:
    return [part for part in parts if not isinstance(part, Opened | Bzip2Piece)]


def _with(held: DeltaPiece, group: Sequence[_Part]) -> list[Item]:
    """Return a group whose stretches are parts of a delta."""
    out: list[Item] = [held]
    for part in group:
        if isinstance(part, Opened | Bzip2Piece):
            out.append(part)
        else:
            out.append(HeldPiece(part[1] - part[0]))
    return out


def _offset(plan: Opened | Bzip2Piece) -> int:
    assert isinstance(plan.stream, FoundStream | OpenedBzip2)
    return plan.stream.offset


def _same(value: _T) -> _T:
    return value
