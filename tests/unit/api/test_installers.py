"""Every code block of docs/installers.md is run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import packer
from tests.registry_server import run_registry

TEXT = (Path(__file__).parents[3] / "docs" / "installers.md").read_text(encoding="utf-8")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", TEXT, re.S | re.M)


def write(root: Path, number: int) -> Path:
    root.mkdir(exist_ok=True)
    (root / "app.yaml").write_text(f"version: {number}\n")
    (root / "same.yaml").write_text("same: true\n")
    return root


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with run_registry(tmp_path_factory.mktemp("registry")) as server:
        yield server.host


def test_every_block_is_known() -> None:
    assert len(blocks("python")) == 6
    assert len(blocks("sh")) == 3
    assert TEXT.count("```") == 2 * 9


@pytest.mark.slow
@pytest.mark.registry
def test_the_installer(registry: str, tmp_path: Path) -> None:
    program = blocks("python")[0]
    assert len([line for line in program.splitlines() if line.strip()]) <= 50
    (tmp_path / "installer.py").write_text(program)

    def run(*words: str) -> list[str]:
        command = [sys.executable, "installer.py", f"docker://{registry}/org/base", "app", *words]
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    write(tmp_path / "v1", 1)
    assert run("update", "v1")[-1] == "deployed 0: 2 files written, 0 removed"
    write(tmp_path / "v2", 2)
    (tmp_path / "v2/same.yaml").unlink()
    lines = run("update", "v2")
    assert lines[:2] == ["changed app.yaml", "removed same.yaml"]
    assert lines[-1] == "deployed 1: 1 files written, 1 removed"
    assert [line[:4] for line in run("history")] == ["  0 ", "* 1 "]
    assert run("rollback") == ["rolled back to 0"]
    assert (tmp_path / "deployed-app/app.yaml").read_text() == "version: 1\n"
    assert (tmp_path / "deployed-app/same.yaml").exists()
    assert [line[:4] for line in run("history")] == ["* 0 ", "  1 "]


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
def test_the_library(number: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = tmp_path / "bundle.tar.gz"
    with tarfile.open(bundle, "w:gz") as archive:
        archive.add(write(tmp_path / "v", 1), "v")
    names = {"BASE": f"oci:{tmp_path / 'base'}", "SOURCE": str(tmp_path / "v"), "BUNDLE": bundle}
    exec(blocks("python")[number], names)
    printed = capsys.readouterr().out.splitlines()
    expected = {
        1: [],
        5: ["0 sound "],
        2: ["app.yaml 11", "same.yaml 11", "b'version: 1\\n'", "version: 1", ""],
        4: ["(2,) (0, 1, 3, 4) " + str(removed_bytes(names["BASE"]))] if number == 4 else [],
    }
    if number == 3:
        assert printed[0].endswith(f" {bundle.stat().st_size}")
    else:
        assert printed == expected[number]


def removed_bytes(base: object) -> int:
    """All five versions have the same blobs: only a manifest goes."""
    storage = packer.open_storage(str(base))
    return storage.version("app", 3).descriptor.size


@pytest.mark.slow
@pytest.mark.registry
def test_the_vendors_commands(registry: str, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "REGISTRY": registry,
        "LAYER_PACKER_STORE": str(tmp_path / "other"),
    }

    def run(script: str) -> str:
        done = subprocess.run(
            ["sh", "-e", "-c", script],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    write(tmp_path / "release", 1)
    run('layer-packer pack release --tag app:1.4.1; layer-packer push "$REGISTRY/acme/app:1.4.1"')
    write(tmp_path / "release", 2)
    environment["LAYER_PACKER_STORE"] = str(tmp_path / "fresh")
    packed, changes, stick = (run(block) for block in blocks("sh"))
    assert "app:1.4.2  sha256:" in packed
    assert changes.splitlines()[1].split()[::7] == ["~", "app.yaml"]
    assert "far/app:1.4.2  sha256:" in stick
