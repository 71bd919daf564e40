"""The end of packing: last layer, index, config and manifest are written, and the tag is set.

The order is an invariant: a manifest names only blobs that are durable, a tag only such a manifest.
"""

from __future__ import annotations

import time
from array import array
from dataclasses import replace
from typing import NamedTuple

import blake3

from packer.engine import zstd
from packer.format.closed_files import Closed
from packer.format.index_layers import (
    MAX_PATCHES,
    UPDATE_BYTES,
    UPDATE_TAIL,
    first_index,
    full_index,
    patch_or_full,
)
from packer.format.layer_writer import LayerWriter
from packer.format.usage import Use, uses
from packer.format.version import CREATED, TITLE, VERSION, Config, Version
from packer.oci import (
    CONFIG_TYPE,
    DATA_TYPE,
    INDEX_TYPE,
    MANIFEST_TYPE,
    PARENT,
    UPDATE_TYPE,
    Descriptor,
    Manifest,
)
from packer.packing.job import Packed, PackJob
from packer.packing.older.bases import version_label
from packer.stores.protocols import Ingest


class Table(NamedTuple):
    """A version that is complete but for the last layer and the documents.

    Args:
        plain: its index.
        tree: its tree digest.
        totals: counts for the config.
        parts: the cost of each part of the tree.
        closed: archives that stayed closed.
        closed_bytes: of all of them together.
        kept: ordinals of the base's data layers that stay.
        base_bytes: stored bytes of the base's data layers.
        writer: of the new layers; flushed.
        sketches: of the new chunks.
    """

    plain: bytes
    tree: str
    totals: dict[str, int]
    parts: tuple[Use, ...]
    closed: tuple[Closed, ...]
    closed_bytes: int
    kept: set[int]
    base_bytes: int
    writer: LayerWriter
    sketches: array[int]


def publish(job: PackJob, base: Version | None, table: Table) -> Packed:
    """Write a version's last blobs and its manifest, and tag it.

    Args:
        job: names the store and the tag.
        base: the version that it was packed on.
        table: the version.

    Returns:
        the result of packing.
    """
    layers, index_bytes, new_bytes = _write_index(job.store, base, table)
    config = Config(
        chunking=job.params,
        index_digest="blake3:" + blake3.blake3(table.plain).hexdigest(),
        index_bytes=len(table.plain),
        tree=table.tree,
        totals=table.totals,
        level=table.writer.level,
        tool=job.tool,
        zstd=zstd.zstd_version(),
    )
    config_blob, config_bytes = _put(job.store, config.encode(), CONFIG_TYPE)
    manifest = Manifest(config_blob, layers, _annotations(job, base))
    data = manifest.encode()
    descriptor = job.store.put_manifest(data, MANIFEST_TYPE, job.tag)
    return Packed(
        descriptor,
        job.tag,
        table.totals["files"],
        table.totals["bytes"],
        new_bytes=new_bytes + config_bytes + len(data),
        new_layers=len(table.writer.layers),
        layers=len(manifest.data_layers),
        unchanged=False,
        parent=manifest.parent,
        index_bytes=index_bytes,
        parts=table.parts,
        closed=table.closed,
        closed_bytes=table.closed_bytes,
    )


def reuse(job: PackJob, version: Version) -> Packed:
    """Tag a version that has the same tree already.

    Args:
        job: names the store and the tag.
        version: the version, which the store has.

    Returns:
        the result of packing, with nothing added.
    """
    descriptor = job.store.put_manifest(version.manifest_bytes, MANIFEST_TYPE, job.tag)
    layers = len(version.manifest.data_layers)
    return Packed(
        descriptor,
        job.tag,
        version.config.totals["files"],
        version.config.totals["bytes"],
        new_bytes=0,
        new_layers=0,
        layers=layers,
        unchanged=True,
        parent=version.manifest.parent,
        index_bytes=0,
        parts=uses(version.index, layers),
    )


def _annotations(job: PackJob, base: Version | None) -> dict[str, str]:
    """Return the manifest's annotations."""
    seconds = time.time() if job.created is None else job.created
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
    annotations = {CREATED: stamp, TITLE: job.tag}
    if label := version_label(job.tag):
        annotations[VERSION] = label
    if base is not None:
        annotations[PARENT] = base.descriptor.digest
    return annotations


def _write_index(
    store: Ingest, base: Version | None, table: Table
) -> tuple[tuple[Descriptor, ...], int, int]:
    """Write the last new layer and the index.

    Returns:
        all layers of the version; bytes that the index added; bytes that it and new layers added.
    """
    writer = table.writer
    old = base.manifest.data_layers if base is not None else ()
    gone = {layer.digest for at, layer in enumerate(old) if at not in table.kept}
    part, chain = _index_part(base, table)
    patched = {layer.digest for layer in chain}
    listed = []
    for layer in base.manifest.layers if base is not None else ():
        if layer.digest in patched:
            listed.append(layer)
        elif layer.media_type != INDEX_TYPE and layer.digest not in gone:
            listed.append(replace(layer, media_type=DATA_TYPE))  # its index part is not used again
    tail = part + UPDATE_TAIL.pack(len(part))
    if not writer.layers and 0 < writer.last_bytes <= UPDATE_BYTES - len(tail):
        writer.close(tail, UPDATE_TYPE)
        return (*listed, *writer.layers), len(tail) if writer.new_bytes else 0, writer.new_bytes
    writer.close()
    layer, index_bytes = _put(store, part, INDEX_TYPE)
    return (*listed, *writer.layers, layer), index_bytes, writer.new_bytes + index_bytes


def _index_part(base: Version | None, table: Table) -> tuple[bytes, tuple[Descriptor, ...]]:
    """Return the index as it is stored, and the base's index layers that it is a patch on."""
    if base is None:
        return first_index(table.plain), ()
    chain = _chain_to_patch(base.manifest, table.kept)
    if not chain or len(chain) > MAX_PATCHES:
        return full_index(table.plain), ()
    part, is_patch = patch_or_full(
        table.plain, lambda: base.read_index(len(chain)), table.base_bytes
    )
    return part, chain if is_patch else ()


def _chain_to_patch(manifest: Manifest, kept: set[int]) -> tuple[Descriptor, ...]:
    """Return the base's index layers that can stay; none if the index is better written in full.

    If the last data layers go, the index layers before them still hold an older index. If others
    go, most of the index changes with them.
    """
    chain = manifest.index_layers
    data = manifest.data_layers
    gone = [at for at in range(len(data)) if at not in kept]
    lost = {data[at].digest for at in gone} & {layer.digest for layer in chain}
    if not lost:
        return chain
    if gone[0] == 0 or gone != list(range(gone[0], len(data))):
        return ()
    first = manifest.layers.index(data[gone[0]])
    return tuple(layer for layer in manifest.layers[:first] if layer in chain)


def _put(store: Ingest, data: bytes, media_type: str) -> tuple[Descriptor, int]:
    """Store a small blob; return its descriptor and the bytes it added."""
    with store.create() as writer:
        writer.write(data)
        descriptor, is_new = writer.commit(media_type)
    return descriptor, descriptor.size if is_new else 0
