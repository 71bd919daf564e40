"""One repository of the storage: tags that are records, written and removed whole.

A *note* is a manifest without content of its own: everything it says is in its annotations. Each
differs from every other, so that removing one by its digest, the only removal that all registries
know, takes no other tag with it.
"""

from __future__ import annotations

import contextlib
import io
import secrets
import weakref
from collections.abc import Iterator, Mapping

from packer.errors import NotFound, RegistryError
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
from packer.stores.layout import LayoutStore
from packer.stores.protocols import ManifestDeleter, Store, TagNames, Tags, Upload

NOTE_TYPE = "application/vnd.layer-packer.note.v1"
"""``artifactType`` of notes."""
NONCE = "layer-packer.nonce"
"""Annotation that makes a manifest unlike any other."""

EMPTY = b"{}"
EMPTY_BLOB = Descriptor("application/vnd.oci.empty.v1+json", digest_of(EMPTY), len(EMPTY))
"""The empty config of the image-spec."""

_REMOVALS = 4

_memory_locks: weakref.WeakKeyDictionary[Store, Lock] = weakref.WeakKeyDictionary()
_guard = Lock()


class Shelf:
    """The tags of one store.

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
        """Tell whether a tag is there, asking for it alone."""
        try:
            self.store.resolve(tag)
        except NotFound:
            return False
        return True

    def put_note(self, tag: str, annotations: Mapping[str, str]) -> Descriptor:
        """Write a note under a tag, in place of what the tag named."""
        return self.put_small(tag, NOTE_TYPE, EMPTY_BLOB, EMPTY, annotations)

    def put_small(
        self,
        tag: str,
        artifact_type: str,
        layer: Descriptor,
        content: bytes,
        annotations: Mapping[str, str],
    ) -> Descriptor:
        """Write a manifest with one small layer under a tag."""
        value = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "artifactType": artifact_type,
            "config": EMPTY_BLOB.to_json(),
            "layers": [layer.to_json()],
            "annotations": {**annotations, NONCE: secrets.token_hex(8)},
        }
        data = canonical_json(value)
        if layer != EMPTY_BLOB:
            _push(self.store, layer, content)
        try:
            return self.store.put_manifest(data, MANIFEST_TYPE, tag)
        except NotFound as error:
            if error.kind != "blob":
                raise
        _push(self.store, EMPTY_BLOB, EMPTY)
        return self.store.put_manifest(data, MANIFEST_TYPE, tag)

    def read_note(self, tag: str) -> tuple[Descriptor, dict[str, str]]:
        """Return the annotations of what a tag names.

        Raises:
            NotFound: there is no such tag.
            FormatError: it is malformed.
        """
        descriptor, data = self.store.get_manifest(tag)
        annotations = load_json(data, f"manifest {descriptor.digest}").get("annotations") or {}
        check_annotations(annotations)
        return descriptor, annotations

    def remove(self, tag: str, digest: str) -> None:
        """Remove a tag and the manifest it names, which no other tag names.

        Raises:
            NotFound: it is not there.
            RegistryError: the registry does not delete.
        """
        if not isinstance(self.store, ManifestDeleter):
            assert isinstance(self.store, Tags)
            self.store.untag(tag)
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

    def try_remove(self, tag: str, digest: str) -> bool:
        """Remove as `remove`; False if the registry does not delete. Nothing to remove is fine."""
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
        """Remove a manifest that no tag names any more, if the registry deletes manifests."""
        if isinstance(self.store, ManifestDeleter):
            with contextlib.suppress(NotFound, RegistryError):
                self.store.delete_manifest(digest)

    def lock(self) -> contextlib.AbstractContextManager[bool]:
        """Hold the store's lock if it has one: True; registries have none: False."""
        return _lock(self.store)


def _push(store: Store, blob: Descriptor, data: bytes) -> None:
    """Store a blob that is at hand; without asking for it first where that costs a request."""
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
