"""Which file of the base a changed archive is opened against, and what the index lists of it."""

from __future__ import annotations

import argparse
import gzip
import hashlib
import inspect
import io
import json
import optparse
import pickle
import pydoc
import subprocess
import tarfile
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import packer
from packer.api.locations import open_version
from packer.cli.main import main
from packer.engine.ordinals import Ordinals
from packer.errors import SourceChanged
from packer.format.blob_ranges import BlobRanges
from packer.format.frame_reader import FrameReader
from packer.format.index import Index
from packer.opening.predecessor import MAX_OLD_STREAMS, OldStream
from packer.packing.older import alike, predecessors
from packer.packing.older.counterparts import Counterparts
from packer.packing.older.predecessors import Predecessors
from packer.packing.updated_files import UpdatedFile
from tests.builders import text
from tests.updates import as_gzip, changed, libdeflate, tar, texts, write, zlib_gzip
from tests.zstd_archives import frames, zstd

TEXTS = texts(files=4)
BLOB = "blobs/sha256/"


def archive(version: int) -> bytes:
    return libdeflate(tar(changed(TEXTS, version)))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chain of six versions of an archive, beside others."""
    folder = tmp_path_factory.mktemp("chain")
    for version in range(1, 7):
        files = {
            "app-1.tgz": archive(version),
            f"{BLOB}{version}a": libdeflate(tar(changed(texts(8, 4), version))),
            f"{BLOB}{version}b": libdeflate(tar(changed(texts(9, 4), version))),
            "plain.txt": b"text " * 100,
        }
        root = write(folder / f"in{version}", files)
        packer.pack(root, store=folder / "store", tag=f"app:{version}", opening="changed")
    return folder / "store"


class Found:
    """The predecessors that a version gives."""

    def __init__(self, store: Path, version: int, reader: FrameReader) -> None:
        self.index = reader.index
        self.reader = reader
        self.new = Index()
        self.usable = bytearray(b"\1" * self.index.chunk_count)

    def make(self) -> Predecessors:
        counterparts = Counterparts(self.index)
        return Predecessors(self.reader, self.usable, self.new, counterparts, lambda path: True)


@pytest.fixture(params=[1, 3, 5, 6])
def found(request: pytest.FixtureRequest, store: Path) -> Iterator[tuple[int, Found]]:
    version = open_version(f"app:{request.param}", store=store)
    layers = version.manifest.data_layers
    with (
        BlobRanges(version.store, layers) as ranges,
        FrameReader(version.index, layers, ranges.read) as reader,
    ):
        yield request.param, Found(store, request.param, reader)


def test_the_last_link_of_a_chain(found: tuple[int, Found]) -> None:
    version, base = found
    made = base.make()
    entry = made.counterpart(b"app-2.tgz", b"", 0)
    assert base.index.paths[entry] == b"app-1.tgz"
    assert not made.is_modelled(entry, flat=False)
    predecessor = made.find(entry, flat=False)
    assert predecessor is not None
    # Versions 2 to 5 make a chain of four, with which small archives may go on.
    assert not predecessor.is_back
    text, row = made.text(predecessor, b"app-2.tgz")
    expected = archive(version)
    assert text.streams[0].read(0, text.sizes[0]) == zlib_plain(expected)
    named = made.add(row, (OldStream(0, 10, text.sizes[0]),))
    rows = base.new.predecessors
    assert named == len(rows) - 1
    assert all(other < at for at, row in enumerate(rows) for other in row.predecessors)
    # Version 6 gave up the layers between: compaction found them too dear.
    assert len(rows) == {1: 1, 3: 3, 5: 5, 6: 2}[version]
    made.close()


@pytest.mark.parametrize(("most", "link"), [(5, 5), (4, 2), (3, 1), (1, 1)])
def test_half_of_a_chain_that_is_long_enough(
    most: int, link: int, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predecessors, "_SMALL_BYTES", 0)
    monkeypatch.setattr(predecessors, "_LINKS_OF_LARGE", most)
    version = open_version("app:5", store=store)
    layers = version.manifest.data_layers
    with (
        BlobRanges(version.store, layers) as ranges,
        FrameReader(version.index, layers, ranges.read) as reader,
    ):
        base = Found(store, 5, reader)
        made = base.make()
        predecessor = made.find(base.index.find(b"app-1.tgz"), flat=False)
        assert predecessor is not None
        assert predecessor.is_back == (link < 5)
        text, _ = made.text(predecessor, b"app-1.tgz")
        assert text.streams[0].read(0, text.sizes[0]) == zlib_plain(archive(link))
        made.close()


def test_chunks_that_are_given_up_serve_nobody(found: tuple[int, Found]) -> None:
    version, base = found
    made = base.make()
    entry = base.index.find(b"app-1.tgz")
    start, _ = base.index.runs_of(entry)[-1]
    base.usable[start] = 0
    predecessor = made.find(entry, flat=False)
    if version == 1:
        assert predecessor is None  # it is the root
    else:
        assert predecessor is not None
        assert predecessor.is_back
        (named,) = base.index.expansions[entry].predecessors
        row = base.index.predecessors[named]
        while row.predecessors:
            row = base.index.predecessors[row.predecessors[0]]
        assert made.keep(base.index.expansions[entry]) is not None
        base.usable[row.runs[0][0]] = 0
        assert made.find(entry, flat=False) is None
        assert made.keep(base.index.expansions[entry]) is None
    made.close()


def zlib_plain(data: bytes) -> bytes:
    import gzip

    return gzip.decompress(data)


def test_blobs_are_found_by_what_they_hold(found: tuple[int, Found]) -> None:
    version, base = found
    made = base.make()
    for seed, letter in ((8, b"a"), (9, b"b")):
        new = libdeflate(tar(changed(texts(seed, 4), 99)))
        entry = made.counterpart(b"other/name", new, len(new))
        assert base.index.paths[entry] == b"%s%d%s" % (BLOB.encode(), version, letter)
    unlike = libdeflate(tar(texts(77, 4)))
    assert made.counterpart(b"other/name", unlike, len(unlike)) == -1
    assert made.counterpart(b"other/name", b"no archive" * 1000, 10_000) == -1
    made.close()


def test_opened_archives_are_known_by_their_root(
    found: tuple[int, Found], monkeypatch: pytest.MonkeyPatch
) -> None:
    version, base = found
    read: list[int] = []
    head = Predecessors.head

    def reading(self: Predecessors, entry: int) -> bytes:
        read.append(entry)
        return head(self, entry)

    monkeypatch.setattr(Predecessors, "head", reading)
    made = base.make()
    expansions = base.index.expansions
    opened = {entry for entry, each in expansions.items() if each.predecessors}
    assert bool(opened) == (version > 1)
    new = libdeflate(tar(changed(texts(8, 4), 99)))
    assert made.counterpart(b"other/name", new, len(new)) >= 0
    assert not opened & set(read)
    # What is like no root may be like what became of one.
    unlike = libdeflate(tar(texts(77, 4)))
    assert made.counterpart(b"other/name", unlike, len(unlike)) == -1
    assert opened <= set(read)
    assert len(read) == len(set(read))
    made.close()


def test_an_index_lists_no_more_than_readers_take(
    found: tuple[int, Found], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, base = found
    made = base.make()
    predecessor = made.find(base.index.find(b"app-1.tgz"), flat=False)
    assert predecessor is not None
    assert made.has_room(predecessor, 1)
    assert not made.has_room(predecessor, MAX_OLD_STREAMS + 1)
    monkeypatch.setattr(predecessors, "MAX_PREDECESSORS", 0)
    assert not made.has_room(predecessor, 1)
    made.close()


def update(folder: Path, versions: list[bytes]) -> list[packer.Packed]:
    """Pack versions of one file, and compare what comes back."""
    out = []
    for number, data in enumerate(versions):
        root = write(folder / f"v{number}", {"disk.img": data})
        out.append(packer.pack(root, store=folder / "store", tag=f"app:{number}", cache=False))
        packer.unpack(f"app:{number}", folder / f"out{number}", store=folder / "store")
        assert (folder / f"out{number}/disk.img").read_bytes() == data
    return out


def test_an_archive_far_behind_the_start_of_a_file_is_found(tmp_path: Path) -> None:
    plain = b"".join(b"%d plain\n" % number for number in range(80_000))
    assert len(plain) > alike.HEAD_BYTES
    closed, opened = update(tmp_path, [plain + archive(1), plain + archive(2)])
    assert opened.new_bytes < len(archive(2)) / 3 < closed.new_bytes
    assert len(packer.inspect("app:1", store=tmp_path / "store").opened) == 1


def test_new_text_beside_an_archive_does_not_open_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(Predecessors, "text")  # the older file is not even read
    plain = b"".join(b"%d plain\n" % number for number in range(30_000))
    _, second = update(tmp_path, [plain + archive(1), b"new\n" + plain + archive(1)])
    assert not packer.inspect("app:1", store=tmp_path / "store").opened
    assert second.new_bytes < 10_000


def test_archives_without_an_older_self_are_told(tmp_path: Path) -> None:
    first, other = update(tmp_path, [archive(1), libdeflate(tar(texts(77, 4)))])
    for packed in (first, other):
        (row,) = packed.closed
        assert (row.path, row.kind, row.reason) == ("disk.img", "gzip", "new")
        assert packed.bytes - 18 <= row.bytes <= packed.bytes, "all of it but header and trailer"


def test_a_file_that_changes_after_it_was_cut_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = archive(1), libdeflate(tar(texts(77, 4)))
    update(tmp_path, [old])
    root = write(tmp_path / "changing", {"disk.img": new})
    real = UpdatedFile.new_bytes

    def meddle(self: UpdatedFile, known: Ordinals) -> int:
        found = real(self, known)
        (root / "disk.img").write_bytes(new[::-1])
        return found

    monkeypatch.setattr(UpdatedFile, "new_bytes", meddle)
    with pytest.raises(SourceChanged, match=r"disk\.img"):
        packer.pack(root, store=tmp_path / "store", tag="app:9", cache=False)


def test_samples_of_what_is_no_archive() -> None:
    assert alike.samples(b"") == frozenset()
    assert alike.samples(b"\x1f\x8b\x08\0\0\0\0\0\0\0\xff\xff\xff") == frozenset()
    whole = zlib_gzip(tar(TEXTS))
    assert alike.samples(whole) == alike.samples(libdeflate(tar(TEXTS)))
    assert len(alike.samples(whole[: len(whole) // 2])) > 10


def test_samples_of_zstd_frames() -> None:
    text = tar(TEXTS)
    whole = alike.samples(zstd(text, 19))
    assert whole == alike.samples(libdeflate(text))
    assert whole == alike.samples(frames(text, 10_000, 1))
    assert len(alike.samples(zstd(text * 4)[:-9])) > 10
    for none in (b"\x28\xb5\x2f\xfd", b"\x28\xb5\x2f\xfd" + bytes(range(200))):
        assert alike.samples(none) == frozenset()


def test_layers_by_zstd_are_found_by_what_they_hold(tmp_path: Path) -> None:
    """Not those by gzip: old sequences tell nothing of tokens."""
    sizes = []
    for number in (1, 2):
        layer = tar(changed(texts(files=60), number))
        blobs = {
            hashlib.sha256(data).hexdigest(): data for data in (zstd(layer), libdeflate(layer))
        }
        folder = write(tmp_path / f"v{number}", blobs)
        packed = packer.pack(folder, store=tmp_path / "store", tag=f"app:{number}")
        out = tmp_path / f"out{number}"
        packer.unpack(f"app:{number}", out, store=tmp_path / "store")
        assert {path.name: path.read_bytes() for path in out.iterdir()} == blobs
        sizes.append(packed.new_bytes)
    assert sizes[1] < sizes[0] / 8
    assert len(packer.inspect("app:2", store=tmp_path / "store").opened) == 2


def test_inspect_says_what_is_kept_for_opened_files(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for version in range(1, 7):
        details = packer.inspect(f"app:{version}", store=store)
        rows = {row.path: row for row in details.opened}
        if version == 1:
            assert not rows
            continue
        row = rows["app-1.tgz"]
        links = min(version - 1, 4) if version < 6 else 1
        assert (row.links, row.predecessors) == (links, links)
        first = len(archive(1))
        assert first <= row.kept_bytes < 1.5 * first  # the closed file, and the changes since
    assert main(["inspect", "app:3", "--json", "--store", str(store)]) == 0
    (found,) = (
        each
        for each in json.loads(capsys.readouterr().out)["opened"]
        if each["path"] == "app-1.tgz"
    )
    assert (found["links"], found["predecessors"]) == (2, 2)
    assert main(["inspect", "app:3", "--store", str(store)]) == 0
    lines = capsys.readouterr().out.splitlines()
    at = next(at for at, line in enumerate(lines) if line.startswith("OPENED"))
    assert lines[at].split()[-2:] == ["LINKS", "KEPT"]
    (line,) = (line for line in lines[at:] if line.startswith("app-1.tgz"))
    assert line.split()[-3] == "2"  # then a size and its unit


@pytest.mark.parametrize("joined", ["members", "streams"])
def test_an_archive_that_changed_in_the_version_before_is_not_stored_anew(
    tmp_path: Path, joined: str
) -> None:
    def bundle(*versions: int) -> bytes:
        parts = [
            gzip.compress(b"v%d " % version + text(at, 200_000), 6, mtime=0)
            for at, version in enumerate(versions)
        ]
        if joined == "streams":
            return b"".join(parts)
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            for at, part in enumerate(parts):
                info = tarfile.TarInfo(f"{at}.gz")
                info.size = len(part)
                tar.addfile(info, io.BytesIO(part))
        return out.getvalue()

    root, store = tmp_path / "v", tmp_path / "s"
    root.mkdir()
    # The last ones go back to the root of the chain, which holds no stream that changed since.
    for at, versions in enumerate([(0, 0), (1, 0), (1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (5, 2)]):
        (root / "bundle").write_bytes(bundle(*versions))
        packed = packer.pack(root, store=store, tag=f"app:{at}")
        assert at == 0 or packed.new_bytes < 8_000
        assert b"".join(packer.cat(f"app:{at}", "bundle", store=store)) == bundle(*versions)


def test_streams_of_literals_alone_are_opened(tmp_path: Path) -> None:
    """They look less compressed than others: a byte of them tells what the next may be."""
    modules = (argparse, inspect, optparse, pickle, pydoc, subprocess, tarfile, threading)
    source = "".join(map(inspect.getsource, modules)).replace(" ", 8 * " ").encode()

    def literals(version: int) -> bytes:
        encoder = zlib.compressobj(6, zlib.DEFLATED, -15, strategy=zlib.Z_HUFFMAN_ONLY)
        data = b"version %d\n" % version + source
        return as_gzip(encoder.compress(data) + encoder.flush(), data)

    for version in range(8, 11):
        folder = write(tmp_path / f"v{version}", {"a.tgz": literals(version)})
        tag = f"app:{version}"
        result = packer.pack(folder, store=tmp_path / "store", tag=tag, cache=False)
    assert result.new_bytes < 3000 < len(literals(10)) / 30
    packer.unpack("app:10", tmp_path / "out", store=tmp_path / "store")
    assert (tmp_path / "out" / "a.tgz").read_bytes() == literals(10)


def test_a_stream_behind_short_ones_is_opened(tmp_path: Path) -> None:
    """Of a tar archive of gzip members, as gems are; what surrounds the first ones is not dense."""

    def gem(version: int) -> bytes:
        short = gzip.compress(b"metadata", mtime=0)
        files = {f"{number}.gz": short for number in range(3)}
        return tar(files | {"a": bytes(8 << 10), "data.tar.gz": archive(version)})

    for version in range(1, 3):
        folder = write(tmp_path / f"v{version}", {f"a-1.{version}.gem": gem(version)})
        tag = f"app:{version}"
        result = packer.pack(folder, store=tmp_path / "store", tag=tag, cache=False)
    assert result.new_bytes < 4000 < len(gem(2)) / 5
    packer.unpack("app:2", tmp_path / "out", store=tmp_path / "store")
    assert (tmp_path / "out" / "a-1.2.gem").read_bytes() == gem(2)
