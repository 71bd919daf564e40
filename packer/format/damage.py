"""What damage touches: files of the version that is read, and the versions beside it."""

from __future__ import annotations

import contextlib
from array import array
from itertools import accumulate, chain

from packer.errors import PackerError
from packer.files.tree import show
from packer.format.frames import Frames
from packer.oci import Manifest
from packer.stores.protocols import LocalBlobs, Store, Tags

_NAMED = 3
"""Files, and versions, that are named; the others are counted."""


def touched(frames: Frames, damaged: range, layer: str, store: Store | None) -> str:
    """Say for an error which files and versions need some damaged frames of a layer.

    Args:
        frames: of the version that is read.
        damaged: the frames; those compressed against them cannot be read either.
        layer: digest of the layer.
        store: where the version lies; None if that is not known.
    """
    files = _named("file", _files(frames, damaged)) or "no file"
    versions = _named("version", _versions(store, layer))
    return f"needed by {files}" + (f", and listed by {versions}" if versions else "")


def _named(noun: str, names: list[str]) -> str:
    """Return how many there are, and what the first are called."""
    if not names:
        return ""
    more = ", ..." if len(names) > _NAMED else ""
    return f"{len(names)} {noun}{'s'[: len(names) > 1]} ({', '.join(names[:_NAMED])}{more})"


def _versions(store: Store | None, layer: str) -> list[str]:
    """Return the tags whose versions list a layer; of registries none, which would be asked."""
    if not isinstance(store, Tags) or not isinstance(store, LocalBlobs):
        return []
    found = []
    for tag, descriptor in store.tags():
        with contextlib.suppress(PackerError, OSError):  # another one is damaged as well
            _, data = store.get_manifest(descriptor.digest)
            if any(item.digest == layer for item in Manifest.decode(data).layers):
                found.append(tag)
    return found


def _files(frames: Frames, damaged: range) -> list[str]:
    """Return the files whose content, or recipe, cannot be read."""
    index = frames.index
    bad = bytearray(index.chunk_count)
    # Prefixes lie before what they serve, so that one pass finds what follows from them.
    for frame in range(damaged.start, len(index.frame_stored)):
        runs = frames.prefix_runs(frame)
        if frame in damaged or any(1 in bad[first : first + count] for first, count in runs):
            first, last = frames.first_chunk[frame], frames.first_chunk[frame + 1]
            bad[first:last] = b"\1" * (last - first)
    before = array("I", chain((0,), accumulate(bad)))
    return [
        show(path)
        for entry, path in enumerate(index.paths)
        if index.run_counts[entry]
        and any(before[start + count] > before[start] for start, count in index.runs_of(entry))
    ]
