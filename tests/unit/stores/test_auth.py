"""Challenges, realms, tokens and docker's configuration, without a network."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packer.errors import AuthError, FormatError, PackerError, StoreError
from packer.stores.registry.login.auth import _parse_token
from packer.stores.registry.login.challenges import check_realm, parse_challenges
from packer.stores.registry.login.credentials import Credentials, docker_credentials
from packer.stores.registry.transport.retries import RetryPolicy
from packer.stores.registry.transport.urls import join_url, origin_of, safe_text, shown_url


def basic(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_challenges() -> None:
    (bearer,) = parse_challenges(
        ['Bearer realm="https://a.example/token?x=1",service="r, s",scope="repository:a:pull,push"']
    )
    assert bearer.scheme == "bearer"
    assert bearer.parameters == {
        "realm": "https://a.example/token?x=1",
        "service": "r, s",
        "scope": "repository:a:pull,push",
    }
    # Several in one header, as proxies join them, and quotes inside quotes.
    both = parse_challenges(['Basic realm="a \\"b\\"", Bearer realm=x, Negotiate'])
    assert [(item.scheme, item.parameters) for item in both] == [
        ("basic", {"realm": 'a "b"'}),
        ("bearer", {"realm": "x"}),
        ("negotiate", {}),
    ]
    assert parse_challenges(["", ",,,", '"', "="]) == []


@given(st.lists(st.text(alphabet='Basic Bearer="\\,xé\t', max_size=80), max_size=3))
def test_challenges_never_fail(values: list[str]) -> None:
    for challenge in parse_challenges(values):
        assert challenge.scheme == challenge.scheme.lower()


@pytest.mark.parametrize(
    ("registry", "realm"),
    [
        ("https://r.example.com", "https://r.example.com/token"),
        ("https://r.example.com", "https://r.example.com:8443/token"),
        ("https://r.example.com", "https://auth.r.example.com/token"),
        ("https://registry.gitlab.com", "https://gitlab.com/jwt/auth"),
        ("https://registry.corp.example", "https://sso.corp.example/t"),
        ("https://registry-1.docker.io", "https://auth.docker.io/token"),
        ("https://10.1.2.3", "https://10.1.2.3:5001/token"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5001/token"),
        ("http://127.0.0.1:5000", "http://localhost:5001/token"),
        ("http://r.example.com", "http://r.example.com:81/token"),
        ("http://r.example.com", "https://r.example.com/token"),
    ],
)
def test_realms_that_get_credentials(registry: str, realm: str) -> None:
    check_realm(realm, origin_of(registry), with_credentials=True)


@pytest.mark.parametrize(
    ("registry", "realm"),
    [
        ("https://r.example.com", "http://r.example.com/token"),
        ("https://r.example.com", "https://evil.test/token"),
        ("https://r.example.com", "https://r.example.com.evil.test/token"),
        ("https://ghcr.example", "https://other.example/token"),
        ("https://r.example.com", "https://user@r.example.com/token"),
        ("https://10.1.2.3", "https://10.1.2.4/token"),
        ("https://registry.quay.test", "https://evilquay.test/token"),
    ],
)
def test_realms_that_get_no_credentials(registry: str, realm: str) -> None:
    with pytest.raises(AuthError, match="refusing the token service"):
        check_realm(realm, origin_of(registry), with_credentials=True)


@pytest.mark.parametrize(
    "realm",
    [
        "http://169.254.169.254/latest/meta-data",
        "https://169.254.169.254/latest",
        "https://[fd00:ec2::254]/latest",
        "https://127.0.0.1/x",
        "https://localhost/x",
        "https://2130706433/x",
        "https://0x7f.1/x",
        "https://0x7f000001/x",
        "http://other.example.com/token",
        "file:///etc/passwd",
        "gopher://r.example.com/",
        "token",
        "https://r.example.com\\@evil.test/",
        "https://r.example.com/a b",
    ],
)
def test_realms_never_asked(realm: str) -> None:
    # Not even anonymously, and not even if the host was allowed: internal services answer to GET.
    for allowed in ((), ("169.254.169.254", "other.example.com")):
        with pytest.raises(AuthError):
            check_realm(
                realm,
                origin_of("https://r.example.com"),
                with_credentials=False,
                allowed=allowed,
            )


def test_allowed_realm() -> None:
    registry = origin_of("https://r.example.com")
    check_realm("https://sso.test/t", registry, with_credentials=False)
    check_realm("https://sso.test/t", registry, with_credentials=True, allowed=["sso.test"])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"token":""}',
        b'{"token":1}',
        b'{"token":"a\\r\\nX-Evil: 1"}',
        b'{"token":"a b"}',
        b"[" * 100_000,
        b"\xff",
    ],
)
def test_token_answers_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        _parse_token(data, 0.0)


def test_token_life() -> None:
    assert _parse_token(b'{"access_token":"t"}', 0.0).expires == pytest.approx(54)
    assert _parse_token(b'{"token":"t","expires_in":300}', 10.0).expires == pytest.approx(280)
    for odd in (b"-1", b"true", b'"x"', b"0"):
        assert _parse_token(b'{"token":"t","expires_in":%s}' % odd, 0.0).expires == 54
    # A token "good for ten years" is renewed within the hour.
    assert _parse_token(b'{"token":"t","expires_in":315360000}', 0.0).expires <= 3600
    assert "secret-value" not in repr(_parse_token(b'{"token":"secret-value"}', 0.0))


@pytest.fixture
def docker_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / "no-home"))
    return tmp_path / "config.json"


def test_docker_config_entries(docker_config: Path) -> None:
    assert docker_credentials("r.example:5000") is None
    docker_config.write_text(
        json.dumps(
            {
                "auths": {
                    "r.example:5000": {"auth": basic("alice:pw:with:colons")},
                    "https://index.docker.io/v1/": {"auth": basic("hub:hubpw")},
                    "id.example": {"auth": basic("x:y"), "identitytoken": "refresh"},
                    "empty.example": {},
                }
            }
        )
    )
    assert docker_credentials("r.example:5000") == Credentials("alice", "pw:with:colons")
    assert docker_credentials("docker.io") == Credentials("hub", "hubpw")
    assert docker_credentials("id.example") == Credentials("", "refresh", True)
    # Another port, a longer name, an empty entry: another host's credentials are never used.
    for other in ("r.example", "r.example:5001", "x.r.example:5000", "empty.example"):
        assert docker_credentials(other) is None


@pytest.mark.parametrize("form", ["{}", "{}/v1/", "{}/v2/"])
@pytest.mark.parametrize("scheme", ["https", "http"])
def test_keys_that_are_urls(docker_config: Path, scheme: str, form: str) -> None:
    key = form.format(f"{scheme}://r.example:5000")
    docker_config.write_text(json.dumps({"auths": {key: {"auth": basic("alice:pw")}}}))
    assert docker_credentials("r.example:5000") == Credentials("alice", "pw")
    assert docker_credentials("r.example") is None


def helper(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    folder.mkdir()
    path = folder / "docker-credential-testing"
    path.write_text("#!/bin/sh\nread host\n" + script)
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


def test_credential_helper(
    docker_config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    helper(
        tmp_path / "bin",
        monkeypatch,
        "case $host in\n"
        """r.example) echo '{"Username":"bob","Secret":"hs"}';;\n"""
        """id.example) echo '{"Username":"<token>","Secret":"rt"}';;\n"""
        "*) echo credentials not found in native keychain; exit 1;;\nesac\n",
    )
    docker_config.write_text('{"credHelpers":{"r.example":"testing"},"credsStore":"testing"}')
    assert docker_credentials("r.example") == Credentials("bob", "hs")
    assert docker_credentials("id.example") == Credentials("<token>", "rt", True)
    # What helpers say by their protocol if they have nothing for this host: all is well.
    assert docker_credentials("other.example") is None
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("output", ["nonsense s3cret", '{"Secret":"s3cret"}', "[]"])
def test_broken_helper(
    docker_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    helper(tmp_path / "bin", monkeypatch, f"echo '{output}'\n")
    docker_config.write_text('{"credsStore":"testing"}')
    with pytest.raises(StoreError) as caught:
        docker_credentials("r.example")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"auths":[1]}', '{"auths":{"r.example":{"auth":"%%%"}}}']
)
def test_broken_docker_config(docker_config: Path, text: str) -> None:
    docker_config.write_text(text)
    with pytest.raises(PackerError, match=r"credentials for r\.example"):
        docker_credentials("r.example")


def test_secrets_stay_out_of_repr() -> None:
    assert "hunter2" not in repr(Credentials("a", "hunter2"))


def test_text_of_strangers() -> None:
    assert safe_text("a\x1b[31mb\r\nc\u202ed\x00") == "a\\x1b[31mb\\r\\nc\\u202ed\\x00"
    assert "SIG" not in safe_text("see https://s3.test/b/o?X-Amz-Signature=SIG&x=y for more")
    assert "pw" not in safe_text("https://user:pw@host.test/x")
    assert len(safe_text("x" * 10_000)) < 400
    assert shown_url("https://h.test/a?token=T#f") == "https://h.test/a"


@pytest.mark.parametrize(
    ("base", "location"),
    [
        ("https://r.test/v2/", "http://r.test/v2/x"),
        ("https://r.test/v2/", "https://user@r.test/x"),
        ("https://r.test/v2/", "ftp://r.test/x"),
        ("https://r.test/v2/", "https://r.test:99999/x"),
        ("https://r.test/v2/", "/a b"),
        ("https://r.test/v2/", "/a\r\nX: y"),
        ("https://r.test/v2/", "https://[::1/x"),
        ("https://r.test/v2/", "file:///etc/passwd"),
    ],
)
def test_locations_refused(base: str, location: str) -> None:
    with pytest.raises(FormatError):
        join_url(base, location)


def test_locations() -> None:
    assert join_url("https://r.test/v2/a/", "/x?y=z%3D") == "https://r.test/x?y=z%3D"
    assert origin_of(join_url("https://r.test/v2/", "//o.test/x")).host == "o.test"
    assert origin_of("https://r.test/") == origin_of("https://R.test:443/")
    assert origin_of("https://r.test") != origin_of("http://r.test:443")


def test_pauses_are_bounded() -> None:
    policy = RetryPolicy(max_seconds=2.0)
    assert all(0 <= policy.pause(attempt) <= 2 for attempt in range(2000, 2005))
    for asked in ("315360000", "9" * 400, "Wed, 01 Jan 2200 00:00:00 GMT"):
        assert policy.pause(0, asked) == 2
    for odd in ("-1", "soon", "²", "Wed, 99 Jan", ""):
        assert policy.pause(0, odd) <= 0.4
    assert policy.pause(0, "1") == 1
