"""Copies what refers to a version: signatures, attestations, SBOMs, and what refers to these.

What the destination lacks is added; nothing that it has is lost. The version is copied first, so
that an interrupted copy leaves a version that lacks signatures, and a second copy completes it.
"""

from __future__ import annotations

import logging

from packer.errors import IntegrityError, NotFound
from packer.oci import Descriptor
from packer.stores.protocols import Store
from packer.stores.referrers import Referrer
from packer.transfer.blob_mover import BlobMover
from packer.transfer.referrers_plan import ReferrersPlan, unique_blobs

_LOG = logging.getLogger(__name__)


def warn_of_kept(destination: Store, plan: ReferrersPlan) -> None:
    """Log what was not copied, because the destination has something else in its place."""
    for one in plan.kept:
        _LOG.warning(
            "%s has other signatures under %s, which stay; those of the source are not copied",
            destination.name,
            one.tag,
        )


def copy_referrers(mover: BlobMover, plan: ReferrersPlan, *, verify: bool, force: bool) -> int:
    """Store what a plan says is missing at a registry or a local store.

    Args:
        mover: between the two stores.
        plan: what to store.
        verify: read what is there too, and send what is lost or damaged.
        force: send everything again.

    Returns:
        How many manifests were stored.

    Raises:
        NotFound: the source lacks a blob.
        IntegrityError: bytes differ from their digest, or the registry keeps damaged ones.
        StoreError: a store failed.
    """
    destination = mover.destination
    again = plan.present if verify or force else ()
    blobs = unique_blobs((*plan.missing, *again))
    lost: list[Descriptor] = []
    if verify and mover.remote is not None and not force:
        blobs = lost = mover.damaged(blobs)
    elif mover.remote is None:
        blobs = [blob for blob in blobs if not destination.exists(blob)]
    mover.begin(blobs)
    mover.move(blobs, ask=not force)
    mover.refuse_damaged(lost)
    stored = 0
    for one in (*plan.missing, *again):
        if one in again and _is_sound(destination, one):
            continue
        for child, data in one.children:
            destination.put_manifest(data, child.media_type)
        destination.put_manifest(one.data, one.descriptor.media_type, one.tag)
        stored += 1
    warn_of_kept(destination, plan)
    return stored


def _is_sound(store: Store, one: Referrer) -> bool:
    try:
        return store.get_manifest(one.descriptor.digest)[1] == one.data
    except (NotFound, IntegrityError):
        return False
