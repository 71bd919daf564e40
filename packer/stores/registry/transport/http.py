"""HTTP to strangers: one exchange with retries, timeouts everywhere, bodies bounded.

Knows nothing of registries or credentials. Redirects are returned, never followed; bodies are never
decoded (`Accept-Encoding: identity`), so that a compressed bomb stays as small as it came.
"""

from __future__ import annotations

import contextlib
import re
import ssl
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from typing import Any, Protocol, cast
from urllib.parse import urlsplit

import urllib3
from urllib3.exceptions import HTTPError, ProxyError, SSLError

from packer.errors import FormatError, RegistryError, TransportError
from packer.files.closing import Closing
from packer.forks import renew_in_children
from packer.oci import READ_BYTES
from packer.stores.registry.transport.connections import Sockets
from packer.stores.registry.transport.proxies import proxy_for
from packer.stores.registry.transport.rate import RateLimit
from packer.stores.registry.transport.retries import RETRY_STATUSES, Attempts, RetryPolicy
from packer.stores.registry.transport.tls import Tls
from packer.stores.registry.transport.urls import origin_of, safe_text, shown_url

REDIRECT_STATUSES = frozenset({301, 302, 303, 307, 308})
DISCARD_BYTES = 64 << 10
"""Bytes of an unwanted body that are read to keep its connection; a longer one closes both."""
SEND_BYTES = 256 << 10
"""Bytes of a request body that are read at a time."""
STALL_BYTES = 1024
"""A body that brings fewer bytes than this during a whole read timeout is given up."""

_ANSWERED: set[str] = set()
"""Servers that have answered this process, as in URLs."""
_ABANDONED: list[dict[str, urllib3.PoolManager]] = []
_TUNNEL = re.compile(r"Tunnel connection failed: (\d{3}[ \w]{0,60})")
_CONNECTION = re.compile(r"^(Plain|Secure)\(.*?\): ")  # urllib3 shows our classes


class Body(Protocol):
    """A request body sent as it is read."""

    def __iter__(self) -> Iterator[bytes | memoryview]:
        """Yield its parts, each valid until the next is asked for; none is empty."""


class Response(Closing):
    """Status, headers and unread body of an answer; a context manager that closes it.

    Args:
        raw: urllib3's answer.
        method: of the request.
        url: of the request.
        stall: seconds in which a body must bring STALL_BYTES.
        proxy: URL of the proxy that may have answered instead of the server: plain http alone goes
            through a proxy that reads it.
        pace: waits, after some bytes, as long as the limit on the rate asks for, and returns the
            seconds; None if there is no limit.
        part_bytes: greatest number of bytes of a read.
    """

    def __init__(
        self,
        raw: urllib3.BaseHTTPResponse,
        method: str,
        url: str,
        stall: float,
        proxy: str | None = None,
        pace: Callable[[int], float] | None = None,
        part_bytes: int = READ_BYTES,
    ) -> None:
        self.proxy = proxy
        self._pace = pace
        self._part_bytes = part_bytes
        self._paced_seconds = 0.0
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
        """Value of Content-Length in bytes, None if there is none or it is no plain number."""
        value = self.header("Content-Length") or ""
        return int(value) if value.isascii() and value.isdigit() and len(value) < 40 else None

    def read(self, size: int, /) -> bytes:
        """Return the next bytes of the body as they arrive.

        Args:
            size: greatest number of bytes.

        Returns:
            Between 1 and `size` bytes, b"" at the end of the body.

        Raises:
            TransportError: cut off, silent for the read timeout, or slower than STALL_BYTES per
                read timeout.
        """
        begin = time.monotonic()
        try:
            # read1, because read would wait for all of `size`, each byte with a new timeout.
            part = size if self._pace is None else min(size, self._part_bytes)
            data = self._raw.read1(part, decode_content=False) or b""
        except (HTTPError, OSError) as error:
            message, retryable = transport_fault(self.method, self.url, error)
            raise TransportError(message, retryable=retryable) from error
        self._waited += time.monotonic() - begin
        self._window_bytes += len(data)
        if self._window_bytes >= STALL_BYTES:
            self._waited, self._window_bytes = 0.0, 0
        elif self._waited > self._stall:
            raise TransportError(self._too_slow, retryable=True)
        if self._pace is not None and data:
            self._paced_seconds += self._pace(len(data))
        return data

    def read_bounded(self, limit: int, what: str) -> bytes:
        """Return the whole body.

        Args:
            limit: greatest number of bytes.
            what: name of the body in errors.

        Returns:
            The bytes.

        Raises:
            FormatError: more than `limit` bytes came, or were announced.
            TransportError: as `read`, or not complete within twice the read timeout.
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
            if time.monotonic() > deadline + self._paced_seconds:
                raise TransportError(self._too_slow, retryable=True)
        return bytes(out)

    def discard(self) -> None:
        """Drop the body, and keep the connection if little is left of it."""
        with contextlib.suppress(TransportError, FormatError):
            self.read_bounded(DISCARD_BYTES, "body")
        self.close()

    def close(self) -> None:
        """Return the connection to its pool, or close it if the body was not read to its end."""
        self._raw.close()
        self._raw.release_conn()

    @property
    def _too_slow(self) -> str:
        """Message about a body that stalls."""
        return f"{self.method} {shown_url(self.url)}: the answer comes too slowly"


@contextlib.contextmanager
def malformed(response: Response) -> Iterator[None]:
    """Turn a FormatError about a registry's answer into a RegistryError: no stored data is damaged.

    Args:
        response: the answer.

    Yields:
        Nothing.

    Raises:
        RegistryError: the answer makes no sense.
    """
    try:
        yield
    except FormatError as error:
        raise RegistryError(
            f"{response.method} {shown_url(response.url)}: the answer makes no sense: {error}",
            status=response.status,
            method=response.method,
            url=shown_url(response.url),
        ) from error


class Transport:
    """A pool of connections with one TLS set-up, one set of timeouts and one retry policy.

    Args:
        tls: authorities to trust, and the certificate to show.
        timeout_seconds: silence allowed before an operation on a connection fails.
        max_connections: connections to keep per host; more may be open for a moment.
        retry: when and how often `send` tries again.
        limit: on the bytes per second of bodies, which other transports may share.

    Thread safety: threads may share it.
    """

    def __init__(
        self,
        *,
        tls: Tls | None = None,
        timeout_seconds: float = 60.0,
        max_connections: int = 16,
        retry: RetryPolicy | None = None,
        limit: RateLimit | None = None,
    ) -> None:
        self.retry = retry or RetryPolicy()
        self._limit = limit
        self._timeout = timeout_seconds
        self._tls = tls or Tls()
        self._max_connections = max_connections
        self._pools: dict[str, urllib3.PoolManager] = {}
        self._sockets = Sockets()
        renew_in_children(self)

    def renew_after_fork(self) -> None:
        """In a forked child: make connections of its own."""
        # The parent's pools are kept, unused: freeing them would take locks that may be held.
        _ABANDONED.append(self._pools)
        self._pools = {}
        self._sockets.abandon()

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | Body | None = None,
        *,
        attempts: Attempts | None = None,
        passing: Collection[int] = RETRY_STATUSES,
    ) -> Response:
        """Make a request and return the answer, whatever its status.

        Args:
            method: HTTP method.
            url: absolute, already checked by `origin_of`.
            headers: sent as they are, with `Accept-Encoding: identity` added.
            body: bytes, or parts to send whose length `headers` tells; the latter is sent once.
            attempts: counts the failures of the operation that the request is part of.
            passing: statuses after which the request is made again.

        Returns:
            The answer, its body unread.

        Raises:
            TransportError: no answer.
        """
        attempts = attempts or self.attempts(url)
        repeatable = isinstance(body, (bytes, type(None)))
        while True:
            try:
                response = self._exchange(method, url, headers, body)
            except TransportError as error:
                if not repeatable or not error.retryable or not attempts.again(error):
                    raise
                continue
            if not repeatable or response.status not in passing:
                return response
            if not attempts.again(response.status, response.header("Retry-After")):
                return response
            response.discard()

    def attempts(self, url: str) -> Attempts:
        """Return a new count of failures, for an operation at the server of `url`."""
        parts = urlsplit(url)
        server = parts.netloc.lower()
        halted = self._sockets.halted
        return Attempts(self.retry, halted, safe_text(server), lambda: server in _ANSWERED)

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
        proxy = proxy_for(origin_of(url))
        pool = self._pool(url, proxy)
        limit, halted = self._limit, self._sockets.halted
        content: object = body  # a memoryview is as good as bytes
        if limit is not None and body is not None:
            if isinstance(body, bytes):
                limit.take(len(body), halted)
            else:
                content = limit.paced(body, halted)
        if self._sockets.halted.is_set():
            raise TransportError(f"{method} {shown_url(url)}: interrupted")
        try:
            raw = pool.urlopen(
                method,
                url,
                body=cast(Any, content),
                headers=sent,
                retries=False,
                redirect=False,
                preload_content=False,
                decode_content=False,
                timeout=urllib3.Timeout(connect=min(30.0, self._timeout), read=read_timeout),
            )
        except (HTTPError, OSError) as error:
            message, retryable = transport_fault(method, url, error, proxy)
            raise TransportError(message, retryable=retryable) from error
        _ANSWERED.add(urlsplit(url).netloc.lower())
        by_proxy = proxy if url[:5] == "http:" else None
        if limit is None:
            return Response(raw, method, url, self._timeout, by_proxy)
        pace = partial(limit.take, halted=halted)
        return Response(raw, method, url, self._timeout, by_proxy, pace, limit.part_bytes)

    def _pool(self, url: str, proxy: str | None) -> urllib3.PoolManager:
        """Return the connections to a server, or through a proxy."""
        parts = urlsplit(url)
        host = parts.hostname or ""
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
        user = urllib3.util.parse_url(proxy).auth
        login = urllib3.make_headers(proxy_basic_auth=user) if user else None
        return urllib3.ProxyManager(
            proxy,
            num_pools=8,
            proxy_headers=login,
            **options,  # type: ignore[arg-type]
        )


def transport_fault(
    method: str, url: str, error: Exception, proxy: str | None = None
) -> tuple[str, bool]:
    """Translate an exception of urllib3 or of the socket.

    A certificate that fails verification is for a person to deal with; everything else may pass.

    Args:
        method: of the request.
        url: of the request.
        error: the exception.
        proxy: URL of the proxy on the way, None for none.

    Returns:
        The message for a TransportError, and whether another try may succeed.
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
    if proxy is not None and isinstance(error, ProxyError):
        found = _TUNNEL.search(str(error))
        said = f"answers {found[1]}" if found else "cannot be reached"
        if found and found[1].startswith(("403", "407")):
            retryable = False
            hint = " (NO_PROXY names hosts to reach directly)"
            if found[1].startswith("407"):
                hint = " (it asks for a login, which can stand in its URL)"
        return f"{method} {shown_url(url)}: the proxy {shown_url(proxy)} {said}{hint}", retryable
    why = safe_text(_CONNECTION.sub("", str(error).replace("\n", " "))) or type(error).__name__
    return f"{method} {shown_url(url)}: {why}{hint}", retryable
