"""Cancelling, verifying, forcing and estimating transfers; no ranges."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import packer
from packer.cli.main import main
from packer.errors import Cancelled, DigestMismatch, IntegrityError, InvalidParameter
from packer.oci import Manifest
from packer.progress import Progress
from packer.stores.layout import LayoutStore
from packer.stores.memory import MemoryStore
from packer.stores.protocols import read_blob
from packer.stores.registry.settings import Settings
from packer.stores.registry.store import RegistryStore
from packer.stores.registry.transport.retries import RetryPolicy
from packer.transfer.copy_cost import estimate_copy
from packer.transfer.copy_graph import copy
from tests.artifacts import make_version
from tests.builders import noise
from tests.hostile import QUICK, Exchange, HostileRegistry, open_store
from tests.registry_server import RegistryServer, run_registry

# Cancelling


def hang(exchange: Exchange) -> None:
    """Take the request and never answer."""
    exchange.receive()
    exchange.registry.stopping.wait(120)


def cancel_when(ready: Callable[[], bool], event: threading.Event) -> threading.Thread:
    def watch() -> None:
        deadline = time.monotonic() + 60
        while not ready() and time.monotonic() < deadline:
            time.sleep(0.005)
        event.set()

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


@pytest.mark.parametrize("jobs", [1, 4])
@pytest.mark.parametrize(("method", "path"), [("PUT", "/uploads/"), ("POST", "/uploads/")])
def test_cancel_does_not_wait_for_a_push(
    server: HostileRegistry, method: str, path: str, jobs: int
) -> None:
    # Every answer is a long time coming; time-outs and pauses are far above the test's own bound.
    memory = MemoryStore()
    made = make_version(memory)
    server.on(method, path, hang, times=jobs)
    store = RegistryStore(f"{server.host}/app", Settings(timeout_seconds=100))
    event = threading.Event()
    thread = cancel_when(lambda: server.count(method, path) >= jobs, event)
    begin = time.monotonic()
    with pytest.raises(Cancelled, match="copying was cancelled"):
        copy(memory, "v1", store, "v1", jobs=jobs, cancel=event)
    thread.join()
    assert time.monotonic() - begin < 60
    assert server.tags == {}
    # The same store goes on, and finishes the work.
    copy(memory, "v1", store, "v1")
    assert server.tags == {"v1": made.digest}


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_cancel_while_the_first_answer_is_awaited(server: HostileRegistry, method: str) -> None:
    memory = MemoryStore()
    make_version(memory, count=1)
    copy(memory, "v1", open_store(server), "v1")
    server.on(method, "/manifests/", hang, times=None)
    store = RegistryStore(f"{server.host}/app", Settings(timeout_seconds=100))
    event = threading.Event()
    seen = server.count(method, "/manifests/")
    thread = cancel_when(lambda: server.count(method, "/manifests/") > seen, event)
    begin = time.monotonic()
    with pytest.raises(Cancelled):
        if method == "HEAD":
            copy(memory, "v1", store, "v2", cancel=event)
        else:
            copy(store, "v1", MemoryStore(), "v1", cancel=event)
    thread.join()
    assert time.monotonic() - begin < 60
    server._plans.clear()
    assert store.resolve("v1")


def test_cancel_ends_a_pause(server: HostileRegistry) -> None:
    memory = MemoryStore()
    make_version(memory, count=2)
    server.on("PUT", "/uploads/", lambda e: e.reply(503, b"", {"Retry-After": "100"}), times=None)
    patient = RetryPolicy(attempts=5, base_seconds=100, max_seconds=100)
    store = RegistryStore(f"{server.host}/app", Settings(retry=patient))
    event = threading.Event()
    thread = cancel_when(lambda: server.count("PUT") > 0, event)
    begin = time.monotonic()
    with pytest.raises(Cancelled):
        copy(memory, "v1", store, "v1", cancel=event)
    thread.join()
    assert time.monotonic() - begin < 60


def test_cancel_a_pull(server: HostileRegistry, tmp_path: Path) -> None:
    memory = MemoryStore()
    make_version(memory)
    copy(memory, "v1", open_store(server), "v1")
    server.on("GET", "/blobs/", hang, times=2)
    layout = LayoutStore(tmp_path / "layout")
    store = RegistryStore(f"{server.host}/app", Settings(timeout_seconds=100))
    event = threading.Event()
    thread = cancel_when(lambda: server.count("GET", "/blobs/") >= 4, event)
    with pytest.raises(Cancelled):
        copy(store, "v1", layout, "v1", cancel=event)
    thread.join()
    assert list(layout.tags()) == []
    ingest = tmp_path / "layout" / "ingest"
    assert not ingest.exists() or set(os.listdir(ingest)) <= {"lock"}
    copy(store, "v1", layout, "v1")
    assert layout.get_manifest("v1") == memory.get_manifest("v1")


def test_cancel_everywhere(app: Path, tmp_path: Path) -> None:
    # Set beforehand, and in the middle: Cancelled, and nothing half-made.
    store = str(tmp_path / "store")
    done = threading.Event()
    done.set()
    with pytest.raises(Cancelled, match="packing"):
        packer.pack(app, store=store, tag="app:1", cancel=done)
    assert packer.versions(store=store) == []
    packer.pack(app, store=store, tag="app:1")
    there = f"oci:{tmp_path}/there"
    calls: list[Callable[[threading.Event, Callable[[Progress], None]], object]] = [
        lambda e, p: packer.pack(app, store=store, tag="x", base="none", cancel=e, progress=p),
        lambda e, p: packer.push(f"{there}:1", "app:1", store=store, cancel=e, progress=p),
        lambda e, p: packer.copy("app:1", f"{there}:2", store=store, cancel=e, progress=p),
        lambda e, p: packer.unpack("app:1", tmp_path / "o1", store=store, cancel=e, progress=p),
        lambda e, p: packer.verify("app:1", store=store, cancel=e, progress=p),
    ]
    for call in calls:
        with pytest.raises(Cancelled):
            call(done, lambda state: None)
        event = threading.Event()

        def stop(state: Progress, event: threading.Event = event) -> None:
            if state.done_bytes:
                event.set()

        with pytest.raises(Cancelled):
            call(event, stop)
    assert [row.tag for row in packer.versions(store=store)] == ["app:1"]
    assert packer.versions(store=f"{tmp_path}/there") == []
    assert not [name for name in os.listdir(tmp_path) if name.startswith((".layer", "o1"))]
    packer.push(f"{there}:1", "app:1", store=store)
    with pytest.raises(Cancelled):
        packer.pull(f"{there}:1", tmp_path / "out", store=str(tmp_path / "s2"), cancel=done)
    assert not (tmp_path / "out").exists()
    packer.pull(f"{there}:1", tmp_path / "out", cancel=threading.Event(), store=store)
    assert (tmp_path / "out" / "file3").read_bytes() == noise("file 3", 400_000)


@pytest.mark.parametrize("silent", ["/manifests/", "/blobs/"])
@pytest.mark.parametrize("call", ["unpack", "pull with a seed", "verify", "save", "load", "pack"])
def test_cancel_does_not_wait_for_a_registry_that_is_read(
    server: HostileRegistry, app: Path, tmp_path: Path, call: str, silent: str
) -> None:
    name, out, local = f"{server.host}/app:1", tmp_path / "out", MemoryStore()
    packer.pack(app, store=tmp_path / "s", tag="app:1")
    packer.push(name, "app:1", store=tmp_path / "s")
    storage = packer.open_storage(f"docker://{server.host}/base")
    number = storage.save("a", app).sequence
    reader = packer.open_storage(f"docker://{server.host}/base")
    if call == "load":
        assert reader.version("a", number).index  # what is left to be read is data
        if silent == "/manifests/":
            return
    (app / "file0").write_bytes(noise("file 0", 399_000))
    event = threading.Event()
    calls: dict[str, Callable[[], object]] = {
        "unpack": lambda: packer.unpack(name, out, store=local, cancel=event),
        "pull with a seed": lambda: packer.pull(name, out, store=local, cancel=event, seed=[app]),
        "verify": lambda: packer.verify(name, store=local, cancel=event),
        "save": lambda: reader.save("a", app, cancel=event),
        "load": lambda: reader.load("a", number, out, cancel=event),
        "pack": lambda: packer.pack(app, store=local, tag="x", base=name, cancel=event),
    }
    server.seen.clear()
    server.on("GET", silent, hang, times=None)
    thread = cancel_when(lambda: server.count("GET", silent) >= 1, event)
    begin = time.monotonic()
    with pytest.raises(Cancelled):
        calls[call]()
    thread.join()
    assert time.monotonic() - begin < 30  # the registry's silence lasts 120 s, time-outs are 60 s
    assert not out.exists()
    assert not [found for found in os.listdir(tmp_path) if found.startswith(".layer")]
    assert list(local.tags()) == []


def test_a_version_being_named_is_not_cancelled(server: HostileRegistry, app: Path) -> None:
    # Set while the number is claimed: the claim would stay, and nobody know whether it was saved.
    storage = packer.open_storage(f"docker://{server.host}/base")
    event = threading.Event()

    def late(exchange: Exchange) -> bool:
        event.set()
        time.sleep(0.5)  # time for a watcher to look
        return False

    server.on("PUT", "/manifests/claim-", late)
    saved = storage.save("a", app, cancel=event)
    assert [one.sequence for one in storage.history("a")] == [saved.sequence]
    assert event.is_set()


@pytest.mark.parametrize("verb", ["unpack", "pack"])
def test_interrupted_reading_ends_at_once(
    server: HostileRegistry, app: Path, tmp_path: Path, verb: str
) -> None:
    store, name = str(tmp_path / "store"), f"{server.host}/app:1"
    packer.pack(app, store=store, tag="app:1")
    packer.push(name, "app:1", store=store)
    (app / "file0").write_bytes(noise("file 0", 399_000))
    layer = Manifest.decode(LayoutStore(store).get_manifest("app:1")[1]).data_layers[0]
    server.on("GET", f"/blobs/{layer.digest}", hang, times=None)
    fresh = str(tmp_path / "fresh")
    words = {
        "unpack": ["unpack", name, str(tmp_path / "out"), "--store", fresh],
        "pack": ["pack", str(app), "--base", name, "--store", fresh],
    }[verb]
    process = subprocess.Popen([sys.executable, "-m", "packer", *words], stderr=subprocess.PIPE)
    begin = time.monotonic()
    try:
        while not server.count("GET", layer.digest) and time.monotonic() < begin + 60:
            time.sleep(0.0005)  # so that threads are just beginning
        begin = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=90)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, errors
    assert time.monotonic() - begin < 30  # time-outs are 60 s
    assert not (tmp_path / "out").exists()


def test_interrupted_command_ends_at_once(
    server: HostileRegistry, app: Path, tmp_path: Path
) -> None:
    store = str(tmp_path / "store")
    packer.pack(app, store=store, tag="app:1")
    server.on("PUT", "/uploads/", hang, times=None)
    words = ["push", f"{server.host}/app:1", "--from", "app:1", "--store", store]
    process = subprocess.Popen([sys.executable, "-m", "packer", *words], stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 60
        while not server.count("PUT") and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, errors
    assert server.tags == {}


# Registries whose HEAD lies


def test_verify_sends_again_what_is_lost(server: HostileRegistry) -> None:
    memory = MemoryStore()
    made = make_version(memory)
    store = open_store(server)
    copy(memory, "v1", store, "v1")
    layers = Manifest.decode(memory.get_manifest("v1")[1]).layers
    lost = layers[1], layers[4]
    for blob in lost:
        del server.blobs[blob.digest]
    size = {"Content-Length": str(lost[0].size)}
    for blob in lost:
        server.on("HEAD", blob.digest, lambda e: e.reply(200, b"", size), times=None)
    assert copy(memory, "v1", store, "v1").unchanged  # the tag vouches for it
    server.seen.clear()
    done = copy(memory, "v1", store, "v1", verify=True)
    assert (done.blobs_copied, done.blobs_present, done.unchanged) == (2, 8, False)
    assert server.tags == {"v1": made.digest}
    # Each was read once, and those that were sent again once more.
    assert server.count("GET", "/blobs/") == 12
    assert copy(memory, "v1", store, "v1", verify=True).unchanged


@pytest.mark.parametrize("how", ["cut", "flipped", "longer"])
def test_verify_finds_damage_anywhere_in_a_blob(server: HostileRegistry, how: str) -> None:
    memory = MemoryStore()
    make_version(memory)
    store = open_store(server)
    copy(memory, "v1", store, "v1")
    sound = dict(server.blobs)
    digest = Manifest.decode(memory.get_manifest("v1")[1]).layers[3].digest
    data = bytearray(sound[digest])
    if how == "flipped":
        data[-1] ^= 1
    server.blobs[digest] = {"cut": bytes(data[:-1]), "longer": bytes(data) + b"x"}.get(
        how, bytes(data)
    )
    done = copy(memory, "v1", store, "v1", verify=True)
    assert (done.blobs_copied, done.unchanged) == (1, False)
    assert server.blobs == sound
    assert copy(memory, "v1", store, "v1", verify=True).unchanged


@pytest.mark.parametrize("where", ["registry", "layout"])
def test_verify_writes_a_damaged_manifest_anew(
    server: HostileRegistry, tmp_path: Path, where: str
) -> None:
    memory = MemoryStore()
    made = make_version(memory)
    layout = LayoutStore(tmp_path / "layout")
    store = open_store(server) if where == "registry" else layout
    copy(memory, "v1", store, "v1")
    if where == "registry":
        media_type, data = server.manifests[made.digest]
        server.manifests[made.digest] = (media_type, data.replace(b"layers", b"lavers"))
    else:
        path = tmp_path / "layout/blobs/sha256" / made.digest[7:]
        path.write_bytes(path.read_bytes().replace(b"layers", b"lavers"))
    assert copy(memory, "v1", store, "v1").unchanged
    assert not copy(memory, "v1", store, "v1", verify=True).unchanged
    assert store.get_manifest("v1") == memory.get_manifest("v1")
    assert copy(memory, "v1", store, "v1", verify=True).unchanged


@pytest.mark.registry
@pytest.mark.parametrize("what", ["layer", "manifest"])
def test_a_registry_that_keeps_damaged_bytes(tmp_path: Path, what: str) -> None:
    memory = MemoryStore()
    made = make_version(memory, count=3)
    layer = Manifest.decode(memory.get_manifest("v1")[1]).layers[1]
    with run_registry(tmp_path) as real:
        store = RegistryStore(f"{real.host}/app", Settings(retry=QUICK))
        copy(memory, "v1", store, "v1")
        digest = (layer if what == "layer" else made).digest
        (path,) = tmp_path.rglob(f"blobs/sha256/*/{digest[7:]}/data")
        sound = path.read_bytes()
        path.write_bytes(sound[:-20])
        with pytest.raises(IntegrityError, match=f"keeps damaged bytes of.*{digest}"):
            copy(memory, "v1", store, "v1", verify=True)
        path.unlink()
        assert not copy(memory, "v1", store, "v1", verify=True).unchanged
        assert path.read_bytes() == sound


def test_force_sends_everything(server: HostileRegistry) -> None:
    memory = MemoryStore()
    make_version(memory)
    store = open_store(server)
    copy(memory, "v1", store, "v1")
    server.blobs = dict.fromkeys(server.blobs, b"")
    done = copy(memory, "v1", store, "v1", force=True)
    assert (done.blobs_copied, done.blobs_present) == (10, 0)
    copy(store, "v1", MemoryStore(), "v1")


@pytest.mark.registry
def test_verify_where_a_cache_remembers_what_was_collected(tmp_path: Path) -> None:
    # Debian's docker-registry with its cache, after a collection beside the running server: HEAD
    # says 200, GET has no body, a manifest naming the blob is taken.
    memory = MemoryStore()
    make_version(memory, count=6)
    layers = Manifest.decode(memory.get_manifest("v1")[1]).layers
    with run_registry(tmp_path, cache=True) as real:
        store = RegistryStore(f"{real.host}/app", Settings(retry=QUICK))
        for blob in layers:
            store.push(blob, io.BytesIO(read_blob(memory, blob, 2 << 20)))
        collect(tmp_path, real)
        assert all(store.exists(blob) for blob in layers)
        copy(memory, "v1", store, "v1", jobs=1)
        with pytest.raises(packer.PackerError):
            copy(store, "v1", MemoryStore(), "v1")
        done = copy(memory, "v1", store, "v1", verify=True)
        assert done.blobs_copied >= 6
        target = MemoryStore()
        copy(store, "v1", target, "v1")
        assert target.get_manifest("v1") == memory.get_manifest("v1")


def collect(folder: Path, real: RegistryServer) -> None:
    """Collect garbage beside the running server; it may stumble over what comes and goes."""
    command = ["docker-registry", "garbage-collect", str(folder / "config.yml")]
    subprocess.run(command, check=False, capture_output=True, timeout=60)


@pytest.mark.registry
def test_collection_beside_pushes(tmp_path: Path) -> None:
    # People run it live. Whatever it takes, a push that says it is done can be pulled, or a second
    # push repairs it.
    memory = MemoryStore()
    with run_registry(tmp_path) as real:
        stop = threading.Event()

        def collector() -> None:
            while not stop.is_set():
                collect(tmp_path, real)

        thread = threading.Thread(target=collector)
        thread.start()
        try:
            for number in range(2):
                make_version(memory, count=3, size=100_000 + number)
                store = RegistryStore(f"{real.host}/app", Settings(retry=QUICK))
                for _ in range(4):
                    try:
                        copy(memory, "v1", store, f"v{number}", verify=True)
                        break
                    except packer.PackerError:
                        continue
        finally:
            stop.set()
            thread.join()
        for number in range(2):
            make_version(memory, count=3, size=100_000 + number)
            store = RegistryStore(f"{real.host}/app", Settings(retry=QUICK))
            copy(memory, "v1", store, f"v{number}", verify=True)
            target = MemoryStore()
            copy(store, f"v{number}", target, "v1")
            assert target.get_manifest("v1") == memory.get_manifest("v1")


# Pinning


def test_expect(app: Path, tmp_path: Path, server: HostileRegistry) -> None:
    store, name = str(tmp_path / "store"), f"{server.host}/app:1"
    first = packer.pack(app, store=store, tag="app:1").digest
    packer.push(name, "app:1", store=store)
    (app / "file0").write_bytes(b"changed")
    second = packer.pack(app, store=store, tag="app:2").digest
    packer.push(name, "app:2", store=store)
    fresh = str(tmp_path / "fresh")
    for call in (
        lambda: packer.pull(name, tmp_path / "out", store=fresh, expect=first),
        lambda: packer.unpack(name, tmp_path / "out", store=fresh, expect=first),
        lambda: packer.copy(name, f"oci:{tmp_path}/there:1", store=fresh, expect=first),
    ):
        with pytest.raises(DigestMismatch, match="digest mismatch: expected") as caught:
            call()
        assert (caught.value.expected, caught.value.actual) == (first, second)
    assert not (tmp_path / "out").exists()
    assert packer.versions(store=fresh) == []
    assert server.count("GET", "/blobs/") == 0 or not packer.versions(store=fresh)
    with pytest.raises(InvalidParameter, match="sha256"):
        packer.pull(name, tmp_path / "out", store=fresh, expect="latest")
    words = [name, str(tmp_path / "out"), "--store", fresh]
    assert main(["pull", *words, "--expect", first]) == 4
    assert main(["pull", *words, "--expect", second]) == 0


def test_tag_that_goes_back(
    app: Path,
    tmp_path: Path,
    server: HostileRegistry,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    # Row 22: a registry serves an old manifest, which is as valid as ever, under a tag.
    store, name = str(tmp_path / "store"), f"{server.host}/app:latest"
    for number in (1, 2):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", str(1_700_000_000 + number))
        (app / "file0").write_text(f"version {number}")
        packer.pack(app, store=store, tag=f"app:{number}")
        packer.push(name, f"app:{number}", store=store)
        if number == 1:
            old = server.tags["latest"]
    fresh = str(tmp_path / "fresh")
    with caplog.at_level(logging.WARNING, "packer"):
        pulled = packer.pull(name, tmp_path / "out", store=fresh)
        packer.pull(name, tmp_path / "out", store=fresh, update=True)
        assert caplog.records == []
        server.tags["latest"] = old
        packer.pull(name, tmp_path / "out", store=fresh, update=True)
    (record,) = caplog.records
    assert "now names a version made at 2023-11-14T22:13:21Z" in record.getMessage()
    with pytest.raises(DigestMismatch):
        packer.pull(name, tmp_path / "out", store=fresh, update=True, expect=pulled.digest)


# Estimates


def test_estimates_hold(tmp_path: Path, server: HostileRegistry) -> None:
    memory = MemoryStore()
    make_version(memory)
    store = open_store(server)

    def check(source: object, destination: object, tag: str) -> packer.Estimate:
        server.seen.clear()
        found = estimate_copy(source, "v1", destination, tag)  # type: ignore[arg-type]
        assert all(item.method in ("GET", "HEAD") for item in server.seen)
        assert not any("/blobs/" in item.path for item in server.seen if item.method == "GET")
        server.seen.clear()
        done = copy(source, "v1", destination, tag)  # type: ignore[arg-type]
        assert done.blobs_copied == found.blobs
        assert done.unchanged == found.unchanged
        moved = 0 if found.unchanged else done.bytes_copied + done.descriptor.size
        assert found.bytes == moved
        assert len(server.seen) <= found.requests <= len(server.seen) + 8
        return found

    first = check(memory, store, "v1")
    assert (first.blobs, first.blobs_present, first.bytes_present) == (10, 0, 0)
    assert check(memory, store, "v1").unchanged
    make_version(memory, count=9)
    update = check(memory, store, "v1")
    assert (update.blobs, update.blobs_present) == (1, 10)
    layout = LayoutStore(tmp_path / "layout")
    assert check(store, layout, "v1").blobs == 11
    assert check(store, layout, "v1").unchanged


def test_dry_runs(
    app: Path, tmp_path: Path, server: HostileRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    store, name = str(tmp_path / "store"), f"{server.host}/app:1"
    packed = packer.pack(app, store=store, tag="app:1")

    def run(*words: str) -> dict[str, object]:
        capsys.readouterr()
        assert main([*words, "--json", "--store", store]) == 0
        value = json.loads(capsys.readouterr().out)
        assert isinstance(value, dict)
        return value

    found = run("push", name, "--dry-run")
    assert (found["digest"], found["unchanged"]) == (packed.digest, False)
    assert server.blobs == {}
    assert {item.method for item in server.seen} == {"HEAD"}
    there = f"oci:{tmp_path}/not-there:1"
    assert run("copy", "app:1", there, "--dry-run")["bytes"] == found["bytes"]
    assert not (tmp_path / "not-there").exists()
    sent = run("push", name)
    assert sent["copied_blobs"] == found["blobs"]
    out = str(tmp_path / "out")
    fresh = str(tmp_path / "fresh")
    assert main(["pull", name, out, "--dry-run", "--store", fresh]) == 0
    shown = capsys.readouterr().out
    assert "would move 3.2 MB in 3 blobs" in shown
    assert not (tmp_path / "out").exists()
    assert main(["pull", name, out, "--dry-run", "--store", store]) == 0
    assert main(["push", name, "--dry-run", "--from", str(app), "--store", store]) in (2, 3)
