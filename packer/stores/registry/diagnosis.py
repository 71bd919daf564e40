"""Probes of a registry: which features of the distribution-spec it has.

Every probe is harmless: opened uploads are cancelled, deletions name digests of nothing. Only with
`write` is anything stored: a blob of two bytes, which stays until the registry's next collection,
and manifests of it without a tag, which are deleted again.
"""

from __future__ import annotations

import io
import json
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from packer.errors import (
    AuthError,
    FormatError,
    InvalidReference,
    NotFound,
    PackerError,
    RegistryError,
    StoreError,
)
from packer.oci import CONFIG_TYPE, DATA_TYPE, MANIFEST_TYPE, Descriptor, digest_of
from packer.reference import Reference, parse_location
from packer.stores.manifests import read_graph
from packer.stores.registry.access import Access, RegistryLike
from packer.stores.registry.features import BrokenFeatures

if TYPE_CHECKING:
    from packer.stores.registry.client import Client
    from packer.stores.registry.store import RegistryStore
    from packer.stores.registry.transport.http import Response

YES, NO, UNKNOWN = "yes", "no", "unknown"
LAYER_COUNTS = (128, 500, 1000)
"""Numbers of layers that are tried: our own bound, ECR's, and one above both."""
MANIFEST_BYTES = (1 << 20, 4 << 20)
"""Sizes of manifests that are tried."""
MAX_REFERRERS_BYTES = 4 << 20
"""Bound on a list of referrers."""
SKEW_SECONDS = 60
"""Difference of clocks that is told: tokens live a few minutes."""

_ANY_STATUS = (*range(200, 300), *range(400, 401), *range(404, 600))


@dataclass(frozen=True, slots=True)
class Probe:
    """The result of one probe.

    Args:
        name: of the feature: "reach", "auth", "pull", "push", "ranges", ...
        works: "yes", "no" or "unknown".
        detail: the observation, one line.
    """

    name: str
    works: str
    detail: str


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The results of all probes of a registry.

    Args:
        reference: the caller's.
        registry: its host.
        probes: in the order they were made.
    """

    reference: str
    registry: str
    probes: tuple[Probe, ...]

    def works(self, name: str) -> str:
        """Return the result of the probe `name`, "unknown" if it was not made."""
        return next((probe.works for probe in self.probes if probe.name == name), UNKNOWN)


def doctor(reference: str, *, registry: RegistryLike = None, write: bool = False) -> Diagnosis:
    """Probe which features a registry has for a repository.

    Args:
        reference: a repository; with a tag or digest of a version, its blobs serve to try ranges
            and mounts.
        registry: how to reach it.
        write: also upload a blob of two bytes, and manifests that name it up to a thousand times.

    Returns:
        The probes' results; a failed probe is a result as well.

    Raises:
        InvalidReference: `reference` names no registry.
    """
    from packer.stores.registry.transport.retries import RetryPolicy

    location = parse_location(reference)
    if not isinstance(location, Reference):
        raise InvalidReference(reference, "the doctor looks at registries")
    with Access(registry, BrokenFeatures()).open(location) as store:  # nothing is remembered
        store.client.transport.retry = RetryPolicy(attempts=2)  # failures are results here
        probes = tuple(_Prober(store, location, write).probes())
    return Diagnosis(reference, location.registry, probes)


class _Prober:
    """Makes the probes of one repository."""

    def __init__(self, store: RegistryStore, reference: Reference, write: bool) -> None:
        self._store = store
        self._client: Client = store.client
        self._reference = reference
        self._write = write
        self._blob: Descriptor | None = None
        self._manifest: Descriptor | None = None

    def probes(self) -> Iterator[Probe]:
        """Make the probes one after another; each may need the results of earlier ones."""
        reach = self._reach()
        yield reach
        if reach.works != YES:
            return
        yield from (self._try(name, probe) for name, probe in self._reading())
        push = self._try("push", self._push)
        yield push
        if push.works != YES:
            return
        yield self._try("delete", self._delete)
        if self._write:
            yield self._try("upload", self._upload)
        if self._blob is not None:
            yield self._try("ranges", self._ranges)
            yield self._try("mount", self._mount)
        if self._write and self._blob is not None:
            yield self._try("layers", self._layers)
            yield self._try("manifest", self._manifest_size)

    def _reading(self) -> Iterator[tuple[str, Callable[[], tuple[str, str]]]]:
        yield "pull", self._pull
        yield "tags", self._tags
        yield "referrers", self._referrers
        if self._blob is not None and not self._write:
            yield "ranges", self._ranges

    def _try(self, name: str, probe: Callable[[], tuple[str, str]]) -> Probe:
        try:
            works, detail = probe()
        except RegistryError as error:
            works, detail = NO, str(error)
        except PackerError as error:
            works, detail = UNKNOWN, str(error)
        return _probe(name, works, detail)

    def _reach(self) -> Probe:
        """Ask ``/v2/`` without credentials: which server answers, and which login it asks for."""
        origin = self._client.origin
        begin = time.monotonic()
        try:
            response = self._client.transport.send("GET", self._client.root, {})
        except StoreError as error:
            return _probe("reach", NO, str(error))
        took = time.monotonic() - begin
        response.discard()
        said = [f"{origin.scheme}, {1000 * took:.0f} ms", _auth_kind(response)]
        if server := response.header("Server"):
            said.append(server)
        if skew := _skew(response):
            said.append(f"its clock differs by {skew} s: tokens may end early")
        if response.status not in (200, 401):
            said.append(f"status {response.status} for /v2/")
        works = YES if response.status in (200, 401) else NO
        return _probe("reach", works, "; ".join(said))

    def _pull(self) -> tuple[str, str]:
        """Read the manifest that the reference names, and choose a blob of it for other probes."""
        try:
            found, data = self._store.get_manifest(self._reference.selector)
        except NotFound:
            return YES, f"allowed; there is no {self._reference.selector}"
        self._manifest = found
        try:
            blobs = read_graph(data, "manifest").blobs
            self._blob = min((b for b in blobs if b.size > 1), key=lambda b: b.size, default=None)
        except PackerError:
            pass  # an image index, say: it has no blobs to probe
        return YES, f"{self._reference.selector} is {found.digest}, {found.size} bytes"

    def _tags(self) -> tuple[str, str]:
        count = sum(1 for _ in self._store.tag_names())
        return YES, f"{count} listed"

    def _referrers(self) -> tuple[str, str]:
        digest = self._manifest.digest if self._manifest else digest_of(b"")
        response = self._client.request(
            "GET", self._client.url(f"referrers/{digest}"), ok=_ANY_STATUS
        )
        with response:
            if response.status == 404:
                return NO, "no referrers API; signatures are found by their tag sha256-..."
            if response.status != 200:
                return NO, f"status {response.status}"
            data = response.read_bounded(MAX_REFERRERS_BYTES, "referrers")
        try:
            # Registries in Go may write an empty list as null.
            listed = json.loads(data)["manifests"] or []
        except (ValueError, KeyError, TypeError, RecursionError):
            listed = None
        if not isinstance(listed, list):
            return NO, "answers, but not with an image index"
        return YES, f"{len(listed)} of the manifest"

    def _push(self) -> tuple[str, str]:
        """Open an upload and cancel it."""
        try:
            response = self._open_upload("")
        except AuthError as error:
            return NO, str(error)
        return YES, "uploads can be opened" + self._give_up(response)

    def _open_upload(self, query: str) -> Response:
        url = self._client.url("blobs/uploads/") + query
        headers = {"Content-Length": "0"}
        response = self._client.request(
            "POST", url, ok=(201, 202), actions="pull,push", headers=headers
        )
        response.discard()
        return response

    def _give_up(self, response: Response) -> str:
        """Cancel an upload; registries should allow it, and many do not."""
        from packer.stores.registry.transport.urls import join_url

        location = response.header("Location")
        if response.status != 202 or not location:
            return ""
        try:
            target = join_url(response.url, location)
            self._client.request(
                "DELETE", target, ok=(200, 202, 204), actions="pull,push"
            ).discard()
        except (StoreError, FormatError):
            return ", but not cancelled"
        return " and cancelled"

    def _delete(self) -> tuple[str, str]:
        """Ask to delete a manifest that does not exist."""
        digest = digest_of(secrets.token_bytes(32))
        response = self._client.request(
            "DELETE",
            self._client.url(f"manifests/{digest}"),
            ok=(200, 202, 204, 400, 404, 405, 501),
            actions="pull,push,delete",
        )
        response.discard()
        if response.status in (404, 200, 202, 204):
            return YES, "manifests can be deleted by digest"
        return NO, f"status {response.status}: the registry does not delete"

    def _upload(self) -> tuple[str, str]:
        data = secrets.token_bytes(2)
        blob = Descriptor(DATA_TYPE, digest_of(data), len(data))
        self._store.upload(blob, io.BytesIO(data))
        self._blob = blob
        return YES, f"2 bytes as {blob.digest}"

    def _ranges(self) -> tuple[str, str]:
        assert self._blob is not None
        with self._store.fetch(self._blob, 1, 1) as reader:
            if len(reader.read(1)) != 1:
                return NO, "a range came without bytes"
        if self._store.ignores_ranges:
            return NO, "a range brings the whole blob: cat, diff and unpack fetch whole layers"
        return YES, "parts of blobs can be read"

    def _mount(self) -> tuple[str, str]:
        assert self._blob is not None
        repository = self._reference.repository
        response = self._open_upload(f"?mount={self._blob.digest}&from={repository}")
        if response.status == 201:
            return YES, "blobs of another repository can be mounted"
        return NO, "a mount opened an upload instead" + self._give_up(response)

    def _layers(self) -> tuple[str, str]:
        assert self._blob is not None
        accepted = 0
        for count in LAYER_COUNTS:
            error = self._put(count, 0)
            if error is not None:
                works = YES if accepted >= LAYER_COUNTS[0] else NO
                return works, f"{accepted} accepted, {count} not: {error}"
            accepted = count
        return YES, f"{accepted} layers accepted"

    def _manifest_size(self) -> tuple[str, str]:
        accepted = 0
        for size in MANIFEST_BYTES:
            error = self._put(1, size)
            if error is not None:
                return (YES if accepted else NO), f"{accepted} bytes accepted, {size} not: {error}"
            accepted = size
        return YES, f"{accepted} bytes accepted"

    def _put(self, layers: int, size: int) -> str | None:
        """Put a manifest of `layers` layers and `size` bytes, and delete it; return the refusal."""
        # Registries may count layers or digests: one blob stands for all layers.
        assert self._blob is not None
        config = Descriptor(CONFIG_TYPE, self._blob.digest, self._blob.size)
        value = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": config.to_json(),
            "layers": [self._blob.to_json()] * layers,
            "annotations": {"layer-packer.doctor": ""},
        }
        padding = size - len(json.dumps(value).encode())
        value["annotations"] = {"layer-packer.doctor": "x" * max(0, padding)}
        data = json.dumps(value).encode()
        try:
            made = self._store.put_manifest(data, MANIFEST_TYPE)
        except (RegistryError, NotFound) as error:
            return str(error)
        try:
            self._client.request(
                "DELETE",
                self._client.url(f"manifests/{made.digest}"),
                ok=(200, 202, 204),
                actions="pull,push,delete",
            ).discard()
        except StoreError:
            return None  # it stays, without a tag
        return None


def _probe(name: str, works: str, detail: str) -> Probe:
    from packer.stores.registry.transport.urls import safe_text

    return Probe(name, works, safe_text(detail))


def _auth_kind(response: Response) -> str:
    if response.status != 401:
        return "open to everybody"
    challenge = " ".join(response.headers("WWW-Authenticate")).lower()
    if "bearer" in challenge:
        return "asks for tokens"
    return "asks for user name and password" if "basic" in challenge else "asks for a login"


def _skew(response: Response) -> int:
    """Return by how many seconds the registry's clock differs from ours, 0 if by little."""
    try:
        seconds = parsedate_to_datetime(response.header("Date") or "").timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return 0
    return round(seconds) if abs(seconds) > SKEW_SECONDS else 0
