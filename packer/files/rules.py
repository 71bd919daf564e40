"""Rules that leave entries out of a tree that is packed, and the walk that follows them.

Rules are patterns of the caller, and files named `.layerpackerignore` in the tree. Such a file is
for the directory that holds it, as a `.gitignore` is: its patterns are relative to that directory,
a deeper file has the last word, and nothing below a directory that is left out can come back. The
patterns of the caller precede all files.

A directory that is left out is not read, so it may be unreadable, or hold sockets.
"""

from __future__ import annotations

import os
import stat
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from packer.errors import InvalidParameter, UnsupportedFile
from packer.files.durable import read_bounded
from packer.files.name_column import Names
from packer.files.patterns import Patterns
from packer.files.syscalls import STAT_WORDS
from packer.files.tree import DIRECTORY, FILE, SYMLINK, Tree, identity_of, kind_name, show, walk

IGNORE_FILE = b".layerpackerignore"
"""Name of the files with patterns in a tree."""
MAX_FILE_BYTES = 1 << 20
"""Greatest size of a file with patterns, in bytes: room for more than any list may hold."""
MAX_NAMED = 1000
"""Greatest number of entries left out that are named; all are counted."""


_Path = bytes  # LeftOut has an attribute of this name


@dataclass(slots=True)
class LeftOut:
    """What rules left out of a version.

    Args:
        files: number of files and links, without those in directories that were left out.
        bytes: size of these files together.
        directories: number of directories that were left out with all in them.
        paths: of these files, links and directories, at most 1000; directories end with a slash.
    """

    files: int = 0
    directories: int = 0
    paths: list[str] = field(default_factory=list)
    bytes: int = 0

    def __bool__(self) -> bool:
        """Return whether anything was left out."""
        return bool(self.files or self.directories)

    def add(self, path: _Path, info: os.stat_result) -> None:
        """Count an entry.

        Args:
            path: of the entry, relative to the root.
            info: its state.
        """
        is_directory = stat.S_ISDIR(info.st_mode)
        self.files += not is_directory
        self.directories += is_directory
        if stat.S_ISREG(info.st_mode):
            self.bytes += info.st_size
        if len(self.paths) < MAX_NAMED:
            self.paths.append(show(path) + "/" * is_directory)


def read_patterns(path: str | bytes | os.PathLike[str]) -> list[str]:
    """Read a file of patterns, one a line.

    Args:
        path: of the file.

    Returns:
        Its lines; bytes that are not UTF-8 are surrogate-escaped.

    Raises:
        InvalidParameter: the file is too long.
        OSError: it cannot be read, or is no regular file.
    """
    name = os.fsdecode(path)
    data = read_bounded(name, MAX_FILE_BYTES)
    if len(data) > MAX_FILE_BYTES:
        raise InvalidParameter(f"{name}: patterns of more than {MAX_FILE_BYTES} bytes")
    return os.fsdecode(data.removeprefix(b"\xef\xbb\xbf")).split("\n")


class Rules:
    """Which entries of a tree are left out.

    Args:
        exclude: patterns of the caller.
        files: follow the files named `.layerpackerignore` in the tree.

    Raises:
        InvalidParameter: a pattern is malformed.
    """

    def __init__(self, exclude: Iterable[str] = (), *, files: bool = True) -> None:
        exclude = [exclude] if isinstance(exclude, str) else list(exclude)
        self._given = Patterns(exclude, "--exclude") if exclude else None
        self._files = files

    def walk(self, root: bytes, left_out: LeftOut) -> Tree:
        """Return everything below a directory but what is left out, as `packer.files.tree.walk`.

        Args:
            root: a directory; or a single file, which no rule leaves out.
            left_out: counts what is left out.

        Returns:
            The entries.

        Raises:
            InvalidParameter: a pattern in a file is malformed, or the file is no regular file.
            UnsupportedFile: there is a socket, device or fifo; by name.
            OSError: a directory cannot be read; with its path.
        """
        if not os.path.isdir(root):
            return walk(root)
        if not self._given:
            at_top = os.path.join(root, IGNORE_FILE)
            if not self._files or not os.path.lexists(at_top):
                # No rule at the top: most trees have none at all, and C walks them.
                try:
                    found = walk(root)
                except (UnsupportedFile, OSError):
                    if not self._files:
                        raise
                else:
                    if not self._files or b"/" + IGNORE_FILE + b"\0" not in found.paths.joined:
                        return found
        return _Walk(root, self._given, left_out, files=self._files).tree()


Chain = tuple[tuple[bytes, Patterns], ...]
"""The files with patterns from the root to a directory: each with its directory and a slash."""


class _Walk:
    """One walk by rules."""

    def __init__(
        self, root: bytes, given: Patterns | None, left_out: LeftOut, *, files: bool
    ) -> None:
        self._root = root
        self._given = given
        self._left_out = left_out
        self._files = files
        self._names, self._targets = bytearray(), bytearray()
        self._kinds, self._modes, self._stats = bytearray(), array("H"), array("Q")

    def tree(self) -> Tree:
        """Return the entries, in byte order of the path."""
        stack = [self._listed(b"", ())]
        while stack:
            step = next(stack[-1], None)
            if step is None:
                stack.pop()
            else:
                stack.append(self._listed(*step))
        return Tree(
            Names(bytes(self._names)),
            self._kinds,
            self._modes,
            self._stats,
            Names(bytes(self._targets)),
        )

    def _listed(self, below: bytes, chain: Chain) -> Iterator[tuple[bytes, Chain]]:
        """Add the entries of a directory; yield each directory where its entries are due.

        An entry comes under its name, its own entries under the name and a slash: together that is
        the order of whole paths.

        Yields:
            The directory with a slash, and its files with patterns.

        Raises:
            OSError: the directory cannot be read; with its path.
        """
        folder = os.path.join(self._root, below) if below else self._root
        try:
            with os.scandir(folder) as listing:
                entries = {entry.name: entry for entry in listing}
        except OSError as error:
            raise OSError(error.errno, error.strerror, show(folder)) from None
        if self._files and IGNORE_FILE in entries:
            chain = (*chain, (below, self._patterns(os.path.join(folder, IGNORE_FILE))))
        order = list(entries)
        order += [name + b"/" for name, entry in entries.items() if _is_directory(entry)]
        order.sort()
        taken: set[bytes] = set()
        for name in order:
            if name.endswith(b"/"):
                if name in taken:
                    yield below + name, chain
                continue
            info = entries[name].stat(follow_symlinks=False)
            is_directory = stat.S_ISDIR(info.st_mode)
            if self._is_left_out(below + name, chain, is_directory=is_directory):
                self._left_out.add(below + name, info)
                continue
            self._add(below + name, info)
            if is_directory:
                taken.add(name + b"/")

    def _patterns(self, path: bytes) -> Patterns:
        """Return the patterns of a file in the tree."""
        try:
            if not stat.S_ISREG(os.lstat(path).st_mode):
                raise InvalidParameter(f"{show(path)}: patterns must be in a regular file")
            return Patterns(read_patterns(path), show(path))
        except OSError as error:
            raise OSError(error.errno, error.strerror, show(path)) from None

    def _is_left_out(self, path: bytes, chain: Chain, *, is_directory: bool) -> bool:
        """Return whether rules leave an entry out."""
        if self._given is not None:
            found = self._given.matches(show(path), is_directory=is_directory)
            if found is not None:
                return found
        for base, patterns in reversed(chain):
            found = patterns.matches(show(path[len(base) :]), is_directory=is_directory)
            if found is not None:
                return found
        return False

    def _add(self, path: bytes, info: os.stat_result) -> None:
        """Add an entry to the columns."""
        mode = info.st_mode
        full = os.path.join(self._root, path)
        if stat.S_ISREG(mode):
            self._kinds.append(FILE)
            self._stats.extend(identity_of(info))
        elif stat.S_ISDIR(mode) or stat.S_ISLNK(mode):
            self._kinds.append(DIRECTORY if stat.S_ISDIR(mode) else SYMLINK)
            self._stats.frombytes(bytes(8 * STAT_WORDS))
        else:
            raise UnsupportedFile(show(full), kind_name(mode))
        if stat.S_ISLNK(mode):
            self._targets += os.readlink(full) + b"\0"
        self._names += path + b"\0"
        self._modes.append(mode & 0o777)


def _is_directory(entry: os.DirEntry[bytes]) -> bool:
    return entry.is_dir(follow_symlinks=False)
