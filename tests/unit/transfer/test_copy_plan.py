"""An estimate and the copy that follows it agree: both follow one plan."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from packer.errors import NotFound
from packer.stores.archive.store import ArchiveStore
from packer.stores.layout import LayoutStore
from packer.stores.manifests import read_graph
from packer.stores.memory import MemoryStore
from packer.stores.protocols import Store
from packer.stores.registry.store import RegistryStore
from packer.transfer.copy_cost import Estimate, estimate_copy
from packer.transfer.copy_graph import copy
from packer.transfer.promises import Promise
from tests.artifacts import make
from tests.registry_server import RegistryServer, run_registry

OLD, NEW = [100, 200, 300], [100, 200, 300, 400, 500]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    with run_registry(tmp_path_factory.mktemp("registry")) as server:
        yield server


@pytest.fixture
def whole() -> MemoryStore:
    store = MemoryStore()
    make(store, OLD, "v1")
    make(store, NEW, "v2")
    return store


def update_archive(whole: MemoryStore, path: Path) -> ArchiveStore:
    """Write version 2 to an archive that leaves out the blobs of version 1."""
    old = whole.resolve("v1")
    blobs = frozenset(blob.digest for blob in read_graph(whole.get_manifest("v1")[1], "v1").blobs)
    promise = Promise("v1", old.digest, blobs)
    copy(whole, "v2", ArchiveStore(str(path)), "v2", promises=[promise])
    return ArchiveStore(str(path))


def check(source: Store, destination: Store, tag: str = "v2") -> Estimate | None:
    """Compare an estimate with the copy after it; return None if both refuse."""
    try:
        expected = estimate_copy(source, "v2", destination, tag)
    except NotFound as refused:
        with pytest.raises(NotFound) as caught:
            copy(source, "v2", destination, tag)
        assert str(caught.value) == str(refused)
        return None
    done = copy(source, "v2", destination, tag)
    assert expected.blobs == done.blobs_copied + done.blobs_mounted
    assert expected.unchanged == done.unchanged
    assert expected.blobs_present == done.blobs_present
    moved = 0 if done.unchanged else done.bytes_copied + done.descriptor.size
    assert expected.bytes == moved
    return expected


_repositories = itertools.count()


@pytest.fixture(params=["registry", "layout", "memory"])
def destination(request: pytest.FixtureRequest, registry: RegistryServer, tmp_path: Path) -> Store:
    if request.param == "registry":
        return RegistryStore(f"{registry.host}/plans/{next(_repositories)}")
    return LayoutStore(tmp_path / "there") if request.param == "layout" else MemoryStore()


def sent(destination: Store, missing: int) -> int:
    """Return how many blobs of version 2 are sent: a registry is not asked for small ones."""
    return 6 if isinstance(destination, RegistryStore) else missing


@pytest.mark.registry
def test_empty_older_same_and_under_another_name(whole: MemoryStore, destination: Store) -> None:
    first = check(whole, destination)
    assert first is not None and first.blobs == 6
    again = check(whole, destination)
    assert again is not None and again.unchanged
    other = check(whole, destination, "other")
    assert other is not None and other.blobs == sent(destination, 0) and not other.unchanged


@pytest.mark.registry
def test_an_update(whole: MemoryStore, destination: Store) -> None:
    copy(whole, "v1", destination, "v1")
    found = check(whole, destination)
    assert found is not None and found.blobs == sent(destination, 2)


def test_an_archive_that_leaves_blobs_out(
    whole: MemoryStore, destination: Store, tmp_path: Path
) -> None:
    archive = update_archive(whole, tmp_path / "update.tar")
    assert check(archive, destination) is None
    copy(whole, "v1", destination, "v1")
    found = check(archive, destination)
    assert found is not None and found.blobs == 2


@pytest.mark.registry
def test_no_manifest_vouches_for_what_an_archive_leaves_out(
    whole: MemoryStore, registry: RegistryServer, tmp_path: Path
) -> None:
    # The dry run took the manifest's word for its blobs; the copy asked for each, and refused.
    archive = update_archive(whole, tmp_path / "update.tar")

    there = RegistryStore(f"{registry.host}/plans/forgetful")
    copy(whole, "v2", there, "v2")
    copy(whole, "v1", there, "v1")
    lost = read_graph(whole.get_manifest("v1")[1], "v1").layers[0].digest.removeprefix("sha256:")
    shutil.rmtree(registry.data / "docker/registry/v2/blobs/sha256" / lost[:2] / lost)
    assert check(archive, there, "v3") is None


def test_a_store_that_is_not_there_yet(whole: MemoryStore, tmp_path: Path) -> None:
    archive = update_archive(whole, tmp_path / "update.tar")
    with pytest.raises(NotFound, match="a store that is not there yet lacks 4 blobs"):
        estimate_copy(archive, "v2", None, None)
    assert estimate_copy(whole, "v2", None, None).blobs == 6
