"""A small registry in memory that answers correctly until it is told not to.

`HostileRegistry` is a sound registry of the distribution-spec on a loopback port. Rules added with
`on` take requests away from it: each sees an `Exchange` and answers it, or returns False to let the
registry do so. Everything that arrives is written down in `seen`.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.server
import json
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from packer.stores.registry.settings import Settings
from packer.stores.registry.store import RegistryStore
from packer.stores.registry.transport.retries import RetryPolicy

QUICK = RetryPolicy(attempts=4, base_seconds=0.01, max_seconds=0.05)
"""Patience for tests."""


@dataclass(frozen=True)
class Seen:
    """A request as it arrived."""

    method: str
    path: str
    query: str
    headers: dict[str, str]

    @property
    def authorization(self) -> str | None:
        return self.headers.get("authorization")


class Exchange:
    """One request, and the ways to answer it."""

    def __init__(self, handler: http.server.BaseHTTPRequestHandler, registry: HostileRegistry):
        self.handler = handler
        self.registry = registry
        self.method = handler.command
        parts = urlsplit(handler.path)
        self.path, self.query = parts.path, parts.query
        self.headers = {name.lower(): value for name, value in handler.headers.items()}
        self._left = int(self.headers.get("content-length") or 0)

    def receive(self, count: int | None = None) -> bytes:
        """Read the request's body, or `count` bytes of it."""
        data = self.handler.rfile.read(self._left if count is None else min(count, self._left))
        self._left -= len(data)
        return data

    def reply(
        self,
        status: int,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        *,
        length: int | None = None,
    ) -> None:
        """Answer; `length` overrides the Content-Length (negative: none at all)."""
        while self._left:
            if not self.receive(1 << 20):
                break
        sent = {"Content-Length": str(len(body) if length is None else length), **(headers or {})}
        if length is not None:
            self.handler.close_connection = True
            if length < 0:
                del sent["Content-Length"]
        self.handler.send_response(status)
        for name, value in sent.items():
            self.handler.send_header(name, value)
        self.handler.end_headers()
        if self.method != "HEAD":
            self.handler.wfile.write(body)

    def fail(self, status: int, code: str, message: str = "", detail: Any = None) -> None:
        """Answer with an error of the specification."""
        error = {"code": code, "message": message, "detail": detail}
        self.reply(status, json.dumps({"errors": [error]}).encode())

    def cut(self) -> None:
        """Close the connection at once, with a reset rather than an orderly end."""
        self.handler.close_connection = True
        connection = self.handler.connection
        with contextlib.suppress(OSError):
            linger = b"\1\0\0\0\0\0\0\0"
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            connection.close()

    def endless(self, status: int = 200, headers: dict[str, str] | None = None) -> None:
        """Answer with a body that never ends, until the client has had enough."""
        self.reply(status, b"", headers, length=-1)
        block = b" " * (1 << 16)
        with contextlib.suppress(OSError):
            while not self.registry.stopping.is_set():
                self.handler.wfile.write(block)
                self.registry.endless_bytes += len(block)


Rule = Callable[[Exchange], "bool | None"]


@dataclass
class _Plan:
    method: str
    path: re.Pattern[str]
    times: int | None
    rule: Rule
    hits: int = 0


@dataclass
class HostileRegistry:
    """The registry's state, and its rules.

    Args:
        host: ``host:port`` for references.
        auth: None, "basic" or "token".
        realm: URL of the token service; its own by default.
        token_uses: requests a token is good for, None for any number.
    """

    host: str
    scheme: str = "http"
    auth: str | None = None
    login: tuple[str, str] = ("alice", "s3cret-pass")
    realm: str = ""
    token_uses: int | None = None
    identity_token: str | None = None
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    tokens: dict[str, tuple[str, int]] = field(default_factory=dict)
    endless_bytes: int = 0
    stopping: threading.Event = field(default_factory=threading.Event)
    _plans: list[_Plan] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _uploads: int = 0

    def on(self, method: str, path: str, rule: Rule, times: int | None = 1) -> None:
        """Give the next `times` requests that match (None: all) to `rule`."""
        self._plans.append(_Plan(method, re.compile(path), times, rule))

    def all_hit(self) -> bool:
        """Tell whether every rule was used as often as it should be."""
        return all(plan.hits == (plan.times or plan.hits) > 0 for plan in self._plans)

    def count(self, method: str, path: str = "") -> int:
        """Return how many requests match."""
        return sum(1 for item in self.seen if item.method == method and re.search(path, item.path))

    def handle(self, exchange: Exchange) -> None:
        """Write the request down, then let a rule or the registry answer it."""
        with self._lock:
            self.seen.append(Seen(exchange.method, exchange.path, exchange.query, exchange.headers))
            plans = [
                plan
                for plan in self._plans
                if plan.method == exchange.method
                and plan.path.search(exchange.path)
                and (plan.times is None or plan.hits < plan.times)
            ]
            if plans:
                plans[0].hits += 1
        if plans and plans[0].rule(exchange) is not False:
            return
        if exchange.path == "/token":
            self._token(exchange)
        elif exchange.path == "/v2/" and self._allowed(exchange):
            exchange.reply(200, b"{}")
        elif exchange.path == "/v2/":
            return
        elif self._allowed(exchange):
            self._serve(exchange)

    def knows(self, exchange: Exchange) -> bool:
        """Return whether a request has the login, or a token."""
        given = exchange.headers.get("authorization", "")
        expected = "Basic " + base64.b64encode(":".join(self.login).encode()).decode()
        return given == expected or given.removeprefix("Bearer ") in self.tokens

    def _allowed(self, exchange: Exchange) -> bool:
        given = exchange.headers.get("authorization", "")
        if self.auth is None:
            return True
        if self.auth == "basic":
            if self.knows(exchange):
                return True
            challenge = 'Basic realm="Registry, \\"inner\\" Realm", charset="UTF-8"'
        else:
            need = "push" if exchange.method in ("POST", "PUT", "PATCH") else "pull"
            if exchange.method == "DELETE":
                need = "delete"
            with self._lock:
                scope, uses = self.tokens.get(given.removeprefix("Bearer "), ("", 0))
                if need in scope and (self.token_uses is None or uses < self.token_uses):
                    self.tokens[given.removeprefix("Bearer ")] = (scope, uses + 1)
                    return True
            realm = self.realm or f"{self.scheme}://{self.host}/token"
            challenge = f'Bearer realm="{realm}",service="reg",scope="repository:x:pull"'
        body = b'{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}'
        exchange.reply(401, body, {"WWW-Authenticate": challenge})
        return False

    def _token(self, exchange: Exchange) -> None:
        if exchange.method == "POST":
            query = parse_qs(exchange.receive().decode())
            good = query.get("refresh_token") == [self.identity_token]
        else:
            query = parse_qs(exchange.query)
            expected = "Basic " + base64.b64encode(":".join(self.login).encode()).decode()
            good = exchange.headers.get("authorization") == expected
        if not good:
            exchange.reply(401, b"{}")
            return
        with self._lock:
            value = f"token-{len(self.tokens)}-secret"
            scope = query.get("scope", ["pull"])[0]
            self.tokens[value] = (scope.rpartition(":")[2], 0)
        exchange.reply(200, json.dumps({"token": value, "expires_in": 300}).encode())

    def _serve(self, exchange: Exchange) -> None:
        match = re.fullmatch(r"/v2/[a-z0-9/._-]+?/(blobs|manifests|tags)/(.+)", exchange.path)
        if match is None:
            exchange.reply(404)
            return
        kind, name = match.groups()
        if kind == "tags":
            self._list(exchange)
        elif kind == "manifests":
            self._manifest(exchange, name)
        elif name.startswith("uploads/"):
            self._upload(exchange)
        else:
            self._blob(exchange, name)

    def _list(self, exchange: Exchange) -> None:
        body = json.dumps({"name": "x", "tags": sorted(self.tags)}).encode()
        exchange.reply(200, body)

    def _blob(self, exchange: Exchange, digest: str) -> None:
        data = self.blobs.get(digest)
        if data is None:
            exchange.fail(404, "BLOB_UNKNOWN")
            return
        headers = {"Docker-Content-Digest": digest, "Content-Type": "application/octet-stream"}
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", exchange.headers.get("range", ""))
        if match is None:
            exchange.reply(200, data, headers | {"Content-Length": str(len(data))})
            return
        start, end = int(match[1]), min(int(match[2]), len(data) - 1)
        headers["Content-Range"] = f"bytes {start}-{end}/{len(data)}"
        exchange.reply(206, data[start : end + 1], headers)

    def _upload(self, exchange: Exchange) -> None:
        if exchange.method == "POST":
            with self._lock:
                self._uploads += 1
                number = self._uploads
            location = f"{exchange.path}{number}?_state=abc%3D"
            exchange.reply(202, b"", {"Location": location})
            return
        if exchange.method == "DELETE":
            exchange.reply(204)
            return
        data = exchange.receive()
        digest = parse_qs(exchange.query)["digest"][0]
        actual = "sha256:" + hashlib.sha256(data).hexdigest()
        if actual != digest:
            exchange.fail(400, "DIGEST_INVALID", f"got {actual}")
            return
        self.blobs[digest] = data
        exchange.reply(201, b"", {"Location": "/x", "Docker-Content-Digest": digest})

    def _manifest(self, exchange: Exchange, name: str) -> None:
        if exchange.method == "PUT":
            self._put_manifest(exchange, name)
            return
        digest = self.tags.get(name, name)
        if exchange.method == "DELETE":
            if self.tags.pop(name, None) is None:
                exchange.fail(404, "MANIFEST_UNKNOWN")
            else:
                exchange.reply(202)
            return
        if digest not in self.manifests:
            exchange.fail(404, "MANIFEST_UNKNOWN", "manifest unknown")
            return
        media_type, data = self.manifests[digest]
        exchange.reply(200, data, {"Content-Type": media_type, "Docker-Content-Digest": digest})

    def _put_manifest(self, exchange: Exchange, name: str) -> None:
        data = exchange.receive()
        value = json.loads(data)
        for blob in [value["config"], *value["layers"]] if "config" in value else []:
            if blob["digest"] not in self.blobs:
                exchange.fail(
                    404, "MANIFEST_BLOB_UNKNOWN", "blob unknown", {"digest": blob["digest"]}
                )
                return
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        self.manifests[digest] = (exchange.headers["content-type"], data)
        if name != digest:
            self.tags[name] = digest
        exchange.reply(201, b"", {"Docker-Content-Digest": digest})


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *_: object) -> None:
        pass  # clients that break off are what these tests are about


@contextlib.contextmanager
def hostile_registry(
    *,
    certificate: Path | None = None,
    host: str = "127.0.0.1",
    auth: str | None = None,
    client_ca: Path | None = None,
    port: int = 0,
) -> Iterator[HostileRegistry]:
    """Run a registry on a loopback port.

    Args:
        certificate: speak TLS with it and ``key.pem`` beside it.
        host: how references name it, "127.0.0.1" or "localhost".
        auth: as in `HostileRegistry`.
        client_ca: ask for a client certificate of this authority.
        port: to listen on; any free one by default.
    """
    registry: HostileRegistry

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 20
        disable_nagle_algorithm = True  # headers and body are two writes

        def log_message(self, *_: object) -> None:
            pass

        def take(self) -> None:
            exchange = Exchange(self, registry)
            registry.handle(exchange)

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = take  # noqa: N815

    server = _Server(("127.0.0.1", port), Handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, certificate.parent / "key.pem")
        if client_ca is not None:
            context.load_verify_locations(client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        server.socket = context.wrap_socket(server.socket, server_side=True)
    scheme = "http" if certificate is None else "https"
    registry = HostileRegistry(f"{host}:{server.server_address[1]}", scheme, auth)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield registry
    finally:
        registry.stopping.set()
        server.shutdown()
        server.server_close()
        thread.join()


def open_store(registry: HostileRegistry, **options: Any) -> RegistryStore:
    """Return a client of the repository ``app`` that tries again at once."""
    settings = Settings(retry=QUICK, timeout_seconds=5, **options)
    return RegistryStore(f"{registry.host}/app", settings)
