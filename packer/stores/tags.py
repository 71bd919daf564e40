"""index.json of an image layout: which tag names which manifest.

It may come from a stranger, or from another tool whose entries and fields we keep as they are: it
is edited as decoded JSON. Source: OCI image-spec 1.1 ``image-layout.md``, "index.json file".
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from packer.errors import FormatError, StoreError, UnsupportedVersion
from packer.files.durable import read_bounded
from packer.oci import MAX_MANIFEST_BYTES, Descriptor, load_json

REF_NAME = "org.opencontainers.image.ref.name"
PROMISED = "layer-packer.promised"
"""Annotation of an entry: who has the blobs that are missing here; see `packer.promise`."""
MAX_INDEX_BYTES = MAX_MANIFEST_BYTES
"""Bound on index.json, room for about 16,000 tags."""

_OTHER_DIGEST = re.compile(r"(?!sha256:)[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[A-Za-z0-9=_-]+\Z")


@dataclass(frozen=True, slots=True)
class Index:
    """A decoded index.json.

    Args:
        value: all of it, with a list under "manifests".
        descriptors: the entries we can follow, in their order. Those of other digest algorithms
            than SHA-256 are left out: they are legal, but nothing we could verify.
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

    def promises(self, digest: str) -> str | None:
        """Return the annotation that says who has what is missing of a manifest."""
        found = [
            item.annotations.get(PROMISED) for item in self.descriptors if item.digest == digest
        ]
        return next((text for text in reversed(found) if text is not None), None)

    def without(self, tag: str) -> list[Any]:
        """Return the entries that `tag` does not name."""
        return [item for item in self.items if _tag_of(item) != tag]


EMPTY_INDEX = Index({"schemaVersion": 2, "manifests": []}, ())


def load_index(path: str) -> Index:
    """Read index.json; a missing file is an empty one.

    Raises:
        FormatError, UnsupportedVersion: it, or one of its entries, is malformed.
    """
    try:
        return parse_index(read_bounded(path, MAX_INDEX_BYTES), path)
    except (FileNotFoundError, NotADirectoryError):
        return EMPTY_INDEX  # killed while it was made, or not made yet
    except IsADirectoryError:
        raise FormatError(path, "not a regular file") from None


def parse_index(data: bytes, path: str) -> Index:
    """Decode index.json.

    Raises:
        FormatError, UnsupportedVersion: it, or one of its entries, is malformed.
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


def encode_index(value: dict[str, Any], path: str) -> bytes:
    """Return the bytes of index.json.

    Raises:
        StoreError: more than we would read again.
    """
    # Escaped to ASCII: a stranger's lone surrogate has no UTF-8 form, and must not stop us.
    data = json.dumps(value, separators=(",", ":")).encode()
    if len(data) > MAX_INDEX_BYTES:
        raise StoreError(f"{path} would exceed {MAX_INDEX_BYTES} bytes: remove old tags first")
    return data


def is_promised(promises: str | None, blob: Descriptor) -> bool:
    """Tell whether an annotation names a blob."""
    return promises is not None and f'"{blob.digest}"' in promises


def _tag_of(item: object) -> str | None:
    """Return the tag of an entry."""
    return annotations_of(item).get(REF_NAME)


def annotations_of(item: object) -> dict[str, str]:
    """Return the annotations of an entry that are text."""
    found = item.get("annotations") if isinstance(item, dict) else None
    if not isinstance(found, dict):
        return {}
    return {key: text for key, text in found.items() if isinstance(text, str)}


def with_entry(
    index: Index, descriptor: Descriptor, manifest: bytes, tag: str | None, promises: str | None
) -> dict[str, Any]:
    """Return index.json with an entry for a manifest at its end, in place of those of its tag.

    A manifest without a tag is listed as well, since nothing else in an archive leads to it.
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
