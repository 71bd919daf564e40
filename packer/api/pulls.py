"""The call `pull`: a version from elsewhere into the local store, and its tree to a directory."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from packer.api.fetching import (
    Origin,
    check_room,
    discard_damaged_blobs,
    fetch_version,
    find_origin,
    read_manifest,
)
from packer.api.locations import StoreLike, open_store, refuse_local_name, without_range
from packer.api.tree_writer import TreeWriter
from packer.errors import IntegrityError, InvalidParameter
from packer.format.version import load_version
from packer.progress import CancelEvent, ProgressCallback, cancellable
from packer.reading.parts import make_part
from packer.reading.restore import Restored
from packer.reading.seeds import seed_paths
from packer.reference import ArchiveLocation, parse_location
from packer.stores.cancelling import until_cancelled
from packer.stores.graph import check_expected
from packer.stores.layout import using
from packer.stores.protocols import Store
from packer.stores.registry.access import Access, RegistryLike

if TYPE_CHECKING:
    from packer.api.trust import Trust
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
    part = make_part(paths, include, exclude)
    if keep is not None and keep < 1:
        raise InvalidParameter(f"keep={keep} is less than 1")
    refuse_local_name(ref, open_store(store, create=False))
    access = Access(registry)
    ref = without_range(ref, access)
    origin = find_origin(ref, access)
    writer = TreeWriter(
        "pull",
        ref,
        os.path.abspath(os.fsencode(directory)),
        trust,
        update,
        delete,
        seeds=seed_paths(seed),
        part=part,
        durable=durable,
        progress=cancellable(progress, cancel, "unpacking"),
    )
    in_place = writer.check_target()
    if writer.seeds or part:
        local = open_store(store, create=False)
        writer = replace(writer, jobs=jobs)
        return _pull_without_layers(origin, local, writer, expect=expect, cancel=cancel)
    return _pull_layers(
        origin,
        open_store(store, durable=durable),
        writer,
        in_place=in_place,
        jobs=jobs,
        keep=keep,
        expect=expect,
        referrers=referrers,
        allow_older=allow_older,
        progress=progress,
        cancel=cancel,
    )


def _pull_layers(
    origin: Origin,
    local: Store,
    writer: TreeWriter,
    *,
    in_place: bool,
    jobs: int,
    keep: int | None,
    expect: str | None,
    referrers: bool,
    allow_older: bool,
    progress: ProgressCallback | None,
    cancel: CancelEvent | None,
) -> Pulled:
    """Fetch the layers that the local store lacks, and write the version's tree from there."""
    ref, trust = writer.source, writer.trust
    goal = read_manifest(origin, expect=expect, cancel=cancel)
    if isinstance(parse_location(ref), ArchiveLocation) and not allow_older:
        from packer.api.trust import refuse_going_back  # for archives alone

        refuse_going_back(goal.data, local, goal.tag, ref)
    trusted = writer.admit(origin.store, goal.descriptor, goal.data)
    if not in_place:
        check_room(origin, goal, local, writer.target)

    def fetch_and_write() -> Pulled:
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
        return Pulled(
            ref,
            version.descriptor.digest,
            copied.blobs_copied,
            copied.bytes_copied,
            writer.write(version, trusted, tag=goal.tag or ""),
            copied.referrers_copied,
        )

    with using(local, (goal.descriptor, *goal.graph.blobs)):
        try:
            pulled = fetch_and_write()
        except IntegrityError as error:
            if not discard_damaged_blobs(origin, goal, local):
                raise
            _LOG.warning("%s; what is damaged in %s is fetched again", error, local.name)
            pulled = fetch_and_write()
    return replace(pulled, forgotten=_forget_older(local, goal.tag, keep))


def _forget_older(local: Store, tag: str | None, keep: int | None) -> tuple[str, ...]:
    if keep is None:
        return ()
    from packer.api.forgetting import forget_older_pulls  # here for start-up time

    return forget_older_pulls(local, tag, keep)


def _pull_without_layers(
    origin: Origin,
    local: Store,
    writer: TreeWriter,
    *,
    expect: str | None,
    cancel: CancelEvent | None,
) -> Pulled:
    """Write a version's tree or a part of it: frames of the origin, but for what seeds have."""
    with until_cancelled(cancel, (origin.store,), "unpacking"):
        version = load_version(origin.store, origin.name)
        digest = version.descriptor.digest
        check_expected(digest, expect, origin.reference)
        trusted = writer.admit(origin.store, version.descriptor, version.manifest_bytes)
        blobs = (version.manifest.config, *version.manifest.layers)
        if not writer.seeds and all(map(local.exists, blobs)):
            try:  # the part of a version that was pulled as a whole before
                restored = writer.write(replace(version, store=local), trusted)
                return Pulled(origin.reference, digest, 0, 0, restored)
            except IntegrityError as error:
                _LOG.warning("%s; what is needed is fetched again", error)
        restored = writer.write(version, trusted)
    small = (version.manifest.config, *version.manifest.index_layers)
    return Pulled(
        origin.reference,
        digest,
        restored.read_layers + len(small),
        restored.read_bytes + sum(blob.size for blob in small),
        restored,
    )
