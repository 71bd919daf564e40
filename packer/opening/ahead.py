"""Work ahead of its use: the next part of a stream while this one is looked at, or many jobs."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

_T = TypeVar("_T")

Run = Callable[[Callable[[], Any]], Callable[[], Any]]
"""Begins to call a function in another thread, and returns what waits for its result."""


def one_ahead(step: Callable[[], _T | None], run: Run | None) -> Generator[_T, None, None]:
    """Yield what a step returns, again and again until it returns None.

    The first step is done by the caller's thread, as most streams are short. Whoever may not take
    all closes the iterator: that waits for the step that was begun.

    Args:
        step: never called twice at a time.
        run: begins the next step while the result of this one is looked at; None to wait with it.
    """
    found = step()
    while found is not None:
        begun = step if run is None else run(step)
        try:
            yield found
        except BaseException:
            if run is not None:
                with suppress(Exception):
                    begun()
            raise
        found = begun()


@contextmanager
def all_ahead(
    jobs: Sequence[Callable[[], _T]], run: Run | None
) -> Iterator[Sequence[Callable[[], _T]]]:
    """Begin jobs, and wait for those that were begun where the context ends.

    Args:
        jobs: from any thread.
        run: begins them; None does each one when its result is asked for.

    Yields:
        What waits for the result of each.
    """
    if run is None:
        yield jobs
        return
    waiting = [run(job) for job in jobs]
    try:
        yield waiting
    finally:
        for wait in waiting:
            with suppress(Exception):
                wait()
