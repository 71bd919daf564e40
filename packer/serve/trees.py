"""What lies in a directory of a version or in one of its archives, and where its bytes went."""

from __future__ import annotations

import heapq
import mimetypes
import os
from collections import OrderedDict
from typing import Any, NamedTuple

from packer.errors import InvalidParameter, NotFound
from packer.files.tree import DIRECTORY, FILE, KIND_NAMES, show
from packer.forks import Lock
from packer.opening.members.archive import SEPARATOR
from packer.opening.members.member_listing import Listing
from packer.reading.entry_content import FileReader
from packer.serve.limits import Stop, watched
from packer.serve.opened import Opened

MAX_ARCHIVE_BYTES = 256 << 20
"""Greatest archive that is looked into: all of it may have to be inflated for one request."""
MAX_CELLS = 48
"""Cells of a treemap; what is smaller is one cell together."""
_LISTINGS = 4
"""Listings of archives that are kept."""
_KEPT_MEMBERS = 100_000
"""Members of the largest listing that is kept."""

ARCHIVES = (".tgz", ".tar.gz", ".tar", ".zip", ".gz", ".bz2", ".tbz", ".jar", ".whl")
"""Ends of names that a link to the inside is offered for; any file may be asked for."""


class Place(NamedTuple):
    """Where a path leads.

    Args:
        entry: ordinal of the file or directory; -1 for the root.
        within: path in the archive at `entry`, "" for all of it; None if the path does not lead in.
    """

    entry: int
    within: str | None


def raw(path: str) -> bytes:
    """Return a path as it is stored."""
    return os.fsencode(path).strip(b"/")


def find(opened: Opened, path: str) -> Place:
    """Find a path of a version.

    Args:
        opened: the version.
        path: of a file or directory; ``a.tgz!/`` and what follows lead into an archive.

    Returns:
        Where it leads; what is in the archive is not looked up.

    Raises:
        NotFound: there is no such path.
    """
    name = raw(path)
    if not name:
        return Place(-1, None)
    entry = opened.index.find(name)
    if entry >= 0:
        return Place(entry, None)
    separator = SEPARATOR.encode()
    whole = os.fsencode(path).lstrip(b"/")
    at = whole.find(separator)
    while at >= 0:
        entry = opened.index.find(whole[:at])
        if entry >= 0 and opened.index.kinds[entry] == FILE:
            return Place(entry, show(whole[at + len(separator) :]).strip("/"))
        at = whole.find(separator, at + 1)
    raise NotFound("path", path, f"in {opened.version.name}")


def find_file(opened: Opened, path: str) -> Place:
    """Find a file of a version.

    Args:
        opened: the version.
        path: as `find` takes it.

    Returns:
        Where it leads.

    Raises:
        NotFound: there is no such path.
        InvalidParameter: it is no file.
    """
    place = find(opened, path)
    if place.entry < 0 or opened.index.kinds[place.entry] != FILE:
        raise InvalidParameter(f"{path or '/'} is no file")
    return place


class Archives:
    """Listings of archives that were asked for last; threads may share it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._held: OrderedDict[tuple[str, int], Listing] = OrderedDict()

    def listing(self, opened: Opened, entry: int, stop: Stop) -> Listing:
        """List the members of an archive.

        Args:
            opened: the version.
            entry: the archive's ordinal.
            stop: of the request.

        Returns:
            Its members.

        Raises:
            InvalidParameter: it is no archive, or too large.
            Cancelled: `stop` was set.
        """
        key = opened.digest, entry
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key]
        check_archive(opened, entry)
        with FileReader(watched(opened.version, stop)) as files:
            found = files.members(entry)
        stop.check()  # a listing that was cut short says so, and is not kept
        if found is None:
            raise InvalidParameter(f"{show(opened.index.paths[entry])} is no archive")
        if len(found.members) <= _KEPT_MEMBERS:
            with self._lock:
                self._held[key] = found
                while len(self._held) > _LISTINGS:
                    self._held.popitem(last=False)
        return found


def check_archive(opened: Opened, entry: int) -> None:
    """Refuse an archive that is too large to be looked into.

    Args:
        opened: the version.
        entry: the archive's ordinal.

    Raises:
        InvalidParameter: it is.
    """
    size = opened.sizes[entry]
    if size > MAX_ARCHIVE_BYTES:
        raise InvalidParameter(
            f"{show(opened.index.paths[entry])} has {size} bytes; archives are looked into up to"
            f" {MAX_ARCHIVE_BYTES}"
        )


def directory(
    opened: Opened, path: bytes, offset: int, limit: int
) -> tuple[int, list[dict[str, Any]]]:
    """Return how much lies in a directory of a version, and a page of it, directories first.

    Args:
        opened: the version.
        path: of the directory; b"" for the root.
        offset: rows to pass over.
        limit: greatest number of rows.

    Returns:
        The number of all rows, and the rows.
    """
    links = opened.index.symlinks()
    kinds = opened.index.kinds
    found = list(opened.children(path))
    found.sort(key=lambda child: (kinds[child[1]] != DIRECTORY, child[0]))
    rows = []
    for name, at, first, last in found[offset : offset + limit]:
        kind = kinds[at]
        whole = show(path + b"/" + name if path else name)
        below = opened.files_before[last] - opened.files_before[first]
        rows.append(
            {
                "name": show(name),
                "path": whole,
                "kind": KIND_NAMES[kind],
                "mode": opened.index.modes[at],
                "size": opened.sizes[at] + opened.size_before[last] - opened.size_before[first],
                "stored_bytes": _stored(opened, at, first, last),
                "files": below if kind == DIRECTORY else 1,
                "target": show(links.get(at, b"")),
                "archive": kind == FILE and whole.lower().endswith(ARCHIVES),
            }
        )
    return len(found), rows


def _stored(opened: Opened, at: int, first: int, last: int) -> int:
    before = opened.stored_before
    return round(before[at + 1] - before[at] + before[last] - before[first])


def members(listing: Listing, archive: str, within: str) -> list[dict[str, Any]]:
    """Return what lies in a directory of an archive; an archive in it is a directory, too.

    Args:
        listing: of the archive.
        archive: its path.
        within: path of the directory in it.

    Returns:
        The rows, directories first.

    Raises:
        NotFound: there is no such directory.
    """
    start = within + "/" if within else ""
    folders: dict[str, list[int]] = {}
    rows = []
    for path, member in listing.walk():
        if not path.startswith(start) or path == start:
            continue
        name, slash, _ = path[len(start) :].partition("/")
        if slash:
            sums = folders.setdefault(name, [0, 0])
            sums[0] += member.size
            sums[1] += 1
        elif member.kind == "directory":
            folders.setdefault(name, [0, 0])
        else:
            rows.append(_member(archive, path, name, member.kind, member.mode, member.size))
            rows[-1]["target"] = member.target
    if start and not rows and not folders:
        raise NotFound("path", archive + SEPARATOR + within, "in the archive")
    for name, (size, files) in folders.items():
        row = _member(archive, start + name, name, "directory", 0, size)
        rows.append(row | {"files": files})
    rows.sort(key=lambda row: (row["kind"] != "directory", row["name"]))
    return rows


def _member(archive: str, path: str, name: str, kind: str, mode: int, size: int) -> dict[str, Any]:
    return {
        "name": name,
        "path": archive + SEPARATOR + path,
        "kind": kind,
        "mode": mode,
        "size": size,
        "stored_bytes": None,
        "files": 1,
        "target": "",
        "archive": False,
    }


def space_by_path(opened: Opened, path: bytes) -> list[dict[str, Any]]:
    """Return what the parts of a directory take, the largest first.

    Args:
        opened: the version.
        path: of the directory; b"" for the root.

    Returns:
        Cells with name, path, size, stored bytes and kind; what is smaller than the last is one.
    """
    cells = [
        {
            "name": show(name),
            "path": show(path + b"/" + name if path else name),
            "kind": KIND_NAMES[opened.index.kinds[at]],
            "size": opened.sizes[at] + opened.size_before[last] - opened.size_before[first],
            "stored_bytes": _stored(opened, at, first, last),
        }
        for name, at, first, last in opened.children(path)
    ]
    return _largest(cells)


def space_by_layer(opened: Opened) -> list[dict[str, Any]]:
    """Return what the data layers of a version take, the largest first.

    Args:
        opened: the version.

    Returns:
        Cells with the digest as name, stored bytes, and as size the plaintext that is in use.
    """
    cells = [
        {
            "name": layer.digest,
            "path": "",
            "kind": "layer",
            "size": layer.live_bytes,
            "stored_bytes": layer.size,
            "live_chunks": layer.live_chunks,
            "chunks": layer.chunks,
        }
        for layer in opened.details.layers
    ]
    return _largest(cells)


def _largest(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the largest cells, and one for all others."""
    if len(cells) <= MAX_CELLS:
        return sorted(cells, key=lambda cell: (-cell["stored_bytes"], cell["name"]))
    top = heapq.nsmallest(
        MAX_CELLS - 1, cells, key=lambda cell: (-cell["stored_bytes"], cell["name"])
    )
    rest = {
        "name": f"{len(cells) - len(top)} more",
        "path": "",
        "kind": "others",
        "size": sum(cell["size"] for cell in cells) - sum(cell["size"] for cell in top),
        "stored_bytes": sum(cell["stored_bytes"] for cell in cells)
        - sum(cell["stored_bytes"] for cell in top),
    }
    return [*top, rest]


def content_type(name: str) -> str:
    """Return the media type of a file by its name."""
    if name.lower().endswith((".yaml", ".yml")):
        return "application/yaml"
    kind, encoding = mimetypes.guess_type(name, strict=False)
    if encoding == "gzip":
        return "application/gzip"
    if encoding is not None:
        return "application/octet-stream"
    return kind or "application/octet-stream"
