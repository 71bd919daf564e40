"""Blobs of one repository in a registry: asked for, downloaded, uploaded, mounted."""

from __future__ import annotations

from typing import BinaryIO, cast

from packer.errors import NotFound, RegistryError, SizeMismatch
from packer.oci import Descriptor
from packer.stores.protocols import Reader
from packer.stores.registry.client import HEAD_REFUSALS, Client
from packer.stores.registry.download import BlobStream
from packer.stores.registry.upload import WRITE, mount, upload
from packer.stores.verifying import VerifyingReader


class RegistryBlobs:
    """The blobs of a repository; implements Upload, Mounter and Ranged.

    Args:
        client: of the repository.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    @property
    def name(self) -> str:
        """``docker://registry/repository``."""
        return self._client.name

    def exists(self, blob: Descriptor) -> bool:
        """Return whether the registry says that it has the blob.

        A yes does not prove that the blob can be read: registries with caches said yes of blobs
        that were already collected. `put_manifest` then fails, and `upload` repairs it.

        Args:
            blob: the blob.

        Returns:
            The registry's claim.

        Raises:
            RegistryError: any status but 200 and 404.
        """
        try:
            response = self._client.head(f"blobs/{blob.digest}")
        except RegistryError as error:
            if error.status == 404:
                return False
            if error.status in HEAD_REFUSALS:
                return self._can_be_read(blob)
            raise
        return response.content_length in (None, blob.size)

    def _can_be_read(self, blob: Descriptor) -> bool:
        """Ask for a blob's first byte, where HEAD is refused."""
        try:
            with self.fetch(blob, 0, min(1, blob.size)) as reader:
                return len(reader.read(1)) == min(1, blob.size)
        except (NotFound, SizeMismatch):
            return False

    def fetch(self, blob: Descriptor, start: int = 0, length: int | None = None) -> Reader:
        """Open a blob or a range of it, as `Store.fetch`.

        When the connection is lost, the download goes on at the same byte. Of a registry that
        ignores ranges, the whole blob is read and the rest dropped. ``urls`` of descriptors are
        never followed.

        Args:
            blob: the blob.
            start: first byte.
            length: in bytes; None reads to the end of the blob.

        Returns:
            A reader; of a whole blob, one that verifies.

        Raises:
            NotFound: the registry has no such blob.
            SizeMismatch: the range does not lie in the blob.
            RegistryError: any other refusal.
        """
        what = f"blob {blob.digest} in {self.name}"
        whole = start == 0 and length is None
        end = blob.size if length is None else start + length
        if not 0 <= start <= end <= blob.size:
            raise SizeMismatch(f"{what} (range)", blob.size, end)
        stream = BlobStream(self._client, blob, start, end, what)
        try:
            stream.open()
        except RegistryError as error:
            if error.status == 404:
                raise NotFound("blob", blob.digest, self.name) from error
            raise
        return VerifyingReader(cast(BinaryIO, stream), blob, what) if whole else stream

    def push(self, blob: Descriptor, source: BinaryIO) -> bool:
        """Upload a blob unless the registry says it has it, as `Store.push`."""
        if self.exists(blob):
            return False
        self.upload(blob, source)
        return True

    def upload(self, blob: Descriptor, source: BinaryIO) -> None:
        """Upload a blob without asking, as `Upload`."""
        upload(self._client, blob, source)

    @property
    def registry(self) -> str:
        """The registry's host, as references name it."""
        return self._client.registry

    @property
    def repository(self) -> str:
        """The repository's name in the registry."""
        return self._client.repository

    def neighbour(self, other: object) -> str | None:
        """Return the name of another repository of the same registry, None for other stores."""
        if not isinstance(other, RegistryBlobs) or other._client.origin != self._client.origin:
            return None
        return other.repository if other.repository != self.repository else None

    def upload_or_mount(self, blob: Descriptor, source: BinaryIO, repository: str) -> bool:
        """Upload a blob unless the registry takes it from `repository`, as `Mounter`."""
        return upload(self._client, blob, source, repository)

    def mount(self, blob: Descriptor, repository: str) -> bool:
        """Mount a blob whose bytes are not at hand, as `Mounter`."""
        return mount(self._client, blob, repository)

    def expect_writes(self) -> None:
        """Ask for the right to push from the first token on, as `Upload`: it saves a token."""
        self._client.read_actions = WRITE

    @property
    def ignores_ranges(self) -> bool:
        """Whether the registry is known to send a whole blob when it is asked for a part."""
        return self._client.ignores_ranges
