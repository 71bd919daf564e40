"""``oci://host/repository``, as Helm, Flux and Argo CD write it, is a registry everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

import packer
from packer.cli.main import main
from tests.hostile import HostileRegistry, hostile_registry


@pytest.fixture
def server() -> Iterator[HostileRegistry]:
    with hostile_registry() as server:
        yield server


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAYER_PACKER_STORE", str(tmp_path / "store"))
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a.txt").write_text("one\n" * 99)
    return tmp_path / "tree"


def test_every_call_and_verb(server: HostileRegistry, tree: Path) -> None:
    reference = f"oci://{server.host}/acme/app:1"
    packer.pack(tree, tag="app:1")
    packer.push(reference, "app:1")
    packer.pull(reference, "out")
    assert Path("out/a.txt").read_text() == (tree / "a.txt").read_text()
    assert packer.pack(tree, tag="app:2", base=reference).descriptor
    assert main(["ls", reference]) == 0
    assert main(["copy", reference, f"oci://{server.host}/acme/copy:1"]) == 0
    assert main(["doctor", reference]) == 0
    assert fsspec.open(f"layerpacker://{reference}/a.txt").open().read()[:3] == b"one"
    assert server.tags["1"]
    assert sorted(path.name for path in tree.parent.iterdir()) == ["out", "store", "tree"]


def test_a_storage(server: HostileRegistry, tree: Path) -> None:
    with packer.open_storage(f"oci://{server.host}/base") as storage:
        storage.save("app", tree)
        assert storage.apps() == ["app"]
    with packer.open_storage(f"docker://{server.host}/base") as storage:
        assert [saved.sequence for saved in storage.history("app")] == [0]
