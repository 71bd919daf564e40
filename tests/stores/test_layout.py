"""What is particular to the layout: other tools' layouts, hostile ones, processes, garbage."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import packer.errors
from packer.engine.native import lib
from packer.errors import (
    FormatError,
    IntegrityError,
    InvalidParameter,
    NotFound,
    StoreError,
    UnsupportedVersion,
)
from packer.oci import (
    CONFIG_TYPE,
    DATA_TYPE,
    INDEX_TYPE,
    MANIFEST_TYPE,
    Descriptor,
    Manifest,
    canonical_json,
    digest_of,
)
from packer.stores.layout import LayoutStore
from packer.stores.protocols import read_blob

REF_NAME = "org.opencontainers.image.ref.name"
HOUR = 3600.0


def python(program: str, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a Python process that imports the same packer, whether it is installed or not."""
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, "PYTHONPATH": str(Path(packer.errors.__file__).parents[1])},
        cwd="/",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def push(store: LayoutStore, data: bytes, media_type: str = DATA_TYPE) -> Descriptor:
    blob = Descriptor(media_type, digest_of(data), len(data))
    store.push(blob, io.BytesIO(data))
    return blob


def put(store: LayoutStore, text: str, tag: str | None) -> Descriptor:
    config = push(store, f'{{"text":"{text}"}}'.encode(), CONFIG_TYPE)
    manifest = Manifest(config, (push(store, text.encode(), INDEX_TYPE),))
    return store.put_manifest(manifest.encode(), MANIFEST_TYPE, tag)


def blob_path(store: LayoutStore, digest: str) -> Path:
    return Path(store.path, "blobs", "sha256", digest[7:])


def index_of(store: LayoutStore) -> Any:
    return json.loads(Path(store.path, "index.json").read_bytes())


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def snapshot(path: Path) -> dict[str, bytes | None]:
    return {
        str(item.relative_to(path)): item.read_bytes() if item.is_file() else None
        for item in path.rglob("*")
    }


@pytest.fixture
def store(tmp_path: Path) -> LayoutStore:
    return LayoutStore(tmp_path / "layout")


# Opening


def test_a_new_layout_is_one_by_the_specification(tmp_path: Path) -> None:
    store = LayoutStore(tmp_path / "some" / "deep" / "place")
    root = Path(store.path)
    assert json.loads((root / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    assert json.loads((root / "index.json").read_bytes()) == {"schemaVersion": 2, "manifests": []}
    assert (root / "blobs").is_dir()
    assert store.name == f"oci:{root}"


def test_an_empty_directory_becomes_a_layout(tmp_path: Path) -> None:
    LayoutStore(tmp_path)
    assert (tmp_path / "oci-layout").exists()


def test_create_false_makes_nothing(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(NotFound) as caught:
            LayoutStore(path, create=False)
        assert str(path) in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    LayoutStore(tmp_path / "made")
    LayoutStore(tmp_path / "made", create=False)


def test_late_makes_it_when_something_is_written(tmp_path: Path) -> None:
    for path in (tmp_path / "a" / "b", tmp_path):
        store = LayoutStore(path, late=True)
        blob = Descriptor("x", digest_of(b"abc"), 3)
        assert not store.exists(blob)
        assert list(store.tags()) == []
        for work in (store.resolve, store.get_manifest, store.untag):
            with pytest.raises(NotFound):
                work("v1")
        with pytest.raises(NotFound):
            store.resolve(blob.digest)
        with pytest.raises(NotFound):
            store.fetch(blob)
        assert not store.discard(blob)
        assert list(tmp_path.iterdir()) == []
    late = LayoutStore(tmp_path / "mine", late=True)
    with ThreadPoolExecutor(8) as pool:
        news = list(pool.map(lambda _: late.push(blob, io.BytesIO(b"abc")), range(8)))
    assert any(news)
    assert LayoutStore(tmp_path / "mine", create=False).exists(blob)


def test_late_finds_what_another_process_makes(tmp_path: Path) -> None:
    late = LayoutStore(tmp_path / "store", late=True)
    blob = Descriptor("x", digest_of(b"abc"), 3)
    LayoutStore(tmp_path / "store").push(blob, io.BytesIO(b"abc"))
    assert late.exists(blob)
    assert not late.push(blob, io.BytesIO(b"abc"))
    other = Descriptor("x", digest_of(b"abcd"), 4)
    assert late.push(other, io.BytesIO(b"abcd"))
    assert LayoutStore(tmp_path / "store", create=False).exists(other)


def test_late_takes_nothing_else_for_a_layout(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path, tmp_path / "file"):
        with pytest.raises(InvalidParameter):
            LayoutStore(path, late=True)
    below = LayoutStore(tmp_path / "file" / "store", late=True)
    with pytest.raises(NotFound):
        below.resolve("v1")
    with pytest.raises(NotADirectoryError):
        below.create()


@pytest.mark.parametrize("create", [True, False])
def test_a_directory_of_something_else_is_left_alone(tmp_path: Path, create: bool) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "index.json").write_text("{}")
    before = snapshot(tmp_path)
    with pytest.raises(InvalidParameter, match="not empty") as caught:
        LayoutStore(tmp_path, create=create)
    assert str(tmp_path) in str(caught.value)
    assert snapshot(tmp_path) == before


def test_a_file_is_no_layout(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InvalidParameter, match="not a directory"):
        LayoutStore(tmp_path / "file")


def test_a_relative_path_holds_when_the_process_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = LayoutStore("here")
    monkeypatch.chdir("/")
    assert put(store, "text", "app") == LayoutStore(tmp_path / "here").resolve("app")


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b'{"imageLayoutVersion":"2.0.0"}', UnsupportedVersion),
        (b'{"imageLayoutVersion":1}', UnsupportedVersion),
        (b"{}", UnsupportedVersion),
        (b"", FormatError),
        (b'{"imageLayoutVersion":' + b" " * 5000, FormatError),
    ],
)
def test_a_strange_marker_is_refused(
    tmp_path: Path, content: bytes, error: type[Exception]
) -> None:
    (tmp_path / "oci-layout").write_bytes(content)
    with pytest.raises(error) as caught:
        LayoutStore(tmp_path)
    assert "oci-layout" in str(caught.value)
    assert os.listdir(tmp_path) == ["oci-layout"]


def test_opening_and_reading_write_nothing(tmp_path: Path, store: LayoutStore) -> None:
    descriptor = put(store, "text", "app")
    shutil.rmtree(tmp_path / "layout" / "ingest")  # as a layout of another tool
    before = snapshot(tmp_path)
    reader = LayoutStore(tmp_path / "layout")
    assert reader.get_manifest("app")[0] == descriptor
    assert list(reader.tags()) == [("app", descriptor)]
    assert snapshot(tmp_path) == before
    put(reader, "more", "app2")  # and it can be written to


# Other tools


def make_foreign(path: Path, *, names: list[str | None]) -> tuple[list[Descriptor], Descriptor]:
    """Write a layout as another tool might, with fields and files of its own."""
    blobs = path / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    found = []
    config, layer = b"{}", b"layer"
    for number, name in enumerate(names):
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "config": Descriptor("application/x", digest_of(config), 2).to_json(),
                "layers": [Descriptor("application/y", digest_of(layer), 5).to_json()],
                "annotations": {"n": str(number)},
            },
            indent=3,
        ).encode()
        annotations = {} if name is None else {REF_NAME: name}
        found.append(Descriptor(MANIFEST_TYPE, digest_of(manifest), len(manifest), annotations))
        (blobs / digest_of(manifest)[7:]).write_bytes(manifest)
    (blobs / digest_of(config)[7:]).write_bytes(config)
    (blobs / digest_of(layer)[7:]).write_bytes(layer)
    (path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0", "x": 1}\n')
    entries: list[Any] = [{**item.to_json(), "platform": {"os": "linux"}} for item in found]
    entries.insert(0, {"mediaType": "a/b", "digest": "sha512:" + "0" * 128, "size": 9})
    (path / "index.json").write_text(
        json.dumps({"schemaVersion": 2, "manifests": entries, "annotations": {"by": "x"}}, indent=2)
    )
    (path / "README").write_text("an extra file")
    (path / "blobs" / "sha512").mkdir()
    return found, Descriptor("application/y", digest_of(layer), 5)


def test_a_single_manifest_without_a_name(tmp_path: Path) -> None:
    (only,), layer = make_foreign(tmp_path / "f", names=[None])
    store = LayoutStore(tmp_path / "f")
    assert list(store.tags()) == []
    assert store.sole_manifest() == only
    assert store.resolve(only.digest) == only
    assert store.get_manifest(only.digest)[0] == only
    assert read_blob(store, layer, 5) == b"layer"


def test_sole_manifest_wants_exactly_one(tmp_path: Path, store: LayoutStore) -> None:
    with pytest.raises(NotFound):
        store.sole_manifest()
    make_foreign(tmp_path / "f", names=["a", None])
    with pytest.raises(InvalidParameter, match="2 manifests"):
        LayoutStore(tmp_path / "f").sole_manifest()


def test_entries_and_files_of_others_are_kept(tmp_path: Path) -> None:
    (named, unnamed), _ = make_foreign(tmp_path / "f", names=["theirs", None])
    store = LayoutStore(tmp_path / "f")
    before = index_of(store)
    put(store, "ours", "ours")
    after = index_of(store)
    assert after["manifests"][:-1] == before["manifests"]  # sha512, platform and all
    assert after["annotations"] == {"by": "x"}
    assert [tag for tag, _ in store.tags()] == ["theirs", "ours"]
    store.untag("theirs")
    assert store.resolve(unnamed.digest) == unnamed
    assert store.get_manifest(named.digest)[0] == named  # unlisted now; its media type is implied
    assert (tmp_path / "f" / "README").exists()
    assert store.collect_garbage(-HOUR).blobs == 1  # the untagged manifest; its blobs are shared


def test_a_name_listed_twice_means_the_last(tmp_path: Path) -> None:
    (_, second), _ = make_foreign(tmp_path / "f", names=["app", "app"])
    store = LayoutStore(tmp_path / "f")
    assert list(store.tags()) == [("app", second)]
    put(store, "text", "app")
    assert [entry.get("annotations") for entry in index_of(store)["manifests"]] == [
        None,  # the sha512 one
        {REF_NAME: "app"},
    ]


def test_a_missing_blob_leaves_the_layout_readable(store: LayoutStore) -> None:
    lost, kept = put(store, "lost", "lost"), put(store, "kept", "kept")
    blob_path(store, lost.digest).unlink()
    assert [tag for tag, _ in store.tags()] == ["lost", "kept"]
    assert store.get_manifest("kept")[0] == kept
    with pytest.raises(NotFound) as caught:
        store.get_manifest("lost")
    assert caught.value.kind == "manifest"
    # Not knowing what the lost one needs, nothing may be removed.
    push(store, b"garbage")
    with pytest.raises(NotFound):
        store.collect_garbage(-HOUR)
    assert blob_path(store, digest_of(b"garbage")).exists()
    put(store, "lost", "lost")
    assert store.collect_garbage(-HOUR).bytes == 7


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed")
def test_skopeo_reads_the_layout_and_we_read_its(tmp_path: Path, store: LayoutStore) -> None:
    def skopeo(*arguments: str) -> bytes:
        return subprocess.run(
            ["skopeo", *arguments], check=True, capture_output=True, timeout=60
        ).stdout

    for tag in ("v1.0", "app:2.1-rc.1"):
        descriptor = put(store, f"text of {tag}", tag)
        source = f"oci:{store.path}:{tag}"
        raw = skopeo("inspect", "--raw", source)
        assert (digest_of(raw), len(raw)) == (descriptor.digest, descriptor.size)
    skopeo("copy", "--preserve-digests", "--insecure-policy", source, f"oci:{tmp_path}/copy:x")
    copied = LayoutStore(tmp_path / "copy", create=False)
    assert copied.get_manifest("x") == (descriptor, raw)
    for layer in Manifest.decode(raw).layers:
        assert read_blob(copied, layer, 100) == read_blob(store, layer, 100)
    put(copied, "more", "more")
    assert skopeo("inspect", "--raw", f"oci:{tmp_path}/copy:x") == raw


# Hostile input


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b"not json",
        b'{"schemaVersion":1,"manifests":[]}',
        b'{"schemaVersion":2,"manifests":{}}',
        b'{"schemaVersion":2,"manifests":[7]}',
        b'{"schemaVersion":2,"manifests":[{}]}',
        b'{"schemaVersion":2,"manifests":[{"mediaType":"a","digest":"sha256:../../x","size":1}]}',
        b'{"schemaVersion":2,"manifests":[{"mediaType":"a","digest":"sha256:'
        + b"0" * 64
        + b'","size":-1}]}',
        b'{"schemaVersion":2,"manifests":[{"mediaType":"a","digest":"sha256:'
        + b"0" * 64
        + b'","size":1,"annotations":{"org.opencontainers.image.ref.name":{}}}]}',
        b'{"schemaVersion":2,"manifests":' + b"[" * 200_000,
        b'{"schemaVersion":2,"manifests":[]' + b" " * (5 << 20) + b"}",
    ],
)
def test_a_hostile_index_is_a_typed_error_that_names_the_file(
    store: LayoutStore, content: bytes
) -> None:
    path = Path(store.path, "index.json")
    path.write_bytes(content)
    data = canonical_json({"config": push(store, b"{}", CONFIG_TYPE).to_json()})
    for call in (
        lambda: list(store.tags()),
        lambda: store.resolve("app"),
        lambda: store.get_manifest("app"),
        lambda: store.untag("app"),
        lambda: store.put_manifest(data, MANIFEST_TYPE, "app"),
        lambda: store.collect_garbage(-HOUR),
    ):
        with pytest.raises(IntegrityError) as caught:
            call()
        assert str(path) in str(caught.value)
        pickle.loads(pickle.dumps(caught.value))
    assert path.read_bytes() == content  # what we do not understand we do not overwrite


def test_a_lone_surrogate_in_a_foreign_index_survives(store: LayoutStore) -> None:
    path = Path(store.path, "index.json")
    path.write_bytes(b'{"schemaVersion":2,"manifests":[],"annotations":{"x":"\\ud800"}}')
    put(store, "text", "app")
    assert index_of(store)["annotations"] == {"x": "\ud800"}


def test_an_index_is_not_grown_beyond_what_we_read(store: LayoutStore) -> None:
    descriptor = put(store, "text", "app")
    path = Path(store.path, "index.json")
    entry = index_of(store)["manifests"][0]
    many = [{**entry, "annotations": {REF_NAME: f"v{n}"}} for n in range((4 << 20) // 330)]
    path.write_text(json.dumps({"schemaVersion": 2, "manifests": many}, separators=(",", ":")))
    room = (4 << 20) - path.stat().st_size
    assert room > 0
    path.write_bytes(
        path.read_bytes()[:-1] + b',"annotations":{"x":"' + b"." * (room - 24) + b'"}}'
    )
    before = path.read_bytes()
    with pytest.raises(StoreError, match="remove old tags"):
        store.put_manifest(store.get_manifest(descriptor.digest)[1], MANIFEST_TYPE, "one-more")
    assert path.read_bytes() == before
    assert store.resolve("v0") == descriptor


@pytest.mark.parametrize("kind", ["directory", "fifo"])
def test_a_blob_that_is_no_file_neither_blocks_nor_counts(store: LayoutStore, kind: str) -> None:
    blob = Descriptor(DATA_TYPE, digest_of(b""), 0)
    path = blob_path(store, blob.digest)
    if kind == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    assert not store.exists(blob)
    with pytest.raises(NotFound):
        store.fetch(blob)
    with pytest.raises(NotFound):
        store.get_manifest(blob.digest)
    assert store.discard(blob) is False
    store.collect_garbage(-HOUR)


def test_a_layer_is_no_manifest(store: LayoutStore) -> None:
    for data in (b"bytes", b"{}", b'{"mediaType":"application/json"}'):
        blob = push(store, data)
        with pytest.raises(NotFound) as caught:
            store.resolve(blob.digest)
        assert caught.value.kind == "manifest"


def test_a_manifest_may_not_claim_to_be_huge(store: LayoutStore) -> None:
    path = Path(store.path, "index.json")
    digest = digest_of(b"x")
    entry = Descriptor(MANIFEST_TYPE, digest, 1 << 40, {REF_NAME: "huge"}).to_json()
    path.write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    blob_path(store, digest).touch()
    os.truncate(blob_path(store, digest), 1 << 40)  # sparse
    with pytest.raises(FormatError) as caught:
        store.get_manifest("huge")
    assert digest in str(caught.value)


def test_large_files_go_to_the_disk_while_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []

    class Spy:
        def __getattr__(self, name: str) -> Any:
            return getattr(lib, name)

        def pk_start_writeback(self, fd: int) -> None:
            lib.pk_start_writeback(fd)
            started.append(os.fstat(fd).st_size)

    monkeypatch.setattr("packer.files.syscalls.lib", Spy())
    data = random.Random(1).randbytes(9 << 20)
    (tmp_path / "large").write_bytes(data)
    packer.pack(tmp_path / "large", store=tmp_path / "store", tag="v:1")
    assert started
    assert max(started) < len(data)  # long before the end
    started.clear()
    packer.unpack("v:1", tmp_path / "out", store=tmp_path / "store")
    assert started
    assert (tmp_path / "out" / "large").read_bytes() == data
    lib.pk_start_writeback(-1)  # what cannot be done is left to the sync
