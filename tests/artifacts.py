"""Artifacts that stores and copies move: layers of noise under a manifest."""

from __future__ import annotations

import io
import json

from packer.oci import (
    CONFIG_TYPE,
    DATA_TYPE,
    INDEX_TYPE,
    MANIFEST_TYPE,
    Descriptor,
    Manifest,
    digest_of,
)
from packer.stores.memory import MemoryStore
from tests.builders import noise


def make(store: MemoryStore, sizes: list[int], tag: str | None = "v1") -> Descriptor:
    """Put an artifact of no tool in particular into `store`; equal sizes give equal layers."""

    def put(data: bytes) -> dict[str, object]:
        blob = Descriptor("application/x.any", digest_of(data), len(data))
        store.push(blob, io.BytesIO(data))
        return blob.to_json()

    value = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": put(b"{}"),
        "layers": [put(noise(f"layer {size}", size)) for size in sizes],
    }
    return store.put_manifest(json.dumps(value, indent=1).encode(), MANIFEST_TYPE, tag)


def make_version(store: MemoryStore, count: int = 8, size: int = 1 << 20) -> Descriptor:
    """Put an artifact in the shape of a version into `store`: data layers and an index."""

    def put(data: bytes, media_type: str) -> Descriptor:
        blob = Descriptor(media_type, digest_of(data), len(data))
        store.push(blob, io.BytesIO(data))
        return blob

    layers = [put(noise(f"layer {n}", size), DATA_TYPE) for n in range(count)]
    layers.append(put(noise("index", 700), INDEX_TYPE))
    manifest = Manifest(put(b'{"c":1}', CONFIG_TYPE), tuple(layers))
    return store.put_manifest(manifest.encode(), MANIFEST_TYPE, "v1")
