"""Refusals as registries and proxies send them: what is told, and where work goes on."""

from __future__ import annotations

import http.server
import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import packer
from packer.cli.main import main
from packer.errors import AuthError, NotFound, RegistryError, TransportError
from packer.oci import MANIFEST_TYPE, Descriptor, digest_of
from packer.stores.memory import MemoryStore
from packer.stores.registry.manifests import next_link
from packer.stores.registry.settings import Settings
from packer.stores.registry.store import RegistryStore
from packer.transfer.copy_graph import copy
from tests.artifacts import make_version
from tests.hostile import QUICK, Exchange, HostileRegistry, hostile_registry

DATA = b"some bytes"
BLOB = Descriptor("", digest_of(DATA), len(DATA))


@pytest.fixture
def server() -> Iterator[HostileRegistry]:
    with hostile_registry() as server:
        yield server


def open_store(server: HostileRegistry, **options: object) -> RegistryStore:
    settings = Settings(retry=QUICK, timeout_seconds=5, **options)  # type: ignore[arg-type]
    return RegistryStore(f"{server.host}/app", settings)


@pytest.mark.parametrize("status", [400, 403, 405, 406, 412, 501])
def test_head_refused(server: HostileRegistry, status: int) -> None:
    server.on("HEAD", "/app/", lambda exchange: exchange.reply(status), None)
    memory = MemoryStore()
    made = make_version(memory)
    store = open_store(server)
    assert copy(memory, "v1", store, "v1").descriptor.digest == made.digest
    assert store.resolve("v1").digest == made.digest
    assert copy(memory, "v1", store, "v1", verify=True).unchanged
    with pytest.raises(NotFound):
        store.resolve("v2")
    assert store.exists(BLOB) is False
    store.push(BLOB, io.BytesIO(DATA))
    assert store.exists(BLOB) is True


def test_the_reason_that_head_cannot_have(server: HostileRegistry) -> None:
    server.on("HEAD", "/app/", lambda exchange: exchange.reply(412), None)
    server.on("GET", "/app/", lambda e: e.fail(412, "DENIED", "not scanned yet"), None)
    with pytest.raises(RegistryError, match="not scanned yet"):
        open_store(server).resolve("v1")


@pytest.mark.parametrize(
    ("status", "body", "kind", "told", "untold"),
    [
        (403, b'{"message":"denied"}', AuthError, "credentials", "\n"),
        (403, b"<h1>Request blocked</h1>", RegistryError, "Request blocked", "credentials"),
        (403, b'{"detail":"quota exceeded"}', RegistryError, "quota exceeded", "credentials"),
        (405, b"", RegistryError, "read-only", "credentials"),
        (413, b"<html>413 Too Large</html>", RegistryError, "too large for this", "credentials"),
        (400, b"a\x1b[31mred\x07\r\nline", RegistryError, r"a\\x1b\[31mred\\x07 line", "\x1b"),
        (400, b"word " * 10_000, RegistryError, r"word \.\.\.|word\.\.\.|wor", "word " * 70),
    ],
)
def test_what_is_told(
    server: HostileRegistry,
    status: int,
    body: bytes,
    kind: type[RegistryError],
    told: str,
    untold: str,
) -> None:
    server.on("POST", "/uploads/", lambda exchange: exchange.reply(status, body))
    with pytest.raises(RegistryError, match=told) as caught:
        open_store(server).upload(BLOB, io.BytesIO(DATA))
    assert type(caught.value) is kind
    assert untold not in str(caught.value)


@contextmanager
def proxy(status: int, body: bytes = b"") -> Iterator[str]:
    """A proxy that refuses everything."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def refuse(self) -> None:
            self.send_response(status, "Refused here")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_HEAD = do_POST = do_PUT = do_CONNECT = refuse  # noqa: N815

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://user:hidden@127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    ("status", "told"), [(407, "asks for a login"), (403, "NO_PROXY"), (502, "the proxy")]
)
def test_a_proxys_answer_is_the_proxys(
    scheme: str, status: int, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with proxy(status, b"not allowed here") as url:
        monkeypatch.setenv(f"{scheme}_proxy", url)
        options = Settings(retry=QUICK, timeout_seconds=5, plain_http=scheme == "http")
        store = RegistryStore("registry.invalid/app", options)
        with pytest.raises((RegistryError, TransportError), match=told) as caught:
            store.get_manifest("v1")
    assert "the proxy http://127.0.0.1" in str(caught.value)
    assert "hidden" not in str(caught.value)
    assert "credentials" not in str(caught.value)


@pytest.mark.parametrize(
    ("headers", "target"),
    [
        (['</v2/a>; rel="next"'], "/v2/a"),
        (["</v2/a>;rel=next"], "/v2/a"),
        (["</v2/a>; title=x; REL = Next"], "/v2/a"),
        (['</v2/a>; title="a, b; c"; rel="last next"'], "/v2/a"),
        (['</v2/z>; rel="first", </v2/a?n=1,2>; rel="next"'], "/v2/a?n=1,2"),
        (['</v2/z>; rel="prev"', "</v2/a>; rel=next"], "/v2/a"),
        (["< /v2/a >; rel=next"], "/v2/a"),
        (['</v2/z>; rel="nextish"'], None),
        (["</v2/z>"], None),
        ([""], None),
        ([], None),
        (["<" * 5000 + ">; rel=next"], None),
    ],
)
def test_links(headers: list[str], target: str | None) -> None:
    assert next_link(headers) == target


def test_smaller_pages_where_large_ones_are_refused(server: HostileRegistry) -> None:
    server.tags.update({"a": BLOB.digest, "b": BLOB.digest})

    def refuse(exchange: Exchange) -> bool:
        if exchange.query != "n=100":
            exchange.fail(400, "PAGINATION_NUMBER_INVALID", "at most 100")
            return True
        return False

    server.on("GET", "/tags/list", refuse, None)
    assert list(open_store(server).tag_names()) == ["a", "b"]


def test_a_list_is_never_cut_without_a_word(server: HostileRegistry) -> None:
    more = {"Link": '</v2/app/tags/list?last=a>; rel="next"'}
    server.on("GET", "/tags/list", lambda e: e.reply(200, b'{"tags":["a"]}', more))
    server.on("GET", "/tags/list", lambda e: e.reply(404))
    with pytest.raises(RegistryError, match="404"):
        list(open_store(server).tag_names())


def test_nonsense_is_no_damage(
    server: HostileRegistry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.on("POST", "/uploads/", lambda e: e.reply(202), None)
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a").write_text("a")
    packer.pack(tmp_path / "tree", tag="v1", store=tmp_path / "store")
    at = ["--store", str(tmp_path / "store")]
    assert main(["push", f"{server.host}/app:1", "--from", "v1", *at]) == 5
    assert "makes no sense" in capsys.readouterr().err


def test_manifests_that_are_too_large(server: HostileRegistry) -> None:
    server.on("PUT", "/manifests/", lambda e: e.reply(413, b"<html>nope</html>"))
    with pytest.raises(RegistryError, match="too large for this registry") as caught:
        open_store(server).put_manifest(b"{}", MANIFEST_TYPE, "v1")
    assert caught.value.status == 413
