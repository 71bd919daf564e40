"""Registries that are away for a while: what is asked again, how often, and for how long."""

from __future__ import annotations

import io
import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

import packer
from packer.cli.main import main
from packer.errors import InvalidParameter, RegistryError, StoreError, TransportError
from packer.oci import MANIFEST_TYPE, Descriptor, digest_of
from packer.reference import Reference
from packer.stores.memory import MemoryStore
from packer.stores.registry.access import Access
from packer.stores.registry.settings import Settings
from packer.stores.registry.store import RegistryStore
from packer.stores.registry.transport.retries import RetryPolicy
from packer.transfer.copy_graph import copy
from tests.artifacts import make_version
from tests.hostile import QUICK, Exchange, HostileRegistry, Rule, hostile_registry

DATA = b"some bytes of a layer"
BLOB = Descriptor("", digest_of(DATA), len(DATA))
PATIENT = RetryPolicy(attempts=5, base_seconds=0.01, max_seconds=30, outage_seconds=3)
SOON = 60.0
"""Seconds within which something ends whose alternative takes an hour."""


@pytest.fixture
def server() -> Iterator[HostileRegistry]:
    with hostile_registry() as server:
        yield server


def open_store(
    server: HostileRegistry, retry: RetryPolicy = QUICK, **options: object
) -> RegistryStore:
    settings = Settings(retry=retry, timeout_seconds=5, **options)  # type: ignore[arg-type]
    return RegistryStore(f"{server.host}/app", settings)


def away(seconds: float, answer: Rule) -> Rule:
    """Answer nothing but `answer` for some time from now on."""
    end = time.monotonic() + seconds

    def rule(exchange: Exchange) -> bool:
        if time.monotonic() > end:
            return False
        answer(exchange)
        return True

    return rule


def break_off(exchange: Exchange) -> bool:
    """Answer as the registry would, and close the connection in the middle of the body."""
    real = exchange.handler.wfile
    buffer = exchange.handler.wfile = io.BytesIO()
    exchange.registry._serve(exchange)
    exchange.handler.wfile = real
    answer = buffer.getvalue()
    head, _, body = answer.partition(b"\r\n\r\n")
    real.write(head + b"\r\n\r\n" + body[: len(body) // 2])
    exchange.handler.close_connection = True
    return True


@pytest.mark.parametrize("times", [1, QUICK.attempts - 1])
def test_lists_and_manifests_that_break_off(server: HostileRegistry, times: int) -> None:
    memory = MemoryStore()
    made = make_version(memory)
    copy(memory, "v1", open_store(server), "v1")
    for path in ("/tags/list", "/manifests/", "/blobs/"):
        server.on("GET", path, break_off, times)
    store = open_store(server)
    assert list(store.tag_names()) == ["v1"]
    assert store.get_manifest("v1")[0].digest == made.digest
    assert copy(store, "v1", MemoryStore(), "v1").descriptor.digest == made.digest
    assert server.all_hit()


def test_one_that_breaks_off_for_ever(server: HostileRegistry) -> None:
    server.tags["v1"] = BLOB.digest
    server.on("GET", "/tags/list", break_off, None)
    with pytest.raises(TransportError):
        list(open_store(server).tag_names())
    assert server.count("GET", "/tags/list") == QUICK.attempts


def test_tokens_that_break_off() -> None:
    with hostile_registry(auth="token") as server:

        def cut_token(exchange: Exchange) -> bool:
            exchange.reply(200, b'{"token":"abc', length=500)
            return True

        server.on("GET", "/token", cut_token, 2)
        store = open_store(server, username="alice", password="s3cret-pass")
        assert list(store.tag_names()) == []
        assert server.count("GET", "/token") == 3


@pytest.mark.parametrize("status", [500, 503])
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/uploads/"), ("PUT", "/uploads/"), ("PUT", "/manifests/")]
)
def test_retries_do_not_multiply(
    server: HostileRegistry, method: str, path: str, status: int
) -> None:
    server.on(method, path, lambda exchange: exchange.reply(status), None)
    store = open_store(server)
    with pytest.raises(RegistryError) as caught:
        if path == "/manifests/":
            store.put_manifest(b'{"layers":[]}', MANIFEST_TYPE, "v1")
        else:
            store.upload(BLOB, io.BytesIO(DATA))
    assert caught.value.status == status
    assert server.count(method, path) == QUICK.attempts


def test_lost_connections_do_not_multiply(server: HostileRegistry) -> None:
    server.on("POST", "/uploads/", Exchange.cut, None)
    with pytest.raises(TransportError):
        open_store(server).upload(BLOB, io.BytesIO(DATA))
    assert server.count("POST") == QUICK.attempts
    server.blobs[BLOB.digest] = DATA
    server.on("GET", "/blobs/", Exchange.cut, None)
    with pytest.raises(TransportError):
        open_store(server).fetch(BLOB)
    assert server.count("GET", "/blobs/") == QUICK.attempts


def test_a_token_service_that_is_away_is_asked_by_one_count() -> None:
    with hostile_registry(auth="token") as server:
        server.on("GET", "/token", lambda exchange: exchange.reply(503), None)
        store = open_store(server, username="alice", password="s3cret-pass")
        with pytest.raises(StoreError):
            store.upload(BLOB, io.BytesIO(DATA))
        assert server.count("GET", "/token") == QUICK.attempts


ANSWERS = {
    "cut": Exchange.cut,
    "429": lambda exchange: exchange.reply(429),
    "503": lambda exchange: exchange.reply(503),
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_a_registry_that_is_busy(server: HostileRegistry, answer: str) -> None:
    # As many attempts as ever, spread over the time.
    server.tags["v1"] = BLOB.digest
    server.on("GET", "", away(0.8, ANSWERS[answer]), None)
    store = open_store(server, PATIENT)
    assert list(store.tag_names()) == ["v1"]
    assert server.count("GET") <= PATIENT.attempts
    server.on("POST", "", away(0.8, ANSWERS[answer]), None)
    store.upload(BLOB, io.BytesIO(DATA))
    assert server.count("POST") <= PATIENT.attempts


def test_a_registry_that_stays_busy(server: HostileRegistry) -> None:
    policy = RetryPolicy(attempts=5, base_seconds=0.01, max_seconds=30, outage_seconds=1)
    server.on("POST", "", lambda exchange: exchange.reply(503), None)
    begin = time.monotonic()
    with pytest.raises(RegistryError):
        open_store(server, policy).upload(BLOB, io.BytesIO(DATA))
    assert time.monotonic() - begin > 0.7
    assert server.count("POST") == policy.attempts


def test_a_registry_that_restarts() -> None:
    memory = MemoryStore()
    made = make_version(memory)
    with hostile_registry() as server:
        store = open_store(server, PATIENT)
        assert list(store.tag_names()) == []
        port = int(server.host.rpartition(":")[2])
    done: list[str] = []

    def work() -> None:
        done.append(copy(memory, "v1", store, "v1").descriptor.digest)

    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(1.5)
    with hostile_registry(port=port):
        thread.join()
    assert done == [made.digest]


def test_a_registry_that_stays_away() -> None:
    with hostile_registry() as server:
        pass
    policy = RetryPolicy(attempts=3, base_seconds=0.01, max_seconds=0.2, outage_seconds=1)
    begin = time.monotonic()
    with pytest.raises(TransportError):
        list(open_store(server, policy).tag_names())
    assert time.monotonic() - begin > 0.9


def test_failures_of_one_request_are_no_outage(server: HostileRegistry) -> None:
    server.on("GET", "", lambda exchange: exchange.reply(500), None)
    with pytest.raises(RegistryError):
        list(open_store(server, PATIENT).tag_names())
    assert server.count("GET") == PATIENT.attempts
    begin = time.monotonic()
    patient = replace(PATIENT, outage_seconds=9000)
    with pytest.raises(TransportError):
        list(RegistryStore("registry.invalid/app", Settings(retry=patient)).tag_names())
    assert time.monotonic() - begin < SOON


def test_an_outage_is_told_once(
    server: HostileRegistry, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("packer.stores.registry.transport.retries.TOLD_SECONDS", 0.2)
    server.on("GET", "", away(1.5, Exchange.cut), None)
    with caplog.at_level(logging.WARNING, "packer"):
        assert list(open_store(server, PATIENT).tag_names()) == []
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1
    assert f"{server.host} does not answer: trying again for up to" in told[0]


def test_interrupting_an_outage(server: HostileRegistry) -> None:
    server.on("GET", "", Exchange.cut, None)
    patient = RetryPolicy(attempts=3, base_seconds=5000, max_seconds=5000, outage_seconds=9000)
    store = open_store(server, patient)
    timer = threading.Timer(0.3, store.interrupt)
    timer.start()
    begin = time.monotonic()
    with pytest.raises(TransportError):
        list(store.tag_names())
    timer.join()
    assert time.monotonic() - begin < SOON


def test_given_up_uploads_are_cancelled(server: HostileRegistry) -> None:
    detail = {"DriverName": "filesystem", "Enclosed": {"Op": "mkdir", "Err": 28}}
    server.on("PUT", "/uploads/", lambda e: e.fail(500, "UNKNOWN", "unknown error", detail), None)
    with pytest.raises(RegistryError, match="no space is left in the registry's storage"):
        open_store(server).upload(BLOB, io.BytesIO(DATA))
    opened = server.count("POST", "/uploads/")
    assert server.count("DELETE", "/uploads/") == opened == 1

    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell():
                raise OSError("the disk is gone")
            return super().read(4)

    with pytest.raises(OSError, match="the disk is gone"):
        open_store(server).upload(BLOB, Broken(DATA))
    assert server.count("DELETE", "/uploads/") == opened + 1


@pytest.mark.parametrize(
    ("given", "environment", "seconds"),
    [(None, None, 60), (None, "7.5", 7.5), (3, "7.5", 3), (0, None, 0)],
)
def test_the_callers_choice(
    given: float | None,
    environment: str | None,
    seconds: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("LAYER_PACKER_OUTAGE_SECONDS", raising=False)
    if environment is not None:
        monkeypatch.setenv("LAYER_PACKER_OUTAGE_SECONDS", environment)
    options = packer.RegistryOptions(outage_seconds=given)
    store = Access(options).open(Reference.parse("registry.example/app"))
    assert store.client.transport.retry.outage_seconds == seconds


@pytest.mark.parametrize("text", ["soon", "-1", "nan", "inf", "1e9"])
def test_what_is_no_time(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAYER_PACKER_OUTAGE_SECONDS", text)
    with pytest.raises(InvalidParameter, match="LAYER_PACKER_OUTAGE_SECONDS"):
        Access().open(Reference.parse("registry.example/app"))


def test_the_command_waits_and_says_so(
    server: HostileRegistry,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("packer.stores.registry.transport.retries.TOLD_SECONDS", 0.1)
    server.on("GET", "", away(3, lambda exchange: exchange.reply(503)), None)
    at = ["--storage-base-uri", f"docker://{server.host}/base"]
    assert main(["storage", "history", "app", "--outage-seconds", "30", "--json", *at]) == 3
    assert "answers 503: trying again for up to" in capsys.readouterr().err


@pytest.mark.parametrize("answered", [False, True])
def test_a_server_that_never_answered_is_given_up_sooner(
    answered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its port may be mistyped; one that answered before restarts. A server of an earlier test may
    # have answered at the same port.
    monkeypatch.setattr("packer.stores.registry.transport.http._ANSWERED", set())
    with hostile_registry() as server:
        if answered:
            list(open_store(server).tag_names())
    least = 2 if answered else 0.5
    policy = RetryPolicy(
        attempts=3,
        base_seconds=0.01,
        max_seconds=0.2,
        outage_seconds=least if answered else 9000,
        first_seconds=0.01 if answered else least,
    )
    begin = time.monotonic()
    with pytest.raises(TransportError):
        list(open_store(server, policy).tag_names())
    assert 0.9 * least < time.monotonic() - begin < SOON


def test_a_registry_that_comes_up_with_its_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LAYER_PACKER_OUTAGE_SECONDS")
    # As installers start it: whoever names a time is waiting for a server that has never answered.
    chosen = Access(packer.RegistryOptions(outage_seconds=120)).open(Reference.parse("r.example/a"))
    assert chosen.client.transport.retry.first_seconds == 120
    usual = Access().open(Reference.parse("r.example/a")).client.transport.retry
    assert (usual.outage_seconds, usual.first_seconds) == (60, 15)


def test_what_is_told_of_a_short_outage(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("packer.stores.registry.transport.retries.TOLD_SECONDS", 0.3)
    with hostile_registry() as server:
        pass
    policy = RetryPolicy(attempts=3, base_seconds=0.2, outage_seconds=0.9)
    with caplog.at_level(logging.WARNING), pytest.raises(TransportError):
        list(open_store(server, policy).tag_names())
    assert f"{server.host} does not answer: trying again" in caplog.messages
