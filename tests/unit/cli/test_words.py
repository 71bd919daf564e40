"""Errors and reports in words that a reader can act on."""

from __future__ import annotations

import json
import os
import tarfile
from pathlib import Path

import pytest

from packer.cli.main import main

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two versions, and the working directory beside their tree."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAYER_PACKER_STORE", str(tmp_path / "store"))
    tree = tmp_path / "app"
    (tree / "old").mkdir(parents=True)
    (tree / "a").write_bytes(b"a" * 1000)
    (tree / "noise").write_bytes(os.urandom(200_000))
    with tarfile.open(tree / "t.tgz", "w:gz") as archive:
        archive.add(tree / "a", "a")
    assert main(["pack", "app", "--tag", "app:1", "-q"]) == 0
    (tree / "old").rmdir()
    (tree / "new").mkdir()
    (tree / "link").symlink_to("a")
    (tree / "a").chmod(0o755)
    assert main(["pack", "app", "--tag", "app:2", "-q"]) == 0
    return tmp_path / "store"


def said(capsys: Capture, *words: str) -> tuple[int, str]:
    capsys.readouterr()
    code = main(list(words))
    read = capsys.readouterr()
    return code, (read.err or read.out).strip()


def test_a_target_that_is_a_file(store: Path, capsys: Capture) -> None:
    Path("file.zip").touch()
    code, text = said(capsys, "unpack", "app:1", "file.zip")
    assert (code, "not empty" in text) == (8, False)
    assert "target is not a directory: " in text


def test_a_path_that_is_not_there(store: Path, capsys: Capture) -> None:
    for path in ("nope", "t.tgz!/nope"):
        assert said(capsys, "cat", "app:1", path, "--inside") == (
            3,
            f"layer-packer: path not found: {path} (in app:1)",
        )


def test_differences_of_what_is_no_file(store: Path, capsys: Capture) -> None:
    code, text = said(capsys, "diff", "app:1", "app:2")
    assert code == 0
    assert text.splitlines() == [
        "WAS     NOW  CHANGED  PATH",
        "~  1.0 KB  1.0 KB      0 B  a  (mode 0644 to 0755)",
        "+                           link  (symlink)",
        "+                           new  (directory)",
        "-                           old  (directory)",
        "2 added, 1 removed, 1 changed; 0 B of content changed",
    ]
    found = json.loads(said(capsys, "diff", "app:1", "app:2", "--json")[1])["changes"]
    assert [change.get("detail") for change in found] == [
        "mode 0644 to 0755", "symlink", "directory", "directory",
    ]  # fmt: skip


@pytest.mark.parametrize("verb", [["unpack", "app:1", "out"], ["cat", "app:1", "noise"],
                                  ["verify", "app:1"]])  # fmt: skip
def test_a_blob_that_was_deleted(store: Path, capsys: Capture, verb: list[str]) -> None:
    largest = max((store / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    largest.unlink()
    code, text = said(capsys, *verb)
    assert code == 3
    assert f"blob not found: sha256:{largest.name}" in text
    assert "needed by 3 files (a, noise, t.tgz), and listed by 2 versions (app:1, app:2)" in text


def test_an_index_that_was_deleted(store: Path, capsys: Capture) -> None:
    (first,) = json.loads((store / "index.json").read_text())["manifests"][:1]
    manifest = json.loads((store / "blobs/sha256" / first["digest"][7:]).read_text())
    layer = manifest["layers"][-1]["digest"]
    (store / "blobs/sha256" / layer[7:]).unlink()
    code, text = said(capsys, "ls", "app:1")
    assert code == 3
    assert layer in text
    assert "and listed by 2 versions (app:1, app:2)" in text


@pytest.mark.parametrize("scheme", ["docker:/", "docker:"])
def test_registries_with_another_prefix(store: Path, capsys: Capture, scheme: str) -> None:
    code, text = said(capsys, "pull", f"{scheme}r.example/app:1", "out")
    assert code == 2
    assert "a registry is written r.example/app:1 or docker://r.example/app:1" in text
