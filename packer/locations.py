"""Places that arguments name: the local store, registries, image layouts, and versions in them.

The only module that reads the environment for them (`LAYER_PACKER_STORE`, `XDG_DATA_HOME`).
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

from packer.copy import CopyResult
from packer.copy import copy as copy_graph
from packer.errors import InvalidParameter, NotFound
from packer.model import is_digest
from packer.progress import ProgressCallback
from packer.reference import ArchiveLocation, LayoutLocation, Reference, parse_location
from packer.store.archive import ArchiveStore
from packer.store.base import Store, Tags
from packer.store.layout import LayoutStore
from packer.version import Version, load_version

StoreLike = Store | str | os.PathLike[str] | None
"""A store, the directory of an image layout, or None for the default one."""


@dataclass(frozen=True, slots=True)
class RegistryOptions:
    """How to reach a registry.

    Args:
        plain_http: True to use http, False to insist on https; None means http for localhost only.
        username, password: credentials; without them those of the docker config are used.
        ca_file: PEM file of certificate authorities to trust instead of the system's.
    """

    plain_http: bool | None = None
    username: str | None = None
    password: str | None = None
    ca_file: str | None = None

    def __repr__(self) -> str:
        """Show everything but the password."""
        return (
            f"RegistryOptions(plain_http={self.plain_http!r}, username={self.username!r}, "
            f"ca_file={self.ca_file!r})"
        )


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


def open_store(store: StoreLike = None) -> Store:
    """Return the store that an argument means; a directory is made if it is not there."""
    if store is None:
        return LayoutStore(default_store_path())
    if isinstance(store, (str, os.PathLike)):
        return LayoutStore(os.fspath(store))
    return store


def open_version(
    name: str, *, store: StoreLike = None, registry: RegistryOptions | None = None
) -> Version:
    """Return a version by tag or digest of the local store, or by a reference elsewhere.

    Raises:
        NotFound: there is none.
        UnsupportedVersion: it was not written by layer-packer, or by a later one.
    """
    holder, known = resolve(name, open_store(store), registry or RegistryOptions())
    return load_version(holder, known)


def resolve(name: str, local: Store, options: RegistryOptions) -> tuple[Store, str]:
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
    options: RegistryOptions,
    progress: ProgressCallback | None,
    jobs: int = 4,
) -> tuple[Version, CopyResult]:
    """Copy a version into the local store."""
    location = parse_location(ref)
    source, name = open_location(location, options, create=False)
    wanted = name_at(location, source, name)
    tag = local_tag(location)
    if isinstance(location, ArchiveLocation) and tag is None and not is_digest(wanted):
        tag = wanted  # or the next update would not find what it builds on
    copied = copy_graph(source, wanted, local, tag, jobs=jobs, progress=progress)
    return load_version(local, copied.descriptor.digest), copied


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
    if isinstance(store, ArchiveStore):
        # Other tools leave the name out where there is one manifest.
        sole = store.sole_manifest()
        return next((tag for tag, found in store.tags() if found == sole), sole.digest)
    tags = [tag for tag, _ in store.tags()] if isinstance(store, Tags) else []
    if len(tags) != 1:
        raise InvalidParameter(f"{store.name} holds {len(tags)} tags: say which one")
    return tags[0]


def open_location(
    location: Reference | LayoutLocation, options: RegistryOptions, *, create: bool
) -> tuple[Store, str | None]:
    """Return the store of a location, and the tag in it."""
    if isinstance(location, ArchiveLocation):
        return ArchiveStore(location.path, create=create), location.tag
    if isinstance(location, LayoutLocation):
        return LayoutStore(location.path, create=create), location.tag
    from packer.store.registry import RegistryStore

    store = RegistryStore(
        location,
        plain_http=options.plain_http,
        username=options.username,
        password=options.password,
        ca_file=options.ca_file,
    )
    return store, location.tag


def names_registry(name: str) -> bool:
    """Tell whether a name has a transport, or a host as its first component."""
    if name.startswith(("docker://", "oci:", "oci-archive:")):
        return True
    host, slash, _ = name.partition("/")
    return bool(slash) and ("." in host or ":" in host or host == "localhost")
