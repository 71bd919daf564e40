"""The library's call that estimates a push, pull or copy."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from packer.api import air_gap
from packer.api.locations import (
    StoreLike,
    local_tag,
    name_at,
    open_location,
    open_store,
    resolve,
    tag_of,
    without_range,
)
from packer.api.push_source import version_to_push
from packer.errors import IntegrityError, InvalidParameter, NotFound
from packer.format.closed_files import closed_in, parent_of
from packer.format.version import load_version
from packer.reference import ArchiveLocation, parse_location
from packer.stores.protocols import LocalBlobs, Store
from packer.stores.registry.access import Access, RegistryLike
from packer.transfer.copy_cost import Estimate, estimate_copy
from packer.transfer.promises import Promise

if TYPE_CHECKING:
    from packer.packing.job import Packed


def estimate(
    source: Packed | str | None = None,
    destination: str | None = None,
    *,
    store: StoreLike = None,
    registry: RegistryLike = None,
    have: air_gap.Have | Iterable[air_gap.Have] = (),
    split_bytes: int | None = None,
    referrers: bool = True,
) -> Estimate:
    """Return the bytes and requests that a push, pull or copy would take; nothing is written.

    Args:
        source: a version as for `push`, but not a directory; or a reference, as for `copy`.
        destination: a reference; None for the local store, as for `pull`.
        store: the local store.
        registry: how to reach registries, on both sides.
        have: as for `copy`, to an archive.
        split_bytes: as for `copy`, to an archive.
        referrers: count what refers to the version as well.

    Returns:
        The cost. An estimate raises what the call itself would raise before it moves anything.

    Raises:
        NotFound: there is no such version, or the destination lacks a version that it builds on.
        InvalidReference: a reference is malformed.
        InvalidParameter: `source` is a directory, or an argument contradicts another.
        StoreError: a store failed.
    """
    access = Access(registry)
    local = open_store(store, create=False)
    if destination is None:
        if not isinstance(source, str):
            raise InvalidParameter("a pull needs a reference")
        location = parse_location(without_range(source, access))
        origin, held = open_location(location, access, create=False)
        name = name_at(location, origin, held)
        tag = local_tag(location)
        found = estimate_copy(origin, name, local, tag, referrers=referrers, lists=False)
        return _with_closed(origin, found)
    location = parse_location(destination)
    if isinstance(source, str):
        try:
            origin, name = resolve(source, local, access)
        except (NotFound, InvalidParameter):  # the name of a directory, perhaps
            if os.path.exists(source):
                raise InvalidParameter(f"{source} is no version: pack it first") from None
            raise
    else:
        origin, name, _ = version_to_push(location, source, store, None, may_pack=False)
    left_out = air_gap.as_list(have)
    if left_out or split_bytes is not None or isinstance(location, ArchiveLocation):
        target, tag = air_gap.open_target(
            location, access, partial=bool(left_out), part_bytes=split_bytes
        )
        tag = tag or tag_of(name)
        promises: list[Promise] = []
        if left_out:
            name = origin.resolve(name).digest  # the tag may move while promises are looked up
            promises = air_gap.find_promises(left_out, origin, name, local, access)
        found = estimate_copy(origin, name, target, tag, promises, referrers=referrers)
        return _with_closed(origin, found)
    try:
        target, tag = open_location(location, access, create=False)
    except NotFound:
        # a layout that is not there yet
        found = estimate_copy(origin, name, None, None, referrers=referrers)
        return _with_closed(origin, found)
    tag = tag or tag_of(name)
    found = estimate_copy(origin, name, target, tag, own=origin is local, referrers=referrers)
    return _with_closed(origin, found)


def _with_closed(origin: Store, found: Estimate) -> Estimate:
    """Add the archives that stayed closed in the blobs that would be moved.

    It takes the index, which is not fetched for an estimate.

    Returns:
        The estimate with them.
    """
    if not found.moved or not isinstance(origin, LocalBlobs):
        return found
    try:
        version = load_version(origin, found.digest)
        layers = version.manifest.data_layers
        new = {at for at, layer in enumerate(layers) if layer.digest in found.moved}
        rows = closed_in(version, parent_of(version), new) if new else ()
        return replace(found, closed=tuple(row for row in rows if row.stored_bytes))
    except (IntegrityError, NotFound):
        return found  # no version of ours, or one without an index here: a copy needs none
