"""What an estimate tells beside sizes: which archives stayed closed in what would be moved."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import pytest

import packer
from packer.cli.main import main


def archive(path: Path, seed: int) -> int:
    """Write a gzip file of which nothing is in another one; return its size."""
    path.write_bytes(gzip.compress(random.Random(seed).randbytes(300_000), mtime=0))
    return path.stat().st_size


def test_closed_archives_of_what_would_move(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    app, store, there = tmp_path / "app", tmp_path / "store", f"oci:{tmp_path}/there:app"
    app.mkdir()
    sizes = [archive(app / "one.tgz", 1), archive(app / "two.tgz", 2)]
    (app / "values.yaml").write_text("replicas: 1\n")
    packer.pack(app, tag="app:1", store=store)
    first = packer.estimate("app:1", there, store=store)
    assert sorted(row.path for row in first.closed) == ["one.tgz", "two.tgz"]
    assert sum(row.stored_bytes for row in first.closed) == pytest.approx(sum(sizes), rel=0.01)
    packer.copy("app:1", there, store=store)
    assert packer.estimate("app:1", there, store=store).closed == ()
    archive(app / "three.tgz", 3)
    packer.pack(app, tag="app:2", store=store)
    assert [row.path for row in packer.estimate("app:2", there, store=store).closed] == [
        "three.tgz"
    ]
    assert main(["copy", "app:2", there, "--dry-run", "--store", str(store)]) == 0
    shown = capsys.readouterr().out
    assert "archives that are stored closed, 300." in shown
    assert "three.tgz (gzip, nothing older is alike: opened once it changes; 300." in shown


def test_inspect_and_estimate_tell_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Blobs named by digest, of a layout."""
    app, store = tmp_path / "app", tmp_path / "store"
    app.mkdir()
    for seed in range(3):
        archive(app / f"{seed:064x}", seed)
    told = packer.pack(app, tag="app:1", store=store).closed
    assert len(told) == 3
    assert packer.inspect("app:1", store=store).closed == told
    assert packer.estimate("app:1", f"oci:{tmp_path}/there:app", store=store).closed == told
    assert main(["inspect", "app:1", "--store", str(store)]) == 0
    shown = capsys.readouterr().out
    assert shown.count("gzip  nothing older is alike: opened once it changes  300.1 KB") == 3
