"""What an update of a zip archive costs where each header has a new time."""

from __future__ import annotations

import gzip
import io
import random
import zipfile
from pathlib import Path

import packer

DIRECTORIES, TABLE_LINES = 50, 8000


def lines(seed: int, count: int) -> bytes:
    drawn = random.Random(seed)
    return b"".join(b"%016x\n" % drawn.getrandbits(64) for _ in range(count))


def wheel(version: int) -> bytes:
    """Return an archive like the wheel of botocore.

    Nearly all of it are compressed tables, whose times change. Between them lies text that does not
    change, and entries too small to be opened.
    """
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(DIRECTORIES):
            table = gzip.compress(lines(number, TABLE_LINES), mtime=version)
            for name, data in (
                ("small.json", lines(number, 5)),
                ("module.py", lines(number, 400)),
                ("table.gz", table),
            ):
                info = zipfile.ZipInfo(f"data/{number}/{name}", (2024, 4, 20 + version, 18, 4, 10))
                archive.writestr(info, data, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def test_what_lies_between_opened_entries_is_compared_with_its_older_self(tmp_path: Path) -> None:
    for version in range(3):
        folder = tmp_path / f"v{version}"
        folder.mkdir()
        (folder / f"package-1.0.{version}.whl").write_bytes(wheel(version))
        result = packer.pack(folder, store=tmp_path / "store", tag=f"app:{version}", cache=False)
        packer.unpack(f"app:{version}", tmp_path / f"o{version}", store=tmp_path / "store")
        restored = (tmp_path / f"o{version}" / f"package-1.0.{version}.whl").read_bytes()
        assert restored == wheel(version)
        if version:
            assert result.new_bytes < len(restored) / 400
