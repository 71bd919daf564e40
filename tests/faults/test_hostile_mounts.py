"""Registries that do not mount blobs, refuse to, or say they did and lie."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs

import pytest

from packer.errors import NotFound
from packer.oci import MANIFEST_TYPE, Descriptor, digest_of
from packer.progress import Progress
from packer.stores.layout import LayoutStore
from packer.stores.manifests import read_graph
from packer.stores.memory import MemoryStore
from packer.stores.registry.settings import Settings
from packer.stores.registry.store import RegistryStore
from packer.transfer.copy_graph import CopyResult, copy
from packer.transfer.promises import Promise, encode_promises
from tests.artifacts import make_version
from tests.hostile import QUICK, Exchange, HostileRegistry, hostile_registry

TO_FAR = "/far/app/blobs/uploads/$"


def at(server: HostileRegistry, name: str, **login: str) -> RegistryStore:
    return RegistryStore(f"{server.host}/{name}", Settings(retry=QUICK, timeout_seconds=5, **login))  # type: ignore[arg-type]


def between(server: HostileRegistry, *, verify: bool = False) -> tuple[CopyResult, list[Progress]]:
    """Copy a version of ten blobs from one repository to another."""
    memory = MemoryStore()
    make_version(memory)
    copy(memory, "v1", at(server, "near/app"), "v1")
    server.tags.clear()
    server.tags["v1"] = memory.resolve("v1").digest
    server.seen.clear()
    seen: list[Progress] = []
    near, far = at(server, "near/app"), at(server, "far/app")
    result = copy(near, "v1", far, "v2", verify=verify, progress=seen.append)
    assert server.tags["v2"] == server.tags["v1"]
    assert seen[-1].done_bytes == seen[-1].total_bytes
    assert result.blobs_copied + result.blobs_mounted + result.blobs_present == 10
    return result, seen


def mounting(exchange: Exchange) -> bool:
    """Say yes to a mount; other requests are the registry's."""
    query = parse_qs(exchange.query)
    if "mount" not in query:
        return False
    assert query["from"] == ["near/app"]
    exchange.reply(201, b"", {"Location": "/x", "Docker-Content-Digest": query["mount"][0]})
    return True


def asked(server: HostileRegistry) -> int:
    return sum(1 for item in server.seen if "mount=" in item.query)


def test_uploads_that_were_opened_instead_are_used(server: HostileRegistry) -> None:
    # All blobs are there as far as HEAD tells, but for this test it tells nothing.
    server.on("HEAD", "/far/app/blobs/", lambda e: e.reply(404), times=None)
    result, _ = between(server)
    assert (result.blobs_copied, result.blobs_mounted) == (10, 0)
    # One is asked for, the smallest; its upload is the one that was opened, and none is given up.
    assert asked(server) == 1
    assert server.count("POST") == server.count("PUT", "/uploads/") == 10
    assert server.count("DELETE") == 0
    puts = [item for item in server.seen if item.method == "PUT" and "/uploads/" in item.path]
    assert puts[0].headers["content-length"] == "7"


@pytest.mark.parametrize("status", [400, 403, 404, 405, 501])
def test_refused_mounts_become_uploads(server: HostileRegistry, status: int) -> None:
    def refuse(exchange: Exchange) -> bool:
        if "mount=" not in exchange.query:
            return False
        exchange.fail(status, "UNSUPPORTED")
        return True

    server.on("POST", TO_FAR, refuse, times=None)
    server.on("HEAD", "/far/app/blobs/", lambda e: e.reply(404), times=None)
    result, _ = between(server)
    assert (result.blobs_copied, asked(server)) == (10, 1)


def test_mounts_that_fail_for_a_moment_are_tried_again(server: HostileRegistry) -> None:
    server.on("POST", TO_FAR, lambda e: e.reply(503), times=2)
    server.on("POST", TO_FAR, mounting, times=None)
    result, _ = between(server)
    assert (result.blobs_mounted, result.blobs_copied) == (10, 0)


def test_the_first_is_mounted_and_another_not(server: HostileRegistry) -> None:
    # Its repository may have lost that one; the upload that was opened is used again.
    answers = iter([True] * 4 + [False] + [True] * 100)
    server.on("POST", TO_FAR, lambda e: mounting(e) if next(answers) else False, times=None)
    result, _ = between(server)
    assert (result.blobs_mounted, result.blobs_copied) == (9, 1)
    assert server.count("POST") == 10


def lie_about_mounts(server: HostileRegistry) -> set[str]:
    """Have mounts answered by 201 that are none; return what is missing so far."""
    missing: set[str] = set()

    def mount(exchange: Exchange) -> bool:
        if mounting(exchange):
            missing.add(parse_qs(exchange.query)["mount"][0])
            return True
        return False

    def upload(exchange: Exchange) -> bool:
        missing.discard(parse_qs(exchange.query)["digest"][0])
        return False

    def manifest(exchange: Exchange) -> bool:
        if missing:
            exchange.fail(404, "MANIFEST_BLOB_UNKNOWN", detail={"digest": min(missing)})
        return bool(missing)

    def blob(exchange: Exchange) -> bool:
        if exchange.path.rpartition("/")[2] in missing:
            exchange.fail(404, "BLOB_UNKNOWN")
            return True
        return False

    server.on("POST", TO_FAR, mount, times=None)
    server.on("PUT", "/far/app/blobs/uploads/", upload, times=None)
    server.on("PUT", "/far/app/manifests/", manifest, times=None)
    server.on("GET", "/far/app/blobs/", blob, times=None)
    return missing


def test_mounts_that_are_lies_are_sent_after_all(server: HostileRegistry) -> None:
    missing = lie_about_mounts(server)
    result, _ = between(server)
    assert (result.blobs_copied, result.blobs_mounted, missing) == (10, 0, set())
    assert asked(server) == 10


def test_verify_finds_mounts_that_are_lies(server: HostileRegistry) -> None:
    missing = lie_about_mounts(server)
    result, _ = between(server, verify=True)
    assert (result.blobs_copied, result.blobs_mounted, missing) == (10, 0, set())
    assert server.count("PUT", "/manifests/") == 1


def test_another_blob_than_the_one_asked_for(server: HostileRegistry) -> None:
    def other(exchange: Exchange) -> bool:
        if "mount=" not in exchange.query:
            return False
        exchange.reply(201, b"", {"Docker-Content-Digest": digest_of(b"other")})
        return True

    server.on("POST", TO_FAR, other, times=None)
    server.on("HEAD", "/far/app/blobs/", lambda e: e.reply(404), times=None)
    result, _ = between(server)
    assert (result.blobs_copied, result.blobs_mounted) == (10, 0)


def test_an_upload_elsewhere_gets_no_credentials(server: HostileRegistry) -> None:
    with hostile_registry(host="localhost") as elsewhere:
        memory = MemoryStore()
        make_version(memory, count=1, size=1000)
        server.auth = "basic"
        login = {"username": "alice", "password": "s3cret-pass"}
        near, far = at(server, "near/app", **login), at(server, "far/app", **login)
        copy(memory, "v1", near, "v1")

        def away(exchange: Exchange) -> None:
            exchange.reply(202, b"", {"Location": f"http://{elsewhere.host}/v2/x/blobs/uploads/1"})

        server.on("POST", TO_FAR, away, times=None)
        copy(near, "v1", far, "v2")
        assert asked(server) == 1
        assert elsewhere.count("PUT") == 3
        assert all(item.authorization is None for item in elsewhere.seen)


@pytest.fixture
def partial(server: HostileRegistry, tmp_path: Path) -> tuple[LayoutStore, Descriptor]:
    """Give a layout with a version whose data was left in a repository of the server."""
    memory = MemoryStore()
    made = make_version(memory, count=2, size=1000)
    copy(memory, "v1", at(server, "near/app"), "v1")
    server.tags.clear()
    server.manifests.clear()
    data = memory.get_manifest("v1")[1]
    graph = read_graph(data, "manifest")
    layout = LayoutStore(tmp_path / "layout")
    for blob in (*graph.layers[2:], graph.config):
        with memory.open_file(blob) as file:
            layout.push(blob, file)
    left = graph.layers[:2]
    promise = Promise(f"{server.host}/near/app:v1", made.digest, frozenset(b.digest for b in left))
    text = encode_promises([promise], left)
    assert text is not None
    layout.put_partial(data, MANIFEST_TYPE, "v1", text)
    server.on("HEAD", "/far/app/blobs/", lambda e: e.reply(404), times=None)
    server.seen.clear()
    return layout, left[0]


def test_absent_blobs_that_are_not_mounted(
    server: HostileRegistry, partial: tuple[LayoutStore, Descriptor]
) -> None:
    layout, _ = partial
    with pytest.raises(NotFound, match="copy that version there first") as caught:
        copy(layout, "v1", at(server, "far/app"), "v1", own=True)
    assert caught.value.kind == "base"
    # The upload that was opened for it is cancelled, and the rest not even tried.
    assert (server.count("POST"), server.count("DELETE", "/uploads/")) == (1, 1)
    assert server.count("PUT") == 0
    # Somebody else's store is not asked where its blobs are.
    with pytest.raises(NotFound):
        copy(layout, "v1", at(server, "far/app"), "v1")
    assert server.count("POST") == 1


def test_absent_blobs_whose_mount_is_a_lie(
    server: HostileRegistry, partial: tuple[LayoutStore, Descriptor]
) -> None:
    layout, blob = partial
    server.on("POST", TO_FAR, mounting, times=None)

    def unknown(exchange: Exchange) -> None:
        exchange.fail(404, "MANIFEST_BLOB_UNKNOWN", detail={"digest": blob.digest})

    server.on("PUT", "/far/app/manifests/", unknown)
    with pytest.raises(NotFound, match="copy that version there first"):
        copy(layout, "v1", at(server, "far/app"), "v1", own=True)
    assert server.tags == {}
    result = copy(layout, "v1", at(server, "far/app"), "v1", own=True)
    assert (result.blobs_mounted, result.blobs_copied) == (2, 2)
    assert server.tags.keys() == {"v1"}
