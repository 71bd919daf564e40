"""Whatever is broken in a storage, a retention leaves the newest versions that can be loaded."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import packer
from packer import PackerError, Storage
from packer.oci import MANIFEST_TYPE, Manifest, canonical_json
from packer.stores.layout import LayoutStore

VERSIONS = 6
TAGS = ("note", "foreign")
DAMAGES = st.sampled_from(
    ["manifest gone", "layer gone", "layer cut", "layer changed", "config gone", "index gone",
     "note", "foreign", "manifest changed"]
)  # fmt: skip


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage with a few versions, each with a layer of its own."""
    folder = tmp_path_factory.mktemp("saved")
    storage, root = packer.open_storage(f"oci:{folder / 'base'}"), folder / "v"
    root.mkdir()
    for number in range(VERSIONS):
        (root / "shared").write_bytes(random.Random(1).randbytes(20_000))
        (root / "own").write_bytes(random.Random(100 + number).randbytes(5_000))
        storage.save("app", root)
    return folder / "base"


def blob(folder: Path, digest: str) -> Path:
    return folder / "app/blobs/sha256" / digest.removeprefix("sha256:")


def damage(folder: Path, number: int, how: str) -> None:
    """Break what the number of a version needs, and nothing that another version needs."""
    store = LayoutStore(folder / "app")
    descriptor, data = store.get_manifest(str(number))
    manifest = Manifest.decode(data)
    own = blob(folder, manifest.data_layers[-1].digest)
    if how == "manifest gone":
        blob(folder, descriptor.digest).unlink()
    elif how == "manifest changed":
        blob(folder, descriptor.digest).write_bytes(b" " * len(data))
    elif how == "layer gone":
        own.unlink()
    elif how == "layer cut":
        own.write_bytes(own.read_bytes()[:-1])
    elif how == "layer changed":
        own.write_bytes(own.read_bytes()[:-1] + bytes([own.read_bytes()[-1] ^ 1]))
    elif how == "config gone":
        blob(folder, manifest.config.digest).unlink()
    elif how == "index gone":
        blob(folder, manifest.index_layers[-1].digest).unlink()
    else:
        value = json.loads(data)
        value["artifactType"] = (
            "application/vnd.layer-packer.note.v1" if how == "note" else "text/plain"
        )
        store.put_manifest(canonical_json(value), MANIFEST_TYPE, str(number))


def loadable(folder: Path) -> list[int]:
    """Return the numbers that a new process can load, whatever it is told of them."""
    storage = packer.open_storage(f"oci:{folder}")
    found = []
    for number in range(VERSIONS):
        with tempfile.TemporaryDirectory() as out:
            try:
                storage.load("app", number, Path(out, "x"))
            except PackerError:
                continue
            found.append(number)
    return found


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.dictionaries(st.integers(0, VERSIONS - 1), DAMAGES, max_size=VERSIONS),
    st.integers(1, VERSIONS),
)
def test_the_newest_that_load_stay(saved: Path, damaged: dict[int, str], keep: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "base")
        shutil.copytree(saved, folder)
        # Tags first: a layout refuses to name a manifest whose blobs are not there.
        for number, how in sorted(damaged.items(), key=lambda one: one[1] not in TAGS):
            damage(folder, number, how)
        before = loadable(folder)
        storage: Storage = packer.open_storage(f"oci:{folder}")
        done = storage.retain("app", keep=keep)
        assert loadable(folder)[-keep:] == before[-keep:]
        assert done.kept == tuple(before[-keep:]), "what is broken is never counted"
        foreign = {number for number, how in damaged.items() if how == "foreign"}
        assert not foreign & set(done.deleted), "what others wrote is left alone"
        assert foreign <= set(done.skipped)
