"""Versions whose writer damaged the index, although their config names the right tree."""

from __future__ import annotations

import gzip
import io
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import blake3
import pytest

import packer
from packer.engine import zstd
from packer.format.index import Index
from packer.format.index_codec import encode_index
from packer.format.version import load_version
from packer.oci import CONFIG_TYPE, INDEX_TYPE, Descriptor, digest_of
from packer.stores.layout import LayoutStore
from tests.builders import noise

Damage = Callable[[Index], None]


def flip_digest(index: Index) -> None:
    digests = bytearray(index.chunk_digests)
    digests[5] ^= 1
    index.chunk_digests = digests


def rename(index: Index) -> None:
    index.paths = [path.replace(b"a.bin", b"b.bin") for path in index.paths]


def make_executable(index: Index) -> None:
    index.modes[list(index.paths).index(b"a.bin")] |= 0o111


def retarget(index: Index) -> None:
    index.targets = [b"t.tgz"]


def change_opened(index: Index) -> None:
    (entry,) = index.expansions
    row = index.expansions[entry]
    index.expansions[entry] = row._replace(digest=bytes(16))


DAMAGES = [flip_digest, rename, make_executable, retarget, change_opened]


def damage(store: LayoutStore, tag: str, how: Damage) -> str:
    """Replace a version by one with a damaged index; return its digest."""
    version = load_version(store, tag)
    index = version.index
    how(index)
    plain = encode_index(index)
    config = version.config._replace(
        index_digest="blake3:" + blake3.blake3(plain).hexdigest(), index_bytes=len(plain)
    )

    def put(data: bytes, media_type: str) -> Descriptor:
        blob = Descriptor(media_type, digest_of(data), len(data))
        store.push(blob, io.BytesIO(data))
        return blob

    layers = [*version.manifest.data_layers, put(zstd.compress(plain, 3), INDEX_TYPE)]
    manifest = replace(
        version.manifest, config=put(config.encode(), CONFIG_TYPE), layers=tuple(layers)
    )
    return store.put_manifest(manifest.encode(), version.descriptor.media_type, tag).digest


@pytest.fixture
def app(tmp_path: Path) -> Path:
    root = tmp_path / "app"
    root.mkdir()
    (root / "a.bin").write_bytes(noise("a", 300_000))
    (root / "link").symlink_to("a.bin")
    (root / "t.tgz").write_bytes(gzip.compress(b"plain text " * 9000, 6))
    return root


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_index_is_no_base(
    app: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, how: Damage, cache: bool
) -> None:
    store = LayoutStore(tmp_path / "store")
    good = packer.pack(app, tag="app:1", store=store, opening="all")
    assert packer.pack(app, tag="app:2", store=store, opening="all", cache=cache).unchanged
    for tag in ("app:1", "app:2"):
        bad = damage(store, tag, how)
    with pytest.raises(packer.IntegrityError):
        packer.verify("app:2", store=store)
    with caplog.at_level(logging.WARNING):
        packed = packer.pack(app, tag="app:3", store=store, opening="all", cache=cache)
    assert not packed.unchanged
    assert packed.digest not in (bad, good.digest)
    assert "is damaged, so nothing is packed on it" in caplog.text
    packer.verify("app:3", store=store)
    packer.unpack("app:3", tmp_path / "out", store=store)
    assert (tmp_path / "out/a.bin").read_bytes() == (app / "a.bin").read_bytes()
    assert (
        packer.pack(app, tag="app:4", store=store, opening="all", cache=cache).digest
        == packed.digest
    )
