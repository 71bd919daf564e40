"""Credential helpers that hang, talk too much, fail or are not there."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import packer
from packer.errors import AuthError, Cancelled, HelperFailed, NotFound, TransportError
from packer.reference import Reference
from packer.stores.registry.access import Access, RegistryOptions
from packer.stores.registry.login import credential_helpers
from packer.stores.registry.login.credential_helpers import call_helper
from packer.stores.registry.login.credentials import Credentials, docker_credentials
from tests.hostile import hostile_registry

SOON = 20.0
"""Far below what the helpers of these tests sleep, and far above what a busy machine needs."""
LOGIN = """echo '{"Username":"bob","Secret":"s3cret"}'"""

Install = Callable[[str], Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Return a function that installs a script as the helper of all hosts."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    (tmp_path / "config.json").write_text('{"credsStore":"testing"}')

    def write(script: str) -> Path:
        path = folder / "docker-credential-testing"
        path.write_text("#!/bin/sh\n" + script)
        path.chmod(0o755)
        return path

    return write


def is_gone(pid: int) -> bool:
    for _ in range(200):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        if Path(f"/proc/{pid}/stat").exists():
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            if state == "Z":  # nobody here reaps it
                return True
        time.sleep(0.05)
    return False


@pytest.mark.slow
def test_one_that_hangs_is_killed_with_its_children(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It blocked every verb for good.
    path = install('sleep 600 &\necho $! > "$0.pid"\nsleep 600\n')
    monkeypatch.setattr(credential_helpers, "HELPER_SECONDS", 1)
    begin = time.monotonic()
    with pytest.raises(HelperFailed, match=r"testing get for r\.example did not end within 1 s"):
        docker_credentials("r.example")
    assert time.monotonic() - begin < SOON
    assert is_gone(int(Path(f"{path}.pid").read_text()))


@pytest.mark.slow
def test_one_that_closes_its_output_and_hangs(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(f"{LOGIN}\nexec >&- <&-\nsleep 600\n")
    monkeypatch.setattr(credential_helpers, "HELPER_SECONDS", 1)
    with pytest.raises(HelperFailed, match="did not end"):
        docker_credentials("r.example")


def test_one_that_prints_without_end(install: Install) -> None:
    install("exec yes s3cret\n")
    begin = time.monotonic()
    with pytest.raises(HelperFailed, match="more than 1048576 bytes") as caught:
        docker_credentials("r.example")
    assert "s3cret" not in str(caught.value)
    assert time.monotonic() - begin < SOON


def test_one_that_leaves_a_program_with_its_pipe_behind(install: Install) -> None:
    # Reading to the end of the pipe would have waited for that program.
    path = install(f'sleep 600 &\necho $! > "$0.pid"\n{LOGIN}\n')
    begin = time.monotonic()
    try:
        assert docker_credentials("r.example") == Credentials("bob", "s3cret")
        assert time.monotonic() - begin < SOON
    finally:
        os.kill(int(Path(f"{path}.pid").read_text()), 9)


@pytest.mark.parametrize("read", ["cat | wc -c", "exec <&-; echo 0", "echo 0"])
def test_more_than_a_pipe_holds(install: Install, read: str) -> None:
    install(f"{read}\n")
    printed = call_helper("testing", "store", "x" * 300_000, "r.example")
    assert printed is not None
    assert printed.strip() in (b"0", b"300000")


def test_no_entry(install: Install) -> None:
    install("echo credentials not found in native keychain\nexit 1\n")
    assert docker_credentials("r.example") is None
    install("""echo '{"ServerURL":"","Username":"","Secret":""}'\n""")
    assert docker_credentials("r.example") is None


def test_entries_of_the_file_come_first(install: Install, tmp_path: Path) -> None:
    path = install('touch "$0.asked"\nexit 1\n')
    auths = {"https://r.example/v1/": {"username": "alice", "password": "pw"}}
    config = {"auths": auths, "credsStore": "testing"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert docker_credentials("r.example") == Credentials("alice", "pw")
    assert not Path(f"{path}.asked").exists()


@pytest.mark.slow
def test_ends_when_nobody_waits(install: Install) -> None:
    path = install('touch "$0.asked"\nsleep 600\n')
    halted = threading.Event()
    timer = threading.Timer(0.5, halted.set)
    timer.start()
    begin = time.monotonic()
    with pytest.raises(TransportError, match="interrupted"):
        docker_credentials("r.example", halted=halted)
    assert time.monotonic() - begin < SOON
    Path(f"{path}.asked").unlink(missing_ok=True)
    with pytest.raises(TransportError, match="interrupted"):
        docker_credentials("r.example", halted=halted)
    assert not Path(f"{path}.asked").exists()


def test_cancel_ends_a_call_that_waits_for_one(install: Install, tmp_path: Path) -> None:
    path = install('touch "$0.asked"\nsleep 600\n')
    cancel = threading.Event()

    def when_asked() -> None:
        while not Path(f"{path}.asked").exists():
            time.sleep(0.05)
        cancel.set()

    threading.Thread(target=when_asked, daemon=True).start()
    with hostile_registry(auth="basic") as server:
        begin = time.monotonic()
        with pytest.raises(Cancelled):
            packer.verify(f"{server.host}/app:v1", store=tmp_path / "store", cancel=cancel)
        assert time.monotonic() - begin < SOON


FAILURES = [
    (None, "docker-credential-testing is not installed"),
    ("echo s3cret; echo s3cret >&2; exit 3", r"get for \S+ failed \(exit 3\)"),
    ("echo nonsense s3cret", "printed no login"),
    ('echo \'{"Secret":"s3cret"}\'', "printed no login"),
    ("kill -9 $$", r"get for \S+ failed \(exit -9\)"),
]


@pytest.mark.parametrize(("script", "told"), FAILURES)
@pytest.mark.parametrize("auth", ["basic", "token"])
def test_why_there_are_no_credentials_is_told_when_they_are_needed(
    install: Install, caplog: pytest.LogCaptureFixture, auth: str, script: str | None, told: str
) -> None:
    if script is not None:
        install(script + "\n")
    with hostile_registry(auth=auth) as server:
        with (
            pytest.raises(AuthError, match=told) as caught,
            Access(RegistryOptions()).open(Reference(server.host, "app")) as store,
        ):
            store.resolve("v1")
        assert "s3cret" not in str(caught.value) + caplog.text
        assert caught.value.status == 401
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    # A registry that asks for none: the helper is not even asked.
    with hostile_registry() as server, pytest.raises(NotFound):
        Access(RegistryOptions()).open(Reference(server.host, "app")).resolve("v1")


def test_an_anonymous_token_that_does_not_do(install: Install) -> None:
    # The token service gives anybody a token, and the registry says no: that error tells as well.
    install("exit 3\n")
    with hostile_registry(auth="token") as server:
        server.on("GET", "^/token", lambda e: e.reply(200, b'{"token":"any"}'), None)
        with (
            pytest.raises(AuthError, match=r"status 401; .*testing get .* failed"),
            Access(RegistryOptions()).open(Reference(server.host, "app")) as store,
        ):
            store.resolve("v1")
