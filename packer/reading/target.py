"""An existing directory that is brought up to date to a version, file by file.

The directory may hold anything: links may stand where the version has directories. Each component
is opened relative to its parent with O_NOFOLLOW, so nothing outside is ever written or removed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from packer.errors import TargetExists
from packer.files.durable import locked_directory
from packer.files.tree import DIRECTORY, FILE, SYMLINK, show
from packer.format.frames import Frames
from packer.format.index import Index
from packer.format.tree_digest import Check
from packer.reading.entry_content import matches
from packer.reading.staging_directory import PREFIX

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Target:
    """An existing directory and its entries.

    Args:
        path: of the directory.
        delete: whether entries that the version does not hold may be removed.
    """

    def __init__(self, path: bytes, *, delete: bool) -> None:
        self.path = path
        self.delete = delete
        self._root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._found: dict[bytes, os.stat_result] = {}
        pending = [b""]
        while pending:
            below = pending.pop()
            with os.scandir(os.path.join(path, below) if below else path) as listing:
                for item in listing:
                    if not below and _is_being_written(item):
                        continue
                    name = below + b"/" + item.name if below else item.name
                    info = self._found[name] = item.stat(follow_symlinks=False)
                    if stat.S_ISDIR(info.st_mode):
                        pending.append(name)

    def close(self) -> None:
        """Close the directory."""
        os.close(self._root)

    def changed(self, index: Index, sizes: Sequence[int], check: Check) -> list[int]:
        """Find the entries to write: missing here, of another kind, or with other content.

        Args:
            index: of the version.
            sizes: of its entries.
            check: records the chunks of the files that are equal.

        Returns:
            Their ordinals, in order.

        Raises:
            TargetExists: a directory stands where the version has a file or link, and surplus must
                not be removed.
        """
        frames = Frames(index)
        links = index.symlinks()
        out = []
        for entry, (path, kind) in enumerate(zip(index.paths, index.kinds, strict=True)):
            info = self._found.get(path)
            if info is not None and stat.S_ISDIR(info.st_mode) and kind != DIRECTORY:
                if not self.delete:
                    raise TargetExists(
                        show(os.path.join(self.path, path)),
                        "a directory stands where the version has none; say --delete",
                    )
                out.append(entry)
            elif info is None:
                out.append(entry)
            elif kind == FILE:
                same = stat.S_ISREG(info.st_mode) and info.st_size == sizes[entry]
                if not same or not self._holds(path, entry, frames, check):
                    out.append(entry)
            elif kind == SYMLINK:
                full = os.path.join(self.path, path)
                if not stat.S_ISLNK(info.st_mode) or os.readlink(full) != links[entry]:
                    out.append(entry)
        return out

    def _holds(self, path: bytes, entry: int, frames: Frames, check: Check) -> bool:
        """Return whether the file at `path` has the content of the entry."""
        try:
            with self._parent(path) as (parent, name):
                fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        except PermissionError:
            return False  # unreadable: to be replaced
        with open(fd, "rb") as file:
            return matches(file, frames, entry, check)

    def bring_up_to_date(self, index: Index, entries: Sequence[int], staging: bytes) -> int:
        """Move new content into place, remove surplus if that is wanted, and set permissions.

        Args:
            index: of the version.
            entries: ordinals of the entries whose content lies in `staging`, named by ordinal.
            staging: a directory on the same file system.

        Returns:
            The number of names removed as surplus.
        """
        self._apply(index, entries, staging)
        deleted = self._remove_surplus(index) if self.delete else 0
        self._set_modes(index)
        return deleted

    def _apply(self, index: Index, entries: Sequence[int], staging: bytes) -> None:
        """Move new content into place."""
        fresh = set(entries)
        source = os.open(staging, _DIRECTORY)
        try:
            for entry, (path, kind) in enumerate(zip(index.paths, index.kinds, strict=True)):
                if kind == DIRECTORY:
                    self._make_directory(path)
                elif entry in fresh:
                    self._clear(path, below=True)
                    with self._parent(path) as (parent, name):
                        os.rename(b"%d" % entry, name, src_dir_fd=source, dst_dir_fd=parent)
        finally:
            os.close(source)

    def _set_modes(self, index: Index) -> None:
        """Set permissions where they differ, in a directory before its own."""
        for entry in range(len(index.paths) - 1, -1, -1):
            path, mode = index.paths[entry], index.modes[entry]
            if index.kinds[entry] != SYMLINK:
                with self._parent(path) as (parent, name):
                    now = os.stat(name, dir_fd=parent, follow_symlinks=False)
                    if now.st_mode & 0o7777 != mode:
                        os.chmod(name, mode, dir_fd=parent)

    def _remove_surplus(self, index: Index) -> int:
        """Remove names that the version does not hold; return how many."""
        surplus = sorted(set(self._found) - set(index.paths))
        self._remove_all(surplus)
        return len(surplus)

    def _make_directory(self, path: bytes) -> None:
        """Make a directory, or make an existing one writable."""
        info = self._found.get(path)
        if info is not None and not stat.S_ISDIR(info.st_mode):
            self._clear(path, below=False)
            info = None
        with self._parent(path) as (parent, name):
            if info is None:
                os.mkdir(name, 0o700, dir_fd=parent)
            elif info.st_mode & 0o300 != 0o300:
                os.chmod(name, 0o700, dir_fd=parent)  # its own mode is set at the end

    def _clear(self, path: bytes, *, below: bool) -> None:
        """Remove the entry at `path` if a rename cannot replace it."""
        info = self._found.get(path)
        if info is None or (below and not stat.S_ISDIR(info.st_mode)):
            return
        inside = sorted(name for name in self._found if name.startswith(path + b"/"))
        self._remove_all([path, *inside])

    def _remove_all(self, paths: Sequence[bytes]) -> None:
        """Remove names; the entries of a directory follow it in `paths`."""
        for path in paths:
            info = self._found[path]
            if stat.S_ISDIR(info.st_mode) and info.st_mode & 0o300 != 0o300:
                with self._parent(path) as (parent, name):
                    os.chmod(name, 0o700, dir_fd=parent)
        for path in reversed(paths):
            info = self._found.pop(path)
            with self._parent(path) as (parent, name):
                if stat.S_ISDIR(info.st_mode):
                    os.rmdir(name, dir_fd=parent)
                else:
                    os.unlink(name, dir_fd=parent)

    @contextmanager
    def _parent(self, path: bytes) -> Iterator[tuple[int, bytes]]:
        """Open the directory that holds `path`, following no link on the way.

        Yields:
            Its descriptor, and the last component of `path`.

        Raises:
            OSError: a component is a link or not a directory (ELOOP or ENOTDIR), or the caller's
                work fails; with the whole path.
        """
        *parents, name = path.split(b"/")
        fd = os.dup(self._root)
        try:
            for part in parents:
                below = os.open(part, _DIRECTORY, dir_fd=fd)
                os.close(fd)
                fd = below
            yield fd, name
        except OSError as error:
            full = show(os.path.join(self.path, path))
            raise OSError(error.errno, error.strerror, full) from None
        finally:
            os.close(fd)


def _is_being_written(item: os.DirEntry[bytes]) -> bool:
    """Return whether an entry is a staging directory that a process is writing."""
    if not item.name.startswith(PREFIX) or not item.is_dir(follow_symlinks=False):
        return False
    try:
        with locked_directory(item.path, wait=False):
            return False
    except BlockingIOError:
        return True
    except OSError:
        return False
