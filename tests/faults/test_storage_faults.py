"""Every write of a storage in a real registry fails, one after the other.

With LAYER_PACKER_ALL_FAULTS set, each of them in every way; that takes some minutes.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import packer
from packer import NotFound, RegistryOptions, Storage, StoreError
from packer.stores.registry.transport.retries import RetryPolicy
from tests.registry_server import RegistryServer, run_registry
from tests.rule_proxy import SILENT, WRITES, Fault, RuleProxy, rule_proxy

pytestmark = [pytest.mark.registry, pytest.mark.slow]

APP = "2gKSUID"
SAVED = range(5)
DEPLOYED = (1, 2, 4, 3)
"""What was deployed; 3 is, and a rollback goes to 4."""
BUNDLES = ("b-0", "b-1")
FAULTS = [
    fault for fault in Fault if fault not in (Fault.NONE, Fault.IMMUTABLE) and fault not in SILENT
]
FIRST = range(len(FAULTS) if os.environ.get("LAYER_PACKER_ALL_FAULTS") else 1)
"""The first write fails in this way, the next in the next one; or each in every way."""
_names = itertools.count()


def content(name: object) -> dict[str, bytes]:
    return {
        "image.bin": random.Random(7).randbytes(100_000),
        "app.yaml": f"version: {name}\n".encode() * 40,
    }


def write(root: Path, name: object) -> Path:
    root.mkdir(exist_ok=True)
    for path, data in content(name).items():
        (root / path).write_bytes(data)
    return root


@dataclass
class Setting:
    """A registry, a proxy in front of it, and a storage's repositories to copy."""

    server: RegistryServer
    proxy: RuleProxy
    folder: Path

    def copy(self, kind: str) -> str:
        """Return the name of a new base that holds what the one of this kind does."""
        name = f"copy{next(_names)}"
        repositories = self.server.data / "docker/registry/v2/repositories/org"
        if (repositories / kind).exists():
            shutil.copytree(repositories / kind, repositories / name)
        return name

    def storage(self, name: str, *, proxied: bool = False) -> Storage:
        host = self.proxy.host if proxied else self.server.host
        return packer.open_storage(
            f"docker://{host}/org/{name}",
            jobs=1,
            patience_seconds=0.3,
            registry=RegistryOptions(timeout_seconds=0.5 if proxied else 60),
        )


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    folder = tmp_path_factory.mktemp("registry")
    with run_registry(folder) as server, rule_proxy(server.port) as proxy:
        setting = Setting(server, proxy, tmp_path_factory.mktemp("versions"))
        for kind, count in (("few", len(SAVED)), ("seven", 7)):
            storage = setting.storage(kind)
            for number in range(count):
                storage.save(APP, write(setting.folder / "v", number), labels={"n": str(number)})
            for number in DEPLOYED:
                storage.deploy(APP, number)
            for bundle in BUNDLES:
                storage.save_support_bundle(bundle, write(setting.folder / "b", bundle))
        yield setting


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RetryPolicy, "pause", lambda *_: 0.005)


@dataclass(frozen=True)
class Work:
    """Something that writes.

    Args:
        run: does it; the directory holds what is to be saved.
        kind: of base it begins with: "few", "seven" or "none".
        saves: a version is added; under a number of the caller's, if one is given.
        may_remove: versions that are gone afterwards.
        current: what is deployed afterwards.
        again: errors that a second try may end with, as the first one did its work.
    """

    run: Callable[[Storage, Path], object]
    kind: str = "few"
    saves: bool = False
    may_remove: frozenset[int] = frozenset()
    current: int = 3
    again: tuple[type[packer.PackerError], ...] = ()


def save(storage: Storage, root: Path) -> packer.SavedVersion:
    return storage.save(APP, root, labels={"n": "new"})


def save_chosen(storage: Storage, root: Path) -> packer.SavedVersion:
    return storage.save(APP, root, labels={"n": "new"}, sequence=9)


def save_bundle(storage: Storage, root: Path) -> object:
    return storage.save_support_bundle("new", root)


WORKS = {
    "first save": Work(save, "none", saves=True),
    "save": Work(save, saves=True),
    "save and gather": Work(save, "seven", saves=True),
    "save chosen": Work(save_chosen, saves=True),
    "delete": Work(
        lambda storage, _: storage.delete(APP, 0), may_remove=frozenset({0}), again=(NotFound,)
    ),
    "delete the greatest": Work(
        lambda storage, _: storage.delete(APP, 4), may_remove=frozenset({4}), again=(NotFound,)
    ),
    "retain": Work(
        lambda storage, _: storage.retain(APP, keep=1, protect=[1]), may_remove=frozenset({0, 2})
    ),
    "deploy": Work(lambda storage, _: storage.deploy(APP, 0), current=0),
    "roll back": Work(lambda storage, _: storage.rollback(APP), current=4),
    "save a bundle": Work(save_bundle),
    "delete a bundle": Work(lambda storage, _: storage.bundles.delete("b-0"), again=(NotFound,)),
}


def check(setting: Setting, name: str, work: Work, before: dict[int, str], out: Path) -> set[int]:
    """Check what holds at any time; return the numbers of what was saved anew."""
    storage = setting.storage(name)  # another process: what it sees is in the registry alone
    history = {version.sequence: version for version in storage.history(APP)}
    for number, digest in before.items():
        if number not in work.may_remove or number in history:
            assert history[number].digest == digest, "a version is what it was"
    new = history.keys() - before.keys()
    assert not new or work.saves
    loaded = {*new}
    if before:
        current = storage.current(APP)
        assert current is not None
        assert current.sequence in (3, work.current)
        assert current.sequence in history
        loaded.add(current.sequence)
    for number in loaded:
        storage.load(APP, number, out / str(number))
        found = {path.name: path.read_bytes() for path in (out / str(number)).iterdir()}
        assert found == content(history[number].labels["n"])
    bundles = {bundle.id for bundle in storage.support_bundles()}
    assert not before or bundles >= {"b-1"}
    for bundle in bundles & {"new"}:
        storage.bundles.load(bundle, out / bundle)
        assert (out / bundle / "app.yaml").read_bytes() == content(bundle)["app.yaml"]
    if history:
        assert storage.apps() == [APP]
    return set(new)


def run(
    setting: Setting, work: Work, fault: Fault, at: int, tmp_path: Path, *, lasting: bool
) -> bool:
    """Let the write number `at` fail, and with `lasting` all later ones; False if there is none."""
    name = setting.copy(work.kind)
    before = {version.sequence: version.digest for version in setting.storage(name).history(APP)}
    root = write(tmp_path / "new", "new")
    out = tmp_path / f"out{at}"
    storage = setting.storage(name, proxied=True)
    count = 0

    def rule(method: str, path: str) -> Fault:
        nonlocal count
        if method not in WRITES:
            return Fault.NONE
        count += 1
        return fault if count == at + 1 or (lasting and count > at) else Fault.NONE

    setting.proxy.rule = rule
    returned, error = None, None
    try:
        returned = work.run(storage, root)
    except StoreError as caught:
        error = caught
    finally:
        setting.proxy.rule = None
    if count <= at:
        assert error is None
        return False
    assert lasting or error is None, f"a single {fault.value} is not survived: {error}"
    new = check(setting, name, work, before, out / "first")
    if isinstance(returned, packer.SavedVersion):
        assert new == {returned.sequence}, "who is told a number has it"
    if lasting:
        # Again, by the one that failed, which remembers what it believes, or by another one.
        each = storage if at % 2 else setting.storage(name)
        done = None
        with contextlib.suppress(*work.again):
            done = work.run(each, root)
        later = check(setting, name, work, before, out / "again")
        assert later >= new, "a number is not lost"
        if isinstance(done, packer.SavedVersion):
            assert done.sequence in later
            assert len(later) == len(new) + 1 or done.sequence in new, "no number is given twice"
    end = setting.storage(name)
    assert not work.may_remove & {version.sequence for version in end.history(APP)}
    if work.current != 3:
        assert end.deployments(APP)[-1].sequence in (work.current, DEPLOYED[-1])
    shutil.rmtree(out)
    return True


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "lasting"])
@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize("name", WORKS)
def test_each_write_fails(
    setting: Setting, tmp_path: Path, name: str, first: int, lasting: bool
) -> None:
    for at in itertools.count():
        fault = FAULTS[(first + at + lasting) % len(FAULTS)]
        if not run(setting, WORKS[name], fault, at, tmp_path, lasting=lasting):
            break
    assert at >= 1, "there was something to fail"


@pytest.mark.parametrize(
    "fault", [Fault.ERROR_BEFORE, Fault.CUT_BEFORE], ids=lambda each: each.value
)
def test_an_application_is_listed_or_its_first_save_fails(
    setting: Setting, tmp_path: Path, fault: Fault
) -> None:
    # Listed by its first save alone: what is not listed is not found by a migration back.
    name = setting.copy("none")
    root = write(tmp_path / "new", "new")

    def rule(method: str, path: str) -> Fault:
        return fault if method == "PUT" and f"org/{name}/manifests/app-" in path else Fault.NONE

    setting.proxy.rule = rule
    try:
        with pytest.raises(StoreError):
            save(setting.storage(name, proxied=True), root)
    finally:
        setting.proxy.rule = None
    save(setting.storage(name), root)
    assert setting.storage(name).apps() == [APP]


@pytest.mark.parametrize("fault", SILENT, ids=lambda fault: fault.value)
def test_each_write_is_not_answered(setting: Setting, tmp_path: Path, fault: Fault) -> None:
    name = "save"
    for at in itertools.count():
        if not run(setting, WORKS[name], fault, at, tmp_path, lasting=False):
            break
    assert at >= 1
