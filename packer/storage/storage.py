"""Every version of a set of applications, and their support bundles, in a registry.

For installers and admin consoles: a library inside a long-running process of several threads and
replicas, with nothing beside the registry to keep state in. Each application has a repository of
its own, in which the tag of a version is its sequence number. docs/installers.md shows the use,
docs/architecture.md, "Storage", the reasons.
"""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType

from packer.engine import zstd
from packer.errors import (
    Cancelled,
    Conflict,
    FormatError,
    InvalidParameter,
    NotFound,
    RegistryError,
)
from packer.forks import Lock
from packer.format.version import Version
from packer.progress import CancelEvent, ProgressCallback, cancellable
from packer.reading import contents
from packer.reading.contents import Change, Entry
from packer.reading.restore import Restored, restore
from packer.reading.seeds import seed_paths
from packer.reading.version_file import open_entry
from packer.storage.deployments import Deployment, deployed_before, read_log, write_log
from packer.storage.encoded_names import decode_app, encode_app
from packer.storage.history import Ledger, Record
from packer.storage.open_versions import OpenVersions, trim
from packer.storage.repositories import Repositories
from packer.storage.repository import Shelf
from packer.storage.results import Retained, SavedVersion, StorageEvent
from packer.storage.retention import delete_number, retain, withdraw_number
from packer.storage.save import Job, Put, check_labels, check_level, loaded, save_tree
from packer.storage.sequence_numbers import (
    PATIENCE_SECONDS,
    Numbering,
    Numbers,
    check_sequence,
    is_number,
)
from packer.storage.support_bundles import SupportBundle, SupportBundles
from packer.stores.cancelling import until_cancelled
from packer.stores.graph import check_expected
from packer.stores.layout import LayoutStore
from packer.stores.registry.access import RegistryLike
from packer.transfer.copy_graph import copy as copy_graph

APP_PREFIX = "app-"
"""Tags of the shared repository that name the applications."""
APP = "layer-packer.app"
SEQUENCE = "layer-packer.sequence"
"""Annotations of a version's manifest."""

GATHER_EVERY = 8
"""Saves after which the history is gathered; so many manifests at most are read one by one."""

_log = logging.getLogger(__name__)


def open_storage(
    base_uri: str,
    *,
    cache: str | os.PathLike[str] | None = None,
    registry: RegistryLike = None,
    jobs: int = 4,
    patience_seconds: float = PATIENCE_SECONDS,
    listener: Callable[[StorageEvent], None] | None = None,
) -> Storage:
    """Open the storage below a base; nothing is asked or written yet.

    Args:
        base_uri: ``docker://host/repository`` in a registry, ``oci:DIR`` for image layouts below a
            directory, or ``memory:`` for a new one in memory.
        cache: a directory that keeps layers from one call to the next; without it, only what a
            call needs is fetched, each time.
        registry: how to reach the registry.
        jobs: concurrent transfers of one call.
        patience_seconds: how long to wait for another writer that has claimed a sequence number,
            before it is taken for dead and its number skipped.
        listener: called after something was done, in the thread that did it.

    Raises:
        InvalidReference, InvalidParameter: `base_uri` is none of these.
    """
    repositories = Repositories(base_uri, registry)
    disk = LayoutStore(cache) if cache is not None and repositories.is_remote else None
    return Storage(repositories, disk, jobs, patience_seconds, listener)


class Storage:
    """Versions of applications; made by `open_storage`, and a context manager.

    Thread safety: threads may share it, and any number of processes may use one base.
    """

    def __init__(
        self,
        repositories: Repositories,
        cache: LayoutStore | None,
        jobs: int,
        patience_seconds: float,
        listener: Callable[[StorageEvent], None] | None,
    ) -> None:
        self._repositories = repositories
        self.base_uri = repositories.uri
        """What it was opened with."""
        self._cache = cache
        self._jobs = jobs
        self._patience = patience_seconds
        self._listener = listener
        self._lock = Lock()
        self._versions = OpenVersions(cache)
        self._ledgers: dict[str, tuple[Shelf, Ledger]] = {}
        self.bundles = SupportBundles(
            lambda create: repositories.shelf(None, create=create), self._versions.load, self._job
        )
        """The support bundles."""

    def apps(self) -> list[str]:
        """Return the IDs of the applications that have, or had, versions."""
        if self._repositories.is_layout:
            names: Iterable[str] = self._repositories.local_names()
        else:
            tags = self._repositories.shelf(None).names()
            names = [tag.removeprefix(APP_PREFIX) for tag in tags if tag.startswith(APP_PREFIX)]
        return sorted(app for name in names if (app := decode_app(name)) is not None)

    def save(
        self,
        app: str,
        source: str | bytes | os.PathLike[str],
        *,
        sequence: int | None = None,
        labels: Mapping[str, str] | None = None,
        level: int = zstd.DEFAULT_LEVEL,
        expand: bool = True,
        created: int | None = None,
        progress: ProgressCallback | None = None,
        cancel: CancelEvent | None = None,
    ) -> SavedVersion:
        """Save a directory or archive as the application's next version.

        Of the newest version the index and a few frames are read; only what is new is sent.

        Args:
            app: the application's ID, any text that encodes to at most 120 characters.
            source: a directory, or a single file.
            sequence: its number; the next one if None. Numbers may be left out. With a number that
                has the same content already, that version is returned and nothing is saved.
            labels: names and values for the history, such as a version's name or who saved it.
            level: zstd level.
            expand: open archives.
            created: seconds since the epoch to record as its time; now if None.
            progress: called now and then.
            cancel: set it, from any thread, to give up.

        Returns:
            what was saved; its number stays, whatever other writers do at the same time.

        Raises:
            Conflict: `sequence` has another version.
            Cancelled: nothing was saved.
            SourceChanged, UnsupportedFile, OSError: about a file, by name; nothing was saved.
            StoreError: about the registry. Failed while naming the version? `history` tells.
        """
        if sequence is not None:
            check_sequence(sequence)
        root = os.fsencode(source)
        os.stat(root)  # a missing or forbidden path is reported before a repository is made
        job = self._job(root, app, labels, progress, cancel, level, expand, created)
        shelf = self._repositories.shelf(app, create=True)
        names = shelf.names()
        saved = sorted(Numbers.read(names).saved, reverse=True)
        if not saved:
            self._list_app(app)

        def known(version: Version) -> Record | None:
            if sequence is None or sequence not in saved:
                return None
            old = self._versions.load(shelf, str(sequence))
            if old.config.tree != version.config.tree:
                raise Conflict("sequence", str(sequence), f"{app} has another version under it")
            return Record.of(str(sequence), old.descriptor, old.manifest)

        def arrive(put: Put) -> Record:
            if sequence is not None and saved and sequence < saved[0]:
                # A version that was deleted may have had it, and be in what was gathered.
                self._ledger(app, shelf).strike(str(sequence))

            def commit(number: int) -> Record:
                return put(str(number), {APP: app, SEQUENCE: str(number)})

            return Numbering(
                shelf,
                commit,
                wanted=sequence,
                patience_seconds=self._patience,
                cancel=cancel,
            ).run()[1]

        older = [number for number in saved if sequence is None or number <= sequence] or saved
        bases = loaded(self._versions.load, shelf, map(str, older))
        record = save_tree(shelf, job, bases, arrive, known)
        self._ledger(app, shelf).add(record)
        number = int(record.tag)
        if number % GATHER_EVERY == GATHER_EVERY - 1 and number not in saved:
            self._ledger(app, shelf).gather()
        _log.info("saved %s %d: %s, %d new bytes", app, number, record.digest, record.new_bytes)
        self._tell("saved", app, number)
        return SavedVersion.of(app, record)

    def load(
        self,
        app: str,
        sequence: int,
        directory: str | bytes | os.PathLike[str],
        *,
        update: bool = False,
        delete: bool = False,
        seed: Iterable[str | bytes | os.PathLike[str]] = (),
        expect: str | None = None,
        progress: ProgressCallback | None = None,
        cancel: CancelEvent | None = None,
    ) -> Restored:
        """Write a version to a directory, verified and whole or not at all.

        Args:
            app: the application.
            sequence: of the version.
            directory: as for `packer.unpack`, as are `update` and `delete`.
            update: it may have content: equal files stay, others are replaced.
            delete: with `update`, remove what the version does not hold.
            seed: directories that may hold older copies, as for `packer.unpack`.
            expect: digest that the version must have.
            progress: called now and then.
            cancel: set it to give up; the directory is then as it was.

        Raises:
            NotFound, TargetExists, IntegrityError, Cancelled, OSError: the directory is as it was.
        """
        version = self.version(app, sequence)
        check_expected(version.descriptor.digest, expect, f"{app} {sequence}")
        report = cancellable(progress, cancel, "unpacking")
        if self._cache is not None:
            tag = f"{encode_app(app)}:{sequence}"
            store = self._shelf(app).store
            digest = version.descriptor.digest
            jobs = self._jobs
            copy_graph(store, digest, self._cache, tag, jobs=jobs, progress=report, cancel=cancel)
            trim(self._cache, tag)
        with until_cancelled(cancel, (version.store,), "unpacking"):
            restored = restore(
                version,
                os.fsencode(directory),
                update=update,
                delete=delete,
                seeds=seed_paths(seed),
                progress=report,
            )
        self._tell("loaded", app, sequence)
        return restored

    def history(self, app: str) -> list[SavedVersion]:
        """Return all versions of an application by sequence number; none if it is not known.

        A request for each page of tags, two for what was gathered, one for each version since.
        """
        try:
            shelf = self._repositories.shelf(app)
        except NotFound:
            return []
        records = self._ledger(app, shelf).read(shelf.names())
        return [SavedVersion.of(app, records[tag]) for tag in sorted(records, key=int)]

    def current(self, app: str) -> SavedVersion | None:
        """Return the version that is deployed, or None."""
        log = self.deployments(app)
        if not log:
            return None
        shelf, tag = self._repositories.shelf(app), str(log[-1].sequence)
        record = self._ledger(app, shelf).read_one(tag)
        return SavedVersion.of(app, record) if record is not None else None

    def deployments(self, app: str) -> list[Deployment]:
        """Return what was deployed, the newest last; the last 64 are kept."""
        try:
            return read_log(self._repositories.shelf(app))[1]
        except NotFound:
            return []

    def deploy(self, app: str, sequence: int) -> Deployment:
        """Mark a version as the one that is deployed; a damaged log is replaced by a new one.

        Raises:
            NotFound: there is no such version.
        """
        shelf = self._shelf_with(app, sequence)
        try:
            old, log = read_log(shelf)
        except FormatError as error:
            # What is deployed from now on is known again; only what was before is lost.
            _log.warning("%s: the log of deployments is begun anew: %s", app, error)
            old, log = "", []
        done = write_log(shelf, old, log, sequence)
        self._tell("deployed", app, sequence)
        return done

    def rollback(self, app: str) -> Deployment:
        """Mark the version as deployed that was before, and is still there.

        Raises:
            NotFound: there is none.
        """
        shelf = self._shelf(app)
        old, log = read_log(shelf)
        saved = Numbers.read(shelf.names()).saved
        before = deployed_before(log, saved)
        if before is None:
            raise NotFound("version", "deployed before", f"of {app}")
        done = write_log(shelf, old, log, before)
        self._tell("deployed", app, before)
        return done

    def diff(self, app: str, old: int, new: int, *, inside: bool = False) -> list[Change]:
        """Return what differs between two versions, from their indexes alone.

        Args:
            app: the application.
            old: the one version.
            new: the other.
            inside: also what differs in archives that changed, which are read for it.
        """
        versions = self.version(app, old), self.version(app, new)
        return list(contents.differences(*versions, inside=inside))

    def entries(self, app: str, sequence: int) -> list[Entry]:
        """Return what a version holds, from its index alone."""
        return list(contents.entries(self.version(app, sequence)))

    def open(self, app: str, sequence: int, path: str | bytes) -> io.BufferedReader:
        """Open one file of a version for reading, without pulling the version.

        Raises:
            NotFound: there is no such version or path.
            InvalidParameter: it is no file.
        """
        return open_entry(self.version(app, sequence), path)

    def delete(self, app: str, sequence: int) -> None:
        """Delete a version; the registry's own garbage collection frees what only it needed.

        Raises:
            NotFound: there is no such version.
            Conflict: it is deployed.
            RegistryError: the registry does not delete (status 405).
        """
        shelf = self._shelf_with(app, sequence)
        log = read_log(shelf)[1]
        if log and log[-1].sequence == sequence:
            raise Conflict("sequence", str(sequence), f"it is what {app} has deployed")
        delete_number(shelf, sequence, Numbers.read(shelf.names()))
        self._forget(app, shelf, sequence)

    def withdraw(self, app: str, sequence: int) -> None:
        """Remove a version that should not have been saved; its number may be given again.

        For who has just saved it under a chosen number, as a migration does, and finds that it is
        not what it should be. Whoever read it meanwhile may go on seeing it: else use `delete`.

        Raises:
            NotFound: there is no such version.
            RegistryError: the registry does not delete (status 405).
        """
        shelf = self._shelf_with(app, sequence)
        withdraw_number(shelf, sequence, self._ledger(app, shelf))
        self._forget(app, shelf, sequence)

    def retain(
        self,
        app: str,
        *,
        keep: int,
        protect: Iterable[int] = (),
        cancel: CancelEvent | None = None,
    ) -> Retained:
        """Delete all versions but the newest ones, and those that are needed.

        The deployed version stays, the one that a rollback would go to, and what `protect` names.
        Versions list every layer they need and were compacted when they were saved, so those that
        stay are as cheap to pull as ever; layers that none of them lists are free to be collected.
        In a layout, that is done at once, but for what was written in the last hour.

        Args:
            app: the application.
            keep: how many of the newest to keep, at least 1.
            protect: numbers to keep besides.
            cancel: set it to stop between two versions.

        Raises:
            RegistryError: the registry does not delete (status 405).
        """
        if keep < 1:
            raise InvalidParameter(f"keep={keep} is less than 1")
        protected = [check_sequence(number) for number in protect]
        shelf = self._shelf(app)

        def deleted(number: int) -> None:
            self._forget(app, shelf, number)
            if cancel is not None and cancel.is_set():
                raise Cancelled("retain")

        return retain(shelf, keep, protected, deleted)

    def save_support_bundle(
        self,
        bundle_id: str,
        source: str | bytes | os.PathLike[str],
        *,
        labels: Mapping[str, str] | None = None,
        progress: ProgressCallback | None = None,
        cancel: CancelEvent | None = None,
    ) -> SupportBundle:
        """Save a support bundle of any size: an archive, or a directory.

        Saving the same content under its ID again does nothing.

        Raises:
            Conflict: the ID has another bundle.
            Cancelled, SourceChanged, UnsupportedFile, OSError, StoreError: as `save`.
        """
        return self.bundles.save(bundle_id, source, labels=labels, progress=progress, cancel=cancel)

    def support_bundles(self) -> list[SupportBundle]:
        """Return all support bundles, in the order of the time they were saved at."""
        return self.bundles.list()

    def open_support_bundle(self, bundle_id: str) -> io.BufferedReader:
        """Open the archive of a support bundle for reading; seekable.

        Raises:
            NotFound: there is no such bundle.
            InvalidParameter: it is a directory; ``bundles.load`` writes it out.
        """
        return self.bundles.open(bundle_id)

    def version(self, app: str, sequence: int) -> Version:
        """Return a version for the rest of the library: `packer.listing`, `packer.restore`.

        Raises:
            NotFound: there is no such version.
        """
        check_sequence(sequence)
        try:
            return self._versions.load(self._repositories.shelf(app), str(sequence))
        except NotFound as error:
            if error.kind not in ("tag", "application"):
                raise
            raise NotFound("version", str(sequence), f"of {app} in {self.base_uri}") from None

    def reference(self, app: str, sequence: int) -> str:
        """Return what other tools, and `packer.pull`, call a version."""
        return self._repositories.reference(app, str(check_sequence(sequence)))

    def close(self) -> None:
        """Close connections; the storage may be used again."""
        self._repositories.close()

    def __enter__(self) -> Storage:
        """Return the storage."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close connections."""
        self.close()

    def _job(
        self,
        root: bytes,
        title: str,
        labels: Mapping[str, str] | None,
        progress: ProgressCallback | None,
        cancel: CancelEvent | None,
        level: int = zstd.DEFAULT_LEVEL,
        expand: bool = True,
        created: int | None = None,
    ) -> Job:
        return Job(
            root,
            title,
            check_labels(labels),
            check_level(level),
            expand,
            created,
            self._cache,
            self._jobs,
            progress,
            cancel,
        )

    def _list_app(self, app: str) -> None:
        """Make an application known by name, before its first version."""
        if self._repositories.is_layout:
            return  # its directory does
        try:
            tag = APP_PREFIX + encode_app(app)
            self._repositories.shelf(None).put_note(tag, {APP: app})
        except RegistryError as error:
            # Such as a base that has to be made by hand, and was not. What may pass has to be tried
            # again: later saves do not list the application, and nothing would find its versions.
            if error.status not in (401, 403, 404, 405):
                raise
            _log.warning("%s is not in the list of %s: %s", app, self.base_uri, error)

    def _shelf(self, app: str) -> Shelf:
        try:
            return self._repositories.shelf(app)
        except NotFound:
            raise NotFound("application", app, f"in {self.base_uri}") from None

    def _shelf_with(self, app: str, sequence: int) -> Shelf:
        """Return the repository that holds a version."""
        check_sequence(sequence)
        shelf = self._shelf(app)
        if not shelf.holds(str(sequence)):
            raise NotFound("version", str(sequence), f"of {app} in {self.base_uri}")
        return shelf

    def _ledger(self, app: str, shelf: Shelf) -> Ledger:
        with self._lock:
            found = self._ledgers.get(app)
            if found is None or found[0] is not shelf:
                found = self._ledgers[app] = shelf, Ledger(shelf, is_number)
            return found[1]

    def _forget(self, app: str, shelf: Shelf, sequence: int) -> None:
        """Take note that a version was deleted."""
        self._versions.forget(shelf, str(sequence))
        self._ledger(app, shelf).forget(str(sequence))
        self._tell("deleted", app, sequence)

    def _tell(self, kind: str, app: str, sequence: int) -> None:
        if self._listener is not None:
            self._listener(StorageEvent(kind, app, sequence))
