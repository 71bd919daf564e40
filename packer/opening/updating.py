"""Opens a file against its predecessor: the streams that changed, and nothing else.

A stream that the predecessor holds byte for byte stays closed: its chunks are known, and within the
plaintext of another stream a delta copies it. But if the predecessor was opened itself, its chunks
do not hold the streams that had changed then: such a stream is opened although it is the same. The
text of a changed stream becomes deltas against old text, its segments become recipes from old
tokens. Where this does not pay, the stream stays closed as well.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import pairwise
from operator import attrgetter
from threading import Lock
from typing import TypeVar

from packer.engine.chunking import ChunkParams, chunks_of, iter_chunks
from packer.engine.memory import release_free_memory
from packer.engine.tokens import MAX_SPAN_BYTES
from packer.engine.workspaces import release_workspaces
from packer.opening.bzip2_members import OLD_SHARE, Bzip2Opening, Bzip2Piece, OpenedBzip2
from packer.opening.closed import LIMIT, NEW, SIGNATURE_BYTES, TEXT, ClosedTally, unopened
from packer.opening.closed_update import Telling
from packer.opening.discovery import Discovery
from packer.opening.equal_members import Stretch, is_same
from packer.opening.expansion import most_recipe
from packer.opening.flat_file import FlatPart
from packer.opening.found_stream import FoundStream, Holder, MadeStream, Read
from packer.opening.frames_update import (
    MAX_SHARE,
    DoesNotPay,
    FoundFrames,
    FramesOpening,
    OldFrames,
)
from packer.opening.further import Find, Further, FurtherTexts
from packer.opening.guesses import guesses
from packer.opening.locating import Place, Votes
from packer.opening.old_text import OldText
from packer.opening.pieces import Pieces
from packer.opening.predecessor import DEFLATE, ZSTD, OldStream
from packer.opening.recipe import MAX_DEFLATE_DEPTH, RecipeWriter
from packer.opening.repeated_text import (
    RepeatedText,
)
from packer.opening.segment_recipes import SegmentRecipes
from packer.opening.shelf import Shelf
from packer.opening.text_pieces import INLINE_BYTES, Stream, TextPieces, cut_pieces
from packer.opening.update_plan import (
    ContentPiece,
    DeltaPiece,
    InlinePiece,
    Opened,
    SegmentRecipe,
    used_streams,
    written,
)
from packer.opening.workers import RESERVED_BYTES, Workers
from packer.opening.zstd_frames import Frames, frames_end

_T = TypeVar("_T")
_Laid = Stream | OpenedBzip2

_MUCH_TEXT = 8 << 20
"""Text in bytes from which its deltas take so much memory that the memory of its segments is
released before."""
_RECORD_BYTES = 16
"""Bytes of a record beside what it holds, about."""


class Update:
    """Opens one file against one predecessor.

    Args:
        read: reads the file's text; from any thread.
        size: of the text in bytes.
        old: the predecessor.
        workers: do the work.
        unknown: returns the parts of a stretch of the text that are in no known chunk.
        was_opened: whether the base holds an older self opened, so that its chunks do not hold all
            of the streams.
        parts: of the text; none if it is the file itself.
        texts: zstd streams of text in it, in order.
        aside: stretches of the text that the predecessor has alike, in order; no deflate stream is
            looked for in them.
        further: finds further predecessors.
    """

    def __init__(
        self,
        read: Read,
        size: int,
        old: OldText,
        workers: Workers,
        *,
        unknown: Callable[[int, int], Sequence[Stretch]] = lambda start, end: [(start, end)],
        was_opened: bool = False,
        further: Find = lambda missing: (),
        parts: Sequence[FlatPart] = (),
        texts: Sequence[Frames] = (),
        aside: Sequence[tuple[int, int]] = (),
    ) -> None:
        self._aside = aside
        self._texts = texts
        self._frames: list[FoundFrames] = []
        self._unknown = unknown
        self._was_opened = was_opened
        self._parts = parts
        self._read = read
        self._size = size
        self._old = old
        self._workers = workers
        self._votes: dict[int, Votes] = {}
        self._text = TextPieces(old, self._votes, workers, size)
        self._unchanged: set[int] = set()
        self._guesses: dict[int, int] = {}  # old streams, by number of a new one
        self._foreign: set[int] = set()  # streams whose encoder is not known
        self._stored: dict[int, int] = {}
        self._lock = Lock()
        self._shelf = Shelf(workers.directory)
        self._recipes = SegmentRecipes(old, self._votes, workers, self._shelf)
        segments = [segment for part in parts for segment in part.segments]
        file_bytes = size - sum(each.plain_bytes - each.coded_bytes for each in segments)
        self._room = most_recipe(file_bytes, against=True) - RESERVED_BYTES
        self.recipe = RecipeWriter(workers.directory)
        self.repeated = RepeatedText()
        """Text of the version's recipes so far, to be set before the content is taken."""
        self.closed = ClosedTally()
        """What stays closed."""
        self._further = FurtherTexts(old, further)
        self.old_streams: list[list[OldStream]] = []
        """The streams of the predecessor that the recipe refers to, then those of each further one.
        """
        self._found: Discovery | None = None
        self._plan: Opened | None = None

    def begin(self, most: float) -> bool:
        """Decide what is opened.

        Args:
            most: bytes that the recipe may take, and content within the streams that are opened.

        Returns:
            Whether there is anything.
        """
        if not (self._old.streams or self._old.frames):
            self._tell_all()
            return False
        changed = self._changed_frames()
        found = self._found = Discovery(
            self._read,
            self._size,
            visit=self._visit,
            skip=self._skip,
            directory=self._workers.directory,
            aside=self._aside,
            run=self._workers.ahead,
        )
        plan = Opened(None)
        pays = not found.refused and bool(self._old.streams)
        if pays:
            for run, guess in changed:
                self._find_frames(found, run, guess)
            pays = self._fits(plan, most)
        Telling(
            self._read,
            self._size,
            found,
            self._frames,
            self._votes,
            self._old.prints.average,
            self._unknown,
            self._foreign,
            self.closed,
        ).tell([plan], pays=pays)
        if pays:
            self._number_old(plan)
            self._plan = plan
        return pays

    def _tell_all(self) -> None:
        """Tell the file: there is nothing that it could be opened against."""
        for run in self._texts:
            self.closed.add("zstd", TEXT, run.end - run.start)
        head = bytes(self._read(0, min(SIGNATURE_BYTES, self._size)))
        for kind, reason, _, size in unopened(head, self._size):
            if reason != TEXT:
                is_refused = reason == NEW and self._old.is_refused
                self.closed.add(kind, LIMIT if is_refused else reason, size)

    def _fits(self, plan: Opened, most: float) -> bool:
        """Plan what is opened.

        Args:
            plan: of the file.
            most: as for `begin`.

        Returns:
            Whether there is anything, and its recipe is short enough.
        """
        assert self._found is not None
        streams = [each for each in self._found.streams if isinstance(each, FoundStream)]
        self._further.look(streams, self._votes)
        self._old.release_prints()
        if self._size >= _MUCH_TEXT:
            self._make_room()
        old = [
            each
            for each in self._old.streams
            if not isinstance(each, OldFrames) and not self._old.owner(each.number)
        ]
        self._guesses = guesses(streams, old, self._unchanged) if old else {}
        self._guesses |= {stream.number: stream.guess for stream in self._frames}
        self._bzip2 = Bzip2Opening(self._found.spool, self._found.left)
        bzip2 = self._bzip2_in(None)
        outer: list[Stream] = [*self._found.roots, *self._frames]
        outer.sort(key=attrgetter("offset"))
        found: list[tuple[_Laid, Opened | Bzip2Piece | None]] = [
            *zip(outer, self._open_all(outer), strict=True),
            *((piece.stream, piece) for piece in bzip2),
        ]
        found.sort(key=lambda each: each[0].offset)
        roots, plans = [each[0] for each in found], [each[1] for each in found]
        if not any(plans):
            return False
        if self._parts:
            self._fill_text(plan, roots, plans)
        else:
            self._fill_raw(plan, roots, plans, 0, self._size)
        return plan.cost <= min(most, self._room)

    def used(self) -> list[tuple[Further, list[OldStream]]]:
        """Return the further predecessors that the recipe refers to, and the streams of each."""
        further = zip(self._further.found, self.old_streams[1:], strict=True)
        return [(each, streams) for each, streams in further if streams]

    def content(self, params: ChunkParams) -> Iterator[memoryview]:
        """Yield the chunks of the content; each is valid until the next is asked for."""
        assert self._plan is not None
        if self._parts:
            self.recipe.text(self._size)
        plan, numbers = self._plan, self._stored
        yield from written(plan, self._read, self.recipe, numbers, params, repeated=self.repeated)

    def recipe_chunks(self, params: ChunkParams) -> Iterator[memoryview]:
        """Yield the chunks of the recipe, once all content was taken."""
        recipe = self.recipe.finish()
        if not self.recipe.spilled:
            yield from chunks_of(memoryview(b"".join(recipe)), params)
        else:
            for view, cuts in iter_chunks(Pieces(recipe), params):
                for start, end in pairwise((0, *cuts)):
                    yield view[start:end]

    def close(self) -> None:
        """Release the memory, and remove temporary files."""
        self._recipes.close()
        self.recipe.close()
        self._votes.clear()
        self._plan = None
        self._further.close()
        self._shelf.close()
        if self._found is not None:
            self._found.close()

    def release(self) -> None:
        """Release the memory that only `begin` needs; the predecessor may be closed then."""
        del self._old, self._text
        self._further.close()
        self._votes.clear()
        self._recipes.close()
        if self._found is not None:
            self._found.release()

    def _visit(self, stream: FoundStream | MadeStream, position: int, plain: memoryview) -> None:
        """Look for the old places of a segment that was found, and begin to analyse it."""
        assert isinstance(stream, FoundStream)
        if not position:  # the number may be that of a stream that turned out to be none
            self._votes[stream.number] = Votes()
        self._old.prints.find(position, plain, self._votes[stream.number])
        if plain:  # else there is nothing to do ahead, and its position does not tell its number
            self._recipes.begin(stream, stream.number_at(position))

    def _is_unknown(self, start: int, end: int) -> bool:
        """Return whether the chunks of an older self that was opened lack most of a stretch."""
        if not self._was_opened:
            return False
        return 2 * sum(last - first for first, last in self._unknown(start, end)) > end - start

    def _is_same(self, run: Frames, older: Frames) -> bool:
        """Return whether frames are those of the old text."""
        size = run.end - run.start
        return older.end - older.start == size and is_same(
            self._read, run.start, self._old.read, older.start, size
        )

    def _changed_frames(self) -> list[tuple[Frames, int]]:
        """Return the zstd streams of text that have changed, and the old stream of each."""
        old = self._old
        changed: list[Frames] = []
        left = list(old.frames)
        for run in self._texts:
            same = next((each for each in left if self._is_same(run, each)), None)
            if same is not None and not self._is_unknown(run.start, run.end):
                left.remove(same)
            else:
                changed.append(run)
        if not changed:
            return []
        guesses = [each.number for run in left if (each := old.parse(run)) is not None]
        if not guesses:
            for run in changed:
                self.closed.add("zstd", TEXT, run.end - run.start)
            return []
        return [(run, guesses[min(at, len(guesses) - 1)]) for at, run in enumerate(changed)]

    def _find_frames(self, found: Discovery, run: Frames, guess: int) -> None:
        """Find a zstd stream of text, and the streams in it."""
        stream = FoundFrames(run, found.number, guess, found.spool)
        votes = self._votes[stream.number] = Votes()
        opening = FramesOpening(
            stream,
            self._read,
            votes,
            self._old.frame_prints,
            lambda start, end: self._place(stream, start, end, guess, MAX_SPAN_BYTES),
            old=self._old.streams.__getitem__,
            workers=self._workers,
            most=found.left,
            shelf=self._shelf,
        )
        try:
            found.look_into(
                stream,
                stream.read,
                opening.texts(),
                visit=self._visit,
                skip=self._skip,
                run=self._workers.ahead,
            )
        except DoesNotPay:
            self.closed.add("zstd", TEXT, stream.closed_bytes)
            found.left -= stream.size
            stream.forget()
        else:
            self._frames.append(stream)

    def _skip(self, read: Read, offset: int, end: int) -> int:
        if read is self._read and (behind := frames_end(self._texts, offset)):
            return behind
        same = self._old.same(read, offset, end)
        if same is None:
            return 0
        if read is self._read and self._is_unknown(offset, offset + same.closed_bytes):
            return 0  # a recipe of a few bytes, or all of its bytes once more
        self._unchanged.add(same.number)
        return offset + same.closed_bytes

    def _number_old(self, plan: Opened) -> None:
        """Number the old streams that the recipe refers to, and those that hold them."""
        used: set[int] = set()
        for number in used_streams(plan):
            stream: Holder | None = self._old.streams[number]
            while stream is not None and stream.number not in used:
                used.add(stream.number)
                stream = stream.parent
        self.old_streams = [[] for _ in range(1 + len(self._further.found))]
        place: dict[int, int] = {}  # of each among the streams of its predecessor
        for number in sorted(used, key=self._order):
            stream, out = self._old.streams[number], self.old_streams[self._old.owner(number)]
            parent = place[stream.parent.number] + 1 if stream.parent is not None else 0
            self._stored[number], place[number] = len(self._stored), len(out)
            kind = ZSTD if isinstance(stream, OldFrames) else DEFLATE
            out.append(OldStream(parent, stream.offset, stream.size, kind))

    def _order(self, number: int) -> tuple[int, ...]:
        """Return the key of an old stream in the order of the list that the index has."""
        stream: Holder | None = self._old.streams[number]
        offsets: list[int] = []
        while stream is not None:
            offsets.append(stream.offset)
            stream = stream.parent
        return (self._old.owner(number), *reversed(offsets))

    def _open_all(self, streams: Sequence[Stream]) -> list[Opened | None]:
        """Return how each of some neighbouring streams is opened; None for a closed one."""
        waiting: deque[Callable[[], Opened | None]] = deque()
        out: list[Opened | None] = []
        most = 2 * (os.cpu_count() or 1)
        try:
            for stream in streams:
                guess = self._guesses.get(stream.number, 0)
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

    def _bzip2_in(self, holder: Stream | None) -> list[Bzip2Piece]:
        """Open the bzip2 streams that changed in a stream's plaintext; None for the file's text."""
        assert self._found is not None
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
            return 2 * sum(last - first for first, last in self._unknown(start, end)) > end - start
        return self._votes[holder.number].share(start, end, self._old.prints.average) < OLD_SHARE

    def _small(self, stream: FoundStream, guess: int, bzip2: Sequence[Bzip2Piece]) -> Opened | None:
        """Open a stream of one segment, in one thread."""
        out = Opened(stream)
        if not self._add_segment(out, self._recipes.get(stream, 0, guess)):
            return None
        for part in _laid_out(stream, bzip2):
            if isinstance(part, Opened | Bzip2Piece):
                self._add(out, part)
            else:
                self._add(out, self._text.make(stream, *part, guess))
        return out if self._pays(out) else None

    def _open(self, stream: Stream, guess: int, bzip2: Sequence[Bzip2Piece]) -> Opened | None:
        """Open a stream of several segments, or one that holds streams."""
        children = self._open_all(stream.children)
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
        parts = _laid_out(stream, inner)
        if stream.size >= _MUCH_TEXT:
            self._make_room()
        jobs = (
            partial(self._text.make, stream, part[0], part[1], guess)
            for part in parts
            if not isinstance(part, Opened | Bzip2Piece)
        )
        made = self._ahead(jobs)
        for part in parts:
            self._add(out, part if isinstance(part, Opened | Bzip2Piece) else next(made))

    def _make_room(self) -> None:
        """Release what only recipes of segments need: the next ones make it again."""
        self._recipes.release()
        self._old.release_segments()
        if self._found is not None:
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
        most = (os.cpu_count() or 1) + 1
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

    def _add(
        self,
        out: Opened,
        item: Opened | Bzip2Piece | DeltaPiece | ContentPiece | InlinePiece,
    ) -> None:
        if isinstance(item, Opened):
            out.cost += item.cost + _RECORD_BYTES
        elif isinstance(item, DeltaPiece):
            out.cost += len(item.payload) + _RECORD_BYTES
            item.payload = self._shelf.keep(item.payload)
        elif isinstance(item, InlinePiece):
            if not item.data:
                return
            out.cost += len(item.data)
        else:
            out.cost += item.stored
        out.items.append(item)

    def _place(self, stream: Stream, start: int, end: int, guess: int, most: int) -> Place:
        """Return where a stretch of a stream probably lies in the predecessor."""
        votes = self._votes[stream.number]
        return votes.locate(start, end, stream.size, self._old.sizes, guess, most)


def _laid_out(
    stream: Stream, inner: Sequence[Opened | Bzip2Piece]
) -> list[Opened | Bzip2Piece | tuple[int, int]]:
    """Return what a stream's plaintext consists of: what is opened, and the stretches between."""
    out: list[Opened | Bzip2Piece | tuple[int, int]] = []
    position = 0
    for plan in sorted(inner, key=_offset):
        start = _offset(plan)
        if start >= position:
            out += [*cut_pieces(position, start), plan]
            assert plan.stream is not None
            position = start + plan.stream.whole_bytes
    return [*out, *cut_pieces(position, stream.size)]


def _offset(plan: Opened | Bzip2Piece) -> int:
    assert isinstance(plan.stream, FoundStream | OpenedBzip2)
    return plan.stream.offset


def _same(value: _T) -> _T:
    return value
