"""Completion: in a real bash, zsh and fish, and a manual page that man can show."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from packer.stores.layout import LayoutStore
from tests.builders import write
from tests.command import Run, check_error
from tests.referrers import cosign_signature


@pytest.fixture
def shells(run: Run, store: Path, tmp_path: Path) -> Path:
    """A directory with the scripts, some files, and versions in the store, one of them signed."""
    root = write(tmp_path / "tree", {"a": b"a"})
    for tag in ("app:1.4.1", "app:1.4.2", "registry.example/acme/app:7", "other"):
        run("pack", root, "--tag", tag)
    layout = LayoutStore(store)
    cosign_signature(layout, layout.resolve("other"), "key")  # its tag names no version
    place = write(tmp_path / "place", {"folder/file": b"", "folder two/x": b"", "rules.txt": b""})
    for shell in ("bash", "zsh", "fish"):
        result = run("completion", shell)
        assert result.code == 0
        (place / f"completion.{shell}").write_bytes(result.out)
    return place


def need(shell: str) -> str:
    found = shutil.which(shell)
    if found is None:
        pytest.skip(f"no {shell}")
    return found


def bash(place: Path, store: Path, line: str) -> set[str]:
    """Return what the function offers for a line."""
    code = """
        source completion.bash
        COMP_LINE=$1 COMP_POINT=${#1} COMPREPLY=()
        _layer_packer
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    found = subprocess.run(
        [need("bash"), "--norc", "-c", code, "bash", line],
        cwd=place,
        env={**os.environ, "LAYER_PACKER_STORE": str(store)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert not found.stderr
    return set(found.stdout.splitlines()) - {""}


def test_bash(shells: Path, store: Path) -> None:
    def offered(line: str) -> set[str]:
        return bash(shells, store, f"layer-packer {line}")

    verbs = offered("")
    assert {"pack", "pull", "unpack", "storage", "completion"} <= verbs
    assert offered("unp") == {"unpack"}
    # Only what is behind the last colon is replaced.
    assert offered("unpack app:") == {"1.4.1", "1.4.2"}
    assert offered("ls ap") == {"app:1.4.1", "app:1.4.2"}
    assert offered("ls ") == {"app:1.4.1", "app:1.4.2", "registry.example/acme/app:7", "other"}
    assert offered("ls registry.example/acme/app:") == {"7"}
    assert offered("unpack app:1.4.1 fo") == {"folder", "folder two"}
    assert offered("unpack app:1.4.1 --upd") == {"--update"}
    assert offered("unpack app:1.4.1 -") >= {"-u", "--update", "--json", "--plain-http"}
    assert offered("diff app:1.4.1 oth") == {"other"}
    assert offered("-q diff -U 3 app:1.4.1 oth") == {"other"}
    assert offered("pack --base ap") == {"app:1.4.1", "app:1.4.2"}
    assert offered("pack --tag ap") == set()
    assert offered("pack --exclude-from ru") == {"rules.txt"}
    assert offered("unpack -o ") == {"-"}
    assert offered("storage ret") == {"retain"}
    assert offered("storage retain --kee") == {"--keep"}
    assert offered("registry config --for ") >= {"kubernetes", "compose"}
    assert offered("help unp") == {"unpack"}
    assert offered("completion ") == {"bash", "zsh", "fish"}
    assert offered(f"--store {shells} ls ") == set()
    assert offered(f"ls --store={store} oth") == {"other"}
    assert offered("nosuch ") >= {"pack"}
    assert offered("ls $(touch x) `touch x` ap") == set()
    assert not (shells / "x").exists()


class Terminal:
    """A shell on a terminal."""

    def __init__(self, words: list[str], place: Path, store: Path) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(place)
            os.environ.update(LAYER_PACKER_STORE=str(store), TERM="dumb", PS1="", HOME=str(place))
            os.execv(words[0], words)

    def show(self, text: str, until: str) -> str:
        """Type a text, and return what is shown, up to a text."""
        os.write(self.fd, text.encode())
        shown = ""
        deadline = time.monotonic() + 60
        while until not in shown and time.monotonic() < deadline:
            if select.select([self.fd], [], [], 1)[0]:
                shown += os.read(self.fd, 4096).decode("utf-8", "replace")
        assert until in shown, shown
        return shown

    def close(self) -> None:
        os.close(self.fd)
        os.waitpid(self.pid, 0)


@pytest.mark.slow
def test_bash_on_a_terminal(shells: Path, store: Path) -> None:
    """With a tab, as a person does it."""
    terminal = Terminal([need("bash"), "--norc", "--noprofile", "-i"], shells, store)
    try:
        terminal.show("source completion.bash; echo read''y\n", "ready")
        terminal.show("layer-packer unpa\t", "layer-packer unpack ")
        terminal.show("ap\t", "p:1.4.")
        terminal.show("1 fol\t", "der")
        terminal.show("\x15layer-packer ls reg\t", "istry.example/acme/app:7 ")
        terminal.show("\x15exit\n", "exit")
    finally:
        terminal.close()


@pytest.mark.slow
def test_fish(shells: Path, store: Path) -> None:
    def offered(line: str) -> set[str]:
        found = subprocess.run(
            [need("fish"), "--no-config", "-c", f"source completion.fish; complete -C '{line}'"],
            cwd=shells,
            env={**os.environ, "LAYER_PACKER_STORE": str(store), "HOME": str(shells)},
            capture_output=True,
            text=True,
            check=True,
        )
        return {each.partition("\t")[0] for each in found.stdout.splitlines()}

    assert offered("layer-packer unp") == {"unpack"}
    assert offered("layer-packer ls app") == {"app:1.4.1", "app:1.4.2"}
    assert offered("layer-packer unpack other fol") == {"folder/", "folder two/"}
    assert "--update" in offered("layer-packer unpack --up")
    assert offered("layer-packer storage ret") == {"retain"}
    assert offered("layer-packer completion z") == {"zsh"}


@pytest.mark.slow
def test_zsh(shells: Path, store: Path) -> None:
    terminal = Terminal([need("zsh"), "-f", "-i"], shells, store)
    try:
        terminal.show(
            "unsetopt zle_bracketed_paste; autoload -U compinit; compinit -u;"
            " source ./completion.zsh; echo read''y\n",
            "ready",
        )
        terminal.show("layer-packer unpa\t", "layer-packer unpack ")
        terminal.show("oth\t", "other ")
        terminal.show("fol\t", "folder")
        terminal.show("\x15layer-packer storage ret\t", "storage retain ")
        terminal.show("\x15layer-packer ls reg\t", "registry.example/acme/app")
        terminal.show("\x15exit\n", "exit")
    finally:
        terminal.close()


def test_wrong_shells(run: Run) -> None:
    check_error(run, 2, "UsageError", "completion", "tcsh")
    check_error(run, 2, "UsageError", "completion")
    value = run("completion", "bash", "--json").json
    assert value["shell"] == "bash"
    assert value["script"].startswith("# Completion")


def test_the_manual_page(run: Run) -> None:
    page = run("manual").out
    assert page.startswith(b".TH LAYER")
    assert run("manual", "--json").json["text"].encode() == page
    if shutil.which("groff") is None:
        pytest.skip("no groff")
    found = subprocess.run(
        ["groff", "-man", "-ww", "-Tascii", "-P-cbou", "-rLL=100n"],
        input=page,
        capture_output=True,
        check=True,
    )
    assert not found.stderr
    shown = found.stdout.decode()
    for text in ("unpack NAME DIR PATH...", "-u, --update", "--plain-http", "10  diff --exit-code"):
        assert text in shown, text


def test_completion_loads_with_the_verb_alone() -> None:
    code = "import sys; from packer.cli.main import main; main(['gc', '--help'])"
    found = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import atexit, sys; atexit.register(lambda: print(*sys.modules)); {code}",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "packer.cli.completion" not in found.stdout
