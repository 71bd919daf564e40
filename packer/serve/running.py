"""The server: where it listens, and who may ask there."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from packer.errors import InvalidParameter
from packer.serve.application import make_app
from packer.serve.guard import LOOPBACK_NAMES
from packer.serve.places import Place

ASK_SECONDS = 20.0
"""Time in which a client has to send a request, from its connection or from the answer before."""
SEND_SECONDS = 120.0
"""Time in which a client has to take a piece of an answer."""
MIN_TOKEN = 16
"""Characters that a token has at least."""


@dataclass(frozen=True, slots=True)
class Listening:
    """Where the service listens.

    Args:
        host: name or address to bind to.
        port: 0 for any that is free.
        token: that requests have to bring; None for none, on loopback alone.
        allowed_hosts: names that requests may use besides those of `host`.
        cert_file: certificate for https; None for http.
        key_file: its key, if not in the same file.

    Raises:
        InvalidParameter: there is no token where one is needed, or it is short.
    """

    host: str = "127.0.0.1"
    port: int = 0
    token: str | None = None
    allowed_hosts: tuple[str, ...] = ()
    cert_file: str | None = None
    key_file: str | None = None

    def __post_init__(self) -> None:
        """Refuse what would be open to everybody."""
        if not 0 <= self.port <= 65535:
            raise InvalidParameter(f"port {self.port} is not from 0 to 65535")
        if self.token is not None and len(self.token) < MIN_TOKEN:
            raise InvalidParameter(f"the token has less than {MIN_TOKEN} characters")
        if self.token is None and not is_loopback(self.host):
            raise InvalidParameter(
                f"{self.host} is reached from elsewhere: give a token, by --token-file or in"
                " LAYER_PACKER_SERVE_TOKEN"
            )
        if self.key_file is not None and self.cert_file is None:
            raise InvalidParameter("a key needs its certificate")

    @property
    def hosts(self) -> frozenset[str]:
        """Names that requests may give; none for any, where an address stands for all of them."""
        if is_loopback(self.host):
            return LOOPBACK_NAMES | {self.host, *self.allowed_hosts}
        if self.allowed_hosts:
            return frozenset({self.host, *self.allowed_hosts})
        return frozenset()


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches a name or address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Args:
        host: name or address.
        port: 0 for any that is free.

    Returns:
        The socket.

    Raises:
        OSError: the port is taken, or the address is not this machine's.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, address = found[0]
    made = socket.socket(family, kind, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(128)
    except OSError as error:
        made.close()
        raise OSError(error.errno, error.strerror, f"{host}:{port}") from None
    return made


class _Protocol(H11Protocol):
    """Ends a connection whose client sends no request, or takes no answer.

    uvicorn waits without end for the first request, for the rest of a begun one, and for a client
    to read, so clients that do nothing could take all places.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._stuck: asyncio.TimerHandle | None = None
        self._unasked = self.loop.call_later(ASK_SECONDS, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._unasked.cancel()
        self._unstick()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take data; a request that is complete is no more waited for."""
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            self._unasked.cancel()

    def on_response_complete(self) -> None:
        """Wait for the next request, if it is not there."""
        before = self.cycle
        self._unasked.cancel()
        super().on_response_complete()
        if self.cycle is before:
            seconds = SEND_SECONDS if self.transport.get_write_buffer_size() else ASK_SECONDS
            self._unasked = self.loop.call_later(seconds, self.transport.abort)

    def pause_writing(self) -> None:
        """Begin to wait for the client to read."""
        super().pause_writing()
        self._unstick()
        self._stuck = self.loop.call_later(SEND_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on: it has read."""
        self._unstick()
        super().resume_writing()

    def _unstick(self) -> None:
        if self._stuck is not None:
            self._stuck.cancel()


class _Server(uvicorn.Server):
    """A server that leaves signals to the caller, who ends it."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Do nothing."""
        yield


def serve(
    place: Place,
    listening: Listening,
    *,
    on_ready: Callable[[str], None] = lambda url: None,
    stops: Iterable[Callable[[Callable[[], None]], None]] = (),
) -> None:
    """Serve a place until one of `stops` ends it.

    Args:
        place: what is served; closed at the end.
        listening: where.
        on_ready: called with the address once connections are taken.
        stops: each is called with a function that ends the service, from any thread.

    Raises:
        OSError: the address cannot be listened at, or the certificate cannot be read.
        InvalidParameter: the certificate is malformed.
    """
    app = make_app(place, hosts=listening.hosts, token=listening.token)
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level="error",  # what clients do wrong is theirs
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=5,
        limit_concurrency=512,
        h11_max_incomplete_event_size=64 << 10,
        ws="none",
        http=_Protocol,
        ssl_certfile=listening.cert_file,
        ssl_keyfile=listening.key_file,
    )
    with bind(listening.host, listening.port) as opened:
        try:
            config.load()
        except ssl.SSLError as error:
            raise InvalidParameter(f"{listening.cert_file}: {error.reason}") from None
        server = _Server(config)

        def end() -> None:
            server.should_exit = True

        for stop in stops:
            stop(end)
        host, port = opened.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        on_ready(f"{'https' if listening.cert_file else 'http'}://{shown}:{port}/")
        try:
            server.run(sockets=[opened])
        finally:
            place.close()
