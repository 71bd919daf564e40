"""Changed archives that are opened before their turn: nothing depends on it but the time."""

from __future__ import annotations

import gzip
import io
import os
import random
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import packer
from packer.errors import FormatError, SourceChanged
from packer.format import rebuilding
from packer.format.frame_reader import FrameReader
from packer.opening import found_stream
from packer.opening.predecessor import Predecessor
from packer.opening.updating import Update
from packer.packing import changed_archives
from packer.packing.older import predecessors
from packer.packing.updated_files import UpdatedFile
from packer.packing.watched_file import WatchedFile
from tests import builders
from tests.updates import tar

COUNT = 6


@pytest.fixture(autouse=True)
def _same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were begun ahead."""
    out: list[str] = []
    real = UpdatedFile.begin_alone

    def begin(self: UpdatedFile, *args: object, **named: object) -> object:
        out.append(os.path.basename(os.fsdecode(self._full)))
        return real(self, *args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(UpdatedFile, "begin_alone", begin)
    return out


def text(seed: int) -> bytes:
    rng = random.Random(seed)
    words = [f"{rng.getrandbits(24):x}" for _ in range(500)]
    return " ".join(rng.choice(words) for _ in range(20_000)).encode()


def tree(path: Path, version: int) -> Path:
    """Small archives, some of which change in each version, and a text that does."""
    path.mkdir(parents=True)
    for at in range(COUNT):
        plain = text(at)
        if at % 3:
            plain = plain[:50_000] + f"version {version}".encode() + plain[50_000:]
        (path / f"{at}.tgz").write_bytes(gzip.compress(plain, mtime=0))
    # Equal to another one, so that what is known when a file is begun matters.
    (path / "same.tgz").write_bytes((path / "1.tgz").read_bytes())
    (path / "text").write_bytes(b"%d" % version)
    return path


def packed(folder: Path, store: Path, versions: int = 3) -> list[packer.Packed]:
    out = []
    for version in range(1, versions + 1):
        root = folder / f"v{version}"
        out.append(packer.pack(root, store=store, tag=f"app:{version}", cache=False))
    return out


def test_the_same_version_in_turn_ahead_and_with_any_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alone: list[str]
) -> None:
    for version in (1, 2, 3):
        tree(tmp_path / f"v{version}", version)
    ahead = packed(tmp_path, tmp_path / "ahead")
    assert {"2.tgz", "4.tgz", "5.tgz"} <= set(alone)
    assert all(update.new_bytes < ahead[0].new_bytes / 20 for update in ahead[1:])
    for cores in (1, 5):
        monkeypatch.setattr(os, "cpu_count", lambda cores=cores: cores)
        again = packed(tmp_path, tmp_path / f"cores{cores}")
        assert [one.digest for one in again] == [one.digest for one in ahead]
    for version in (1, 2, 3):
        packer.unpack(f"app:{version}", tmp_path / f"out{version}", store=tmp_path / "ahead")
        for file in (tmp_path / f"v{version}").iterdir():
            assert (tmp_path / f"out{version}" / file.name).read_bytes() == file.read_bytes()
    alone.clear()
    monkeypatch.setattr(changed_archives, "MAX_AHEAD", 0)
    serial = packed(tmp_path, tmp_path / "serial")
    assert not alone
    # Of two equal archives the second is known by its turn, and not yet when it is begun ahead.
    assert serial[1].new_bytes <= ahead[1].new_bytes < serial[1].new_bytes + 4000


def large_tree(path: Path, version: int) -> Path:
    """Archives of which some change, one moves to another name, and one is there twice."""
    tree(path, version)
    (path / f"moved-{version}.tgz").write_bytes(gzip.compress(text(20) + b"%d" % version, mtime=0))
    return path


def test_the_same_version_whether_predecessors_of_large_ones_are_read_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in (1, 2, 3):
        large_tree(tmp_path / f"v{version}", version)
    monkeypatch.setattr(changed_archives, "SMALL_BYTES", 0)
    taken: list[bool] = []
    real = predecessors.Predecessors.text

    def text_of(
        self: predecessors.Predecessors, found: predecessors.Found, *args: Any, **named: Any
    ) -> Any:
        ahead = self._ahead
        out = real(self, found, *args, **named)
        taken.append(ahead is not None and self._ahead is None)
        return out

    monkeypatch.setattr(predecessors.Predecessors, "text", text_of)
    ahead = packed(tmp_path, tmp_path / "ahead")
    assert taken.count(True) >= 6  # of two updates with five changed archives each
    for cores in (1, 5):
        monkeypatch.setattr(os, "cpu_count", lambda cores=cores: cores)
        again = packed(tmp_path, tmp_path / f"cores{cores}")
        assert [one.digest for one in again] == [one.digest for one in ahead]
    monkeypatch.setattr(changed_archives, "MAX_LARGE_BYTES", 0)
    taken.clear()
    in_turn = packed(tmp_path, tmp_path / "in-turn")
    assert not any(taken)
    assert [one.digest for one in in_turn] == [one.digest for one in ahead]
    for version in (1, 2, 3):
        packer.unpack(f"app:{version}", tmp_path / f"out{version}", store=tmp_path / "ahead")
        for file in (tmp_path / f"v{version}").iterdir():
            assert (tmp_path / f"out{version}" / file.name).read_bytes() == file.read_bytes()


def test_a_predecessor_read_ahead_is_told_at_its_turn_and_nothing_stays_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in (1, 2):
        large_tree(tmp_path / f"v{version}", version)
    packer.pack(tmp_path / "v1", store=tmp_path / "store", tag="app:1", cache=False)
    monkeypatch.setattr(changed_archives, "SMALL_BYTES", 0)
    opened: list[WatchedFile] = []
    init, real = WatchedFile.__init__, predecessors.Predecessors.opened

    def watch(self: WatchedFile, *args: object) -> None:
        init(self, *args)  # type: ignore[arg-type]
        opened.append(self)

    def damaged(
        self: predecessors.Predecessors, found: Any, what: bytes, *args: Any, **named: Any
    ) -> Any:
        if what == b"4.tgz":
            raise FormatError("predecessor", "it is damaged")
        return real(self, found, what, *args, **named)

    def begun(self: predecessors.Predecessors, *args: Any, **named: Any) -> Any:
        @contextmanager
        def late() -> Iterator[Any]:
            with damaged(self, *args, **named) as text:
                yield text

        return late()

    monkeypatch.setattr(WatchedFile, "__init__", watch)
    monkeypatch.setattr(predecessors.Predecessors, "opened", begun)
    with pytest.raises(FormatError, match="it is damaged"):
        packer.pack(tmp_path / "v2", store=tmp_path / "store", tag="app:2", cache=False)
    assert all(file._file.closed for file in opened)


def test_what_stays_closed_holds_no_streams_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in (1, 2):
        (tmp_path / f"{version}.gz").write_bytes(gzip.compress(text(version), mtime=0))
    found: list[tuple[int, bool]] = []
    real = UpdatedFile.closed_chunks

    def chunks(self: UpdatedFile, known: Any) -> Any:
        discovery = self.update._found
        assert discovery is not None
        found.append((len(discovery.streams), self.was_compared))
        return real(self, known)

    monkeypatch.setattr(UpdatedFile, "closed_chunks", chunks)
    for version in (1, 2):
        source = tmp_path / f"{version}.gz"
        packed = packer.pack(source, store=tmp_path / "store", tag=f"app:{version}", cache=False)
    assert found == [(0, True)]
    assert [(one.kind, one.reason) for one in packed.closed] == [("gzip", "new")]
    packer.unpack("app:2", tmp_path / "out", store=tmp_path / "store")
    assert (tmp_path / "out" / "2.gz").read_bytes() == source.read_bytes()


@contextmanager
def no_stream(*args: object) -> Iterator[None]:
    yield None


def test_the_same_version_whether_files_of_predecessors_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("one.gz", "two.gz")
    for version in (1, 2, 3, 4):
        root = tmp_path / f"v{version}"
        root.mkdir()
        inner = gzip.compress(text(7)[version * 100 :], mtime=0)
        plain = text(8)[: 3000 * version] + b"version" + inner + text(8)[:90_000]
        (root / "one.gz").write_bytes(gzip.compress(plain, mtime=0))
        other = gzip.compress(text(9)[: 40_000 + version], mtime=0)
        (root / "two.gz").write_bytes((root / "one.gz").read_bytes() + other)
    read: list[str] = []
    real = rebuilding.random_access

    def count(reader: FrameReader, row: Predecessor, *args: Any) -> Any:
        read.append("file" if row.recipe_chunks else "closed")
        return real(reader, row, *args)

    monkeypatch.setattr(predecessors, "random_access", count)
    streams = packed(tmp_path, tmp_path / "streams", 4)
    assert read.count("file") == 2  # the one with two streams
    monkeypatch.setattr(predecessors, "only_stream", no_stream)
    files = packed(tmp_path, tmp_path / "files", 4)
    assert read.count("file") == 2 + 4
    assert [one.digest for one in streams] == [one.digest for one in files]
    packer.unpack("app:4", tmp_path / "out", store=tmp_path / "streams")
    for name in names:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "v4" / name).read_bytes()


def test_an_error_in_a_file_begun_ahead_is_told_and_nothing_stays_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alone: list[str]
) -> None:
    for version in (1, 2):
        tree(tmp_path / f"v{version}", version)
    packer.pack(tmp_path / "v1", store=tmp_path / "store", tag="app:1", cache=False)
    opened: list[WatchedFile] = []
    init, begin = WatchedFile.__init__, Update.begin

    def watch(self: WatchedFile, *args: object) -> None:
        init(self, *args)  # type: ignore[arg-type]
        opened.append(self)

    def meddle(self: Update, most: float) -> bool:
        pays = begin(self, most)
        while len(alone) <= 2:  # before that the next files are only looked at
            time.sleep(0.01)
        (tmp_path / "v2" / "2.tgz").write_bytes(b"other")
        return pays

    monkeypatch.setattr(WatchedFile, "__init__", watch)
    monkeypatch.setattr(Update, "begin", meddle)
    with pytest.raises(SourceChanged, match=r"2\.tgz"):
        packer.pack(tmp_path / "v2", store=tmp_path / "store", tag="app:2", cache=False)
    assert len(alone) > 2
    assert len(opened) > 2
    assert all(file._file.closed for file in opened)


def test_entries_that_share_no_piece_are_compared_by_name(tmp_path: Path) -> None:
    """As classes of a jar that was compiled anew: each has small changes everywhere."""

    def entries(mark: bytes) -> dict[str, bytes]:
        drawn = random.Random(4)
        return {
            f"lib-{mark.decode()}/{name}.class": b"".join(
                drawn.randbytes(24) + mark for _ in range(300)
            )
            for name in "abcdefghijklmnopqrst"
        }

    def jar(mark: bytes, order: int) -> bytes:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            for name, data in list(entries(mark).items())[::order]:
                archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
        return out.getvalue()

    for number, data in enumerate((jar(b"1", 1), jar(b"2", -1))):
        (tmp_path / "a.jar").write_bytes(data)
        packed = packer.pack(
            tmp_path / "a.jar", store=tmp_path / "store", tag=f"app:{number}", cache=False
        )
    assert packed.closed == ()
    assert packed.new_bytes < len(data) // 2
    packer.unpack("app:1", tmp_path / "out", store=tmp_path / "store")
    assert (tmp_path / "out" / "a.jar").read_bytes() == data


def test_an_image_of_which_no_archive_changed_stays_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All headers have a new time, so all archives lie in new chunks."""
    large = {f"layer{at}": builders.noise(at, 900_000) for at in range(2)}
    texts = {f"doc{at}.gz": builders.text(at, 9_000 + at) for at in range(30)}
    texts["doc7.gz"] = builders.text(7, 90_000)
    small = {name: gzip.compress(data, mtime=0) for name, data in texts.items()}
    edited = texts["doc7.gz"][:50_000] + b"changed" + texts["doc7.gz"][50_000:]
    changed = {**small, "doc7.gz": gzip.compress(edited, mtime=0)}
    for version, files in enumerate((small, small, changed), 1):
        image = tar({**files, **large}, mtime=1_700_000_000 + version)
        builders.write(tmp_path / f"v{version}", {"image.tar": image})
    found: list[int] = []
    real = found_stream.FoundStream.measure

    def measure(self: found_stream.FoundStream, *args: Any) -> Any:
        found.append(self.number)
        return real(self, *args)

    monkeypatch.setattr(found_stream.FoundStream, "measure", measure)
    opened = []
    for version in range(1, 4):
        found.clear()
        packer.pack(tmp_path / f"v{version}", store=tmp_path / "s", tag=f"app:{version}")
        index = packer.open_version(f"app:{version}", store=tmp_path / "s").index
        opened.append((len(index.expansions), len(found)))
        packer.unpack(f"app:{version}", tmp_path / f"out{version}", store=tmp_path / "s")
        image = (tmp_path / f"v{version}/image.tar").read_bytes()
        assert (tmp_path / f"out{version}/image.tar").read_bytes() == image
    assert opened[:2] == [(0, 0), (0, 0)]
    assert opened[2] == (1, 2)  # the archive that changed, old and new
