"""A part of a version: the entries that paths and patterns choose, as an index of their own.

The index of a part has the chosen entries, and the layers, frames and chunks of the whole. So
whatever plans its reads from an index reads only the frames that the part needs.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from packer.errors import InvalidParameter, NotFound
from packer.files.name_column import Names
from packer.files.patterns import Patterns, given_patterns
from packer.files.tree import DIRECTORY, SYMLINK, show
from packer.format.index import Index
from packer.format.version import Version


@dataclass(frozen=True, slots=True)
class Part:
    """A choice of a version's entries.

    Args:
        paths: of entries; of a directory, all below it too. Empty for all.
        include: patterns of the entries to take; None for all.
        exclude: patterns of entries to leave out; None for none.
    """

    paths: tuple[bytes, ...] = ()
    include: Patterns | None = None
    exclude: Patterns | None = None

    def __bool__(self) -> bool:
        """Return whether it may be less than the whole."""
        return bool(self.paths or self.include or self.exclude)

    def entries(self, index: Index, what: str) -> array[int]:
        """Return the ordinals of the chosen entries, and of the directories above them.

        As in git, nothing below a directory that is left out is taken.

        Args:
            index: of the version.
            what: the version's name in errors.

        Returns:
            Ordinals in ascending order.

        Raises:
            NotFound: the version lacks a path, or nothing is chosen.
        """
        for path in self.paths:
            if index.find(path) < 0:
                raise NotFound("path", show(path), f"in {what}")
        chosen, above = bytearray(len(index.paths)), dict[bytes, tuple[int, bool, bool]]()
        roots = set(self.paths)
        top = (-1, not roots, self.include is None)
        for entry, (path, kind) in enumerate(zip(index.paths, index.kinds, strict=True)):
            parent = path.rpartition(b"/")[0]
            at, named, included = above.get(parent, top)
            if parent and parent not in above:
                continue  # left out with the directory above it
            is_directory = kind == DIRECTORY
            text = show(path)
            if self.exclude and self.exclude.matches(text, is_directory=is_directory):
                continue
            named = named or path in roots
            if self.include is not None:
                found = self.include.matches(text, is_directory=is_directory)
                included = included if found is None else found
            if is_directory:
                above[path] = entry, named, included
            if named and included:
                chosen[entry] = 1
                while at >= 0 and not chosen[at]:
                    chosen[at] = 1
                    at = above.get(index.paths[at].rpartition(b"/")[0], top)[0]
        out = array("I", (entry for entry, is_chosen in enumerate(chosen) if is_chosen))
        if not out:
            raise NotFound("path", "any that is chosen", f"the patterns leave nothing of {what}")
        return out


def make_part(
    paths: Iterable[str | bytes | os.PathLike[str]] = (),
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
) -> Part:
    """Return the part that the arguments of a call choose.

    Args:
        paths: of entries, relative to the version's root; ``./`` before and ``/`` behind a path
            say nothing.
        include: patterns in the syntax of gitignore.
        exclude: patterns in the syntax of gitignore.

    Returns:
        The part; false if no argument chooses anything.

    Raises:
        InvalidParameter: a path is empty, absolute, climbs or holds a NUL; a pattern is malformed.
    """
    if isinstance(paths, (str, bytes, os.PathLike)):
        paths = (paths,)
    included = given_patterns(include, "--include")
    excluded = given_patterns(exclude, "--exclude")
    return Part(tuple(clean_path(path) for path in paths), included, excluded)


def clean_path(path: str | bytes | os.PathLike[str]) -> bytes:
    """Return a path of a version as its index has it.

    Args:
        path: relative to the version's root.

    Returns:
        The path without ``.`` components and without slashes at its end.

    Raises:
        InvalidParameter: it is empty, absolute, climbs or holds a NUL.
    """
    raw = os.fsencode(path)
    parts = [part for part in raw.split(b"/") if part not in (b"", b".")]
    if not parts or raw.startswith(b"/") or b".." in parts or b"\0" in raw:
        why = "a path in a version is relative to its root, and has no '..'"
        raise InvalidParameter(f"{show(raw)!r}: {why}")
    return b"/".join(parts)


def names_directory(version: Version, path: bytes) -> bool:
    """Return whether a path of a version, as its index has it, is a directory."""
    entry = version.index.find(path)
    return entry >= 0 and version.index.kinds[entry] == DIRECTORY


def index_of(version: Version, part: Part | None) -> Index:
    """Return the index of a part of a version.

    Args:
        version: has the entries.
        part: which of them; None for all.

    Returns:
        An index; the version's own one if the part is all of it.

    Raises:
        NotFound: the version lacks a path of the part, or the part is empty.
    """
    index = version.index
    if not part:
        return index
    entries = part.entries(index, version.name)
    return index if len(entries) == len(index.paths) else _restricted(index, entries)


def _restricted(index: Index, entries: Sequence[int]) -> Index:
    """Return an index with some of the entries, and all layers, frames and chunks."""
    starts, lengths, first = index.run_starts, index.run_lengths, index.first_run
    run_starts, run_lengths = array("I"), array("I")
    for entry in entries:
        run_starts += starts[first[entry] : first[entry + 1]]
        run_lengths += lengths[first[entry] : first[entry + 1]]
    links = index.symlinks()
    return replace(
        index,
        paths=Names.of([index.paths[entry] for entry in entries]),
        kinds=bytearray(index.kinds[entry] for entry in entries),
        modes=array("H", (index.modes[entry] for entry in entries)),
        run_counts=array("I", (index.run_counts[entry] for entry in entries)),
        targets=Names.of([links[at] for at in entries if index.kinds[at] == SYMLINK]),
        run_starts=run_starts,
        run_lengths=run_lengths,
        expansions={
            at: index.expansions[entry]
            for at, entry in enumerate(entries)
            if entry in index.expansions
        },
    )
