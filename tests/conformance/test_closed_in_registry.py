"""Archives that stayed closed, told of a version in a registry: few requests, few bytes."""

from __future__ import annotations

import gzip
import lzma
import random
from pathlib import Path

import pytest

import packer
from packer.format import archive_heads
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
