"""What refers to a version of a storage goes with the version, in a registry and in a layout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import packer
from packer.errors import NotFound
from packer.oci import Descriptor
from packer.stores.protocols import Store
from packer.stores.referrers import all_referrers
from tests.builders import write_release
from tests.referrers import check_signed, cosign_attachment, sign_all
from tests.registry_server import run_registry

pytestmark = pytest.mark.registry


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with run_registry(tmp_path_factory.mktemp("registry")) as server:
        yield server.host


@pytest.fixture(params=["registry", "layout"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "layout":
        return f"oci:{tmp_path / 'storage'}"
    host = request.getfixturevalue("host")
    return f"docker://{host}/org/{tmp_path.name.replace('_', '-').lower()}"


def save(storage: packer.Storage, folder: Path, count: int) -> list[Descriptor]:
    saved = [
        storage.save("app", write_release(folder / f"v{number}", number)) for number in range(count)
    ]
    return [shelf(storage).resolve(str(one.sequence)) for one in saved]


def shelf(storage: packer.Storage) -> Store:
    return storage._application("app").repository.store


@pytest.mark.parametrize("way", ["delete", "retain", "withdraw"])
def test_deleted_with_the_version(uri: str, tmp_path: Path, way: str) -> None:
    storage = packer.open_storage(uri)
    gone, kept = save(storage, tmp_path, 2)
    if way == "withdraw":  # only the newest may be withdrawn
        gone, kept = kept, gone
    store = shelf(storage)
    lost, stays = sign_all(store, gone), sign_all(store, kept)
    assert {one.sequence for one in storage.history("app")} == {0, 1}
    if way == "retain":
        assert storage.retain("app", keep=1).deleted == (0,)
    elif way == "delete":
        storage.delete("app", 0)
    else:
        storage.withdraw("app", 1)
    if uri.startswith("oci:"):
        store.collect_garbage(0)  # type: ignore[attr-defined]
    check_signed(store, stays)
    assert all_referrers(store, gone.digest) == ()
    for digest in set().union(*lost.attached.values()):
        with pytest.raises(NotFound):
            store.get_manifest(digest)
    for tag in lost.tags:
        with pytest.raises(NotFound):
            store.resolve(tag)
    names = {name for name, _ in store.tags()}  # type: ignore[attr-defined]
    assert {name for name in names if name.startswith("sha256-")} >= stays.tags.keys()
    assert not any(name.startswith(gone.digest.replace(":", "-")) for name in names)
    restored = storage.load("app", 1 if way != "withdraw" else 0, tmp_path / "out")
    assert restored.files > 0


def test_an_sbom_that_versions_share_stays(uri: str, tmp_path: Path) -> None:
    """Registries delete a manifest with all its tags."""
    storage = packer.open_storage(uri)
    gone, kept = save(storage, tmp_path, 2)
    store = shelf(storage)
    shared = cosign_attachment(store, gone, ".sbom")
    _, data = store.get_manifest(shared.digest)
    tag = kept.digest.replace(":", "-") + ".sbom"
    store.put_manifest(data, shared.media_type, tag)
    storage.delete("app", 0)
    assert store.resolve(tag).digest == shared.digest
    assert store.get_manifest(tag)[1] == data
    with pytest.raises(NotFound):
        store.resolve("0")


def test_signed_versions_are_saved_on_and_loaded(uri: str, tmp_path: Path) -> None:
    """Signatures in a repository do not disturb numbers, history, or the base of the next save."""
    storage = packer.open_storage(uri)
    (first,) = save(storage, tmp_path, 1)
    signed = sign_all(shelf(storage), first)
    saved = packer.open_storage(uri).save("app", write_release(tmp_path / "next", 1))
    assert (saved.sequence, saved.parent) == (1, first.digest)
    assert [one.sequence for one in storage.history("app")] == [0, 1]
    check_signed(shelf(storage), signed)
    cached = packer.open_storage(uri, cache=tmp_path / "cache")
    cached.load("app", 0, tmp_path / "out")
