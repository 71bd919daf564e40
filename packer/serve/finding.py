"""Finds out what is to be served from what the user named."""

from __future__ import annotations

import os
from collections.abc import Sequence

from packer.api.locations import (
    local_name,
    name_at,
    names_registry,
    open_location,
    open_store,
    open_version,
)
from packer.api.referrers import ListedReferrer
from packer.errors import InvalidParameter, NotFound
from packer.format.version import Version
from packer.packing.older.bases import family
from packer.reference import LayoutLocation, Reference, parse_location
from packer.serve.places import Deployed, Place, Recent, Row, StoragePlace, TaggedPlace
from packer.storage.results import SupportBundle
from packer.storage.storage import open_storage
from packer.stores.protocols import Store
from packer.stores.registry.access import Access, RegistryLike


def open_place(
    what: str | None = None,
    *,
    store: str | os.PathLike[str] | None = None,
    registry: RegistryLike = None,
    storage: str | None = None,
) -> Place:
    """Open what is to be served.

    Args:
        what: the directory of a store, a reference to a repository, layout, archive or version, a
            version or application of the local store, or the base of a storage; with `storage`, an
            application of it. None for the whole local store.
        store: the local store.
        registry: how to reach registries.
        storage: base of a storage; None to find out by looking whether `what` is one.

    Returns:
        The place; a base or store may still be empty.

    Raises:
        NotFound: there is no such version, application, layout or archive.
        InvalidReference: `what` is malformed.
        InvalidParameter: a directory is no layout, and no storage.
        StoreError: a registry failed.
    """
    if storage is not None:
        return StoragePlace(open_storage(storage, registry=registry), what)
    if what is None or (os.path.isdir(what) and not names_registry(what)):
        local = open_store(what if what is not None else store, create=False)
        return _local_place(local, registry)
    if not names_registry(what):
        return _named_place(what, open_store(store, create=False), registry)
    access = Access(registry)
    location = parse_location(what)
    try:
        place = _location_place(what, location, access)
    except (NotFound, InvalidParameter):
        # The base of a storage in a directory need not be a layout itself.
        if isinstance(location, LayoutLocation) and not what.startswith("oci-archive:"):
            base = StoragePlace(open_storage(what, registry=registry))
            if base.apps():
                return base
        raise
    if place.kind == "version" or what.startswith("oci-archive:"):
        return place
    return Undecided(what, place, registry)


class Undecided:
    """A repository or the base of a storage, whichever is the first to have something.

    Args:
        what: names it.
        repository: the repository.
        registry: how to reach its registry.
    """

    def __init__(self, what: str, repository: Place, registry: RegistryLike) -> None:
        self.title = what
        self._repository = repository
        self._registry = registry
        self._recent = Recent()
        self._decided: Place | None = None

    @property
    def kind(self) -> str:
        """What it is so far."""
        return self._place.kind

    @property
    def _place(self) -> Place:
        if self._decided is not None:
            return self._decided
        found = self._recent.get("place", self._look)
        assert isinstance(found, (StoragePlace, TaggedPlace))
        return found

    def _look(self) -> Place:
        storage = StoragePlace(open_storage(self.title, registry=self._registry))
        try:
            if storage.apps() or storage.bundles():
                self._decided = storage
                return storage
        except (NotFound, InvalidParameter):
            pass  # nobody saved anything
        storage.close()
        if self._repository.apps():
            self._decided = self._repository
        return self._repository

    def apps(self) -> list[str]:
        """Return the names of the applications."""
        return self._place.apps()

    def names(self, app: str) -> list[str]:
        """Return the versions of an application, the oldest first."""
        return self._place.names(app)

    def rows(self, app: str, names: Sequence[str]) -> list[Row]:
        """Return the facts of some versions."""
        return self._place.rows(app, names)

    def version(self, app: str, name: str) -> Version:
        """Open a version."""
        return self._place.version(app, name)

    def referrers(self, app: str, name: str) -> Sequence[ListedReferrer]:
        """Return the signatures and the like of a version."""
        return self._place.referrers(app, name)

    def deployments(self, app: str) -> list[Deployed]:
        """Return what was deployed."""
        return self._place.deployments(app)

    def bundles(self) -> list[SupportBundle]:
        """Return the support bundles."""
        return self._place.bundles()

    def close(self) -> None:
        """Close connections."""
        self._repository.close()
        if self._decided is not None:
            self._decided.close()


def _location_place(what: str, location: Reference | LayoutLocation, access: Access) -> Place:
    found, tag = open_location(location, access, create=False)
    if isinstance(location, Reference):
        app = location.repository
    else:
        app = os.path.basename(os.path.abspath(location.path))
    if location.digest is not None or tag is not None:
        only = name_at(location, found, tag)
        found.resolve(only)
        return TaggedPlace(found, "version", what, app=app, only=only)
    return TaggedPlace(found, "repository", what, app=app)


def _local_place(
    local: Store,
    registry: RegistryLike,
    *,
    app: str | None = None,
    only: str | None = None,
    family_only: str | None = None,
) -> Place:
    """Return a local store, or an application or version of it."""

    def opener(name: str) -> Version:
        return open_version(name, store=local, registry=registry)

    kind = "store" if only is None else "version"
    # The other parts of its path are nobody's business over a network.
    title = os.path.basename(local.name.rstrip("/")) or "store"
    return TaggedPlace(
        local, kind, title, app=app, only=only, family_only=family_only, opener=opener
    )


def _named_place(what: str, local: Store, registry: RegistryLike) -> Place:
    """Serve a version or an application of the local store."""
    place = _local_place(local, registry)
    if what in place.apps():
        return _local_place(local, registry, family_only=what)
    known = local_name(what, local)
    local.resolve(known)
    return _local_place(local, registry, app=family(what), only=known)
