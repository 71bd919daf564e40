"""What a storage returns: versions of its history, and what it did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from packer.storage.history import Record


@dataclass(frozen=True, slots=True)
class SavedVersion:
    """A version in a storage, as its history tells.

    Args:
        app: the application's ID.
        sequence: its number, unique in the application, and never changed.
        digest: of its manifest.
        created: when it was saved, RFC 3339 in UTC, by the clock of who saved it.
        labels: the caller's.
        files, bytes: what it holds.
        stored_bytes: all blobs it needs, those it shares with others included.
        new_bytes: what it added to the registry.
        layers: data layers it uses.
        parent: manifest digest of the version it was packed against, or "".
    """

    app: str
    sequence: int
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
    def of(cls, app: str, record: Record) -> SavedVersion:
        """Return the version that a record of an application's repository is of."""
        return cls(
            app,
            int(record.tag),
            record.digest,
            record.created,
            record.labels,
            record.files,
            record.bytes,
            record.stored_bytes,
            record.new_bytes,
            record.layers,
            record.parent,
        )


@dataclass(frozen=True, slots=True)
class Retained:
    """What `Storage.retain` did.

    Args:
        deleted, kept: sequence numbers.
        freed_bytes: blobs that only the deleted ones needed: what garbage collection can free.
        kept_bytes: blobs that the kept ones need.
        skipped: numbers left alone as they name no version that can be loaded: damaged ones newer
            than what is kept, and what no storage wrote. `Storage.delete` removes them.
    """

    deleted: tuple[int, ...]
    kept: tuple[int, ...]
    freed_bytes: int
    kept_bytes: int
    skipped: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class StorageEvent:
    """Something that a storage did, for the listener given to `open_storage`.

    Args:
        kind: "saved", "loaded", "deployed", "deleted".
        app: the application's ID.
        sequence: of the version.
    """

    kind: str
    app: str
    sequence: int
