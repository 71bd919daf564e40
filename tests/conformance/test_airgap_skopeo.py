"""OCI archives beside skopeo: each reads what the other wrote."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import packer
from packer.oci import MANIFEST_TYPE, digest_of
from packer.stores.layout import LayoutStore
from packer.stores.memory import MemoryStore
from packer.stores.registry.store import RegistryStore
from tests.artifacts import make
from tests.conformance.gap import Gap, in_archive, near, same_trees
from tests.registry_server import need_program

pytestmark = pytest.mark.registry


def skopeo(*arguments: str) -> bytes:
    command = [need_program("skopeo"), "--insecure-policy", *arguments]
    return subprocess.run(command, check=True, capture_output=True).stdout


def test_skopeo_reads_our_archives(gap: Gap, tmp_path: Path) -> None:
    ours = f"oci-archive:{tmp_path}/ours.tar:app:1.4.2"
    packer.copy(near(gap, "1.4.2"), ours, store=MemoryStore())
    manifest = RegistryStore(near(gap, "1.4.2")).get_manifest("1.4.2")[1]
    assert skopeo("inspect", "--raw", ours) == manifest
    skopeo("copy", ours, f"dir:{tmp_path}/dir")
    assert (tmp_path / "dir" / "manifest.json").read_bytes() == manifest
    for digest in gap.blobs["1.4.2"]:
        assert digest_of((tmp_path / "dir" / digest[7:]).read_bytes()) == digest
    skopeo("copy", "--dest-tls-verify=false", ours, f"docker://{gap.far.host}/by-skopeo:1")
    packer.pull(f"{gap.far.host}/by-skopeo:1", tmp_path / "out", store=MemoryStore())
    assert same_trees(tmp_path / "out", gap.trees["1.4.2"])


@pytest.mark.parametrize("tag", ["", ":app:1.4.2"])
def test_we_read_archives_of_skopeo(gap: Gap, tmp_path: Path, tag: str) -> None:
    theirs = f"oci-archive:{tmp_path}/theirs.tar{tag}"
    skopeo("copy", "--src-tls-verify=false", f"docker://{near(gap, '1.4.2')}", theirs)
    assert packer.verify(theirs, store=MemoryStore()).digest == gap.digests["1.4.2"]
    packer.pull(f"oci-archive:{tmp_path}/theirs.tar", tmp_path / "out", store=MemoryStore())
    assert same_trees(tmp_path / "out", gap.trees["1.4.2"])
    # And add to them; skopeo reads that, too.
    added = f"oci-archive:{tmp_path}/theirs.tar:app:1.4.1"
    packer.copy(near(gap, "1.4.1"), added, store=MemoryStore())
    first, second = (
        RegistryStore(near(gap, name)).get_manifest(name)[1] for name in ("1.4.1", "1.4.2")
    )
    assert skopeo("inspect", "--raw", added) == first
    if tag:
        assert skopeo("inspect", "--raw", theirs) == second


def test_artifacts_of_other_tools(tmp_path: Path) -> None:
    # Whatever names a config and layers travels, and may leave blobs out.
    source = MemoryStore()
    make(source, [5, 700], "v1")
    make(source, [5, 700, 900], "v2")
    packer.copy("v1", f"oci-archive:{tmp_path}/a.tar", store=source)
    skopeo("copy", f"oci-archive:{tmp_path}/a.tar:v1", f"oci:{tmp_path}/layout:v1")
    packer.copy("v2", f"oci-archive:{tmp_path}/b.tar", store=source, have=["v1"])
    assert len(in_archive(tmp_path / "b.tar")) == 2
    packer.copy(f"oci-archive:{tmp_path}/b.tar", f"oci:{tmp_path}/layout:v2", store=MemoryStore())
    found = LayoutStore(tmp_path / "layout").get_manifest("v2")
    assert found == source.get_manifest("v2")
    assert found[0].media_type == MANIFEST_TYPE
