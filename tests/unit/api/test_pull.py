"""A pull looks at the target, the artifact and the free space before it fetches a layer."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

import packer
from packer.errors import TargetExists, UnsupportedVersion
from packer.stores.memory import MemoryStore
from packer.transfer.copy_graph import copy
from tests.artifacts import make


@pytest.fixture
def there(tmp_path: Path) -> str:
    """Return a reference of a version with 5 MB that do not compress."""
    root = tmp_path / "app"
    root.mkdir()
    (root / "data").write_bytes(random.Random(1).randbytes(5_000_000))
    packer.pack(root, store=tmp_path / "there", tag="1")
    return f"oci:{tmp_path / 'there'}:1"


def stored(store: Path) -> list[str]:
    return sorted(path.name for path in store.glob("blobs/sha256/*"))


def test_a_target_with_content(there: str, tmp_path: Path) -> None:
    out, store = tmp_path / "out", tmp_path / "store"
    out.mkdir()
    (out / "mine").touch()
    with pytest.raises(TargetExists):
        packer.pull(there, out, store=store)
    assert stored(store) == []


def test_a_foreign_artifact(tmp_path: Path) -> None:
    whole, store = MemoryStore(), tmp_path / "store"
    make(whole, [100, 200], "v1")
    copy(whole, "v1", packer.open_store(tmp_path / "foreign"), "v1")
    with pytest.raises(UnsupportedVersion, match="was not written by layer-packer"):
        packer.pull(f"oci:{tmp_path / 'foreign'}:v1", tmp_path / "out", store=store)
    assert stored(store) == []
    assert packer.versions(store=store) == []


def test_no_room(there: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Only the kernel can tell of a small disk.
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=1000, f_frsize=4096))
    store = tmp_path / "store"
    with pytest.raises(OSError, match="5000000 bytes needed, 4096000 free"):
        packer.pull(there, tmp_path / "new" / "out", store=store)
    assert stored(store) == []
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("form", [str, os.fsencode, Path])
def test_one_path_is_one_seed(there: str, tmp_path: Path, form: Callable[[Path], str]) -> None:
    # Would catch: taking a path for the list of its letters, "/" among them.
    pulled = packer.pull(there, tmp_path / "out", store=tmp_path / "s", seed=form(tmp_path / "app"))
    assert pulled.restored.seeded_bytes == 5_000_000
    assert pulled.fetched_bytes < 10_000
