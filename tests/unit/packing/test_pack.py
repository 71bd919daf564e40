"""Packing: what becomes of a tree, which base is used, what is refused."""

from __future__ import annotations

import gzip
import os
import random
import socket
import sys
import time
from pathlib import Path

import pytest

import packer
from packer.engine import zstd
from packer.engine.chunking import ChunkParams
from packer.format import layer_writer
from packer.format.index_checks import MAX_DEPTH
from packer.packing.older import compaction
from packer.packing.older.bases import family, version_label
from packer.stores.layout import LayoutStore
from packer.stores.memory import MemoryStore
from tests.builders import text, write
from tests.conformance.make_samples import read_tree
from tests.updates import texts


def restored(store: object, name: str, target: Path) -> dict[bytes, object]:
    packer.unpack(name, target, store=store)  # type: ignore[arg-type]
    return dict(read_tree(target))


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def test_names_links_modes_and_empty_things_survive(tmp_path: Path, store: MemoryStore) -> None:
    root = tmp_path / "v"
    write(root, {"empty": b"", "dir/one": b"1", "read-only": b"r", "program": b"#!"})
    (root / "empty-dir/inner").mkdir(parents=True)
    os.symlink("nowhere", root / "dangling")
    os.symlink("loop", root / "loop")
    os.symlink("/etc/passwd", root / "absolute")
    os.symlink("..", root / "dir/parent")
    os.link(root / "dir/one", root / "hard")
    (root / "program").chmod(0o755)
    (root / "read-only").chmod(0o444)
    (root / "dir").chmod(0o555)
    if sys.platform == "linux":
        raw = bytes(byte for byte in range(1, 256) if byte != ord("/"))
        with open(os.path.join(os.fsencode(root), raw), "wb") as file:
            file.write(b"x")
    packed = packer.pack(root, store=store, tag="t")
    assert restored(store, "t", tmp_path / "out") == dict(read_tree(root))
    assert packed.bytes == sum(len(e[2]) for e in read_tree(root).values() if e[0] == 1)
    (root / "dir").chmod(0o755)
    (tmp_path / "out/dir").chmod(0o755)


@pytest.mark.parametrize("files", [{}, {"a": b""}, {"a": b"x"}])
def test_tiny_trees(tmp_path: Path, store: MemoryStore, files: dict[str, bytes]) -> None:
    root = write(tmp_path / "v", files)
    root.mkdir(exist_ok=True)
    packer.pack(root, store=store, tag="t")
    assert restored(store, "t", tmp_path / "out") == dict(read_tree(root))
    packer.verify("t", store=store)


def test_a_single_file_is_a_version(tmp_path: Path, store: MemoryStore) -> None:
    (tmp_path / "bundle-1.0.tgz").write_bytes(text(1, 300_000))
    packed = packer.pack(tmp_path / "bundle-1.0.tgz", store=store)
    assert packed.tag == "bundle-1.0.tgz"
    packer.unpack("bundle-1.0.tgz", tmp_path / "out", store=store)
    assert (tmp_path / "out/bundle-1.0.tgz").read_bytes() == text(1, 300_000)


def test_files_around_the_sizes_of_chunks(tmp_path: Path, store: MemoryStore) -> None:
    params = ChunkParams(4096)
    sizes = [s + d for s in (2048, 4096, 6144, 8192) for d in (-1, 0, 1)] + [1, 100_000]
    root = write(tmp_path / "v", {f"f{size}": text(size, size) for size in sizes})
    packer.pack(root, store=store, tag="t", params=params)
    assert restored(store, "t", tmp_path / "out") == dict(read_tree(root))


def test_fifo_and_socket_are_refused_by_name(tmp_path: Path, store: MemoryStore) -> None:
    root = write(tmp_path / "v", {"a": b"x"})
    os.mkfifo(root / "pipe")
    with pytest.raises(packer.UnsupportedFile, match=r"pipe.*fifo"):
        packer.pack(root, store=store, tag="t")
    (root / "pipe").unlink()
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(root)  # the name of a socket must be short
        server.bind("sock")
        os.chdir(here)
        with pytest.raises(packer.UnsupportedFile, match=r"sock.*socket"):
            packer.pack(root, store=store, tag="t")
    assert list(store.tags()) == []


def test_identical_content_is_the_same_version_and_adds_nothing(tmp_path: Path) -> None:
    layout = LayoutStore(str(tmp_path / "store"))
    one = write(tmp_path / "app-1.0", {"a": text(1, 200_000), "b/c": b"x"})
    first = packer.pack(one, store=layout)
    blobs = sorted((tmp_path / "store/blobs/sha256").iterdir())
    for again in (
        packer.pack(one, store=layout),
        packer.pack(
            write(tmp_path / "app-1.1", {"a": text(1, 200_000), "b/c": b"x"}), store=layout
        ),
    ):
        assert (again.digest, again.new_bytes, again.unchanged) == (first.digest, 0, True)
    assert sorted((tmp_path / "store/blobs/sha256").iterdir()) == blobs
    assert [row.tag for row in packer.versions(store=layout)] == ["app-1.0", "app-1.1"]


def test_going_back_to_an_older_version_adds_nothing(tmp_path: Path, store: MemoryStore) -> None:
    one = write(tmp_path / "one", {"a": text(1, 200_000)})
    two = write(tmp_path / "two", {"a": text(2, 200_000)})
    first = packer.pack(one, store=store, tag="app:1")
    packer.pack(two, store=store, tag="app:2")
    third = packer.pack(one, store=store, tag="app:3")
    assert (third.digest, third.new_bytes) == (first.digest, 0)


@pytest.mark.slow
def test_two_machines_write_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    digests = set()
    for cores in (1, 2, 7):
        monkeypatch.setattr(os, "cpu_count", lambda cores=cores: cores)
        other = MemoryStore()
        root = write(tmp_path / "v", {f"{n}": text(n, 3_000_000) for n in range(3)})
        packer.pack(root, store=other, tag="app:1")
        (root / "1").write_bytes(text(1, 3_000_000).replace(b": 1", b": 2"))
        digests.add(packer.pack(root, store=other, tag="app:2").digest)
    assert len(digests) == 1


def test_the_time_is_in_the_manifest_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write(tmp_path / "v", {"a": text(1, 100_000)})
    found = []
    for epoch in ("0", "1700000000"):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)
        other = MemoryStore()
        packer.pack(root, store=other, tag="t")
        found.append(packer.open_version("t", store=other).manifest)
    assert found[0].layers == found[1].layers
    assert found[0].config == found[1].config
    assert found[0].annotations["org.opencontainers.image.created"] == "1970-01-01T00:00:00Z"
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "tomorrow")
    with pytest.raises(packer.InvalidParameter, match="SOURCE_DATE_EPOCH"):
        packer.pack(root, store=MemoryStore(), tag="t")


@pytest.mark.parametrize(
    ("tag", "name", "label"),
    [
        ("app:1.4.2", "app", "1.4.2"),
        ("registry:5000/acme/app:1", "registry:5000/acme/app", "1"),
        ("app-1.4.2", "app", "1.4.2"),
        ("app_v2", "app", "2"),
        ("app-1.4.2-rc.1", "app", "1.4.2-rc.1"),
        ("bundle-1.0.tar.gz", "bundle", "1.0"),
        ("app", "app", ""),
    ],
)
def test_families_of_tags(tag: str, name: str, label: str) -> None:
    assert family(tag) == name
    assert version_label(tag).lstrip("v") == label


def test_base_is_the_version_tagged_last_in_the_family(tmp_path: Path, store: MemoryStore) -> None:
    root = write(tmp_path / "v", {"a": text(1, 500_000)})
    packer.pack(root, store=store, tag="app:1")
    (root / "b").write_bytes(b"2")
    two = packer.pack(root, store=store, tag="app:2")
    (root / "c").write_bytes(b"3")
    other = packer.pack(root, store=store, tag="other:1")
    assert other.parent == ""
    assert other.new_bytes > 10_000
    three = packer.pack(root, store=store, tag="app:3", base=None)
    assert three.parent == two.digest
    (root / "d").write_bytes(b"4")
    assert packer.pack(root, store=store, tag="x", base="none").parent == ""
    assert packer.pack(root, store=store, tag="y", base="app:2").parent == two.digest
    assert packer.pack(root, store=store, tag="z", base=two.digest).parent == two.digest
    with pytest.raises(packer.NotFound, match="missing:1"):
        packer.pack(root, store=store, tag="z", base="missing:1")


def test_other_chunk_sizes_start_afresh(tmp_path: Path, store: MemoryStore) -> None:
    root = write(tmp_path / "v", {"a": text(1, 500_000)})
    packer.pack(root, store=store, tag="app:1")
    again = packer.pack(root, store=store, tag="app:2", params=ChunkParams(8192))
    assert (again.parent, again.unchanged) == ("", False)
    assert restored(store, "app:2", tmp_path / "out") == dict(read_tree(root))


def test_the_size_of_a_version_decides_the_level(tmp_path: Path, store: MemoryStore) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(layer_writer.LARGE_BYTES)

    def level(tag: str, given: int | None = None, opening: str = "changed") -> int:
        packer.pack(tmp_path, store=store, tag=tag, level=given, opening=opening)
        return packer.inspect(tag, store=store).level

    assert level("app:1") == zstd.DEFAULT_LEVEL
    (tmp_path / "small").write_bytes(b"x")
    assert level("app:2") == zstd.LARGE_LEVEL
    (tmp_path / "small").write_bytes(b"y")
    assert level("app:3", 12) == 12
    (tmp_path / "small").write_bytes(b"z")
    assert level("app:4", opening="all") == zstd.DEFAULT_LEVEL


def test_text_among_what_is_compressed_takes_the_stronger_level(tmp_path: Path) -> None:
    words = b"\n".join(texts(files=60).values())
    noise = random.Random(1).randbytes(len(words))
    stored = {}
    for name, data in (("text", words), ("mixed", words + noise)):
        root = write(tmp_path / name, {"a": data})
        for level in (zstd.LARGE_LEVEL, zstd.DEFAULT_LEVEL):
            store = MemoryStore()
            packer.pack(root, store=store, tag="app:1", level=level)
            stored[name, level] = packer.inspect("app:1", store=store).layers[0].size
    assert stored["text", zstd.LARGE_LEVEL] > stored["text", zstd.DEFAULT_LEVEL]
    assert stored["mixed", zstd.LARGE_LEVEL] == stored["mixed", zstd.DEFAULT_LEVEL]


@pytest.mark.parametrize("level", [0, 23])
def test_level_out_of_range(tmp_path: Path, store: MemoryStore, level: int) -> None:
    with pytest.raises(packer.InvalidParameter, match="level"):
        packer.pack(tmp_path, store=store, level=level)


def test_a_bad_tag_is_refused_before_anything_is_read(tmp_path: Path, store: MemoryStore) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(packer.InvalidParameter, match="tag"):
        packer.pack(tmp_path, store=store, tag="no tag")


# Deltas: what a change costs -------------------------------------------------------------------


def edited(data: bytes, number: int = 1) -> bytes:
    middle = len(data) // 2
    return data[:middle] + f"# edit {number}\n".encode() + data[middle:]


BIG = {f"charts/app-1.4.1/{n}.yaml": text(n, 150_000) for n in range(6)}


@pytest.mark.parametrize("change", ["edited", "moved", "renamed", "version-in-path", "split"])
def test_a_changed_file_finds_its_older_self(
    tmp_path: Path, store: MemoryStore, change: str
) -> None:
    # Without counterparts and sketches each of these costs what the files cost, about 300 KB.
    packer.pack(write(tmp_path / "one", BIG), store=store, tag="app:1")
    new = {name: edited(data) for name, data in BIG.items()}
    if change == "moved":
        new = {"elsewhere/" + name.rpartition("/")[2]: data for name, data in new.items()}
    elif change == "renamed":
        new = {f"x/{'abcdef'[n]}": data for n, data in enumerate(new.values())}
    elif change == "version-in-path":
        new = {name.replace("1.4.1", "1.5.0"): data for name, data in new.items()}
    elif change == "split":
        new = {f"{n}{half}": data[half * 75_000 :][:75_000] for n, data in new.items()
               for half in (0, 1)}  # fmt: skip
    root = write(tmp_path / "two", new)
    packed = packer.pack(root, store=store, tag="app:2")
    assert packed.new_bytes < 16_000
    assert restored(store, "app:2", tmp_path / "out") == dict(read_tree(root))


@pytest.mark.slow
def test_copies_within_a_first_version_cost_little(tmp_path: Path) -> None:
    # KOTS archives hold upstream, base and rendered copies of the same manifests, far apart.
    files = {f"a/{n}": text(n, 1_000_000) for n in range(8)}
    alone = packer.pack(write(tmp_path / "v", files), store=MemoryStore(), tag="t")
    write(tmp_path / "v", {f"b/{n}": edited(files[f"a/{n}"]) for n in range(8)})
    both = packer.pack(tmp_path / "v", store=MemoryStore(), tag="t")
    assert both.new_bytes < alone.new_bytes * 1.1


@pytest.mark.slow
def test_a_long_history_stays_shallow_and_restorable(tmp_path: Path, store: MemoryStore) -> None:
    root = write(tmp_path / "v", {f"{n}": text(n, 40_000) for n in range(5)})
    trees = []
    for number in range(40):
        (root / "0").write_bytes(edited((root / "0").read_bytes(), number))
        packer.pack(root, store=store, tag=f"app:{number}")
        trees.append(dict(read_tree(root)))
        index = packer.open_version(f"app:{number}", store=store).index
        assert max(index.frame_depths) <= MAX_DEPTH
    for number in (0, 1, 15, 16, 17, 18, 38, 39):
        target = tmp_path / f"out{number}"
        assert restored(store, f"app:{number}", target) == trees[number]


def test_layers_stay_within_their_budget(
    tmp_path: Path, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Smaller limits than the real ones, so that the budget is met by 12 versions, not by 120.
    monkeypatch.setattr(compaction, "MAX_LAYERS", 8)
    monkeypatch.setattr(compaction, "KEPT_LAYERS", 4)
    root = tmp_path / "v"
    root.mkdir()
    for number in range(20):
        (root / f"{number}").write_bytes(os.urandom(2000))
        packed = packer.pack(root, store=store, tag=f"app:{number}")
        assert packed.layers <= 8
    for number in (0, 7, 8, 9, 19):
        packer.verify(f"app:{number}", store=store)
        assert len(restored(store, f"app:{number}", tmp_path / f"o{number}")) == number + 1


@pytest.mark.slow
def test_compaction_keeps_a_fresh_pull_cheap(tmp_path: Path, store: MemoryStore) -> None:
    rng = random.Random(5)
    root = write(tmp_path / "v", {f"{n}": rng.randbytes(100_000) for n in range(30)})
    for number in range(14):
        (root / f"{number}").write_bytes(rng.randbytes(100_000))
        packer.pack(root, store=store, tag=f"app:{number}")
        manifest = packer.open_version(f"app:{number}", store=store).manifest
        alone = packer.pack(root, store=MemoryStore(), tag="t").new_bytes
        pull = sum(item.size for item in manifest.layers)
        assert pull <= max(alone * 1.25, alone + compaction.SMALL_BYTES + 1000)
        packer.verify(f"app:{number}", store=store)


def test_compaction_leaves_large_updates_small(tmp_path: Path, store: MemoryStore) -> None:
    rng = random.Random(6)
    root = write(tmp_path / "v", {f"{n}": rng.randbytes(400_000) for n in range(5)})
    added = []
    for number in range(9):
        (root / f"{number % 5}").write_bytes(rng.randbytes(400_000))
        added.append(packer.pack(root, store=store, tag=f"app:{number}").new_bytes)
        manifest = packer.open_version(f"app:{number}", store=store).manifest
        assert sum(item.size for item in manifest.layers) <= 2_000_000 * 1.85
    assert sum(size > 500_000 for size in added[1:]) <= 3
    packer.verify("app:8", store=store)


def test_layers_of_large_versions_grow() -> None:
    assert layer_writer.layer_bytes_for(0) == layer_writer.LAYER_BYTES
    for size in (1 << 30, 1 << 34, 1 << 40):
        assert size / layer_writer.layer_bytes_for(size) <= layer_writer.LAYER_COUNT


# Files that change while they are read -----------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("change", ["write", "append", "truncate", "replace", "remove"])
def test_a_file_that_changes_is_named_and_nothing_is_tagged(
    tmp_path: Path, store: MemoryStore, change: str
) -> None:
    victim = tmp_path / "v/zzz"
    write(tmp_path / "v", {"aaa": text(1, 3_000_000), "zzz": text(2, 3_000_000)})

    def meddle(_: packer.Progress) -> None:
        if not victim.exists():
            return
        if change == "write":
            with victim.open("r+b") as file:
                file.write(b"changed")
        elif change == "append":
            with victim.open("ab") as file:
                file.write(b"changed")
        elif change == "truncate":
            os.truncate(victim, 1000)
        elif change == "replace":
            (tmp_path / "new").write_bytes(text(3, 3_000_000))
            os.replace(tmp_path / "new", victim)
        else:
            victim.unlink()
        time.sleep(0.001)

    with pytest.raises(packer.SourceChanged, match="zzz"):
        packer.pack(tmp_path / "v", store=store, tag="t", progress=meddle)
    assert list(store.tags()) == []


def test_an_unreadable_path_is_named(tmp_path: Path, store: MemoryStore) -> None:
    with pytest.raises(FileNotFoundError, match="missing"):
        packer.pack(tmp_path / "missing", store=store)


def test_what_no_reader_would_take_is_not_tagged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = tmp_path / "app"
    app.mkdir()
    (app / "a.gz").write_bytes(gzip.compress(b"some text " * 1000, mtime=0))
    monkeypatch.setattr("packer.opening.expansion.most_recipe", lambda *_, **__: 0)
    with pytest.raises(packer.PackerError, match=r"a\.gz: .*without opening"):
        packer.pack(app, store=tmp_path / "st", tag="a:1", opening="all", cache=False)
    assert not list(packer.versions(store=tmp_path / "st"))
    packer.pack(app, store=tmp_path / "st", tag="a:1", opening="none")


@pytest.mark.parametrize("place", ["app/st", "link/st"])
def test_a_directory_that_holds_the_store_is_refused(tmp_path: Path, place: str) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "link").symlink_to("app")
    (tmp_path / "app" / "a.yaml").write_bytes(b"a: 1\n")
    with pytest.raises(packer.InvalidParameter, match="app holds the store"):
        packer.pack(tmp_path / "app", store=tmp_path / place, tag="a:1")
    with pytest.raises(packer.InvalidParameter, match="app holds the store"):
        packer.open_storage(f"oci:{tmp_path / place}").save("a", tmp_path / "app")
