"""Places that arguments name: the local store, registries, image layouts, and versions in them.

The only module that reads the environment for them (`LAYER_PACKER_STORE`, `XDG_DATA_HOME`).
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from packer.errors import InvalidParameter, NotFound, PackerError
from packer.format.version import CREATED, Version, load_version
from packer.oci import is_digest
from packer.progress import CancelEvent, ProgressCallback
from packer.reference import ArchiveLocation, LayoutLocation, Reference, parse_location
from packer.stores.cancelling import until_cancelled
from packer.stores.layout import LayoutStore
from packer.stores.protocols import Store, Tags
from packer.stores.registry.access import Access, RegistryLike
from packer.transfer.overlay import completed

if TYPE_CHECKING:
    from packer.transfer.copy_graph import CopyResult

_LOG = logging.getLogger(__name__)

StoreLike = Store | str | bytes | os.PathLike[str] | os.PathLike[bytes] | None
"""A store, the directory of an image layout, or None for the default one."""


def default_store_path() -> str:
    """Return the directory of the default store.

    ``$LAYER_PACKER_STORE``, else ``layer-packer/store`` in the user's data directory.
    """
    if path := os.environ.get("LAYER_PACKER_STORE"):
        return path
    if sys.platform == "darwin":
        data = os.path.expanduser("~/Library/Application Support")
    else:
        data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return os.path.join(data, "layer-packer", "store")


def open_store(store: StoreLike = None, *, create: bool = True) -> Store:
    """Return the store that an argument means.

    Args:
        store: a store, the directory of an image layout, or None for the default one.
        create: make a directory that is not there. If not, that is an empty store, and made when
            something is written to it: who only looks a name up need not be able to write.
    """
    if store is not None and not isinstance(store, (str, bytes, os.PathLike)):
        return store
    if store is not None:
        return LayoutStore(store, late=not create)
    try:
        return LayoutStore(default_store_path(), late=not create)
    except PermissionError:
        if create:
            raise
        # The home of another user, in a container: nobody said that anything was there.
        from packer.stores.memory import MemoryStore

        return MemoryStore()


def open_version(
    name: str, *, store: StoreLike = None, registry: RegistryLike | Access = None
) -> Version:
    """Return a version by tag or digest of the local store, or by a reference elsewhere.

    What the local store lacks of a version, as it was packed on a base in a registry, is read from
    there when it is needed.

    Raises:
        NotFound: there is none.
        UnsupportedVersion: it was not written by layer-packer, or by a later one.
    """
    return load_version(*_locate(name, open_store(store, create=False), Access.of(registry)))


@contextmanager
def opened_version(
    name: str,
    store: StoreLike,
    registry: RegistryLike | Access,
    cancel: CancelEvent | None,
    what: str,
) -> Iterator[Version]:
    """Give a version as `open_version` does; requests made meanwhile end when `cancel` is set.

    Args:
        name: of the version.
        store: the local store.
        registry: how to reach a registry.
        cancel: or None.
        what: is being done, for the error.
    """
    holder, known = _locate(name, open_store(store, create=False), Access.of(registry))
    with until_cancelled(cancel, (holder,), what):
        yield load_version(holder, known)


def _locate(name: str, local: Store, options: Access) -> tuple[Store, str]:
    """Return the store to read a version from, and what it is called there."""
    holder, known = resolve(name, local, options)
    return (completed(local, known, options) if holder is local else holder), known


def resolve(name: str, local: Store, options: Access) -> tuple[Store, str]:
    """Return the store that holds `name`, and what it is called there: the local store first."""
    try:
        local.resolve(name)
    except (NotFound, InvalidParameter):
        if not names_registry(name):
            raise
    else:
        return local, name
    location = parse_location(name)
    store, tag = open_location(location, options, create=False)
    return store, name_at(location, store, tag)


def fetch_version(
    ref: str,
    local: Store,
    options: Access,
    progress: ProgressCallback | None,
    jobs: int = 4,
    *,
    expect: str | None = None,
    cancel: CancelEvent | None = None,
) -> tuple[Version, CopyResult]:
    """Copy a version into the local store.

    Warns if its tag meant a newer version the last time: an old manifest is as valid as ever, so
    only a pinned digest tells a registry that was rolled back from one that is held back.
    """
    from packer.transfer.copy_graph import copy as copy_graph  # packing needs none of it

    location = parse_location(ref)
    source, name = open_location(location, options, create=False)
    wanted = name_at(location, source, name)
    tag = local_tag(location)
    if isinstance(location, ArchiveLocation) and tag is None and not is_digest(wanted):
        tag = wanted  # or the next update would not find what it builds on
    before = _created(local, tag)
    copied = copy_graph(
        source, wanted, local, tag, jobs=jobs, expect=expect, progress=progress, cancel=cancel
    )
    version = load_version(local, copied.descriptor.digest)
    now = version.manifest.annotations.get(CREATED, "")
    if before and now and now < before:
        _LOG.warning("%s now names a version made at %s; before, one made at %s", ref, now, before)
    return version, copied


def _created(store: Store, tag: str | None) -> str:
    """Return when the version was made that a tag names now, "" if there is none."""
    try:
        if tag is None:
            return ""
        return load_version(store, tag).manifest.annotations.get(CREATED, "")
    except PackerError:
        return ""


def local_tag(location: Reference | LayoutLocation) -> str | None:
    """Return the tag a pulled version gets in the local store."""
    if isinstance(location, LayoutLocation):
        return location.tag
    if location.tag is None:
        return None
    return f"{location.registry}/{location.repository}:{location.tag}"


def name_at(location: Reference | LayoutLocation, store: Store, name: str | None) -> str:
    """Return what to ask a location's store for; a layout with a single version needs no tag."""
    if location.digest:
        return location.digest
    if name is not None:
        return name
    if isinstance(location, ArchiveLocation):
        from packer.stores.archive.store import ArchiveStore

        assert isinstance(store, ArchiveStore)
        # Other tools leave the name out where there is one manifest.
        sole = store.sole_manifest()
        return next((tag for tag, found in store.tags() if found == sole), sole.digest)
    tags = [tag for tag, _ in store.tags()] if isinstance(store, Tags) else []
    if len(tags) != 1:
        raise InvalidParameter(f"{store.name} holds {len(tags)} tags: say which one")
    return tags[0]


def open_location(
    location: Reference | LayoutLocation, options: Access, *, create: bool
) -> tuple[Store, str | None]:
    """Return the store of a location, and the tag in it."""
    if isinstance(location, ArchiveLocation):
        from packer.stores.archive.store import ArchiveStore

        return ArchiveStore(location.path, create=create), location.tag
    if isinstance(location, LayoutLocation):
        return LayoutStore(location.path, create=create), location.tag
    return options.open(location), location.tag


def tag_of(name: str) -> str | None:
    """Return a name if it is a tag, None if it is a digest."""
    return None if is_digest(name) else name


def names_for(location: Reference | LayoutLocation) -> list[str]:
    """Return the local tags that a reference may mean, the most exact first."""
    if isinstance(location, LayoutLocation):
        return [location.tag] if location.tag else []
    if location.tag is None:
        return [location.digest] if location.digest else []
    short = location.repository.rpartition("/")[2]
    return [
        f"{location.registry}/{location.repository}:{location.tag}",
        f"{location.repository}:{location.tag}",
        f"{short}:{location.tag}",
        f"{short}-{location.tag}",
        location.tag,
    ]


def names_registry(name: str) -> bool:
    """Tell whether a name has a transport, or a host as its first component."""
    if name.startswith(("docker://", "oci:", "oci-archive:")):
        return True
    host, slash, _ = name.partition("/")
    return bool(slash) and ("." in host or ":" in host or host == "localhost")
