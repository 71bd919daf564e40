"""chunking.py: arguments, errors, batches; the rule itself is in tests/kernels."""

from __future__ import annotations

import array
import io
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from packer._version import VERSION
from packer.engine import chunking
from packer.engine.chunking import ChunkParams, cut_points, default_kernel, iter_chunks, kernels
from packer.engine.memory import read_sum
from packer.errors import InvalidParameter
from tests.kernels.inputs import noise

SMALL = ChunkParams(1024)


def test_empty_and_small_inputs() -> None:
    assert cut_points(b"") == []
    assert cut_points(b"", final=False) == []
    assert cut_points(b"x") == [1]
    assert cut_points(b"x", final=False) == []
    assert cut_points(bytes(1023), SMALL) == [1023]
    assert cut_points(bytes(1535), SMALL, final=False) == []
    assert cut_points(bytes(1536), SMALL, final=False) == [1536]


# Small files are the most frequent call: they must not pay for a call into C.
def test_small_inputs_do_not_call_c(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> list[int]:
        raise AssertionError("called into C")

    monkeypatch.setattr(chunking, "_cut_points", refuse)
    assert cut_points(bytes(65535)) == [65535]
    assert cut_points(bytes(98303), final=False) == []
    with pytest.raises(AssertionError):
        cut_points(bytes(65536))


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
def test_any_buffer(wrap: type) -> None:
    data = noise("buffers", 20_000)
    assert cut_points(wrap(data), SMALL) == cut_points(data, SMALL)


# A buffer of larger items: lengths and offsets are in bytes.
def test_wide_items() -> None:
    data = noise("items", 16_000)
    assert cut_points(array.array("Q", data), SMALL) == cut_points(data, SMALL)
    assert cut_points(memoryview(data).cast("I"), SMALL) == cut_points(data, SMALL)


def test_not_contiguous() -> None:
    with pytest.raises((ValueError, BufferError)):
        cut_points(memoryview(bytes(200_000))[::2], SMALL)


def test_kernel_errors_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidParameter, match=r"unknown chunking kernel 'mmx'.*portable"):
        cut_points(b"", kernel="mmx")
    with pytest.raises(InvalidParameter, match="'neon' is not part of this build"):
        cut_points(b"", kernel="neon")
    # What a CPU without AVX2 would say: the machine at hand may have everything.
    monkeypatch.setattr(chunking, "_NUMBERS", {"portable": 0})
    name = next((name for name in kernels() if name != "portable"), None)
    if name is None:
        pytest.skip("only the portable kernel runs here, so no other can be taken away")
    with pytest.raises(InvalidParameter, match="this CPU or operating system lacks"):
        cut_points(b"", kernel=name)


def test_environment_is_a_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    data = noise("environment", 200_000)
    monkeypatch.setenv("PACKER_KERNEL", "portable")
    assert default_kernel() == "portable"
    expected = cut_points(data)
    monkeypatch.setenv("PACKER_KERNEL", "sse9")
    with pytest.raises(InvalidParameter, match="'sse9'"):
        cut_points(data)
    with pytest.raises(InvalidParameter, match="'sse9'"):
        default_kernel()
    assert cut_points(data, kernel="portable") == expected
    monkeypatch.setenv("PACKER_KERNEL", "")
    assert default_kernel() == kernels()[-1]


def test_kernel_lists() -> None:
    assert kernels()[0] == "portable"
    assert set(kernels()) <= {"portable", "avx2", "avx512", "neon"}
    assert default_kernel() in kernels()


def test_parameters_are_checked_in_c() -> None:
    for low, high in ((511, 1024), (1024, 1024), (2048, 1024), (1024, (6 << 20) + 1)):
        with pytest.raises(InvalidParameter):
            chunking._cut_points(bytes(4096), low, high, True, 0)


def collect(data: bytes, step: int, buffer_bytes: int = 0) -> tuple[list[int], list[int]]:
    class Slow:
        def __init__(self, data: bytes) -> None:
            self.data = io.BytesIO(data)

        def readinto(self, buffer: bytearray | memoryview, /) -> int:
            return self.data.readinto(memoryview(buffer)[:step])

    ends, batches, base = [], [], 0
    for view, cuts in iter_chunks(Slow(data), SMALL, buffer_bytes=buffer_bytes):
        assert len(view) == cuts[-1]
        assert view == data[base : base + len(view)]
        ends += [base + cut for cut in cuts]
        base += len(view)
        batches.append(len(cuts))
    assert base == len(data)
    return ends, batches


@pytest.mark.parametrize("length", [0, 1, 1023, 1024, 3071, 3072, 3073, 6144, 50_000])
def test_batches_cut_as_one_buffer(length: int) -> None:
    data = noise("batches", length)
    expected = cut_points(data, SMALL)
    assert collect(data, 1 << 20)[0] == expected  # the least buffer: twice the maximum
    assert collect(data, 777)[0] == expected  # short reads
    ends, batches = collect(data, 1 << 20, 1 << 20)
    assert ends == expected
    assert len(batches) == bool(data)


def test_iter_chunks_reuses_memory() -> None:
    buffer = bytearray(1 << 16)
    data = noise("reuse", 300_000)
    for name in ("first", "second"):
        found = b"".join(bytes(v) for v, _ in iter_chunks(io.BytesIO(data), SMALL, buffer=buffer))
        assert found == data, name
    with pytest.raises(InvalidParameter, match="3071"):
        next(iter_chunks(io.BytesIO(data), SMALL, buffer=bytearray(3071)))


def test_iter_chunks_reads_raw_files(tmp_path: Path) -> None:
    data = noise("file", 3_000_000)
    path = tmp_path / "file"
    path.write_bytes(data)
    with open(path, "rb", buffering=0) as file:
        found = [bytes(view) for view, _ in iter_chunks(file, buffer_bytes=1 << 20)]
    assert b"".join(found) == data
    assert len(found) > 2


def test_iter_chunks_refuses_a_pipe_without_data() -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    with (
        os.fdopen(reading, "rb", buffering=0) as file,
        os.fdopen(writing, "wb"),
        pytest.raises(BlockingIOError),
    ):
        next(iter_chunks(file))


# Shared state in C would show as a difference between threads.
def test_threads_agree() -> None:
    inputs = [noise(f"thread {i}", 2_000_000) for i in range(4)]
    expected = [cut_points(data, SMALL) for data in inputs]
    found: dict[int, list[list[int]]] = {}

    def work(i: int) -> None:
        found[i] = [cut_points(data, SMALL) for data in inputs]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[i] for i in range(4)] == [expected] * 4


# The compiled module and the Python files must be of one version, or cut points could change
# silently.
def test_version_is_checked() -> None:
    program = (
        "import sys, types\n"
        "sys.modules['packer._version'] = v = types.ModuleType('v'); v.VERSION = '0.0.0'\n"
        "try:\n import packer.engine.native\n"
        "except ImportError as error:\n print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert f"of version {VERSION}, the Python files are of 0.0.0" in done.stdout, done.stderr


def test_read_sum() -> None:
    data = noise("sum", 4096)
    expected = sum(int.from_bytes(data[i : i + 8], "little") for i in range(0, 4096, 8))
    if sys.byteorder == "little":
        assert read_sum(data) == expected % 2**64
