"""Reads a directory that a version was written to, checks it, and takes SHA-256 of each file.

A receipt lists the files by SHA-256, which other tools can check; an index has BLAKE3 of chunks.
One pass over the files makes the one and checks the other.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
from collections.abc import Iterator
from typing import BinaryIO

from packer.errors import SourceChanged
from packer.files.tree import DIRECTORY, FILE, KIND_NAMES, show
from packer.format.frames import Frames
from packer.format.tree_digest import Check, TreeCheck
from packer.format.version import Version
from packer.reading.entry_content import matches
from packer.reading.parts import Part, index_of


class _Hashed(io.RawIOBase):
    """A file that hashes what is read from it."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file = file
        self.sha256 = hashlib.sha256()

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move in the file; only to its start, before anything is read."""
        return self._file.seek(offset, whence)

    def read(self, size: int = -1, /) -> bytes:
        """Read as the file does."""
        data = self._file.read(size)
        self.sha256.update(data)
        return data


def installed_files(
    version: Version, directory: bytes, part: Part | None = None
) -> Iterator[tuple[str, str, int, int, str]]:
    """Yield the entries of a version as they are in a directory, each verified.

    Args:
        version: that was written there.
        directory: where.
        part: the entries that were written; None for all.

    Yields:
        Path as text, kind (as in `Entry`), permission bits and size; then ``sha256:<hex>`` of a
        file's content, or the target of a link.

    Raises:
        SourceChanged: an entry is not as the version has it: it was changed since.
        OSError: a file cannot be read.
    """
    index = index_of(version, part)
    check = TreeCheck(index) if index is version.index else Check(index)
    frames, sizes, links = Frames(index), index.entry_sizes(), index.symlinks()
    columns = zip(index.paths, index.kinds, index.modes, sizes, strict=True)
    for entry, (path, kind, mode, size) in enumerate(columns):
        full = os.path.join(directory, path)
        name = show(path)
        if kind == FILE:
            text = _content_of(full, mode, size, frames, entry, check)
        else:
            info = os.lstat(full)
            text = show(links[entry]) if entry in links else ""
            if kind == DIRECTORY:
                sound = stat.S_ISDIR(info.st_mode) and info.st_mode & 0o777 == mode
            else:
                sound = stat.S_ISLNK(info.st_mode) and os.readlink(full) == links[entry]
            if not sound:
                raise SourceChanged(show(full), "it is not as the version has it")
        yield name, KIND_NAMES[kind], mode, size, text
    if isinstance(check, TreeCheck):
        check.finish(version.config.tree)


def _content_of(full: bytes, mode: int, size: int, frames: Frames, entry: int, check: Check) -> str:
    """Return the digest of a file that is as the version has it."""
    fd = os.open(full, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(fd, "rb") as file:
        info = os.fstat(fd)
        hashed = _Hashed(file)
        is_sound = stat.S_ISREG(info.st_mode) and info.st_size == size
        if not is_sound or info.st_mode & 0o777 != mode:
            raise SourceChanged(show(full), "it is not as the version has it")
        if not matches(hashed, frames, entry, check):  # type: ignore[arg-type]
            raise SourceChanged(show(full), "its content is not the version's")
    return "sha256:" + hashed.sha256.hexdigest()
