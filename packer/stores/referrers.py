"""Finds what refers to a manifest in any store.

`direct_referrers` finds what refers to one manifest, `all_referrers` at any depth: a signature of
an SBOM of a version. Both find what has a subject, and what cosign attaches by a tag.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from packer.errors import FormatError, IntegrityError, NotFound, PackerError
from packer.oci import Descriptor, digest_of, load_json
from packer.stores.manifests import MANIFEST_TYPES, named_blobs
from packer.stores.protocols import LocalBlobs, Store
from packer.stores.subjects import (
    MAX_REFERRERS,
    as_referrer,
    attached_tags,
    subject_of,
)

MAX_REFERRERS_BYTES = 1 << 30
"""Bound on the bytes of all that refers to one manifest, at any depth, blobs included."""
_MAX_CHILDREN = 1000
"""Bound on the manifests within a referrer that is an image index."""


@dataclass(frozen=True, slots=True)
class Referrer:
    """A manifest that refers to another one.

    Args:
        descriptor: of the manifest, with its artifact type and annotations, read from its bytes.
        data: its bytes, verified.
        subject: digest of the manifest that it refers to.
        tag: the tag that attaches it, ``sha256-<hex>.sig`` for example; None if its subject does.
        blobs: what it needs, manifests within it left out.
        children: descriptors and bytes of the manifests within it, innermost first.
    """

    descriptor: Descriptor
    data: bytes
    subject: str
    tag: str | None
    blobs: tuple[Descriptor, ...]
    children: tuple[tuple[Descriptor, bytes], ...] = ()

    @property
    def size(self) -> int:
        """Bytes of the manifest, its blobs, and the manifests within it."""
        within = sum(child.size for child, _ in self.children)
        return self.descriptor.size + within + sum(blob.size for blob in self.blobs)


def direct_referrers(
    store: Store, digest: str, on_broken: Callable[[PackerError], None] | None = None
) -> Iterator[Referrer]:
    """Yield what refers to one manifest: by its subject, then by cosign's tags.

    Args:
        store: the store to look in.
        digest: of the manifest, which need not be there.
        on_broken: called with the error of a referrer that is malformed, damaged or incomplete,
            which is left out; None raises it.

    Yields:
        Each referrer, its manifest read and verified. What a list names and the store has no more
        is left out.

    Raises:
        FormatError: a list is malformed or too long, a listed manifest does not refer to `digest`,
            or it is no manifest.
        IntegrityError: bytes differ from their digest.
        NotFound: a manifest within a referrer is not there.
        StoreError: the store failed.
    """
    listing, tagged = _ask(store, digest)
    named: list[tuple[Descriptor, str | None]] = [(one, None) for one in listing]
    named += [(one, tag) for tag, one in tagged]
    for one, tag in named:
        try:
            read = _read(store, one.digest, digest, tag)
        except (IntegrityError, NotFound) as error:
            if on_broken is None:
                raise
            on_broken(error)
        else:
            if read is not None:
                yield read


def _read(store: Store, found: str, digest: str, tag: str | None) -> Referrer | None:
    """Return a referrer of `digest`; None if it was deleted: lists under a tag keep its name."""
    try:
        descriptor, data = store.get_manifest(found)
    except NotFound:
        return None
    what = f"manifest {found} in {store.name}"
    if tag is None:
        subject = subject_of(load_json(data, what), what)
        if subject is None or subject.digest != digest:
            raise FormatError(what, f"is listed as a referrer of {digest}, and is none")
    return _referrer(store, descriptor.media_type, data, digest, tag)


def _ask(store: Store, digest: str) -> tuple[tuple[Descriptor, ...], list[tuple[str, Descriptor]]]:
    """Return the list of what refers to a manifest, and cosign's tags that are there."""

    def find(tag: str) -> Descriptor | None:
        try:
            return store.resolve(tag)
        except NotFound:
            return None

    tags = attached_tags(digest)
    if isinstance(store, LocalBlobs):
        listing, found = store.referrers(digest), list(map(find, tags))
    else:  # requests: side by side they take the time of one
        with ThreadPoolExecutor(1 + len(tags), "packer-referrers") as pool:
            asked = pool.submit(store.referrers, digest)
            found = list(pool.map(find, tags))
            listing = asked.result()
    return listing, [(tag, one) for tag, one in zip(tags, found, strict=True) if one is not None]


def all_referrers(store: Store, digest: str) -> tuple[Referrer, ...]:
    """Return what refers to a manifest at any depth, what is nearer first.

    Args:
        store: the store to look in.
        digest: of the manifest.

    Returns:
        Each referrer once, behind what it refers to.

    Raises:
        FormatError: there are more than MAX_REFERRERS, or more than MAX_REFERRERS_BYTES in all; or
            as `direct_referrers`.
        IntegrityError: bytes differ from their digest.
        StoreError: the store failed.
    """
    what = f"referrers of {digest} in {store.name}"
    found: dict[tuple[str, str | None], Referrer] = {}
    seen = {digest}
    waiting = [digest]
    size = 0
    while waiting:
        for one in direct_referrers(store, waiting.pop(0)):
            key = (one.descriptor.digest, one.tag)
            if key in found:
                continue
            found[key] = one
            size += one.size
            if len(found) > MAX_REFERRERS:
                raise FormatError(what, f"more than {MAX_REFERRERS}")
            if size > MAX_REFERRERS_BYTES:
                raise FormatError(what, f"more than {MAX_REFERRERS_BYTES} bytes")
            if one.descriptor.digest not in seen:  # lists of strangers may go round in a circle
                seen.add(one.descriptor.digest)
                waiting.append(one.descriptor.digest)
    return tuple(found.values())


def _referrer(store: Store, media_type: str, data: bytes, digest: str, tag: str | None) -> Referrer:
    what = f"manifest {digest_of(data)} in {store.name}"
    descriptor = as_referrer(data, media_type, what)
    blobs: dict[str, Descriptor] = {}
    children: dict[str, tuple[Descriptor, bytes]] = {}
    waiting = [data]
    while waiting:
        own, within = named_blobs(load_json(waiting.pop(), what), what)
        for blob in own:
            if blobs.setdefault(blob.digest, blob).size != blob.size:
                raise FormatError(what, f"two sizes for {blob.digest}")
        for child in within:
            if child.digest in children:
                continue
            if child.media_type not in MANIFEST_TYPES:
                raise FormatError(what, f"{child.digest} within it is no manifest")
            if len(children) >= _MAX_CHILDREN:
                raise FormatError(what, f"more than {_MAX_CHILDREN} manifests within it")
            found, inner = store.get_manifest(child.digest)
            children[child.digest] = found, inner
            waiting.append(inner)
    inside = tuple(reversed(children.values()))
    return Referrer(descriptor, data, digest, tag, tuple(blobs.values()), inside)
