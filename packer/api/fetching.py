"""Copies a version that a reference names into the local store."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from packer.api.locations import local_tag, name_at, open_location
from packer.errors import PackerError
from packer.format.version import CREATED, Version, load_version
from packer.oci import is_digest
from packer.progress import CancelEvent, ProgressCallback
from packer.reference import ArchiveLocation, parse_location
from packer.stores.manifests import read_graph
from packer.stores.protocols import Store
from packer.stores.registry.access import Access
from packer.transfer.copy_graph import CopyResult, copy, discard_damaged

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a version is fetched from.

    Args:
        reference: the reference as it was given, for messages.
        store: holds the version.
        name: tag or digest of the version there.
        local_tag: name of the version in the local store once it is fetched; None for none.
    """

    reference: str
    store: Store
    name: str
    local_tag: str | None


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
    return Origin(ref, store, name, tag)


def fetch_version(
    origin: Origin,
    local: Store,
    *,
    jobs: int = 4,
    expect: str | None = None,
    progress: ProgressCallback | None = None,
    cancel: CancelEvent | None = None,
) -> tuple[Version, CopyResult]:
    """Copy a version into the local store.

    An old manifest is as valid as a new one, and only a pinned digest tells a registry that was
    rolled back from one that withholds updates. So a tag that named a newer version the last time
    is logged as a warning.

    Args:
        origin: where the version is.
        local: the local store.
        jobs: blobs fetched at once, at least 1.
        expect: digest that the version must have; None for any.
        progress: called with the bytes fetched.
        cancel: stops the copy once it is set.

    Returns:
        The version, readable from the local store, and the number of blobs fetched.

    Raises:
        NotFound: the origin lacks the version, or a blob of it.
        UnsupportedVersion: the artifact was not written by layer-packer, or by a later one.
        DigestMismatch: the version has another digest than `expect`.
        IntegrityError: bytes differ from their digest.
        StoreError: a store failed.
    """
    tag = origin.local_tag
    before = _created(local, tag)
    copied = copy(
        origin.store,
        origin.name,
        local,
        tag,
        jobs=jobs,
        expect=expect,
        progress=progress,
        cancel=cancel,
    )
    version = load_version(local, copied.descriptor.digest)
    now = version.manifest.annotations.get(CREATED, "")
    if before and now and now < before:
        _LOG.warning(
            "%s now names a version made at %s; before, one made at %s",
            *(origin.reference, now, before),
        )
    return version, copied


def discard_damaged_blobs(origin: Origin, local: Store) -> bool:
    """Remove a version's damaged blobs from the local store, so that they are fetched again.

    Args:
        origin: where the version can be fetched.
        local: the local store.

    Returns:
        Whether a blob was damaged.

    Raises:
        NotFound: the origin lacks the version.
        StoreError: a store failed.
    """
    descriptor, data = origin.store.get_manifest(origin.name)
    graph = read_graph(data, f"manifest {descriptor.digest}")
    return discard_damaged(origin.store, local, graph.blobs)


def _created(store: Store, tag: str | None) -> str:
    """Return when the version that a tag names was made; "" if there is none."""
    try:
        if tag is None:
            return ""
        return load_version(store, tag).manifest.annotations.get(CREATED, "")
    except PackerError:
        return ""
