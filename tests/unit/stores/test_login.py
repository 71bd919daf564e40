"""Logging in and out."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import packer
from packer.errors import (
    AuthError,
    NotFound,
    PackerError,
    StoreError,
)
from packer.stores.registry.access import RegistryOptions
from tests.hostile import HostileRegistry, hostile_registry
from tests.unit.stores.test_access import LOGIN, basic, entry, pull_with
from tests.unit.stores.test_access import docker_folder as docker_folder
from tests.unit.stores.test_access import locked as locked

HELPER = r"""#!/bin/sh
NONE="credentials not found in native keychain"
echo "$1" >> "$0.calls"
case $1 in
store) cat > "$0.kept";;
get) cat > /dev/null; cat "$0.kept" 2>&- || { echo "$NONE"; exit 1; };;
erase) cat > "$0.erased"; rm -f "$0.kept";;
esac
"""


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    path = folder / "docker-credential-testing"
    path.write_text(HELPER)
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    return path


def test_login_and_logout(locked: HostileRegistry, docker_folder: Path) -> None:
    path = docker_folder / "config.json"
    with pytest.raises(AuthError):
        packer.login(locked.host, "alice", "wrong-pass")
    assert not docker_folder.exists()
    assert packer.login(f"http://{locked.host}/v2/", *LOGIN).kept_in == str(path)
    assert json.loads(path.read_text()) == {
        "auths": {locked.host: {"auth": basic(":".join(LOGIN))}}
    }
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    pull_with(locked, RegistryOptions())
    # What else is in the file stays, in its order; a link to it stays a link.
    config = json.loads(path.read_text()) | {"detachKeys": "ctrl-e,e", "auths": {"a.example": {}}}
    (docker_folder / "real.json").write_text(json.dumps(config))
    path.unlink()
    path.symlink_to("real.json")
    packer.login(locked.host, *LOGIN)
    assert path.is_symlink()
    kept = json.loads(path.read_text())
    assert list(kept["auths"]) == ["a.example", locked.host]
    assert kept["detachKeys"] == "ctrl-e,e"
    assert packer.logout(locked.host) == locked.host
    assert list(json.loads(path.read_text())["auths"]) == ["a.example"]
    with pytest.raises(NotFound, match="login"):
        packer.logout(locked.host)
    assert sorted(os.listdir(docker_folder)) == ["config.json", "real.json"]


def test_login_with_a_token_service() -> None:
    with hostile_registry(auth="token") as server:
        with pytest.raises(AuthError):
            packer.login(server.host, "alice", "wrong-pass")
        assert packer.login(server.host, *LOGIN)
        # No repository is asked about: a service may refuse those it does not know.
        asked = [item.query for item in server.seen if item.path == "/token"]
        assert asked
        assert not any("scope" in query for query in asked)


def test_login_with_a_helper(locked: HostileRegistry, docker_folder: Path, helper: Path) -> None:
    docker_folder.mkdir()
    path = docker_folder / "config.json"
    path.write_text(json.dumps({"credHelpers": {locked.host: "testing"}}))
    assert packer.login(locked.host, *LOGIN).kept_in == "docker-credential-testing"
    assert "s3cret" not in path.read_text()
    stored = json.loads(Path(f"{helper}.kept").read_text())
    assert stored == {"ServerURL": locked.host, "Username": LOGIN[0], "Secret": LOGIN[1]}
    pull_with(locked, RegistryOptions())
    packer.logout(locked.host)
    assert Path(f"{helper}.erased").read_text() == locked.host
    with pytest.raises(NotFound):
        packer.logout(locked.host)
    # One that is missing, and one that fails: an error that shows nothing of what it got.
    for name, script in (("missing", None), ("testing", "#!/bin/sh\ncat >&2; exit 1\n")):
        path.write_text(json.dumps({"credsStore": name}))
        if script:
            helper.write_text(script)
        with pytest.raises(StoreError) as caught:
            packer.login(locked.host, *LOGIN)
        assert "s3cret" not in str(caught.value)
    path.write_text(json.dumps({"credsStore": "../../evil"}))
    with pytest.raises(StoreError, match="not the name"):
        packer.login(locked.host, *LOGIN)


@pytest.mark.parametrize("text", ["[]", "{", '{"auths":[]}'])
def test_login_leaves_a_file_alone_that_it_does_not_understand(
    locked: HostileRegistry, docker_folder: Path, text: str
) -> None:
    docker_folder.mkdir()
    (docker_folder / "config.json").write_text(text)
    with pytest.raises(PackerError):
        packer.login(locked.host, *LOGIN)
    assert (docker_folder / "config.json").read_text() == text


@pytest.mark.slow
def test_login_command(locked: HostileRegistry, docker_folder: Path) -> None:
    def run(*words: str, text: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "packer", *words],
            input=text, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    login = ("login", locked.host, "--username", "alice")
    done = run(*login, "--password-stdin", "--json", text="s3cret-pass\n")
    assert done.returncode == 0, done.stderr
    kept_in = str(docker_folder / "config.json")
    shown = {"registry": locked.host, "username": "alice", "kept_in": kept_in}
    assert json.loads(done.stdout) == shown
    assert "s3cret" not in done.stdout + done.stderr
    assert run(*login, "--password-stdin", text="wrong-pass\n").returncode == 6
    assert run(*login, "--password-stdin").returncode == 2
    assert run(*login).returncode == 2  # nobody there to ask
    assert run("login", locked.host, "--password-stdin", text="x").returncode == 2
    done = run("logout", locked.host, "--json")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"registry": locked.host})
    assert run("logout", locked.host).returncode == 3


_TERMINAL = """
import os, pty, sys
sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))
"""


def test_login_asks_on_a_terminal(locked: HostileRegistry, docker_folder: Path) -> None:
    # The password is not echoed. Each answer is typed when its question is there: what was typed
    # before a password is asked for is thrown away.
    command = [sys.executable, "-c", _TERMINAL, sys.executable, "-m", "packer", "login"]
    process = subprocess.Popen(
        [*command, locked.host], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    )
    assert process.stdin is not None
    assert process.stdout is not None
    shown = b""
    try:
        for question, answer in ((b"User name: ", b"alice\n"), (b"Password: ", b"s3cret-pass\n")):
            while not shown.endswith(question):
                more = process.stdout.read(1)
                assert more, shown
                shown += more
            process.stdin.write(answer)
        shown += process.stdout.read()
        assert process.wait(timeout=60) == 0, shown
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()
    assert b"logged in as alice" in shown
    assert b"s3cret" not in shown
    assert json.loads((docker_folder / "config.json").read_text()) == entry(locked.host)
