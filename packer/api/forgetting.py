"""Removes names from the local store: by name, by policy, or as newer versions are pulled.

`packer.api.keeping.gc` then removes the bytes that no name needs.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from packer.api.listing import ListedVersion, listed_versions, tags_of
from packer.api.locations import StoreLike, local_name, open_store
from packer.errors import InvalidParameter, NotFound, PackerError
from packer.oci import Descriptor, is_digest
from packer.packing.older.bases import family
from packer.stores.index_json import ORIGIN
from packer.stores.layout import LayoutStore
from packer.stores.protocols import Store, Tags
from packer.stores.subjects import attached_to

_LOG = logging.getLogger(__name__)


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
    tags = tags_of(target)
    if not wanted and keep_last is None and keep_within is None:
        raise InvalidParameter("name a version to forget, or say what to keep of an application")
    if keep_last is not None and keep_last < 1:
        raise InvalidParameter(f"keep_last={keep_last} is less than 1")
    if keep_within is not None and keep_within <= timedelta():
        raise InvalidParameter("keep_within is no time above 0")
    listed = {row.tag: (row, blobs) for row, blobs in listed_versions(target, tags)}
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
