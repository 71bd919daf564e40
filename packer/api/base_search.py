"""Searches a store or a repository for the best base, from names, manifests and indexes alone."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, cast

from packer.errors import (
    IntegrityError,
    NotFound,
    RegistryError,
    SizeMismatch,
    UnsupportedVersion,
)
from packer.files.tree import Tree, walk
from packer.format.index_codec import MAX_INDEX_BYTES
from packer.format.version import CREATED, Config, Version
from packer.oci import MAX_MANIFEST_BYTES, Descriptor, Manifest
from packer.packing.job import BaseChoice
from packer.packing.older.bases import (
    application,
    complete_versions,
    find_base,
    may_be_one_application,
    tags_to_look_at,
    version_key,
)
from packer.packing.older.likeness import ALIKE, Looks
from packer.reference import DEFAULT_TAG, Reference, is_tag
from packer.stores.protocols import Store, Tags, read_blob

if TYPE_CHECKING:
    from packer.stores.registry.store import RegistryStore

LOOK_VERSIONS = 16
"""Versions of a local store whose indexes are compared with the tree, newest first."""
LOOK_INDEXES = 3
"""Versions of a repository whose indexes are: each takes a request, and one for each patch that the
others do not have as well."""
NEARLY_THE_SAME = 0.9
"""Share of bytes in files of equal path and size from which no better base is looked for."""
_THREADS = 8
"""Manifests fetched at once."""

_LOG = logging.getLogger(__name__)


class Source:
    """The tree that is packed; it is walked when something is compared with it.

    Args:
        root: a directory, or a single file.
        tag: name of the version that will be packed.
        walk: lists the entries that will be packed.
    """

    def __init__(self, root: bytes, tag: str, walk: Callable[[bytes], Tree] = walk) -> None:
        self.root = root
        self.tag = tag
        self._walk = walk

    @cached_property
    def looks(self) -> Looks:
        """The paths and sizes of the tree."""
        return Looks(self._walk(os.path.abspath(self.root)))


def search_store(store: Store, source: Source) -> tuple[Version, BaseChoice] | None:
    """Return the version of a local store to pack on.

    The newest complete one of the tag's family (`app:1.4.1` for `app:1.4.2`); else, of the versions
    whose tags do not name another application, the newest complete one whose tree looks alike, and
    of these first those whose tags name the same application.

    Args:
        store: the local store.
        source: the tree to pack.

    Returns:
        The version, and how it was found; None if there is none.

    Raises:
        UnsupportedFile: the tree holds a device, socket or pipe.
        OSError: the tree cannot be walked.
    """
    named = find_base(store, source.tag)
    if named is not None:
        name, version = named
        return version, BaseChoice(name, version.descriptor.digest, "name")
    for name, version in _others(store, source.tag):
        try:
            looks = _looks_of(version, source)
        except (NotFound, IntegrityError) as error:
            _LOG.warning("%s in %s is not packed on: %s", name, store.name, error)
            continue
        if looks is not None and (share := source.looks.compare(looks).paths) >= ALIKE:
            by = "name" if application(name) == application(source.tag) is not None else "tree"
            return version, BaseChoice(name, version.descriptor.digest, by, share)
    return None


def _others(store: Store, tag: str) -> Iterator[tuple[str, Version]]:
    """Yield versions that may be of the same application; those named so first, then the newest."""
    if not isinstance(store, Tags):
        return
    seen: dict[str, str] = {}
    for name, descriptor in reversed(list(store.tags())):
        if may_be_one_application(name, tag):
            seen.setdefault(descriptor.digest, name)
    own = application(tag)
    names = sorted(seen.values(), key=lambda name: own is None or application(name) != own)
    for at, found in enumerate(complete_versions(store, names)):
        if at == LOOK_VERSIONS:
            return
        yield found


def _looks_of(version: Version, source: Source) -> Looks | None:
    """Return what a version's tree looks like; None if it is of quite another size.

    Raises:
        NotFound, IntegrityError: its index is lost or damaged.
    """
    totals = version.config.totals
    if not source.looks.may_resemble(totals.get("files", 0) + totals.get("symlinks", 0)):
        return None
    try:
        return Looks(version.index)
    finally:
        version.forget_index()


class _Far(NamedTuple):
    """A version in a repository: its tag, and its manifest."""

    tag: str
    descriptor: Descriptor
    data: bytes
    manifest: Manifest

    @property
    def created(self) -> str:
        """When it was made, as its manifest says; "" if it does not."""
        return self.manifest.annotations.get(CREATED, "")


def search_repository(
    remote: RegistryStore, location: Reference, store: Store, source: Source
) -> tuple[Reference, BaseChoice] | None:
    """Return the version of a repository to pack on; its config and index are kept in `store`.

    The names of all tags are listed, and `tags_to_look_at` says which manifests are read. Of the
    version before the new one by number, and then of the others, the newest first, at most
    `LOOK_INDEXES` indexes are read. Of the versions that look alike, the one with the most bytes in
    files of equal path and size is chosen; of equal ones the first. If none looks alike, the first
    is chosen if its tag or its repository names the application.

    Args:
        remote: the repository.
        location: names it; with a tag, that is the name of the new version there.
        store: the local store.
        source: the tree to pack.

    Returns:
        The version, pinned by its digest, and how it was found; None if there is none.

    Raises:
        AuthError: the registry refuses access.
        RegistryError: the registry failed.
        TransportError: the registry was not reached.
        OSError: the tree cannot be walked.
    """
    wanted = location.tag or source.tag
    found = _in_order(_manifests(remote, wanted), wanted)
    named: _Far | None = None
    best: tuple[float, _Far, float] | None = None
    looked = 0
    for one in found:
        try:
            looks = _looks_of(_with_index(remote, store, one), source)
        except (NotFound, IntegrityError) as error:
            _LOG.warning("%s:%s is not packed on: %s", remote.name, one.tag, error)
            continue
        named = named or one
        if looks is None:
            continue
        looked += 1
        likeness = source.looks.compare(looks)
        if likeness.paths >= ALIKE and (best is None or likeness.same_bytes > best[0]):
            best = likeness.same_bytes, one, likeness.paths
        is_near = likeness.paths >= ALIKE and likeness.same_bytes >= NEARLY_THE_SAME
        if is_near or looked == LOOK_INDEXES:
            break
    if named is None:
        return None
    _, chosen, share = best or (0.0, named, None)
    digest = chosen.descriptor.digest
    base = replace(location, tag=chosen.tag, digest=digest)
    by = "name" if share is None else "tree"
    name = str(replace(base, digest=None))
    return base, BaseChoice(name, digest, by, share)


def _manifests(remote: RegistryStore, wanted: str) -> list[_Far]:
    """Return the versions that the tags of a repository name, as far as they are looked at."""
    refusal: RegistryError | None = None
    try:
        tags = tags_to_look_at(remote.tag_names(), wanted)
    except RegistryError as error:  # some registries list nothing, and serve what one can name
        refusal, tags = error, [DEFAULT_TAG]
        if is_tag(wanted) and wanted != DEFAULT_TAG:
            tags.insert(0, wanted)

    def read(tag: str) -> _Far | None:
        try:
            descriptor, data = remote.get_manifest(tag)
            manifest = Manifest.decode(data, f"manifest {descriptor.digest}")
        except (NotFound, UnsupportedVersion):
            return None  # deleted meanwhile, or written by another tool
        except IntegrityError as error:
            _LOG.warning("%s:%s is not packed on: %s", remote.name, tag, error)
            return None
        return _Far(tag, descriptor, data, manifest)

    with ThreadPoolExecutor(_THREADS, "bases") as pool:
        found = [one for one in pool.map(read, tags) if one is not None]
    if refusal is not None:
        _LOG.warning(
            "the tags of %s are not listed, so only %s may be packed on: %s",
            *(remote.name, " and ".join(tags), refusal),
        )
    return found


def _in_order(found: list[_Far], wanted: str) -> list[_Far]:
    """Return versions, each once: the one before `wanted` or named so, then the newest first."""
    goal = version_key(wanted)
    leads = bool(found) and (
        found[0].tag == wanted or (goal is not None and version_key(found[0].tag) is not None)
    )
    first = found[: int(leads)]
    rest = sorted(found[int(leads) :], key=lambda one: one.created, reverse=True)
    distinct: dict[str, _Far] = {}
    for one in (*first, *rest):
        distinct.setdefault(one.descriptor.digest, one)
    return list(distinct.values())


def _with_index(remote: RegistryStore, store: Store, far: _Far) -> Version:
    """Return a version whose config and index are fetched; its data stays where it is."""
    fetch_small(remote, store, far.manifest)
    config = read_blob(store, far.manifest.config, MAX_MANIFEST_BYTES)
    what = f"config {far.manifest.config.digest}"
    return Version(store, far.descriptor, far.manifest, far.data, Config.decode(config, what))


def fetch_small(remote: Store, store: Store, manifest: Manifest) -> None:
    """Fetch the config and the index layers of a version, as far as a store lacks them.

    Args:
        remote: has them.
        store: gets them.
        manifest: of the version.

    Raises:
        SizeMismatch: a blob is larger than a reader would take.
    """
    for blob in (manifest.config, *manifest.index_layers):
        limit = MAX_MANIFEST_BYTES if blob == manifest.config else MAX_INDEX_BYTES
        if blob.size > limit:
            raise SizeMismatch(f"blob {blob.digest} (limit)", limit, blob.size)
        if not store.exists(blob):
            with remote.fetch(blob) as reader:
                store.push(blob, cast(BinaryIO, reader))
