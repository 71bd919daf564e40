"""Registries and writers that misuse the lists of what refers to a version."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import packer
from packer.errors import FormatError, IntegrityError, NotFound, RegistryError, StoreError
from packer.oci import INDEX_MANIFEST_TYPE, MANIFEST_TYPE, Descriptor, canonical_json, digest_of
from packer.stores.memory import MemoryStore
from packer.stores.referrers import all_referrers
from packer.stores.registry.settings import Settings
from packer.stores.registry.store import RegistryStore
from packer.stores.subjects import EMPTY, EMPTY_BYTES, fallback_tag
from packer.transfer.copy_graph import copy
from tests.faults.test_hostile_registry import fill
from tests.hostile import QUICK, Exchange, HostileRegistry, Rule, hostile_registry
from tests.referrers import SPDX, encode_artifact
from tests.signatures import make_pair

HEADERS = {"Content-Type": INDEX_MANIFEST_TYPE}


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    from packer.stores.registry import referrers

    monkeypatch.setattr(referrers, "PAUSE_SECONDS", 0.001)


@pytest.fixture
def server() -> Iterator[HostileRegistry]:
    with hostile_registry() as registry:
        fill(registry)
        registry.blobs[EMPTY.digest] = EMPTY_BYTES
        yield registry


@pytest.fixture
def store(server: HostileRegistry) -> RegistryStore:
    return RegistryStore(f"{server.host}/app", Settings(retry=QUICK, timeout_seconds=5))


def listing(*entries: dict[str, object]) -> bytes:
    return canonical_json(
        {"schemaVersion": 2, "mediaType": INDEX_MANIFEST_TYPE, "manifests": list(entries)}
    )


def put_artifact(server: HostileRegistry, subject: Descriptor, text: str) -> Descriptor:
    data = encode_artifact(SPDX, subject, (), {"text": text})
    server.manifests[digest_of(data)] = (MANIFEST_TYPE, data)
    return Descriptor(MANIFEST_TYPE, digest_of(data), len(data))


def answer(server: HostileRegistry, by_digest: dict[str, bytes]) -> None:
    """Answer questions about referrers by digest; "" for all others."""

    def rule(exchange: Exchange) -> None:
        digest = exchange.path.rpartition("/")[2]
        body = by_digest.get(digest, by_digest.get("", listing()))
        exchange.reply(200, body, HEADERS)

    server.on("GET", "/referrers/", rule, times=None)


def test_sound_list(server: HostileRegistry, store: RegistryStore) -> None:
    version = store.resolve("v1")
    made = put_artifact(server, version, "sound")
    answer(server, {version.digest: listing(made.to_json())})
    far = MemoryStore()
    assert copy(store, "v1", far, "v1").referrers_copied == 1
    assert [one.digest for one in far.referrers(version.digest)] == [made.digest]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no json",
        b"[]",
        b"{}",
        b'{"manifests":{}}',
        b'{"manifests":[1]}',
        b'{"manifests":[{"digest":"../../x","size":1,"mediaType":"a"}]}',
        b'{"manifests":[{"digest":"sha256:%s","size":-1,"mediaType":"a"}]}' % (b"0" * 64),
        b'{"manifests":[],"mediaType":"application/vnd.oci.image.manifest.v1+json"}',
        b'{"manifests":[{"digest":"sha256:%s","size":1,"mediaType":"a","artifactType":7}]}'
        % (b"0" * 64),
        b'{"manifests":[{"digest":"sha256:%s","size":1,"mediaType":"a","annotations":{"a":1}}]}'
        % (b"0" * 64),
    ],
)
def test_malformed_lists(server: HostileRegistry, store: RegistryStore, body: bytes) -> None:
    answer(server, {"": body})
    far = MemoryStore()
    with pytest.raises(RegistryError):
        copy(store, "v1", far, "v1")
    # The version itself came; what refers to it is told to be out of reach, and can be left.
    assert far.resolve("v1") == store.resolve("v1")
    assert copy(store, "v1", MemoryStore(), "v1", referrers=False).blobs_copied == 3


def test_thousands(server: HostileRegistry, store: RegistryStore) -> None:
    version = store.resolve("v1")
    entry = {"mediaType": MANIFEST_TYPE, "size": 10}
    many = [{**entry, "digest": digest_of(str(number).encode())} for number in range(1001)]
    answer(server, {version.digest: listing(*many)})
    with pytest.raises(RegistryError, match="more than 1000"):
        store.referrers(version.digest)
    # The same under the tag, where there is no API.
    server._plans.clear()
    server.on("GET", "/referrers/", lambda e: e.reply(404, b"404 page not found"), times=None)
    data = listing(*many)
    server.manifests[digest_of(data)] = (INDEX_MANIFEST_TYPE, data)
    server.tags[fallback_tag(version.digest)] = digest_of(data)
    with pytest.raises(FormatError, match="more than 1000"):
        store.referrers(version.digest)


def test_endless_lists(server: HostileRegistry, store: RegistryStore) -> None:
    version = store.resolve("v1")
    server.on("GET", "/referrers/", lambda e: e.endless(headers=HEADERS), times=1)
    with pytest.raises(RegistryError, match="limit"):
        store.referrers(version.digest)

    def page(exchange: Exchange) -> None:
        number = len(server.seen)
        entry = {"mediaType": "a", "size": 1, "digest": digest_of(str(number).encode())}
        link = f'<{exchange.path}?last={number}>; rel="next"'
        exchange.reply(200, listing(entry), {**HEADERS, "Link": link})

    server.on("GET", "/referrers/", page, times=None)
    with pytest.raises(RegistryError, match="pages"):
        store.referrers(version.digest)


def test_pages(server: HostileRegistry, store: RegistryStore) -> None:
    version = store.resolve("v1")
    made = [put_artifact(server, version, str(number)) for number in range(3)]
    link = {"Link": f'</v2/app/referrers/{version.digest}?n=2>; rel="next"'}
    first = listing(*(one.to_json() for one in made[:2]))
    server.on("GET", "/referrers/", lambda e: e.reply(200, first, {**HEADERS, **link}))
    last = listing(made[2].to_json(), made[0].to_json())
    server.on("GET", "/referrers/", lambda e: e.reply(200, last, HEADERS))
    assert list(store.referrers(version.digest)) == made


def test_lists_that_go_round(server: HostileRegistry, store: RegistryStore) -> None:
    """Two artifacts cannot refer to each other, but lists may say so."""
    version = store.resolve("v1")
    first = put_artifact(server, version, "first")
    second = put_artifact(server, first, "second")
    answer(
        server,
        {
            version.digest: listing(first.to_json()),
            first.digest: listing(second.to_json()),
            second.digest: listing(first.to_json()),
        },
    )
    with pytest.raises(FormatError, match="is none"):
        all_referrers(store, version.digest)


def test_lists_that_name_strangers(server: HostileRegistry, store: RegistryStore) -> None:
    version = store.resolve("v1")
    other = Descriptor(MANIFEST_TYPE, digest_of(b"another"), 7)
    for stranger in (version, put_artifact(server, other, "of another")):
        server._plans.clear()
        answer(server, {version.digest: listing(stranger.to_json())})
        with pytest.raises(FormatError, match="is none"):
            all_referrers(store, version.digest)


def test_other_bytes_for_a_referrer(server: HostileRegistry, store: RegistryStore) -> None:
    version = store.resolve("v1")
    made = put_artifact(server, version, "sound")
    forged = encode_artifact(SPDX, version, (), {"text": "forged"})
    answer(server, {version.digest: listing(made.to_json())})
    rule: Rule = lambda e: e.reply(200, forged, {"Content-Type": MANIFEST_TYPE})  # noqa: E731
    server.on("GET", f"/manifests/{made.digest}", rule, times=None)
    far = MemoryStore()
    with pytest.raises(IntegrityError):
        copy(store, "v1", far, "v1")
    assert far.referrers(version.digest) == ()


def test_other_bytes_for_a_blob(server: HostileRegistry, store: RegistryStore) -> None:
    version = store.resolve("v1")
    data = b'{"spdx":1}'
    layer = Descriptor(SPDX, digest_of(data), len(data))
    manifest = encode_artifact(SPDX, version, [layer])
    server.manifests[digest_of(manifest)] = (MANIFEST_TYPE, manifest)
    made = Descriptor(MANIFEST_TYPE, digest_of(manifest), len(manifest))
    server.blobs[layer.digest] = b'{"spdx":2}'
    answer(server, {version.digest: listing(made.to_json())})
    far = MemoryStore()
    with pytest.raises(IntegrityError):
        copy(store, "v1", far, "v1")
    assert far.referrers(version.digest) == ()
    with pytest.raises(NotFound):
        far.get_manifest(made.digest)


def test_what_was_deleted_is_passed_over(server: HostileRegistry, store: RegistryStore) -> None:
    version = store.resolve("v1")
    made = put_artifact(server, version, "there")
    gone = Descriptor(MANIFEST_TYPE, digest_of(b"gone"), 4)
    answer(server, {version.digest: listing(gone.to_json(), made.to_json())})
    found = all_referrers(store, version.digest)
    assert [one.descriptor.digest for one in found] == [made.digest]


def test_the_api_is_asked_for_once(server: HostileRegistry, store: RegistryStore) -> None:
    server.on("GET", "/referrers/", lambda e: e.reply(404, b"404 page not found"), times=None)
    for number in range(3):
        assert store.referrers(digest_of(str(number).encode())) == ()
    assert sum("/referrers/" in one.path for one in server.seen) == 1


def test_failing_api_is_no_missing_api(server: HostileRegistry, store: RegistryStore) -> None:
    """Else an outage would look like a version without signatures."""
    server.on("GET", "/referrers/", lambda e: e.reply(503), times=None)
    with pytest.raises(StoreError):
        store.referrers(store.resolve("v1").digest)
    server._plans.clear()
    server.on("GET", "/referrers/", lambda e: e.fail(403, "DENIED"), times=None)
    with pytest.raises(RegistryError):
        store.referrers(store.resolve("v1").digest)


@pytest.mark.parametrize("status", [403, 500, 503])
def test_pull_goes_on_without_the_list(
    server: HostileRegistry, tmp_path: Path, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    """Nothing asks for signatures, and the version is complete; all else stays strict."""
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "file").write_bytes(b"content")
    access = packer.RegistryOptions(outage_seconds=0)
    ref = f"{server.host}/app:1"
    packer.pack(tmp_path / "app", tag="app:1", store=tmp_path / "near")
    packer.push(ref, "app:1", store=tmp_path / "near", registry=access)
    server.on("GET", "/referrers/", lambda e: e.fail(status, "DENIED"), times=None)
    far = tmp_path / "far"
    assert packer.estimate(ref, store=far, registry=access).blobs
    pulled = packer.pull(ref, tmp_path / "out", store=far, registry=access)
    assert (tmp_path / "out" / "file").read_bytes() == b"content"
    assert pulled.referrers == 0
    assert "not known, and not fetched" in caplog.text
    with pytest.raises(RegistryError) as caught:
        packer.copy(ref, f"oci:{tmp_path / 'layout'}:1", registry=access)
    assert caught.value.status == status
    trust = packer.Trust(packer.Policy.of_keys([make_pair(tmp_path, "release").public]))
    with pytest.raises(RegistryError):
        packer.pull(ref, tmp_path / "new", store=far, registry=access, trust=trust)
    assert not (tmp_path / "new").exists()


def test_html_is_no_list(server: HostileRegistry, store: RegistryStore) -> None:
    page = {"Content-Type": "text/html"}
    server.on("GET", "/referrers/", lambda e: e.reply(200, b"<html>", page), times=None)
    assert store.referrers(store.resolve("v1").digest) == ()


def test_lists_replaced_by_another_writer(server: HostileRegistry, store: RegistryStore) -> None:
    """The list is read again after it was written, and mended."""
    version = store.resolve("v1")
    server.on("GET", "/referrers/", lambda e: e.reply(404, b"404 page not found"), times=None)
    tag = fallback_tag(version.digest)
    theirs = put_artifact(server, version, "theirs")

    def overwritten(exchange: Exchange) -> None:
        exchange.receive()
        data = listing(theirs.to_json())
        server.manifests[digest_of(data)] = (INDEX_MANIFEST_TYPE, data)
        server.tags[tag] = digest_of(data)
        exchange.reply(201)

    ours = encode_artifact(SPDX, version, (), {"text": "ours"})
    server.on("PUT", f"/manifests/{tag}", overwritten, times=2)
    store.put_manifest(ours, MANIFEST_TYPE)
    found = {one.digest for one in store.referrers(version.digest)}
    assert found == {theirs.digest, digest_of(ours)}
    # One that always loses gives up, with an error.
    server.on("PUT", f"/manifests/{tag}", overwritten, times=None)
    with pytest.raises(StoreError, match="other writers"):
        store.put_manifest(encode_artifact(SPDX, version, (), {"n": "2"}), MANIFEST_TYPE)


def test_subject_noted_needs_no_list(server: HostileRegistry, store: RegistryStore) -> None:
    version = store.resolve("v1")
    data = encode_artifact(SPDX, version, ())
    noted = {"OCI-Subject": version.digest}
    server.on("PUT", "/manifests/sha256:", lambda e: e.reply(201, headers=noted))
    store.put_manifest(data, MANIFEST_TYPE)
    assert [one.method for one in server.seen if "manifests" in one.path][-1] == "PUT"
    assert fallback_tag(version.digest) not in server.tags


def test_a_list_that_is_no_index_stays(server: HostileRegistry, store: RegistryStore) -> None:
    """What somebody else put under the tag is not replaced."""
    version = store.resolve("v1")
    server.on("GET", "/referrers/", lambda e: e.reply(404, b"404 page not found"), times=None)
    server.tags[fallback_tag(version.digest)] = version.digest
    with pytest.raises(FormatError, match="no image index"):
        store.put_manifest(encode_artifact(SPDX, version, ()), MANIFEST_TYPE)
    assert server.tags[fallback_tag(version.digest)] == version.digest
    assert json.loads(server.manifests[version.digest][1])["schemaVersion"] == 2
