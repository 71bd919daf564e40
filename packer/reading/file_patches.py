"""What changed between two versions, to read: hunks of text, file by file, also in archives.

The indexes say which files differ. Of these, content is read piece by piece, and only as far as it
is shown: a binary file is given up at its first NUL, a file above the bound is not read at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import replace
from itertools import groupby
from typing import NamedTuple

from packer.errors import NotFound
from packer.files.tree import DIRECTORY, FILE, KIND_NAMES, SYMLINK, show
from packer.format.version import Version
from packer.opening.members.archive import SEPARATOR
from packer.reading.differences import Change, Difference, changes_inside
from packer.reading.entry_content import FileReader
from packer.reading.line_diff import Hunk, hunks_of

BINARY_BYTES = 8000
"""Bytes at the start of a file that are searched for a NUL, which text has none of; as git does."""
MAX_FILE_BYTES = 1 << 20
"""Greatest text, in bytes, that is compared unless the caller says otherwise."""
AHEAD_BYTES = 16 << 20
"""Bytes of texts in an archive that are read in one pass, and held: reading them one by one would
go through the archive for each."""
MOST_FILE_BYTES = 64 << 20
"""Greatest bound that a caller may set: texts and hunks of one file are in memory."""


class Patch(NamedTuple):
    """One difference between two versions, to read.

    Args:
        path: of the new file, or of the old one where there is none; in an archive as
            ``chart.tgz!/app/values.yaml``.
        change: "added", "removed" or "changed"; "incomplete" for an archive of which not all could
            be compared.
        form: "text": `hunks` say what changed; "binary"; "large": above the bound; "other": of
            equal content, a directory, or no file, and `detail` says all; "unreadable": `detail`
            says why.
        old_path: of the old file; another one than `path` for archives whose names differ in digits
            alone.
        old_mode: kind and permission bits of the old file, as ``st_mode``; 0 where there is none,
            and in archives.
        new_mode: the same of the new file.
        old_size: of the old file in bytes.
        new_size: of the new file in bytes.
        detail: what changed beside the content, or why nothing can be shown.
        hunks: stretches of lines that differ; of a link, its target is the only line.
    """

    path: str
    change: str
    form: str
    old_path: str
    old_mode: int
    new_mode: int
    old_size: int
    new_size: int
    detail: str
    hunks: tuple[Hunk, ...] = ()


_MODES = {DIRECTORY: 0o040000, FILE: 0o100000, SYMLINK: 0o120000}


def patches(
    old: Version,
    new: Version,
    paths: Iterable[bytes] = (),
    *,
    context: int = 3,
    max_bytes: int = MAX_FILE_BYTES,
) -> Iterator[Patch]:
    """Return what changed between two versions, in byte order of the path.

    Args:
        old: the one version.
        new: the other one.
        paths: show only these files, and what lies below these directories, of either version; an
            archive's path stands for all in it, and a path may lead into an archive.
        context: number of equal lines around those that differ.
        max_bytes: greatest text that is compared; larger ones are named alone.

    Returns:
        One patch a difference, made when it is asked for. A path that changed from one kind to
        another is removed, then added.

    Raises:
        NotFound: neither version has one of `paths`.
        IntegrityError: what was read is damaged.
    """
    wanted = [show(path) for path in paths]
    for path in wanted:
        archive = path.partition(SEPARATOR)[0]
        if max(version.index.find(_raw(archive)) for version in (old, new)) < 0:
            raise NotFound("path", path, "in neither version")
    return _patches(old, new, wanted, context, max_bytes)


def _patches(
    old: Version, new: Version, wanted: list[str], context: int, max_bytes: int
) -> Iterator[Patch]:
    """Yield what changed, of the paths that are wanted."""
    with FileReader(old) as old_files, FileReader(new) as new_files:
        sides = _Side(old, old_files, max_bytes), _Side(new, new_files, max_bytes)
        found = changes_inside(old, new, old_files, new_files, lambda path: _may_hold(path, wanted))
        for inside, group in groupby(found, key=lambda difference: difference[0].inside):
            differences = (each for each in group if _is_wanted(each[0].path, wanted))
            for each in _read_ahead(differences, sides) if inside else differences:
                yield from _patches_of(*each, sides, context)


def _read_ahead(found: Iterator[Difference], sides: tuple[_Side, _Side]) -> Iterator[Difference]:
    """Yield changes in archives, when the texts of a stretch of them have been read together."""
    for (then, now), group in groupby(found, key=lambda difference: difference[1:]):
        differences = list(group)
        at = 0
        while at < len(differences):
            start, size = at, 0
            while at < len(differences) and (size <= AHEAD_BYTES or at == start):
                change = differences[at][0]
                size += 0 if sides[0].is_large(change) else change.old_size + change.new_size
                at += 1
            stretch = differences[start:at]
            within = {
                _within(change, sides[1], now)
                for change, _, _ in stretch
                if not sides[0].is_large(change)
            }
            for side, entry in zip(sides, (then, now), strict=True):
                if entry is not None:
                    side.read_ahead(entry, within)
            yield from stretch


def _within(change: Change, new: _Side, now: int | None) -> str:
    """Return the path of a change within its archive."""
    assert now is not None
    return change.path[len(new.path(now)) + len(SEPARATOR) :]


def _may_hold(path: str, wanted: list[str]) -> bool:
    """Return whether a file is wanted, or something in it."""
    return _is_wanted(path, wanted) or any(one.startswith(path + SEPARATOR) for one in wanted)


def _is_wanted(path: str, wanted: list[str]) -> bool:
    """Return whether a path is one of some, or below one; everything is, if there are none."""
    return not wanted or any(
        path == one or path.startswith((one + "/", one + SEPARATOR)) for one in wanted
    )


class _Side:
    """One of the two versions.

    Args:
        version: the version.
        files: reads its files.
        max_bytes: greatest text that is read.
    """

    def __init__(self, version: Version, files: FileReader, max_bytes: int) -> None:
        self._index = version.index
        self._links = version.index.symlinks()
        self._files = files
        self._max_bytes = max_bytes
        self._ahead: tuple[int, dict[str, bytes | str]] = -1, {}

    def is_large(self, change: Change) -> bool:
        """Return whether a change is of a text that is not shown."""
        return max(change.old_size, change.new_size) > self._max_bytes

    def read_ahead(self, entry: int, within: Set[str]) -> None:
        """Read texts of an archive in one pass; forget those read before."""
        most = 2 * (AHEAD_BYTES + self._max_bytes)
        self._ahead = entry, self._files.member_texts(entry, within, self._max_bytes, most)

    def find(self, path: str) -> int:
        """Return the entry at a path, -1 if there is none."""
        return self._index.find(_raw(path))

    def path(self, entry: int) -> str:
        """Return the path of an entry."""
        return show(self._index.paths[entry])

    def kind(self, entry: int) -> int:
        """Return the kind of an entry; -1 for none."""
        return self._index.kinds[entry] if entry >= 0 else -1

    def mode(self, entry: int) -> int:
        """Return the kind and permissions of an entry as st_mode; 0 for none."""
        return _MODES[self._index.kinds[entry]] | self._index.modes[entry] if entry >= 0 else 0

    def content(self, entry: int) -> tuple[int, bytes, bytes]:
        """Return a key that is equal for files and links of equal content, of any version."""
        expansion = self._index.expansions.get(entry)
        runs = self._index.runs_of(entry)
        digest = expansion.digest if expansion else self._index.content_key(runs)
        return self._files.sizes[entry], digest, self._links.get(entry, b"")

    def text(self, entry: int, within: str = "") -> bytes | _NoText:
        """Return the text of a file or link, or why there is none to show.

        Args:
            entry: the file or link; -1 for none, which is an empty text.
            within: path in the archive at `entry`; "" for the entry itself.
        """
        if entry < 0:
            return b""
        if self._index.kinds[entry] == SYMLINK:
            return self._links[entry]
        if not within and self._files.sizes[entry] > self._max_bytes:
            return _NoText("large")
        if within:
            read = self._ahead[1].get(within) if self._ahead[0] == entry else None
            if read is None or isinstance(read, str):
                return _NoText("unreadable", read or "the archive has no such file")
            pieces: Iterator[bytes | memoryview] = iter((read,))
        else:
            pieces = self._files.read(entry)
        held = bytearray()
        for piece in pieces:
            held += piece
            if held.find(b"\0", 0, BINARY_BYTES) >= 0:
                return _NoText("binary")
            if len(held) > self._max_bytes:
                return _NoText("large")
        return bytes(held)


class _NoText(NamedTuple):
    """Why a text is not shown: form and detail of the patch."""

    form: str
    detail: str = ""


def _raw(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")


def _patches_of(
    change: Change, then: int | None, now: int | None, sides: tuple[_Side, _Side], context: int
) -> Iterator[Patch]:
    """Yield the patches of one difference."""
    old, new = sides
    if change.inside:
        assert then is not None
        assert now is not None
        yield _patch_inside(change, then, now, sides, context)
        return
    before, after = old.find(change.path), new.find(change.path)
    if before >= 0 and after >= 0 and old.kind(before) != new.kind(after):
        yield _patch(replace(change, change="removed"), before, -1, sides, context)
        yield _patch(replace(change, change="added"), -1, after, sides, context)
    else:
        yield _patch(change, before, after, sides, context)


def _patch(
    change: Change, before: int, after: int, sides: tuple[_Side, _Side], context: int
) -> Patch:
    """Return the patch of an entry."""
    old, new = sides
    kind = max(old.kind(before), new.kind(after))
    old_mode, new_mode = old.mode(before), new.mode(after)
    details = [] if kind == FILE else [KIND_NAMES[kind]]
    if before >= 0 and after >= 0 and old_mode != new_mode:
        details.append(f"mode {old_mode & 0o777:04o} to {new_mode & 0o777:04o}")
    patch = Patch(
        path=change.path,
        change=change.change,
        form="other",
        old_path=change.path,
        old_mode=old_mode,
        new_mode=new_mode,
        old_size=change.old_size if before >= 0 else 0,
        new_size=change.new_size if after >= 0 else 0,
        detail=", ".join(details),
    )
    is_same = before >= 0 and after >= 0 and old.content(before) == new.content(after)
    if kind == DIRECTORY or is_same:
        return patch
    return _filled(patch, lambda: old.text(before), lambda: new.text(after), context)


def _patch_inside(
    change: Change, then: int, now: int, sides: tuple[_Side, _Side], context: int
) -> Patch:
    """Return the patch of an entry of an archive."""
    old, new = sides
    within = _within(change, new, now)
    patch = Patch(
        path=change.path,
        change=change.change,
        form="other",
        old_path=old.path(then) + SEPARATOR + within,
        old_mode=0,
        new_mode=0,
        old_size=change.old_size,
        new_size=change.new_size,
        detail=change.detail,
    )
    if change.change == "incomplete":
        return patch._replace(form="unreadable")
    is_no_file = (change.change != "changed" and change.detail) or " to " in _kinds(change.detail)
    is_same = change.new_chunk_bytes == 0 and change.old_size == change.new_size
    if is_no_file or (is_same and change.change == "changed"):
        return patch
    if old.is_large(change):
        return patch._replace(form="large")
    before = -1 if change.change == "added" else then
    after = -1 if change.change == "removed" else now
    return _filled(
        patch, lambda: old.text(before, within), lambda: new.text(after, within), context
    )


def _kinds(detail: str) -> str:
    """Return the part of a member's detail that says how its kind changed, "" if it did not."""
    first = detail.partition(", ")[0]
    return "" if first.startswith(("mode ", "target ")) else first


def _filled(
    patch: Patch,
    old: Callable[[], bytes | _NoText],
    new: Callable[[], bytes | _NoText],
    context: int,
) -> Patch:
    """Return a patch with its hunks; the old text is not read if the new one is none."""
    after = new()
    before = old() if isinstance(after, bytes) else after
    if isinstance(after, bytes) and isinstance(before, bytes):
        return patch._replace(form="text", hunks=tuple(hunks_of(before, after, context)))
    why = before if isinstance(before, _NoText) else after
    assert isinstance(why, _NoText)
    detail = ", ".join(filter(None, (patch.detail, why.detail)))
    return patch._replace(form=why.form, detail=detail)
