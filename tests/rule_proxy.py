"""A proxy in front of a real registry that lets whole requests fail, by a rule."""

from __future__ import annotations

import contextlib
import enum
import http.client
import http.server
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

WRITES = ("POST", "PUT", "PATCH", "DELETE")


class Fault(enum.Enum):
    """What happens to a request."""

    NONE = "none"
    CUT_BEFORE = "cut before"
    """The connection is reset; the registry never saw the request."""
    CUT_AFTER = "cut after"
    """The registry did what was asked; the connection is reset in place of the answer."""
    ERROR_BEFORE = "500 before"
    """The answer is 500; the registry never saw the request."""
    ERROR_AFTER = "500 after"
    """The registry did what was asked, and the answer is 500 all the same."""
    SILENT_BEFORE = "silent before"
    """No answer, until the client gives up; the registry never saw the request."""
    SILENT_AFTER = "silent after"
    """The registry did what was asked; no answer, until the client gives up."""
    IMMUTABLE = "immutable"
    """The answer is 400, as of a registry whose tags do not move; it never saw the request."""


BEFORE = (Fault.CUT_BEFORE, Fault.ERROR_BEFORE, Fault.SILENT_BEFORE, Fault.IMMUTABLE)
ERRORS = (Fault.ERROR_BEFORE, Fault.ERROR_AFTER)
SILENT = (Fault.SILENT_BEFORE, Fault.SILENT_AFTER)


@dataclass
class RuleProxy:
    """The proxy's state.

    Args:
        host: ``host:port`` for references.
        rule: tells what happens to a request, by method and path; None: nothing.
        seen: method and path of each request.
        answered: told the method, path and status of each answer of the registry.
    """

    host: str
    rule: Callable[[str, str], Fault] | None = None
    seen: list[tuple[str, str]] = field(default_factory=list)
    answered: Callable[[str, str, int], None] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, method: str, path: str) -> Fault:
        """Note a request, and say what happens to it."""
        with self._lock:
            self.seen.append((method, path))
            return self.rule(method, path) if self.rule is not None else Fault.NONE

    def writes(self) -> int:
        """Return how many requests would have changed something."""
        return sum(1 for method, _ in self.seen if method in WRITES)


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *_: object) -> None:
        pass  # clients that go away are what these tests are about


@contextlib.contextmanager
def rule_proxy(port: int) -> Iterator[RuleProxy]:
    """Forward a free loopback port to plain http on `port`.

    The Host header passes unchanged, so that the registry's Locations lead back here.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # headers and body are two writes

        def log_message(self, *_: object) -> None:
            pass

        def forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            fault = proxy.take(self.command, self.path.partition("?")[0])
            status, data, headers = 500, b"", list[tuple[str, str]]()
            if fault not in BEFORE:
                upstream = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
                with contextlib.closing(upstream):
                    upstream.request(self.command, self.path, body, dict(self.headers))
                    answer = upstream.getresponse()
                    data = answer.read()
                    if proxy.answered is not None:
                        proxy.answered(self.command, self.path.partition("?")[0], answer.status)
                    if fault is Fault.NONE:
                        status, headers = answer.status, answer.getheaders()
            if fault in SILENT:
                self.connection.settimeout(60)
                with contextlib.suppress(OSError):
                    self.connection.recv(1)  # until the client closes
            if fault is Fault.IMMUTABLE:
                status = 400
                data = b'{"errors":[{"code":"TAG_INVALID","message":"tag is immutable"}]}'
            elif fault is not Fault.NONE and fault not in ERRORS:
                linger = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.connection.close()
                self.close_connection = True
                return
            if fault in ERRORS:
                data = b'{"errors":[{"code":"UNKNOWN","message":"unknown error"}]}'
            self.send_response(status)
            for name, value in headers:
                if name.lower() not in ("connection", "transfer-encoding", "date", "server"):
                    self.send_header(name, value)
            if not any(name.lower() == "content-length" for name, _ in headers):
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = forward  # noqa: N815

    server = _Server(("127.0.0.1", 0), Handler)
    proxy = RuleProxy(f"127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
