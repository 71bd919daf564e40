"""Keys and values of ``auths`` as people, docker and podman write them."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from packer.errors import NotFound
from packer.stores.registry.login.credentials import (
    Credentials,
    erase_credentials,
    find_credentials,
    host_of_key,
)

LOGIN = Credentials("user", "p" * 90)
AUTH = base64.b64encode(f"{LOGIN.username}:{LOGIN.secret}".encode()).decode()
HOST = "registry.example:5000"


def find(auths: dict[str, object], registry: str = HOST, repository: str = "team/app") -> object:
    return find_credentials({"auths": auths}, registry, repository, "the test")


@pytest.mark.parametrize(
    "key",
    [
        HOST,
        HOST + "/",
        HOST + "/v1/",
        HOST + "/v2",
        f"https://{HOST}",
        f"https://{HOST}/",
        f"https://{HOST}/v1",
        f"https://{HOST}/v1/",
        f"https://{HOST}/v2",
        f"http://{HOST}/v2/",
        f"HTTPS://{HOST.upper()}/v2/",
        f" {HOST} ",
        f"{HOST}/team",
        f"{HOST}/team/app",
    ],
)
def test_spellings_of_a_host(key: str) -> None:
    assert find({key: {"auth": AUTH}}) == LOGIN


@pytest.mark.parametrize(
    "key",
    ["registry.example", "other.example:5000", f"{HOST}/other", f"{HOST}/tea", "ftp://" + HOST, ""],
)
def test_what_names_another(key: str) -> None:
    assert find({key: {"auth": AUTH}}) is None


def test_the_longest_path_wins_then_the_host() -> None:
    def entry(name: str) -> dict[str, str]:
        return {"username": name, "password": "p"}

    auths: dict[str, object] = {
        f"https://{HOST}/v1/": entry("url"),
        HOST: entry("host"),
        f"{HOST}/team": entry("team"),
    }
    found = [find(auths, HOST, name) for name in ("team/app", "other/app")]
    assert [login.username for login in found if isinstance(login, Credentials)] == ["team", "host"]


@pytest.mark.parametrize("key", ["docker.io", "index.docker.io", "https://index.docker.io/v1/"])
def test_docker_hub(key: str) -> None:
    assert find({key: {"auth": AUTH}}, "docker.io") == LOGIN


@pytest.mark.parametrize("end", ["\n", "\r\n", " ", ""])
def test_wrapped_base64(end: str) -> None:
    lines = [AUTH[:76], AUTH[76:]]
    assert find({HOST: {"auth": "\n".join(lines) + end}}) == LOGIN


def test_hosts_of_keys() -> None:
    assert host_of_key("https://a.example:1/x/y") == "a.example:1"  # docker takes any path here
    assert host_of_key("a.example:1/x") == ""


def test_logging_out_removes_every_spelling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    path = tmp_path / "config.json"
    auths = {name: {"auth": AUTH} for name in (f"https://{HOST}/v1/", HOST, "other.example")}
    path.write_text(json.dumps({"auths": auths}))
    erase_credentials(HOST)
    assert list(json.loads(path.read_text())["auths"]) == ["other.example"]
    with pytest.raises(NotFound):
        erase_credentials(HOST)
