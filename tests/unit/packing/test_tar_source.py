"""A tar archive as the tree to pack: by GNU tar and Python, and from strangers."""

from __future__ import annotations

import contextlib
import io
import os
import random
import shutil
import subprocess
import tarfile
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import packer
from packer.errors import SourceError, UnsupportedFile
from packer.files.tar_format import TarHeader, read_header, write_header
from packer.stores.memory import MemoryStore
from tests.builders import noise, text, write
from tests.conformance.make_samples import read_tree

LONG = "/".join(["d" * 90, "e" * 90, "f" * 90])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = write(
        tmp_path / "tree",
        {
            "a.yaml": text(1, 3000),
            "a-b/x": b"between",
            "a/x": noise(1, 300_000),
            "empty": b"",
            "run.sh": b"#!/bin/sh\n",
            f"{LONG}/g": b"long",
            "n" * 255: b"a name of 255 bytes",
            "umlaut/\u00e4": b"1",
        },
    )
    (made / os.fsdecode(b"bad\xff")).write_bytes(b"bytes")
    os.symlink("a/x", made / "link")
    os.symlink("/".join(["t" * 90] * 4), made / "long-link")
    os.link(made / "a.yaml", made / "hard")
    (made / "private").mkdir(mode=0o700)
    os.chmod(made / "run.sh", 0o755)
    os.chmod(made / "empty", 0o444)
    os.chmod(made / "a", 0o555)
    return made


def gnu_tar() -> str:
    found = shutil.which("tar")
    if found is None or b"GNU tar" not in subprocess.check_output([found, "--version"]):
        pytest.skip("no GNU tar")
    return found


def pack_bytes(data: bytes, **options: object) -> tuple[packer.Packed, MemoryStore]:
    store = MemoryStore()
    return packer.pack(io.BytesIO(data), store=store, tag="app:1", **options), store  # type: ignore[arg-type]


@pytest.mark.parametrize("form", ["gnu", "pax", "ustar"])
def test_archives_of_gnu_tar(root: Path, tmp_path: Path, form: str) -> None:
    if form == "ustar":  # which cannot hold such names and targets
        shutil.rmtree(root / LONG.split("/", maxsplit=1)[0])
        os.unlink(root / ("n" * 255))
        os.unlink(root / "long-link")
    data = subprocess.check_output([gnu_tar(), f"--format={form}", "-C", root, "-c", "."])
    packed, store = pack_bytes(data)
    packer.unpack("app:1", tmp_path / "out", store=store)
    assert read_tree(tmp_path / "out") == read_tree(root)
    other = MemoryStore()
    packer.pack(root, store=other, tag="app:1")
    trees = {packer.open_version("app:1", store=each).config.tree for each in (store, other)}
    assert len(trees) == 1
    assert packed.files == sum(path.is_file() and not path.is_symlink() for path in root.rglob("*"))


def test_gnu_tar_extracts_what_unpack_tar_writes(root: Path, tmp_path: Path) -> None:
    store = MemoryStore()
    packer.pack(root, store=store, tag="app:1")
    data = b"".join(packer.unpack_tar("app:1", store=store))
    (tmp_path / "out").mkdir()
    found = subprocess.run(
        [gnu_tar(), "-C", tmp_path / "out", "-xp"], input=data, capture_output=True, check=True
    )
    assert not found.stderr
    assert read_tree(tmp_path / "out") == read_tree(root)
    assert data == b"".join(packer.unpack_tar("app:1", store=store))
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        names = [member.name.encode("utf-8", "surrogateescape") for member in archive]
    assert names == sorted(names)
    again, second = pack_bytes(data)
    assert (
        packer.open_version("app:1", store=second).config.tree
        == packer.open_version("app:1", store=store).config.tree
    )
    assert again.files == len([n for n in names if (root / os.fsdecode(n)).is_file()]) - 1


def test_a_part_as_tar(root: Path) -> None:
    store = MemoryStore()
    packer.pack(root, store=store, tag="app:1")
    data = b"".join(packer.unpack_tar("app:1", store=store, paths=["a"], exclude=["x"]))
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert [(member.name, member.mode) for member in archive] == [("a", 0o555)]
    assert b"".join(packer.cat("app:1", "a-b/", store=store)) == b"".join(
        packer.unpack_tar("app:1", store=store, paths=["a-b"])
    )
    with pytest.raises(packer.NotFound):
        packer.unpack_tar("app:1", store=store, paths=["b"])


def made(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for info, data in members:
            info.size = len(data) if info.type == tarfile.REGTYPE else 0
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def member(
    name: str,
    data: bytes = b"",
    kind: bytes = tarfile.REGTYPE,
    target: str = "",
    sparse: bool = False,
    **pax: str,
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.pax_headers = kind, target, dict(pax)
    if sparse:
        info.pax_headers["GNU.sparse.major"] = "1"
    return info, data


LINK, HARD, FOLDER = tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE
FILE = made(member("a", b"x"))


def with_block(data: bytes, change: Callable[[bytearray], None]) -> bytes:
    """Change the first header, and set its sum right."""
    block = bytearray(data[:512])
    change(block)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + data[512:]


def set_bytes(at: int, value: bytes) -> Callable[[bytearray], None]:
    def change(block: bytearray) -> None:
        block[at : at + len(value)] = value

    return change


HOSTILE = {
    "nothing": b"",
    "text": b"hello\n" * 200,
    "gzip": b"\x1f\x8b" + bytes(600),
    "zstd": b"\x28\xb5\x2f\xfd" + bytes(600),
    "short": FILE[:300],
    "cut in a file": made(member("a", b"x" * 5000))[:2000],
    "no end": FILE[:1024],
    "cut padding": FILE[:600],
    "absolute": made(member("/etc/x", b"x")),
    "climbs": made(member("a/../../x", b"x")),
    "climbs as directory": made(member("../x", kind=FOLDER)),
    "no name": made(member(".", b"x")),
    "through a link": made(member("a", kind=LINK, target="/tmp"), member("a/x", b"x")),
    "through a link below": made(
        member("d", kind=FOLDER), member("d/a", kind=LINK, target=".."), member("d/a/x/y", b"x")
    ),
    "directory at a link": made(
        member("a", kind=LINK, target="/tmp"), member("a", kind=FOLDER), member("a/x", b"x")
    ),
    "file at a directory": made(member("a/x", b"x"), member("a", b"y")),
    "link at a directory": made(member("a/x", b"x"), member("a", kind=LINK, target="b")),
    "below a file": made(member("a", b"x"), member("a/b", b"x")),
    "hard link outside": made(member("a", kind=HARD, target="/etc/passwd")),
    "hard link climbs": made(member("a", kind=HARD, target="../../etc/passwd")),
    "hard link to nothing": made(member("a", kind=HARD, target="b"), member("b", b"x")),
    "hard link to itself": made(member("a", b"x"), member("a", kind=HARD, target="a")),
    "hard link to a directory": made(member("d", kind=FOLDER), member("a", kind=HARD, target="d")),
    "hard link through a link": made(
        member("l", kind=LINK, target="/etc"), member("a", kind=HARD, target="l/passwd")
    ),
    "link to nothing": made(member("a", kind=LINK, target="")),
    "device": made(member("a", kind=tarfile.CHRTYPE)),
    "fifo": made(member("a", kind=tarfile.FIFOTYPE)),
    "unknown type": made(member("a", kind=b"Q")),
    "sparse": with_block(FILE, set_bytes(156, b"S")),
    "sparse in pax": made(member("a", b"x", sparse=True)),
    "pax of 2 MB": made(member("a", b"x", comment="x" * 2_000_000)),
    "pax that names all": made(member("b", b"x", path="../x")),
    "pax size": made(member("b", b"x", size="-1")),
    "a wrong sum": FILE[:148] + b"000000\0 " + FILE[156:],
    "no number": with_block(FILE, set_bytes(124, b"zzzzzzzzzzz\0")),
    "a negative size": with_block(FILE, set_bytes(124, b"\xff" * 12)),
    "a huge size": with_block(FILE, set_bytes(124, b"\x80" + b"\xff" * 11)),
    "a directory with content": with_block(FILE, set_bytes(156, b"5")),
    "a long component": made(member("a" * 256, b"x")),
    "a long path": made(member("/".join(["a" * 200] * 30), b"x")),
    "a NUL": made(member("b", b"x", path="a\0b")),
    "a NUL in a target": made(member("b", kind=LINK, linkpath="a\0b")),
    "data behind the end": FILE + b"x" * 512,
    "two archives": FILE + FILE,
    "an extension alone": made(member("a" * 200, b""))[:1024] + bytes(1024),
}


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The directory for temporary files; a test fails if anything is left or written beside it."""
    place = tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setenv("TMPDIR", str(place))
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", None)
    yield place
    assert os.listdir(place) == []
    assert sorted(os.listdir(tmp_path)) in (["tmp"], ["store", "tmp"])


@pytest.mark.parametrize("name", HOSTILE)
def test_strangers_archives_are_refused(name: str, outside: Path) -> None:
    store = MemoryStore()
    before = set(os.listdir("/tmp"))
    with pytest.raises(SourceError) as caught:
        packer.pack(io.BytesIO(HOSTILE[name]), store=store, tag="app:1")
    assert "\n" not in str(caught.value)
    assert not packer.versions(store=store)
    assert not [name for name in set(os.listdir("/tmp")) - before if name == "x"]


def test_later_members_replace_earlier_ones(tmp_path: Path) -> None:
    read_only = member("a", b"1")
    read_only[0].mode = 0o400
    data = made(
        read_only,
        member("d", kind=FOLDER),
        member("h", kind=HARD, target="a"),
        member("a", b"22"),
        member("d", kind=FOLDER),
        member("l", b"x"),
        member("l", kind=LINK, target="a"),
        member("l2", kind=HARD, target="l"),
    )
    _, store = pack_bytes(data)
    found = {entry.path: entry for entry in packer.ls("app:1", store=store)}
    assert (found["a"].size, found["a"].mode, found["h"].mode) == (2, 0o644, 0o400)
    assert (found["l"].kind, found["l2"].target) == ("symlink", "a")
    assert b"".join(packer.cat("app:1", "h", store=store)) == b"1"


def test_order_owners_and_times_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    members = [member(f"d{at % 7}/{at}", text(at, 500)) for at in range(50)]
    one, _ = pack_bytes(made(*members))
    for info, _ in members:
        info.uid, info.mtime, info.uname = 7, 12345, "somebody"
    random.Random(1).shuffle(members)
    two, _ = pack_bytes(made(*members, form=tarfile.GNU_FORMAT))
    assert one.digest == two.digest


def test_rules_apply(root: Path) -> None:
    data = made(member(".layerpackerignore", b"*.log\n"), member("a.log", b"1"), member("b", b"2"))
    packed, store = pack_bytes(data, exclude=["b"])
    assert [entry.path for entry in packer.ls("app:1", store=store)] == [".layerpackerignore"]
    assert packed.left_out.files == 2


def test_a_tag_is_needed_and_checked_before_anything_is_read() -> None:
    class Never:
        def read(self, size: int, /) -> bytes:
            raise AssertionError

    with pytest.raises(packer.InvalidParameter, match="tag"):
        packer.pack(Never(), store=MemoryStore())
    for options in ({"level": 99}, {"exclude": ["["]}):
        with pytest.raises(packer.InvalidParameter):
            packer.pack(Never(), store=MemoryStore(), tag="app:1", **options)
    with pytest.raises(packer.NotFound):
        packer.pack(Never(), store=MemoryStore(), tag="app:1", base="app:0")


@pytest.mark.slow
def test_memory_is_bounded(outside: Path) -> None:
    """A file of 200 MB passes in pieces, in both directions."""
    size = 200_000_000

    class Stream:
        def __init__(self) -> None:
            self.head = write_header(TarHeader(b"big", "file", 0o644, size, b""))
            self.left = size + -size % 512 + 1024

        def read(self, count: int, /) -> bytes:
            if self.head:
                found, self.head = self.head[:count], self.head[count:]
                return found
            count = min(count, self.left, 100_000)
            self.left -= count
            return bytes(count)

    store = packer.open_store(outside.parent / "store")
    tracemalloc.start()
    try:
        packer.pack(Stream(), store=store, tag="app:1")
        total = sum(len(piece) for piece in packer.unpack_tar("app:1", store=store))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total == 512 + size + -size % 512 + 1024
    assert peak < 80_000_000


PATHS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=300)


@given(PATHS, PATHS, st.integers(0, 1 << 40), st.integers(0, 0o777))
def test_headers_are_read_as_they_are_written(path: str, target: str, size: int, mode: int) -> None:
    for header in (
        TarHeader(path.rstrip("/").encode() or b"x", "file", mode, size, b""),
        TarHeader(path.encode(), "symlink", 0o777, 0, target.encode()),
        TarHeader(path.encode() + b"/", "directory", mode, 0, b""),
    ):
        data = io.BytesIO(write_header(header))
        assert read_header(data.read, "test", is_first=True) == header
        assert not data.read()
        with tarfile.open(fileobj=io.BytesIO(write_header(header) + bytes(1024))) as archive:
            info = archive.next()
        assert info is not None
        assert info.name.rstrip("/") == header.path.decode().rstrip("/")
        assert (info.mode, info.size) == (header.mode, header.size)
        assert header.kind != "symlink" or info.linkname == target


@given(st.binary(max_size=2000), st.integers(0, 600))
def test_any_bytes_are_an_archive_or_refused(data: bytes, keep: int) -> None:
    stream = io.BytesIO(FILE[:keep] + data)
    with contextlib.suppress(SourceError, UnsupportedFile):
        packer.pack(stream, store=MemoryStore(), tag="app:1")
