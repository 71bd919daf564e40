"""One layout, several processes; garbage and leftovers."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from packer.errors import (
    DigestMismatch,
    NotFound,
    PackerError,
)
from packer.oci import (
    DATA_TYPE,
    INDEX_MANIFEST_TYPE,
    Descriptor,
    Manifest,
    canonical_json,
    digest_of,
)
from packer.stores.layout import LayoutStore
from packer.stores.layout_garbage import Garbage
from packer.stores.protocols import read_blob
from tests.stores.test_layout import HOUR, age, blob_path, push, put, python
from tests.stores.test_layout import store as store

PUSHER = """
import io, sys
from packer.oci import *
from packer.stores.layout import LayoutStore

path, name = sys.argv[1:]
print("ready", flush=True)
sys.stdin.readline()
store = LayoutStore(path)
for number in range(5):
    data = b"shared" * (50_000 + number)
    layer = Descriptor(INDEX_TYPE, digest_of(data), len(data))
    store.push(layer, io.BytesIO(data))
    config = Descriptor(CONFIG_TYPE, digest_of(b"{}"), 2)
    store.push(config, io.BytesIO(b"{}"))
    manifest = Manifest(config, (layer,), {"by": name}).encode()
    store.put_manifest(manifest, MANIFEST_TYPE, f"{name}-{number}")
    store.put_manifest(manifest, MANIFEST_TYPE, "latest")
    if number == 2:
        store.collect_garbage()
"""


def test_processes_share_a_layout_from_its_creation_on(tmp_path: Path) -> None:
    # Would catch: two creators clobbering each other, lost tags, temporary names that collide.
    names = ["a", "b", "c", "d"]
    path = tmp_path / "layout"
    running = [python(PUSHER, str(path), name) for name in names]
    for process in running:
        assert process.stdout
        process.stdout.readline()
    for process in running:
        assert process.stdin
        process.stdin.write(b"\n")
        process.stdin.flush()
    for process in running:
        with process:
            assert process.wait(120) == 0
    store = LayoutStore(path, create=False)
    tags = dict(store.tags())
    assert set(tags) == {f"{name}-{n}" for name in names for n in range(5)} | {"latest"}
    for tag in tags:
        for layer in Manifest.decode(store.get_manifest(tag)[1]).layers:
            read_blob(store, layer, 1 << 20)
    assert os.listdir(path / "ingest") == ["lock"]


# Garbage and leftovers


def test_garbage_is_what_no_tag_needs(store: LayoutStore) -> None:
    put(store, "kept", "kept")
    put(store, "gone", "gone")
    chart = put(store, "child", None)
    index = canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": INDEX_MANIFEST_TYPE,
            "manifests": [chart.to_json(), chart.to_json()],
        }
    )
    store.put_manifest(index, INDEX_MANIFEST_TYPE, "multi")
    loose = push(store, b"loose")
    store.untag("gone")
    gone = [b'{"text":"gone"}', b"gone"]
    other = Path(store.path, "blobs", "sha256", "notes.txt")
    other.write_text("not ours")

    young = store.collect_garbage()
    assert (young.blobs, young.bytes, young.kept_blobs) == (0, 0, 4)
    asked = store.collect_garbage(-HOUR, dry_run=True)
    assert store.exists(loose)
    found = store.collect_garbage(-HOUR)
    assert asked == found
    assert found.blobs == 4  # a manifest, its config and layer, and the loose blob
    assert found.bytes == young.kept_bytes > sum(map(len, gone)) + 5
    assert not store.exists(loose)
    assert other.exists()
    for tag in ("kept", "multi"):
        store.get_manifest(tag)
    for layer in Manifest.decode(store.get_manifest(chart.digest)[1]).layers:
        assert store.exists(layer)
    assert store.collect_garbage(-HOUR) == Garbage()


def test_pushing_a_blob_again_keeps_it_from_collection(store: LayoutStore) -> None:
    # A packer that finds a blob present must be able to rely on it for a while.
    again, idle = push(store, b"again"), push(store, b"idle")
    written = push(store, b"written")
    for blob in (again, idle, written):
        age(blob_path(store, blob.digest), 2 * HOUR)
    push(store, b"again")
    with store.create() as writer:
        writer.write(b"written")
        assert writer.commit(DATA_TYPE)[1] is False
    found = store.collect_garbage()
    assert (found.blobs, found.bytes) == (1, 4)
    assert store.exists(again)
    assert store.exists(written)
    assert not store.exists(idle)


def test_a_malformed_tagged_manifest_stops_collection(store: LayoutStore) -> None:
    descriptor = put(store, "text", "app")
    loose = push(store, b"loose")
    path = blob_path(store, descriptor.digest)
    path.write_bytes(path.read_bytes().replace(b"{", b"[", 1))
    with pytest.raises(DigestMismatch):
        store.collect_garbage(-HOUR)
    assert store.exists(loose)
    store.untag("app")
    assert store.collect_garbage(-HOUR).blobs == 4


def test_leftovers_of_the_dead_go_and_the_living_keep_theirs(store: LayoutStore) -> None:
    ingest = Path(store.path, "ingest")
    with store.create() as writer:
        writer.write(b"slow")
        (slow,) = (path for path in ingest.iterdir() if path.name != "lock")
        age(slow, 48 * HOUR)  # a writer that waits for its source, suspended over the weekend
        (ingest / "1-dead.tmp").write_bytes(b"left behind")
        age(ingest / "1-dead.tmp", HOUR)
        (ingest / "2-young.tmp").write_bytes(b"perhaps not locked yet")
        (ingest / "notes").write_bytes(b"not a temporary file")
        age(ingest / "notes", 48 * HOUR)
        age(ingest / "lock", 48 * HOUR)
        push(LayoutStore(store.path), b"anything")  # the first write sweeps
        assert {path.name for path in ingest.iterdir()} == {
            "lock",
            "notes",
            "2-young.tmp",
            slow.name,
        }
        assert writer.commit(DATA_TYPE)[1]
    assert read_blob(store, Descriptor(DATA_TYPE, digest_of(b"slow"), 4), 4) == b"slow"


def test_a_dropped_writer_leaves_nothing(store: LayoutStore) -> None:
    writer = store.create()
    writer.write(b"dropped without leaving its context")
    del writer
    assert os.listdir(Path(store.path, "ingest")) == ["lock"]


FORKER = """
import os, sys
from packer.stores.layout import LayoutStore

with LayoutStore(sys.argv[1]).create() as writer:
    writer.write(b"parent")
    pid = os.fork()
    if pid == 0:  # what a worker process does with inherited objects on its way out
        try:
            writer.__exit__(None, None, None)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    print(writer.commit("a/b")[1])
"""


def test_a_forked_child_does_not_remove_its_parents_files(store: LayoutStore) -> None:
    with python(FORKER, store.path) as process:
        assert process.communicate(timeout=60)[0] == b"True\n"
    assert read_blob(store, Descriptor("a/b", digest_of(b"parent"), 6), 6) == b"parent"


def test_collecting_while_others_put_versions_never_breaks_a_tag(tmp_path: Path) -> None:
    # With no grace at all a writer may find its blobs gone and must begin again, but what it could
    # tag is whole: the check of the blobs and the tag are one step to the collector.
    done = threading.Event()
    lost = 0

    def collect() -> int:
        store, count = LayoutStore(tmp_path / "layout"), 0
        while not done.wait(0.002):  # flock is not fair: without a pause it starves the writers
            count += store.collect_garbage(-HOUR).blobs
        return count

    def write(name: str) -> None:
        nonlocal lost
        store = LayoutStore(tmp_path / "layout")
        for number in range(15):
            while True:
                try:
                    put(store, f"{name} {number}", f"{name}-{number}")
                    break
                except NotFound:
                    lost += 1

    with ThreadPoolExecutor(4) as pool:
        collecting = pool.submit(collect)
        try:
            list(pool.map(write, "abc"))
        finally:
            done.set()
        assert collecting.result() >= lost
    store = LayoutStore(tmp_path / "layout")
    tags = dict(store.tags())
    assert set(tags) == {f"{name}-{number}" for name in "abc" for number in range(15)}
    for tag in tags:
        manifest = Manifest.decode(store.get_manifest(tag)[1])
        for blob in (manifest.config, *manifest.layers):
            read_blob(store, blob, 100)


USER = """
import sys
from packer.stores.layout import LayoutStore
from packer.oci import Descriptor

with LayoutStore(sys.argv[1]).in_use([Descriptor("a/b", sys.argv[2], 5)]):
    print("using", flush=True)
    sys.stdin.readline()
"""


def test_what_a_running_process_relies_on_stays(store: LayoutStore) -> None:
    # Would catch: a pack whose base another process forgets and collects meanwhile, and a pull that
    # found a blob which nothing names any more.
    base, found, idle = put(store, "base", "base"), push(store, b"found"), push(store, b"idle!")
    for path in Path(store.path, "blobs", "sha256").iterdir():
        age(path, 2 * HOUR)
    with python(USER, store.path, found.digest) as user:
        assert user.stdin
        assert user.stdout
        assert user.stdout.readline() == b"using\n"
        written = push(store, b"written since")
        store.untag("base")
        assert store.collect_garbage(0).blobs == 1
        assert not store.exists(idle)
        for blob in Manifest.decode(store.get_manifest(base.digest)[1]).layers:
            assert store.exists(blob)
        assert store.exists(found)
        assert store.exists(written)
        user.kill()  # what it relied on goes with it, though it could not say goodbye
        user.wait()
        assert store.collect_garbage(-HOUR).blobs == 5
        assert os.listdir(Path(store.path, "ingest")) == ["lock"]


def test_a_record_that_cannot_be_read_keeps_everything(store: LayoutStore) -> None:
    push(store, b"loose")
    with store.in_use():
        (record,) = Path(store.path, "ingest").glob("use-*")
        record.write_bytes(b"{")
        assert store.collect_garbage(-HOUR).blobs == 0
    assert store.collect_garbage(-HOUR).blobs == 1


DISCARDER = """
import sys
from packer.oci import Descriptor
from packer.stores.layout import LayoutStore

store = LayoutStore(sys.argv[1])
store._is_writable = True  # the lock under test is the one inside discard
print("hashing", flush=True)
print(store.discard(Descriptor("", sys.argv[2], 5)))
"""


def test_discard_waits_for_nobodys_repair_to_be_lost(store: LayoutStore) -> None:
    # A process that found damage must not remove what another has repaired meanwhile.
    blob = push(store, b"sound")
    path = blob_path(store, blob.digest)
    path.write_bytes(b"sOund")
    with open(Path(store.path, "ingest", "lock"), "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        other = python(DISCARDER, store.path, blob.digest)
        assert other.stdout
        assert other.stdout.readline() == b"hashing\n"
        waiting = time.monotonic() + 60
        while not waits_for_lock(other.pid):
            assert time.monotonic() < waiting
            time.sleep(0.01)
        path.unlink()
        assert push(store, b"sound") == blob
    with other:
        assert other.stdout.read() == b"False\n"
    assert read_blob(store, blob, 5) == b"sound"


def waits_for_lock(pid: int) -> bool:
    """Tell whether a process sleeps in flock; elsewhere than on Linux, just give it time."""
    try:
        locks = Path("/proc/locks").read_text(encoding="ascii").splitlines()
        return any("->" in line and f" {pid} " in line for line in locks)
    except FileNotFoundError:
        time.sleep(1)
        return True


def test_every_error_says_where(store: LayoutStore) -> None:
    absent = Descriptor(DATA_TYPE, digest_of(b"absent"), 6)
    for call in (
        lambda: store.fetch(absent),
        lambda: store.open_file(absent),
        lambda: store.resolve("absent"),
        lambda: store.get_manifest(absent.digest),
        lambda: store.untag("absent"),
    ):
        with pytest.raises(PackerError) as caught:
            call()
        assert store.path in str(caught.value)
