"""Packing, on a base wherever it lies; and which version a push means."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO, cast

from packer._version import VERSION
from packer.api.locations import (
    StoreLike,
    fetch_version,
    name_at,
    names_for,
    names_registry,
    open_store,
)
from packer.engine import zstd
from packer.errors import InvalidParameter, NotFound, PackerError
from packer.format.version import Version, load_version
from packer.oci import ChunkParams, Manifest
from packer.packing.bases import family, find_base, newest_first
from packer.progress import CancelEvent, ProgressCallback, cancellable
from packer.reference import LayoutLocation, Reference, parse_location
from packer.stores.cancelling import until_cancelled
from packer.stores.layout import LayoutStore
from packer.stores.manifests import check_tag
from packer.stores.protocols import PartialIngest, Store, Tags
from packer.stores.registry.access import Access, RegistryLike
from packer.transfer.overlay import Overlay, promises_of
from packer.transfer.promises import Promise, absent_blobs, encode_promises

if TYPE_CHECKING:
    from packer.packing.job import LocalStore, Packed
    from packer.packing.similar import SketchCache

MAX_CANDIDATES = 64
"""How many of a family's newest versions are compared with the tree that is being packed."""
MAX_REMEMBERED = 1024
"""How many versions that it packed a thread remembers, for a push that names none."""


class _Packed(threading.local):
    """What this thread has packed: others may pack and push at the same time."""

    def __init__(self) -> None:
        self.versions: dict[str, tuple[Store, str]] = {}
        """Store and digest by tag, the last one at the end."""


_packed = _Packed()


def pack(
    version_dir: str | bytes | os.PathLike[str],
    *,
    store: StoreLike = None,
    tag: str | None = None,
    base: str | None = None,
    level: int = zstd.DEFAULT_LEVEL,
    expand: bool = True,
    cache: bool = True,
    params: ChunkParams | None = None,
    registry: RegistryLike = None,
    progress: ProgressCallback | None = None,
    cancel: CancelEvent | None = None,
) -> Packed:
    """Pack a directory or file as a version in a local store, and tag it.

    Content that the base already has becomes references. If a version of the same family (the tag
    before the colon) has the same tree, its digest is the result, and nothing is added.

    Args:
        version_dir: a directory, or a single file (an archive).
        store: where to; the default store if None.
        tag: its name, such as ``app:1.4.2``; the directory's name if None.
        base: tag or digest of the version to build on, ``"none"`` for no base; if None, the
            version tagged last whose tag has the same name before the colon (or, without a colon,
            the same name without its version), and whose blobs are all in the store. Of a base in a
            registry, manifest, config and index are fetched, and by range requests the frames that
            new ones are compressed against; its other data stays there, see below.
        level: zstd level, 1 to 22.
        expand: open archives (gzip, zip, tar), so that what did not change in them is not stored
            again; they come back bit for bit either way.
        cache: files that look as they did when they were last packed into this store (path, size,
            times, inode, device) are not read again; docs/architecture.md says when that is safe.
        params: chunk sizes; a base with other ones is not used.
        registry: how to reach the registry that `base` is in.
        progress: called now and then from the calling thread.
        cancel: a `threading.Event`, or the like, that stops the call once it is set: `Cancelled`.

    Returns:
        what was packed, with the bytes that it added.

    A version packed on a base in a registry lacks what it shares with that base: it is pushed to
    the base's repository, to another one of that registry if it mounts blobs, or to where that base
    is as well; other calls (`unpack`, `cat`, `verify`) read from the registry what they need.
    `pull` the base to have all of it here.

    Raises:
        InvalidParameter: an argument is out of range.
        NotFound: `base` does not exist, or the registry lost a blob of it.
        AuthError, RegistryError, TransportError: about the registry of `base`; nothing is tagged.
        SourceChanged, UnsupportedFile, OSError: about a file, by name; nothing is tagged.

    Determinism: the same tree, base, parameters and library versions give the same layers and
    index on every machine; the manifest adds the time (``SOURCE_DATE_EPOCH`` if set). Layers of a
    base in a registry are not searched for similar chunks, unless their sketches are cached here:
    then a file that moved under another name may cost more than on a base that is here.
    """
    from packer.packing.pack_tree import (  # what pushes a version need not load it
        LocalStore,
        PackJob,
        pack_tree,
    )

    if not zstd.MIN_LEVEL <= level <= zstd.MAX_LEVEL:
        raise InvalidParameter(f"level {level} is not from {zstd.MIN_LEVEL} to {zstd.MAX_LEVEL}")
    root = os.fsencode(version_dir)
    os.stat(root)  # a missing or forbidden path is reported before a store is made
    target = open_store(store)
    if not isinstance(target, LocalStore):
        raise InvalidParameter(
            f"{target.name}: versions are packed into a local store, then pushed"
        )
    tag = check_tag(_tag_for(root) if tag is None else tag)
    version, promises = _base(target, tag, base, Access(registry), cancel)

    def pack_on(place: LocalStore, sketches: SketchCache | None) -> Packed:
        job = PackJob(
            root,
            place,
            tag,
            tool=f"layer-packer {VERSION}",
            params=params or ChunkParams(),
            level=level,
            expand=expand,
            cache=cache,
            created=_source_date_epoch(),
            progress=cancellable(progress, cancel, "packing"),
            sketches=sketches,
        )
        return pack_tree(job, version, _candidates(target, tag, version, given=base is not None))

    if version is None or not promises:
        packed = pack_on(target, None)
    else:
        with until_cancelled(cancel, (version.store,), "packing"):
            packed = _pack_apart(target, version, promises, tag, pack_on)
    _packed.versions.pop(tag, None)
    _packed.versions[tag] = (target, packed.digest)
    if len(_packed.versions) > MAX_REMEMBERED:
        del _packed.versions[next(iter(_packed.versions))]
    return packed


def _tag_for(root: bytes) -> str:
    """Return the name of a directory or file as a tag."""
    name = os.path.basename(os.path.realpath(root))
    return re.sub(r"[^A-Za-z0-9._+-]", "-", os.fsdecode(name)).lstrip(".+-")[:128] or "version"


def _base(
    store: LocalStore, tag: str, base: str | None, options: Access, cancel: CancelEvent | None
) -> tuple[Version | None, list[Promise]]:
    """Return the version to build on, and who has the blobs of it that `store` lacks."""
    if base == "none":
        return None, []
    if base is None:
        return find_base(store, tag), []
    try:
        version = load_version(store, base)
    except NotFound as error:
        if not names_registry(base):
            raise NotFound("base", base, f"in {store.name}") from error
    else:
        promises = promises_of(store, version.descriptor.digest)
        if promises:
            version = replace(version, store=Overlay(store, promises, options.open))
        return version, promises
    location = parse_location(base)
    if isinstance(location, Reference) and isinstance(store, PartialIngest):
        return _far_base(location, store, options, cancel)
    return fetch_version(base, store, options, None, cancel=cancel)[0], []


def _far_base(
    location: Reference, store: LocalStore, options: Access, cancel: CancelEvent | None
) -> tuple[Version, list[Promise]]:
    """Fetch manifest, config and index of a base in a registry; its data stays there."""
    assert isinstance(store, PartialIngest)
    remote = options.open(location)
    with until_cancelled(cancel, (remote,), "packing"):
        name = name_at(location, remote, location.tag)
        descriptor, data = remote.get_manifest(name)
        manifest = Manifest.decode(data, f"manifest {descriptor.digest}")
        for blob in (manifest.config, *manifest.index_layers):
            if not store.exists(blob):
                with remote.fetch(blob) as reader:
                    store.push(blob, cast(BinaryIO, reader))
    absent = absent_blobs(store, manifest.data_layers)
    if location.tag is None and location.digest is None:
        location = replace(location, tag=name)
    blobs = frozenset(blob.digest for blob in absent)
    promises = [Promise(str(location), descriptor.digest, blobs)] if absent else []
    # Without a tag: it is the parent, and says at a push what the destination has.
    if (text := encode_promises(promises, absent)) is not None:
        store.put_partial(data, descriptor.media_type, None, text)
    else:
        store.put_manifest(data, descriptor.media_type)
    near = Overlay(store, promises, lambda _: remote) if promises else store
    return load_version(near, descriptor.digest), promises


def _pack_apart(
    store: LocalStore,
    base: Version,
    promises: list[Promise],
    tag: str,
    pack_on: Callable[[LocalStore, SketchCache | None], Packed],
) -> Packed:
    """Pack on a base of which the store lacks blobs: they are read where needed, and stay there."""
    from packer.packing.staging import NearSketches, Staging

    assert isinstance(store, PartialIngest)
    caches = os.path.join(store.path, "cache") if isinstance(store, LayoutStore) else ""
    staging = Staging(store, base)
    packed = pack_on(staging, NearSketches(caches))
    manifest = Manifest.decode(staging.manifest, f"manifest {packed.digest}")
    absent = absent_blobs(store, (manifest.config, *manifest.layers))
    text = encode_promises(promises, absent)
    if text is None:
        store.put_manifest(staging.manifest, packed.descriptor.media_type, tag)
    else:
        store.put_partial(staging.manifest, packed.descriptor.media_type, tag, text)
    return packed


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
            seen.add(descriptor.digest)
            try:
                version = load_version(store, name)
            except PackerError:
                continue  # not ours, or damaged: it cannot be reused
            blobs = (version.manifest.config, *version.manifest.layers)
            if not absent_blobs(store, blobs) or promises_of(store, descriptor.digest):
                yield version


def _source_date_epoch() -> int | None:
    text = os.environ.get("SOURCE_DATE_EPOCH")
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or int(text) >= 1 << 33:
        raise InvalidParameter(f"SOURCE_DATE_EPOCH {text[:40]!r} is not a number of seconds")
    return int(text)


def version_to_push(
    location: Reference | LayoutLocation,
    version: Packed | str | os.PathLike[str] | None,
    store: StoreLike,
    progress: ProgressCallback | None,
    *,
    may_pack: bool = True,
) -> tuple[Store, str]:
    """Return the store that holds the version to push, and its digest or tag there.

    Args:
        location: where to; its name tells which version is meant if `version` is None.
        version: as for `packer.push`.
        store: the local store.
        progress: called now and then while a directory is packed.
        may_pack: if not, a directory is refused.
    """
    if version is None:
        return _packed_here(location, store) or _named_like(
            location, open_store(store, create=False)
        )
    source = open_store(store, create=False)
    if not isinstance(version, (str, os.PathLike)):
        return source, version.digest
    path = os.fspath(version)
    if isinstance(version, str):
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
    target = open_store(store)
    return target, pack(path, store=target, progress=progress).digest


def _packed_here(
    location: Reference | LayoutLocation, store: StoreLike
) -> tuple[Store, str] | None:
    """Return what this thread packed under the name of a reference, or else packed last."""
    given = None if store is None else open_store(store, create=False)
    found = {
        tag: (place, digest)
        for tag, (place, digest) in _packed.versions.items()
        if given is None or _same(place, given)
    }
    for name in (*names_for(location), *list(found)[-1:]):
        if name in found:
            return found[name]
    return None


def _same(one: Store, other: Store) -> bool:
    if isinstance(one, LayoutStore) and isinstance(other, LayoutStore):
        return os.path.realpath(one.path) == os.path.realpath(other.path)
    return one is other


def _named_like(location: Reference | LayoutLocation, source: Store) -> tuple[Store, str]:
    """Return the version of a store that is named like a reference."""
    names = names_for(location)
    for name in names:
        try:
            source.resolve(name)
        except (NotFound, InvalidParameter):
            continue
        return source, name
    raise NotFound("version", ", ".join(names), f"in {source.name}; say which one with --from")
