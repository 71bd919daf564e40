"""How often and after which pauses a request is made again, on a clock of the test's."""

from __future__ import annotations

import threading

import pytest
from urllib3.exceptions import NewConnectionError

from packer.errors import RegistryError, StoreError, TransportError
from packer.stores.registry.transport.retries import MAX_OUTAGE_PAUSE_SECONDS, Attempts, RetryPolicy

USUAL = RetryPolicy(outage_seconds=60)


class Clock(threading.Event):
    """An event whose waits take no time, and a clock that they move on."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.pauses: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.pauses.append(timeout or 0.0)
        self.now += timeout or 0.0
        return False


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("packer.stores.registry.transport.retries.time.monotonic", lambda: made.now)
    return made


def unreachable() -> TransportError:
    error = TransportError("no answer", retryable=True)
    error.__cause__ = NewConnectionError(None, "refused")  # type: ignore[arg-type]
    return error


def tries(attempts: Attempts, failure: StoreError | int, retry_after: str | None = None) -> int:
    count = 1
    while attempts.again(failure, retry_after):
        count += 1
    return count


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_busy_registry_is_asked_as_often_as_ever_over_a_minute(clock: Clock, status: int) -> None:
    for _ in range(20):
        clock.pauses.clear()
        assert tries(Attempts(USUAL, clock, "r"), status) == USUAL.attempts
        assert 30 < sum(clock.pauses) <= 61
        assert clock.pauses[0] <= USUAL.base_seconds
        assert max(clock.pauses) <= USUAL.max_seconds


def test_nobody_there(clock: Clock) -> None:
    for _ in range(20):
        clock.pauses.clear()
        count = tries(Attempts(USUAL, clock, "r"), unreachable())
        assert count > USUAL.attempts
        assert 59.99 < sum(clock.pauses) < 61
        assert max(clock.pauses) <= MAX_OUTAGE_PAUSE_SECONDS


def test_tries_without_a_server_leave_the_others(clock: Clock) -> None:
    attempts = Attempts(USUAL, clock, "r")
    for _ in range(8):
        assert attempts.again(unreachable())
    assert tries(attempts, 503) == USUAL.attempts


@pytest.mark.parametrize("failure", [500, 408, 425, RegistryError("x", status=500)])
def test_other_failures_are_soon_over(clock: Clock, failure: StoreError | int) -> None:
    assert tries(Attempts(USUAL, clock, "r"), failure) == USUAL.attempts
    assert sum(clock.pauses) <= 0.4 + 0.8 + 1.6 + 3.2


def test_without_patience(clock: Clock) -> None:
    assert tries(Attempts(RetryPolicy(), clock, "r"), unreachable()) == 5
    assert sum(clock.pauses) <= 0.4 + 0.8 + 1.6 + 3.2


def test_retry_after(clock: Clock) -> None:
    assert tries(Attempts(USUAL, clock, "r"), 429, "20") == USUAL.attempts
    assert all(20 <= pause <= 30 for pause in clock.pauses)


def test_progress_and_the_end(clock: Clock) -> None:
    attempts = Attempts(RetryPolicy(attempts=2), clock, "r")
    for _ in range(5):
        assert attempts.again(500)
        attempts.progress()
    assert attempts.again(500)
    assert not attempts.again(500)
    assert attempts.is_over
    attempts = Attempts(USUAL, clock, "r")
    attempts.finish()
    assert not attempts.again(503)
