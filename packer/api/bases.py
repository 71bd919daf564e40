"""Chooses the version that packing builds on, wherever it lies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from packer.api.base_search import Source, fetch_small, search_repository, search_store
from packer.api.locations import local_name, name_at, names_registry, without_range
from packer.errors import InvalidReference, NotFound, PackerError
from packer.format.version import Version, load_version
from packer.oci import Manifest
from packer.packing.job import BaseChoice
from packer.packing.older.bases import family, newest_first
from packer.progress import CancelEvent
from packer.reference import Reference, parse_location
from packer.stores.cancelling import until_cancelled
from packer.stores.partial import PartialIngest
from packer.stores.protocols import Tags
from packer.stores.registry.access import Access
from packer.transfer.overlay import Overlay, promises_of
from packer.transfer.promises import Promise, absent_blobs, encode_promises

if TYPE_CHECKING:
    from packer.packing.pack_tree import LocalStore

MAX_CANDIDATES = 64
"""Versions of a family, newest first, that are compared with the packed tree."""


AUTO = "auto:"
"""Begins a base that is searched for in a repository."""


class Base(NamedTuple):
    """The version that packing builds on.

    Args:
        version: None for none.
        choice: how it was found; None for none.
        promises: say where the blobs of the base lie that the local store lacks.
    """

    version: Version | None = None
    choice: BaseChoice | None = None
    promises: Sequence[Promise] = ()


def choose_base(
    store: LocalStore,
    source: Source,
    base: str | None,
    options: Access,
    cancel: CancelEvent | None,
) -> Base:
    """Choose the version that packing builds on.

    Args:
        store: the local store.
        source: the tree to pack, and its tag.
        base: tag, digest or reference of the base; ``"none"`` for no base; None to search the
            store; ``"auto:REPOSITORY"`` to search a repository first.
        options: how to reach registries.
        cancel: stops requests once it is set.

    Returns:
        The base.

    Raises:
        NotFound: `base` does not exist.
        InvalidReference: what follows ``auto:`` is no repository of a registry.
        UnsupportedVersion: `base` was not written by layer-packer, or by a later one.
        StoreError: a store failed.
    """
    if base == "none":
        return Base()
    if base is None:
        return _near_base(store, source)
    try:
        version = load_version(store, local_name(base, store))
    except NotFound as error:
        if base.startswith(AUTO):
            return _search(_repository(base), store, source, options, cancel)
        if not names_registry(base):
            raise NotFound("base", base, f"in {store.name}") from error
    else:
        return _held(store, version, BaseChoice(base, version.descriptor.digest, "given"), options)
    base = without_range(base, options)
    location = parse_location(base)
    if isinstance(location, Reference) and isinstance(store, PartialIngest):
        version, promises = _fetch_far_base(location, store, options, cancel)
    else:
        version, promises = _fetch_whole(base, store, options, cancel), []
    return Base(version, BaseChoice(base, version.descriptor.digest, "given"), promises)


def _near_base(store: LocalStore, source: Source) -> Base:
    """Return the best base of the local store."""
    found = search_store(store, source)
    return Base() if found is None else Base(*found)


def _held(store: LocalStore, version: Version, choice: BaseChoice, options: Access) -> Base:
    """Return a base that the local store has, though maybe not all of its blobs."""
    promises = promises_of(store, version.descriptor.digest)
    if promises:
        version = replace(version, store=Overlay(store, promises, options.open))
    return Base(version, choice, promises)


def _repository(base: str) -> Reference:
    """Return the repository that ``auto:`` names."""
    name = base.removeprefix(AUTO)
    location = parse_location(name) if names_registry(name) else None
    if not isinstance(location, Reference) or location.digest is not None:
        why = "auto: searches a repository; write auto:REGISTRY/REPOSITORY, such as "
        raise InvalidReference(base, f"{why}auto:registry.example/acme/app")
    return location


def _search(
    location: Reference,
    store: LocalStore,
    source: Source,
    options: Access,
    cancel: CancelEvent | None,
) -> Base:
    """Return the best base of a repository; of the local store if the repository has none."""
    remote = options.open(location)
    with until_cancelled(cancel, (remote,), "packing"):
        found = search_repository(remote, location, store, source)
    if found is None:
        return _near_base(store, source)
    location, choice = found
    try:
        version = load_version(store, choice.digest)
    except NotFound:
        pass
    else:
        if not absent_blobs(store, version.manifest.layers):
            return Base(version, choice)
    if isinstance(store, PartialIngest):
        version, promises = _fetch_far_base(location, store, options, cancel)
        return Base(version, choice, promises)
    return Base(_fetch_whole(str(location), store, options, cancel), choice)


def _fetch_whole(
    base: str, store: LocalStore, options: Access, cancel: CancelEvent | None
) -> Version:
    """Fetch all of a base. Rare: a base in another layout, or a store without promises."""
    from packer.api.fetching import fetch_version, find_origin, read_manifest

    origin = find_origin(base, options)
    goal = read_manifest(origin, cancel=cancel)
    return fetch_version(origin, goal, store, referrers=False, cancel=cancel)[0]


def _fetch_far_base(
    location: Reference, store: LocalStore, options: Access, cancel: CancelEvent | None
) -> tuple[Version, list[Promise]]:
    """Fetch manifest, config and index of a base in a registry; its data stays there.

    Args:
        location: the base.
        store: the local store, which gets the blobs.
        options: how to reach the registry.
        cancel: stops requests once it is set.

    Returns:
        The base, and the promise that says where its data lies.
    """
    assert isinstance(store, PartialIngest)
    remote = options.open(location)
    with until_cancelled(cancel, (remote,), "packing"):
        name = name_at(location, remote, location.tag)
        descriptor, data = remote.get_manifest(name)
        manifest = Manifest.decode(data, f"manifest {descriptor.digest}")
        fetch_small(remote, store, manifest)
    absent = absent_blobs(store, manifest.data_layers)
    if location.tag is None and location.digest is None:
        location = replace(location, tag=name)
    blobs = frozenset(blob.digest for blob in absent)
    promises = [Promise(str(location), descriptor.digest, blobs)] if absent else []
    # The local store keeps the manifest without a tag: a push finds the parent's blobs by it.
    if (text := encode_promises(promises, absent)) is not None:
        store.put_partial(data, descriptor.media_type, None, text)
    else:
        store.put_manifest(data, descriptor.media_type)
    near = Overlay(store, promises, lambda _: remote) if promises else store
    return load_version(near, descriptor.digest), promises


def candidates(
    store: LocalStore, tag: str, base: Version | None, *, given: bool
) -> Iterator[Version]:
    """Yield versions that may have the same tree as the one being packed.

    Args:
        store: the local store.
        tag: name of the version being packed.
        base: the version that packing builds on, or None.
        given: the user named the base; then no other version is compared.

    Yields:
        The base, then the newest versions of the tag's family, `MAX_CANDIDATES` at most.
    """
    if base is not None:
        yield base
    if given or not isinstance(store, Tags):
        return
    seen = {base.descriptor.digest} if base is not None else set()
    for name, descriptor in newest_first(store, family(tag)):
        if len(seen) == MAX_CANDIDATES:
            break
        if descriptor.digest not in seen:
            seen.add(descriptor.digest)
            try:
                version = load_version(store, name)
            except PackerError:
                continue  # written by another tool, or damaged: it cannot be reused
            blobs = (version.manifest.config, *version.manifest.layers)
            if not absent_blobs(store, blobs) or promises_of(store, descriptor.digest):
                yield version
