"""The file or files that hold an archive, and its members as files and readers.

An archive is one file, or parts of a given size beside a list of checksums:

    update.tar.sha256           the list; ``sha256sum -c`` understands it
    update.tar.000 ...          the parts: put together, they are update.tar

The list's first line identifies the archive and the size of its parts, which tells parts of another
archive from damaged ones. A line for each complete part follows.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO, cast

from packer.errors import (
    DigestMismatch,
    FormatError,
    IntegrityError,
    InvalidParameter,
    NotFound,
    PackerError,
    SizeMismatch,
)
from packer.files.durable import open_regular, read_bounded
from packer.oci import MAX_BLOB_BYTES, READ_BYTES, Descriptor, is_digest
from packer.stores.archive.tar import Member
from packer.stores.verifying import VerifyingReader

MAX_PARTS = 1000
"""Bound on the parts of an archive: their names end in three digits."""
MIN_PART_BYTES = 1000
"""Smallest part in bytes; a typing error ("64" for 64 MB) must not make hundreds of files."""
_MAX_LIST_BYTES = 1 << 20
"""Bound on the list of parts: MAX_PARTS lines with long names."""
_HEAD = re.compile(
    r"# layer-packer: (\d{1,15}) bytes in parts of (\d{1,15}), plan (sha256:[0-9a-f]{64})\Z",
    re.ASCII,
)
_LINE = re.compile(r"([0-9a-f]{64})  ([^/\0\n]+)\.([0-9]{3})\Z")


def list_path(path: str) -> str:
    """Return the path of the list of an archive's parts."""
    return path + ".sha256"


@dataclass
class PartList:
    """The parts of an archive, and the checksums of those that are complete.

    Args:
        path: of the archive; no file of this name exists.
        total_bytes: size of the archive.
        part_bytes: size of each part but the last.
        plan: digest of the archive's plan (`TarPlan.digest`).
        sums: digests of the complete parts by number, from 0.

    Raises:
        InvalidParameter: there would be too many parts, or they would be too small.
    """

    path: str
    total_bytes: int
    part_bytes: int
    plan: str
    sums: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the number of parts."""
        if self.part_bytes < MIN_PART_BYTES:
            raise InvalidParameter(f"parts of {self.part_bytes} bytes are below {MIN_PART_BYTES}")
        if self.count > MAX_PARTS:
            raise InvalidParameter(
                f"{self.total_bytes} bytes in parts of {self.part_bytes} are {self.count} parts, "
                f"the limit is {MAX_PARTS}"
            )

    @property
    def count(self) -> int:
        """Number of parts."""
        return -(-self.total_bytes // self.part_bytes)

    def part_path(self, number: int) -> str:
        """Return the path of a part; all are of equal length, so names sort as numbers do."""
        return f"{self.path}.{number:03}"

    def size(self, number: int) -> int:
        """Return the size of a part in bytes."""
        return min(self.part_bytes, self.total_bytes - number * self.part_bytes)

    def numbers(self, start: int, end: int) -> range:
        """Return the parts that hold bytes of `[start, end)`."""
        return range(start // self.part_bytes, -(-end // self.part_bytes) if end > start else 0)

    def is_same(self, other: PartList) -> bool:
        """Return whether both describe the same parts, complete or not."""
        mine = (self.total_bytes, self.part_bytes, self.plan)
        return mine == (other.total_bytes, other.part_bytes, other.plan)

    def earlier(self) -> PartList | None:
        """Return the list of an earlier attempt at the same parts.

        Returns:
            The list, None if there was no attempt.

        Raises:
            InvalidParameter: there are other parts of this name.
        """
        name = list_path(self.path)
        found = PartList.read(self.path)
        if found is None and os.path.lexists(self.part_path(0)):
            raise InvalidParameter(
                f"{self.part_path(0)} is there, but no {name}: remove the parts, "
                "or choose another name"
            )
        if found is not None and not found.is_same(self):
            raise InvalidParameter(
                f"{name} lists the parts of another archive, or of another size: remove it and "
                "its parts, or choose another name"
            )
        return found

    def encode(self) -> bytes:
        """Return the bytes of the list."""
        head = (
            f"# layer-packer: {self.total_bytes} bytes in parts of {self.part_bytes}, "
            f"plan {self.plan}\n"
        )
        lines = [
            self.sums[number][7:].encode() + b"  " + os.fsencode(self._base(number)) + b"\n"
            for number in sorted(self.sums)
        ]
        return head.encode() + b"".join(lines)

    def _base(self, number: int) -> str:
        return os.path.basename(self.part_path(number))

    @classmethod
    def read(cls, path: str) -> PartList | None:
        """Read the list beside an archive.

        Args:
            path: of the archive.

        Returns:
            The list, None if there is none.

        Raises:
            FormatError: it is malformed.
        """
        name = list_path(path)
        try:
            data = read_bounded(name, _MAX_LIST_BYTES)
        except FileNotFoundError:
            return None
        if len(data) > _MAX_LIST_BYTES:
            raise FormatError(name, f"above {_MAX_LIST_BYTES} bytes")
        head, *lines = data.decode("utf-8", "surrogateescape").removesuffix("\n").split("\n")
        found = _HEAD.match(head)
        if not found:
            raise FormatError(name, "its first line is not the first of a list of parts")
        total, size = int(found[1]), int(found[2])
        if not 0 < total <= MAX_BLOB_BYTES:
            raise FormatError(name, f"size {total} is out of range")
        try:
            parts = cls(path, total, size, found[3])
        except InvalidParameter as error:
            raise FormatError(name, str(error)) from None
        for line in lines:
            parts._add_line(line, name)
        return parts

    def _add_line(self, line: str, name: str) -> None:
        """Record a line of the list `name`."""
        match = _LINE.match(line)
        number = int(match[3]) if match else MAX_PARTS
        # The name in front may be another one: whoever renames the parts keeps their ends.
        if match is None or number >= self.count or number in self.sums:
            raise FormatError(name, f"line {line[:200]!r} does not describe a part")
        self.sums[number] = "sha256:" + match[1]
        assert is_digest(self.sums[number])

    def check(self, number: int) -> PackerError | None:
        """Read a part and return its damage, None if it is sound."""
        path = self.part_path(number)
        try:
            fd = open_regular(path)
        except (FileNotFoundError, IsADirectoryError):
            return NotFound("part", path, f"of {list_path(self.path)}")
        with open(fd, "rb", buffering=0) as file:
            size = os.fstat(fd).st_size
            if size != self.size(number):
                return SizeMismatch(f"part {path}", self.size(number), size)
            actual = hashlib.sha256()
            while data := file.read(READ_BYTES):
                actual.update(data)
        digest = "sha256:" + actual.hexdigest()
        if digest != self.sums.get(number, ""):
            return DigestMismatch(f"part {path}", self.sums.get(number, "none"), digest)
        return None


class WholeFile:
    """An archive in one file, open for reading: a file renamed over it later is not seen.

    Args:
        path: of the archive. FileNotFoundError and IsADirectoryError (for all that is no regular
            file) pass through.
    """

    def __init__(self, path: str) -> None:
        self._fd = open_regular(path)
        self.size = os.fstat(self._fd).st_size

    def pread(self, length: int, offset: int) -> bytes:
        """Return up to `length` bytes from `offset`, fewer only at the end."""
        out = os.pread(self._fd, length, offset)
        while len(out) < length and (
            more := os.pread(self._fd, length - len(out), offset + len(out))
        ):
            out += more
        return out

    def blame(self, start: int, end: int) -> PackerError | None:
        """Return the damaged part: None, as there are no parts."""
        return None

    def __del__(self) -> None:
        """Close the file when the last reader has gone."""
        if getattr(self, "_fd", -1) >= 0:
            os.close(self._fd)


class SplitFile:
    """An archive in parts, for reading; each read opens its part, as there may be hundreds.

    Args:
        parts: the list.

    Raises:
        NotFound: a part is missing, or was never finished.
        SizeMismatch: a part has another size.
    """

    def __init__(self, parts: PartList) -> None:
        self.parts = parts
        self.size = parts.total_bytes
        for number in range(parts.count):
            if number not in parts.sums:
                raise NotFound(
                    "part", parts.part_path(number), "never finished: run the same copy again"
                )
            self._open(number, lambda fd: None)

    def _open(self, number: int, use: Callable[[int], bytes | None]) -> bytes | None:
        path = self.parts.part_path(number)
        try:
            fd = open_regular(path)
        except (FileNotFoundError, IsADirectoryError):
            raise NotFound("part", path, f"of {list_path(self.parts.path)}") from None
        try:
            size, expected = os.fstat(fd).st_size, self.parts.size(number)
            if size != expected:
                raise SizeMismatch(f"part {path}", expected, size)
            return use(fd)
        finally:
            os.close(fd)

    def pread(self, length: int, offset: int) -> bytes:
        """Read across parts.

        Args:
            length: number of bytes.
            offset: of the first byte in the archive.

        Returns:
            `length` bytes, fewer only at the end.

        Raises:
            SizeMismatch: a part became shorter.
        """
        out: list[bytes] = []
        end = min(offset + length, self.size)
        for number in self.parts.numbers(offset, end):
            first = number * self.parts.part_bytes
            start, stop = max(offset, first), min(end, first + self.parts.size(number))
            data = self._open(number, lambda fd: os.pread(fd, stop - start, start - first))  # noqa: B023
            if data is None or len(data) != stop - start:
                raise SizeMismatch(f"part {self.parts.part_path(number)}", stop - start, 0)
            out.append(data)
        return b"".join(out)

    def blame(self, start: int, end: int) -> PackerError | None:
        """Read the parts that hold `[start, end)`; return the damage of the first damaged one."""
        for number in self.parts.numbers(start, min(end, self.size)):
            if (error := self.parts.check(number)) is not None:
                return error
        return None


ArchiveFile = WholeFile | SplitFile


class MemberFile(io.RawIOBase):
    """A member of an archive as a file; it stays readable when the archive is replaced.

    Args:
        file: the archive.
        member: place and size of the member.
    """

    def __init__(self, file: ArchiveFile, member: Member) -> None:
        super().__init__()
        self._archive = file
        self._member = member
        self._at = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move to an offset, as `io.IOBase.seek`, and return it."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._member.size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        """Return the offset of the next read."""
        return self._at

    def pread(self, length: int, offset: int) -> bytes:
        """Return up to `length` bytes from `offset`, from any thread."""
        length = max(0, min(length, self._member.size - offset))
        return self._archive.pread(length, self._member.offset + offset) if length else b""

    def read(self, size: int = -1, /) -> bytes:
        """Return at most `size` bytes, all that remain if negative."""
        if size < 0:
            return b"".join(iter(lambda: self.read(READ_BYTES), b""))
        data = self.pread(size, self._at)
        self._at += len(data)
        return data

    def damage(self) -> PackerError | None:
        """Return the damage of the first damaged part that holds bytes of this member."""
        return self._archive.blame(self._member.offset, self._member.offset + self._member.size)


class BlamingReader(VerifyingReader):
    """A verifying reader whose errors name the damaged part of a split archive, not the blob.

    The last bytes are returned after the whole blob is verified, so that a caller who knows the
    size, and reads no further, is safe as well.

    Args:
        file: the blob.
        blob: what the bytes must be.
        what: the blob's name in errors.
    """

    def __init__(self, file: MemberFile, blob: Descriptor, what: str) -> None:
        super().__init__(cast(BinaryIO, file), blob, what)
        self._file = file

    def read(self, size: int = -1, /) -> bytes:
        """Return at most `size` bytes; raise as `VerifyingReader.read` does, or name a part."""
        try:
            data = super().read(size)
            if self._file.tell() == self._blob.size and size > 0 and data:
                super().read(1)
        except IntegrityError as error:
            if (damage := self._file.damage()) is not None:
                raise damage from error
            raise
        return data


def open_archive(path: str) -> ArchiveFile | None:
    """Open an archive, or its parts.

    A malformed list raises FormatError, a part of another size SizeMismatch, a `path` that is no
    regular file IsADirectoryError.

    Args:
        path: of the archive.

    Returns:
        The archive, None if there is neither file nor parts.

    Raises:
        NotFound: a part or the list of parts is missing.
    """
    try:
        return WholeFile(path)
    except FileNotFoundError:
        pass
    parts = PartList.read(path)
    if parts is not None:
        return SplitFile(parts)
    if os.path.lexists(path + ".000"):
        raise NotFound("list of parts", list_path(path), "parts are there, their list is not")
    return None


def identity(path: str) -> tuple[object, ...]:
    """Return a value that changes when the archive, or the list of its parts, is replaced."""
    for name in (path, list_path(path)):
        try:
            status = os.stat(name)
        except (FileNotFoundError, NotADirectoryError):
            continue
        return (name, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    return ()
