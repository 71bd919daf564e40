"""Remembers per registry which protocol features fail, so each is probed once per process.

These are range requests and the referrers API.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from packer.forks import Lock

if TYPE_CHECKING:
    from packer.stores.registry.transport.urls import Origin

REMEMBERED_SECONDS = 3600.0
"""Seconds a failure is remembered: a registry may be repaired, and processes live for weeks."""
MAX_ORIGINS = 1000
"""Registries remembered; beyond, the one recorded longest ago is forgotten."""


class BrokenFeatures:
    """Which registries ignore ranges, and which have no referrers API, by origin.

    Args:
        seconds: how long a failure is remembered.

    Thread safety: threads may share it.
    """

    def __init__(self, seconds: float = REMEMBERED_SECONDS) -> None:
        self._seconds = seconds
        self._lock = Lock()
        self._ranges: dict[Origin, float] = {}
        self._referrers: dict[Origin, float] = {}

    def ignores_ranges(self, origin: Origin) -> bool:
        """Return whether a registry sent a whole blob for a range within the remembered time."""
        with self._lock:
            return self._ranges.get(origin, 0.0) > time.monotonic()

    def record_ignored_range(self, origin: Origin) -> None:
        """Record that a registry sent a whole blob for a range."""
        self._record(self._ranges, origin)

    def lacks_referrers(self, origin: Origin) -> bool:
        """Return whether a registry had no referrers API within the remembered time."""
        with self._lock:
            return self._referrers.get(origin, 0.0) > time.monotonic()

    def record_no_referrers(self, origin: Origin) -> None:
        """Record that a registry has no referrers API."""
        self._record(self._referrers, origin)

    def _record(self, failures: dict[Origin, float], origin: Origin) -> None:
        with self._lock:
            failures.pop(origin, None)
            failures[origin] = time.monotonic() + self._seconds
            while len(failures) > MAX_ORIGINS:
                del failures[next(iter(failures))]

    def forget(self) -> None:
        """Forget all failures."""
        with self._lock:
            self._ranges.clear()
            self._referrers.clear()
