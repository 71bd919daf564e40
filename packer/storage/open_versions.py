"""Keeps the versions of a storage that were read last, with their decoded indexes."""

from __future__ import annotations

from collections import OrderedDict

from packer.errors import NotFound
from packer.forks import Lock
from packer.format.version import Version, load_version
from packer.storage.state.repository import Repository
from packer.stores.caching import CachedStore, SmallBlobs
from packer.stores.layout import LayoutStore

MAX_VERSIONS = 16
"""Versions whose decoded indexes are kept."""


class OpenVersions:
    """The versions that were used last.

    Args:
        disk: a layout that may have their blobs, or None.

    Thread safety: threads may share it.
    """

    def __init__(self, disk: LayoutStore | None) -> None:
        self._disk = disk
        self._small = SmallBlobs()
        self._versions: OrderedDict[tuple[str, str], Version] = OrderedDict()
        self._lock = Lock()

    def load(self, repository: Repository, tag: str) -> Version:
        """Return the version that a tag names; a version under a number is kept.

        Args:
            repository: holds the tag.
            tag: names the version; a number never comes to name another one.

        Returns:
            The version, its manifest and config read.
        """
        if not repository.is_remote:
            return load_version(repository.store, tag)
        key = repository.store.name, tag
        with self._lock:
            found = self._versions.get(key)
            if found is not None:
                self._versions.move_to_end(key)
                return found
        version = load_version(CachedStore(repository.store, self._small, self._disk), tag)
        if tag.isdecimal():
            with self._lock:
                self._versions[key] = version
                while len(self._versions) > MAX_VERSIONS:
                    self._versions.popitem(last=False)
        return version

    def forget(self, repository: Repository, tag: str) -> None:
        """Forget a version that was deleted."""
        with self._lock:
            self._versions.pop((repository.store.name, tag), None)


def trim(cache: LayoutStore, tag: str) -> None:
    """Drop an application's cached versions except one, then collect the cache's garbage.

    Args:
        cache: its tags are ``NAME:SEQUENCE``.
        tag: of the version that stays; other applications are left alone.
    """
    name = tag.rpartition(":")[0]
    for other in [found for found, _ in cache.tags()]:
        if other != tag and other.rpartition(":")[0] == name:
            try:
                cache.untag(other)
            except NotFound:
                continue  # another process was faster
    cache.collect_garbage()
