"""Members of a tar archive, for listings: every dialect, bounded headers, no reading to skip.

Sources: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Interchange Format"; GNU tar manual,
"Basic Tar Format" and "Storing Sparse Files".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from packer.opening.members.gzip_members import Damaged
from packer.opening.members.stored_pieces import (
    Data,
    Extent,
    Header,
    Hole,
    Irregular,
    Piece,
    Stream,
)
from packer.opening.tar_headers import BLOCK, is_header

MAX_HEADER_BYTES = 1 << 20
"""Greatest extended header (pax records, or a long name of GNU tar) that is read, in bytes. Longer
ones are skipped, and reported: they hold no name that a file system takes."""
MAX_SPARSE_RUNS = 1 << 18
"""Greatest number of pieces of a sparse member whose content can be given out."""

_KINDS = {
    b"1": "hardlink",
    b"2": "symlink",
    b"3": "device",
    b"4": "device",
    b"5": "directory",
    b"6": "fifo",
    b"D": "directory",
}
_RECORDS = frozenset(
    [
        *("path", "linkpath", "size"),
        *(f"GNU.sparse.{key}" for key in ("major", "map", "name", "realsize", "size")),
    ]
)
"""Keys of pax records that matter here; others are dropped, so that they take no memory."""
_WITHOUT_CONTENT = b"123456"
_NUL = b"\0"


@dataclass(slots=True)
class TarMember:
    """A member of a tar archive.

    Args:
        name: as the archive has it.
        kind: "file", "directory", "symlink", "hardlink", "device" or "fifo".
        mode: permission bits.
        size: of the content in bytes, holes included.
        target: of a link.
        stored: the stored content; valid until the next member is asked for.
        sparse: start and length of each stored run of a sparse file; None for other files, and for
            sparse files with too many runs.
        is_sparse: whether the file has holes.
    """

    name: str
    kind: str
    mode: int
    size: int
    target: str
    stored: Extent
    sparse: list[tuple[int, int]] | None = None
    is_sparse: bool = False

    def content(self) -> Stream:
        """Return the content.

        Raises:
            Damaged: the map of a sparse file is damaged or too long.
        """
        if not self.is_sparse:
            return self.stored
        if self.sparse is None:
            raise Damaged("the map of a sparse file is damaged or too long")
        return Stream(self._filled(self.sparse), is_sequential=True)

    def _filled(self, runs: list[tuple[int, int]]) -> Iterator[Piece]:
        """Yield the stored runs, and zeros between them."""
        position = 0
        for start, length in runs:
            if start > position:
                yield Hole(start - position)
            yield from self.stored.raw(length)
            position = start + length
        if self.size > position:
            yield Hole(self.size - position)


@dataclass(slots=True)
class TarReader:
    """Reads the members of a tar archive.

    Args:
        stream: at the first header.
    """

    stream: Stream
    problems: list[str] = field(default_factory=list)
    """Why the listing may not be complete; empty for a sound archive."""
    _is_recorded: bool = False
    """Whether the header read last is one of the recipe's."""

    def members(self) -> Iterator[TarMember]:
        """Yield the members in the order of the archive, each once all before are consumed."""
        if isinstance(self.stream, Extent):
            self.stream.nested()
        everywhere: dict[str, bytes] = {}
        pending: dict[str, bytes] = {}
        gaps: list[bytes] = []
        while True:
            self._is_recorded = isinstance(self.stream.peek(), Header)
            block = self.stream.read(BLOCK)
            if len(block) < BLOCK or not block.strip(_NUL):
                if 0 < len(block) < BLOCK or pending:
                    self._note("the archive is cut short")
                return
            size = _number(block[124:136])
            if not is_header(block) or size < 0:
                self._note("a header is damaged")
                if not self._resync():
                    return
                continue
            kind = block[156:157]
            if kind in b"xgXLK":
                extent = self._extent(size)
                self._extension(kind, size, extent, everywhere, pending, gaps)
                if not self._finish(extent, size):
                    return
                continue
            member, size = self._member(block, size, {**everywhere, **pending}, gaps)
            pending, gaps = {}, []
            if member is not None:
                yield member
                extent = member.stored
            else:
                extent = self._extent(size)
            if not self._finish(extent, size):
                return

    def _extent(self, size: int) -> Extent:
        return Extent(self.stream, size, is_recorded=self._is_recorded)

    def _note(self, problem: str) -> None:
        if problem not in self.problems:
            self.problems.append(problem)

    def _resync(self) -> bool:
        """Look for the next header; return whether there is one."""
        while len(block := self.stream.read(BLOCK)) == BLOCK:
            if is_header(block):
                self.stream.push(Data(block))
                return True
        return False

    def _finish(self, extent: Extent, size: int) -> bool:
        """Go on behind a member and its padding; return whether the archive goes on."""
        finish(extent)
        if extent.is_cut:
            self._note("the archive is cut short")
            return False
        if size % BLOCK and isinstance(self.stream.peek(), Header):
            raise Irregular  # its padding, which is not zeros, was taken for content
        self.stream.skip(-size % BLOCK)
        return True

    def _extension(
        self,
        kind: bytes,
        size: int,
        extent: Extent,
        everywhere: dict[str, bytes],
        pending: dict[str, bytes],
        gaps: list[bytes],
    ) -> None:
        """Take an extended header, which describes the next member or all later ones."""
        if size > MAX_HEADER_BYTES:
            self._note(f"an extended header has {size} bytes")
            return
        data = extent.read(size)
        if kind in b"LK":
            pending["path" if kind == b"L" else "linkpath"] = data.split(_NUL)[0]
            return
        records = everywhere if kind == b"g" else pending
        for key, value in _pax(data):
            if key in ("GNU.sparse.offset", "GNU.sparse.numbytes"):
                if len(gaps) < 2 * MAX_SPARSE_RUNS:
                    gaps.append(value)
                records["GNU.sparse."] = b""
            elif key in _RECORDS:
                records[key] = value

    def _member(
        self, block: bytes, size: int, pax: dict[str, bytes], gaps: list[bytes]
    ) -> tuple[TarMember | None, int]:
        """Return the member of a header, None for what is none, and its stored size."""
        type_flag = block[156:157]
        size = _decimal(pax.get("size", b""), size)
        if type_flag in _WITHOUT_CONTENT:
            size = 0
        runs, real = None, size
        is_sparse = type_flag == b"S"
        if is_sparse:
            runs, real = self._old_sparse(block)
        name = pax.get("path") or _name(block)
        if type_flag in b"VN":  # a volume's label, a list of long names
            return None, size
        stored = self._extent(size)
        if any(key.startswith("GNU.sparse.") for key in pax) and not is_sparse:
            is_sparse = True
            name = pax.get("GNU.sparse.name") or name
            real = _decimal(pax.get("GNU.sparse.realsize", pax.get("GNU.sparse.size", b"")), size)
            runs = _pax_sparse(pax, gaps, stored)
        kind = _KINDS.get(type_flag, "file")
        if type_flag in (_NUL, b"0") and name.endswith(b"/"):  # before POSIX, directories
            kind = "directory"
        return TarMember(
            name=_text(name),
            kind=kind,
            mode=max(_number(block[100:108]), 0) & 0o7777,
            size=real if kind == "file" else 0,
            target=_text(pax.get("linkpath") or block[157:257].split(_NUL)[0])
            if kind in ("symlink", "hardlink")
            else "",
            stored=stored,
            sparse=runs,
            is_sparse=is_sparse,
        ), size

    def _old_sparse(self, block: bytes) -> tuple[list[tuple[int, int]] | None, int]:
        """Return the runs of an old GNU sparse file, and its size; consume its headers."""
        runs: list[tuple[int, int]] | None = []
        fields, more = block[386:482], block[482]
        while True:
            for at in range(0, len(fields) - 23, 24):
                length = _number(fields[at + 12 : at + 24])
                if length > 0 and runs is not None:
                    runs.append((_number(fields[at : at + 12]), length))
            if runs is not None and len(runs) > MAX_SPARSE_RUNS:
                runs = None
            if not more or len(extension := self.stream.read(BLOCK)) < BLOCK:
                return _checked(runs), max(_number(block[483:495]), 0)
            fields, more = extension[:504], extension[504]


def finish(extent: Extent) -> None:
    """Consume the rest of a member without reading it.

    Args:
        extent: of the member. A tar archive in it is walked through, since only its headers tell
            how long the deflate streams in it are.
    """
    if extent.is_untouched_tar():
        for _ in TarReader(extent).members():
            pass
    extent.drain()


def _number(field: bytes) -> int:
    """Return a number of a header, -1 if it is none: octal, or binary as GNU tar writes it."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big") - (1 << 8 * len(field) - 1)
        return value if field[0] == 0x80 and value < 1 << 63 else -1
    digits = field.split(_NUL)[0].strip()
    try:
        return int(digits, 8) if digits else 0
    except ValueError:
        return -1


def _decimal(text: bytes, default: int) -> int:
    """Return a decimal number of an extended header; the default if it is none below 2^63."""
    return int(text) if text.isdigit() and len(text) < 20 and int(text) < 1 << 63 else default


def _name(block: bytes) -> bytes:
    name = block[:100].split(_NUL)[0]
    if block[257:263] == b"ustar\0":  # other dialects have times there
        prefix = block[345:500].split(_NUL)[0]
        return prefix + b"/" + name if prefix else name
    return name


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _pax(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the records of an extended header, up to one that is damaged."""
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 20)
        if space < 0 or not data[at:space].isdigit():
            return
        end = at + int(data[at:space])
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if end <= space or end > len(data) or not equals:
            return
        yield key.decode("utf-8", "replace"), value.split(_NUL)[0]
        at = end


def _pax_sparse(
    pax: dict[str, bytes], gaps: list[bytes], stored: Extent
) -> list[tuple[int, int]] | None:
    """Return the runs of a sparse file in pax format; consume its map in format 1.0."""
    if pax.get("GNU.sparse.major") == b"1":
        numbers = _sparse_map(stored)
    elif "GNU.sparse.map" in pax:
        numbers = [_decimal(text, -1) for text in pax["GNU.sparse.map"].split(b",") if text]
    else:
        numbers = [_decimal(value, -1) for value in gaps]
    if numbers is None or len(numbers) % 2 or min(numbers, default=0) < 0:
        return None
    return _checked([*zip(numbers[::2], numbers[1::2], strict=True)])


def _sparse_map(stored: Extent) -> list[int] | None:
    """Read the map at the start of a member: its length, then as many pairs, a number a line."""
    rest = b""
    numbers: list[int] = []
    wanted = 1
    while len(numbers) < wanted:
        block = stored.read(BLOCK)
        *lines, rest = (rest + block).split(b"\n")
        numbers += [_decimal(line, -1) for line in lines]
        if not block or not numbers or not 0 <= numbers[0] <= MAX_SPARSE_RUNS:
            return None
        wanted = 1 + 2 * numbers[0]
        if len(rest) > 20 and len(numbers) < wanted:
            return None
    return numbers[1:wanted]


def _checked(runs: list[tuple[int, int]] | None) -> list[tuple[int, int]] | None:
    """Return the runs if they are in order."""
    if runs is None or any(start < 0 or length < 0 for start, length in runs):
        return None
    if any(start + length > behind for (start, length), (behind, _) in pairwise(runs)):
        return None
    return runs
