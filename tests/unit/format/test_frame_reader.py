"""Frames that the cache has no room for: read back, or decoded again where there is no space."""

from __future__ import annotations

import errno
import os
import random

import pytest

import packer
from packer.format import frame_cache
from packer.format.blob_ranges import BlobRanges
from packer.format.frame_reader import FrameReader
from packer.format.version import Version
from packer.stores.memory import MemoryStore


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Version:
    root = tmp_path_factory.mktemp("v")
    (root / "data").write_bytes(random.Random(3).randbytes(9 << 20))
    store = MemoryStore()
    packer.pack(root, store=store, tag="a:1")
    return packer.open_version("a:1", store=store)


def no_space(*_: object) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


def read_twice(version: Version, *, remote: bool = False) -> list[tuple[int, int]]:
    """Return the frames that were fetched when every chunk was read twice, nothing being cached."""
    layers = version.manifest.data_layers
    fetched: list[tuple[int, int]] = []
    with BlobRanges(version.store, layers) as ranges:

        def fetch(layer: int, offset: int, length: int) -> bytes | memoryview:
            fetched.append((layer, offset))
            return ranges.read(layer, offset, length)

        with FrameReader(version.index, layers, fetch, cache_bytes=0, remote=remote) as reader:
            count = version.index.chunk_count
            once, again = (b"".join(reader.chunks(0, count)) for _ in range(2))
    assert once == again == random.Random(3).randbytes(9 << 20)
    return fetched


def test_each_frame_is_decoded_once(version: Version) -> None:
    fetched = read_twice(version)
    assert len(set(fetched)) == len(fetched) == len(version.index.frame_stored) > 2


@pytest.mark.parametrize("written", [None, 5])
def test_without_space_it_is_decoded_again(
    version: Version, monkeypatch: pytest.MonkeyPatch, written: int | None
) -> None:
    monkeypatch.setattr(os, "pwrite", no_space if written is None else lambda *_: written)
    assert len(read_twice(version)) == 2 * len(version.index.frame_stored)


def test_what_is_dear_to_fetch_needs_the_space(
    version: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "pwrite", no_space)
    with pytest.raises(OSError, match="space"):
        read_twice(version, remote=True)


def test_no_more_than_its_share_is_written(
    version: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frame_cache, "SPILL_BYTES", 4 << 20)
    sizes: list[int] = []
    real = os.pwrite

    def pwrite(fd: int, data: bytes, offset: int) -> int:
        sizes.append(len(data))
        return real(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    frames = len(version.index.frame_stored)
    assert frames < len(read_twice(version)) < 2 * frames
    assert 0 < sum(sizes) <= 4 << 20


def test_most_of_a_disk_stays_free(version: Version, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = len(version.index.frame_stored)
    real = os.fstatvfs

    def nearly_full(fd: int) -> os.statvfs_result:
        return os.statvfs_result((*real(fd)[:1], 1, *real(fd)[2:4], 16 << 20, *real(fd)[5:]))

    monkeypatch.setattr(os, "fstatvfs", nearly_full)
    assert frames < len(read_twice(version)) < 2 * frames
    monkeypatch.setattr(frame_cache, "_FREE_SHARE", 1 << 30)
    assert len(read_twice(version)) == 2 * frames
