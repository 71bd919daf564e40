"""Packing on a base that lies in a registry: new blobs are written here, old ones stay there.

Only the base's index, and the frames that new ones are compressed against, are read. New blobs are
written to a local store, and sent from there.
"""

from __future__ import annotations

from array import array
from typing import BinaryIO

from packer.errors import NotFound
from packer.format.version import Version
from packer.oci import MANIFEST_TYPE, Descriptor, digest_of
from packer.packing.job import LocalStore
from packer.packing.older.similar import SUPER_FEATURES, SketchCache
from packer.stores.protocols import BlobWriter, Reader


class Staging:
    """A store that a version is packed into; implements Store and Ingest.

    Args:
        local: takes the new blobs.
        base: the version whose blobs count as stored; or None.
    """

    def __init__(self, local: LocalStore, base: Version | None) -> None:
        self.local = local
        self._base = base
        self._known: dict[str, int] = {}
        if base is not None:
            blobs = (base.manifest.config, *base.manifest.layers)
            self._known = {blob.digest: blob.size for blob in blobs}
        self.manifest: bytes = b""
        """The manifest that was packed; it is stored nowhere else."""

    @property
    def name(self) -> str:
        """The store's name in errors."""
        return self.local.name

    def exists(self, blob: Descriptor) -> bool:
        """Return whether a blob was written here, or is the base's.

        Args:
            blob: its descriptor.

        Returns:
            True if it counts as stored.
        """
        return self._known.get(blob.digest) == blob.size or self.local.exists(blob)

    def fetch(self, blob: Descriptor, start: int = 0, length: int | None = None) -> Reader:
        """Open a blob of this store, or of the base.

        Args:
            blob: its descriptor.
            start: first byte.
            length: number of bytes; None for all that follow.

        Returns:
            a reader, which the caller closes.

        Raises:
            NotFound: neither has it.
        """
        try:
            return self.local.fetch(blob, start, length)
        except NotFound:
            if self._base is None:
                raise
        return self._base.store.fetch(blob, start, length)

    def push(self, blob: Descriptor, source: BinaryIO) -> bool:
        """Store a blob here.

        Args:
            blob: its descriptor.
            source: its bytes.

        Returns:
            False if it was there already.
        """
        return self.local.push(blob, source)

    def create(self) -> BlobWriter:
        """Open a writer for a new blob here."""
        return self.local.create()

    def referrers(self, digest: str) -> tuple[Descriptor, ...]:
        """Return what refers to a manifest in the local store, as `Store.referrers`."""
        return self.local.referrers(digest)

    def get_manifest(self, reference: str) -> tuple[Descriptor, bytes]:
        """Return the packed manifest, or the base's.

        Args:
            reference: a digest.

        Returns:
            its descriptor and bytes.

        Raises:
            NotFound: it is neither.
        """
        if self.manifest and reference == digest_of(self.manifest):
            return Descriptor(MANIFEST_TYPE, reference, len(self.manifest)), self.manifest
        if self._base is not None and reference == self._base.descriptor.digest:
            return self._base.descriptor, self._base.manifest_bytes
        raise NotFound("manifest", reference, self.name)

    def resolve(self, reference: str) -> Descriptor:
        """Return the descriptor of the packed manifest, or of the base's.

        Args:
            reference: a digest.

        Returns:
            its descriptor.
        """
        return self.get_manifest(reference)[0]

    def put_manifest(self, data: bytes, media_type: str, tag: str | None = None) -> Descriptor:
        """Keep the manifest in memory: its final form depends on its sequence number.

        Args:
            data: the manifest.
            media_type: its media type.
            tag: ignored.

        Returns:
            its descriptor.
        """
        self.manifest = data
        return Descriptor(media_type, digest_of(data), len(data))


class NearSketches(SketchCache):
    """Sketches of the layers that are here. Layers in the registry are not read for theirs."""

    def get(self, layer_digest: str, chunk_count: int) -> array[int] | None:
        """Return the sketches of a layer's first chunks; zeros, which match nothing, if unknown.

        Args:
            layer_digest: ``sha256:<hex>``.
            chunk_count: number of chunks.

        Returns:
            SUPER_FEATURES for each chunk.
        """
        found = super().get(layer_digest, chunk_count)
        return found if found is not None else array("Q", bytes(8 * SUPER_FEATURES * chunk_count))
