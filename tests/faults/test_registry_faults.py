"""A registry that fails: cut connections, overload, expired tokens, interrupted copies."""

from __future__ import annotations

import io
import json
import threading
import time
from pathlib import Path

import pytest

from packer.errors import AuthError, NotFound, RegistryError, StoreError, TransportError
from packer.oci import (
    DATA_TYPE,
    MANIFEST_TYPE,
    Descriptor,
    Manifest,
    digest_of,
)
from packer.progress import Progress
from packer.stores.layout import LayoutStore
from packer.stores.memory import MemoryStore
from packer.stores.protocols import read_blob
from packer.stores.registry.settings import Settings
from packer.stores.registry.store import RegistryStore
from packer.transfer.copy_graph import copy
from tests.artifacts import make_version
from tests.builders import noise
from tests.hostile import QUICK, Exchange, HostileRegistry, hostile_registry, open_store


def cut_after(count: int) -> object:
    def rule(exchange: Exchange) -> None:
        exchange.receive(count)
        exchange.cut()

    return rule


def half(exchange: Exchange) -> None:
    """Announce all of a blob, send half of it, and hang up."""
    data = exchange.registry.blobs[exchange.path.rpartition("/")[2]]
    start = int(exchange.headers.get("range", "bytes=0-").partition("=")[2].partition("-")[0])
    rest = data[start:]
    headers = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
    status = 206 if "range" in exchange.headers else 200
    exchange.reply(status, rest[: len(rest) // 2], headers, length=len(rest))
    exchange.cut()


def test_an_upload_that_changed_on_its_way_begins_again(server: HostileRegistry) -> None:
    data = noise("x", 4000)
    blob = Descriptor(DATA_TYPE, digest_of(data), len(data))

    def other(exchange: Exchange) -> None:
        exchange.receive()
        exchange.fail(400, "DIGEST_INVALID", "provided digest did not match uploaded content")

    server.on("PUT", "/uploads/", other, times=2)
    store = open_store(server)
    store.upload(blob, io.BytesIO(data))
    assert server.blobs[blob.digest] == data
    assert server.all_hit() and server.count("POST") == 3
    server.on("PUT", "/uploads/", other, times=None)
    with pytest.raises(RegistryError, match="DIGEST_INVALID"):
        store.upload(blob, io.BytesIO(data))


def test_upload_is_cut_and_begins_again(server: HostileRegistry) -> None:
    memory = MemoryStore()
    made = make_version(memory)
    server.on("PUT", "/blobs/uploads/", cut_after(300_000), times=2)  # type: ignore[arg-type]
    seen: list[Progress] = []
    result = copy(memory, "v1", open_store(server), "v1", progress=seen.append)
    assert server.all_hit()
    assert result.blobs_copied == 10
    assert server.tags == {"v1": made.digest}
    # What was sent twice is not counted twice.
    assert seen[-1].done_bytes == seen[-1].total_bytes == result.bytes_copied
    assert all(report.done_bytes <= report.total_bytes for report in seen)


def test_upload_that_never_works_ends(server: HostileRegistry) -> None:
    memory = MemoryStore()
    make_version(memory)
    server.on("PUT", "/blobs/uploads/", cut_after(1000), times=None)  # type: ignore[arg-type]
    with pytest.raises(TransportError):
        copy(memory, "v1", open_store(server), "v1")
    assert server.tags == {}
    assert server.manifests == {}


def test_lost_upload_session(server: HostileRegistry) -> None:
    # Another replica of the registry knows nothing of the upload: a new one has to be begun.
    memory = MemoryStore()
    make_version(memory, count=1)
    server.on("PUT", "/blobs/uploads/", lambda e: e.fail(404, "BLOB_UPLOAD_UNKNOWN"), times=2)
    assert copy(memory, "v1", open_store(server), "v1").blobs_copied == 3
    assert server.all_hit()


def test_download_is_cut_and_goes_on(server: HostileRegistry, tmp_path: Path) -> None:
    memory = MemoryStore()
    make_version(memory)
    copy(memory, "v1", open_store(server), "v1")
    server.seen.clear()
    server.on("GET", "/blobs/", half, times=3)
    layout = LayoutStore(tmp_path / "layout")
    assert copy(open_store(server), "v1", layout, "v1").blobs_copied == 10
    assert server.all_hit()
    assert layout.get_manifest("v1") == memory.get_manifest("v1")
    # Three were cut, and none of them was fetched from its start again.
    resumed = [item for item in server.seen if "range" in item.headers]
    assert len(resumed) == 3
    assert server.count("GET", "/blobs/") == 13


def test_download_goes_on_where_ranges_are_ignored(server: HostileRegistry) -> None:
    memory = MemoryStore()
    made = make_version(memory, count=1)
    copy(memory, "v1", open_store(server), "v1")
    blob = Manifest.decode(memory.get_manifest("v1")[1]).layers[0]

    def whole(exchange: Exchange) -> None:
        exchange.reply(200, exchange.registry.blobs[blob.digest])

    server.on("GET", "/blobs/", half)
    server.on("GET", "/blobs/", whole)
    assert read_blob(open_store(server), blob, 2 << 20) == noise("layer 0", 1 << 20)
    server.on("GET", "/blobs/", whole)
    with open_store(server).fetch(blob, 1000, 50) as reader:
        assert reader.read() == noise("layer 0", 1 << 20)[1000:1050]
    assert server.all_hit()
    assert made


def test_download_that_is_always_cut_ends(server: HostileRegistry, tmp_path: Path) -> None:
    memory = MemoryStore()
    make_version(memory)
    copy(memory, "v1", open_store(server), "v1")

    # Debian's docker-registry does this for a blob its cache remembers and its disk lost.
    def nothing(exchange: Exchange) -> None:
        exchange.reply(200, b"", length=1 << 20)
        exchange.cut()

    server.on("GET", "/blobs/", nothing, times=None)
    layout = LayoutStore(tmp_path / "layout")
    with pytest.raises(StoreError):
        copy(open_store(server), "v1", layout, "v1")
    assert list(layout.tags()) == []


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("HEAD", "/manifests/"),
        ("POST", "/blobs/uploads/"),
        ("PUT", "/blobs/uploads/"),
        ("PUT", "/manifests/"),
    ],
)
def test_push_survives_one_bad_answer(
    server: HostileRegistry, method: str, path: str, status: int
) -> None:
    memory = MemoryStore()
    made = make_version(memory, count=2, size=70_000)
    server.on(method, path, lambda e: e.reply(status, b"busy", {"Retry-After": "1"}))
    copy(memory, "v1", open_store(server), "v1")
    assert server.all_hit()
    assert server.tags == {"v1": made.digest}


@pytest.mark.parametrize("path", ["/manifests/", "/blobs/"])
def test_pull_survives_bad_answers(server: HostileRegistry, path: str) -> None:
    memory = MemoryStore()
    make_version(memory, count=2, size=70_000)
    copy(memory, "v1", open_store(server), "v1")
    server.on("GET", path, lambda e: e.reply(500))
    server.on("GET", path, lambda e: e.reply(429, b"", {"Retry-After": "0"}))
    server.on("GET", path, lambda e: e.cut())
    target = MemoryStore()
    copy(open_store(server), "v1", target, "v1", jobs=1)
    assert server.all_hit()
    assert target.get_manifest("v1") == memory.get_manifest("v1")


def test_retry_after_is_respected_and_capped(server: HostileRegistry) -> None:
    store = open_store(server)
    for asked in ("315360000", "Wed, 01 Jan 2200 00:00:00 GMT"):
        server.on("HEAD", "/manifests/", lambda e, s=asked: e.reply(429, b"", {"Retry-After": s}))  # type: ignore[misc]
    begin = time.monotonic()
    with pytest.raises(NotFound):
        store.resolve("v1")
    # Twice the policy's cap of 0.05 s, not ten years and not the jitter alone.
    assert 0.1 <= time.monotonic() - begin < 60


def test_endless_overload_ends(server: HostileRegistry) -> None:
    server.on("HEAD", "/manifests/", lambda e: e.reply(503), times=None)
    with pytest.raises(RegistryError) as caught:
        open_store(server).resolve("v1")
    assert (caught.value.status, caught.value.retryable) == (503, True)
    assert server.count("HEAD") == QUICK.attempts


# Tokens


def test_token_expires_on_the_way() -> None:
    memory = MemoryStore()
    made = make_version(memory, count=12, size=90_000)
    with hostile_registry(auth="token") as server:
        server.token_uses = 7
        store = open_store(server, username="alice", password="s3cret-pass")
        copy(memory, "v1", store, "v1")
        assert server.tags == {"v1": made.digest}
        copy(store, "v1", MemoryStore(), "v1")
        assert len(server.tokens) > 3
        # A body is never sent in vain to learn that authentication is needed.
        first = next(item for item in server.seen if item.method == "PUT")
        assert first.authorization is not None


def test_tokens_that_are_good_for_one_request() -> None:
    # The worst a slow machine can meet: every token is over when it is shown a second time. Each
    # body is sent again to the upload that is open, and none of it counts as a failed attempt.
    memory = MemoryStore()
    made = make_version(memory, count=12, size=90_000)
    with hostile_registry(auth="token") as server:
        server.token_uses = 1
        store = open_store(server, username="alice", password="s3cret-pass")
        copy(memory, "v1", store, "v1", jobs=1)
        assert server.tags == {"v1": made.digest}
        assert server.count("POST", "/uploads/") == 2 * 14
        assert server.count("PUT", "/uploads/") == 2 * 14
        copy(store, "v1", MemoryStore(), "v1", jobs=1)


def test_tokens_that_never_allow_the_body() -> None:
    # POST is allowed and PUT never: an end after a bounded number of bodies.
    memory = MemoryStore()
    make_version(memory, count=1, size=90_000)
    with hostile_registry(auth="token") as server:
        challenge = {"WWW-Authenticate": f'Bearer realm="http://{server.host}/token"'}
        server.on("PUT", "/uploads/", lambda e: e.reply(401, b"", challenge), times=None)
        store = open_store(server, username="alice", password="s3cret-pass")
        with pytest.raises(AuthError):
            copy(memory, "v1", store, "v1", jobs=1)
        assert server.count("PUT", "/uploads/") < 20
        assert server.tags == {}


def test_one_token_for_all_threads() -> None:
    memory = MemoryStore()
    make_version(memory, count=12, size=5000)
    with hostile_registry(auth="token") as server:
        login = {"username": "alice", "password": "s3cret-pass"}
        copy(memory, "v1", open_store(server, **login), "v1", jobs=8)
        assert server.count("GET", "^/token$") == 1
        server.tokens.clear()  # revoked: eight threads are told so at about the same time
        store = open_store(server, **login)
        before = server.count("GET", "^/token$")
        start = threading.Barrier(8)

        def ask() -> None:
            start.wait()
            store.resolve("v1")

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert server.count("GET", "^/token$") - before == 1


def test_refused_and_lost_token_services() -> None:
    with hostile_registry(auth="token") as server:
        with pytest.raises(AuthError, match="refused pull of app"):
            open_store(server, username="alice", password="wrong").resolve("v1")
        login = {"username": "alice", "password": "s3cret-pass"}
        server.on("GET", "/token", lambda e: e.reply(503))
        server.on("GET", "/token", lambda e: e.cut())
        with pytest.raises(NotFound):
            open_store(server, **login).resolve("v1")
        assert server.all_hit()
        # A service whose tokens are no good: no endless circle.
        server.token_uses = 0
        with pytest.raises(AuthError):
            open_store(server, **login).resolve("v1")
        assert server.count("GET", "/token") < 10


def test_anonymous_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What public registries do: a token for everybody, good for reading only.
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))

    def grant(exchange: Exchange) -> None:
        assert "authorization" not in exchange.headers
        exchange.registry.tokens["public"] = ("pull", 0)
        exchange.reply(200, b'{"access_token":"public"}')

    with hostile_registry(auth="token") as server:
        server.on("GET", "/token", grant, times=None)
        store = open_store(server)
        with pytest.raises(NotFound):
            store.resolve("v1")
        memory = MemoryStore()
        make_version(memory, count=1)
        with pytest.raises(AuthError, match="pull,push"):
            copy(memory, "v1", store, "v1")


def test_identity_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with hostile_registry(auth="token") as server:
        server.identity_token = "refresh-me"
        config = {"auths": {server.host: {"identitytoken": "refresh-me"}}}
        (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises(NotFound):
            open_store(server).resolve("v1")
        assert server.count("POST", "/token") == 1


# Interrupted copies


def test_second_try_finds_what_the_first_sent(server: HostileRegistry) -> None:
    memory = MemoryStore()
    made = make_version(memory, count=20)
    sent = 0

    def stop(progress: Progress) -> None:
        nonlocal sent
        sent = progress.done_bytes
        if sent > 12 << 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copy(memory, "v1", open_store(server), "v1", progress=stop)
    assert not server.tags
    assert not server.manifests
    stored = len(server.blobs)
    assert 8 <= stored < 20
    result = copy(memory, "v1", open_store(server), "v1")
    assert server.tags == {"v1": made.digest}
    # A blob whose last bytes were on their way may have arrived since.
    assert result.blobs_present >= stored
    assert result.blobs_copied == 22 - result.blobs_present


def test_error_in_one_thread_stops_the_others(server: HostileRegistry) -> None:
    memory = MemoryStore()
    make_version(memory, count=40)
    server.on("POST", "/blobs/uploads/", lambda e: e.fail(403, "DENIED", "quota"))
    with pytest.raises(RegistryError, match="quota"):
        copy(memory, "v1", open_store(server), "v1")
    assert server.tags == {}
    assert len(server.blobs) < 20
    copy(memory, "v1", open_store(server), "v1")
    assert "v1" in server.tags


def test_blobs_collected_behind_our_back(server: HostileRegistry) -> None:
    # The parent's manifest is there, two of its layers were collected: the registry says so when
    # it gets the manifest, and they are sent again.
    memory = MemoryStore()
    make_version(memory)
    store = open_store(server)
    copy(memory, "v1", store, "v1")
    data = memory.get_manifest("v1")[1]
    manifest = Manifest.decode(data)
    second = Manifest(manifest.config, manifest.layers, {"changed": "yes"})
    memory.put_manifest(second.encode(), MANIFEST_TYPE, "v2")
    for blob in manifest.layers[2:4]:
        del server.blobs[blob.digest]
    result = copy(memory, "v2", store, "v1")
    assert (result.blobs_copied, result.blobs_present) == (2, 10)
    assert server.tags["v1"] == result.descriptor.digest


def test_registry_that_always_lacks_a_blob(server: HostileRegistry) -> None:
    memory = MemoryStore()
    make_version(memory)
    blob = Manifest.decode(memory.get_manifest("v1")[1]).layers[0]
    detail = {"digest": blob.digest}
    server.on(
        "PUT", "/manifests/", lambda e: e.fail(400, "MANIFEST_BLOB_UNKNOWN", "", detail), times=None
    )
    with pytest.raises(NotFound) as caught:
        copy(memory, "v1", open_store(server), "v1")
    assert caught.value.name == blob.digest
    assert server.count("PUT", "/manifests/") == 2  # once more after sending it again, then no more


def test_registry_that_names_no_blob(server: HostileRegistry) -> None:
    memory = MemoryStore()
    make_version(memory)
    copy(memory, "v1", open_store(server), "v1")
    manifest = Manifest.decode(memory.get_manifest("v1")[1])
    second = Manifest(manifest.config, manifest.layers, {"changed": "yes"})
    memory.put_manifest(second.encode(), MANIFEST_TYPE, "v2")
    del server.blobs[manifest.layers[5].digest]
    server.on("PUT", "/manifests/", lambda e: e.fail(404, "BLOB_UNKNOWN"))
    assert copy(memory, "v2", open_store(server), "v1").blobs_copied == 1
    assert server.count("PUT", "/manifests/") == 3
    assert server.all_hit()


def test_source_that_lacks_a_blob(server: HostileRegistry) -> None:
    memory = MemoryStore()
    make_version(memory)
    copy(memory, "v1", open_store(server), "v1")
    blob = Manifest.decode(memory.get_manifest("v1")[1]).layers[3]
    del server.blobs[blob.digest]
    target = MemoryStore()
    with pytest.raises(NotFound) as caught:
        copy(open_store(server), "v1", target, "v1")
    assert caught.value.name == blob.digest
    assert list(target.tags()) == []


def test_a_registry_that_takes_an_upload_lets_nothing_else_pass(server: HostileRegistry) -> None:
    # A copy within it would wait for itself if the blob were asked for only while it is sent.
    # The blob's answer goes on meanwhile: go-containerregistry's registry is like this.
    memory = MemoryStore()
    make_version(memory, count=1)
    copy(memory, "v1", open_store(server), "v1")
    busy = threading.Lock()

    def put(exchange: Exchange) -> bool:
        with busy:
            data = exchange.receive()
        server.blobs[digest_of(data)] = data
        exchange.reply(201)
        return True

    def get(exchange: Exchange) -> bool:
        with busy:
            pass
        return False

    server.on("PUT", "/uploads/", put, times=None)
    server.on("GET", "/blobs/", get, times=None)
    server.on("HEAD", "/blobs/", lambda e: e.reply(404), times=None)
    target = RegistryStore(f"{server.host}/other", Settings(retry=QUICK, timeout_seconds=2))
    assert copy(open_store(server), "v1", target, "v2").blobs_copied == 3
