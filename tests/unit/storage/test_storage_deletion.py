"""What deleting, withdrawing and retaining leave, on layouts and in memory."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

import packer
from packer import (
    Cancelled,
    InvalidParameter,
    NotFound,
    Storage,
)
from packer.storage import retention
from packer.storage.state.repository import Repository
from packer.storage.state.sequence_numbers import Numbers
from tests.builders import write_release


def test_deleted_numbers_are_not_given_again(storage: Storage, tmp_path: Path) -> None:
    for number in range(3):
        storage.save("app", write_release(tmp_path / "v", number))
    storage.delete("app", 2)
    storage.delete("app", 1)
    assert [one.sequence for one in storage.history("app")] == [0]
    assert storage.save("app", tmp_path / "v").sequence == 3
    storage.delete("app", 3)
    storage.delete("app", 0)
    assert storage.save("app", tmp_path / "v").sequence == 4  # from nothing
    assert [one.sequence for one in storage.history("app")] == [4]
    with pytest.raises(NotFound):
        storage.delete("app", 0)


@pytest.mark.slow
def test_a_number_chosen_again_is_not_taken_for_the_one_it_was(
    storage: Storage, tmp_path: Path
) -> None:
    # What was gathered holds the record of the first version 3, and would go on telling it.
    for number in range(8):
        storage.save("app", write_release(tmp_path / "v", number))
    for number in range(8, 12):
        storage.save("app", write_release(tmp_path / "v", number))
    storage.delete("app", 3)
    saved = storage.save(
        "app", write_release(tmp_path / "w", 99), sequence=3, labels={"n": "again"}
    )
    again = packer.open_storage(storage.base_uri) if storage.base_uri != "memory:" else storage
    again._applications.clear()
    assert again.history("app")[3] == saved


@pytest.mark.slow
def test_a_withdrawn_version_was_never_there(storage: Storage, tmp_path: Path) -> None:
    for number in range(8):
        storage.save("app", write_release(tmp_path / "v", number), sequence=number)
    storage.withdraw("app", 7)  # gathered with it
    storage._applications.clear()
    assert [one.sequence for one in storage.history("app")] == list(range(7))
    saved = storage.save("app", write_release(tmp_path / "w", 99), sequence=7)
    storage._applications.clear()
    assert storage.history("app")[-1] == saved
    storage.load("app", 7, tmp_path / "out")
    assert (tmp_path / "out/app.yaml").read_bytes() == (tmp_path / "w/app.yaml").read_bytes()
    with pytest.raises(NotFound):
        storage.withdraw("app", 8)


@pytest.mark.slow
def test_retaining_a_few(storage: Storage, tmp_path: Path) -> None:
    for number in range(8):
        storage.save("app", write_release(tmp_path / "v", number))
    storage.deploy("app", 1)
    storage.deploy("app", 3)
    planned = storage.retain("app", keep=2, protect=[0, 99], dry_run=True)
    assert [one.sequence for one in storage.history("app")] == [*range(8)]
    done = storage.retain("app", keep=2, protect=[0, 99])
    assert done == planned
    assert done.deleted == (2, 4, 5)
    assert done.kept == (0, 1, 3, 6, 7)
    assert 0 < done.freed_bytes < 10_000
    assert done.kept_bytes > 400_000
    assert [one.sequence for one in storage.history("app")] == [0, 1, 3, 6, 7]
    assert storage.retain("app", keep=5).deleted == ()
    with pytest.raises(InvalidParameter):
        storage.retain("app", keep=0)
    stop = threading.Event()
    stop.set()
    with pytest.raises(Cancelled):
        storage.retain("app", keep=1, cancel=stop)


def test_retaining_where_another_does_the_same(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Replicas that clean up on the same schedule: what one listed, the other deletes.
    for number in range(6):
        storage.save("app", write_release(tmp_path / "v", number))
    honest, turns = retention.delete_number, [1, 3]

    def late(repository: Repository, sequence: int, numbers: Numbers) -> None:
        if sequence in turns:
            honest(repository, sequence, numbers)
        honest(repository, sequence, numbers)

    monkeypatch.setattr(retention, "delete_number", late)
    assert storage.retain("app", keep=2).kept == (4, 5)
    assert [one.sequence for one in storage.history("app")] == [4, 5]
