"""What manifests name, and what tags and ranges may be.

Manifests here are anybody's: image manifests, image indexes and artifacts, of OCI and of Docker.
`named_blobs` reads all of these, for stores; `read_graph` reads image manifests, for copies.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from packer.errors import (
    FormatError,
    InvalidParameter,
    NotFound,
    SizeMismatch,
    UnsupportedVersion,
)
from packer.oci import (
    INDEX_MANIFEST_TYPE,
    MANIFEST_TYPE,
    MAX_LAYERS,
    PARENT,
    Descriptor,
    check_annotations,
    is_digest,
    load_json,
)

DOCKER_MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST_TYPE = "application/vnd.docker.distribution.manifest.list.v2+json"
MANIFEST_TYPES = frozenset(
    {
        MANIFEST_TYPE,
        INDEX_MANIFEST_TYPE,
        "application/vnd.oci.artifact.manifest.v1+json",
        DOCKER_MANIFEST_TYPE,
        DOCKER_LIST_TYPE,
    }
)
"""Media types of JSON documents that name other blobs."""

# Registry tags (distribution-spec: `a..b` and `_x` are fine) and the names of image-layout's
# `ref.name` (`app:1.2+b`, `team/app`): the union, so that either can be copied to the other side.
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._:@+/-]{0,254}\Z")


def check_tag(tag: str) -> str:
    """Return `tag` if it can name a manifest.

    Args:
        tag: as registries or image layouts have them.

    Returns:
        The same text.

    Raises:
        InvalidParameter: it is empty, too long, a digest, or holds other characters than those of
            registry tags and image-layout names.
    """
    if not _TAG.match(tag) or is_digest(tag):
        raise InvalidParameter(
            f"tag {tag[:80]!r} is not 1 to 255 letters, digits and ._:@+/- starting with a letter, "
            "digit or _ (and not a digest)"
        )
    return tag


def check_range(blob: Descriptor, start: int, length: int | None) -> tuple[int, int]:
    """Return the half-open range `[start, end)` that `fetch` was asked for.

    Args:
        blob: the blob.
        start: first byte.
        length: in bytes; None for all that follows.

    Returns:
        `start` and the end, exclusive.

    Raises:
        SizeMismatch: the range does not lie in the blob. Ranges come from stored tables, so most
            likely such a table is damaged.
    """
    end = blob.size if length is None else start + length
    if not 0 <= start <= end <= blob.size:
        raise SizeMismatch(f"range from {start} of blob {blob.digest}", blob.size, end)
    return start, end


def named_blobs(
    value: dict[str, Any], what: str
) -> tuple[tuple[Descriptor, ...], tuple[Descriptor, ...]]:
    """Return what a decoded manifest needs: its blobs, and its child manifests.

    Left out are ``subject``, which by the image-spec may be missing, and layers that must not be
    distributed and name URLs instead.

    Args:
        value: the JSON object.
        what: the manifest's name in errors.

    Returns:
        The blobs, and the child manifests.

    Raises:
        FormatError: it names nothing, both layers and manifests, or a malformed descriptor.
    """
    if "manifests" in value and ("layers" in value or "config" in value):
        raise FormatError(what, "holds both layers and manifests")
    if not value.keys() & {"config", "layers", "blobs", "manifests"}:
        raise FormatError(what, "not a manifest: it names no config, layers or manifests")
    blobs: list[Descriptor] = []
    if "config" in value:
        blobs.append(Descriptor.from_json(value["config"]))
    for key in ("layers", "blobs"):
        for item in _array(value, key, what):
            blob = Descriptor.from_json(item)
            foreign = "nondistributable" in blob.media_type or ".foreign." in blob.media_type
            if not (foreign and item.get("urls")):
                blobs.append(blob)
    children = (Descriptor.from_json(item) for item in _array(value, "manifests", what))
    return tuple(blobs), tuple(children)


def _array(value: dict[str, Any], key: str, what: str) -> list[Any]:
    """Return the list under `key`, empty if there is none."""
    items = value.get(key)
    if items is None:  # Go writes null for an empty slice
        return []
    if not isinstance(items, list):
        raise FormatError(what, f"{key} is not a list")
    return items


def media_type_of(value: dict[str, Any]) -> str:
    """Return the media type of a decoded manifest, "" if it is no manifest.

    Image-spec 1.0 made the field optional; without it the shape decides.

    Returns:
        One of MANIFEST_TYPES, or "".
    """
    stated = value.get("mediaType")
    if isinstance(stated, str):
        return stated if stated in MANIFEST_TYPES else ""
    if isinstance(value.get("manifests"), list):
        return INDEX_MANIFEST_TYPE
    return MANIFEST_TYPE if isinstance(value.get("config"), dict) else ""


def check_manifest(
    data: bytes, media_type: str, exists: Callable[[Descriptor], bool], where: str
) -> dict[str, Any]:
    """Check that `data` may be stored as a manifest, and return it decoded.

    Args:
        data: the manifest's bytes.
        media_type: the caller's word for its type.
        exists: returns whether the store has a blob.
        where: the store's name.

    Returns:
        The JSON object.

    Raises:
        InvalidParameter: `media_type` contradicts the manifest's own.
        NotFound: a blob or child manifest it names is missing.
    """
    value = load_json(data, "manifest")
    stated = value.get("mediaType", media_type)
    if stated != media_type:
        raise InvalidParameter(f"manifest says it is {stated!r}, the caller {media_type!r}")
    blobs, children = named_blobs(value, "manifest")
    for kind, descriptors in (("blob", blobs), ("manifest", children)):
        for descriptor in descriptors:
            if not exists(descriptor):
                raise NotFound(kind, descriptor.digest, f"of {descriptor.size} bytes, in {where}")
    return value


def reachable(
    roots: Iterable[Descriptor], read: Callable[[Descriptor], bytes], where: str
) -> set[str]:
    """Return the digests that manifests need, their own included.

    Args:
        roots: descriptors of manifests, or of blobs, which need nothing else.
        read: returns the verified bytes of a manifest; what it raises passes through.
        where: the store's name.

    Returns:
        Digests of manifests and blobs.
    """
    found: set[str] = set()
    seen: set[tuple[str, str]] = set()
    waiting = list(roots)
    while waiting:
        descriptor = waiting.pop()
        found.add(descriptor.digest)
        key = (descriptor.digest, descriptor.media_type)
        if descriptor.media_type not in MANIFEST_TYPES or key in seen:
            continue
        seen.add(key)
        what = f"manifest {descriptor.digest} in {where}"
        blobs, children = named_blobs(load_json(read(descriptor), what), what)
        found.update(blob.digest for blob in blobs)
        waiting.extend(children)
    return found


class Graph(NamedTuple):
    """What an image manifest names, each blob once.

    Args:
        layers: in the manifest's order, without repetitions.
        config: the config blob.
        parent: digest of the base's manifest, if the annotations name one.
    """

    layers: tuple[Descriptor, ...]
    config: Descriptor
    parent: str | None

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """Layers, then the config."""
        return (*self.layers, self.config)


def read_graph(data: bytes, what: str) -> Graph:
    """Parse an OCI or docker schema 2 image manifest as far as copying needs it.

    Args:
        data: the manifest's bytes.
        what: the manifest's name in errors.

    Returns:
        What it names.

    Raises:
        UnsupportedVersion: an image index, or no image manifest at all.
        FormatError: malformed, or ambiguous.
    """
    value = load_json(data, what)
    if "manifests" in value:
        if "layers" in value:
            raise FormatError(what, "holds both layers and manifests")
        raise UnsupportedVersion(f"{what} is an image index; name one of its manifests by digest")
    media_type = value.get("mediaType", MANIFEST_TYPE)
    if value.get("schemaVersion") != 2 or media_type not in (MANIFEST_TYPE, DOCKER_MANIFEST_TYPE):
        raise UnsupportedVersion(f"{what} is not an OCI image manifest")
    entries = value.get("layers")
    if not isinstance(entries, list) or len(entries) > MAX_LAYERS:
        raise FormatError(what, f"layers is not a list of at most {MAX_LAYERS}")
    config = Descriptor.from_json(value.get("config"))
    unique: dict[str, Descriptor] = {}
    for layer in (Descriptor.from_json(entry) for entry in entries):
        if unique.setdefault(layer.digest, layer).size != layer.size:
            raise FormatError(what, f"two sizes for {layer.digest}")
    if unique.pop(config.digest, config).size != config.size:
        raise FormatError(what, f"two sizes for {config.digest}")
    annotations = value.get("annotations") or {}
    check_annotations(annotations)
    return Graph(tuple(unique.values()), config, annotations.get(PARENT))
