"""Archives by many encoders, in versions that change a little, for tests of opening them."""

from __future__ import annotations

import gzip
import importlib
import io
import random
import shutil
import struct
import subprocess
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import packer


def texts(seed: int = 1, files: int = 40) -> dict[str, bytes]:
    """Return files of made-up words."""
    drawn = random.Random(seed)
    words = [f"{drawn.getrandbits(drawn.randrange(8, 40)):x}" for _ in range(2000)]
    return {
        f"chart/templates/{number}.yaml": "\n".join(
            " ".join(drawn.choices(words, k=12)) for _ in range(drawn.randrange(20, 200))
        ).encode()
        for number in range(files)
    }


def changed(files: dict[str, bytes], version: int) -> dict[str, bytes]:
    """Return a version of files: a label in each of them, and one with new lines."""
    out = {name: data + b"\nversion: 1.4.%d\n" % version for name, data in files.items()}
    drawn = random.Random(version)
    name = drawn.choice(sorted(out))
    out[name] += b"".join(b"added: %x\n" % drawn.getrandbits(64) for _ in range(20))
    return out


def tar(files: dict[str, bytes], mtime: int = 1_700_000_000) -> bytes:
    """Return a tar archive."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, data in sorted(files.items()):
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), mtime
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def as_gzip(body: bytes, data: bytes) -> bytes:
    """Return a gzip member around a deflate stream."""
    tail = struct.pack("<II", zlib.crc32(data), len(data) & 0xFFFFFFFF)
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + body + tail


def one_block(data: bytes) -> bytes:
    """Return a raw deflate stream of one block with fixed codes, all literals.

    Args:
        data: bytes below 144, whose codes have 8 bits.
    """
    assert not data or max(data) < 144
    codes = bytes(int(f"{0x30 + min(byte, 143):08b}"[::-1], 2) for byte in range(256))
    bits = 0b011 | int.from_bytes(data.translate(codes), "little") << 3
    return bits.to_bytes(len(data) + 2, "little")


def libdeflate(data: bytes, level: int = 6) -> bytes:
    module = importlib.import_module("deflate")
    return as_gzip(bytes(module.deflate_compress(data, level)), data)


def igzip(data: bytes) -> bytes:
    module = importlib.import_module("isal.igzip_lib")
    return as_gzip(bytes(module.compress(data, 2, module.COMP_DEFLATE)), data)


def zlib_ng(data: bytes) -> bytes:
    module = importlib.import_module("zlib_ng.zlib_ng")
    encoder = module.compressobj(6, module.DEFLATED, -15)
    return as_gzip(bytes(encoder.compress(data) + encoder.flush()), data)


def seven_zip(data: bytes) -> bytes:
    name = shutil.which("7zz") or shutil.which("7z") or ""
    command = [name, "a", "-tgzip", "-mx=5", "-si", "-so", "x.gz"]
    return subprocess.run(command, input=data, capture_output=True, check=True).stdout


def zopfli(data: bytes) -> bytes:
    import tempfile

    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        command = [shutil.which("zopfli") or "", "-c", "--i1", file.name]
        return subprocess.run(command, capture_output=True, check=True).stdout


def zlib_gzip(data: bytes) -> bytes:
    return gzip.compress(data, 6, mtime=0)


ENCODERS: dict[str, tuple[Callable[[bytes], bytes], int]] = {
    "libdeflate": (libdeflate, 20),
    "igzip": (igzip, 20),
    "zlib-ng": (zlib_ng, 20),
    "7-Zip": (seven_zip, 4),
    "zopfli": (zopfli, 4),
    "zlib": (zlib_gzip, 20),
}
"""Encoders, and how many times smaller than the archive an update is at least."""


def is_there(encoder: str) -> bool:
    """Return whether an encoder is installed."""
    if encoder == "7-Zip":
        return bool(shutil.which("7zz") or shutil.which("7z"))
    return encoder != "zopfli" or bool(shutil.which("zopfli"))


def zipped(files: dict[str, bytes]) -> bytes:
    """Return a zip archive whose entries libdeflate wrote."""
    plain, out = io.BytesIO(), bytearray()
    module = importlib.import_module("deflate")
    directory = bytearray()
    for name, data in sorted(files.items()):
        body, coded = bytes(module.deflate_compress(data, 6)), name.encode()
        same = struct.pack(
            "<HHHHHIIIHH", 20, 0, 8, 0, 33, zlib.crc32(data), len(body), len(data), len(coded), 0
        )
        directory += b"PK\1\2" + struct.pack("<H", 20) + same
        directory += struct.pack("<HHHII", 0, 0, 0, 0, len(out)) + coded
        out += b"PK\3\4" + same + coded + body
    end = struct.pack("<HHHHIIH", 0, 0, len(files), len(files), len(directory), len(out), 0)
    out += directory + b"PK\5\6" + end
    plain.write(out)
    with zipfile.ZipFile(plain) as archive:
        assert archive.testzip() is None
    return bytes(out)


def write(root: Path, files: dict[str, bytes]) -> Path:
    """Write files below a directory."""
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def unix_times(*times: int) -> bytes:
    """Return the extra field that holds Unix times."""
    return struct.pack("<HHB", 0x5455, 1 + 4 * len(times), 7) + struct.pack(
        f"<{len(times)}I", *times
    )


def zip_archive(
    files: dict[str, bytes],
    time: tuple[int, int, int, int, int, int],
    extra: bytes = b"",
    *,
    streamed: bool = False,
) -> bytes:
    """Return a zip archive; one that is streamed has descriptors behind its entries."""
    out = io.BytesIO()
    with zipfile.ZipFile(_Unseekable(out) if streamed else out, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in files.items():
            info = zipfile.ZipInfo(name, time)
            info.extra, info.compress_type = extra, zipfile.ZIP_DEFLATED
            made.writestr(info, data)
    return out.getvalue()


class _Unseekable(io.RawIOBase):
    """A file that cannot be sought in."""

    def __init__(self, out: io.BytesIO) -> None:
        self._out = out

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        return self._out.write(bytes(data))  # type: ignore[call-overload]


class History:
    """Versions packed one on another, and what each added; each is restored and compared."""

    def __init__(self, folder: Path, opening: str = "changed") -> None:
        self.store = folder / "store"
        self.folder = folder
        self.opening = opening
        self.count = 0

    def pack(self, files: dict[str, bytes]) -> packer.Packed:
        """Pack the next version, restore it, and compare."""
        self.count += 1
        root = write(self.folder / f"in{self.count}", files)
        tag = f"app:{self.count}"
        packed = packer.pack(root, store=self.store, tag=tag, opening=self.opening)
        self.check(tag, files)
        return packed

    def check(self, tag: str, files: dict[str, bytes]) -> None:
        """Restore a version and compare every byte."""
        out = self.folder / f"out-{tag.replace(':', '-')}"
        packer.unpack(tag, out, store=self.store)
        found = {
            str(path.relative_to(out)): path.read_bytes()
            for path in out.rglob("*")
            if path.is_file()
        }
        assert found == files
        shutil.rmtree(out)
        packer.verify(tag, store=self.store)

    def opened(self) -> dict[str, int]:
        """Return the opened files of the last version, and how many predecessors each names."""
        index = packer.open_version(f"app:{self.count}", store=self.store).index
        return {
            index.paths[entry].decode(): len(row.predecessors)
            for entry, row in index.expansions.items()
        }
