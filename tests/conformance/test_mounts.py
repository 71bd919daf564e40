"""Blobs mounted between the repositories of one docker-registry, and the requests it takes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import packer
from packer.cli.main import main
from packer.errors import NotFound
from packer.stores.memory import MemoryStore
from packer.stores.registry.settings import Settings
from packer.stores.registry.store import RegistryStore
from packer.transfer.copy_graph import copy
from tests.artifacts import make_version
from tests.builders import noise
from tests.conformance.make_samples import read_tree
from tests.registry_server import (
    PASSWORD,
    USER,
    CountingProxy,
    RegistryServer,
    counting_proxy,
    run_registry,
    token_service,
)

pytestmark = pytest.mark.registry


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    with run_registry(tmp_path_factory.mktemp("mounts")) as made:
        yield made


@pytest.fixture
def proxy(server: RegistryServer) -> Iterator[CountingProxy]:
    with counting_proxy(server.port) as made:
        yield made


@pytest.fixture
def app(tmp_path: Path) -> Path:
    folder = tmp_path / "app"
    folder.mkdir()
    for number in range(4):
        (folder / f"file{number}").write_bytes(noise(f"file {number}", 300_000))
    return folder


def test_a_copy_between_repositories_moves_no_bytes(proxy: CountingProxy) -> None:
    memory = MemoryStore()
    made = make_version(memory)
    first, second = (RegistryStore(f"{proxy.host}/beside/{name}") for name in "ab")
    copy(memory, "v1", first, "v1")
    proxy.clear()
    result = copy(first, "v1", second, "v2")
    assert (result.blobs_mounted, result.blobs_copied, result.blobs_present) == (10, 0, 0)
    assert result.bytes_mounted == (8 << 20) + 700 + 7
    # The manifest is read, its name and parent asked for, each blob mounted, the manifest put; and
    # it is asked what refers to the version: a list, by API or tag, and cosign's three tags.
    assert proxy.count("POST") == 10
    assert proxy.count() <= 10 + 4 + 5
    assert sum(proxy.answers) < 10_000
    target = MemoryStore()
    copy(second, made.digest, target, None)
    assert target.get_manifest(made.digest) == memory.get_manifest("v1")
    # --force sends all of it.
    assert copy(first, "v1", second, "v3", force=True).blobs_copied == 10


def test_verify_reads_what_was_mounted(proxy: CountingProxy) -> None:
    memory = MemoryStore()
    make_version(memory, count=3)
    first, second = (RegistryStore(f"{proxy.host}/verified/{name}") for name in "ab")
    copy(memory, "v1", first, "v1")
    proxy.clear()
    result = copy(first, "v1", second, "v1", verify=True)
    assert (result.blobs_mounted, result.blobs_copied) == (5, 0)
    read = [
        path
        for method, path, status in proxy.requests
        if (method, status) == ("GET", 200) and "/verified/b/blobs/" in path
    ]
    assert len(read) == len(set(read)) == 5


def test_not_between_registries(server: RegistryServer, tmp_path: Path) -> None:
    # Another port is another registry, though the machine and here even the data are the same.
    memory = MemoryStore()
    make_version(memory, count=2)
    with counting_proxy(server.port) as other:
        copy(memory, "v1", RegistryStore(f"{server.host}/ports/a"), "v1")
        result = copy(
            RegistryStore(f"{server.host}/ports/a"), "v1", RegistryStore(f"{other.host}/b"), "v1"
        )
        assert (result.blobs_mounted, result.blobs_copied) == (0, 4)
        assert other.count("POST") == 4
    assert RegistryStore("r.example/a").neighbour(RegistryStore("r.example/b")) == "b"
    for same, another in (
        ("r.example/a", "r.example/a"),
        ("r.example/a", "r.example:444/b"),
        ("r.example/a", "s.example/b"),
    ):
        assert RegistryStore(same).neighbour(RegistryStore(another)) is None
    plain = RegistryStore("r.example:443/b", Settings(plain_http=True))
    assert RegistryStore("r.example/a").neighbour(plain) is None
    assert RegistryStore("r.example/a").neighbour(memory) is None


def test_interrupted_copies_go_on(proxy: CountingProxy) -> None:
    # What was mounted before is mounted again, at the one request that asking would take as well.
    memory = MemoryStore()
    make_version(memory)
    first, second = (RegistryStore(f"{proxy.host}/again/{name}") for name in "ab")
    copy(memory, "v1", first, "v1")
    copy(first, "v1", second, "v1")
    proxy.clear()
    assert copy(first, "v1", second, "v2").unchanged is False
    assert proxy.count("PUT") == 1
    assert proxy.count() <= 10 + 4 + 5


def test_tokens_ask_for_both_repositories(tmp_path: Path) -> None:
    memory = MemoryStore()
    make_version(memory, count=4)
    login = {"username": USER, "password": PASSWORD}
    with token_service(tmp_path) as service, run_registry(tmp_path, realm=service.realm) as server:

        def repository(name: str) -> RegistryStore:
            return RegistryStore(f"{server.host}/{name}", Settings(**login))  # type: ignore[arg-type]

        copy(memory, "v1", repository("near/app"), "v1")
        service.granted.clear()
        result = copy(repository("near/app"), "v1", repository("far/app"), "v1")
        assert (result.blobs_mounted, result.blobs_copied) == (6, 0)
        both = "repository:far/app:pull,push repository:near/app:pull"
        assert service.granted == [
            "repository:near/app:pull",
            "repository:far/app:pull,push",
            both,
        ]
        # Who may read the one and write the other, but not by one token, still gets there.
        reader = repository("near/app")
        reader.get_manifest("v1")
        service.granted.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(service, "refused", {"near/app"})
            result = copy(reader, "v1", repository("third/app"), "v1")
        assert (result.blobs_mounted, result.blobs_copied) == (0, 6)
        assert len([scope for scope in service.granted if " " in scope]) <= 4
        target = MemoryStore()
        copy(repository("third/app"), "v1", target, "v1")
        assert target.get_manifest("v1") == memory.get_manifest("v1")


def test_a_push_knows_where_its_base_came_from(
    proxy: CountingProxy, app: Path, tmp_path: Path
) -> None:
    builder = str(tmp_path / "builder")
    packer.pack(app, store=builder, tag="app:1")
    packer.push(f"{proxy.host}/vendor/app:1", "app:1", store=builder)
    # Elsewhere that version is pulled, changed a little, and pushed to a repository of its own.
    store = str(tmp_path / "store")
    packer.pull(f"{proxy.host}/vendor/app:1", tmp_path / "out", store=store)
    with (app / "file1").open("ab") as file:
        file.write(noise("more", 1000))
    packer.pack(app, store=store, tag="app:2", base=f"{proxy.host}/vendor/app:1")
    found = packer.estimate("app:2", f"{proxy.host}/fork/app:2", store=store)
    proxy.clear()
    done = packer.push(f"{proxy.host}/fork/app:2", "app:2", store=store)
    assert (done.blobs_mounted, done.blobs_copied) == (2, 2)  # data, and the index it builds on
    assert done.bytes_mounted > 1_200_000
    assert done.bytes_copied < 10_000
    assert (found.mountable_blobs, found.mountable_bytes) == (2, done.bytes_mounted)
    assert found.blobs == 4
    assert proxy.count() <= found.requests
    packer.pull(f"{proxy.host}/fork/app:2", tmp_path / "out2", store=MemoryStore())
    assert read_tree(tmp_path / "out2") == read_tree(app)
    # What is there is vouched for by the version before, as ever.
    with (app / "file2").open("ab") as file:
        file.write(noise("still more", 1000))
    packer.pack(app, store=store, tag="app:3", base="app:2")
    done = packer.push(f"{proxy.host}/fork/app:3", "app:3", store=store)
    assert done.blobs_mounted == 0
    assert done.blobs_present >= 2


def test_a_far_base_is_mounted_in_another_repository(
    proxy: CountingProxy, app: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The store holds nothing of the base's data: only the registry can bring it to the other place.
    builder, store = str(tmp_path / "builder"), str(tmp_path / "store")
    packer.pack(app, store=builder, tag="app:1")
    packer.push(f"{proxy.host}/left/app:1", "app:1", store=builder)
    with (app / "file1").open("ab") as file:
        file.write(noise("more", 1000))
    packed = packer.pack(app, store=store, tag="app:2", base=f"{proxy.host}/left/app:1")
    words = ["push", f"{proxy.host}/right/app:2", "--from", "app:2", "--store", store]
    assert main([*words, "--dry-run"]) == 0
    assert "if it mounts blobs" in capsys.readouterr().out
    assert main([*words, "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert done["mounted_blobs"] >= 1
    assert done["mounted_bytes"] > 1_000_000
    assert done["copied_bytes"] < 10_000
    pulled = packer.pull(f"{proxy.host}/right/app:2", tmp_path / "out", store=MemoryStore())
    assert pulled.digest == packed.digest
    assert read_tree(tmp_path / "out") == read_tree(app)
    # Another registry cannot, and says what is missing first.
    with (
        counting_proxy(int(proxy.host.partition(":")[2])) as other,
        pytest.raises(NotFound, match="copy that version there first"),
    ):
        packer.push(f"{other.host}/elsewhere/app:2", "app:2", store=store)


def test_a_strangers_layout_says_not_where_to_mount_from(
    proxy: CountingProxy, app: Path, tmp_path: Path
) -> None:
    # Its notes would have blobs that only this user may read put where others can.
    builder, store = str(tmp_path / "builder"), str(tmp_path / "store")
    packer.pack(app, store=builder, tag="app:1")
    packer.push(f"{proxy.host}/secret/app:1", "app:1", store=builder)
    with (app / "file1").open("ab") as file:
        file.write(noise("more", 1000))
    packer.pack(app, store=store, tag="app:2", base=f"{proxy.host}/secret/app:1")
    proxy.clear()
    with pytest.raises(NotFound):
        packer.copy(f"oci:{store}:app:2", f"{proxy.host}/public/app:2", store=tmp_path / "own")
    assert proxy.count("POST") == 0
