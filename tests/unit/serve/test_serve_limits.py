"""A request's work ends with its connection, and with its time; more than fits is sent away."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

import packer
from packer.errors import Cancelled
from packer.format.version import Version
from packer.reading import contents
from packer.serve import application, running
from packer.serve.finding import open_place
from packer.serve.limits import Stop, watched
from packer.serve.places import Place, Row
from packer.serve.raw import Source, open_source
from tests.serving import Client, run_service

MODULE = Path(__file__).name


class Slow:
    """A place whose answers wait until they are let go.

    Args:
        place: gives them.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self.kind = place.kind
        self.title = place.title
        self.asked = threading.Semaphore(0)
        self.go = threading.Event()

    def names(self, app: str) -> list[str]:
        self.asked.release()
        assert self.go.wait(60)
        return self._place.names(app)

    def rows(self, app: str, names: Sequence[str]) -> list[Row]:
        return self._place.rows(app, names)

    def version(self, app: str, name: str) -> Version:
        return self._place.version(app, name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._place, name)


@pytest.fixture
def slow(tmp_path: Path) -> Slow:
    packer.pack(Path(__file__), tag="one:1", store=tmp_path)
    return Slow(open_place(str(tmp_path)))


@contextmanager
def asking(client: Client, path: str) -> Iterator[socket.socket]:
    """Send a request, and leave at the end without having read its answer."""
    with socket.create_connection(("127.0.0.1", client.port)) as connection:
        connection.sendall(f"GET /{path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        yield connection


def test_work_ends_with_the_connection(slow: Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    stops: list[Stop] = []

    def noted(seconds: float) -> Stop:
        stops.append(Stop(seconds))
        return stops[-1]

    monkeypatch.setattr(application, "Stop", noted)
    with run_service(slow) as client:
        with asking(client, "api/history?app=one"):
            assert slow.asked.acquire(timeout=30)
        # The thread is let go once its client is seen to have left: the rest is not done.
        assert stops[0].wait(30)
        slow.go.set()
        counted = 'requests_cancelled_total{why="gone"} 1.0'
        for _ in range(600):
            if counted in client.get("metrics").text:
                return
            time.sleep(0.05)
    pytest.fail("the request was not counted as cancelled")


def test_the_service_ends_though_work_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process would wait for its threads, ten minutes for one that opens an archive."""
    begun, ended = threading.Event(), threading.Event()

    def endless(opened: object, path: str, stop: Stop) -> Source:
        begun.set()
        assert stop.wait(600)
        ended.set()
        raise Cancelled("the request")

    monkeypatch.setattr(application, "open_source", endless)
    packer.pack(Path(__file__), tag="one:1", store=tmp_path)
    with ExitStack() as stack:
        with run_service(tmp_path) as client:
            stack.enter_context(asking(client, f"raw?app=one&version=one:1&path={MODULE}"))
            assert begun.wait(30)
        assert ended.wait(60)


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: localhost\r\n"])
def test_clients_that_ask_for_nothing_are_left(
    slow: Slow, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(running, "ASK_SECONDS", 0.2)
    with (
        run_service(slow) as client,
        socket.create_connection(("127.0.0.1", client.port), timeout=60) as connection,
    ):
        whole = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
        connection.sendall(whole + sent)
        answer = b""
        with suppress(ConnectionResetError):
            while data := connection.recv(1000):
                answer += data
        assert answer.startswith(b"HTTP/1.1 200")
        # Nobody is left whose request is being worked on.
        with asking(client, "api/history?app=one") as working:
            assert slow.asked.acquire(timeout=30)
            time.sleep(0.5)
            slow.go.set()
            assert working.recv(1000).startswith(b"HTTP/1.1 200")


def test_too_many_requests_are_sent_away(slow: Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(application, "WAITING", 0)
    with run_service(slow) as client, ExitStack() as stack:
        for _ in range(application.JOBS):
            stack.enter_context(asking(client, "api/history?app=one"))
            assert slow.asked.acquire(timeout=30)
        answer = client.get("api/history?app=one")
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert "too many" in answer.json["error"]
        assert client.get("healthz").status == 200
        slow.go.set()


def test_reads_of_a_version_end(tmp_path: Path) -> None:
    packer.pack(Path(__file__), tag="one:1", store=tmp_path)
    version = open_place(str(tmp_path)).version("one", "one:1")
    stop = Stop()
    name = Path(__file__).name.encode()
    assert b"".join(contents.content(watched(version, stop), name)) == Path(__file__).read_bytes()
    stop.set()
    with pytest.raises(Cancelled):
        b"".join(contents.content(watched(version, stop), name))
    late = Stop(-1)
    assert late.is_set()
    assert not late.is_gone
    late = Stop(60)
    late.check()


@pytest.mark.parametrize("leaves", [True, False])
def test_a_download_ends_with_its_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leaves: bool
) -> None:
    size = 64 << 20
    (tmp_path / "large").write_bytes(os.urandom(1 << 20) * 64)
    packer.pack(tmp_path / "large", tag="one:1", store=tmp_path / "store")
    closed = threading.Event()

    def noted(*given: Any) -> Source:
        source = open_source(*given)
        close = source.close

        def told() -> None:
            close()
            closed.set()

        source.close = told  # type: ignore[method-assign]
        return source

    monkeypatch.setattr(application, "open_source", noted)
    if not leaves:
        monkeypatch.setattr(running, "SEND_SECONDS", 0.2)
    with run_service(tmp_path / "store") as client, ExitStack() as stack:
        asked = stack.enter_context(asking(client, "raw?app=one&version=one:1&path=large"))
        assert asked.recv(1000).startswith(b"HTTP/1.1 200")
        if leaves:
            stack.close()
        assert closed.wait(60), "the file is closed when nobody reads it"
        text = client.get("metrics").text
        sent = text.partition("\nlayer_packer_serve_sent_bytes_total ")[2].split()[0]
        assert float(sent) < size
