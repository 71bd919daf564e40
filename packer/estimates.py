"""What a push, pull or copy would cost, asked beforehand."""

from __future__ import annotations

from packer.access import Access, RegistryLike
from packer.errors import InvalidParameter, NotFound
from packer.locations import StoreLike, local_tag, open_location, open_store, resolve, tag_of
from packer.pack import Packed
from packer.packing import version_to_push
from packer.planning import Estimate, estimate_copy
from packer.reference import parse_location
from packer.store.memory import MemoryStore


def estimate(
    source: Packed | str | None = None,
    destination: str | None = None,
    *,
    store: StoreLike = None,
    registry: RegistryLike = None,
) -> Estimate:
    """Say what a push, pull or copy would cost in bytes and requests; nothing is written.

    Args:
        source: a version as for `push`, but not a directory; or a reference, as for `copy`.
        destination: a reference; None for the local store, as for `pull`.
        store: the local store.
        registry: how to reach registries, on both sides.

    Raises:
        NotFound, InvalidReference, StoreError: as they say.
    """
    access = Access(registry)
    local = open_store(store)
    if destination is None:
        if not isinstance(source, str):
            raise InvalidParameter("a pull needs a reference")
        location = parse_location(source)
        origin, name = resolve(source, MemoryStore(), access)
        return estimate_copy(origin, name, local, local_tag(location))
    location = parse_location(destination)
    if isinstance(source, str):
        origin, name = resolve(source, local, access)
    else:
        origin, name = version_to_push(location, source, store, None)
    try:
        target, tag = open_location(location, access, create=False)
    except NotFound:
        return estimate_copy(origin, name, None, None)  # a layout that is not there yet
    return estimate_copy(origin, name, target, tag or tag_of(name))
