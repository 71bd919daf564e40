"""Directories, sums and drawings against what walking the tree says."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import packer
from packer.errors import InvalidParameter, NotFound
from packer.serve import drawing, trees
from packer.serve.finding import open_place
from packer.serve.limits import Stop
from packer.serve.opened import Opened, Versions
from packer.serve.parameters import APP, FILE, OFFSET, parse, query_of


def opened(folder: Path) -> Opened:
    packer.pack(folder, tag="app:1", store=folder.parent / "store")
    return Versions(open_place(str(folder.parent / "store"))).open("app", "app:1")


def test_directories_are_what_walking_says(tmp_path: Path) -> None:
    # Names between a directory and what lies in it, in byte order: "a-b" and "a.c" before "a/".
    root = tmp_path / "tree"
    for name in ("a/x", "a/sub/y", "a-b", "a.c/z", "a.c/deep/er/w", "b", "a0/v"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(len(name) * 100))
    found = opened(root)
    for where, folders, files in os.walk(root):
        relative = os.path.relpath(where, root)
        inner = b"" if relative == "." else relative.encode()
        rows = {row["name"]: row for row in trees.directory(found, inner, 0, 100)[1]}
        assert set(rows) == {*folders, *files}
        for name, row in rows.items():
            below = Path(where) / name
            inside = [below] if below.is_file() else [it for it in below.rglob("*") if it.is_file()]
            assert row["size"] == sum(it.stat().st_size for it in inside)
            assert row["files"] == len(inside)
    # All that is stored is shared out among the files.
    assert math.isclose(found.stored_before[-1], sum(found.index.frame_stored))


def test_a_chunk_counts_once(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    same = os.urandom(300_000)
    for name in ("one", "two"):
        (root / name).write_bytes(same)
    _, rows = trees.directory(opened(root), b"", 0, 100)
    assert rows[0]["stored_bytes"] > 299_000
    assert rows[1]["stored_bytes"] == 0


def test_what_cannot_be_looked_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    (root / "a.tgz").write_bytes(b"no archive")
    found = opened(root)
    archives = trees.Archives()
    with pytest.raises(InvalidParameter, match="no archive"):
        archives.listing(found, 0, Stop())
    with pytest.raises(NotFound):
        trees.find(found, "b.tgz!/x")
    monkeypatch.setattr(trees, "MAX_ARCHIVE_BYTES", 5)
    with pytest.raises(InvalidParameter, match="up to 5"):
        archives.listing(found, 0, Stop())


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=60))
def test_treemaps_fill_their_area(weights: list[int]) -> None:
    weights.sort(reverse=True)
    rects = drawing.treemap(weights)
    assert len(rects) == len(weights)
    area = drawing.TREEMAP_WIDTH * drawing.TREEMAP_HEIGHT
    for rect, weight in zip(rects, weights, strict=True):
        expected = area * weight / sum(weights)
        # Sides are rounded to a tenth.
        slack = 0.11 * (rect.width + rect.height) + 0.1
        assert abs(rect.width * rect.height - expected) <= slack
        assert rect.x >= 0
        assert rect.y >= 0
        assert rect.x + rect.width <= drawing.TREEMAP_WIDTH + 0.2
        assert rect.y + rect.height <= drawing.TREEMAP_HEIGHT + 0.2


def test_drawings_of_nothing() -> None:
    assert drawing.treemap([]) == []
    assert drawing.treemap([0, 0]) == [drawing.Rect(0, 0, 0, 0)] * 2
    assert drawing.cells([]) == []
    assert drawing.plot([])["points"] == []


@given(st.binary(min_size=1, max_size=60).filter(lambda raw: b"\0" not in raw))
def test_queries_keep_every_name(raw: bytes) -> None:
    name = os.fsdecode(raw)
    query = query_of({"app": name, "path": name, "offset": 7})
    found = parse(query.encode("ascii"), (APP, FILE, OFFSET))
    assert found == {"app": name, "path": name, "offset": 7}
