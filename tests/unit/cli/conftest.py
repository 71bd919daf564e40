"""A store, the command on it, and trees to pack."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from packer.cli.main import main
from tests.command import Result, Run


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def run(
    store: Path, capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> Run:
    monkeypatch.setenv("LAYER_PACKER_STORE", str(store))

    def call(*words: str | Path) -> Result:
        capsysbinary.readouterr()
        code = main([os.fspath(word) for word in words])
        out, err = capsysbinary.readouterr()
        assert err.count(b"Traceback") == 0 or "--debug" in words
        return Result(code, out, err.decode())

    return call


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """A directory of about 300 KB: files, an empty directory, a link, an executable."""
    root = tmp_path / "app-1.0"
    (root / "sub").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "a.yaml").write_text("".join(f"line {at}\n" for at in range(20_000)))
    (root / "sub" / "run").write_bytes(os.urandom(70_000))
    (root / "sub" / "run").chmod(0o755)
    (root / "link").symlink_to("a.yaml")
    return root


@pytest.fixture
def changed(app: Path, tmp_path: Path) -> Path:
    """The next version of `app`: one file changed, one added, one removed."""
    root = tmp_path / "app-1.1"
    (root / "sub").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "a.yaml").write_bytes((app / "a.yaml").read_bytes() + b"one more\n")
    (root / "new").write_text("new")
    (root / "link").symlink_to("a.yaml")
    return root
