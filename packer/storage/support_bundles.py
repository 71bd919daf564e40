"""Support bundles of a storage: archives with an ID, all in one repository."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from packer.errors import Conflict, InvalidParameter, NotFound
from packer.forks import Lock
from packer.format.version import Version
from packer.progress import CancelEvent, ProgressCallback, cancellable
from packer.reading.restore import Restored, restore
from packer.reading.version_file import EntryFile, open_entry
from packer.storage.condition import Finding, verify_all
from packer.storage.results import SupportBundle
from packer.storage.save import Job, Staged, bases, building_on, stage
from packer.storage.state.encoded_names import decode_tag, encode_tag
from packer.storage.state.history import Ledger
from packer.storage.state.repository import Repository
from packer.stores.cancelling import until_cancelled

BUNDLE_PREFIX = "bundle-"
_WHAT = "support bundle ID"


class SupportBundles:
    """The support bundles of one storage.

    Args:
        repository: opens the repository that applications share; its argument says whether to make
            it.
        load: returns the version that a tag names.
        job: makes a job of (root, title, labels, progress, cancel).

    Thread safety: threads may share it.
    """

    def __init__(
        self,
        repository: Callable[[bool], Repository],
        load: Callable[[Repository, str], Version],
        job: Callable[..., Job],
    ) -> None:
        self._open = repository
        self._load = load
        self._job = job
        self._lock = Lock()
        self._ledger: tuple[Repository, Ledger[SupportBundle]] | None = None

    def save(
        self,
        bundle_id: str,
        source: str | bytes | os.PathLike[str],
        *,
        labels: Mapping[str, str] | None = None,
        progress: ProgressCallback | None = None,
        cancel: CancelEvent | None = None,
    ) -> SupportBundle:
        """Save an archive or directory under an ID; see `Storage.save_support_bundle`."""
        tag = BUNDLE_PREFIX + encode_tag(bundle_id, _WHAT)
        repository = self._open(True)
        ledger = self._records(repository)
        names = repository.names()
        title = f"support bundle {bundle_id}"
        job = self._job(os.fsencode(source), title, labels, progress, cancel)
        # The newest: bundles of one installation have most of their files in common.
        found = sorted(ledger.read(names).items(), key=lambda item: item[1].created, reverse=True)
        for base in bases(self._load, repository, (tag for tag, _ in found), job):
            with building_on(base), stage(repository, job, base) as new:
                if tag in names:
                    return self._same(repository, tag, bundle_id, new)
                new.send()
                return self._name(ledger, tag, new, gather=len(names) % 8 == 7)
        raise AssertionError("the last base is None, and raises")

    def _same(self, repository: Repository, tag: str, bundle_id: str, new: Staged) -> SupportBundle:
        """Return the bundle under an ID, if it has the same content as the new one.

        Raises:
            Conflict: it is another.
        """
        old = self._load(repository, tag)
        if old.config.tree != new.version.config.tree:
            raise Conflict("support bundle", bundle_id, "another one is saved under this ID")
        return self._records(repository).record(tag, old.descriptor, old.manifest)

    def _name(
        self, ledger: Ledger[SupportBundle], tag: str, new: Staged, *, gather: bool
    ) -> SupportBundle:
        """Name a bundle whose blobs were sent."""
        while True:
            try:
                descriptor, manifest = new.name(tag, {})
                break
            except NotFound as error:
                new.send_lost(error)
        record = ledger.record(tag, descriptor, manifest)
        ledger.add(tag, record)
        if gather:
            ledger.gather()
        return record

    def list(self) -> list[SupportBundle]:
        """Return all bundles, ordered by the time they were saved."""
        try:
            repository = self._open(False)
        except NotFound:
            return []
        records = self._records(repository).read(repository.names()).values()
        return sorted(records, key=lambda record: (record.created, record.id))

    def open(self, bundle_id: str) -> EntryFile:
        """Open the archive of a bundle; see `Storage.open_support_bundle`."""
        version = self.version(bundle_id)
        if not version.index.is_single_file:
            raise InvalidParameter(
                f"support bundle {bundle_id} is a directory, no archive: load it"
            )
        return open_entry(version, version.index.paths[0])

    def load(
        self,
        bundle_id: str,
        directory: str | bytes | os.PathLike[str],
        *,
        progress: ProgressCallback | None = None,
        cancel: CancelEvent | None = None,
    ) -> Restored:
        """Write a bundle's archive, or files, to a directory.

        Args:
            bundle_id: its ID.
            directory: new or empty.
            progress: called now and then.
            cancel: set it to give up.

        Returns:
            Counts of the files and bytes written.

        Raises:
            NotFound, TargetExists, IntegrityError, Cancelled, OSError: the directory is as it was.
        """
        version = self.version(bundle_id)
        report = cancellable(progress, cancel, "unpacking")
        with until_cancelled(cancel, (version.store,), "unpacking"):
            return restore(version, os.fsencode(directory), progress=report)

    def delete(self, bundle_id: str) -> None:
        """Remove a bundle; the registry's garbage collection frees what only it needed.

        Args:
            bundle_id: its ID.

        Raises:
            NotFound: there is no such bundle.
            RegistryError: the registry does not delete.
        """
        tag = BUNDLE_PREFIX + encode_tag(bundle_id, _WHAT)
        repository = self._open(False)
        try:
            repository.remove(tag, repository.store.resolve(tag).digest)
        except NotFound:
            raise NotFound("support bundle", bundle_id, f"in {repository.store.name}") from None
        self._records(repository).forget(tag)

    def version(self, bundle_id: str) -> Version:
        """Return a bundle for other calls of the library, as `Storage.version`.

        Args:
            bundle_id: its ID.

        Returns:
            The bundle's version.

        Raises:
            NotFound: there is no such bundle.
        """
        tag = BUNDLE_PREFIX + encode_tag(bundle_id, _WHAT)
        try:
            return self._load(self._open(False), tag)
        except NotFound as error:
            if error.kind not in ("tag", "application", "manifest"):
                raise
            raise NotFound("support bundle", bundle_id, error.where) from None

    def verify(self, *, cancel: CancelEvent | None = None) -> dict[str, Finding]:
        """Read every bundle, and tell which are damaged and by what.

        Args:
            cancel: set it to stop between two bundles.

        Returns:
            A finding for each bundle, by ID.
        """
        try:
            repository = self._open(False)
        except NotFound:
            return {}
        tags = sorted(filter(_is_bundle, repository.names()))
        return {_bundle_id(one.tag): one for one in verify_all(repository, tags, cancel)}

    def _records(self, repository: Repository) -> Ledger[SupportBundle]:
        with self._lock:
            if self._ledger is None or self._ledger[0] is not repository:
                self._ledger = (
                    repository,
                    Ledger(repository, _is_bundle, _record),
                )
            return self._ledger[1]


def _is_bundle(tag: str) -> bool:
    return tag.startswith(BUNDLE_PREFIX)


def _record(tag: str, fields: dict[str, Any]) -> SupportBundle:
    return SupportBundle(id=_bundle_id(tag), **fields)


def _bundle_id(tag: str) -> str:
    name = tag.removeprefix(BUNDLE_PREFIX)
    return decode_tag(name) or name
