"""The OCI values that all modules share: digests, descriptors, manifests.

They are frozen and validated, and do no I/O. Sources: OCI image-spec 1.1 ``descriptor.md`` and
``manifest.md``.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from packer.errors import FormatError, UnsupportedVersion

ARTIFACT_TYPE = "application/vnd.layer-packer.version.v1"
PARENT = "layer-packer.parent"
"""Annotation of a manifest: the digest of the base's manifest, if there was a base."""
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_MANIFEST_TYPE = "application/vnd.oci.image.index.v1+json"
CONFIG_TYPE = "application/vnd.layer-packer.config.v1+json"
DATA_TYPE = "application/vnd.layer-packer.data.v1+zstd"
INDEX_TYPE = "application/vnd.layer-packer.index.v1+zstd"
UPDATE_TYPE = "application/vnd.layer-packer.update.v1"
"""A data layer and an index layer in one blob."""

FORMAT_VERSION = 1

MAX_MANIFEST_BYTES = 4 << 20
"""Greatest bytes of a manifest or config: registries and other clients accept no more."""
MAX_LAYERS = 4096
"""Greatest number of layers of a manifest that is read; manifests written here have below 128."""
MAX_BLOB_BYTES = 1 << 44
"""Greatest bytes that a descriptor may claim (16 TiB), so that sums of sizes stay exact."""
READ_BYTES = 256 << 10
"""Bytes moved at a time where blobs are copied or hashed: what is read should still be in the
processor's cache when it is hashed and written. 1 MiB took a third more system time (a pull over
loopback, 2 cores, 2026)."""

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")


def is_digest(text: str) -> bool:
    """Return whether `text` is ``sha256:`` and 64 lower-case hexadecimal digits."""
    return _DIGEST.match(text) is not None


def digest_of(data: bytes | bytearray | memoryview) -> str:
    """Return the blob digest, ``sha256:<hex>``, of `data`."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Media type, digest and size of a blob or manifest.

    Args:
        media_type: RFC 6838 media type.
        digest: ``sha256:<hex>`` of the stored bytes.
        size: number of stored bytes, 0 to MAX_BLOB_BYTES.
        annotations: values by name; two descriptors may be equal with different annotations.
        artifact_type: what kind of artifact a manifest is, in lists of manifests; "" if not said.
            Two descriptors may be equal with different types.

    Raises:
        FormatError: a value is outside its grammar or range. So the digest of a descriptor is
            always safe to use in a path or URL.
    """

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict, compare=False)
    artifact_type: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        """Check the grammar and range of each field."""
        if not isinstance(self.digest, str) or not is_digest(self.digest):
            raise FormatError("descriptor", f"digest {str(self.digest)[:80]!r} is not sha256:<hex>")
        if type(self.size) is not int or not 0 <= self.size <= MAX_BLOB_BYTES:
            raise FormatError(f"descriptor of {self.digest}", f"size {self.size!r} is out of range")
        for text in (self.media_type, self.artifact_type):
            if not isinstance(text, str) or len(text) > 255:
                raise FormatError(
                    f"descriptor of {self.digest}", "media type is not a short string"
                )

    def to_json(self) -> dict[str, Any]:
        """Return the descriptor as the JSON object of the image-spec."""
        out: dict[str, Any] = {
            "mediaType": self.media_type,
            "digest": self.digest,
            "size": self.size,
        }
        if self.artifact_type:
            out["artifactType"] = self.artifact_type
        if self.annotations:
            out["annotations"] = dict(self.annotations)
        return out

    @classmethod
    def from_json(cls, value: object) -> Descriptor:
        """Parse a descriptor from decoded JSON; ``urls`` and ``data`` are ignored.

        Args:
            value: a JSON value from a stranger.

        Returns:
            The descriptor.

        Raises:
            FormatError: `value` is no object, lacks a field, or a field is out of range.
        """
        if not isinstance(value, dict):
            raise FormatError("descriptor", "not a JSON object")
        annotations = value.get("annotations", {})
        check_annotations(annotations)
        kind = value.get("artifactType") or ""
        try:
            return cls(value["mediaType"], value["digest"], value["size"], annotations, kind)
        except KeyError as missing:
            raise FormatError("descriptor", f"no field {missing}") from None


def check_annotations(value: object) -> None:
    """Raise FormatError unless `value` is a JSON object of strings."""
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise FormatError("annotations", "not an object of strings")


@dataclass(frozen=True, slots=True)
class Manifest:
    """An OCI 1.1 image manifest that holds a version.

    Args:
        config: descriptor of the config blob.
        layers: data, index and update layers, oldest first.
        annotations: values by name.
        artifact_type: ARTIFACT_TYPE for manifests that this package writes.
    """

    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)
    artifact_type: str = ARTIFACT_TYPE

    @property
    def data_layers(self) -> tuple[Descriptor, ...]:
        """The layers that hold chunks."""
        return tuple(layer for layer in self.layers if layer.media_type != INDEX_TYPE)

    @property
    def index_layers(self) -> tuple[Descriptor, ...]:
        """The layers that hold the index: a full index, then patches."""
        return tuple(layer for layer in self.layers if layer.media_type != DATA_TYPE)

    @property
    def parent(self) -> str:
        """Digest of the base's manifest; "" if there was no base."""
        parent = self.annotations.get(PARENT, "")
        return parent if is_digest(parent) else ""

    def encode(self) -> bytes:
        """Return the canonical JSON bytes, whose SHA-256 is the manifest's digest."""
        return canonical_json(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST_TYPE,
                "artifactType": self.artifact_type,
                "config": self.config.to_json(),
                "layers": [layer.to_json() for layer in self.layers],
                "annotations": dict(self.annotations),
            }
        )

    @classmethod
    def decode(cls, data: bytes, what: str = "manifest") -> Manifest:
        """Parse the manifest of a version.

        Args:
            data: the exact bytes, at most MAX_MANIFEST_BYTES.
            what: the manifest's name in errors.

        Returns:
            The manifest.

        Raises:
            FormatError: `data` is no JSON, is ambiguous (both ``layers`` and ``manifests``), or a
                value is out of bounds.
            UnsupportedVersion: another tool or a later version wrote the manifest.
        """
        value = load_json(data, what)
        if "manifests" in value and "layers" in value:
            raise FormatError(what, "holds both layers and manifests")
        if "manifests" in value:
            raise UnsupportedVersion(f"{what} is an image index, not a version of layer-packer")
        if value.get("schemaVersion") != 2 or value.get("mediaType") != MANIFEST_TYPE:
            raise UnsupportedVersion(f"{what} is not an OCI image manifest")
        config = Descriptor.from_json(value.get("config"))
        if value.get("artifactType") != ARTIFACT_TYPE or config.media_type != CONFIG_TYPE:
            found = value.get("artifactType") or config.media_type
            raise UnsupportedVersion(f"{what} was not written by layer-packer (it is {found!r})")
        layers = value.get("layers")
        if not isinstance(layers, list) or len(layers) > MAX_LAYERS:
            raise FormatError(what, f"layers is not a list of at most {MAX_LAYERS}")
        annotations = value.get("annotations", {})
        check_annotations(annotations)
        manifest = cls(config, tuple(Descriptor.from_json(item) for item in layers), annotations)
        for layer in manifest.layers:
            if layer.media_type not in (DATA_TYPE, INDEX_TYPE, UPDATE_TYPE):
                raise UnsupportedVersion(f"{what} has a layer of type {layer.media_type!r}")
        if not manifest.index_layers:
            raise FormatError(what, "no index layer")
        return manifest


def canonical_json(value: object) -> bytes:
    """Return `value` as UTF-8 JSON with sorted keys and no spaces: equal values, equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def load_json(data: bytes, what: str, limit: int = MAX_MANIFEST_BYTES) -> dict[str, Any]:
    """Parse an I-JSON object from a stranger.

    Args:
        data: at most `limit` bytes.
        what: the document's name in errors.
        limit: greatest number of bytes.

    Returns:
        The object.

    Raises:
        FormatError: the document is too large, not UTF-8, not JSON, nested too deep, no object at
            the top, or holds a name twice in one object or a number that is no safe integer.
    """
    if len(data) > limit:
        raise FormatError(what, f"{len(data)} bytes is above the limit of {limit}")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        out = dict(pairs)
        if len(out) != len(pairs):
            raise FormatError(what, "a name occurs twice in one JSON object")
        return out

    def reject(text: str) -> None:
        raise FormatError(what, f"number {text[:20]} is not an integer")

    def integer(text: str) -> int:
        value = int(text) if len(text) < 20 else 1 << 60
        if abs(value) >= 1 << 53:
            raise FormatError(what, f"integer {text[:20]} is beyond 2^53")
        return value

    try:
        value = json.loads(
            data,
            object_pairs_hook=unique,
            parse_int=integer,
            parse_float=reject,
            parse_constant=reject,
        )
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise FormatError(what, f"not JSON: {error}") from None
    except RecursionError:
        raise FormatError(what, "nested too deep") from None
    if not isinstance(value, dict):
        raise FormatError(what, "not a JSON object")
    return value
