"""A tar archive from a stranger as a directory to pack.

The archive is read once, from a pipe too, and written to a private directory: packing needs the
entries in byte order of their paths, and an archive has any order. What a member may do is what an
entry of a version may: nothing outside the directory, nothing through a link.

Later members replace earlier ones of the same name, as tar does when it extracts.
"""

from __future__ import annotations

import os
import stat
from typing import Protocol

from packer.errors import SourceError
from packer.files.tar_format import BLOCK, TarHeader, padded, read_header
from packer.files.tree import DIRECTORY, MAX_NAME_BYTES, MAX_PATH_BYTES, Tree, show
from packer.progress import Progress, ProgressCallback

PIECE_BYTES = 1 << 20
"""Bytes of a member that are copied at a time."""
MAX_MEMBERS = 1 << 22
"""Greatest number of members: above any real tree, and it bounds what a small archive of empty
files can make of a disk."""
IMPLICIT_MODE = 0o755
"""Permissions of a directory that no member describes."""

_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Input(Protocol):
    """A stream of bytes."""

    def read(self, size: int, /) -> bytes | None:
        """Return at most `size` bytes, b"" at the end."""


class TarSource:
    """Writes an archive to a directory, and remembers the permissions of its members.

    Args:
        stream: the archive; read to its end.
        directory: empty and private.
        what: the archive's name in errors.
        progress: called now and then with the bytes read.
    """

    def __init__(
        self,
        stream: Input,
        directory: bytes,
        what: str,
        progress: ProgressCallback | None = None,
    ) -> None:
        self._stream = stream
        self._root = directory
        self._what = what
        self._progress = progress
        self._is_written = False
        self._done = 0
        self._reported = 0
        self._directories: dict[bytes, int] = {b"": IMPLICIT_MODE}
        """Permissions of the directories that were made."""
        self._modes: dict[bytes, int] = {}
        """Permissions of files that would deny reading them; the others have theirs."""

    def write_out(self) -> None:
        """Write all members, unless that is done.

        Raises:
            SourceError: the archive is malformed, or a member would lie outside the directory.
            UnsupportedFile: a member is a device, fifo, or sparse.
            OSError: the disk is full, for example.
        """
        if self._is_written:
            return
        self._is_written = True
        count = 0
        while header := read_header(self._read, self._what, is_first=not count):
            count += 1
            if count > MAX_MEMBERS:
                raise SourceError(self._what, f"it has more than {MAX_MEMBERS} members")
            self._add(header)
        while data := self._read(PIECE_BYTES):
            if data.strip(b"\0"):
                raise SourceError(self._what, "data follow the end of the archive")

    def with_modes(self, found: Tree) -> Tree:
        """Set the permissions that the archive states.

        Args:
            found: the entries below the directory; changed.

        Returns:
            The same entries.
        """
        for at, (path, kind) in enumerate(zip(found.paths, found.kinds, strict=True)):
            known = self._directories if kind == DIRECTORY else self._modes
            found.modes[at] = known.get(path, found.modes[at])
        return found

    def _read(self, size: int) -> bytes:
        """Return exactly so many bytes, fewer only at the end of the stream."""
        parts: list[bytes] = []
        left = size
        while left and (part := self._stream.read(left)):
            parts.append(part)
            left -= len(part)
        self._done += size - left
        if self._progress is not None and self._done >= self._reported + PIECE_BYTES:
            self._reported = self._done
            self._progress(Progress("read", self._done, 0))
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _add(self, header: TarHeader) -> None:
        """Write a member."""
        path = self._clean(header.path)
        if header.kind == "directory":
            if path:
                self._make_parents(path)
                self._make_directory(path, header.mode)
            return
        if not path:
            raise SourceError(self._name(header.path), "a member without a name")
        self._make_parents(path)
        self._clear(path)
        full = os.path.join(self._root, path)
        if header.kind == "file":
            self._write(full, header, path)
        elif header.kind == "symlink":
            if not 0 < len(header.target) <= MAX_PATH_BYTES or b"\0" in header.target:
                raise SourceError(self._name(path), "a link whose target is no path")
            os.symlink(header.target, full)
        else:
            self._link(path, full, header)

    def _write(self, full: bytes, header: TarHeader, path: bytes) -> None:
        """Write a file, and skip the padding behind it."""
        left = header.size
        with open(os.open(full, _WRITE, 0o600), "wb", buffering=0) as file:
            while left:
                data = self._read(min(left, PIECE_BYTES))
                if not data:
                    raise SourceError(self._name(path), "the archive was cut off in it")
                left -= len(data)
                rest = memoryview(data)
                while rest:
                    rest = rest[file.write(rest) :]
            os.fchmod(file.fileno(), header.mode | 0o600)
        if header.mode & 0o600 != 0o600:
            self._modes[path] = header.mode
        padding = padded(header.size) - header.size
        if len(self._read(padding)) < padding < BLOCK:
            raise SourceError(self._what, "it has no end mark: it was cut off")

    def _link(self, path: bytes, full: bytes, header: TarHeader) -> None:
        """Give a file or symbolic link, which must be a member before, a second name."""
        target = self._clean(header.target)
        parent = target.rpartition(b"/")[0]
        source = os.path.join(self._root, target)
        if parent not in self._directories or not os.path.lexists(source) or target == path:
            raise SourceError(self._name(path), f"a hard link to {show(target)}, no member before")
        if stat.S_ISDIR(os.lstat(source).st_mode):
            raise SourceError(self._name(path), "a hard link to a directory")
        os.link(source, full, follow_symlinks=False)
        if target in self._modes:
            self._modes[path] = self._modes[target]

    def _make_parents(self, path: bytes) -> None:
        """Make the directories above a path that no member described before."""
        at = path.find(b"/")
        while at >= 0:
            if path[:at] not in self._directories:
                self._make_directory(path[:at], IMPLICIT_MODE)
            at = path.find(b"/", at + 1)

    def _make_directory(self, path: bytes, mode: int) -> None:
        """Make a directory whose parent is one, or note the permissions of an earlier one."""
        if path not in self._directories:
            try:
                os.mkdir(os.path.join(self._root, path), 0o700)
            except FileExistsError:
                why = "a directory, and a file or link of the same name before"
                raise SourceError(self._name(path), why) from None
        self._directories[path] = mode

    def _clear(self, path: bytes) -> None:
        """Remove the earlier member of a name."""
        if path in self._directories:
            raise SourceError(self._name(path), "a directory of the same name was before")
        try:
            os.unlink(os.path.join(self._root, path))
        except FileNotFoundError:
            return
        self._modes.pop(path, None)

    def _clean(self, path: bytes) -> bytes:
        """Return a path without ``.`` components and slashes at its end.

        Raises:
            SourceError: it is absolute, climbs, or is longer than file systems allow.
        """
        parts = [part for part in path.split(b"/") if part not in (b"", b".")]
        if path.startswith(b"/") or b".." in parts:
            raise SourceError(self._name(path), "it would lie outside of the directory")
        if b"\0" in path:
            raise SourceError(self._name(path), "a name with a NUL")
        clean = b"/".join(parts)
        if len(clean) > MAX_PATH_BYTES or max(map(len, parts), default=0) > MAX_NAME_BYTES:
            raise SourceError(self._name(clean[:80]), "longer than file systems allow")
        return clean

    def _name(self, path: bytes) -> str:
        return f"{show(path[:MAX_PATH_BYTES])} in {self._what}"
