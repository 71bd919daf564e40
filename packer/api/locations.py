"""Finds the places that arguments name: the local store, registries, layouts, versions in them.

Of all modules, only this one reads the environment for them (`LAYER_PACKER_STORE`,
`LAYER_PACKER_STORAGE`, `XDG_DATA_HOME`).
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from packer.errors import InvalidParameter, InvalidReference, NotFound
from packer.format.version import Version, load_version
from packer.oci import is_digest
from packer.progress import CancelEvent
from packer.reference import ArchiveLocation, LayoutLocation, Reference, parse_location
from packer.stores.cancelling import until_cancelled
from packer.stores.layout import LayoutStore
from packer.stores.protocols import Store, Tags
from packer.stores.registry.access import Access, RegistryLike

StoreLike = Store | str | bytes | os.PathLike[str] | os.PathLike[bytes] | None
"""A store, the directory of an image layout, or None for the default one."""


_SHORT_DIGEST = re.compile(r"[0-9a-f]{7,63}\Z")
"""First digits of a digest that name a version: seven are the fewest that git shows, too."""
SIGNS_OF_RANGES = frozenset("~^<>=*|, ")
"""Characters that only a range of versions holds, of all that may stand behind a repository."""

_NAME_A_STORE = "name a directory with --store or LAYER_PACKER_STORE"
"""Advice where the default store cannot be used."""


def default_store_path() -> str:
    """Return the directory of the default store.

    Returns:
        ``$LAYER_PACKER_STORE`` if it is set, else ``layer-packer/store`` in the user's data
        directory. The directory need not exist.

    Raises:
        InvalidParameter: nothing names a home directory, as for a user without an entry in passwd.
    """
    if path := os.environ.get("LAYER_PACKER_STORE"):
        return path
    if sys.platform == "darwin":
        data = os.path.expanduser("~/Library/Application Support")
    else:
        data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    if data.startswith("~"):
        raise InvalidParameter(f"no home directory holds the default store: {_NAME_A_STORE}")
    return os.path.join(data, "layer-packer", "store")


def default_storage_uri() -> str:
    """Return the base of the storage that the environment names.

    Returns:
        ``$LAYER_PACKER_STORAGE``.

    Raises:
        InvalidParameter: it is not set.
    """
    if uri := os.environ.get("LAYER_PACKER_STORAGE"):
        return uri
    raise InvalidParameter(
        "no storage is named: give --storage-base-uri or LAYER_PACKER_STORAGE, such as"
        " docker://registry.example/org/base"
    )


def open_store(store: StoreLike = None, *, create: bool = True, durable: bool = True) -> Store:
    """Return the store that an argument means.

    Args:
        store: a store, the directory of an image layout, or None for the default store.
        create: create a missing directory now. If False, a missing directory is an empty store that
            the first write creates, so looking up a name needs no permission to write.
        durable: sync everything that is written to a directory. If False, a system that crashes may
            lose or damage what was written in the last half minute or so. A store that was opened
            before stays as it was opened.

    Returns:
        The store.

    Raises:
        FormatError: the directory is no image layout.
        InvalidParameter: nothing names a home directory for the default store.
        PermissionError: the directory may not be read or created.
        OSError: the directory cannot be read or created.
    """
    if store is not None and not isinstance(store, (str, bytes, os.PathLike)):
        return store
    if store is not None:
        return LayoutStore(store, late=not create, durable=durable)
    try:
        path = default_store_path()
        if create:
            try:
                os.makedirs(path, exist_ok=True)
            except OSError as error:
                why = f"{error.strerror}; {_NAME_A_STORE}"
                raise OSError(error.errno, why, path) from None
        return LayoutStore(path, late=not create, durable=durable)
    except (PermissionError, InvalidParameter):
        if create:
            raise
        # The home belongs to another user, as in a container; the store was not asked for by name.
        from packer.stores.memory import MemoryStore

        return MemoryStore()


def open_version(
    name: str, *, store: StoreLike = None, registry: RegistryLike | Access = None
) -> Version:
    """Open a version for reading.

    A version that was packed on a base in a registry may lack blobs in the local store; they are
    read from the registry when they are needed.

    Args:
        name: tag or digest in the local store, or a reference elsewhere.
        store: the local store.
        registry: how to reach a registry.

    Returns:
        The version; its index is decoded when it is first used.

    Raises:
        NotFound: there is no such version.
        InvalidReference: `name` is malformed.
        UnsupportedVersion: the version was not written by layer-packer, or by a later one.
        FormatError: the version is malformed.
        StoreError: a store failed.
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
    """Open a version as `open_version` does, for work that can be cancelled.

    Args:
        name: tag, digest or reference of the version.
        store: the local store.
        registry: how to reach a registry.
        cancel: ends the requests of the block once it is set; None for never.
        what: the work, such as "verifying", for the error.

    Yields:
        The version.

    Raises:
        Cancelled: `cancel` was set.
    """
    holder, known = _locate(name, open_store(store, create=False), Access.of(registry))
    with until_cancelled(cancel, (holder,), what):
        yield load_version(holder, known)


def _locate(name: str, local: Store, options: Access) -> tuple[Store, str]:
    """Return the store to read a version from, and the version's name there."""
    holder, known = resolve(name, local, options)
    if holder is not local:
        return holder, known
    from packer.transfer.overlay import completed

    return completed(local, known, options), known


def resolve(name: str, local: Store, options: Access) -> tuple[Store, str]:
    """Find the store that holds a version; the local store is asked first.

    Args:
        name: tag, digest or reference of the version.
        local: the local store.
        options: how to reach registries.

    Returns:
        The store, and the version's tag or digest there.

    Raises:
        NotFound: the local store lacks `name`, and `name` is no reference.
        InvalidReference: `name` is malformed.
        InvalidParameter: the reference names a layout with several tags, and none of them.
    """
    known = local_name(name, local)
    try:
        local.resolve(known)
    except (NotFound, InvalidParameter):
        if not names_registry(name):
            raise
    else:
        return local, known
    location = parse_location(without_range(name, options))
    store, tag = open_location(location, options, create=False)
    return store, name_at(location, store, tag)


def local_name(name: str, local: Store) -> str:
    """Return the whole digest of a version that its first digits name; any other name as it is.

    Args:
        name: a tag, a digest, or the first digits of the digest of a version with a tag.
        local: the local store.

    Returns:
        The digest or `name`; a version need not be there.

    Raises:
        InvalidParameter: the digits begin several digests.
    """
    digits = name.removeprefix("sha256:")
    if not _SHORT_DIGEST.match(digits) or not isinstance(local, Tags):
        return name
    tags = dict(local.tags())
    found = {e.digest for e in tags.values() if e.digest.startswith(f"sha256:{digits}")}
    if name in tags or not found:
        return name
    if len(found) > 1:
        shown = ", ".join(sorted(found)[:3]) + (", ..." if len(found) > 3 else "")
        raise InvalidParameter(f"{name} begins {len(found)} digests: {shown}")
    return found.pop()


def without_range(ref: str, options: Access) -> str:
    """Return a reference in which the version that a range means replaces the range.

    Args:
        ref: any reference.
        options: how to reach its registry.

    Returns:
        `ref` itself if it holds no range.

    Raises:
        NotFound: there is no version in the range.
        InvalidReference: the range is malformed.
    """
    if SIGNS_OF_RANGES.isdisjoint(ref):
        return ref
    from packer.api.ranges import pin

    return pin(ref, registry=options)


def local_tag(location: Reference | LayoutLocation) -> str | None:
    """Return the name that a pulled version gets in the local store.

    Args:
        location: where the version is pulled from.

    Returns:
        A tag; None if the location names no tag.
    """
    if isinstance(location, LayoutLocation):
        return location.tag
    if location.tag is None:
        return None
    return f"{location.registry}/{location.repository}:{location.tag}"


def name_at(location: Reference | LayoutLocation, store: Store, name: str | None) -> str:
    """Return the name by which a location's store knows the version.

    Args:
        location: the location.
        store: the location's store.
        name: the tag that the location names; None for none. A layout or archive that holds a
            single version needs none.

    Returns:
        A tag or digest.

    Raises:
        InvalidParameter: the store holds several versions, and the location names none of them.
    """
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
    """Open the store of a location.

    Args:
        location: a repository, layout or archive.
        options: how to reach registries.
        create: create a missing layout or archive.

    Returns:
        The store, and the tag that the location names in it; None for none.

    Raises:
        NotFound: there is no such layout or archive, and `create` is False.
        OSError: a layout or archive cannot be read or created.
    """
    if isinstance(location, ArchiveLocation):
        from packer.stores.archive.store import ArchiveStore

        return ArchiveStore(location.path, create=create), location.tag
    if isinstance(location, LayoutLocation):
        return LayoutStore(location.path, create=create), location.tag
    return options.open(location), location.tag


def tag_of(name: str) -> str | None:
    """Return a name if it is a tag.

    Args:
        name: a tag or digest.

    Returns:
        The tag; None for a digest.
    """
    return None if is_digest(name) else name


def names_for(location: Reference | LayoutLocation) -> list[str]:
    """Return the local tags that a reference may mean.

    Args:
        location: a reference, such as ``registry.example/acme/app:1.4.2``.

    Returns:
        Tags such as ``registry.example/acme/app:1.4.2``, ``acme/app:1.4.2``, ``app:1.4.2``,
        ``app-1.4.2`` and ``1.4.2``, the most exact first. For ``oci:DIR/app:1.4.2``: ``1.4.2``,
        ``app:1.4.2`` and ``app-1.4.2``.
    """
    if location.tag is None:
        return [location.digest] if location.digest else []
    if isinstance(location, LayoutLocation):
        short = os.path.basename(os.path.abspath(location.path))
        return [location.tag, f"{short}:{location.tag}", f"{short}-{location.tag}"]
    short = location.repository.rpartition("/")[2]
    return [
        f"{location.registry}/{location.repository}:{location.tag}",
        f"{location.repository}:{location.tag}",
        f"{short}:{location.tag}",
        f"{short}-{location.tag}",
        location.tag,
    ]


def refuse_local_name(text: str, local: Store) -> None:
    """Refuse a name of this machine where a reference is wanted; else Docker Hub would get it.

    Args:
        text: the reference as it was given. ``docker://`` before it means Docker Hub.
        local: the local store.

    Raises:
        InvalidReference: the name has no host, and is a version of the store or a path here.
    """
    if names_registry(text):
        return
    try:
        local.resolve(text)
    except (NotFound, InvalidParameter):
        if not os.path.exists(text):
            return
        why = "it is a file or directory here"
        hint = f"oci:{text} or oci-archive:{text}"
    else:
        why = f"it is a version of {local.name}"
        hint = f"a host before it, as in registry.example/{text}"
    raise InvalidReference(text, f"{why}; write {hint}, or docker://{text} for Docker Hub")


def names_registry(name: str) -> bool:
    """Return whether a name is a reference, not a local tag.

    Args:
        name: a tag, digest or reference.

    Returns:
        Whether the name begins with a transport or a host.
    """
    if name.startswith(("docker://", "oci:", "oci-archive:")):
        return True
    host, slash, _ = name.partition("/")
    return bool(slash) and ("." in host or ":" in host or host == "localhost")
