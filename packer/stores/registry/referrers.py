"""What refers to a manifest of a repository: the referrers API, or the tag in its place.

Source: distribution-spec 1.1, "Listing Referrers", "Pushing Manifests with Subject" and "Referrers
Tag Schema".
"""

from __future__ import annotations

import random
import time

from packer.errors import FormatError, NotFound, RegistryError, StoreError
from packer.oci import INDEX_MANIFEST_TYPE, MAX_MANIFEST_BYTES, Descriptor, load_json
from packer.stores.registry.manifests import RegistryManifests, following_page
from packer.stores.registry.transport.http import malformed
from packer.stores.registry.transport.urls import shown_url
from packer.stores.subjects import (
    as_referrer,
    check_count,
    decode_referrers,
    encode_referrers,
    fallback_tag,
    subject_of,
)

NO_API_STATUSES = (400, 404, 405, 406, 501)
"""Answers of registries without the API. 404 is the one of the spec; the others were met by
go-containerregistry and by users of Amazon ECR."""
NO_REPOSITORY_CODES = ("NAME_UNKNOWN", "MANIFEST_UNKNOWN")
"""Codes of a 404 that tell of the repository, and nothing of the API."""
MAX_LIST_BYTES = 4 * MAX_MANIFEST_BYTES
"""Bound on all pages of one list together."""
MAX_PAGES = 100
LIST_ATTEMPTS = 8
"""Times that a list under a tag is written if other writers keep replacing it."""
PAUSE_SECONDS = 0.1
"""Longest pause before the second time; it doubles with each."""


class RegistryReferrers(RegistryManifests):
    """Manifests, and what refers to them.

    Args:
        client: of the repository.
    """

    def referrers(self, digest: str) -> tuple[Descriptor, ...]:
        """Return what refers to a manifest, as `Store.referrers`.

        Without the API this takes one request where nothing refers to the manifest, else two; the
        registry is asked for the API once in a while only.

        Args:
            digest: of the manifest.

        Returns:
            The descriptors that the registry lists.

        Raises:
            FormatError: the list under the tag is malformed, or longer than MAX_REFERRERS.
            RegistryError: any refusal but that there is no API; or the API's list has no end, is
                malformed or longer than MAX_REFERRERS.
        """
        found = self._ask_api(digest)
        if found is None:
            found = self._listed(digest)
        return tuple({one.digest: one for one in found}.values())

    def _ask_api(self, digest: str) -> list[Descriptor] | None:
        """Return the API's answer, None if there is no API."""
        if self._client.lacks_referrers:
            return None
        what = f"referrers of {digest} in {self._client.name}"
        url = first = self._client.url(f"referrers/{digest}")
        seen = {url}
        found: list[Descriptor] = []
        read = 0
        while True:
            try:
                response, data = self._client.read(
                    url, MAX_MANIFEST_BYTES, what, {"Accept": INDEX_MANIFEST_TYPE}
                )
            except RegistryError as error:
                if url != first or error.status not in NO_API_STATUSES:
                    raise
                if error.code not in NO_REPOSITORY_CODES:
                    self._client.record_no_referrers()
                return None
            except FormatError as error:  # above the limit
                shown = shown_url(url)
                raise RegistryError(
                    f"GET {shown}: {error}", status=200, method="GET", url=shown
                ) from error
            if url == first and not _is_index(response.header("Content-Type")):
                return None  # a page of a proxy, say; the list has this type by the spec
            read += len(data)
            with malformed(response):
                entries = decode_referrers(data, what)
                if read > MAX_LIST_BYTES:
                    raise FormatError(what, f"more than {MAX_LIST_BYTES} bytes")
                found += entries
                check_count(len(found), what)
            following = following_page(
                self._client, response, url, seen, what, MAX_PAGES, is_empty=not entries
            )
            if following is None:
                return found
            url = following

    def _listed(self, digest: str) -> list[Descriptor]:
        """Return the list under the referrers tag; empty if there is none."""
        tag = fallback_tag(digest)
        try:
            # HEAD first: mostly there is no list, and some registries count GETs as pulls.
            self.resolve(tag)
            _, data = self.get_manifest(tag)
        except NotFound:
            return []
        return decode_referrers(data, f"manifest {tag} in {self._client.name}")

    def put_manifest(self, data: bytes, media_type: str, tag: str | None = None) -> Descriptor:
        """Upload a manifest, as `Store.put_manifest`; one with a subject becomes a referrer of it.

        Where the registry does not say that it took note of the subject, and has no API, the list
        under the referrers tag is changed.

        Args:
            data: the exact bytes.
            media_type: its media type.
            tag: moved to this manifest if given.

        Returns:
            The manifest's descriptor.

        Raises:
            FormatError: more than MAX_MANIFEST_BYTES, no manifest, or the list is full.
            StoreError: a refusal; or other writers replaced the list again and again.
        """
        manifest, noted = self._upload_manifest(data, media_type, tag)
        subject = None if noted else subject_of(load_json(data, "manifest"), "manifest")
        if subject is not None and self._ask_api(subject.digest) is None:
            self._enlist(subject.digest, as_referrer(data, media_type, "manifest"))
        return manifest

    def _enlist(self, digest: str, referrer: Descriptor) -> None:
        """Add a referrer to the list under the referrers tag.

        Registries have no conditional writes, so another writer may replace the list between our
        reading and writing it. The list is read again after it was written, and written again if
        the referrer is not in it. Two writers at once thus end with both in the list, unless one
        reads before and writes after the other's last look; copying again mends that.

        Raises:
            StoreError: other writers replaced the list again and again.
        """
        tag = fallback_tag(digest)
        what = f"list of referrers {tag} in {self._client.name}"
        with self._client.listing:  # threads of this process do not even race
            for attempt in range(LIST_ATTEMPTS + 1):
                listed = self._listed(digest)
                if any(one.digest == referrer.digest for one in listed):
                    return
                if attempt == LIST_ATTEMPTS:
                    break
                if attempt:
                    longest = PAUSE_SECONDS * 2 ** (attempt - 1)
                    time.sleep(random.uniform(0, longest))  # noqa: S311 - no secret
                check_count(len(listed) + 1, what)
                wanted = encode_referrers([*listed, referrer], what)
                self._upload_manifest(wanted, INDEX_MANIFEST_TYPE, tag)
        raise StoreError(f"{what}: other writers replaced it {LIST_ATTEMPTS} times")


def _is_index(content_type: str | None) -> bool:
    return (content_type or "").partition(";")[0].strip().lower() == INDEX_MANIFEST_TYPE
