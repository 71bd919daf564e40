"""Archives that stay closed are told, with their reasons and costs."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import random
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest
import zstandard

import packer
from packer.cli.main import main
from packer.format import archive_heads, closed_files
from packer.format.blob_ranges import BlobRanges
from packer.format.closed_files import ClosedFiles
from packer.opening import discovery
from packer.opening.closed import REASONS, ClosedStreams, kind_of
from packer.packing import scan
from tests.property.test_expand import text

TEXT = text(200_000)


def by_chance(data: bytes) -> bytes:
    """Return a raw deflate stream that no model knows: the encoder's settings change by chance."""
    rng = random.Random(5)
    out = bytearray()
    for at in range(0, len(data), 3000):
        encoder = zlib.compressobj(rng.randrange(1, 10), zlib.DEFLATED, -15, rng.randrange(1, 10))
        out += encoder.compress(data[at : at + 3000])
        out += encoder.flush(zlib.Z_FULL_FLUSH if at + 3000 < len(data) else zlib.Z_FINISH)
    return bytes(out)


def foreign_gzip(data: bytes) -> bytes:
    crc = struct.pack("<II", zlib.crc32(data), len(data))
    return b"\x1f\x8b\x08" + bytes(7) + by_chance(data) + crc


def zip_entry(data: bytes, method: int, flags: int = 0) -> bytes:
    head = struct.pack("<4s5H3I2H", b"PK\3\4", 20, flags, method, 0, 0, 0, len(data), 0, 1, 0)
    return head + b"a" + data


def packed(folder: Path, files: dict[str, bytes], tag: str = "app:1") -> packer.Packed:
    root = folder / "app"
    root.mkdir(exist_ok=True)
    for name, data in files.items():
        (root / name).write_bytes(data)
    return packer.pack(root, store=folder / "store", tag=tag, opening="all")


def told(result: packer.Packed) -> dict[str, list[tuple[str, str, int, int]]]:
    out: dict[str, list[tuple[str, str, int, int]]] = {}
    for row in result.closed:
        out.setdefault(row.path, []).append((row.kind, row.reason, row.streams, row.bytes))
    return out


def test_each_reason_is_told(tmp_path: Path) -> None:
    foreign = foreign_gzip(TEXT)
    xz = lzma.compress(text(400_000, 9))
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w") as archive:
        info = tarfile.TarInfo("layer.tar.gz")
        info.size = len(foreign)
        archive.addfile(info, io.BytesIO(foreign))
    deep = TEXT[:100_000]
    for _ in range(5):
        deep = gzip.compress(b"x" * 600_000 + deep, mtime=1)
    files = {
        "a.tgz": foreign,
        "b.tar.xz": xz,
        "c.zip": zip_entry(b"x" * 5000, 8, 1) + zip_entry(TEXT, 14) + zip_entry(TEXT, 0),
        "d.gz": gzip.compress(TEXT, mtime=1)[:-9000],
        "e.tar": inner.getvalue(),
        "good.gz": gzip.compress(TEXT, mtime=1),
        "good.bz2": bz2.compress(TEXT),
        "plain": TEXT,
    }
    result = packed(tmp_path, files)
    rows = told(result)
    assert rows.keys() == {"a.tgz", "b.tar.xz", "c.zip", "d.gz", "e.tar"}
    assert rows["a.tgz"] == [("gzip", "encoder", 1, len(foreign) - 10)]
    assert rows["b.tar.xz"] == [("xz", "format", 1, len(xz))]
    assert {row[:3] for row in rows["c.zip"]} == {("zip", "encrypted", 1), ("zip", "method", 1)}
    assert rows["d.gz"][0][:2] == ("gzip", "damaged")
    assert rows["e.tar"] == [("gzip", "encoder", 1, len(foreign) - 10)]
    assert result.closed_bytes == sum(row.bytes for row in result.closed)
    assert [row.bytes for row in result.closed] == sorted(
        (row.bytes for row in result.closed), reverse=True
    )
    for row in result.closed:
        assert row.reason in REASONS
    cost = {row.path: row.stored_bytes for row in result.closed}
    assert cost["a.tgz"] > 10_000
    assert cost["e.tar"] < 1000, "its chunks are those of a.tgz"


def test_what_is_opened_or_plain_is_not_told(tmp_path: Path) -> None:
    stored = io.BytesIO()
    with zipfile.ZipFile(stored, "w") as archive:
        archive.writestr("a", TEXT)
    files = {
        "small.gz": gzip.compress(b"few bytes"),
        "empty.bz2": bz2.compress(b""),
        "stored.zip": stored.getvalue(),
        "bzip2.zip": zip_entry(bz2.compress(TEXT), 12),
        "name.xz": TEXT,
        "word": b"BZh9 is no archive, nor is PK\3\4 one" * 3000,
    }
    assert packed(tmp_path, files).closed == ()


def test_without_opening_nothing_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.tgz").write_bytes(foreign_gzip(TEXT))
    result = packer.pack(tmp_path / "a.tgz", store=packer.MemoryStore(), tag="a:1", opening="none")
    assert result.closed == ()


def test_files_that_are_not_read_are_not_told(tmp_path: Path) -> None:
    files = {"a.tgz": foreign_gzip(TEXT)}
    assert packed(tmp_path, files).closed
    (tmp_path / "app" / "new").write_bytes(b"new")
    again = packer.pack(tmp_path / "app", store=tmp_path / "store", tag="app:2", opening="all")
    assert not again.unchanged
    # A stat cache may or may not trust a file that young.
    assert all(row.stored_bytes == 0 for row in again.closed)


def test_inspect_tells_by_first_bytes_and_names(tmp_path: Path) -> None:
    files = {
        "a.TGZ": foreign_gzip(TEXT),
        "b.tar.xz": lzma.compress(TEXT),
        "c.gz": gzip.compress(TEXT, mtime=1),
        "fe0c": zip_entry(noise(1), 8, 1),
        ".zip": b"hidden, and no archive",
        "d.7z": b"another format has this name too",
    }
    packed(tmp_path, files)
    details = packer.inspect("app:1", store=tmp_path / "store")
    rows = {row.path: (row.kind, row.reason, row.bytes) for row in details.closed}
    assert rows == {
        "a.TGZ": ("gzip", "new", len(files["a.TGZ"])),
        "b.tar.xz": ("xz", "format", len(files["b.tar.xz"])),
        "fe0c": ("zip", "encrypted", len(files["fe0c"])),
    }
    assert details.closed[0].stored_bytes > 10_000


def closed_again(store: Path, name: str) -> list[packer.Closed]:
    return sorted(packer.inspect(name, store=store).closed, key=lambda row: row.path)


def with_dictionary(data: bytes) -> bytes:
    """Return a zstd frame that needs a dictionary."""
    parts: list[bytes | bytearray | memoryview] = [
        data[at : at + 500] for at in range(0, len(data), 500)
    ]
    dictionary = zstandard.train_dictionary(4096, parts)
    return zstandard.ZstdCompressor(dict_data=dictionary).compress(data)


def mixed(root: Path) -> None:
    """Write archives of all kinds, named like blobs, and other files that hardly compress."""
    root.mkdir()
    for at, data in enumerate(
        (
            *(compressed(noise(seed, 400_000)) for seed in range(24)),
            bytes(1000) + noise(30, 900_000),
            zipped(noise(31)),
            bz2.compress(noise(32)),
            lzma.compress(noise(33)),
            b"\x89PNG" + noise(34, 900_000),
            zstandard.compress(text(900_000, 35)),
            with_dictionary(text(900_000, 37)),
            b"7z\xbc\xaf'\x1c" + noise(36),
            compressed(b"small"),
            *(compressed(text(40_000, seed)) + bytes(30_000) for seed in range(8)),
        )
    ):
        (root / f"{at:064x}").write_bytes(data)


def test_inspect_tells_what_packing_told(tmp_path: Path) -> None:
    """Of archives at first sight, wherever in a frame their first bytes lie."""
    mixed(tmp_path / "app")
    result = packer.pack(tmp_path / "app", store=tmp_path / "store", tag="app:1")
    told = sorted(result.closed, key=lambda row: row.path)
    assert len(told) > 35
    assert ("zstd", "format") in {(row.kind, row.reason) for row in told}
    small = f"{32:064x}"
    assert closed_again(tmp_path / "store", "app:1") == [row for row in told if row.path != small]


def test_a_changed_archive_that_stayed_closed_is_told_without_a_reason(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    for number, seed in enumerate((1, 3)):
        (tmp_path / "app" / "a").write_bytes(compressed(noise(seed)))
        (tmp_path / "app" / "b").write_bytes(compressed(noise(5)))
        packer.pack(tmp_path / "app", store=tmp_path / "store", tag=f"app:{number}", cache=False)
    first, second = closed_again(tmp_path / "store", "app:1")
    assert (first.path, first.reason) == ("a", "unknown")
    assert first.stored_bytes == pytest.approx(100_000, rel=0.01)
    assert (second.path, second.reason, second.stored_bytes) == ("b", "new", 0)


def test_what_cannot_be_read_goes_by_its_name(tmp_path: Path) -> None:
    files = {"a.tgz": foreign_gzip(TEXT), "b": foreign_gzip(TEXT[9:]), "c.xz": XZ}
    packed(tmp_path, files)
    store = tmp_path / "store"
    for layer in packer.inspect("app:1", store=store).layers:
        (store / "blobs" / "sha256" / layer.digest[7:]).unlink()
    assert [(row.path, row.reason) for row in closed_again(store, "app:1")] == [
        ("a.tgz", "unknown"),
        ("c.xz", "format"),
    ]


def test_damaged_frames_are_no_error(tmp_path: Path) -> None:
    """Whatever lies in a layer: the name tells, or what the wrong bytes look like."""
    files = {"a.tgz": foreign_gzip(TEXT), "b.xz": XZ}
    packed(tmp_path, files)
    store = tmp_path / "store"
    for layer in packer.inspect("app:1", store=store).layers:
        path = store / "blobs" / "sha256" / layer.digest[7:]
        path.chmod(0o644)
        path.write_bytes(noise(1, layer.size))
    rows = closed_again(store, "app:1")
    assert {(row.path, row.kind) for row in rows} <= {("a.tgz", "gzip"), ("b.xz", "xz")}


def test_reading_first_bytes_is_bounded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mixed(tmp_path / "app")
    packer.pack(tmp_path / "app", store=tmp_path / "store", tag="app:1")
    read = 0
    original = BlobRanges.read

    def counted(self: BlobRanges, layer: int, offset: int, length: int) -> bytes | memoryview:
        nonlocal read
        read += length
        return original(self, layer, offset, length)

    monkeypatch.setattr(BlobRanges, "read", counted)
    everything = packer.inspect("app:1", store=tmp_path / "store").closed
    assert 0 < read < 2 << 20
    read = 0
    monkeypatch.setattr(archive_heads, "LOCAL_BYTES", 100_000)
    some = packer.inspect("app:1", store=tmp_path / "store").closed
    assert 0 < len(some) < len(everything)
    assert set(some) < set(everything)
    assert 0 < read <= 100_000


def test_the_list_is_bounded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(closed_files, "MAX_CLOSED", 3)
    found = ClosedFiles()
    for entry in range(100):
        found.add(entry, [ClosedStreams("gzip", "encoder", 1, 100 + entry * 7 % 50)])
    assert found.bytes == sum(100 + entry * 7 % 50 for entry in range(100))
    assert [row.bytes for _, row in found._largest()] == [149, 149, 148]


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"", ""),
        (b"BZh9", ""),
        (b"BZh91AY&SY", "bzip2"),
        (gzip.compress(b"", mtime=1), "gzip"),
        (lzma.compress(b""), "xz"),
        (b"7z\xbc\xaf'\x1c\0\4\0\0", "7z"),
    ],
)
def test_kinds_by_their_first_bytes(head: bytes, kind: str) -> None:
    assert kind_of(head[:10]) == kind


LONG = b"".join(text(400_000, seed) for seed in range(12))


def edited(data: bytes, at: int = 60_000) -> bytes:
    return data[:at] + b"a line more\n" + data[at:]


def zipped(data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(zipfile.ZipInfo("a"), data, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def tarred(name: str, data: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def zipped_and(data: bytes, other: bytes, method: int, flags: int = 0) -> bytes:
    return zipped(data) + zip_entry(other, method, flags)


def noise(seed: int, size: int = 100_000) -> bytes:
    return random.Random(seed).randbytes(size)


def compressed(data: bytes) -> bytes:
    return gzip.compress(data, mtime=1)


def damaged(data: bytes) -> bytes:
    return data[: len(data) * 3 // 4] + noise(3)


READS_ZIP = bytes.fromhex("504b0304745349bc0000000000000080498d442401c1bd504b0304b21048895424")
"""Instructions of a program: compare with the signature, jump; what follows looks encrypted."""
XZ = lzma.compress(text(400_000, 9))
OTHER_XZ = lzma.compress(text(400_000, 11))
BZ2 = bz2.compress(text(900_000, 9))
OTHER_BZ2 = bz2.compress(text(900_000, 11))
UPDATES = {
    "opened": (foreign_gzip(TEXT), foreign_gzip(edited(TEXT)), None),
    "encrypted": (zip_entry(noise(1), 8, 1), zip_entry(noise(2), 8, 1), "zip encrypted"),
    "encrypted behind a directory": (
        zip_entry(b"", 0) + zip_entry(noise(1), 8, 1),
        zip_entry(b"", 0) + zip_entry(noise(2), 8, 1),
        "zip encrypted",
    ),
    "method behind a directory": (
        zip_entry(b"", 0) + zip_entry(noise(1), 9),
        zip_entry(b"", 0) + zip_entry(noise(2), 9),
        "zip method",
    ),
    "stored behind a directory": (
        zip_entry(b"", 0) + zip_entry(noise(1), 0),
        zip_entry(b"", 0) + zip_entry(noise(2), 0),
        "zip new",
    ),
    "one of two encrypted": (
        zipped_and(TEXT, noise(1), 8, 1),
        zipped_and(edited(TEXT), noise(2), 8, 1),
        "zip encrypted",
    ),
    "a program that reads zip archives": (
        compressed(LONG + READS_ZIP + bytes(100_000)),
        compressed(LONG + READS_ZIP + noise(2)),
        None,
    ),
    "the encrypted one is the same": (
        zipped_and(TEXT, noise(1), 8, 1),
        zipped_and(edited(TEXT), noise(1), 8, 1),
        None,
    ),
    "method": (
        zipped_and(TEXT, noise(1), 14),
        zipped_and(edited(TEXT), noise(2), 14),
        "zip method",
    ),
    "cut off": (
        compressed(LONG),
        compressed(edited(LONG))[: len(compressed(LONG)) * 3 // 4],
        None,
    ),
    "damaged": (compressed(LONG), damaged(compressed(edited(LONG))), "gzip damaged"),
    "cut off early": (compressed(TEXT), compressed(edited(TEXT))[:-9000], None),
    "damaged early": (compressed(TEXT), damaged(compressed(edited(TEXT))), "gzip damaged"),
    "a damaged entry": (
        zipped_and(TEXT, b"x", 0),
        zipped_and(edited(TEXT), b"\xff" + noise(1), 8),
        "zip damaged",
    ),
    "nothing in common": (compressed(TEXT), compressed(text(300_000, 3)), "gzip new"),
    "xz": (XZ, OTHER_XZ, "xz format"),
    "xz within": (
        compressed(tarred("a.xz", XZ) + TEXT),
        compressed(tarred("a.xz", OTHER_XZ) + TEXT),
        "xz format",
    ),
    "the same xz within": (
        compressed(tarred("a.xz", XZ) + TEXT),
        compressed(tarred("a.xz", XZ) + edited(TEXT)),
        None,
    ),
    "bzip2 within": (
        compressed(tarred("a.bz2", BZ2) + LONG),
        compressed(tarred("a.bz2", OTHER_BZ2) + LONG),
        None,
    ),
    "damaged bzip2 within": (
        compressed(tarred("a.bz2", BZ2) + LONG),
        compressed(tarred("a.bz2", OTHER_BZ2[:-9] + bytes(9)) + LONG),
        "bzip2 encoder",
    ),
}


@pytest.mark.parametrize("size", range(3, 11))
def test_beginnings_of_headers_are_packed(size: int, tmp_path: Path) -> None:
    """A file that ends within the header of a zip entry."""
    data = zip_entry(noise(1, 100), 8, 1)[:size]
    (tmp_path / "a.zip").write_bytes(data)
    packer.pack(tmp_path / "a.zip", store=tmp_path / "store", tag="app:1", cache=False)
    packer.unpack("app:1", tmp_path / "out", store=tmp_path / "store")
    assert (tmp_path / "out" / "a.zip").read_bytes() == data


@pytest.mark.parametrize("name", UPDATES)
def test_updates_tell_what_stayed_closed(name: str, tmp_path: Path) -> None:
    """Of an archive that changed: what is new in it and was not opened, and why."""
    old, new, reason = UPDATES[name]
    for number, data in enumerate((old, new)):
        folder = tmp_path / f"v{number}"
        folder.mkdir()
        (folder / "archive").write_bytes(data)
        result = packer.pack(folder, store=tmp_path / "store", tag=f"app:{number}", cache=False)
    assert [f"{row.kind} {row.reason}" for row in result.closed] == ([reason] if reason else [])
    assert result.closed_bytes == sum(row.bytes for row in result.closed)
    if reason:
        (row,) = result.closed
        assert row.bytes <= len(new)
        assert row.stored_bytes > 4000
    packer.unpack("app:1", tmp_path / "out", store=tmp_path / "store")
    assert (tmp_path / "out" / "archive").read_bytes() == new


def test_an_archive_over_the_limit_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(discovery, "MAX_FOUND_STREAMS", 2)
    for number, data in enumerate((zipped(TEXT), 3 * zipped(edited(TEXT)))):
        (tmp_path / "a.zip").write_bytes(data)
        result = packer.pack(
            tmp_path / "a.zip", store=tmp_path / "store", tag=f"app:{number}", cache=False
        )
    (row,) = result.closed
    assert (row.kind, row.reason, row.bytes) == ("zip", "limit", len(data) // 3)


def test_more_predecessors_than_an_index_takes_are_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(scan, "_has_room", lambda *_: False)
    for number, data in enumerate((compressed(TEXT), compressed(edited(TEXT)))):
        (tmp_path / "a.gz").write_bytes(data)
        result = packer.pack(
            tmp_path / "a.gz", store=tmp_path / "store", tag=f"app:{number}", cache=False
        )
    (row,) = result.closed
    assert (row.kind, row.reason, row.bytes) == ("gzip", "limit", len(data))


def test_what_hardly_changed_is_not_told(tmp_path: Path) -> None:
    for number, tail in enumerate((b"", b"tail")):
        (tmp_path / "a.gz").write_bytes(compressed(TEXT) + tail)
        result = packer.pack(
            tmp_path / "a.gz", store=tmp_path / "store", tag=f"app:{number}", cache=False
        )
    assert result.closed == ()
    assert not result.unchanged


def test_reasons_are_told_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "app"
    root.mkdir()
    store = str(tmp_path / "store")
    for number, seed in enumerate((1, 2)):
        (root / "a.zip").write_bytes(zip_entry(noise(seed), 8, 1))
        assert main(["--store", store, "pack", str(root), "--tag", f"app:{number}"]) == 0
        line = "archives that stayed closed, 100.0 KB: a.zip (zip, encrypted; 100.0 KB)"
        assert line in capsys.readouterr().out
    command = ["--store", store, "--json", "pack", str(root), "--tag", "app:2", "--no-cache"]
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out)["closed"] == []
