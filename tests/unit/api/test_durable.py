"""What is written is synced before it gets its name, unless the caller says otherwise."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import packer
from packer.cli.main import main
from packer.engine.native import lib
from packer.files import syscalls


@pytest.fixture
def app(tmp_path: Path) -> Path:
    root = tmp_path / "app"
    (root / "sub").mkdir(parents=True)
    (root / "sub" / "small").write_text("small")
    (root / "large").write_bytes(os.urandom(9_000_000))  # large enough to be written early
    return root


@pytest.fixture
def syncs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that gets the name of every call that waits for the disk, or starts it."""
    seen: list[str] = []
    fsync = os.fsync

    def counted(fd: int) -> None:
        seen.append(os.readlink(f"/proc/self/fd/{fd}") if sys.platform == "linux" else "fsync")
        fsync(fd)

    class Counted:
        """The C core, with two calls counted."""

        def __getattr__(self, name: str) -> object:
            if name in ("pk_sync_filesystem", "pk_start_writeback"):
                seen.append(name)
            return getattr(lib, name)

    monkeypatch.setattr(os, "fsync", counted)
    monkeypatch.setattr(syscalls, "lib", Counted())
    return seen


def test_pack_syncs_every_blob_and_every_directory_of_names(
    app: Path, tmp_path: Path, syncs: list[str]
) -> None:
    store = tmp_path / "store"
    packer.pack(app, store=store)
    blobs = list((store / "blobs" / "sha256").iterdir())
    temporary = [name for name in syncs if name.endswith(".tmp")]
    assert len(temporary) >= len(blobs) + 1  # and index.json
    if sys.platform == "linux":
        assert str(store / "blobs" / "sha256") in syncs
        assert str(store) in syncs
        assert "pk_start_writeback" in syncs


@pytest.mark.parametrize("update", [False, True])
def test_unpack_syncs_the_tree(app: Path, tmp_path: Path, syncs: list[str], update: bool) -> None:
    store, out = tmp_path / "store", tmp_path / "out"
    if update:
        out.mkdir()
        (out / "large").write_text("older")
    packer.pack(app, store=store)
    del syncs[:]
    packer.unpack("app", out, store=store, update=update)
    assert syncs.count("pk_sync_filesystem") == (2 if update else 1)
    if sys.platform == "linux":
        assert str(tmp_path) in syncs


def test_pull_syncs_store_and_tree(app: Path, tmp_path: Path, syncs: list[str]) -> None:
    packer.pack(app, store=tmp_path / "store")
    packer.push(f"oci:{tmp_path / 'other'}:1", "app", store=tmp_path / "store")
    del syncs[:]
    packer.pull(f"oci:{tmp_path / 'other'}:1", tmp_path / "out", store=tmp_path / "near")
    assert "pk_sync_filesystem" in syncs
    assert sum(name.startswith(str(tmp_path / "near")) for name in syncs) > 3


def test_nothing_is_synced_if_the_caller_says_so(
    app: Path, tmp_path: Path, syncs: list[str]
) -> None:
    """Two packs, so that the store is made and found; unpacking anew and over what is there."""
    store, out, far = tmp_path / "store", tmp_path / "out", f"oci:{tmp_path / 'other'}:1"
    digest = packer.pack(app, store=store, durable=False).digest
    (app / "sub" / "small").write_text("changed")
    packer.pack(app, store=store, tag="app:2", durable=False)
    packer.unpack("app:2", out, store=store, durable=False)
    packer.unpack("app", out, store=store, update=True, delete=True, durable=False)
    assert not syncs
    assert (out / "sub" / "small").read_text() == "small"
    assert (out / "large").read_bytes() == (app / "large").read_bytes()
    assert packer.verify("app", store=store).digest == digest
    packer.push(far, "app", store=store)
    assert syncs  # a push has no such choice
    del syncs[:]
    packer.pull(far, tmp_path / "pulled", store=tmp_path / "near", durable=False)
    packer.pull(far, tmp_path / "seeded", store=tmp_path / "near", seed=[out], durable=False)
    assert not syncs


def test_the_command_has_the_choice(app: Path, tmp_path: Path, syncs: list[str]) -> None:
    where = ("--store", str(tmp_path / "store"), "--quiet")
    assert main(["pack", str(app), "--no-sync", *where]) == 0
    assert main(["unpack", "app", str(tmp_path / "out"), "--no-sync", *where]) == 0
    assert not syncs
    assert main(["unpack", "app", str(tmp_path / "again"), *where]) == 0
    assert syncs


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize("choice", [[], ["--no-sync"]])
def test_system_calls(app: Path, tmp_path: Path, choice: list[str]) -> None:
    """The kernel's own record: no library or C code syncs unseen."""

    def traced(*words: str | Path) -> str:
        log = tmp_path / "trace"
        command: list[str | Path] = ["strace", "-f", "-o", log]
        command += ["-e", "trace=fsync,fdatasync,sync,syncfs,msync,sync_file_range"]
        command += [sys.executable, "-m", "packer", *words, "--store", tmp_path / "store"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if "ptrace" in done.stderr.lower():
            pytest.skip("processes may not be traced here")
        assert done.returncode == 0, done.stderr
        return log.read_text()

    packed = traced("pack", app, *choice)
    unpacked = traced("unpack", "app", tmp_path / "out", *choice)
    calls: Callable[[str], list[str]] = lambda text: [  # noqa: E731
        line for line in text.splitlines() if "sync" in line
    ]
    if choice:
        assert not calls(packed)
        assert not calls(unpacked)
    else:
        assert sum("fsync(" in line for line in calls(packed)) > 5
        assert any("syncfs(" in line for line in calls(unpacked))
