"""Progress for programs: JSON lines on standard error."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TextIO

from packer.progress import Progress
from packer.text import text_fields

INTERVAL_SECONDS = 0.5
"""Seconds between two lines of a phase."""


class JsonDisplay:
    """Writes a JSON object on a line of its own when a phase begins, goes on and ends.

    A retry is told at once: nothing else may happen for a minute while a registry is away.

    Args:
        stream: where to.
        clock: seconds, from any start.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._lock = threading.Lock()
        self._last: Progress | None = None
        self._retries = 0
        self._began = 0.0
        self._written = 0.0
        self._written_bytes = 0

    def callback(self, report: Progress) -> None:
        """Record a report, and write it if a line is due."""
        last, now = self._last, self._clock()
        if last is not None and last.phase == report.phase:
            self._last = report
            if now - self._written < INTERVAL_SECONDS:
                return
            with self._lock:
                self._write(report, now)
            return
        with self._lock:
            if last is not None:
                self._write(last, now, is_end=True)
            self._last = report
            self._began = self._written = now
            self._written_bytes = report.done_bytes
            self._write(report, now)

    def on_retry(self) -> None:
        """Count a request that is made again; called from any thread."""
        with self._lock:
            self._retries += 1
            if self._last is not None:
                self._write(self._last, self._clock())

    def _write(self, report: Progress, now: float, *, is_end: bool = False) -> None:
        """Write a line; the lock is held."""
        since, before = (self._began, 0) if is_end else (self._written, self._written_bytes)
        seconds = now - since
        moved = max(report.done_bytes - before, 0)
        value = {
            "phase": report.phase,
            "done": report.done_bytes,
            "total": report.total_bytes or None,
            **(text_fields("item", report.item) if report.item else {"item": None}),
            "rate": round(moved / seconds) if seconds > 0 else 0,
            "retries": self._retries,
            "end": is_end,
        }
        self._written, self._written_bytes = now, report.done_bytes
        try:
            self._stream.write(json.dumps(value) + "\n")
            self._stream.flush()
        except OSError:
            return  # nobody reads it: no reason to stop the work

    def __enter__(self) -> JsonDisplay:
        """Return the display."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Write the end of the last phase, unless it failed."""
        with self._lock:
            if self._last is not None and error is None:
                self._write(self._last, self._clock(), is_end=True)
            self._last = None
