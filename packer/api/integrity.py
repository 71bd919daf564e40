"""Checks the versions of a store, and repairs the local store from where its versions came."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

from packer.api.fetching import find_origin
from packer.api.locations import (
    StoreLike,
    local_name,
    names_registry,
    open_store,
    opened_version,
    resolve,
)
from packer.errors import (
    Cancelled,
    IntegrityError,
    InvalidParameter,
    NotFound,
    PackerError,
    StoreError,
    UnsupportedVersion,
)
from packer.format.version import load_version
from packer.oci import READ_BYTES, Descriptor
from packer.progress import CancelEvent, Progress, ProgressCallback, cancellable
from packer.reading.verification import Verified, verify, with_referrers
from packer.stores.cancelling import until_cancelled
from packer.stores.index_json import ORIGIN, is_promised
from packer.stores.layout import LayoutStore
from packer.stores.manifests import read_graph
from packer.stores.partial import Promised
from packer.stores.protocols import Store, Tags
from packer.stores.referrers import all_referrers
from packer.stores.registry.access import Access, RegistryLike
from packer.stores.subjects import attached_to
from packer.transfer.copy_graph import copy_attached
from packer.transfer.overlay import AtHand
from packer.transfer.promises import absent_blobs, decode_promises

SOUND = "sound"
"""Condition of a version, all of whose blobs, chunks and files were checked."""
DAMAGED = "damaged"
"""Condition of a version that has a damaged blob, or lacks one."""
FOREIGN = "foreign"
"""Condition of an artifact that another tool wrote, which is not checked."""
UNKNOWN = "unknown"
"""Condition of a version that lies partly in a registry, which failed."""

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Checked:
    """The result of checking one version of the local store.

    Args:
        tag: its name.
        digest: the manifest's digest.
        condition: "sound", "damaged", "foreign" (of another tool, not checked) or "unknown" (a
            registry that holds a part of it failed).
        why: what is wrong; "" for sound ones.
    """

    tag: str
    digest: str
    condition: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class Repaired:
    """The result of repairing one version of the local store.

    Args:
        tag: its name.
        digest: the manifest's digest.
        damaged_blobs: number of its blobs that were damaged or missing, the manifest included. A
            blob that versions share is counted for the first of them.
        repaired_blobs: number of blobs that were fetched again.
        repaired_bytes: bytes of the blobs that were fetched again.
        sources: the references that they were fetched from.
        why: why blobs are still damaged or missing; "" if none is.
    """

    tag: str
    digest: str
    damaged_blobs: int
    repaired_blobs: int
    repaired_bytes: int
    sources: tuple[str, ...] = ()
    why: str = ""


def verify_all(
    *,
    store: StoreLike = None,
    registry: RegistryLike = None,
    progress: ProgressCallback | None = None,
    cancel: CancelEvent | None = None,
) -> list[Checked]:
    """Check every version of the local store as `verify` does; a shared blob is hashed once.

    Args:
        store: the local store.
        registry: how to reach registries that hold blobs of versions packed on a base there.
        progress: called with the bytes read of the version at hand.
        cancel: a `threading.Event` or the like; the call raises `Cancelled` once it is set.

    Returns:
        A finding for each tag, in the order of `versions`.

    Raises:
        InvalidParameter: the store cannot list its tags.
        Cancelled: `cancel` was set.
    """
    local = open_store(store, create=False)
    if not isinstance(local, Tags):
        raise InvalidParameter(f"{local.name} cannot list its tags")
    access = Access(registry)
    sound: set[str] = set()
    known: dict[str, Checked] = {}
    out = []
    for tag, entry in list(local.tags()):
        if attached_to(tag) is not None:
            continue  # checked with the version that it is attached to
        found = known.get(entry.digest)
        if found is None:
            found = _check(tag, entry.digest, local, access, sound, progress, cancel)
            known[entry.digest] = found
        out.append(replace(found, tag=tag))
    return out


def _check(
    tag: str,
    digest: str,
    local: Store,
    access: Access,
    sound: set[str],
    progress: ProgressCallback | None,
    cancel: CancelEvent | None,
) -> Checked:
    if cancel is not None and cancel.is_set():
        raise Cancelled("verifying")
    try:
        with opened_version(digest, local, access, cancel, "verifying") as version:
            watched = cancellable(progress, cancel, "verifying")
            done = verify(version, watched, sound=sound)
            with_referrers(done, version.store, watched)
    except UnsupportedVersion as error:
        return Checked(tag, digest, FOREIGN, str(error))
    except (NotFound, IntegrityError) as error:
        return Checked(tag, digest, DAMAGED, str(error))
    except StoreError as error:
        return Checked(tag, digest, UNKNOWN, str(error))
    return Checked(tag, digest, SOUND)


def verify_with_bases(
    name: str,
    store: StoreLike,
    registry: RegistryLike,
    base_from: str | None,
    progress: ProgressCallback | None,
    cancel: CancelEvent | None,
) -> Verified:
    """Verify a version, reading what an archive leaves out from the versions that it names.

    Args:
        name: as for `packer.verify`, as are the other arguments.
        store: the local store, which is asked for the blobs left out.
        registry: how to reach registries.
        base_from: a reference to a further place that is asked; None for none.
        progress: called with the bytes read.
        cancel: ends the call once it is set.

    Returns:
        The counts, and the versions that the archive builds on.

    Raises:
        NotFound: as `packer.verify`.
        IntegrityError: as `packer.verify`.
        StoreError: a store failed.
        Cancelled: `cancel` was set.
    """
    access, local = Access(registry), open_store(store, create=False)
    holder, known = resolve(name, local, access)
    bases = [local]
    if base_from is not None:
        bases.append(find_origin(base_from, access).store)
    with until_cancelled(cancel, (holder, *bases), "verifying"):
        descriptor, data = holder.get_manifest(known)
        left_out = absent_blobs(holder, read_graph(data, f"manifest {descriptor.digest}").blobs)
        text = holder.promises(descriptor.digest) if isinstance(holder, Promised) else None
        promises = decode_promises(text)
        place = AtHand(holder, promises, bases)
        version = load_version(place, descriptor.digest)
        watched = cancellable(progress, cancel, "verifying")
        done = with_referrers(verify(version, watched), place, watched)
    digests = {blob.digest for blob in left_out}
    return replace(
        done,
        left_out_blobs=len(left_out),
        left_out_bytes=sum(blob.size for blob in left_out),
        bases=tuple(str(one) for one in promises if one.blobs & digests),
    )


def repair(
    names: Iterable[str] = (),
    *,
    source: str | None = None,
    store: StoreLike = None,
    registry: RegistryLike = None,
    progress: ProgressCallback | None = None,
    cancel: CancelEvent | None = None,
) -> list[Repaired]:
    """Fetch again what is damaged or missing in the local store, from where the versions came.

    Every blob is read. A damaged one stays until its replacement is complete and verified, as parts
    of it can still be read. A version is looked for where it was pulled from, and where its tag
    says if that is a reference; a version that was packed here needs `source`.

    Args:
        names: tags, digests or first digits of digests; none for all versions.
        source: a reference to a place that has the blobs, instead of the recorded ones.
        store: the local store, a directory.
        registry: how to reach registries.
        progress: called with the bytes read.
        cancel: a `threading.Event` or the like; the call raises `Cancelled` once it is set.

    Returns:
        A result for each version; those with a reason in `why` are not sound yet.

    Raises:
        NotFound: there is no such version, or no such place as `source`.
        InvalidReference: `source` is malformed.
        InvalidParameter: the store is no directory.
        Cancelled: `cancel` was set.
    """
    local = open_store(store, create=False)
    if not isinstance(local, LayoutStore):
        raise InvalidParameter(f"{local.name} is no directory")
    access = Access(registry)
    if source is not None:
        find_origin(source, access)  # a reference that makes no sense is reported before the work
    entries: dict[str, list[tuple[str, Descriptor]]] = {}
    for tag, entry in local.tags():
        entries.setdefault(entry.digest, []).append((tag, entry))
    wanted = list(dict.fromkeys(_digest_of(name, local) for name in names))
    # What is attached by a tag is repaired with what it is attached to.
    wanted = wanted or [
        digest
        for digest, tags in entries.items()
        if any(attached_to(tag) is None for tag, _ in tags)
    ]
    work = _Repair(local, access, cancellable(progress, cancel, "repairing"))
    with until_cancelled(cancel, (), "repairing"):
        return [work.version(digest, entries.get(digest, []), source, cancel) for digest in wanted]


def _digest_of(name: str, local: LayoutStore) -> str:
    """Return the digest of a version, whose manifest may be damaged."""
    tags = dict(local.tags())
    whole = local_name(name, local)
    if whole in tags:
        return tags[whole].digest
    if any(entry.digest == whole for entry in tags.values()):
        return whole
    raise NotFound("version", name, f"in {local.name}")


class _Repair:
    """One repair: blobs that were checked are not read again.

    Args:
        local: the local store.
        access: how to reach registries.
        progress: called with the bytes read.
    """

    def __init__(
        self, local: LayoutStore, access: Access, progress: ProgressCallback | None
    ) -> None:
        self._local = local
        self._access = access
        self._progress = progress
        self._done = 0
        self._checked: set[str] = set()

    def version(
        self,
        digest: str,
        entries: list[tuple[str, Descriptor]],
        source: str | None,
        cancel: CancelEvent | None,
    ) -> Repaired:
        """Check and repair one version.

        Args:
            digest: of its manifest.
            entries: its tags, at least one, and their entries in index.json.
            source: a reference; None for the places that the entries name.
            cancel: ends requests once it is set.

        Returns:
            The result.
        """
        tag, manifest = entries[0]
        places = [source] if source is not None else list(self._places(digest, entries))
        result = Repaired(tag, digest, 0, 0, 0)
        try:
            _, data = self._local.get_manifest(digest)
        except (NotFound, IntegrityError) as error:
            result = replace(result, damaged_blobs=1)
            found = self._fetch_manifest(digest, places, cancel)
            if found is None:
                return replace(result, why=f"{error}{_advice(places)}")
            data, place = found
            result = replace(result, repaired_blobs=1, repaired_bytes=len(data), sources=(place,))
        try:
            blobs = read_graph(data, f"manifest {digest}").blobs
        except UnsupportedVersion:
            return result  # an image index of another tool
        promises = self._local.promises(digest)
        bad = []
        for blob in blobs:
            if blob.digest not in self._checked and (why := self._damage(blob)):
                if is_promised(promises, blob) and not self._local.exists(blob):
                    continue  # it was never here: a registry has it
                bad.append((blob, why))
        result = replace(result, damaged_blobs=result.damaged_blobs + len(bad))
        with self._local.in_use(blobs):
            for blob, why in bad:
                fetched = self._fetch(blob, places, cancel)
                if fetched is None:
                    return replace(result, why=f"{why}{_advice(places)}")
                result = replace(
                    result,
                    repaired_blobs=result.repaired_blobs + 1,
                    repaired_bytes=result.repaired_bytes + blob.size,
                    sources=tuple(dict.fromkeys((*result.sources, fetched[1]))),
                )
            if result.damaged_blobs:
                self._local.put_manifest(data, manifest.media_type)
            return self._with_referrers(result, places, cancel)

    def _with_referrers(
        self, result: Repaired, places: list[str], cancel: CancelEvent | None
    ) -> Repaired:
        """Repair what refers to a version: what is damaged is copied from another place again."""
        why = self._referrer_damage(result.digest)
        if not why:
            return result
        result = replace(result, damaged_blobs=result.damaged_blobs + 1)

        def bring(far: Store) -> tuple[int, int]:
            return copy_attached(far, result.digest, self._local)

        found = self._first(places, cancel, bring)
        left = self._referrer_damage(result.digest)
        if found is None or left:
            return replace(result, why=f"{left or why}{_advice(places)}")
        (blobs, size), place = found
        return replace(
            result,
            repaired_blobs=result.repaired_blobs + max(blobs, 1),
            repaired_bytes=result.repaired_bytes + size,
            sources=tuple(dict.fromkeys((*result.sources, place))),
        )

    def _referrer_damage(self, digest: str) -> str:
        """Return what is wrong with a manifest or blob of what refers to a version."""
        try:
            found = all_referrers(self._local, digest)
        except (NotFound, IntegrityError) as error:
            return str(error)
        blobs = [blob for one in found for blob in one.blobs if blob.digest not in self._checked]
        return next((why for blob in blobs if (why := self._damage(blob))), "")

    def _places(self, digest: str, entries: list[tuple[str, Descriptor]]) -> Iterator[str]:
        """Yield the references that may have a version, the recorded ones first."""
        origins = [entry.annotations.get(ORIGIN, "") for _, entry in entries]
        named = [tag for tag, _ in entries if names_registry(tag)]
        yield from dict.fromkeys(place for place in (*origins, *named) if place)

    def _damage(self, blob: Descriptor) -> str:
        """Return what is wrong with a blob, "" if it is sound."""
        try:
            with self._local.fetch(blob) as reader:
                while data := reader.read(READ_BYTES):
                    self._advance(len(data), blob.digest)
        except (NotFound, IntegrityError) as error:
            return str(error)
        self._checked.add(blob.digest)
        return ""

    def _advance(self, count: int, item: str) -> None:
        self._done += count
        if self._progress is not None:
            self._progress(Progress("repair", self._done, 0, item))

    def _fetch_manifest(
        self, digest: str, places: list[str], cancel: CancelEvent | None
    ) -> tuple[bytes, str] | None:
        """Return a manifest and the place that has it; None if none has."""

        def read(far: Store) -> bytes:
            return far.get_manifest(digest)[1]

        return self._first(places, cancel, read)

    def _fetch(
        self, blob: Descriptor, places: list[str], cancel: CancelEvent | None
    ) -> tuple[None, str] | None:
        """Fetch a blob, in place of a damaged one; return where from, None if no place has it."""

        def store(far: Store) -> None:
            with far.fetch(blob) as reader, self._local.create() as writer:
                while data := reader.read(READ_BYTES):
                    writer.write(data)
                    self._advance(len(data), blob.digest)
                writer.commit(blob.media_type)
            self._checked.add(blob.digest)

        return self._first(places, cancel, store)

    def _first(
        self, places: list[str], cancel: CancelEvent | None, work: Callable[[Store], _T]
    ) -> tuple[_T, str] | None:
        """Return the result of the first place where the work succeeds, and the place."""
        for place in places:
            try:
                far = find_origin(place, self._access).store
                with until_cancelled(cancel, (far,), "repairing"):
                    return work(far), place
            except Cancelled:
                raise
            except PackerError as error:
                _LOG.warning("%s: %s", place, error)
        return None


def _advice(places: list[str]) -> str:
    """Return what to do about damage that could not be repaired."""
    if places:
        return f"; not to be had from {', '.join(places)}"
    return "; nothing says where it came from: name a place that has it (--from REF)"
