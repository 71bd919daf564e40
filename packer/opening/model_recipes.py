"""Recipes of models for the segments of a file that is opened against its predecessor.

Most segments that a model is needed for are known as soon as they are inflated: little of their
text is old, or a quick model fits their stream. These are analysed by other threads while the file
is inflated further; and none of them has to be inflated again for that.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from threading import Lock

from packer.engine.deflate import Segment
from packer.opening.discovery import FoundStream
from packer.opening.shelf import Kept, Shelf
from packer.opening.workers import Workers

QUICK = frozenset(range(28, 36))
"""Models that are tried before tokens: those of Go 1.27 at level 1 and klauspost at levels 1 to 6.
They take no longer, and their recipes a hundredth: what such an encoder chooses depends on all that
it matched before, so old tokens predict it badly."""

_UNCERTAIN = b""
"""In place of the recipe of a segment that may not need one of a model."""

_Key = tuple[FoundStream, int]


class ModelRecipes:
    """Recipes of models, each made once; a function of the segments alone.

    Args:
        workers: analyse segments.
        shelf: keeps the recipes of segments that are analysed ahead.
    """

    def __init__(self, workers: Workers, shelf: Shelf) -> None:
        self._workers = workers
        self._shelf = shelf
        self._most = (os.cpu_count() or 1) + 1 if workers.is_parallel else 0
        self._trying = Lock()
        self._firsts: dict[FoundStream, bytes | None] = {}
        self._begun: dict[_Key, Callable[[], Kept | None]] = {}
        self._running: deque[_Key] = deque()

    def begin(self, stream: FoundStream, at: int, *, is_new: bool) -> None:
        """Begin to analyse a segment that was inflated, if it is certain that it has to be.

        Args:
            stream: that holds the segment.
            at: number of the segment.
            is_new: whether its model is asked first, whichever that is.
        """
        if not at:  # its stream may have one segment
            return
        holding = ExitStack()
        segment = holding.enter_context(stream.held(at))
        self._begun[stream, at] = self._workers.run(
            partial(self._analysed, stream, segment, holding, is_new=is_new)
        )
        self._running.append((stream, at))
        while len(self._running) > self._most:
            key = self._running.popleft()
            recipe = self._begun[key]()
            kept = self._shelf.keep(recipe) if recipe is not None else None
            self._begun[key] = partial(_same, kept)

    def quick(self, stream: FoundStream) -> bool:
        """Return whether the model of a stream of several segments is a quick one."""
        return stream.count > 1 and self._model(stream) in QUICK

    def get(self, stream: FoundStream, at: int) -> Kept | None:
        """Return the recipe of a segment from a model; None if none fits.

        A model that does not fit the first segment of a stream is not tried with the others.

        Args:
            stream: that holds the segment.
            at: number of the segment.
        """
        if stream.count == 1:
            return _analysed(stream, 0)
        guess = self._model(stream)
        if not at:
            return self._firsts[stream]
        if guess < 0:
            return None
        begun = self._begun.pop((stream, at), None)
        recipe = begun() if begun is not None else _UNCERTAIN
        return _analysed(stream, at, guess) if recipe == _UNCERTAIN else recipe

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

    def _analysed(
        self, stream: FoundStream, segment: Segment, holding: ExitStack, *, is_new: bool
    ) -> bytes | None:
        """Return the recipe of a segment that is held; _UNCERTAIN if none may be needed."""
        with holding:
            guess = self._model(stream)
            if guess < 0:
                return None
            return segment.analyse(guess) if is_new or guess in QUICK else _UNCERTAIN

    def _model(self, stream: FoundStream) -> int:
        """Return the model that fits the first segment of a stream; -1 if none does."""
        with self._trying:
            if stream not in self._firsts:
                self._firsts[stream] = _analysed(stream, 0)
            first = self._firsts[stream]
        return first[0] if first is not None else -1


def _same(value: Kept | None) -> Kept | None:
    return value


def _analysed(stream: FoundStream, at: int, guess: int = -1) -> bytes | None:
    with stream.held(at) as segment:
        return segment.analyse(guess)
