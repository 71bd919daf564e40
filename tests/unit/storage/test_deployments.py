"""Deploying and rolling back on layouts and in memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from packer import (
    Conflict,
    NotFound,
    Storage,
)
from packer.errors import FormatError
from packer.storage.deployments import DEPLOYED, LOG
from packer.storage.state.repositories import Repositories
from tests.builders import write_release


def test_deploying_and_rolling_back(storage: Storage, tmp_path: Path) -> None:
    for number in range(4):
        storage.save("app", write_release(tmp_path / "v", number))
    with pytest.raises(NotFound, match="version not found: 9"):
        storage.deploy("app", 9)
    with pytest.raises(NotFound, match=r"earlier deployment not found: app \(nothing is deployed"):
        storage.rollback("app")
    storage.deploy("app", 2)
    with pytest.raises(NotFound, match="no other version was deployed before"):
        storage.rollback("app")
    for number in (0, 1, 3):
        storage.deploy("app", number)
    current = storage.current("app")
    assert current is not None
    assert current.sequence == 3
    assert storage.rollback("app").sequence == 1
    assert [entry.sequence for entry in storage.deployments("app")] == [2, 0, 1, 3, 1]
    with pytest.raises(
        Conflict, match="version 1 of app is in use: it is deployed; deploy another"
    ):
        storage.delete("app", 1)
    storage.delete("app", 3)
    assert storage.rollback("app").sequence == 0  # 3 is gone
    with pytest.raises(NotFound):
        storage.load("app", 3, tmp_path / "out")


@pytest.mark.parametrize("log", ["", "{}", '{"log":[["1","now"]]}', '{"log":[1]}', "[" * 9])
def test_deploying_gets_over_a_damaged_log(tmp_path: Path, log: str) -> None:
    repositories = Repositories(f"oci:{tmp_path / 'base'}", None)
    storage = Storage(repositories, None, 1, 1.0, None)
    for sequence in (0, 1):
        storage.save("app", write_release(tmp_path / "v", sequence))
    storage.deploy("app", 0)
    repositories.repository("app").put_note(f"{DEPLOYED}-1-{'0' * 16}", {LOG: log})
    with pytest.raises(FormatError, match="log of deployments"):
        storage.current("app")
    with pytest.raises(FormatError, match="log of deployments"):
        storage.delete("app", 0)  # it could be the one
    storage.deploy("app", 1)
    current = storage.current("app")
    assert current is not None and current.sequence == 1
    assert [each.sequence for each in storage.deployments("app")] == [1]
