"""The storage on layouts and in memory; what is a registry's own: tests/conformance."""

from __future__ import annotations

import io
import json
import os
import random
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import packer
from packer import (
    Conflict,
    InvalidParameter,
    NotFound,
    Progress,
    Storage,
)
from packer.cli.main import main
from packer.errors import RegistryError, UnsupportedFile
from packer.storage.state.repositories import Repositories
from packer.storage.state.repository import Repository
from packer.stores import index_json
from tests.builders import noise, write_release


def test_history_of_saves(storage: Storage, tmp_path: Path) -> None:
    assert storage.history("app") == []
    assert storage.current("app") is None
    root = tmp_path / "v"
    saved = [
        storage.save(
            "app", write_release(root, number), labels={"version": f"1.{number}", "by": "é"}
        )
        for number in range(3)
    ]
    assert [one.sequence for one in saved] == [0, 1, 2]
    assert storage.history("app") == saved
    assert [one.parent for one in saved] == ["", saved[0].digest, saved[1].digest]
    assert saved[0].new_bytes > 400_000
    assert saved[1].new_bytes < 3_000
    assert saved[1].stored_bytes > 400_000
    assert saved[2].labels == {"version": "1.2", "by": "é"}
    assert (saved[2].files, saved[2].bytes) == (2, 400_000 + 21 * 40)
    # The same content once more is a version of its own.
    again = storage.save("app", root)
    assert (again.sequence, again.parent) == (3, saved[2].digest)
    assert again.digest != saved[2].digest
    assert again.new_bytes == 0
    for number in range(4):
        storage.load("app", number, tmp_path / f"out{number}")
        expected = f"kind: App\nversion: {min(number, 2)}\n" * 40
        assert (tmp_path / f"out{number}" / "app.yaml").read_text() == expected
    assert storage.apps() == ["app"]
    assert storage.history("other") == []


def test_a_first_save_that_fails_lists_nothing(tmp_path: Path) -> None:
    uri = f"oci:{tmp_path / 'base'}"
    root = write_release(tmp_path / "v", 1)
    os.mkfifo(root / "pipe")
    with pytest.raises(UnsupportedFile):
        packer.open_storage(uri).save("app", root)
    assert packer.open_storage(uri).apps() == []
    os.unlink(root / "pipe")
    assert packer.open_storage(uri).save("app", root).sequence == 0
    assert packer.open_storage(uri).apps() == ["app"]


def test_a_save_decodes_the_index_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Its time grows with the number of versions: 10 ms each at 1,650.
    storage = packer.open_storage(f"oci:{tmp_path / 'base'}")
    for number in range(3):
        storage.save("app", write_release(tmp_path / "v", number))
    real, decoded = index_json.parse_index, list[str]()

    def counted(data: bytes, path: str) -> index_json.Index:
        decoded.append(path)
        return real(data, path)

    monkeypatch.setattr(index_json, "parse_index", counted)
    storage.save("app", write_release(tmp_path / "v", 3))
    assert len(decoded) == 1
    # What another process writes is seen.
    packer.open_storage(f"oci:{tmp_path / 'base'}").save("app", write_release(tmp_path / "v", 4))
    assert [one.sequence for one in storage.history("app")] == [0, 1, 2, 3, 4]


def test_applications_without_a_version(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    uri = f"oci:{tmp_path / 'base'}"
    storage = packer.open_storage(uri)
    for app in ("full", "lost"):
        storage.save(app, write_release(tmp_path / "v", 1))
    for blob in (tmp_path / "base/lost/blobs/sha256").iterdir():
        blob.unlink()
    assert main(["storage", "apps", "--storage-base-uri", uri]) == 0
    assert capsys.readouterr().out == "full\nlost  (no version)\n"
    assert main(["storage", "apps", "--storage-base-uri", uri, "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert (value["apps"], value["without_versions"]) == (["full", "lost"], ["lost"])


@pytest.mark.slow
def test_a_long_history_is_gathered_and_found_again(tmp_path: Path) -> None:
    uri = f"oci:{tmp_path / 'base'}"
    storage = packer.open_storage(uri)
    for number in range(20):
        storage.save("app", write_release(tmp_path / "v", number), labels={"n": str(number)})
    first = storage.history("app")
    assert packer.open_storage(uri).history("app") == first
    repository = Repositories(uri, packer.RegistryOptions()).repository("app")
    (gathered,) = [tag for tag in repository.names() if tag.startswith("history-")]
    # It is a cache: damaged, or gone, or another tool's, the history is the same.
    repository.put_note(gathered, {"what": "not a history"})
    assert packer.open_storage(uri).history("app") == first
    repository.remove_tag(gathered)
    assert packer.open_storage(uri).history("app") == first


def test_a_version_is_saved_even_if_the_history_cannot_be_gathered(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The cache is written after the version has its number: its failure must not look like one
    # of the save, or the caller would save the version again.
    tried: list[str] = []

    def refuse(self: Repository, tag: str, kind: str, *rest: object) -> None:
        tried.append(tag)
        raise RegistryError("too many requests", status=429, retryable=True)

    for number in range(7):
        storage.save("app", write_release(tmp_path / "v", number))
    monkeypatch.setattr(Repository, "put_small", refuse)
    assert storage.save("app", write_release(tmp_path / "v", 7)).sequence == 7
    assert [tag.partition("-")[0] for tag in tried] == ["history"]
    assert len(storage.history("app")) == 8


def test_chosen_sequences(storage: Storage, tmp_path: Path) -> None:
    root = tmp_path / "v"
    assert storage.save("app", write_release(root, 5), sequence=5).sequence == 5
    assert storage.save("app", write_release(root, 2), sequence=2).sequence == 2
    assert storage.save("app", write_release(root, 6)).sequence == 6
    # Once more under its number: the same content is there, another one is not put in its place.
    before = storage.history("app")
    assert storage.save("app", write_release(root, 2), sequence=2) == before[0]
    with pytest.raises(Conflict, match="sequence 2 is taken"):
        storage.save("app", write_release(root, 3), sequence=2)
    assert storage.history("app") == before
    for wrong in (-1, 1 << 60):
        with pytest.raises(InvalidParameter):
            storage.save("app", root, sequence=wrong)


def test_the_latest_version(storage: Storage, tmp_path: Path) -> None:
    assert storage.latest("app") is None
    for number in (3, 7, 9):
        storage.save("app", write_release(tmp_path / "v", number), sequence=number)
    newest = storage.latest("app")
    assert newest == storage.history("app")[-1]
    storage.delete("app", 9)
    newest = storage.latest("app")
    assert newest is not None
    assert newest.sequence == 7


def test_a_whole_storage_is_verified(tmp_path: Path) -> None:
    storage = packer.open_storage(f"oci:{tmp_path / 'base'}")
    for number in range(5):
        storage.save("app", write_release(tmp_path / "v", number))
        (tmp_path / "v" / "own").write_bytes(random.Random(number).randbytes(3000))
    for name in ("sound", "cut"):
        (tmp_path / "b").write_bytes(random.Random(name).randbytes(70_000))
        storage.save_support_bundle(name, tmp_path / "b")
    assert {one.condition.value for one in storage.verify("app")} == {"sound"}

    def blob(folder: str, digest: str) -> Path:
        return tmp_path / "base" / folder / "blobs/sha256" / digest.removeprefix("sha256:")

    layer = storage.version("app", 4).manifest.data_layers[-1].digest
    changed = blob("app", layer)
    changed.write_bytes(bytes(len(changed.read_bytes())))
    blob("app", storage.version("app", 1).descriptor.digest).unlink()
    cut = blob("_shared", storage.bundles.version("cut").manifest.data_layers[-1].digest)
    cut.write_bytes(cut.read_bytes()[:-1])
    found = {one.sequence: one for one in storage.verify("app")}
    conditions = [found[number].condition.value for number in range(5)]
    assert conditions == ["sound", "stale", "sound", "sound", "damaged"]
    assert f"blob {layer}" in found[4].why
    assert "digest mismatch" in found[4].why
    bundles = {name: one.condition.value for name, one in storage.bundles.verify().items()}
    assert bundles == {"sound": "sound", "cut": "damaged"}
    with pytest.raises(NotFound, match="application not found: other"):
        storage.verify("other")


def test_comparing_and_reading(storage: Storage, tmp_path: Path) -> None:
    for number in range(2):
        storage.save("app", write_release(tmp_path / "v", number))
    (change,) = storage.diff("app", 0, 1)
    assert (change.path, change.change) == ("app.yaml", "changed")
    assert [entry.path for entry in storage.entries("app", 1)] == ["app.yaml", "image.bin"]
    with storage.open("app", 0, "app.yaml") as file:
        assert file.readline() == b"kind: App\n"
        assert file.read() == b"version: 0\n" + b"kind: App\nversion: 0\n" * 39
    whole = noise(7, 400_000)
    with storage.open("app", 1, "image.bin") as file:
        rng = random.Random(1)
        for _ in range(50):
            at, count = rng.randrange(410_000), rng.randrange(1, 100_000)
            assert file.seek(at) == at
            assert file.read(count) == whole[at : at + count]
        assert file.seek(-5, io.SEEK_END) == 399_995
        assert file.read() == whole[-5:]
        assert file.read() == b""
    for path, error in (("nowhere", NotFound), ("", NotFound)):
        with pytest.raises(error):
            storage.open("app", 1, path)


def test_archives_that_were_opened_read_right(storage: Storage, tmp_path: Path) -> None:
    root = write_release(tmp_path / "v", 1)
    (root / "empty").write_bytes(b"")
    with tarfile.open(root / "chart.tgz", "w:gz") as archive:
        archive.add(root / "app.yaml", "app.yaml")
        archive.add(root / "image.bin", "image.bin")
    storage.save("app", root, opening="all")
    whole = (root / "chart.tgz").read_bytes()
    version = storage.version("app", 0)
    assert version.index.expansions  # it was opened, so it is rebuilt when read
    with storage.open("app", 0, "chart.tgz") as file:
        assert file.seek(0, io.SEEK_END) == len(whole)
        file.seek(1000)
        assert file.read(70_000) == whole[1000:71_000]
        file.seek(0)
        assert file.read() == whole
    with storage.open("app", 0, "empty") as file:
        assert file.read() == b""
    closed = storage.open("app", 0, "app.yaml")
    closed.close()
    with pytest.raises(ValueError, match="closed"):
        closed.read()


@pytest.mark.slow
def test_support_bundles(storage: Storage, tmp_path: Path) -> None:
    assert storage.support_bundles() == []
    with pytest.raises(NotFound, match="support bundle not found: b/1"):
        storage.open_support_bundle("b/1")
    bundle = tmp_path / "supportbundle.tar.gz"
    for number in range(10):
        with tarfile.open(bundle, "w:gz") as archive:
            archive.add(write_release(tmp_path / "v", number), "logs")
        saved = storage.save_support_bundle(f"b/{number}", bundle, labels={"app": "x"})
        assert (saved.id, saved.bytes) == (f"b/{number}", bundle.stat().st_size)
        assert saved.labels == {"app": "x"}
        assert (saved.new_bytes < 5_000) == (number > 0)
    assert sorted(found.id for found in storage.support_bundles()) == [f"b/{n}" for n in range(10)]
    with storage.open_support_bundle("b/9") as file:
        assert file.read() == bundle.read_bytes()
    assert storage.save_support_bundle("b/9", bundle).digest == saved.digest
    with pytest.raises(Conflict, match="support bundle b/3 is taken"):
        storage.save_support_bundle("b/3", bundle)
    storage.bundles.load("b/9", tmp_path / "out")
    assert (tmp_path / "out" / bundle.name).read_bytes() == bundle.read_bytes()
    storage.bundles.delete("b/3")
    assert len(storage.support_bundles()) == 9
    assert storage.save_support_bundle("b/3", bundle).bytes == bundle.stat().st_size
    storage.save_support_bundle("dir", tmp_path / "v")
    with pytest.raises(InvalidParameter, match="directory"):
        storage.open_support_bundle("dir")
    storage.bundles.load("dir", tmp_path / "dir")
    assert (tmp_path / "dir" / "app.yaml").read_bytes() == (tmp_path / "v/app.yaml").read_bytes()
    assert storage.apps() == []


@pytest.mark.parametrize("number", ["0", True, 0.0, None, b"0", -1, 1 << 53])
def test_what_is_no_sequence_number_is_refused(
    storage: Storage, tmp_path: Path, number: Any
) -> None:
    root = write_release(tmp_path / "v", 0)
    for sequence in (0, 1):
        storage.save("app", root, sequence=sequence)
    calls: list[Callable[[], object]] = [
        lambda: storage.load("app", number, tmp_path / "out"),
        lambda: storage.deploy("app", number),
        lambda: storage.diff("app", 0, number),
        lambda: storage.entries("app", number),
        lambda: storage.open("app", number, "app.yaml"),
        lambda: storage.delete("app", number),
        lambda: storage.withdraw("app", number),
        lambda: storage.retain("app", keep=2, protect=[number]),
        lambda: storage.reference("app", number),
    ]
    if number is not None:
        calls.append(lambda: storage.save("app", root, sequence=number))
    for call in calls:
        with pytest.raises(InvalidParameter, match="sequence"):
            call()
    assert storage.deployments("app") == []
    assert [version.sequence for version in storage.history("app")] == [0, 1]


def test_progress_and_results_are_told(tmp_path: Path) -> None:
    events: list[packer.StorageEvent] = []
    storage = packer.open_storage(f"oci:{tmp_path / 'base'}", listener=events.append)
    told: list[Progress] = []
    storage.save("app", write_release(tmp_path / "v", 1), progress=told.append)
    storage.load("app", 0, tmp_path / "out", progress=told.append)
    storage.deploy("app", 0)
    storage.save("app", tmp_path / "v")
    storage.delete("app", 1)
    assert [(event.kind, event.app, event.sequence) for event in events] == [
        ("saved", "app", 0), ("loaded", "app", 0), ("deployed", "app", 0), ("saved", "app", 1),
        ("deleted", "app", 1),
    ]  # fmt: skip
    phases = [event.phase for event in told]
    assert {"pack", "unpack"} <= set(phases)
    last = next(event for event in reversed(told) if event.phase == "pack")
    assert last.done_bytes == last.total_bytes > 400_000
    assert {event.item for event in told if event.phase == "pack"} == {"app.yaml", "image.bin"}


def test_labels_are_checked(storage: Storage, tmp_path: Path) -> None:
    root = write_release(tmp_path / "v", 1)
    for labels in ({"": "x"}, {"a": "b" * 5000}, {"a" * 200: ""}, {"\udcff": ""}):
        with pytest.raises(InvalidParameter):
            storage.save("app", root, labels=labels)
    with pytest.raises(InvalidParameter):
        storage.save("app", root, labels={str(number): "" for number in range(65)})
    with pytest.raises(FileNotFoundError):
        storage.save("app", tmp_path / "missing")
    assert storage.history("app") == []


def test_loading_another_version_than_expected_is_refused(tmp_path: Path) -> None:
    # An option that pins a version must not be taken and then ignored.
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "app.yaml").write_text("kind: Deployment\n")
    storage = packer.open_storage(f"oci:{tmp_path / 'storage'}")
    saved = storage.save("app", tree)
    with pytest.raises(packer.DigestMismatch):
        storage.load("app", 0, tmp_path / "out", expect="sha256:" + "0" * 64)
    assert not (tmp_path / "out").exists()
    storage.load("app", saved.sequence, tmp_path / "out", expect=saved.digest, seed=[tree])
    assert (tmp_path / "out" / "app.yaml").read_text() == "kind: Deployment\n"
