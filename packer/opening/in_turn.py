"""Work that waits for other work, without a thread that waits."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import TypeVar

_T = TypeVar("_T")


class InTurn:
    """Functions that wait for one another's work anyway: called one at a time, in any thread.

    Other threads do not wait then, but call what needs no waiting.

    Args:
        executor: calls them.
    """

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._last: Future[None] = Future()  # without a result, which may be large
        self._last.set_result(None)

    def submit(self, function: Callable[[], _T]) -> Callable[[], _T]:
        """Call a function once the one submitted before has returned; return what waits for it."""
        future: Future[_T] = Future()
        ended: Future[None] = Future()

        def call() -> None:
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)
            ended.set_result(None)

        def begin(_: Future[None]) -> None:
            try:
                self._executor.submit(call)
            except RuntimeError as error:  # it was shut down: the work has failed elsewhere
                future.set_exception(error)
                ended.set_result(None)

        before, self._last = self._last, ended
        before.add_done_callback(begin)
        return future.result
