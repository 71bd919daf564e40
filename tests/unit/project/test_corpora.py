"""The corpora builder, as far as it needs no network."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from benchmarks import corpora

PINS: dict[str, Any] = json.loads(corpora.PINS.read_text())


def pin_of(data: bytes) -> dict[str, Any]:
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), "client": "npm"}


def npm_package(names: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, data in names.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def test_pins_are_well_formed_and_complete() -> None:
    for name, pin in PINS["packages"].items():
        assert re.fullmatch(r"[0-9a-f]{64}", pin["sha256"]), name
        assert pin["bytes"] > 0
        assert pin["client"] in ("npm", "pip")
        assert re.search(r"(==|@)\d", pin["requirement"]), "a version is pinned"
    for corpus in PINS["corpora"].values():
        assert 3 <= len(corpus["versions"]) <= 5
        assert all(file in PINS["packages"] for files in corpus["versions"] for file in files)


def test_a_package_that_is_not_the_pinned_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tgz"
    path.write_bytes(b"other")
    with pytest.raises(corpora.CorpusError, match="pinned"):
        corpora.fetch("a.tgz", pin_of(b"bytes"), tmp_path)
    with pytest.raises(corpora.CorpusError, match="5 bytes"):
        corpora.fetch("a.tgz", pin_of(b"longer"), tmp_path)


@pytest.mark.parametrize("recipe", ["files", "unpack", "tar"])
def test_a_corpus_is_the_same_bytes_every_time(tmp_path: Path, recipe: str) -> None:
    old = npm_package({"package/b.js": b"b", "package/dir/a.js": b"a"})
    new = npm_package({"package/b.js": b"b2", "package/dir/a.js": b"a"})
    (tmp_path / "old.tgz").write_bytes(old)
    (tmp_path / "new.tgz").write_bytes(new)
    pins = {
        "packages": {"old.tgz": pin_of(old), "new.tgz": pin_of(new)},
        "corpora": {"x": {"recipe": recipe, "versions": [["old.tgz"], ["new.tgz"]]}},
    }
    trees = []
    for destination in (tmp_path / "one", tmp_path / "two"):
        root = corpora.build("x", pins, destination, tmp_path)
        files = sorted(path for path in root.rglob("*") if path.is_file())
        trees.append([(str(path.relative_to(root)), path.read_bytes()) for path in files])
    assert trees[0] == trees[1]
    names = [name for name, _ in trees[0]]
    assert (
        names
        == {
            "files": ["v1/old.tgz", "v2/new.tgz"],
            "unpack": ["v1/b.js", "v1/dir/a.js", "v2/b.js", "v2/dir/a.js"],
            "tar": ["v1/layer.tar", "v2/layer.tar"],
        }[recipe]
    )


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x"])
def test_a_name_that_climbs_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "evil.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, b"x")
    with pytest.raises(corpora.CorpusError, match="unsafe"):
        list(corpora.members(path))
