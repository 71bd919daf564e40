"""A version in a store: manifest, config and index, checked against each other; and families."""

from __future__ import annotations

import logging
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import blake3

from packer.engine import delta, zstd
from packer.engine.chunking import ChunkParams
from packer.errors import (
    DigestMismatch,
    FormatError,
    IntegrityError,
    NotFound,
    UnsupportedVersion,
)
from packer.format.index import MAX_INDEX_BYTES, Index
from packer.oci import (
    FORMAT_VERSION,
    MAX_MANIFEST_BYTES,
    UPDATE_TYPE,
    Descriptor,
    Manifest,
    canonical_json,
    load_json,
)
from packer.stores.protocols import Store, Tags, read_blob

_LOG = logging.getLogger(__name__)

CREATED = "org.opencontainers.image.created"
TITLE = "org.opencontainers.image.title"
VERSION = "org.opencontainers.image.version"

MAX_PATCHES = 32
"""Index layers behind the full one before the index is written in full again."""
FIRST_INDEX_LEVEL, SMALL_INDEX_BYTES = 15, 16 << 10
"""Of the index of a version without a base, unless it is small: 19 takes three times as long for
half a per cent."""
READ_PATCHES = 64
"""Index layers a reader is willing to apply."""

UPDATE_BYTES = 64 << 10
"""A data layer and an index layer that take no more together become one update layer."""
READ_UPDATE_BYTES = 1 << 20
"""Largest update layer a reader is willing to read for its index."""
UPDATE_TAIL = struct.Struct("<I")
"""Length of the index part, the last bytes of an update layer."""

DELTA_INDEX_BYTES = 192 << 10
"""A patch on a larger index is a delta frame, one on a smaller index a zstd frame with a prefix."""
KEPT_INDEX_BYTES = 8 << 20
"""A larger index is not kept beside its columns, which take as much memory."""

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
    _kept: list[tuple[bytes | bytearray, list[int]]] = field(
        default_factory=list, init=False, repr=False, compare=False
    )

    def read_index(self) -> tuple[bytes | bytearray, list[int]]:
        """Return what `read_index` does; read again each time if it is large."""
        if self._kept:
            return self._kept[0]
        read = read_index(self.store, self.manifest, self.config)
        if len(read[0]) <= KEPT_INDEX_BYTES:
            self._kept.append(read)
        return read

    def forget_index(self) -> None:
        """Give back the memory of `index`, which is read again when it is used again."""
        self.__dict__.pop("index", None)

    @cached_property
    def index(self) -> Index:
        """The index, verified and checked against the manifest's layers."""
        what = f"index of {self.descriptor.digest}"
        index = Index.decode(self.read_index()[0], what)
        listed, used = self.manifest.data_layers, index.layer_sizes
        if len(listed) != len(used):
            raise FormatError(what, f"{len(used)} data layers, the manifest has {len(listed)}")
        for layer, size in zip(listed, used, strict=True):
            if layer.size < size:
                raise FormatError(what, f"frames of {size} bytes in layer {layer.digest}")
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


def read_index(
    store: Store, manifest: Manifest, config: Config
) -> tuple[bytes | bytearray, list[int]]:
    """Return the plaintext of a version's index, and how many bytes it takes in each layer.

    The first layer has it in full, each other one a patch on that.

    Raises:
        NotFound: an index layer is missing.
        IntegrityError: one is damaged, or the result is not what the config says.
    """
    layers = manifest.index_layers
    if len(layers) > READ_PATCHES:
        raise FormatError("manifest", f"{len(layers)} index layers, the limit is {READ_PATCHES}")
    plain: bytes | bytearray = b""
    parts: list[int] = []
    for layer in layers:
        what = f"index layer {layer.digest}"
        if layer.media_type == UPDATE_TYPE:
            data = _index_of_update(read_blob(store, layer, READ_UPDATE_BYTES), what)
        else:
            data = read_blob(store, layer, MAX_INDEX_BYTES)
        parts.append(len(data))
        if len(plain) > DELTA_INDEX_BYTES:
            size, start = zstd.read_number(data, what)
            plain = delta.decode(data[start:], size, what, plain)
        else:
            size = zstd.content_size(data, MAX_INDEX_BYTES, what)
            plain = zstd.decompress(data, size, what, plain)
    actual = "blake3:" + blake3.blake3(plain).hexdigest()
    if actual != config.index_digest:
        raise DigestMismatch("index", config.index_digest, actual)
    return plain, parts


def _index_of_update(data: bytes, what: str) -> bytes:
    """Return the index part of an update layer."""
    end = len(data) - UPDATE_TAIL.size
    if end >= 0:
        (length,) = UPDATE_TAIL.unpack_from(data, end)
        if length <= end:
            return data[end - length : end]
    raise FormatError(what, "an update layer whose index is cut off")


def encode_index(
    plain: bytes, base: Version | None, data_bytes: int, *, keep: bool = True
) -> tuple[bytes, tuple[Descriptor, ...]]:
    """Return a new index part, and the base's index layers to list before it.

    A patch on the base's index, unless the chain would exceed MAX_PATCHES, or the patches outgrow
    both the index written in full and a twentieth of the data.

    Args:
        plain: the index.
        base: what the version was packed on.
        data_bytes: of the base's data layers.
        keep: False if some of the base's index layers will not be listed.
    """

    def full() -> bytes:
        return zstd.compress(plain, index_level(len(plain)))

    if base is None and len(plain) > SMALL_INDEX_BYTES:  # nothing beside all the data
        return zstd.compress(plain, min(index_level(len(plain)), FIRST_INDEX_LEVEL)), ()
    if base is None or not keep or len(base.manifest.index_layers) > MAX_PATCHES:
        return full(), ()
    chain = base.manifest.index_layers
    old, parts = base.read_index()
    before, level = len(old), index_level(len(plain) + len(old))
    if before > DELTA_INDEX_BYTES:
        buffer = bytearray(old)
        del old
        buffer += plain
        frame = delta.encode(buffer, before, level)
        assert frame is not None
        patch = zstd.number(len(plain)) + frame
    else:
        patch = zstd.compress(plain, level, prefix=old)
    # What the patches add to a fresh pull: nothing to speak of beside the data, or the full index.
    patches = sum(parts[1:]) + len(patch)
    if patches > data_bytes // 20 and patches > len(whole := full()):
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
        except IntegrityError as error:
            _LOG.warning(
                "%s in %s is damaged, so nothing is packed on it: %s", name, store.name, error
            )
            continue
        if all(store.exists(layer) for layer in version.manifest.layers):
            return version
    return None
