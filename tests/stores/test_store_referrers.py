"""What every store must do with manifests that refer to others."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING

import pytest

from packer.errors import FormatError
from packer.oci import (
    INDEX_MANIFEST_TYPE,
    MANIFEST_TYPE,
    Descriptor,
    canonical_json,
    digest_of,
)
from packer.stores.referrers import all_referrers, direct_referrers
from packer.stores.subjects import EMPTY, EMPTY_BYTES, fallback_tag
from tests.referrers import attach, encode_artifact

if TYPE_CHECKING:
    from tests.stores.conftest import Harness

SBOM = "application/spdx+json"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"


def digests(found: tuple[Descriptor, ...]) -> set[str]:
    return {one.digest for one in found}


def test_nothing_refers(harness: Harness) -> None:
    version = harness.put("version", "app-1")
    assert harness.store.referrers(version.digest) == ()
    assert harness.store.referrers(digest_of(b"not there")) == ()
    assert all_referrers(harness.store, version.digest) == ()


def test_referrers_are_listed(harness: Harness) -> None:
    version = harness.put("version", "app-1")
    sbom = attach(harness.store, version, SBOM, [(SBOM, b'{"spdx":1}')], {"made.by": "test"})
    bundle = attach(harness.store, version, BUNDLE, [(BUNDLE, b'{"bundle":1}')])
    other = attach(harness.store, sbom, BUNDLE, [(BUNDLE, b'{"bundle":2}')])
    for store in (harness.store, harness.open()):
        listed = {one.digest: one for one in store.referrers(version.digest)}
        assert listed.keys() == {sbom.digest, bundle.digest}
        assert listed[sbom.digest].artifact_type == SBOM
        assert listed[sbom.digest].annotations == {"made.by": "test"}
        assert listed[sbom.digest].size == sbom.size
        assert listed[sbom.digest].media_type == MANIFEST_TYPE
        assert digests(store.referrers(sbom.digest)) == {other.digest}
        found = all_referrers(store, version.digest)
        assert [one.subject for one in found] == [version.digest, version.digest, sbom.digest]
        assert {one.descriptor.digest for one in found} == {
            sbom.digest,
            bundle.digest,
            other.digest,
        }
        assert found[0].blobs[0] == EMPTY


def test_putting_again_changes_nothing(harness: Harness) -> None:
    version = harness.put("version", "app-1")
    first = attach(harness.store, version, SBOM, [(SBOM, b"{}")])
    assert attach(harness.store, version, SBOM, [(SBOM, b"{}")]) == first
    assert [one.digest for one in harness.store.referrers(version.digest)] == [first.digest]


def test_config_tells_the_type(harness: Harness) -> None:
    """notation's signatures of image-spec 1.0 have no artifactType: their config tells."""
    version = harness.put("version", "app-1")
    kind = "application/vnd.cncf.notary.signature"
    config = harness.push(EMPTY_BYTES, kind)
    value = json.loads(encode_artifact("", version, [harness.push(b"jws", "application/jose")]))
    del value["artifactType"]
    value["config"] = config.to_json()
    harness.store.put_manifest(canonical_json(value), MANIFEST_TYPE)
    (found,) = harness.store.referrers(version.digest)
    assert found.artifact_type == kind


def test_tags_stay_versions(harness: Harness) -> None:
    version = harness.put("version", "app-1")
    attach(harness.store, version, SBOM)
    assert "app-1" in {name for name, _ in harness.tagged.tags()}
    assert harness.store.resolve("app-1").digest == version.digest


def test_cosign_tags(harness: Harness) -> None:
    version = harness.put("version", "app-1")
    signature = harness.put("signature", fallback_tag(version.digest) + ".sig")
    assert harness.store.referrers(version.digest) == ()
    (found,) = direct_referrers(harness.store, version.digest)
    assert found.descriptor.digest == signature.digest
    assert found.tag == fallback_tag(version.digest) + ".sig"


def test_list_that_lies(harness: Harness) -> None:
    """A list under the referrers tag may name what refers to something else, or go in a circle."""
    first = harness.put("first", "app-1")
    second = harness.put("second", "app-2")
    for one, other in ((first, second), (second, first)):
        index = {
            "schemaVersion": 2,
            "mediaType": INDEX_MANIFEST_TYPE,
            "manifests": [other.to_json()],
        }
        harness.store.put_manifest(
            canonical_json(index), INDEX_MANIFEST_TYPE, fallback_tag(one.digest)
        )
    if not harness.store.referrers(first.digest):
        pytest.skip("memory lists what has a subject, and nothing else")
    with pytest.raises(FormatError, match="is none"):
        all_referrers(harness.store, first.digest)


def test_writers_at_once(harness: Harness) -> None:
    version = harness.put("version", "app-1")
    harness.push(EMPTY_BYTES, EMPTY.media_type)
    manifests = [encode_artifact(SBOM, version, (), {"number": str(n)}) for n in range(6)]
    threads = [
        threading.Thread(target=harness.store.put_manifest, args=(data, MANIFEST_TYPE))
        for data in manifests
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert digests(harness.store.referrers(version.digest)) == set(map(digest_of, manifests))


def test_subject_comes_later(harness: Harness) -> None:
    later = harness.manifest("later")
    version = Descriptor(MANIFEST_TYPE, digest_of(later), len(later))
    found = attach(harness.store, version, SBOM)
    assert digests(harness.store.referrers(version.digest)) == {found.digest}
    harness.store.put_manifest(later, MANIFEST_TYPE, "app-1")
    assert digests(harness.store.referrers(version.digest)) == {found.digest}
