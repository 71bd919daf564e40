"""The library's calls that send versions: push and copy.

They turn arguments, and then the environment, into explicit parameters. All functions may be called
from several threads at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

from packer.api.locations import (
    StoreLike,
    open_location,
    open_store,
    refuse_local_name,
    resolve,
    tag_of,
)
from packer.api.push_source import version_to_push
from packer.progress import CancelEvent, ProgressCallback, cancellable
from packer.reference import parse_location
from packer.stores.partial import Partial
from packer.stores.registry.access import Access, RegistryLike
from packer.transfer.copy_graph import CopyResult
from packer.transfer.copy_graph import copy as copy_graph
from packer.transfer.promises import Promise

if TYPE_CHECKING:
    from packer.api.air_gap import Have
    from packer.api.trust import Trust
    from packer.packing.job import Packed


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
            from packer.api.trust import refuse_going_back  # for archives alone

            refuse_going_back(data, target, tag, source)
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
