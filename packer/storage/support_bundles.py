"""Support bundles of a storage: archives with an ID, all in one repository."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from packer.errors import Conflict, InvalidParameter, NotFound
from packer.forks import Lock
from packer.format.version import Version
from packer.progress import CancelEvent, ProgressCallback, cancellable
from packer.reading.restore import Restored, restore
from packer.reading.version_file import open_entry
from packer.storage.encoded_names import decode_tag, encode_tag
from packer.storage.history import Ledger, Record
from packer.storage.repository import Shelf
from packer.storage.save import Job, Put, loaded, save_tree
from packer.stores.cancelling import until_cancelled

BUNDLE_PREFIX = "bundle-"
BUNDLE_APP = "layer-packer.app"
_WHAT = "support bundle ID"


@dataclass(frozen=True, slots=True)
class SupportBundle:
    """A support bundle in a storage.

    Args:
        id: the caller's.
        digest: of its manifest.
        created: when it was saved, RFC 3339 in UTC.
        labels: the caller's.
        bytes: size of the archive, or of the files of a directory.
        stored_bytes: all blobs it needs, those it shares with others included.
        new_bytes: what it added.
    """

    id: str
    digest: str
    created: str
    labels: Mapping[str, str]
    bytes: int
    stored_bytes: int
    new_bytes: int


class SupportBundles:
    """The support bundles of one storage.

    Args:
        shelf: opens what applications share; told whether to make it.
        load: returns the version a tag names.
        job: makes a job of (root, title, labels, progress, cancel).

    Thread safety: threads may share it.
    """

    def __init__(
        self,
        shelf: Callable[[bool], Shelf],
        load: Callable[[Shelf, str], Version],
        job: Callable[..., Job],
    ) -> None:
        self._shelf = shelf
        self._load = load
        self._job = job
        self._lock = Lock()
        self._ledger: tuple[Shelf, Ledger] | None = None

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
        shelf = self._shelf(True)
        ledger = self._records(shelf)
        names = shelf.names()

        def known(version: Version) -> Record | None:
            if tag not in names:
                return None
            old = self._load(shelf, tag)
            if old.config.tree != version.config.tree:
                raise Conflict("support bundle", bundle_id, "another one is saved under this ID")
            return Record.of(tag, old.descriptor, old.manifest)

        def arrive(put: Put) -> Record:
            return put(tag, {})

        root = os.fsencode(source)
        # The newest: bundles of one installation have most of their files in common.
        found = sorted(ledger.read(names).values(), key=lambda record: record.created)
        bases = loaded(self._load, shelf, (record.tag for record in reversed(found)))
        job = self._job(root, f"support bundle {bundle_id}", labels, progress, cancel)
        record = save_tree(shelf, job, bases, arrive, known)
        ledger.add(record)
        if len(names) % 8 == 7:
            ledger.gather()
        return _bundle(record)

    def list(self) -> list[SupportBundle]:
        """Return all bundles, in the order of the time they were saved at."""
        try:
            shelf = self._shelf(False)
        except NotFound:
            return []
        records = self._records(shelf).read(shelf.names()).values()
        ordered = sorted(records, key=lambda record: (record.created, record.tag))
        return [_bundle(record) for record in ordered]

    def open(self, bundle_id: str) -> io.BufferedReader:
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
        """Write a bundle's archive, or files, to a directory that is new or empty.

        Raises:
            NotFound, TargetExists, IntegrityError, Cancelled, OSError: the directory is as it was.
        """
        version = self.version(bundle_id)
        report = cancellable(progress, cancel, "unpacking")
        with until_cancelled(cancel, (version.store,), "unpacking"):
            return restore(version, os.fsencode(directory), progress=report)

    def delete(self, bundle_id: str) -> None:
        """Remove a bundle; the registry's garbage collection frees what no other one needs."""
        tag = BUNDLE_PREFIX + encode_tag(bundle_id, _WHAT)
        shelf = self._shelf(False)
        try:
            shelf.remove(tag, shelf.store.resolve(tag).digest)
        except NotFound:
            raise NotFound("support bundle", bundle_id, f"in {shelf.store.name}") from None
        self._records(shelf).forget(tag)

    def version(self, bundle_id: str) -> Version:
        """Return a bundle for the rest of the library, as `Storage.version`.

        Raises:
            NotFound: there is no such bundle.
        """
        tag = BUNDLE_PREFIX + encode_tag(bundle_id, _WHAT)
        try:
            return self._load(self._shelf(False), tag)
        except NotFound as error:
            if error.kind not in ("tag", "application", "manifest"):
                raise
            raise NotFound("support bundle", bundle_id, error.where) from None

    def _records(self, shelf: Shelf) -> Ledger:
        with self._lock:
            if self._ledger is None or self._ledger[0] is not shelf:
                self._ledger = shelf, Ledger(shelf, lambda tag: tag.startswith(BUNDLE_PREFIX))
            return self._ledger[1]


def _bundle(record: Record) -> SupportBundle:
    name = record.tag.removeprefix(BUNDLE_PREFIX)
    return SupportBundle(
        decode_tag(name) or name,
        record.digest,
        record.created,
        record.labels,
        record.bytes,
        record.stored_bytes,
        record.new_bytes,
    )
