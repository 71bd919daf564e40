"""The files in archives, for people who ask: names, kinds, modes, sizes, and digests of content.

Archives are strangers' data. Headers are bounded, nothing is skipped by reading where it is stored
with random access, and nothing is compressed anew: see `stored_pieces`. What cannot be read
is reported in `Listing.problems`, and everything else is listed. Nothing is ever written from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import blake3

from packer.opening.members.archive import (
    SEPARATOR,
    Archive,
    Bound,
    Factory,
    Item,
    archive_kind,
    kind_of_file,
)
from packer.opening.members.gzip_members import Damaged
from packer.opening.members.spooling import Stopped
from packer.opening.members.stored_pieces import Hole, Irregular, Stream

MAX_ARCHIVE_DEPTH = 4
"""Greatest number of archives within one another that are looked into."""


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
        kind = kind_of_file(factory)
        if not kind:
            return None
        lister = _Lister(Bound(most, counts_inflated=True), digests=digests)
        listing = lister.list(factory(), kind, 1)
        if exact is None or not any(listing.all_problems()):
            return listing
    except Irregular:
        if exact is None:
            return Listing(problems=["it cannot be read"])
    try:
        factory = exact()
        lister = _Lister(Bound(most, counts_inflated=True), digests=digests)
        return lister.list(factory(), kind_of_file(factory), 1)
    except Stopped as stop:
        return Listing(problems=[str(stop)])


class _Lister:
    """Lists an archive and the archives in it.

    Args:
        bound: of the file.
        digests: whether to compute digests.
    """

    def __init__(self, bound: Bound, *, digests: bool) -> None:
        self._bound = bound
        self._digests = digests
        self._stopped = False

    def list(self, stream: Stream, kind: str, depth: int) -> Listing:
        """List the archive that a stream begins with, at a depth of archives in archives."""
        listing = Listing()
        archive = Archive(stream, kind, self._bound)
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

    def _content(self, item: Item, depth: int) -> tuple[bytes, Listing | None]:
        """Return the digest of a member, if wanted, and its members if it is an archive."""
        if item.kind != "file":
            return b"", None
        try:
            stream = item.open()
            kind = archive_kind(stream) if depth < MAX_ARCHIVE_DEPTH else ""
            if kind:
                inside = self.list(stream, kind, depth + 1)
                return inside.digest() if self._digests else b"", inside
            return _digest(stream) if self._digests else b"", None
        except Damaged as error:
            # The entry is listed all the same; what is stored of it tells whether it changed.
            return self._stored_digest(item, str(error)), None

    def _stored_digest(self, item: Item, reason: str) -> bytes:
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
