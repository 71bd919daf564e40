"""When a request is made again, after which pause, and when it is given up.

Failures are counted: after `RetryPolicy.attempts` it is over. All requests of one operation (an
upload's POST and PUT, a download and its continuations) are counted by one `Attempts`, so that
retries never multiply.

An *outage* is survived if it ends within `RetryPolicy.outage_seconds` of its first failure. While
no connection can be made, tries cost nobody anything and are not counted; a server that has never
answered is given up after `RetryPolicy.first_seconds`, as its name may be mistyped. A registry that
answers 429, 502, 503 or 504, loses connections or keeps silent may be overloaded: the attempts are
not more then, but their pauses are spread over that time.
"""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from urllib3.exceptions import ConnectTimeoutError, NameResolutionError

from packer.errors import RegistryError, StoreError, TransportError

RETRY_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Answers that may pass: the same request is made again."""
OUTAGE_STATUSES = frozenset({429, 502, 503, 504})
"""Answers of a registry that is away, or of a proxy before it."""
MAX_OUTAGE_PAUSE_SECONDS = 8.0
"""Bound on a pause during an outage, so that its end is noticed soon."""
_SPREAD = 4
"""Each pause of an outage is about so many times the one before; the last takes what is left."""
TOLD_SECONDS = 3.0
"""Seconds of an outage after which it is told, with a warning in the log."""

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how patiently to try again.

    Args:
        attempts: tries in all, at least 1; those that met no server in an outage not counted.
        base_seconds: greatest first pause; each next one doubles it.
        max_seconds: bound on one pause, whatever the server's Retry-After says.
        outage_seconds: how long an outage is waited for, from its first failure.
        first_seconds: how long, at most, a server is waited for that no connection could be made to
            since this process began.
        on_retry: called before each pause, from any thread; None for nothing.
    """

    attempts: int = 5
    base_seconds: float = 0.4
    max_seconds: float = 30.0
    outage_seconds: float = 0.0
    first_seconds: float = math.inf
    on_retry: Callable[[], None] | None = None

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


class Attempts:
    """The failures of one operation, counted over all of its requests.

    Args:
        policy: how often to try again.
        halted: ends pauses when it is set.
        where: the server's name in warnings.
        is_known: returns whether the server has ever answered.
    """

    def __init__(
        self,
        policy: RetryPolicy,
        halted: threading.Event,
        where: str,
        is_known: Callable[[], bool] = lambda: True,
    ) -> None:
        self._policy = policy
        self._is_known = is_known
        self._halted = halted
        self._where = where
        self._count = 0
        self._unreachable = 0
        self._begin: float | None = None
        self._told = False
        self.is_over = False
        """Whether the operation has failed for good."""
        self.has_failed = False
        """Whether a request of the operation has failed, even if it succeeded later."""

    def progress(self) -> None:
        """Record that something was achieved: failures so far do not count any more."""
        self._count, self._unreachable, self._begin, self._told = 0, 0, None, False

    def finish(self) -> None:
        """Record that the operation has failed for good."""
        self.is_over = True

    def again(
        self, failure: StoreError | int, retry_after: str | None = None, *, counted: bool = False
    ) -> bool:
        """Record a failed attempt, and pause if another one is due.

        Args:
            failure: the error, or the status of the answer.
            retry_after: the answer's Retry-After header.
            counted: it is no outage, whatever the failure.

        Returns:
            Whether to try again.
        """
        self.has_failed = True
        if self.is_over:
            return False
        now = time.monotonic()
        if self._begin is None:
            self._begin = now
        left = self._begin + self._policy.outage_seconds - now
        unreachable = not counted and _is_unreachable(failure)
        if unreachable and not self._is_known():
            left = min(left, self._begin + self._policy.first_seconds - now)
        if unreachable and self._unreachable and left <= 0:
            self.is_over = True
            return False
        if unreachable and left > 0:
            self._unreachable += 1
            pause = self._policy.pause(self._unreachable - 1)
            # The last try comes at the end of the time, not a pause before it.
            pause = min(pause, MAX_OUTAGE_PAUSE_SECONDS, max(left, self._policy.base_seconds))
        else:
            self._count += 1
            if self._count >= self._policy.attempts:
                self.is_over = True
                return False
            pause = self._policy.pause(self._count - 1, retry_after)
            # The first pause stays short: most lost connections are no outage.
            if not counted and left > 0 and self._count > 1 and _is_outage(failure):
                more = self._policy.attempts - self._count - 1
                share = random.uniform(0.8, 1.0) * left / _SPREAD**more  # noqa: S311
                pause = max(pause, min(share, self._policy.max_seconds))
        if not counted and left > 0:
            self._tell(failure, now - self._begin + pause, left)
        if self._policy.on_retry is not None:
            self._policy.on_retry()
        self._halted.wait(pause)
        return True

    def _tell(self, failure: StoreError | int, seconds: float, left: float) -> None:
        """Warn once about an outage that takes long."""
        if self._told or seconds < TOLD_SECONDS:
            return
        self._told = True
        what = f"answers {failure}" if isinstance(failure, int) else "does not answer"
        bound = f" for up to {left:.0f} s" if left >= 1 else ""
        _LOG.warning("%s %s: trying again%s", self._where, what, bound)


def _is_outage(failure: StoreError | int) -> bool:
    """Return whether a failure may pass when a server has restarted, or is less busy."""
    if isinstance(failure, RegistryError):
        failure = failure.status
    if isinstance(failure, int):
        return failure in OUTAGE_STATUSES
    return (
        isinstance(failure, TransportError)
        and failure.retryable
        and not _has(failure, NameResolutionError)
    )


def _is_unreachable(failure: StoreError | int) -> bool:
    """Return whether no connection could be made to a server whose name is known."""
    return (
        isinstance(failure, TransportError)
        and failure.retryable
        and _has(failure, ConnectTimeoutError)
        and not _has(failure, NameResolutionError)
    )


def _has(error: BaseException, kind: type[BaseException]) -> bool:
    """Return whether an error, or one of its causes, is of a kind."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, kind):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


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
