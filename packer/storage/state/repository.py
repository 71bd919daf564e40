"""One repository of a storage: its tags, each written whole and removed whole.

A *note* is a manifest without content: its annotations say everything. Every manifest that a
storage writes differs from all others, by a nonce, so that removing it by its digest, the only
removal that all registries know, takes no other tag with it.
"""

from __future__ import annotations

import contextlib
import io
import logging
import secrets
import weakref
from collections.abc import Iterator, Mapping

from packer.errors import IntegrityError, NotFound, RegistryError, StoreError
from packer.files.durable import locked, make_directory
from packer.forks import Lock
from packer.oci import (
    MANIFEST_TYPE,
    Descriptor,
    canonical_json,
    check_annotations,
    digest_of,
    load_json,
)
from packer.stores.graph import resolve_or_none
from packer.stores.layout import LayoutStore
from packer.stores.protocols import ManifestDeleter, Store, TagNames, Tags, Upload
from packer.stores.referrers import Referrer, all_referrers
from packer.stores.subjects import EMPTY, EMPTY_BYTES, fallback_tag

NOTE_TYPE = "application/vnd.layer-packer.note.v1"
"""``artifactType`` of notes."""
OWN_TYPES = "application/vnd.layer-packer."
"""How the ``artifactType`` of everything that a storage writes begins."""
NONCE = "layer-packer.nonce"
"""Annotation that makes a manifest unlike any other."""

_REMOVALS = 4
"""Attempts to remove a tag whose manifest goes without it, see `Repository.remove`."""

_log = logging.getLogger(__name__)

_memory_locks: weakref.WeakKeyDictionary[Store, Lock] = weakref.WeakKeyDictionary()
_guard = Lock()


class Repository:
    """The tags of one store.

    Args:
        store: of any kind that lists tags.

    Thread safety: threads may share it.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.is_remote = isinstance(store, TagNames)
        """Whether each call is a request, and manifests are removed by digest."""

    def names(self) -> set[str]:
        """Return all tags."""
        if isinstance(self.store, TagNames):
            return set(self.store.tag_names())
        assert isinstance(self.store, Tags)
        return {tag for tag, _ in self.store.tags()}

    def holds(self, tag: str) -> bool:
        """Return whether a tag is there; asks for it alone."""
        try:
            self.store.resolve(tag)
        except NotFound:
            return False
        return True

    def put(self, data: bytes, tag: str) -> Descriptor:
        """Write a manifest under a tag.

        An answer can be lost after the registry wrote the tag, and a registry whose tags are
        immutable refuses the attempt that follows. So what looks like a failure is looked into.

        Args:
            data: of a manifest that no other tag names.
            tag: a new one.

        Returns:
            The manifest's descriptor.

        Raises:
            NotFound: the registry lacks a blob (kind "blob"); nothing was written.
            StoreError: the registry failed, or refused; the tag does not name the manifest.
        """
        try:
            return self.store.put_manifest(data, MANIFEST_TYPE, tag)
        except StoreError:
            written = Descriptor(MANIFEST_TYPE, digest_of(data), len(data))
            if not self._names(tag, written.digest):
                raise
            return written

    def _names(self, tag: str, digest: str) -> bool:
        """Return whether a tag names a manifest, as far as the registry answers."""
        try:
            return self.store.resolve(tag).digest == digest
        except (NotFound, StoreError, IntegrityError):
            return False

    def put_note(self, tag: str, annotations: Mapping[str, str]) -> Descriptor:
        """Write a note under a tag.

        Args:
            tag: what it names is replaced.
            annotations: what the note says.

        Returns:
            The note's descriptor.

        Raises:
            StoreError: the registry failed, or refused.
        """
        return self.put_small(tag, NOTE_TYPE, EMPTY, EMPTY_BYTES, annotations)

    def put_small(
        self,
        tag: str,
        artifact_type: str,
        layer: Descriptor,
        content: bytes,
        annotations: Mapping[str, str],
    ) -> Descriptor:
        """Write a manifest with one small layer under a tag.

        Args:
            tag: what it names is replaced.
            artifact_type: the manifest's ``artifactType``.
            layer: descriptor of `content`.
            content: bytes of the layer.
            annotations: the manifest's; a nonce is added.

        Returns:
            The manifest's descriptor.

        Raises:
            NotFound: the registry lacks the layer it was just sent.
            StoreError: the registry failed, or refused.
        """
        value = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "artifactType": artifact_type,
            "config": EMPTY.to_json(),
            "layers": [layer.to_json()],
            "annotations": {**annotations, NONCE: secrets.token_hex(8)},
        }
        data = canonical_json(value)
        if layer != EMPTY:
            _push(self.store, layer, content)
        try:
            return self.put(data, tag)
        except NotFound as error:
            if error.kind != "blob":
                raise
        _push(self.store, EMPTY, EMPTY_BYTES)
        return self.put(data, tag)

    def mark(self, tag: str, annotations: Mapping[str, str]) -> None:
        """Write a note under a tag unless the tag is there already.

        Args:
            tag: says everything that readers look for.
            annotations: of the note, for people.

        Raises:
            StoreError: the registry failed, or refused, and the tag is not there.
        """
        if self.holds(tag):
            return
        try:
            self.put_note(tag, annotations)
        except StoreError:
            if not self.holds(tag):  # another process may have been faster
                raise

    def read_note(self, tag: str) -> tuple[Descriptor, dict[str, str]]:
        """Return what a note says.

        Args:
            tag: names the note.

        Returns:
            Descriptor and annotations of its manifest.

        Raises:
            NotFound: there is no such tag.
            FormatError: the manifest is malformed.
        """
        descriptor, data = self.store.get_manifest(tag)
        annotations = load_json(data, f"manifest {descriptor.digest}").get("annotations") or {}
        check_annotations(annotations)
        return descriptor, annotations

    def remove(self, tag: str, digest: str) -> None:
        """Remove a tag and the manifest it names, which no other tag names.

        Args:
            tag: the tag.
            digest: of the manifest.

        Raises:
            NotFound: it is not there.
            RegistryError: the registry does not delete.
        """
        if not isinstance(self.store, ManifestDeleter):
            self._untag(tag)
            return
        for _ in range(_REMOVALS):
            try:
                self.store.delete_manifest(digest)
                return
            except NotFound:
                # Debian's docker-registry may fail with 500 when two deletions meet: the manifest
                # is gone, the tag is left. It goes with another manifest that it is made to name.
                digest = self.put_note(tag, {}).digest
        raise NotFound("manifest", digest, self.store.name)

    def remove_tag(self, tag: str) -> None:
        """Remove a tag, whatever it names, and if what it named is gone.

        Registries remove manifests, and with one all tags that name it. A tag that does not name a
        manifest of the storage's own, which no other tag names, is therefore removed alone where
        the registry can, or else made to name such a manifest first.

        Args:
            tag: the tag.

        Raises:
            NotFound: there is no such tag.
            RegistryError: the registry does not delete.
        """
        if not isinstance(self.store, ManifestDeleter):
            self._untag(tag)
            return
        digest = self._own_digest(tag)
        if digest is None:
            try:
                self._untag(tag)
                return
            except RegistryError as error:
                if error.status in (401, 403):
                    raise
            digest = self.put_note(tag, {}).digest
        self.remove(tag, digest)

    def remove_version(self, tag: str) -> None:
        """Remove the tag of a version as `remove_tag` does, and what refers to the version.

        A layout's garbage collection removes what refers to nothing; a registry's does not. The
        version goes first: what is left of its signatures after a failure does no harm.

        Args:
            tag: the tag.

        Raises:
            NotFound: there is no such tag.
            RegistryError: the registry does not delete.
        """
        digest, attached = self._attached(tag)
        self.remove_tag(tag)
        if not attached or resolve_or_none(self.store, digest) is not None:
            return
        lists = {fallback_tag(one.subject) for one in attached if one.tag is None}
        tags = {one.tag for one in attached if one.tag is not None}
        for one in reversed(attached):
            if one.tag is None:
                self.drop(one.descriptor.digest)
        for name in sorted(lists | tags):
            with contextlib.suppress(NotFound, RegistryError):
                self.store.resolve(name)
                self.remove_tag(name)  # what it names may have another name, in another version

    def _attached(self, tag: str) -> tuple[str, tuple[Referrer, ...]]:
        """Return the digest that a tag names, and what a registry says refers to it."""
        if not isinstance(self.store, ManifestDeleter):
            return "", ()
        try:
            digest = self.store.resolve(tag).digest
            return digest, all_referrers(self.store, digest)
        except NotFound:
            return "", ()
        except (IntegrityError, RegistryError) as error:
            _log.warning("%s: what refers to %s is not known: %s", self.store.name, tag, error)
            return "", ()

    def _own_digest(self, tag: str) -> str | None:
        """Return the digest that a tag names if no other tag can name it, else None."""
        try:
            descriptor, data = self.store.get_manifest(tag)
            value = load_json(data, f"manifest {descriptor.digest}")
        except NotFound:
            if tag not in self.names():
                raise
            return None  # its manifest is gone
        except IntegrityError:
            return None
        except RegistryError as error:
            if error.status < 500:
                raise
            return None  # the registry cannot read its own tag, but it can write it
        ours = str(value.get("artifactType")).startswith(OWN_TYPES)
        return descriptor.digest if ours and NONCE in (value.get("annotations") or {}) else None

    def _untag(self, tag: str) -> None:
        assert isinstance(self.store, Tags)
        self.store.untag(tag)

    def try_remove(self, tag: str, digest: str) -> bool:
        """Remove a tag and its manifest if the registry deletes.

        Args:
            tag: the tag.
            digest: of the manifest.

        Returns:
            False if the tag may still be there: the registry does not delete.

        Raises:
            RegistryError: the registry failed, and may succeed later.
        """
        try:
            self.remove(tag, digest)
        except NotFound:
            return not self.is_remote
        except RegistryError as error:
            if error.retryable:
                raise
            return False
        return True

    def drop(self, digest: str) -> None:
        """Remove a manifest that nothing needs, if the registry deletes manifests."""
        if isinstance(self.store, ManifestDeleter):
            with contextlib.suppress(NotFound, RegistryError):
                self.store.delete_manifest(digest)

    def lock(self) -> contextlib.AbstractContextManager[bool]:
        """Return a context that holds the store's lock: True; registries have none: False."""
        return _lock(self.store)


def is_refusal(error: RegistryError) -> bool:
    """Return whether a registry refused a request for good: it did not carry it out."""
    return error.status < 500 and not error.retryable


def _push(store: Store, blob: Descriptor, data: bytes) -> None:
    """Store a blob that is at hand; a registry is not asked for it first."""
    source = io.BytesIO(data)
    if isinstance(store, Upload):
        store.upload(blob, source)
    else:
        store.push(blob, source)


@contextlib.contextmanager
def _lock(store: Store) -> Iterator[bool]:
    if isinstance(store, LayoutStore):
        folder = f"{store.path}/ingest"
        make_directory(folder)
        with locked(f"{folder}/sequence.lock"):
            yield True
    elif isinstance(store, TagNames):
        yield False
    else:
        with _guard:
            lock = _memory_locks.setdefault(store, Lock())
        with lock:
            yield True
