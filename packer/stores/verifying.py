"""The reader that verifies what a store returns."""

from __future__ import annotations

import hashlib
from typing import BinaryIO

from packer.errors import DigestMismatch, SizeMismatch
from packer.files.closing import Closing
from packer.oci import READ_BYTES, Descriptor


class VerifyingReader(Closing):
    """Wraps a raw stream of a whole blob and checks size and digest at its end.

    Args:
        raw: the stream.
        blob: what the bytes must be.
        what: the blob's name in errors.

    Source: image-spec ``descriptor.md``, "Verification": size first, then digest.
    """

    def __init__(self, raw: BinaryIO, blob: Descriptor, what: str) -> None:
        self._raw = raw
        self._blob = blob
        self._what = what
        self._hash = hashlib.sha256()
        self._seen = 0
        self._done = False

    def read(self, size: int = -1, /) -> bytes:
        """Return at most `size` bytes, all that remain if negative.

        Returns:
            The bytes, b"" at the end of a blob that was verified.

        Raises:
            SizeMismatch: more or fewer bytes came than the descriptor says.
            DigestMismatch: the bytes are not the blob's.
        """
        if size < 0:
            return b"".join(iter(lambda: self.read(READ_BYTES), b""))
        if size == 0 or self._done:
            return b""
        data = self._raw.read(size)
        self._seen += len(data)
        if self._seen > self._blob.size or (not data and self._seen < self._blob.size):
            raise SizeMismatch(self._what, self._blob.size, self._seen)
        self._hash.update(data)
        if not data:
            self._done = True
            actual = "sha256:" + self._hash.hexdigest()
            if actual != self._blob.digest:
                raise DigestMismatch(self._what, self._blob.digest, actual)
        return data

    def close(self) -> None:
        """Close the raw stream."""
        self._raw.close()
