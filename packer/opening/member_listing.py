"""What archives hold, for people who ask: names, sizes and digests of the files in them.

The readers are the standard library's. Nothing is ever written from what they find, and what they
cannot read is a file like any other.
"""

from __future__ import annotations

import gzip
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from typing import IO, NamedTuple, cast

import blake3

from packer.opening.tar_headers import BLOCK, is_header

SEPARATOR = "!/"
"""Between an archive's path and the path in it."""
MAX_ARCHIVE_DEPTH = 4
"""Archives within archives."""
MAX_MEMBERS = 1_000_000
"""How many files in one archive are listed."""

_SPOOL_BYTES = 8 << 20
_READ_BYTES = 256 << 10
_UNREADABLE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,  # gzip.BadGzipFile among others
    ValueError,
    NotImplementedError,  # a method of compression
    RuntimeError,  # encrypted
    OverflowError,
)


class Member(NamedTuple):
    """A file in an archive.

    Args:
        path: in the archive; in an archive within it behind a `SEPARATOR`.
        size: in bytes.
        digest: BLAKE3-256 of its content.
    """

    path: str
    size: int
    digest: bytes


class _Bound:
    """How much more may be read: archives may hold far more than their size."""

    def __init__(self, most: int) -> None:
        self.left = most

    def take(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise ValueError("too much in it")


def members(pieces: Iterable[bytes | memoryview], most: int) -> Iterator[Member]:
    """Yield the files in an archive, in their order; none if the bytes are no archive.

    Args:
        pieces: of the archive's bytes; not all are taken if they are none.
        most: how many bytes all files in it may have; it ends early if they have more.
    """
    with tempfile.SpooledTemporaryFile(_SPOOL_BYTES) as file:
        if _spool(pieces, file):
            yield from _members(file, "", 1, _Bound(most))


def find(pieces: Iterable[bytes | memoryview], path: str, most: int) -> Iterator[bytes]:
    """Yield the content of one file in an archive.

    Args:
        pieces: of the archive's bytes.
        path: as `members` gives it.
        most: as for `members`.

    Raises:
        KeyError: there is no such file.
        ValueError: the archive cannot be read as far as that.
    """
    outer, _, inner = path.partition(SEPARATOR)
    with tempfile.SpooledTemporaryFile(_SPOOL_BYTES) as file:
        if not _spool(pieces, file):
            raise KeyError(path)
        try:
            for name, opened in _files(file):
                if name == outer:
                    yield from find(_pieces(opened), inner, most) if inner else _pieces(opened)
                    return
        except _UNREADABLE as error:
            raise ValueError(str(error)) from error
    raise KeyError(path)


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    while data := file.read(_READ_BYTES):
        yield data


def _spool(pieces: Iterable[bytes | memoryview], file: IO[bytes]) -> bool:
    """Write an archive's bytes to a file; False if they are none."""
    head = bytearray()
    known = False
    for piece in pieces:
        if not known:
            head += piece
            if len(head) < BLOCK:
                continue
            if not _is_archive(head):
                return False
            known = True
            file.write(head)
            continue
        file.write(piece)
    if not known:
        file.write(head)
    file.seek(0)
    return known or _is_archive(head)


def _is_archive(head: bytes | bytearray) -> bool:
    return head[:3] == b"\x1f\x8b\x08" or head[:4] == b"PK\3\4" or is_header(head[:BLOCK])


def _members(file: IO[bytes], before: str, depth: int, bound: _Bound) -> Iterator[Member]:
    count = 0
    try:
        for name, opened in _files(file):
            count += 1
            if count > MAX_MEMBERS:
                return
            hasher = blake3.blake3()
            size = 0
            with tempfile.SpooledTemporaryFile(_SPOOL_BYTES) as copy:
                keep = False
                while data := opened.read(_READ_BYTES):
                    if not size:
                        keep = depth < MAX_ARCHIVE_DEPTH and _is_archive(data)
                    bound.take(len(data))
                    size += len(data)
                    hasher.update(data)
                    if keep:
                        copy.write(data)
                yield Member(before + name, size, hasher.digest())
                if keep:
                    copy.seek(0)
                    yield from _members(copy, before + name + SEPARATOR, depth + 1, bound)
    except _UNREADABLE:
        return


def _files(file: IO[bytes]) -> Iterator[tuple[str, IO[bytes]]]:
    """Yield name and content of the files in an archive, one at a time."""
    head = file.read(BLOCK)
    file.seek(0)
    if head[:4] == b"PK\3\4":
        with zipfile.ZipFile(file) as archive:
            for info in archive.infolist():
                if not info.is_dir():
                    with archive.open(info) as opened:
                        yield info.filename, opened
    elif head[:3] == b"\x1f\x8b\x08":
        with gzip.open(file) as plain:
            start = plain.read(BLOCK)
            plain.seek(0)
            if is_header(start):
                yield from _tar_files(cast("IO[bytes]", plain))
            else:
                yield "content", cast("IO[bytes]", plain)
    else:
        yield from _tar_files(file)


def _tar_files(file: IO[bytes]) -> Iterator[tuple[str, IO[bytes]]]:
    with tarfile.open(fileobj=file, mode="r|") as archive:
        for member in archive:
            if member.isreg() and (opened := archive.extractfile(member)) is not None:
                yield member.name, opened
