"""Headers of tar archives: strict and bounded where they are read, one form where they are written.

`write_header` uses ustar, and pax records for what does not fit into it. `read_header` takes ustar,
pax and GNU tar. Python's ``tarfile`` is not used: it holds extended headers of any size in memory,
and its output may change from version to version.

Sources: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Header Block"; GNU tar manual,
"Basic Tar Format" (long names, base-256 numbers).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from packer.errors import SourceError, UnsupportedFile

BLOCK = 512
"""Length of a block in bytes: headers take one, contents are padded to whole ones."""
END = bytes(2 * BLOCK)
"""The end of an archive."""
MAX_EXTENSION_BYTES = 1 << 20
"""Greatest extended header in bytes that is read: room for the attributes of one file."""
MTIME = 315_532_800
"""1980-01-01, the time of every member that is written: the first that FAT and zip can hold."""

_OCTAL_LIMIT = 8**11
_KINDS = {
    b"\0": "file",
    b"0": "file",
    b"7": "file",
    b"1": "hardlink",
    b"2": "symlink",
    b"5": "directory",
}
_UNSUPPORTED = {
    b"3": "character device",
    b"4": "block device",
    b"6": "fifo",
    b"S": "a sparse member: make the archive without --sparse",
    b"M": "the rest of a member of another volume",
    b"D": "the directory of an incremental archive",
    b"V": "the label of a volume",
    b"N": "a list of long names, of an old GNU tar",
}
_FLAGS = {"file": b"0", "hardlink": b"1", "symlink": b"2", "directory": b"5", "pax": b"x"}
_PACKERS = {
    b"\x1f\x8b": "gzip -d",
    b"\x28\xb5\x2f\xfd": "zstd -d",
    b"\xfd7zXZ": "xz -d",
    b"BZh": "bzip2 -d",
}


@dataclass(frozen=True, slots=True)
class TarHeader:
    """A member of an archive.

    Args:
        path: as the archive has it.
        kind: "file", "hardlink", "symlink" or "directory".
        mode: permission bits.
        size: of the content that follows, in bytes.
        target: of a link.
    """

    path: bytes
    kind: str
    mode: int
    size: int
    target: bytes


def read_header(read: Callable[[int], bytes], what: str, *, is_first: bool) -> TarHeader | None:
    """Read the next header, and the extended headers before it.

    Args:
        read: returns the given number of bytes, fewer only at the end of the stream.
        what: the archive's name in errors.
        is_first: whether the archive begins here.

    Returns:
        The header; None at the end mark.

    Raises:
        SourceError: the archive is cut off, compressed, no archive, or beyond the limits.
        UnsupportedFile: the member is a device, fifo, or sparse.
    """
    pax: dict[bytes, bytes] = {}
    while True:
        block = read(BLOCK)
        if is_first:
            _check_first(block, what)
        is_first = False
        if len(block) == BLOCK and not block.strip(b"\0"):
            if pax:
                raise SourceError(what, "an extended header describes no member")
            return None
        if len(block) < BLOCK:
            raise SourceError(what, "it has no end mark: it was cut off")
        _check_sum(block, what)
        size = _number(block[124:136], what)
        flag = block[156:157]
        if flag not in b"xgLK" or not flag:
            return _member(block, flag, size, pax, what)
        if size > MAX_EXTENSION_BYTES:
            raise SourceError(what, f"an extended header has more than {MAX_EXTENSION_BYTES} bytes")
        data = read(padded(size))
        if len(data) < padded(size):
            raise SourceError(what, "it was cut off in an extended header")
        if flag in b"LK":
            pax[b"path" if flag == b"L" else b"linkpath"] = data[:size].partition(b"\0")[0]
        else:
            found = _records(data[:size], what)
            if flag == b"g" and found:
                raise SourceError(what, "a global header that names or sizes all members")
            pax.update(found)


def _check_first(block: bytes, what: str) -> None:
    """Raise if the first block is none of a tar archive."""
    for magic, command in _PACKERS.items():
        if block.startswith(magic):
            raise SourceError(what, f"it is compressed: pipe it through {command}")
    if len(block) < BLOCK:
        raise SourceError(what, "it is empty" if not block else "it is no tar archive")
    if block.strip(b"\0"):
        try:
            _check_sum(block, what)
        except SourceError:
            raise SourceError(what, "it is no tar archive") from None


def _check_sum(block: bytes, what: str) -> None:
    """Compare the sum of a header's bytes, its own field taken as spaces."""
    expected = _number(block[148:156], what)
    if expected != sum(block[:148]) + sum(block[156:]) + 8 * ord(" "):
        raise SourceError(what, "a header is damaged: its sum is wrong")


def _number(field: bytes, what: str) -> int:
    """Return a number in octal, or in GNU's base-256."""
    if field[0] & 0x80:
        number = int.from_bytes(field, "big") - (1 << 8 * len(field) - 1)
        if field[0] != 0x80 or number >= 1 << 63:
            raise SourceError(what, "a number in a header is out of range")
        return number
    text = field.strip(b"\0 ")
    if text.strip(b"01234567"):
        raise SourceError(what, "a header is damaged: a field is no octal number")
    return int(text or b"0", 8)


def _records(data: bytes, what: str) -> dict[bytes, bytes]:
    """Return the records of a pax header that matter here."""
    out: dict[bytes, bytes] = {}
    at = 0
    while at < len(data):
        digits, space, _ = data[at : at + 8].partition(b" ")
        end = at + int(digits) if digits.isdigit() else 0
        key, equals, value = data[at + len(digits) + 1 : end].partition(b"=")
        if not space or not equals or end > len(data) or not value.endswith(b"\n"):
            raise SourceError(what, "a pax header is malformed")
        value = value[:-1]
        if key.startswith(b"GNU.sparse."):
            out[b"GNU.sparse"] = value
        elif key == b"size" and (not value.isdigit() or len(value) > 18):
            raise SourceError(what, "a pax header is malformed: a size is no number")
        elif key in (b"path", b"linkpath", b"size"):
            out[key] = value
        at = end
    return out


def _member(
    block: bytes, flag: bytes, size: int, pax: dict[bytes, bytes], what: str
) -> TarHeader | None:
    """Return the member of a header."""
    path = pax.get(b"path") or _name(block)
    shown = f"{path.decode('utf-8', 'surrogateescape')} in {what}"
    if b"GNU.sparse" in pax:
        flag = b"S"
    if flag in _UNSUPPORTED:
        raise UnsupportedFile(shown, _UNSUPPORTED[flag])
    if flag not in _KINDS:
        raise UnsupportedFile(shown, f"a member of the unknown type {flag!r}")
    size = int(pax.get(b"size", b"%d" % size))
    kind = _KINDS[flag]
    if kind == "file" and path.endswith(b"/"):  # before POSIX, directories
        kind = "directory"
    if kind != "file" and size:
        raise SourceError(shown, "a link or directory with content")
    target = pax.get(b"linkpath") or block[157:257].partition(b"\0")[0]
    return TarHeader(path, kind, _number(block[100:108], what) & 0o777, size, target)


def _name(block: bytes) -> bytes:
    """Return the name in a header's own fields."""
    name = block[:100].partition(b"\0")[0]
    if block[257:263] == b"ustar\0":  # GNU tar has times there
        prefix = block[345:500].partition(b"\0")[0]
        return prefix + b"/" + name if prefix else name
    return name


def write_header(header: TarHeader) -> bytes:
    """Return the bytes before a member's content; the same for the same member.

    Args:
        header: of the member. The path of a directory ends with a slash.

    Returns:
        One header, or three blocks and more where pax records are needed.
    """
    name, prefix = _split(header.path)
    records = b""
    if name is None:
        records += _record(b"path", header.path)
        name = header.path[:100]
    if len(header.target) > 100:
        records += _record(b"linkpath", header.target)
    size = header.size
    if size >= _OCTAL_LIMIT:
        records += _record(b"size", b"%d" % size)
        size = 0
    flag = _FLAGS[header.kind]
    block = _block(name, prefix, header.mode, size, flag, header.target[:100])
    if not records:
        return block
    extension = _block(b"pax", b"", 0o644, len(records), _FLAGS["pax"], b"")
    return extension + records + bytes(padded(len(records)) - len(records)) + block


def _split(path: bytes) -> tuple[bytes | None, bytes]:
    """Return a path as ustar's name and prefix; None as the name if it does not fit."""
    if len(path) <= 100:
        return path, b""
    at = path.find(b"/", len(path) - 101)
    if 0 < at <= 155 and at + 1 < len(path):
        return path[at + 1 :], path[:at]
    return None, b""


def _record(key: bytes, value: bytes) -> bytes:
    """Return a pax record, which begins with its own length."""
    rest = b" %s=%s\n" % (key, value)
    length = len(rest)
    while length != len(rest) + len(b"%d" % length):
        length = len(rest) + len(b"%d" % length)
    return b"%d" % length + rest


def _block(name: bytes, prefix: bytes, mode: int, size: int, flag: bytes, target: bytes) -> bytes:
    """Return a header in ustar's form."""
    block = b"".join(
        (
            name.ljust(100, b"\0"),
            b"%07o\0" % mode,
            b"0000000\0" * 2,
            b"%011o\0" % size,
            b"%011o\0" % MTIME,
            b" " * 8,
            flag,
            target.ljust(100, b"\0"),
            b"ustar\x0000",
            bytes(64),
            b"0000000\0" * 2,
            prefix.ljust(155, b"\0"),
        )
    ).ljust(BLOCK, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def padded(size: int) -> int:
    """Return a number of bytes, rounded up to whole blocks."""
    return -(-size // BLOCK) * BLOCK
