"""Manifests and tags of one repository in a registry."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from packer.errors import (
    DigestMismatch,
    FormatError,
    IntegrityError,
    InvalidReference,
    NotFound,
    RegistryError,
    StoreError,
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
from packer.reference import is_tag
from packer.stores.manifests import DOCKER_LIST_TYPE, DOCKER_MANIFEST_TYPE
from packer.stores.registry.client import HEAD_REFUSALS, Client
from packer.stores.registry.transport.http import Response, malformed
from packer.stores.registry.transport.retries import Attempts
from packer.stores.registry.transport.urls import join_url, origin_of, shown_url
from packer.stores.registry.upload import DIGEST_INVALID, WRITE

ACCEPT_MANIFESTS = ", ".join(
    [MANIFEST_TYPE, INDEX_MANIFEST_TYPE, DOCKER_MANIFEST_TYPE, DOCKER_LIST_TYPE]
)
MAX_TAGS = 100_000
"""Bound on the tags of a repository that are listed."""
MAX_TAG_PAGES = 1000
TAG_PAGE_SIZES = (1000, 100, 0)
"""Tags asked for at a time; the next one where a registry refuses (0: as many as it likes)."""
MAX_TAG_PAGE_BYTES = 4 << 20
"""Bound on one answer of tags: 1000 tags have at most 128 KB."""

MAX_LINK_CHARS = 16 << 10
"""Characters of a Link header that are read."""

_LINK = re.compile(
    r"<\s*([^<>]{1,4096}?)\s*>((?:\s*;\s*[^\s\"=;,<>]+(?:\s*=\s*(?:\"[^\"]*\"|[^\s\";,<>]*))?)*)"
)
_RELATION = re.compile(r";\s*rel\s*=\s*(?:\"([^\"]*)\"|([^\s\";,]+))", re.I)
_UNKNOWN_BLOB_CODES = ("MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN")


class RegistryManifests:
    """The manifests and tags of a repository; implements Tags, TagNames and ManifestDeleter.

    Args:
        client: of the repository.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    def get_manifest(self, reference: str) -> tuple[Descriptor, bytes]:
        """Return a manifest's descriptor and exact bytes, as `Store.get_manifest`.

        The digest is computed from the bytes. The header's digest is only compared with it: a
        difference means that the bytes were damaged, in the registry or on the way.

        Args:
            reference: a tag or a digest.

        Returns:
            The descriptor and the bytes. More than MAX_MANIFEST_BYTES, no JSON, and two media types
            at once raise FormatError.

        Raises:
            NotFound: there is no such tag or manifest.
            DigestMismatch: the bytes have another digest than the reference, or the header.
            RegistryError: any other refusal.
        """
        what = f"manifest {_check(reference)} in {self._client.name}"
        url = self._client.url(f"manifests/{reference}")
        try:
            response, data = self._client.read(
                url, MAX_MANIFEST_BYTES, what, {"Accept": ACCEPT_MANIFESTS}
            )
        except RegistryError as error:
            if error.status != 404:
                raise
            raise NotFound(_kind(reference), reference, self._client.name) from error
        actual = digest_of(data)
        claimed = response.header("Docker-Content-Digest") or ""
        for expected in (reference, claimed):
            if is_digest(expected) and actual != expected:
                raise DigestMismatch(what, expected, actual)
        return Descriptor(_media_type(response, data, what), actual, len(data)), data

    def resolve(self, reference: str) -> Descriptor:
        """Return the descriptor that a tag or digest names, by HEAD where its answer is complete.

        Args:
            reference: a tag or a digest.

        Returns:
            The registry's claim; `get_manifest` of its digest proves the bytes.

        Raises:
            NotFound: there is no such tag or manifest.
            DigestMismatch: the registry answers with another digest than it was asked for.
            RegistryError: any other refusal.
        """
        try:
            response = self._client.head(f"manifests/{_check(reference)}", ACCEPT_MANIFESTS)
        except RegistryError as error:
            if error.status in HEAD_REFUSALS:
                return self.get_manifest(reference)[0]
            if error.status != 404:
                raise
            raise NotFound(_kind(reference), reference, self._client.name) from error
        claimed = response.header("Docker-Content-Digest") or ""
        media_type = _bare_type(response.header("Content-Type"))
        size = response.content_length
        if is_digest(reference):
            if is_digest(claimed) and claimed != reference:
                raise DigestMismatch(f"manifest in {self._client.name}", reference, claimed)
            claimed = reference
        if not is_digest(claimed) or not media_type or not size:
            return self.get_manifest(reference)[0]
        return Descriptor(media_type, claimed, size)

    def put_manifest(self, data: bytes, media_type: str, tag: str | None = None) -> Descriptor:
        """Upload a manifest under its tag, or its digest without one, as `Store.put_manifest`.

        Args:
            data: the exact bytes.
            media_type: its media type.
            tag: moved to this manifest if given.

        Returns:
            The manifest's descriptor. A missing blob raises NotFound (kind "blob"), with its digest
            if the registry names it.

        Raises:
            FormatError: more than MAX_MANIFEST_BYTES.
            DigestMismatch: the registry received other bytes, or keeps other bytes.
            RegistryError: any other refusal.
        """
        return self._upload_manifest(data, media_type, tag)[0]

    def _upload_manifest(
        self, data: bytes, media_type: str, tag: str | None
    ) -> tuple[Descriptor, bool]:
        """Upload a manifest; also return whether the registry says that it noted its subject."""
        manifest = Descriptor(media_type, digest_of(data), len(data))
        if len(data) > MAX_MANIFEST_BYTES:
            raise FormatError("manifest", f"{len(data)} bytes, limit {MAX_MANIFEST_BYTES}")
        reference = manifest.digest if tag is None else _check(tag)
        attempts = self._client.attempts()
        while True:
            try:
                response = self._send_manifest(reference, data, media_type, attempts)
            except RegistryError as error:
                if attempts.has_failed and tag is not None and self._names(tag, manifest):
                    # Written by an attempt whose answer was lost; tags may not move.
                    return manifest, False
                # Our digests are right. docker-registry calls one invalid while it is writing the
                # same content for another client.
                beside = (error.status, error.code) == (400, DIGEST_INVALID)
                if not beside or not attempts.again(error, counted=True):
                    missing = self._missing_blob(error, manifest)
                    if missing is None:
                        raise
                    raise missing from error
                continue
            claimed = response.header("Docker-Content-Digest") or ""
            status = response.status
            noted = bool(response.header("OCI-Subject"))
            response.discard()
            if not is_digest(claimed) or claimed == manifest.digest:
                if attempts.has_failed:
                    # A PUT that failed for want of space may have left an empty file, which
                    # distribution takes for the manifest when the PUT is repeated.
                    self.get_manifest(manifest.digest)
                return manifest, noted
            # Under a tag the registry accepts any bytes: damaged ones must not stay there.
            if not attempts.again(status, counted=True):
                raise DigestMismatch(f"manifest in {self._client.name}", manifest.digest, claimed)

    def _names(self, tag: str, manifest: Descriptor) -> bool:
        """Return whether a tag names a manifest, as far as the registry tells."""
        try:
            return self.resolve(tag).digest == manifest.digest
        except (StoreError, NotFound, IntegrityError):
            return False

    def _send_manifest(
        self, reference: str, data: bytes, media_type: str, attempts: Attempts
    ) -> Response:
        """PUT a manifest."""
        return self._client.request(
            "PUT",
            self._client.url(f"manifests/{reference}"),
            ok=(200, 201, 202, 204),
            actions=WRITE,
            headers={"Content-Type": media_type},
            body=data,
            attempts=attempts,
        )

    def _missing_blob(self, error: RegistryError, manifest: Descriptor) -> NotFound | None:
        """Return the error about a missing blob if that is why a manifest was refused."""
        if error.code not in _UNKNOWN_BLOB_CODES and (error.status != 404 or error.code):
            return None
        unnamed = f"one that manifest {manifest.digest} names"
        name = next((item for item in error.detail if item != manifest.digest), unnamed)
        return NotFound("blob", name, self._client.name)

    def tags(self) -> Iterator[tuple[str, Descriptor]]:
        """Yield each tag, in the registry's order, with its descriptor; one request each."""
        for tag in self.tag_names():
            yield tag, self.resolve(tag)

    def tag_names(self) -> Iterator[str]:
        """Yield the names of all tags, one request per page of up to 1000.

        Yields:
            Names in the registry's order; none if there is no repository yet.

        Raises:
            RegistryError: the registry refuses to list, or its list makes no sense: a tag outside
                the grammar, a list without end.
        """
        sizes = list(TAG_PAGE_SIZES)
        url = first = self._client.url(f"tags/list?n={sizes.pop(0)}")
        seen = {url}
        what = f"tag list of {self._client.name}"
        count = 0
        while True:
            try:
                response, data = self._client.read(url, MAX_TAG_PAGE_BYTES, what)
            except FormatError as error:  # above the limit
                raise RegistryError(
                    f"GET {shown_url(url)}: {error}", status=200, method="GET", url=shown_url(url)
                ) from error
            except RegistryError as error:
                if url == first and error.status in (400, 422) and sizes:
                    size = sizes.pop(0)  # the registry has a lower bound
                    url = first = self._client.url("tags/list" + (f"?n={size}" if size else ""))
                    seen = {url}
                    continue
                if error.status != 404 or url != first:
                    raise
                return  # no repository yet, or one without tags
            names = self._names_in(response, data, count)
            count += len(names)
            yield from names
            following = following_page(
                self._client, response, url, seen, what, MAX_TAG_PAGES, is_empty=not names
            )
            if following is None:
                return
            url = following

    def _names_in(self, response: Response, data: bytes, before: int) -> list[str]:
        """Return the tags in a page, of which `before` were listed already."""
        what = f"tag list of {self._client.name}"
        with malformed(response):
            value = load_json(data, what)
            names = value.get("tags") or []
            if not isinstance(names, list):
                raise FormatError(what, "tags is not a list")
            for name in names:
                if not isinstance(name, str) or not is_tag(name):
                    raise FormatError(what, f"{str(name)[:80]!r} is not a tag")
            if before + len(names) > MAX_TAGS:
                raise FormatError(what, f"more than {MAX_TAGS} tags")
            return names
        raise AssertionError  # for type checkers: `malformed` swallows nothing

    def untag(self, tag: str) -> None:
        """Remove a tag; not every registry can.

        Args:
            tag: the tag.

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
                    f"{self._client.name} does not support removing tags (status {error.status})",
                    status=error.status,
                    code=error.code,
                    method=error.method,
                    url=error.url,
                ) from error
            if error.status != 404:
                raise
            raise NotFound(_kind(tag), tag, self._client.name) from error

    def delete_manifest(self, digest: str) -> None:
        """Remove a manifest and the tags that name it, as `ManifestDeleter`.

        Args:
            digest: of the manifest.

        Raises:
            NotFound: there is no such manifest.
            RegistryError: the registry does not delete, or forbids it.
        """
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
            raise NotFound(_kind(digest), digest, self._client.name) from error


def following_page(
    client: Client,
    response: Response,
    url: str,
    seen: set[str],
    what: str,
    most: int,
    *,
    is_empty: bool,
) -> str | None:
    """Return the URL of the page of a list after the one at `url`.

    Args:
        client: of the repository.
        response: the answer, for its headers.
        url: of the page.
        seen: URLs of the pages so far; the next one is added.
        what: the list's name in errors.
        most: greatest number of pages.
        is_empty: the page holds nothing.

    Returns:
        The URL; None after the last page. Pages that make no sense raise RegistryError.

    Raises:
        FormatError: as what the answer is, within the RegistryError.
    """
    link = next_link(response.headers("Link"))
    if link is None:
        return None
    following = ""
    with malformed(response):
        following = join_url(url, link)
        if following in seen:
            raise FormatError(what, "its pages go round in a circle")
        seen.add(following)
        if len(seen) > most:
            raise FormatError(what, f"more than {most} pages")
        if origin_of(following) != client.origin:
            raise FormatError(what, "goes on at another host")
        if is_empty:
            raise FormatError(what, "an empty page is not the last")
    return following


def next_link(headers: Collection[str]) -> str | None:
    """Return the target of the link to the next page.

    Source: RFC 8288, section 3: several links in one header, any order of parameters, several
    relations in one.

    Args:
        headers: values of the Link headers.

    Returns:
        The URL, which may be relative; None if there is no such link.
    """
    for header in headers:
        for target, parameters in _LINK.findall(header[:MAX_LINK_CHARS]):
            relation = _RELATION.search(parameters)
            if relation and "next" in (relation[1] or relation[2] or "").lower().split():
                return str(target)
    return None


def _kind(reference: str) -> str:
    """Return the kind of thing that a reference names, for NotFound."""
    return "manifest" if is_digest(reference) else "tag"


def _check(reference: str) -> str:
    """Return `reference` if it is a tag or a digest: then it is safe in a URL."""
    if not is_digest(reference) and not is_tag(reference):
        raise InvalidReference(reference[:200], "neither a tag nor sha256:<64 hex digits>")
    return reference


def _bare_type(content_type: str | None) -> str:
    """Return the media type of a Content-Type header, without parameters."""
    return (content_type or "").partition(";")[0].strip().lower()


def _media_type(response: Response, data: bytes, what: str) -> str:
    """Return a manifest's media type: header and body must agree (CVE-2021-41190)."""
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
