"""One application of a storage: its repository, its records, and the versions that are open."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from packer.errors import Conflict, NotFound, UnsupportedVersion
from packer.format.version import Version
from packer.oci import Manifest
from packer.storage.open_versions import OpenVersions
from packer.storage.results import SavedVersion
from packer.storage.save import Job, Staged, bases, building_on, stage
from packer.storage.state.history import GATHER_EVERY, Ledger
from packer.storage.state.repository import Repository
from packer.storage.state.sequence_numbers import Numbering, Numbers, is_number

APP = "layer-packer.app"
"""Annotation of a version's manifest: the application's ID."""
SEQUENCE = "layer-packer.sequence"
"""Annotation of a version's manifest: its number."""

_log = logging.getLogger(__name__)


class Application:
    """The versions of one application.

    Args:
        app: its ID.
        repository: holds its versions.
        versions: the storage's versions that were read last.
        base_uri: of the storage, for errors.

    Thread safety: threads may share it.
    """

    def __init__(
        self, app: str, repository: Repository, versions: OpenVersions, base_uri: str
    ) -> None:
        self.app = app
        self.repository = repository
        self._versions = versions
        self._where = f"of {app} in {base_uri}"
        self.ledger: Ledger[SavedVersion] = Ledger(repository, is_number, self._record)
        """The records of its versions."""

    def _record(self, tag: str, fields: dict[str, Any]) -> SavedVersion:
        return SavedVersion(self.app, int(tag), **fields)

    def numbers(self) -> Numbers:
        """Return the sequence numbers that the repository's tags tell of."""
        return Numbers.read(self.repository.names())

    def history(self) -> list[SavedVersion]:
        """Return all versions by sequence number."""
        records = self.ledger.read(self.repository.names())
        return [records[tag] for tag in sorted(records, key=int)]

    def latest(self) -> SavedVersion | None:
        """Return the record of the version with the highest number that has one."""
        numbers = sorted(self.numbers().saved, reverse=True)
        found = (self.ledger.read_one(str(number)) for number in numbers)
        return next((record for record in found if record is not None), None)

    def version(self, sequence: int) -> Version:
        """Return a version, its manifest and config read.

        Args:
            sequence: its number.

        Returns:
            The version; one that was read lately is not read again.

        Raises:
            NotFound: there is no such version.
            UnsupportedVersion: the number names something else.
        """
        try:
            return self._versions.load(self.repository, str(sequence))
        except NotFound as error:
            if error.kind not in ("tag", "manifest"):
                raise
            raise self.no_version(sequence) from None
        except UnsupportedVersion as error:
            raise self._foreign(sequence, error) from error

    def check_version(self, sequence: int) -> None:
        """Read a version's manifest anew: another process may have deleted it.

        Args:
            sequence: its number.

        Raises:
            NotFound: there is no such version, or its manifest is gone.
            UnsupportedVersion: the number names something else.
        """
        try:
            descriptor, data = self.repository.store.get_manifest(str(sequence))
            Manifest.decode(data, f"manifest {descriptor.digest}")
        except NotFound:
            raise self.no_version(sequence) from None
        except UnsupportedVersion as error:
            raise self._foreign(sequence, error) from error

    def no_version(self, sequence: int) -> NotFound:
        """Return the error that says that a number has no version."""
        return NotFound("version", str(sequence), self._where)

    def _foreign(self, sequence: int, error: UnsupportedVersion) -> UnsupportedVersion:
        return UnsupportedVersion(f"{sequence} {self._where} is no version: {error}")

    def forget(self, sequence: int) -> None:
        """Forget a version that was deleted."""
        self._versions.forget(self.repository, str(sequence))
        self.ledger.forget(str(sequence))

    def save(
        self,
        job: Job,
        numbers: Numbers,
        wanted: int | None,
        patience_seconds: float,
        enlist: Callable[[], None],
    ) -> SavedVersion:
        """Save a tree as a version: stage it, send its blobs, claim a number, name it.

        Args:
            job: what to save, and how.
            numbers: as listed just before.
            wanted: a number that the caller chose, or None for the next one.
            patience_seconds: how long to wait for an undecided claim of another writer.
            enlist: lists the application; called before its first version is named.

        Returns:
            The version; the one that is there if `wanted` has the same content already.

        Raises:
            Conflict: `wanted` has another version.
            Cancelled: the job's event was set; nothing was saved.
            StoreError: the registry failed.
            AssertionError: never.
        """
        saved = sorted(numbers.saved, reverse=True)
        older = [number for number in saved if wanted is None or number <= wanted] or saved
        for base in bases(self._versions.load, self.repository, map(str, older), job):
            with building_on(base), stage(self.repository, job, base) as new:
                if wanted is not None and wanted in numbers.saved:
                    return self._same(wanted, new)
                new.send()
                if not numbers.saved:
                    enlist()  # not before: a save that fails leaves no application without versions
                return self._name(new, numbers, wanted, patience_seconds)
        raise AssertionError("the last base is None, and returns or raises")  # pragma: no cover

    def _same(self, wanted: int, new: Staged) -> SavedVersion:
        """Return the version that a number has, if it has the same content as the new one.

        Raises:
            Conflict: it is another.
        """
        old = self.version(wanted)
        if old.config.tree != new.version.config.tree:
            why = f"{self.app} has another version under it"
            raise Conflict("sequence", str(wanted), why)
        return self.ledger.record(str(wanted), old.descriptor, old.manifest)

    def _name(
        self,
        new: Staged,
        numbers: Numbers,
        wanted: int | None,
        patience_seconds: float,
    ) -> SavedVersion:
        """Claim a number for a version whose blobs were sent, and name it."""
        if wanted is not None and wanted < max(numbers.saved, default=-1):
            # The number may belong to a deleted version whose record is still in the history.
            self.ledger.strike(str(wanted))
        numbering = Numbering(
            self.repository, wanted=wanted, patience_seconds=patience_seconds, cancel=new.job.cancel
        )
        while True:
            try:
                with numbering.claim() as number:
                    notes = {APP: self.app, SEQUENCE: str(number)}
                    descriptor, manifest = new.name(str(number), notes)
                break
            except NotFound as error:
                new.send_lost(error)
        record = self.ledger.record(str(number), descriptor, manifest)
        self.ledger.add(str(number), record)
        if number % GATHER_EVERY == GATHER_EVERY - 1:
            self.ledger.gather()
        _log.info("saved %s %d: %s", self.app, number, record.digest)
        return record
