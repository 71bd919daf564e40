"""A bound on the memory of work that several threads do, in bytes whatever their number."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition

from packer.forks import renew_in_children


class Room:
    """Memory that threads take for what they do, and wait for if there is not enough.

    A thread that holds some waits for no more of it, and for no thread that does: then none waits
    for ever.

    Args:
        most: in bytes; work that takes more is done alone.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.renew_after_fork()
        renew_in_children(self)

    def renew_after_fork(self) -> None:
        """In a forked child: forget what threads of the parent hold."""
        self._changed = Condition()
        self._used = 0

    @contextmanager
    def take(self, size: int) -> Iterator[None]:
        """Wait until there is room for some bytes, and hold it within the context.

        Args:
            size: in bytes, about.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._used or self._used + size <= self._most)
            self._used += size
        try:
            yield
        finally:
            with self._changed:
                self._used -= size
                self._changed.notify_all()
