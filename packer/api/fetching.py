"""Copies a version that a reference names into the local store."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, replace

from packer.api.locations import local_tag, name_at, open_location
from packer.errors import NotFound, PackerError
from packer.format.version import CREATED, Config, Version, load_version
from packer.oci import MAX_MANIFEST_BYTES, Manifest, is_digest
from packer.progress import CancelEvent, ProgressCallback
from packer.reading.staging_directory import check_space
from packer.reading.write_plan import hole_bytes
from packer.reference import ArchiveLocation, LayoutLocation, Reference, parse_location
from packer.stores.cancelling import until_cancelled
from packer.stores.layout import LayoutStore
from packer.stores.protocols import Store, read_blob
from packer.stores.registry.access import Access
from packer.transfer.copy_graph import CopyResult, copy_goal, discard_damaged
from packer.transfer.copy_plan import Goal, read_goal

_LOG = logging.getLogger(__name__)

ROOM_BYTES = 4 << 20
"""Bytes of missing layers from which free space is checked first; that takes a request."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a version is fetched from.

    Args:
        reference: the reference as it was given, for messages.
        store: holds the version.
        name: tag or digest of the version there.
        local_tag: name of the version in the local store once it is fetched; None for none.
        lasting: the reference that names the version wherever the process runs.
    """

    reference: str
    store: Store
    name: str
    local_tag: str | None
    lasting: str


def find_origin(ref: str, access: Access) -> Origin:
    """Find the place that a reference names; the version is not looked up yet.

    Args:
        ref: a reference, such as ``registry.example/acme/app:1.4.2``.
        access: how to reach registries.

    Returns:
        The place.

    Raises:
        InvalidReference: `ref` is malformed.
        NotFound: there is no such layout or archive.
        InvalidParameter: `ref` names a layout with several tags, and none of them.
    """
    location = parse_location(ref)
    store, held = open_location(location, access, create=False)
    name = name_at(location, store, held)
    tag = local_tag(location)
    if isinstance(location, ArchiveLocation) and tag is None and not is_digest(name):
        tag = name  # or the next update would not find the version that it builds on
    return Origin(ref, store, name, tag, _lasting(location, name))


def _lasting(location: Reference | LayoutLocation, name: str) -> str:
    """Return a location with an absolute path, and the version's name in it."""
    if isinstance(location, Reference):
        return str(location if location.digest else replace(location, tag=location.selector))
    scheme = "oci-archive" if isinstance(location, ArchiveLocation) else "oci"
    separator = "@" if is_digest(name) else ":"
    return f"{scheme}:{os.path.abspath(location.path)}{separator}{name}"


def read_manifest(
    origin: Origin, *, expect: str | None = None, cancel: CancelEvent | None = None
) -> Goal:
    """Read the manifest of a version, before anything is fetched.

    Args:
        origin: where the version is.
        expect: digest that the version must have; None for any.
        cancel: ends the request once it is set.

    Returns:
        The manifest, and the version's name in the local store.

    Raises:
        NotFound: the origin lacks the version.
        UnsupportedVersion: the artifact was not written by layer-packer, or by a later one.
        DigestMismatch: the version has another digest than `expect`.
        StoreError: the origin failed.
    """
    with until_cancelled(cancel, (origin.store,), "reading a manifest"):
        goal = read_goal(origin.store, origin.name, origin.local_tag, expect)
    Manifest.decode(goal.data, f"manifest {goal.descriptor.digest}")
    return goal


def check_room(origin: Origin, goal: Goal, local: Store, target: bytes) -> None:
    """Refuse a version that does not fit the target's file system, before a layer is fetched.

    Args:
        origin: where the version is.
        goal: the version's manifest.
        local: the local store.
        target: the directory to write, which does not exist.

    Raises:
        OSError: the file system has fewer free bytes than the version has.
        NotFound: the origin lacks the version's config.
        StoreError: the origin failed.
    """
    missing = [blob for blob in goal.graph.layers if not local.exists(blob)]
    if sum(blob.size for blob in missing) < ROOM_BYTES:
        return
    holder = local if local.exists(goal.graph.config) else origin.store
    data = read_blob(holder, goal.graph.config, MAX_MANIFEST_BYTES)
    config = Config.decode(data, f"config {goal.graph.config.digest}")
    while not os.path.isdir(target):
        target = os.path.dirname(target)
    need = config.totals.get("bytes", 0)
    try:
        check_space(target, need, target)
    except OSError:
        # Holes need no room; only the index, which is small, tells how many there are.
        version = load_version(origin.store, goal.descriptor.digest)
        check_space(target, need - hole_bytes(version.index, version.config.chunking), target)


def fetch_version(
    origin: Origin,
    goal: Goal,
    local: Store,
    *,
    jobs: int = 4,
    referrers: bool = True,
    lists: bool = True,
    progress: ProgressCallback | None = None,
    cancel: CancelEvent | None = None,
) -> tuple[Version, CopyResult]:
    """Copy a version into the local store.

    An old manifest is as valid as a new one, and only a pinned digest tells a registry that was
    rolled back from one that withholds updates. So a tag that named a newer version the last time
    is logged as a warning.

    Args:
        origin: where the version is.
        goal: the version's manifest.
        local: the local store.
        jobs: blobs fetched at once, at least 1.
        referrers: copy what refers to the version as well.
        lists: whether the origin has to say what that is; else its failure is warned about.
        progress: called with the bytes fetched.
        cancel: stops the copy once it is set.

    Returns:
        The version, readable from the local store, and the number of blobs fetched.

    Raises:
        NotFound: the origin lacks a blob of the version.
        UnsupportedVersion: a later version of layer-packer wrote the version.
        IntegrityError: bytes differ from their digest.
        StoreError: a store failed.
    """
    before = _created(local, goal.tag)
    copied = copy_goal(
        origin.store,
        goal,
        local,
        jobs=jobs,
        referrers=referrers,
        lists=lists,
        progress=progress,
        cancel=cancel,
    )
    version = load_version(local, copied.descriptor.digest)
    if goal.tag is not None and isinstance(local, LayoutStore):
        try:
            local.note_origin(goal.tag, origin.lasting)
        except (OSError, NotFound) as error:  # a store that can only be read; or forgotten just now
            _LOG.debug("%s: no origin is recorded: %s", goal.tag, error)
    now = version.manifest.annotations.get(CREATED, "")
    if before and now and now < before:
        _LOG.warning(
            "%s now names a version made at %s; before, one made at %s",
            *(origin.reference, now, before),
        )
    return version, copied


def discard_damaged_blobs(origin: Origin, goal: Goal, local: Store) -> bool:
    """Remove a version's damaged blobs from the local store, so that they are fetched again.

    Args:
        origin: where the version can be fetched.
        goal: the version's manifest.
        local: the local store.

    Returns:
        Whether a blob was damaged.

    Raises:
        StoreError: a store failed.
    """
    return discard_damaged(origin.store, local, goal.graph.blobs)


def _created(store: Store, tag: str | None) -> str:
    """Return when the version that a tag names was made; "" if there is none."""
    try:
        if tag is None:
            return ""
        return load_version(store, tag).manifest.annotations.get(CREATED, "")
    except PackerError:
        return ""
