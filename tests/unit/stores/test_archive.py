"""Archives: hostile tar files, what is written, parts. What every store does is in tests/stores."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import packer
from packer.cli import main
from packer.cli.sizes import parse_size
from packer.errors import (
    DigestMismatch,
    FormatError,
    InvalidParameter,
    NotFound,
    PackerError,
    SizeMismatch,
    StoreError,
    UnsafePath,
)
from packer.oci import DATA_TYPE, MANIFEST_TYPE, Descriptor, digest_of
from packer.stores.archive import tar
from packer.stores.archive.store import ArchiveStore
from packer.stores.archive.tar import TarPlan, read_members
from packer.stores.memory import MemoryStore
from packer.stores.protocols import read_blob
from packer.transfer.copy_graph import CopyResult, copy
from packer.transfer.promises import Promise, decode_promises, encode_promises
from tests.artifacts import make
from tests.builders import noise

SIZES = [5, 700, 512, 1024, 4000, 20_000]


@pytest.fixture
def source() -> MemoryStore:
    store = MemoryStore()
    make(store, SIZES)
    return store


def archive(path: Path, source: MemoryStore, part_bytes: int | None = None) -> CopyResult:
    return copy(source, "v1", ArchiveStore(path, part_bytes=part_bytes), "v1")


def check(path: Path, source: MemoryStore) -> None:
    """Compare every blob of the version with the source's."""
    found = MemoryStore()
    copy(ArchiveStore(path, create=False), "v1", found, "v1")
    assert found.get_manifest("v1") == source.get_manifest("v1")
    assert found._blobs == source._blobs


# What is written


def test_python_reads_what_we_write(tmp_path: Path, source: MemoryStore) -> None:
    path = tmp_path / "a.tar"
    archive(path, source)
    with tarfile.open(path) as tar:
        infos = tar.getmembers()
        assert [info.name for info in infos[:4]] == [
            "oci-layout",
            "index.json",
            "blobs",
            "blobs/sha256",
        ]
        digests = [info.name.removeprefix("blobs/sha256/") for info in infos[4:]]
        assert digests == sorted(digest[7:] for digest in source._blobs)
        for info in infos:
            assert (info.mtime, info.uid, info.gid) == (315532800, 0, 0)
            assert info.mode == (0o755 if info.isdir() else 0o644)
        for info in infos[4:]:
            file = tar.extractfile(info)
            assert file is not None
            assert digest_of(file.read()) == "sha256:" + info.name[-64:]
    assert path.stat().st_size % 512 == 0
    assert os.listdir(tmp_path) == ["a.tar"]


def test_equal_content_is_an_equal_file(tmp_path: Path, source: MemoryStore) -> None:
    # In whatever order the blobs came, and with however many threads.
    archive(tmp_path / "a.tar", source)
    copy(source, "v1", ArchiveStore(tmp_path / "b.tar"), "v1", jobs=1)
    single = ArchiveStore(tmp_path / "c.tar")
    for digest, data in reversed(source._blobs.items()):
        if digest != source.resolve("v1").digest:
            single.push(Descriptor(DATA_TYPE, digest, len(data)), io.BytesIO(data))
    single.put_manifest(source.get_manifest("v1")[1], MANIFEST_TYPE, "v1")
    first = (tmp_path / "a.tar").read_bytes()
    assert first == (tmp_path / "b.tar").read_bytes() == (tmp_path / "c.tar").read_bytes()


def state(path: Path) -> tuple[int, int, int, int]:
    """What writing would change, and reading, which sets the access time, does not."""
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def test_nothing_is_written_when_all_is_there(tmp_path: Path, source: MemoryStore) -> None:
    path = tmp_path / "a.tar"
    assert not archive(path, source).unchanged
    before = state(path)
    assert archive(path, source).unchanged
    assert state(path) == before


def test_a_second_version_is_added(tmp_path: Path, source: MemoryStore) -> None:
    path = tmp_path / "a.tar"
    archive(path, source)
    make(source, [*SIZES, 9999], "v2")
    done = copy(source, "v2", ArchiveStore(path), "v2")
    assert (done.blobs_copied, done.blobs_present) == (1, len(SIZES) + 1)
    store = ArchiveStore(path)
    assert [tag for tag, _ in store.tags()] == ["v1", "v2"]
    with pytest.raises(InvalidParameter, match="2 manifests"):
        store.sole_manifest()
    for tag in ("v1", "v2"):
        target = MemoryStore()
        copy(store, tag, target, tag)
        assert target.get_manifest(tag) == source.get_manifest(tag)


def test_damage_is_not_taken_over(tmp_path: Path, source: MemoryStore) -> None:
    path = tmp_path / "a.tar"
    archive(path, source)
    data = bytearray(path.read_bytes())
    data[data.index(noise("layer 4000", 4000)) + 17] ^= 1
    path.write_bytes(data)
    with pytest.raises(DigestMismatch) as caught:
        ArchiveStore(path).push(
            Descriptor(DATA_TYPE, digest_of(b"new"), 3),
            io.BytesIO(b"new"),
        )
    assert caught.value.expected == digest_of(noise("layer 4000", 4000))
    assert path.read_bytes() == data
    assert os.listdir(tmp_path) == ["a.tar"]


def test_two_writers(tmp_path: Path, source: MemoryStore) -> None:
    # The slower one starts from what is gone meanwhile: its archive would lose the other's blobs.
    path = tmp_path / "a.tar"
    descriptor, data = source.get_manifest("v1")
    blobs = [Descriptor("", digest, len(blob)) for digest, blob in source._blobs.items()]
    blobs = [blob for blob in blobs if blob.digest != descriptor.digest]
    with ArchiveStore(path).assemble(data, MANIFEST_TYPE, "v1", blobs, None) as assembly:
        for blob in blobs:
            assembly.push(blob, io.BytesIO(source._blobs[blob.digest]))
        other = Descriptor(DATA_TYPE, digest_of(b"other"), 5)
        ArchiveStore(path).push(other, io.BytesIO(b"other"))
        with pytest.raises(StoreError, match="another process") as caught:
            assembly.commit()
        assert caught.value.retryable
    assert ArchiveStore(path).exists(other)
    archive(path, source)
    assert ArchiveStore(path).exists(other)
    check(path, source)
    assert os.listdir(tmp_path) == ["a.tar"]


def test_an_assembly_wants_all_its_blobs(tmp_path: Path, source: MemoryStore) -> None:
    data = source.get_manifest("v1")[1]
    blob = Descriptor(DATA_TYPE, digest_of(b"x"), 1)
    store = ArchiveStore(tmp_path / "a.tar")
    with store.assemble(data, MANIFEST_TYPE, "v1", [blob], None) as assembly:
        with pytest.raises(DigestMismatch):
            assembly.push(blob, io.BytesIO(b"y"))
        with pytest.raises(NotFound) as caught:
            assembly.commit()
    assert caught.value.name == blob.digest
    assert os.listdir(tmp_path) == []


def test_what_a_dead_writer_left_is_swept(tmp_path: Path, source: MemoryStore) -> None:
    (tmp_path / ".a.tar-123-abc.tmp").write_bytes(b"half")
    (tmp_path / "mine.tmp").write_bytes(b"not ours")
    archive(tmp_path / "a.tar", source)
    assert sorted(os.listdir(tmp_path)) == ["a.tar", "mine.tmp"]


def test_sizes_beyond_octal(tmp_path: Path) -> None:
    # Nobody writes 8 GiB in a test: a file with a hole, read by Python and by us.
    size = 8**11 + 3
    plan = TarPlan({}, {digest_of(b"big"): size, "sha256:" + "f" * 64: 1})
    path = tmp_path / "big.tar"
    with path.open("wb") as file:
        for offset, data in plan.fixed:
            file.seek(offset)
            file.write(data)
    assert path.stat().st_size == plan.size
    with tarfile.open(path) as tar:
        files = [info for info in tar if info.isfile()]
    assert sorted(info.size for info in files) == [1, size]
    assert {info.offset_data for info in files} == set(plan.offsets.values())
    with path.open("rb") as file:
        members = read_members(
            lambda offset, length: os.pread(file.fileno(), length, offset), plan.size, "big"
        )
    assert sorted(member.size for member in members.values()) == [1, size]


# What is read


def tar_of(
    members: dict[str, bytes], change: Callable[[tarfile.TarInfo], None] | None = None
) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            if change is not None:
                change(info)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


LAYOUT = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}
INDEX = {"index.json": b'{"schemaVersion":2,"manifests":[]}'}
SOUND = LAYOUT | INDEX
NAME = "blobs/sha256/" + digest_of(b"data")[7:]


def raw_header(name: bytes, size: bytes, kind: bytes = b"0") -> bytes:
    block = bytearray(tar.header("x", 0)[:512])
    block[:100] = name.ljust(100, b"\0")
    block[124:136] = size.ljust(12, b"\0")
    block[156:157] = kind
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def retype(kind: bytes, name: str) -> Callable[[tarfile.TarInfo], None]:
    def change(info: tarfile.TarInfo) -> None:
        if info.name == name:
            info.type = kind
            info.linkname = "/etc/passwd"
            info.size = 0

    return change


END = bytes(1024)


@pytest.mark.parametrize(
    ("data", "error", "why"),
    [
        pytest.param(b"", FormatError, "no tar file", id="empty"),
        pytest.param(b"hello" * 200, FormatError, "no tar header", id="text"),
        pytest.param(gzip.compress(tar_of(SOUND)), FormatError, "decompress", id="gzip"),
        pytest.param(END, FormatError, "oci-layout", id="no-members"),
        pytest.param(tar_of(INDEX), FormatError, "no file oci-layout", id="no-layout"),
        pytest.param(tar_of(LAYOUT), FormatError, "no file index.json", id="no-index"),
        pytest.param(
            tar_of({**LAYOUT, "index.json": b"x" * (4 << 20 | 1)}), FormatError, "above", id="large"
        ),
        pytest.param(tar_of({**LAYOUT, "index.json": b"{"}), FormatError, "JSON", id="json"),
        pytest.param(
            tar_of(SOUND, retype(tarfile.SYMTYPE, "index.json")), FormatError, "index", id="symlink"
        ),
        pytest.param(
            tar_of(SOUND, retype(tarfile.LNKTYPE, "oci-layout")), FormatError, "lay", id="hardlink"
        ),
        pytest.param(
            tar_of({**SOUND, NAME: b"data"}, retype(tarfile.SYMTYPE, NAME)),
            FormatError,
            "no regular file",
            id="blob-symlink",
        ),
        pytest.param(
            tar_of({**SOUND, NAME: b"data"}, retype(tarfile.FIFOTYPE, NAME)),
            FormatError,
            "no regular file",
            id="blob-fifo",
        ),
        pytest.param(
            tar_of({**SOUND, "./index.json": b"{}"}), FormatError, "occurs twice", id="index-twice"
        ),
        pytest.param(tar_of(SOUND)[:2048] + tar_of(SOUND), FormatError, "twice", id="two-archives"),
        pytest.param(tar_of({**SOUND, "../x": b""}), UnsafePath, "in", id="climbs"),
        pytest.param(tar_of({**SOUND, "/x": b""}), UnsafePath, "in", id="absolute"),
        pytest.param(tar_of({**SOUND, "a/../../x": b""}), UnsafePath, "in", id="climbs-inside"),
        pytest.param(tar_of(SOUND)[:1024], FormatError, "cut off", id="cut-at-a-block"),
        pytest.param(tar_of(SOUND)[:530], SizeMismatch, "size", id="cut-in-content"),
        pytest.param(tar_of(SOUND)[:300], FormatError, "no tar", id="cut-in-header"),
        pytest.param(
            raw_header(b"a", b"77777777777\0") + END, SizeMismatch, "size", id="beyond-the-end"
        ),
        pytest.param(
            raw_header(b"a", b"\x80" + b"\x7f" * 11) + END, FormatError, "range", id="huge"
        ),
        pytest.param(
            raw_header(b"a", b"\xff" * 12) + END, FormatError, "octal", id="negative-size"
        ),
        pytest.param(raw_header(b"a", b"-1\0") + END, FormatError, "octal", id="minus"),
        pytest.param(raw_header(b"a", b"99\0") + END, FormatError, "octal", id="decimal"),
        pytest.param(raw_header(b"a", b"0", b"S") + END, FormatError, "sparse", id="gnu-sparse"),
        pytest.param(
            raw_header(b"p", b"33", b"x") + padded(b"27 GNU.sparse.realsize=9999\n") + END,
            FormatError,
            "pax",
            id="pax-cut",
        ),
        pytest.param(
            raw_header(b"p", b"34", b"x") + padded(b"28 GNU.sparse.realsize=9999\n") + END,
            FormatError,
            "sparse",
            id="pax-sparse",
        ),
        pytest.param(
            raw_header(b"p", b"20", b"x") + padded(b"16 size=1000000\n") + raw_header(b"a", b"0"),
            SizeMismatch,
            "size",
            id="pax-size-beyond",
        ),
        pytest.param(
            raw_header(b"p", b"13", b"x") + padded(b"11 size=-1\n") + raw_header(b"a", b"0"),
            FormatError,
            "pax",
            id="pax-size-negative",
        ),
        pytest.param(
            raw_header(b"g", b"13", b"g") + padded(b"11 path=ab\n") + raw_header(b"a", b"0"),
            FormatError,
            "global",
            id="global-path",
        ),
        pytest.param(
            raw_header(b"p", b"4000000", b"x") + bytes(1 << 20), FormatError, "above", id="pax-huge"
        ),
        pytest.param(
            raw_header(b"p", b"4000000", b"L") + bytes(1 << 20),
            FormatError,
            "above",
            id="name-huge",
        ),
        pytest.param(
            raw_header(b"d", b"1000", b"5") + bytes(512) + END, FormatError, "content", id="dir"
        ),
    ],
)
def test_hostile_archives(tmp_path: Path, data: bytes, error: type[Exception], why: str) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(data)
    for _ in range(2):  # the second answer is that of the first
        with pytest.raises(error, match=why) as caught:
            ArchiveStore(path)
        assert "a.tar" in str(caught.value) or error is UnsafePath
    assert path.read_bytes() == data


def test_too_many_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar, "MAX_MEMBERS", 3)
    path = tmp_path / "a.tar"
    path.write_bytes(tar_of({**SOUND, "a": b""}))
    ArchiveStore(path)
    path.write_bytes(tar_of({**SOUND, "a": b"", "b": b""}))
    with pytest.raises(FormatError, match="more than 3"):
        ArchiveStore(path)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("prefix", ["", "./"])
def test_archives_of_other_tools(tmp_path: Path, form: int, prefix: str) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=form, pax_headers={"comment": "of somebody"}) as tar:
        for name in (prefix or ".", prefix + "blobs"):
            folder = tarfile.TarInfo(name)
            folder.type = tarfile.DIRTYPE
            tar.addfile(folder)
        for name, data in {**SOUND, NAME: b"data", "x" * 99 + "/" + "y" * 99: b"long"}.items():
            info = tarfile.TarInfo(prefix + name)
            info.size = len(data)
            info.mtime = 1234567.5 if form == tarfile.PAX_FORMAT else 1234567
            info.uname = "ünäme" if form == tarfile.PAX_FORMAT else "name"
            tar.addfile(info, io.BytesIO(data))
    store = ArchiveStore(path)
    blob = Descriptor(DATA_TYPE, digest_of(b"data"), 4)
    assert read_blob(store, blob, 4) == b"data"
    # Writing it anew would lose the long one.
    with pytest.raises(InvalidParameter, match="more than an image layout"):
        store.push(Descriptor(DATA_TYPE, digest_of(b"new"), 3), io.BytesIO(b"new"))


@given(
    st.lists(st.tuples(st.integers(0, 6000), st.integers(0, 255)), min_size=1, max_size=4),
    st.one_of(st.none(), st.integers(0, 6000)),
)
def test_any_change_is_an_error_or_none(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]], cut: int | None
) -> None:
    folder = tmp_path_factory.getbasetemp() / "changed"
    folder.mkdir(exist_ok=True)
    source = MemoryStore()
    make(source, [5, 700])
    archive(folder / "sound.tar", source)
    data = bytearray((folder / "sound.tar").read_bytes())
    for at, value in changes:
        data[at % len(data)] = value
    path = folder / "bad.tar"
    path.write_bytes(data[:cut])
    found = MemoryStore()
    try:
        copy(ArchiveStore(path, create=False), "v1", found, "v1")
    except PackerError:
        return
    for digest, blob in found._blobs.items():
        assert digest_of(blob) == digest


def test_a_reader_keeps_what_it_opened(tmp_path: Path, source: MemoryStore) -> None:
    path = tmp_path / "a.tar"
    archive(path, source)
    store = ArchiveStore(path)
    blob = Descriptor("", digest_of(noise("layer 20000", 20_000)), 20_000)
    with store.fetch(blob) as reader:
        assert reader.read(10) == noise("layer 20000", 20_000)[:10]
        path.unlink()
        assert reader.read() == noise("layer 20000", 20_000)[10:]
    assert not store.exists(blob)
    with pytest.raises(NotFound):
        ArchiveStore(path, create=False)


# Sizes


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1000", 1000),
        ("1000B", 1000),
        ("4GB", 4_000_000_000),
        ("4G", 4_000_000_000),
        ("4g", 4_000_000_000),
        ("700 MB", 700_000_000),
        ("2GiB", 2 << 30),
        ("2gib", 2 << 30),
        ("512KiB", 512 << 10),
        ("64Mi", 64 << 20),
        ("1.5K", 1500),
        ("1T", 10**12),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "x", "4X", "1.0005K", "1e9", "4 G B", "GB", "٣", "1" * 20, "0.1"]
)
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(InvalidParameter):
        parse_size(text)


# Promises


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "{}",
        "7",
        "[7]",
        "[" * 5000,
        '[{"blobs":7}]',
        '[{"blobs":[],"tag":7}]',
        '[{"blobs":[],"digest":"x"}]',
        "\ud800",
        "[1.5]",
    ],
)
def test_malformed_promises_say_nothing(text: str | None) -> None:
    assert decode_promises(text) == []


def test_promises_name_each_blob_once() -> None:
    blobs = [Descriptor("", digest_of(bytes([n])), 1) for n in range(4)]
    one, two, three, four = (blob.digest for blob in blobs)
    digest = digest_of(b"manifest")
    promises = [
        Promise("", digest, frozenset({one, two})),
        Promise("v2", digest, frozenset({two, three})),
        Promise("v3", digest, frozenset({one, two, three})),
        Promise("", "", frozenset({four})),
    ]
    found = decode_promises(encode_promises(promises, blobs))
    assert [promise.blobs for promise in found] == [{one, two}, {three}, {four}]
    assert list(map(str, found)) == [digest, f"v2 {digest}", "a list of blobs"]
    assert encode_promises(promises, []) is None


@pytest.mark.parametrize(
    "options",
    [
        ["--verify"],
        ["--force"],
        ["--dry-run", "--split", "1"],
        ["--dry-run", "--have", "w"],
        ["--dry-run", "--force"],
    ],
    ids=" ".join,
)
def test_options_an_archive_cannot_honour_are_refused(tmp_path: Path, options: list[str]) -> None:
    # Taken and then ignored, they would promise what nobody checked.
    tree, store, archive = tmp_path / "tree", tmp_path / "store", tmp_path / "a.tar"
    tree.mkdir()
    (tree / "app.yaml").write_text("kind: Deployment\n")
    packer.pack(tree, store=store, tag="v")
    words = ["copy", "v", f"oci-archive:{archive}:v", "--store", str(store), *options]
    assert main.main(words) == (3 if "w" in options else 2)
    assert not archive.exists()
