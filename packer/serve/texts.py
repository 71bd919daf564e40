"""What changed between two versions, and files of one, as text within bounds."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from packer.forks import Lock
from packer.opening.members.archive import SEPARATOR
from packer.reading import contents
from packer.reading.differences import Change, changes
from packer.reading.file_patches import BINARY_BYTES, Patch, patches
from packer.reading.line_diff import Hunk
from packer.serve.limits import Stop, watched
from packer.serve.opened import Opened
from packer.serve.trees import MAX_ARCHIVE_BYTES, find_file, raw

MAX_TEXT_BYTES = 1 << 20
"""Greatest text that is compared line by line."""
MAX_SHOWN_BYTES = 512 << 10
"""Bytes of a file that are shown as text."""
MAX_LINES = 4000
"""Lines of all patches of one answer."""
MAX_PATCHES = 400
"""Patches of one answer: an archive may hold any number of files that changed."""
LINES_OF_ONE = 600
"""Lines of one patch among several."""
_MAX_LINE = 2000
"""Characters of a line that are shown."""
_COMPARED = 8
"""Pairs of versions whose changes are kept."""
_KEPT_CHANGES = 100_000


class Comparisons:
    """Changes between pairs of versions that were asked for last; threads may share it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._held: OrderedDict[tuple[str, str], list[Change]] = OrderedDict()

    def changes(self, old: Opened, new: Opened, stop: Stop) -> list[Change]:
        """Return what changed between two versions, from their indexes."""
        key = old.digest, new.digest
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key]
        found = []
        for change in changes(old.version, new.version):
            stop.check()
            found.append(change)
        if len(found) <= _KEPT_CHANGES:
            with self._lock:
                self._held[key] = found
                while len(self._held) > _COMPARED:
                    self._held.popitem(last=False)
        return found


def change_value(change: Change) -> dict[str, Any]:
    """Return a change as an object of JSON."""
    return {
        "path": change.path,
        "change": change.change,
        "old_size": change.old_size,
        "new_size": change.new_size,
        "new_chunk_bytes": change.new_chunk_bytes,
        "detail": change.detail,
    }


def totals(found: Sequence[Change]) -> dict[str, int]:
    """Return how many entries were added, removed and changed, and the bytes that are new."""
    counts = Counter(change.change for change in found)
    return {
        "added": counts["added"],
        "removed": counts["removed"],
        "changed": counts["changed"],
        "new_bytes": sum(change.new_chunk_bytes for change in found),
    }


def patches_of(
    old: Opened, new: Opened, paths: Sequence[str], stop: Stop, *, alone: bool
) -> tuple[list[dict[str, Any]], bool]:
    """Return what changed in some files as text.

    Args:
        old: the one version.
        new: the other one.
        paths: of the files; a path may lead into an archive.
        stop: of the request.
        alone: whether one file is asked for, of which more lines are shown.

    Returns:
        The patches, and whether some were left out.
    """
    wanted = []
    out: list[dict[str, Any]] = []
    for path in paths:
        if (size := _largest(old, new, path)) > MAX_ARCHIVE_BYTES:
            out.append(_too_large(path, size))
        else:
            wanted.append(raw(path))
    if not wanted:
        return out, False
    left = MAX_LINES
    one = watched(old.version, stop), watched(new.version, stop)
    found = patches(*one, wanted, max_bytes=MAX_TEXT_BYTES)
    for patch in found:
        stop.check()
        if left <= 0 or len(out) >= MAX_PATCHES:
            return out, True
        value, used = _patch_value(patch, min(left, MAX_LINES if alone else LINES_OF_ONE))
        left -= used
        out.append(value)
    return out, False


def _largest(old: Opened, new: Opened, path: str) -> int:
    """Return the size of a file, or of the archive that a path leads into."""
    name = raw(path.partition(SEPARATOR)[0])
    entries = ((side, side.index.find(name)) for side in (old, new))
    return max((side.sizes[entry] for side, entry in entries if entry >= 0), default=0)


def _too_large(path: str, size: int) -> dict[str, Any]:
    return {
        "path": path,
        "old_path": path,
        "change": "changed",
        "form": "large",
        "detail": f"larger than {MAX_ARCHIVE_BYTES} bytes",
        "old_size": 0,
        "new_size": size,
        "hunks": [],
        "cut": False,
    }


def _patch_value(patch: Patch, most: int) -> tuple[dict[str, Any], int]:
    """Return a patch as an object of JSON, and its number of lines."""
    hunks: list[dict[str, Any]] = []
    used = 0
    cut = False
    for hunk in patch.hunks:
        lines = [
            {"mark": line.mark, "text": line.text[: _MAX_LINE + 1]}
            for line in hunk.lines[: most - used]
        ]
        cut = cut or len(lines) < len(hunk.lines)
        used += len(lines)
        if lines:
            hunks.append(_hunk_value(hunk, lines))
        if used >= most:
            cut = cut or hunk is not patch.hunks[-1]
            break
    value = {
        "path": patch.path,
        "old_path": patch.old_path,
        "change": patch.change,
        "form": patch.form,
        "detail": patch.detail,
        "old_size": patch.old_size,
        "new_size": patch.new_size,
        "hunks": hunks,
        "cut": cut,
    }
    return value, used + 3


def _hunk_value(hunk: Hunk, lines: list[dict[str, str]]) -> dict[str, Any]:
    return {
        "old_start": hunk.old_start,
        "old_lines": hunk.old_lines,
        "new_start": hunk.new_start,
        "new_lines": hunk.new_lines,
        "lines": lines,
    }


Pair = tuple["int | None", "str | None", "int | None", "str | None"]
"""A row of two texts side by side: number and text of the old line, of the new one."""


def side_by_side(hunk: dict[str, Any]) -> Iterator[Pair]:
    """Yield the lines of a hunk in two columns; removed lines stand beside added ones."""
    old, new = hunk["old_start"], hunk["new_start"]
    gone: list[str] = []
    come: list[str] = []

    def flush() -> Iterator[Pair]:
        nonlocal old, new
        for at in range(max(len(gone), len(come))):
            left = gone[at] if at < len(gone) else None
            right = come[at] if at < len(come) else None
            yield (
                None if left is None else old,
                left,
                None if right is None else new,
                right,
            )
            old += left is not None
            new += right is not None
        gone.clear()
        come.clear()

    for line in hunk["lines"]:
        if line["mark"] == "-":
            if come:
                yield from flush()
            gone.append(line["text"])
        elif line["mark"] == "+":
            come.append(line["text"])
        else:
            yield from flush()
            yield old, line["text"], new, line["text"]
            old, new = old + 1, new + 1
    yield from flush()


def numbered(hunk: dict[str, Any]) -> Iterator[tuple[str, int | None, int | None, str]]:
    """Yield the lines of a hunk: mark, number in the old text, in the new one, and the line."""
    old, new = hunk["old_start"], hunk["new_start"]
    for line in hunk["lines"]:
        mark = line["mark"]
        yield mark, None if mark == "+" else old, None if mark == "-" else new, line["text"]
        old += mark != "+"
        new += mark != "-"


def text_of(opened: Opened, path: str, stop: Stop) -> dict[str, Any]:
    """Return the beginning of a file as text.

    Args:
        opened: the version.
        path: of the file; it may lead into an archive.
        stop: of the request.

    Returns:
        The form ("text" or "binary"), the text, and whether there is more of it.

    Raises:
        NotFound: there is no such file.
        InvalidParameter: the path names no file, or leads into an archive that is too large.
    """
    pieces = read(opened, path, stop)
    held = bytearray()
    for piece in pieces:
        stop.check()
        held += piece
        if held.find(b"\0", 0, BINARY_BYTES) >= 0:
            return {"form": "binary", "text": "", "cut": False}
        if len(held) > MAX_SHOWN_BYTES:
            break
    cut = len(held) > MAX_SHOWN_BYTES
    text = bytes(held[:MAX_SHOWN_BYTES]).decode("utf-8", "replace")
    return {"form": "text", "text": text, "cut": cut}


def read(opened: Opened, path: str, stop: Stop) -> Iterator[bytes]:
    """Return the content of a file in pieces; of one in an archive, too.

    Args:
        opened: the version.
        path: of the file.
        stop: of the request.

    Returns:
        The content.

    Raises:
        NotFound: there is no such file.
        InvalidParameter: the path names no file, or leads into an archive that is too large.
    """
    place = find_file(opened, path)
    if place.within is None:
        return contents.content(watched(opened.version, stop), raw(path))
    from packer.serve.trees import check_archive

    check_archive(opened, place.entry)
    name = opened.index.paths[place.entry] + SEPARATOR.encode() + raw(place.within)
    return contents.content(watched(opened.version, stop), name, inside=True)


def lines_of(text: str, most: int) -> list[str]:
    """Return the first lines of a text, each cut where it is longer than a page is wide."""
    return [line[:_MAX_LINE] for line in islice(text.split("\n"), most)]
