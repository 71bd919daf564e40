"""Threads, memory and limits for opening the deflate streams of a file.

`Workers` analyses parts of streams beside the calling thread. `Budget` decides how much of a file
is opened; it counts in the order of the file, so the decision never depends on timing.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from threading import Lock
from typing import TypeVar

from packer.engine.deflate import Segment
from packer.files.room import Room
from packer.opening.ahead import Run
from packer.opening.closed import ClosedTally
from packer.opening.expansion import most_opened, most_recipe
from packer.opening.recipe import MAX_STREAMS, RecipeWriter, ZstdSegment
from packer.opening.recipe_cache import RecipeCache

_T = TypeVar("_T")

IN_FLIGHT_BYTES = min((os.cpu_count() or 1) + 2, 6) << 21
"""Plaintext in flight, in bytes, above which no part is begun that is not needed at once. A segment
for each processor and two more; costs about four times as much memory."""
AT_ONCE = min(os.cpu_count() or 1, 3)
"""Parts that are compared with old ones at a time: each takes up to 36 MiB."""
RESERVED_BYTES = 4 << 10
"""Bytes of a recipe kept free for its first bytes, for the piece before a stream, and for the ends
of open streams. `Budget.has_room` is asked before all else."""

MOST_AT_ONCE = 28 << 20
"""Old and new text of large deltas that are made at a time, in bytes: each takes up to four times
as much memory. Two of the usual length fit, but not if their old text lies in many places."""

_POOLED_BYTES = 512 << 10
"""Greatest plaintext of a part whose memory is kept for the next one; larger memory is released."""
_SHORT_BYTES = 2 << 10
"""Greatest plaintext that is analysed in the calling thread: that takes 0.15 ms, as long as handing
it to another thread."""


class Workers:
    """Threads and memory for parts of streams; used by one thread at a time.

    Args:
        executor: analyses parts; None to analyse them in the calling thread.
        recipes: of parts analysed before.
        directory: of temporary files, as `temporary_file` takes it.
    """

    def __init__(
        self,
        executor: Executor | None = None,
        recipes: RecipeCache | None = None,
        directory: bytes | None = None,
    ) -> None:
        self.directory = directory
        self._executor = executor
        self._recipes = recipes if recipes is not None else RecipeCache("")
        self._pool: list[Segment] = []
        self._room = Room(MOST_AT_ONCE)
        self.compressing = Lock()
        """Held while zstd compresses much of a delta; nothing else is waited for then."""
        self.in_flight = 0
        """Bytes of plaintext in parts that are being analysed or read."""

    def alone(self) -> Workers:
        """Return workers for what one of these does by itself, in its thread."""
        out = Workers(None, self._recipes, self.directory)
        out._room, out.compressing = self._room, self.compressing
        return out

    def room(self, size: int) -> AbstractContextManager[None]:
        """Wait until there is room for work on some bytes, so that its memory is bounded.

        It may be held by a thread that waits for nothing else.

        Args:
            size: of old and new text; more than MOST_AT_ONCE is worked on alone.

        Returns:
            Holds the room.
        """
        return self._room.take(size)

    def take(self) -> Segment:
        """Return memory for a part, from the pool if there is some."""
        return self._pool.pop() if self._pool else Segment()

    def give(self, segment: Segment, plain_bytes: int) -> None:
        """Return a part's memory to the pool.

        Args:
            segment: the memory.
            plain_bytes: plaintext that it held; decides whether it is worth keeping.
        """
        if plain_bytes <= _POOLED_BYTES:
            self._pool.append(segment)

    @property
    def is_parallel(self) -> bool:
        """Whether other threads do the work."""
        return self._executor is not None

    @property
    def executor(self) -> Executor | None:
        """Calls what waits for nothing that the executor is to do; None if there is none."""
        return self._executor

    @property
    def ahead(self) -> Run | None:
        """Does work ahead of its use in another thread; None if there is none."""
        return self.run if self.is_parallel else None

    def run(self, function: Callable[[], _T]) -> Callable[[], _T]:
        """Begin to call a function, in another thread if there is one.

        Args:
            function: to call.

        Returns:
            A function that waits for the result.
        """
        if self._executor is None:
            return function
        return self._executor.submit(function).result

    def analyse(self, segment: Segment, key: bytes, guess: int) -> Callable[[], bytes | None]:
        """Begin to analyse a part, unless its recipe is known.

        Args:
            segment: holds the inflated part.
            key: of the part in the cache of recipes.
            guess: as `Segment.analyse` takes it.

        Returns:
            A function that waits for the recipe; None is a part that cannot be opened.
        """
        recipes = self._recipes
        with contextlib.suppress(KeyError):
            known = recipes[key]
            return lambda: known
        if self._executor is None or len(segment.plain) <= _SHORT_BYTES:
            recipe = segment.analyse(guess)
            recipes.put(key, recipe)
            return lambda: recipe
        future = self._executor.submit(segment.analyse, guess)

        def wait() -> bytes | None:
            recipe = future.result()
            recipes.put(key, recipe)
            return recipe

        return wait


class Budget:
    """Limits of opening one file: the bounds of readers, and the work done in vain.

    When one is used up, the rest of the file stays closed. Parts are counted when the recipe gets
    them, not when they are found: so the result does not depend on how far ahead streams are found.

    Args:
        size: of the file in bytes.
        recipe: of the file.
        workers: threads and memory.
    """

    def __init__(self, size: int, recipe: RecipeWriter, workers: Workers) -> None:
        most = most_opened(size)
        self._plain = self._vain = most
        self._growth = most - size  # the content has the file's bytes, and what streams grow by
        self._most_recipe = most_recipe(size) - RESERVED_BYTES
        self.recipe = recipe
        self.workers = workers
        self.closed = ClosedTally()
        """What stays closed."""
        self.guess = -1
        """First byte of the recipe used last, -1 before the first: the model to try first."""
        self.ended = False
        """Whether a limit was reached: no more parts are opened."""

    def try_out(self, count: int) -> bool:
        """Count plaintext that may have been inflated in vain; return whether work may go on."""
        self._vain -= count
        self.ended = self.ended or self._vain < 0
        return not self.ended

    def open(self, plain_bytes: int, coded_bytes: int, recipe_bytes: int, *, begins: bool) -> bool:
        """Count a part of a deflate stream that is to be opened.

        Args:
            plain_bytes: of its plaintext, which `try_out` counted.
            coded_bytes: of the part itself.
            recipe_bytes: of its recipe.
            begins: whether it is the first of its stream.

        Returns:
            False if it exceeds a limit; then no later part is opened either.
        """
        self._vain += plain_bytes
        self._plain -= plain_bytes
        self._growth -= plain_bytes - coded_bytes
        self.ended = (
            self.ended
            or min(self._plain, self._growth) < 0
            or not self.has_room(recipe_bytes)
            or (begins and self.recipe.streams >= MAX_STREAMS)
        )
        return not self.ended

    def unwrap(self, segments: Iterable[ZstdSegment]) -> None:
        """Count the segments of a zstd stream, which a file's text has in its place.

        Args:
            segments: of the stream.
        """
        for plain_bytes, coded_bytes, _ in segments:
            self._plain -= plain_bytes
            self._growth -= plain_bytes - coded_bytes

    def has_room(self, count: int) -> bool:
        """Return whether the recipe may grow by `count` bytes."""
        return self.recipe.size + count <= self._most_recipe
