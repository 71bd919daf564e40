"""A registry whose storage is full: told at once, and what it may have left is noticed."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator

import pytest

from packer.errors import DigestMismatch, RegistryError
from packer.oci import MANIFEST_TYPE, Descriptor, digest_of
from packer.stores.registry.settings import Settings
from packer.stores.registry.store import RegistryStore
from tests.hostile import QUICK, Exchange, HostileRegistry, hostile_registry

DATA = b"some bytes of a layer"
BLOB = Descriptor("", digest_of(DATA), len(DATA))
OTHER = Descriptor("", digest_of(b"others"), 6)
MANIFEST = json.dumps({"config": {"digest": BLOB.digest}, "layers": []}).encode()
DISTRIBUTION_2 = {
    "code": "UNKNOWN",
    "message": "unknown error",
    "detail": {"DriverName": "filesystem", "Enclosed": {"Op": "write", "Err": 28}},
}
DISTRIBUTION_3 = {"code": "UNKNOWN", "detail": "write /data: no space left on device"}


@pytest.fixture
def server() -> Iterator[HostileRegistry]:
    with hostile_registry() as server:
        server.blobs[BLOB.digest] = DATA
        yield server


def open_store(server: HostileRegistry) -> RegistryStore:
    return RegistryStore(f"{server.host}/app", Settings(retry=QUICK, timeout_seconds=5))


@pytest.mark.parametrize("said", [DISTRIBUTION_2, DISTRIBUTION_3])
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/uploads/"), ("PUT", "/uploads/"), ("PUT", "/manifests/")]
)
def test_a_full_registry_is_not_asked_again(
    server: HostileRegistry, method: str, path: str, said: dict[str, object]
) -> None:
    # A manifest that did not fit leaves an empty file at distribution; when the request is made
    # again, that file is taken for the manifest, and stops every later garbage collection.
    body = json.dumps({"errors": [said]}).encode()
    server.on(method, path, lambda exchange: exchange.reply(500, body), None)
    store = open_store(server)
    with pytest.raises(RegistryError, match="no space is left in the registry's storage") as caught:
        if path == "/manifests/":
            store.put_manifest(MANIFEST, MANIFEST_TYPE, "v1")
        else:
            store.upload(OTHER, io.BytesIO(b"others"))
    assert not caught.value.retryable
    assert server.count(method, path) == 1


def test_other_internal_errors_may_pass(server: HostileRegistry) -> None:
    server.on("PUT", "/manifests/", lambda exchange: exchange.reply(500, b"oops"), 2)
    stored = open_store(server).put_manifest(MANIFEST, MANIFEST_TYPE, "v1")
    assert server.manifests[stored.digest][1] == MANIFEST
    assert server.count("PUT", "/manifests/") == 3


def test_a_manifest_that_a_failure_damaged(server: HostileRegistry) -> None:
    server.on("PUT", "/manifests/", lambda exchange: exchange.reply(500), 1)

    def other(exchange: Exchange) -> bool:
        exchange.reply(200, b'{"x":1}', {"Content-Type": MANIFEST_TYPE})
        return True

    server.on("GET", "/manifests/", other, None)
    with pytest.raises(DigestMismatch):
        open_store(server).put_manifest(MANIFEST, MANIFEST_TYPE, "v1")


@pytest.mark.parametrize("status", [400, 403, 409, 412])
def test_an_immutable_tag_whose_answer_was_lost(server: HostileRegistry, status: int) -> None:
    # ECR, Harbor, Quay and Artifactory refuse the second attempt; the first wrote the tag.

    def gateway(exchange: Exchange) -> bool:
        data = exchange.receive()
        digest = digest_of(data)
        server.manifests[digest] = (MANIFEST_TYPE, data)
        server.tags["v1"] = digest
        exchange.reply(504)
        return True

    server.on("PUT", "/manifests/v1", gateway, 1)
    server.on("PUT", "/manifests/v1", lambda exchange: exchange.reply(status, b"immutable"), None)
    store = open_store(server)
    assert store.put_manifest(MANIFEST, MANIFEST_TYPE, "v1").digest == digest_of(MANIFEST)
    other = MANIFEST + b" "
    with pytest.raises(RegistryError):
        store.put_manifest(other, MANIFEST_TYPE, "v1")
    assert server.tags["v1"] == digest_of(MANIFEST)
