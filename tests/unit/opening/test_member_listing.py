"""Looking into archives: every dialect, and what strangers may send."""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import random
import shutil
import struct
import subprocess
import tarfile
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest

from packer.opening.members import archive, spooling
from packer.opening.members.archive import Factory
from packer.opening.members.member_listing import Listing, list_members
from packer.opening.members.member_reading import read_member
from packer.opening.members.spooling import spooled
from packer.opening.members.stored_pieces import Run, Stream

MOST = 1 << 30
NOISE = random.Random(1).randbytes(400)


def tar(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def tgz(members: dict[str, bytes]) -> bytes:
    return gzip.compress(tar(members), mtime=0)


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


def header(name: str, kind: bytes, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def stored(data: bytes) -> Factory:
    content = spooled([data])
    return lambda: Stream([Run(content, 0, content.size)] if data else [])


def listed(data: bytes, most: int = MOST) -> Listing:
    found = list_members(stored(data), most, digests=True)
    return found if found is not None else Listing()


def names(data: bytes, most: int = MOST) -> list[tuple[str, int]]:
    return [(path, member.size) for path, member in listed(data, most).walk()]


def content(data: bytes, path: str) -> bytes:
    return b"".join(read_member(stored(data), path, MOST))


def test_members_at_any_depth() -> None:
    inner = tgz({"x/a.txt": b"a" * 700})
    wheel = zipped({"p/m.py": b"pass"})
    outer = tgz({"charts/x.tgz": inner, "b.whl": wheel, "empty": b""})
    assert names(outer) == [
        ("charts/x.tgz", len(inner)),
        ("charts/x.tgz!/x/a.txt", 700),
        ("b.whl", len(wheel)),
        ("b.whl!/p/m.py", 4),
        ("empty", 0),
    ]
    assert content(outer, "charts/x.tgz!/x/a.txt") == b"a" * 700
    assert content(outer, "charts/x.tgz") == inner
    assert content(outer, "b.whl!/p/m.py") == b"pass"
    for compress in (gzip.compress, bz2.compress):
        assert names(compress(b"text") + compress(b" more")) == [("content", 9)]
        assert names(compress(tar({"a": b"1" * 600}))) == [("a", 600)]
        assert content(compress(tar({"a": b"1" * 600})), "a") == b"1" * 600
        assert listed(compress(NOISE)[:-20]).problems


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"plain",
        b"\x1f\x8b\x08",
        b"PK\3\4 no archive",
        gzip.compress(b"x" * 4000, mtime=0)[:-30],
        b"\x1f\x8b\x08" + bytes(600),
    ],
)
def test_no_archive_is_no_error(data: bytes) -> None:
    assert [name for name, _ in names(data) if name != "content"] == []


# A reader that held extended headers took 6 GB for this archive of 2 KB.
@pytest.mark.slow
@pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K"])
def test_an_endless_extended_header_takes_no_memory(kind: bytes) -> None:
    size = 64 << 20
    compressor = zlib.compressobj(9, zlib.DEFLATED, 31)
    parts = [compressor.compress(header("long", kind, size))]
    parts += [compressor.compress(bytes(1 << 20)) for _ in range(size >> 20)]
    parts += [compressor.compress(header("file", b"0", 0) + bytes(1024)), compressor.flush()]
    data = b"".join(parts)
    tracemalloc.start()
    try:
        found = listed(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 32 << 20
    assert list(found.members) == ["file"]
    assert found.problems == [f"an extended header has {size} bytes"]


def test_many_extended_headers_take_no_memory() -> None:
    record = b"%d comment=" % (1 << 19)
    record += b"x" * ((1 << 19) - len(record) - 1) + b"\n"
    one = header("pax", b"x", len(record)) + record
    data = gzip.compress(one * 100 + header("file", b"0", 0), 1)
    tracemalloc.start()
    try:
        found = listed(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 32 << 20
    assert list(found.members) == ["file"]


# Readers that skip by reading never come to its end.
@pytest.mark.parametrize("kind", [b"Z", b"0", b"x", b"5"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_member_of_any_size_ends(kind: bytes, pack: Callable[[bytes], bytes]) -> None:
    found = listed(pack(header("endless", kind, 1 << 62) + bytes(1024)))
    if kind != b"5":
        assert found.problems
    with pytest.raises((ValueError, KeyError)):
        assert not content(pack(header("endless", kind, 1 << 62)), "endless")


def test_a_member_of_any_size_in_the_middle() -> None:
    sound = header("sound", b"0", 0)
    found = listed(sound + header("endless", b"0", (8 << 30) - 1) + sound)
    assert list(found.members) == ["sound", "endless"]
    assert found.problems == ["the archive is cut short"]


def test_a_damaged_header_hides_nothing_else() -> None:
    data = bytearray(tar({"a": b"1" * 600, "b": b"2", "c": b"3"}))
    data[512 + 1024 + 100] ^= 0xFF
    found = listed(bytes(data))
    assert list(found.members) == ["a", "c"]
    assert found.problems == ["a header is damaged"]


def test_links_and_two_members_of_a_name() -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in (("bin/a", b"tool" * 200), ("list", b"old"), ("list", b"new")):
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o755
            archive.addfile(info, io.BytesIO(data))
        for name, kind in (("bin/b", tarfile.LNKTYPE), ("bin/c", tarfile.SYMTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "bin/a"
            archive.addfile(info)
    for data in (out.getvalue(), gzip.compress(out.getvalue())):
        found = listed(data).members
        assert {name: (item.kind, item.target) for name, item in found.items()} == {
            "bin/a": ("file", ""),
            "list": ("file", ""),
            "bin/b": ("hardlink", "bin/a"),
            "bin/c": ("symlink", "bin/a"),
        }
        assert found["bin/a"].mode == 0o755
        assert content(data, "bin/b") == b"tool" * 200
        assert content(data, "list") == b"new"
        with pytest.raises(ValueError, match="symlink"):
            content(data, "bin/c")
    twice = io.BytesIO()
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(twice, "w") as archive_file:
        archive_file.writestr("list", "old")
        archive_file.writestr("list", "new")
    assert content(twice.getvalue(), "list") == b"new"


def test_hard_links_in_a_circle() -> None:
    rounds = b""
    for name, target in (("a", "b"), ("b", "a"), ("c", "c")):
        info = tarfile.TarInfo(name)
        info.type, info.linkname = tarfile.LNKTYPE, target
        rounds += info.tobuf()
    for name in "abc":
        with pytest.raises(ValueError, match="circle"):
            content(rounds, name)


def damaged(data: bytes, kind: str) -> bytes:
    """Return a zip archive whose first entry cannot be read."""
    out = bytearray(data)
    local, central = out.find(b"PK\3\4"), out.find(b"PK\1\2")
    if kind == "encrypted":
        out[local + 6] |= 1
        out[central + 8] |= 1
    elif kind == "unknown method":
        out[local + 8 : local + 10] = out[central + 10 : central + 12] = struct.pack("<H", 93)
    elif kind == "other slash":
        out[central + 46 + 1] = ord("\\")
    elif kind == "no name":
        out[central + 46 : central + 49] = b"\0\0\0"
    elif kind == "content":
        out[local + 33 : local + 45] = b"\xff" * 12
    elif kind == "header":
        out[local] = 0
    return bytes(out)


@pytest.mark.parametrize("kind", ["encrypted", "unknown method", "other slash", "no name"])
@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_one_odd_entry_hides_no_other(kind: str, method: int) -> None:
    check_others(damaged(zipped({"a/1": NOISE, "a/2": b"two" * 99}, method), kind))


@pytest.mark.parametrize("kind", ["content", "header"])
@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_one_damaged_entry_hides_no_other(kind: str, method: int) -> None:
    data = damaged(zipped({"a/1": NOISE, "a/2": b"two" * 99}, method), kind)
    check_others(data)
    with pytest.raises(ValueError):
        content(data, "a/1")
    # Its stored bytes tell that it changed.
    other = damaged(zipped({"a/1": NOISE[::-1], "a/2": b"two" * 99}, method), kind)
    if kind == "content":
        assert listed(data).members["a/1"].digest != listed(other).members["a/1"].digest


def check_others(data: bytes) -> None:
    found = listed(data)
    assert len(found.members) == 2
    assert found.members["a/2"].size == 297
    assert not found.problems
    assert content(data, "a/2") == b"two" * 99


def test_zip_archives_are_found_by_their_end() -> None:
    data = zipped({"a": b"1" * 600, "b": b"2"})
    program = b"#!/usr/bin/env python3\n" + data
    assert names(program) == [("a", 600), ("b", 1)]
    assert content(program, "a") == b"1" * 600
    for comment in (b"comment", b"PK\5\6" + bytes(18) + b"more", bytes(65_535)):
        out = io.BytesIO(data)
        with zipfile.ZipFile(out, "a") as archive:
            archive.comment = comment
        assert names(out.getvalue()) == [("a", 600), ("b", 1)]
    assert names(data + bytes(40)) == [("a", 600), ("b", 1)]
    assert names(zipped({})) == []
    cut = listed(data[:-30])
    assert not cut.members
    assert cut.problems == ["no central directory is found at its end"]


def test_zip_archives_of_the_64_bit_kind() -> None:
    out = io.BytesIO()
    with (
        zipfile.ZipFile(out, "w", allowZip64=True) as archive,
        archive.open("a", "w", force_zip64=True) as file,
    ):
        file.write(b"1" * 600)
    data = bytearray(out.getvalue())
    at = data.find(b"PK\5\6")
    count, size, offset = struct.unpack_from("<HLL", data, at + 10)
    end = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, offset)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, at, 1)
    data[at + 10 : at + 20] = b"\xff" * 10
    data[at:at] = end + locator
    assert names(bytes(data)) == [("a", 600)]
    assert content(bytes(data), "a") == b"1" * 600


def test_names_in_their_encoding() -> None:
    assert names(zipped({"gr\u00fc\u00dfe": b""})) == [("gr\u00fc\u00dfe", 0)]
    data = bytearray(zipped({"xyz": b""}))
    for at in (data.find(b"xyz"), data.rfind(b"xyz")):
        data[at : at + 3] = b"a\x81b"
    central = data.find(b"PK\1\2")
    assert names(bytes(data)) == [("a\udc81b", 0)]  # from Unix: the bytes of a file system
    data[central + 5] = 0
    assert names(bytes(data)) == [("a\u00fcb", 0)]  # from DOS: code page 437
    assert names(tar({"gr\u00fc\u00dfe": b"", "a\udc81": b""})) == [
        ("gr\u00fc\u00dfe", 0),
        ("a\udc81", 0),
    ]


def test_a_separator_in_names() -> None:
    inner = tgz({"y!/z": b"deep"})
    data = tar({"x": inner, "x!/y": b"flat", "o!/x.tgz": inner})
    assert content(data, "x!/y") == b"flat"
    assert content(data, "x!/y!/z") == b"deep"
    assert content(data, "o!/x.tgz!/y!/z") == b"deep"
    for path, member in listed(data).walk():
        assert len(content(data, path)) == member.size


@pytest.mark.parametrize(
    "form",
    ["gnu", "oldgnu", "posix 0.0", "posix 0.1", "posix 1.0"],
)
def test_sparse_files(tmp_path: Path, form: str) -> None:
    program = shutil.which("tar")
    if program is None or b"GNU" not in subprocess.check_output([program, "--version"]):
        pytest.skip("no GNU tar")
    source = tmp_path / "src"
    source.mkdir()
    with open(source / "log", "wb") as file:
        file.truncate(3 << 20)
        for at in range(0, 3 << 20, 64 << 10):
            file.seek(at)
            file.write(b"%d" % at * 100)
    (source / "last").write_text("last")
    kind, _, version = form.partition(" ")
    options = ["-S", "-H", kind, *([f"--sparse-version={version}"] if version else [])]
    command = [program, *options, "-cf", "-", "-C", str(source), "log", "last"]
    data = subprocess.check_output(command)
    assert len(data) < 1 << 20
    for packed in (data, gzip.compress(data)):
        assert names(packed, 2 << 20) == [("log", 3 << 20), ("last", 4)]
        assert content(packed, "log") == (source / "log").read_bytes()
        assert content(packed, "last") == b"last"


def test_a_hole_of_any_size_costs_nothing() -> None:
    block = bytearray(header("vast", b"S", 0))
    block[483:495] = b"\x80" + (1 << 62).to_bytes(11, "big")
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    assert names(bytes(block)) == [("vast", 1 << 62)]


def test_a_bomb_ends_early_and_says_so() -> None:
    bomb = gzip.compress(tar({"a": b"1", "zeros": bytes(1 << 24), "more": b"x"}))
    found = listed(bomb, most=1 << 20)
    assert list(found.members)[:1] == ["a"]
    assert found.problems == [f"it holds more than {1 << 20} bytes"]
    with pytest.raises(KeyError):
        content(bomb, "other")
    assert content(bomb, "more") == b"x"


def test_too_many_members(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_MEMBERS", 3)
    for make in (tar, tgz, zipped):
        found = listed(make({str(at): b"" for at in range(5)}))
        assert len(found.members) == 3
        assert found.problems == ["it holds more than 3 members"]


def test_names_that_are_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    # Headers of one letter compress a thousandfold, and a listing holds every name.
    monkeypatch.setattr(archive, "MAX_NAME_CHARS", 3000)
    for make in (tar, tgz, zipped):
        found = listed(make({str(at) + "n" * 999: b"" for at in range(5)}))
        assert len(found.members) == 3
        assert found.problems == ["the names in it are longer than 3000 characters"]


def test_a_full_disk_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(directory: bytes | None) -> IO[bytes]:
        raise OSError(errno.ENOSPC, "No space left on device")

    inner = zipped({"x": random.Random(1).randbytes(2000)})
    factory = stored(tgz({"a.zip": inner, "b": b"2"}))
    monkeypatch.setattr(spooling, "temporary_file", full)
    monkeypatch.setattr(spooling, "_SPOOL_BYTES", 1000)
    found = list_members(factory, MOST, digests=False)
    assert found is not None
    assert [problem for _, problem in found.all_problems()] == [
        "a temporary file cannot be written: No space left on device"
    ]


def test_problems_in_archives_in_archives() -> None:
    cut = tgz({"x": b"1" * 5000})[:-40]
    found = listed(tar({"a.tgz": cut, "b": b"2"}))
    assert list(found.members) == ["a.tgz", "b"]
    assert [path for path, _ in found.all_problems("v.tar")] == ["v.tar!/a.tgz"]


def mutated(data: bytes, rng: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 5])):
        at = rng.choice([rng.randrange(len(out)), min(rng.randrange(700), len(out) - 1)])
        kind = rng.randrange(4)
        if kind < 2:
            out[at] = rng.randrange(256)
        elif kind == 2:
            del out[at : at + rng.choice([1, 512])]
        else:
            out[at : at + 4] = rng.choice([b"\xff" * 4, b"PK\1\2", b"PK\5\6", b"7777"])
        out = out or bytearray(1)
    for at in range(0, len(out) - 511, 512):  # most readers look no further at a wrong checksum
        block = out[at : at + 512]
        if block[257:262] == b"ustar" and rng.random() < 0.7:
            block[148:156] = b" " * 8
            out[at + 148 : at + 156] = b"%06o\0 " % sum(block)
    return bytes(out)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_damaged_nothing_else_is_raised(seed: int) -> None:
    rng = random.Random(seed)
    members = {f"d/{at}": rng.randbytes(30) * rng.choice([0, 5, 40]) for at in range(4)}
    archives = [tar(members), tgz(members), tgz({"x.zip": zipped(members)})]
    archives += [zipped(members, method) for method in (0, 8, 12, 14)]
    for _ in range(300):
        data = mutated(rng.choice(archives), rng)
        found = listed(data, 1 << 22)
        found.digest()
        for path, _ in [*found.walk()][:2]:
            try:
                content(data, path)
            except (KeyError, ValueError):
                continue
