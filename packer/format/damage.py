"""Names the files and versions that a damaged frame makes unreadable, for error messages."""

from __future__ import annotations

import contextlib
from array import array
from collections.abc import Iterable
from itertools import accumulate, chain

from packer.errors import PackerError
from packer.files.tree import show
from packer.format.frames import Frames
from packer.oci import Manifest
from packer.opening.expansion import Expansion
from packer.opening.predecessor import Predecessor
from packer.stores.protocols import LocalBlobs, Store, Tags

_NAMED = 3
"""Files, and versions, that an error names; it counts the others."""


def touched(frames: Frames, damaged: range, layer: str, store: Store | None) -> str:
    """Return which files and versions need some damaged frames, as a part of an error message.

    Args:
        frames: frames of the version that is read.
        damaged: ordinals of the damaged frames. Frames compressed against them are damaged as well.
        layer: digest of the layer that holds them.
        store: the version's store; None if it is not known.

    Returns:
        a clause such as "needed by 2 files (a, b), and listed by 1 version (app:1)".
    """
    files = _named("file", _files(frames, damaged)) or "no file"
    versions = _named("version", _versions(store, layer))
    return f"needed by {files}" + (f", and listed by {versions}" if versions else "")


def touched_by_index(layer: str, store: Store) -> str:
    """Return which versions need an index layer that is lost, as a part of an error message.

    Args:
        layer: digest of the layer.
        store: the version's store.

    Returns:
        a clause, as of `touched`.
    """
    versions = _named("version", _versions(store, layer))
    return "no file can be listed without it" + (f", and listed by {versions}" if versions else "")


def _named(noun: str, names: list[str]) -> str:
    """Return the number of names, and the first of them."""
    if not names:
        return ""
    more = ", ..." if len(names) > _NAMED else ""
    return f"{len(names)} {noun}{'s'[: len(names) > 1]} ({', '.join(names[:_NAMED])}{more})"


def _versions(store: Store | None, layer: str) -> list[str]:
    """Return the tags whose versions list a layer; none of a registry, as asking takes requests."""
    if not isinstance(store, Tags) or not isinstance(store, LocalBlobs):
        return []
    found = []
    for tag, descriptor in store.tags():
        with contextlib.suppress(PackerError, OSError):  # that version may be damaged as well
            _, data = store.get_manifest(descriptor.digest)
            if any(item.digest == layer for item in Manifest.decode(data).layers):
                found.append(tag)
    return found


def _files(frames: Frames, damaged: range) -> list[str]:
    """Return the files whose content, or recipe, cannot be read."""
    index = frames.index
    bad = bytearray(index.chunk_count)
    # A prefix lies before the frames that need it, so one pass finds all that follow from it.
    for frame in range(damaged.start, len(index.frame_stored)):
        runs = frames.prefix_runs(frame)
        if frame in damaged or any(1 in bad[first : first + count] for first, count in runs):
            first, last = frames.first_chunk[frame], frames.first_chunk[frame + 1]
            bad[first:last] = b"\1" * (last - first)
    before = array("I", chain((0,), accumulate(bad)))

    def is_damaged(runs: Iterable[tuple[int, int]], row: Expansion | Predecessor | None) -> bool:
        """Return whether a file, or a predecessor that it refers to, cannot be read."""
        if row is not None and not older.isdisjoint(row.predecessors):
            return True
        return any(before[start + count] > before[start] for start, count in runs)

    older: set[int] = set()
    for ordinal, row in enumerate(index.predecessors):  # those it refers to come before it
        if is_damaged(row.runs, row):
            older.add(ordinal)
    return [
        show(path)
        for entry, path in enumerate(index.paths)
        if index.run_counts[entry] and is_damaged(index.runs_of(entry), index.expansions.get(entry))
    ]
