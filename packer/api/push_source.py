"""Finds the version that a push means."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from packer.api.locations import StoreLike, local_name, names_for, open_store
from packer.errors import InvalidParameter, NotFound
from packer.progress import ProgressCallback
from packer.reference import LayoutLocation, Reference
from packer.stores.protocols import Store

if TYPE_CHECKING:
    from packer.packing.pack_tree import Packed


def version_to_push(
    location: Reference | LayoutLocation,
    version: Packed | str | os.PathLike[str] | None,
    store: StoreLike,
    progress: ProgressCallback | None,
    *,
    may_pack: bool = True,
) -> tuple[Store, str]:
    """Return the store that holds the version to push, and the version's name there.

    Args:
        location: where to push. If `version` is None, the local version named like it is meant.
        version: as for `packer.push`.
        store: the local store.
        progress: called while a directory is packed.
        may_pack: pack a directory; if False, refuse it.

    Returns:
        The store, and a tag or digest.

    Raises:
        NotFound: there is no such version.
        InvalidParameter: `version` names a version and a directory, or a directory that must not
            be packed.
    """
    source = open_store(store, create=False)
    if version is None:
        return source, _named_like(location, source)
    if not isinstance(version, (str, os.PathLike)):
        return source, version.digest
    path = os.fspath(version)
    if isinstance(version, str):
        if not os.path.exists(path):
            version = local_name(version, source)
        try:
            found = source.resolve(version)
        except (NotFound, InvalidParameter):
            if not os.path.exists(path):
                where = f"no tag, digest or path of {source.name}"
                raise NotFound("version", path, where) from None
        else:
            if version != found.digest and os.path.isdir(path):
                raise InvalidParameter(
                    f"{path} is a version of {source.name} and a directory here: "
                    f"{os.path.join('.', path)} means the directory, {found.digest} the version"
                )
            return source, version
    if not may_pack:
        raise InvalidParameter(f"{path} is no version: pack it first")
    from packer.api.packs import pack  # most pushes pack nothing

    target = open_store(store)
    return target, pack(path, store=target, progress=progress).digest


def _named_like(location: Reference | LayoutLocation, source: Store) -> str:
    """Return the tag of the local version that is named like a reference."""
    names = names_for(location)
    for name in names:
        try:
            source.resolve(name)
        except (NotFound, InvalidParameter):
            continue
        return name
    raise NotFound("version", ", ".join(names), f"in {source.name}; say which one with --from")
