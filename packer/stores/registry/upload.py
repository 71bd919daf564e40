"""An upload of a blob: verified while it is sent, begun again when the connection is lost.

Source: distribution-spec 1.1, "Pushing a blob monolithically" and "Mounting a blob from another
repository".
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from typing import BinaryIO

from packer.errors import (
    AuthError,
    DigestMismatch,
    FormatError,
    RegistryError,
    SizeMismatch,
    StoreError,
    TransportError,
)
from packer.oci import Descriptor, is_digest
from packer.stores.protocols import Filler
from packer.stores.registry.client import MAX_RENEWALS, Client
from packer.stores.registry.http import SEND_BYTES, Response, malformed
from packer.stores.registry.retries import RETRY_STATUSES, RetryPolicy
from packer.stores.registry.urls import join_url

WRITE = "pull,push"
DIGEST_INVALID = "DIGEST_INVALID"


def upload(
    client: Client,
    blob: Descriptor,
    source: BinaryIO,
    retry: RetryPolicy,
    name: str,
    mount_from: str | None = None,
) -> bool:
    """Upload a blob: POST, then PUT of everything.

    No registry must support more, and Debian's docker-registry cannot resume. POST has no body, so
    the body is never sent only to learn that authentication is needed. A token that ends between
    the two is no failed attempt: the same upload goes on with a new one.

    The POST may ask to mount the blob from another repository. A registry that refuses opens an
    upload by the same answer, so asking costs nothing.

    Args:
        client: of the repository.
        blob: what the bytes must be.
        source: as for `Store.push`.
        retry: how often to begin again.
        name: of the store, for errors.
        mount_from: another repository of the registry that is said to have the blob.

    Returns:
        True if the bytes were sent, False if the registry mounted the blob. An error of `source`
        passes through.

    Raises:
        TransportError: no answer, after all attempts.
        RegistryError: the registry refuses, or all attempts failed.
        AuthError: the credentials do not allow it.
    """
    target: str | None = None
    attempt = renewals = 0
    while True:
        if attempt or renewals or source.seekable():
            source.seek(0)
        body = UploadBody(source, blob, f"blob {blob.digest}")
        last = attempt == retry.attempts - 1
        retry_after = None
        try:
            if target is None:
                candidate, mount_from = mount_from, None
                target = _begin(client, blob, candidate)
            if target is None:
                return False
            body.open()
            with _send(client, target, blob, body, last) as response:
                if response.status not in RETRY_STATUSES:
                    _check_answer(response, blob, name)
                    return True
                retry_after = response.header("Retry-After")
        except SourceFailed as error:
            cause = error.__cause__
            assert cause is not None
            raise cause from cause.__cause__
        except (TransportError, RegistryError) as error:
            if isinstance(error, AuthError) and error.retryable and renewals < MAX_RENEWALS:
                renewals += 1
                continue
            # 404 and 416: the upload was lost (another replica, a restart); begin a new one. The
            # same if other bytes arrived: those that were sent had the right digest.
            lost = isinstance(error, RegistryError) and (
                error.status in (404, 416) or error.code == DIGEST_INVALID
            )
            if last or not (error.retryable or (lost and target is not None)):
                raise
        target = None
        client.transport.sleep(attempt, retry_after)
        attempt += 1


def mount(client: Client, blob: Descriptor, repository: str) -> bool:
    """Mount a blob from another repository of the registry.

    Args:
        client: of the repository that is to get the blob.
        blob: the blob.
        repository: the one that is said to have it.

    Returns:
        False if the registry does not mount it.
    """
    response = _ask_mount(client, blob, repository)
    if response is None:
        return False
    if response.status == 201:
        return True
    # The registry opened an upload instead: cancel it, so that nothing of it stays.
    with contextlib.suppress(StoreError, FormatError):
        target = join_url(response.url, response.header("Location") or "")
        client.request("DELETE", target, ok=(200, 202, 204), actions=WRITE).discard()
    return False


def _ask_mount(client: Client, blob: Descriptor, repository: str) -> Response | None:
    """Return the answer to a request to mount: 201 if it was done; None if it was refused."""
    url = client.url(f"blobs/uploads/?mount={blob.digest}&from={repository}")
    try:
        response = client.request(
            "POST",
            url,
            ok=(201, 202),
            actions=WRITE,
            mount_from=repository,
            headers={"Content-Length": "0"},
        )
    except RegistryError as error:
        # Forbidden to these credentials, or not supported: an ordinary upload serves. An error that
        # may pass is left to the caller, who tries again.
        if error.retryable:
            raise
        return None
    response.discard()
    claimed = response.header("Docker-Content-Digest") or ""
    if response.status == 201 and is_digest(claimed) and claimed != blob.digest:
        return None
    return response


def _begin(client: Client, blob: Descriptor, mount_from: str | None) -> str | None:
    """Open an upload and return the URL to send the blob to; None if it was mounted instead."""
    url = client.url("blobs/uploads/")
    response = None
    if mount_from is not None:
        response = _ask_mount(client, blob, mount_from)
        if response is not None and response.status == 201:
            return None
    if response is None:
        response = client.request(
            "POST", url, ok=(202,), actions=WRITE, headers={"Content-Length": "0"}
        )
        response.discard()
    location = response.header("Location")
    with malformed(response):
        if not location:
            raise FormatError(f"upload of {blob.digest}", "no Location")
        # join_url refuses user information and a step down to http; `request` sends credentials
        # only to the registry's own origin.
        target, _, _ = join_url(url, location).partition("#")
    return target + ("&" if "?" in target else "?") + f"digest={blob.digest}"


def _send(client: Client, target: str, blob: Descriptor, body: UploadBody, last: bool) -> Response:
    """Send the bytes; the answer may be of RETRY_STATUSES unless this is the last try."""
    headers = {"Content-Type": "application/octet-stream", "Content-Length": str(blob.size)}
    ok = {200, 201, 204} | (set() if last else RETRY_STATUSES)
    response = client.request("PUT", target, ok=ok, actions=WRITE, headers=headers, body=body)
    response.discard()
    return response


def _check_answer(response: Response, blob: Descriptor, name: str) -> None:
    """Raise if the registry says that it received other bytes."""
    claimed = response.header("Docker-Content-Digest") or ""
    if is_digest(claimed) and claimed != blob.digest:
        raise DigestMismatch(f"upload to {name}", blob.digest, claimed)


class SourceFailed(Exception):
    """Carries an exception of an upload's source through the HTTP library; never leaves here."""


class UploadBody:
    """A request body whose end is sent only if the whole of it is the promised blob.

    Args:
        source: the bytes to send.
        blob: what the bytes must be.
        what: the blob's name in errors.
    """

    def __init__(self, source: BinaryIO, blob: Descriptor, what: str) -> None:
        self._source = source
        self._blob = blob
        self._what = what
        self._hash = hashlib.sha256()
        self._seen = 0
        self._first: bytes | memoryview = b""
        self._buffer = memoryview(bytearray(min(SEND_BYTES, blob.size + 1)))

    def open(self) -> None:
        """Read the first bytes, so that the source is open before the request is made.

        If the source is in a registry and fails, no upload is broken off then. And a registry that
        takes no other request during an upload (go-containerregistry's) would wait for the bytes
        while we wait for its answer.

        Raises:
            SizeMismatch, DigestMismatch, SourceFailed: as iterating.
        """
        self._first = self._read()

    def __iter__(self) -> Iterator[bytes | memoryview]:
        """Yield the bytes, in parts that are valid until the next one.

        Raises:
            SizeMismatch, DigestMismatch: `source` is not the blob; the request is broken off before
                the registry has all it was promised, so it stores nothing.
            SourceFailed: `source` raised, see its cause.
        """
        data = self._first
        while data:
            yield data
            data = self._read()

    def _read(self) -> bytes | memoryview:
        """Return the next part, an empty one at the end."""
        data: bytes | memoryview
        try:
            if isinstance(self._source, Filler):
                data = self._buffer[: self._source.fill(self._buffer)]
            else:
                data = self._source.read(len(self._buffer))
        except Exception as error:
            # An OSError of a file must not look like one of the connection this is called from.
            raise SourceFailed from error
        self._seen += len(data)
        self._hash.update(data)
        if self._seen > self._blob.size or (not data and self._seen < self._blob.size):
            raise SizeMismatch(self._what, self._blob.size, self._seen)
        if self._seen == self._blob.size:
            actual = "sha256:" + self._hash.hexdigest()
            if actual != self._blob.digest:
                raise DigestMismatch(self._what, self._blob.digest, actual)
        return data
