"""A limit on the bytes per second of all transfers, on a clock of the test's and on a real one."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import packer
from packer.errors import InvalidParameter
from packer.stores.registry.access import Access
from packer.stores.registry.transport.rate import MAX_RATE, MIN_RATE, RateLimit
from tests.builders import noise, write
from tests.registry_server import run_registry


class Clock(threading.Event):
    """An event whose waits take no time, and a clock that they move on."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def wait(self, timeout: float | None = None) -> bool:
        self.now += timeout or 0.0
        return False


def test_bytes_take_their_time_and_no_time_is_saved_up() -> None:
    clock = Clock()
    limit = RateLimit(10_000, clock)
    assert limit.take(5_000, clock) == pytest.approx(0.5)
    assert clock.now == pytest.approx(1000.5)
    clock.now += 60
    limit.take(20_000, clock)
    assert clock.now == pytest.approx(1062.5)


def test_parts_are_small_where_the_limit_is() -> None:
    clock = Clock()
    limit = RateLimit(80_000, clock)
    parts = list(limit.paced([bytes(25_000), b"end"], clock))
    assert [len(part) for part in parts] == [10_000, 10_000, 5_000, 3]
    assert clock.now == pytest.approx(1000 + 25_003 / 80_000)
    assert RateLimit(MIN_RATE).part_bytes == 1000
    assert RateLimit(MAX_RATE).part_bytes == 256 << 10


def test_threads_share_a_limit() -> None:
    limit, halted = RateLimit(1_000_000), threading.Event()
    begin = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: limit.take(50_000, halted), range(8)))
    assert time.monotonic() - begin >= 0.39


def test_a_wait_ends_when_the_caller_cancels() -> None:
    halted = threading.Event()
    halted.set()
    begin = time.monotonic()
    RateLimit(1000).take(10_000_000, halted)  # a limit of three hours
    assert time.monotonic() - begin < 60


@pytest.mark.parametrize("rate", [0, -1, 999, float("nan"), float("inf"), 1e300])
def test_limits_out_of_range(rate: float) -> None:
    with pytest.raises(InvalidParameter, match="limit_rate"):
        packer.remote_versions(
            "127.0.0.1:1/acme/app", registry=packer.RegistryOptions(limit_rate=rate)
        )


def test_hosts_of_one_call_share_a_limit() -> None:
    access = Access(packer.RegistryOptions(limit_rate=5_000_000))
    limits = {id(access._limit(5_000_000)) for _ in range(3)}
    assert len(limits) == 1
    assert access._limit(None) is None


@pytest.mark.slow
@pytest.mark.registry
def test_transfers_take_as_long_as_the_limit_says(tmp_path: Path) -> None:
    root = write(tmp_path / "v", {f"{n}.bin": noise(n, 250_000) for n in range(4)})
    (tmp_path / "registry").mkdir()
    slow = packer.RegistryOptions(limit_rate=1_000_000)
    with run_registry(tmp_path / "registry") as server:
        packed = packer.pack(root, store=tmp_path / "store", tag="app:1")
        begin = time.monotonic()
        name = f"{server.host}/acme/app:1"
        done = packer.push(name, packed, store=tmp_path / "store", registry=slow)
        pushed = time.monotonic() - begin
        begin = time.monotonic()
        packer.pull(name, tmp_path / "out", store=tmp_path / "other", registry=slow)
        pulled = time.monotonic() - begin
    assert done.bytes_copied > 1_000_000
    for seconds in (pushed, pulled):
        assert seconds > 0.98 * done.bytes_copied / 1_000_000
    assert (tmp_path / "out" / "3.bin").read_bytes() == noise(3, 250_000)
