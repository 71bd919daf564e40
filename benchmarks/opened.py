"""Versions with every archive opened: the yardstick of what an update of archives could cost.

    python -m benchmarks.opened TREE TARGET          # a directory
    python -m benchmarks.opened TREE TARGET.tar      # a deterministic tar of it

A gzip member or bzip2 stream becomes its content, a tar or zip a directory of its members
(`chart.tgz` becomes `chart.tgz!/`), to depth 4. Only contents are kept: the times, owners and order
of members are not, nor how anything was compressed, so that the yardstick is rather too short than
too long. What cannot be opened, or is damaged, stays as it is. Written with Python's gzip, bz2,
zipfile and tarfile alone: it shares no code with what it is the measure of.
"""

from __future__ import annotations

import argparse
import bz2
import gzip
import hashlib
import os
import shutil
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

DEPTH = 4
MAX_BYTES = 8 << 30
"""Content of one archive beyond which it is taken for a bomb, and left alone."""

_GZIP = b"\x1f\x8b\x08"
_BZIP2 = b"BZh"
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_UNREADABLE = (
    OSError, EOFError, zlib.error, tarfile.TarError, zipfile.BadZipFile, NotImplementedError,
    RuntimeError, ValueError, OverflowError, UnicodeError,
)  # fmt: skip
"""What the readers of the standard library raise about damaged, encrypted or odd archives."""


def kind_of(path: Path) -> str:
    """Return "gzip", "bzip2", "zip", "tar" or "", by a file's first bytes."""
    with path.open("rb") as file:
        head = file.read(512)
    if head.startswith(_GZIP):
        return "gzip"
    if head.startswith(_BZIP2) and head[4:10] == b"1AY&SY":
        return "bzip2"
    if head.startswith(_ZIP):
        return "zip"
    return "tar" if head[257:262] == b"ustar" else ""


def open_tree(source: Path, target: Path, depth: int = DEPTH) -> None:
    """Copy a directory, or a file, with its archives opened.

    Args:
        source: a directory or a file.
        target: an existing directory; a file is put into it.
        depth: how many archives within archives are opened.
    """
    if not source.is_dir():
        _place(source, target / source.name, depth)
        return
    for path in sorted(source.iterdir()):
        goal = target / path.name
        if path.is_symlink():
            goal.symlink_to(os.readlink(path))
        elif path.is_dir():
            goal.mkdir()
            open_tree(path, goal, depth)
        else:
            _place(path, goal, depth)


def _place(path: Path, goal: Path, depth: int) -> None:
    """Put a file's content at `goal`, or a directory of its members at `goal`!."""
    kind = kind_of(path) if depth else ""
    folder = goal.with_name(goal.name + "!")
    if kind in ("gzip", "bzip2"):
        with tempfile.NamedTemporaryFile(dir=goal.parent, prefix=".gz") as plain:
            try:
                with gzip.open(path) if kind == "gzip" else bz2.open(path) as packed:
                    _copy(packed, plain)
            except _UNREADABLE:
                pass
            else:
                plain.flush()
                # A tar inside is opened with it: together they are one archive.
                inner = Path(plain.name)
                _place(inner, goal, depth if kind_of(inner) == "tar" else depth - 1)
                return
    elif kind:
        reader = _tar_members if kind == "tar" else _zip_members
        folder.mkdir()
        try:
            for name, file in reader(path):
                _member(folder, name, file, depth - 1)
        except _UNREADABLE:
            shutil.rmtree(folder)
        else:
            return
    shutil.copyfile(path, goal)
    goal.chmod(0o644)  # of members nothing is kept but the content, so of files neither


def _member(folder: Path, name: str, file: IO[bytes], depth: int) -> None:
    parts = [part for part in PurePosixPath(name).parts if part not in ("/", ".")]
    if not parts or ".." in parts:
        raise ValueError(f"unsafe name {name!r}")
    goal = folder.joinpath(*parts)
    goal.parent.mkdir(parents=True, exist_ok=True)
    while goal.exists() or goal.with_name(goal.name + "!").exists():
        goal = goal.with_name(goal.name + "+")  # a name that occurs twice
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".member") as plain:
        _copy(file, plain)
        plain.flush()
        _place(Path(plain.name), goal, depth)


def _copy(source: IO[bytes] | gzip.GzipFile | bz2.BZ2File, target: IO[bytes]) -> None:
    total = 0
    while data := source.read(1 << 20):
        total += len(data)
        if total > MAX_BYTES:
            raise ValueError("too large")
        target.write(data)


def _tar_members(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with tarfile.open(path, "r:") as archive:
        for item in archive:
            if item.isreg() and (file := archive.extractfile(item)):
                yield item.name, file


def _zip_members(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with zipfile.ZipFile(path) as archive:
        for item in archive.infolist():
            if not item.is_dir():
                with archive.open(item) as file:
                    yield item.filename, file


def write_tar(tree: Path, target: Path) -> None:
    """Write a deterministic tar of a tree with its archives opened."""
    with tempfile.TemporaryDirectory(dir=target.parent) as work:
        folder = Path(work, "tree")
        folder.mkdir()
        open_tree(tree, folder)
        with tarfile.open(target, "w", format=tarfile.GNU_FORMAT) as tar:
            for path in sorted(folder.rglob("*")):
                info = tar.gettarinfo(path, path.relative_to(folder).as_posix())
                info.uid = info.gid = info.mtime = 0
                info.uname = info.gname = ""
                if info.isreg():
                    with path.open("rb") as file:
                        tar.addfile(info, file)
                else:
                    tar.addfile(info)


def is_compressed(path: Path) -> bool:
    """Tell whether a file is a compressed archive, or a tar that holds one."""
    kind = kind_of(path)
    if kind != "tar":
        return bool(kind)
    try:
        heads = [file.read(4) for _, file in _tar_members(path)]
    except _UNREADABLE:
        return False
    return any(head.startswith(_GZIP) or head in _ZIP for head in heads)


def archives_of(tree: Path) -> dict[str, int]:
    """Return digest and size of every compressed archive in a tree, outermost ones only."""
    found = {}
    for path in sorted(tree.rglob("*")):
        if path.is_file() and not path.is_symlink() and is_compressed(path):
            with path.open("rb") as file:
                digest = hashlib.sha256()
                while data := file.read(1 << 20):
                    digest.update(data)
            found[digest.hexdigest()] = path.stat().st_size
    return found


def changed_archive_bytes(trees: list[Path]) -> list[int]:
    """Return for each version the bytes of those archives that the one before did not have."""
    out, before = list[int](), dict[str, int]()
    for tree in trees:
        now = archives_of(tree)
        out.append(sum(size for digest, size in now.items() if digest not in before))
        before = now
    return out


def main(arguments: list[str] | None = None) -> int:
    """Open one tree."""
    parser = argparse.ArgumentParser(prog="benchmarks.opened", description=__doc__)
    parser.add_argument("tree", type=Path, metavar="TREE")
    parser.add_argument("target", type=Path, metavar="TARGET")
    options = parser.parse_args(arguments)
    if options.target.exists():
        parser.error(f"{options.target} exists")
    if options.target.suffix == ".tar":
        write_tar(options.tree, options.target)
    else:
        options.target.mkdir()
        open_tree(options.tree, options.target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
