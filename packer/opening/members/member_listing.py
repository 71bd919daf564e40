"""The files in archives, for people who ask: names, kinds, modes, sizes, and digests of content.

Archives are strangers' data. Headers are bounded, nothing is skipped by reading where it is stored
with random access, and nothing is compressed anew: see `opening.stored_pieces`. What cannot be read
is reported in `Listing.problems`, and everything else is listed. Nothing is ever written from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import IO, NamedTuple

import blake3

from packer.files.temporary import read_at, temporary_file, write_at
from packer.opening.members.bzip2_members import Bzip2Reader, is_bzip2
from packer.opening.members.gzip_members import MAGIC, Damaged, GzipReader
from packer.opening.members.stored_pieces import (
    Content,
    Data,
    Deflated,
    Extent,
    Header,
    Hole,
    Irregular,
    Piece,
    Run,
    Stream,
)
from packer.opening.members.tar_members import TarReader
from packer.opening.members.zip_members import ZipMember, ZipReader
from packer.opening.recipe import Cursor
from packer.opening.tar_headers import BLOCK, is_header

SEPARATOR = "!/"
"""Between an archive's path and the path in it."""
MAX_ARCHIVE_DEPTH = 4
"""Greatest number of archives within one another that are looked into."""
MAX_MEMBERS = 500_000
"""Greatest number of members of one file that are listed; a listing holds all of them, in about
300 bytes each."""
GZIP_NAME = "content"
"""Name of the one member of a gzip or bzip2 file that holds no tar archive."""

_MAX_PIECES = 1 << 20
"""Greatest number of pieces of a zip archive that are held."""
_SPOOL_BYTES = 8 << 20
"""Bytes of a zip archive out of another one that stay in memory; more go to a temporary file."""
_COPY_BYTES = 256 << 10
_ZIP_MAGICS = b"PK\3\4", b"PK\5\6"
_MAX_LINKS = 40
"""Hard links followed in a row, as many as the kernel follows symbolic ones."""

Factory = Callable[[], Stream]
"""Returns an archive's pieces from the start, as often as it is called."""


class Member(NamedTuple):
    """A member of an archive.

    Args:
        kind: "file", "directory", "symlink", "hardlink", "device" or "fifo".
        mode: permission bits.
        size: of a file in bytes, 0 for other kinds.
        target: of a link, else "".
        digest: of a file's content, or of what an archive holds; b"" if it was not asked for.
        inside: what the member holds, if it is an archive.
    """

    kind: str
    mode: int
    size: int
    target: str
    digest: bytes
    inside: Listing | None


@dataclass(slots=True)
class Listing:
    """The members of an archive by name; the last one of several with the same name."""

    members: dict[str, Member] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    """Why members may be missing; empty if all are listed."""

    def walk(self, before: str = "") -> Iterator[tuple[str, Member]]:
        """Yield each member and its path; the members of an archive behind it."""
        for name, member in self.members.items():
            yield before + name, member
            if member.inside is not None:
                yield from member.inside.walk(before + name + SEPARATOR)

    def all_problems(self, before: str = "") -> Iterator[tuple[str, str]]:
        """Yield the problems of this archive and those in it, each with the archive's path."""
        for problem in self.problems:
            yield before, problem
        for name, member in self.members.items():
            if member.inside is not None:
                yield from member.inside.all_problems(before + SEPARATOR * bool(before) + name)

    def digest(self) -> bytes:
        """Return a digest of all that is listed."""
        hasher = blake3.blake3()
        for name, member in sorted(self.members.items()):
            row = (name, member.kind, member.mode, member.size, member.target, member.digest)
            hasher.update(repr(row).encode("ascii", "backslashreplace"))
        hasher.update(repr(self.problems).encode("ascii", "backslashreplace"))
        return hasher.digest()


class Stopped(Exception):
    """A bound was reached, or a temporary file cannot be written: the rest is not listed."""


class _Bound:
    """How much of one file may still be read: archives may hold far more than their size.

    Args:
        most: number of bytes.
        counts_inflated: whether bytes out of an inflater count, or only bytes in temporary files.
    """

    def __init__(self, most: int, *, counts_inflated: bool) -> None:
        self._most = self._left = most
        self._counts_inflated = counts_inflated
        self._members = MAX_MEMBERS

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

    def take_member(self) -> None:
        """Count a member; `Stopped` if there are too many."""
        self._members -= 1
        if self._members < 0:
            raise Stopped(f"it holds more than {MAX_MEMBERS} members")


@dataclass(slots=True)
class _Item:
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


def list_members(
    factory: Factory, most: int, *, digests: bool, exact: Callable[[], Factory] | None = None
) -> Listing | None:
    """List an archive.

    Args:
        factory: opens the file as it is stored.
        most: greatest number of bytes that are inflated.
        digests: whether to compute digests of content, which reads all of it.
        exact: returns a factory of the file's exact bytes; called where its stored form cannot be
            attributed to members, or seems incomplete.

    Returns:
        The members; None if the file is no archive.
    """
    try:
        kind = _kind_of_file(factory)
        if not kind:
            return None
        lister = _Lister(_Bound(most, counts_inflated=True), digests=digests)
        listing = lister.list(factory(), kind, 1)
        if exact is None or not any(listing.all_problems()):
            return listing
    except Irregular:
        if exact is None:
            return Listing(problems=["it cannot be read"])
    try:
        factory = exact()
        lister = _Lister(_Bound(most, counts_inflated=True), digests=digests)
        return lister.list(factory(), _kind_of_file(factory), 1)
    except Stopped as stop:
        return Listing(problems=[str(stop)])


def read_member(
    factory: Factory, path: str, most: int, *, exact: Callable[[], Factory] | None = None
) -> Iterator[bytes | memoryview]:
    """Read one file in an archive: the last one of that name.

    Args:
        factory: opens the archive as it is stored.
        path: of the file, as `Listing.walk` gives it.
        most: greatest number of bytes of zip archives in other archives, which are copied.
        exact: as for `list_members`.

    Returns:
        The content in pieces; ValueError while they are taken if the content is damaged.

    Raises:
        KeyError: there is no such file.
        ValueError: it cannot be read, and why.
    """
    if exact is None:
        return _read_exact(factory, path, most)
    finder = _Finder(most)
    try:
        stream = finder.find(factory, path, _kind_of_file(factory))
        if not finder.has_problems:
            return _content(stream, lambda done: _skipped(_read_exact(exact(), path, most), done))
    except (Irregular, Damaged, Stopped):
        pass
    return _read_exact(exact(), path, most)


def _read_exact(factory: Factory, path: str, most: int) -> Iterator[bytes | memoryview]:
    """Read one file in an archive whose exact bytes are at hand."""
    try:
        return _content(_Finder(most).find(factory, path, _kind_of_file(factory)), None)
    except (Irregular, Damaged, Stopped) as error:
        raise ValueError(str(error) or "it cannot be read") from None


def _content(
    stream: Stream, otherwise: Callable[[int], Iterator[bytes | memoryview]] | None
) -> Iterator[bytes | memoryview]:
    """Yield the content of a member; `otherwise` has the bytes that it lacks, from an offset on."""
    done = 0
    try:
        while (piece := stream.peek()) is not None:
            if isinstance(piece, Deflated) and otherwise is not None:
                raise Irregular
            for part in (next(stream.raw(), None) or Data(b"")).read():
                yield part
                done += len(part)
        if not isinstance(stream, Extent) or not stream.is_cut:
            return
        problem = "the archive is cut short"
    except (Damaged, Stopped, Irregular) as error:
        problem = str(error) or "it cannot be read"
    if otherwise is None:
        raise ValueError(problem)
    yield from otherwise(done)


def _skipped(pieces: Iterator[bytes | memoryview], count: int) -> Iterator[bytes | memoryview]:
    """Yield bytes but for the first `count`."""
    for piece in pieces:
        if len(piece) > count:
            yield piece[count:]
        count = max(count - len(piece), 0)


def _archive_kind(stream: Stream) -> str:
    """Return "tar", "zip", "gzip" or "bzip2" by a file's first bytes, "" for other files."""
    piece = stream.peek()
    if isinstance(piece, Header):
        return "tar"
    if isinstance(piece, Deflated) and piece.is_bzip2:
        return "bzip2"
    head = stream.look(BLOCK)
    if head[:3] == MAGIC and len(head) > 3 and not head[3] & 0xE0:
        return "gzip"
    if is_bzip2(head):
        return "bzip2"
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


def _kind_of_file(factory: Factory) -> str:
    """Return the kind of a file of a version: a zip archive may also have a program before it."""
    return _archive_kind(factory()) or ("zip" if _ends_as_zip(factory()) else "")


class _Lister:
    """Lists an archive and the archives in it.

    Args:
        bound: of the file.
        digests: whether to compute digests.
    """

    def __init__(self, bound: _Bound, *, digests: bool) -> None:
        self._bound = bound
        self._digests = digests
        self._stopped = False

    def list(self, stream: Stream, kind: str, depth: int) -> Listing:
        """List the archive that a stream begins with, at a depth of archives in archives."""
        listing = Listing()
        archive = _Archive(stream, kind, self._bound)
        try:
            for item in archive.items():
                digest, inside = self._content(item, depth)
                size = item.measure() if item.measure is not None else item.size
                listing.members.pop(item.name, None)  # the last of a name is listed where it is
                listing.members[item.name] = Member(
                    item.kind, item.mode, size, item.target, digest, inside
                )
                if self._stopped:
                    break
        except Damaged as error:
            archive.problems.append(str(error))
        except Stopped as stop:
            self._stopped = True
            archive.problems.append(str(stop))
        listing.problems = archive.problems
        return listing

    def _content(self, item: _Item, depth: int) -> tuple[bytes, Listing | None]:
        """Return the digest of a member, if wanted, and its members if it is an archive."""
        if item.kind != "file":
            return b"", None
        try:
            stream = item.open()
            kind = _archive_kind(stream) if depth < MAX_ARCHIVE_DEPTH else ""
            if kind:
                inside = self.list(stream, kind, depth + 1)
                return inside.digest() if self._digests else b"", inside
            return _digest(stream) if self._digests else b"", None
        except Damaged as error:
            # The entry is listed all the same; what is stored of it tells whether it changed.
            return self._stored_digest(item, str(error)), None

    def _stored_digest(self, item: _Item, reason: str) -> bytes:
        try:
            return _digest(item.stored(), reason) if self._digests else b""
        except Damaged:
            return b""


def _digest(stream: Stream, reason: str = "") -> bytes:
    """Return a digest of content; of holes, their places are enough."""
    hasher, position, holes = blake3.blake3(reason.encode()), 0, []
    for piece in stream.raw():
        if isinstance(piece, Hole):
            holes.append((position, len(piece)))
        else:
            for part in piece.read():
                hasher.update(part)
        position += len(piece)
    return (
        blake3.blake3(hasher.digest() + repr(holes).encode()).digest() if holes else hasher.digest()
    )


class _Finder:
    """Finds a file in an archive, or in an archive in it.

    Args:
        most: as `read_member` takes it.
    """

    def __init__(self, most: int) -> None:
        self._bound = _Bound(most, counts_inflated=False)
        self._links = 0
        self._zips: dict[Factory, list[ZipReader]] = {}
        self.has_problems = False
        """Whether an archive on the way could not be listed as a whole."""

    def _archive(self, factory: Factory, kind: str) -> _Archive:
        zips = self._zips.setdefault(factory, [])
        stream = Stream(()) if zips else factory()
        return _Archive(stream, kind, self._bound, zips)

    def find(self, factory: Factory, path: str, kind: str) -> Stream:
        """Return the content of a file."""
        if not kind:
            raise KeyError(path)
        exact: tuple[int, _Item] | None = None
        outer: dict[str, int] = {}
        archive = self._archive(factory, kind)
        for number, item in enumerate(archive.items()):
            if item.name == path:
                exact = number, item
            elif item.kind == "file" and path.startswith(item.name + SEPARATOR):
                outer[item.name] = number
        self.has_problems = self.has_problems or bool(archive.problems)
        if exact is not None:
            number, item = exact
            if item.kind == "hardlink":
                self._links += 1
                if self._links > _MAX_LINKS or item.target == path:
                    raise Damaged("hard links in a circle")
                return self.find(factory, item.target, kind)
            if item.kind != "file":
                raise Damaged(f"it is a {item.kind}, not a file")
            return self._open(factory, kind, number)
        for name in sorted(outer, key=len, reverse=True):
            inner = partial(self._open, factory, kind, outer[name])
            try:
                return self.find(inner, path[len(name) + len(SEPARATOR) :], _archive_kind(inner()))
            except KeyError:
                continue  # a name may hold the separator
        if archive.problems:
            raise Damaged(archive.problems[0])
        raise KeyError(path)

    def _open(self, factory: Factory, kind: str, number: int) -> Stream:
        """Return the content of a member, given its number."""
        for at, item in enumerate(self._archive(factory, kind).items()):
            if at == number:
                return item.open()
        raise Irregular


class _Archive:
    """An archive whose members are gone through once.

    Args:
        stream: begins with the archive.
        kind: as `_archive_kind` returns it.
        bound: counts the bytes that are inflated.
        zips: keeps the reader of a zip archive, for those who go through it more than once.
    """

    def __init__(
        self, stream: Stream, kind: str, bound: _Bound, zips: list[ZipReader] | None = None
    ) -> None:
        self._stream = stream
        self._kind = kind
        self._bound = bound
        self._zips = zips if zips is not None else []
        self.problems: list[str] = []

    def items(self) -> Iterator[_Item]:
        """Yield the members; `Damaged` if no more can be found."""
        if self._kind == "tar":
            yield from self._tar(self._stream)
        elif self._kind == "zip":
            yield from self._zip()
        else:
            yield from self._gzip()

    def _tar(self, stream: Stream) -> Iterator[_Item]:
        reader = TarReader(stream)
        try:
            for member in reader.members():
                self._bound.take_member()
                yield _Item(
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

    def _gzip(self) -> Iterator[_Item]:
        reader = (Bzip2Reader if self._kind == "bzip2" else GzipReader)(self._stream)
        plain = self._bound.count(reader.plain)
        if _archive_kind(plain) == "tar":
            yield from self._tar(plain)
            return
        self._bound.take_member()

        def measure() -> int:
            plain.drain()
            return reader.plain_bytes

        opened = partial(_same, plain)
        yield _Item(GZIP_NAME, "file", 0o644, 0, "", open=opened, stored=opened, measure=measure)

    def _zip(self) -> Iterator[_Item]:
        if not self._zips:
            pieces = self._held()
            try:
                self._zips.append(ZipReader(pieces))
            except Irregular:
                self._zips.append(ZipReader([_spooled(Stream(pieces), self._bound)]))
        reader = self._zips[0]
        for member in reader.members():
            self._bound.take_member()

            def content(member: ZipMember = member) -> Stream:
                return self._bound.count(reader.content(member))

            yield _Item(
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
        self.is_bzip2 = deflated.is_bzip2
        self._pieces = list(_held(deflated.plain, left))
        self.coded_length = None

    @property
    def plain(self) -> Stream:  # type: ignore[override]
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


class _FileContent:
    """Bytes in a temporary file, the last of them in memory.

    Args:
        file: closed with this object.
        in_file: number of bytes in the file.
        tail: the bytes behind these.
    """

    def __init__(self, file: IO[bytes], in_file: int, tail: bytes) -> None:
        self._file = file
        self._in_file = in_file
        self._tail = tail
        self.size = in_file + len(tail)

    def read(self, start: int, length: int) -> Iterator[bytes]:
        """Yield the bytes ``[start, start + length)``."""
        end = start + length
        while start < min(end, self._in_file):
            count = min(end, self._in_file, start + _COPY_BYTES) - start
            yield read_at(self._file, count, start)
            start += count
        if start < end:
            yield self._tail[start - self._in_file : end - self._in_file]

    def __del__(self) -> None:
        self._file.close()


class _MemoryContent:
    """Bytes in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def read(self, start: int, length: int) -> Iterator[memoryview]:
        yield memoryview(self._data)[start : start + length]


def spooled(pieces: Iterable[bytes | memoryview]) -> Content:
    """Copy bytes to where they can be read in any order: to memory, or to a temporary file if many.

    Args:
        pieces: the bytes.

    Returns:
        The bytes with random access.

    Raises:
        Stopped: the temporary file cannot be written.
    """
    held = bytearray()
    file: IO[bytes] | None = None
    size = 0
    for piece in pieces:
        held += piece
        if len(held) > _SPOOL_BYTES:
            try:
                file = file or temporary_file(None)
                write_at(file, held, size)
            except OSError as error:
                raise Stopped(f"a temporary file cannot be written: {error.strerror}") from None
            size += len(held)
            held.clear()
    if file is None:
        return _MemoryContent(bytes(held))
    return _FileContent(file, size, bytes(held))


def _spooled(stream: Stream, bound: _Bound) -> Run:
    """Copy an archive's exact bytes."""

    def taken() -> Iterator[bytes | memoryview]:
        for piece in stream.raw():
            bound.take(len(piece))
            yield from piece.read()

    content = spooled(taken())
    return Run(content, 0, content.size)
