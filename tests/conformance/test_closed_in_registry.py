"""Archives that stayed closed, told of a version in a registry: few requests, few bytes."""

from __future__ import annotations

import gzip
import lzma
import random
from pathlib import Path

import pytest

import packer
from packer.format import archive_heads
from tests.hostile import Exchange, hostile_registry
from tests.registry_server import counting_proxy, run_registry

pytestmark = pytest.mark.registry


def write(root: Path) -> Path:
    """Make a tree of blobs named by digest, as an OCI layout has them."""
    root.mkdir()
    for at in range(12):
        data = gzip.compress(random.Random(at).randbytes(2_000_000), mtime=0)
        (root / f"{at:064x}").write_bytes(data)
    (root / f"{12:064x}").write_bytes(lzma.compress(random.Random(12).randbytes(2_000_000)))
    (root / "image.bin").write_bytes(random.Random(13).randbytes(2_000_000))
    return root


def test_few_bytes_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = tmp_path / "store"
    told = packer.pack(write(tmp_path / "app"), store=store, tag="app:1").closed
    assert {(row.kind, row.reason) for row in told} == {("gzip", "new"), ("xz", "format")}
    (tmp_path / "data").mkdir()
    with run_registry(tmp_path / "data") as server, counting_proxy(server.port) as proxy:
        packer.push(f"{proxy.host}/app:1", "app:1", store=store)
        proxy.clear()
        found = packer.inspect(f"{proxy.host}/app:1").closed
        assert set(found) == set(told)
        assert proxy.count() <= 20
        assert sum(proxy.answers) < 1_000_000
        proxy.clear()
        monkeypatch.setattr(archive_heads, "REMOTE_BYTES", 0)
        assert packer.inspect(f"{proxy.host}/app:1").closed == ()
        assert proxy.count() <= 6


def test_a_registry_without_ranges_is_asked_once(tmp_path: Path) -> None:
    store = tmp_path / "store"
    packer.pack(write(tmp_path / "app"), store=store, tag="app:1")
    with hostile_registry() as server:
        packer.push(f"{server.host}/app:1", "app:1", store=store)

        def whole(exchange: Exchange) -> bool:
            if "range" not in exchange.headers:
                return False
            exchange.reply(200, server.blobs[exchange.path.rpartition("/")[2]])
            return True

        server.on("GET", "/blobs/", whole, times=None)
        server.seen.clear()
        found = packer.inspect(f"{server.host}/app:1")
        large = {layer.digest for layer in found.layers if layer.size > 1 << 20}
        asked = [item.path.rpartition("/")[2] for item in server.seen]
        assert len(large) > 1
        assert sum(digest in large for digest in asked) == 1
