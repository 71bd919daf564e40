"""A storage in a real registry that has lost, or was given, something under a number."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import packer
from packer import NotFound, Storage, UnsupportedVersion
from packer.stores.registry.transport.retries import RetryPolicy
from tests.registry_server import RegistryServer, run_registry

pytestmark = pytest.mark.registry


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    with run_registry(tmp_path_factory.mktemp("registry")) as server:
        yield server


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RetryPolicy, "pause", lambda *_: 0.005)


@pytest.fixture
def base(server: RegistryServer, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URI of a base with four versions of "app"."""
    uri = f"docker://{server.host}/{request.node.name.replace('_', '-')}"
    root = tmp_path / "v"
    root.mkdir()
    with packer.open_storage(uri) as storage:
        for number in range(4):
            (root / "app.yaml").write_text(f"version: {number}\n")
            storage.save("app", root)
    return uri


def manifests(server: RegistryServer, base: str) -> Path:
    name = base.rpartition("/")[2]
    return server.data / "docker/registry/v2/repositories" / name / "app/_manifests"


def lose_manifest(server: RegistryServer, base: str, sequence: int) -> None:
    """As a garbage collection beside writers leaves it."""
    digest = packer.open_storage(base).history("app")[sequence].digest
    revisions = manifests(server, base) / "revisions/sha256"
    shutil.rmtree(revisions / digest.removeprefix("sha256:"))


def numbers(storage: Storage) -> list[int]:
    return [version.sequence for version in storage.history("app")]


def test_a_tag_whose_manifest_is_gone_is_not_counted(
    server: RegistryServer, base: str, caplog: pytest.LogCaptureFixture
) -> None:
    lose_manifest(server, base, 3)
    storage = packer.open_storage(base)
    done = storage.retain("app", keep=1)
    assert (done.deleted, done.kept, done.skipped) == ((0, 1), (2,), (3,))
    assert done.kept_bytes > 0
    assert numbers(storage) == [2]
    assert ":3 has no manifest" in caplog.text
    assert storage.retain("app", keep=1).deleted == ()
    with pytest.raises(NotFound, match="version not found: 3"):
        storage.deploy("app", 3)
    storage.delete("app", 3)
    assert "3" not in storage._application("app").repository.names()
    with pytest.raises(NotFound, match="version not found: 3"):
        storage.delete("app", 3)


def test_an_old_tag_whose_manifest_is_gone_is_removed(server: RegistryServer, base: str) -> None:
    lose_manifest(server, base, 0)
    storage = packer.open_storage(base)
    assert storage.retain("app", keep=2).deleted == (0, 1)
    assert storage._application("app").repository.names() & {"0", "1", "2", "3"} == {"2", "3"}


def test_what_an_interrupted_deletion_left_is_no_version(base: str, tmp_path: Path) -> None:
    storage = packer.open_storage(base)
    storage._application("app").repository.put_note("1", {})
    with pytest.raises(UnsupportedVersion, match=r"1 of app in .* is no version"):
        storage.deploy("app", 1)
    with pytest.raises(UnsupportedVersion, match=r"1 of app in .* is no version"):
        storage.load("app", 1, tmp_path / "out")
    assert numbers(packer.open_storage(base)) == [0, 2, 3]
    assert storage.retain("app", keep=2).deleted == (0, 1)
    assert numbers(storage) == [2, 3]


def test_a_foreign_artifact_under_a_number_is_left_alone(base: str) -> None:
    storage = packer.open_storage(base)
    repository = storage._application("app").repository
    _, data = repository.store.get_manifest("1")
    foreign = data.replace(b"application/vnd.layer-packer.version.v1", b"text/x-of-somebody-else")
    assert foreign != data
    for tag in ("1", "latest"):
        repository.store.put_manifest(foreign, "application/vnd.oci.image.manifest.v1+json", tag)
    done = storage.retain("app", keep=2)
    assert (done.deleted, done.kept, done.skipped) == ((0,), (2, 3), (1,))
    # Told to, a storage removes it from its numbers; not what its owner calls it.
    storage.delete("app", 1)
    assert "1" not in repository.names()
    assert repository.store.get_manifest("latest")[1] == foreign


def test_a_number_that_the_registry_fails_to_read_fails_alone(
    server: RegistryServer, base: str, caplog: pytest.LogCaptureFixture
) -> None:
    (manifests(server, base) / "tags/2/current/link").write_bytes(b"")
    storage = packer.open_storage(base)
    assert numbers(storage) == [0, 1, 3]
    assert ":2 cannot be read" in caplog.text
    done = storage.retain("app", keep=2)
    assert (done.deleted, done.kept, done.skipped) == ((0,), (1, 3), (2,))
    storage.delete("app", 2)
    # docker-registry deletes a manifest, and then fails at the broken tag: 0 was half deleted.
    storage.retain("app", keep=2)
    caplog.clear()
    assert numbers(packer.open_storage(base)) == [1, 3]
    assert not caplog.text
