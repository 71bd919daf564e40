"""Checking every version, archives with their bases, and repair from where versions came."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import packer
from packer.cli.main import main
from packer.errors import IntegrityError, InvalidParameter, InvalidReference, NotFound
from packer.oci import Manifest
from packer.reading.verification import _Verification
from packer.stores.layout import LayoutStore
from tests.builders import flip

pytestmark = pytest.mark.slow  # each test begins with three pulls


def make(root: Path, number: int) -> Path:
    root.mkdir(exist_ok=True)
    (root / "same.bin").write_bytes(bytes(range(256)) * 1000)
    (root / "values.yaml").write_text(f"version: {number}\n" * 50)
    (root / f"only-{number}").write_bytes(os.urandom(30_000))
    return root


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """A layout with three versions, where others pull from."""
    for number in (1, 2, 3):
        packer.pack(make(tmp_path / "app", number), store=tmp_path / "there", tag=f"app:{number}")
    return tmp_path / "there"


@pytest.fixture
def store(there: Path, tmp_path: Path) -> Path:
    """A local store that has pulled all of them."""
    for number in (1, 2, 3):
        place = f"oci:{there}:app:{number}"
        packer.pull(place, tmp_path / "out", store=tmp_path / "store", update=True, keep=None)
    return tmp_path / "store"


def layers(store: Path, tag: str) -> list[Path]:
    manifest = Manifest.decode(LayoutStore(store).get_manifest(tag)[1], "manifest")
    return [blob_file(store, layer.digest) for layer in manifest.layers]


def blob_file(store: Path, digest: str) -> Path:
    return store / "blobs" / "sha256" / digest[7:]


def conditions(store: Path) -> dict[str, str]:
    return {one.tag: one.condition for one in packer.verify_all(store=store)}


def test_verify_all_tells_which_versions_are_damaged(store: Path) -> None:
    assert conditions(store) == {f"app:{number}": "sound" for number in (1, 2, 3)}
    own = (set(layers(store, "app:2")) - set(layers(store, "app:1"))) & set(layers(store, "app:3"))
    flip(own.pop())
    assert conditions(store) == {"app:1": "sound", "app:2": "damaged", "app:3": "damaged"}
    found = packer.verify_all(store=store)
    assert "sha256:" in found[1].why
    assert found[0].why == ""


def test_verify_all_hashes_a_shared_blob_once(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    read_blobs = _Verification.read_blobs

    def counted(self: _Verification, sound: set[str]) -> None:
        before = set(sound)
        read_blobs(self, sound)
        read.extend(sound - before)

    monkeypatch.setattr(_Verification, "read_blobs", counted)
    packer.verify_all(store=store)
    names = {path.name for number in (1, 2, 3) for path in layers(store, f"app:{number}")}
    assert names < {digest[7:] for digest in read}
    assert len(read) == len(set(read)) == len(names) + 3  # and the configs


def test_verify_all_knows_what_other_tools_wrote(store: Path) -> None:
    layout = LayoutStore(store)
    descriptor, data = layout.get_manifest("app:1")
    value = data.replace(b"application/vnd.layer-packer", b"application/vnd.other")
    assert value != data
    layout.put_manifest(value, descriptor.media_type, "foreign")
    assert conditions(store)["foreign"] == "foreign"
    assert main(["verify", "--all", "--store", str(store)]) == 0


@pytest.mark.parametrize("hurt", [flip, Path.unlink, lambda path: path.write_bytes(b"short")])
@pytest.mark.parametrize("what", ["manifest", "config", "layer"])
def test_repair_fetches_what_is_damaged(
    store: Path, there: Path, hurt: Callable[[Path], object], what: str
) -> None:
    digest = packer.inspect("app:2", store=store).digest
    manifest = Manifest.decode(LayoutStore(store).get_manifest("app:2")[1], "manifest")
    path = {
        "manifest": blob_file(store, digest),
        "config": blob_file(store, manifest.config.digest),
        "layer": blob_file(store, manifest.layers[-1].digest),
    }[what]
    hurt(path)
    assert conditions(store)["app:2"] == "damaged"
    (found,) = packer.repair(["app:2"], store=store)
    assert (found.damaged_blobs, found.repaired_blobs, found.why) == (1, 1, "")
    assert found.sources == (f"oci:{there}:app:2",)
    assert set(conditions(store).values()) == {"sound"}
    assert [row.tag for row in packer.versions(store=store)] == ["app:1", "app:2", "app:3"]


def test_repair_of_everything_reads_each_blob_and_leaves_sound_ones(store: Path) -> None:
    before = {path: path.stat().st_ino for path in (store / "blobs" / "sha256").iterdir()}
    assert [one.damaged_blobs for one in packer.repair(store=store)] == [0, 0, 0]
    assert before == {path: path.stat().st_ino for path in (store / "blobs" / "sha256").iterdir()}
    shared = layers(store, "app:1")[0]
    flip(shared)
    first, *others = packer.repair(store=store)
    assert (first.tag, first.damaged_blobs, first.repaired_blobs) == ("app:1", 1, 1)
    assert [one.damaged_blobs for one in others] == [0, 0]


def test_repair_of_what_was_packed_here_asks_for_a_place(there: Path, tmp_path: Path) -> None:
    packer.push(f"oci:{tmp_path}/pushed:x", "app:3", store=there)
    path = layers(there, "app:3")[-1]
    flip(path)
    damaged = path.read_bytes()
    found = {one.tag: one for one in packer.repair(store=there)}
    assert "--from" in found["app:3"].why
    assert path.read_bytes() == damaged  # parts of it can still be read
    (one,) = packer.repair(["app:3"], source=f"oci:{tmp_path}/pushed:x", store=there)
    assert (one.repaired_blobs, one.why) == (1, "")
    packer.verify("app:3", store=there)


def test_repair_from_a_damaged_or_missing_place_changes_nothing(
    store: Path, there: Path, tmp_path: Path
) -> None:
    path = layers(store, "app:3")[-1]
    flip(path)
    damaged = path.read_bytes()
    flip(layers(there, "app:3")[-1])
    (one,) = packer.repair(["app:3"], store=store)
    assert (one.damaged_blobs, one.repaired_blobs) == (1, 0)
    assert "not to be had from" in one.why
    there.rename(tmp_path / "moved")
    assert packer.repair(["app:3"], store=store)[0].repaired_blobs == 0
    assert path.read_bytes() == damaged
    assert not [name for name in os.listdir(store / "ingest") if name != "lock"]


def test_repair_refuses_what_makes_no_sense(store: Path) -> None:
    with pytest.raises(NotFound):
        packer.repair(["nosuch"], store=store)
    with pytest.raises(InvalidReference):
        packer.repair(["app:1"], source="docker-daemon:x", store=store)
    with pytest.raises(NotFound):
        packer.repair(["app:1"], source=f"oci:{store}/nosuch:x", store=store)
    with pytest.raises(InvalidParameter):
        packer.repair(["app:1"], store=packer.MemoryStore())


def test_an_update_archive_is_proved_with_its_base_at_hand(there: Path, tmp_path: Path) -> None:
    archive = f"oci-archive:{tmp_path}/update.tar:app:3"
    packer.copy("app:3", archive, have="app:2", store=there)
    with pytest.raises(NotFound):
        packer.verify(archive, store=there)
    done = packer.verify(archive, store=there, base_at_hand=True)
    whole = packer.verify("app:3", store=there)
    assert (done.blobs, done.bytes, done.chunks) == (whole.blobs, whole.bytes, whole.chunks)
    assert 0 < done.left_out_blobs < done.blobs
    (base,) = done.bases
    assert base == f"app:2 {packer.inspect('app:2', store=there).digest}"
    place = f"oci:{there}:app:2"
    far = packer.verify(archive, store=tmp_path / "empty", base_from=place)
    assert far == done
    # It is not proved where the base is not, nor where it is damaged.
    with pytest.raises(NotFound) as missing:
        packer.verify(archive, store=tmp_path / "empty", base_at_hand=True)
    assert (missing.value.kind, missing.value.name) == ("base", base)
    shared = set(layers(there, "app:2")) & set(layers(there, "app:3"))
    flip(shared.pop())
    with pytest.raises(IntegrityError):
        packer.verify(archive, store=there, base_at_hand=True)


def test_an_archive_is_not_proved_by_a_base_that_does_not_have_its_blobs(
    there: Path, tmp_path: Path
) -> None:
    # The inventory says that the far side's app:1 has blobs of app:3; app:1 does not name them.
    digest = packer.inspect("app:1", store=there).digest
    blobs = tuple("sha256:" + path.name for path in layers(there, "app:3"))
    lie = packer.Inventory("far", (packer.InventoryEntry(digest, ("app:1",), blobs),))
    archive = f"oci-archive:{tmp_path}/update.tar:app:3"
    packer.copy("app:3", archive, have=lie, store=there)
    with pytest.raises(NotFound, match="which this version does not name"):
        packer.verify(archive, store=there, base_at_hand=True)


def test_a_whole_archive_leaves_nothing_out(there: Path, tmp_path: Path) -> None:
    archive = f"oci-archive:{tmp_path}/whole.tar:app:3"
    packer.copy("app:3", archive, store=there)
    done = packer.verify(archive, store=there, base_at_hand=True)
    assert (done.left_out_blobs, done.bases) == (0, ())


@pytest.mark.parametrize(
    "words",
    [
        ("verify",),
        ("verify", "app:1", "--all"),
        ("verify", "--all", "--base-at-hand"),
        ("verify", "--all", "--base-from", "oci:x:y"),
        ("verify", "app:1", "--base-from", "a b"),
        ("repair",),
        ("repair", "app:1", "--all"),
        ("repair", "app:1", "--from", "a b"),
        ("repair", "app:1", "--from", "docker-daemon:x"),
        ("repair", "app:1", "--from", ""),
    ],
)
def test_values_that_make_no_sense(
    store: Path, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--store", str(store)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_verbs_report(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = ("--store", str(store))
    assert main(["verify", "--all", *place]) == 0
    assert capsys.readouterr().out.endswith("3 of 3 versions sound\n")
    flip(layers(store, "app:3")[-1])
    assert main(["verify", "--all", *place]) == 4
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["TAG", "DIGEST", "CONDITION"]
    assert lines[3].split()[::2] == ["app:3", "damaged"]
    assert lines[-1] == "2 of 3 versions sound"
    assert main(["repair", "--all", *place]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("app:3: 1 of 1 damaged blob fetched again, ")
    assert lines[1] == "3 of 3 versions sound, 1 of them repaired"
    assert main(["verify", "--all", *place, "--json"]) == 0
