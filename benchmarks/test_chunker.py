"""Chunking beside its ceilings (reading memory, copying it) and pyfastcdc, in one run, on one core.

``pytest benchmarks/test_chunker.py --benchmark-enable`` prints times; in the JSON of
``--benchmark-json=FILE``, extra_info has GB/s (10^9 bytes), of the median and of the best round,
and the mean chunk. A plain test run executes everything once, on less data.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from typing import Any

import pytest

from packer.engine.chunking import KERNELS, ChunkParams, cut_points, iter_chunks, kernels
from packer.engine.memory import read_sum
from tests.kernels.inputs import INPUTS

# Beyond the caches that one core of a server can fill, so that memory is what is measured.
BENCHMARK_BYTES = 512 << 20
CHECK_BYTES = 4 << 20
AVERAGE = 64 << 10


@pytest.fixture(scope="module")
def data(request: pytest.FixtureRequest) -> bytearray:
    """Random bytes: every byte is looked at, none is special."""
    timed = not request.config.getoption("benchmark_disable")
    timed = timed or bool(request.config.getoption("benchmark_enable"))
    size = BENCHMARK_BYTES if timed else CHECK_BYTES
    source = random.Random(1)
    return bytearray().join(source.randbytes(CHECK_BYTES) for _ in range(size // CHECK_BYTES))


def measure(
    benchmark: Any, name: str, data: bytearray, call: Callable[[], object], content: str = "random"
) -> Any:
    benchmark.group = "chunker"
    benchmark.name = f"{content}/{name}"
    result = benchmark.pedantic(call, rounds=7, warmup_rounds=1)
    if benchmark.stats is not None:
        benchmark.extra_info["bytes"] = len(data)
        benchmark.extra_info["GB/s"] = round(len(data) / benchmark.stats.stats.median / 1e9, 2)
        benchmark.extra_info["GB/s best"] = round(len(data) / benchmark.stats.stats.min / 1e9, 2)
    return result


def test_scan(benchmark: Any, data: bytearray) -> None:
    """The ceiling: read every byte and add (AVX-512 where there is any)."""
    measure(benchmark, "scan", data, lambda: read_sum(data))


def test_memcpy(benchmark: Any, data: bytearray) -> None:
    target = bytearray(len(data))
    with memoryview(target) as to, memoryview(data) as source:

        def copy() -> None:
            to[:] = source

        measure(benchmark, "memcpy", data, copy)
    assert target == data


@pytest.mark.parametrize("average", [AVERAGE, 16 << 10])
@pytest.mark.parametrize("kernel", KERNELS)
def test_chunker(benchmark: Any, data: bytearray, kernel: str, average: int) -> None:
    if kernel not in kernels():
        pytest.skip(f"{kernel} cannot run here")
    params = ChunkParams(average)
    name = f"{kernel}, {average >> 10} KiB"
    cuts = measure(benchmark, name, data, lambda: cut_points(data, params, kernel=kernel))
    assert cuts[-1] == len(data)
    benchmark.extra_info["mean chunk"] = len(data) // len(cuts)


@pytest.mark.parametrize("name", INPUTS)
def test_no_throughput_cliff(benchmark: Any, name: str) -> None:
    """Ties in the hash are looked at one by one: a loop that is quadratic in them would stall."""
    data = bytearray(INPUTS[name](CHECK_BYTES))
    cuts = measure(benchmark, "64 KiB", data, lambda: cut_points(data), name)
    assert cuts[-1] == len(data)


def test_iter_chunks(benchmark: Any, data: bytearray) -> None:
    """Reading included: a copy from memory into the reused buffer, which stays in the cache."""

    def run() -> int:
        return sum(len(cuts) for _, cuts in iter_chunks(io.BytesIO(frozen)))

    frozen = bytes(data)  # BytesIO shares bytes and copies everything else
    assert measure(benchmark, "iter_chunks, 64 KiB", data, run) == len(cut_points(frozen))


def test_pyfastcdc(benchmark: Any, data: bytearray) -> None:
    pyfastcdc = pytest.importorskip("pyfastcdc")
    cutter = pyfastcdc.FastCDC(avg_size=AVERAGE)

    def run() -> int:
        return sum(1 for _ in cutter.cut_buf(data))

    count = measure(benchmark, "pyfastcdc, 64 KiB", data, run)
    benchmark.extra_info["mean chunk"] = len(data) // count
