"""Every stage of packing and restoring, timed alone, beside its ceilings, and end to end.

`extra_info` holds MB/s (10^6 bytes a second) of plaintext. A plain test run executes each once.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import blake3
import pytest
import zstandard

import packer
from packer.engine import zstd
from packer.engine.chunking import cut_points
from packer.files.tree import walk
from packer.format.index_codec import decode_index, encode_index
from packer.format.layer_writer import LayerWriter, layer_bytes_for
from packer.stores.layout import LayoutStore
from packer.stores.memory import MemoryStore

Benchmark = Any  # pytest-benchmark's fixture is untyped


def report_rate(benchmark: Benchmark, size: int) -> None:
    if benchmark.stats:  # None when timing is off
        rate = size / 1e6 / benchmark.stats.stats.median
        benchmark.extra_info.update(megabytes=size / 1e6, megabytes_per_second=round(rate, 1))


def tree_bytes(root: Path) -> int:
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file())


# ceilings ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["memcpy", "sha256", "blake3", "zstd-3", "zstd-6", "unzstd-6"])
def test_ceiling(benchmark: Benchmark, memory: bytes, name: str) -> None:
    packed = zstandard.ZstdCompressor(level=6).compress(memory)
    work: dict[str, Callable[[], object]] = {
        "memcpy": lambda: bytearray(memory),
        "sha256": lambda: hashlib.sha256(memory).digest(),
        "blake3": lambda: blake3.blake3(memory).digest(),
        "zstd-3": lambda: zstandard.ZstdCompressor(level=3).compress(memory),
        "zstd-6": lambda: zstandard.ZstdCompressor(level=6).compress(memory),
        "unzstd-6": lambda: zstandard.ZstdDecompressor().decompress(packed),
    }
    assert benchmark.pedantic(work[name], rounds=5, warmup_rounds=1)
    report_rate(benchmark, len(memory))


# stages --------------------------------------------------------------------------------------


def test_walk(benchmark: Benchmark, corpus: tuple[Path, Path]) -> None:
    found = benchmark.pedantic(walk, (bytes(corpus[0]),), rounds=5, warmup_rounds=1)
    assert len(found) > 100


def test_cuts_and_digests(benchmark: Benchmark, memory: bytes) -> None:
    def work() -> int:
        view, start = memoryview(memory), 0
        cuts = cut_points(memory)
        for end in cuts:
            blake3.blake3(view[start:end]).digest()
            start = end
        return len(cuts)

    assert benchmark.pedantic(work, rounds=5, warmup_rounds=1) > 100
    report_rate(benchmark, len(memory))


def test_frames_and_layers(benchmark: Benchmark, memory: bytes) -> None:
    view, start, chunks = memoryview(memory), 0, []
    for end in cut_points(memory):
        chunks.append((view[start:end], blake3.blake3(view[start:end]).digest()))
        start = end

    def work() -> int:
        with ThreadPoolExecutor() as executor:
            writer = LayerWriter(
                MemoryStore(),
                executor,
                level=zstd.DEFAULT_LEVEL,
                layer_bytes=layer_bytes_for(len(memory)),
            )
            for data, digest in chunks:
                writer.add(data, digest)
            writer.close()
        return len(writer.layers)

    assert benchmark.pedantic(work, rounds=5, warmup_rounds=1) > 0
    report_rate(benchmark, len(memory))


def test_index_decode(benchmark: Benchmark, corpus: tuple[Path, Path]) -> None:
    store = MemoryStore()
    packer.pack(corpus[0], store=store, tag="v1")
    plain = packer.open_version("v1", store=store).read_index()[0]
    index = benchmark.pedantic(decode_index, (plain,), rounds=5, warmup_rounds=1)
    assert encode_index(index) == plain


# end to end ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["first", "update", "unchanged"])
def test_pack(benchmark: Benchmark, corpus: tuple[Path, Path], tmp_path: Path, kind: str) -> None:
    number = count()

    def setup() -> tuple[tuple[Path], dict[str, object]]:
        store = LayoutStore(str(tmp_path / f"store{next(number)}"))
        if kind != "first":
            packer.pack(corpus[0], store=store, tag="app:v1")
        tree = corpus[1] if kind == "update" else corpus[0]
        return (tree,), {"store": store, "tag": "app:v2"}

    packed = benchmark.pedantic(packer.pack, setup=setup, rounds=5)
    assert packed.unchanged is (kind == "unchanged")
    benchmark.extra_info.update(new_bytes=packed.new_bytes, layers=packed.layers)
    report_rate(benchmark, packed.bytes)


@pytest.mark.parametrize("kind", ["fresh", "update"])
def test_unpack(benchmark: Benchmark, corpus: tuple[Path, Path], tmp_path: Path, kind: str) -> None:
    store = LayoutStore(str(tmp_path / "store"))
    packer.pack(corpus[0], store=store, tag="app:v1")
    packer.pack(corpus[1], store=store, tag="app:v2")
    target = tmp_path / "out"

    def setup() -> tuple[tuple[str, Path], dict[str, object]]:
        shutil.rmtree(target, ignore_errors=True)
        if kind == "update":
            packer.unpack("app:v1", target, store=store)
        return ("app:v2", target), {"store": store, "update": kind == "update"}

    restored = benchmark.pedantic(packer.unpack, setup=setup, rounds=5)
    assert tree_bytes(target) == restored.bytes == tree_bytes(corpus[1])
    report_rate(benchmark, restored.bytes)
