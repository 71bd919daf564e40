"""An archive whose members are gone through once, whatever its kind, within bounds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from packer.opening.members.bzip2_members import Bzip2Reader, is_bzip2
from packer.opening.members.gzip_members import MAGIC, GzipReader
from packer.opening.members.spooling import Stopped, spooled
from packer.opening.members.stored_pieces import (
    Deflated,
    Header,
    Irregular,
    Piece,
    Run,
    Stream,
)
from packer.opening.members.tar_members import TarReader
from packer.opening.members.zip_members import ZipMember, ZipReader
from packer.opening.members.zstd_members import ZstdReader, is_zstd
from packer.opening.recipe import BZIP2, DEFLATE, Cursor
from packer.opening.tar_headers import BLOCK, is_header

SEPARATOR = "!/"
"""Between an archive's path and the path in it."""
MAX_MEMBERS = 500_000
"""Greatest number of members of one file that are listed; a listing holds all of them, in about
300 bytes each."""
MAX_NAME_CHARS = 64 << 20
"""Greatest length of all names and link targets of one file together: a listing holds them."""
GZIP_NAME = "content"
"""Name of the one member of a gzip, bzip2 or zstd file that holds no tar archive."""
_READERS: dict[str, Callable[[Stream], GzipReader | Bzip2Reader | ZstdReader]] = {
    "gzip": GzipReader,
    "bzip2": Bzip2Reader,
    "zstd": ZstdReader,
}

_MAX_PIECES = 1 << 20
"""Greatest number of pieces of a zip archive that are held."""
_ZIP_MAGICS = b"PK\3\4", b"PK\5\6"

Factory = Callable[[], Stream]
"""Returns an archive's pieces from the start, as often as it is called."""


class Bound:
    """How much of one file may still be read: archives may hold far more than their size.

    Args:
        most: number of bytes.
        counts_inflated: whether bytes out of an inflater count, or only bytes in temporary files.
    """

    def __init__(self, most: int, *, counts_inflated: bool) -> None:
        self._most = self._left = most
        self._counts_inflated = counts_inflated
        self._members = MAX_MEMBERS
        self._name_chars = MAX_NAME_CHARS

    def count(self, stream: Stream) -> Stream:
        """Return the stream, counting the bytes that come out of an inflater."""
        if not stream.is_sequential or not self._counts_inflated:
            return stream

        def counted() -> Iterator[Piece]:
            while (piece := stream.pop()) is not None:
                if not isinstance(piece, Deflated):
                    self.take(len(piece))
                yield piece

        return Stream(counted(), is_sequential=True)

    def take(self, count: int) -> None:
        """Count bytes; `Stopped` if they are too many."""
        self._left -= count
        if self._left < 0:
            raise Stopped(f"it holds more than {self._most} bytes")

    def take_member(self, *names: str) -> None:
        """Count a member, its name and its target; `Stopped` if there are too many of any."""
        self._members -= 1
        if self._members < 0:
            raise Stopped(f"it holds more than {MAX_MEMBERS} members")
        self._name_chars -= sum(map(len, names))
        if self._name_chars < 0:
            raise Stopped(f"the names in it are longer than {MAX_NAME_CHARS} characters")


@dataclass(slots=True)
class Item:
    """A member, and how to get its content, which is valid until the next item is asked for.

    Args:
        name: in the archive.
        kind: as in `Member`.
        mode: as in `Member`.
        size: as in `Member`.
        target: as in `Member`.
        open: returns the content; `Damaged` if that cannot be read.
        stored: returns the bytes that are stored of it.
        measure: consumes the rest of the content and returns its size, where no header tells it.
    """

    name: str
    kind: str
    mode: int
    size: int
    target: str
    open: Callable[[], Stream]
    stored: Callable[[], Stream]
    measure: Callable[[], int] | None = None


def archive_kind(stream: Stream) -> str:
    """Return "tar", "zip", "gzip", "bzip2" or "zstd" by a file's first bytes, "" for others."""
    piece = stream.peek()
    if isinstance(piece, Header):
        return "tar"
    if isinstance(piece, Deflated) and piece.kind != DEFLATE:
        return "bzip2" if piece.kind == BZIP2 else "zstd"
    head = stream.look(BLOCK)
    if head[:3] == MAGIC and len(head) > 3 and not head[3] & 0xE0:
        return "gzip"
    if is_bzip2(head):
        return "bzip2"
    if is_zstd(head):
        return "zstd"
    if head[:4] in _ZIP_MAGICS:
        return "zip"
    return "tar" if is_header(head) else ""


def _ends_as_zip(stream: Stream) -> bool:
    """Return whether a file ends with the end record of a zip archive, without a comment."""
    piece = last = stream.pop()
    while piece is not None:
        last, piece = piece, stream.pop()
    if last is None or isinstance(last, Deflated) or len(last) < 22:
        return False
    end = b"".join(last.split(len(last) - 22)[1].read())
    return end[:4] == b"PK\5\6" and end[20:] == b"\0\0"


def kind_of_file(factory: Factory) -> str:
    """Return the kind of a file of a version: a zip archive may also have a program before it."""
    return archive_kind(factory()) or ("zip" if _ends_as_zip(factory()) else "")


class Archive:
    """An archive whose members are gone through once.

    Args:
        stream: begins with the archive.
        kind: as `archive_kind` returns it.
        bound: counts the bytes that are inflated.
        zips: keeps the reader of a zip archive, for those who go through it more than once.
    """

    def __init__(
        self, stream: Stream, kind: str, bound: Bound, zips: list[ZipReader] | None = None
    ) -> None:
        self._stream = stream
        self._kind = kind
        self._bound = bound
        self._zips = zips if zips is not None else []
        self.problems: list[str] = []

    def items(self) -> Iterator[Item]:
        """Yield the members; `Damaged` if no more can be found."""
        if self._kind == "tar":
            yield from self._tar(self._stream)
        elif self._kind == "zip":
            yield from self._zip()
        else:
            yield from self._gzip()

    def _tar(self, stream: Stream) -> Iterator[Item]:
        reader = TarReader(stream)
        try:
            for member in reader.members():
                self._bound.take_member(member.name, member.target)
                yield Item(
                    name=_plain_name(member.name, member.kind),
                    kind=member.kind,
                    mode=member.mode,
                    size=member.size,
                    target=member.target,
                    open=member.content,
                    stored=partial(_same, member.stored),
                )
        finally:
            self.problems += reader.problems

    def _gzip(self) -> Iterator[Item]:
        reader = _READERS[self._kind](self._stream)
        plain = self._bound.count(reader.plain)
        if archive_kind(plain) == "tar":
            yield from self._tar(plain)
            return
        self._bound.take_member()

        def measure() -> int:
            plain.drain()
            return reader.plain_bytes

        opened = partial(_same, plain)
        yield Item(GZIP_NAME, "file", 0o644, 0, "", open=opened, stored=opened, measure=measure)

    def _zip(self) -> Iterator[Item]:
        if not self._zips:
            pieces = self._held()
            try:
                self._zips.append(ZipReader(pieces))
            except Irregular:
                self._zips.append(ZipReader([_spooled(Stream(pieces), self._bound)]))
        reader = self._zips[0]
        for member in reader.members():
            self._bound.take_member(member.name)

            def content(member: ZipMember = member) -> Stream:
                return self._bound.count(reader.content(member))

            yield Item(
                name=_plain_name(member.name, member.kind),
                kind=member.kind,
                mode=member.mode,
                size=member.size,
                target="",
                open=content,
                stored=partial(reader.stored, member),
            )
        if reader.is_cut:
            self.problems.append("the central directory is damaged")

    def _held(self) -> list[Piece]:
        """Return the pieces of the archive; bytes out of an inflater go to a temporary file."""
        if self._stream.is_sequential:
            return [_spooled(self._stream, self._bound)]
        return list(_held(self._stream, [_MAX_PIECES]))


def _plain_name(name: str, kind: str) -> str:
    """Return a name without the slash that some archives put behind those of directories."""
    return (name.rstrip("/") or name) if kind == "directory" else name


def _same(stream: Stream) -> Stream:
    return stream


class _HeldDeflated(Deflated):
    """A deflate stream whose plaintext can be read more than once."""

    __slots__ = ("_pieces", "_records")

    def __init__(self, deflated: Deflated, left: list[int]) -> None:
        self._records = deflated.records
        self.against = deflated.against
        self.kind = deflated.kind
        self._pieces = list(_held(deflated.plaintext(), left))
        self.coded_length = None

    def plaintext(self) -> Stream:
        """Return the plaintext, from its start."""
        return Stream(self._pieces)

    def drain(self) -> None:
        """Do nothing: all pieces are held."""

    @property
    def records(self) -> Cursor:  # type: ignore[override]
        return self._records.copy()


def _held(stream: Stream, left: list[int]) -> Iterator[Piece]:
    """Yield the pieces of a stream, so that they can be kept."""
    while (piece := stream.pop()) is not None:
        left[0] -= 1
        if left[0] < 0:
            raise Stopped(f"it has more than {_MAX_PIECES} pieces")
        yield _HeldDeflated(piece, left) if isinstance(piece, Deflated) else piece


def _spooled(stream: Stream, bound: Bound) -> Run:
    """Copy an archive's exact bytes."""

    def taken() -> Iterator[bytes | memoryview]:
        for piece in stream.raw():
            bound.take(len(piece))
            yield from piece.read()

    content = spooled(taken())
    return Run(content, 0, content.size)
