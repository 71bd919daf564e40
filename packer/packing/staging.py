"""Packing on a base that lies in a registry: new blobs here, old ones there.

Of the base only its index, and the frames that new ones are compressed against, are read; nothing
of it is copied. What is new is written to a local store, and sent from there.
"""

from __future__ import annotations

from array import array
from typing import BinaryIO

from packer.errors import NotFound
from packer.format.version import Version
from packer.oci import MANIFEST_TYPE, Descriptor, digest_of
from packer.packing.job import LocalStore
from packer.packing.similar import SUPER_FEATURES, SketchCache
from packer.stores.protocols import BlobWriter, Reader


class Staging:
    """Where a version is packed to; implements Store and Ingest.

    Args:
        local: takes the new blobs.
        base: version whose blobs count as there; or None.
    """

    def __init__(self, local: LocalStore, base: Version | None) -> None:
        self.local = local
        self._base = base
        self._known: dict[str, int] = {}
        if base is not None:
            blobs = (base.manifest.config, *base.manifest.layers)
            self._known = {blob.digest: blob.size for blob in blobs}
        self.manifest: bytes = b""
        """The manifest that was packed; not stored anywhere."""

    @property
    def name(self) -> str:
        """How errors name the store."""
        return self.local.name

    def exists(self, blob: Descriptor) -> bool:
        """Tell whether the blob was written, or is the base's."""
        return self._known.get(blob.digest) == blob.size or self.local.exists(blob)

    def fetch(self, blob: Descriptor, start: int = 0, length: int | None = None) -> Reader:
        """Open a blob, wherever it is."""
        try:
            return self.local.fetch(blob, start, length)
        except NotFound:
            if self._base is None:
                raise
        return self._base.store.fetch(blob, start, length)

    def push(self, blob: Descriptor, source: BinaryIO) -> bool:
        """Store a blob here."""
        return self.local.push(blob, source)

    def create(self) -> BlobWriter:
        """Open a writer for a new blob here."""
        return self.local.create()

    def get_manifest(self, reference: str) -> tuple[Descriptor, bytes]:
        """Return the packed manifest, or the base's."""
        if self.manifest and reference == digest_of(self.manifest):
            return Descriptor(MANIFEST_TYPE, reference, len(self.manifest)), self.manifest
        if self._base is not None and reference == self._base.descriptor.digest:
            return self._base.descriptor, self._base.manifest_bytes
        raise NotFound("manifest", reference, self.name)

    def resolve(self, reference: str) -> Descriptor:
        """Return the descriptor of the packed manifest, or the base's."""
        return self.get_manifest(reference)[0]

    def put_manifest(self, data: bytes, media_type: str, tag: str | None = None) -> Descriptor:
        """Note the manifest: what it becomes depends on its sequence number."""
        self.manifest = data
        return Descriptor(media_type, digest_of(data), len(data))


class NearSketches(SketchCache):
    """Sketches of what is here; layers in the registry are not read for theirs."""

    def get(self, layer_digest: str, chunk_count: int) -> array[int] | None:
        """Return a layer's super-features; none for its chunks if they are not known."""
        found = super().get(layer_digest, chunk_count)
        return found if found is not None else array("Q", bytes(8 * SUPER_FEATURES * chunk_count))
