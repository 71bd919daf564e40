"""Garbage collection of a layout with manifests that refer to others, and other tools' layouts."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from packer.oci import INDEX_MANIFEST_TYPE, MANIFEST_TYPE, Descriptor, canonical_json
from packer.stores.layout import LayoutStore
from packer.stores.referrers import all_referrers
from packer.stores.subjects import fallback_tag
from tests.referrers import SPDX, attach, check_signed, put_blob, sign_all


@pytest.fixture
def layout(tmp_path: Path) -> LayoutStore:
    return LayoutStore(tmp_path / "layout")


def put_version(store: LayoutStore, text: str, tag: str) -> Descriptor:
    value = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": put_blob(store, "application/x.any", b'{"of":"all"}').to_json(),
        "layers": [put_blob(store, "application/x.any", text.encode()).to_json()],
    }
    return store.put_manifest(json.dumps(value).encode(), MANIFEST_TYPE, tag)


def blobs(layout: LayoutStore) -> set[str]:
    return set(layout.blob_sizes())


def entries(layout: LayoutStore) -> list[dict[str, object]]:
    found = json.loads(Path(layout.path, "index.json").read_bytes())["manifests"]
    assert isinstance(found, list)
    return found


def test_they_stay_with_what_they_refer_to(layout: LayoutStore) -> None:
    kept, gone = put_version(layout, "kept", "kept"), put_version(layout, "gone", "gone")
    before = blobs(layout)
    signed = sign_all(layout, kept)
    with_kept = blobs(layout)
    sign_all(layout, gone)
    everything = blobs(layout)
    assert layout.collect_garbage(0).blobs == 0
    assert blobs(layout) == everything
    layout.untag("gone")
    assert layout.collect_garbage(0, dry_run=True).blobs > 0
    assert len(entries(layout)) == 2 + 2 * 9 - 1
    layout.collect_garbage(0)
    left = with_kept - (before - layout.needed())
    assert blobs(layout) == left
    check_signed(layout, signed)
    assert len(entries(layout)) == 1 + 9
    assert all_referrers(layout, gone.digest) == ()
    # The last name of a version takes all with it.
    layout.untag("kept")
    layout.collect_garbage(0)
    assert (blobs(layout), entries(layout)) == (set(), [])


def test_a_further_name_keeps_them(layout: LayoutStore) -> None:
    version = put_version(layout, "version", "one")
    signed = sign_all(layout, version)
    _, data = layout.get_manifest("one")
    layout.put_manifest(data, MANIFEST_TYPE, "two")
    layout.untag("one")
    layout.collect_garbage(0)
    check_signed(layout, signed)


def test_young_ones_wait_for_their_subject(layout: LayoutStore, tmp_path: Path) -> None:
    version = put_version(LayoutStore(tmp_path / "elsewhere"), "version", "v1")
    signed = sign_all(layout, version)
    layout.collect_garbage(3600)
    check_signed(layout, signed)
    old = time.time() - 7200
    for digest in blobs(layout):
        os.utime(Path(layout.path, "blobs", "sha256", digest[7:]), (old, old))
    layout.collect_garbage(3600)
    assert (blobs(layout), entries(layout)) == (set(), [])


def test_a_tag_of_its_own_keeps_a_referrer(layout: LayoutStore) -> None:
    version = put_version(layout, "version", "v1")
    sbom = attach(layout, version, SPDX, [(SPDX, b"{}")])
    _, data = layout.get_manifest(sbom.digest)
    layout.put_manifest(data, MANIFEST_TYPE, "sbom-of-v1")
    layout.untag("v1")
    layout.collect_garbage(0)
    assert layout.resolve("sbom-of-v1").digest == sbom.digest
    assert layout.get_manifest(sbom.digest)[1] == data


def test_running_writers_keep_them(layout: LayoutStore) -> None:
    version = put_version(layout, "version", "v1")
    signed = sign_all(layout, version)
    with layout.in_use():
        layout.untag("v1")
        layout.collect_garbage(0)
        check_signed(layout, signed)
    layout.collect_garbage(0)
    assert blobs(layout) == set()


def test_lists_of_regclient(layout: LayoutStore) -> None:
    """regclient keeps the list of the referrers tag schema in layouts, too."""
    version = put_version(layout, "version", "v1")
    sbom = attach(layout, version, SPDX, [(SPDX, b"{}")])
    index = {
        "schemaVersion": 2,
        "mediaType": INDEX_MANIFEST_TYPE,
        "manifests": [{**sbom.to_json(), "artifactType": SPDX}],
    }
    layout.put_manifest(canonical_json(index), INDEX_MANIFEST_TYPE, fallback_tag(version.digest))
    value = json.loads(Path(layout.path, "index.json").read_bytes())
    value["manifests"] = [item for item in value["manifests"] if item["digest"] != sbom.digest]
    Path(layout.path, "index.json").write_text(json.dumps(value))
    fresh = LayoutStore(layout.path)
    (found,) = fresh.referrers(version.digest)
    assert (found.digest, found.artifact_type) == (sbom.digest, SPDX)
    fresh.collect_garbage(0)
    assert [one.descriptor.digest for one in all_referrers(fresh, version.digest)] == [sbom.digest]
    fresh.untag("v1")
    fresh.collect_garbage(0)
    assert (blobs(fresh), entries(fresh)) == (set(), [])


def test_damaged_one_counts_as_missing(
    layout: LayoutStore, caplog: pytest.LogCaptureFixture
) -> None:
    version = put_version(layout, "version", "v1")
    sbom = attach(layout, version, SPDX, [(SPDX, b"{}")])
    path = Path(layout.path, "blobs", "sha256", sbom.digest[7:])
    data = path.read_bytes()
    path.write_bytes(bytes(len(data)))
    fresh = LayoutStore(layout.path)
    assert fresh.referrers(version.digest) == ()
    assert sbom.digest in caplog.text
    fresh.put_manifest(data, MANIFEST_TYPE)
    assert [one.digest for one in fresh.referrers(version.digest)] == [sbom.digest]
