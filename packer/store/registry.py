"""A repository in a registry as a store.

Source: OCI distribution-spec 1.1; where registries differ from it, the comment says which.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from types import TracebackType
from typing import BinaryIO, cast

from packer.errors import (
    DigestMismatch,
    FormatError,
    InvalidReference,
    NotFound,
    RegistryError,
    SizeMismatch,
    TransportError,
)
from packer.model import (
    INDEX_MANIFEST_TYPE,
    MANIFEST_TYPE,
    MAX_MANIFEST_BYTES,
    Descriptor,
    digest_of,
    is_digest,
    load_json,
)
from packer.reference import DOCKER_HUB, Reference, is_loopback, is_tag, split_host
from packer.store.auth import Authenticator, Credentials, docker_credentials
from packer.store.base import Reader, VerifyingReader
from packer.store.blobstream import BlobStream, SourceFailed, UploadBody
from packer.store.client import Client
from packer.store.http import (
    RETRY_STATUSES,
    Origin,
    Response,
    RetryPolicy,
    Transport,
    join_url,
    origin_of,
)

ACCEPT_MANIFESTS = ", ".join(
    [
        MANIFEST_TYPE,
        INDEX_MANIFEST_TYPE,
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    ]
)
MAX_TAGS = 100_000
MAX_TAG_PAGES = 1000
MAX_TAG_PAGE_BYTES = 4 << 20

_LINK_NEXT = re.compile(r"\s*<([^<>]{1,4096})>\s*;[^,]*\brel=\"?next\"?")
_UNKNOWN_BLOB_CODES = ("MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN")
_WRITE = "pull,push"


class RegistryStore:
    """Blobs, manifests and tags of one repository.

    Args:
        reference: names registry and repository; its tag and digest are not used.
        plain_http: True for http, False for https; None means https except for ``localhost`` and
            loopback addresses, which get http unless `ca_file` is given.
        username: with `password`, used instead of the docker configuration.
        password: never shown, and sent only as packer/store/auth.py says.
        ca_file: PEM file of certificate authorities to trust instead of the system's.
        token_hosts: hosts other than the registry's that may be sent its credentials.
        timeout_seconds: silence allowed before an operation on a connection fails.
        max_connections: connections kept open; use about as many threads.
        retry: when and how often to try again.

    Thread safety: threads may share it.
    """

    def __init__(
        self,
        reference: Reference | str,
        *,
        plain_http: bool | None = None,
        username: str | None = None,
        password: str | None = None,
        ca_file: str | None = None,
        token_hosts: Collection[str] = (),
        timeout_seconds: float = 60.0,
        max_connections: int = 16,
        retry: RetryPolicy | None = None,
    ) -> None:
        if isinstance(reference, str):
            reference = Reference.parse(reference)
        if (username is None) != (password is None):
            raise InvalidReference(str(reference), "give both user name and password, or neither")
        self._registry = reference.registry
        self._name = f"docker://{reference.registry}/{reference.repository}"
        self._given = (
            Credentials(username, password)
            if username is not None and password is not None
            else None
        )
        self._retry = retry or RetryPolicy()
        transport = Transport(
            ca_file=ca_file,
            timeout_seconds=timeout_seconds,
            max_connections=max_connections,
            retry=self._retry,
        )
        origin = _origin(reference.registry, plain_http, ca_file)
        self._auth = Authenticator(
            origin, reference.repository, self._find_credentials, transport, token_hosts
        )
        self._client = Client(origin, reference.repository, self._auth, transport)
        self._read = "pull"

    @property
    def name(self) -> str:
        """``docker://registry/repository``."""
        return self._name

    def exists(self, blob: Descriptor) -> bool:
        """Tell whether the registry says it has the blob.

        A yes does not prove that the blob can be read: registries with caches have said so of blobs
        already collected. `put_manifest` finds out, and `upload` repairs it.
        """
        try:
            response = self._head(f"blobs/{blob.digest}")
        except RegistryError as error:
            if error.status == 404:
                return False
            raise
        return response.content_length in (None, blob.size)

    def fetch(self, blob: Descriptor, start: int = 0, length: int | None = None) -> Reader:
        """Open a blob or a range of it, as `Store.fetch`.

        Goes on where it was when the connection is lost. A registry that ignores ranges sends all,
        of which the range is taken. ``urls`` of descriptors are never followed.
        """
        what = f"blob {blob.digest} in {self._name}"
        whole = start == 0 and length is None
        end = blob.size if length is None else start + length
        if not 0 <= start <= end <= blob.size:
            raise SizeMismatch(f"{what} (range)", blob.size, end)
        stream = BlobStream(self._client, blob, start, end, self._retry, what)
        try:
            stream.open()
        except RegistryError as error:
            if error.status == 404:
                raise NotFound("blob", blob.digest, self._name) from error
            raise
        return VerifyingReader(cast(BinaryIO, stream), blob, what) if whole else stream

    def push(self, blob: Descriptor, source: BinaryIO) -> bool:
        """Upload a blob unless the registry says it has it, as `Store.push`."""
        if self.exists(blob):
            return False
        self.upload(blob, source)
        return True

    def upload(self, blob: Descriptor, source: BinaryIO) -> None:
        """Upload a blob without asking, as `Upload.upload`.

        POST, then PUT of everything: no registry need support more, and Debian's docker-registry
        cannot resume. POST has no body, so the body is never sent just to learn that
        authentication is needed.
        """
        what = f"blob {blob.digest}"
        for attempt in range(self._retry.attempts):
            if attempt or source.seekable():
                source.seek(0)
            body = UploadBody(source, blob, what)
            last = attempt == self._retry.attempts - 1
            retry_after = None
            try:
                with self._upload_once(blob, body, last) as response:
                    if response.status not in RETRY_STATUSES:
                        return
                    retry_after = response.header("Retry-After")
            except SourceFailed as error:
                cause = error.__cause__
                assert cause is not None
                raise cause from cause.__cause__
            except (TransportError, RegistryError) as error:
                # 404 and 416: the upload was lost (another replica, a restart); begin a new one.
                lost = isinstance(error, RegistryError) and error.status in (404, 416)
                if last or not (error.retryable or (lost and body.seen > 0)):
                    raise
            self._client.transport.sleep(attempt, retry_after)

    def expect_writes(self) -> None:
        """Ask for the right to push from the first token on: saves a token per copy."""
        self._read = _WRITE

    def get_manifest(self, reference: str) -> tuple[Descriptor, bytes]:
        """Return a manifest's descriptor and exact bytes, as `Store.get_manifest`.

        The digest is that of the bytes. What the header says of it is not used, but if it says
        otherwise then the bytes were damaged, in the registry or on the way.

        Raises:
            DigestMismatch: the bytes are not those of the digest asked for, or of the header's.
            FormatError: larger than MAX_MANIFEST_BYTES, not JSON, or of two types at once.
        """
        what = f"manifest {_check(reference)} in {self._name}"
        try:
            response = self._client.request(
                "GET",
                self._client.url(f"manifests/{reference}"),
                ok=(200,),
                actions=self._read,
                headers={"Accept": ACCEPT_MANIFESTS},
            )
        except RegistryError as error:
            if error.status != 404:
                raise
            raise self._missing(reference) from error
        with response:
            data = response.read_bounded(MAX_MANIFEST_BYTES, what)
        actual = digest_of(data)
        claimed = response.header("Docker-Content-Digest") or ""
        for expected in (reference, claimed):
            if is_digest(expected) and actual != expected:
                raise DigestMismatch(what, expected, actual)
        return Descriptor(_media_type(response, data, what), actual, len(data)), data

    def resolve(self, reference: str) -> Descriptor:
        """Return the descriptor a tag or digest stands for, by HEAD where its answer tells all.

        The digest is the registry's claim; `get_manifest` with it proves the bytes.
        """
        try:
            response = self._head(f"manifests/{_check(reference)}", ACCEPT_MANIFESTS)
        except RegistryError as error:
            if error.status != 404:
                raise
            raise self._missing(reference) from error
        claimed = response.header("Docker-Content-Digest") or ""
        media_type = _bare_type(response.header("Content-Type"))
        size = response.content_length
        if is_digest(reference):
            if is_digest(claimed) and claimed != reference:
                raise DigestMismatch(f"manifest in {self._name}", reference, claimed)
            claimed = reference
        if not is_digest(claimed) or not media_type or not size:
            return self.get_manifest(reference)[0]
        return Descriptor(media_type, claimed, size)

    def put_manifest(self, data: bytes, media_type: str, tag: str | None = None) -> Descriptor:
        """Upload a manifest under its tag, or its digest without one, as `Store.put_manifest`.

        Raises:
            NotFound: kind "blob", with the digest the registry names if it names one.
        """
        manifest = Descriptor(media_type, digest_of(data), len(data))
        if len(data) > MAX_MANIFEST_BYTES:
            raise FormatError("manifest", f"{len(data)} bytes, limit {MAX_MANIFEST_BYTES}")
        reference = manifest.digest if tag is None else _check(tag)
        try:
            response = self._put_manifest(data, media_type, reference)
        except RegistryError as error:
            if error.code in _UNKNOWN_BLOB_CODES or (error.status == 404 and not error.code):
                unnamed = f"one that manifest {manifest.digest} names"
                name = next((item for item in error.detail if item != manifest.digest), unnamed)
                raise NotFound("blob", name, self._name) from error
            raise
        claimed = response.header("Docker-Content-Digest") or ""
        response.discard()
        if is_digest(claimed) and claimed != manifest.digest:
            raise DigestMismatch(f"manifest in {self._name}", manifest.digest, claimed)
        return manifest

    def tags(self) -> Iterator[tuple[str, Descriptor]]:
        """Yield tags in the registry's order with what they name, one request each.

        Raises:
            FormatError: a tag outside the grammar, or a list without end.
        """
        for tag in self.tag_names():
            yield tag, self.resolve(tag)

    def tag_names(self) -> Iterator[str]:
        """Yield the names of all tags, one request per page of up to 1000."""
        url = self._client.url("tags/list?n=1000")
        what = f"tag list of {self._name}"
        count = 0
        seen = {url}
        for _ in range(MAX_TAG_PAGES):
            try:
                response = self._client.request("GET", url, ok=(200,), actions=self._read)
            except RegistryError as error:
                if error.status == 404:
                    return  # no repository yet, or one without tags
                raise
            with response:
                value = load_json(response.read_bounded(MAX_TAG_PAGE_BYTES, what), what)
            names = value.get("tags") or []
            if not isinstance(names, list):
                raise FormatError(what, "tags is not a list")
            for name in names:
                if not isinstance(name, str) or not is_tag(name):
                    raise FormatError(what, f"{str(name)[:80]!r} is not a tag")
                count += 1
                if count > MAX_TAGS:
                    raise FormatError(what, f"more than {MAX_TAGS} tags")
                yield name
            match = _LINK_NEXT.match(response.header("Link") or "")
            if match is None:
                return
            url = join_url(url, match.group(1))
            if url in seen:
                raise FormatError(what, "its pages go round in a circle")
            seen.add(url)
            if origin_of(url) != self._client.origin:
                raise FormatError(what, "goes on at another host")
            if not names:
                raise FormatError(what, "an empty page is not the last")
        raise FormatError(what, f"more than {MAX_TAG_PAGES} pages")

    def untag(self, tag: str) -> None:
        """Remove a tag; not every registry can.

        Raises:
            NotFound: there is no such tag.
            RegistryError: the registry cannot (docker-registry before 3), or forbids it.
        """
        try:
            self._client.request(
                "DELETE",
                self._client.url(f"manifests/{_check(tag)}"),
                ok=(200, 202, 204),
                actions="pull,push,delete",
            ).discard()
        except RegistryError as error:
            if error.status in (400, 405, 501):
                raise RegistryError(
                    f"{self._name} does not support removing tags (status {error.status})",
                    status=error.status,
                    code=error.code,
                    method=error.method,
                    url=error.url,
                ) from error
            if error.status != 404:
                raise
            raise self._missing(tag) from error

    def delete_manifest(self, digest: str) -> None:
        """Remove a manifest and the tags that name it, as `ManifestDeleter`."""
        try:
            self._client.request(
                "DELETE",
                self._client.url(f"manifests/{_check(digest)}"),
                ok=(200, 202, 204),
                actions="pull,push,delete",
            ).discard()
        except RegistryError as error:
            if error.status != 404:
                raise
            raise self._missing(digest) from error

    def close(self) -> None:
        """Close idle connections."""
        self._client.transport.close()

    def __enter__(self) -> RegistryStore:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _find_credentials(self) -> Credentials | None:
        return self._given if self._given is not None else docker_credentials(self._registry)

    def _head(self, path: str, accept: str = "*/*") -> Response:
        response = self._client.request(
            "HEAD",
            self._client.url(path),
            ok=(200,),
            actions=self._read,
            headers={"Accept": accept},
        )
        response.discard()
        return response

    def _missing(self, reference: str) -> NotFound:
        return NotFound("manifest" if is_digest(reference) else "tag", reference, self._name)

    def _put_manifest(self, data: bytes, media_type: str, reference: str) -> Response:
        """PUT a manifest, again if the registry met a file that another request was writing.

        Debian's docker-registry then calls a digest invalid that nobody sent: its files of one line
        are empty for a moment when they are written anew.
        """
        for attempt in range(self._retry.attempts):
            try:
                return self._client.request(
                    "PUT",
                    self._client.url(f"manifests/{reference}"),
                    ok=(200, 201, 202, 204),
                    actions=_WRITE,
                    headers={"Content-Type": media_type},
                    body=data,
                )
            except RegistryError as error:
                if error.code != "DIGEST_INVALID" or attempt == self._retry.attempts - 1:
                    raise
            self._client.transport.sleep(attempt, None)
        raise AssertionError("no attempt")

    def _upload_once(self, blob: Descriptor, body: UploadBody, last: bool) -> Response:
        """Try once; the answer may be of RETRY_STATUSES unless this is the last try."""
        url = self._client.url("blobs/uploads/")
        with self._client.request(
            "POST", url, ok=(202,), actions=_WRITE, headers={"Content-Length": "0"}
        ) as response:
            location = response.header("Location")
            response.discard()
        if not location:
            raise FormatError(f"answer to the upload of {blob.digest}", "no Location")
        # join_url refuses user information and a step down to http; `request` sends credentials
        # only to the registry's own origin.
        target = join_url(url, location)
        target, _, _ = target.partition("#")
        target += ("&" if "?" in target else "?") + f"digest={blob.digest}"
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(blob.size),
        }
        ok = {200, 201, 204} | (set() if last else RETRY_STATUSES)
        response = self._client.request(
            "PUT", target, ok=ok, actions=_WRITE, headers=headers, body=body
        )
        claimed = response.header("Docker-Content-Digest") or ""
        response.discard()
        if is_digest(claimed) and claimed != blob.digest:
            raise DigestMismatch(f"upload to {self._name}", blob.digest, claimed)
        return response


def _origin(registry: str, plain_http: bool | None, ca_file: str | None) -> Origin:
    host, port = split_host("registry-1.docker.io" if registry == DOCKER_HUB else registry)
    if plain_http is None:
        plain_http = is_loopback(host) and ca_file is None
    scheme = "http" if plain_http else "https"
    return origin_of(f"{scheme}://{host}" + (f":{port}" if port is not None else ""))


def _check(reference: str) -> str:
    """Return `reference` if it is a tag or digest, so that it is safe as part of a URL."""
    if not is_digest(reference) and not is_tag(reference):
        raise InvalidReference(reference[:200], "neither a tag nor sha256:<64 hex digits>")
    return reference


def _bare_type(content_type: str | None) -> str:
    return (content_type or "").partition(";")[0].strip().lower()


def _media_type(response: Response, data: bytes, what: str) -> str:
    """Return the media type that header and body agree on (CVE-2021-41190: they must)."""
    value = load_json(data, what)
    inside = value.get("mediaType")
    if inside is not None and not isinstance(inside, str):
        raise FormatError(what, "mediaType is not a string")
    header = _bare_type(response.header("Content-Type"))
    if header in ("", "application/json", "application/octet-stream", "text/plain"):
        header = ""
    if inside and header and inside.lower() != header:
        raise FormatError(what, f"is {header!r} outside and {inside[:100]!r} inside")
    if "manifests" in value and "layers" in value:
        raise FormatError(what, "holds both layers and manifests")
    return inside or header or (INDEX_MANIFEST_TYPE if "manifests" in value else MANIFEST_TYPE)
