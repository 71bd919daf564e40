"""What README and docs say is run, or compared with the code."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import packer
from tests.registry_server import free_port, need_program, run_registry

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(kind: str) -> list[str]:
    """Return README's code blocks of a kind."""
    return re.findall(rf"^```{kind}\n(.*?)^```", README, re.S | re.M)


def shape(text: str) -> list[str]:
    """Return lines with digests, ports, sizes and counts made equal."""
    text = re.sub(r"sha256:[0-9a-f]{64}", "DIGEST", text)
    text = re.sub(r"localhost:\d+", "REGISTRY", text)
    text = re.sub(r"(under )?\d+\.\d+ %", "PERCENT", text)
    text = re.sub(r"\d[\d.\s\u00a0\u2009\u202f]*(B|KB|MB)\b", "SIZE", text)
    text = re.sub(
        r"\b\d[\d\u00a0\u2009\u202f ]*(files|file|blobs|blob|layers|layer)\b", r"N \1", text
    )
    text = re.sub(r"\b(file|blob|layer)s?\b", r"\1", text)
    return re.sub(
        r"; \d+ deleted", "; N deleted", re.sub(r", \d+ already", ", N already", text)
    ).splitlines()


def make_versions(folder: Path) -> tuple[Path, Path]:
    """Make two releases in which files stay, change and go."""
    old, new = folder / "django-5.1.3", folder / "django-5.1.4"
    shutil.copytree(ROOT / "packer", old, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    shutil.copytree(old, new)
    (new / "reference.py").write_text((old / "reference.py").read_text() + "# changed\n")
    (new / "oci.py").unlink()
    return old, new


@pytest.mark.slow
@pytest.mark.registry
def test_quickstart_prints_what_the_readme_shows(tmp_path: Path) -> None:
    need_program("docker-registry")
    old, new = make_versions(tmp_path)
    environment = {
        **os.environ,
        "BIN": str(Path(sys.executable).parent),
        "OLD": str(old),
        "NEW": str(new),
        "PORT": str(free_port()),
        "TMPDIR": str(tmp_path),
    }
    environment.pop("SOURCE_DATE_EPOCH", None)
    done = subprocess.run(
        ["sh", str(ROOT / "examples" / "quickstart")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    command, *shown = shape(blocks("console")[0])
    assert command == "$ sh examples/quickstart"
    assert shape(done.stdout) == shown
    assert not list(tmp_path.glob("quickstart.*"))


@pytest.mark.slow
def test_quickstart_without_a_registry(tmp_path: Path) -> None:
    # Where no registry can be had, a layout directory stands in.
    old, new = make_versions(tmp_path)
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("sh", "sed", "rm", "cp", "mktemp", "basename", "dirname", "diff", "cat", "kill"):
        if path := shutil.which(name):
            (programs / name).symlink_to(path)
    (programs / "layer-packer").symlink_to(Path(sys.executable).with_name("layer-packer"))
    done = subprocess.run(
        [str(programs / "sh"), str(ROOT / "examples" / "quickstart")],
        env={"BIN": str(programs), "PATH": str(programs), "OLD": str(old), "NEW": str(new)}
        | {"TMPDIR": str(tmp_path), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "oci:" in done.stdout
    assert done.stdout.endswith("every byte is back\n")


def test_the_second_command_is_a_target() -> None:
    assert blocks("console")[1] == "$ make test\n"
    assert re.search(r"^test:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)


@pytest.mark.slow
@pytest.mark.registry
def test_library_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = blocks("python")
    assert len(code.splitlines()) <= 12
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAYER_PACKER_STORE", str(tmp_path / "store"))
    old, new = make_versions(tmp_path)
    old.rename("app-1.4.1")
    new.rename("app-1.4.2")
    packer.pack("app-1.4.1", tag="app:1.4.1")
    assert code.count("registry.example/acme/app:1.4.2") == 2
    (tmp_path / "registry").mkdir()
    with run_registry(tmp_path / "registry") as server:
        exec(code.replace("registry.example", server.host), {})
    assert (tmp_path / "out" / "reference.py").read_bytes() == Path(
        "app-1.4.2/reference.py"
    ).read_bytes()


def test_readme_is_short() -> None:
    assert len(README.splitlines()) < 150


def test_changelog_names_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## {re.escape(packer.__version__)}\b", text, re.M)


def test_every_attack_has_its_tests() -> None:
    # docs/registries.md names a test for each row, and each of them is there.
    text = (ROOT / "docs" / "registries.md").read_text(encoding="utf-8")
    table = text.partition("<!-- attacks -->")[2].partition("<!-- end -->")[0]
    rows = re.findall(r"^\| (\d+) \|.*$", table, re.M)
    assert [int(row) for row in rows] == list(range(1, 24))
    for line in table.splitlines()[3:]:
        named = re.findall(r"`([a-z_/]+\.py)::(test_\w+)`", line)
        assert named or not line
        for file, test in named:
            folder = ROOT / "tests" / ("" if "/" in file else "faults")
            assert f"def {test}(" in (folder / file).read_text(encoding="utf-8"), test
