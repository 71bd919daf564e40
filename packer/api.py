"""The library's calls: they turn arguments, then the environment, into explicit parameters.

`packer.locations` finds the places that arguments name. All functions may be called from several
threads at once.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from packer import airgap, codec, listing
from packer._version import VERSION
from packer.access import Access, RegistryLike
from packer.airgap import Inventory
from packer.copy import CopyResult, check_expected
from packer.copy import copy as copy_graph
from packer.errors import InvalidParameter, NotFound, PackerError
from packer.listing import Change, Details, Entry, Verified
from packer.locations import (
    StoreLike,
    fetch_version,
    name_at,
    names_for,
    names_registry,
    open_location,
    open_store,
    open_version,
    resolve,
    tag_of,
)
from packer.model import ChunkParams
from packer.pack import LocalStore, Packed, pack_tree
from packer.progress import CancelEvent, ProgressCallback, cancellable
from packer.promise import Promise
from packer.reference import LayoutLocation, Reference, parse_location
from packer.restore import Restored, restore
from packer.seed import seed_paths
from packer.store._common import check_tag
from packer.store.base import Store, Tags
from packer.version import Version, family, find_base, load_version, newest_first

MAX_CANDIDATES = 64
"""How many of a family's newest versions are compared with the tree that is being packed."""

_last_packed: tuple[Store, Packed] | None = None


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


def pack(
    version_dir: str | bytes | os.PathLike[str],
    *,
    store: StoreLike = None,
    tag: str | None = None,
    base: str | None = None,
    level: int = codec.DEFAULT_LEVEL,
    expand: bool = True,
    cache: bool = True,
    params: ChunkParams | None = None,
    registry: RegistryLike = None,
    progress: ProgressCallback | None = None,
    cancel: CancelEvent | None = None,
) -> Packed:
    """Pack a directory or file as a version in a local store, and tag it.

    Content that the base already has becomes references; identical content gives the identical
    digest and adds nothing.

    Args:
        version_dir: a directory, or a single file (an archive).
        store: where to; the default store if None.
        tag: its name, such as ``app:1.4.2``; the directory's name if None.
        base: tag or digest of the version to build on, ``"none"`` for no base; if None, the
            version tagged last whose tag has the same name before the colon (or, without a colon,
            the same name without its version). A reference to a registry is fetched first.
        level: zstd level, 1 to 22.
        expand: open archives (gzip, zip, tar), so that what did not change in them is not stored
            again; they come back bit for bit either way.
        cache: files that look as they did when they were last packed into this store (path, size,
            times, inode, device) are not read again; docs/architecture.md says when that is safe.
        params: chunk sizes; a base with other ones is not used.
        registry: how to reach the registry that `base` names.
        progress: called now and then from the calling thread.
        cancel: a `threading.Event`, or the like, that stops the call once it is set: `Cancelled`.

    Returns:
        what was packed, with the bytes that it added.

    Raises:
        InvalidParameter: an argument is out of range.
        NotFound: `base` does not exist.
        SourceChanged, UnsupportedFile, OSError: about a file, by name; nothing is tagged.

    Determinism: the same tree, base, parameters and library versions give the same layers and
    index on every machine; the manifest adds the time (``SOURCE_DATE_EPOCH`` if set).
    """
    global _last_packed
    if not codec.MIN_LEVEL <= level <= codec.MAX_LEVEL:
        raise InvalidParameter(f"level {level} is not from {codec.MIN_LEVEL} to {codec.MAX_LEVEL}")
    root = os.fsencode(version_dir)
    os.stat(root)  # a missing or forbidden path is reported before a store is made
    target = open_store(store)
    if not isinstance(target, LocalStore):
        raise InvalidParameter(
            f"{target.name}: versions are packed into a local store, then pushed"
        )
    tag = check_tag(_tag_for(root) if tag is None else tag)
    base_version = _base(target, tag, base, Access(registry))
    packed = pack_tree(
        root,
        target,
        tag,
        base=base_version,
        candidates=_candidates(target, tag, base_version, given=base is not None),
        params=params or ChunkParams(),
        level=level,
        expand=expand,
        cache=cache,
        created=_source_date_epoch(),
        tool=f"layer-packer {VERSION}",
        progress=cancellable(progress, cancel, "packing"),
    )
    _last_packed = (target, packed)
    return packed


def _tag_for(root: bytes) -> str:
    """Return the name of a directory or file as a tag."""
    name = os.path.basename(os.path.realpath(root))
    return re.sub(r"[^A-Za-z0-9._+-]", "-", os.fsdecode(name)).lstrip(".+-")[:128] or "version"


def _base(store: LocalStore, tag: str, base: str | None, options: Access) -> Version | None:
    if base == "none":
        return None
    if base is None:
        return find_base(store, tag)
    try:
        return load_version(store, base)
    except NotFound as error:
        if not names_registry(base):
            raise NotFound("base", base, f"in {store.name}") from error
    return fetch_version(base, store, options, None)[0]


def _candidates(
    store: LocalStore, tag: str, base: Version | None, *, given: bool
) -> Iterator[Version]:
    """Yield versions that may have the same tree: the base, then the newest of the tag's family."""
    if base is not None:
        yield base
    if given or not isinstance(store, Tags):
        return
    seen = {base.descriptor.digest} if base is not None else set()
    for name, descriptor in newest_first(store, family(tag)):
        if len(seen) == MAX_CANDIDATES:
            break
        if descriptor.digest not in seen:
            try:
                yield load_version(store, name)
            except PackerError:
                continue  # not ours, or damaged: it cannot be reused
            seen.add(descriptor.digest)


def _source_date_epoch() -> int | None:
    text = os.environ.get("SOURCE_DATE_EPOCH")
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or int(text) >= 1 << 33:
        raise InvalidParameter(f"SOURCE_DATE_EPOCH {text[:40]!r} is not a number of seconds")
    return int(text)


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
        version: result of `pack`, tag, digest, or a directory, which is packed first. If None: the
            version this process packed last; if it packed none, the local version named like `ref`
            (``app:1.4.2`` or ``app-1.4.2``).
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
        progress=progress,
        cancel=cancel,
    )


def version_to_push(
    location: Reference | LayoutLocation,
    version: Packed | str | os.PathLike[str] | None,
    store: StoreLike,
    progress: ProgressCallback | None,
) -> tuple[Store, str]:
    """Return the store that holds the version to push, and its digest or tag there."""
    if version is None and _last_packed is not None:
        last_store, packed = _last_packed
        return (last_store if store is None else open_store(store)), packed.digest
    source = open_store(store)
    if isinstance(version, Packed):
        return source, version.digest
    if version is not None:
        name = os.fspath(version)
        try:
            source.resolve(name)
        except (NotFound, InvalidParameter):
            if not os.path.exists(name):
                raise NotFound(
                    "version", name, f"no tag, digest or path of {source.name}"
                ) from None
            return source, pack(name, store=source, progress=progress).digest
        return source, name
    for name in names_for(location):
        try:
            source.resolve(name)
        except (NotFound, InvalidParameter):
            continue
        return source, name
    tried = ", ".join(names_for(location))
    raise NotFound("version", tried, f"in {source.name}; say which one with --from")


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
    seeds = seed_paths(seed)
    if seeds:
        location = parse_location(ref)
        remote, name = open_location(location, Access(registry), create=False)
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
    version, copied = fetch_version(
        ref, local, Access(registry), progress, jobs, expect=expect, cancel=cancel
    )
    watched = cancellable(progress, cancel, "unpacking")
    restored = restore(
        version, os.fsencode(directory), update=update, delete=delete, progress=watched
    )
    return Pulled(
        ref, version.descriptor.digest, copied.blobs_copied, copied.bytes_copied, restored
    )


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
    version = open_version(name, store=store, registry=registry)
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
    have: airgap.Have | Iterable[airgap.Have] = (),
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
    local = open_store(store)
    origin, name = resolve(source, local, options)
    location = parse_location(destination)
    left_out = airgap.as_list(have)
    target, tag = airgap.open_target(
        location, options, partial=bool(left_out), part_bytes=split_bytes
    )
    tag = tag or tag_of(name)
    promises: list[Promise] = []
    if left_out:
        name = origin.resolve(name).digest  # the tag may move meanwhile
        promises = airgap.find_promises(left_out, origin, name, local, options)
    return copy_graph(
        origin,
        name,
        target,
        tag,
        jobs=jobs,
        promises=promises,
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
    return airgap.take_inventory(name, open_store(store), Access(registry))


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
    version = open_version(name, store=store, registry=registry)
    return list(listing.entries(version, inside=inside))


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
    version = open_version(name, store=store, registry=registry)
    return listing.content(version, os.fsencode(path).strip(b"/"), inside=inside)


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
    access = Access(registry)
    before = open_version(old, store=store, registry=access)
    after = open_version(new, store=store, registry=access)
    return list(listing.differences(before, after, inside=inside))


def inspect(name: str, *, store: StoreLike = None, registry: RegistryLike = None) -> Details:
    """Return what a version says of itself: totals, layers and how much of each it uses."""
    return listing.details(open_version(name, store=store, registry=registry))


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
    version = open_version(name, store=store, registry=registry)
    return listing.verify(version, cancellable(progress, cancel, "verifying"))


def versions(*, store: StoreLike = None) -> list[tuple[str, str]]:
    """Return (tag, manifest digest) of all local tags, the one tagged last at the end."""
    target = open_store(store)
    if not isinstance(target, Tags):
        raise InvalidParameter(f"{target.name} cannot list its tags")
    return [(tag, descriptor.digest) for tag, descriptor in target.tags()]
