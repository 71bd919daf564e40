"""A thousand versions and 100,000 files: pages stay small, and lead to all of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import packer
from tests.serving import run_service

PAGE_BYTES = 300_000
"""A page is never larger than this."""


@pytest.mark.slow
def test_a_thousand_versions(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(3):
        (tree / "values.yaml").write_text(f"version: {number}\n")
        packer.pack(tree, tag=f"packed-{number}", store=tmp_path / "store")
    # A thousand names of three manifests, as index.json holds them.
    path = tmp_path / "store" / "index.json"
    index = json.loads(path.read_text())
    packed = index["manifests"]
    index["manifests"] = [
        {
            **packed[number % 3],
            "annotations": {"org.opencontainers.image.ref.name": f"app:1.0.{number}"},
        }
        for number in range(1000)
    ]
    path.write_text(json.dumps(index))
    with run_service(tmp_path / "store") as client:
        seen: list[str] = []
        while len(seen) < 1000:
            page = client.get(f"api/history?app=app&offset={len(seen)}&limit=200").json
            assert page["total"] == 1000
            seen += [row["version"] for row in page["versions"]]
        assert seen == [f"app:1.0.{number}" for number in reversed(range(1000))]
        for name in ("history?app=app&limit=200", "layers?app=app&limit=24&offset=500", "apps"):
            answer = client.get(name)
            assert answer.status == 200
            assert len(answer.body) < PAGE_BYTES, name


@pytest.mark.slow
def test_a_hundred_thousand_files(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for folder in range(100):
        (tree / f"d{folder:02}").mkdir(parents=True)
        for number in range(1000):
            (tree / f"d{folder:02}" / f"{number:04}").write_bytes(b"%d" % (number % 50))
    packer.pack(tree, tag="app:1", store=tmp_path / "store", durable=False)
    (tree / "d50" / "0500").write_text("changed")
    (tree / "d99" / "0999").unlink()
    packer.pack(tree, tag="app:2", store=tmp_path / "store", durable=False)
    with run_service(tmp_path / "store") as client:
        version = "app=app&version=app:2"
        assert client.get(f"api/version?{version}").json["files"] == 99_999
        root = client.get(f"api/tree?{version}").json
        assert (root["total"], root["entries"][50]["files"]) == (100, 1000)
        names: list[str] = []
        while len(names) < 1000:
            page = client.get(f"api/tree?{version}&path=d50&offset={len(names)}&limit=300").json
            names += [row["name"] for row in page["entries"]]
        assert names == [f"{number:04}" for number in range(1000)]
        pair = "app=app&old=app:1&new=app:2"
        changes = client.get(f"api/changes?{pair}").json["changes"]
        assert [row["path"] for row in changes] == ["d50/0500", "d99/0999"]
        everything = client.get(f"api/changes?{pair}&path=d50").json
        assert everything["total"] == 1
        for name in (
            f"version?{version}",
            f"version?{version}&path=d50",
            f"tree?{version}&path=d50",
            f"diff?{pair}",
        ):
            answer = client.get(name)
            assert answer.status == 200
            assert len(answer.body) < PAGE_BYTES, name
