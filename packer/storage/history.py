"""What a storage knows of its versions without reading them: one record each, listed at once.

A version's record is written into its manifest, and so is never wrong or lost. Reading a thousand
manifests would be a thousand requests, so the records are also gathered in one blob, under the tag
``history``. That is a cache: whoever finds it missing, damaged or old reads the manifests it
lacks, and writes it anew if allowed to. Its writers may overwrite each other; what is lost by it
is found again in the same way.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from packer.engine import zstd
from packer.errors import FormatError, IntegrityError, NotFound, StoreError
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
from packer.storage.repository import Shelf
from packer.stores.protocols import read_blob

HISTORY_TAG = "history"
HISTORY_TYPE = "application/vnd.layer-packer.history.v1"
"""``artifactType`` of the gathered records."""
RECORDS_TYPE = "application/vnd.layer-packer.records.v1+zstd"
"""Media type of their blob: JSON objects, one a line, compressed with zstd."""

NUMBERS = ("files", "bytes", "new_bytes")
RECORD_PREFIX = "layer-packer.record."
LABEL_PREFIX = "layer-packer.label."

MAX_RECORDS_BYTES = 64 << 20
FEW = 4
"""Missing records up to this many are read from their manifests without asking for the cache."""
MANY = 32
"""From this many missing records on, a reader writes the cache anew."""
_THREADS = 8

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of a version or bundle.

    Args:
        tag: that names it.
        digest: of its manifest.
        created: when it was saved, RFC 3339 in UTC.
        labels: the caller's.
        files, bytes: what it holds.
        stored_bytes: all blobs it needs, those it shares with others included.
        new_bytes: what it added to the registry when it was saved.
        layers: data layers it uses.
        parent: manifest digest of the version it was packed against, or "".
    """

    tag: str
    digest: str
    created: str
    labels: Mapping[str, str]
    files: int
    bytes: int
    stored_bytes: int
    new_bytes: int
    layers: int
    parent: str

    @classmethod
    def of(cls, tag: str, descriptor: Descriptor, manifest: Manifest) -> Record:
        """Return the record that a manifest holds."""
        notes = manifest.annotations
        numbers = [notes.get(RECORD_PREFIX + name, "0") for name in NUMBERS]
        if not all(text.isascii() and text.isdigit() and len(text) < 16 for text in numbers):
            raise FormatError(f"manifest {descriptor.digest}", "its record is no number")
        files, size, new = map(int, numbers)
        stored = descriptor.size + manifest.config.size
        return cls(
            tag,
            descriptor.digest,
            notes.get(CREATED, ""),
            {
                key.removeprefix(LABEL_PREFIX): text
                for key, text in sorted(notes.items())
                if key.startswith(LABEL_PREFIX)
            },
            files,
            size,
            stored + sum(layer.size for layer in manifest.layers),
            new,
            len(manifest.data_layers),
            notes.get(PARENT, ""),
        )

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Record:
        """Parse one line of the gathered records.

        Raises:
            FormatError: it is none.
        """
        texts = [value.get(key) for key in ("tag", "digest", "created")]
        parent, labels = value.get("parent"), value.get("labels")
        keys = ("files", "bytes", "stored_bytes", "new_bytes", "layers")
        numbers = [value.get(key) for key in keys]
        if (
            not all(isinstance(text, str) for text in (*texts, parent))
            or not all(type(number) is int and number >= 0 for number in numbers)
            or not isinstance(labels, dict)
            or not all(isinstance(text, str) for text in labels.values())
            or not is_digest(value["digest"])
        ):
            raise FormatError("history", "a record is malformed")
        return cls(**{name: value[name] for name in cls.__slots__})


class Ledger:
    """The records of one repository, kept in memory once read: they never change.

    Args:
        shelf: where they are.
        is_record: tells whether a tag names something that has a record.

    Thread safety: threads may share it.
    """

    def __init__(self, shelf: Shelf, is_record: Callable[[str], bool]) -> None:
        self._shelf = shelf
        self._is_record = is_record
        self._known: dict[str, Record] = {}
        self._lock = Lock()

    def read(self, names: Iterable[str]) -> dict[str, Record]:
        """Return the records of those of `names` that have one.

        One that is deleted meanwhile, or was not written by a storage, is left out.
        """
        wanted = {name for name in names if self._is_record(name)}
        with self._lock:
            for gone in self._known.keys() - wanted:
                del self._known[gone]
            missing = wanted - self._known.keys()
        if len(missing) > FEW:
            missing -= self._remember(
                record for record in self._read_cache() if record.tag in missing
            )
        with ThreadPoolExecutor(_THREADS, "records") as pool:
            found = [record for record in pool.map(self._read_one, sorted(missing)) if record]
        self._remember(found)
        with self._lock:
            records = {tag: self._known[tag] for tag in wanted & self._known.keys()}
        if len(found) >= MANY:
            self._heal(records)
        return records

    def read_one(self, tag: str) -> Record | None:
        """Return the record of one tag, None if there is none."""
        with self._lock:
            if (known := self._known.get(tag)) is not None:
                return known
        found = self._read_one(tag)
        self._remember([found] if found is not None else [])
        return found

    def add(self, record: Record) -> None:
        """Take note of a record at hand."""
        self._remember([record])

    def forget(self, tag: str) -> None:
        """Forget a record whose version was deleted."""
        with self._lock:
            self._known.pop(tag, None)

    def strike(self, tag: str) -> None:
        """Take a tag out of what was gathered, before it comes to name something else.

        Raises:
            StoreError: it may still be there.
        """
        self.forget(tag)
        records = {record.tag: record for record in self._read_cache()}
        if records.pop(tag, None) is not None:
            self._write(records)

    def gather(self) -> None:
        """Write the records of all that is there to the cache; a failure costs only time later."""
        try:
            self._write(self.read(self._shelf.names()))
        except (StoreError, NotFound, OSError) as error:
            _log.warning("history of %s not gathered: %s", self._shelf.store.name, error)

    def _remember(self, records: Iterable[Record]) -> set[str]:
        found = {record.tag: record for record in records}
        with self._lock:
            self._known.update(found)
        return set(found)

    def _read_one(self, tag: str) -> Record | None:
        try:
            descriptor, data = self._shelf.store.get_manifest(tag)
            manifest = Manifest.decode(data, f"manifest {descriptor.digest}")
            return Record.of(tag, descriptor, manifest)
        except NotFound:
            return None
        except IntegrityError as error:
            _log.warning("%s:%s has no record: %s", self._shelf.store.name, tag, error)
            return None

    def _read_cache(self) -> list[Record]:
        try:
            descriptor, data = self._shelf.store.get_manifest(HISTORY_TAG)
            value = load_json(data, f"manifest {descriptor.digest}")
            layers = value.get("layers")
            if value.get("artifactType") != HISTORY_TYPE or not isinstance(layers, list):
                return []
            blob = Descriptor.from_json(layers[0] if layers else None)
            packed = read_blob(self._shelf.store, blob, MAX_RECORDS_BYTES)
            size = zstd.content_size(packed, MAX_RECORDS_BYTES, "history")
            plain = zstd.decompress(packed, size, "history")
            lines = plain.splitlines()
            return [Record.from_json(load_json(line, "history")) for line in lines]
        except NotFound:
            return []
        except IntegrityError as error:
            _log.warning(
                "%s: history is read from the manifests: %s", self._shelf.store.name, error
            )
            return []

    def _write(self, records: Mapping[str, Record]) -> None:
        lines = [canonical_json(asdict(records[tag])) + b"\n" for tag in sorted(records)]
        packed = zstd.compress(b"".join(lines), zstd.DEFAULT_LEVEL)
        blob = Descriptor(RECORDS_TYPE, digest_of(packed), len(packed))
        try:
            old: str | None = self._shelf.store.resolve(HISTORY_TAG).digest
        except NotFound:
            old = None
        new = self._shelf.put_small(HISTORY_TAG, HISTORY_TYPE, blob, packed, {})
        if old is not None and old != new.digest:
            self._shelf.drop(old)

    def _heal(self, records: Mapping[str, Record]) -> None:
        try:
            self._write(records)
        except (StoreError, NotFound, OSError) as error:  # we may only read: others will write it
            _log.debug("history of %s not written: %s", self._shelf.store.name, error)
