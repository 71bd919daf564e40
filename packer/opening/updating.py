"""Opens a file against its predecessor: the streams that changed, and nothing else.

A stream that the predecessor holds byte for byte stays closed: its chunks are known, and within the
plaintext of another stream a delta copies it. But if the predecessor was opened itself, its chunks
do not hold the streams that had changed then: such a stream is opened although it is the same. All
streams are found first (`discovery`), then it is planned how each is opened (`stream_plans`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from packer.engine.chunking import ChunkParams, chunks_of, iter_chunks
from packer.engine.tokens import MAX_SPAN_BYTES
from packer.opening.closed import LIMIT, NEW, SIGNATURE_BYTES, TEXT, ClosedTally, unopened
from packer.opening.closed_update import Telling, of_entries
from packer.opening.discovery import Discovery
from packer.opening.expansion import most_recipe
from packer.opening.flat_file import FlatPart
from packer.opening.found_stream import FoundStream, Holder, MadeStream, Read
from packer.opening.frames_update import FoundFrames, FramesOpening, OldFrames, StaysClosed
from packer.opening.further import Find, Further, FurtherTexts
from packer.opening.guesses import guesses
from packer.opening.locating import Place, Votes
from packer.opening.old_text import ZIP, OldText, WholeOldText
from packer.opening.pieces import Pieces
from packer.opening.predecessor import DEFLATE, WHOLE, ZSTD, OldStream
from packer.opening.recipe import RecipeWriter
from packer.opening.repeated_text import RepeatedText
from packer.opening.segment_recipes import SegmentRecipes
from packer.opening.shelf import Shelf
from packer.opening.stream_plans import StreamPlans, is_mostly
from packer.opening.tar_members import Stretch, is_same
from packer.opening.text_pieces import Stream
from packer.opening.update_plan import Opened, used_streams, written
from packer.opening.workers import RESERVED_BYTES, Workers
from packer.opening.zstd_frames import Frames, frames_end

_RAW_SHARE = 1 / 4
"""What a delta of all between the streams of a zip archive may take of the bytes that are in no
known chunk: more is new text, which as chunks others may have as well. Chunks of an older self that
was opened lack what did not change, so that there any delta pays."""


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
        places: as `Discovery` takes it, without those in what the predecessor has alike.
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
        places: Sequence[int] | None = None,
    ) -> None:
        self._places = places
        self._texts = texts
        self._frames: list[FoundFrames] = []
        self._unknown = unknown
        self._was_opened = was_opened
        self._parts = parts
        self._raw_share = 0.0
        if old.is_zip and not parts and size >= len(ZIP) and read(0, len(ZIP)) == ZIP:
            self._raw_share = 1 if was_opened else _RAW_SHARE
        self._read = read
        self._size = size
        self._old = old
        self._workers = workers
        self._votes: dict[int, Votes] = {}
        self._unchanged: set[int] = set()
        self._stored: dict[int, int] = {}
        self._shelf = Shelf(workers.directory)
        self._recipes = SegmentRecipes(old, self._votes, workers, self._shelf)
        self._foreign: set[int] = set()  # streams whose encoder is not known
        segments = [segment for part in parts for segment in part.segments]
        file_bytes = size - sum(each.plain_bytes - each.coded_bytes for each in segments)
        self._room = most_recipe(file_bytes, against=True) - RESERVED_BYTES
        self.recipe = RecipeWriter(workers.directory)
        self.repeated = RepeatedText()
        """Text of the version's recipes so far, to be set before the content is taken."""
        self.place = -1
        """Where the last chunk of the content begins in the text; -1 if it lies in a stream."""
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
            places=self._places,
            run=self._workers.ahead,
        )
        plan = Opened(None)
        pays = bool(self._old.streams)
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
            if reason == NEW:
                is_full = self._old.is_full
                reason = LIMIT if is_full else of_entries(self._read, self._size) or NEW
            if reason != TEXT:
                self.closed.add(kind, reason, size)

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
        old = [
            each
            for each in self._old.streams
            if isinstance(each, FoundStream | MadeStream) and not self._old.owner(each.number)
        ]
        guessed = guesses(streams, old, self._unchanged) if old else {}
        guessed |= {stream.number: stream.guess for stream in self._frames}
        plans = StreamPlans(
            self._read,
            self._size,
            self._old,
            self._workers,
            self._found,
            votes=self._votes,
            recipes=self._recipes,
            shelf=self._shelf,
            unknown=self._unknown,
            parts=self._parts,
            raw_share=self._raw_share,
            guesses=guessed,
            foreign=self._foreign,
        )
        if not plans.fill_file(plan, self._frames):
            return False
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
        chunks = written(plan, self._read, self.recipe, numbers, params, repeated=self.repeated)
        for place, chunk in chunks:
            self.place = place
            yield chunk
        self.place = -1

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
        del self._old
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
        """Return whether the chunks of an older self that was opened lack most of a stretch.

        Those of a zip archive need not have it: what stays closed in one comes from the old text.
        """
        if not self._was_opened or self._raw_share:
            return False
        return is_mostly(self._unknown(start, end), start, end)

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
            most=found.room,
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
        except StaysClosed as error:
            self.closed.add("zstd", error.reason, stream.closed_bytes)
            found.left -= stream.size
            stream.forget()
        else:
            self._frames.append(stream)

    def _skip(self, read: Read, offset: int, end: int) -> tuple[int, str]:
        if read is self._read and (behind := frames_end(self._texts, offset)):
            return behind, ""
        same = self._old.same(read, offset, end)
        if same is None:
            return 0, ""
        if read is self._read and self._is_unknown(offset, offset + same.closed_bytes):
            return 0, ""  # a recipe of a few bytes, or all of its bytes once more
        self._unchanged.add(same.number)
        behind = offset + same.closed_bytes
        return behind, same.reason_behind(end - behind)

    def _number_old(self, plan: Opened) -> None:
        """Number the old streams that the recipe refers to, and those that hold them."""
        used: set[int] = set()
        for number in used_streams(plan):
            stream: Holder | WholeOldText | None = self._old.streams[number]
            while stream is not None and stream.number not in used:
                used.add(stream.number)
                stream = stream.parent
        self.old_streams = [[] for _ in range(1 + len(self._further.found))]
        place: dict[int, int] = {}  # of each among the streams of its predecessor
        for number in sorted(used, key=self._order):
            stream, out = self._old.streams[number], self.old_streams[self._old.owner(number)]
            parent = place[stream.parent.number] + 1 if stream.parent is not None else 0
            self._stored[number], place[number] = len(self._stored), len(out)
            kind = DEFLATE
            if isinstance(stream, OldFrames | WholeOldText):
                kind = ZSTD if isinstance(stream, OldFrames) else WHOLE
            out.append(OldStream(parent, stream.offset, stream.size, kind))

    def _order(self, number: int) -> tuple[int, ...]:
        """Return the key of an old stream in the order of the list that the index has."""
        stream: Holder | WholeOldText | None = self._old.streams[number]
        offsets: list[int] = []
        while stream is not None:
            offsets.append(stream.offset)
            stream = stream.parent
        return (self._old.owner(number), *reversed(offsets))

    def _place(self, stream: Stream, start: int, end: int, guess: int, most: int) -> Place:
        """Return where a stretch of a stream probably lies in the predecessor."""
        votes = self._votes[stream.number]
        return votes.locate(start, end, stream.size, self._old.sizes, guess, most)
