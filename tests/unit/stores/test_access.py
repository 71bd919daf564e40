"""Which options, credentials and certificates serve for which host."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import packer
from packer.cli.main import main
from packer.errors import (
    AuthError,
    InvalidParameter,
    InvalidReference,
    NotFound,
    StoreError,
    TransportError,
)
from packer.reference import Reference
from packer.stores.registry.access import Access, RegistryOptions, environment_login, registry_host
from packer.stores.registry.login.credentials import (
    Credentials,
    find_credentials,
    load_auth_file,
    read_auth_file,
)
from packer.stores.registry.settings import Settings
from packer.stores.registry.store import RegistryStore
from tests.hostile import QUICK, HostileRegistry, hostile_registry
from tests.registry_server import make_certificate, need_program

LOGIN = ("alice", "s3cret-pass")
ENVIRONMENT = ("REGISTRY", "USERNAME", "PASSWORD", "TOKEN", "AUTH_FILE")


@pytest.fixture(autouse=True)
def docker_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    for name in ENVIRONMENT:
        monkeypatch.delenv(f"LAYER_PACKER_{name}", raising=False)
    return tmp_path / "docker"


@pytest.fixture
def locked() -> Iterator[HostileRegistry]:
    with hostile_registry(auth="basic") as server:
        yield server


def basic(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def entry(host: str, login: str = "alice:s3cret-pass") -> dict[str, Any]:
    return {"auths": {host: {"auth": basic(login)}}}


def secret(config: dict[str, Any], key: str = ".dockerconfigjson") -> dict[str, Any]:
    data = basic(json.dumps(config))
    kind = "dockerconfigjson" if key == ".dockerconfigjson" else "dockercfg"
    return {"apiVersion": "v1", "kind": "Secret", "type": f"kubernetes.io/{kind}"} | {
        "metadata": {"name": "pull"},
        "data": {key: data},
    }


YAML = """\
apiVersion: v1
kind: Secret
metadata:
  name: pull
data:
  .dockerconfigjson: {}
type: kubernetes.io/dockerconfigjson
"""


# Auth files and secrets


@pytest.mark.parametrize(
    "source",
    [
        entry("r.example"),
        json.dumps(entry("r.example")),
        json.dumps(entry("https://r.example/v2/")).encode(),
        secret(entry("r.example")),
        json.dumps(secret(entry("r.example"))),
        secret({"r.example": {"auth": basic("alice:s3cret-pass")}}, ".dockercfg"),
        {"r.example": {"auth": basic("alice:s3cret-pass"), "email": "a@r.example"}},
        {"https://r.example/v1/": {"username": "alice", "password": "s3cret-pass"}},
        json.dumps(entry("r.example")["auths"] | {"x.example": {"auth": basic("x:y")}}),
        {"kind": "Secret", "stringData": {".dockerconfigjson": json.dumps(entry("r.example"))}},
        {"auths": {"r.example": {"username": "alice", "password": "s3cret-pass"}}},
        YAML.format(basic(json.dumps(entry("r.example")))),
        YAML.format('"' + basic(json.dumps(entry("r.example"))) + '"').encode(),
    ],
)
def test_auth_files(source: str | bytes | dict[str, Any]) -> None:
    config = read_auth_file(source, "file")
    assert find_credentials(config, "r.example", "a/b", "file") == Credentials(*LOGIN)
    for other in ("r.example:5000", "x.r.example", "example", "docker.io"):
        assert find_credentials(config, other, "a/b", "file") is None


@pytest.mark.parametrize(
    "source",
    [
        *("", "{", "[]", "{}", "auths: {}", b"\xff", '{"auths":[]}', "[" * 100_000),
        secret({}),
        YAML.format("%%%"),
        {"r.example": {"auth": basic("alice:s3cret-pass")}, "x.example": {"email": "s3cret"}},
        {"r.example": "s3cret-pass"},
        {"r.example": {"auth": ["s3cret-pass"]}},
        {"kind": "Secret", "data": {"password": "czNjcmV0LXBhc3M="}},
        secret(entry("r.example")) | {"data": {".dockerconfigjson": "s3cret-pass"}},
    ],
)
def test_malformed_auth_files(source: str | bytes | dict[str, Any]) -> None:
    with pytest.raises(StoreError, match="image pull secret") as caught:
        read_auth_file(source, "file")
    assert "s3cret" not in str(caught.value)


def test_entries_of_a_path_win() -> None:
    config = {
        "auths": {
            "r.example": {"auth": basic("host:1")},
            "r.example/team": {"auth": basic("team:2")},
            "r.example/team/app": {"auth": basic("app:3")},
        }
    }
    for repository, user in (("x", "host"), ("team/x", "team"), ("team/app", "app")):
        found = find_credentials(config, "r.example", repository, "file")
        assert found is not None
        assert found.username == user
    assert find_credentials(config, "r.example", "teams/x", "file") == Credentials("host", "1")


def test_auth_file_too_large(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b" " * (5 << 20))
    with pytest.raises(StoreError, match="larger"):
        load_auth_file(tmp_path / "file")


def pull_with(server: HostileRegistry, options: RegistryOptions) -> None:
    with pytest.raises(NotFound), Access(options).open(Reference(server.host, "app")) as store:
        store.resolve("v1")


def test_sources_of_credentials(
    locked: HostileRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, docker_folder: Path
) -> None:
    path = tmp_path / "pull-secret.yaml"
    path.write_text(YAML.format(basic(json.dumps(entry(locked.host)))))
    with pytest.raises(AuthError):
        pull_with(locked, RegistryOptions())
    pull_with(locked, RegistryOptions(auth_file=path))
    pull_with(locked, RegistryOptions(auth_config=secret(entry(locked.host))))
    monkeypatch.setenv("LAYER_PACKER_AUTH_FILE", str(path))
    pull_with(locked, RegistryOptions())
    # The caller's file counts, not the environment's, even if it knows nothing.
    with pytest.raises(AuthError):
        pull_with(locked, RegistryOptions(auth_config=entry("other.example")))
    monkeypatch.delenv("LAYER_PACKER_AUTH_FILE")
    monkeypatch.setenv("LAYER_PACKER_USERNAME", LOGIN[0])
    monkeypatch.setenv("LAYER_PACKER_PASSWORD", LOGIN[1])
    with pytest.raises(InvalidParameter, match="LAYER_PACKER_REGISTRY"):
        pull_with(locked, RegistryOptions())
    monkeypatch.setenv("LAYER_PACKER_REGISTRY", "other.example")
    with pytest.raises(AuthError):
        pull_with(locked, RegistryOptions())
    monkeypatch.setenv("LAYER_PACKER_REGISTRY", locked.host)
    pull_with(locked, RegistryOptions())
    assert environment_login("other.example") == (None, None, None)
    monkeypatch.delenv("LAYER_PACKER_PASSWORD")
    with pytest.raises(InvalidParameter, match="go together"):
        pull_with(locked, RegistryOptions())


def test_tokens_of_the_caller() -> None:
    with hostile_registry(auth="token") as server:
        server.tokens["mine"] = ("pull", 0)
        pull_with(server, RegistryOptions(token="mine"))
        assert server.count("GET", "/token") == 0
        with pytest.raises(AuthError) as caught:
            pull_with(server, RegistryOptions(token="not-known"))
        assert "not-known" not in str(caught.value)
        # A function is asked again when its token is over.
        made = iter(f"fresh-{number}" for number in range(100))

        def current() -> str:
            value = next(made)
            server.tokens[value] = ("pull", 0)
            return value

        server.token_uses = 2
        reference = Reference(server.host, "app")
        with Access(RegistryOptions(token=current)).open(reference) as store:
            for _ in range(6):
                with pytest.raises(NotFound):
                    store.resolve("v1")
        assert next(made) == "fresh-3"
        assert server.count("GET", "/token") == 0
        with pytest.raises(AuthError):
            pull_with(server, RegistryOptions(token=lambda: "always-the-same"))
    for token in ("", "a b", "a\r\nX-Evil: 1", "é"):
        with pytest.raises(InvalidParameter):
            Access(RegistryOptions(token=token)).open(Reference("r.example", "app"))
    with pytest.raises(InvalidParameter):
        both = RegistryOptions(token="x", username="a", password="b")
        Access(both).open(Reference("r.example", "app"))


# Options of hosts


def test_hosts() -> None:
    assert registry_host("https://R.example:5000/v2/") == "R.example:5000"
    assert registry_host("https://index.docker.io/v1/") == "docker.io"
    for odd in ("", "r.example/app", "user@r.example", "r.example:x", "ftp://r.example"):
        with pytest.raises(InvalidReference):
            registry_host(odd)


def test_what_is_for_one_host_serves_no_second() -> None:
    for options in (
        RegistryOptions(username="a", password="b"),
        RegistryOptions(token="t"),
        RegistryOptions(cert_file="c.pem"),
        RegistryOptions(plain_http=True),
        RegistryOptions(insecure_skip_tls_verify=True),
    ):
        access = Access(options)
        assert access.options("one.example") is options
        assert access.options("ONE.example") is options
        with pytest.raises(InvalidParameter, match=r"two\.example"):
            access.options("two.example")
    shared = Access(RegistryOptions(ca_file="ca.pem", auth_file="auth.json"))
    assert shared.options("one.example") is shared.options("two.example")
    first, others = RegistryOptions(plain_http=True), RegistryOptions(ca_file="ca.pem")
    each = Access({"https://One.example/": first, "*": others})
    assert each.options("one.example") is first
    assert each.options("two.example") is others
    assert Access({"one.example": first}).options("two.example") == RegistryOptions()


def test_options_show_no_secrets() -> None:
    options = RegistryOptions(
        username="alice", password="hunter2", token="tok3n", auth_config={"auths": {"x": "hunter2"}}
    )
    assert "alice" in repr(options)
    for hidden in ("hunter2", "tok3n"):
        assert hidden not in repr(options)


def test_credentials_do_not_travel_in_a_copy(locked: HostileRegistry, tmp_path: Path) -> None:
    # The library and the command line refuse to show one registry's password to another.
    with hostile_registry(auth="basic") as other:
        names = (f"{locked.host}/app:1", f"{other.host}/app:1")
        (tmp_path / "app").mkdir()
        (tmp_path / "app" / "file").write_text("content")
        store = str(tmp_path / "store")
        packer.pack(tmp_path / "app", store=store, tag="app:1")
        one = RegistryOptions(username=LOGIN[0], password=LOGIN[1])
        packer.push(names[0], "app:1", store=store, registry=one)
        with pytest.raises(InvalidParameter, match="say which"):
            packer.copy(*names, store=store, registry=one)
        assert other.seen == []
        both = {locked.host: one, other.host: RegistryOptions(username="bob", password="other-pw")}
        other.login = ("bob", "other-pw")
        packer.copy(*names, store=store, registry=both)
        assert {item.authorization for item in other.seen} == {
            None,
            "Basic " + basic("bob:other-pw"),
        }


def test_options_of_hosts_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "file").write_text("content")
    store = ["--store", str(tmp_path / "store")]
    certificate = make_certificate(tmp_path)
    with (
        hostile_registry() as plain,
        hostile_registry(certificate=certificate, host="localhost") as secure,
    ):
        assert main(["pack", str(tmp_path / "app"), "--tag", "app:1", *store]) == 0
        assert main(["push", f"{plain.host}/app:1", *store, "--plain-http"]) == 0
        words = ["copy", f"{plain.host}/app:1", f"{secure.host}/app:1", *store]
        capsys.readouterr()
        for wrong in ("plain_http", "ca-file", "plain-http=x", "username=x", ""):
            assert main([*words, "--registry", f"{secure.host},{wrong}"]) == 2
        assert main([*words, "--plain-http", "--registry", f"{secure.host},plain-http"]) == 2
        assert "--registry" in capsys.readouterr().err
        assert (
            main([*words, "--registry", f"{secure.host},no-plain-http,ca-file={certificate}"]) == 0
        )
        assert secure.tags == plain.tags
        assert main([*words[:-2], "--insecure-skip-tls-verify", *store]) == 2


# TLS


def run_openssl(folder: Path, *words: str) -> None:
    subprocess.run([need_program("openssl"), *words], cwd=folder, check=True, capture_output=True)


def make_client_certificate(folder: Path) -> tuple[Path, Path]:
    """Make a CA (``ca.pem``) and a client certificate of it."""
    run_openssl(
        folder, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=ca",
        "-keyout", "ca-key.pem", "-out", "ca.pem",
    )  # fmt: skip
    run_openssl(
        folder, "req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=client",
        "-keyout", "client-key.pem", "-out", "client.csr",
    )  # fmt: skip
    run_openssl(
        folder, "x509", "-req", "-in", "client.csr", "-CA", "ca.pem", "-CAkey", "ca-key.pem",
        "-CAcreateserial", "-days", "2", "-out", "client.pem",
    )  # fmt: skip
    return folder / "client.pem", folder / "client-key.pem"


def resolve(server: HostileRegistry, **options: Any) -> None:
    made = RegistryStore(f"{server.host}/app", Settings(retry=QUICK, timeout_seconds=5, **options))
    with made as store, pytest.raises(NotFound):
        store.resolve("v1")


@pytest.mark.slow
def test_client_certificates(tmp_path: Path) -> None:
    server_side, client_side = tmp_path / "server", tmp_path / "client"
    server_side.mkdir()
    client_side.mkdir()
    ca_file = make_certificate(server_side)
    cert, key = make_client_certificate(client_side)
    with hostile_registry(
        certificate=ca_file, host="localhost", client_ca=client_side / "ca.pem"
    ) as server:
        with pytest.raises(TransportError):
            resolve(server, ca_file=str(ca_file))
        resolve(server, ca_file=str(ca_file), cert_file=str(cert), key_file=str(key))
        both = client_side / "both.pem"
        both.write_bytes(cert.read_bytes() + key.read_bytes())
        resolve(server, ca_file=str(ca_file), cert_file=str(both))
        for options in (
            {"cert_file": str(cert)},
            {"cert_file": str(cert), "key_file": str(server_side / "key.pem")},
            {"cert_file": str(tmp_path / "missing.pem")},
            {"key_file": str(key)},
        ):
            with pytest.raises(InvalidParameter, match=r"certificate"):
                resolve(server, ca_file=str(ca_file), **options)
    with pytest.raises(InvalidParameter, match=r"missing\.pem: No such file"):
        resolve(server, ca_file=str(tmp_path / "missing.pem"))


@pytest.mark.slow
def test_key_with_a_passphrase_asks_nobody(tmp_path: Path) -> None:
    cert, key = make_client_certificate(tmp_path)
    run_openssl(
        tmp_path, "rsa", "-aes256", "-passout", "pass:x", "-in", key.name, "-out", "locked.pem"
    )
    code = (
        "import sys; from packer.stores.registry.transport.tls import Tls;"
        "Tls(cert_file=sys.argv[1], key_file=sys.argv[2], host='h').context('h')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(cert), str(tmp_path / "locked.pem")],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "InvalidParameter" in done.stderr


@pytest.mark.slow
def test_unverified_tls_is_for_one_host(tmp_path: Path) -> None:
    # Row 17: neither the next store nor the storage that the registry redirects to is trusted.
    certificate = make_certificate(tmp_path)
    with (
        hostile_registry(certificate=certificate, host="localhost") as server,
        hostile_registry(certificate=certificate, host="127.0.0.1") as storage,
    ):
        resolve(server, insecure_skip_tls_verify=True)
        with pytest.raises(TransportError):
            resolve(server, plain_http=False)
        to = {"Location": f"https://{storage.host}/v2/app/manifests/v1"}
        server.on("HEAD", "/manifests/", lambda e: e.reply(307, b"", to), times=None)
        with pytest.raises(TransportError):
            resolve(server, insecure_skip_tls_verify=True)
        assert storage.seen == []
    for options in ({"ca_file": str(certificate)}, {"plain_http": True}):
        with pytest.raises(InvalidParameter):
            resolve(server, insecure_skip_tls_verify=True, **options)


# Proxies


def run_tunnel(seen: list[bytes], target: tuple[str, int]) -> socket.socket:
    """Answer CONNECT on a loopback port and lead all tunnels to `target`."""
    listener = socket.create_server(("127.0.0.1", 0))

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def lead(client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):  # either end may have gone
            head = b""
            while b"\r\n\r\n" not in head:
                if not (data := client.recv(1 << 16)):
                    return
                head += data
            seen.append(head)
            client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            with socket.create_connection(target) as server:
                back = threading.Thread(target=pump, args=(server, client), daemon=True)
                back.start()
                pump(client, server)
                back.join()

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=lead, args=(client,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    return listener


@pytest.mark.slow
@pytest.mark.parametrize("variable", ["https_proxy", "ALL_PROXY"])
def test_tunnel_through_a_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    # The proxy gets its own login and never sees that of the registry; names are not resolved here.
    folder = tmp_path / "tls"
    folder.mkdir()
    run_openssl(
        folder, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
        "-subj", "/CN=registry.invalid", "-addext", "subjectAltName=DNS:registry.invalid",
        "-keyout", "key.pem", "-out", "cert.pem",
    )  # fmt: skip
    with hostile_registry(certificate=folder / "cert.pem", auth="basic") as server:
        seen: list[bytes] = []
        host, _, port = server.host.partition(":")
        listener = run_tunnel(seen, (host, int(port)))
        try:
            proxy = f"http://proxyuser:proxypass@127.0.0.1:{listener.getsockname()[1]}"
            monkeypatch.setenv(variable, proxy)
            store = RegistryStore(
                "registry.invalid/app", Settings(ca_file=str(folder / "cert.pem"),
                username=LOGIN[0], password=LOGIN[1], retry=QUICK),
            )  # fmt: skip
            with store, pytest.raises(NotFound):
                store.resolve("v1")
        finally:
            listener.close()
        assert seen[0].startswith(b"CONNECT registry.invalid:443 HTTP/1.")
        assert basic("proxyuser:proxypass").encode() in seen[0]
        assert basic(":".join(LOGIN)).encode() not in b"".join(seen)
        assert "proxy-authorization" not in server.seen[-1].headers
        assert server.seen[-1].authorization == "Basic " + basic(":".join(LOGIN))


def test_odd_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "socks5://user:proxypass@proxy.invalid:1")
    with pytest.raises(InvalidParameter) as caught:
        RegistryStore("registry.invalid/app", Settings(plain_http=True, retry=QUICK)).resolve("v1")
    assert "proxypass" not in str(caught.value)
