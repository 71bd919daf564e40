"""Registries that ignore ranges: whole layers are fetched, once, and the host is remembered."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import packer
from packer.oci import Manifest
from packer.reference import Reference
from packer.stores.layout import LayoutStore
from packer.stores.registry.access import Access
from packer.stores.registry.features import MAX_ORIGINS, BrokenFeatures
from packer.stores.registry.transport.urls import origin_of
from tests.builders import noise
from tests.hostile import Exchange, HostileRegistry, hostile_registry


@pytest.mark.parametrize("status", [200, 416, 501])
def test_registry_without_ranges(
    app: Path, tmp_path: Path, server: HostileRegistry, status: int
) -> None:
    # Each layer is fetched once, whole and verified, however many files are read.
    store, name = str(tmp_path / "store"), f"{server.host}/app:1"
    packer.pack(app, store=store, tag="app:1")
    packer.push(name, "app:1", store=store)

    def whole(exchange: Exchange) -> bool:
        if "range" not in exchange.headers:
            return False
        if status != 200:
            exchange.reply(status, b"no")
        else:
            exchange.reply(200, server.blobs[exchange.path.rpartition("/")[2]])
        return True

    server.on("GET", "/blobs/", whole, times=None)
    server.seen.clear()
    packer.unpack(name, tmp_path / "out", store=str(tmp_path / "empty"))
    assert (tmp_path / "out" / "file3").read_bytes() == noise("file 3", 400_000)
    (layer,) = Manifest.decode(LayoutStore(store).get_manifest("app:1")[1]).data_layers
    asked = [item for item in server.seen if layer.digest in item.path]
    threads = os.cpu_count() or 1
    assert sum("range" not in item.headers for item in asked) <= 1 + threads
    assert sum("range" in item.headers for item in asked) <= threads
    # What comes whole is verified.
    server.blobs[layer.digest] = server.blobs[layer.digest][:-1] + b"\0"
    with pytest.raises(packer.IntegrityError):
        packer.unpack(name, tmp_path / "out2", store=str(tmp_path / "empty"))


@pytest.mark.parametrize("status", [200, 416, 501])
def test_ranges_are_tried_once_for_each_host(
    app: Path, tmp_path: Path, server: HostileRegistry, status: int
) -> None:
    # By a second repository, in a second call, of the same process not again.
    store = str(tmp_path / "store")
    packer.pack(app, store=store, tag="app:1")
    names = [f"{server.host}/{name}:1" for name in ("first/app", "second/app")]
    for name in names:
        packer.push(name, "app:1", store=store)

    def whole(exchange: Exchange) -> bool:
        if status == 200 or "range" not in exchange.headers:
            exchange.reply(200, server.blobs[exchange.path.rpartition("/")[2]])
        else:
            exchange.reply(status, b"no")
        return True

    def ranged(repository: str) -> int:
        return sum("range" in item.headers and repository in item.path for item in server.seen)

    server.on("GET", "/blobs/", whole, times=None)
    server.seen.clear()
    for name in names:
        content = b"".join(packer.cat(name, "file3", store=str(tmp_path / "empty")))
        assert content == noise("file 3", 400_000)
    assert ranged("first/app") == 1
    assert ranged("second/app") == 0
    # The doctor looks for itself, and another registry is another matter.
    assert packer.doctor(names[1]).works("ranges") == "no"
    assert ranged("second/app") == 1
    with hostile_registry() as other:
        packer.push(f"{other.host}/app:1", "app:1", store=store)
        other.seen.clear()
        b"".join(packer.cat(f"{other.host}/app:1", "file3", store=str(tmp_path / "empty")))
        assert any("range" in item.headers for item in other.seen)


def test_a_truncated_blob_says_nothing_about_ranges(
    app: Path, tmp_path: Path, server: HostileRegistry
) -> None:
    # 416 for a part beyond its end, and then less than the whole: a damaged blob, a sound registry.
    store, name = str(tmp_path / "store"), f"{server.host}/app:1"
    packed = packer.pack(app, store=store, tag="app:1")
    packer.push(name, "app:1", store=store)
    (layer,) = Manifest.decode(LayoutStore(store).get_manifest(packed.digest)[1]).data_layers
    data = server.blobs[layer.digest]
    server.blobs[layer.digest] = data[:1000]

    def beyond(exchange: Exchange) -> bool:
        if "range" in exchange.headers:
            exchange.reply(416)
        return "range" in exchange.headers

    server.on("GET", layer.digest, beyond, times=None)
    access = Access(None)
    with access.open(Reference.parse(name)) as repository:
        with pytest.raises(packer.IntegrityError):
            repository.fetch(layer, len(data) - 10, 10)
        assert not repository.ignores_ranges


def test_features_are_forgotten() -> None:
    near, far = origin_of("https://a.example"), origin_of("https://a.example:444")
    features = BrokenFeatures()
    features.record_ignored_range(near)
    assert (features.ignores_ranges(near), features.ignores_ranges(far)) == (True, False)
    for port in range(MAX_ORIGINS):
        features.record_ignored_range(origin_of(f"http://b.example:{port + 1}"))
    assert not features.ignores_ranges(near)
    short = BrokenFeatures(seconds=-1)
    short.record_ignored_range(near)
    assert not short.ignores_ranges(near)
