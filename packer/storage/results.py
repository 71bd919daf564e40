"""Results of a storage's calls: saved versions and bundles, retentions, events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SavedVersion:
    """A version in a storage, as its history tells.

    Args:
        app: the application's ID.
        sequence: its number, unique in the application, and never changed.
        digest: of its manifest.
        created: when it was saved, RFC 3339 in UTC, by the clock of the machine that saved it.
        labels: the caller's names and values.
        files: how many files it holds.
        bytes: their bytes.
        stored_bytes: bytes of all blobs it needs, shared ones included.
        new_bytes: bytes it added to the registry.
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


@dataclass(frozen=True, slots=True)
class SupportBundle:
    """A support bundle in a storage.

    Args:
        id: the caller's.
        digest: of its manifest.
        created: when it was saved, RFC 3339 in UTC.
        labels: the caller's names and values.
        bytes: size of the archive, or of the files of a directory.
        stored_bytes: bytes of all blobs it needs, shared ones included.
        new_bytes: bytes it added.
        files: how many files it holds; 1 for an archive.
        layers: data layers it uses.
        parent: manifest digest of the bundle it was packed against, or "".
    """

    id: str
    digest: str
    created: str
    labels: Mapping[str, str]
    bytes: int
    stored_bytes: int
    new_bytes: int
    files: int
    layers: int
    parent: str


@dataclass(frozen=True, slots=True)
class Retained:
    """What `Storage.retain` did, or would do.

    Args:
        deleted: sequence numbers that were removed.
        kept: sequence numbers of the versions that stay.
        freed_bytes: bytes of blobs that only the deleted versions needed: garbage collection can
            free them.
        kept_bytes: bytes of the blobs that the kept versions need.
        skipped: numbers left alone because they name no version that can be loaded: damaged
            versions newer than the oldest kept one, and anything that no storage wrote.
            `Storage.delete` removes them.
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
        sequence: number of the version.
    """

    kind: str
    app: str
    sequence: int
