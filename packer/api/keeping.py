"""Keeps house in the local store: what is there, what it takes, what may go.

`forget` removes names, `gc` removes bytes that no name needs. Both may run beside packs and pulls.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import chain

from packer.api.locations import StoreLike, local_name, open_store
from packer.errors import InvalidParameter, NotFound, PackerError, UnsupportedVersion
from packer.files.cache_file import MAX_CACHE_BYTES, cache_files, trim_caches
from packer.format.version import CREATED, Config
from packer.oci import MAX_MANIFEST_BYTES, Descriptor, Manifest, is_digest
from packer.packing.older.bases import family
from packer.stores.index_json import ORIGIN
from packer.stores.layout import LayoutStore, caches_of
from packer.stores.manifests import check_tag, read_graph
from packer.stores.protocols import Store, Tags, read_blob
from packer.stores.subjects import attached_to

GRACE_SECONDS = 3600.0
"""Age in seconds from which `gc` removes a blob that nothing names: far above the time that another
tool takes from a blob to the manifest that names it."""

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ListedVersion:
    """A version of a store, as a list shows it.

    Args:
        tag: its name.
        digest: the manifest's digest.
        created: time of packing, RFC 3339; "" if it is not known.
        files: number of files; None for an artifact of another tool, or if it is not known.
        bytes: bytes of the files; None as for `files`.
        stored_bytes: bytes of all blobs that the version needs, the manifest included; None if the
            manifest cannot be read.
        new_bytes: the part of `stored_bytes` that is in the store, and that no version before it in
            the list needs.
        origin: the reference that it was pulled from; "" if it was not.
        problem: why the manifest or config cannot be read; "" if they can, and for artifacts of
            other tools.
    """

    tag: str
    digest: str
    created: str = ""
    files: int | None = None
    bytes: int | None = None
    stored_bytes: int | None = None
    new_bytes: int | None = None
    origin: str = ""
    problem: str = ""


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
class KeptVersion:
    """A version that `forget` keeps.

    Args:
        version: the version.
        reasons: why: "last" and "within".
    """

    version: ListedVersion
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Forgotten:
    """The result of `forget`.

    Args:
        forgotten: the versions whose tags were removed, in the order of the list.
        kept: the other versions of the applications that a policy was applied to.
        freed_bytes: bytes of the blobs that no other version needs, which `gc` can remove.
    """

    forgotten: tuple[ListedVersion, ...]
    kept: tuple[KeptVersion, ...]
    freed_bytes: int


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


def versions(*, store: StoreLike = None) -> list[ListedVersion]:
    """List the versions of the local store, the one tagged last at the end.

    Manifests and configs are read, no index and no data. A version whose manifest is missing or
    damaged is listed with its problem. Signatures that cosign attached by a tag are left out:
    `referrers` lists them.

    Args:
        store: the local store.

    Returns:
        An entry for each tag.

    Raises:
        InvalidParameter: the store cannot list its tags.
    """
    target = open_store(store, create=False)
    return [row for row, _ in _listed(target, _version_tags(target))]


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
    before = _tags(target).get(new, descriptor).digest
    target.put_manifest(data, descriptor.media_type, new)
    return Tagged(new, descriptor.digest, "" if before == descriptor.digest else before)


def forget(
    names: Iterable[str],
    *,
    keep_last: int | None = None,
    keep_within: timedelta | None = None,
    dry_run: bool = False,
    store: StoreLike = None,
) -> Forgotten:
    """Remove names from the local store; `gc` removes the bytes that no name needs afterwards.

    Without a policy, `names` are versions. With `keep_last` or `keep_within` they are applications
    (``app`` for ``app:1.4.2`` and ``app-1.4.2``), and each of their versions goes that neither
    policy keeps, as restic's ``forget`` has it.

    Args:
        names: tags, digests or first digits of digests; with a policy, applications, none for all.
        keep_last: keep as many versions of each application, those tagged last.
        keep_within: keep the versions packed within this time of the application's newest one;
            also versions whose time of packing is not known.
        dry_run: remove nothing.
        store: the local store.

    Returns:
        The versions that were forgotten and kept.

    Raises:
        NotFound: there is no such version or application; nothing was removed.
        InvalidParameter: there is neither a name nor a policy, a policy is out of range, or the
            digits begin several digests.
    """
    target = open_store(store, create=False)
    wanted = list(names)
    tags = _tags(target)
    if not wanted and keep_last is None and keep_within is None:
        raise InvalidParameter("name a version to forget, or say what to keep of an application")
    if keep_last is not None and keep_last < 1:
        raise InvalidParameter(f"keep_last={keep_last} is less than 1")
    if keep_within is not None and keep_within <= timedelta():
        raise InvalidParameter("keep_within is no time above 0")
    listed = {row.tag: (row, blobs) for row, blobs in _listed(target, tags)}
    apps = [row for row, _ in listed.values() if attached_to(row.tag) is None]
    rows = [row for row, _ in listed.values()]
    kept: list[KeptVersion] = []
    if keep_last is None and keep_within is None:
        gone = {found for name in wanted for found in _named(name, target, tags)}
    else:
        gone = set()
        for app in dict.fromkeys(wanted or (family(row.tag) for row in apps)):
            of_app = [row for row in apps if family(row.tag) == app]
            if not of_app:
                raise NotFound("application", app, f"in {target.name}{_hint(app, tags)}")
            stay = _kept(of_app, keep_last, keep_within)
            kept += stay
            gone |= {row.tag for row in of_app} - {one.version.tag for one in stay}
    needed: dict[str, int] = {}
    freed: dict[str, int] = {}
    for name, (_, blobs) in listed.items():
        (freed if name in gone else needed).update(blobs)
    if not dry_run:
        assert isinstance(target, Tags)
        for name in gone:
            try:
                target.untag(name)
            except NotFound:
                continue  # another process was faster
    return Forgotten(
        tuple(row for row in rows if row.tag in gone),
        tuple(kept),
        sum(size for digest, size in freed.items() if digest not in needed),
    )


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
    for row, blobs in _listed(target, _version_tags(target)):
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


def forget_older_pulls(local: Store, tag: str | None, keep: int) -> tuple[str, ...]:
    """Forget the versions of an application that were pulled before the last few.

    Only versions that were pulled from the same repository are counted, or from layouts and
    archives under tags of the same application. What was packed here stays.

    Args:
        local: the local store.
        tag: name of the version that was pulled last; None for none.
        keep: versions that stay, `tag` among them.

    Returns:
        The tags that were removed.
    """
    if tag is None or not isinstance(local, LayoutStore):
        return ()
    pulled = {name: entry for name, entry in local.tags() if entry.annotations.get(ORIGIN)}
    if tag not in pulled:
        return ()
    group = [name for name in pulled if _group(name, pulled[name]) == _group(tag, pulled[tag])]
    digests = list(dict.fromkeys(pulled[name].digest for name in reversed(group)))
    gone = []
    for name in group:
        if pulled[name].digest in digests[keep:]:
            try:
                local.untag(name)
            except NotFound:
                continue  # another process was faster
            except OSError as error:
                _LOG.warning("%s: %s is not forgotten: %s", local.name, name, error)
                break  # a store that can only be read; the pull succeeded all the same
            gone.append(name)
    if gone:
        try:
            local.collect_garbage()
        except (PackerError, OSError) as error:
            _LOG.warning("%s: nothing is collected: %s", local.name, error)
    return tuple(gone)


def _group(name: str, entry: Descriptor) -> tuple[str, str]:
    """Return what pulled versions of one application have in common."""
    origin = entry.annotations[ORIGIN]
    if origin.startswith(("oci:", "oci-archive:")):
        return "", family(name)
    return origin.rpartition(":")[0], ""


def _layout(store: StoreLike) -> LayoutStore:
    target = open_store(store, create=False)
    if not isinstance(target, LayoutStore):
        raise InvalidParameter(f"{target.name} is no directory")
    return target


def _tags(store: Store) -> dict[str, Descriptor]:
    if not isinstance(store, Tags):
        raise InvalidParameter(f"{store.name} cannot list its tags")
    return dict(store.tags())


def _version_tags(store: Store) -> dict[str, Descriptor]:
    """Return the tags without those that attach something to a version."""
    return {tag: entry for tag, entry in _tags(store).items() if attached_to(tag) is None}


def _listed(
    store: Store, tags: dict[str, Descriptor]
) -> Iterator[tuple[ListedVersion, dict[str, int]]]:
    """Yield an entry for each tag, with the sizes of the blobs here that it needs, by digest."""
    here = store.blob_sizes() if isinstance(store, LayoutStore) else None
    seen: set[str] = set()
    known: dict[str, tuple[ListedVersion, dict[str, int]]] = {}
    for name, entry in tags.items():
        found = known.get(entry.digest)
        if found is None:
            row, blobs = examine(store, entry)
            if here is not None:  # a version packed on a base in a registry has others there
                blobs = {digest: size for digest, size in blobs.items() if digest in here}
            found = known[entry.digest] = row, blobs
        row, blobs = found
        origin = entry.annotations.get(ORIGIN, "")
        new = None
        if row.stored_bytes is not None:
            new = sum(size for digest, size in blobs.items() if digest not in seen)
        seen |= blobs.keys()
        yield replace(row, tag=name, new_bytes=new, origin=origin), blobs


def examine(store: Store, entry: Descriptor) -> tuple[ListedVersion, dict[str, int]]:
    """Return what a manifest and its config tell, and the sizes of the blobs it needs.

    Args:
        store: holds them.
        entry: the manifest's descriptor.

    Returns:
        A row without a tag, and the sizes in bytes by digest, the manifest's included. What cannot
        be read is the row's `problem`.
    """
    row = ListedVersion("", entry.digest)
    try:
        _, data = store.get_manifest(entry.digest)
        graph = read_graph(data, f"manifest {entry.digest}")
    except UnsupportedVersion:
        return row, {entry.digest: entry.size}  # an image index, say
    except PackerError as error:
        return replace(row, problem=str(error)), {entry.digest: entry.size}
    blobs = {blob.digest: blob.size for blob in (entry, *graph.blobs)}
    row = replace(row, stored_bytes=sum(blobs.values()))
    try:
        manifest = Manifest.decode(data, f"manifest {entry.digest}")
        row = replace(row, created=manifest.annotations.get(CREATED, ""))
        text = read_blob(store, manifest.config, MAX_MANIFEST_BYTES)
        totals = Config.decode(text, f"config {manifest.config.digest}").totals
    except UnsupportedVersion:
        return row, blobs
    except PackerError as error:
        return replace(row, problem=str(error)), blobs
    return replace(row, files=totals.get("files"), bytes=totals.get("bytes")), blobs


def _named(name: str, store: Store, tags: dict[str, Descriptor]) -> list[str]:
    """Return the tags that a name means: itself, or those of a digest."""
    if name in tags:
        return [name]
    whole = local_name(name, store)
    found = [tag for tag, entry in tags.items() if is_digest(whole) and entry.digest == whole]
    if not found:
        raise NotFound("version", name, f"in {store.name}{_hint_app(name, tags)}")
    return found


def _hint_app(name: str, tags: dict[str, Descriptor]) -> str:
    """Return what to write if a name is an application where a version is meant."""
    if not any(family(tag) == name for tag in tags):
        return ""
    return "; it is an application: say with --keep-last or --keep-within what to keep of it"


def _hint(app: str, tags: dict[str, Descriptor]) -> str:
    """Return what to write if a name is a version where an application is meant."""
    return f"; the application of this version is {family(app)}" if app in tags else ""


def _kept(
    rows: list[ListedVersion], keep_last: int | None, keep_within: timedelta | None
) -> list[KeptVersion]:
    """Return the versions of an application that a policy keeps."""
    times = {row.tag: _time(row.created) for row in rows}
    newest = max((time for time in times.values() if time is not None), default=None)
    digests = list(dict.fromkeys(row.digest for row in reversed(rows)))
    last = set(digests[: keep_last or 0])
    out = []
    for row in rows:
        reasons = []
        if row.digest in last:
            reasons.append("last")
        if keep_within is not None and _is_within(times[row.tag], newest, keep_within):
            reasons.append("within")
        if reasons:
            out.append(KeptVersion(row, tuple(reasons)))
    return out


def _is_within(time: datetime | None, newest: datetime | None, span: timedelta) -> bool:
    return time is None or newest is None or newest - time <= span


def _time(stamp: str) -> datetime | None:
    """Return a time in RFC 3339; None if a manifest's is malformed, or has no zone."""
    try:
        time = datetime.fromisoformat(stamp.replace("Z", "+00:00"))
    except ValueError:
        return None
    return time if time.tzinfo is not None else None
