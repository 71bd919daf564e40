"""HTTP to strangers: one exchange with retries, timeouts everywhere, bodies bounded, text defused.

Knows nothing of registries or credentials. Redirects are handed back, never followed here; bodies
are never decoded (`Accept-Encoding: identity`), so that a compressed bomb stays what it is.
"""

from __future__ import annotations

import contextlib
import random
import re
import socket
import ssl
import threading
import time
import urllib.request
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Protocol, cast
from urllib.parse import urljoin, urlsplit

import urllib3
import urllib3.connection
from urllib3.exceptions import HTTPError, SSLError

from packer.errors import FormatError, InvalidParameter, TransportError
from packer.reference import is_loopback
from packer.stores.registry.tls import Tls

RETRY_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
REDIRECT_STATUSES = frozenset({301, 302, 303, 307, 308})
MAX_TEXT_CHARS = 300
DISCARD_BYTES = 64 << 10
"""A body that nobody wants is read up to here to keep its connection; beyond, both are closed."""
SEND_BYTES = 256 << 10
"""How much of a body is read at a time."""
TLS_SEND_BYTES = 64 << 10
"""One write to a TLS socket: small, because the socket's timeout bounds the whole write of it."""
STALL_BYTES = 1024
"""A body that brings fewer bytes than this during a whole read timeout is given up."""

_QUERY = re.compile(r"(\w+://[^\s?\"'<>]*)\?[^\s\"'<>]*")
_CONNECTION = re.compile(r"^(Plain|Secure)\(.*?\): ")  # urllib3 shows our classes
_USERINFO = re.compile(r"(\w+://)[^\s/@\"'<>]*@")


class Body(Protocol):
    """A request body sent as it is read."""

    def __iter__(self) -> Iterator[bytes | memoryview]:
        """Yield its parts, each valid until the next is asked for; none is empty."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how patiently to try again.

    Args:
        attempts: tries in all, at least 1.
        base_seconds: mean of the first pause is half of it; each next one doubles.
        max_seconds: bound on one pause, whatever the server's Retry-After says.
    """

    attempts: int = 5
    base_seconds: float = 0.4
    max_seconds: float = 30.0

    def pause(self, attempt: int, retry_after: str | None = None) -> float:
        """Return how long to wait after failed attempt number `attempt`, from 0.

        Full jitter: many clients that failed together must not come back together.
        """
        limit = min(self.max_seconds, self.base_seconds * 2.0 ** min(attempt, 60))
        jitter = random.uniform(0, limit)  # noqa: S311
        asked = _retry_after_seconds(retry_after)
        return min(self.max_seconds, max(asked, jitter))


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port: what credentials belong to."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"


def origin_of(url: str) -> Origin:
    """Return the origin of an absolute http or https URL.

    Raises:
        FormatError: another scheme, user information, no host, a bad port, or characters that have
            no place in a URL.
    """
    shown = shown_url(url)
    if any(not "!" <= char <= "~" for char in url) or "\\" in url:
        raise FormatError(f"URL {shown}", "characters that must be escaped")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise FormatError(f"URL {shown}", "cannot be parsed") from None
    if parts.scheme not in ("http", "https"):
        raise FormatError(f"URL {shown}", "neither http nor https")
    if "@" in parts.netloc:
        raise FormatError(f"URL {shown}", "holds user information")
    if not parts.hostname:
        raise FormatError(f"URL {shown}", "no host")
    if port is None:
        port = 443 if parts.scheme == "https" else 80
    return Origin(parts.scheme, parts.hostname.rstrip("."), port)


def join_url(base: str, location: str) -> str:
    """Resolve a Location header against the URL that was asked for.

    Raises:
        FormatError: as `origin_of`, and for a step down from https to http.
    """
    try:
        target = urljoin(base, location)
    except ValueError:
        raise FormatError(f"URL {safe_text(location)}", "cannot be parsed") from None
    if origin_of(base).scheme == "https" and origin_of(target).scheme == "http":
        raise FormatError(
            f"URL {shown_url(target)}",
            "an https registry points at plain http, which is refused (behind a proxy, the "
            "registry must be told its outer scheme: X-Forwarded-Proto, or relative URLs)",
        )
    origin_of(target)
    return target


def safe_text(text: str, limit: int = MAX_TEXT_CHARS) -> str:
    """Return `text` of a stranger fit for a terminal and a log: escaped, without URL queries."""
    text = _USERINFO.sub(r"\1", _QUERY.sub(r"\1", text[: 4 * limit]))
    out = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
    return out if len(out) <= limit else out[:limit] + "..."


def shown_url(url: str) -> str:
    """Return a URL as errors may show it: no query, no user information, escaped."""
    return safe_text(url.partition("?")[0].partition("#")[0])


def _retry_after_seconds(value: str | None) -> float:
    if not value:
        return 0.0
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0


class Response:
    """Status, headers and unread body of an answer; a context manager that closes it."""

    def __init__(self, raw: urllib3.BaseHTTPResponse, method: str, url: str, stall: float) -> None:
        self.status = raw.status
        self.method = method
        self.url = url
        self._raw = raw
        self._stall = stall
        self._waited = 0.0
        self._window_bytes = 0

    def header(self, name: str) -> str | None:
        """Return a header's value, or None; repeated headers come joined by commas."""
        value = self._raw.headers.get(name)
        return None if value is None else str(value)

    def headers(self, name: str) -> list[str]:
        """Return every value of a header."""
        return [str(value) for value in self._raw.headers.getlist(name)]

    @property
    def content_length(self) -> int | None:
        """What Content-Length claims, None if there is none or it is no plain number."""
        value = self.header("Content-Length") or ""
        return int(value) if value.isascii() and value.isdigit() and len(value) < 40 else None

    def read(self, size: int, /) -> bytes:
        """Return between 1 and `size` bytes, b"" at the end of the body.

        Raises:
            TransportError: cut off, silent for the read timeout, or slower than
                STALL_BYTES per read timeout.
        """
        begin = time.monotonic()
        try:
            # read1, because read would wait for all of `size`, each byte with a new timeout.
            data = self._raw.read1(size, decode_content=False) or b""
        except (HTTPError, OSError) as error:
            raise transport_error(self.method, self.url, error) from error
        self._waited += time.monotonic() - begin
        self._window_bytes += len(data)
        if self._window_bytes >= STALL_BYTES:
            self._waited, self._window_bytes = 0.0, 0
        elif self._waited > self._stall:
            raise self._too_slow()
        return data

    def read_bounded(self, limit: int, what: str) -> bytes:
        """Return the whole body.

        Raises:
            FormatError: more than `limit` bytes came.
            TransportError: as `read`, or not done within twice the read timeout.
        """
        claimed = self.content_length
        if claimed is not None and claimed > limit and self.method != "HEAD":
            raise FormatError(what, f"{claimed} bytes announced, above the limit of {limit}")
        out = bytearray()
        deadline = time.monotonic() + 2 * self._stall
        while data := self.read(min(limit + 1 - len(out), 1 << 18)):
            out += data
            if len(out) > limit:
                raise FormatError(what, f"more than the limit of {limit} bytes")
            if time.monotonic() > deadline:
                raise self._too_slow()
        return bytes(out)

    def discard(self) -> None:
        """Drop the body, keeping the connection if little is left of it."""
        with contextlib.suppress(TransportError, FormatError):
            self.read_bounded(DISCARD_BYTES, "body")
        self.close()

    def close(self) -> None:
        """Give the connection back, or close it if the body was not read to its end."""
        self._raw.close()
        self._raw.release_conn()

    def __enter__(self) -> Response:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _too_slow(self) -> TransportError:
        return TransportError(
            f"{self.method} {shown_url(self.url)}: the answer comes too slowly", retryable=True
        )


def _bounded(
    sock: socket.socket | None, receive: Callable[[], urllib3.HTTPResponse]
) -> urllib3.HTTPResponse:
    """Call `receive`, which reads status and headers, with a bound on its whole duration.

    The socket's own timeout bounds one receive, and a server that sends a header byte by byte could
    go on for ever.
    """
    limit = sock.gettimeout() if sock is not None else None
    if not limit:
        return receive()
    timer = threading.Timer(2 * limit, _shut, [sock])
    timer.daemon = True
    timer.start()
    try:
        return receive()
    finally:
        timer.cancel()


def _shut(sock: socket.socket) -> None:
    # The plain socket's method, as that of a TLS socket would drop its state under the reader.
    with contextlib.suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


class _Connection(urllib3.connection.HTTPConnection):
    def send(self, data: Any) -> None:
        # In place of sendall, whose timeout bounds all of it: here it bounds each step.
        if self.sock is None or not isinstance(data, (bytes, memoryview)):
            super().send(data)
            return
        with memoryview(data) as view:
            done = 0
            while done < len(view):
                done += self.sock.send(view[done:])

    def getresponse(self) -> urllib3.HTTPResponse:  # type: ignore[override]
        return _bounded(self.sock, super().getresponse)


class _TlsConnection(urllib3.connection.HTTPSConnection):
    def send(self, data: Any) -> None:
        if not isinstance(data, (bytes, memoryview)):
            super().send(data)
            return
        with memoryview(data) as view:
            for start in range(0, len(view), TLS_SEND_BYTES):
                super().send(view[start : start + TLS_SEND_BYTES])

    def getresponse(self) -> urllib3.HTTPResponse:  # type: ignore[override]
        return _bounded(self.sock, super().getresponse)


class _Sockets:
    """The connections that are open, so that all of them can be cut at once."""

    def __init__(self) -> None:
        self.halted = threading.Event()
        self._lock = threading.Lock()
        self._connections: weakref.WeakSet[urllib3.connection.HTTPConnection] = weakref.WeakSet()

    def pools(self) -> dict[str, type[urllib3.HTTPConnectionPool]]:
        """Return pool classes whose connections are noted here."""
        sockets = self

        class Plain(_Connection):
            def connect(self) -> None:
                super().connect()
                sockets.note(self)

        class Secure(_TlsConnection):
            def connect(self) -> None:
                super().connect()
                sockets.note(self)

        class Pool(urllib3.HTTPConnectionPool):
            ConnectionCls = Plain

        class TlsPool(urllib3.HTTPSConnectionPool):
            ConnectionCls = Secure

            def _validate_conn(self, conn: Any) -> None:
                # Without urllib3's warning about unverified TLS, which was asked for.
                if conn.is_closed:
                    conn.connect()

        return {"http": Pool, "https": TlsPool}

    def note(self, connection: urllib3.connection.HTTPConnection) -> None:
        with self._lock:
            self._connections.add(connection)
        if self.halted.is_set() and connection.sock is not None:
            _shut(connection.sock)

    def cut(self) -> None:
        self.halted.set()
        with self._lock:
            found = [connection.sock for connection in self._connections]
        for sock in found:
            if sock is not None:
                _shut(sock)


class Transport:
    """A pool of connections with one TLS set-up, one set of timeouts and one retry policy.

    Args:
        tls: whom to trust, and which certificate to show.
        timeout_seconds: silence allowed before an operation on a connection fails.
        max_connections: connections to keep per host; more may be open for a moment.
        retry: when and how often `send` tries again.

    Thread safety: threads may share it.
    """

    def __init__(
        self,
        *,
        tls: Tls | None = None,
        timeout_seconds: float = 60.0,
        max_connections: int = 16,
        retry: RetryPolicy | None = None,
    ) -> None:
        self.retry = retry or RetryPolicy()
        self._timeout = timeout_seconds
        self._tls = tls or Tls()
        self._max_connections = max_connections
        self._pools: dict[str, urllib3.PoolManager] = {}
        self._sockets = _Sockets()

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | Body | None = None,
        *,
        retry: bool = True,
    ) -> Response:
        """Make a request and return the answer, whatever its status.

        Args:
            method: HTTP method.
            url: absolute, already checked by `origin_of`.
            headers: sent as they are, with `Accept-Encoding: identity` added.
            body: bytes, or parts to send whose length `headers` tells; the latter is sent once.
            retry: try again on lost connections and on RETRY_STATUSES.

        Raises:
            TransportError: no answer.
        """
        attempts = self.retry.attempts if retry and isinstance(body, (bytes, type(None))) else 1
        for attempt in range(attempts):
            last = attempt == attempts - 1
            try:
                response = self._exchange(method, url, headers, body)
            except TransportError as error:
                if last or not error.retryable:
                    raise
                self.sleep(attempt)
                continue
            if last or response.status not in RETRY_STATUSES:
                break
            response.discard()
            self.sleep(attempt, response.header("Retry-After"))
        return response

    def sleep(self, attempt: int, retry_after: str | None = None) -> None:
        """Pause as the retry policy says."""
        self._sockets.halted.wait(self.retry.pause(attempt, retry_after))

    @property
    def halted(self) -> threading.Event:
        """Set between `interrupt` and `resume`."""
        return self._sockets.halted

    def interrupt(self) -> None:
        """Cut all connections, end pauses, and refuse requests until `resume`."""
        self._sockets.cut()

    def resume(self) -> None:
        """Allow requests again."""
        self._sockets.halted.clear()

    def close(self) -> None:
        """Close idle connections."""
        for pool in list(self._pools.values()):
            pool.clear()

    def _exchange(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | Body | None
    ) -> Response:
        sent = {"Accept-Encoding": "identity", **headers}
        # A registry may take long to commit a large body to its own store before it answers.
        read_timeout = self._timeout * (5 if method == "PUT" else 1)
        pool = self._pool(url)
        if self._sockets.halted.is_set():
            raise TransportError(f"{method} {shown_url(url)}: interrupted")
        try:
            raw = pool.urlopen(
                method,
                url,
                body=cast(Any, body),  # a memoryview is as good as bytes
                headers=sent,
                retries=False,
                redirect=False,
                preload_content=False,
                decode_content=False,
                timeout=urllib3.Timeout(connect=min(30.0, self._timeout), read=read_timeout),
            )
        except (HTTPError, OSError) as error:
            raise transport_error(method, url, error) from error
        return Response(raw, method, url, self._timeout)

    def _pool(self, url: str) -> urllib3.PoolManager:
        parts = urlsplit(url)
        proxy = None
        host = parts.hostname or ""
        if not is_loopback(host) and not urllib.request.proxy_bypass(host):
            proxies = urllib.request.getproxies()
            proxy = proxies.get(parts.scheme) or proxies.get("all")
        own = host.rstrip(".") == self._tls.host
        key = f"{parts.scheme} {own} {proxy or ''}"
        pool = self._pools.get(key)
        if pool is None:
            # setdefault is atomic; a second pool made in a race is dropped unused.
            pool = self._pools.setdefault(key, self._make_pool(parts.scheme, proxy, host))
        return pool

    def _make_pool(self, scheme: str, proxy: str | None, host: str) -> urllib3.PoolManager:
        options: dict[str, object] = {"maxsize": self._max_connections}
        if scheme == "https":
            options["ssl_context"] = self._tls.context(host.rstrip("."))
        manager = self._manager(proxy, options)
        manager.pool_classes_by_scheme = self._sockets.pools()
        return manager

    def _manager(self, proxy: str | None, options: dict[str, object]) -> urllib3.PoolManager:
        if proxy is None:
            return urllib3.PoolManager(num_pools=8, **options)  # type: ignore[arg-type]
        if "://" not in proxy:
            proxy = "http://" + proxy
        if not proxy.startswith(("http://", "https://")):
            raise InvalidParameter(f"proxy {shown_url(proxy)} is neither http nor https")
        user = urllib3.util.parse_url(proxy).auth
        login = urllib3.make_headers(proxy_basic_auth=user) if user else None
        return urllib3.ProxyManager(
            proxy,
            num_pools=8,
            proxy_headers=login,
            **options,  # type: ignore[arg-type]
        )


def transport_error(method: str, url: str, error: Exception) -> TransportError:
    """Translate an exception of urllib3 or of the socket.

    A certificate that fails verification is for a person to deal with; everything else may pass.
    """
    cause: BaseException | None = error
    retryable = True
    for _ in range(10):
        if isinstance(cause, ssl.SSLCertVerificationError):
            retryable = False
        nested = cause.args[0] if isinstance(cause, SSLError) and cause.args else None
        if isinstance(nested, ssl.SSLCertVerificationError):
            retryable = False
        cause = cause and (cause.__cause__ or cause.__context__)
    hint = "" if retryable else " (for a CA of your own, give its certificate as ca_file)"
    if isinstance(error, SSLError) and "WRONG_VERSION_NUMBER" in str(error):
        retryable, hint = False, " (does this registry speak plain http? It has to be asked for)"
    why = safe_text(_CONNECTION.sub("", str(error).replace("\n", " "))) or type(error).__name__
    return TransportError(f"{method} {shown_url(url)}: {why}{hint}", retryable=retryable)
