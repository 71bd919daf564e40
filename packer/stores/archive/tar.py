"""Tar files that hold an image layout: where each member lies, and the bytes of a new one.

A tar file is read by its headers alone, once, and never extracted; its members are then read by
range. Python's ``tarfile`` is not used: it holds extended headers of any size in memory, follows
sparse maps and lets the last of two members of one name win, which strangers could abuse.

Sources: POSIX.1-2017 ``pax``, "ustar Interchange Format" and "pax Header Block"; the GNU tar
manual, "Basic Tar Format" (long names, base-256 numbers).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from packer.errors import FormatError, SizeMismatch, UnsafePath
from packer.oci import MAX_BLOB_BYTES

BLOCK_BYTES = 512
MAX_MEMBERS = 1 << 17
"""Bound on the headers of a tar file: 500 bytes of memory each, 64 MB in all."""
MAX_EXTENSION_BYTES = 64 << 10
"""Bound on a long name or a pax header, which are read into memory."""
BLOB_PREFIX = "blobs/sha256/"
"""Directory of the blobs in an image layout."""

_ZEROS = bytes(BLOCK_BYTES)
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_FILES = b"0\x007"
_HEADER_ONLY = b"123456"  # links, devices, directories, fifos
_DIRECTORY = b"5"
_MTIME = 315_532_800
"""1980-01-01: the same in every archive, and the first time that FAT can hold."""
_OCTAL_LIMIT = 8**11


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a tar file.

    Args:
        offset: first byte of its content in the tar file.
        size: of its content, in bytes.
        is_file: whether it is a regular file.
    """

    offset: int
    size: int
    is_file: bool


def read_members(read: Callable[[int, int], bytes], size: int, what: str) -> dict[str, Member]:
    """Return the members of a tar file by their names; directories are left out.

    Args:
        read: given offset and length, returns that many bytes, fewer only at the file's end.
        size: of the file, in bytes.
        what: the file's name in errors.

    Returns:
        Members by their cleaned names.

    Raises:
        FormatError: not a tar file, compressed, cut off, with sparse members, two of one name, or
            beyond the limits.
        SizeMismatch: a member ends behind the file's end.
    """
    members: dict[str, Member] = {}
    offset = count = 0
    name: str | None = None
    stated: int | None = None
    while True:
        block = read(offset, BLOCK_BYTES)
        if block == _ZEROS:
            break
        if offset == 0 and block.startswith((_GZIP, _ZSTD)):
            raise FormatError(what, "compressed; decompress it first")
        if len(block) < BLOCK_BYTES:
            why = "no end mark: it was cut off" if offset else "no tar file"
            raise FormatError(what, why)
        where = f"{what} at byte {offset}" if offset else f"{what} (no tar file)"
        _check_sum(block, where)
        kind = block[156:157]
        length = _number(block[124:136], where)
        start = offset + BLOCK_BYTES
        count += 1
        if count > MAX_MEMBERS:
            raise FormatError(what, f"more than {MAX_MEMBERS} members")
        if kind in b"LKxg":
            data = _extension(read, start, length, size, where)
            if kind == b"L":
                name = _text(data.rstrip(b"\0"))
            elif kind == b"x":
                name, stated = _records(data, name, where)
            elif kind == b"g" and _records(data, None, where) != (None, None):
                raise FormatError(where, "a global header that names or sizes all members")
            offset = start + _padded(length)
            continue
        if kind == b"S":
            raise FormatError(where, "a sparse member")
        length, stated = (length if stated is None else stated), None
        if kind in _HEADER_ONLY and length:
            raise FormatError(where, "a link, directory or device with content")
        if length > MAX_BLOB_BYTES:
            raise FormatError(where, f"size {length} is out of range")
        if start + length > size:
            raise SizeMismatch(where, start + length, size)
        path, name = _clean(name if name is not None else _short_name(block), where), None
        is_file = kind in _FILES and not path.endswith("/")
        path = path.rstrip("/")
        if path and kind != _DIRECTORY and (is_file or kind not in _FILES):
            if path in members:
                raise FormatError(what, f"{path} occurs twice")
            members[path] = Member(start, length, is_file)
        offset = start + _padded(length)
    return members


def _padded(length: int) -> int:
    """Return `length` rounded up to whole blocks."""
    return -(-length // BLOCK_BYTES) * BLOCK_BYTES


def _check_sum(block: bytes, where: str) -> None:
    """Compare the sum of a header's bytes, its own field taken as spaces."""
    expected = _number(block[148:156], where)
    if expected != sum(block[:148]) + sum(block[156:]) + 8 * ord(" "):
        raise FormatError(where, "no tar header: its sum is wrong")


def _number(field_bytes: bytes, where: str) -> int:
    """Return a number in octal, or in GNU's base-256."""
    if field_bytes[0] == 0x80:
        return int.from_bytes(field_bytes[1:], "big")
    text = field_bytes.strip(b"\0 ")
    if not all(byte in b"01234567" for byte in text):
        raise FormatError(where, "no tar header: a field is not an octal number")
    return int(text or b"0", 8)


def _extension(
    read: Callable[[int, int], bytes], start: int, length: int, size: int, where: str
) -> bytes:
    """Return the content of a header (long name, pax) that describes the next member."""
    if length > MAX_EXTENSION_BYTES:
        raise FormatError(where, f"an extended header above {MAX_EXTENSION_BYTES} bytes")
    if start + length > size:
        raise SizeMismatch(where, start + length, size)
    return read(start, length)


def _records(data: bytes, name: str | None, where: str) -> tuple[str | None, int | None]:
    """Return name and size that a pax header states; `name` and None where it does not."""
    size: int | None = None
    while data:
        digits, space, _ = data[:8].partition(b" ")
        length = int(digits) if digits.isdigit() else 0
        record, data = data[len(digits) + 1 : length], data[length:]
        key, equals, value = record.partition(b"=")
        if not space or not equals or not value.endswith(b"\n"):
            raise FormatError(where, "malformed pax header")
        value = value[:-1]
        if key.startswith(b"GNU.sparse."):
            raise FormatError(where, "a sparse member")
        if key == b"path":
            name = _text(value)
        elif key == b"size":
            if not value.isdigit() or len(value) > 19:
                raise FormatError(where, "malformed pax header")
            size = int(value)
    return name, size


def _short_name(block: bytes) -> str:
    """Return the name in a header's own fields."""
    name = block[:100].partition(b"\0")[0]
    if block[257:263] == b"ustar\0" and (prefix := block[345:500].partition(b"\0")[0]):
        name = prefix + b"/" + name
    return _text(name)


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _clean(name: str, where: str) -> str:
    """Return a member's name without "." components; a final slash stays.

    Unsafe names are refused although nothing is ever written by them here: another tool that
    extracts the file would follow them.

    Raises:
        UnsafePath: the name is absolute, climbs or holds NUL.
    """
    parts = name.split("/")
    if name.startswith("/") or ".." in parts or "\0" in name:
        raise UnsafePath(name, f"in {where}")
    path = "/".join(part for part in parts if part not in ("", "."))
    return path + "/" if path and parts[-1] in ("", ".") else path


@dataclass(frozen=True)
class TarPlan:
    """The layout of a tar file to be written: all bytes but those of the blobs.

    The members are the documents in the order given, the directories of blobs, and the blobs by
    digest. Times, owners and permissions are fixed, so equal content gives an equal file.

    Args:
        documents: content of small files by name.
        blobs: sizes in bytes by digest.
    """

    documents: Mapping[str, bytes]
    blobs: Mapping[str, int]
    fixed: list[tuple[int, bytes]] = field(default_factory=list, init=False)
    """Offsets and bytes of everything but blobs, in order."""
    offsets: dict[str, int] = field(default_factory=dict, init=False)
    """Offset of each blob by digest."""
    size: int = field(default=0, init=False)
    """Of the tar file, in bytes."""
    digest: str = field(default="", init=False)
    """Digest of the fixed bytes. They name the blobs, so equal digests mean equal files."""

    def __post_init__(self) -> None:
        """Lay the file out."""
        at = 0

        def put(data: bytes) -> None:
            nonlocal at
            if data:
                self.fixed.append((at, data))
                at += len(data)

        for name, data in self.documents.items():
            put(header(name, len(data)) + data + bytes(_padded(len(data)) - len(data)))
        parent = ""
        for part in BLOB_PREFIX.split("/")[:-1]:
            parent += part + "/"
            put(header(parent, 0))
        for digest, size in sorted(self.blobs.items()):
            put(header(BLOB_PREFIX + digest[7:], size))
            self.offsets[digest] = at
            at += size
            put(bytes(_padded(size) - size))
        put(_ZEROS + _ZEROS)
        whole = hashlib.sha256()
        for offset, data in self.fixed:
            whole.update(b"%d:" % offset + data)
        object.__setattr__(self, "size", at)
        object.__setattr__(self, "digest", "sha256:" + whole.hexdigest())


def header(name: str, size: int) -> bytes:
    """Return the header of a regular file, or of a directory if `name` ends in a slash."""
    if size < _OCTAL_LIMIT:
        return _ustar(name, size, _DIRECTORY if name.endswith("/") else b"0")
    # A pax header, which every tar of the last twenty years reads: octal ends at 8 GiB.
    record = b" size=%d\n" % size
    length = len(record) + 2
    assert len(b"%d" % length) == 2
    extension = b"%d" % length + record
    return (
        _ustar(name, len(extension), b"x")
        + extension
        + bytes(_padded(len(extension)) - len(extension))
        + _ustar(name, 0, b"0")
    )


def _ustar(name: str, size: int, kind: bytes) -> bytes:
    encoded = name.encode("ascii")
    assert len(encoded) < 100
    block = b"".join(
        (
            encoded.ljust(100, b"\0"),
            b"0000755\0" if kind == _DIRECTORY else b"0000644\0",
            b"0000000\0" * 2,
            b"%011o\0" % size,
            b"%011o\0" % _MTIME,
            b" " * 8,
            kind,
            bytes(100),
            b"ustar\x0000",
            bytes(64),
            b"0000000\0" * 2,
        )
    ).ljust(BLOCK_BYTES, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]
