"""Archives as KOTS lays them out, for tests."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from pathlib import Path

APP = "2CMzTAcN8ZuGqlP1"
VERSIONS = 4


def archive(number: int, size: int = 60_000) -> bytes:
    """Return a tar.gz like those of KOTS, of which most is in the one before."""
    shared = hashlib.shake_256(b"shared").digest(size)
    out = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=out, mode="wb", mtime=number) as zipped,
        tarfile.open(fileobj=zipped, mode="w") as tar,
    ):
        for name, data in (("base/a.bin", shared), ("version", str(number).encode())):
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), number
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def layout() -> dict[str, bytes]:
    """Return keys and archives as KOTS lays them out, and a key that is neither."""
    found = {f"{APP}/{number}.tar.gz": archive(number) for number in (*range(VERSIONS), 10)}
    found["supportbundles/b-1/supportbundle.tar.gz"] = archive(100)
    return found | {"notes.txt": b"else"}


def write(folder: Path, found: dict[str, bytes]) -> None:
    for key, data in found.items():
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_bytes(data)
