"""Where names are looked up: the local store first, without making one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import packer
from packer.cli.main import main
from packer.errors import InvalidParameter, NotFound
from packer.stores.memory import MemoryStore
from tests.hostile import HostileRegistry, hostile_registry


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HostileRegistry]:
    """Yield a registry with two versions, and leave no environment that names a store."""
    for name in ("LAYER_PACKER_STORE", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    root = tmp_path / "app"
    root.mkdir()
    with hostile_registry() as server:
        for tag in ("1", "2"):
            (root / "file").write_text(f"content {tag}")
            packer.pack(root, tag=f"app:{tag}", store=tmp_path / "vendor")
            packer.push(f"{server.host}/app:{tag}", f"app:{tag}", store=tmp_path / "vendor")
        yield server


def verbs(server: HostileRegistry, folder: Path) -> list[list[str]]:
    one, two = (f"{server.host}/app:{tag}" for tag in (1, 2))
    return [
        ["ls", one],
        ["cat", one, "file"],
        ["diff", one, two],
        ["inspect", one],
        ["verify", one],
        ["inventory", one],
        ["unpack", one, str(folder / "out")],
        ["copy", one, f"{server.host}/other:1"],
        ["copy", one, two, "--dry-run"],
        ["pull", one, str(folder / "out2"), "--dry-run"],
        ["versions"],
        ["inventory"],
    ]


@pytest.mark.parametrize("home", ["missing", "file/home"])
def test_verbs_about_a_registry_need_no_home(
    server: HostileRegistry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    home: str,
) -> None:
    # The default store was made to look a name up in it: with HOME=/dev/null, or a read-only
    # one, none of these verbs worked.
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HOME", str(tmp_path / home))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    for words in verbs(server, tmp_path):
        assert main(words) == 0, (words, capsys.readouterr().err)
    assert (tmp_path / "out" / "file").read_text() == "content 1"
    assert not (tmp_path / "missing").exists()
    # Those that write to it make it, or say why not.
    code = main(["pull", f"{server.host}/app:1", str(tmp_path / "pulled")])
    assert code == (0 if home == "missing" else 9), capsys.readouterr().err
    assert (tmp_path / "missing").exists() == (home == "missing")


def test_a_pulled_name_means_the_local_copy(server: HostileRegistry, tmp_path: Path) -> None:
    # What docs/cli.md says under "Names".
    store, name = tmp_path / "store", f"{server.host}/app:1"
    packer.pull(name, tmp_path / "out", store=store)
    newest = packer.open_store(tmp_path / "vendor").resolve("app:2").digest
    packer.push(name, "app:2", store=tmp_path / "vendor")

    def content(name: str) -> bytes:
        return b"".join(packer.cat(name, "file", store=store))

    requests = len(server.seen)
    assert content(name) == b"content 1"
    assert len(server.seen) == requests
    assert content(f"docker://{name}") == b"content 2"
    assert content(f"{name}@{newest}") == b"content 2"
    packer.pull(name, tmp_path / "out", store=store, update=True)
    assert content(name) == b"content 2"


def test_looking_up_makes_no_store(tmp_path: Path, app: Path) -> None:
    store = tmp_path / "typo"
    for call in (packer.ls, packer.verify, packer.inspect):
        with pytest.raises(NotFound, match="typo"):
            call("app:1", store=store)
    with pytest.raises(NotFound):
        packer.push("registry.example/app:1", "app:1", store=store)
    with pytest.raises(NotFound):
        packer.push("registry.example/app:1", store=store)
    assert packer.versions(store=store) == []
    assert not store.exists()
    # A push of a directory packs it: then there is a store.
    packer.push(f"oci:{tmp_path / 'to'}:1", app, store=store)
    assert store.exists()
    assert len(packer.versions(store=store)) == 1


@pytest.fixture
def app(tmp_path: Path) -> Path:
    root = tmp_path / "app-1"
    root.mkdir()
    (root / "file").write_text("x")
    return root


def test_a_store_named_in_bytes(tmp_path: Path, app: Path) -> None:
    path = os.fsencode(tmp_path / "store")
    packed = packer.pack(app, tag="app:1", store=path)
    (row,) = packer.versions(store=path)
    assert (row.tag, row.digest) == ("app:1", packed.digest)
    assert packer.versions(store=os.fsdecode(path)) == packer.versions(store=path)
    with packer.open_store(path).fetch(packed.descriptor) as reader:
        assert reader.read()


def test_a_home_that_may_not_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    # As in a container that runs as another user than its image was made for.
    def refuse(path: str) -> list[str]:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "listdir", refuse)
    monkeypatch.setenv("LAYER_PACKER_STORE", "/root-of-another/store")
    assert isinstance(packer.open_store(create=False), MemoryStore)
    with pytest.raises(PermissionError):
        packer.open_store()
    with pytest.raises(PermissionError):
        packer.open_store("/root-of-another/store", create=False)


def test_no_home_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # OpenShift's random user ids have no entry in passwd: the store was made in a directory "~".
    def no_entry(_: int) -> None:
        raise KeyError

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pwd.getpwuid", no_entry)
    for name in ("HOME", "XDG_DATA_HOME", "LAYER_PACKER_STORE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InvalidParameter, match="name a directory with --store or LAYER_PACKER_ST"):
        packer.open_store()
    assert isinstance(packer.open_store(create=False), MemoryStore)
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="name a directory with --store"):
        packer.open_store()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
