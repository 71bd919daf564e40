"""Lists the versions of a repository, the newest first, a page at a time."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from packer.api.locations import StoreLike, open_location, open_store, refuse_local_name
from packer.errors import FormatError, InvalidParameter, NotFound, UnsupportedVersion
from packer.format.version import CREATED
from packer.oci import Manifest, load_json
from packer.packing.older.bases import MOVING, version_key
from packer.progress import CancelEvent
from packer.reference import parse_location
from packer.stores.cancelling import until_cancelled
from packer.stores.protocols import Store, TagNames, Tags
from packer.stores.registry.access import Access, RegistryLike
from packer.stores.subjects import attached_to

PAGE = 20
"""Versions of a page."""
DATED_TAGS = 100
"""Tags up to which all manifests are read, to order the versions by their dates: a request each,
eight at a time."""
_THREADS = 8


@dataclass(frozen=True, slots=True)
class RemoteVersion:
    """A tag of a repository.

    Args:
        tag: its name.
        digest: of the manifest that it names.
        created: when that was made, RFC 3339 in UTC; "" if it does not tell.
        stored_bytes: all blobs that it needs; None for what layer-packer did not write.
    """

    tag: str
    digest: str
    created: str
    stored_bytes: int | None


@dataclass(frozen=True, slots=True)
class RemoteVersions:
    """A page of the tags of a repository.

    Args:
        reference: the repository as it was given.
        total: how many tags it has.
        order: ``"date"``: the newest first; ``"version"``: the tags that are moved, such as
            ``latest``, then the highest version first, then other tags by name.
        versions: the page.
        following: the tag to give as `after` for the next page; "" if this is the last.
    """

    reference: str
    total: int
    order: str
    versions: tuple[RemoteVersion, ...]
    following: str


def remote_versions(
    reference: str,
    *,
    store: StoreLike = None,
    registry: RegistryLike = None,
    limit: int = PAGE,
    after: str | None = None,
    by_date: bool = False,
    cancel: CancelEvent | None = None,
) -> RemoteVersions:
    """List the tags of a repository, a layout or an archive, the newest first.

    The date is in the manifest, which takes a request for each tag. Up to 100 tags all of them are
    read. Above, only the manifests of the page are, and tags are ordered by the versions that they
    tell.

    Args:
        reference: such as ``registry.example/acme/app``.
        store: the local store, whose names are no repositories.
        registry: how to reach the registry.
        limit: tags of a page, at least 1.
        after: the tag that the page follows: `RemoteVersions.following` of the page before.
        by_date: read the manifests of all tags, and order by date.
        cancel: a `threading.Event` or the like; the call raises `Cancelled` once it is set.

    Returns:
        The page.

    Raises:
        NotFound: there is no such repository, or it has no tags, or no tag `after`.
        InvalidReference: `reference` is malformed.
        InvalidParameter: `limit` is below 1, or `reference` names a version.
        StoreError: the store failed.
        Cancelled: `cancel` was set.
    """
    if limit < 1:
        raise InvalidParameter(f"limit {limit} is less than 1")
    refuse_local_name(reference, open_store(store, create=False))
    location = parse_location(reference)
    if location.tag is not None or location.digest is not None:
        raise InvalidParameter(f"{reference} names a version; name its repository, without a tag")
    found, _ = open_location(location, Access(registry), create=False)
    with until_cancelled(cancel, (found,), "listing versions"):
        names = _names(found)
        if not names:
            raise NotFound("repository", reference, "or it has no tags")
        if after is not None and after not in names:
            raise NotFound("tag", after, f"in {found.name}")
        dated = by_date or len(names) <= DATED_TAGS
        if dated:
            rows = _read(found, names)
            known = {row.tag: row for row in rows}
            created = {row.tag: row.created for row in rows}
            ordered = sorted(in_order(known), key=created.__getitem__, reverse=True)
        else:
            known, ordered = {}, in_order(names)
        # A tag that was removed while the manifests were read ends no page.
        first = ordered.index(after) + 1 if after in ordered else 0
        page = ordered[first : first + limit]
        shown = [known[name] for name in page] if dated else _read(found, page)
    return RemoteVersions(
        reference,
        len(names),
        "date" if dated else "version",
        tuple(shown),
        page[-1] if page and first + limit < len(ordered) else "",
    )


def _names(store: Store) -> list[str]:
    """Return the tags without those that attach signatures and the like to a version."""
    if isinstance(store, TagNames):
        names = list(store.tag_names())
    elif isinstance(store, Tags):
        names = [name for name, _ in store.tags()]
    else:
        raise InvalidParameter(f"{store.name} cannot list its tags")
    return [name for name in names if attached_to(name) is None]


def in_order(names: Iterable[str]) -> list[str]:
    """Return tags that are moved, then the highest version first, then others by name.

    Args:
        names: tags, in any order.

    Returns:
        All of them.
    """
    keys = {name: version_key(name) for name in sorted(names)}
    moved = sorted(
        (name for name in keys if name.lower() in MOVING),
        key=lambda name: MOVING.index(name.lower()),
    )
    told = [(key, name) for name, key in keys.items() if key is not None and name not in moved]
    others = [name for name, key in keys.items() if key is None and name not in moved]
    return [*moved, *(name for _, name in sorted(told, reverse=True)), *others]


def _read(store: Store, names: Iterable[str]) -> list[RemoteVersion]:
    """Read the manifests that tags name; a tag that is gone meanwhile is left out."""

    def read(name: str) -> RemoteVersion | None:
        try:
            descriptor, data = store.get_manifest(name)
        except NotFound:
            return None
        try:
            manifest = Manifest.decode(data, f"manifest {descriptor.digest}")
        except (UnsupportedVersion, FormatError):
            return RemoteVersion(name, descriptor.digest, _created(data), None)
        blobs = {blob.digest: blob.size for blob in (manifest.config, *manifest.layers)}
        stored = sum(blobs.values()) + descriptor.size
        return RemoteVersion(name, descriptor.digest, _created(data), stored)

    with ThreadPoolExecutor(_THREADS, "versions") as pool:
        return [row for row in pool.map(read, names) if row is not None]


def _created(data: bytes) -> str:
    """Return when a manifest was made, as far as it tells."""
    try:
        annotations = load_json(data, "manifest").get("annotations")
    except FormatError:
        return ""
    created = annotations.get(CREATED) if isinstance(annotations, dict) else None
    return created[:40] if isinstance(created, str) else ""
