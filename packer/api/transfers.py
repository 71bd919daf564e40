"""The library's calls that move versions: push, pull and copy.

They turn arguments, and then the environment, into explicit parameters. All functions may be called
from several threads at once.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

from packer.api.fetching import (
    Origin,
    check_room,
    discard_damaged_blobs,
    fetch_version,
    find_origin,
    read_manifest,
)
from packer.api.locations import (
    StoreLike,
    open_location,
    open_store,
    refuse_local_name,
    resolve,
    tag_of,
    without_range,
)
from packer.api.push_source import version_to_push
from packer.errors import IntegrityError, InvalidParameter
from packer.format.version import load_version
from packer.progress import CancelEvent, ProgressCallback, cancellable
from packer.reference import ArchiveLocation, parse_location
from packer.stores.cancelling import until_cancelled
from packer.stores.graph import check_expected
from packer.stores.layout import using
from packer.stores.protocols import Partial, Store
from packer.stores.registry.access import Access, RegistryLike
from packer.transfer.copy_graph import CopyResult
from packer.transfer.copy_graph import copy as copy_graph
from packer.transfer.promises import Promise

if TYPE_CHECKING:
    from packer.api.air_gap import Have
    from packer.api.trust import Trust
    from packer.format.version import Version
    from packer.packing.job import Packed
    from packer.reading.parts import Part
    from packer.reading.restore import Restored
    from packer.trust.checking import Trusted

PULLS_KEPT = 2
"""Versions of an application that `pull` keeps: the one that is deployed, and the one before."""

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pulled:
    """The result of a pull.

    Args:
        reference: the reference as it was given; if that held a range, the version that was
            chosen, pinned by its digest.
        digest: the manifest's digest.
        fetched_blobs: number of blobs fetched because the local store lacked them.
        fetched_bytes: bytes of the fetched blobs.
        restored: the files written.
        referrers: number of manifests fetched that refer to the version at any depth.
        forgotten: tags of older versions that the local store keeps no more.
    """

    reference: str
    digest: str
    fetched_blobs: int
    fetched_bytes: int
    restored: Restored
    referrers: int = 0
    forgotten: tuple[str, ...] = ()

    @property
    def trusted(self) -> Trusted | None:
        """The policy that let the version pass; None if none was asked."""
        return self.restored.trusted


@dataclass(frozen=True, slots=True)
class Pushed(CopyResult):
    """The result of a push.

    Args:
        packed: the result of packing, if a directory was pushed; else None.
    """

    packed: Packed | None = None


def push(
    ref: str,
    version: Packed | str | os.PathLike[str] | None = None,
    *,
    store: StoreLike = None,
    registry: RegistryLike = None,
    jobs: int = 4,
    verify: bool = False,
    force: bool = False,
    referrers: bool = True,
    progress: ProgressCallback | None = None,
    cancel: CancelEvent | None = None,
) -> Pushed:
    """Push a version to a registry, or to an ``oci:`` layout: only the blobs that it lacks.

    Args:
        ref: where to push, such as ``registry.example/acme/app:1.4.2``.
        version: a result of `pack`, a tag, a digest, or a directory, which is packed first, on the
            best base that the repository has. A `pathlib.Path` always means a directory; a string
            that names a version and a directory is refused. If None, the version is found by name:
            the local tag that is `ref` itself, ``acme/app:1.4.2``, ``app:1.4.2``, ``app-1.4.2`` or
            ``1.4.2``, the first that exists.
        store: the local store.
        registry: how to reach the registry.
        jobs: concurrent uploads, at least 1.
        verify: read all of each blob that the destination says it has, and of the manifest, and
            send again each that is lost or damaged. It takes as long as a pull.
        force: send every blob, whatever the registry says it has.
        referrers: push what refers to the version as well: signatures, attestations, SBOMs, and
            what refers to these, as far as the destination lacks them.
        progress: called with the bytes sent.
        cancel: a `threading.Event` or the like; the call raises `Cancelled` once it is set.

    Returns:
        The manifest's descriptor, the numbers of blobs sent, present and mounted, and what was
        packed, with the base that was found.

    Raises:
        NotFound: there is no such version, or the destination lacks a version that it builds on.
        InvalidReference: `ref` is malformed.
        InvalidParameter: `version` is ambiguous, or `jobs` is below 1.
        IntegrityError: a blob of the local store is damaged.
        AuthError: the registry refuses access.
        RegistryError: the registry failed. No tag names anything incomplete; a second push goes on.
        TransportError: the registry was not reached. A second push goes on.
        Cancelled: `cancel` was set.
    """
    refuse_local_name(ref, open_store(store, create=False))
    location = parse_location(ref)
    watched = cancellable(progress, cancel, "packing")
    source, name, packed = version_to_push(
        location, version, store, watched, registry=registry, cancel=cancel
    )
    destination, tag = open_location(location, Access(registry), create=True)
    done = copy_graph(
        source,
        name,
        destination,
        tag or tag_of(name),
        jobs=jobs,
        verify=verify,
        force=force,
        own=True,
        referrers=referrers,
        progress=progress,
        cancel=cancel,
    )
    return Pushed(**{each.name: getattr(done, each.name) for each in fields(done)}, packed=packed)


def pull(
    ref: str,
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
    jobs: int = 4,
    keep: int | None = PULLS_KEPT,
    expect: str | None = None,
    durable: bool = True,
    referrers: bool = True,
    trust: Trust | None = None,
    allow_older: bool = False,
    progress: ProgressCallback | None = None,
    cancel: CancelEvent | None = None,
) -> Pulled:
    """Pull a version into the local store, only the blobs that it lacks, and write its tree.

    The directory, the manifest and the free space are checked before a layer is fetched.

    A blob that turns out to be damaged in the local store is fetched again. With `seed`, only the
    content that the seeds lack is fetched, and the local store stays as it is: it can hold whole
    layers only. So it does if a part is asked for: only the frames that the part needs are fetched.

    Args:
        ref: such as ``registry.example/acme/app:1.4.2``; ``@sha256:...`` behind it pins the digest.
            A range for a tag (``~1.4``, ``>=1.4 <2``) means the newest version in it, as for `pin`.
        directory: where to write the tree, as for `unpack`.
        store: the local store, which keeps the layers for the next version.
        registry: how to reach the registry.
        update: as for `unpack`.
        delete: as for `unpack`.
        seed: as for `unpack`.
        paths: as for `unpack`.
        include: as for `unpack`.
        exclude: as for `unpack`.
        jobs: concurrent downloads, at least 1.
        keep: versions pulled from this repository that the local store keeps, the ones pulled last:
            by default this one and the one before, which a rollback needs. None keeps all. Versions
            that were packed here stay.
        expect: digest that the version must have; None for any.
        durable: as for `pack` and `unpack`, for the local store and for `directory`.
        referrers: pull what refers to the version into the local store as well, as for `push`. A
            registry that refuses to say what that is, or fails, is warned about if `trust` has no
            policy.
        trust: the signatures that the version needs, checked before anything else of it is read,
            and the receipt to write.
        allow_older: of an archive, take a version that was packed before the one that its name
            means in the local store.
        progress: called with the bytes fetched and written.
        cancel: a `threading.Event` or the like; the call raises `Cancelled` once it is set.

    Returns:
        The numbers of blobs fetched and files written.

    Raises:
        NotFound: there is no such repository, tag or blob, or the version lacks one of `paths`.
        IntegrityError: bytes differ from their digest; `directory` is as it was.
        SignatureError: the version is not signed as `trust` asks; nothing was written.
        OlderVersion: it is older than what is there; nothing was written.
        SourceChanged: a file was changed before it was in the receipt, which is not written.
        TargetExists: `directory` has content, and `update` is not given.
        InvalidReference: `ref` is malformed.
        InvalidParameter: an argument contradicts another.
        StoreError: a store failed; a second pull goes on.
        OSError: a file cannot be written; `directory` is as it was.
        Cancelled: `cancel` was set.
    """
    from packer.reading.parts import make_part
    from packer.reading.restore import check_target, restore

    part = make_part(paths, include, exclude)
    if keep is not None and keep < 1:
        raise InvalidParameter(f"keep={keep} is less than 1")
    refuse_local_name(ref, open_store(store, create=False))
    access = Access(registry)
    ref = without_range(ref, access)
    origin = find_origin(ref, access)
    target = os.path.abspath(os.fsencode(directory))
    in_place = check_target(target, update)
    seeds = list(seed)
    if seeds or part:
        return _restore_from_afar(
            origin,
            open_store(store, create=False),
            target,
            seeds,
            part,
            trust=trust,
            complete=not part and (delete or not in_place),
            update=update,
            delete=delete,
            jobs=jobs,
            expect=expect,
            durable=durable,
            progress=progress,
            cancel=cancel,
        )
    local = open_store(store, durable=durable)
    goal = read_manifest(origin, expect=expect, cancel=cancel)
    if isinstance(parse_location(ref), ArchiveLocation) and not allow_older:
        _refuse_older(goal.data, local, goal.tag, ref)
    trusted = None
    if trust is not None:
        trusted = trust.admit(origin.store, goal.descriptor, goal.data, ref)
    if not in_place:
        check_room(origin, goal, local, target)
    watched = cancellable(progress, cancel, "unpacking")

    def fetch_and_restore() -> Pulled:
        version, copied = fetch_version(
            origin,
            goal,
            local,
            jobs=jobs,
            referrers=referrers,
            lists=trust is not None and trust.policy is not None,
            progress=progress,
            cancel=cancel,
        )
        restored = restore(
            version, target, update=update, delete=delete, durable=durable, progress=watched
        )
        if trust is not None:
            restored = replace(restored, trusted=trusted)
            found = replace(version, reference=goal.tag or "")
            complete = delete or not in_place
            _write_receipt(trust, found, target, ref, restored, complete=complete)
        return Pulled(
            ref,
            version.descriptor.digest,
            copied.blobs_copied,
            copied.bytes_copied,
            restored,
            copied.referrers_copied,
        )

    with using(local, (goal.descriptor, *goal.graph.blobs)):
        try:
            pulled = fetch_and_restore()
        except IntegrityError as error:
            if not discard_damaged_blobs(origin, goal, local):
                raise
            _LOG.warning("%s; what is damaged in %s is fetched again", error, local.name)
            pulled = fetch_and_restore()
    return replace(pulled, forgotten=_forget_older(local, goal.tag, keep))


def _refuse_older(manifest: bytes, destination: Store, tag: str | None, name: str) -> None:
    """Raise `OlderVersion` if a tag would go back to a version that was packed before."""
    from packer.api.trust import created_at, refuse_older  # for archives alone

    if tag is not None and (before := created_at(destination, tag)):
        refuse_older(manifest, before, name, f"{tag} in {destination.name}")


def _write_receipt(
    trust: Trust,
    version: Version,
    target: bytes,
    source: str,
    restored: Restored,
    *,
    part: Part | None = None,
    complete: bool,
) -> None:
    """Write the receipt of a pull, if one is asked for."""
    from packer.api.trust import record_tree  # where there is a trust alone

    record_tree(
        trust,
        version,
        target,
        "pull",
        source,
        part=part,
        trusted=restored.trusted,
        complete=complete,
    )


def _forget_older(local: Store, tag: str | None, keep: int | None) -> tuple[str, ...]:
    if keep is None:
        return ()
    from packer.api.keeping import forget_older_pulls  # here for start-up time

    return forget_older_pulls(local, tag, keep)


def _restore_from_afar(
    origin: Origin,
    local: Store,
    target: bytes,
    seeds: Sequence[str | bytes | os.PathLike[str]],
    part: Part,
    *,
    trust: Trust | None,
    complete: bool,
    update: bool,
    delete: bool,
    jobs: int,
    expect: str | None,
    durable: bool,
    progress: ProgressCallback | None,
    cancel: CancelEvent | None,
) -> Pulled:
    """Write a version's tree or a part of it: frames of the origin, but for what seeds have."""
    from packer.reading.restore import restore
    from packer.reading.seeds import seed_paths

    def write(version: Version) -> Restored:
        return restore(
            version,
            target,
            update=update,
            delete=delete,
            seeds=seed_paths(seeds),
            part=part,
            jobs=jobs,
            durable=durable,
            progress=cancellable(progress, cancel, "unpacking"),
        )

    def finish(restored: Restored) -> Restored:
        if trust is None:
            return restored
        restored = replace(restored, trusted=trusted)
        _write_receipt(
            trust, version, target, origin.reference, restored, part=part, complete=complete
        )
        return restored

    with until_cancelled(cancel, (origin.store,), "unpacking"):
        version = load_version(origin.store, origin.name)
        digest = version.descriptor.digest
        check_expected(digest, expect, origin.reference)
        trusted = None
        if trust is not None:
            data = version.manifest_bytes
            trusted = trust.admit(origin.store, version.descriptor, data, origin.reference)
        if not seeds and all(
            map(local.exists, (version.manifest.config, *version.manifest.layers))
        ):
            try:  # the part of a version that was pulled as a whole before
                restored = finish(write(replace(version, store=local)))
                return Pulled(origin.reference, digest, 0, 0, restored)
            except IntegrityError as error:
                _LOG.warning("%s; what is needed is fetched again", error)
        restored = finish(write(version))
    small = (version.manifest.config, *version.manifest.index_layers)
    return Pulled(
        origin.reference,
        digest,
        restored.read_layers + len(small),
        restored.read_bytes + sum(blob.size for blob in small),
        restored,
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
    referrers: bool = True,
    trust: Trust | None = None,
    allow_older: bool = False,
    progress: ProgressCallback | None = None,
    cancel: CancelEvent | None = None,
) -> CopyResult:
    """Copy a version between any two places: registries, layouts, archives, the local store.

    Args:
        source: a reference, or a tag or digest of the local store.
        destination: a reference.
        store: the local store.
        registry: how to reach registries, on both sides.
        have: versions that the far side of an air gap has, whose blobs an ``oci-archive:`` may
            leave out: a tag or digest in the source's repository, any reference, an inventory, or a
            file that holds an inventory, a list of digests, or the receipt of an earlier copy. The
            result is still an OCI archive; copying from it needs a destination that has the blobs
            left out.
        split_bytes: write an ``oci-archive:`` in parts of this many bytes. A second call with the
            same arguments keeps the parts that are complete.
        jobs: concurrent transfers, at least 1.
        verify: as for `push`.
        force: as for `push`.
        expect: digest that the version must have; None for any.
        referrers: as for `push`; also into archives, and with `have`.
        trust: the signatures that the version needs, checked before anything is written, and the
            receipt to write.
        allow_older: of an archive, let a tag go back to a version that was packed before.
        progress: called with the bytes moved.
        cancel: a `threading.Event` or the like; the call raises `Cancelled` once it is set.

    Returns:
        The manifest's descriptor, and the numbers of blobs sent, present, mounted and left out.

    Raises:
        NotFound: there is no such version; or (kind "base") the destination lacks a version whose
            blobs an archive leaves out, and nothing was written.
        InvalidReference: a reference is malformed.
        InvalidParameter: an argument contradicts another.
        IntegrityError: bytes differ from their digest.
        SignatureError: the version is not signed as `trust` asks; nothing was written.
        OlderVersion: it is older than what is there; nothing was written.
        StoreError: a store failed; a second copy goes on.
        Cancelled: `cancel` was set.
    """
    options = Access(registry)
    local = open_store(store, create=False)
    origin, name = resolve(source, local, options)
    refuse_local_name(destination, local)
    location = parse_location(destination)
    from packer.api import air_gap

    left_out = air_gap.as_list(have)
    target, tag = air_gap.open_target(
        location, options, partial=bool(left_out), part_bytes=split_bytes
    )
    tag = tag or tag_of(name)
    is_import = isinstance(origin, Partial) and not isinstance(target, Partial)
    trusted, data = None, b""
    if trust is not None or (is_import and not allow_older):
        descriptor, data = origin.get_manifest(name)
        name = descriptor.digest
        if is_import and not allow_older:
            _refuse_older(data, target, tag, source)
        if trust is not None:
            trusted = trust.admit(origin, descriptor, data, source)
    promises: list[Promise] = []
    if left_out:
        name = origin.resolve(name).digest  # the tag may move while promises are looked up
        promises = air_gap.find_promises(left_out, origin, name, local, options)
    done = copy_graph(
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
        referrers=referrers,
        progress=progress,
        cancel=cancel,
    )
    if trust is None:
        return done
    from packer.api.trust import Draft

    shown = tag or ""
    draft = Draft("copy", source, destination, origin, done.descriptor, data, shown, trusted)
    trust.record(draft, None)
    return replace(done, trusted=trusted)
