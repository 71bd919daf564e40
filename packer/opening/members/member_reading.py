"""Reads one file in an archive, or in an archive in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

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
from packer.opening.members.stored_pieces import Data, Deflated, Extent, Irregular, Stream
from packer.opening.members.zip_members import ZipReader

_MAX_LINKS = 40
"""Hard links followed in a row, as many as the kernel follows symbolic ones."""


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
        stream = finder.find(factory, path, kind_of_file(factory))
        if not finder.has_problems:
            return _content(stream, lambda done: _skipped(_read_exact(exact(), path, most), done))
    except (Irregular, Damaged, Stopped):
        pass
    return _read_exact(exact(), path, most)


def _read_exact(factory: Factory, path: str, most: int) -> Iterator[bytes | memoryview]:
    """Read one file in an archive whose exact bytes are at hand."""
    try:
        return _content(_Finder(most).find(factory, path, kind_of_file(factory)), None)
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


class _Finder:
    """Finds a file in an archive, or in an archive in it.

    Args:
        most: as `read_member` takes it.
    """

    def __init__(self, most: int) -> None:
        self._bound = Bound(most, counts_inflated=False)
        self._links = 0
        self._zips: dict[Factory, list[ZipReader]] = {}
        self.has_problems = False
        """Whether an archive on the way could not be listed as a whole."""

    def _archive(self, factory: Factory, kind: str) -> Archive:
        zips = self._zips.setdefault(factory, [])
        stream = Stream(()) if zips else factory()
        return Archive(stream, kind, self._bound, zips)

    def find(self, factory: Factory, path: str, kind: str) -> Stream:
        """Return the content of a file."""
        if not kind:
            raise KeyError(path)
        exact: tuple[int, Item] | None = None
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
                return self.find(inner, path[len(name) + len(SEPARATOR) :], archive_kind(inner()))
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
