"""Damage on the wire at every kind of place of every kind of request; kills; many at once.

Whatever happens: no wrong byte is accepted, no tag names anything incomplete, and a second try ends
the work.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from packer.errors import AuthError, PackerError, RegistryError
from packer.oci import MANIFEST_TYPE, Descriptor, Manifest, digest_of
from packer.stores.layout import LayoutStore
from packer.stores.memory import MemoryStore
from packer.stores.protocols import read_blob
from packer.stores.registry.settings import Settings
from packer.stores.registry.store import RegistryStore
from packer.transfer.copy_graph import copy
from tests.artifacts import make_version
from tests.fault_proxy import ACTIONS, POSITIONS, Fault, FaultProxy, fault_proxy
from tests.hostile import QUICK, Exchange, HostileRegistry, hostile_registry, open_store
from tests.registry_server import run_registry


@pytest.fixture
def proxy(server: HostileRegistry) -> Iterator[FaultProxy]:
    with fault_proxy(server.host) as made:
        yield made


PUSHES = [
    ("HEAD", "/manifests/"),
    ("POST", "/uploads/"),
    ("PUT", "/uploads/"),
    ("PUT", "/manifests/"),
]
PULLS = [("GET", "/manifests/"), ("GET", "/blobs/")]


def faults(method: str, path: str, action: str) -> Iterator[Fault]:
    for side in ("request", "response"):
        for position in POSITIONS if action != "delay" else ("headers", "body-middle"):
            yield Fault(method, path, side, action, position)


def check_server(server: HostileRegistry, *, tags: bool = True) -> None:
    """Everything that is stored is what it is stored under, and tags name complete manifests."""
    for digest, data in server.blobs.items():
        assert digest_of(data) == digest
    for digest in server.tags.values() if tags else ():
        manifest = Manifest.decode(server.manifests[digest][1])
        for blob in (manifest.config, *manifest.layers):
            assert len(server.blobs[blob.digest]) == blob.size


def store_at(proxy: FaultProxy) -> RegistryStore:
    return RegistryStore(f"{proxy.host}/app", Settings(retry=QUICK, timeout_seconds=20))


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize(("method", "path"), PUSHES)
def test_damaged_pushes(
    server: HostileRegistry, proxy: FaultProxy, method: str, path: str, action: str
) -> None:
    memory = MemoryStore()
    made = make_version(memory, count=2, size=3000)
    for fault in faults(method, path, action):
        server.blobs.clear()
        server.manifests.clear()
        server.tags.clear()
        proxy.fault = fault
        with store_at(proxy) as store:
            try:
                copy(memory, "v1", store, "v1", jobs=2)
                assert server.tags.get("v1") == made.digest, fault
            except PackerError:
                assert action != "delay", fault
        assert proxy.fault is None, fault
        # A manifest that was damaged on its way has another digest: the registry took what it got,
        # told so, and the push failed.
        check_server(server, tags=path != "/manifests/" or action != "corrupt")
        with store_at(proxy) as store:
            copy(memory, "v1", store, "v1", jobs=2)
        assert server.tags["v1"] == made.digest, fault
        check_server(server)


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize(("method", "path"), PULLS)
def test_damaged_pulls(
    server: HostileRegistry, proxy: FaultProxy, method: str, path: str, action: str
) -> None:
    memory = MemoryStore()
    make_version(memory, count=2, size=3000)
    copy(memory, "v1", open_store(server), "v1")
    for fault in faults(method, path, action):
        target = MemoryStore()
        proxy.fault = fault
        with store_at(proxy) as store:
            try:
                copy(store, "v1", target, "v1", jobs=2)
            except PackerError:
                assert action != "delay", fault
                assert list(target.tags()) == [], fault
            else:
                assert target.get_manifest("v1") == memory.get_manifest("v1"), fault
            assert proxy.fault is None, fault
            copy(store, "v1", target, "v1", jobs=2)
        assert target.get_manifest("v1") == memory.get_manifest("v1"), fault
        for blob in Manifest.decode(target.get_manifest("v1")[1]).layers:
            assert read_blob(target, blob, 1 << 20) == read_blob(memory, blob, 1 << 20), fault


@pytest.mark.parametrize("action", ACTIONS)
def test_damaged_tokens(action: str) -> None:
    memory = MemoryStore()
    made = make_version(memory, count=1, size=3000)
    with hostile_registry(auth="token") as server, fault_proxy(server.host) as proxy:
        server.realm = f"http://{proxy.host}/token"
        for fault in faults("GET", "/token", action):
            server.tags.clear()
            proxy.fault = fault
            for _ in range(2):
                store = RegistryStore(
                    f"{proxy.host}/app",
                    Settings(retry=QUICK, username="alice", password="s3cret-pass"),
                )
                try:
                    with store:
                        copy(memory, "v1", store, "v1", jobs=1)
                    break
                except PackerError as error:
                    assert "s3cret" not in str(error)
            assert proxy.fault is None
            assert server.tags == {"v1": made.digest}, fault
            check_server(server)


# Killed at each stage


_COPY = """
import sys
from packer.transfer.copy_graph import copy
from packer.stores.layout import LayoutStore
from packer.stores.registry.settings import Settings
from packer.stores.registry.store import RegistryStore
layout, registry = LayoutStore(sys.argv[2]), RegistryStore(sys.argv[3])
if sys.argv[1] == "push":
    copy(layout, "v1", registry, "v1", jobs=2)
else:
    copy(registry, "v1", layout, "v1", jobs=2)
"""

STAGES = [
    ("push", "POST", "/uploads/", 3),
    ("push", "PUT", "/manifests/", 1),
    ("pull", "GET", "/manifests/", 1),
    ("pull", "GET", "/blobs/", 1),
    ("pull", "GET", "/blobs/", 4),
]


@pytest.mark.parametrize(("verb", "method", "path", "nth"), STAGES)
def test_killed_at_each_stage(
    server: HostileRegistry, tmp_path: Path, verb: str, method: str, path: str, nth: int
) -> None:
    memory = MemoryStore()
    made = make_version(memory, count=4, size=300_000)
    layout = LayoutStore(tmp_path / "layout")
    if verb == "push":
        copy(memory, "v1", layout, "v1")
    else:
        copy(memory, "v1", open_store(server), "v1")
    process: subprocess.Popen[bytes]

    def kill(exchange: Exchange) -> bool:
        if server.count(method, path) < nth:
            return False
        process.send_signal(signal.SIGKILL)
        process.wait()
        exchange.cut()
        return True

    server.seen.clear()
    server.on(method, path, kill, times=None)
    words = [verb, str(tmp_path / "layout"), f"{server.host}/app"]
    process = subprocess.Popen([sys.executable, "-c", _COPY, *words])
    assert process.wait(timeout=120) == -signal.SIGKILL
    server._plans.clear()
    if verb == "push":
        assert server.tags == {}
        check_server(server)
        copy(layout, "v1", open_store(server), "v1")
        assert server.tags == {"v1": made.digest}
    else:
        layout = LayoutStore(tmp_path / "layout")
        assert list(layout.tags()) == []
        copy(open_store(server), "v1", layout, "v1")
        assert layout.get_manifest("v1") == memory.get_manifest("v1")
    check_server(server)


# A registry whose disk is full


@pytest.mark.parametrize(("status", "code"), [(500, "UNKNOWN"), (507, ""), (403, "DENIED")])
def test_registry_without_space(server: HostileRegistry, status: int, code: str) -> None:
    memory = MemoryStore()
    made = make_version(memory, count=6, size=100_000)
    server.on("PUT", "/uploads/", lambda e: False, times=3)
    text = "no space left on device"
    server.on("PUT", "/uploads/", lambda e: e.fail(status, code, text), times=None)
    with pytest.raises(RegistryError, match="no space left"):
        copy(memory, "v1", open_store(server), "v1", jobs=2)
    assert server.tags == {}
    assert len(server.blobs) == 3
    server._plans.clear()
    copy(memory, "v1", open_store(server), "v1")
    assert server.tags == {"v1": made.digest}


# Quirks of hosted registries


def test_ecr_refuses_many_layers_in_words(server: HostileRegistry) -> None:
    # containers: "405 Limit on number of layers per image exceeded"; a foreign artifact may have
    # more than 500, a version of ours at most 128.
    memory = MemoryStore()
    blob = Descriptor("x", digest_of(b"x"), 1)
    memory.push(blob, io.BytesIO(b"x"))

    many = Manifest(blob, (blob,) * 501)
    memory.put_manifest(many.encode(), MANIFEST_TYPE, "many")

    def ecr(exchange: Exchange) -> bool:
        data = exchange.receive()
        exchange.fail(405, "UNSUPPORTED", "Limit on number of layers per image exceeded")
        assert len(json.loads(data)["layers"]) == 501
        return True

    server.on("PUT", "/manifests/", ecr, times=None)
    with pytest.raises(RegistryError, match="Limit on number of layers") as caught:
        copy(memory, "many", open_store(server), "v1")
    assert (caught.value.status, caught.value.retryable) == (405, False)
    assert server.tags == {}


def test_acr_allows_so_many_writes_a_minute(server: HostileRegistry) -> None:
    # Basic: 100 writes, then 429 with Retry-After; here 6, and the cap of the tests' patience.
    memory = MemoryStore()
    made = make_version(memory, count=8, size=5000)
    left = 6

    def acr(exchange: Exchange) -> bool:
        nonlocal left
        if left:
            left -= 1
            return False
        left = 6
        exchange.reply(429, b"", {"Retry-After": "60"})
        return True

    for method in ("POST", "PUT"):
        server.on(method, "/", acr, times=None)
    copy(memory, "v1", open_store(server), "v1")
    assert server.tags == {"v1": made.digest}


def test_ghcr_takes_no_large_chunks(server: HostileRegistry) -> None:
    # PATCH above 4 MiB gets 416 there: no upload of ours uses PATCH. No referrers API either.
    memory = MemoryStore()
    made = make_version(memory, count=1, size=5 << 20)
    server.on("PATCH", "/", lambda e: e.fail(416, "BLOB_UPLOAD_INVALID"), times=None)
    copy(memory, "v1", open_store(server), "v1")
    assert server.tags == {"v1": made.digest}
    assert server.count("PATCH") == 0


def test_docker_hub_counts_manifests(server: HostileRegistry) -> None:
    # The pull limit counts GETs of manifests; HEADs are free. A pull that has everything, and a
    # push that changes nothing, make one GET and none.
    memory = MemoryStore()
    make_version(memory, count=2, size=5000)
    copy(memory, "v1", open_store(server), "v1")
    target = MemoryStore()
    copy(open_store(server), "v1", target, "v1")
    server.seen.clear()
    assert copy(open_store(server), "v1", target, "v1").unchanged
    assert server.count("GET", "/manifests/") == 1
    server.seen.clear()
    assert copy(memory, "v1", open_store(server), "v1").unchanged
    assert server.count("GET") == 0
    # And says so in the end: 429 that lasts.
    server.on("GET", "/manifests/", lambda e: e.fail(429, "TOOMANYREQUESTS", "limit"), times=None)
    with pytest.raises(RegistryError, match="TOOMANYREQUESTS: limit") as caught:
        copy(open_store(server), "v1", MemoryStore(), "v1")
    assert caught.value.retryable
    assert not isinstance(caught.value, AuthError)


def test_docker_registry_in_the_middle_of_writing(server: HostileRegistry) -> None:
    # What it says while another client pushes the same blobs: it read a file that was just empty.
    memory = MemoryStore()
    made = make_version(memory, count=1, size=5000)
    text = "provided digest did not match uploaded content"
    server.on("PUT", "/manifests/", lambda e: e.fail(400, "DIGEST_INVALID", text), times=3)
    copy(memory, "v1", open_store(server), "v1")
    assert server.tags == {"v1": made.digest}
    server.on("PUT", "/manifests/", lambda e: e.fail(400, "DIGEST_INVALID", text), times=None)
    with pytest.raises(RegistryError, match="DIGEST_INVALID"):
        copy(memory, "v1", open_store(server), "v2")
    assert server.count("PUT", "/manifests/") == 4 + QUICK.attempts


# Ten processes and one repository


_WORK = """
import sys
from packer.transfer.copy_graph import copy
from packer.stores.registry.transport.retries import RetryPolicy
from packer.stores.layout import LayoutStore
from packer.stores.registry.settings import Settings
from packer.stores.registry.store import RegistryStore
folder, name, number = sys.argv[1], sys.argv[2], int(sys.argv[3])
store = RegistryStore(name, Settings(retry=RetryPolicy(attempts=8, base_seconds=0.1)))
if number % 2:
    copy(LayoutStore(folder + "/source"), "v%d" % number, store, "v%d" % number)
    copy(LayoutStore(folder + "/source"), "v%d" % number, store, "latest")
    copy(LayoutStore(folder + "/source"), "v1", store, "shared")
else:
    copy(store, "base", LayoutStore(folder + "/pulled"), "base-%d" % number)
    copy(store, "base", LayoutStore(folder + "/own-%d" % number), "base")
"""


@pytest.mark.registry
def test_ten_processes_and_one_repository(tmp_path: Path) -> None:
    source = LayoutStore(tmp_path / "source")
    memory = MemoryStore()
    for number in (0, 1, 3, 5, 7, 9):  # they share their first layers
        make_version(memory, count=3 + number, size=100_000)
        copy(memory, "v1", source, f"v{number}")
    with run_registry(tmp_path) as real:
        name = f"{real.host}/app"
        copy(source, "v0", RegistryStore(name), "base")
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", _WORK, str(tmp_path), name, str(number)],
                stderr=subprocess.PIPE,
            )
            for number in range(10)
        ]
        try:
            for process in processes:
                _, errors = process.communicate(timeout=200)
                assert process.returncode == 0, errors.decode()
        finally:
            for process in processes:
                process.kill()
                process.wait()
        tags = dict(RegistryStore(name).tags())
        assert sorted(tags) == sorted(
            ["base", "latest", "shared", *(f"v{n}" for n in (1, 3, 5, 7, 9))]
        )
        assert tags["latest"].digest in {tags[f"v{n}"].digest for n in (1, 3, 5, 7, 9)}
        assert tags["shared"] == tags["v1"]
        for tag in tags:
            copy(RegistryStore(name), tag, MemoryStore(), "x")
    pulled = dict(LayoutStore(tmp_path / "pulled").tags())
    assert {digest.digest for digest in pulled.values()} == {tags["base"].digest}
    assert len(pulled) == 5
    assert len([entry for entry in os.listdir(tmp_path) if entry.startswith("own-")]) == 5
