"""State that must not be shared by the two sides of a fork: connections and locks.

A process that was forked (gunicorn with preload, multiprocessing, celery) has copies of its
parent's sockets, and of locks as other threads held them. Reading from a shared socket takes away
the parent's answers, and a lock whose holder does not exist in the child is never released. Objects
with such state register here, and renew it in every child.
"""

from __future__ import annotations

import os
import threading
import weakref
from types import TracebackType
from typing import Protocol


class Renewable(Protocol):
    """An object with state that belongs to one process."""

    def renew_after_fork(self) -> None:
        """Give the object state of this process's own; called in the child, by its only thread."""


_renewables: weakref.WeakSet[Renewable] = weakref.WeakSet()


def renew_in_children(owner: Renewable) -> None:
    """Let every child that is forked from now on call the object's `renew_after_fork`.

    Args:
        owner: held weakly.
    """
    _renewables.add(owner)


class Lock:
    """A `threading.Lock` that is free in a forked child; a context manager.

    Args:
        reentrant: whether its holder may take it again, as a `threading.RLock`.
    """

    def __init__(self, *, reentrant: bool = False) -> None:
        self._reentrant = reentrant
        self.renew_after_fork()
        renew_in_children(self)

    def renew_after_fork(self) -> None:
        """Make a new lock."""
        self._lock = threading.RLock() if self._reentrant else threading.Lock()

    def __enter__(self) -> None:
        """Take the lock."""
        self._lock.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Release the lock."""
        self._lock.release()


def _renew() -> None:
    for owner in list(_renewables):
        owner.renew_after_fork()


os.register_at_fork(after_in_child=_renew)
