"""Garbage collection of a layout: removes what nothing needs and no running writer relies on."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from packer.errors import IntegrityError, NotFound
from packer.oci import Descriptor
from packer.stores.index_json import REF_NAME, Index, annotations_of
from packer.stores.layout_directory import LayoutDirectory
from packer.stores.layout_use import running_uses


class Garbage(NamedTuple):
    """The result of a garbage collection.

    Args:
        blobs: number of blobs removed that nothing needs.
        bytes: bytes of the blobs removed.
        kept_blobs: number of blobs that nothing needs, and that are too young to be removed.
        kept_bytes: bytes of the blobs kept.
        leftovers: number of temporary files removed that killed processes left.
        leftover_bytes: bytes of the temporary files removed.
    """

    blobs: int = 0
    bytes: int = 0
    kept_blobs: int = 0
    kept_bytes: int = 0
    leftovers: int = 0
    leftover_bytes: int = 0


def collect(
    directory: LayoutDirectory,
    index: Index,
    needed: set[str],
    unneeded: Iterable[Descriptor],
    reach: Callable[[Descriptor], set[str]],
    *,
    grace_seconds: float,
    dry_run: bool,
) -> Garbage:
    """Remove blobs that nothing needs, and entries of index.json whose subject is gone.

    The caller holds the layout's lock, and has read the index under it.

    Args:
        directory: of the layout.
        index: its index.json.
        needed: digests of the blobs that the index needs; what is found to stay is added.
        unneeded: entries of the index whose subject is gone.
        reach: returns the digests of all blobs that a manifest needs.
        grace_seconds: blobs written more recently than this stay.
        dry_run: only count what would be removed.

    Returns:
        The numbers of blobs; of leftovers none.
    """
    uses = running_uses(directory.ingest)
    before = min(time.time() - grace_seconds, uses.since)
    for root in uses.manifests:
        with contextlib.suppress(NotFound, IntegrityError):
            needed |= reach(root)
    needed |= uses.blobs
    _drop_entries(directory, index, unneeded, needed, reach, before, dry_run=dry_run)
    count = size = young = young_size = 0
    for digest, status in directory.blob_files():
        if digest in needed:
            continue
        if status.st_mtime > before:
            young, young_size = young + 1, young_size + status.st_size
            continue
        if not dry_run:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(directory.blob_path(digest))
        count, size = count + 1, size + status.st_size
    return Garbage(count, size, young, young_size)


def _drop_entries(
    directory: LayoutDirectory,
    index: Index,
    unneeded: Iterable[Descriptor],
    needed: set[str],
    reach: Callable[[Descriptor], set[str]],
    before: float,
    *,
    dry_run: bool,
) -> None:
    """Remove entries whose subject is gone from index.json.

    Entries that a running writer relies on or that are young stay, and what they need is added to
    `needed`: a copy by another tool may bring their subject after them.
    """
    gone: set[tuple[str, str | None]] = set()
    for entry in unneeded:
        if entry.digest not in needed:
            with contextlib.suppress(FileNotFoundError):
                if os.stat(directory.blob_path(entry.digest)).st_mtime <= before:
                    gone.add((entry.digest, entry.annotations.get(REF_NAME)))
                    continue
        with contextlib.suppress(NotFound, IntegrityError):
            needed |= reach(entry)
    if gone and not dry_run:
        kept = [
            item
            for item in index.items
            if not isinstance(item, dict)
            or (item.get("digest"), annotations_of(item).get(REF_NAME)) not in gone
        ]
        directory.write_index({**index.value, "manifests": kept})
