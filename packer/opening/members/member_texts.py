"""Reads small files of an archive in one pass, also of archives in it.

Reading them one by one would go through the archive as often as there are files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set
from contextlib import suppress

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
from packer.opening.members.member_listing import MAX_ARCHIVE_DEPTH
from packer.opening.members.spooling import Stopped
from packer.opening.members.stored_pieces import Data, Deflated, Extent, Irregular, Stream

COMPRESSED = b"\0"
"""Stands for the content of a file that holds a compressed stream, and so is no text."""


def read_texts(
    factory: Factory,
    paths: Set[str],
    most: int,
    max_bytes: int,
    *,
    total_bytes: int,
    exact: Callable[[], Factory] | None = None,
) -> dict[str, bytes | str]:
    """Read files in an archive.

    Args:
        factory: opens the archive as it is stored.
        paths: of the files, as `Listing.walk` gives them.
        most: greatest number of bytes that are inflated.
        max_bytes: greatest file that is read; of a larger one, one byte more is.
        total_bytes: greatest number of bytes of all files that are held: an archive may understate
            their sizes.
        exact: as for `list_members`.

    Returns:
        By path, the content, COMPRESSED, or why the file cannot be read. Files are missing that the
        archive does not have, as far as it can be read.
    """
    limits = max_bytes, total_bytes
    found, is_whole = _pass(factory, paths, most, limits)
    if not is_whole and exact is not None:
        found, _ = _pass(exact(), paths, most, limits)
    return found


def _pass(
    factory: Factory, paths: Set[str], most: int, limits: tuple[int, int]
) -> tuple[dict[str, bytes | str], bool]:
    """Go through an archive once; return what was found, and whether all of it was seen."""
    reader = _Reader(paths, Bound(most, counts_inflated=True), *limits)
    with suppress(Irregular, Damaged, Stopped):
        kind = kind_of_file(factory)
        if kind:
            reader.read(factory(), kind, "", 1)
        return reader.found, not reader.has_problems
    return reader.found, False


class _Reader:
    """One pass over an archive."""

    def __init__(self, paths: Set[str], bound: Bound, max_bytes: int, total_bytes: int) -> None:
        self._paths = paths
        self._outer = {path[:at] for path in paths for at in _separators(path)}
        self._bound = bound
        self._max_bytes = max_bytes
        self._left = total_bytes
        self.found: dict[str, bytes | str] = {}
        self.has_problems = False

    def read(self, stream: Stream, kind: str, before: str, depth: int) -> None:
        """Read the wanted files of an archive, and of the archives in it that hold some."""
        archive = Archive(stream, kind, self._bound)
        try:
            for item in archive.items():
                path = before + item.name
                if path in self._paths or path in self._outer:
                    self._forget(path)  # the last of a name counts
                    if item.kind == "file":
                        self._take(item, path, depth)
        finally:
            self.has_problems = self.has_problems or bool(archive.problems)

    def _forget(self, path: str) -> None:
        """Drop what an earlier member of a name held."""
        self.found.pop(path, None)
        if path in self._outer:
            inside = [known for known in self.found if known.startswith(path + SEPARATOR)]
            for known in inside:
                del self.found[known]

    def _take(self, item: Item, path: str, depth: int) -> None:
        """Read a file that is wanted, or the archive that it is."""
        try:
            stream = item.open()
            is_outer = path in self._outer and depth < MAX_ARCHIVE_DEPTH
            if is_outer and (kind := archive_kind(stream)):
                if path in self._paths:
                    self.found[path] = COMPRESSED
                self.read(stream, kind, path + SEPARATOR, depth + 1)
            elif path in self._paths:
                self.found[path] = self._content(stream)
        except Damaged as error:
            self.found.setdefault(path, str(error) or "it cannot be read")

    def _content(self, stream: Stream) -> bytes | str:
        """Return the content of a file, or why it cannot be read."""
        held = bytearray()
        while (piece := stream.peek()) is not None and len(held) <= self._max_bytes:
            if isinstance(piece, Deflated):
                return COMPRESSED
            for part in (next(stream.raw(), None) or Data(b"")).read():
                held += part
                if len(held) > self._max_bytes:
                    break
        self._left -= len(held)
        if self._left < 0:
            return "the archive holds more than it says"
        if isinstance(stream, Extent) and stream.is_cut:
            return "the archive is cut short"
        return bytes(held[: self._max_bytes + 1])


def _separators(path: str) -> Iterator[int]:
    """Yield the places where a path may lead into an archive."""
    at = path.find(SEPARATOR)
    while at >= 0:
        yield at
        at = path.find(SEPARATOR, at + 1)
