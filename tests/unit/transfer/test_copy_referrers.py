"""What refers to a version goes along with it, between stores of every kind."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from packer.errors import FormatError, IntegrityError, NotFound
from packer.oci import INDEX_MANIFEST_TYPE, MANIFEST_TYPE, Descriptor, canonical_json
from packer.stores import referrers as module
from packer.stores import subjects
from packer.stores.archive.store import ArchiveStore
from packer.stores.layout import LayoutStore
from packer.stores.memory import MemoryStore
from packer.stores.protocols import Store
from packer.stores.referrers import all_referrers
from packer.stores.registry.store import RegistryStore
from packer.stores.subjects import EMPTY, fallback_tag
from packer.transfer.copy_cost import estimate_copy
from packer.transfer.copy_graph import copy
from packer.transfer.promises import Promise
from tests.referrers import (
    SPDX,
    attach,
    check_signed,
    cosign_signature,
    encode_artifact,
    put_blob,
    sign_all,
    sigstore_bundle,
)
from tests.registry_server import counting_proxy, run_registry

Opener = Callable[[Path], Store]
COUNT = 9
"""Manifests that `sign_all` puts."""


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with run_registry(tmp_path_factory.mktemp("registry")) as server:
        yield server.host


@pytest.fixture(
    params=["memory", "layout", "archive", pytest.param("registry", marks=pytest.mark.registry)]
)
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], Store]:
    """Return a function that opens an empty store of each kind in turn, by name."""
    memories: dict[str, MemoryStore] = {}

    def open_store(name: str) -> Store:
        if request.param == "memory":
            return memories.setdefault(name, MemoryStore())
        if request.param == "layout":
            return LayoutStore(tmp_path / name)
        if request.param == "archive":
            return ArchiveStore(tmp_path / f"{name}.tar")
        host = request.getfixturevalue("host")
        return RegistryStore(f"{host}/{tmp_path.name.replace('_', '-').lower()}/{name}")

    return open_store


def put_version(store: Store, text: str = "version", tag: str | None = "v1") -> Descriptor:
    """Put an artifact of no tool in particular."""
    value = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": put_blob(store, "application/x.any", b"{}").to_json(),
        "layers": [put_blob(store, "application/x.any", text.encode()).to_json()],
    }
    return store.put_manifest(json.dumps(value).encode(), MANIFEST_TYPE, tag)


def signed_source() -> tuple[MemoryStore, Descriptor]:
    source = MemoryStore()
    return source, put_version(source)


def test_all_kinds_go_along(opened: Callable[[str], Store]) -> None:
    source, version = signed_source()
    signed = sign_all(source, version)
    middle, end = opened("middle"), opened("end")
    done = copy(source, "v1", middle, "v1")
    assert (done.referrers_copied, done.referrers_present, done.unchanged) == (COUNT, 0, False)
    check_signed(opened("middle"), signed)
    done = copy(middle, "v1", end, "v1")
    assert done.referrers_copied == COUNT
    check_signed(end, signed)
    back = MemoryStore()
    assert copy(end, "v1", back, "v1").referrers_copied == COUNT
    check_signed(back, signed)


def test_second_copy_completes(opened: Callable[[str], Store]) -> None:
    source, version = signed_source()
    far = opened("far")
    assert copy(source, "v1", far, "v1").referrers_copied == 0
    signed = sign_all(source, version)
    done = copy(source, "v1", far, "v1")
    assert (done.referrers_copied, done.unchanged) == (COUNT, False)
    assert done.blobs_copied > 0
    check_signed(far, signed)
    done = copy(source, "v1", far, "v1")
    assert (done.referrers_copied, done.referrers_present) == (0, COUNT)
    assert (done.blobs_copied, done.unchanged) == (0, True)
    # One is lost, or was made since: it is brought, and no other.
    bundle = sigstore_bundle(source, version, "another")
    done = copy(source, "v1", far, "v1")
    assert (done.referrers_copied, done.referrers_present) == (1, COUNT)
    assert bundle.digest in {one.digest for one in far.referrers(version.digest)}


def test_what_the_far_side_has_stays(opened: Callable[[str], Store]) -> None:
    source, version = signed_source()
    far = opened("far")
    copy(source, "v1", far, "v1")
    theirs = sigstore_bundle(far, version, "made there")
    ours = sigstore_bundle(source, version, "made here")
    assert copy(source, "v1", far, "v1").referrers_copied == 1
    assert {one.digest for one in far.referrers(version.digest)} == {theirs.digest, ours.digest}


def test_left_out(opened: Callable[[str], Store]) -> None:
    source, version = signed_source()
    signed = sign_all(source, version)
    far = opened("far")
    done = copy(source, "v1", far, "v1", referrers=False)
    assert (done.referrers_copied, done.referrers_present) == (0, 0)
    assert far.referrers(version.digest) == ()
    for tag in signed.tags:
        with pytest.raises(NotFound):
            far.resolve(tag)


def test_cosign_tags_move_on(opened: Callable[[str], Store]) -> None:
    """cosign adds a signature by replacing what its tag names; none may get lost by a copy."""
    source, version = signed_source()
    first = cosign_signature(source, version, "one")
    far = opened("far")
    copy(source, "v1", far, "v1")
    both = cosign_signature(source, version, "one", "two")
    tag = fallback_tag(version.digest) + ".sig"
    assert copy(source, "v1", far, "v1").referrers_copied == 1
    assert far.resolve(tag).digest == both.digest != first.digest
    # The source falls behind: what is there has all of it.
    cosign_signature(source, version, "one")
    done = copy(source, "v1", far, "v1")
    assert (done.referrers_copied, done.referrers_present, done.referrers_kept) == (0, 1, 0)
    assert far.resolve(tag).digest == both.digest


def test_other_signatures_are_kept_and_told(
    opened: Callable[[str], Store], caplog: pytest.LogCaptureFixture
) -> None:
    source, version = signed_source()
    cosign_signature(source, version, "one")
    far = opened("far")
    copy(source, "v1", far, "v1", referrers=False)
    theirs = cosign_signature(far, version, "two")
    done = copy(source, "v1", far, "v1")
    assert (done.referrers_copied, done.referrers_kept) == (0, 1)
    assert far.resolve(fallback_tag(version.digest) + ".sig").digest == theirs.digest
    assert "other signatures" in caplog.text


def test_what_is_no_signature_is_kept(opened: Callable[[str], Store]) -> None:
    """An image index under cosign's tag has no layers, which is not to say that it has nothing."""
    source, version = signed_source()
    cosign_signature(source, version, "one")
    far = opened("far")
    copy(source, "v1", far, "v1", referrers=False)
    index = {
        "schemaVersion": 2,
        "mediaType": INDEX_MANIFEST_TYPE,
        "manifests": [version.to_json()],
    }
    tag = fallback_tag(version.digest) + ".sig"
    theirs = far.put_manifest(canonical_json(index), INDEX_MANIFEST_TYPE, tag)
    assert copy(source, "v1", far, "v1").referrers_kept == 1
    assert far.resolve(tag).digest == theirs.digest


def test_archive_that_leaves_blobs_out(tmp_path: Path) -> None:
    source, version = signed_source()
    signed = sign_all(source, version)
    _, data = source.get_manifest(version.digest)
    layers = {layer["digest"] for layer in json.loads(data)["layers"]}
    archive = ArchiveStore(tmp_path / "update.tar")
    promise = Promise("v0", "", frozenset(layers | {EMPTY.digest}))
    done = copy(source, "v1", archive, "v1", promises=[promise])
    assert done.blobs_left_out == 1
    assert done.referrers_copied == COUNT
    check_signed(archive, signed)
    far = MemoryStore()
    put_version(far, tag="v0")  # has the layer
    assert copy(archive, "v1", far, "v1").referrers_copied == COUNT
    check_signed(far, signed)
    assert copy(source, "v1", archive, "v1", promises=[promise]).unchanged


def test_split_archive(tmp_path: Path) -> None:
    source, version = signed_source()
    signed = sign_all(source, version)
    split = ArchiveStore(tmp_path / "update.tar", part_bytes=4096)
    assert copy(source, "v1", split, "v1").referrers_copied == COUNT
    read = ArchiveStore(tmp_path / "update.tar", create=False)
    check_signed(read, signed)
    again = ArchiveStore(tmp_path / "update.tar", part_bytes=4096)
    assert copy(source, "v1", again, "v1").unchanged


def test_sole_version_is_found(tmp_path: Path) -> None:
    source, version = signed_source()
    sign_all(source, version)
    archive, layout = ArchiveStore(tmp_path / "a.tar"), LayoutStore(tmp_path / "layout")
    for store in (archive, layout):
        copy(source, "v1", store, "v1")
        assert store.sole_manifest().digest == version.digest


def test_lost_and_damaged_ones_are_sent_again(tmp_path: Path) -> None:
    source, version = signed_source()
    signed = sign_all(source, version)
    far = LayoutStore(tmp_path / "far")
    copy(source, "v1", far, "v1")
    blobs = tmp_path / "far" / "blobs" / "sha256"
    for one in all_referrers(source, version.digest):
        if one.descriptor.artifact_type == SPDX:
            path = blobs / one.blobs[1].digest[7:]
            path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(IntegrityError):
        check_signed(far, signed)
    copy(source, "v1", far, "v1", verify=True)
    check_signed(far, signed)


def test_index_of_signatures(opened: Callable[[str], Store]) -> None:
    """A referrer may be an image index; the manifests within it come first."""
    source, version = signed_source()
    inner = put_version(source, "inner", tag=None)
    index = {
        "schemaVersion": 2,
        "mediaType": INDEX_MANIFEST_TYPE,
        "artifactType": "application/x.set",
        "manifests": [inner.to_json()],
        "subject": version.to_json(),
    }
    put = source.put_manifest(canonical_json(index), INDEX_MANIFEST_TYPE)
    far = opened("far")
    assert copy(source, "v1", far, "v1").referrers_copied == 1
    (found,) = all_referrers(far, version.digest)
    assert found.descriptor.digest == put.digest
    assert [child.digest for child, _ in found.children] == [inner.digest]


def test_thousands_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    source, version = signed_source()
    put_blob(source, EMPTY.media_type, b"{}")
    for number in range(subjects.MAX_REFERRERS + 1):
        data = encode_artifact(SPDX, version, (), {"number": str(number)})
        source.put_manifest(data, MANIFEST_TYPE)
    with pytest.raises(FormatError, match="more than 1000"):
        copy(source, "v1", MemoryStore(), "v1")
    assert copy(source, "v1", MemoryStore(), "v1", referrers=False).referrers_copied == 0


def test_long_chains_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_REFERRERS", 20)
    source, version = signed_source()
    last = version
    for number in range(21):
        last = attach(source, last, SPDX, (), {"number": str(number)})
    with pytest.raises(FormatError, match="more than 20"):
        copy(source, "v1", MemoryStore(), "v1")


def test_bytes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_REFERRERS_BYTES", 5000)
    source, version = signed_source()
    attach(source, version, SPDX, [(SPDX, bytes(5000))])
    far = MemoryStore()
    with pytest.raises(FormatError, match="more than 5000 bytes"):
        copy(source, "v1", far, "v1")
    assert far.referrers(version.digest) == ()


def test_circle_ends() -> None:
    """No honest store has one, since a digest cannot be known before what it is of."""

    class Circle(MemoryStore):
        def referrers(self, digest: str) -> tuple[Descriptor, ...]:
            return (self.resolve("v1"), *super().referrers(digest))

    source = Circle()
    version = put_version(source)
    with pytest.raises(FormatError, match="is none"):
        copy(source, "v1", MemoryStore(), "v1")
    assert source.resolve("v1") == version


def test_estimate_counts_them(opened: Callable[[str], Store]) -> None:
    source, version = signed_source()
    sign_all(source, version)
    far = opened("far")
    found = estimate_copy(source, "v1", far, "v1")
    done = copy(source, "v1", far, "v1")
    assert found.referrers == done.referrers_copied == COUNT
    assert found.blobs == done.blobs_copied
    assert estimate_copy(source, "v1", far, "v1").unchanged
    assert estimate_copy(source, "v1", far, "v1").referrers == 0


@pytest.mark.registry
def test_estimate_counts_enough_requests(host: str) -> None:
    memory, version = signed_source()
    sign_all(memory, version)
    with counting_proxy(int(host.rpartition(":")[2])) as proxy:
        near, far = (RegistryStore(f"{proxy.host}/counted/{name}") for name in ("near", "far"))
        for source, place in ((memory, near), (near, far), (near, far)):
            found = estimate_copy(source, "v1", place, "v1")
            proxy.clear()
            done = copy(source, "v1", place, "v1")
            assert proxy.count() <= found.requests
            assert done.unchanged == found.unchanged
        alone = estimate_copy(near, "v1", far, "v2", referrers=False)
        proxy.clear()
        copy(near, "v1", far, "v2", referrers=False)
        assert proxy.count() <= alone.requests
        assert not any("/referrers/" in path for _, path, _ in proxy.requests)
