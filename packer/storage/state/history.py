"""The records of a repository: what its history tells of each version without reading it.

A version's record is written into its manifest, and so is never wrong or lost. Reading a thousand
manifests would be a thousand requests, so the records are also gathered in one blob, under a tag
of the series ``history``. The blob is a cache: a reader that finds it missing, damaged or old reads
the manifests that it lacks, and writes a new one if it is allowed to. Of two that are written at
once one counts; the next reader finds the records that only the other holds in the same way.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

from packer.engine import zstd
from packer.errors import FormatError, IntegrityError, NotFound, RegistryError, StoreError
from packer.forks import Lock
from packer.format.version import CREATED
from packer.oci import (
    PARENT,
    Descriptor,
    Manifest,
    canonical_json,
    digest_of,
    is_digest,
    load_json,
)
from packer.storage.results import SavedVersion, SupportBundle
from packer.storage.state.repository import Repository
from packer.storage.state.series import Series
from packer.stores.protocols import read_blob

HISTORY = "history"
"""Prefix of the series of tags that name the gathered records."""
HISTORY_TYPE = "application/vnd.layer-packer.history.v1"
"""``artifactType`` of the gathered records."""
RECORDS_TYPE = "application/vnd.layer-packer.records.v1+zstd"
"""Media type of their blob: JSON objects, one a line, compressed with zstd."""

NUMBERS = ("files", "bytes", "new_bytes")
"""Counts that a manifest's annotations record; the others follow from the manifest itself."""
RECORD_PREFIX = "layer-packer.record."
LABEL_PREFIX = "layer-packer.label."

FIELDS = (
    *("digest", "created", "labels", "files", "bytes"),
    *("stored_bytes", "new_bytes", "layers", "parent"),
)
"""Attributes of a record that are gathered, beside its tag."""

MAX_RECORDS_BYTES = 64 << 20
"""Bound on the gathered records in bytes, packed and unpacked; a larger blob is not read."""
FEW = 4
"""Up to this many missing records are read from their manifests without asking for the cache."""
MANY = 32
"""From this many missing records on, a reader writes the cache anew."""
GATHER_EVERY = 8
"""Saves after which the history is gathered; a reader reads at most that many manifests singly."""
_THREADS = 8
"""Manifests read at once."""

_log = logging.getLogger(__name__)

R = TypeVar("R", bound=SavedVersion | SupportBundle)


class Ledger(Generic[R]):
    """The records of one repository, kept in memory once read: they never change.

    Args:
        repository: holds the versions.
        is_record: returns whether a tag names something that has a record.
        make: makes the record of a tag from its FIELDS.

    Thread safety: threads may share it.
    """

    def __init__(
        self,
        repository: Repository,
        is_record: Callable[[str], bool],
        make: Callable[[str, dict[str, Any]], R],
    ) -> None:
        self._repository = repository
        self._is_record = is_record
        self._make = make
        self._series = Series(repository, HISTORY)
        self._known: dict[str, R] = {}
        self._lock = Lock()

    def record(self, tag: str, descriptor: Descriptor, manifest: Manifest) -> R:
        """Return the record that a manifest holds.

        Args:
            tag: names the manifest.
            descriptor: of the manifest.
            manifest: decoded.

        Returns:
            The record; it is not remembered.

        Raises:
            FormatError: a number of the record is malformed.
        """
        return self._make(tag, _fields_of(descriptor, manifest))

    def read(self, names: Iterable[str]) -> dict[str, R]:
        """Return the records of a repository's tags.

        Args:
            names: all tags of the repository, as listed just before.

        Returns:
            Record by tag. Tags that have none, whose manifest is gone or was not written by a
            storage, or which the registry fails to read, are left out, the latter with a warning.

        Raises:
            StoreError: the registry cannot be reached, or fails for all.
        """
        names = set(names)
        wanted = set(filter(self._is_record, names))
        with self._lock:
            for gone in self._known.keys() - wanted:
                del self._known[gone]
            missing = wanted - self._known.keys()
        if len(missing) > FEW:
            gathered = self._read_cache(names)
            missing -= self._remember({tag: gathered[tag] for tag in missing & gathered.keys()})
        found = self._read_some(missing)
        self._remember(found)
        with self._lock:
            records = {tag: self._known[tag] for tag in wanted & self._known.keys()}
        if len(found) >= MANY:
            self._heal(names, records)
        return records

    def read_one(self, tag: str) -> R | None:
        """Return the record of one tag, None if there is none."""
        with self._lock:
            if (known := self._known.get(tag)) is not None:
                return known
        found = self._read_one(tag)
        if found is not None:
            self.add(tag, found)
        return found

    def add(self, tag: str, record: R) -> None:
        """Remember the record of a tag that was just written."""
        self._remember({tag: record})

    def forget(self, tag: str) -> None:
        """Forget the record of a tag that was deleted."""
        with self._lock:
            self._known.pop(tag, None)

    def strike(self, tag: str) -> None:
        """Remove a tag from the gathered records, before it comes to name another version.

        Raises:
            StoreError: it may still be there.
        """
        self.forget(tag)
        names = self._repository.names()
        records = self._read_cache(names)
        if records.pop(tag, None) is not None:
            self._write(names, records)

    def gather(self) -> None:
        """Write the records of all tags to the cache; a failure only costs readers time."""
        try:
            names = self._repository.names()
            self._write(names, self.read(names))
        except (StoreError, NotFound, OSError) as error:
            _log.warning("history of %s not gathered: %s", self._repository.store.name, error)

    def _remember(self, records: Mapping[str, R]) -> set[str]:
        with self._lock:
            self._known.update(records)
        return set(records)

    def _read_some(self, tags: Iterable[str]) -> dict[str, R]:
        """Return the records of tags from their manifests; warn of each tag that fails.

        Raises:
            StoreError: the registry fails for all of them.
        """
        failures: dict[str, RegistryError] = {}

        def read(tag: str) -> R | None:
            try:
                return self._read_one(tag)
            except RegistryError as error:
                if error.status < 500:
                    raise
                failures[tag] = error
                return None

        ordered = sorted(tags)
        with ThreadPoolExecutor(_THREADS, "records") as pool:
            found = dict(zip(ordered, pool.map(read, ordered), strict=True))
        if failures and len(failures) == len(ordered) and not self._known:
            raise failures[ordered[0]]
        for tag, error in failures.items():
            _log.warning("%s:%s cannot be read: %s", self._repository.store.name, tag, error)
        return {tag: record for tag, record in found.items() if record is not None}

    def _read_one(self, tag: str) -> R | None:
        name = self._repository.store.name
        try:
            descriptor, data = self._repository.store.get_manifest(tag)
            manifest = Manifest.decode(data, f"manifest {descriptor.digest}")
            return self.record(tag, descriptor, manifest)
        except NotFound:
            _log.warning("%s:%s has no manifest: deleted at this moment, or lost", name, tag)
            return None
        except IntegrityError as error:
            _log.warning("%s:%s has no record: %s", name, tag, error)
            return None

    def _read_cache(self, names: Iterable[str]) -> dict[str, R]:
        """Return the records gathered last; an older state may hold a record that was struck."""
        found = map(self._read_gathered, self._series.newest(names))
        return next((records for records in found if records is not None), {})

    def _read_gathered(self, tag: str) -> dict[str, R] | None:
        store = self._repository.store
        try:
            descriptor, data = store.get_manifest(tag)
            value = load_json(data, f"manifest {descriptor.digest}")
            layers = value.get("layers")
            if value.get("artifactType") != HISTORY_TYPE or not isinstance(layers, list):
                return None
            blob = Descriptor.from_json(layers[0] if layers else None)
            packed = read_blob(store, blob, MAX_RECORDS_BYTES)
            size = zstd.content_size(packed, MAX_RECORDS_BYTES, "history")
            lines = zstd.decompress(packed, size, "history").splitlines()
            return dict(self._parsed(line) for line in lines)
        except NotFound:
            return None
        except IntegrityError as error:
            _log.warning("%s:%s is not read: %s", store.name, tag, error)
            return None

    def _parsed(self, line: bytes) -> tuple[str, R]:
        value = load_json(line, "history")
        _check_record(value)
        if not self._is_record(value["tag"]):
            raise FormatError("history", "it holds the record of another kind of tag")
        return value["tag"], self._make(value["tag"], {name: value[name] for name in FIELDS})

    def _write(self, names: set[str], records: Mapping[str, R]) -> None:
        lines = [_line(tag, records[tag]) for tag in sorted(records)]
        packed = zstd.compress(b"".join(lines), zstd.DEFAULT_LEVEL)
        blob = Descriptor(RECORDS_TYPE, digest_of(packed), len(packed))
        tag = self._series.next_tag(names)
        self._repository.put_small(tag, HISTORY_TYPE, blob, packed, {})
        self._series.sweep(names, tag)

    def _heal(self, names: set[str], records: Mapping[str, R]) -> None:
        try:
            self._write(names, records)
        except (StoreError, NotFound, OSError) as error:  # we may only read: others will write it
            _log.debug("history of %s not written: %s", self._repository.store.name, error)


def _fields_of(descriptor: Descriptor, manifest: Manifest) -> dict[str, Any]:
    notes = manifest.annotations
    numbers = {name: notes.get(RECORD_PREFIX + name, "0") for name in NUMBERS}
    for text in numbers.values():
        if not (text.isascii() and text.isdigit() and len(text) < 16):
            raise FormatError(f"manifest {descriptor.digest}", "its record is no number")
    blobs = (descriptor, manifest.config, *manifest.layers)
    return {
        "digest": descriptor.digest,
        "created": notes.get(CREATED, ""),
        "labels": {
            key.removeprefix(LABEL_PREFIX): text
            for key, text in sorted(notes.items())
            if key.startswith(LABEL_PREFIX)
        },
        **{name: int(text) for name, text in numbers.items()},
        "stored_bytes": sum(blob.size for blob in blobs),
        "layers": len(manifest.data_layers),
        "parent": notes.get(PARENT, ""),
    }


def _line(tag: str, record: SavedVersion | SupportBundle) -> bytes:
    value = {name: getattr(record, name) for name in FIELDS}
    return canonical_json({"tag": tag, **value}) + b"\n"


def _check_record(value: dict[str, Any]) -> None:
    """Raise FormatError unless a JSON object is a gathered record."""
    texts = [value.get(key) for key in ("tag", "digest", "created", "parent")]
    keys = ("files", "bytes", "stored_bytes", "new_bytes", "layers")
    numbers = [value.get(key) for key in keys]
    labels = value.get("labels")
    if (
        not all(isinstance(text, str) for text in texts)
        or not all(type(number) is int and number >= 0 for number in numbers)
        or not isinstance(labels, dict)
        or not all(isinstance(text, str) for text in labels.values())
        or not is_digest(value["digest"])
    ):
        raise FormatError("history", "a record is malformed")
