"""Archives for an air gap: damage and interruptions."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import packer
from packer.errors import (
    DigestMismatch,
    NotFound,
    PackerError,
    SizeMismatch,
)
from packer.stores.archive.store import ArchiveStore
from packer.stores.memory import MemoryStore
from packer.stores.registry.store import RegistryStore
from tests.conformance.gap import Gap, base_on_the_far_side, near, same_trees
from tests.conformance.test_airgap import partial

pytestmark = pytest.mark.registry


@pytest.mark.parametrize("how", ["missing", "short", "changed", "list"])
def test_damaged_parts_are_refused(gap: Gap, tmp_path: Path, how: str) -> None:
    update = partial(gap, tmp_path, split_bytes=50_000)
    there = base_on_the_far_side(gap, f"damaged-{how}")
    part = tmp_path / "update.tar.003"
    data = part.read_bytes()
    error: type[PackerError] = NotFound
    if how == "missing":
        part.unlink()
    elif how == "list":
        part = tmp_path / "update.tar.sha256"
        part.unlink()
    elif how == "short":
        part.write_bytes(data[:-1])
        error = SizeMismatch
    else:
        part.write_bytes(data[:20_000] + bytes([data[20_000] ^ 128]) + data[20_001:])
        error = DigestMismatch
    with pytest.raises(error) as caught:
        packer.copy(update, f"{there}:1.4.2", store=MemoryStore())
    assert str(part) in str(caught.value)
    assert [tag for tag, _ in RegistryStore(there).tags()] == ["1.4.1"]
    part.unlink(missing_ok=True)
    if how == "list":
        return
    # Written again on the near side, and carried over.
    partial(gap, tmp_path, split_bytes=50_000)
    assert part.read_bytes() == data
    packer.copy(update, f"{there}:1.4.2", store=MemoryStore())
    packer.pull(f"{there}:1.4.2", tmp_path / "out", store=MemoryStore())
    assert same_trees(tmp_path / "out", gap.trees["1.4.2"])


@pytest.mark.parametrize("how", ["truncated", "changed"])
def test_a_damaged_archive_is_refused(gap: Gap, tmp_path: Path, how: str) -> None:
    update = partial(gap, tmp_path)
    there = base_on_the_far_side(gap, f"archive-{how}")
    path = tmp_path / "update.tar"
    data = path.read_bytes()
    at = len(data) - 150_000
    if how == "truncated":
        path.write_bytes(data[:at])
    else:
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    with pytest.raises(PackerError) as caught:
        packer.copy(update, f"{there}:1.4.2", store=MemoryStore())
    assert "sha256:" in str(caught.value) or "update.tar" in str(caught.value)
    assert [tag for tag, _ in RegistryStore(there).tags()] == ["1.4.1"]


_COPY = """
import os, signal, sys
import packer
limit, source, target, store, split = sys.argv[1:]
def watch(progress):
    if progress.done_bytes >= int(limit):
        os.kill(os.getpid(), signal.SIGKILL)
packer.copy(source, target, have=["1.4.1"] if split != "-" else (), store=store, progress=watch,
            split_bytes=int(split) if split.isdigit() else None)
"""


@pytest.mark.parametrize("split", ["50000", "whole"])
def test_killed_while_writing(gap: Gap, tmp_path: Path, split: str) -> None:
    size = int(split) if split.isdigit() else None
    path = tmp_path / "a.tar"
    words = [near(gap, "1.4.2"), f"oci-archive:{path}", str(tmp_path / "store"), split]
    for limit in ("1", "120000", "250000"):
        done = subprocess.run([sys.executable, "-c", _COPY, limit, *words], check=False)
        assert done.returncode == -signal.SIGKILL
        assert not path.exists()
        with pytest.raises(NotFound):
            ArchiveStore(path, create=False)
    (tmp_path / "good").mkdir()
    partial(gap, tmp_path / "good")
    packer.copy(near(gap, "1.4.2"), words[1], have=["1.4.1"], split_bytes=size, store=MemoryStore())
    parts = sorted(tmp_path.glob("a.tar.[0-9]*")) if size else [path]
    assert (
        b"".join(part.read_bytes() for part in parts)
        == (tmp_path / "good" / "update.tar").read_bytes()
    )
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".tmp")]


def test_killed_while_completing(gap: Gap, tmp_path: Path) -> None:
    update = partial(gap, tmp_path)
    there = base_on_the_far_side(gap, "killed")
    words = [update, f"{there}:1.4.2", str(tmp_path / "store"), "-"]
    for limit in ("1", "200000"):
        done = subprocess.run([sys.executable, "-c", _COPY, limit, *words], check=False)
        assert done.returncode == -signal.SIGKILL
        assert [tag for tag, _ in RegistryStore(there).tags()] == ["1.4.1"]
    packer.copy(update, f"{there}:1.4.2", store=MemoryStore())
    packer.pull(f"{there}:1.4.2", tmp_path / "out", store=MemoryStore())
    assert same_trees(tmp_path / "out", gap.trees["1.4.2"])
