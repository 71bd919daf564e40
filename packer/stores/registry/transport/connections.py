"""Connections to registries: each step bounded in time, all of them cut at once on demand."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import weakref
from collections.abc import Callable
from typing import Any

import urllib3
import urllib3.connection

from packer.forks import Lock

TLS_SEND_BYTES = 64 << 10
"""Bytes of one write to a TLS socket: small, because its timeout bounds the whole write."""


def _bounded(
    sock: socket.socket | None, receive: Callable[[], urllib3.HTTPResponse]
) -> urllib3.HTTPResponse:
    """Call `receive`, which reads status and headers, and bound its duration."""
    # The socket's own timeout bounds each step: a header sent byte by byte could go on for ever.
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
    """Shut a connection down, which ends reads and writes of other threads."""
    # The plain socket's method: a TLS socket's would drop its state while another thread reads.
    with contextlib.suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


class _Connection(urllib3.connection.HTTPConnection):
    """A plain connection whose timeout bounds each step of a write, not the whole of it."""

    def send(self, data: Any) -> None:
        """Send a part of a request."""
        if self.sock is None or not isinstance(data, (bytes, memoryview)):
            super().send(data)
            return
        view, done = memoryview(data), 0
        while done < len(view):
            done += self.sock.send(view[done:])

    def getresponse(self) -> urllib3.HTTPResponse:  # type: ignore[override]
        """Read status and headers."""
        return _bounded(self.sock, super().getresponse)


class _TlsConnection(urllib3.connection.HTTPSConnection):
    """A TLS connection whose timeout bounds each TLS_SEND_BYTES of a write."""

    def send(self, data: Any) -> None:
        """Send a part of a request."""
        if not isinstance(data, (bytes, memoryview)):
            super().send(data)
            return
        view = memoryview(data)
        for start in range(0, len(view), TLS_SEND_BYTES):
            super().send(view[start : start + TLS_SEND_BYTES])

    def getresponse(self) -> urllib3.HTTPResponse:  # type: ignore[override]
        """Read status and headers."""
        return _bounded(self.sock, super().getresponse)


class Sockets:
    """The open connections of a transport, so that all of them can be cut at once."""

    def __init__(self) -> None:
        self.halted = threading.Event()
        """Set while connections are cut and none may be opened."""
        self._lock = Lock()
        self._connections: weakref.WeakSet[urllib3.connection.HTTPConnection] = weakref.WeakSet()

    def abandon(self) -> None:
        """In a forked child: close the copies of the parent's connections, which stay open there.

        Whoever still reads from one gets an error and connects anew.
        """
        self.halted = threading.Event()
        found, self._connections = list(self._connections), weakref.WeakSet()
        for connection in found:
            sock, connection.sock = connection.sock, None
            if sock is not None:
                # Only the descriptor: a TLS socket's own `close` could write to the connection.
                with contextlib.suppress(OSError):
                    os.close(sock.detach())

    def pools(self) -> dict[str, type[urllib3.HTTPConnectionPool]]:
        """Return pool classes whose connections are recorded here."""
        sockets = self

        class Plain(_Connection):
            def connect(self) -> None:
                super().connect()
                sockets.add(self)

        class Secure(_TlsConnection):
            def connect(self) -> None:
                super().connect()
                sockets.add(self)

        class Pool(urllib3.HTTPConnectionPool):
            ConnectionCls = Plain

        class TlsPool(urllib3.HTTPSConnectionPool):
            ConnectionCls = Secure

            def _validate_conn(self, conn: Any) -> None:
                # Without urllib3's warning about unverified TLS, which was asked for.
                if conn.is_closed:
                    conn.connect()

        return {"http": Pool, "https": TlsPool}

    def add(self, connection: urllib3.connection.HTTPConnection) -> None:
        """Record a connection that was just opened; cut it if connections are being cut."""
        with self._lock:
            self._connections.add(connection)
        if self.halted.is_set() and connection.sock is not None:
            _shut(connection.sock)

    def cut(self) -> None:
        """Shut all open connections down, and those opened until `halted` is cleared."""
        self.halted.set()
        with self._lock:
            found = [connection.sock for connection in self._connections]
        for sock in found:
            if sock is not None:
                _shut(sock)
