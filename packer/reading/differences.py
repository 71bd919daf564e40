"""Compares two versions from their indexes; for archives, member by member from their content."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from packer.files.name_column import side_by_side
from packer.files.tree import FILE, KIND_NAMES, show
from packer.format.index import Index
from packer.format.version import Version
from packer.opening.members.archive import SEPARATOR
from packer.opening.members.member_listing import Listing, Member
from packer.reading.entry_content import FileReader


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between two versions.

    Args:
        path: relative, as text.
        change: "added", "removed" or "changed"; "incomplete" for an archive of which not all could
            be compared.
        old_size: of the old file in bytes, 0 where there is none.
        new_size: of the new file in bytes, 0 where there is none.
        new_chunk_bytes: bytes of the new file in chunks that the old one does not have; the whole
            size of a member of an archive.
        inside: whether it is a member of an archive, whose path comes before ``!/``.
        detail: what changed beside the content (kind, mode, target of a link); the kind of what was
            added or removed, if it is no file; of an incomplete archive: why.
    """

    path: str
    change: str
    old_size: int
    new_size: int
    new_chunk_bytes: int
    inside: bool = False
    detail: str = ""


Difference = tuple[Change, "int | None", "int | None"]
"""A change, and the entries before and after it, None where there is no file."""


def changes(old: Version, new: Version, *, inside: bool = False) -> Iterator[Change]:
    """Yield the differences of two versions, in byte order of the path, from the indexes alone.

    An entry counts as changed if its bytes, kind, permissions or link target differ. Between
    versions of different chunk sizes, files of equal size are reported as changed, as their bytes
    cannot be compared.

    Args:
        old: the one version.
        new: the other one.
        inside: also yield the differences inside an archive, behind each that changed or whose name
            changed in its digits alone; reads both archives.

    Yields:
        One change a path.
    """
    if not inside:
        yield from (change for change, _, _ in _differences(old, new))
        return
    with FileReader(old) as old_files, FileReader(new) as new_files:
        yield from (change for change, _, _ in changes_inside(old, new, old_files, new_files))


def changes_inside(
    old: Version,
    new: Version,
    old_files: FileReader,
    new_files: FileReader,
    is_wanted: Callable[[str], bool] = lambda _: True,
) -> Iterator[Difference]:
    """Yield the differences of two versions, also inside archives, with the entries they are in.

    Args:
        old: the one version.
        new: the other one.
        old_files: reads files of `old`.
        new_files: reads files of `new`.
        is_wanted: returns whether the difference at a path is of interest; no other archive is
            read.

    Yields:
        Changes as `changes` does, each with the entries of the files before and after. For a change
        in an archive these are the archive's.
    """
    found = list(_differences(old, new))
    pairs = _renamed(found)
    for change, then, now in found:
        if not is_wanted(change.path):
            continue
        yield change, then, now
        if now is None or (then := pairs.get(now, then)) is None:
            continue
        before = old_files.members(then, digests=True) or Listing()
        after = new_files.members(now, digests=True) or Listing()
        for inner in _inside(before, after, changed=change.change == "changed"):
            path = change.path + SEPARATOR * (inner.path != "" or inner.change == "changed")
            yield replace(inner, path=path + inner.path), then, now


def _inside(before: Listing, after: Listing, *, changed: bool) -> Iterator[Change]:
    """Yield the differences of two archives, and why there may be more."""
    old, new = dict(before.walk()), dict(after.walk())
    problems = sorted({*before.all_problems(), *after.all_problems()})
    is_same = bool(old or new) and changed and not problems
    for path in sorted(old.keys() | new.keys()):
        if (change := _member_change(path, old.get(path), new.get(path))) is not None:
            is_same = False
            yield change
    if is_same:
        yield Change("", "changed", 0, 0, 0, inside=True, detail="its compression or headers alone")
    for path, problem in problems:
        yield Change(path, "incomplete", 0, 0, 0, inside=True, detail=problem)


def _member_change(path: str, then: Member | None, now: Member | None) -> Change | None:
    """Compare a member of an archive with the member of the same name before."""
    if then is None:
        assert now is not None
        return Change(path, "added", 0, now.size, now.size, inside=True, detail=_kind(now))
    if now is None:
        return Change(path, "removed", then.size, 0, 0, inside=True, detail=_kind(then))
    same_content = (then.size, then.digest) == (now.size, now.digest)
    details = []
    if then.kind != now.kind:
        details.append(f"{then.kind} to {now.kind}")
    if then.mode != now.mode:
        details.append(f"mode {then.mode:04o} to {now.mode:04o}")
    if then.target != now.target and then.kind == now.kind:
        details.append(f"target {then.target} to {now.target}")
    if same_content and not details and then.target == now.target:
        return None
    fresh = 0 if same_content else now.size
    detail = ", ".join(details)
    return Change(path, "changed", then.size, now.size, fresh, inside=True, detail=detail)


def _kind(member: Member) -> str:
    return "" if member.kind == "file" else member.kind


def _renamed(found: list[Difference]) -> dict[int, int]:
    """Pair added files with removed files whose names differ in digits alone, where unambiguous."""
    gone: dict[str, list[int]] = {}
    come: dict[str, list[int]] = {}
    for change, then, now in found:
        name = re.sub("[0-9]+", "0", change.path)
        if now is None and then is not None:
            gone.setdefault(name, []).append(then)
        elif then is None and now is not None:
            come.setdefault(name, []).append(now)
    return {
        entries[0]: gone[name][0]
        for name, entries in come.items()
        if len(entries) == len(gone.get(name, ())) == 1
    }


def _differences(old: Version, new: Version) -> Iterator[Difference]:
    """Yield the changes, with the entries of the files before and after each."""
    before, after = _Contents(old.index), _Contents(new.index)
    for path, then, now in side_by_side(old.index.paths, new.index.paths):
        old_size = before.sizes[then] if then is not None else 0
        new_size = after.sizes[now] if now is not None else 0
        if then is None and now is not None:
            detail = after.kind(now)
            added = Change(show(path), "added", 0, new_size, new_size, detail=detail)
            yield added, None, after.file(now)
        elif then is not None and now is None:
            removed = Change(show(path), "removed", old_size, 0, 0, detail=before.kind(then))
            yield removed, before.file(then), None
        elif then is not None and now is not None and before.key(then) != after.key(now):
            fresh = after.bytes_not_in(now, before, then)
            detail = _metadata(before, then, after, now)
            change = Change(show(path), "changed", old_size, new_size, fresh, detail=detail)
            yield change, before.file(then), after.file(now)


def _metadata(before: _Contents, then: int, after: _Contents, now: int) -> str:
    """Return what differs between two entries beside their content, in words."""
    details = []
    kinds = [
        KIND_NAMES[contents.index.kinds[at]] for contents, at in ((before, then), (after, now))
    ]
    if kinds[0] != kinds[1]:
        return " to ".join(kinds)
    modes = before.index.modes[then], after.index.modes[now]
    if modes[0] != modes[1]:
        details.append(f"mode {modes[0]:04o} to {modes[1]:04o}")
    targets = before.links.get(then, b""), after.links.get(now, b"")
    if targets[0] != targets[1]:
        details.append(f"target {show(targets[0])} to {show(targets[1])}")
    return ", ".join(details)


class _Contents:
    """An index prepared for comparing entries."""

    def __init__(self, index: Index) -> None:
        self.index = index
        self.sizes = index.entry_sizes()
        self.links = index.symlinks()

    def key(self, entry: int) -> tuple[int, int, int, bytes, bytes]:
        """Return a value that is equal for entries without a difference."""
        index = self.index
        expansion = index.expansions.get(entry)
        return (
            index.kinds[entry],
            index.modes[entry],
            self.sizes[entry],
            self.links.get(entry, b""),
            expansion.digest if expansion else index.content_key(index.runs_of(entry)),
        )

    def kind(self, entry: int) -> str:
        """Return the name of an entry's kind, "" for a file."""
        kind = self.index.kinds[entry]
        return "" if kind == FILE else KIND_NAMES[kind]

    def file(self, entry: int) -> int | None:
        """Return the entry if it is a file."""
        return entry if self.index.kinds[entry] == FILE else None

    def chunks(self, entry: int) -> Iterator[int]:
        """Yield the ordinals of an entry's chunks."""
        for start, length in self.index.runs_of(entry):
            yield from range(start, start + length)

    def bytes_not_in(self, entry: int, other: _Contents, other_entry: int) -> int:
        """Return the bytes of an entry in chunks that another entry does not have."""
        known = {other.index.chunk_digest(chunk) for chunk in other.chunks(other_entry)}
        return sum(
            self.index.chunk_lengths[chunk]
            for chunk in self.chunks(entry)
            if self.index.chunk_digest(chunk) not in known
        )
