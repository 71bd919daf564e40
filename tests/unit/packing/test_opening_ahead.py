"""Archives begun before it is their turn: nothing depends on it but the time it takes."""

from __future__ import annotations

import gzip
import os
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import packer
from packer.engine.chunking import ChunkParams
from packer.errors import SourceChanged
from packer.files.tree import walk
from packer.opening.workers import Workers
from packer.packing import file_chunks
from packer.packing.file_chunks import OpenedFile


@pytest.fixture(autouse=True)
def _same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were begun ahead."""
    out: list[str] = []
    real = OpenedFile.begin

    def begin(self: OpenedFile) -> bool:
        out.append(os.path.basename(os.fsdecode(self._full)))
        return real(self)

    monkeypatch.setattr(OpenedFile, "begin", begin)
    return out


def text(seed: int, size: int = 60_000) -> bytes:
    rng = random.Random(seed)
    words = [f"{rng.getrandbits(24):x}" for _ in range(300)]
    return " ".join(rng.choice(words) for _ in range(size // 6)).encode()


def charts(path: Path, count: int = 20, changed: int = -1) -> Path:
    """A directory of small archives, with a text between some of them."""
    path.mkdir()
    for at in range(count):
        data = gzip.compress(text(at + 1000 * (at == changed)), mtime=0)
        (path / f"{at:02}.tgz").write_bytes(data)
        if at % 7 == 6:
            (path / f"{at:02}.txt").write_bytes(text(at, 3000))
    (path / "empty.tgz").write_bytes(b"")
    return path


@pytest.mark.slow
def test_the_same_bytes_as_in_turn(
    tmp_path: Path, begun: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = [charts(tmp_path / "v1"), charts(tmp_path / "v2", changed=3)]
    ahead = [
        packer.pack(v, store=tmp_path / "ahead", tag=f"a:{v.name}", opening="all").digest
        for v in versions
    ]
    assert {f"{at:02}.tgz" for at in range(1, 20)} <= set(begun)
    count = len(begun)
    monkeypatch.setattr(file_chunks, "MAX_AHEAD", 0)
    turns = [
        packer.pack(v, store=tmp_path / "turn", tag=f"a:{v.name}", opening="all").digest
        for v in versions
    ]
    assert (turns, len(begun)) == (ahead, count)
    packer.unpack("a:v2", tmp_path / "out", store=tmp_path / "ahead")
    for file in versions[1].iterdir():
        assert (tmp_path / "out" / file.name).read_bytes() == file.read_bytes()


def test_what_is_known_is_not_begun(tmp_path: Path, begun: list[str]) -> None:
    packer.pack(charts(tmp_path / "v1"), store=tmp_path / "store", tag="a:1", opening="all")
    begun.clear()
    with open(tmp_path / "v1" / "00.tgz", "ab") as file:
        file.write(b"more")
    packer.pack(tmp_path / "v1", store=tmp_path / "store", tag="a:2", opening="all")
    assert not [name for name in begun if name.endswith(".tgz")]


@pytest.mark.parametrize("how", ["write", "replace", "remove"])
def test_a_file_that_changes_after_it_was_begun(
    tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = charts(tmp_path / "v1", count=4)
    victim, real = root / "02.tgz", OpenedFile.begin

    def begin(self: OpenedFile) -> bool:
        out = real(self)
        if self._full == os.fsencode(victim):
            if how == "write":
                victim.write_bytes(gzip.compress(text(99), mtime=0))
            else:
                victim.unlink()
            if how == "replace":
                victim.write_bytes(gzip.compress(text(99), mtime=0))
        return out

    monkeypatch.setattr(OpenedFile, "begin", begin)
    with pytest.raises((SourceChanged, FileNotFoundError), match=r"02\.tgz"):
        packer.pack(root, store=tmp_path / "store", tag="a:1", opening="all")
    if os.path.isdir("/proc/self/fd"):
        left = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
        assert not [name for name in left if name.startswith(str(root))]


@pytest.mark.slow
def test_closing_a_large_archive_in_the_middle(tmp_path: Path) -> None:
    """Its digest is computed beside its opening; that ends before the file is closed."""
    path = os.fsencode(tmp_path / "large.gz")
    (tmp_path / "large.gz").write_bytes(gzip.compress(random.Random(1).randbytes(8 << 20), 1))
    found, buffer = walk(path)[0], bytearray(1 << 20)
    with ThreadPoolExecutor(1) as executor:
        workers = Workers(executor)
        file = OpenedFile(path, found, ChunkParams(), buffer, workers, lambda _: None, expand=True)
        with file:
            next(file.chunks())
            assert file._digest is not None
        assert file._file.closed
        assert len(file._digest()) == 32, "it did not meet a closed file"
