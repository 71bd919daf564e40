"""Finds the version that a push means."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from typing import TYPE_CHECKING

from packer.api.locations import StoreLike, local_name, names_for, open_store
from packer.errors import AuthError, InvalidParameter, NotFound
from packer.progress import CancelEvent, ProgressCallback
from packer.reference import LayoutLocation, Reference
from packer.stores.protocols import Store

if TYPE_CHECKING:
    from packer.packing.job import Packed
    from packer.stores.registry.access import RegistryLike

_LOG = logging.getLogger(__name__)


def version_to_push(
    location: Reference | LayoutLocation,
    version: Packed | str | os.PathLike[str] | None,
    store: StoreLike,
    progress: ProgressCallback | None,
    *,
    may_pack: bool = True,
    registry: RegistryLike = None,
    cancel: CancelEvent | None = None,
) -> tuple[Store, str, Packed | None]:
    """Return the store that holds the version to push, and the version's name there.

    Args:
        location: where to push. If `version` is None, the local version named like it is meant.
        version: as for `packer.push`.
        store: the local store.
        progress: called while a directory is packed.
        may_pack: pack a directory; if False, refuse it. It is packed on the best version that the
            repository has.
        registry: how to reach the registry of `location`.
        cancel: stops packing once it is set.

    Returns:
        The store, a tag or digest, and what was packed; None for a version that was there.

    Raises:
        NotFound: there is no such version.
        InvalidParameter: `version` names a version and a directory, or a directory that must not
            be packed.
    """
    source = open_store(store, create=False)
    if version is None:
        return source, _named_like(location, source), None
    if not isinstance(version, (str, os.PathLike)):
        return source, version.digest, None
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
            return source, version, None
    if not may_pack:
        raise InvalidParameter(f"{path} is no version: pack it first")
    return _packed(path, location, open_store(store), registry, progress, cancel)


def _packed(
    path: str | bytes,
    location: Reference | LayoutLocation,
    target: Store,
    registry: RegistryLike,
    progress: ProgressCallback | None,
    cancel: CancelEvent | None,
) -> tuple[Store, str, Packed]:
    """Pack a directory on the best version where it goes to."""
    from packer.api.bases import AUTO
    from packer.api.packs import pack  # most pushes pack nothing

    base = None
    if isinstance(location, Reference):
        base = AUTO + str(replace(location, digest=None))
    try:
        packed = pack(
            path, store=target, base=base, registry=registry, progress=progress, cancel=cancel
        )
    except AuthError as error:  # some may write and not read
        if base is None:
            raise
        _LOG.warning("no base is looked for in the repository: %s", error)
        packed = pack(path, store=target, progress=progress, cancel=cancel)
    if packed.left_out:
        _LOG.warning(
            "left out of %s: %d files and links, %d directories, such as %s",
            os.fsdecode(path),
            packed.left_out.files,
            packed.left_out.directories,
            packed.left_out.paths[0],
        )
    if packed.base is None and not packed.unchanged:
        _LOG.warning(
            "no base was found, so all of %s is packed anew; pack it with --base REF first, and "
            "push that version",
            os.fsdecode(path),
        )
    return target, packed.digest, packed


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
