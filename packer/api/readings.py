"""The library's calls that read versions: unpack, ls, cat, diff, inspect, verify and lists.

All functions may be called from several threads at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from packer.api.locations import StoreLike, open_store, open_version, opened_version
from packer.errors import InvalidParameter
from packer.progress import CancelEvent, ProgressCallback, cancellable
from packer.stores.graph import check_expected
from packer.stores.protocols import Tags
from packer.stores.registry.access import Access, RegistryLike

if TYPE_CHECKING:
    from packer.api.air_gap import Inventory
    from packer.reading.contents import Change, Details, Entry, Verified
    from packer.reading.restore import Restored


def unpack(
    name: str,
    directory: str | bytes | os.PathLike[str],
    *,
    store: StoreLike = None,
    registry: RegistryLike = None,
    update: bool = False,
    delete: bool = False,
    seed: Iterable[str | bytes | os.PathLike[str]] = (),
    expect: str | None = None,
    progress: ProgressCallback | None = None,
    cancel: CancelEvent | None = None,
) -> Restored:
    """Write a version's tree to `directory`, without copying it to the local store first.

    Args:
        name: tag or digest in the store, or a reference elsewhere.
        directory: must not exist or be empty, unless `update` is given; written aside, verified,
            synced, then renamed, so that it never holds half a version.
        store: the local store.
        registry: how to reach the registry that `name` is in.
        update: allow a directory with content; files that are equal already stay untouched.
        delete: with `update`, remove what the version does not hold.
        seed: directories that may hold older copies. Files and chunks that are equal are taken from
            there, verified, in place of being read from the store; on the same disk their blocks
            are shared where the file system can.
        progress: called now and then.
        expect: digest that the version must have.
        cancel: a `threading.Event`, or the like, that stops the call once it is set: `Cancelled`.

    Raises:
        NotFound, TargetExists, IntegrityError, OSError: `directory` is as it was.
    """
    from packer.reading.restore import restore
    from packer.reading.seeds import seed_paths

    with opened_version(name, store, registry, cancel, "unpacking") as version:
        check_expected(version.descriptor.digest, expect, name)
        return restore(
            version,
            os.fsencode(directory),
            update=update,
            delete=delete,
            seeds=seed_paths(seed),
            progress=cancellable(progress, cancel, "unpacking"),
        )


def inventory(
    name: str | None = None, *, store: StoreLike = None, registry: RegistryLike = None
) -> Inventory:
    """Return which versions a store holds, and their blobs, for `copy` on the other side of a gap.

    Args:
        name: a version of the local store, a reference (a repository without a tag means all its
            tags), or the directory of a layout; None for all of the local store.
        store: the local store.
        registry: how to reach a registry.

    Raises:
        NotFound: there is no such store or version.
    """
    from packer.api.air_gap import take_inventory

    return take_inventory(name, open_store(store, create=False), Access(registry))


def ls(
    name: str,
    *,
    store: StoreLike = None,
    registry: RegistryLike = None,
    inside: bool = False,
) -> list[Entry]:
    """Return the entries of a version, from its index alone.

    Args:
        name: of the version.
        store: the local store.
        registry: how to reach a registry.
        inside: also those in archives (tar, gzip, zip), which are read for it.
    """
    from packer.reading import contents

    version = open_version(name, store=store, registry=registry)
    return list(contents.entries(version, inside=inside))


def cat(
    name: str,
    path: str | bytes,
    *,
    store: StoreLike = None,
    registry: RegistryLike = None,
    inside: bool = False,
) -> Iterator[bytes]:
    """Yield the content of one file of a version, reading only the frames it needs.

    Args:
        name: of the version.
        path: of the file.
        store: the local store.
        registry: how to reach a registry.
        inside: `path` may lead into an archive: ``charts/app.tgz!/app/values.yaml``.

    Raises:
        NotFound: the version has no such path.
        InvalidParameter: it is no file.
    """
    from packer.reading import contents

    version = open_version(name, store=store, registry=registry)
    return contents.content(version, os.fsencode(path).strip(b"/"), inside=inside)


def diff(
    old: str,
    new: str,
    *,
    store: StoreLike = None,
    registry: RegistryLike = None,
    inside: bool = False,
) -> list[Change]:
    """Return what differs between two versions, from their indexes alone.

    Args:
        old: the one version.
        new: the other.
        store: the local store.
        registry: how to reach a registry.
        inside: also what differs in archives that changed, which are read for it.
    """
    from packer.reading import contents

    access = Access(registry)
    before = open_version(old, store=store, registry=access)
    after = open_version(new, store=store, registry=access)
    return list(contents.differences(before, after, inside=inside))


def inspect(name: str, *, store: StoreLike = None, registry: RegistryLike = None) -> Details:
    """Return what a version says of itself: totals, layers and how much of each it uses."""
    from packer.reading import contents

    return contents.details(open_version(name, store=store, registry=registry))


def verify(
    name: str,
    *,
    store: StoreLike = None,
    registry: RegistryLike = None,
    progress: ProgressCallback | None = None,
    cancel: CancelEvent | None = None,
) -> Verified:
    """Read all blobs of a version and check every digest and chunk.

    Args:
        name: of the version.
        store: the local store.
        registry: how to reach a registry.
        progress: called now and then.
        cancel: a `threading.Event`, or the like, that stops the call once it is set: `Cancelled`.

    Raises:
        NotFound, IntegrityError: about the first thing that is missing or damaged.
    """
    from packer.reading import contents

    with opened_version(name, store, registry, cancel, "verifying") as version:
        return contents.verify(version, cancellable(progress, cancel, "verifying"))


def versions(*, store: StoreLike = None) -> list[tuple[str, str]]:
    """Return (tag, manifest digest) of all local tags, the one tagged last at the end."""
    target = open_store(store, create=False)
    if not isinstance(target, Tags):
        raise InvalidParameter(f"{target.name} cannot list its tags")
    return [(tag, descriptor.digest) for tag, descriptor in target.tags()]
