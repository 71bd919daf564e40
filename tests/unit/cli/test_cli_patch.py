"""``diff --patch``: text, JSON, colours, the pager, and values that make no sense."""

from __future__ import annotations

import os
import pty
import sys
import time
from pathlib import Path

import pytest

from tests.builders import write
from tests.command import Run, check_error


@pytest.fixture
def packed(run: Run, tmp_path: Path) -> None:
    for number in (1, 2):
        root = write(
            tmp_path / f"v{number}",
            {
                "a.yaml": b"one\n\tversion: %d\nthree\n" % number,
                "sub/evil": b"\x1b[2J%d\r\n" % number,
                "bin": b"\0%d" % number,
            },
        )
        run("pack", root, "--tag", f"app:{number}")


@pytest.mark.usefixtures("packed")
def test_the_text(run: Run) -> None:
    result = run("diff", "--patch", "app:1", "app:2")
    assert result.code == 0
    assert result.err == ""
    assert result.out == (
        b"diff --git a/a.yaml b/a.yaml\n--- a/a.yaml\n+++ b/a.yaml\n@@ -1,3 +1,3 @@\n one\n"
        b"-\tversion: 1\n+\tversion: 2\n three\n"
        b"diff --git a/bin b/bin\nBinary files a/bin and b/bin differ (2 B and 2 B)\n"
        b"diff --git a/sub/evil b/sub/evil\n--- a/sub/evil\n+++ b/sub/evil\n@@ -1 +1 @@\n"
        b"-\x1b[2J1\r\n+\x1b[2J2\r\n"
    )
    one = run("diff", "app:1", "-p", "app:2", "a.yaml", "-U", "0", "--exit-code")
    assert one.code == 10
    assert one.out.endswith(b"@@ -2 +2 @@\n-\tversion: 1\n+\tversion: 2\n")
    assert run("diff", "-p", "app:1", "app:1", "--exit-code").code == 0


@pytest.mark.usefixtures("packed")
def test_json(run: Run) -> None:
    value = run("diff", "--patch", "app:1", "app:2", "a.yaml", "--json").json
    assert value["old"] == "app:1"
    (patch,) = value["patches"]
    assert (patch["path"], patch["form"], patch["old_mode"]) == ("a.yaml", "text", "100644")
    (hunk,) = patch["hunks"]
    assert (hunk["old_start"], hunk["old_lines"]) == (1, 3)
    assert hunk["lines"][1] == {"mark": "-", "text": "\tversion: 1\n"}


@pytest.mark.usefixtures("packed")
@pytest.mark.parametrize(
    "words",
    [
        ("diff", "app:1", "app:2", "a.yaml"),
        ("diff", "app:1", "app:2", "-U", "3"),
        ("diff", "app:1", "app:2", "--max-size", "1MB"),
        ("diff", "app:1", "app:2", "--no-pager"),
        ("diff", "-p", "app:1", "app:2", "-U", "-1"),
        ("diff", "-p", "app:1", "app:2", "-U", "1001"),
        ("diff", "-p", "app:1", "app:2", "--max-size", "much"),
        ("diff", "-p", "app:1", "app:2", "--max-size", "1TB"),
        ("diff", "-p", "app:1", "app:2", "/a.yaml"),
        ("diff", "-p", "app:1", "app:2", "../a.yaml"),
    ],
)
def test_values_that_make_no_sense(run: Run, words: tuple[str, ...]) -> None:
    check_error(run, 2, "InvalidParameter", *words)


@pytest.mark.usefixtures("packed")
def test_other_errors(run: Run) -> None:
    check_error(run, 2, "UsageError", "diff", "-p", "app:1", "app:2", "-U", "x")
    check_error(run, 2, "UsageError", "diff", "-p", "app:1")
    check_error(run, 3, "NotFound", "diff", "-p", "app:1", "app:2", "nosuch")


def on_a_terminal(store: Path, *words: str, **environment: str) -> str:
    """Return what a run on a terminal shows."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(LAYER_PACKER_STORE=str(store), TERM="xterm", **environment)
        os.execv(sys.executable, [sys.executable, "-m", "packer", *words])
    shown = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            data = os.read(terminal, 4096)
        except OSError:  # the other side is closed
            break
        if not data:
            break
        shown += data
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    return shown.decode()


@pytest.mark.slow
@pytest.mark.usefixtures("packed")
def test_on_a_terminal(store: Path, tmp_path: Path) -> None:
    words = ("diff", "--patch", "app:1", "app:2")
    shown = on_a_terminal(store, *words, PAGER="cat")
    assert "\x1b[31m-        version: 1\x1b[0m" in shown.replace("\t", "        ") or (
        "\x1b[31m-       version: 1\x1b[0m" in shown
    )
    assert "\\x1b[2J1\\r" in shown
    assert "\x1b[2J" not in shown
    plain = on_a_terminal(store, *words, "--no-pager", NO_COLOR="1", PAGER="false")
    assert "\x1b" not in plain
    assert "+       version: 2" in plain
    pager = tmp_path / "pager"
    pager.write_text("#!/bin/sh\nsed 's/^/paged: /'\n")
    pager.chmod(0o755)
    assert "paged: \x1b[1mdiff --git" in on_a_terminal(store, *words, PAGER=str(pager))
    # A person who leaves the pager at once, and a pager that is not there.
    assert on_a_terminal(store, *words, LAYER_PACKER_PAGER="true", PAGER=str(pager)) == ""
    assert "version: 2" in on_a_terminal(store, *words, PAGER=str(tmp_path / "nosuch"))
    assert "version: 2" in on_a_terminal(store, *words, PAGER="'")
