"""What is served: a local store, the tags of a repository, one version, or a storage.

All kinds answer the same few questions. What a request names is looked up among what the place
lists, and nothing else is opened: a request cannot make the server ask another host.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Protocol

from packer.api.listing import examine
from packer.api.referrers import ListedReferrer, referrers_in
from packer.api.remote_versions import in_order
from packer.errors import InvalidParameter, NotFound, PackerError
from packer.forks import Lock
from packer.format.version import Version, load_version
from packer.oci import Descriptor
from packer.packing.older.bases import family
from packer.storage.results import SavedVersion, SupportBundle
from packer.storage.storage import Storage
from packer.stores.caching import CachedStore, SmallBlobs
from packer.stores.index_json import ORIGIN
from packer.stores.protocols import Store, TagNames, Tags

FRESH_SECONDS = 2.0
"""Time for which a listing of a place is believed: a page asks for the same one several times."""
_REMEMBERED = 4096
"""Manifests whose facts are remembered: one version takes some kB."""
_THREADS = 8
_REFERRER = re.compile(r"(sha256-[0-9a-f]{64})(\.\w{1,16})?\Z")
"""Tags that tools give to what refers to a manifest (OCI distribution-spec 1.1, cosign)."""


@dataclass(frozen=True, slots=True)
class Row:
    """One version in a list.

    Args:
        name: its tag, or its sequence number in a storage.
        digest: of its manifest.
        created: when it was packed, RFC 3339; "" if it is not known.
        files: number of files; None if it is not known.
        bytes: of the files; None if it is not known.
        stored_bytes: of all blobs that it needs; None if the manifest cannot be read.
        added_bytes: of the blobs that the version before it in the list does not need.
        labels: of a storage: the saver's names and values.
        origin: the reference that it was pulled from; "" if it was not.
        problem: why it cannot be read; "" if it can.
        blobs: sizes by digest; not shown.
    """

    name: str
    digest: str
    created: str = ""
    files: int | None = None
    bytes: int | None = None
    stored_bytes: int | None = None
    added_bytes: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    origin: str = ""
    problem: str = ""
    blobs: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Deployed:
    """A deployment.

    Args:
        name: of the version.
        time: RFC 3339.
    """

    name: str
    time: str


class Place(Protocol):
    """What every kind of place answers; threads may share it."""

    @property
    def kind(self) -> str:
        """Return "store", "repository", "version" or "storage"."""

    @property
    def title(self) -> str:
        """Return what people call it."""

    def apps(self) -> list[str]:
        """Return the names of the applications."""

    def names(self, app: str) -> list[str]:
        """Return the versions of an application, the oldest first; raises `NotFound`."""

    def rows(self, app: str, names: Sequence[str]) -> list[Row]:
        """Return the facts of some of `names`, in that order."""

    def version(self, app: str, name: str) -> Version:
        """Open a version; raises `NotFound` unless `names` has it, or it is a digest of one."""

    def referrers(self, app: str, name: str) -> Sequence[ListedReferrer]:
        """Return the signatures and the like of a version; nothing of them is verified."""

    def deployments(self, app: str) -> list[Deployed]:
        """Return what was deployed, the newest last."""

    def bundles(self) -> list[SupportBundle]:
        """Return the support bundles."""

    def close(self) -> None:
        """Close connections."""


_MOST_RECENT = 256
"""Results that a `Recent` remembers."""


class Recent:
    """Results that are believed for a moment; threads may share it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._known: dict[object, tuple[float, object]] = {}

    def get(self, key: object, make: Callable[[], object]) -> object:
        """Return what is known under a key, or make it.

        Args:
            key: of the result.
            make: makes it; what it raises passes through and is not remembered.

        Returns:
            The result.
        """
        now = time.monotonic()
        with self._lock:
            found = self._known.get(key)
        if found is not None and now - found[0] < FRESH_SECONDS:
            return found[1]
        made = make()
        with self._lock:
            self._known.pop(key, None)
            self._known[key] = time.monotonic(), made
            while len(self._known) > _MOST_RECENT:
                del self._known[next(iter(self._known))]
        return made


class TaggedPlace:
    """The tags of one store.

    Args:
        store: holds them.
        kind: as `Place.kind`.
        title: as `Place.title`.
        app: name of the one application; None to group the tags by their applications.
        only: tag or digest of the one version that is served; None for all.
        family_only: the one application whose tags are served; None for all.
        opener: opens a version by its name in the store; None for that of the store.
    """

    def __init__(
        self,
        store: Store,
        kind: str,
        title: str,
        *,
        app: str | None = None,
        only: str | None = None,
        family_only: str | None = None,
        opener: Callable[[str], Version] | None = None,
    ) -> None:
        self.kind = kind
        self.title = title
        self._remote = isinstance(store, TagNames)
        self._source = store
        self._store = CachedStore(store, SmallBlobs(), None) if self._remote else store
        self._app = app
        self._only = only
        self._family_only = family_only
        self._opener = opener or (lambda name: load_version(self._store, name))
        self._recent = Recent()
        self._lock = Lock()
        self._facts: dict[str, tuple[Row, Mapping[str, int]]] = {}

    def apps(self) -> list[str]:
        """Return the names of the applications, sorted."""
        return sorted(self._groups())

    def names(self, app: str) -> list[str]:
        """Return the versions of an application, the oldest first."""
        found = self._groups().get(app)
        if found is None:
            raise NotFound("application", app, f"in {self.title}")
        return found

    def rows(self, app: str, names: Sequence[str]) -> list[Row]:
        """Return the facts of some versions; those that are gone meanwhile are left out."""
        tags = self._tags()
        with ThreadPoolExecutor(_THREADS, "rows") as pool:
            found = pool.map(lambda name: self._row(name, tags.get(name)), names)
            return [row for row in found if row is not None]

    def version(self, app: str, name: str) -> Version:
        """Open a version of an application by its tag or digest."""
        names = self.names(app)
        if name not in names:
            tags = self._tags()
            entries = (tags[each] for each in names if each in tags)
            if not any(entry is not None and entry.digest == name for entry in entries):
                raise NotFound("version", name, f"of {app} in {self.title}")
        return self._opener(name)

    def referrers(self, app: str, name: str) -> Sequence[ListedReferrer]:
        """Return what refers to a version."""
        return referrers_in(self._source, self.version(app, name).descriptor.digest)

    def deployments(self, app: str) -> list[Deployed]:
        """Return nothing: a store knows of no deployments."""
        return []

    def bundles(self) -> list[SupportBundle]:
        """Return nothing: a store has no bundles."""
        return []

    def close(self) -> None:
        """Close connections."""
        close = getattr(self._source, "close", None)
        if close is not None:
            close()

    def _all_tags(self) -> dict[str, Descriptor | None]:
        """Return all tags; in a registry without the manifests that they name."""

        def read() -> dict[str, Descriptor | None]:
            if isinstance(self._source, TagNames):
                try:
                    return dict.fromkeys(self._source.tag_names())
                except NotFound:
                    return {}  # a repository begins to be there with its first tag
            if isinstance(self._source, Tags):
                return dict(self._source.tags())
            raise InvalidParameter(f"{self.title} cannot list its tags")

        found = self._recent.get("tags", read)
        assert isinstance(found, dict)
        return found

    def _tags(self) -> dict[str, Descriptor | None]:
        """Return the tags of versions that are served."""
        if self._only is not None:
            if self._remote or self._only.startswith("sha256:"):
                return {self._only: None}
            tags = self._all_tags()
            return {self._only: tags[self._only]} if self._only in tags else {}
        return {name: it for name, it in self._all_tags().items() if not _REFERRER.match(name)}

    def _groups(self) -> dict[str, list[str]]:
        names: Sequence[str] = list(self._tags())
        if self._remote:
            names = in_order(names)[::-1]
        groups: dict[str, list[str]] = {}
        for name in names:
            group = self._app if self._app is not None else family(name)
            if self._family_only in (None, group):
                groups.setdefault(group, []).append(name)
        return groups

    def _row(self, name: str, entry: Descriptor | None) -> Row | None:
        try:
            found = self._store.resolve(name) if entry is None else entry
        except NotFound:
            return None
        except PackerError as error:
            return Row(name, "", problem=str(error))
        with self._lock:
            known = self._facts.get(found.digest)
        if known is None:
            listed, blobs = examine(self._store, found)
            row = Row(
                "",
                found.digest,
                listed.created,
                listed.files,
                listed.bytes,
                listed.stored_bytes,
                problem=listed.problem,
            )
            known = row, blobs
            if not row.problem:
                with self._lock:
                    self._facts[found.digest] = known
                    while len(self._facts) > _REMEMBERED:
                        del self._facts[next(iter(self._facts))]
        origin = found.annotations.get(ORIGIN, "")
        return replace(known[0], name=name, origin=origin, blobs=known[1])


class StoragePlace:
    """A storage.

    Args:
        storage: the storage.
        app: the one application that is served; None for all.
    """

    kind = "storage"

    def __init__(self, storage: Storage, app: str | None = None) -> None:
        self._storage = storage
        self._only = app
        self.title = storage.base_uri
        self._recent = Recent()

    def apps(self) -> list[str]:
        """Return the IDs of the applications."""
        found = self._recent.get("apps", self._storage.apps)
        assert isinstance(found, list)
        return found if self._only is None else [app for app in found if app == self._only]

    def names(self, app: str) -> list[str]:
        """Return the sequence numbers, in order."""
        return [str(saved.sequence) for saved in self._history(app)]

    def rows(self, app: str, names: Sequence[str]) -> list[Row]:
        """Return the records of some versions."""
        known = {str(saved.sequence): saved for saved in self._history(app)}
        return [_saved_row(known[name]) for name in names if name in known]

    def version(self, app: str, name: str) -> Version:
        """Open a version by its sequence number or digest."""
        for saved in self._history(app):
            if name in (str(saved.sequence), saved.digest):
                return self._storage.version(app, saved.sequence)
        raise NotFound("version", name, f"of {app} in {self.title}")

    def referrers(self, app: str, name: str) -> Sequence[ListedReferrer]:
        """Return what refers to a version."""
        version = self.version(app, name)
        return referrers_in(version.store, version.descriptor.digest)

    def deployments(self, app: str) -> list[Deployed]:
        """Return what was deployed, the newest last."""
        self._check(app)

        def read() -> list[Deployed]:
            return [Deployed(str(it.sequence), it.time) for it in self._storage.deployments(app)]

        found = self._recent.get(("deployments", app), read)
        assert isinstance(found, list)
        return found

    def bundles(self) -> list[SupportBundle]:
        """Return the support bundles, ordered by time."""
        if self._only is not None:
            return []
        found = self._recent.get("bundles", self._storage.support_bundles)
        assert isinstance(found, list)
        return found

    def close(self) -> None:
        """Close connections."""
        self._storage.close()

    def _history(self, app: str) -> list[SavedVersion]:
        self._check(app)
        found = self._recent.get(("history", app), lambda: self._storage.history(app))
        assert isinstance(found, list)
        return found

    def _check(self, app: str) -> None:
        if app not in self.apps():
            raise NotFound("application", app, f"in {self.title}")


def _saved_row(saved: SavedVersion) -> Row:
    return Row(
        str(saved.sequence),
        saved.digest,
        saved.created,
        saved.files,
        saved.bytes,
        saved.stored_bytes,
        saved.new_bytes,
        labels=saved.labels,
    )
