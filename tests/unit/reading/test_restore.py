"""Restoring: atomic, verified, never outside the target."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO

import pytest

import packer
from packer.files.durable import locked_directory
from packer.files.temporary import write_at as write_temporary
from packer.format.frame_reader import FrameReader
from packer.reading import restore as restoring
from packer.stores.layout import LayoutStore
from packer.stores.memory import MemoryStore
from tests.builders import noise, text
from tests.builders import write as fill
from tests.conformance.make_samples import read_tree
from tests.unit.packing.test_pack import edited

FILES = {"a": text(1, 300_000), "dir/b": text(2, 1000), "dir/sub/c": b"c"}


@pytest.fixture
def store(tmp_path: Path) -> LayoutStore:
    layout = LayoutStore(str(tmp_path / "store"))
    root = fill(tmp_path / "v", FILES)
    os.symlink("dir/b", root / "link")
    packer.pack(root, store=layout, tag="app:1")
    (root / "a").write_bytes(edited(FILES["a"]))
    (root / "dir/sub/c").unlink()
    (root / "dir/sub").rmdir()
    (root / "new").write_bytes(b"new")
    packer.pack(root, store=layout, tag="app:2")
    return layout


def test_a_directory_with_content_is_refused(tmp_path: Path, store: LayoutStore) -> None:
    target = fill(tmp_path / "out", {"mine": b"x"})
    with pytest.raises(packer.TargetExists, match="out"):
        packer.unpack("app:1", target, store=store)
    assert os.listdir(target) == ["mine"]
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(packer.TargetExists, match="not a directory"):
        packer.unpack("app:1", tmp_path / "file", store=store)


def test_an_empty_directory_and_missing_parents_are_fine(
    tmp_path: Path, store: LayoutStore
) -> None:
    (tmp_path / "empty").mkdir()
    for target in (tmp_path / "empty", tmp_path / "some/where/else"):
        packer.unpack("app:2", target, store=store)
        assert read_tree(target) == read_tree(tmp_path / "v")
        assert [name for name in os.listdir(target.parent) if name.startswith(".layer")] == []


def test_a_target_that_is_a_link(tmp_path: Path, store: LayoutStore) -> None:
    """What it leads to is written, also if that is empty; nothing is, if it leads nowhere."""
    for name in ("empty", "full"):
        (tmp_path / name).mkdir()
        (tmp_path / f"to-{name}").symlink_to(name)
    (tmp_path / "full" / "mine").write_bytes(b"x")
    for name, update in (("empty", False), ("full", True)):
        packer.unpack("app:2", tmp_path / f"to-{name}", store=store, update=update)
        assert os.readlink(tmp_path / f"to-{name}") == name
        assert read_tree(tmp_path / "v").items() <= read_tree(tmp_path / name).items()
    (tmp_path / "nowhere").symlink_to("gone")
    with pytest.raises(packer.TargetExists, match=r"nowhere \(a link"):
        packer.unpack("app:2", tmp_path / "nowhere", store=store, update=True)
    assert not (tmp_path / "gone").exists()


def test_the_target_gets_the_permissions_of_any_new_directory(
    tmp_path: Path, store: LayoutStore
) -> None:
    old = os.umask(0o027)
    try:
        packer.unpack("app:1", tmp_path / "out", store=store)
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o750


def test_update_leaves_equal_files_alone_and_keeps_surplus(
    tmp_path: Path, store: LayoutStore
) -> None:
    target = tmp_path / "out"
    packer.unpack("app:1", target, store=store)
    (target / "mine").write_bytes(b"x")
    before = (target / "dir/b").stat()
    done = packer.unpack("app:2", target, store=store, update=True)
    after = (target / "dir/b").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert done.written_files == 2  # a and new
    assert (target / "mine").exists()
    assert (target / "dir/sub/c").exists()
    done = packer.unpack("app:2", target, store=store, update=True, delete=True)
    assert done.written_files == 0
    assert done.deleted == 3
    assert read_tree(target) == read_tree(tmp_path / "v")


def test_update_mends_what_was_changed(tmp_path: Path, store: LayoutStore) -> None:
    target = tmp_path / "out"
    packer.unpack("app:2", target, store=store)
    (target / "a").write_bytes(b"other")
    data = bytearray((target / "dir/b").read_bytes())
    data[500] ^= 1  # the same size
    (target / "dir/b").write_bytes(data)
    (target / "new").unlink()
    (target / "link").unlink()
    os.symlink("elsewhere", target / "link")
    (target / "dir").chmod(0o700)
    packer.unpack("app:2", target, store=store, update=True)
    assert read_tree(target) == read_tree(tmp_path / "v")


def test_update_follows_no_link(tmp_path: Path, store: LayoutStore) -> None:
    # Links where the version has a directory and a file: what they point at must stay as it is.
    outside = fill(tmp_path / "outside", {"b": b"precious", "file": b"precious", "x/y": b"z"})
    target = fill(tmp_path / "out", {"keep": b"k"})
    os.symlink(outside, target / "dir")
    os.symlink(outside / "file", target / "a")
    before = read_tree(outside)
    packer.unpack("app:2", target, store=store, update=True, delete=True)
    assert read_tree(outside) == before
    assert read_tree(target) == read_tree(tmp_path / "v")


def test_a_directory_where_a_file_belongs_needs_delete(tmp_path: Path, store: LayoutStore) -> None:
    target = fill(tmp_path / "out", {"a/inner": b"x", "dir": b"a file"})
    before = read_tree(target)
    with pytest.raises(packer.TargetExists, match="--delete"):
        packer.unpack("app:2", target, store=store, update=True)
    assert read_tree(target) == before
    packer.unpack("app:2", target, store=store, update=True, delete=True)
    assert read_tree(target) == read_tree(tmp_path / "v")


def blobs(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "store/blobs/sha256").iterdir())


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "extend"])
def test_any_damaged_blob_is_an_error_that_names_it(
    tmp_path: Path, store: LayoutStore, damage: str
) -> None:
    version = packer.open_version("app:2", store=store)
    needed = {version.descriptor.digest, version.manifest.config.digest}
    needed |= {item.digest for item in version.manifest.layers}
    hurt = 0
    for path in blobs(tmp_path):
        if f"sha256:{path.name}" not in needed:
            continue
        good = path.read_bytes()
        path.chmod(0o644)
        for at in {0, len(good) // 2, len(good) - 1} if damage == "flip" else {0}:
            if damage == "flip":
                path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
            elif damage == "truncate":
                path.write_bytes(good[:-1])
            elif damage == "extend":
                path.write_bytes(good + b"x")
            else:
                path.unlink()
            with pytest.raises((packer.IntegrityError, packer.NotFound)) as caught:
                packer.verify("app:2", store=store)
            assert path.name in str(caught.value) or "sha256:" in str(caught.value)
            with pytest.raises((packer.IntegrityError, packer.NotFound)):
                packer.unpack("app:2", tmp_path / "out", store=store)
            assert not (tmp_path / "out").exists()
            assert [name for name in os.listdir(tmp_path) if name.startswith(".layer")] == []
            hurt += 1
            path.write_bytes(good)
    assert hurt >= len(needed) == 4
    packer.unpack("app:2", tmp_path / "out", store=store)


def test_a_collision_of_the_short_digests_is_found(tmp_path: Path, store: LayoutStore) -> None:
    # As if two chunks had the same first 16 bytes of digest: all chunk checks pass, the tree's not.
    from packer.format.tree_digest import TreeCheck

    version = packer.open_version("app:2", store=store)
    check = TreeCheck(version.index)
    for chunk in range(version.index.chunk_count):
        short = version.index.chunk_digest(chunk)
        assert check.record(chunk, short + bytes(16))
    with pytest.raises(packer.DigestMismatch, match="tree"):
        check.finish(version.config.tree)


def test_a_full_disk_is_said_before_anything_is_written(
    tmp_path: Path, store: LayoutStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.statvfs

    def full(path: bytes) -> os.statvfs_result:
        found = list(real(path))
        found[4] = 0  # f_bavail
        return os.statvfs_result(found)

    monkeypatch.setattr(os, "statvfs", full)
    with pytest.raises(OSError, match="bytes needed, 0 free"):
        packer.unpack("app:2", tmp_path / "out", store=store)
    assert not (tmp_path / "out").exists()


def test_cat_reads_one_file(tmp_path: Path, store: LayoutStore) -> None:
    assert b"".join(packer.cat("app:1", "a", store=store)) == FILES["a"]
    assert b"".join(packer.cat("app:2", "a", store=store)) == edited(FILES["a"])
    with pytest.raises(packer.NotFound, match="nothing"):
        list(packer.cat("app:1", "nothing", store=store))
    with pytest.raises(packer.InvalidParameter, match="symlink"):
        list(packer.cat("app:1", "link", store=store))


def test_diff_says_what_changed(store: LayoutStore) -> None:
    found = {change.path: change for change in packer.diff("app:1", "app:2", store=store)}
    assert {path: change.change for path, change in found.items()} == {
        "a": "changed",
        "dir/sub": "removed",
        "dir/sub/c": "removed",
        "new": "added",
    }
    assert 0 < found["a"].new_chunk_bytes < 200_000
    assert list(packer.diff("app:1", "app:1", store=store)) == []


def test_inspect_adds_up(tmp_path: Path, store: LayoutStore) -> None:
    found = packer.inspect("app:2", store=store)
    manifest = packer.open_version("app:2", store=store).manifest
    assert found.files == 3
    assert found.symlinks == 1
    assert found.bytes == sum(
        path.stat().st_size for path in (tmp_path / "v").rglob("*") if path.is_file()
        and not path.is_symlink()
    )  # fmt: skip
    assert sum(item.size for item in found.layers) == sum(d.size for d in manifest.data_layers)
    assert all(item.live_bytes <= item.plain_bytes for item in found.layers)


@contextlib.contextmanager
def ordinary_user(*folders: Path) -> Iterator[None]:
    """Be nobody special: root may change what is in a directory that nobody may write."""
    if os.geteuid():
        yield
        return
    for folder in folders:
        os.chown(folder, 65534, 65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_directories_nobody_may_write_are_brought_up_to_date() -> None:
    store = MemoryStore()
    with tempfile.TemporaryDirectory() as text:
        work = Path(text)
        app, target = work / "app", work / "target"
        fill(app, dict.fromkeys(("ro/a", "ro/b", "ro/deep/c", "gone/d", "gone/deep/e"), b"x"))
        folders = [app / name for name in ("ro/deep", "ro", "gone/deep", "gone")]
        for folder in folders:
            folder.chmod(0o555)
        packer.pack(app, store=store, tag="ro:1")
        for folder in folders:
            folder.chmod(0o755)
        shutil.rmtree(app / "gone")
        (app / "ro/b").unlink()
        (app / "ro/deep/c").unlink()
        (app / "gone").write_bytes(b"a file now")
        for folder in folders[:2]:
            folder.chmod(0o555)
        packer.pack(app, store=store, tag="ro:2")
        with ordinary_user(work):
            packer.unpack("ro:1", target, store=store)
            packer.unpack("ro:2", target, store=store, update=True, delete=True)
            assert read_tree(target) == read_tree(app)
            packer.unpack("ro:1", target, store=store, update=True, delete=True)
            assert (target / "gone/deep/e").read_bytes() == b"x"
            assert stat.S_IMODE((target / "gone/deep").stat().st_mode) == 0o555
            target.chmod(0o555)
            with pytest.raises(PermissionError, match=re.escape(str(target))):
                packer.unpack("ro:2", target, store=store, update=True, delete=True)
            for path in [target, *target.rglob("*")]:
                if path.is_dir():
                    path.chmod(0o755)


LEFTOVER = ".layer-packer-0123456789abcdef"


def test_what_a_killed_update_left_goes_with_delete(tmp_path: Path, store: LayoutStore) -> None:
    target = tmp_path / "target"
    packer.unpack("app:1", target, store=store)
    fill(target / LEFTOVER, {"tree/0": b"half"})
    packer.unpack("app:2", target, store=store, update=True)
    assert (target / LEFTOVER / "tree/0").exists(), "not asked to remove anything"
    with locked_directory(str(target / LEFTOVER)):
        packer.unpack("app:1", target, store=store, update=True, delete=True)
        assert (target / LEFTOVER / "tree/0").exists(), "somebody is writing it"
    packer.unpack("app:2", target, store=store, update=True, delete=True)
    packer.unpack("app:2", tmp_path / "fresh", store=store)
    assert read_tree(target) == read_tree(tmp_path / "fresh")


def test_a_version_may_have_names_like_ours(tmp_path: Path, store: LayoutStore) -> None:
    root = fill(tmp_path / "odd", {f"{LEFTOVER}/f": b"1", ".layer-packer-x/g": b"2"})
    packer.pack(root, store=store, tag="odd:1")
    target = tmp_path / "target"
    for _ in range(2):
        packer.unpack("odd:1", target, store=store, update=True, delete=True)
        assert read_tree(target) == read_tree(root)


def test_an_update_is_written_beside_its_target(
    tmp_path: Path, store: LayoutStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "in" / "target"
    seen: list[list[str]] = []

    def look(_: object) -> None:
        seen.append(sorted(os.listdir(target.parent)) + sorted(os.listdir(target)))

    packer.unpack("app:1", target, store=store)
    packer.unpack("app:2", target, store=store, update=True, progress=look)
    assert any(name.startswith(".layer-packer-") for name in seen[0])
    assert not any(name.startswith(".layer-packer-") for name in os.listdir(target))
    seen.clear()
    rename = os.rename

    def within_mounts(old: bytes, new: bytes, **options: int) -> None:
        if os.fsencode(new).startswith(os.fsencode(target.parent / ".layer-packer-")):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        rename(old, new, **options)

    monkeypatch.setattr("os.rename", within_mounts)
    packer.unpack("app:1", target, store=store, update=True, progress=look)
    assert seen[0][0] == "target" and seen[0][1].startswith(".layer-packer-"), "a mount point"
    assert os.listdir(target.parent) == ["target"]


@pytest.mark.parametrize("holder", ["", "st"])
def test_delete_does_not_remove_the_store(tmp_path: Path, holder: str) -> None:
    app, place = tmp_path / "app", tmp_path / "place"
    app.mkdir()
    (app / "a.txt").write_bytes(b"a")
    store = place / holder
    packer.pack(app, store=store, tag="a:1")
    with pytest.raises(packer.InvalidParameter, match="would remove the store"):
        packer.unpack("a:1", place, store=store, update=True, delete=True)
    assert packer.verify("a:1", store=store)


def test_what_a_killed_restore_left_is_swept(tmp_path: Path) -> None:
    root = tmp_path / "v"
    root.mkdir()
    (root / "file").write_bytes(b"content")
    packer.pack(root, store=tmp_path / "s", tag="a:1")
    names = [f".layer-packer-{digit * 16}" for digit in "abc"]
    for name in names:
        (tmp_path / name / "tree").mkdir(parents=True)
        (tmp_path / name / "tree" / "large").write_bytes(b"left")
    old, locked, young = (tmp_path / name for name in names)
    for folder in (old, locked):
        os.utime(folder, (1_000_000, 1_000_000))
    fd = os.open(locked, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        packer.unpack("a:1", tmp_path / "out", store=tmp_path / "s")
    finally:
        os.close(fd)
    assert (tmp_path / "out" / "file").read_bytes() == b"content"
    assert [path.exists() for path in (old, locked, young)] == [False, True, True]


def test_a_target_that_another_process_wrote_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The loser of two pulls got an operating system's error with temporary names.
    root = tmp_path / "v"
    root.mkdir()
    (root / "file").write_bytes(b"content")
    packer.pack(root, store=tmp_path / "s", tag="a:1")
    real = os.rename

    def late(source: bytes, target: bytes) -> None:
        if os.fspath(target) == os.fsencode(tmp_path / "out"):
            shutil.copytree(root, tmp_path / "out")
        real(source, target)

    monkeypatch.setattr(os, "rename", late)
    with pytest.raises(packer.TargetExists, match="another process has written it meanwhile"):
        packer.unpack("a:1", tmp_path / "out", store=tmp_path / "s")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "s", "v"]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="the system does not list them")
def test_temporary_files_are_gone_when_the_file_system_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else what they hold would be written to the disk first."""
    data = noise("a", 3 << 20)
    for version in range(1, 4):
        files = {"a": b"%d" % version + data[:-9] + b"%d" % version, "b": text("b", 900_000)}
        packer.pack(fill(tmp_path / f"v{version}", files), store=tmp_path / "s", tag=f"a:{version}")
    monkeypatch.setattr(restoring, "FrameReader", partial(FrameReader, cache_bytes=0))
    made: list[int] = []
    open_now: list[list[str]] = []

    def write_at(file: IO[bytes], piece: bytes | memoryview, offset: int) -> None:
        made.append(len(piece))
        write_temporary(file, piece, offset)

    def deleted() -> list[str]:
        names = []
        for fd in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                names.append(os.readlink(f"/proc/self/fd/{fd}"))
        return [name for name in names if name.endswith("(deleted)")]

    before = deleted()
    monkeypatch.setattr("packer.format.frame_cache.write_at", write_at)
    monkeypatch.setattr(restoring, "sync_tree", lambda fd: open_now.append(deleted()))
    packer.unpack("a:3", tmp_path / "out", store=tmp_path / "s")
    assert made
    assert open_now == [before]
    assert read_tree(tmp_path / "out") == read_tree(tmp_path / "v3")
