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
    IntegrityError,
    RegistryError,
    SizeMismatch,
    StoreError,
    TransportError,
)
from packer.oci import Descriptor, is_digest
from packer.stores.protocols import Filler
from packer.stores.registry.client import MAX_RENEWALS, Client
from packer.stores.registry.transport.http import SEND_BYTES, Response, malformed
from packer.stores.registry.transport.retries import RETRY_STATUSES, Attempts
from packer.stores.registry.transport.urls import join_url

WRITE = "pull,push"
DIGEST_INVALID = "DIGEST_INVALID"


def upload(
    client: Client, blob: Descriptor, source: BinaryIO, mount_from: str | None = None
) -> bool:
    """Upload a blob: POST, then PUT of everything.

    No registry must support more, and Debian's docker-registry cannot resume. POST has no body, so
    the body is never sent only to learn that authentication is needed. A token that ends between
    the two is no failed attempt: the same upload goes on with a new one. An upload that is given up
    is cancelled, so that nothing of it fills the registry's disk.

    The POST may ask to mount the blob from another repository. A registry that refuses opens an
    upload by the same answer, so asking costs nothing.

    Args:
        client: of the repository.
        blob: what the bytes must be.
        source: as for `Store.push`.
        mount_from: another repository of the registry that is said to have the blob.

    Returns:
        True if the bytes were sent, False if the registry mounted the blob. An error of `source`
        passes through.

    Raises:
        TransportError: no answer, after all attempts.
        RegistryError: the registry refuses, or all attempts failed.
        AuthError: the credentials do not allow it.
        IntegrityError: `source` is not the blob, or the registry received other bytes.
    """
    target: str | None = None
    attempts = client.attempts()
    renewals = 0
    begun = False
    while True:
        if begun or source.seekable():
            source.seek(0)
        begun = True
        body = UploadBody(source, blob, f"blob {blob.digest}")
        try:
            if target is None:
                candidate, mount_from = mount_from, None
                target = _begin(client, blob, candidate, attempts)
            if target is None:
                return False
            body.open()
            refusal, retry_after = _send(client, target, blob, body, attempts)
            if refusal is None:
                return True
            _cancel(client, target)
            target = None
            if not refusal.retryable or not attempts.again(refusal, retry_after):
                attempts.finish()
                raise refusal
        except SourceFailed as error:
            _cancel(client, target)
            cause = error.__cause__
            assert cause is not None
            raise cause from cause.__cause__
        except IntegrityError:
            _cancel(client, target)
            raise
        except (TransportError, RegistryError) as error:
            if attempts.is_over:
                raise
            if isinstance(error, AuthError) and error.retryable and renewals < MAX_RENEWALS:
                renewals += 1
                continue
            lost = target is not None and _is_lost(error)
            if isinstance(error, RegistryError) and not lost:
                _cancel(client, target)
            if not (error.retryable or lost) or not attempts.again(error, counted=lost):
                raise
            target = None


def _is_lost(error: StoreError) -> bool:
    """Return whether an upload is not there any more, so that a new one may succeed."""
    # 404 and 416: another replica answers, or the registry has restarted. The digest is invalid if
    # other bytes arrived than were sent: those were verified.
    return isinstance(error, RegistryError) and (
        error.status in (404, 416) or error.code == DIGEST_INVALID
    )


def _cancel(client: Client, target: str | None) -> None:
    """Cancel an upload that was opened, so that nothing of it stays; best effort.

    The URL of an upload at distribution holds the number of bytes that the upload has. After a
    write that failed half-way the upload has more, and DELETE is refused. Version 3 then returns
    the right URL by GET. Version 2 answers 404 to every request with the old URL, and states no
    other: there the bytes stay until the registry purges its uploads.
    """
    if target is None:
        return
    attempts = client.attempts()
    attempts.finish()  # once

    def ask(method: str, url: str, *ok: int) -> Response:
        response = client.request(method, url, ok=ok, actions=WRITE, attempts=attempts)
        response.discard()
        return response

    with contextlib.suppress(StoreError, FormatError):
        if ask("DELETE", target, 200, 202, 204, 400, 404, 416).status >= 400:
            location = ask("GET", target, 200, 204).header("Location")
            if location:
                ask("DELETE", join_url(target, location), 200, 202, 204)


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
    # The registry opened an upload instead.
    with contextlib.suppress(FormatError):
        _cancel(client, join_url(response.url, response.header("Location") or ""))
    return False


def _ask_mount(
    client: Client, blob: Descriptor, repository: str, attempts: Attempts | None = None
) -> Response | None:
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
            attempts=attempts,
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


def _begin(
    client: Client, blob: Descriptor, mount_from: str | None, attempts: Attempts
) -> str | None:
    """Open an upload and return the URL to send the blob to; None if it was mounted instead."""
    url = client.url("blobs/uploads/")
    response = None
    if mount_from is not None:
        response = _ask_mount(client, blob, mount_from, attempts)
        if response is not None and response.status == 201:
            return None
    if response is None:
        response = client.request(
            "POST",
            url,
            ok=(202,),
            actions=WRITE,
            headers={"Content-Length": "0"},
            attempts=attempts,
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


def _send(
    client: Client, target: str, blob: Descriptor, body: UploadBody, attempts: Attempts
) -> tuple[RegistryError | None, str | None]:
    """Send the bytes; return a refusal that may pass, if there is one, and its Retry-After."""
    with client.request(
        "PUT",
        target,
        ok={200, 201, 204} | RETRY_STATUSES,
        actions=WRITE,
        headers={"Content-Type": "application/octet-stream", "Content-Length": str(blob.size)},
        body=body,
        attempts=attempts,
    ) as response:
        if response.status in RETRY_STATUSES:
            return client.refusal(response, WRITE), response.header("Retry-After")
        claimed = response.header("Docker-Content-Digest") or ""
        response.discard()
    if is_digest(claimed) and claimed != blob.digest:
        raise DigestMismatch(f"upload to {client.name}", blob.digest, claimed)
    return None, None


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
