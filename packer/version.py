"""A version in a store: manifest, config and index, checked against each other; and families."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import blake3

from packer import codec
from packer.errors import DigestMismatch, FormatError, NotFound, UnsupportedVersion
from packer.index import MAX_INDEX_BYTES, Index
from packer.model import (
    FORMAT_VERSION,
    MAX_MANIFEST_BYTES,
    ChunkParams,
    Descriptor,
    Manifest,
    canonical_json,
    load_json,
)
from packer.store.base import Store, Tags, read_blob

PARENT = "layer-packer.parent"
"""Manifest annotation: digest of the manifest of the base, if there was one."""
CREATED = "org.opencontainers.image.created"
TITLE = "org.opencontainers.image.title"
VERSION = "org.opencontainers.image.version"

MAX_PATCHES = 32
"""Index layers behind the full one before the index is written in full again."""
READ_PATCHES = 64
"""Index layers a reader is willing to apply."""

_LABEL = re.compile(r"(?P<name>.*?)[-_.]?v?\d+([.+_-][0-9A-Za-z.+_-]*)?\Z")
_ARCHIVE = re.compile(r"\.(tar(\.\w+)?|tgz|zip|airgap|zst|gz)\Z")


@dataclass(frozen=True)
class Version:
    """One version in a store.

    Args:
        store: where it is.
        descriptor: of its manifest.
        manifest: decoded and checked.
        manifest_bytes: as stored.
        config: decoded and checked.
    """

    store: Store
    descriptor: Descriptor
    manifest: Manifest
    manifest_bytes: bytes
    config: Config

    @cached_property
    def index_bytes(self) -> bytes:
        """The index's plaintext, verified."""
        return read_index(self.store, self.manifest, self.config)

    @cached_property
    def index(self) -> Index:
        """The index, verified and checked against the manifest's layers."""
        what = f"index of {self.descriptor.digest}"
        index = Index.decode(self.index_bytes, what)
        listed = [(layer.digest, layer.size) for layer in self.manifest.data_layers]
        used = [(index.layer_digest(layer), size) for layer, size in enumerate(index.layer_sizes)]
        if listed != used:
            raise FormatError(what, "its layers are not those of the manifest")
        return index


@dataclass(frozen=True, slots=True)
class Config:
    """The config blob: what people read with curl, and what checks the index.

    Args:
        chunking: parameters the chunks were cut with.
        index_digest: ``blake3:<hex>`` of the index's plaintext.
        index_bytes: its length.
        tree: `Index.tree_digest`.
        totals: counts of the tree: files, directories, symlinks, bytes, chunks.
        level: zstd level of the new frames.
        tool: name and version of the writer.
        zstd: zstd version of the writer.
        parent: manifest digest of the base, or "".
    """

    chunking: ChunkParams
    index_digest: str
    index_bytes: int
    tree: str
    totals: dict[str, int]
    level: int
    tool: str
    zstd: str
    parent: str = ""

    def encode(self) -> bytes:
        """Return the canonical JSON bytes."""
        value: dict[str, Any] = {
            "format": FORMAT_VERSION,
            "chunking": {"average_bytes": self.chunking.average_bytes, "rule": 1},
            "index": {"digest": self.index_digest, "bytes": self.index_bytes},
            "tree": self.tree,
            "totals": self.totals,
            "level": self.level,
            "tool": self.tool,
            "zstd": self.zstd,
        }
        if self.parent:
            value["parent"] = self.parent
        return canonical_json(value)

    @classmethod
    def decode(cls, data: bytes, what: str) -> Config:
        """Parse a config from a stranger.

        Raises:
            UnsupportedVersion: a later format.
            FormatError: anything else that is not as docs/format.md says.
        """
        value = load_json(data, what)
        if value.get("format") != FORMAT_VERSION:
            raise UnsupportedVersion(
                f"{what} has format {value.get('format')!r}, this reader knows {FORMAT_VERSION}"
            )
        try:
            chunking, index, totals = value["chunking"], value["index"], value["totals"]
            if chunking["rule"] != 1:
                raise UnsupportedVersion(f"{what} has chunking rule {chunking['rule']!r}")
            config = cls(
                ChunkParams(chunking["average_bytes"]),
                index["digest"],
                index["bytes"],
                value["tree"],
                totals,
                value["level"],
                value["tool"],
                value["zstd"],
                value.get("parent", ""),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(what, f"a field is missing or of the wrong type: {error}") from None
        texts = (config.index_digest, config.tree, config.tool, config.zstd, config.parent)
        numbers = (config.index_bytes, config.level, *totals.values())
        if not all(isinstance(text, str) for text in texts) or not all(
            type(number) is int and number >= 0 for number in numbers
        ):
            raise FormatError(what, "a field is of the wrong type")
        return config


def load_version(store: Store, reference: str) -> Version:
    """Return the version a tag or digest names; its index is read when first used.

    Raises:
        NotFound: there is no such tag, manifest or config.
        UnsupportedVersion: a manifest of another tool or a later format.
        IntegrityError: manifest or config are damaged.
    """
    descriptor, data = store.get_manifest(reference)
    manifest = Manifest.decode(data, f"manifest {descriptor.digest}")
    config = read_blob(store, manifest.config, MAX_MANIFEST_BYTES)
    return Version(
        store,
        descriptor,
        manifest,
        data,
        Config.decode(config, f"config {manifest.config.digest}"),
    )


def read_index(store: Store, manifest: Manifest, config: Config) -> bytes:
    """Return the plaintext of a version's index: the full layer, then each patch on it.

    Raises:
        NotFound: an index layer is missing.
        IntegrityError: one is damaged, or the result is not what the config says.
    """
    layers = manifest.index_layers
    if len(layers) > READ_PATCHES:
        raise FormatError("manifest", f"{len(layers)} index layers, the limit is {READ_PATCHES}")
    plain = b""
    for layer in layers:
        what = f"index layer {layer.digest}"
        data = read_blob(store, layer, MAX_INDEX_BYTES)
        size = codec.content_size(data, MAX_INDEX_BYTES, what)
        plain = codec.decompress(data, size, what, plain)
    actual = "blake3:" + blake3.blake3(plain).hexdigest()
    if actual != config.index_digest:
        raise DigestMismatch("index", config.index_digest, actual)
    return plain


def encode_index(plain: bytes, base: Version | None) -> tuple[bytes, tuple[Descriptor, ...]]:
    """Return the blob of a new index layer, and the base's index layers to list before it.

    A patch on the base's index, unless the chain would exceed MAX_PATCHES, or the patches outgrow
    both the index written in full and a twentieth of the data.
    """

    def full() -> bytes:
        return codec.compress(plain, index_level(len(plain)))

    if base is None or len(base.manifest.index_layers) > MAX_PATCHES:
        return full(), ()
    chain = base.manifest.index_layers
    old = base.index_bytes
    patch = codec.compress(plain, index_level(len(plain) + len(old)), prefix=old)
    # What the patches add to a fresh pull: nothing to speak of beside the data, or the full index.
    patches = sum(layer.size for layer in chain[1:]) + len(patch)
    data = sum(layer.size for layer in base.manifest.data_layers)
    if patches > data // 20 and patches > len(whole := full()):
        return whole, ()
    return patch, chain


def index_level(plain_bytes: int) -> int:
    """Return the zstd level for an index: the strongest that stays under about 0.1 s."""
    return 19 if plain_bytes <= 256 << 10 else 12 if plain_bytes <= 4 << 20 else 6


def family(tag: str) -> str:
    """Return what tags of successive versions of one application have in common.

    The part before the tag's colon (``app:1.4.2`` -> ``app``), or a directory's or archive's
    name without its version (``app-1.4.2`` -> ``app``).
    """
    name, colon, _ = tag.rpartition(":")
    if colon:
        return name
    match = _LABEL.match(_ARCHIVE.sub("", tag))
    return match["name"] if match and match["name"] else tag


def version_label(tag: str) -> str:
    """Return the part of a tag that `family` leaves out, without the character between them."""
    return _ARCHIVE.sub("", tag)[len(family(tag)) :].lstrip("-_.:")


def newest_first(store: Tags, name: str) -> Iterator[tuple[str, Descriptor]]:
    """Yield the tags of a family, the one tagged last first."""
    found = [(tag, descriptor) for tag, descriptor in store.tags() if family(tag) == name]
    yield from reversed(found)


def find_base(store: Store, tag: str) -> Version | None:
    """Return the newest version of `tag`'s family whose blobs are all in `store`."""
    if not isinstance(store, Tags):
        return None
    for name, _ in newest_first(store, family(tag)):
        try:
            version = load_version(store, name)
        except (NotFound, UnsupportedVersion):
            continue  # another tool's artifact, or one whose blobs were collected
        if all(store.exists(layer) for layer in version.manifest.layers):
            return version
    return None
