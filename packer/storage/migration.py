"""Moves the archives that KOTS kept from S3 or a directory to a storage, and back, in order.

The copy of a small archive is read back while the next one is saved, on the way back it is read
while the one before is written. Text of old archives that was made for one of these is kept for the
next.

An archive is done when its copy was read back and has the SHA-256 of the source. It is then
recorded in a journal, a file of this machine. The journal is trusted as long as the destination
still lists a copy of that size. Without a journal nothing is moved twice: a copy that is there is
read back and recorded again.

A copy whose content is wrong when it is read back is removed, so that the next run writes it anew.
If the run is killed before that, the label ``sha256`` of the copy tells the next run that the copy
is a migration's own.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO, Any

from packer.api.locations import default_store_path
from packer.errors import (
    Cancelled,
    Conflict,
    DigestMismatch,
    IntegrityError,
    InvalidParameter,
    NotFound,
    PackerError,
)
from packer.files.temporary import temporary_directory
from packer.opening.kept_texts import KeptTexts
from packer.progress import CancelEvent, Progress, ProgressCallback
from packer.reading.entry_content import FileReader
from packer.reference import is_registry_url
from packer.storage.kots_archives import Archive, Archives
from packer.storage.results import SavedVersion, SupportBundle
from packer.storage.storage import Storage, open_storage
from packer.stores.registry.access import RegistryLike

ARCHIVE_NAME = "archive.tar.gz"
"""Name of the only file of a version made from an archive."""
SHA256 = "sha256"
"""Label of a version or bundle made from an archive: the SHA-256 of the archive."""
_TRIES = 2
"""Readings of a copy before it counts as damaged: the first may have been a bad transfer."""

_SMALL_BYTES = 64 << 20
"""Bytes of two archives together up to which both are worked on at a time, for memory."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Migrated:
    """What a migration did, or would do.

    Args:
        archives: number of archives in the source.
        moved: archives copied and verified.
        present: archives that the destination had already, verified.
        noted: the part of `present` that an earlier run verified, as its journal says, and that is
            still listed; the others were read back in this run.
        bytes: size of all archives.
        new_bytes: bytes that the destination's storage added for `moved`; 0 on the way back.
        others: keys of the source that are no archives; or versions and bundles of a storage that
            are no archives, or whose ID cannot be a part of a path. They are not moved.
    """

    archives: int
    moved: int
    present: int
    noted: int
    bytes: int
    new_bytes: int
    others: int


class Journal:
    """Records which archives are done: a line for each, appended and synced.

    Args:
        path: of its file.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._done: dict[str, str] = {}
        try:
            with open(path, encoding="utf-8") as file:
                for line in file:
                    try:
                        key, mark = json.loads(line)
                    except ValueError:
                        continue  # the line that a kill cut off
                    self._done[str(key)] = str(mark)
        except FileNotFoundError:
            pass

    def holds(self, archive: Archive) -> bool:
        """Return whether this archive, unchanged, is done."""
        return self._done.get(archive.key) == _mark(archive)

    def add(self, archive: Archive) -> None:
        """Record that an archive is done."""
        os.makedirs(os.path.dirname(self._path) or ".", exist_ok=True)
        with open(self._path, "a", encoding="utf-8") as file:
            # A line feed first: the last line may have been cut off.
            file.write("\n" + json.dumps([archive.key, _mark(archive)]) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._done[archive.key] = _mark(archive)


def migrate(
    source: str,
    destination: str,
    *,
    dry_run: bool = False,
    journal: str | None = None,
    s3_options: Mapping[str, Any] | None = None,
    registry: RegistryLike = None,
    progress: ProgressCallback | None = None,
    cancel: CancelEvent | None = None,
) -> Migrated:
    """Copy all versions and support bundles from one place to another; the source is only read.

    Args:
        source: ``s3://bucket/prefix`` or a directory as KOTS lays it out, or the base of a
            storage (``docker://…``, ``oci:DIR``), of which versions that are archives are copied.
        destination: the other kind.
        dry_run: only count what would be done.
        journal: file that records what is done; by default in the user's data directory.
        s3_options: for s3fs.
        registry: how to reach the registry.
        progress: called now and then.
        cancel: set it to stop, between two archives or during one.

    Returns:
        The numbers of archives moved and present.

    Raises:
        Cancelled: `cancel` was set; a second call goes on.
        NotFound: the source holds nothing at all, or no archive.
        Conflict: the destination has other content under a sequence number or ID.
        DigestMismatch: a copy read back is not the source; it was removed again.
        InvalidParameter: both are of one kind.
        StoreError, OSError: a place failed; a second call goes on.
    """
    back = _is_storage(source)
    if back == _is_storage(destination):
        raise InvalidParameter("migrate goes from s3:// or a directory to a storage, or back")
    if journal is None:
        ends = f"{_absolute(source)}\n{_absolute(destination)}"
        name = hashlib.sha256(os.fsencode(ends)).hexdigest()[:32]
        journal = os.path.join(os.path.dirname(default_store_path()), "migrations", name)
    place = Archives(destination if back else source, s3_options)
    base = source if back else destination
    with open_storage(base, registry=registry) as storage:
        found, others = _archives_of(storage) if back else place.list()
        if not found and not others:
            # A prefix or base that holds nothing is misspelled: no success.
            raise NotFound("archives", source, "nothing at all is there")
        if not found and not back:
            raise NotFound(
                "archives", source, f"none of its {others} files is named as KOTS names archives"
            )
        notes = Journal(journal)
        noted = [archive for archive in found if notes.holds(archive)]
        size_at = place.size if back else _sizes_of(storage, noted)
        done = {archive.key for archive in noted if size_at(archive) == archive.size}
        todo = [archive for archive in found if archive.key not in done]
        moved = new_bytes = 0
        told = _Reporter(progress, sum(archive.size for archive in todo))
        if not dry_run:
            begin = (
                _FromStorage(storage, place).begin
                if back
                else _ToStorage(storage, place, told, cancel).begin
            )
            for archive, (was_moved, added) in _overlapped(todo, begin, told, cancel):
                notes.add(archive)
                moved, new_bytes = moved + was_moved, new_bytes + added
                told.end(archive)
        else:
            moved = len(todo)
    size = sum(archive.size for archive in found)
    present = len(found) - moved
    return Migrated(
        archives=len(found),
        moved=moved,
        present=present,
        noted=len(done),
        bytes=size,
        new_bytes=new_bytes,
        others=others,
    )


def _absolute(place: str) -> str:
    """Return a name of a place that is the same whatever the current directory."""
    if is_registry_url(place):
        return "docker://" + place.partition("://")[2].rstrip("/")
    if place.startswith("s3://"):
        return place.rstrip("/")
    transport = "oci:" if place.startswith("oci:") else ""
    return transport + os.path.realpath(place.removeprefix(transport))


class _Reporter:
    """Reports the migration as one phase, instead of the phases of packing and copying."""

    def __init__(self, progress: ProgressCallback | None, total: int) -> None:
        self._progress = progress
        self._total = total
        self._done = 0
        self._item = ""

    def begin(self, archive: Archive) -> None:
        self._item = archive.key
        self()

    def end(self, archive: Archive) -> None:
        self._done += archive.size
        self()

    def __call__(self, _: Progress | None = None) -> None:
        if self._progress is not None:
            self._progress(Progress("migrate", self._done, self._total, self._item))


_Done = tuple[bool, int]
"""Whether an archive was moved, and the bytes that it added."""


def _overlapped(
    archives: Iterable[Archive],
    begin: Callable[[Archive, Executor], Callable[[], _Done]],
    told: _Reporter,
    cancel: CancelEvent | None,
) -> Iterator[tuple[Archive, _Done]]:
    """Copy archives one by one; small ones are begun while the one before is finished.

    Args:
        archives: in order.
        begin: does the first part of the work, leaves some to an executor, and returns what waits
            for that and does the rest.
        told: told of each archive that is begun.
        cancel: looked at before each archive.

    Yields:
        Each archive, once it is done.

    Raises:
        Cancelled: `cancel` was set.
    """
    waiting: deque[tuple[Archive, Callable[[], _Done]]] = deque()
    with ThreadPoolExecutor(2, "migrate") as executor:
        for archive in archives:
            try:
                if cancel is not None and cancel.is_set():
                    raise Cancelled("migrating")
                if waiting and archive.size + waiting[0][0].size > _SMALL_BYTES:
                    before, end = waiting.popleft()
                    yield before, end()
                told.begin(archive)
                waiting.append((archive, begin(archive, executor)))
            except Exception:
                if waiting:  # what is nearly done need not be done again
                    before, end = waiting.popleft()
                    yield before, end()
                raise
            if len(waiting) > 1:
                before, end = waiting.popleft()
                yield before, end()
        for before, end in waiting:
            yield before, end()


class _ToStorage:
    """Copies archives to a storage."""

    def __init__(
        self,
        storage: Storage,
        place: Archives,
        progress: ProgressCallback,
        cancel: CancelEvent | None,
    ) -> None:
        self._storage = storage
        self._place = place
        self._kept = storage.texts = KeptTexts()
        self._options: dict[str, Any] = {"progress": progress, "cancel": cancel}

    def begin(self, archive: Archive, executor: Executor) -> Callable[[], _Done]:
        """Save an archive; return what waits until its copy was read back, in another thread."""
        damage: PackerError | None = None
        try:
            before = _digest_of(self._storage, archive, self._kept)
        except (IntegrityError, NotFound) as error:
            before, damage = "", error
        with temporary_directory() as folder:
            path = os.path.join(folder, ARCHIVE_NAME)
            with open(path, "w+b") as file:
                digest = self._place.read(archive, file)
            if before == digest:
                return lambda: (False, 0)
            if before is not None:
                if self._label(archive) != digest:
                    raise damage or Conflict("archive", archive.key, "the storage has another one")
                why = damage or f"it is sha256:{before}"
                _log.warning("the copy of %s is written anew: %s", archive.key, why)
                self._withdraw(archive)
            added = self._save(archive, path, digest)
        reading = executor.submit(_digest_of, self._storage, archive, self._kept)

        def end() -> _Done:
            try:
                actual = reading.result()
                if actual != digest:
                    raise DigestMismatch(archive.key, f"sha256:{digest}", f"sha256:{actual}")
            except (IntegrityError, NotFound):
                self._withdraw(archive)
                raise
            return True, added

        return end

    def _save(self, archive: Archive, path: str, digest: str) -> int:
        options = {"labels": {SHA256: digest}, **self._options}
        if not archive.app:
            return self._storage.save_support_bundle(archive.name, path, **options).new_bytes
        number = int(archive.name)
        return self._storage.save(archive.app, path, sequence=number, **options).new_bytes

    def _label(self, archive: Archive) -> str:
        """Return the SHA-256 in a copy's label, "" if there is none."""
        storage = self._storage
        found = (_archive(*each) for each in _saved(storage, [archive.app]))
        return next((each.sha256 for each in found if each.name == archive.name), "")

    def _withdraw(self, archive: Archive) -> None:
        """Remove a copy whose content contradicts its label."""
        try:
            if archive.app:
                self._storage.withdraw(archive.app, int(archive.name))
            else:
                self._storage.bundles.delete(archive.name)
        except PackerError as error:
            # Logged, not raised: the caller is told why the copy has to go, and a second run tries
            # to remove it again.
            _log.warning("the copy of %s could not be removed: %s", archive.key, error)


class _FromStorage:
    """Copies archives from a storage."""

    def __init__(self, storage: Storage, place: Archives) -> None:
        self._storage = storage
        self._place = place
        self._kept = KeptTexts()

    def begin(self, archive: Archive, executor: Executor) -> Callable[[], _Done]:
        """Read an archive in another thread; return what waits for it and writes it."""
        folder = ExitStack()
        path = os.path.join(folder.enter_context(temporary_directory()), ARCHIVE_NAME)

        def read() -> str | None:
            with open(path, "w+b") as file:
                return _digest_of(self._storage, archive, self._kept, file)

        reading = executor.submit(read)

        def end() -> _Done:
            with folder:
                return self._write(archive, path, reading.result())

        return end

    def _write(self, archive: Archive, path: str, digest: str | None) -> _Done:
        """Write an archive that was read from the storage."""
        if digest is None:
            raise NotFound("archive", archive.key, f"in {self._storage.base_uri}")
        if archive.sha256 not in ("", digest):
            raise DigestMismatch(archive.key, f"sha256:{archive.sha256}", f"sha256:{digest}")
        if self._place.digest(archive) is not None:
            if self._place.holds(archive, digest):
                return False, 0
            raise Conflict("archive", archive.key, "another one is there")
        for _ in range(_TRIES):
            self._place.write(archive, path)
            if self._place.holds(archive, digest):
                return True, 0
        actual = self._place.digest(archive)
        self._place.remove(archive)
        raise DigestMismatch(archive.key, f"sha256:{digest}", f"sha256:{actual}")


def _digest_of(
    storage: Storage, archive: Archive, kept: KeptTexts, out: IO[bytes] | None = None
) -> str | None:
    """Return the SHA-256 of an archive in a storage, None if it is not there.

    Args:
        storage: holds the archive.
        archive: the archive; all of it is read.
        kept: keeps texts from one archive to the next.
        out: its content is replaced by the archive.

    Returns:
        64 hex digits or None.

    Raises:
        IntegrityError: the archive is damaged: a second reading fails as well.
        NotFound: likewise.
        AssertionError: never.
    """
    for left in reversed(range(_TRIES)):
        if out is not None:
            out.seek(0)
            out.truncate()
        try:
            return _digest_once(storage, archive, kept, out)
        except (IntegrityError, NotFound):
            if not left:
                raise
    raise AssertionError


def _digest_once(
    storage: Storage, archive: Archive, kept: KeptTexts, out: IO[bytes] | None
) -> str | None:
    try:
        if archive.app:
            version = storage.version(archive.app, int(archive.name))
        else:
            version = storage.bundles.version(archive.name)
        if not version.index.is_single_file:
            raise Conflict("archive", archive.key, "the version is a directory")
    except NotFound as error:
        if error.kind == "blob":
            raise
        return None
    digest = hashlib.sha256()
    with FileReader(version, kept) as reader:
        for piece in reader.read(0, alone=True):
            digest.update(piece)
            if out is not None:
                out.write(piece)
    return digest.hexdigest()


def _archives_of(storage: Storage) -> tuple[list[Archive], int]:
    """Return the versions and bundles of a storage that are archives, and the number of others."""
    found, others = [], 0
    for app, each in _saved(storage, [*storage.apps(), ""]):
        archive = _archive(app, each)
        if not archive.has_path:
            _log.warning("%s stays behind: its ID cannot be a part of a path", archive.key)
            others += 1
        elif archive.sha256 or _is_archive(storage, app, each):
            found.append(archive)
        else:
            others += 1
    return sorted(found, key=lambda archive: archive.order), others


def _archive(app: str, saved: SavedVersion | SupportBundle) -> Archive:
    name = str(saved.sequence) if isinstance(saved, SavedVersion) else saved.id
    return Archive(app, name, saved.bytes, saved.digest, saved.labels.get(SHA256, ""))


def _is_archive(storage: Storage, app: str, saved: SavedVersion | SupportBundle) -> bool:
    """Return whether a version without the label is one file with the name of an archive."""
    if isinstance(saved, SavedVersion):
        if saved.files != 1:
            return False
        index = storage.version(app, saved.sequence).index
    else:
        index = storage.bundles.version(saved.id).index
    return index.is_single_file and index.paths[0].endswith((b".tar.gz", b".tgz"))


def _sizes_of(storage: Storage, archives: Iterable[Archive]) -> Callable[[Archive], int | None]:
    """Return a function from an archive to its size in a storage, which is asked once for all."""
    saved = _saved(storage, {archive.app for archive in archives})
    sizes = {archive.key: archive.size for archive in (_archive(*each) for each in saved)}
    return lambda archive: sizes.get(archive.key)


def _saved(
    storage: Storage, apps: Iterable[str]
) -> Iterator[tuple[str, SavedVersion | SupportBundle]]:
    """Yield the versions of applications, each with its ID; "" stands for the support bundles."""
    for app in apps:
        for each in storage.history(app) if app else storage.support_bundles():
            yield app, each


def _is_storage(place: str) -> bool:
    return place.startswith(("docker://", "oci:"))


def _mark(archive: Archive) -> str:
    return f"{archive.size} {archive.stamp}"
