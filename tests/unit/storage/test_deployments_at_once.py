"""The log of deployments of writers that had not seen one another."""

from __future__ import annotations

from pathlib import Path

import pytest

import packer
from packer.errors import TransportError
from packer.oci import canonical_json
from packer.storage.deployments import LOG, read_log
from packer.storage.state.repository import Repository
from packer.stores.memory import MemoryStore

TIME = "2026-01-01T00:00:00Z"


def write(repository: Repository, generation: int, *sequences: int) -> None:
    """Write a log as a deployment of the last of some versions does."""
    log = [[sequence, TIME, f"{sequence:016x}"] for sequence in sequences]
    tag = f"deployed-{generation}-{sequences[-1]:016x}"
    repository.put_note(tag, {LOG: canonical_json({"log": log}).decode()})


def deployed(repository: Repository) -> list[int]:
    return [entry.sequence for entry in read_log(repository, repository.names())]


def test_a_deployment_that_a_newer_log_lacks_is_not_lost() -> None:
    # Would catch: looking at the newest generation alone.
    repository = Repository(MemoryStore())
    write(repository, 0, 1)
    write(repository, 0, 4)  # its writer saw nothing, and wrote late
    write(repository, 1, 1, 2)
    write(repository, 2, 1, 2, 3)
    assert deployed(repository) == [1, 2, 4, 3]


def test_a_log_left_behind_counts_as_a_whole() -> None:
    # Would catch: taking the last entry alone of a log that holds another one's.
    repository = Repository(MemoryStore())
    write(repository, 0, 1)
    write(repository, 1, 1, 5, 2)  # took over 5, whose own log was removed
    write(repository, 2, 1, 3)
    assert sorted(deployed(repository)) == [1, 2, 3, 5]
    assert deployed(repository)[-1] == 3


def test_a_log_that_is_held_is_not_read() -> None:
    repository = Repository(MemoryStore())
    tag = f"deployed-0-{1:016x}"
    repository.put_note(tag, {LOG: "damaged"})
    write(repository, 1, 1, 2)
    assert deployed(repository) == [1, 2]


def test_old_logs_are_not_looked_for() -> None:
    # Registries that never delete keep them all.
    repository = Repository(MemoryStore())
    write(repository, 0, 9)
    write(repository, 40, 1)
    assert deployed(repository) == [1]


def test_a_registry_that_fails_does_not_cost_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Would catch: a log that cannot be read taken for one that is damaged, and begun anew.
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").write_text("text")
    storage = packer.open_storage(f"oci:{tmp_path / 'layout'}")
    storage.save("app", tree)
    storage.deploy("app", 0)

    def fails(*_: object) -> None:
        raise TransportError("the registry gives no answer")

    with monkeypatch.context() as patched:
        patched.setattr(Repository, "read_note", fails)
        with pytest.raises(TransportError):
            storage.deploy("app", 0)
    storage.deploy("app", 0)
    assert [entry.sequence for entry in storage.deployments("app")] == [0, 0]
