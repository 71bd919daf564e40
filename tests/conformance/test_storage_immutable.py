"""A storage in a registry whose tags are immutable: a tag that was ever written is refused."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import packer
from packer import Storage, StoreError
from packer.stores.registry.transport.retries import RetryPolicy
from tests.builders import write_release
from tests.conformance.test_storage_registry import check_race, race
from tests.registry_server import run_registry
from tests.rule_proxy import Fault, RuleProxy, rule_proxy

pytestmark = pytest.mark.registry


class Immutable:
    """A rule for the proxy: a tag that was written is refused from then on."""

    def __init__(self) -> None:
        self.faults: dict[str, Fault] = {}
        """What happens to the writing of a tag that is not there."""
        self._written: set[str] = set()

    def __call__(self, method: str, path: str) -> Fault:
        tag = path.rpartition("/manifests/")[2]
        if method != "PUT" or "/manifests/" not in path or ":" in tag:
            return Fault.NONE
        return Fault.IMMUTABLE if path in self._written else self.faults.get(tag, Fault.NONE)

    def answered(self, method: str, path: str, status: int) -> None:
        if method == "PUT" and status == 201:
            self._written.add(path)


@pytest.fixture(scope="module", params=[True, False], ids=["deletes", "never deletes"])
def proxy(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RuleProxy]:
    folder = tmp_path_factory.mktemp("registry")
    with run_registry(folder, delete=request.param) as server, rule_proxy(server.port) as proxy:
        yield proxy


@pytest.fixture
def rule(proxy: RuleProxy) -> Immutable:
    proxy.rule = rule = Immutable()
    proxy.answered = rule.answered
    return rule


@pytest.fixture
def uri(proxy: RuleProxy, request: pytest.FixtureRequest) -> str:
    name = "".join(char if char.isalnum() else "-" for char in request.node.name).strip("-")
    return f"docker://{proxy.host}/{name.lower()}"


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RetryPolicy, "pause", lambda *_: 0.005)


def numbers(storage: Storage) -> list[int]:
    return [version.sequence for version in storage.history("2gKSUID")]


def test_eight_processes_save_at_once(rule: Immutable, uri: str, tmp_path: Path) -> None:
    given = race(uri, tmp_path, 8, 2)
    check_race(packer.open_storage(uri), given, tmp_path)
    assert packer.open_storage(uri).apps() == ["2gKSUID"]


def test_the_life_of_an_application(
    rule: Immutable, proxy: RuleProxy, uri: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    app, root = "2gKSUID", tmp_path / "v"
    for number in range(18):  # the history is gathered twice
        assert packer.open_storage(uri).save(app, write_release(root, number)).sequence == number
    for number in (3, 5, 4):
        packer.open_storage(uri).deploy(app, number)
    assert packer.open_storage(uri).rollback(app).sequence == 5
    log = packer.open_storage(uri).deployments(app)
    assert [entry.sequence for entry in log] == [3, 5, 4, 5]
    current = packer.open_storage(uri).current(app)
    assert current is not None and current.sequence == 5
    assert numbers(packer.open_storage(uri)) == list(range(18))
    storage = packer.open_storage(uri)
    storage.save_support_bundle("b", root)
    assert [bundle.id for bundle in packer.open_storage(uri).support_bundles()] == ["b"]
    if "never" in request.node.name:
        with pytest.raises(StoreError):
            storage.delete(app, 0)
        return
    storage.delete(app, 17)
    assert storage.retain(app, keep=2).kept == (4, 5, 15, 16)
    for number in (15, 16):
        storage.delete(app, number)
    assert storage.save(app, write_release(root, 99)).sequence == 18  # 17 is not given again
    for number in (4, 18):
        storage.delete(app, number)
    assert packer.open_storage(uri).save(app, root).sequence == 19
    names = storage._application(app).repository.names()
    assert sum(name.startswith("deployed-") for name in names) == 1
    assert sum(name.startswith("history-") for name in names) == 1
    assert not [name for name in names if name.startswith("claim-")]


def test_a_save_that_failed_can_be_repeated(rule: Immutable, uri: str, tmp_path: Path) -> None:
    root = write_release(tmp_path / "v", 0)
    rule.faults["0"] = Fault.ERROR_BEFORE
    with pytest.raises(StoreError):
        packer.open_storage(uri).save("2gKSUID", root)
    again = packer.open_storage(uri, patience_seconds=0.2)
    saved = again.save("2gKSUID", root)
    assert [saved.sequence] == numbers(again)
    assert again.apps() == ["2gKSUID"]


@pytest.mark.parametrize("fault", [Fault.ERROR_AFTER, Fault.CUT_AFTER], ids=lambda each: each.value)
def test_a_lost_answer_is_found_out_by_asking(
    rule: Immutable, uri: str, tmp_path: Path, fault: Fault
) -> None:
    # The tag was written, and the second attempt is refused: the version is saved all the same.
    rule.faults["0"] = fault
    storage = packer.open_storage(uri)
    assert storage.save("2gKSUID", write_release(tmp_path / "v", 0)).sequence == 0
    assert numbers(packer.open_storage(uri)) == [0]


def test_deployments_at_once_are_all_recorded(rule: Immutable, uri: str, tmp_path: Path) -> None:
    for number in range(3):
        packer.open_storage(uri).save("2gKSUID", write_release(tmp_path / "v", number))
    start = threading.Barrier(8)

    def deploy(writer: int) -> int:
        with packer.open_storage(uri) as storage:
            start.wait()
            return storage.deploy("2gKSUID", writer % 3).sequence

    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(deploy, range(8)))
    log = packer.open_storage(uri).deployments("2gKSUID")
    assert sorted(entry.sequence for entry in log) == sorted(done)
    current = packer.open_storage(uri).current("2gKSUID")
    assert current is not None and current.sequence == log[-1].sequence
