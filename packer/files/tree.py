"""The file tree: walking a directory in byte order, and paths that are safe to restore.

Paths are bytes throughout: any name a file system holds survives, whatever its encoding.
"""

from __future__ import annotations

import os
import stat
from array import array
from collections.abc import Iterable, Sequence
from itertools import compress, islice
from operator import lt
from typing import NamedTuple, overload

from packer.errors import SourceChanged, UnknownSize, UnsafePath, UnsupportedFile
from packer.files.name_column import Names
from packer.files.syscalls import STAT_WORDS, WalkFailed, has_local_times, walk_directory

DIRECTORY, FILE, SYMLINK = 0, 1, 2
KIND_NAMES = ("directory", "file", "symlink")

MAX_PATH_BYTES = 4095
"""Greatest length of a path in bytes; PATH_MAX of Linux without its NUL."""
MAX_NAME_BYTES = 255
"""Greatest length of a component of a path in bytes; NAME_MAX of Linux."""

_BATCH = 4096
"""Paths checked at a time; bounds the objects held at once."""
_WORD = (1 << 64) - 1
"""Mask of a 64-bit number: st_dev and times may be negative or wider in Python."""


class Found(NamedTuple):
    """A file, directory or link that `walk` found.

    Args:
        path: relative to the version's directory, components joined by ``/``.
        kind: DIRECTORY, FILE or SYMLINK.
        mode: permission bits, 0 to 0o777.
        size: of a file in bytes, else 0.
        identity: (device, inode, size, mtime_ns, ctime_ns): a changed file differs in one of them.
        target: of a link, else b"".
    """

    path: bytes
    kind: int
    mode: int
    size: int
    identity: tuple[int, int, int, int, int]
    target: bytes = b""


def show(path: bytes) -> str:
    """Return a path as text for messages; bytes that are not UTF-8 are surrogate-escaped."""
    return os.fsdecode(path)


def identity_of(info: os.stat_result) -> tuple[int, int, int, int, int]:
    """Return the STAT_WORDS numbers of a file that change when it is written to or replaced."""
    return (
        info.st_dev & _WORD,
        info.st_ino & _WORD,
        info.st_size,
        info.st_mtime_ns & _WORD,
        info.st_ctime_ns & _WORD,
    )


class Tree(Sequence[Found]):
    """Everything below a directory, in byte order of the path, as columns.

    A million files take 80 MB as columns, and 500 MB as a list of `Found`.

    Args:
        paths: relative to the directory.
        kinds: DIRECTORY, FILE or SYMLINK, one byte an entry.
        modes: permission bits, as "H".
        stats: STAT_WORDS numbers an entry, as "Q": the identity of a file, else zeros.
        links: targets of the symbolic links, in order.
    """

    def __init__(
        self,
        paths: Names,
        kinds: bytearray,
        modes: array[int],
        stats: array[int],
        links: Names,
    ) -> None:
        self.paths = paths
        self.kinds = kinds
        self.modes = modes
        self.stats = stats
        self.links = links

    def size(self, at: int) -> int:
        """Return the size of a file in bytes, 0 for other entries."""
        return self.stats[at * STAT_WORDS + 2]

    def sizes(self, first: int, last: int) -> array[int]:
        """Return the sizes of the entries ``[first, last)``, as `size` does."""
        return self.stats[first * STAT_WORDS + 2 : last * STAT_WORDS : STAT_WORDS]

    def bytes_of(self, first: int, last: int) -> int:
        """Return the sum of the sizes of the entries ``[first, last)``."""
        return sum(self.sizes(first, last))

    def __len__(self) -> int:
        """Return the number of entries."""
        return len(self.kinds)

    @overload
    def __getitem__(self, at: int) -> Found: ...
    @overload
    def __getitem__(self, at: slice) -> list[Found]: ...
    def __getitem__(self, at: int | slice) -> Found | list[Found]:
        """Return the entry at a position, or the entries of a slice."""
        if isinstance(at, slice):
            return [self[each] for each in range(*at.indices(len(self)))]
        kind = self.kinds[at]
        if at < 0:
            at += len(self)
        device, inode, size, mtime, ctime = self.stats[at * STAT_WORDS : (at + 1) * STAT_WORDS]
        target = self.links[self.kinds.count(SYMLINK, 0, at)] if kind == SYMLINK else b""
        return Found(
            self.paths[at], kind, self.modes[at], size, (device, inode, size, mtime, ctime), target
        )


def walk(root: bytes) -> Tree:
    """Return everything below `root`, in byte order of the path, without following links.

    Permission bits of links and bits beyond 0o777 (set-user-id, sticky) are not kept: they mean
    nothing inside a version and differ between machines.

    Args:
        root: a directory, or a single file, which then is the only entry.

    Returns:
        The entries.

    Raises:
        UnsupportedFile: there is a socket, device or fifo; by name.
        OSError: a directory cannot be read; with its path.
    """
    info = os.stat(root)
    if not stat.S_ISDIR(info.st_mode):
        return _single(root, info)
    names, targets = bytearray(), bytearray()
    kinds, modes, stats = bytearray(), array("H"), array("Q")
    try:
        for part in walk_directory(root):
            names += part.paths
            targets += part.targets
            kinds += part.kinds
            modes.frombytes(part.modes)
            stats.frombytes(part.stats)
    except WalkFailed as failed:
        if failed.mode:
            raise UnsupportedFile(show(failed.path), kind_name(failed.mode)) from None
        raise OSError(failed.number, os.strerror(failed.number), show(failed.path)) from None
    return Tree(Names(bytes(names)), kinds, modes, stats, Names(bytes(targets)))


def _single(root: bytes, info: os.stat_result) -> Tree:
    if not stat.S_ISREG(info.st_mode):
        raise UnsupportedFile(show(root), kind_name(info.st_mode))
    return Tree(
        Names.of([os.path.basename(os.path.abspath(root))]),
        bytearray([FILE]),
        array("H", [info.st_mode & 0o777]),
        array("Q", identity_of(info)),
        Names(),
    )


def kind_name(mode: int) -> str:
    """Return the name of the kind of a file that cannot be packed, given its st_mode."""
    kinds = {
        stat.S_IFSOCK: "socket",
        stat.S_IFIFO: "fifo",
        stat.S_IFBLK: "block device",
        stat.S_IFCHR: "character device",
    }
    return kinds.get(stat.S_IFMT(mode), "not a regular file")


def check_empty_files(root: bytes, tree: Tree) -> None:
    """Check that files of size 0 are empty: in /proc, and in some FUSE file systems, they are not.

    Only file systems that are not known to be local are asked: on the others, empty is empty.

    Args:
        root: the directory or file that was walked.
        tree: its entries.

    Raises:
        UnknownSize: a file has content.
    """
    is_local: dict[int, bool] = {}
    devices = tree.stats[::STAT_WORDS]
    sizes = tree.stats[2::STAT_WORDS]
    for at, (kind, size) in enumerate(zip(tree.kinds, sizes, strict=True)):
        if kind != FILE or size or is_local.get(devices[at]):
            continue
        full = os.path.join(root, tree.paths[at]) if os.path.isdir(root) else root
        try:
            fd = os.open(full, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            continue  # unreadable, or gone: there is no content to lose, or packing says so
        try:
            is_local[devices[at]] = has_local_times(fd)
            if not is_local[devices[at]] and os.read(fd, 1):
                raise UnknownSize(show(full), "the file system says 0 bytes, but it has content")
        finally:
            os.close(fd)


def open_file(full: bytes, found: Found) -> int:
    """Open a file that `walk` found; other errors of opening pass through.

    Args:
        full: its path.
        found: its entry.

    Returns:
        Its descriptor.

    Raises:
        SourceChanged: it was removed, replaced, or written to since.
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

    Args:
        paths: of a version's entries.
        kinds: DIRECTORY, FILE or SYMLINK, one an entry.

    Raises:
        UnsafePath: a path is absolute, empty or too long, has an empty, ``.`` or ``..`` component,
            is out of order or repeated, or its parent is not a directory of the same list. So
            nothing can be written through a link.
    """
    directories = {b""}
    last = b""
    kinds = iter(kinds)
    for at in range(0, len(paths), _BATCH):
        batch = paths[at : at + _BATCH]
        batch_kinds = bytes(islice(kinds, len(batch)))
        directories.update(compress(batch, map(DIRECTORY.__eq__, batch_kinds)))
        if not _are_safe(batch, last, directories):
            _explain(batch, last, directories)
        last = batch[-1]


def _are_safe(paths: Sequence[bytes], last: bytes, directories: set[bytes]) -> bool:
    """Return whether paths that follow `last` are in order and safe, a column at a time.

    A path sorts before the paths it begins, so a directory always precedes its entries; each parent
    only has to be among the directories.
    """
    parts = [path.rpartition(b"/") for path in paths]
    names = {part[2] for part in parts}
    return (
        paths[0] > last
        and all(map(lt, paths, islice(paths, 1, None)))
        and {part[0] for part in parts} <= directories
        and names.isdisjoint((b"", b".", b".."))
        and b"\0" not in b"".join(names)
        and max(map(len, names)) <= MAX_NAME_BYTES
        and max(map(len, paths)) <= MAX_PATH_BYTES
        and all(part[0] or not part[1] for part in parts)
    )


def _explain(paths: Sequence[bytes], last: bytes, directories: set[bytes]) -> None:
    """Raise UnsafePath for the first path that is out of order or unsafe."""
    for path in paths:
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
        last = path
