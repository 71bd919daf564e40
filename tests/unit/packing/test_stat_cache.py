"""The stat cache: what looks unchanged is not read again, and nothing that changed looks so."""

from __future__ import annotations

import errno
import gzip
import io
import os
import random
import shutil
import tarfile
import threading
from pathlib import Path
from typing import Any

import pytest

import packer
from packer.cli import main
from packer.engine.chunking import ChunkParams
from packer.files.syscalls import STAT_WORDS, read_files
from packer.files.tree import open_file, walk
from packer.packing import file_chunks, stat_cache
from packer.packing.job import Packed

SECOND = 1_000_000_000


pytestmark = pytest.mark.usefixtures("local_times")


@pytest.fixture(autouse=True)
def _same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")


class Clock:
    """The clock as the cache reads it, that of the files and some time more."""

    def __init__(self) -> None:
        self.ahead_ns = 0
        self.stopped_ns = 0
        self._real = stat_cache.clock_ns

    def __call__(self) -> int:
        return self.stopped_ns or self._real() + self.ahead_ns


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Ten seconds have gone by since the files were written."""
    made = Clock()
    made.ahead_ns = 10 * SECOND
    monkeypatch.setattr(stat_cache, "clock_ns", made)
    return made


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were opened for packing."""
    names: list[str] = []
    real, real_small = open_file, read_files

    def spy(full: bytes, found: Any) -> int:
        names.append(found.path.decode())
        return real(full, found)

    def spy_small(directory: int, paths: Any, *rest: Any) -> Any:
        names.extend(map(os.fsdecode, paths))
        return real_small(directory, paths, *rest)

    monkeypatch.setattr("packer.packing.watched_file.open_file", spy)
    monkeypatch.setattr("packer.packing.small_files.read_files", spy_small)
    return names


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "app-1"
    for number in range(30):
        path = made / f"d{number % 4}" / f"f{number}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"number: %d\n" % number * 50)
    (made / "empty").touch()
    (made / "link").symlink_to("d0/f0.yaml")
    (made / "large").write_bytes(random.Random(1).randbytes(400_000))
    return made


def pack(root: Path, store: Path, **more: Any) -> Packed:
    return packer.pack(root, store=store, tag="app:1", **{"opening": "all", **more})


def content(store: Path, path: str) -> bytes:
    return b"".join(packer.cat("app:1", path, store=store))


def cache_files(store: Path) -> list[Path]:
    return sorted((store / "cache").glob("stat-*"))


def test_noted_before_the_version_is_stored(
    root: Path, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a pack notes that fails at its end does the next one no harm."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")

    def no_space(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("packer.packing.publish._write_index", no_space)
        with pytest.raises(OSError, match="space"):
            pack(root, tmp_path / "store")
    assert cache_files(tmp_path / "store")
    packed = pack(root, tmp_path / "store")
    assert packed.digest == pack(root, tmp_path / "other").digest
    packer.unpack("app:1", tmp_path / "out", store=tmp_path / "store")
    assert packer.verify("app:1", store=tmp_path / "store")


def test_unchanged_files_are_not_read(
    root: Path, tmp_path: Path, clock: Clock, names: list[str]
) -> None:
    first = pack(root, tmp_path / "store")
    assert len(names) == 31
    names.clear()
    again = pack(root, tmp_path / "store")
    assert again.unchanged
    assert again.digest == first.digest
    assert names == []


def test_only_what_changed_is_read_and_the_result_is_the_same(
    root: Path, tmp_path: Path, clock: Clock, names: list[str]
) -> None:
    pack(root, tmp_path / "store")
    (root / "d1" / "f5.yaml").write_bytes(b"number: changed\n")
    shutil.copytree(tmp_path / "store", tmp_path / "other")
    names.clear()
    cached = pack(root, tmp_path / "store")
    assert names == ["d1/f5.yaml"]
    assert pack(root, tmp_path / "other", cache=False).digest == cached.digest
    assert not cached.unchanged
    names.clear()
    assert pack(root, tmp_path / "store").unchanged
    assert names == []


def test_a_file_in_use_while_it_was_packed_is_read_again(
    root: Path, tmp_path: Path, clock: Clock, names: list[str]
) -> None:
    # Its times are those of the walk, so a later change could leave no trace.
    path = root / "d1" / "f5.yaml"
    path.write_bytes(b"number: new\n")
    clock.stopped_ns = path.stat().st_ctime_ns
    pack(root, tmp_path / "store")
    names.clear()
    pack(root, tmp_path / "store")
    assert "d1/f5.yaml" in names
    names.clear()
    clock.stopped_ns = 0
    pack(root, tmp_path / "store")
    assert "d1/f5.yaml" in names
    names.clear()
    pack(root, tmp_path / "store")  # by now it is known well
    assert names == []


@pytest.mark.parametrize("kind", ["directory", "link"])
def test_what_takes_the_place_of_a_file_that_was_not_noted(
    root: Path, tmp_path: Path, clock: Clock, kind: str
) -> None:
    # Neither has an identity; a file that was in use has none in the cache.
    path = root / "d1" / "f5.yaml"
    clock.stopped_ns = path.stat().st_ctime_ns
    pack(root, tmp_path / "store")
    path.unlink()
    if kind == "directory":
        path.mkdir()
    else:
        path.symlink_to("f1.yaml")
    clock.stopped_ns = 0
    packed = pack(root, tmp_path / "store")
    assert packed.files == 31
    packer.unpack("app:1", tmp_path / "out", store=tmp_path / "store")
    assert os.readlink(tmp_path / "out/d1/f5.yaml") if kind == "link" else True
    assert (tmp_path / "out/d1/f5.yaml").is_dir() == (kind == "directory")


def test_the_file_system_must_be_known(
    root: Path, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stat_cache, "has_local_times", lambda fd: False)
    pack(root, tmp_path / "store")
    assert cache_files(tmp_path / "store") == []


def test_edits_that_restore_size_and_mtime(root: Path, tmp_path: Path, clock: Clock) -> None:
    path = root / "d1" / "f5.yaml"
    pack(root, tmp_path / "store")
    before = path.stat()
    changed = path.read_bytes().replace(b"5", b"6")
    with path.open("r+b") as file:
        file.write(changed)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    same = ("st_size", "st_mtime_ns", "st_ino", "st_dev")
    assert [getattr(after, name) for name in same] == [getattr(before, name) for name in same]
    pack(root, tmp_path / "store")
    assert content(tmp_path / "store", "d1/f5.yaml") == changed


def test_replaced_by_a_file_with_the_same_inode(root: Path, tmp_path: Path, clock: Clock) -> None:
    path = root / "d1" / "f5.yaml"
    pack(root, tmp_path / "store")
    before = path.stat()
    changed = path.read_bytes().replace(b"5", b"6")
    path.unlink()
    made: list[Path] = []
    for number in range(64):  # most file systems give the inode to one of the next files
        made.append(tmp_path / f"new{number}")
        made[-1].write_bytes(changed)
        os.utime(made[-1], ns=(before.st_atime_ns, before.st_mtime_ns))
        if made[-1].stat().st_ino == before.st_ino:
            break
    made[-1].rename(path)
    pack(root, tmp_path / "store")
    assert content(tmp_path / "store", "d1/f5.yaml") == changed


def test_hard_links_change_together(
    root: Path, tmp_path: Path, clock: Clock, names: list[str]
) -> None:
    os.link(root / "d1" / "f5.yaml", root / "other")
    pack(root, tmp_path / "store")
    names.clear()
    assert pack(root, tmp_path / "store").unchanged
    assert names == []
    with (root / "other").open("r+b") as file:
        file.write(b"NUMBER")
    pack(root, tmp_path / "store")
    assert sorted(names) == ["d1/f5.yaml", "other"]
    assert content(tmp_path / "store", "d1/f5.yaml").startswith(b"NUMBER")


def test_damaged_caches_are_ignored(
    root: Path, tmp_path: Path, clock: Clock, names: list[str]
) -> None:
    first = pack(root, tmp_path / "store")
    (path,) = cache_files(tmp_path / "store")
    sound = path.read_bytes()
    rng = random.Random(3)
    damaged = [b"", sound[:1], sound[:100], sound[: len(sound) // 2], sound[:-1], sound + b"\0"]
    for at in [0, 8, 20, len(sound) - 1, *rng.sample(range(len(sound)), 8)]:
        damaged.append(sound[:at] + bytes([sound[at] ^ 1 << rng.randrange(8)]) + sound[at + 1 :])
    for data in damaged:
        path.write_bytes(data)
        names.clear()
        assert pack(root, tmp_path / "store").digest == first.digest
        assert len(names) == 31
        assert path.read_bytes() != data  # made new
    names.clear()
    pack(root, tmp_path / "store")
    assert names == []


def test_settings_keep_apart(root: Path, tmp_path: Path, clock: Clock, names: list[str]) -> None:
    small = ChunkParams(4096)
    pack(root, tmp_path / "store")
    names.clear()
    pack(root, tmp_path / "store", params=small)
    assert len(names) == 31
    names.clear()
    pack(root, tmp_path / "store", opening="none")
    assert len(names) == 31
    names.clear()
    assert pack(root, tmp_path / "store", params=small, base="none")
    assert len(names) == 31  # known, but nothing to refer to


def test_the_cache_of_another_store(
    root: Path, tmp_path: Path, clock: Clock, names: list[str]
) -> None:
    first = pack(root, tmp_path / "store")
    packer.open_store(tmp_path / "other")
    shutil.copytree(tmp_path / "store" / "cache", tmp_path / "other" / "cache")
    names.clear()
    assert pack(root, tmp_path / "other").digest == first.digest
    assert len(names) == 31
    packer.verify("app:1", store=tmp_path / "other")


def test_a_version_that_was_removed(root: Path, tmp_path: Path, clock: Clock) -> None:
    first = pack(root, tmp_path / "store")
    shutil.rmtree(tmp_path / "store" / "blobs")
    (tmp_path / "store" / "index.json").unlink()
    assert pack(root, tmp_path / "store").digest == first.digest
    packer.verify("app:1", store=tmp_path / "store")


def archive(version: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for number in range(20):
            info = tarfile.TarInfo(f"chart/f{number}.yaml")
            data = b"version: %d\n" % version + b"line %d\n" % number * 400
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return gzip.compress(out.getvalue(), mtime=0)


def test_opened_files_are_not_read_again(
    root: Path, tmp_path: Path, clock: Clock, names: list[str]
) -> None:
    (root / "d1" / "chart.tgz").write_bytes(archive(1))
    (root / "d2" / "chart.tgz").write_bytes(archive(2))
    pack(root, tmp_path / "store")
    assert len(packer.inspect("app:1", store=tmp_path / "store").opened) == 2
    (root / "d0" / "f0.yaml").write_bytes(b"changed\n")
    shutil.copytree(tmp_path / "store", tmp_path / "other")
    names.clear()
    cached = pack(root, tmp_path / "store")
    assert names == ["d0/f0.yaml"]
    assert pack(root, tmp_path / "other", cache=False).digest == cached.digest
    packer.unpack("app:1", tmp_path / "out", store=tmp_path / "store")
    assert (tmp_path / "out" / "d2" / "chart.tgz").read_bytes() == archive(2)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_any_history_gives_what_reading_gives(
    root: Path, tmp_path: Path, clock: Clock, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(seed)
    if seed % 2:  # as in trees of hundreds of thousands of files
        monkeypatch.setattr("packer.packing.recall.STRETCH_ENTRIES", 4)

    def files() -> list[Path]:
        return [path for path in sorted(root.rglob("*")) if path.is_file()]

    def edit() -> None:
        kind = rng.randrange(8)
        path = rng.choice(files())
        if kind == 0:
            path.unlink()
        elif kind == 1:
            path.rename(path.with_name(f"moved{rng.randrange(1000)}"))
        elif kind == 2:
            path.chmod(rng.choice([0o600, 0o644, 0o755]))
        elif kind == 3:
            (root / f"n{rng.randrange(9)}").mkdir(exist_ok=True)
            (root / f"n{rng.randrange(9)}.txt").write_bytes(rng.randbytes(2000))
        elif kind == 4 and not path.is_symlink():
            data = path.read_bytes()
            path.unlink()
            path.mkdir()
            (path / "inside").write_bytes(data)
        elif kind == 5:
            (root / "link").unlink(missing_ok=True)
            (root / "link").symlink_to(f"d0/{rng.randrange(9)}")
        elif not path.is_symlink():
            path.write_bytes(path.read_bytes() + rng.randbytes(10))

    for step in range(12):
        for _ in range(rng.randrange(3)):
            edit()
        if step % 5 == 4:
            clock.ahead_ns -= SECOND
        # From the fourth step on there is every tag; a base may be older than what is remembered.
        bases = {7: "none", 8: f"app:{step % 3}", 9: "app:1", 10: "app:2"}
        more: dict[str, Any] = {"base": bases[step]} if step in bases else {}
        tag = f"app:{step % 3}"
        cached = packer.pack(root, store=tmp_path / "store", tag=tag, **more)
        plain = packer.pack(root, store=tmp_path / "plain", tag=tag, cache=False, **more)
        assert cached == plain
    packer.unpack(tag, tmp_path / "out", store=tmp_path / "store")
    assert {
        path.relative_to(tmp_path / "out"): path.read_bytes()
        for path in (item for item in (tmp_path / "out").rglob("*") if item.is_file())
    } == {path.relative_to(root): path.read_bytes() for path in files()}


def test_layers_that_are_given_up(
    root: Path, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Compaction scans again without some layers: their chunks must be read then, not recalled.
    store = tmp_path / "store"
    pack(root, store)
    dropped = iter([frozenset({0}), frozenset()])
    monkeypatch.setattr(
        "packer.packing.pack_tree.layers_to_drop",
        lambda *_: next(dropped, frozenset()),
    )
    (root / "d0" / "f0.yaml").write_bytes(b"changed\n")
    packed = pack(root, store)
    assert packed.layers == packed.new_layers == 1
    packer.verify("app:1", store=store)


def test_packing_at_the_same_time(root: Path, tmp_path: Path, clock: Clock) -> None:
    store = tmp_path / "store"
    digests: list[str] = []
    packer.open_store(store)

    def work() -> None:
        digests.extend(pack(root, store).digest for _ in range(5))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(digests) == 20
    packer.verify("app:1", store=store)
    (path,) = cache_files(store)
    assert not list(path.parent.glob("stat-*.*"))
    assert path.stat().st_size > STAT_WORDS * 8 * len(walk(os.fsencode(root)))
    assert pack(root, store).unchanged


def test_the_oldest_root_goes_first(
    root: Path, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stat_cache, "MAX_ROOTS", 2)
    for number in range(4):
        shutil.copytree(root, tmp_path / f"root{number}")
        pack(tmp_path / f"root{number}", tmp_path / "store")
        for at, path in enumerate(cache_files(tmp_path / "store")):
            before = path.stat().st_mtime_ns
            os.utime(path, ns=(before, before - (3 - at) * SECOND // 10))
    assert len(cache_files(tmp_path / "store")) == 2


def test_no_cache_reads_every_file(
    root: Path, tmp_path: Path, clock: Clock, names: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["pack", str(root), "--store", str(tmp_path / "store")]
    assert main.main(words) == 0
    names.clear()
    assert main.main([*words, "--no-cache"]) == 0
    assert len(names) == 31
    names.clear()
    assert main.main(words) == 0
    assert names == []
    assert "unchanged" in capsys.readouterr().out


def test_a_store_that_cannot_keep_it(root: Path, tmp_path: Path, clock: Clock) -> None:
    packer.open_store(tmp_path / "store")
    (tmp_path / "store" / "cache").write_bytes(b"no directory")
    first = pack(root, tmp_path / "store")
    assert pack(root, tmp_path / "store").digest == first.digest


def test_a_single_file(tmp_path: Path, clock: Clock, names: list[str]) -> None:
    path = tmp_path / "bundle.bin"
    path.write_bytes(random.Random(5).randbytes(300_000))
    first = pack(path, tmp_path / "store")
    names.clear()
    assert pack(path, tmp_path / "store").digest == first.digest
    assert names == []


def test_archives_of_the_base_are_known_by_their_digest(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "v"
    (root / "d").mkdir(parents=True)
    (root / "a.yaml").write_bytes(b"kind: A\n" * 99)
    for number in range(3):
        (root / "d" / f"{number}.tgz").write_bytes(archive(number))
    opened: list[bytes] = []
    real = file_chunks.OpenedFile

    def noted(full: bytes, *args: Any, **named: Any) -> Any:
        opened.append(os.path.basename(full))
        return real(full, *args, **named)

    monkeypatch.setattr("packer.packing.file_chunks.OpenedFile", noted)
    packer.pack(root, store=tmp_path / "s", tag="app:1", opening="all")
    (root / "d" / "0.tgz").rename(root / "moved.tgz")
    os.utime(root / "d" / "1.tgz", (5, 5))
    (root / "d" / "2.tgz").write_bytes(archive(7))
    (root / "a.yaml").write_bytes(b"kind: B\n" * 99)
    shutil.copytree(tmp_path / "s", tmp_path / "t")
    opened.clear()
    quick = packer.pack(root, store=tmp_path / "s", tag="app:2", opening="all")
    assert set(opened) == {b"2.tgz"}
    monkeypatch.setattr("packer.packing.recall.Recall.archive_of_base", lambda *_: [])
    assert (
        packer.pack(root, store=tmp_path / "t", tag="app:2", opening="all", cache=False).digest
        == quick.digest
    )
    monkeypatch.undo()
    # What the cache learnt is enough to know the tree again, and to see that an archive changed.
    assert packer.pack(root, store=tmp_path / "s", tag="app:3", opening="all").unchanged
    (root / "a.yaml").write_bytes(b"kind: C\n" * 99)
    (root / "moved.tgz").write_bytes(archive(8))
    packer.pack(root, store=tmp_path / "s", tag="app:4", opening="all")
    packer.unpack("app:4", tmp_path / "out", store=tmp_path / "s")
    assert (tmp_path / "out" / "moved.tgz").read_bytes() == archive(8)
    assert (tmp_path / "out" / "d" / "1.tgz").read_bytes() == archive(1)
