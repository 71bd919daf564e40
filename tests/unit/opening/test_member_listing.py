"""Looking into archives, and where bytes went."""

from __future__ import annotations

import gzip
import io
import os
import random
import tarfile
import zipfile
from pathlib import Path

import pytest

import packer
from packer.opening import member_listing


def tar(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def tgz(members: dict[str, bytes]) -> bytes:
    return gzip.compress(tar(members), mtime=0)


def zipped(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


def values(count: int, changed: str = "") -> bytes:
    rng = random.Random(1)
    lines = [f"key{at}: {rng.getrandbits(64):x}" for at in range(count)]
    return ("\n".join(lines) + changed).encode()


def names(data: bytes, most: int = 1 << 30) -> list[tuple[str, int]]:
    return [(item.path, item.size) for item in member_listing.members([data], most)]


def test_members_at_any_depth() -> None:
    inner = tgz({"x/a.txt": b"a" * 700})
    outer = tgz({"charts/x.tgz": inner, "b.whl": zipped({"p/m.py": b"pass"}), "empty": b""})
    assert names(outer) == [
        ("charts/x.tgz", len(inner)),
        ("charts/x.tgz!/x/a.txt", 700),
        ("b.whl", len(zipped({"p/m.py": b"pass"}))),
        ("b.whl!/p/m.py", 4),
        ("empty", 0),
    ]
    assert b"".join(member_listing.find([outer], "charts/x.tgz!/x/a.txt", 1 << 20)) == b"a" * 700
    assert names(gzip.compress(b"text")) == [("content", 4)]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"plain",
        b"\x1f\x8b\x08",
        b"PK\3\4 no archive",
        gzip.compress(b"x" * 4000, mtime=0)[:-30],
        b"\x1f\x8b\x08" + bytes(600),
    ],
)
def test_no_archive_is_no_error(data: bytes) -> None:
    assert [name for name, _ in names(data) if name != "content"] == []


def test_a_bomb_ends_early() -> None:
    bomb = gzip.compress(tar({"zeros": bytes(1 << 24), "more": b"x"}))
    assert names(bomb, most=1 << 20) == []
    with pytest.raises(KeyError):
        list(member_listing.find([bomb], "other", 1 << 30))


def test_diff_ls_and_cat_inside(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    for number, changed in ((1, ""), (2, "\nnew: line")):
        root = tmp_path / f"v{number}"
        root.mkdir()
        chart = {"app/values.yaml": values(2000, changed), "app/Chart.yaml": b"name: app"}
        (root / f"app-1.4.{number}.tgz").write_bytes(tgz(chart))
        (root / "same.tgz").write_bytes(tgz({"one": b"1" * 600}))
        (root / "lib.zip").write_bytes(zipped({"a": values(99), f"b{number}": b"b"}))
        packer.pack(root, store=store, tag=f"app:{number}")
    plain = packer.diff("app:1", "app:2", store=store)
    assert not any(change.inside for change in plain)
    changes = packer.diff("app:1", "app:2", store=store, inside=True)
    assert [change for change in changes if not change.inside] == plain
    assert {(change.change, change.path) for change in changes if change.inside} == {
        ("changed", "app-1.4.2.tgz!/app/values.yaml"),
        ("removed", "lib.zip!/b1"),
        ("added", "lib.zip!/b2"),
    }
    listed = packer.ls("app:2", store=store, inside=True)
    assert [item.path for item in listed if item.kind == "member"] == [
        "app-1.4.2.tgz!/app/values.yaml",
        "app-1.4.2.tgz!/app/Chart.yaml",
        "lib.zip!/a",
        "lib.zip!/b2",
        "same.tgz!/one",
    ]
    path = "app-1.4.2.tgz!/app/Chart.yaml"
    assert b"".join(packer.cat("app:2", path, store=store, inside=True)) == b"name: app"
    for missing in ("app-1.4.2.tgz!/nothing", "nothing!/x"):
        with pytest.raises(packer.NotFound):
            list(packer.cat("app:2", missing, store=store, inside=True))
    with pytest.raises(packer.NotFound):
        list(packer.cat("app:2", path, store=store))


def test_where_the_bytes_went(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    noise = random.Random(2).randbytes(300_000)
    root = tmp_path / "v"
    for name in ("one", "two"):
        (root / name).mkdir(parents=True)
    (root / "one" / "noise").write_bytes(noise)
    (root / "two" / "copy").write_bytes(noise)
    (root / "two" / "chart.tgz").write_bytes(tgz({"values.yaml": values(9000)}))
    first = packer.pack(root, store=store, tag="app:1")
    parts = {part.path: part for part in first.parts}
    assert parts["one"].new_bytes == parts["two"].reused_bytes == 300_000
    assert parts["one"].stored_bytes + parts["two"].stored_bytes <= first.new_bytes
    assert sum(part.bytes for part in parts.values()) == first.bytes
    (root / "two" / "chart.tgz").write_bytes(tgz({"values.yaml": values(9000, "\nnew: 1")}))
    second = packer.pack(root, store=store, tag="app:2")
    parts = {part.path: part for part in second.parts}
    assert parts["one"].reused_bytes == 300_000
    assert parts["one"].stored_bytes == 0
    assert parts["two"].delta_bytes > 0
    assert 0 < parts["two"].stored_bytes + second.index_bytes < second.new_bytes < 3000
    details = packer.inspect("app:2", store=store)
    assert details.parts == second.parts
    (chart,) = details.opened
    assert chart.path == os.path.join("two", "chart.tgz")
    assert chart.content_bytes > chart.bytes > 0 < chart.recipe_bytes < 1000
    again = packer.pack(root, store=store, tag="app:3")
    assert again.unchanged
    assert all(part.stored_bytes == part.new_bytes == 0 for part in again.parts)
