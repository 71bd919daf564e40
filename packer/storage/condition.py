"""Examines the versions of a repository: which can be loaded, and what is wrong with the others.

A registry keeps tags, manifests and blobs apart, so each can be lost alone: by a garbage collection
beside writers, by two deletions that meet, by a disk. A tag may also name something that no storage
wrote. So no tag is trusted: an examination reads everything that a load reads first.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from itertools import islice

from packer.errors import (
    AuthError,
    Cancelled,
    IntegrityError,
    NotFound,
    RegistryError,
    StoreError,
    UnsupportedVersion,
)
from packer.format.version import Version, load_version
from packer.oci import READ_BYTES, Descriptor, Manifest, load_json
from packer.progress import CancelEvent
from packer.storage.state.repository import NOTE_TYPE, Repository
from packer.stores.protocols import Store

VERIFIED_BYTES = 64 << 20
"""Bytes of layers that one examination reads and hashes. Of further layers it reads the last byte
alone, which finds those that are missing or cut: a retention must not cost a pull."""
_THREADS = 4
"""Versions examined at once: their requests overlap, and few indexes are in memory together."""


class Condition(Enum):
    """The state of a tag that should name a version."""

    SOUND = "sound"
    """A version, all of whose parts are there."""
    DAMAGED = "damaged"
    """A version that lacks a blob, or has a damaged one."""
    STALE = "stale"
    """A tag whose manifest is gone."""
    LEFTOVER = "leftover"
    """A note that an interrupted deletion left under the tag."""
    FOREIGN = "foreign"
    """Something that no storage wrote."""
    UNKNOWN = "unknown"
    """The registry fails to answer for this tag."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The examination of one tag.

    Args:
        tag: a sequence number as text; for support bundles, ``bundle-`` and the encoded ID.
        condition: its state.
        why: the error that tells what is wrong, "" for sound ones.
    """

    tag: str
    condition: Condition
    why: str = ""

    @property
    def sequence(self) -> int:
        """The number that is the tag."""
        return int(self.tag)


class Examiner:
    """Examines the tags of one repository; a layer that versions share is read once.

    Args:
        repository: the repository.
        verified_bytes: layers up to this many bytes in all are read whole; None reads all.

    Thread safety: threads may share it.
    """

    def __init__(self, repository: Repository, verified_bytes: int | None = VERIFIED_BYTES) -> None:
        self._repository = repository
        self._budget = verified_bytes
        self._lock = threading.Lock()
        self._layers: dict[str, str] = {}

    def examine(self, tag: str) -> Finding:
        """Return the condition of a tag.

        Args:
            tag: of a version.

        Returns:
            Its condition; UNKNOWN if the registry fails for this tag.

        Raises:
            StoreError: an AuthError: the registry does not let us read.
        """
        try:
            version = load_version(self._repository.store, tag)
            if self._budget is None:
                assert version.index is not None
                version.forget_index()
            else:
                version.read_index()
            why = next(filter(None, map(self._damage, _smallest_first(version))), "")
        except NotFound as error:
            kind = Condition.STALE if error.kind in ("tag", "manifest") else Condition.DAMAGED
            return Finding(tag, kind, str(error))
        except UnsupportedVersion as error:
            return Finding(tag, self._foreign(tag), str(error))
        except IntegrityError as error:
            return Finding(tag, Condition.DAMAGED, str(error))
        except StoreError as error:
            if isinstance(error, AuthError):
                raise
            return Finding(tag, Condition.UNKNOWN, str(error))
        return Finding(tag, Condition.DAMAGED if why else Condition.SOUND, why)

    def examine_all(self, tags: Iterable[str]) -> Iterator[Finding]:
        """Yield the condition of each tag, several examined at once.

        Args:
            tags: of versions.

        Yields:
            A finding for each, in the order given.
        """
        with ThreadPoolExecutor(_THREADS, "examine") as pool:
            yield from pool.map(self.examine, tags)

    def _foreign(self, tag: str) -> Condition:
        try:
            _, data = self._repository.store.get_manifest(tag)
            kind = load_json(data, f"manifest of {tag}").get("artifactType")
        except (NotFound, IntegrityError):
            return Condition.FOREIGN
        return Condition.LEFTOVER if kind == NOTE_TYPE else Condition.FOREIGN

    def _damage(self, layer: Descriptor) -> str:
        """Return what is wrong with a layer, "" if it is sound."""
        with self._lock:
            known = self._layers.get(layer.digest)
            if known is not None:
                return known
            whole = self._budget is None or self._budget >= layer.size
            if whole and self._budget is not None:
                self._budget -= layer.size
        found = _damage_of_blob(self._repository.store, layer, whole=whole)
        with self._lock:
            self._layers[layer.digest] = found
        return found


def newest_sound(examiner: Examiner, sequences: Iterable[int], count: int) -> list[Finding]:
    """Examine numbers in the order given until `count` are sound; return all that were examined.

    Args:
        examiner: of their repository.
        sequences: numbers, the newest first.
        count: how many sound ones are wanted, at least 1.

    Returns:
        The findings, in the order given.
    """
    left, found, wanted = iter(sequences), list[Finding](), count
    while wanted > 0:
        batch = list(islice(left, wanted))
        if not batch:
            break
        findings = list(examiner.examine_all(map(str, batch)))
        wanted -= sum(finding.condition is Condition.SOUND for finding in findings)
        found += findings
    return found


def verify_all(
    repository: Repository, tags: Iterable[str], cancel: CancelEvent | None
) -> list[Finding]:
    """Read everything that versions need.

    Args:
        repository: holds the versions.
        tags: of the versions.
        cancel: set it to stop between two versions.

    Returns:
        A finding for each tag, in the order given.

    Raises:
        Cancelled: `cancel` was set.
        StoreError: the registry cannot be reached.
    """
    examiner = Examiner(repository, verified_bytes=None)

    def examine(tag: str) -> Finding:
        if cancel is not None and cancel.is_set():
            raise Cancelled("verifying")
        return examiner.examine(tag)

    with ThreadPoolExecutor(_THREADS, "verify") as pool:
        return list(pool.map(examine, tags))


def answers_badly(error: RegistryError) -> bool:
    """Return whether a registry that is otherwise there fails for what was asked (5xx)."""
    return error.status >= 500


def blobs_of(repository: Repository, sequence: int) -> dict[str, int] | None:
    """Return digests and sizes of what a version needs, its manifest included; None for others."""
    try:
        descriptor, data = repository.store.get_manifest(str(sequence))
        manifest = Manifest.decode(data, f"manifest {descriptor.digest}")
    except (NotFound, IntegrityError):
        return None
    except RegistryError as error:
        if not answers_badly(error):
            raise
        return None
    return {blob.digest: blob.size for blob in (descriptor, manifest.config, *manifest.layers)}


def _smallest_first(version: Version) -> list[Descriptor]:
    return sorted(version.manifest.layers, key=lambda layer: (layer.size, layer.digest))


def _damage_of_blob(store: Store, blob: Descriptor, *, whole: bool) -> str:
    """Return what is wrong with a blob; without `whole`, its last byte alone is read."""
    try:
        start = 0 if whole else max(0, blob.size - 1)
        length = None if whole else blob.size - start
        with store.fetch(blob, start, length) as reader:
            count = 0
            while data := reader.read(READ_BYTES):
                count += len(data)
    except (NotFound, IntegrityError) as error:
        return str(error)
    return "" if count == blob.size - start else f"blob {blob.digest} is cut off"
