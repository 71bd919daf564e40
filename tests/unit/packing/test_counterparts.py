"""Files that were moved, renamed, reordered or split, and changed everywhere, cost the change."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

import packer
from packer.engine import zstd
from packer.files.name_column import Names
from packer.format import layer_writer
from packer.format.index import Index
from packer.packing.older import counterparts
from packer.packing.older.counterparts import _Shapes

Files = dict[str, list[str]]
"""Sections of text by path."""


def section(number: int) -> str:
    """Some 6 KB of text that no other section shares; each kilobyte names the version."""
    words = random.Random(number)
    lines = [f"section: {number}"]
    for at in range(160):
        lines.append(f"  key-{words.randrange(1 << 32):08x}: {words.randrange(1 << 64):016x}-{at}")
        if at % 20 == 0:
            lines.append("  app.kubernetes.io/version: 1.4.1")
    return "\n".join(lines) + "\n"


FILES: Files = {
    f"charts/app-1.4.1/part{file}.yaml": [section(40 * file + at) for at in range(40)]
    for file in range(8)
}


def moved(files: Files) -> Files:
    return {path.replace("charts/app-1.4.1/", "manifests/upstream/"): files[path] for path in files}


def renamed(files: Files) -> Files:
    return {f"charts/app-1.4.1/{chr(113 + at)}.txt": files[path] for at, path in enumerate(files)}


def renumbered(files: Files) -> Files:
    return {path.replace("1.4.1", "1.5.0"): files[path] for path in files}


def reordered(files: Files) -> Files:
    order = random.Random(1)
    return {path: order.sample(parts, len(parts)) for path, parts in files.items()}


def split(files: Files) -> Files:
    return {
        f"{path}/{at:02}.yaml": parts[at : at + 5]
        for path, parts in files.items()
        for at in range(0, len(parts), 5)
    }


def joined(files: Files) -> Files:
    return {"all.yaml": [part for parts in files.values() for part in parts]}


def write(root: Path, files: Files, version: str) -> Path:
    for path, parts in files.items():
        full = root / path
        full.parent.mkdir(parents=True, exist_ok=True)
        full.write_text("".join(parts).replace("version: 1.4.1", f"version: {version}"))
    return root


@pytest.mark.slow
@pytest.mark.parametrize("change", [moved, renamed, renumbered, reordered, split, joined])
def test_counterparts_are_found(change: Callable[[Files], Files], tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    first = packer.pack(write(tmp_path / "1", FILES, "1.4.1"), store=store, tag="app:1")
    assert first.new_bytes > 800_000
    second = write(tmp_path / "2", change(FILES), "1.4.2")
    update = packer.pack(second, store=store, tag="app:2")
    # Without counterparts it is as much as the first.
    alone = packer.pack(second, store=str(tmp_path / "alone"), tag="app:2", base="none")
    assert alone.new_bytes > 0.9 * first.new_bytes
    assert update.new_bytes < 0.04 * first.new_bytes
    packer.unpack("app:2", tmp_path / "out", store=store)
    for path in second.rglob("*.*"):
        if path.is_file():
            assert (tmp_path / "out" / path.relative_to(second)).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("block", [1, 4, 4096])
def test_files_of_the_same_shape(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counterparts, "_BLOCK", block)
    rng = random.Random(block)
    names = ["app-1.yaml", "app-2.yaml", "app-10.yaml", "app.yaml", "values.yaml", "v1/app-3.yaml"]
    paths = sorted({f"d{rng.randrange(40)}/{rng.choice(names)}".encode() for _ in range(400)})
    index = Index(paths=Names.of(paths))
    index.run_counts.extend(rng.choice([0, 1, 1, 2]) for _ in paths)
    shapes = _Shapes(index, shape := counterparts._shape_of_name)
    for path in [*paths, b"x/app-77.yaml", b"app-.yaml", b"nothing like it"]:
        found = [
            entry
            for entry, old in enumerate(paths)
            if index.run_counts[entry] and shape(old) == shape(path)
        ]
        assert shapes.find(path) == found[:64]
    assert _Shapes(Index(), shape).find(b"a") == []
    assert shape(b"lib/gson-2.10.jar") == shape(b"gson-2.10.1.jar") != shape(b"gson-.jar")


@pytest.mark.slow
def test_a_quick_comparison_decides_as_the_full_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    more = {
        path: [section(5000 + 8 * file + at) for at in range(8)] + parts
        for file, (path, parts) in enumerate(FILES.items())
    }
    first, second = write(tmp_path / "1", FILES, "1.4.1"), write(tmp_path / "2", more, "1.4.2")
    levels: list[int] = []
    real = zstd.compress

    def compress(data: bytes, level: int, prefix: bytes = b"") -> bytes:
        if len(data) > 1 << 20 and not prefix:
            levels.append(level)
        return real(data, level, prefix)

    monkeypatch.setattr(zstd, "compress", compress)
    digests = set[str]()
    for share, expected in ((layer_writer._QUICK_SHARE, [3]), (0, [3, 9])):
        monkeypatch.setattr(layer_writer, "_QUICK_SHARE", share)
        store = str(tmp_path / f"store{share}")
        packer.pack(first, store=store, tag="app:1")
        levels.clear()
        digests.add(packer.pack(second, store=store, tag="app:2").digest)
        assert levels == expected
    assert len(digests) == 1
