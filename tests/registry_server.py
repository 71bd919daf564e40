"""Debian's docker-registry on a free loopback port, and a proxy that counts requests to it."""

from __future__ import annotations

import base64
import contextlib
import http.client
import http.server
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

USER, PASSWORD = "alice", "s3cret-pass"
SERVICE, ISSUER = "test-registry", "test-issuer"
LEEWAY_SECONDS = 60
"""How long docker-registry goes on taking a token that has expired."""
_CONFIG = """\
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage:
  {driver}
  delete: {{enabled: {delete}}}
{cache}{auth}http:
  addr: "127.0.0.1:{port}"
  secret: test
{tls}"""


@dataclass
class RegistryServer:
    """A running registry.

    Args:
        port: on 127.0.0.1.
        data: its root directory.
        ca_file: certificate to trust, for TLS.
    """

    port: int
    data: Path
    ca_file: Path | None = None
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def host(self) -> str:
        """``host:port``; a name where TLS is on, as certificates want it."""
        return f"localhost:{self.port}" if self.ca_file else f"127.0.0.1:{self.port}"


def need_program(name: str) -> str:
    """Return a program's path; without it skip the test, or fail it in CI."""
    path = shutil.which(name)
    if path is None:
        why = f"the program {name} is not installed"
        if os.environ.get("CI"):
            pytest.fail(why + ", and CI is set")
        pytest.skip(why)
    return path


def optional_program(name: str, how: str = "tools/install-servers builds it") -> str:
    """Return the path of a program that `tools/install-servers` may build, or skip the test."""
    folder = os.environ.get("LAYER_PACKER_SERVERS") or os.path.expanduser(
        "~/.cache/layer-packer-servers"
    )
    path = shutil.which(name, path=os.pathsep.join([folder, os.environ.get("PATH", "")]))
    if path is None:
        pytest.skip(f"the program {name} is not installed ({how})")
    return path


def free_port() -> int:
    """Return a port nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def run_registry(
    folder: Path,
    *,
    htpasswd: bool = False,
    tls: bool = False,
    realm: str | None = None,
    cache: bool = False,
    s3: str | None = None,
    program: str | None = None,
    delete: bool = True,
) -> Iterator[RegistryServer]:
    """Start docker-registry with its files below `folder` and stop it at the end.

    Args:
        folder: existing, empty directory.
        htpasswd: ask for USER and PASSWORD.
        tls: speak https with a certificate of its own CA.
        realm: ask for tokens of the `token_service` with this URL and the same `folder`.
        cache: remember in memory which blobs there are, as Debian's own configuration does.
        s3: URL of an object store with the bucket "registry"; blobs are then redirected there.
        program: another build of the registry.
        delete: let manifests be deleted.
    """
    program = program or need_program("docker-registry")
    driver = f"filesystem: {{rootdirectory: {folder / 'data'}}}"
    if s3 is not None:
        driver = (
            f"s3: {{region: us-east-1, regionendpoint: '{s3}', bucket: registry, accesskey: a, "
            "secretkey: b, secure: false, v4auth: true, encrypt: false, forcepathstyle: true}"
        )
    environment = {name: value for name, value in os.environ.items() if name != "AWS_CA_BUNDLE"}
    auth = ""
    if htpasswd:
        line = subprocess.run(
            [need_program("htpasswd"), "-Bbn", USER, PASSWORD], check=True, capture_output=True
        ).stdout
        (folder / "htpasswd").write_bytes(line)
        auth = f"auth: {{htpasswd: {{realm: Registry Realm, path: {folder / 'htpasswd'}}}}}\n"
    if realm is not None:
        auth = (
            f"auth: {{token: {{realm: {realm}, service: {SERVICE}, issuer: {ISSUER}, "
            f"rootcertbundle: {folder / 'cert.pem'}}}}}\n"
        )
    lines, ca_file = "", None
    if tls:
        ca_file = make_certificate(folder)
        lines = f"  tls: {{certificate: {ca_file}, key: {folder / 'key.pem'}}}\n"
    for attempt in range(5):
        port = free_port()
        config = folder / "config.yml"
        config.write_text(
            _CONFIG.format(
                driver=driver,
                auth=auth,
                port=port,
                tls=lines,
                cache="  cache: {blobdescriptor: inmemory}\n" if cache else "",
                delete=str(delete).lower(),
            ),
            encoding="utf-8",
        )
        with (folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [program, "serve", str(config)], stdout=log, stderr=log, env=environment
            )
        try:
            if wait_until_ready(process, port, ca_file):
                yield RegistryServer(port, folder / "data", ca_file, process)
                return
        finally:
            process.kill()
            process.wait()
        assert attempt < 4, (folder / "log").read_text(encoding="utf-8", errors="replace")


@contextlib.contextmanager
def run_other(folder: Path, arguments: Callable[[int], list[str]]) -> Iterator[str]:
    """Start another registry, in plain http, and return its ``host:port``.

    Args:
        folder: existing; gets its log.
        arguments: returns the command that serves a port.
    """
    for attempt in range(5):
        port = free_port()
        with (folder / "log").open("ab") as log:
            process = subprocess.Popen(arguments(port), stdout=log, stderr=log, cwd=folder)
        try:
            if wait_until_ready(process, port, None):
                yield f"127.0.0.1:{port}"
                return
        finally:
            process.kill()
            process.wait()
        assert attempt < 4, (folder / "log").read_text(encoding="utf-8", errors="replace")


def make_certificate(folder: Path) -> Path:
    """Make a self-signed certificate for localhost and 127.0.0.1; the key is beside it."""
    path = folder / "cert.pem"
    subprocess.run(
        [
            need_program("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes",
            "-days", "2", "-subj", "/CN=localhost",
            "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
            "-keyout", str(folder / "key.pem"), "-out", str(path),
        ],
        check=True,
        capture_output=True,
    )  # fmt: skip
    return path


def wait_until_ready(process: subprocess.Popen[bytes], port: int, ca_file: Path | None) -> bool:
    """Wait for an answer to GET /v2/; False if the process ended, as when its port was taken."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if process.poll() is not None:
            return False
        connection: http.client.HTTPConnection
        if ca_file is None:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        else:
            context = ssl.create_default_context(cafile=str(ca_file))
            connection = http.client.HTTPSConnection("localhost", port, timeout=5, context=context)
        with contextlib.closing(connection), contextlib.suppress(OSError):
            connection.request("GET", "/v2/")
            if connection.getresponse().status in (200, 401):
                return True
        time.sleep(0.05)
    return False


@dataclass
class CountingProxy:
    """A reverse proxy that writes down what passes.

    Args:
        host: ``host:port`` to use in references.
        requests: ``(method, path without query, status)`` in order of arrival of the answers.
        answers: the lengths of their bodies.
    """

    host: str
    requests: list[tuple[str, str, int]]
    answers: list[int] = field(default_factory=list)

    def count(self, method: str | None = None) -> int:
        """Return how many requests passed."""
        return sum(1 for request in self.requests if method in (None, request[0]))

    def clear(self) -> None:
        """Forget them."""
        self.requests.clear()
        self.answers.clear()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        pass  # clients are killed, and the servers behind are stopped


@contextlib.contextmanager
def counting_proxy(port: int, latency_seconds: float = 0) -> Iterator[CountingProxy]:
    """Forward a free loopback port to plain http on `port`, counting requests.

    Args:
        port: of the registry.
        latency_seconds: how long each answer is held back.

    The Host header passes unchanged, so that the registry's Locations lead back here.
    """
    proxy = CountingProxy("", [])

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # headers and body are two writes

        def log_message(self, *_: object) -> None:
            pass

        def forward(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            upstream = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            with contextlib.closing(upstream):
                upstream.request(
                    self.command, self.path, self.rfile.read(length), dict(self.headers)
                )
                answer = upstream.getresponse()
                body = answer.read()
                if latency_seconds:
                    time.sleep(latency_seconds)
                proxy.answers.append(len(body))
                proxy.requests.append((self.command, self.path.partition("?")[0], answer.status))
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in ("connection", "transfer-encoding", "date", "server"):
                        self.send_header(name, value)
                if answer.getheader("Content-Length") is None:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = forward  # noqa: N815

    server = _Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        proxy.host = f"127.0.0.1:{server.server_address[1]}"
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class TokenService:
    """A token service for docker-registry.

    Args:
        realm: its URL.
        granted: scopes of each token given out, with spaces between.
        refused: repositories of which a token is given out without saying so.
        life_seconds: after which docker-registry takes a token no longer; what the token's answer
            says of it is five minutes.
    """

    realm: str
    granted: list[str] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    life_seconds: int = 300


@contextlib.contextmanager
def token_service(folder: Path) -> Iterator[TokenService]:
    """Run a token service that knows USER and PASSWORD.

    Args:
        folder: gets the certificate that a registry in the same folder trusts.
    """
    certificate = make_certificate(folder).read_text(encoding="ascii")
    chain = "".join(certificate.partition("-----BEGIN CERTIFICATE-----")[2].split("\n")[:-2])
    login = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()

    def encode(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).decode().rstrip("=")

    def sign(scopes: list[str]) -> str:
        access = [
            {"type": kind, "name": name, "actions": actions.split(",")}
            for kind, name, actions in (scope.split(":") for scope in scopes)
            if name not in service.refused
        ]
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "sub": USER,
            "aud": SERVICE,
            "iat": now,
            "nbf": now - 100,
            "exp": now - LEEWAY_SECONDS + service.life_seconds,
            "jti": str(len(service.granted)),
            "access": access,
        }
        header = {"typ": "JWT", "alg": "RS256", "x5c": [chain]}
        text = ".".join(encode(json.dumps(part).encode()) for part in (header, claims))
        signature = subprocess.run(
            [need_program("openssl"), "dgst", "-sha256", "-sign", str(folder / "key.pem")],
            input=text.encode(),
            check=True,
            capture_output=True,
        ).stdout
        return f"{text}.{encode(signature)}"

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            allowed = self.headers.get("Authorization") == login
            body = b"{}"
            if allowed and query["service"] == [SERVICE]:
                service.granted.append(" ".join(query["scope"]))
                body = json.dumps({"token": sign(query["scope"]), "expires_in": 300}).encode()
            self.send_response(200 if allowed else 401)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = _Server(("127.0.0.1", 0), Handler)
    service = TokenService(f"http://127.0.0.1:{server.server_address[1]}/token")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def object_store(folder: Path) -> Iterator[str]:
    """Run moto's S3 on a free port with the bucket "registry", and return its URL."""
    program = Path(sys.executable).with_name("moto_server")
    if not program.exists():
        pytest.skip("moto is not installed (the extra `test`)")
    for attempt in range(5):
        port = free_port()
        with (folder / "moto.log").open("ab") as log:
            command = [str(program), "-H", "127.0.0.1", "-p", str(port)]
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            if _make_bucket(process, port):
                yield f"http://127.0.0.1:{port}"
                return
        finally:
            process.kill()
            process.wait()
        assert attempt < 4, (folder / "moto.log").read_text(encoding="utf-8", errors="replace")


def _make_bucket(process: subprocess.Popen[bytes], port: int) -> bool:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            return False
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        with contextlib.closing(connection), contextlib.suppress(OSError):
            # Any signature will do: this store checks none.
            login = "AWS4-HMAC-SHA256 Credential=a/20200101/us-east-1/s3/aws4_request"
            connection.request("PUT", "/registry", headers={"Authorization": login})
            if connection.getresponse().status == 200:
                return True
        time.sleep(0.1)
    return False
