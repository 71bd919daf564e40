"""A limit on the bytes per second of all transfers together, both ways."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator

from packer.errors import InvalidParameter
from packer.forks import Lock

MIN_RATE = 1000
"""Least limit in bytes per second: below it a registry gives a request up before it is whole."""
MAX_RATE = 10**13
"""Greatest limit, above any network."""
_PARTS_PER_SECOND = 8
"""Parts that a second's bytes are moved in, so that the line is used evenly."""
_MIN_PART_BYTES, _MAX_PART_BYTES = 1000, 256 << 10
"""Bounds on such a part in bytes."""


class RateLimit:
    """Bytes per second that several connections share.

    Each part that is moved takes its time on one clock, in the order in which parts come. Time that
    was not used is not saved up.

    Args:
        bytes_per_second: the limit.
        clock: seconds, from any start.

    Raises:
        InvalidParameter: the limit is out of range.

    Thread safety: threads may share it.
    """

    def __init__(
        self, bytes_per_second: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if not MIN_RATE <= bytes_per_second <= MAX_RATE:  # False for NaN
            raise InvalidParameter(
                f"limit_rate {bytes_per_second:g} is no number of bytes per second from {MIN_RATE}"
                f" to {MAX_RATE}"
            )
        self._rate = bytes_per_second
        self._clock = clock
        self._lock = Lock()
        self._free_at = 0.0
        part = int(bytes_per_second / _PARTS_PER_SECOND)
        self.part_bytes = min(max(part, _MIN_PART_BYTES), _MAX_PART_BYTES)
        """Bytes to move at a time, at most."""

    def take(self, count: int, halted: threading.Event) -> float:
        """Wait until the time of some bytes is over.

        Args:
            count: number of bytes.
            halted: ends the wait once it is set.

        Returns:
            The seconds that it should take.
        """
        with self._lock:
            now = self._clock()
            self._free_at = max(self._free_at, now) + count / self._rate
            seconds = self._free_at - now
        halted.wait(seconds)
        return seconds

    def paced(
        self, parts: Iterable[bytes | memoryview], halted: threading.Event
    ) -> Iterator[bytes | memoryview]:
        """Yield the bytes of a body as the limit allows.

        Args:
            parts: of the body, each valid until the next is asked for.
            halted: ends waits once it is set.

        Yields:
            Parts of at most `part_bytes`.
        """
        for part in parts:
            view = memoryview(part)
            for start in range(0, len(view), self.part_bytes):
                piece = view[start : start + self.part_bytes]
                self.take(len(piece), halted)
                yield piece
