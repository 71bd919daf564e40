"""Processes killed at every step of a write to a layout, full disks, and failing flushes.

A child process does the work with the calls of `os` wrapped so that the Nth one ends it on the
spot, before the call or after it; os._exit runs no cleanup, as SIGKILL would not. N goes up until
the work finishes, so no step is left out. After each death the layout is examined, and a second
process does the same work to the end.
"""

from __future__ import annotations

import errno
import io
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import packer.errors
from packer.errors import NotFound
from packer.files import durable
from packer.oci import CONFIG_TYPE, INDEX_TYPE, MANIFEST_TYPE, Descriptor, Manifest, digest_of
from packer.stores.layout import LayoutStore
from packer.stores.protocols import read_blob

KILLED = 137

SERVER = """
import sys, types
sys.path.insert(0, sys.argv[1])
# The package's own __init__ imports everything; a store needs next to nothing.
package = types.ModuleType("packer")
package.__path__ = [sys.argv[1] + "/packer"]
sys.modules["packer"] = package

import fcntl, io, json, os
from packer.oci import *
from packer.stores.layout import LayoutStore

def wrap(module, name, step, when):
    real = getattr(module, name)
    def call(*args, **kwargs):
        step[0] -= 1
        if step[0]:
            return real(*args, **kwargs)
        if when == "before":
            os._exit(137)
        if name == "write":  # torn in the middle
            real(args[0], bytes(args[1])[: len(args[1]) // 2])
            os._exit(137)
        try:
            real(*args, **kwargs)
        finally:
            os._exit(137)
    setattr(module, name, call)

def work(path, text):
    store = LayoutStore(path)
    layer = (text * 1000).encode()
    with store.create() as writer:
        writer.write(layer[:100])
        writer.write(layer[100:])
        first, _ = writer.commit(INDEX_TYPE)
    config = Descriptor(CONFIG_TYPE, digest_of(text.encode()), len(text))
    store.push(config, io.BytesIO(text.encode()))
    manifest = Manifest(config, (first,), {"text": text}).encode()
    store.put_manifest(manifest, MANIFEST_TYPE, "app")
    store.put_manifest(manifest, MANIFEST_TYPE, "extra")
    store.untag("extra")

for line in sys.stdin:
    step, when, path, text = json.loads(line)
    pid = os.fork()
    if pid == 0:
        left = [step]
        for name in "open write fsync replace mkdir unlink close utime stat".split():
            wrap(os, name, left, when)
        wrap(fcntl, "flock", left, when)
        try:
            work(path, text)
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""

Run = Callable[[int, str, Path, str], int]


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """Do the work in a process that dies at a step (0: never), and return its exit status.

    Hundreds are needed, so one server forks them all; pytest itself may have threads.
    """
    root = str(Path(packer.errors.__file__).parents[1])
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, root],
        cwd="/",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as server:
        assert server.stdin
        assert server.stdout
        to, answers = server.stdin, server.stdout

        def run(step: int, when: str, path: Path, text: str) -> int:
            to.write(json.dumps([step, when, str(path), text]).encode() + b"\n")
            to.flush()
            return int(answers.readline())

        yield run
        to.close()


def examine(path: Path) -> list[str]:
    """Check the invariants of a layout, and return its tags."""
    if not (path / "oci-layout").exists():
        return []
    store = LayoutStore(path, create=False)
    blobs = path / "blobs" / "sha256"
    for blob in blobs.iterdir() if blobs.exists() else ():
        assert digest_of(blob.read_bytes()) == "sha256:" + blob.name, "wrong bytes under a digest"
    tags = dict(store.tags())
    for tag, descriptor in tags.items():
        manifest = Manifest.decode(store.get_manifest(tag)[1])
        assert store.resolve(tag) == descriptor
        for blob_descriptor in (manifest.config, *manifest.layers):
            read_blob(store, blob_descriptor, 1 << 20)
    return list(tags)


def text_of(path: Path) -> str:
    return Manifest.decode(LayoutStore(path).get_manifest("app")[1]).annotations["text"]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("start", ["nothing", "a version"])
def test_killed_at_every_step(run: Run, tmp_path: Path, when: str, start: str) -> None:
    step, states = 0, set()
    while True:
        step += 1
        path = tmp_path / str(step)
        if start == "a version":
            assert run(0, when, path, "old") == 0
            assert text_of(path) == "old"
        status = run(step, when, path, "new")
        tags = examine(path)
        if start == "a version":
            assert "app" in tags  # at every moment the old one or the new one, whole
            states.add(text_of(path))
        else:
            states.add(str(tags))
        if status == 0:
            break
        assert status == KILLED
        assert run(0, when, path, "new") == 0, "the second try"
        assert examine(path) == ["app"]
        assert text_of(path) == "new"
        assert step < 500
    assert step > 40, "the calls of the store are not being counted"
    if start == "a version":
        assert states == {"old", "new"}
    else:
        assert states >= {"[]", "['app']"}


def test_a_second_try_removes_what_the_first_left(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "layout"
    step = 0
    while not (path / "ingest").exists() or not list((path / "ingest").glob("*.tmp")):
        step += 1
        assert run(step, "after", path, "new") == KILLED
    for leftover in (path / "ingest").glob("*.tmp"):
        os.utime(leftover, (0, 0))
    assert run(0, "after", path, "new") == 0
    assert os.listdir(path / "ingest") == ["lock"]


# A full disk


def describe(data: bytes, media_type: str = INDEX_TYPE) -> Descriptor:
    return Descriptor(media_type, digest_of(data), len(data))


@pytest.fixture
def limited() -> Iterator[Callable[[int], None]]:
    """Let no file grow beyond a number of bytes, as a full disk would; undone after the test."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_blob_that_does_not_fit_leaves_nothing(
    tmp_path: Path, limited: Callable[[int], None]
) -> None:
    store = LayoutStore(tmp_path / "layout")
    data = os.urandom(300_000)
    blob = describe(data)
    limited(100_000)
    with pytest.raises(OSError) as caught:
        store.push(blob, io.BytesIO(data))
    assert caught.value.errno == errno.EFBIG
    with pytest.raises(OSError), store.create() as writer:
        for at in range(0, len(data), 1000):  # some writes fit, one fits in part, one does not
            writer.write(data[at : at + 999])
    assert not store.exists(blob)
    assert os.listdir(tmp_path / "layout" / "blobs" / "sha256") == []
    assert os.listdir(tmp_path / "layout" / "ingest") == ["lock"]
    limited(resource.RLIM_INFINITY)
    assert store.push(blob, io.BytesIO(data))
    assert read_blob(store, blob, 1 << 20) == data


def test_an_index_that_does_not_fit_leaves_the_tags_alone(
    tmp_path: Path, limited: Callable[[int], None]
) -> None:
    store = LayoutStore(tmp_path / "layout")
    config = describe(b"{}", CONFIG_TYPE)
    store.push(config, io.BytesIO(b"{}"))
    store.push(describe(b"layer"), io.BytesIO(b"layer"))
    manifest = Manifest(config, (describe(b"layer"),)).encode()
    for number in range(20):
        store.put_manifest(manifest, MANIFEST_TYPE, f"v{number}")
    before = (tmp_path / "layout" / "index.json").read_bytes()
    limited(len(before))
    assert len(manifest) < len(before)  # the manifest fits, the index with one more tag does not
    other = Manifest(config, (describe(b"layer"),), {"x": "y"}).encode()
    with pytest.raises(OSError):
        store.put_manifest(other, MANIFEST_TYPE, "v20")
    assert (tmp_path / "layout" / "index.json").read_bytes() == before
    with pytest.raises(NotFound):
        store.resolve("v20")
    assert os.listdir(tmp_path / "layout" / "ingest") == ["lock"]
    limited(resource.RLIM_INFINITY)
    store.put_manifest(other, MANIFEST_TYPE, "v20")
    assert examine(tmp_path / "layout")[-1] == "v20"


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB; needs root."""
    point = tmp_path / "disk"
    point.mkdir()
    try:
        made = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(point)], capture_output=True
        )
    except FileNotFoundError:
        pytest.skip("there is no mount program")
    if made.returncode:
        pytest.skip(f"cannot mount a tmpfs: {made.stderr.decode().strip()}")
    yield point
    subprocess.run(["umount", "--lazy", str(point)], check=True)


def test_a_disk_that_fills_up(tiny_disk: Path) -> None:
    path = tiny_disk / "layout"
    store = LayoutStore(path)
    kept = []
    with pytest.raises(OSError) as caught:
        for number in range(1000):
            data = bytes([number % 256]) * 20_000 + str(number).encode()
            config = describe(b"{}", CONFIG_TYPE)
            store.push(config, io.BytesIO(b"{}"))
            store.push(describe(data), io.BytesIO(data))
            manifest = Manifest(config, (describe(data),)).encode()
            store.put_manifest(manifest, MANIFEST_TYPE, f"v{number}")
            kept.append(f"v{number}")
    assert caught.value.errno == errno.ENOSPC
    assert len(kept) > 3
    assert examine(path) == kept
    assert os.listdir(path / "ingest") == ["lock"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failing_call_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    # A flush that fails (EIO) must not be taken for done: the pages may be gone.
    store = LayoutStore(tmp_path / "layout")
    store.push(describe(b"first"), io.BytesIO(b"first"))

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "the disk is dying")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        if call == "fsync":
            patch.setattr("packer.files.durable.sync", fail)
        with pytest.raises(OSError, match="dying"):
            store.push(describe(b"second"), io.BytesIO(b"second"))
    assert not store.exists(describe(b"second"))
    assert os.listdir(tmp_path / "layout" / "ingest") == ["lock"]
    assert store.push(describe(b"second"), io.BytesIO(b"second"))


def test_everything_is_flushed_before_what_depends_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A killed process loses nothing the kernel has; a power cut does. Without a disk to cut off,
    # what can be checked is the order: file, its name, the name's directory, then the next one.
    path = tmp_path / "layout"
    store = LayoutStore(path)
    events: list[str] = []
    real_sync, real_directory, real_replace = durable.sync, durable.sync_directory, os.replace

    def sync(fd: int) -> None:
        events.append("flush file")
        real_sync(fd)

    def sync_directory(name: str) -> None:
        events.append(f"flush {os.path.relpath(name, path)}")
        real_directory(name)

    def replace(source: str, target: str) -> None:
        events.append(f"name {os.path.relpath(target, path)}")
        real_replace(source, target)

    monkeypatch.setattr(durable, "sync", sync)
    for module in ("files.durable", "stores.layout_directory"):
        monkeypatch.setattr(f"packer.{module}.sync_directory", sync_directory)
    monkeypatch.setattr(os, "replace", replace)

    def written(name: str, directory: str) -> list[str]:
        return ["flush file", f"name {name}", f"flush {directory}"]

    config = describe(b"{}", CONFIG_TYPE)
    store.push(config, io.BytesIO(b"{}"))
    with store.create() as writer:
        writer.write(b"layer")
        layer, _ = writer.commit(INDEX_TYPE)
    manifest = Manifest(config, (layer,)).encode()
    store.put_manifest(manifest, MANIFEST_TYPE, "app")
    blobs = [config.digest[7:], layer.digest[7:], digest_of(manifest)[7:]]
    expected = [step for name in blobs for step in written(f"blobs/sha256/{name}", "blobs/sha256")]
    assert events == [*expected, *written("index.json", ".")]

    # What another process has just named may not be durable yet when we find it.
    events.clear()
    store.put_manifest(manifest, MANIFEST_TYPE, "app2")
    assert events == ["flush blobs/sha256", *written("index.json", ".")]
    # And a tag that is where it should be costs no flush of the index.
    events.clear()
    store.put_manifest(manifest, MANIFEST_TYPE, "app2")
    assert events == ["flush blobs/sha256"]
