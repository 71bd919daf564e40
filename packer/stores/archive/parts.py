"""The file or files that hold an archive: one, or parts of a given size with a list of checksums.

    update.tar.sha256           the list; ``sha256sum -c`` understands it
    update.tar.000 ...          the parts: put together, they are update.tar

The list's first line says what the parts are of, so that parts of another archive, or of another
size, are told apart from damaged ones; then follows a line for each part that is complete.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from packer.errors import (
    DigestMismatch,
    FormatError,
    InvalidParameter,
    NotFound,
    PackerError,
    SizeMismatch,
)
from packer.files.durable import open_regular, read_bounded
from packer.oci import MAX_BLOB_BYTES, is_digest
from packer.stores.protocols import READ_BYTES

MAX_PARTS = 1000
MIN_PART_BYTES = 1000
_MAX_LIST_BYTES = 1 << 20
_HEAD = re.compile(
    r"# layer-packer: (\d{1,15}) bytes in parts of (\d{1,15}), plan (sha256:[0-9a-f]{64})\Z",
    re.ASCII,
)
_LINE = re.compile(r"([0-9a-f]{64})  ([^/\0\n]+)\.([0-9]{3})\Z")


def list_path(path: str) -> str:
    """Return the name of the list of an archive's parts."""
    return path + ".sha256"


@dataclass
class PartList:
    """What an archive is split into, and the checksums of the parts that are complete.

    Args:
        path: of the archive, which does not exist under this name.
        total_bytes: of the archive.
        part_bytes: of each part but the last.
        plan: digest of the archive's plan.
        sums: digests of complete parts by number.

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
        """How many parts there are."""
        return -(-self.total_bytes // self.part_bytes)

    def part_path(self, number: int) -> str:
        """Return the name of a part; of equal length all, so that they sort."""
        return f"{self.path}.{number:03}"

    def size(self, number: int) -> int:
        """Return the size of a part."""
        return min(self.part_bytes, self.total_bytes - number * self.part_bytes)

    def numbers(self, start: int, end: int) -> range:
        """Return the parts that hold bytes of `[start, end)`."""
        return range(start // self.part_bytes, -(-end // self.part_bytes) if end > start else 0)

    def is_same(self, other: PartList) -> bool:
        """Tell whether both describe the same parts, complete or not."""
        mine = (self.total_bytes, self.part_bytes, self.plan)
        return mine == (other.total_bytes, other.part_bytes, other.plan)

    def earlier(self) -> PartList | None:
        """Return the list of an earlier attempt at the same parts, None if there was none.

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
        """Return the list beside an archive, None if there is none.

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
            raise FormatError(name, "its first line is not that of a list of parts")
        total, size = int(found[1]), int(found[2])
        if not 0 < total <= MAX_BLOB_BYTES:
            raise FormatError(name, f"size {total} is out of range")
        try:
            parts = cls(path, total, size, found[3])
        except InvalidParameter as error:
            raise FormatError(name, str(error)) from None
        for line in lines:
            match = _LINE.match(line)
            number = int(match[3]) if match else MAX_PARTS
            # The name in front may be another one: whoever renames the parts keeps their ends.
            if match is None or number >= parts.count or number in parts.sums:
                raise FormatError(name, f"line {line[:200]!r} is not that of a part")
            parts.sums[number] = "sha256:" + match[1]
            assert is_digest(parts.sums[number])
        return parts

    def check(self, number: int) -> PackerError | None:
        """Read a part, and return what is wrong with it, None if it is sound."""
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
    """An archive in one file, open for reading: what another process renames over it is not seen.

    Raises:
        FileNotFoundError, IsADirectoryError: there is none, or it is no regular file.
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
        """Tell which part is damaged: there are none."""
        return None

    def __del__(self) -> None:
        """Close the file when the last reader has gone."""
        if getattr(self, "_fd", -1) >= 0:
            os.close(self._fd)


class SplitFile:
    """An archive in parts, for reading. Each read opens the part it needs: there may be hundreds.

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
        """Return up to `length` bytes from `offset`, fewer only at the end."""
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
        """Read the parts that hold `[start, end)`; return what is wrong with the first bad one."""
        for number in self.parts.numbers(start, min(end, self.size)):
            if (error := self.parts.check(number)) is not None:
                return error
        return None


ArchiveFile = WholeFile | SplitFile


def open_archive(path: str) -> ArchiveFile | None:
    """Open an archive, or its parts; None if there is neither.

    Raises:
        NotFound: a part or the list of parts is missing.
        FormatError, SizeMismatch: the list is malformed, or a part has another size.
        IsADirectoryError: `path` is no regular file.
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
    """Return what changes when the archive, or the list of its parts, is replaced."""
    for name in (path, list_path(path)):
        try:
            status = os.stat(name)
        except (FileNotFoundError, NotADirectoryError):
            continue
        return (name, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    return ()
