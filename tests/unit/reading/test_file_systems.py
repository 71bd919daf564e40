"""File systems that lack something, and files that are not what their system says."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import packer
from packer.api import fetching
from packer.engine.chunking import ChunkParams
from packer.errors import UnknownSize
from packer.files.tree import FILE, Found, identity_of
from packer.opening.workers import Workers
from packer.packing.file_chunks import OpenedFile

HOLE = 8 << 20
NOISE = random.Random(1).randbytes(200_000)


def sparse(path: Path) -> None:
    """Write a file with data in the middle of a hole, one of zeros alone, and a dense one."""
    path.mkdir()
    with open(path / "image", "wb") as file:
        file.truncate(2 * HOLE)
        file.seek(HOLE + 12_345)
        file.write(NOISE)
    with open(path / "hole", "wb") as file:
        file.truncate(HOLE)
    (path / "dense").write_bytes(NOISE)


def dense(path: Path) -> None:
    """Write the same files without holes."""
    path.mkdir()
    (path / "image").write_bytes(
        (bytes(HOLE + 12_345) + NOISE).ljust(2 * HOLE, b"\0"),
    )
    (path / "hole").write_bytes(bytes(HOLE))
    (path / "dense").write_bytes(NOISE)


def blocks(path: Path) -> int:
    return 512 * os.stat(path).st_blocks


def has_holes(path: Path) -> bool:
    with open(path / "probe", "wb") as file:
        file.truncate(HOLE)
    taken = blocks(path / "probe")
    os.unlink(path / "probe")
    return taken < HOLE


@pytest.mark.slow
def test_holes_come_back_as_holes(tmp_path: Path) -> None:
    if not has_holes(tmp_path):
        pytest.skip("this file system has no holes")
    store = tmp_path / "store"
    sparse(tmp_path / "v1")
    dense(tmp_path / "v2")
    one = packer.pack(tmp_path / "v1", store=store, tag="v:1")
    two = packer.pack(tmp_path / "v2", store=store, tag="v:2")
    assert one.digest == two.digest, "the bytes decide"
    assert one.new_bytes < 2 * len(NOISE)
    for update in (False, True):
        restored = packer.unpack("v:1", tmp_path / "out", store=store, update=update)
        for name in ("image", "hole", "dense"):
            out = tmp_path / "out" / name
            assert out.read_bytes() == (tmp_path / "v2" / name).read_bytes()
            assert stat.S_IMODE(out.stat().st_mode) == stat.S_IMODE(
                os.stat(tmp_path / "v1" / name).st_mode
            )
        assert restored.bytes == 3 * HOLE + len(NOISE)
        assert blocks(tmp_path / "out" / "image") < HOLE // 2
        assert blocks(tmp_path / "out" / "hole") < HOLE // 2
        os.unlink(tmp_path / "out" / "hole")  # written again by the update
    packer.verify("v:1", store=store)
    packer.unpack("v:1", tmp_path / "seeded", store=store, seed=[tmp_path / "v1"])
    assert (tmp_path / "seeded" / "image").read_bytes() == (tmp_path / "v2" / "image").read_bytes()
    assert blocks(tmp_path / "seeded" / "image") < HOLE // 2


def test_holes_need_no_free_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sparse(tmp_path / "v")
    packer.pack(tmp_path / "v", store=tmp_path / "store", tag="v:1")
    packer.push(f"oci:{tmp_path}/layout:1", "v:1", store=tmp_path / "store")
    real = os.statvfs

    def small(path: bytes) -> os.statvfs_result:
        values = list(real(path))
        values[1:5] = 4096, 1000, 600, 600
        return os.statvfs_result(values)

    monkeypatch.setattr(os, "statvfs", small)
    monkeypatch.setattr(fetching, "ROOM_BYTES", 0)
    packer.unpack("v:1", tmp_path / "out", store=tmp_path / "store")
    packer.pull(f"oci:{tmp_path}/layout:1", tmp_path / "pulled", store=tmp_path / "other")
    dense(tmp_path / "full")
    (tmp_path / "full" / "more").write_bytes(NOISE[::-1] * 13)
    packer.pack(tmp_path / "full", store=tmp_path / "store", tag="v:2")
    with pytest.raises(OSError, match="bytes needed") as caught:
        packer.unpack("v:2", tmp_path / "out2", store=tmp_path / "store")
    assert caught.value.filename == str(tmp_path / "out2"), "the path that the user gave"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux has /proc")
def test_files_whose_size_the_kernel_does_not_tell(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with pytest.raises(UnknownSize, match=r"/proc/version .*says 0 bytes, but it has content"):
        packer.pack("/proc/version", store=store, tag="v:1")
    for name in ("/sys/kernel/mm/transparent_hugepage/enabled", "/sys/kernel/notes"):
        if os.path.exists(name) and os.stat(name).st_size == 4096:
            with pytest.raises(UnknownSize, match="says 4096 bytes, but it has"):
                packer.pack(name, store=store, tag="v:1")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "file").touch()
    assert packer.pack(tmp_path / "empty", store=store, tag="v:1").files == 1


@pytest.mark.parametrize("size", [100, 3 << 20])
def test_a_size_that_is_told_too_small(size: int, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(random.Random(1).randbytes(size))
    found = Found(b"file", FILE, 0o644, 50, identity_of(path.stat()))
    opened = OpenedFile(
        os.fsencode(path),
        found,
        ChunkParams(),
        bytearray(1 << 20),
        Workers(),
        lambda count: None,
        expand=True,
    )
    with opened, pytest.raises(UnknownSize, match=r"says 50 bytes, but it has .* or more"):
        list(opened.chunks())


def refuse(number: int, only: Callable[[int], bool] = lambda fd: True) -> Callable[..., None]:
    def call(fd: int, *_: object, **__: object) -> None:
        if only(fd):
            raise OSError(number, os.strerror(number))

    return call


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
def test_directories_that_cannot_be_synced(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "file").write_bytes(NOISE)
    refused = refuse(number, lambda fd: stat.S_ISDIR(os.fstat(fd).st_mode))
    monkeypatch.setattr(os, "fsync", refused)
    monkeypatch.setattr("packer.reading.staging_directory.sync_filesystem", lambda fd: False)
    store = tmp_path / "store"
    packer.pack(tmp_path / "v", store=store, tag="v:1")
    packer.unpack("v:1", tmp_path / "out", store=store)
    packer.unpack("v:1", tmp_path / "out", store=store, update=True)
    assert (tmp_path / "out" / "file").read_bytes() == NOISE


def test_a_disk_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "v").mkdir()
    store = tmp_path / "store"
    packer.pack(tmp_path / "v", store=store, tag="v:1")
    refused = refuse(errno.EIO, lambda fd: stat.S_ISDIR(os.fstat(fd).st_mode))
    monkeypatch.setattr(os, "fsync", refused)
    with pytest.raises(OSError, match="Input/output") as caught:
        packer.unpack("v:1", tmp_path / "out", store=store)
    assert caught.value.filename == str(tmp_path)


def test_locks_that_the_file_system_lacks_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "v").mkdir()
    monkeypatch.setattr(fcntl, "flock", refuse(errno.ENOSYS))
    with pytest.raises(OSError, match=r"no locks \(flock\)") as caught:
        packer.pack(tmp_path / "v", store=tmp_path / "store", tag="v:1")
    assert str(caught.value.filename).startswith(str(tmp_path / "store"))


def test_permissions_that_cannot_be_set_leave_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "v" / "d").mkdir(parents=True)
    (tmp_path / "v" / "d" / "file").write_bytes(NOISE)
    store = tmp_path / "store"
    packer.pack(tmp_path / "v", store=store, tag="v:1")
    (tmp_path / "out" / "d").mkdir(parents=True)
    (tmp_path / "out" / "d").chmod(0o700)
    monkeypatch.setattr(os, "chmod", refuse(errno.EPERM))
    with pytest.raises(OSError, match="not permitted"):
        packer.unpack("v:1", tmp_path / "new", store=store)
    with pytest.raises(OSError, match="not permitted"):
        packer.unpack("v:1", tmp_path / "out", store=store, update=True)
    assert sorted(os.listdir(tmp_path)) == ["out", "store", "v"]
    assert sorted(os.listdir(tmp_path / "out")) == ["d"]
