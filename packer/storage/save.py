"""Saving a tree: stage it, send its blobs, claim a number, name it. In this order.

Nothing is tagged before everything that the tag needs is there. Of the base, a version saved
before, only the index and a few frames are read; what is new is staged in a local store.
"""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from itertools import islice

from packer._version import VERSION as TOOL_VERSION
from packer.engine import zstd
from packer.engine.chunking import ChunkParams
from packer.errors import Cancelled, InvalidParameter, NotFound, PackerError
from packer.files.temporary import temporary_directory
from packer.format.version import CREATED, TITLE, Version, load_version
from packer.oci import PARENT, Descriptor, Manifest
from packer.opening.choice import DEFAULT_OPENING
from packer.opening.kept_texts import KeptTexts
from packer.packing.older.similar import SketchCache
from packer.packing.older.staging import NearSketches, Staging
from packer.packing.pack_tree import LocalStore, Packed, PackJob, check_outside, pack_tree
from packer.progress import CancelEvent, ProgressCallback, cancellable
from packer.storage.state.history import LABEL_PREFIX, NUMBERS, RECORD_PREFIX
from packer.storage.state.repository import NONCE, Repository
from packer.stores.cancelling import until_cancelled
from packer.stores.layout import LayoutStore, caches_of, using
from packer.stores.protocols import Upload
from packer.transfer.blob_sender import BlobSender

MAX_LABELS = 64
"""Labels of a version: they are annotations, which a manifest's 4 MiB bound."""
MAX_LABEL_CHARS = 4096
"""Length of a label's value."""
MAX_LABEL_NAME_CHARS = 128
"""Length of a label's name."""
MAX_BASES = 3
"""Versions tried as base before one is packed alone."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Job:
    """How to save.

    Args:
        root: directory or file.
        title: for people.
        labels: see `check_labels`.
        level: zstd level; None lets the size of the version decide.
        opening: which archives are opened, one of `opening.choice.OPENINGS`.
        created: seconds since the epoch to record; None for now.
        cache: layout that takes new blobs on their way to a registry; a temporary one if None.
        jobs: concurrent uploads.
        progress: called now and then.
        cancel: the caller's event, ignored once the manifest is being written.
        texts: keeps text of old archives from one save to the next; None keeps none.
    """

    root: bytes
    title: str
    labels: Mapping[str, str]
    level: int | None = None
    opening: str = DEFAULT_OPENING
    created: int | None = None
    cache: LayoutStore | None = None
    jobs: int = 4
    progress: ProgressCallback | None = None
    cancel: CancelEvent | None = None
    texts: KeptTexts | None = None


@dataclass(frozen=True, slots=True)
class Staged:
    """A packed version whose blobs are on their way, and whose manifest has no name yet.

    Args:
        repository: where it is to be saved.
        job: how.
        version: as packed; its store has all blobs.
        notes: annotations of its manifest.
        sender: sends blobs to the registry; None if all are there.
    """

    repository: Repository
    job: Job
    version: Version
    notes: Mapping[str, str]
    sender: BlobSender | None

    def send(self) -> None:
        """Send the blobs that the repository may lack.

        Raises:
            Cancelled: the job's event was set, before the end of this call.
            StoreError: the registry failed.
        """
        with _until_naming(self.repository, self.job):
            if self.sender is not None:
                self.sender.send()

    def send_lost(self, error: NotFound) -> None:
        """Send a blob again that the registry had, or said it had, and has not.

        Args:
            error: of the registry that refused the manifest.

        Raises:
            NotFound: as `error`, if the blob is not to be had or was sent again already.
        """
        if self.sender is None:
            raise error
        self.sender.send_lost(error)

    def name(self, tag: str, notes: Mapping[str, str]) -> tuple[Descriptor, Manifest]:
        """Write the manifest under a tag; the job's event does not interrupt this step.

        Args:
            tag: a new one.
            notes: further annotations.

        Returns:
            Descriptor and manifest, as written.

        Raises:
            NotFound: the registry lacks a blob; nothing was written.
            StoreError: it may have been written.
        """
        final = replace(self.version.manifest, annotations={**self.notes, **notes})
        return self.repository.put(final.encode(), tag), final


def check_labels(labels: Mapping[str, str] | None) -> dict[str, str]:
    """Return labels that a manifest can hold.

    Args:
        labels: names and values; at most MAX_LABELS.

    Returns:
        A copy.

    Raises:
        InvalidParameter: there are too many, one is too long, or no text.
    """
    found = dict(labels or {})
    if len(found) > MAX_LABELS:
        raise InvalidParameter(f"{len(found)} labels, the limit is {MAX_LABELS}")
    for key, text in found.items():
        if not isinstance(key, str) or not isinstance(text, str) or not key:
            raise InvalidParameter(f"label {key!r}: names and values are text")
        if len(key) > MAX_LABEL_NAME_CHARS or len(text) > MAX_LABEL_CHARS:
            raise InvalidParameter(
                f"label {key[:80]!r} is longer than {MAX_LABEL_NAME_CHARS} or its value than"
                f" {MAX_LABEL_CHARS}"
            )
        try:
            (key + text).encode()
        except UnicodeEncodeError:
            raise InvalidParameter(f"label {key!r} is not valid Unicode") from None
    return found


def check_level(level: int | None) -> int | None:
    """Return a zstd level that is in range.

    Args:
        level: from 1 to 22, or None.

    Returns:
        The same.

    Raises:
        InvalidParameter: it is out of range.
    """
    if level is not None and not zstd.MIN_LEVEL <= level <= zstd.MAX_LEVEL:
        raise InvalidParameter(f"level {level} is not from {zstd.MIN_LEVEL} to {zstd.MAX_LEVEL}")
    return level


def bases(
    load: Callable[[Repository, str], Version],
    repository: Repository,
    tags: Iterable[str],
    job: Job,
) -> Iterator[Version | None]:
    """Yield versions to build on, the best first; the last is None, for none.

    Args:
        load: returns the version that a tag names.
        repository: of the tags.
        tags: the best first; MAX_BASES of them are tried.
        job: its event cancels the reading.

    Yields:
        Versions with their indexes read, then None.

    Raises:
        Cancelled: the job's event was set.
    """
    for tag in islice(tags, MAX_BASES):
        try:
            with _until_naming(repository, job):
                version = load(repository, tag)
                assert version.index is not None
        except Cancelled:
            raise
        except PackerError as error:
            _log.warning("%s:%s is not built on: %s", repository.store.name, tag, error)
            continue
        yield version
    yield None


@contextmanager
def building_on(base: Version | None) -> Iterator[None]:
    """Swallow the error that says that a base lacks blobs: the caller tries the next base.

    Args:
        base: the version that the context builds on; with None no error is swallowed.

    Raises:
        NotFound: any other one.
    """
    try:
        yield
    except NotFound as error:
        if base is None or error.kind != "blob":
            raise
        _log.warning("%s is not built on: %s", base.descriptor.digest, error)


@contextmanager
def stage(repository: Repository, job: Job, base: Version | None) -> Iterator[Staged]:
    """Pack a tree; its new blobs are in a local store as long as the context is open.

    Args:
        repository: where it is to be saved.
        job: what to save, and how.
        base: version to build on.

    Yields:
        The version, packed.

    Raises:
        InvalidParameter: the repository lies in the tree.
        Cancelled: the job's event was set.
        SourceChanged, UnsupportedFile, OSError: about a file, by name.
        NotFound: a blob of the base is missing.
    """
    store = repository.store
    check_outside(store, job.root)
    progress = cancellable(job.progress, job.cancel, "saving")
    with _place(repository, job) as (local, sketches):
        with _until_naming(repository, job):
            staging = Staging(local, base)
            pack_job = PackJob(
                job.root,
                staging,
                job.title,
                tool=f"layer-packer {TOOL_VERSION}",
                params=ChunkParams(),
                level=job.level,
                opening=job.opening,
                cache=False,
                created=job.created,
                progress=progress,
                sketches=sketches,
                texts=job.texts,
            )
            packed = pack_tree(pack_job, base, () if base is None else (base,))
            version = load_version(staging, packed.digest)
        sender = None
        if isinstance(store, Upload):
            there = () if base is None else (base.manifest.config, *base.manifest.layers)
            sender = BlobSender(version, store, there, jobs=job.jobs, progress=progress)
        yield Staged(repository, job, version, _annotations(job, packed, base), sender)


@contextmanager
def _until_naming(repository: Repository, job: Job) -> Iterator[None]:
    """Let the job's event end the context's requests with Cancelled; look for it at the end too."""
    with until_cancelled(job.cancel, (repository.store,), "saving"):
        yield
    if job.cancel is not None and job.cancel.is_set():
        raise Cancelled("saving")


def _annotations(job: Job, packed: Packed, base: Version | None) -> dict[str, str]:
    stamp = datetime.fromtimestamp(
        time.time() if job.created is None else job.created, timezone.utc
    )
    numbers = dict(zip(NUMBERS, (packed.files, packed.bytes, packed.new_bytes), strict=True))
    out = {
        CREATED: stamp.strftime("%Y-%m-%dT%H:%M:%SZ"),
        TITLE: job.title,
        NONCE: secrets.token_hex(8),
    }
    if base is not None:
        out[PARENT] = base.descriptor.digest
    out.update((RECORD_PREFIX + name, str(number)) for name, number in numbers.items())
    out.update((LABEL_PREFIX + key, text) for key, text in job.labels.items())
    return out


@contextmanager
def _place(repository: Repository, job: Job) -> Iterator[tuple[LocalStore, SketchCache]]:
    """Yield the store that takes new blobs, and the cache of the base's sketches."""
    store = repository.store
    if isinstance(store, LocalStore):
        with using(store):
            yield store, SketchCache(caches_of(store))
    elif job.cache is not None:
        with using(job.cache):
            yield job.cache, NearSketches(caches_of(job.cache))
    else:
        with temporary_directory() as folder:
            # Removed with the folder: nothing in it need outlive a crash.
            yield LayoutStore(os.path.join(folder, "store"), durable=False), NearSketches("")
