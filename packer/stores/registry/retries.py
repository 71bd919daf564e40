"""When a request is made again, and after which pause."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

RETRY_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Answers that may pass: the same request is made again."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how patiently to try again.

    Args:
        attempts: tries in all, at least 1.
        base_seconds: greatest first pause; each next one doubles it.
        max_seconds: bound on one pause, whatever the server's Retry-After says.
    """

    attempts: int = 5
    base_seconds: float = 0.4
    max_seconds: float = 30.0

    def pause(self, attempt: int, retry_after: str | None = None) -> float:
        """Return the pause after a failed attempt.

        The length is random (full jitter): clients that failed together must not return together.

        Args:
            attempt: number of the attempt, from 0.
            retry_after: the answer's Retry-After header.

        Returns:
            Seconds.
        """
        limit = min(self.max_seconds, self.base_seconds * 2.0 ** min(attempt, 60))
        jitter = random.uniform(0, limit)  # noqa: S311
        asked = _retry_after_seconds(retry_after)
        return min(self.max_seconds, max(asked, jitter))


def _retry_after_seconds(value: str | None) -> float:
    """Return the seconds that a Retry-After header (number or date) asks for, 0 if unclear."""
    if not value:
        return 0.0
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0
