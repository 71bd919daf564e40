"""Small corpora without a download: the standard library of the running Python, in versions.

`files` are its modules as they are, `archives` the same as .tgz. Each version changes a label in
every tenth module, as releases do; archives are written anew, with the time of their version.
"""

from __future__ import annotations

import gzip
import io
import os
import sysconfig
import tarfile
from pathlib import Path

FILES = 400
BUILD_TIME = 1_700_000_000


def modules(number: int) -> list[tuple[str, bytes]]:
    """Return name and content of modules of the standard library, always in the same order."""
    library, found = sysconfig.get_paths()["stdlib"], list[tuple[str, bytes]]()
    for folder, folders, names in os.walk(library):
        folders[:] = sorted(set(folders) - {"site-packages", "dist-packages", "__pycache__"})
        for name in sorted(names):
            if len(found) == number:
                return found
            if name.endswith(".py"):
                path = Path(folder, name)
                found.append((path.relative_to(library).as_posix(), path.read_bytes()))
    return found


def content_of(number: int, data: bytes, version: int) -> bytes:
    """Return a module as it is in a version."""
    if version == 1 or number % 10:
        return data
    half = len(data) // 2
    return data[:half] + b"# release 1.4.%d\n" % version + data[half:]


def make_files(root: Path, files: int, versions: int) -> Path:
    """Write the corpus of plain files."""
    found = modules(files)
    for version in range(1, versions + 1):
        for number, (name, data) in enumerate(found):
            target = root / f"v{version}" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content_of(number, data, version))
    return root


def make_archives(root: Path, files: int, versions: int, members: int = 40) -> Path:
    """Write the corpus of archives, some modules in each."""
    found = modules(files)
    for version in range(1, versions + 1):
        folder = root / f"v{version}"
        folder.mkdir(parents=True)
        for start in range(0, len(found), members):
            plain = io.BytesIO()
            with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as tar:
                for number, (name, data) in enumerate(found[start : start + members], start):
                    content = content_of(number, data, version)
                    info = tarfile.TarInfo(f"modules/{name}")
                    info.size, info.mtime = len(content), BUILD_TIME + 86400 * version
                    tar.addfile(info, io.BytesIO(content))
            packed = gzip.compress(plain.getvalue(), 6, mtime=0)
            (folder / f"modules-{start // members:02}.tgz").write_bytes(packed)
    return root


def make_samples(root: Path, files: int = FILES, versions: int = 3) -> list[Path]:
    """Write both corpora, unless they are there; return their directories."""
    out = []
    for name, make in (("files", make_files), ("archives", make_archives)):
        target = root / name
        if not (target / f"v{versions}").exists():
            make(target, files, versions)
        out.append(target)
    return out
