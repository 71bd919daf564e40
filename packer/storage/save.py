"""A directory or archive to a repository, where its manifest gets its final form last."""

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
from packer.errors import Cancelled, InvalidParameter, NotFound, PackerError
from packer.files.temporary import temporary_directory
from packer.format.version import CREATED, TITLE, Version, load_version
from packer.oci import MANIFEST_TYPE, PARENT, ChunkParams, Descriptor
from packer.packing.pack_tree import LocalStore, Packed, check_outside, pack_tree
from packer.packing.similar import SketchCache
from packer.packing.staging import Arrival, NearSketches, Staging, UploadArrival
from packer.progress import CancelEvent, ProgressCallback, cancellable
from packer.storage.history import LABEL_PREFIX, NUMBERS, RECORD_PREFIX, Record
from packer.storage.repository import NONCE, Shelf
from packer.stores.cancelling import until_cancelled
from packer.stores.layout import LayoutStore, caches_of
from packer.stores.protocols import Upload
from packer.transfer.copy_graph import copy as copy_graph

MAX_LABELS = 64
MAX_LABEL_CHARS = 4096
MAX_BASES = 3
"""How many versions are tried as base before one is packed alone."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Job:
    """How to save.

    Args:
        root: directory or file.
        title: for people.
        labels: see `check_labels`.
        level, expand, created: as `pack_tree`.
        cache: layout that takes new blobs on their way to a registry; a temporary one if None.
        jobs: concurrent uploads.
        progress, cancel: what to tell, and when to stop.
    """

    root: bytes
    title: str
    labels: Mapping[str, str]
    level: int = zstd.DEFAULT_LEVEL
    expand: bool = True
    created: int | None = None
    cache: LayoutStore | None = None
    jobs: int = 4
    progress: ProgressCallback | None = None
    cancel: CancelEvent | None = None


def check_labels(labels: Mapping[str, str] | None) -> dict[str, str]:
    """Return labels that a manifest can hold.

    Raises:
        InvalidParameter: there are too many, one is too long, or no text.
    """
    found = dict(labels or {})
    if len(found) > MAX_LABELS:
        raise InvalidParameter(f"{len(found)} labels, the limit is {MAX_LABELS}")
    for key, text in found.items():
        if not isinstance(key, str) or not isinstance(text, str) or not key:
            raise InvalidParameter(f"label {key!r}: names and values are text")
        if len(key) > 128 or len(text) > MAX_LABEL_CHARS:
            raise InvalidParameter(
                f"label {key[:80]!r} is longer than 128 or its value than {MAX_LABEL_CHARS}"
            )
        try:
            (key + text).encode()
        except UnicodeEncodeError:
            raise InvalidParameter(f"label {key!r} is not valid Unicode") from None
    return found


def check_level(level: int) -> int:
    """Return a zstd level that is in range.

    Raises:
        InvalidParameter: it is not.
    """
    if not zstd.MIN_LEVEL <= level <= zstd.MAX_LEVEL:
        raise InvalidParameter(f"level {level} is not from {zstd.MIN_LEVEL} to {zstd.MAX_LEVEL}")
    return level


def loaded(
    load: Callable[[Shelf, str], Version], shelf: Shelf, tags: Iterable[str]
) -> Iterator[Version]:
    """Yield the first few versions that can be built on, each with its index read."""
    for tag in islice(tags, MAX_BASES):
        try:
            version = load(shelf, tag)
            assert version.index is not None
        except PackerError as error:
            _log.warning("%s:%s is not built on: %s", shelf.store.name, tag, error)
            continue
        yield version


Put = Callable[[str, Mapping[str, str]], Record]
"""Stores the manifest under a tag, with more annotations, and returns what is recorded of it."""


def save_tree(
    shelf: Shelf,
    job: Job,
    bases: Iterator[Version],
    arrive: Callable[[Put], Record],
    known: Callable[[Version], Record | None],
) -> Record:
    """Pack `job.root` into the repository.

    Args:
        shelf: of the repository.
        job: what and how.
        bases: versions to build on, the best first; the next is tried if blobs of one are missing.
        arrive: called when all blobs are there, to name the manifest.
        known: called with the packed version before; a record it returns stands for it.

    Raises:
        Cancelled: nothing was tagged.
        InvalidParameter: the repository lies in `job.root`.
        SourceChanged, UnsupportedFile, OSError: about a file, by name.
        StoreError: about the repository.
    """
    check_outside(shelf.store, job.root)
    watch = _UntilArrival(job.cancel)

    def last(put: Put) -> Record:
        watch.end()
        return arrive(put)

    while True:
        try:
            with until_cancelled(watch if job.cancel else None, (shelf.store,), "saving"):
                base = next(bases, None)
                return _save_on(shelf, job, base, last, known)
        except NotFound as error:
            if base is None or error.kind != "blob":
                raise
            _log.warning("%s is not built on: %s", base.descriptor.digest, error)


class _UntilArrival:
    """The caller's event, until the version is being named: that is not broken off in the middle.

    Once seen it stays set, so that requests that were cut off are known for cancelled.
    """

    def __init__(self, cancel: CancelEvent | None) -> None:
        self._cancel = cancel
        self._seen = False

    def is_set(self) -> bool:
        """Tell whether to stop."""
        if not self._seen and self._cancel is not None:
            self._seen = self._cancel.is_set()
        return self._seen

    def end(self) -> None:
        """Look for the last time.

        Raises:
            Cancelled: the event was set.
        """
        if self.is_set():
            raise Cancelled("saving")
        self._cancel = None


def _save_on(
    shelf: Shelf,
    job: Job,
    base: Version | None,
    arrive: Callable[[Put], Record],
    known: Callable[[Version], Record | None],
) -> Record:
    progress = cancellable(job.progress, job.cancel, "saving")
    with _place(shelf, job) as (local, sketches):
        staging = Staging(local, base)
        packed = pack_tree(
            job.root,
            staging,
            job.title,
            base=base,
            candidates=() if base is None else (base,),
            params=ChunkParams(),
            level=job.level,
            expand=job.expand,
            cache=False,
            created=job.created,
            tool=f"layer-packer {TOOL_VERSION}",
            progress=progress,
            sketches=sketches,
        )
        version = load_version(staging, packed.digest)
        if (record := known(version)) is not None:
            return record
        notes = _annotations(job, packed, base)

        def put(tag: str, more: Mapping[str, str]) -> Record:
            final = replace(version.manifest, annotations={**notes, **more})
            descriptor = shelf.store.put_manifest(final.encode(), MANIFEST_TYPE, tag)
            return Record.of(tag, descriptor, final)

        if packed.unchanged:  # all blobs are there: the base's manifest names them
            return arrive(put)
        records: list[Record] = []

        def arrived(_: bytes) -> Descriptor:
            records.append(arrive(put))
            return version.descriptor

        kind = UploadArrival if isinstance(shelf.store, Upload) else Arrival
        destination = kind(shelf.store, base, arrived)
        copy_graph(staging, packed.digest, destination, None, jobs=job.jobs, progress=progress)
        return records[-1]


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
def _place(shelf: Shelf, job: Job) -> Iterator[tuple[LocalStore, SketchCache]]:
    """Give the store that takes new blobs, and where the base's sketches are cached."""
    store = shelf.store
    if isinstance(store, LocalStore):
        yield store, SketchCache(caches_of(store))
    elif job.cache is not None:
        yield job.cache, NearSketches(caches_of(job.cache))
    else:
        with temporary_directory() as folder:
            yield LayoutStore(os.path.join(folder, "store")), NearSketches("")
