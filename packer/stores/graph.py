"""What a manifest names, as far as copying needs it: anybody's image manifest, not only ours."""

from __future__ import annotations

from dataclasses import dataclass

from packer.errors import (
    DigestMismatch,
    FormatError,
    InvalidParameter,
    NotFound,
    PackerError,
    UnsupportedVersion,
)
from packer.oci import (
    MANIFEST_TYPE,
    MAX_LAYERS,
    PARENT,
    Descriptor,
    check_annotations,
    is_digest,
    load_json,
)
from packer.stores.protocols import Store

DOCKER_MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
MAX_ANCESTORS = 4
"""How many generations back to look for a version that the destination has."""


@dataclass(frozen=True, slots=True)
class Graph:
    """What a manifest names, each blob once."""

    layers: tuple[Descriptor, ...]
    config: Descriptor
    parent: str | None

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """Layers, then the config."""
        return (*self.layers, self.config)


def read_graph(data: bytes, what: str) -> Graph:
    """Parse any OCI (or docker schema 2) image manifest as far as copying needs it.

    Raises:
        UnsupportedVersion: an image index, or something else that is no image manifest.
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


def check_expected(actual: str, expect: str | None, what: str) -> None:
    """Raise unless `actual` is the digest the caller expects, if any.

    Raises:
        InvalidParameter: `expect` is no digest.
        DigestMismatch: they differ.
    """
    if expect is None:
        return
    if not is_digest(expect):
        raise InvalidParameter(f"{expect[:80]!r} is not sha256:<64 hex digits>")
    if actual != expect:
        raise DigestMismatch(what, expect, actual)


def resolve_or_none(store: Store, reference: str) -> Descriptor | None:
    """Return what a tag or digest stands for, None if it is not there."""
    try:
        return store.resolve(reference)
    except NotFound:
        return None


def known_digests(
    source: Store, destination: Store, graph: Graph, named: Descriptor | None
) -> frozenset[str]:
    """Return digests of blobs that a manifest at `destination` names, at one or two requests.

    A manifest there vouches for its blobs: registries keep what a manifest names. Looks at the
    ancestors of the version, whose manifests the source mostly has, then at what the tag names now.
    """
    parent = graph.parent
    for _ in range(MAX_ANCESTORS):
        if parent is None:
            break
        try:
            found, data = source.get_manifest(parent)
            ancestor = read_graph(data, f"manifest {parent}")
        except PackerError:
            break  # only a saving is lost
        if found.digest == (named.digest if named else "") or resolve_or_none(
            destination, found.digest
        ):
            return frozenset(blob.digest for blob in ancestor.blobs)
        parent = ancestor.parent
    if named is None:
        return frozenset()
    try:
        _, data = destination.get_manifest(named.digest)
        return frozenset(blob.digest for blob in read_graph(data, "manifest").blobs)
    except PackerError:
        return frozenset()  # an image index, or gone meanwhile
