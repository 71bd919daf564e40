"""A download of a blob, or of a range of it, that survives lost connections."""

from __future__ import annotations

import contextlib
import re

from packer.errors import FormatError, RegistryError, SizeMismatch, TransportError
from packer.files.closing import Closing
from packer.oci import READ_BYTES, Descriptor
from packer.stores.registry.client import Client
from packer.stores.registry.transport.http import Response

_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)\Z")


class BlobStream(Closing):
    """Bytes `start` to `end` of a blob, unverified; a lost connection is made anew for the rest.

    Args:
        client: of the repository.
        blob: the blob.
        start: first byte.
        end: exclusive; of a whole blob no range is asked for at first.
        what: the blob's name in errors.
    """

    def __init__(self, client: Client, blob: Descriptor, start: int, end: int, what: str) -> None:
        self._client = client
        self._blob = blob
        self._at = start
        self._end = end
        self._whole = start == 0 and end == blob.size
        self._attempts = client.attempts()
        self._what = what
        self._response: Response | None = None
        self._asked = False

    def open(self) -> None:
        """Make the request, so that errors such as a missing blob show at once.

        What `Client.request` raises passes through. An answer of another length raises
        SizeMismatch, one of another range FormatError.
        """
        if self._at == self._end and not self._whole:
            return  # no HTTP range is empty
        part = not (self._whole and self._at == 0)
        self._asked = part and not self._client.ignores_ranges
        response = self._request(ranged=self._asked)
        try:
            if response.status == 206:
                self._check_range(response.header("Content-Range"))
                self._check_length(response, self._end - self._at)
            else:
                self._check_length(response, self._blob.size)
                if self._asked:
                    self._client.record_ignored_range()
                self._skip(response, self._at)
        except BaseException:
            response.close()
            raise
        self._response = response

    def _request(self, *, ranged: bool) -> Response:
        """Ask for the rest, or for the whole blob where ranges are known not to work."""
        headers = {"Accept": "*/*"}
        if ranged:
            headers["Range"] = f"bytes={self._at}-{self._end - 1}"
        url = self._client.url(f"blobs/{self._blob.digest}")
        try:
            return self._client.request(
                "GET", url, ok=(200, 206), headers=headers, attempts=self._attempts
            )
        except RegistryError as error:
            # RFC 9110 wants ranges ignored where they cannot be served; some refuse instead.
            if not ranged or error.status not in (416, 501):
                raise
        return self._request(ranged=False)

    def read(self, size: int = -1, /) -> bytes:
        """Return at most `size` bytes, all that remain if negative.

        Args:
            size: number of bytes.

        Returns:
            The bytes, b"" at the end.

        Raises:
            SizeMismatch: the body ended early although the connection was not lost.
            TransportError: the connection is lost, and no attempt got on.
            RegistryError: the registry refuses to send the rest.
        """
        if size < 0:
            return b"".join(iter(lambda: self.read(READ_BYTES), b""))
        if self._at == self._end:
            return self._surplus(size)
        while True:
            try:
                if self._response is None:
                    self.open()
                assert self._response is not None
                data = self._response.read(min(size, self._end - self._at))
                break
            except (TransportError, RegistryError) as error:
                self._drop()
                if not error.retryable or not self._attempts.again(error):
                    raise
        if not data and size:
            raise SizeMismatch(self._what, self._end, self._at)
        self._at += len(data)
        self._attempts.progress()
        return data

    def close(self) -> None:
        """Close the connection, or return it to its pool if all was read."""
        if self._response is not None and self._at == self._end:
            # A connection can be used again only after the end of the body was read.
            with contextlib.suppress(TransportError):
                self._response.read(1)
        self._drop()

    def _surplus(self, size: int) -> bytes:
        """Return bytes after the end of a whole blob, which a verifying reader then refuses."""
        if not self._whole or self._response is None or size == 0:
            return b""
        return self._response.read(size)

    def _drop(self) -> None:
        """Close the current answer."""
        if self._response is not None:
            self._response.close()
            self._response = None

    def _check_range(self, value: str | None) -> None:
        """Compare a Content-Range header with the range that was asked for."""
        match = _CONTENT_RANGE.match(value or "")
        asked = (str(self._at), str(self._end - 1))
        if match is None or match.groups()[:2] != asked:
            raise FormatError(self._what, f"asked for bytes {'-'.join(asked)}, got another range")

    def _check_length(self, response: Response, expected: int) -> None:
        """Compare Content-Length, if there is one, with the expected number of bytes."""
        actual = response.content_length
        if actual is not None and actual != expected:
            raise SizeMismatch(self._what, expected, actual)

    def _skip(self, response: Response, count: int) -> None:
        """Read and drop `count` bytes."""
        while count:
            data = response.read(min(count, READ_BYTES))
            if not data:
                raise SizeMismatch(self._what, self._blob.size, self._at - count)
            count -= len(data)
