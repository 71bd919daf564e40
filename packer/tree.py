"""The file tree: walking a directory in byte order, and paths that are safe to restore.

Paths are bytes throughout: any name a file system holds survives, whatever its encoding.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from packer.errors import SourceChanged, UnsafePath, UnsupportedFile

DIRECTORY, FILE, SYMLINK = 0, 1, 2
KIND_NAMES = ("directory", "file", "symlink")

MAX_PATH_BYTES = 4095
MAX_NAME_BYTES = 255


class Found(NamedTuple):
    """What `walk` saw of a file, directory or link.

    Args:
        path: relative to the version's directory, components joined by ``/``.
        kind: DIRECTORY, FILE or SYMLINK.
        mode: permission bits, 0 to 0o777.
        size: bytes, of files.
        identity: (device, inode, size, mtime_ns, ctime_ns), to tell whether a file changed.
        target: of a link.
    """

    path: bytes
    kind: int
    mode: int
    size: int
    identity: tuple[int, int, int, int, int]
    target: bytes = b""


def show(path: bytes) -> str:
    """Return a path as text for messages; bytes that are no UTF-8 are surrogate-escaped."""
    return os.fsdecode(path)


def identity_of(info: os.stat_result) -> tuple[int, int, int, int, int]:
    """Return what changes when a file is written to or replaced."""
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns


def walk(root: bytes) -> list[Found]:
    """Return everything below `root`, in byte order of the path, without following links.

    Permission bits of links and bits beyond 0o777 (set-user-id, sticky) are not kept: they mean
    nothing inside a version and differ between machines.

    Args:
        root: a directory, or a single file, which then is the only entry.

    Raises:
        UnsupportedFile: a socket, device or fifo, by name.
        OSError: a directory that cannot be read.
    """
    info = os.stat(root)
    if not stat.S_ISDIR(info.st_mode):
        return [_found(os.path.basename(os.path.abspath(root)), root, info)]
    out: list[Found] = []
    pending = [b""]
    while pending:
        below = pending.pop()
        with os.scandir(os.path.join(root, below) if below else root) as listing:
            for item in listing:
                path = below + b"/" + item.name if below else item.name
                found = _found(path, item.path, item.stat(follow_symlinks=False))
                if found.kind == DIRECTORY:
                    pending.append(path)
                out.append(found)
    out.sort()
    return out


def _found(path: bytes, full: bytes, info: os.stat_result) -> Found:
    mode = info.st_mode
    if stat.S_ISREG(mode):
        return Found(path, FILE, mode & 0o777, info.st_size, identity_of(info))
    if stat.S_ISDIR(mode):
        return Found(path, DIRECTORY, mode & 0o777, 0, identity_of(info))
    if stat.S_ISLNK(mode):
        return Found(path, SYMLINK, 0o777, 0, identity_of(info), os.readlink(full))
    kinds = {
        stat.S_IFSOCK: "socket",
        stat.S_IFIFO: "fifo",
        stat.S_IFBLK: "block device",
        stat.S_IFCHR: "character device",
    }
    raise UnsupportedFile(show(full), kinds.get(stat.S_IFMT(mode), "not a regular file"))


def open_file(full: bytes, found: Found) -> int:
    """Open the file that `walk` found at `full` and return its descriptor.

    Raises:
        SourceChanged: it is not the file that was found, or was written to since.
        OSError: it cannot be opened.
    """
    try:
        fd = os.open(full, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise SourceChanged(show(full), "it was removed") from None
    if identity_of(os.fstat(fd)) != found.identity:
        os.close(fd)
        raise SourceChanged(show(full))
    return fd


def check_paths(paths: Sequence[bytes], kinds: Iterable[int]) -> None:
    """Check paths from a stranger before anything is created at them.

    Raises:
        UnsafePath: a path is absolute, empty, too long, has an empty, ``.`` or ``..`` component,
            is out of order or there twice, or is not inside a directory of the same list (so that
            nothing can be written through a link).
    """
    directories = {b""}
    last = b""
    for path, kind in zip(paths, kinds, strict=True):
        parent, _, name = path.rpartition(b"/")
        if path.startswith(b"/"):  # before its parent is looked up: that would be the root
            raise UnsafePath(show(path), "it is absolute")
        if not name or name in (b".", b"..") or b"\0" in path:
            raise UnsafePath(show(path), "a component is empty, '.', '..' or holds a NUL")
        if parent not in directories:
            raise UnsafePath(show(path), "its parent is not a directory of this version")
        if len(name) > MAX_NAME_BYTES or len(path) > MAX_PATH_BYTES:
            raise UnsafePath(show(path), "longer than file systems allow")
        if path <= last:
            raise UnsafePath(show(path), "out of order or there twice")
        if kind == DIRECTORY:
            directories.add(path)
        last = path
