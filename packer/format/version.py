"""A version in a store: its manifest, config and index, checked against each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from packer.engine.chunking import ChunkParams
from packer.errors import FormatError, NotFound, UnsupportedVersion
from packer.format.damage import touched_by_index
from packer.format.index import Index
from packer.format.index_codec import decode_index
from packer.format.index_layers import Plain, read_index
from packer.oci import (
    FORMAT_VERSION,
    MAX_MANIFEST_BYTES,
    Descriptor,
    Manifest,
    canonical_json,
    is_digest,
    load_json,
)
from packer.stores.protocols import LocalBlobs, Store, read_blob

CREATED = "org.opencontainers.image.created"
"""Annotation of a manifest: the time of packing, as in RFC 3339 (image-spec, annotations.md)."""
TITLE = "org.opencontainers.image.title"
"""Annotation of a manifest: the tag that the version was packed under."""
VERSION = "org.opencontainers.image.version"
"""Annotation of a manifest: the part of the tag that says which version it is."""

KEPT_INDEX_BYTES = 8 << 20
"""Greatest index in bytes that is kept beside its columns, which take as much memory again."""


@dataclass(frozen=True)
class Version:
    """One version in a store.

    Args:
        store: the store that holds it.
        descriptor: the manifest's descriptor.
        manifest: decoded and checked.
        manifest_bytes: the manifest as it is stored.
        config: decoded and checked.
        reference: tag or digest that it was found by, for messages; "" if it was made just now.
    """

    store: Store
    descriptor: Descriptor
    manifest: Manifest
    manifest_bytes: bytes
    config: Config
    reference: str = field(default="", compare=False)
    _kept: list[Plain] = field(default_factory=list, init=False, repr=False, compare=False)

    @property
    def name(self) -> str:
        """The version's name in errors: its tag, in a registry with the repository."""
        name = self.reference or self.descriptor.digest
        if isinstance(self.store, LocalBlobs):
            return name
        return self.store.name + ("@" if is_digest(name) else ":") + name

    def read_index(self, layers: int | None = None) -> Plain:
        """Return the index's plaintext, and the bytes that it takes in each index layer.

        A large index is read from the store again at each call. A damaged layer raises
        `IntegrityError`.

        Args:
            layers: number of index layers to read, for the older index that they hold; None for
                all.

        Returns:
            plaintext, and bytes.

        Raises:
            NotFound: a layer is missing; the error says which versions need it.
        """
        chain = self.manifest.index_layers
        if layers is not None and layers < len(chain):
            return read_index(self.store, chain[:layers], None)
        if self._kept:
            return self._kept[0]
        try:
            read = read_index(self.store, chain, self.config.index_digest)
        except NotFound as error:
            error.touched = touched_by_index(error.name, self.store)
            raise
        if len(read[0]) <= KEPT_INDEX_BYTES:
            self._kept.append(read)
        return read

    def forget_index(self) -> None:
        """Free the columns of `index`; they are read again on the next use."""
        self.__dict__.pop("index", None)

    @cached_property
    def index(self) -> Index:
        """The index, verified and checked against the manifest's layers.

        Raises:
            FormatError: index and manifest contradict each other.
            UnsupportedVersion: a later version of layer-packer wrote it; the error says which.
        """
        what = f"index of {self.descriptor.digest}"
        try:
            index = decode_index(self.read_index()[0], what)
        except UnsupportedVersion as error:
            raise UnsupportedVersion(f"{error}{_what_reads_it(self.config.tool)}") from None
        listed, used = self.manifest.data_layers, index.layer_sizes
        if len(listed) != len(used):
            raise FormatError(what, f"{len(used)} data layers, the manifest has {len(listed)}")
        for layer, size in zip(listed, used, strict=True):
            if layer.size < size:
                raise FormatError(what, f"frames of {size} bytes in layer {layer.digest}")
        return index


class Config(NamedTuple):
    """The config blob: a summary that people read with curl, and the digest of the index.

    Args:
        chunking: the parameters that the chunks were cut with.
        index_digest: ``blake3:<hex>`` of the index's plaintext.
        index_bytes: length of that plaintext.
        tree: the tree digest, `Index.tree_digest`.
        totals: counts of the tree: files, directories, symlinks, bytes, chunks.
        level: zstd level of the new frames.
        tool: name and version of the writer.
        zstd: zstd version of the writer.
    """

    chunking: ChunkParams
    index_digest: str
    index_bytes: int
    tree: str
    totals: dict[str, int]
    level: int
    tool: str
    zstd: str

    def encode(self) -> bytes:
        """Return the canonical JSON bytes."""
        return canonical_json(
            {
                "format": FORMAT_VERSION,
                "chunking": {"average_bytes": self.chunking.average_bytes, "rule": 1},
                "index": {"digest": self.index_digest, "bytes": self.index_bytes},
                "tree": self.tree,
                "totals": self.totals,
                "level": self.level,
                "tool": self.tool,
                "zstd": self.zstd,
            }
        )

    @classmethod
    def decode(cls, data: bytes, what: str) -> Config:
        """Parse a config that a stranger wrote.

        Args:
            data: the blob.
            what: the config's name in errors.

        Returns:
            the config; every field has the right type.

        Raises:
            UnsupportedVersion: a later format, or another chunking rule.
            FormatError: any other breach of docs/format.md.
        """
        value = load_json(data, what)
        if value.get("format") != FORMAT_VERSION:
            raise UnsupportedVersion(
                f"{what} has format {value.get('format')!r}, this reader knows {FORMAT_VERSION}"
                + _what_reads_it(value.get("tool"))
            )
        try:
            chunking, index, totals = value["chunking"], value["index"], value["totals"]
            if not isinstance(totals, dict):
                raise FormatError(what, "totals is no object")
            if chunking["rule"] != 1:
                raise UnsupportedVersion(
                    f"{what} has chunking rule {chunking['rule']!r}, unknown to this reader"
                    + _what_reads_it(value.get("tool"))
                )
            config = cls(
                chunking=ChunkParams(chunking["average_bytes"]),
                index_digest=index["digest"],
                index_bytes=index["bytes"],
                tree=value["tree"],
                totals=totals,
                level=value["level"],
                tool=value["tool"],
                zstd=value["zstd"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(what, f"a field is missing or of the wrong type: {error}") from None
        texts = (config.index_digest, config.tree, config.tool, config.zstd)
        numbers = (config.index_bytes, config.level, *totals.values())
        if not all(isinstance(text, str) for text in texts) or not all(
            type(number) is int and number >= 0 for number in numbers
        ):
            raise FormatError(what, "a field is of the wrong type")
        return config


def _what_reads_it(tool: object) -> str:
    """Return the end of an error: which version to install, if a sound config names its writer."""
    name, _, version = tool.partition(" ") if isinstance(tool, str) else ("", "", "")
    known = name == "layer-packer" and 0 < len(version) <= 32 and version.isascii()
    if not known or not version.replace(".", "").isalnum():
        return ""
    return f"; layer-packer {version} wrote it: use that or a later one"


def load_version(store: Store, reference: str) -> Version:
    """Return the version that a tag or digest names; its index is read when it is first used.

    A missing tag, manifest or config raises `NotFound`, a manifest of another tool or of a later
    format `UnsupportedVersion`, a damaged manifest or config `IntegrityError`.

    Args:
        store: the store that holds the version.
        reference: a tag, or ``sha256:<hex>``.

    Returns:
        the version, its manifest and config checked.
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
        reference,
    )
