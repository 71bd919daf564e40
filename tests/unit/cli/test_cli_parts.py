"""The command with parts of versions, rules, and tar streams."""

from __future__ import annotations

import base64
import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.builders import write
from tests.command import Run, check_error

FILES = {
    "charts/app/values.yaml": b"a: 1\n",
    "charts/notes.md": b"n\n",
    "debug.log": b"123\n",
    "readme.md": b"r\n",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write(tmp_path / "app-1", FILES)


def written(out: Path) -> set[str]:
    return {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}


def test_a_part_is_written(run: Run, root: Path, tmp_path: Path) -> None:
    run("pack", root, "--tag", "app:1")
    out = tmp_path / "out"
    done = run("unpack", "app:1", out, "charts/app", "readme.md", "--json").json
    assert (done["files"], done["written_files"]) == (2, 2)
    assert written(out) == {"charts/app/values.yaml", "readme.md"}
    # Options may stand between the words.
    done = run("unpack", "app:1", out, "--update", "charts", "--exclude", "*.yaml", "--json").json
    assert done["written_files"] == 1
    place = f"oci:{tmp_path}/there:1"
    run("push", place, "--from", "app:1")
    line = run("pull", "--include", "*.md", place, tmp_path / "pulled")
    assert "wrote 2 files" in line.text
    assert written(tmp_path / "pulled") == {"charts/notes.md", "readme.md"}


def test_what_is_left_out_is_shown(run: Run, root: Path, tmp_path: Path) -> None:
    (tmp_path / "rules").write_text("# comment\n*.log\n")
    (root / ".layerpackerignore").write_text("charts/app/\n")
    words = ("pack", root, "--tag", "app:1", "--exclude-from", tmp_path / "rules")
    text = run(*words).text
    assert "left out 1 file, 4 B and 1 directory: charts/app/ debug.log\n" in text
    value = run(*words, "--json").json
    assert value["left_out"] == {
        "files": 1,
        "bytes": 4,
        "directories": 1,
        "paths": [{"path": "charts/app/"}, {"path": "debug.log"}],
    }
    assert value["unchanged"]
    assert "left out" in run(*words).text
    assert run("pack", root, "--no-ignore-files", "--json").json["files"] == 5
    pushed = run("push", f"oci:{tmp_path}/there:1", "--from", root)
    assert "0 files and links, 1 directories, such as charts/app/" in pushed.err


@pytest.mark.parametrize(
    "words",
    [
        ("unpack", "app:1", "OUT", "../x"),
        ("unpack", "app:1", "OUT", "/readme.md"),
        ("unpack", "app:1", "OUT", ""),
        ("unpack", "app:1", "OUT", "--include", "["),
        ("unpack", "app:1", "OUT", "--exclude", "!"),
        ("unpack", "app:1", "OUT", "--include", ""),
        ("unpack", "app:1", "OUT", "--exclude", "#x"),
        ("unpack", "app:1", "OUT", "--exclude", "[z-a]"),
        ("unpack", "app:1", "OUT", "--update", "--delete", "charts"),
        ("unpack", "app:1"),
        ("unpack", "app:1", "-o", "-", "--update"),
        ("unpack", "app:1", "-o", "-", "--seed", "x"),
        ("pull", "oci:THERE:1", "OUT", "--dry-run", "charts"),
        ("pull", "oci:THERE:1", "OUT", "--keep", "1", "charts"),
        ("pull", "oci:THERE:1", "OUT", "--keep", "all", "--exclude", "x"),
        ("pull", "oci:THERE:1", "OUT", "--dry-run", "--include", "x"),
        ("pack", "ROOT", "--exclude", "["),
        ("pack", "ROOT", "--exclude", ""),
        ("pack", "ROOT", "--exclude", "*a*a*a*a*a*a*a*a"),
        ("pack", "ROOT", "--exclude-from", "RULES"),
        ("pack", "-"),
    ],
)
def test_malformed_and_contradicting_values(
    run: Run, root: Path, tmp_path: Path, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    run("pack", root, "--tag", "app:1")
    run("push", f"oci:{tmp_path}/there:1", "--from", "app:1")
    (tmp_path / "rules").write_bytes(b"a\n" + b"\\")
    places = {"OUT": "out", "ROOT": "app-1", "RULES": "rules"}
    found = [str(tmp_path / places[word]) if word in places else word for word in words]
    found = [word.replace("THERE", f"{tmp_path}/there") for word in found]
    check_error(run, 2, "InvalidParameter", *found)
    assert not (tmp_path / "out").exists()


def test_other_usage_errors(run: Run, root: Path, tmp_path: Path) -> None:
    run("pack", root, "--tag", "app:1")
    check_error(run, 2, "UsageError", "unpack", "app:1", "-o", "x.tar")
    check_error(run, 2, "UsageError", "unpack", "app:1", tmp_path / "out", "--incl", "x")
    check_error(run, 2, "UsageError", "unpack")
    check_error(run, 3, "NotFound", "unpack", "app:1", tmp_path / "out", "nosuch")
    check_error(run, 3, "NotFound", "unpack", "app:1", tmp_path / "out", "--include", "nosuch")
    check_error(run, 9, "FileNotFoundError", "pack", root, "--exclude-from", tmp_path / "none")
    check_error(run, 9, "IsADirectoryError", "pack", root, "--exclude-from", tmp_path)


def test_tar_in_and_out(
    run: Run, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("pack", root, "--tag", "app:1")
    data = run("unpack", "app:1", "-o", "-").out
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert [member.name for member in archive] == [
            *("charts", "charts/app", "charts/app/values.yaml", "charts/notes.md"),
            *("debug.log", "readme.md"),
        ]
    part = run("unpack", "app:1", "-o", "-", "charts", "--exclude", "app").out
    with tarfile.open(fileobj=io.BytesIO(part)) as archive:
        assert archive.getnames() == ["charts", "charts/notes.md"]
    assert (
        run("cat", "app:1", "charts/app").out == run("unpack", "app:1", "-o", "-", "charts/app").out
    )
    value = run("unpack", "app:1", "-o", "-", "--json").json
    assert base64.b64decode(value["content_base64"]) == data
    assert (value["name"], value["bytes"]) == ("app:1", len(data))
    value = run("cat", "app:1", "charts/app", "--json").json
    assert value["path"] == "charts/app"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    again = run("pack", "-", "--tag", "app:2", "--json").json
    assert again["unchanged"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data[:-2000])))
    found = run("pack", "-", "--tag", "app:3", "--json")
    assert (found.code, found.json["kind"]) == (7, "SourceError")
    monkeypatch.setattr(sys, "stdin", None)
    check_error(run, 2, "InvalidParameter", "pack", "-", "--tag", "app:3")


@pytest.mark.slow
def test_pipes_between_processes(root: Path, store: Path, tmp_path: Path) -> None:
    """tar | pack -, unpack -o - | tar; a reader that leaves; a producer that dies."""
    environment = {**os.environ, "LAYER_PACKER_STORE": str(store)}
    command = f"{sys.executable} -m packer"

    def shell(line: str) -> int:
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", line], env=environment, cwd=tmp_path, check=False
        )
        return done.returncode

    assert shell(f"tar -c -C app-1 . | {command} pack - --tag app:1 -q") == 0
    assert shell(f"mkdir out && {command} unpack app:1 -o - | tar -x -C out") == 0
    assert shell("diff -r app-1 out") == 0
    assert shell(f"{command} cat app:1 charts | tar -t > names") == 0
    assert (tmp_path / "names").read_text().splitlines()[0] == "charts/"
    assert shell(f"tar -c -C app-1 . | head -c 3000 | {command} pack - --tag app:2 -q") == 7
    assert shell(f"tar -cz -C app-1 . | {command} pack - --tag app:2 -q") == 7
