"""A proxy that damages one message on its way: cuts, delays, truncates, doubles or flips bytes."""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

ACTIONS = ("cut", "truncate", "duplicate", "corrupt", "delay")
POSITIONS = ("first", "line", "headers", "blank", "body-first", "body-middle", "body-last")
DELAY_SECONDS = 0.05
FAULTY_SECONDS = 0.5
"""How long a server may think about a damaged request: it may wait for bytes that never come."""


@dataclass(frozen=True)
class Fault:
    """What to do to the first message of a kind.

    Args:
        method: of the request.
        path: pattern that the request's path must match.
        side: "request" or "response", the message to damage.
        action: one of ACTIONS.
        position: one of POSITIONS.
    """

    method: str
    path: str
    side: str
    action: str
    position: str


@dataclass
class FaultProxy:
    """The proxy's state.

    Args:
        host: ``host:port`` for references.
        fault: what is to be done next; None when it was.
    """

    host: str
    fault: Fault | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, method: str, path: str) -> Fault | None:
        """Return the fault if this request is the one, once."""
        with self._lock:
            fault = self.fault
            if fault and fault.method == method and re.search(fault.path, path):
                self.fault = None
                return fault
        return None


def offset_of(message: bytes, position: str) -> int | None:
    """Return the place of a position in a message, None if it has no such part."""
    line = message.index(b"\r\n")
    head = message.index(b"\r\n\r\n") + 4
    body = len(message) - head
    places = {
        "first": 0,
        "line": line - 3,
        "headers": (line + head) // 2,
        "blank": head - 2,
        "body-first": head,
        "body-middle": head + body // 2,
        "body-last": len(message) - 1,
    }
    return None if position.startswith("body") and body == 0 else places[position]


class _Closed(Exception):
    pass


def _send(sink: socket.socket, message: bytes, fault: Fault | None) -> None:
    """Send a message, damaged if it is the one; raise _Closed if the connection ends with it."""
    at = offset_of(message, fault.position) if fault else None
    if fault is None or at is None:
        sink.sendall(message)
        return
    before, after = message[:at], message[at:]
    if fault.action == "delay":
        sink.sendall(before)
        time.sleep(DELAY_SECONDS)
        sink.sendall(after)
    elif fault.action == "duplicate":
        sink.sendall(before + after[:5] + after)
    elif fault.action == "corrupt":
        sink.sendall(before + bytes([after[0] ^ 1]) + after[1:])
    else:
        sink.sendall(before)
        if fault.action == "cut":
            sink.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise _Closed


def _receive(source: socket.socket, *, bodiless: bool = False) -> bytes:
    """Read one message whose length its head tells; b"" if there is none."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = source.recv(1 << 16)
        if not more:
            return b""
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    match = re.search(rb"\r\ncontent-length: *(\d+)", head, re.I)
    left = 0 if bodiless or match is None else int(match[1]) - len(body)
    parts = [data]
    while left > 0:
        more = source.recv(1 << 16)
        if not more:
            break
        parts.append(more)
        left -= len(more)
    return b"".join(parts)


def _serve(proxy: FaultProxy, client: socket.socket, target: tuple[str, int]) -> None:
    with client, contextlib.suppress(OSError, _Closed):
        client.settimeout(60)
        while request := _receive(client):
            method, path = request.split(b" ", 2)[:2]
            fault = proxy.take(method.decode(), path.decode())
            sent = fault if fault and fault.side == "request" else None
            with socket.create_connection(target) as server:
                server.settimeout(FAULTY_SECONDS if sent else 60)
                _send(server, request, sent)
                answer = _receive(server, bodiless=method == b"HEAD")
                if not answer:
                    return
                _send(client, answer, fault if fault and fault.side == "response" else None)
            if fault is not None and fault.action != "delay":
                return  # what follows on this connection could mean anything


@contextlib.contextmanager
def fault_proxy(target: str) -> Iterator[FaultProxy]:
    """Run a proxy in front of ``host:port``.

    The Host header passes unchanged, so that Locations lead back here.
    """
    host, _, port = target.partition(":")
    listener = socket.create_server(("127.0.0.1", 0))
    proxy = FaultProxy(f"127.0.0.1:{listener.getsockname()[1]}")

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            arguments = (proxy, client, (host, int(port)))
            threading.Thread(target=_serve, args=arguments, daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
