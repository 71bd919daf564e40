"""The library's calls: they turn arguments, then the environment, into explicit parameters.

`packer.locations` finds the places that arguments name. All functions may be called from several
threads at once.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from packer.api.locations import (
    StoreLike,
    fetch_version,
    name_at,
    open_location,
    open_store,
    open_version,
    opened_version,
    resolve,
    tag_of,
)
from packer.api.packs import pack, version_to_push
from packer.errors import IntegrityError, InvalidParameter
from packer.format.version import load_version
from packer.progress import CancelEvent, ProgressCallback, cancellable
from packer.reference import parse_location
from packer.stores.cancelling import until_cancelled
from packer.stores.graph import check_expected, read_graph
from packer.stores.protocols import Store, Tags
from packer.stores.registry.access import Access, RegistryLike
from packer.transfer.copy_graph import CopyResult, discard_damaged
from packer.transfer.copy_graph import copy as copy_graph
from packer.transfer.promises import Promise

if TYPE_CHECKING:
    from packer.api.air_gap import Have, Inventory
    from packer.packing.job import Packed
    from packer.reading.contents import Change, Details, Entry, Verified
    from packer.reading.restore import Restored

_LOG = logging.getLogger(__name__)

__all__ = [
    "Pulled",
    "cat",
    "copy",
    "diff",
    "inspect",
    "inventory",
    "ls",
    "pack",
    "pull",
    "push",
    "unpack",
    "verify",
    "versions",
]


@dataclass(frozen=True, slots=True)
class Pulled:
    """The result of pulling: what was fetched, and what was written.

    Args:
        reference: what was asked for.
        digest: of the manifest.
        fetched_blobs, fetched_bytes: blobs that the local store lacked.
        restored: see `Restored`.
    """

    reference: str
    digest: str
    fetched_blobs: int
    fetched_bytes: int
    restored: Restored


def push(
    ref: str,
    version: Packed | str | os.PathLike[str] | None = None,
    *,
    store: StoreLike = None,
    registry: RegistryLike = None,
    jobs: int = 4,
    verify: bool = False,
    force: bool = False,
    progress: ProgressCallback | None = None,
    cancel: CancelEvent | None = None,
) -> CopyResult:
    """Push a version to a registry (or an ``oci:`` layout): only what it lacks.

    Args:
        ref: where to, such as ``registry.example/acme/app:1.4.2``.
        version: result of `pack`, tag, digest, or a directory, which is packed first (a
            `pathlib.Path` always is one; a string that names a version and a directory as well is
            refused). If None: of the versions this thread packed, into `store` if that is given,
            the one named like `ref` (``app:1.4.2`` or ``app-1.4.2``), else the last one; if it
            packed none, the local version named like `ref`.
        store: the local store.
        registry: how to reach the registry.
        jobs: concurrent uploads.
        progress: called now and then.
        verify: read a byte of each blob that the registry says it has, and send again what it
            cannot give back.
        force: send everything, whatever the registry says it has.
        cancel: a `threading.Event`, or the like, that stops the call once it is set: `Cancelled`.

    Returns:
        the manifest's descriptor and what was uploaded.

    Raises:
        NotFound: there is no such version.
        InvalidReference, RegistryError, AuthError, TransportError: about the registry; no tag
            names anything incomplete, and a second call continues.
    """
    location = parse_location(ref)
    watched = cancellable(progress, cancel, "packing")
    source, name = version_to_push(location, version, store, watched)
    destination, tag = open_location(location, Access(registry), create=True)
    return copy_graph(
        source,
        name,
        destination,
        tag or tag_of(name),
        jobs=jobs,
        verify=verify,
        force=force,
        own=True,
        progress=progress,
        cancel=cancel,
    )


def pull(
    ref: str,
    directory: str | bytes | os.PathLike[str],
    *,
    store: StoreLike = None,
    registry: RegistryLike = None,
    update: bool = False,
    delete: bool = False,
    seed: Iterable[str | bytes | os.PathLike[str]] = (),
    jobs: int = 4,
    expect: str | None = None,
    progress: ProgressCallback | None = None,
    cancel: CancelEvent | None = None,
) -> Pulled:
    """Pull a version into the local store, only what it lacks, and write its tree to `directory`.

    A blob that turns out to be damaged in the local store is fetched again.

    With `seed`, only what the seeds lack is fetched, and the local store is left as it is: it could
    hold whole layers only.

    Args:
        ref: such as ``registry.example/acme/app:1.4.2``, or with ``@sha256:...`` to pin it.
        directory: as for `unpack`.
        store: the local store, which keeps the layers for the next version.
        registry: how to reach the registry.
        update: as for `unpack`.
        delete: as for `unpack`.
        seed: as for `unpack`.
        jobs: concurrent downloads.
        progress: called now and then.
        expect: digest that the version must have.
        cancel: a `threading.Event`, or the like, that stops the call once it is set: `Cancelled`.

    Raises:
        NotFound: there is no such repository, tag or blob.
        IntegrityError: something is not what its digest says; `directory` is as it was.
        TargetExists, InvalidReference, StoreError, OSError: as they say.
    """
    from packer.reading.restore import restore
    from packer.reading.seeds import seed_paths

    seeds = seed_paths(seed)
    if seeds:
        location = parse_location(ref)
        remote, name = open_location(location, Access(registry), create=False)
        with until_cancelled(cancel, (remote,), "unpacking"):
            version = load_version(remote, name_at(location, remote, name))
            check_expected(version.descriptor.digest, expect, ref)
            restored = restore(
                version,
                os.fsencode(directory),
                update=update,
                delete=delete,
                seeds=seeds,
                jobs=jobs,
                progress=cancellable(progress, cancel, "unpacking"),
            )
        small = (version.manifest.config, *version.manifest.index_layers)
        return Pulled(
            ref,
            version.descriptor.digest,
            restored.read_layers + len(small),
            restored.read_bytes + sum(blob.size for blob in small),
            restored,
        )
    local = open_store(store)
    access = Access(registry)
    watched = cancellable(progress, cancel, "unpacking")

    def fetch_and_restore() -> Pulled:
        version, copied = fetch_version(
            ref, local, access, progress, jobs, expect=expect, cancel=cancel
        )
        restored = restore(
            version, os.fsencode(directory), update=update, delete=delete, progress=watched
        )
        return Pulled(
            ref, version.descriptor.digest, copied.blobs_copied, copied.bytes_copied, restored
        )

    try:
        return fetch_and_restore()
    except IntegrityError as error:
        if not _discard_damaged(ref, local, access):
            raise
        _LOG.warning("%s; what is damaged in %s is fetched again", error, local.name)
    return fetch_and_restore()


def _discard_damaged(ref: str, local: Store, access: Access) -> bool:
    """Remove what is damaged here of a version that can be fetched again; tell whether any is."""
    location = parse_location(ref)
    source, name = open_location(location, access, create=False)
    descriptor, data = source.get_manifest(name_at(location, source, name))
    graph = read_graph(data, f"manifest {descriptor.digest}")
    return discard_damaged(source, local, graph.blobs)


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


def copy(
    source: str,
    destination: str,
    *,
    store: StoreLike = None,
    registry: RegistryLike = None,
    have: Have | Iterable[Have] = (),
    split_bytes: int | None = None,
    jobs: int = 4,
    verify: bool = False,
    force: bool = False,
    expect: str | None = None,
    progress: ProgressCallback | None = None,
    cancel: CancelEvent | None = None,
) -> CopyResult:
    """Copy a version between any two places: registries, layouts, archives, the local store.

    Args:
        source: a reference, or a tag or digest of the local store.
        destination: a reference.
        store: the local store.
        registry: how to reach registries, on both sides.
        have: what the far side of an air gap has, and an ``oci-archive:`` may leave out: versions
            (tag or digest in the source's repository, any reference), inventories, or files that
            hold an inventory or a list of digests. It still is an OCI archive; copying from it
            needs a destination that has what was left out.
        split_bytes: write an ``oci-archive:`` in parts of this size. A second call with the same
            arguments keeps the parts that are complete.
        jobs: concurrent transfers.
        progress: called now and then.
        verify: as for `push`.
        force: as for `push`.
        expect: digest that the version must have.
        cancel: a `threading.Event`, or the like, that stops the call once it is set: `Cancelled`.

    Raises:
        NotFound: no such version, or (kind "base") the destination lacks a version that an archive
            leaves blobs out for; nothing was written then.
        InvalidReference, InvalidParameter, IntegrityError, StoreError: as they say.
    """
    options = Access(registry)
    local = open_store(store, create=False)
    origin, name = resolve(source, local, options)
    location = parse_location(destination)
    from packer.api import air_gap

    left_out = air_gap.as_list(have)
    target, tag = air_gap.open_target(
        location, options, partial=bool(left_out), part_bytes=split_bytes
    )
    tag = tag or tag_of(name)
    promises: list[Promise] = []
    if left_out:
        name = origin.resolve(name).digest  # the tag may move meanwhile
        promises = air_gap.find_promises(left_out, origin, name, local, options)
    return copy_graph(
        origin,
        name,
        target,
        tag,
        jobs=jobs,
        promises=promises,
        own=origin is local,
        verify=verify,
        force=force,
        expect=expect,
        progress=progress,
        cancel=cancel,
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
