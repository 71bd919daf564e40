"""Stores that are used before a fork: each process gets the answers to its own requests."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

import packer
from packer.api.locations import open_version
from packer.forks import Lock, renew_in_children
from packer.format.frame_cache import FrameCache
from packer.oci import Descriptor, digest_of
from packer.reading.entry_content import FileReader
from packer.stores.layout import LayoutStore
from packer.stores.protocols import read_blob
from packer.stores.registry.settings import Settings
from packer.stores.registry.store import RegistryStore
from tests.hostile import QUICK, Exchange, HostileRegistry, hostile_registry
from tests.registry_server import make_certificate
from tests.updates import changed, tar, texts, zlib_gzip

BLOBS = [bytes([65 + number]) * 3000 for number in range(2)]


def in_child(work: Callable[[], object], meanwhile: Callable[[], object] | None = None) -> None:
    """Run something in a forked child, which must end well and soon."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    if meanwhile is not None:
        meanwhile()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert status == 0
            return
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    pytest.fail("the child did not end")


def slow(exchange: Exchange) -> bool:
    time.sleep(0.1)  # so that both processes wait for an answer at the same time
    return False


def store_in(server: HostileRegistry, ca_file: Path | None = None) -> RegistryStore:
    options = Settings(
        retry=QUICK, timeout_seconds=5, ca_file=None if ca_file is None else str(ca_file)
    )
    return RegistryStore(f"{server.host}/app", options)


@pytest.mark.parametrize("secure", [False, True], ids=["http", "tls"])
def test_two_processes_read_two_blobs(secure: bool, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path) if secure else None
    with hostile_registry(certificate=certificate) as server:
        blobs = [Descriptor("", digest_of(data), len(data)) for data in BLOBS]
        server.blobs.update({blob.digest: data for blob, data in zip(blobs, BLOBS, strict=True)})
        server.on("GET", "/blobs/", slow, None)
        for _ in range(3):
            store = store_in(server, certificate)
            assert read_blob(store, blobs[0], 1 << 20) == BLOBS[0]  # a connection is open now

            def read(number: int, store: RegistryStore = store) -> None:
                assert read_blob(store, blobs[number], 1 << 20) == BLOBS[number]

            in_child(partial(read, 1), partial(read, 0))
            read(1)


def test_a_reader_goes_on_in_the_child(tmp_path: Path) -> None:
    data = os.urandom(600_000)
    blob = Descriptor("", digest_of(data), len(data))
    with hostile_registry() as server:
        server.blobs[blob.digest] = data
        with store_in(server).fetch(blob) as reader:
            begin = reader.read(1000)

            def rest() -> None:
                parts = [begin]
                while part := reader.read(50_000):
                    parts.append(part)
                assert b"".join(parts) == data

            in_child(rest)
            rest()


def test_opened_files_are_read_in_the_child(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    for number in (1, 2):
        data = zlib_gzip(tar(changed(texts(files=4), number)))
        (tmp_path / "v/app.tgz").write_bytes(data)
        packer.pack(tmp_path / "v", store=tmp_path / "store", tag=f"app:{number}")
    version = open_version("app:2", store=tmp_path / "store")
    assert version.index.predecessors
    with FileReader(version) as files:

        def read() -> None:
            assert b"".join(bytes(piece) for piece in files.read(0)) == data

        read()
        in_child(read, read)
        read()


def test_interrupted_parents_have_working_children() -> None:
    with hostile_registry() as server:
        store = store_in(server)
        store.interrupt()
        in_child(lambda: list(store.tag_names()))


def test_locks_are_free_in_children() -> None:
    lock = Lock()
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            release.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    try:
        in_child(lambda: lock.__enter__())
    finally:
        release.set()
        thread.join()


def test_file_locks_are_not_kept_by_children(tmp_path: Path) -> None:
    # A child has a copy of the descriptor; closing the parent's alone would not release the lock.
    layout = LayoutStore(tmp_path / "layout")
    layout.collect_garbage()
    with layout._directory.lock():
        child = os.fork()
        if child == 0:
            time.sleep(600)
            os._exit(0)
    begin = time.monotonic()
    layout.collect_garbage()
    took = time.monotonic() - begin
    os.kill(child, 9)
    os.waitpid(child, 0)
    assert took < 60


def test_decoded_frames_are_not_shared() -> None:
    # Both sides would write their frames to the same places of one temporary file.
    cache = FrameCache(8, lambda frame: 8, lambda frame: True, None)
    for frame in range(3):
        cache.keep(frame, memoryview(bytes([frame]) * 8))

    def there() -> None:
        time.sleep(0.5)
        assert 1 not in cache
        for frame in range(10, 20):
            cache.keep(frame, memoryview(bytes([frame]) * 8))
        assert [cache.find(frame) for frame in range(10, 20)] == [
            memoryview(bytes([frame]) * 8) for frame in range(10, 20)
        ]

    def here() -> None:
        for frame in range(3, 10):
            cache.keep(frame, memoryview(bytes([frame]) * 8))

    renew_in_children(cache)
    in_child(there, here)
    assert [cache.find(frame) for frame in range(10)] == [
        memoryview(bytes([n]) * 8) for n in range(10)
    ]
    cache.close()
