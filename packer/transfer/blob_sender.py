"""The blobs of a staged version to a registry: a copy without its last step, the manifest."""

from __future__ import annotations

from collections.abc import Iterable

from packer.errors import NotFound
from packer.format.version import Version
from packer.oci import Descriptor
from packer.progress import ProgressCallback
from packer.stores.protocols import Store, Upload
from packer.transfer.blob_mover import BlobMover


class BlobSender:
    """Sends a version's blobs, layers before the config, and again those that turn out to lack.

    Args:
        version: its store has all blobs.
        destination: a registry.
        there: blobs that the destination has: a manifest there names them.
        jobs: concurrent uploads.
        progress: told about the bytes moved.
    """

    def __init__(
        self,
        version: Version,
        destination: Store,
        there: Iterable[Descriptor],
        *,
        jobs: int,
        progress: ProgressCallback | None,
    ) -> None:
        self._manifest = version.manifest
        self._destination = destination
        self._known = {blob.digest for blob in there}
        self._mover = BlobMover(version.store, destination, jobs, progress, None)
        self._again: set[str] = set()

    def send(self) -> None:
        """Send the blobs that the destination may lack.

        Raises:
            IntegrityError: a blob is not what its descriptor says.
            StoreError: the destination failed. A second try goes on where this one ended.
        """
        if isinstance(self._destination, Upload):
            self._destination.expect_writes()
        config = self._manifest.config
        missing = [blob for blob in self._blobs() if blob.digest not in self._known]
        if missing:
            missing = self._mover.probe(missing)
        self._mover.begin(missing)
        self._mover.move([blob for blob in missing if blob != config])
        self._mover.move([blob for blob in missing if blob == config])

    def send_lost(self, error: NotFound) -> None:
        """Send, once each, blobs that the destination lacks although it was said to have them.

        Args:
            error: the destination's refusal of the manifest; names the blob, or none.

        Raises:
            NotFound: as `error`, if it is about none of the version's blobs, or was sent again
                already; or the version's store lacks the blob too.
            StoreError: the destination failed.
        """
        if error.kind != "blob":
            raise error
        lost = [blob for blob in self._blobs() if blob.digest == error.name]
        if not lost:  # the registry does not say which
            lost = [blob for blob in self._blobs() if not self._destination.exists(blob)]
        lost = [blob for blob in lost if blob.digest not in self._again]
        if not lost:
            raise error
        self._again.update(blob.digest for blob in lost)
        self._mover.begin(lost)
        self._mover.move(lost)

    def _blobs(self) -> list[Descriptor]:
        """Return the version's blobs, each once, the config last."""
        unique = {blob.digest: blob for blob in (*self._manifest.layers, self._manifest.config)}
        config = unique.pop(self._manifest.config.digest)
        return [*unique.values(), config]
