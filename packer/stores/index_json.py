"""index.json of an image layout: which tag names which manifest, and reading manifests by it.

index.json may come from a stranger, or from another tool whose entries and fields are kept as they
are: it is edited as decoded JSON. Source: OCI image-spec 1.1 ``image-layout.md``, "index.json
file".
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from packer.errors import (
    FormatError,
    IntegrityError,
    InvalidParameter,
    NotFound,
    StoreError,
    UnsupportedVersion,
)
from packer.files.durable import read_bounded
from packer.oci import ARTIFACT_TYPE, MAX_MANIFEST_BYTES, Descriptor, is_digest, load_json
from packer.stores.manifests import MANIFEST_TYPES, media_type_of, reachable
from packer.stores.protocols import Reader
from packer.stores.subjects import (
    as_referrer,
    attached_to,
    check_count,
    decode_referrers,
    fallback_tag,
    subject_of,
)

REF_NAME = "org.opencontainers.image.ref.name"
"""Annotation of an entry: its tag."""
PROMISED = "layer-packer.promised"
"""Annotation of an entry: who has the blobs that are missing here (packer/transfer/promises.py)."""
ORIGIN = "layer-packer.origin"
"""Annotation of an entry: the reference that the version was fetched from."""
LAYOUT_BYTES = b'{"imageLayoutVersion":"1.0.0"}'
"""Content of the file oci-layout in what we write."""
MAX_LAYOUT_BYTES = 4096
"""Bound on the file oci-layout; other tools' have below 100 bytes."""
MAX_INDEX_BYTES = MAX_MANIFEST_BYTES
"""Bound on index.json: room for about 16,000 tags."""

_MAX_SUBJECTS = 1 << 16
"""Manifests whose subject is remembered; more entries than index.json has room for."""

_LOG = logging.getLogger(__name__)

_OTHER_DIGEST = re.compile(r"(?!sha256:)[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[A-Za-z0-9=_-]+\Z")


class Index(NamedTuple):
    """A decoded index.json.

    Args:
        value: all of it, with a list under "manifests".
        descriptors: the entries with SHA-256 digests, in their order. Other algorithms are legal,
            but cannot be verified here.
    """

    value: dict[str, Any]
    descriptors: tuple[Descriptor, ...]

    @property
    def items(self) -> list[Any]:
        """All entries as they are."""
        items = self.value["manifests"]
        assert isinstance(items, list)
        return items

    def tags(self) -> dict[str, Descriptor]:
        """Return the tags, in their order; of one that occurs twice, the last counts."""
        out: dict[str, Descriptor] = {}
        for descriptor in self.descriptors:
            tag = descriptor.annotations.get(REF_NAME)
            if tag is not None:
                out.pop(tag, None)
                out[tag] = descriptor
        return out

    def find(self, digest: str) -> Descriptor | None:
        """Return the first entry of the manifest `digest`, None if it is not listed."""
        return next((item for item in self.descriptors if item.digest == digest), None)

    def promises(self, digest: str) -> str | None:
        """Return the annotation that says who has the missing blobs of the manifest `digest`."""
        found = [
            item.annotations.get(PROMISED) for item in self.descriptors if item.digest == digest
        ]
        return next((text for text in reversed(found) if text is not None), None)

    def without(self, tag: str) -> list[Any]:
        """Return the entries that `tag` does not name."""
        return [item for item in self.items if annotations_of(item).get(REF_NAME) != tag]


EMPTY_INDEX = Index({"schemaVersion": 2, "manifests": []}, ())


class IndexedManifests:
    """Manifests and tags of a store that keeps an index.json beside its blobs; for subclasses."""

    def __init__(self) -> None:
        self._subjects: dict[str, str] = {}  # digest of a manifest -> its subject's, "" for none

    @property
    def name(self) -> str:
        """The store's name in errors and logs."""
        raise NotImplementedError

    def fetch(self, blob: Descriptor, start: int = 0, length: int | None = None) -> Reader:
        """Open a blob, as `Store.fetch`."""
        raise NotImplementedError

    def _current_index(self) -> Index:
        """Return index.json as it is now."""
        raise NotImplementedError

    def _stored_size(self, digest: str) -> int | None:
        """Return a blob's stored size in bytes, None if it is missing."""
        raise NotImplementedError

    def tags(self) -> Iterator[tuple[str, Descriptor]]:
        """Yield each tag with its manifest's descriptor, the one moved last at the end."""
        yield from self._current_index().tags().items()

    def sole_manifest(self) -> Descriptor:
        """Return the only manifest of a store, as ``oci:DIR`` without a tag means it.

        Returns:
            Its descriptor.

        Raises:
            NotFound: the store is empty.
            InvalidParameter: it holds several manifests, so a tag is needed.
        """
        found = {entry.digest: entry for entry in self._current_index().descriptors}
        if len(found) > 1:  # what a signature belongs to is meant, not the signature
            roots = {digest: one for digest, one in found.items() if not self._belongs_to(one)}
            found = roots or found
        if not found:
            raise NotFound("manifest", "any", self.name)
        if len(found) > 1:
            raise InvalidParameter(f"{self.name} holds {len(found)} manifests: name one by its tag")
        return next(iter(found.values()))

    def resolve(self, reference: str) -> Descriptor:
        """Return the descriptor that a tag or digest names, as `Store.resolve`.

        A digest need not be listed in index.json; then the manifest is read for its media type.

        Args:
            reference: a tag or a digest.

        Returns:
            The descriptor.

        Raises:
            NotFound: there is no such tag, or no manifest of that digest.
        """
        index = self._current_index()
        if is_digest(reference):
            return index.find(reference) or self._read_unlisted(reference)[0]
        found = index.tags().get(reference)
        if found is None:
            raise NotFound("tag", reference, self.name)
        return found

    def get_manifest(self, reference: str) -> tuple[Descriptor, bytes]:
        """Return a manifest's descriptor and exact bytes, as `Store.get_manifest`."""
        if not is_digest(reference):
            entry = self.resolve(reference)
        elif (listed := self._current_index().find(reference)) is not None:
            entry = listed
        else:
            return self._read_unlisted(reference)
        return entry, self._read_manifest(entry)

    def promises(self, digest: str) -> str | None:
        """Return who promised the missing blobs of the manifest `digest`, as `Promised`."""
        return self._current_index().promises(digest)

    def referrers(self, digest: str) -> tuple[Descriptor, ...]:
        """Return what refers to a manifest, as `Store.referrers`.

        These are the manifests in index.json with that subject, as oras lists them there, and those
        that an index under the referrers tag lists, as regclient writes it.
        """
        index = self._current_index()
        found: dict[str, Descriptor] = {}
        for entry in index.descriptors:
            if entry.digest not in found and self._subject_digest(entry) == digest:
                what = f"manifest {entry.digest} in {self.name}"
                data = self._read_manifest(entry)
                found[entry.digest] = as_referrer(data, entry.media_type, what)
        listing = index.tags().get(fallback_tag(digest))
        if listing is not None:
            what = f"referrers of {digest} in {self.name}"
            for entry in decode_referrers(self._read_manifest(listing), what):
                if self._stored_size(entry.digest) is not None:
                    found.setdefault(entry.digest, entry)
        check_count(len(found), f"referrers of {digest} in {self.name}")
        return tuple(found.values())

    def _subject_digest(self, entry: Descriptor) -> str:
        """Return the digest of an entry's subject; "" if it has none, or cannot be read."""
        if entry.media_type not in MANIFEST_TYPES or entry.artifact_type == ARTIFACT_TYPE:
            return ""  # versions refer to nothing
        known = self._subjects.get(entry.digest)
        if known is None:
            what = f"manifest {entry.digest} in {self.name}"
            try:
                subject = subject_of(load_json(self._read_manifest(entry), what), what)
            except (NotFound, IntegrityError) as error:
                _LOG.warning("%s: what it refers to is not known", error)
                return ""
            if len(self._subjects) >= _MAX_SUBJECTS:
                self._subjects.clear()
            known = self._subjects[entry.digest] = "" if subject is None else subject.digest
        return known

    def _belongs_to(self, entry: Descriptor) -> str:
        """Return the digest of the manifest that an entry is kept for; "" if for its own sake.

        That is a subject, unless the entry has an ordinary tag, or what its tag attaches it to.
        """
        tag = entry.annotations.get(REF_NAME)
        return self._subject_digest(entry) if tag is None else attached_to(tag) or ""

    def _needed_by(
        self, roots: Iterable[Descriptor], entries: Iterable[Descriptor]
    ) -> tuple[set[str], list[Descriptor]]:
        """Return what manifests need, with all that refers to them at any depth.

        Args:
            roots: descriptors of further manifests that are needed.
            entries: of index.json; those that belong to others are needed if these are.

        Returns:
            The digests of manifests and blobs, and the entries that are not needed.
        """
        attached: dict[str, list[Descriptor]] = {}
        wanted = list(roots)
        for entry in entries:
            subject = self._belongs_to(entry)
            if subject:
                attached.setdefault(subject, []).append(entry)
            else:
                wanted.append(entry)
        needed: set[str] = set()
        while wanted:
            new = reachable(wanted, self._read_manifest, self.name) - needed
            needed |= new
            wanted = [entry for digest in new for entry in attached.pop(digest, ())]
        return needed, [entry for group in attached.values() for entry in group]

    def _read_manifest(self, descriptor: Descriptor) -> bytes:
        """Return the verified bytes of a manifest."""
        if descriptor.size > MAX_MANIFEST_BYTES:
            what = f"manifest {descriptor.digest} in {self.name}"
            raise FormatError(what, f"its size {descriptor.size} is above {MAX_MANIFEST_BYTES}")
        try:
            with self.fetch(descriptor) as reader:
                return reader.read()
        except NotFound as error:
            if error.kind != "blob":  # a part of an archive, say
                raise
            raise NotFound("manifest", descriptor.digest, self.name) from None

    def _read_unlisted(self, digest: str) -> tuple[Descriptor, bytes]:
        """Return a manifest that index.json does not name."""
        missing = NotFound("manifest", digest, self.name)
        size = self._stored_size(digest)
        if size is None or size > MAX_MANIFEST_BYTES:
            raise missing  # or a layer
        data = self._read_manifest(Descriptor("", digest, size))
        try:
            media_type = media_type_of(load_json(data, f"manifest {digest}"))
        except FormatError:
            media_type = ""
        if not media_type:
            raise missing  # a config or layer
        return Descriptor(media_type, digest, size), data


class IndexFile:
    """An index.json that is read often: it is decoded again only if its bytes have changed.

    Reading and comparing takes a fiftieth of the time of decoding. Size and time of the file would
    not tell every change.

    Args:
        path: of the file.

    Thread safety: threads may share it.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._last: tuple[bytes, Index] = (b"", EMPTY_INDEX)

    def load(self) -> Index:
        """Read index.json; a missing file is an empty one.

        Returns:
            What it holds; not to be changed.

        Raises:
            FormatError: it is no regular file, or malformed.
        """
        try:
            data = read_bounded(self._path, MAX_INDEX_BYTES)
        except (FileNotFoundError, NotADirectoryError):
            return EMPTY_INDEX  # its maker was killed, or has not come to it yet
        except IsADirectoryError:
            raise FormatError(self._path, "not a regular file") from None
        known, index = self._last
        if data != known or not data:
            index = parse_index(data, self._path)
            self._last = data, index
        return index


def parse_index(data: bytes, path: str) -> Index:
    """Decode index.json.

    Args:
        data: its bytes.
        path: its name in errors.

    Returns:
        What it holds.

    Raises:
        FormatError: it, or one of its entries, is malformed.
        UnsupportedVersion: its schemaVersion is not 2.
    """
    value = load_json(data, path)
    if value.get("schemaVersion") != 2:
        raise UnsupportedVersion(f"{path}: schemaVersion is not 2")
    items = value.get("manifests")
    if items is None:  # Go writes null for an empty slice
        items = []
    if not isinstance(items, list):
        raise FormatError(path, "manifests is not a list")
    descriptors: list[Descriptor] = []
    for item in items:
        digest = item.get("digest") if isinstance(item, dict) else None
        if isinstance(digest, str) and _OTHER_DIGEST.match(digest):
            continue
        try:
            descriptors.append(Descriptor.from_json(item))
        except FormatError as error:
            raise FormatError(path, str(error)) from None
    return Index({**value, "manifests": items}, tuple(descriptors))


def check_layout_version(data: bytes, what: str) -> None:
    """Check the content of the file oci-layout.

    Args:
        data: its bytes.
        what: its name in errors.

    Raises:
        UnsupportedVersion: a layout of a later version.
    """
    found = load_json(data, what).get("imageLayoutVersion")
    if not isinstance(found, str) or not found.startswith("1."):
        raise UnsupportedVersion(f"{what}: image layout version {found!r} is not 1.x")


def encode_index(value: dict[str, Any], path: str) -> bytes:
    """Return the bytes of index.json.

    Args:
        value: as `Index.value`.
        path: its name in errors.

    Returns:
        JSON in ASCII: a stranger's lone surrogate has no UTF-8 form, and must not stop us.

    Raises:
        StoreError: it is larger than `IndexFile` would read again.
    """
    data = json.dumps(value, separators=(",", ":")).encode()
    if len(data) > MAX_INDEX_BYTES:
        raise StoreError(f"{path} would exceed {MAX_INDEX_BYTES} bytes: remove old tags first")
    return data


def is_promised(promises: str | None, blob: Descriptor) -> bool:
    """Return whether the annotation `promises` names a blob."""
    return promises is not None and f'"{blob.digest}"' in promises


def annotations_of(item: object) -> dict[str, str]:
    """Return the annotations of an entry that are text."""
    found = item.get("annotations") if isinstance(item, dict) else None
    if not isinstance(found, dict):
        return {}
    return {key: text for key, text in found.items() if isinstance(text, str)}


def with_tag(
    index: Index, tag: str, descriptor: Descriptor, artifact_type: object, promises: str | None
) -> dict[str, Any]:
    """Return index.json with `tag` naming a manifest, as its last entry; for layouts.

    Args:
        index: as it is.
        tag: the tag; its entries so far are dropped.
        descriptor: of the manifest.
        artifact_type: the manifest's ``artifactType``; left out if it is no text.
        promises: annotation of the blobs that are missing; None if none are.

    Returns:
        `index.value` itself if nothing changes.
    """
    notes = {} if promises is None else {PROMISED: promises}
    entry = {**descriptor.to_json(), "annotations": {REF_NAME: tag, **notes}}
    if isinstance(artifact_type, str):
        entry["artifactType"] = artifact_type
    kept = index.without(tag)
    if index.items[-1:] == [entry] and len(kept) + 1 == len(index.items):
        return index.value
    return {**index.value, "manifests": [*kept, entry]}


def with_origin(index: Index, tag: str, origin: str) -> dict[str, Any] | None:
    """Return index.json with a tag's entry at the end, and in it the version's origin.

    Args:
        index: as it is.
        tag: the tag.
        origin: a reference.

    Returns:
        `index.value` itself if nothing changes; None if there is no such tag.
    """
    found = [item for item in index.items if annotations_of(item).get(REF_NAME) == tag]
    if not found:
        return None
    entry = {**found[-1], "annotations": {**annotations_of(found[-1]), ORIGIN: origin}}
    kept = index.without(tag)
    if index.items[-1] == entry and len(kept) + 1 == len(index.items):
        return index.value
    return {**index.value, "manifests": [*kept, entry]}


def with_entry(
    index: Index, descriptor: Descriptor, manifest: bytes, tag: str | None, promises: str | None
) -> dict[str, Any]:
    """Return index.json with a manifest as its last entry; for archives.

    A manifest without a tag is listed as well, since nothing else in an archive leads to it.

    Args:
        index: as it is.
        descriptor: of the manifest.
        manifest: its bytes.
        tag: its tag, whose entries so far are dropped; None for none.
        promises: annotation of the blobs that are left out; None if none are.

    Returns:
        `index.value` itself if nothing changes.
    """
    entry = Descriptor(descriptor.media_type, descriptor.digest, descriptor.size).to_json()
    annotations = {} if tag is None else {REF_NAME: tag}
    if promises is not None:
        annotations[PROMISED] = promises
    if annotations:
        entry["annotations"] = annotations
    artifact_type = load_json(manifest, "manifest").get("artifactType")
    if isinstance(artifact_type, str):
        entry["artifactType"] = artifact_type
    kept = []
    for item in index.items:
        same = isinstance(item, dict) and item.get("digest") == descriptor.digest
        other = annotations_of(item).get(REF_NAME)
        if same and tag is None:
            # Listed already, under a tag or without; completed now, if it was not before.
            if promises == annotations_of(item).get(PROMISED):
                return index.value
        elif (same and other is None) or (tag is not None and other == tag):
            continue
        kept.append(item)
    return {**index.value, "manifests": [*kept, entry]}
