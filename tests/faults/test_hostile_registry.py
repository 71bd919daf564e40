"""Registries that attack their clients: lies about bytes, floods, slowness, what errors show.

The rows are those of the list of attacks in docs/registries.md.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from packer.errors import (
    DigestMismatch,
    FormatError,
    IntegrityError,
    InvalidParameter,
    NotFound,
    PackerError,
    RegistryError,
    SizeMismatch,
    StoreError,
    TransportError,
    UnsupportedVersion,
)
from packer.oci import (
    CONFIG_TYPE,
    DATA_TYPE,
    INDEX_MANIFEST_TYPE,
    INDEX_TYPE,
    MANIFEST_TYPE,
    Descriptor,
    Manifest,
    digest_of,
)
from packer.stores.layout import LayoutStore
from packer.stores.manifests import read_graph
from packer.stores.memory import MemoryStore
from packer.stores.protocols import Store, read_blob
from packer.stores.registry.settings import Settings
from packer.stores.registry.store import RegistryStore
from packer.transfer.copy_graph import copy
from tests.hostile import QUICK, Exchange, HostileRegistry, Rule, hostile_registry
from tests.registry_server import make_certificate

SECRET = "s3cret-pass"
DATA = hashlib.shake_256(b"data").digest(400_000)
BLOB = Descriptor(DATA_TYPE, digest_of(DATA), len(DATA))


@pytest.fixture(autouse=True)
def no_docker_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "no-docker"))


@pytest.fixture
def server() -> Iterator[HostileRegistry]:
    with hostile_registry() as registry:
        fill(registry)
        yield registry


@pytest.fixture
def other() -> Iterator[HostileRegistry]:
    with hostile_registry(host="localhost") as registry:
        fill(registry)
        yield registry


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def secure(certificate: Path) -> Iterator[HostileRegistry]:
    with hostile_registry(certificate=certificate, host="localhost", auth="basic") as registry:
        fill(registry)
        yield registry


def fill(registry: HostileRegistry) -> Descriptor:
    """Put a version under v1 into the server's memory."""
    config = b'{"c":1}'
    index = b"index"
    for data in (DATA, config, index):
        registry.blobs[digest_of(data)] = data
    manifest = Manifest(
        Descriptor(CONFIG_TYPE, digest_of(config), len(config)),
        (BLOB, Descriptor(INDEX_TYPE, digest_of(index), len(index))),
    ).encode()
    registry.manifests[digest_of(manifest)] = (MANIFEST_TYPE, manifest)
    registry.tags["v1"] = digest_of(manifest)
    return Descriptor(MANIFEST_TYPE, digest_of(manifest), len(manifest))


def open_store(
    server: HostileRegistry, *, login: bool = False, timeout: float = 5
) -> RegistryStore:
    return RegistryStore(
        f"{server.host}/app",
        Settings(
            retry=QUICK,
            timeout_seconds=timeout,
            username="alice" if login else None,
            password=SECRET if login else None,
        ),
    )


def secure_store(server: HostileRegistry, certificate: Path) -> RegistryStore:
    return RegistryStore(
        f"{server.host}/app",
        Settings(
            retry=QUICK,
            timeout_seconds=5,
            username="alice",
            password=SECRET,
            ca_file=str(certificate),
        ),
    )


def replies(status: int, body: bytes = b"", **headers: str) -> Rule:
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    def rule(exchange: Exchange) -> None:
        exchange.reply(status, body, named)

    return rule


# Row 6: bytes that are not the blob


@pytest.mark.parametrize(
    ("body", "length"),
    [
        (DATA[:-1] + b"\0", None),
        (DATA[:-1], None),
        (DATA + b"x", None),
        (DATA[:-1], -1),
        (DATA + b"x", -1),
        (b"", None),
        (b"", -1),
    ],
    ids=["flipped", "short", "long", "short-unsized", "long-unsized", "empty", "empty-unsized"],
)
@pytest.mark.parametrize("kind", ["memory", "layout"])
def test_wrong_blob(
    server: HostileRegistry, tmp_path: Path, kind: str, body: bytes, length: int | None
) -> None:
    target: Store = MemoryStore() if kind == "memory" else LayoutStore(tmp_path / "layout")
    server.on("GET", BLOB.digest, lambda e: e.reply(200, body, length=length), times=None)
    with pytest.raises(IntegrityError):
        copy(open_store(server), "v1", target, "v1")
    assert not target.exists(BLOB)
    with pytest.raises(NotFound):
        target.resolve("v1")
    with pytest.raises(IntegrityError):
        read_blob(open_store(server), BLOB, 1 << 20)
    # The right bytes at last: nothing of the failed try is in the way.
    server._plans.clear()
    copy(open_store(server), "v1", target, "v1")
    assert read_blob(target, BLOB, 1 << 20) == DATA


@pytest.mark.parametrize(
    "content_range",
    ["bytes 0-9/400000", "bytes 10-18/400000", "bytes 10-20/400000", "items 10-19/20", "", "x" * 9],
)
def test_wrong_range(server: HostileRegistry, content_range: str) -> None:
    server.on(
        "GET", BLOB.digest, lambda e: e.reply(206, DATA[:10], {"Content-Range": content_range})
    )
    with pytest.raises((FormatError, SizeMismatch)):
        open_store(server).fetch(BLOB, 10, 10)


# Row 7: manifests that are not what was asked for


def test_wrong_manifest_for_a_digest(server: HostileRegistry) -> None:
    digest = server.tags["v1"]
    fake = Manifest(BLOB, (BLOB,)).encode()
    lie = {"Content-Type": MANIFEST_TYPE, "Docker-Content-Digest": digest}
    server.on("GET", "/manifests/", lambda e: e.reply(200, fake, lie), times=None)
    with pytest.raises(DigestMismatch):
        open_store(server).get_manifest(digest)
    # By tag any bytes are good, but not those that contradict their own header.
    with pytest.raises(DigestMismatch):
        open_store(server).get_manifest("v1")
    server._plans.clear()
    server.on("GET", "/manifests/", replies(200, fake, Content_Type=MANIFEST_TYPE))
    assert open_store(server).get_manifest("v1")[0].digest == digest_of(fake)


def test_lying_digest_headers(server: HostileRegistry) -> None:
    store = open_store(server)
    lie = digest_of(b"lie")
    headers = {"Content-Type": MANIFEST_TYPE, "Docker-Content-Digest": lie}
    server.on("HEAD", "/manifests/", lambda e: e.reply(200, b"x", headers))
    with pytest.raises(DigestMismatch):
        store.resolve(server.tags["v1"])
    data = Manifest(BLOB, (BLOB,)).encode()
    # Once, the bytes may have changed on their way: what is under the tag then must not stay.
    server.on("PUT", "/manifests/v2", lambda e: e.reply(201, b"", headers))
    store.put_manifest(data, MANIFEST_TYPE, "v2")
    assert server.tags["v2"] == digest_of(data)
    server.on("PUT", "/manifests/v3", lambda e: e.reply(201, b"", headers), times=None)
    with pytest.raises(DigestMismatch):
        store.put_manifest(data, MANIFEST_TYPE, "v3")
    server.on("PUT", "/uploads/", lambda e: e.reply(201, b"", headers))
    with pytest.raises(DigestMismatch):
        store.upload(BLOB, io.BytesIO(DATA))
    assert server.all_hit()


@pytest.mark.parametrize(
    "claimed", ["", "sha256:../../x", "sha256:" + "A" * 64, "sha256:12", "md5:" + "0" * 32]
)
def test_malformed_digest_headers(server: HostileRegistry, claimed: str) -> None:
    # Row 18: never used; the bytes tell.
    headers = {"Content-Type": MANIFEST_TYPE, "Docker-Content-Digest": claimed}
    server.on("HEAD", "/manifests/", lambda e: e.reply(200, b"x", headers))
    assert open_store(server).resolve("v1").digest == server.tags["v1"]


def test_tag_moves_between_two_requests(server: HostileRegistry) -> None:
    store = open_store(server)
    before = store.resolve("v1")
    fake = Manifest(BLOB, (BLOB, Descriptor(INDEX_TYPE, digest_of(b"index"), 5))).encode()
    server.manifests[digest_of(fake)] = (MANIFEST_TYPE, fake)
    server.tags["v1"] = digest_of(fake)
    target = MemoryStore()
    assert copy(store, before.digest, target, "v1").descriptor == before
    assert server.count("GET", "/manifests/v1") == 0


@pytest.mark.parametrize(
    "reference",
    [
        "sha256:../../x",
        "sha256:" + "A" * 64,
        "../v1",
        "v1?x=y",
        "v1/../../../etc",
        "",
        "a" * 129,
        "v1\r\nX: y",
        "sha512:" + "0" * 128,
    ],
)
def test_malformed_references_make_no_request(server: HostileRegistry, reference: str) -> None:
    # Row 18, CVE-2024-3727: what is no tag and no digest never becomes part of a URL.
    store = open_store(server)
    for call in (store.resolve, store.get_manifest, store.untag):
        with pytest.raises(InvalidParameter):
            call(reference)
    with pytest.raises(PackerError):
        store.put_manifest(b"{}", MANIFEST_TYPE, reference)
    with pytest.raises(FormatError):
        Descriptor(DATA_TYPE, reference, 1)
    assert server.seen == []


# Row 8: manifests that mean different things to different readers


def confused(**changes: object) -> bytes:
    config = {"mediaType": CONFIG_TYPE, "digest": digest_of(b"x"), "size": 1}
    value = {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config, "layers": []}
    return json.dumps(value | changes).encode()


@pytest.mark.parametrize(
    "data",
    [
        confused(manifests=[]),
        confused()[:-1] + b',"layers":[]}',
        confused(x=1.5),
        confused(x=1 << 53),
        confused(schemaVersion=float("nan")),
        b"[" * 10_000,
        b'{"a":' * 10_000,
        confused(layers=[{}] * 10_000),
        confused(layers={}),
        confused(config=None),
        confused(config={"mediaType": "x", "digest": "sha256:../../x", "size": 1}),
        confused(config={"mediaType": "x", "digest": digest_of(b""), "size": 1 << 52}),
        confused(config={"mediaType": "x", "digest": digest_of(b""), "size": -1}),
        confused(config={"mediaType": "x", "digest": digest_of(b""), "size": True}),
        confused(annotations={"a": 1}),
        confused(mediaType=7),
        b"",
        b"null",
        b"\xff\xfe",
        b"<html>",
        confused(layers=[{"mediaType": "x", "digest": digest_of(b"x"), "size": 2}]),
    ],
)
def test_malformed_manifests(server: HostileRegistry, data: bytes) -> None:
    server.on("GET", "/manifests/", lambda e: e.reply(200, data, {"Content-Type": MANIFEST_TYPE}))
    target = MemoryStore()
    with pytest.raises(FormatError):
        copy(open_store(server), "v1", target, "v1")
    assert server.count("GET", "/blobs/") == 0
    assert list(target.tags()) == []


def test_content_type_against_media_type(server: HostileRegistry) -> None:
    data = server.manifests[server.tags["v1"]][1]
    server.on(
        "GET", "/manifests/", lambda e: e.reply(200, data, {"Content-Type": INDEX_MANIFEST_TYPE})
    )
    with pytest.raises(FormatError, match="inside"):
        open_store(server).get_manifest("v1")
    # What servers say that know no better is no contradiction.
    for media_type in ("application/json; charset=utf-8", MANIFEST_TYPE.upper()):
        server.on("GET", "/manifests/", replies(200, data, Content_Type=media_type))
        assert open_store(server).get_manifest("v1")[0].media_type == MANIFEST_TYPE


def test_other_kinds_of_manifest() -> None:
    for data in (
        confused(mediaType=INDEX_MANIFEST_TYPE, manifests=[]).replace(b', "layers": []', b""),
        confused(schemaVersion=1),
        confused(mediaType="application/vnd.docker.distribution.manifest.v1+json"),
    ):
        with pytest.raises(UnsupportedVersion):
            read_graph(data, "manifest")


# Row 9: floods


class Watch:
    """Bounds what Python allocates inside a with statement."""

    def __enter__(self) -> None:
        tracemalloc.start()

    def __exit__(self, *_: object) -> None:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 24 << 20, peak


def test_endless_bodies(server: HostileRegistry) -> None:
    server.on("GET", "/(manifests|tags|blobs)/", Exchange.endless, times=None)
    server.on("HEAD", "/blobs/", Exchange.endless, times=None)
    store = open_store(server)
    with Watch():
        with pytest.raises(FormatError, match="limit"):
            store.get_manifest("v1")
        with pytest.raises(RegistryError, match="limit"):
            list(store.tag_names())
        with pytest.raises(SizeMismatch):
            read_blob(store, BLOB, 1 << 20)
        assert store.exists(BLOB)
    # Not more was sent than our limits and the buffers on the way.
    assert server.endless_bytes < 64 << 20


def test_endless_errors_and_tokens() -> None:
    with hostile_registry(auth="token") as server:
        server.on("GET", "/token", Exchange.endless, times=None)
        with Watch(), pytest.raises(RegistryError, match="token"):
            open_store(server).resolve("v1")
    with hostile_registry() as server:
        server.on("GET", "/manifests/", lambda e: e.endless(400), times=None)
        server.on("POST", "/uploads/", lambda e: e.endless(500), times=None)
        with Watch():
            with pytest.raises(RegistryError):
                open_store(server).get_manifest("v1")
            with pytest.raises(RegistryError):
                open_store(server).upload(BLOB, io.BytesIO(DATA))
        assert server.endless_bytes < 64 << 20


def test_declared_sizes_allocate_nothing(server: HostileRegistry) -> None:
    server.on("GET", "/manifests/", lambda e: e.reply(200, b"{}", length=1 << 62), times=None)
    with Watch(), pytest.raises(FormatError, match="limit"):
        open_store(server).get_manifest("v1")
    server.on("GET", "/blobs/", lambda e: e.reply(200, b"{}", length=1 << 62), times=None)
    with Watch(), pytest.raises(SizeMismatch):
        read_blob(open_store(server), BLOB, 1 << 20)


def test_endless_pages(server: HostileRegistry) -> None:
    def page(exchange: Exchange) -> None:
        link = f'</v2/app/tags/list?last={len(server.seen)}>; rel="next"'
        exchange.reply(200, b'{"tags":["a"]}', {"Link": link})

    server.on("GET", "/tags/list", page, times=None)
    with pytest.raises(RegistryError, match="pages"):
        list(open_store(server).tag_names())
    link = {"Link": '</v2/app/tags/list?n=1>; rel="next"'}
    for body, why in ((b'{"tags":["a"]}', "circle"), (b'{"tags":null}', "empty page")):
        server._plans.clear()
        server.on("GET", "/tags/list", lambda e, b=body: e.reply(200, b, link), times=None)  # type: ignore[misc]
        with pytest.raises(RegistryError, match=why):
            list(open_store(server).tag_names())


@pytest.mark.parametrize("tags", ['["../x"]', "[1]", '["a\\u001b[31m"]', '{"a":1}', '[""]'])
def test_malformed_tag_lists(server: HostileRegistry, tags: str) -> None:
    server.on("GET", "/tags/list", lambda e: e.reply(200, b'{"tags":%s}' % tags.encode()))
    with pytest.raises(RegistryError):
        list(open_store(server).tag_names())


def test_pages(server: HostileRegistry, other: HostileRegistry) -> None:
    first = {"Link": '</v2/app/tags/list?n=2&last=b>; rel="next"'}
    server.on("GET", "/tags/list", lambda e: e.reply(200, b'{"tags":["a","b"]}', first))
    server.on("GET", "/tags/list", lambda e: e.reply(200, b'{"tags":["c"]}'))
    assert list(open_store(server).tag_names()) == ["a", "b", "c"]
    away = {"Link": f'<http://{other.host}/v2/app/tags/list>; rel="next"'}
    server.on("GET", "/tags/list", lambda e: e.reply(200, b'{"tags":["a"]}', away))
    with pytest.raises(RegistryError, match="another host"):
        list(open_store(server).tag_names())
    assert other.seen == []


# Row 11: compression at the HTTP level


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd", "gzip, gzip"])
def test_content_encoding_is_never_decoded(server: HostileRegistry, encoding: str) -> None:
    bomb = gzip.compress(bytes(64 << 20), 9)
    headers = {"Content-Encoding": encoding, "Content-Type": MANIFEST_TYPE}
    server.on("GET", "/manifests/", lambda e: e.reply(200, bomb, headers))
    server.on("GET", "/blobs/", lambda e: e.reply(200, bomb, headers))
    server.on(
        "GET", "/blobs/", lambda e: e.reply(307, bomb, headers | {"Location": e.path + "?second"})
    )
    store = open_store(server)
    with Watch():
        with pytest.raises(FormatError):
            store.get_manifest("v1")
        with pytest.raises(SizeMismatch):
            read_blob(store, BLOB, 1 << 20)
        assert read_blob(store, BLOB, 1 << 20) == DATA
    assert server.all_hit()
    assert {item.headers["accept-encoding"] for item in server.seen} == {"identity"}


# Row 19: slowness


def drip(exchange: Exchange, first: bytes) -> None:
    """Send a byte every tenth of a second."""
    exchange.handler.close_connection = True
    exchange.handler.wfile.write(first)
    for _ in range(600):
        if exchange.registry.stopping.wait(0.1):
            break
        exchange.handler.wfile.write(b"x")


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nX-Slow: ",
        b"HTTP/1.1 200 OK\r\nContent-Length: 400000\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 400000\r\n\r\n",
        b"HTTP/1.1 307 Found\r\nLocation: /\r\nContent-Length: 4000\r\n\r\n",
    ],
    ids=["status", "headers", "body", "error", "redirect"],
)
def test_slow_answers_end(server: HostileRegistry, first: bytes) -> None:
    server.on("GET", "/blobs/", lambda e: drip(e, first), times=None)
    store = open_store(server, timeout=0.3)
    with pytest.raises(PackerError):
        read_blob(store, BLOB, 1 << 20)


def test_silence_ends(server: HostileRegistry) -> None:
    server.on("GET", "/manifests/", lambda e: e.registry.stopping.wait(30) and None, times=None)
    with pytest.raises(TransportError):
        open_store(server, timeout=0.2).get_manifest("v1")


# Row 20: what errors show


def test_errors_show_no_secrets_and_no_escapes() -> None:
    with hostile_registry(auth="basic") as server:
        fill(server)

        def echo(exchange: Exchange) -> None:
            said = exchange.headers["authorization"]
            text = f"\x1b[2J\x1b]0;owned\x07 you sent {said} {SECRET} see https://s3.test/x?Signature=SIG\n"
            exchange.fail(400, "DENIED\x1b[31m", text, {"auth": said})

        store = open_store(server, login=True)
        store.resolve("v1")
        server.on("GET", "/manifests/", echo)
        with pytest.raises(RegistryError) as caught:
            store.get_manifest("v1")
        error: BaseException | None = caught.value
        while error is not None:
            for text in (str(error), repr(error)):
                assert text.isprintable()
                for secret in (SECRET, "YWxpY2U6", "SIG"):
                    assert secret not in text
            error = error.__cause__ or error.__context__


def test_signed_urls_are_not_shown(server: HostileRegistry) -> None:
    # A redirect to storage that fails: the query is a credential.
    with hostile_registry() as storage:
        to = f"http://{storage.host}/bucket/blob?X-Amz-Signature=TOPSECRET"
        for rule in (lambda e: e.reply(403, b"SignatureDoesNotMatch"), Exchange.cut):
            server.on("GET", "/blobs/", replies(307, Location=to))
            storage.on("GET", "/bucket/", rule, times=QUICK.attempts)
            with pytest.raises(StoreError) as caught:
                read_blob(open_store(server), BLOB, 1 << 20)
            assert "TOPSECRET" not in f"{caught.value}{caught.value!r}"
            storage._plans.clear()
