"""`Storage`: the versions of a set of applications, and their support bundles, in a registry.

For installers and admin consoles: a library inside a long-running process with threads and
replicas, whose only state is in the registry. Each application has a repository of its own; the tag
of a version is its sequence number. The work of each call is done by the modules beside this one;
docs/storage.md has the reasons.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from packer.api.locations import default_storage_uri
from packer.api.tree_writer import TreeWriter
from packer.errors import Cancelled, InvalidParameter, NotFound
from packer.files.closing import Closing
from packer.forks import Lock
from packer.format.version import Version
from packer.opening.choice import DEFAULT_OPENING, check_opening
from packer.progress import CancelEvent, ProgressCallback, cancellable
from packer.reading import contents
from packer.reading.contents import Entry
from packer.reading.differences import Change, changes
from packer.reading.restore import Restored
from packer.reading.seeds import seed_paths
from packer.reading.version_file import EntryFile, open_entry
from packer.storage import app_list
from packer.storage.application import Application
from packer.storage.condition import Finding, verify_all
from packer.storage.deployments import Deployment, deploy, read_log, rollback
from packer.storage.load import load
from packer.storage.open_versions import OpenVersions
from packer.storage.results import Retained, SavedVersion, StorageEvent, SupportBundle
from packer.storage.retention import delete, retain, withdraw
from packer.storage.save import Job, check_labels, check_level
from packer.storage.state.encoded_names import encode_app
from packer.storage.state.repositories import Repositories
from packer.storage.state.sequence_numbers import PATIENCE_SECONDS, Numbers, check_sequence
from packer.storage.support_bundles import SupportBundles
from packer.stores.graph import check_expected
from packer.stores.layout import LayoutStore
from packer.stores.registry.access import RegistryLike

if TYPE_CHECKING:
    from packer.api.trust import Trust
    from packer.opening.kept_texts import KeptTexts


def open_storage(
    base_uri: str | None = None,
    *,
    cache: str | os.PathLike[str] | None = None,
    registry: RegistryLike = None,
    jobs: int = 4,
    patience_seconds: float = PATIENCE_SECONDS,
    listener: Callable[[StorageEvent], None] | None = None,
) -> Storage:
    """Open the storage below a base; no request is made, nothing is written.

    Args:
        base_uri: ``docker://host/repository`` in a registry, ``oci:DIR`` for image layouts below a
            directory, or ``memory:`` for a new one in memory; None for ``$LAYER_PACKER_STORAGE``.
        cache: a directory that keeps layers from one call to the next; without it, each call
            fetches what it needs.
        registry: how to reach the registry.
        jobs: concurrent transfers of one call.
        patience_seconds: how long to wait for another writer that has claimed a sequence number,
            before the writer counts as dead and its number is skipped.
        listener: called after each change, in the thread that made it.

    Returns:
        The storage.

    Raises:
        InvalidReference, InvalidParameter: `base_uri` is none of these.
    """
    base_uri = default_storage_uri() if base_uri is None else base_uri
    repositories = Repositories(base_uri, registry)
    disk = LayoutStore(cache) if cache is not None and repositories.is_remote else None
    return Storage(repositories, disk, jobs, patience_seconds, listener)


class Storage(Closing):
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
        """The base that it was opened with."""
        self._cache = cache
        self._jobs = jobs
        self._patience = patience_seconds
        self._listener = listener
        self.texts: KeptTexts | None = None
        """Keeps text of old archives from one save to the next; None keeps none."""
        self._lock = Lock()
        self._versions = OpenVersions(cache)
        self._applications: dict[str, Application] = {}
        self.bundles = SupportBundles(
            lambda create: repositories.repository(None, create=create),
            self._versions.load,
            self._job,
        )
        """The support bundles."""

    def apps(self) -> list[str]:
        """Return the IDs of the applications that have, or had, versions.

        An application of which no version loads is among them; its `history` is empty.
        """
        return app_list.read(self._repositories)

    def save(
        self,
        app: str,
        source: str | bytes | os.PathLike[str],
        *,
        sequence: int | None = None,
        labels: Mapping[str, str] | None = None,
        level: int | None = None,
        opening: str = DEFAULT_OPENING,
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
            level: zstd level; None as for `packer.pack`.
            opening: which archives are opened: "all", "changed" or "none", as `packer.pack` says.
            created: seconds since the epoch to record as its time; now if None.
            progress: called now and then.
            cancel: set it, from any thread, to give up.

        Returns:
            The version; its number stays, whatever other writers do at the same time.

        Raises:
            Conflict: `sequence` has another version.
            Cancelled: nothing was saved.
            SourceChanged, UnsupportedFile, OSError: about a file, by name; nothing was saved.
            StoreError: the registry failed. If that was while the version was named, `history`
                tells whether it was saved.
        """
        if sequence is not None:
            check_sequence(sequence)
        root = os.fsencode(source)
        os.stat(root)  # a missing or forbidden path is reported before a repository is made
        job = self._job(
            root, app, labels, progress, cancel, level=level, opening=opening, created=created
        )
        application = self._application(app, create=True)

        def enlist() -> None:
            app_list.add(self._repositories, app)

        saved = application.save(job, application.numbers(), sequence, self._patience, enlist)
        self._tell("saved", app, saved.sequence)
        return saved

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
        trust: Trust | None = None,
        progress: ProgressCallback | None = None,
        cancel: CancelEvent | None = None,
    ) -> Restored:
        """Write a version to a directory, verified and whole or not at all.

        Args:
            app: the application's ID.
            sequence: number of the version.
            directory: where to write; new or empty without `update`.
            update: the directory may have content: equal files stay, others are replaced.
            delete: with `update`, remove files that the version does not hold.
            seed: directories that may hold older copies, as for `packer.unpack`.
            expect: digest that the version must have.
            trust: the signatures that the version needs, and the receipt to write.
            progress: called now and then.
            cancel: set it to give up; the directory is then as it was.

        Returns:
            Counts of the files and bytes written.

        Raises:
            NotFound, TargetExists, IntegrityError, Cancelled, OSError: the directory is as it was.
            SignatureError, OlderVersion: what `trust` asks for is not met; the directory is as it
                was.
        """
        version = self.version(app, sequence)
        check_expected(version.descriptor.digest, expect, f"{app} {sequence}")
        report = cancellable(progress, cancel, "unpacking")
        writer = TreeWriter(
            "load",
            self.reference(app, sequence),
            os.fsencode(directory),
            trust,
            update,
            delete,
            seeds=seed_paths(seed),
            progress=report,
        )
        restored = load(
            version,
            writer,
            self._application(app).repository.store,
            self._cache,
            f"{encode_app(app)}:{sequence}",
            jobs=self._jobs,
            progress=report,
            cancel=cancel,
        )
        self._tell("loaded", app, sequence)
        return restored

    def history(self, app: str) -> list[SavedVersion]:
        """Return all versions of an application by sequence number; none if it is not known.

        Takes a request for each page of tags, two for the gathered records, and one for each
        version saved since. A number that names no version, or that the registry fails to read, is
        left out, with a warning that names it.

        Args:
            app: the application's ID.

        Returns:
            The versions.

        Raises:
            StoreError: the registry cannot be reached, or fails for all versions.
        """
        try:
            return self._application(app).history()
        except NotFound:
            return []

    def latest(self, app: str) -> SavedVersion | None:
        """Return the version that was saved with the highest number; None if there is none.

        Takes a request for each page of tags, and one more. A number that names no version is
        passed over, with a warning that names it.

        Args:
            app: the application's ID.

        Returns:
            The version.

        Raises:
            StoreError: the registry cannot be reached.
        """
        try:
            return self._application(app).latest()
        except NotFound:
            return None

    def current(self, app: str) -> SavedVersion | None:
        """Return the version that is deployed, or None."""
        log = self.deployments(app)
        return self._application(app).ledger.read_one(str(log[-1].sequence)) if log else None

    def deployments(self, app: str) -> list[Deployment]:
        """Return the deployments of an application, the newest last; the last 64 are kept."""
        try:
            repository = self._application(app).repository
            return read_log(repository, repository.names())
        except NotFound:
            return []

    def deploy(self, app: str, sequence: int, *, trust: Trust | None = None) -> Deployment:
        """Mark a version as deployed; a damaged log of deployments is begun anew.

        Args:
            app: the application's ID.
            sequence: number of the version.
            trust: the signatures that the version needs; no receipt is written.

        Returns:
            The deployment.

        Raises:
            NotFound: there is no such version.
            SignatureError, OlderVersion: what `trust` asks for is not met; nothing is marked.
            UnsupportedVersion, IntegrityError: the number names no version, or a damaged one.
        """
        if trust is not None:
            version, source = self.version(app, sequence), self.reference(app, sequence)
            trust.admit(version.store, version.descriptor, version.manifest_bytes, source)
        done = deploy(self._application(app), check_sequence(sequence))
        self._tell("deployed", app, sequence)
        return done

    def rollback(self, app: str) -> Deployment:
        """Mark the version as deployed that was deployed before the current one.

        Versions that were deleted since are passed over.

        Args:
            app: the application's ID.

        Returns:
            The deployment.

        Raises:
            NotFound: there is no such version.
        """
        done = rollback(self._application(app))
        self._tell("deployed", app, done.sequence)
        return done

    def diff(self, app: str, old: int, new: int, *, inside: bool = False) -> list[Change]:
        """Return the differences between two versions, from their indexes alone.

        Args:
            app: the application's ID.
            old: number of the older version.
            new: number of the newer version.
            inside: also list the differences within changed archives, which are read for it.

        Returns:
            The changes, sorted by path.
        """
        versions = self.version(app, old), self.version(app, new)
        return list(changes(*versions, inside=inside))

    def entries(self, app: str, sequence: int) -> list[Entry]:
        """Return the entries of a version, from its index alone."""
        return list(contents.entries(self.version(app, sequence)))

    def open(self, app: str, sequence: int, path: str | bytes) -> EntryFile:
        """Open one file of a version for reading, without pulling the version.

        Args:
            app: the application's ID.
            sequence: number of the version.
            path: of the file, in the version.

        Returns:
            The file; seekable.

        Raises:
            NotFound: there is no such version or path.
            InvalidParameter: the path names no file.
        """
        return open_entry(self.version(app, sequence), path)

    def delete(self, app: str, sequence: int) -> None:
        """Delete a version; the registry's own garbage collection frees what only it needed.

        A number whose manifest is gone, or that names something else, is removed as well; other
        tags of a foreign manifest stay.

        Args:
            app: the application's ID.
            sequence: number of the version.

        Raises:
            NotFound: there is no such version.
            Conflict: the version is deployed.
            RegistryError: the registry does not delete (status 405).
        """
        delete(self._application(app), check_sequence(sequence))
        self._tell("deleted", app, sequence)

    def withdraw(self, app: str, sequence: int) -> None:
        """Remove a version that should not have been saved; its number may be given again.

        For a caller that has just saved it under a chosen number, as a migration does, and finds
        its content wrong. A process that read it meanwhile may go on seeing it: if any may have,
        use `delete`.

        Args:
            app: the application's ID.
            sequence: number of the version.

        Raises:
            NotFound: there is no such version.
            RegistryError: the registry does not delete (status 405).
        """
        withdraw(self._application(app), check_sequence(sequence))
        self._tell("deleted", app, sequence)

    def retain(
        self,
        app: str,
        *,
        keep: int,
        protect: Iterable[int] = (),
        dry_run: bool = False,
        cancel: CancelEvent | None = None,
    ) -> Retained:
        """Delete all versions but the newest ones that can be loaded, and those that are needed.

        The deployed version stays, as do the one that a rollback would go to and the ones in
        `protect`. Each version lists every layer it needs and was compacted when it was saved, so
        the kept versions are as cheap to pull as before. Layers that none of them lists can be
        collected; in a layout that is done at once, except for blobs of the last hour.

        A number whose manifest or blobs are gone, or that names something else, does not count.

        Args:
            app: the application's ID.
            keep: how many of the newest to keep, at least 1.
            protect: numbers of further versions to keep.
            dry_run: delete nothing; only say what would be deleted.
            cancel: set it to stop between two versions.

        Returns:
            The numbers that were deleted, kept, and left alone.

        Raises:
            InvalidParameter: `keep` is below 1.
            Cancelled: `cancel` was set.
            RegistryError: the registry does not delete (status 405).
            StoreError: no version can be read; nothing was deleted.
        """
        if keep < 1:
            raise InvalidParameter(f"keep={keep} is less than 1")
        protected = [check_sequence(number) for number in protect]

        def deleted(number: int) -> None:
            self._tell("deleted", app, number)
            if cancel is not None and cancel.is_set():
                raise Cancelled("retain")

        return retain(self._application(app), keep, protected, deleted, dry_run=dry_run)

    def verify(self, app: str, *, cancel: CancelEvent | None = None) -> list[Finding]:
        """Read every version of an application, and tell which are damaged and by what.

        Each blob is read once, however many versions share it.

        Args:
            app: the application's ID.
            cancel: set it to stop between two versions.

        Returns:
            A finding for each sequence number, in their order; also for numbers that `history`
            leaves out as they name no version.

        Raises:
            NotFound: there is no such application.
            Cancelled: `cancel` was set.
            StoreError: the registry cannot be reached.
        """
        application = self._application(app)
        names = application.repository.names()
        if not names:
            raise NotFound("application", app, f"in {self.base_uri}")
        tags = map(str, sorted(Numbers.read(names).saved))
        return verify_all(application.repository, tags, cancel)

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

        Args:
            bundle_id: any text that encodes to at most 120 characters.
            source: the archive or directory.
            labels: names and values to list with it.
            progress: called now and then.
            cancel: set it, from any thread, to give up.

        Returns:
            The bundle.

        Raises:
            Conflict: the ID has another bundle.
            Cancelled, SourceChanged, UnsupportedFile, OSError, StoreError: as `save`.
        """
        return self.bundles.save(bundle_id, source, labels=labels, progress=progress, cancel=cancel)

    def support_bundles(self) -> list[SupportBundle]:
        """Return all support bundles, ordered by the time they were saved."""
        return self.bundles.list()

    def open_support_bundle(self, bundle_id: str) -> EntryFile:
        """Open the archive of a support bundle for reading.

        Args:
            bundle_id: its ID.

        Returns:
            The file; seekable.

        Raises:
            NotFound: there is no such bundle.
            InvalidParameter: the bundle is a directory; ``bundles.load`` writes it out.
        """
        return self.bundles.open(bundle_id)

    def version(self, app: str, sequence: int) -> Version:
        """Return a version for other calls of the library.

        Args:
            app: the application's ID.
            sequence: number of the version.

        Returns:
            The version, its manifest and config read.

        Raises:
            NotFound: there is no such version.
            UnsupportedVersion: the number names something else.
        """
        check_sequence(sequence)
        try:
            return self._application(app).version(sequence)
        except NotFound as error:
            if error.kind != "application":
                raise
            raise NotFound("version", str(sequence), f"of {app} in {self.base_uri}") from None

    def reference(self, app: str, sequence: int) -> str:
        """Return the reference of a version for other tools and `packer.pull`."""
        return self._repositories.reference(app, str(check_sequence(sequence)))

    def close(self) -> None:
        """Close connections; the storage may be used again."""
        self._repositories.close()

    def _job(
        self,
        root: bytes,
        title: str,
        labels: Mapping[str, str] | None,
        progress: ProgressCallback | None,
        cancel: CancelEvent | None,
        *,
        level: int | None = None,
        opening: str = DEFAULT_OPENING,
        created: int | None = None,
    ) -> Job:
        return Job(
            root=root,
            title=title,
            labels=check_labels(labels),
            level=check_level(level),
            opening=check_opening(opening),
            created=created,
            cache=self._cache,
            jobs=self._jobs,
            progress=progress,
            cancel=cancel,
            texts=self.texts,
        )

    def _application(self, app: str, *, create: bool = False) -> Application:
        """Return an application; `create` makes its layout.

        Raises:
            NotFound: there is no such application; registries make repositories by themselves.
        """
        try:
            repository = self._repositories.repository(app, create=create)
        except NotFound:
            raise NotFound("application", app, f"in {self.base_uri}") from None
        with self._lock:
            found = self._applications.get(app)
            if found is None or found.repository is not repository:
                found = Application(app, repository, self._versions, self.base_uri)
                self._applications[app] = found
            return found

    def _tell(self, kind: str, app: str, sequence: int) -> None:
        if self._listener is not None:
            self._listener(StorageEvent(kind, app, sequence))
