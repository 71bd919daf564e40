"""Keeps house in the local store: further names, what it takes, what of it may go.

`gc` removes bytes that no name needs; `packer.api.forgetting` removes names. Both may run beside
packs and pulls.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import chain

from packer.api.listing import listed_versions, tags_of, version_tags
from packer.api.locations import StoreLike, local_name, open_store
from packer.errors import InvalidParameter, PackerError
from packer.files.cache_file import MAX_CACHE_BYTES, cache_files, trim_caches
from packer.packing.older.bases import family
from packer.stores.layout import LayoutStore, caches_of
from packer.stores.manifests import check_tag

GRACE_SECONDS = 3600.0
"""Age in seconds from which `gc` removes a blob that nothing names: far above the time that another
tool takes from a blob to the manifest that names it."""


@dataclass(frozen=True, slots=True)
class Tagged:
    """The result of `tag`.

    Args:
        tag: the new name.
        digest: the manifest's digest.
        replaced: digest of the manifest that had the tag before; "" if the tag is new, or named
            this version already.
    """

    tag: str
    digest: str
    replaced: str


@dataclass(frozen=True, slots=True)
class Collected:
    """The result of `gc`.

    Args:
        blobs: number of blobs removed that no version needs.
        bytes: bytes of the blobs removed.
        kept_blobs: number of blobs that no version needs and that stay: they are young, or a
            running pack or pull needs them.
        kept_bytes: bytes of the blobs kept.
        leftovers: number of temporary files removed that killed processes left.
        leftover_bytes: bytes of the temporary files removed.
        caches: number of cache files removed.
        cache_bytes: bytes of the cache files removed.
    """

    blobs: int
    bytes: int
    kept_blobs: int
    kept_bytes: int
    leftovers: int
    leftover_bytes: int
    caches: int
    cache_bytes: int

    @property
    def freed_bytes(self) -> int:
        """Bytes of all files removed."""
        return self.bytes + self.leftover_bytes + self.cache_bytes


@dataclass(frozen=True, slots=True)
class AppUsage:
    """The room that the versions of one application take.

    Args:
        app: its name, the part that its tags have in common.
        versions: number of its versions.
        stored_bytes: bytes of the blobs that its versions need.
        own_bytes: the part of `stored_bytes` that no version of another application needs.
    """

    app: str
    versions: int
    stored_bytes: int
    own_bytes: int


@dataclass(frozen=True, slots=True)
class StoreUsage:
    """The room that a local store takes.

    Args:
        store: its directory.
        versions: number of tags.
        blobs: number of blobs.
        bytes: bytes of the blobs.
        garbage_blobs: number of blobs that no version needs.
        garbage_bytes: bytes of the blobs that no version needs.
        caches: number of cache files.
        cache_bytes: bytes of the cache files.
        apps: the applications, the one that takes most room first.
    """

    store: str
    versions: int
    blobs: int
    bytes: int
    garbage_blobs: int
    garbage_bytes: int
    caches: int
    cache_bytes: int
    apps: tuple[AppUsage, ...]


def tag(old: str, new: str, *, store: StoreLike = None) -> Tagged:
    """Give a version of the local store a further name; the tag moves if it is in use.

    Args:
        old: tag or digest of the version, or the first digits of its digest.
        new: the tag.
        store: the local store.

    Returns:
        The version, and the one that had the tag before.

    Raises:
        NotFound: there is no such version.
        InvalidParameter: `new` is no tag.
        IntegrityError: the version's manifest is damaged.
    """
    target = open_store(store, create=False)
    check_tag(new)
    descriptor, data = target.get_manifest(local_name(old, target))
    before = tags_of(target).get(new, descriptor).digest
    target.put_manifest(data, descriptor.media_type, new)
    return Tagged(new, descriptor.digest, "" if before == descriptor.digest else before)


def gc(
    *,
    grace_seconds: float = GRACE_SECONDS,
    caches: bool = False,
    dry_run: bool = False,
    store: StoreLike = None,
) -> Collected:
    """Remove the bytes of the local store that no version needs.

    These are blobs that no tag leads to, temporary files that killed processes left, and caches
    beyond their limit. It is safe beside running packs and pulls of any process: what they rely on,
    and each blob written since they began, stays.

    Args:
        grace_seconds: blobs that were written more recently stay, at least 0. Another tool may be
            about to name them; this package needs no grace.
        caches: remove all caches, which makes the next packs slower.
        dry_run: remove nothing.
        store: the local store.

    Returns:
        The numbers of blobs and files removed.

    Raises:
        NotFound: the manifest of a tag is missing; nothing was removed.
        IntegrityError: the manifest of a tag is damaged; nothing was removed.
        InvalidParameter: `grace_seconds` is out of range, or the store is no directory.
    """
    if not 0 <= grace_seconds < float("inf"):
        raise InvalidParameter(f"grace_seconds={grace_seconds} is not 0 or more")
    target = _layout(store)
    found = target.collect_garbage(grace_seconds, dry_run=dry_run)
    most = 0 if caches else MAX_CACHE_BYTES
    trimmed = trim_caches(caches_of(target), most, dry_run=dry_run)
    return Collected(
        found.blobs,
        found.bytes,
        found.kept_blobs,
        found.kept_bytes,
        found.leftovers,
        found.leftover_bytes,
        *trimmed,
    )


def usage(*, store: StoreLike = None) -> StoreUsage:
    """Measure the local store: blobs, what each application needs of them, garbage and caches.

    Args:
        store: the local store.

    Returns:
        The measures. Blobs that a version needs and the store lacks are not counted.

    Raises:
        InvalidParameter: the store is no directory.
    """
    target = _layout(store)
    apps: dict[str, set[str]] = {}
    counts: dict[str, int] = {}
    for row, blobs in listed_versions(target, version_tags(target)):
        app = family(row.tag)
        apps.setdefault(app, set()).update(blobs)
        counts[app] = counts.get(app, 0) + 1
    sizes = target.blob_sizes()
    users = Counter(chain.from_iterable(apps.values()))
    rows = [
        AppUsage(
            app,
            counts[app],
            sum(sizes.get(digest, 0) for digest in needed),
            sum(sizes.get(digest, 0) for digest in needed if users[digest] == 1),
        )
        for app, needed in apps.items()
    ]
    try:
        garbage = sizes.keys() - target.needed()
    except PackerError:
        garbage = set()  # nothing can be collected before the damaged version is repaired
    cached = [status.st_size for _, status in cache_files(caches_of(target))]
    return StoreUsage(
        target.path,
        sum(counts.values()),
        len(sizes),
        sum(sizes.values()),
        len(garbage),
        sum(sizes[digest] for digest in garbage),
        len(cached),
        sum(cached),
        tuple(sorted(rows, key=lambda row: (-row.stored_bytes, row.app))),
    )


def _layout(store: StoreLike) -> LayoutStore:
    target = open_store(store, create=False)
    if not isinstance(target, LayoutStore):
        raise InvalidParameter(f"{target.name} is no directory")
    return target
