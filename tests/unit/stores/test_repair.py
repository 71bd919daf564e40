"""What is damaged or lost in a local store is found out, and put right by whoever has the bytes."""

from __future__ import annotations

import errno
import logging
import os
import shutil
from pathlib import Path

import pytest

import packer
from packer.api.locations import open_version
from packer.errors import IntegrityError, InvalidParameter, NotFound, SizeMismatch
from packer.oci import Descriptor
from packer.stores.layout import LayoutStore
from tests.builders import flip, text
from tests.builders import write as fill
from tests.conformance.make_samples import read_tree
from tests.unit.packing.test_pack import edited

FILES = {"a": text(1, 300_000), "dir/b": text(2, 1000)}


@pytest.fixture
def app(tmp_path: Path) -> Path:
    return fill(tmp_path / "app", FILES)


@pytest.fixture
def store(app: Path, tmp_path: Path) -> LayoutStore:
    layout = LayoutStore(str(tmp_path / "store"))
    packer.pack(app, store=layout, tag="app:1")
    (app / "a").write_bytes(edited(FILES["a"]))
    packer.pack(app, store=layout, tag="app:2")
    return layout


def blobs(store: LayoutStore, tag: str) -> list[Descriptor]:
    manifest = open_version(tag, store=store).manifest
    return [*manifest.layers, manifest.config]


def path_of(store: LayoutStore, blob: Descriptor) -> Path:
    return Path(store.path, "blobs/sha256", blob.digest[7:])


@pytest.mark.parametrize("at", range(3))
def test_a_pull_fetches_again_what_is_damaged_here(
    at: int, app: Path, store: LayoutStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    there = tmp_path / "there"
    packer.push(f"oci:{there}:app-2", "app:2", store=store)
    here = LayoutStore(str(tmp_path / "here"))
    packer.pull(f"oci:{there}:app-2", tmp_path / "one", store=here)
    flip(path_of(here, blobs(here, "app-2")[at]))
    with caplog.at_level(logging.WARNING, "packer"):
        pulled = packer.pull(f"oci:{there}:app-2", tmp_path / "two", store=here)
    assert "is fetched again" in caplog.text
    assert read_tree(tmp_path / "two") == read_tree(app)
    assert pulled.fetched_blobs == 1
    assert packer.verify("app-2", store=here)


def test_a_pull_of_what_is_damaged_there_fails(store: LayoutStore, tmp_path: Path) -> None:
    there = LayoutStore(str(tmp_path / "there"))
    packer.push(f"oci:{there.path}:app-2", "app:2", store=store)
    flip(path_of(there, blobs(there, "app-2")[0]))
    for _ in range(2):
        with pytest.raises(IntegrityError):
            packer.pull(f"oci:{there.path}:app-2", tmp_path / "out", store=tmp_path / "here")
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", ["verify", "force"])
def test_a_push_to_a_layout_can_replace_what_is_damaged(
    option: str, store: LayoutStore, tmp_path: Path
) -> None:
    there = LayoutStore(str(tmp_path / "there"))
    packer.push(f"oci:{there.path}:app-2", "app:2", store=store)
    for blob in blobs(there, "app-2"):
        flip(path_of(there, blob))
    packer.push(f"oci:{there.path}:app-2", "app:2", store=store)
    with pytest.raises(IntegrityError):
        packer.verify("app-2", store=there)
    options = {option: True}
    done = packer.push(f"oci:{there.path}:app-2", "app:2", store=store, **options)  # type: ignore[arg-type]
    assert done.blobs_copied == len(blobs(there, "app-2"))
    assert packer.verify("app-2", store=there)
    assert (
        packer.push(f"oci:{there.path}:app-2", "app:2", store=store, verify=True).blobs_copied == 0
    )
    with pytest.raises(InvalidParameter, match="is no registry"):
        packer.copy("app:2", f"oci-archive:{tmp_path / 'a.tar'}:1", store=store, verify=True)


def test_packing_again_replaces_what_is_damaged(app: Path, store: LayoutStore) -> None:
    packer.pack(app, store=store, tag="alone:1", base="none", cache=False)
    before = read_tree(app)
    for blob in blobs(store, "alone:1"):
        flip(path_of(store, blob))
    packer.pack(app, store=store, tag="alone:1", base="none", cache=False)
    assert packer.verify("alone:1", store=store)
    assert read_tree(app) == before


@pytest.mark.parametrize("truncated", [True, False])
def test_a_version_that_lost_a_blob_is_packed_anew(
    truncated: bool, app: Path, store: LayoutStore, tmp_path: Path
) -> None:
    for blob in blobs(store, "app:2"):
        path = path_of(store, blob)
        if truncated:
            os.truncate(path, 1)
        else:
            path.unlink()
    packed = packer.pack(app, store=store, tag="app:2")
    assert not packed.unchanged
    packer.unpack("app:2", tmp_path / "out", store=store)
    assert read_tree(tmp_path / "out") == read_tree(app)


def test_nothing_is_packed_on_a_damaged_config(
    app: Path, store: LayoutStore, caplog: pytest.LogCaptureFixture
) -> None:
    flip(path_of(store, blobs(store, "app:2")[-1]))
    shutil.rmtree(Path(store.path, "cache"))
    with caplog.at_level(logging.WARNING, "packer"):
        packed = packer.pack(app, store=store, tag="app:3")
    assert "app:2 in oci:" in caplog.text and "is damaged" in caplog.text
    assert packed.parent == open_version("app:1", store=store).descriptor.digest
    assert packer.verify("app:3", store=store)


def test_a_push_of_a_blob_that_was_cut_says_so(store: LayoutStore, tmp_path: Path) -> None:
    blob = blobs(store, "app:2")[0]
    os.truncate(path_of(store, blob), 3)
    with pytest.raises(SizeMismatch, match=blob.digest):
        packer.push(f"oci:{tmp_path / 'there'}:2", "app:2", store=store)
    path_of(store, blob).unlink()
    with pytest.raises(NotFound, match=blob.digest):
        packer.push(f"oci:{tmp_path / 'there'}:2", "app:2", store=store)


def test_a_full_disk_is_named(store: LayoutStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with store.create() as writer:
        monkeypatch.setattr("os.write", full)
        with pytest.raises(OSError, match=f"No space left on device: '{store.path}/ingest/"):
            writer.write(b"data")
        monkeypatch.undo()


def test_what_cannot_be_had_again_is_kept(store: LayoutStore, tmp_path: Path) -> None:
    blob = blobs(store, "app:2")[0]
    path = path_of(store, blob)
    flip(path)
    again = LayoutStore(store.path)
    packer.copy("app:2", f"oci:{store.path}:app-3", store=again, verify=True)
    assert path.exists(), "it is its own source"
    there = LayoutStore(str(tmp_path / "there"))
    shutil.copytree(store.path, there.path, dirs_exist_ok=True)
    path_of(there, blob).unlink()
    packer.push(f"oci:{store.path}:app-4", "app:2", store=there, verify=True)
    assert path.exists(), "the source lacks it"
