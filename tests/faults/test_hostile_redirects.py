"""Attacks on where requests and credentials go: rows 12 to 16 of docs/registries.md."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from packer.errors import (
    AuthError,
    NotFound,
    PackerError,
    RegistryError,
    TransportError,
)
from packer.oci import (
    MANIFEST_TYPE,
    digest_of,
)
from packer.stores.memory import MemoryStore
from packer.stores.protocols import read_blob
from packer.stores.registry.settings import Settings
from packer.stores.registry.store import RegistryStore
from packer.transfer.copy_graph import copy
from tests.faults.test_hostile_registry import (
    BLOB,
    DATA,
    SECRET,
    fill,
    open_store,
    replies,
    secure_store,
)
from tests.faults.test_hostile_registry import certificate as certificate
from tests.faults.test_hostile_registry import no_docker_config as no_docker_config
from tests.faults.test_hostile_registry import other as other
from tests.faults.test_hostile_registry import secure as secure
from tests.faults.test_hostile_registry import server as server
from tests.hostile import QUICK, HostileRegistry, hostile_registry


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("auth", ["basic", "token"])
def test_redirects_lose_credentials(other: HostileRegistry, status: int, auth: str) -> None:
    with hostile_registry(auth=auth) as server:
        digest = fill(server).digest
        port = other.host.partition(":")[2]
        store = open_store(server, login=True)
        # Another port of the same host, and another host.
        for host in (f"127.0.0.1:{port}", f"localhost:{port}"):
            to = f"http://{host}/v2/app/blobs/{BLOB.digest}?X-Signature=abc"
            server.on("GET", "/blobs/", lambda e, t=to: e.reply(status, b"", {"Location": t}))  # type: ignore[misc]
            server.on("HEAD", "/blobs/", lambda e, t=to: e.reply(status, b"", {"Location": t}))  # type: ignore[misc]
            store.resolve(digest)  # so that credentials are at hand
            with store.fetch(BLOB, 7, 5) as reader:
                assert reader.read() == DATA[7:12]
            assert store.exists(BLOB)
        assert server.all_hit()
        assert len(other.seen) == 4
        for item in other.seen:
            assert item.authorization is None
            assert "cookie" not in item.headers
        assert other.seen[0].headers["range"] == "bytes=7-11"
        # Led away and back again: the way is not the registry's own any more.
        there, back = f"http://{other.host}/back", f"http://{server.host}/v2/app/blobs/x"
        server.on("GET", "/blobs/", replies(status, Location=there))
        other.on("GET", "/back", replies(status, Location=back))
        with pytest.raises(RegistryError):
            read_blob(store, BLOB, 1 << 20)
        assert server.seen[-1].authorization is None
        # Within the registry they stay.
        server.on(
            "GET", "/blobs/", lambda e: e.reply(status, b"", {"Location": e.path + "?again=1"})
        )
        assert read_blob(store, BLOB, 1 << 20) == DATA
        assert server.seen[-1].authorization is not None


def test_redirect_from_https_to_http(
    secure: HostileRegistry, other: HostileRegistry, certificate: Path
) -> None:
    to = f"http://{other.host}/v2/app/blobs/{BLOB.digest}"
    secure.on("GET", "/blobs/", replies(307, Location=to))
    with pytest.raises(RegistryError, match="plain http"):
        read_blob(secure_store(secure, certificate), BLOB, 1 << 20)
    assert other.seen == []
    # The same port without TLS would be another origin too.
    secure.on("GET", "/blobs/", replies(307, Location=f"http://{secure.host}/x"))
    with pytest.raises(RegistryError):
        read_blob(secure_store(secure, certificate), BLOB, 1 << 20)


@pytest.mark.parametrize(
    "location", ["", "file:///etc/passwd", "http://u:p@127.0.0.1/", "http:///"]
)
def test_bad_redirects(server: HostileRegistry, location: str) -> None:
    server.on("GET", "/blobs/", replies(302, Location=location), times=None)
    with pytest.raises(PackerError):
        read_blob(open_store(server), BLOB, 1 << 20)


def test_redirect_loop_and_redirected_writes(server: HostileRegistry) -> None:
    server.on("GET", "/blobs/", lambda e: e.reply(302, b"", {"Location": e.path}), times=None)
    with pytest.raises(RegistryError, match="too many"):
        read_blob(open_store(server), BLOB, 1 << 20)
    assert server.count("GET") < 10
    for method in ("POST", "PUT"):
        server.on(method, "/", lambda e: e.reply(307, b"", {"Location": e.path}))
    with pytest.raises(RegistryError):
        open_store(server).upload(BLOB, io.BytesIO(DATA))
    with pytest.raises(RegistryError):
        open_store(server).put_manifest(b"{}", MANIFEST_TYPE, "v1")


# Row 13: upload locations


@pytest.mark.parametrize("auth", ["basic", "token"])
@pytest.mark.parametrize(
    "location",
    ["http://127.0.0.1:{port}/v2/a/blobs/uploads/1?s=1", "//localhost:{port}/v2/a/blobs/uploads/2"],
)
def test_upload_location_elsewhere_gets_no_credentials(
    other: HostileRegistry, auth: str, location: str
) -> None:
    to = location.format(port=other.host.partition(":")[2])
    with hostile_registry(auth=auth) as server:
        store = open_store(server, login=True)
        with pytest.raises(NotFound):
            store.resolve("v1")
        server.on("POST", "/uploads/", replies(202, Location=to))
        store.upload(BLOB, io.BytesIO(DATA))
        assert [item.method for item in other.seen] == ["PUT"]
        assert other.seen[0].authorization is None


@pytest.mark.parametrize(
    "location", ["http://{host}/v2/x", "https://alice:pw@{host}/v2/x", "ftp://{host}/", "/a b", ""]
)
def test_upload_location_refused(
    secure: HostileRegistry, other: HostileRegistry, certificate: Path, location: str
) -> None:
    to = location.format(host=other.host)
    secure.on("POST", "/uploads/", replies(202, Location=to), times=None)
    with pytest.raises(PackerError):
        secure_store(secure, certificate).upload(BLOB, io.BytesIO(DATA))
    assert other.seen == []


def test_downgraded_location_explains_itself(secure: HostileRegistry, certificate: Path) -> None:
    # What a registry behind a TLS proxy says that was not told of it.
    to = f"http://{secure.host}/v2/app/blobs/uploads/1"
    secure.on("POST", "/uploads/", replies(202, Location=to))
    with pytest.raises(RegistryError, match="X-Forwarded-Proto"):
        secure_store(secure, certificate).upload(BLOB, io.BytesIO(DATA))


# Rows 14, 16: realms, hosts, netrc


def test_realm_elsewhere(
    secure: HostileRegistry, other: HostileRegistry, certificate: Path
) -> None:
    secure.auth = "token"
    for realm in (
        f"http://{other.host}/token",  # plain http although the registry is https
        "http://169.254.169.254/latest/meta-data/",
        "https://token.attacker.test/token",
    ):
        secure.realm = realm
        with pytest.raises(AuthError, match="refusing the token service"):
            secure_store(secure, certificate).resolve("v1")
    assert other.seen == []
    secure.realm = ""
    assert secure_store(secure, certificate).resolve("v1")


def test_two_hosts_in_one_process(other: HostileRegistry) -> None:
    # Both answer on the same address; what belongs to one is not shown to the other.
    with hostile_registry(auth="basic") as server:
        fill(server)
        other.auth = "basic"
        assert open_store(server, login=True).resolve("v1")
        with pytest.raises(AuthError):
            open_store(other).resolve("v1")
        assert all(item.authorization is None for item in other.seen)


def test_netrc_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / ".netrc"
    path.write_text(
        f"machine 127.0.0.1 login alice password {SECRET}\ndefault login a password b\n"
    )
    path.chmod(0o600)
    monkeypatch.setenv("NETRC", str(path))
    for auth in ("basic", "token"):
        with hostile_registry(auth=auth) as server:
            fill(server)
            with pytest.raises(AuthError):
                open_store(server).resolve("v1")
            assert all(item.authorization is None for item in server.seen)


def test_docker_config_of_another_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with hostile_registry(auth="basic") as server:
        fill(server)
        port = server.host.partition(":")[2]
        # "localhost" and "127.0.0.1" are two hosts, and so are two ports of one.
        auths = {
            f"localhost:{port}": {"auth": "YWxpY2U6cHc="},
            "127.0.0.1": {"auth": "YWxpY2U6cHc="},
        }
        (tmp_path / "config.json").write_text(json.dumps({"auths": auths}))
        with pytest.raises(AuthError, match="none are known"):
            open_store(server).resolve("v1")
        assert all(item.authorization is None for item in server.seen)


def test_proxy_of_the_environment(server: HostileRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    # The registry's name cannot be resolved; the proxy answers for it. Its own login goes to it
    # alone, and a loopback registry is reached without it.
    monkeypatch.setenv("http_proxy", f"http://proxyuser:proxypass@{server.host}")
    store = RegistryStore("registry.invalid:81/app", Settings(plain_http=True, retry=QUICK))
    assert store.get_manifest("v1")[0].digest == server.tags["v1"]
    assert server.seen[0].headers["host"] == "registry.invalid:81"
    assert server.seen[0].headers["proxy-authorization"].startswith("Basic ")
    assert open_store(server).resolve("v1")
    assert "proxy-authorization" not in server.seen[-1].headers
    monkeypatch.setenv("no_proxy", "registry.invalid")
    with pytest.raises(TransportError) as caught:
        RegistryStore("registry.invalid/app", Settings(plain_http=True, retry=QUICK)).resolve("v1")
    assert "proxypass" not in str(caught.value)


# Row 15: foreign layers


def test_urls_of_descriptors_are_ignored(server: HostileRegistry, other: HostileRegistry) -> None:
    url = f"http://{other.host}/v2/app/blobs/{BLOB.digest}"
    value = json.loads(server.manifests[server.tags["v1"]][1])
    value["layers"][0]["urls"] = [url]
    data = json.dumps(value).encode()
    server.manifests[digest_of(data)] = (MANIFEST_TYPE, data)
    server.tags["v2"] = digest_of(data)
    copy(open_store(server), "v2", MemoryStore(), "v2")
    del server.blobs[BLOB.digest]
    with pytest.raises(NotFound):
        copy(open_store(server), "v2", MemoryStore(), "v2")
    assert other.seen == []
