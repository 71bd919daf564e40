"""Recipes for the segments of a file that is opened against its predecessor.

A segment comes back from old tokens or by a model of its encoder. A recipe from tokens is rebuilt
ten times as fast; one of a model has about 10 bytes. So where most of the text is old, tokens are
tried first. Their recipe is taken if it is short, and its analysis ends as soon as it is not. Quick
models are tried before tokens.

Most segments can be analysed as soon as they are inflated, by other threads while the file is
inflated further. None of them has to be inflated again for that. The first one of a stream is
analysed once the second is there, or at once if there is none: then it is known how it is analysed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from functools import partial
from threading import Lock
from typing import NamedTuple

from packer.engine.deflate import RecipeError, Segment
from packer.engine.tokens import MAX_SPAN_BYTES, OldSpan
from packer.errors import FormatError
from packer.opening.found_stream import FoundStream
from packer.opening.frames_update import OldFrames
from packer.opening.locating import MARGIN_BYTES, Place, Votes
from packer.opening.old_text import OldText
from packer.opening.shelf import Shelf
from packer.opening.update_plan import SegmentRecipe
from packer.opening.workers import AT_ONCE, MOST_AT_ONCE, Workers

TOKENS_SPAN_BYTES = 6 << 20
"""Old text in bytes that a segment is compared with, at most: memory and time grow with it."""
_LARGE_BYTES, _LARGE_SPAN_BYTES = 1 << 30, 4 << 20
"""Old text in bytes above which a segment is compared with less of it: a span takes up to eight
times its bytes, and must fit 256 MiB beside what large texts take."""
_LARGE_SPAN_MEMORY, _TOKEN_BYTES = 12 << 20, 4
"""Memory of such a span in bytes, and of a token: where archives lie in the text, which nothing
shrinks, each byte has a token of its own."""
_DENSE_SHARE = 3 / 4
"""Length of such a segment by that of its text above which one is compared at a time."""
_TOKENS_BYTES, _TOKENS_SHARE = 256, 1 / 1024
"""Length of a recipe from tokens in bytes, or as a share of the segment's plaintext, above which a
model is taken if one fits. A model takes 30 ms for a segment of 2 MiB, in packing and again in each
restore. In 30 ms a link of 0.5 Mb/s carries 2 KiB."""
_TOKENS_WORK = 2
"""The same for the work that a recipe from tokens takes, for each byte of plaintext: 10 ms for
2 MiB."""
_SURE_BYTES = 256
"""Length of a recipe of a model in bytes up to which tokens are not tried any more."""
_OLD_SHARE = 0.9
"""Share of a segment that must be found in the predecessor for its tokens to be tried first."""

_LEAST_AHEAD_BYTES = 64 << 10
"""Plaintext in bytes below which a stream of one segment is not analysed ahead: inflating it again
takes as long as handing it to another thread."""

_QUICK = frozenset((*range(28, 36), *range(39, 44)))
"""Models that are tried before tokens: Go's level 1, klauspost's levels 1 to 6, miniz's and
zlib-ng's level 1, and igzip. They take no longer, and their recipes a hundredth: what such an
encoder chooses depends on all that it matched before, so old tokens predict it badly."""

_CODED_SHARE = 15 / 16
"""Length of a segment by that of its text above which every model is quick, and tried before
tokens: such text has hardly a match, and hardly a token that covers more than a byte."""

_UNKNOWN = 255
"""In place of the model of a stream of one segment: it is not known whether there is one."""

_LATER = SegmentRecipe(-1, b"", 0, 0)
"""In place of the recipe of a segment that is analysed only when all of its stream is known."""

_Key = tuple[FoundStream, int]


class _Part(NamedTuple):
    """A segment, and what is known of its text when its analysis begins.

    Args:
        stream: that holds it.
        at: its number.
        votes: of the stream, which may get others once all streams are found.
        share: how much of its text the predecessor has, about.
    """

    stream: FoundStream
    at: int
    votes: Votes
    share: float


class SegmentRecipes:
    """Recipes of segments, each made once; a function of the segments and votes alone.

    Args:
        old: the predecessor.
        votes: by number of a stream of the new file, where its text lies in the old one.
        workers: analyse segments.
        shelf: keeps the recipes of segments that are analysed ahead.
    """

    def __init__(
        self, old: OldText, votes: Mapping[int, Votes], workers: Workers, shelf: Shelf
    ) -> None:
        self._old = old
        self._votes = votes
        self._workers = workers
        self._shelf = shelf
        self._most = AT_ONCE + 1 if workers.is_parallel else 0
        self._is_large = sum(old.sizes) > _LARGE_BYTES
        self._trying, self._lock = Lock(), Lock()
        self._firsts: dict[FoundStream, bytes | None] = {}
        self._begun: dict[_Key, Callable[[], SegmentRecipe | None]] = {}
        self._running: deque[_Key] = deque()
        self._spans: list[OldSpan] = []

    def begin(self, stream: FoundStream, at: int) -> None:
        """Begin to analyse a segment that was inflated and looked for in the predecessor.

        Args:
            stream: that holds the segment.
            at: number of the segment.
        """
        if at == 1:
            self._begin(stream, 0)
        if at:
            self._begin(stream, at)
        elif stream.is_single and stream.size >= _LEAST_AHEAD_BYTES:
            self._begin(stream, 0)

    def _begin(self, stream: FoundStream, at: int) -> None:
        """Begin to analyse a segment."""
        holding = ExitStack()
        segment = holding.enter_context(stream.held(at))
        part = self._part(stream, at)
        self._begun[stream, at] = self._workers.run(partial(self._ahead, part, segment, holding))
        self._running.append((stream, at))
        while len(self._running) > self._most:
            key = self._running.popleft()
            recipe = self._begun[key]()
            if recipe is not None and recipe is not _LATER:
                recipe = recipe._replace(recipe=self._shelf.keep(recipe.recipe))
            self._begun[key] = partial(_same, recipe)

    def get(self, stream: FoundStream, at: int, guess: int) -> SegmentRecipe | None:
        """Return the recipe of a segment; None if there is none.

        A model that does not fit the first segment of a stream is not tried with the others.

        Args:
            stream: that holds the segment; it was inflated to its end.
            at: number of the segment.
            guess: the old stream in which the text probably lies.
        """
        begun = self._begun.pop((stream, at), None)
        recipe = begun() if begun is not None else _LATER
        if recipe is not _LATER:
            return recipe
        with stream.held(at) as segment:
            return self._made(self._part(stream, at), segment, guess)

    def release(self) -> None:
        """Release memory; what is needed later is made again."""
        with self._lock:
            self._spans.clear()

    def close(self) -> None:
        """Wait for segments that are being analysed, and release the memory."""
        if self._workers.is_parallel:
            for key in self._running:
                if key in self._begun:
                    with suppress(Exception):
                        self._begun[key]()
        self._running.clear()
        self._begun.clear()
        self._firsts.clear()
        self._spans.clear()

    def _part(self, stream: FoundStream, at: int) -> _Part:
        """Return what is known of a segment's text now."""
        start, size, _ = stream.extent(at)
        votes = self._votes[stream.number]
        share = votes.share(start, start + size, self._old.prints.average)
        return _Part(stream, at, votes, share)

    def _ahead(self, part: _Part, segment: Segment, holding: ExitStack) -> SegmentRecipe | None:
        """Return the recipe of a segment that is held, None if there is none, or _LATER."""
        with holding:
            if part.share < _OLD_SHARE and self._needs_place(part.stream, segment):
                return _LATER  # the place of its text is a guess, which needs all streams
            return self._made(part, segment, -1)

    def _needs_place(self, stream: FoundStream, segment: Segment) -> bool:
        """Return whether a segment of much new text needs old tokens, or may need them."""
        if stream.count > 1:
            return self._model(stream) < 0
        found = self._firsts[stream] = segment.analyse()
        return found is None or len(found) > _SURE_BYTES

    def _made(self, part: _Part, segment: Segment, guess: int) -> SegmentRecipe | None:
        """Return the recipe that is tried first if it is short, else the shorter one of both kinds.

        What has been found out is not tried again: tokens whose recipe is longer than `most`, or
        takes too much work, are analysed to their end only if the model's recipe is longer still.
        """
        stream, at, _, share = part
        _, size, bit = stream.extent(at)
        most = max(_TOKENS_BYTES, int(size * _TOKENS_SHARE))
        kind = self._model(stream) if stream.count > 1 else _UNKNOWN
        is_quick = kind in _QUICK or segment.coded_share > _CODED_SHARE
        has_model, is_new = kind >= 0, share < _OLD_SHARE or is_quick
        model, tokens, old, enough = None, None, -1, _SURE_BYTES
        if has_model and not is_new:
            old, tokens = self._from_tokens(part, segment, guess, most)
            enough = most
        if has_model and tokens is None:
            model = self._by_model(stream, at, segment)
        if tokens is None and (model is None or len(model) > enough):
            old, tokens = self._from_tokens(part, segment, guess, None)
        if tokens is not None and (model is None or len(tokens) <= len(model)):
            return SegmentRecipe(old, tokens, size, bit)
        return SegmentRecipe(-1, model, size, bit) if model is not None else None

    def _by_model(self, stream: FoundStream, at: int, segment: Segment) -> bytes | None:
        """Return the recipe of a segment from a model; None if none fits."""
        if stream.count == 1:
            return self._firsts[stream] if stream in self._firsts else segment.analyse()
        first = self._model(stream)
        return segment.analyse(first) if at else self._firsts[stream]

    def _model(self, stream: FoundStream) -> int:
        """Return the model that fits the first segment of a stream; -1 if none does."""
        with self._trying:
            if stream not in self._firsts:
                with stream.held(0) as segment:
                    self._firsts[stream] = segment.analyse()
            first = self._firsts[stream]
        return first[0] if first is not None else -1

    def _from_tokens(
        self, part: _Part, segment: Segment, guess: int, most: int | None
    ) -> tuple[int, bytes | None]:
        """Return an old stream, and the recipe of a segment from its tokens; None if there is none.

        Args:
            part: of the stream.
            segment: which is held.
            guess: the old stream in which the text probably lies; -1 if that is not known.
            most: bytes of the recipe, if a model fits as well; None if it may have any, and take
                any work.
        """
        place = self._place(part, segment, guess)
        if place is None:
            return -1, None
        work = None if most is None else _TOKENS_WORK * part.stream.extent(part.at)[1]
        if self._is_large and segment.coded_share > _DENSE_SHARE:
            with self._workers.room(MOST_AT_ONCE):
                return self._analysed(place, segment, most, work)
        return self._analysed(place, segment, most, work)

    def _analysed(
        self, place: Place, segment: Segment, most: int | None, work: int | None
    ) -> tuple[int, bytes | None]:
        """Return the old stream of a place, and the recipe of a segment from its tokens."""
        with self._lock:
            span = self._spans.pop() if self._spans else None
        try:
            if span is None:
                span = OldSpan(place.span)
            else:
                span.begin(place.span)
            old = self._old.streams[place.stream]
            if isinstance(old, OldFrames):
                return -1, None
            for _, old_segment in old.segments(place.span.start, sum(place.span)):
                span.add(old_segment)
            return place.stream, span.analyse(segment, most, work)[0]
        except (RecipeError, FormatError):
            return -1, None
        finally:
            if span is not None:
                with self._lock:
                    self._spans.append(span)

    def _place(self, part: _Part, segment: Segment, guess: int) -> Place | None:
        """Return where the text of a segment probably lies; None if nobody knows."""
        start, size, _ = part.stream.extent(part.at)
        if guess < 0 and not part.votes.reaches(start + size):
            return None
        most = min(max(TOKENS_SPAN_BYTES, 2 * size), MAX_SPAN_BYTES)
        if self._is_large:
            bound = _LARGE_SPAN_MEMORY / (1 + _TOKEN_BYTES * segment.coded_share)
            most = max(min(_LARGE_SPAN_BYTES, int(bound)), size + 2 * MARGIN_BYTES)
        sizes, whole = self._old.sizes, part.stream.size
        return part.votes.locate(start, start + size, whole, sizes, guess, most)


def _same(value: SegmentRecipe | None) -> SegmentRecipe | None:
    return value
