"""A repository in a registry as a store.

Source: OCI distribution-spec 1.1; where registries differ from it, the comment says which.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Collection, Iterator
from types import TracebackType
from typing import BinaryIO, cast

from packer.errors import (
    DigestMismatch,
    FormatError,
    InvalidParameter,
    InvalidReference,
    NotFound,
    RegistryError,
    SizeMismatch,
)
from packer.oci import (
    INDEX_MANIFEST_TYPE,
    MANIFEST_TYPE,
    MAX_MANIFEST_BYTES,
    Descriptor,
    digest_of,
    is_digest,
    load_json,
)
from packer.reference import DOCKER_HUB, Reference, is_loopback, is_tag, split_host
from packer.stores.protocols import Reader
from packer.stores.registry.auth import Authenticator
from packer.stores.registry.client import Client
from packer.stores.registry.credentials import Credentials, docker_credentials
from packer.stores.registry.download import BlobStream
from packer.stores.registry.habits import Habits
from packer.stores.registry.http import (
    Origin,
    Response,
    RetryPolicy,
    Transport,
    join_url,
    origin_of,
)
from packer.stores.registry.tls import Tls
from packer.stores.registry.upload import DIGEST_INVALID, WRITE, mount, upload
from packer.stores.verifying import VerifyingReader

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

CredentialsFinder = Callable[[str, str, threading.Event], "Credentials | None"]


class RegistryStore:
    """Blobs, manifests and tags of one repository.

    Args:
        reference: names registry and repository; its tag and digest are not used.
        plain_http: True for http, False for https; None means https except for ``localhost`` and
            loopback addresses, which get http unless anything below asks for TLS.
        username: with `password`, used instead of what `credentials` finds.
        password: never shown, and sent only as packer/stores/registry/auth.py says.
        token: a bearer token, or a function that returns a fresh one; sent to the registry as it
            is, in place of all other credentials.
        credentials: finds credentials for a registry (``host[:port]``) and a repository; called
            when the registry asks for any, with an event that is set when nobody waits any more. By
            default it looks into the docker configuration.
        ca_file: PEM file of certificate authorities to trust instead of the system's.
        cert_file: PEM file of a client certificate for this registry.
        key_file: of its key, if `cert_file` does not hold it.
        insecure_skip_tls_verify: accept any certificate of this registry's host.
        token_hosts: hosts other than the registry's that may be sent its credentials.
        timeout_seconds: silence allowed before an operation on a connection fails.
        max_connections: connections kept open; use about as many threads.
        retry: when and how often to try again.
        habits: shared by stores that are to learn from each other what their registries do.

    Thread safety: threads may share it.
    """

    def __init__(
        self,
        reference: Reference | str,
        *,
        plain_http: bool | None = None,
        username: str | None = None,
        password: str | None = None,
        token: str | Callable[[], str] | None = None,
        credentials: CredentialsFinder = docker_credentials,
        ca_file: str | None = None,
        cert_file: str | None = None,
        key_file: str | None = None,
        insecure_skip_tls_verify: bool = False,
        token_hosts: Collection[str] = (),
        timeout_seconds: float = 60.0,
        max_connections: int = 16,
        retry: RetryPolicy | None = None,
        habits: Habits | None = None,
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
        self._repository = reference.repository
        self._credentials = credentials
        host = split_host(reference.registry)[0].strip("[]").lower()
        tls = Tls(ca_file, cert_file, key_file, insecure_skip_tls_verify, host)
        transport = Transport(
            tls=tls,
            timeout_seconds=timeout_seconds,
            max_connections=max_connections,
            retry=self._retry,
        )
        origin = _origin(reference.registry, plain_http, tls)
        if origin.scheme == "http" and tls.is_set:
            raise InvalidParameter("plain http has no certificates: choose one or the other")
        auth = Authenticator(
            origin, reference.repository, self._find_credentials, transport, token_hosts, token
        )
        self._client = Client(origin, self._repository, auth, transport, habits or Habits())
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
        """Upload a blob without asking, as `Upload.upload`."""
        upload(self._client, blob, source, self._retry, self._name)

    @property
    def registry(self) -> str:
        """The registry's host, as references name it."""
        return self._registry

    @property
    def repository(self) -> str:
        """The repository's name in the registry."""
        return self._repository

    def neighbour(self, other: object) -> str | None:
        """Return the name of another store if it is another repository of the same registry."""
        if not isinstance(other, RegistryStore) or other._client.origin != self._client.origin:
            return None
        return other._repository if other._repository != self._repository else None

    def upload_or_mount(self, blob: Descriptor, source: BinaryIO, repository: str) -> bool:
        """Upload a blob unless the registry takes it from `repository`, as `Mounter`."""
        return upload(self._client, blob, source, self._retry, self._name, repository)

    def mount(self, blob: Descriptor, repository: str) -> bool:
        """Take a blob over from another repository, as `Mounter`."""
        return mount(self._client, blob, repository)

    @property
    def client(self) -> Client:
        """What makes the requests; for questions that a store does not answer."""
        return self._client

    def ping(self) -> None:
        """Ask for nothing but an answer, with credentials if the registry wants any.

        Raises:
            AuthError: the registry, or its token service, does not take the credentials.
            RegistryError, TransportError: there is no registry of the distribution-spec.
        """
        self._client.request("GET", self._client.root, ok=(200,), actions="").discard()

    def expect_writes(self) -> None:
        """Ask for the right to push from the first token on: saves a token per copy."""
        self._read = WRITE

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
        for attempt in range(self._retry.attempts):
            last = attempt == self._retry.attempts - 1
            try:
                response = self._send_manifest(reference, data, media_type)
            except RegistryError as error:
                # Our digests are right. docker-registry says so of what it is just writing: two
                # clients that push the same blobs at once meet it.
                if last or (error.status, error.code) != (400, DIGEST_INVALID):
                    missing = self._missing_blob(error, manifest)
                    if missing is None:
                        raise
                    raise missing from error
            else:
                claimed = response.header("Docker-Content-Digest") or ""
                response.discard()
                if not is_digest(claimed) or claimed == manifest.digest:
                    break
                # Under a tag the registry takes whatever arrives: bytes that changed on their way
                # must not stay there.
                if last:
                    raise DigestMismatch(f"manifest in {self._name}", manifest.digest, claimed)
            self._client.transport.sleep(attempt)
        return manifest

    def _send_manifest(self, reference: str, data: bytes, media_type: str) -> Response:
        return self._client.request(
            "PUT",
            self._client.url(f"manifests/{reference}"),
            ok=(200, 201, 202, 204),
            actions=WRITE,
            headers={"Content-Type": media_type},
            body=data,
        )

    def _missing_blob(self, error: RegistryError, manifest: Descriptor) -> NotFound | None:
        """Return what the refusal of a manifest means if it means that a blob is missing."""
        if error.code not in _UNKNOWN_BLOB_CODES and (error.status != 404 or error.code):
            return None
        unnamed = f"one that manifest {manifest.digest} names"
        name = next((item for item in error.detail if item != manifest.digest), unnamed)
        return NotFound("blob", name, self._name)

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

    @property
    def ignores_ranges(self) -> bool:
        """Whether the registry is known to send a whole blob when it is asked for a part."""
        return self._client.ignores_ranges

    def interrupt(self) -> None:
        """Make requests end at once, also those of other threads, as `Interruptible`."""
        self._client.transport.interrupt()

    def resume(self) -> None:
        """Allow requests again."""
        self._client.transport.resume()

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
        if self._given is not None:
            return self._given
        return self._credentials(self._registry, self._repository, self._client.transport.halted)

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


def _origin(registry: str, plain_http: bool | None, tls: Tls) -> Origin:
    host, port = split_host("registry-1.docker.io" if registry == DOCKER_HUB else registry)
    if plain_http is None:
        plain_http = is_loopback(host) and not tls.is_set
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
