"""What registries turned out not to do, so that no second repository of one finds out again."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from packer.stores.registry.http import Origin

REMEMBERED_SECONDS = 3600.0
"""After this a registry is tried again: it may have been repaired, and processes live for weeks."""
MAX_ORIGINS = 1000


class Habits:
    """Which registries ignore ranges, by origin.

    Args:
        seconds: how long that is believed.

    Thread safety: threads may share it.
    """

    def __init__(self, seconds: float = REMEMBERED_SECONDS) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._ranges: dict[Origin, float] = {}

    def ignores_ranges(self, origin: Origin) -> bool:
        """Tell whether a registry answered a range with all of a blob, not long ago."""
        with self._lock:
            return self._ranges.get(origin, 0.0) > time.monotonic()

    def note_ignored_range(self, origin: Origin) -> None:
        """Remember that a registry did so."""
        with self._lock:
            self._ranges.pop(origin, None)
            self._ranges[origin] = time.monotonic() + self._seconds
            while len(self._ranges) > MAX_ORIGINS:
                del self._ranges[next(iter(self._ranges))]

    def forget(self) -> None:
        """Know nothing again."""
        with self._lock:
            self._ranges.clear()
