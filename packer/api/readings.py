"""The library's calls that read versions: unpack, ls, cat, diff, inspect, verify, inventory.

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
from packer.stores.registry.access import Access, RegistryLike

if TYPE_CHECKING:
    from packer.api.air_gap import Inventory
    from packer.api.trust import Trust
    from packer.format.cost import Cost
    from packer.format.version import Version
    from packer.reading.contents import Details, Entry
    from packer.reading.differences import Change
    from packer.reading.file_patches import Patch
    from packer.reading.restore import Restored
    from packer.reading.verification import Verified


def unpack(
    name: str,
    directory: str | bytes | os.PathLike[str],
    *,
    store: StoreLike = None,
    registry: RegistryLike = None,
    update: bool = False,
    delete: bool = False,
    seed: Iterable[str | bytes | os.PathLike[str]] = (),
    paths: Iterable[str | bytes | os.PathLike[str]] = (),
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    expect: str | None = None,
    durable: bool = True,
    trust: Trust | None = None,
    progress: ProgressCallback | None = None,
    cancel: CancelEvent | None = None,
) -> Restored:
    """Write a version's tree to `directory`, without copying it to the local store first.

    Args:
        name: tag or digest of the version in the local store, or a reference elsewhere.
        directory: must not exist or must be empty, unless `update` is given. The tree is written
            beside it, verified, synced and renamed, so it never holds half a version.
        store: the local store.
        registry: how to reach the registry of `name`.
        update: allow a directory with content; files that are equal already stay untouched.
        delete: with `update`, remove files that the version does not hold.
        seed: directories that may hold older copies. Equal files and chunks are taken from there
            and verified, and not read from the store; on the same disk their blocks are shared
            where the file system can.
        paths: write these files and directories alone, and the directories above them. Only the
            frames that they need are read; each chunk is verified.
        include: write what these patterns match (syntax of gitignore), of a directory all below it.
        exclude: do not write what these patterns match.
        expect: digest that the version must have; None for any.
        durable: sync the tree before it gets its name. False saves the time of the disk. A system
            that crashes within the next half minute or so may then leave files in `directory` that
            are empty, cut off or missing; with `update`, files that were there before among them.
        trust: the signatures that the version needs, checked before anything else of it is read,
            and the receipt to write.
        progress: called with the bytes written.
        cancel: a `threading.Event` or the like; the call raises `Cancelled` once it is set.

    Returns:
        The numbers of files and bytes written.

    Raises:
        NotFound: there is no such version, a blob of it is missing, or it lacks one of `paths`;
            `directory` is as it was.
        TargetExists: `directory` has content, and `update` is not given.
        InvalidParameter: an argument contradicts another, or a pattern is malformed.
        DigestMismatch: the version has another digest than `expect`.
        SignatureError: the version is not signed as `trust` asks; `directory` is as it was.
        OlderVersion: it is older than the receipt of `trust`; `directory` is as it was.
        IntegrityError: bytes differ from their digest; `directory` is as it was.
        StoreError: a store failed; `directory` is as it was.
        OSError: a file cannot be written; `directory` is as it was.
        Cancelled: `cancel` was set.
    """
    from packer.api.tree_writer import TreeWriter
    from packer.reading.parts import make_part
    from packer.reading.seeds import seed_paths

    part = make_part(paths, include, exclude)
    with opened_version(name, store, registry, cancel, "unpacking") as version:
        check_expected(version.descriptor.digest, expect, name)
        writer = TreeWriter(
            "unpack",
            name,
            os.fsencode(directory),
            trust,
            update,
            delete,
            seeds=seed_paths(seed),
            part=part,
            durable=durable,
            progress=cancellable(progress, cancel, "unpacking"),
        )
        trusted = writer.admit(version.store, version.descriptor, version.manifest_bytes)
        return writer.write(version, trusted)


def unpack_tar(
    name: str,
    *,
    store: StoreLike = None,
    registry: RegistryLike = None,
    paths: Iterable[str | bytes | os.PathLike[str]] = (),
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    expect: str | None = None,
    trust: Trust | None = None,
) -> Iterator[bytes | memoryview]:
    """Return a version's tree as a tar archive, the same bytes for the same tree.

    Nothing is written to a disk, and memory does not grow with the tree.

    Args:
        name: tag or digest of the version in the local store, or a reference elsewhere.
        store: the local store.
        registry: how to reach the registry of `name`.
        paths: as for `unpack`.
        include: as for `unpack`.
        exclude: as for `unpack`.
        expect: digest that the version must have; None for any.
        trust: the signatures that the version needs. No receipt is written: nothing is installed.

    Returns:
        The archive in pieces, each valid until the next is asked for. An error while they are
        taken leaves an archive without an end mark.

    Raises:
        NotFound: there is no such version, a blob of it is missing, or it lacks one of `paths`.
        InvalidParameter: a path or pattern is malformed.
        DigestMismatch: the version has another digest than `expect`.
        SignatureError: the version is not signed as `trust` asks.
        OlderVersion: it is older than the receipt of `trust`.
        IntegrityError: bytes differ from their digest.
        StoreError: a store failed.
    """
    from packer.reading.parts import index_of, make_part
    from packer.reading.tar_output import tar_of

    part = make_part(paths, include, exclude)
    version = open_version(name, store=store, registry=registry)
    check_expected(version.descriptor.digest, expect, name)
    if trust is not None:
        trust.admit(version.store, version.descriptor, version.manifest_bytes, name)
    return tar_of(version, index_of(version, part))


def inventory(
    name: str | None = None, *, store: StoreLike = None, registry: RegistryLike = None
) -> Inventory:
    """List the versions that a store holds, and their blobs, for `copy` across an air gap.

    Args:
        name: a version of the local store, a reference (a repository without a tag means all its
            tags), or the directory of a layout; None for the whole local store.
        store: the local store.
        registry: how to reach a registry.

    Returns:
        The versions, by digest.

    Raises:
        NotFound: there is no such store or version.
        InvalidParameter: the store cannot list its tags.
        StoreError: a store failed.
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
        name: tag or digest of the version in the local store, or a reference elsewhere.
        store: the local store.
        registry: how to reach a registry.
        inside: also list the members of archives (tar, gzip, zip), which are read for this.

    Returns:
        Files, directories and links in byte order of their paths.

    Raises:
        NotFound: there is no such version.
        StoreError: a store failed.
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
    cost: Cost | None = None,
) -> Iterator[bytes | memoryview]:
    """Return the content of one file of a version, reading only the frames that hold it.

    Of a directory, return a tar archive as `unpack_tar` does.

    Args:
        name: tag or digest of the version in the local store, or a reference elsewhere.
        path: the file's path in the version.
        store: the local store.
        registry: how to reach a registry.
        inside: `path` may lead into an archive: ``charts/app.tgz!/app/values.yaml``.
        cost: counts what is read for it, complete behind the last piece.

    Returns:
        The content in pieces.

    Raises:
        NotFound: there is no such version or path.
        InvalidParameter: the path names a link.
        IntegrityError: bytes differ from their digest.
        StoreError: a store failed.
    """
    version = open_version(name, store=store, registry=registry)
    return content_of(version, path, inside=inside, cost=cost)


def is_directory(version: Version, path: str | bytes) -> bool:
    """Return whether a path of a version is a directory, of which `cat` makes a tar archive."""
    from packer.reading.parts import names_directory

    return names_directory(version, os.fsencode(path).strip(b"/"))


def content_of(
    version: Version, path: str | bytes, *, inside: bool = False, cost: Cost | None = None
) -> Iterator[bytes | memoryview]:
    """Return the content of a file or directory of an open version, as `cat` does.

    Args:
        version: holds it.
        path: as for `cat`.
        inside: as for `cat`.
        cost: as for `cat`.

    Returns:
        The content in pieces.
    """
    from packer.reading import contents
    from packer.reading.parts import Part, index_of
    from packer.reading.tar_output import tar_of

    raw = os.fsencode(path).strip(b"/")
    if is_directory(version, path):
        return tar_of(version, index_of(version, Part((raw,))), cost)
    return contents.content(version, raw, inside=inside, cost=cost)


def diff(
    old: str,
    new: str,
    *,
    store: StoreLike = None,
    registry: RegistryLike = None,
    inside: bool = False,
) -> list[Change]:
    """Compare two versions, from their indexes alone.

    Args:
        old: tag, digest or reference of the one version.
        new: tag, digest or reference of the other version.
        store: the local store.
        registry: how to reach a registry.
        inside: also compare the members of archives that changed, which are read for this.

    Returns:
        The entries that were added, removed or changed, in byte order of their paths.

    Raises:
        NotFound: there is no such version.
        StoreError: a store failed.
    """
    from packer.reading.differences import changes

    access = Access(registry)
    before = open_version(old, store=store, registry=access)
    after = open_version(new, store=store, registry=access)
    return list(changes(before, after, inside=inside))


def patches(
    old: str,
    new: str,
    *,
    paths: Iterable[str | bytes | os.PathLike[str]] = (),
    context: int = 3,
    max_bytes: int | None = None,
    store: StoreLike = None,
    registry: RegistryLike = None,
) -> Iterator[Patch]:
    """Return what changed between two versions to read: hunks of text, also in archives.

    The indexes say which files differ; of these, only the frames that hold the text are read.

    Args:
        old: tag, digest or reference of the one version.
        new: tag, digest or reference of the other version.
        paths: show only these files, and what lies below these directories; they may lead into an
            archive: ``charts/app.tgz!/app/values.yaml``.
        context: number of equal lines around those that differ, 0 to 1000.
        max_bytes: greatest text that is compared, at most 64 MiB; larger ones are named alone.
            None for 1 MiB.
        store: the local store.
        registry: how to reach the registry.

    Returns:
        The differences in byte order of their paths, each read when it is asked for.

    Raises:
        NotFound: there is no such version, or neither has one of `paths`.
        InvalidParameter: an argument is out of range.
        IntegrityError: what was read is damaged.
        StoreError: a store failed.
    """
    from packer.reading.file_patches import MAX_FILE_BYTES, MOST_FILE_BYTES
    from packer.reading.file_patches import patches as patches_of
    from packer.reading.parts import clean_path

    max_bytes = MAX_FILE_BYTES if max_bytes is None else max_bytes
    if not 0 <= max_bytes <= MOST_FILE_BYTES:
        raise InvalidParameter(f"texts of {max_bytes} bytes: 0 to {MOST_FILE_BYTES} can be shown")
    if not 0 <= context <= 1000:
        raise InvalidParameter(f"{context} lines of context: 0 to 1000 can be shown")
    if isinstance(paths, (str, bytes, os.PathLike)):
        paths = (paths,)
    wanted = [clean_path(path) for path in paths]
    access = Access(registry)
    before = open_version(old, store=store, registry=access)
    after = open_version(new, store=store, registry=access)
    return patches_of(before, after, wanted, context=context, max_bytes=max_bytes)


def inspect(name: str, *, store: StoreLike = None, registry: RegistryLike = None) -> Details:
    """Return a version's totals and layers, and how much of each layer it uses.

    Args:
        name: tag or digest of the version in the local store, or a reference elsewhere.
        store: the local store.
        registry: how to reach a registry.

    Returns:
        Totals, layers and archives.

    Raises:
        NotFound: there is no such version.
        StoreError: a store failed.
    """
    from packer.reading import contents

    return contents.details(open_version(name, store=store, registry=registry))


def verify(
    name: str,
    *,
    store: StoreLike = None,
    registry: RegistryLike = None,
    base_at_hand: bool = False,
    base_from: str | None = None,
    progress: ProgressCallback | None = None,
    cancel: CancelEvent | None = None,
) -> Verified:
    """Read all blobs of a version and check every digest and chunk.

    What refers to the version is read as well, and its digests are checked. No signature is.

    Args:
        name: tag or digest of the version in the local store, or a reference elsewhere.
        store: the local store.
        registry: how to reach a registry.
        base_at_hand: read what an archive leaves out from the versions that it names, in `store`.
            So the archive is proved to complete wherever these versions are.
        base_from: a reference to a further place that may have these versions; it implies
            `base_at_hand`.
        progress: called with the bytes read.
        cancel: a `threading.Event` or the like; the call raises `Cancelled` once it is set.

    Returns:
        The numbers of blobs, chunks and bytes checked.

    Raises:
        NotFound: there is no such version, or a blob of it is missing (with `base_at_hand`, kind
            "base": of a version that the archive builds on).
        IntegrityError: a blob, frame or chunk is damaged; the error names the first.
        StoreError: a store failed.
        Cancelled: `cancel` was set.
    """
    from packer.reading import verification

    if base_at_hand or base_from is not None:
        from packer.api.integrity import verify_with_bases

        return verify_with_bases(name, store, registry, base_from, progress, cancel)
    with opened_version(name, store, registry, cancel, "verifying") as version:
        watched = cancellable(progress, cancel, "verifying")
        done = verification.verify(version, watched)
        return verification.with_referrers(done, version.store, watched)
