"""The registry store and copy against Debian's docker-registry, with skopeo as a second client."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from packer.errors import (
    AuthError,
    DigestMismatch,
    NotFound,
    RegistryError,
    SizeMismatch,
    TransportError,
    UnsupportedVersion,
)
from packer.oci import (
    CONFIG_TYPE,
    DATA_TYPE,
    INDEX_MANIFEST_TYPE,
    INDEX_TYPE,
    MANIFEST_TYPE,
    PARENT,
    Descriptor,
    Manifest,
    canonical_json,
    digest_of,
)
from packer.stores.layout import LayoutStore
from packer.stores.memory import MemoryStore
from packer.stores.protocols import Store, read_blob
from packer.stores.registry.settings import Settings
from packer.stores.registry.store import RegistryStore
from packer.transfer.copy_graph import copy
from tests.builders import noise
from tests.hostile import QUICK
from tests.registry_server import (
    PASSWORD,
    USER,
    CountingProxy,
    RegistryServer,
    counting_proxy,
    need_program,
    run_registry,
    token_service,
)

pytestmark = pytest.mark.registry


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    with run_registry(tmp_path_factory.mktemp("plain")) as server:
        yield server


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    with run_registry(tmp_path_factory.mktemp("locked"), htpasswd=True) as server:
        yield server


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    with run_registry(tmp_path_factory.mktemp("secure"), tls=True) as server:
        yield server


@pytest.fixture
def proxy(plain: RegistryServer) -> Iterator[CountingProxy]:
    with counting_proxy(plain.port) as counter:
        yield counter


def put(store: Store, data: bytes, media_type: str = DATA_TYPE) -> Descriptor:
    blob = Descriptor(media_type, digest_of(data), len(data))
    store.push(blob, io.BytesIO(data))
    return blob


@dataclass
class Made:
    descriptor: Descriptor
    layers: tuple[Descriptor, ...]


def make_version(
    store: Store, name: str, sizes: list[int], parent: Made | None = None, tag: str | None = None
) -> Made:
    """Put a version into `store`: its parent's layers, new ones, an index and a config."""
    layers = [*(parent.layers if parent else ())]
    layers += [put(store, noise(f"{name} {n}", size)) for n, size in enumerate(sizes)]
    layers.append(put(store, noise(f"{name} index", 900), INDEX_TYPE))
    config = put(store, noise(f"{name} config", 500), CONFIG_TYPE)
    annotations = {"title": name} | ({PARENT: parent.descriptor.digest} if parent else {})
    manifest = Manifest(config, tuple(layers), annotations)
    return Made(store.put_manifest(manifest.encode(), MANIFEST_TYPE, tag), tuple(layers))


def test_round_trip(plain: RegistryServer, tmp_path: Path) -> None:
    memory = MemoryStore()
    made = make_version(memory, "round", [3 << 20, 70_000, 0], tag="v1")
    registry = RegistryStore(f"{plain.host}/round/trip")
    pushed = copy(memory, "v1", registry, "1.0")
    assert (pushed.descriptor, pushed.blobs_copied) == (made.descriptor, 5)
    layout = LayoutStore(tmp_path / "layout")
    pulled = copy(registry, "1.0", layout, "here")
    assert pulled.bytes_copied == pushed.bytes_copied == sum(b.size for b in made.layers) + 500
    assert layout.get_manifest("here") == memory.get_manifest("v1")
    for blob in made.layers:
        assert read_blob(layout, blob, 8 << 20) == read_blob(memory, blob, 8 << 20)
    again = copy(registry, "1.0", layout, "here")
    assert again.unchanged
    assert again.blobs_copied == again.bytes_copied == 0
    assert list(registry.tags()) == [("1.0", made.descriptor)]
    assert registry.resolve(made.descriptor.digest) == made.descriptor


def test_registry_to_registry(plain: RegistryServer) -> None:
    memory = MemoryStore()
    made = make_version(memory, "mirror", [200_000, 10], tag="v1")
    first, second = (RegistryStore(f"{plain.host}/mirror/{name}") for name in "ab")
    copy(memory, "v1", first, "x")
    assert copy(first, "x", second, None).descriptor == made.descriptor
    assert second.get_manifest(made.descriptor.digest) == memory.get_manifest("v1")


def test_ranges(plain: RegistryServer) -> None:
    registry = RegistryStore(f"{plain.host}/ranges")
    data = noise("ranges", 100_000)
    blob = put(registry, data)
    for start, length in ((0, 1), (0, 100_000), (99_999, 1), (5, 70_000), (100_000, 0), (7, 0)):
        with registry.fetch(blob, start, length) as reader:
            assert reader.read() == data[start : start + length]
    with registry.fetch(blob, 10) as reader:
        assert reader.read(3) + reader.read(5) == data[10:18]
    for start, length in ((0, 100_001), (100_001, 0), (-1, 5), (5, -1)):
        with pytest.raises(SizeMismatch):
            registry.fetch(blob, start, length)


def test_absence(plain: RegistryServer) -> None:
    registry = RegistryStore(f"{plain.host}/absent")
    blob = Descriptor(DATA_TYPE, digest_of(b"nothing"), 7)
    assert not registry.exists(blob)
    for length in (None, 2):
        with pytest.raises(NotFound) as caught:
            registry.fetch(blob, 0, length)
        assert (caught.value.kind, caught.value.name) == ("blob", blob.digest)
    with pytest.raises(NotFound) as caught:
        registry.get_manifest("v9")
    assert (caught.value.kind, caught.value.name) == ("tag", "v9")
    with pytest.raises(NotFound):
        registry.resolve(blob.digest)
    assert list(registry.tags()) == []
    with pytest.raises(NotFound):
        copy(registry, "v9", MemoryStore(), "v9")


def test_wrong_bytes_are_not_stored(plain: RegistryServer) -> None:
    registry = RegistryStore(f"{plain.host}/wrong")
    right = noise("right", 300_000)
    blob = Descriptor(DATA_TYPE, digest_of(right), len(right))
    flipped = right[:-1] + bytes([right[-1] ^ 1])
    for data, error in (
        (flipped, DigestMismatch),
        (right[:-1], SizeMismatch),
        (right + b"x", SizeMismatch),
        (b"", SizeMismatch),
    ):
        with pytest.raises(error):
            registry.push(blob, io.BytesIO(data))
        assert not registry.exists(blob)
    assert registry.push(blob, io.BytesIO(right))
    assert not registry.push(blob, io.BytesIO(b"not even read"))
    assert read_blob(registry, blob, 1 << 20) == right


def test_manifest_without_its_blobs(plain: RegistryServer) -> None:
    registry = RegistryStore(f"{plain.host}/incomplete")
    config = put(registry, b"{}", CONFIG_TYPE)
    missing = Descriptor(INDEX_TYPE, digest_of(b"missing"), 7)
    with pytest.raises(NotFound) as caught:
        registry.put_manifest(Manifest(config, (missing,)).encode(), MANIFEST_TYPE, "v1")
    assert (caught.value.kind, caught.value.name) == ("blob", missing.digest)
    with pytest.raises(NotFound):
        registry.resolve("v1")


def test_untag_says_what_is_wrong(plain: RegistryServer) -> None:
    # docker-registry 2 cannot remove a tag, and must not be asked to remove the manifest instead.
    registry = RegistryStore(f"{plain.host}/untag")
    memory = MemoryStore()
    make_version(memory, "untag", [10], tag="v1")
    copy(memory, "v1", registry, "v1")
    with pytest.raises(RegistryError, match="does not support removing tags"):
        registry.untag("v1")
    assert registry.resolve("v1")


def test_htpasswd(locked: RegistryServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    memory = MemoryStore()
    make_version(memory, "locked", [100_000], tag="v1")
    name = f"{locked.host}/locked"
    with pytest.raises(AuthError, match="docker login"):
        copy(memory, "v1", RegistryStore(name), "v1")
    wrong = RegistryStore(name, Settings(username=USER, password="wrong-password"))
    with pytest.raises(AuthError) as caught:
        copy(memory, "v1", wrong, "v1")
    assert caught.value.status == 401
    assert "wrong-password" not in str(caught.value)
    right = RegistryStore(name, Settings(username=USER, password=PASSWORD))
    copy(memory, "v1", right, "v1")
    assert right.get_manifest("v1") == memory.get_manifest("v1")
    # The docker configuration, as `docker login` writes it.
    login = subprocess.run(
        ["base64", "-w0"], input=f"{USER}:{PASSWORD}".encode(), capture_output=True, check=True
    ).stdout.decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {locked.host: {"auth": login}}}))
    assert copy(memory, "v1", RegistryStore(name), "v1").unchanged


def test_tokens(tmp_path: Path) -> None:
    memory = MemoryStore()
    make_version(memory, "tokens", [100_000] * 6, tag="v1")
    with token_service(tmp_path) as service, run_registry(tmp_path, realm=service.realm) as server:
        with counting_proxy(server.port) as proxy:
            store = RegistryStore(
                f"{proxy.host}/tokens", Settings(username=USER, password=PASSWORD)
            )
            copy(memory, "v1", store, "v1")
            # One 401, one token that allows everything, no blob sent twice.
            assert service.granted == ["repository:tokens:pull,push"]
            assert [request[2] for request in proxy.requests].count(401) == 1
        reader = RegistryStore(f"{server.host}/tokens", Settings(username=USER, password=PASSWORD))
        assert reader.get_manifest("v1") == memory.get_manifest("v1")
        assert service.granted[1:] == ["repository:tokens:pull"]
        with pytest.raises(AuthError, match="refused pull"):
            RegistryStore(f"{server.host}/tokens", Settings(username=USER, password="no")).resolve(
                "v1"
            )


def test_tokens_that_die_on_the_way(tmp_path: Path) -> None:
    memory = MemoryStore()
    make_version(memory, "dying", [100_000] * 4, tag="v1")
    with token_service(tmp_path) as service, run_registry(tmp_path, realm=service.realm) as server:
        service.life_seconds = 2
        store = RegistryStore(f"{server.host}/dying", Settings(username=USER, password=PASSWORD))
        for tag in ("a", "b", "c"):
            copy(memory, "v1", store, tag)
            time.sleep(1.5)
        assert sorted(tag for tag, _ in store.tags()) == ["a", "b", "c"]
        assert len(service.granted) >= 2


_PUSH = """
import sys
from packer.transfer.copy_graph import copy
from packer.stores.layout import LayoutStore
from packer.stores.registry.settings import Settings
from packer.stores.registry.store import RegistryStore
copy(LayoutStore(sys.argv[1]), "v1", RegistryStore(sys.argv[2]), "v1", jobs=2)
"""


@pytest.mark.parametrize("uploads", [1, 4, 9])
def test_killed_while_pushing(plain: RegistryServer, tmp_path: Path, uploads: int) -> None:
    layout = LayoutStore(tmp_path / "layout")
    made = make_version(layout, f"killed {uploads}", [4 << 20] * 10, tag="v1")
    with counting_proxy(plain.port) as proxy:
        name = f"{proxy.host}/killed/{uploads}"
        process = subprocess.Popen([sys.executable, "-c", _PUSH, str(tmp_path / "layout"), name])
        try:
            deadline = time.monotonic() + 60
            while proxy.count("PUT") < uploads and time.monotonic() < deadline:
                time.sleep(0.001)
        finally:
            process.kill()
            process.wait()
        store = RegistryStore(name)
        # A tag only if the machine was so slow that the push ended before it was killed.
        assert [tag for tag, _ in store.tags()] in ([], ["v1"])
        result = copy(layout, "v1", store, "v1")
        assert result.descriptor == made.descriptor
        # What had arrived is found: at most the blobs cut off in the middle are sent again.
        assert result.blobs_present >= uploads - 1
    target = MemoryStore()
    copy(RegistryStore(f"{plain.host}/killed/{uploads}"), "v1", target, "v1")
    assert target.get_manifest("v1") == layout.get_manifest("v1")


def test_tls(secure: RegistryServer) -> None:
    memory = MemoryStore()
    make_version(memory, "secure", [100_000], tag="v1")
    name = f"{secure.host}/secure"
    trusted = RegistryStore(name, Settings(ca_file=str(secure.ca_file)))
    copy(memory, "v1", trusted, "v1")
    assert trusted.get_manifest("v1") == memory.get_manifest("v1")
    # Trust given to one store is not given to the next one in the same process.
    with pytest.raises(TransportError, match="ca_file") as caught:
        RegistryStore(name, Settings(plain_http=False)).resolve("v1")
    assert not caught.value.retryable
    # And https is never tried again as http.
    with pytest.raises((TransportError, RegistryError)):
        RegistryStore(name, Settings(plain_http=True, retry=QUICK)).resolve("v1")


def test_nobody_listens() -> None:
    with pytest.raises(TransportError) as caught:
        RegistryStore("127.0.0.1:1/x", Settings(retry=QUICK)).resolve("v1")
    assert caught.value.retryable


def test_image_index_is_refused(plain: RegistryServer) -> None:
    memory = MemoryStore()
    child = make_version(memory, "child", [10], tag="child")
    registry = RegistryStore(f"{plain.host}/index")
    copy(memory, "child", registry, "child")
    index = canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": INDEX_MANIFEST_TYPE,
            "manifests": [child.descriptor.to_json()],
        }
    )
    registry.put_manifest(index, INDEX_MANIFEST_TYPE, "all")
    with pytest.raises(UnsupportedVersion, match="image index"):
        copy(registry, "all", MemoryStore(), "x")
    # One that a tag at the destination names is no obstacle either.
    assert copy(memory, "child", registry, "all").descriptor == child.descriptor


# Budgets


def test_first_push_takes_two_requests_per_blob(proxy: CountingProxy) -> None:
    memory = MemoryStore()
    make_version(memory, "first", [1 << 20] * 20, tag="v1")
    copy(memory, "v1", RegistryStore(f"{proxy.host}/budget/first"), "v1")
    # 20 layers, index, config: POST and PUT each; tag HEAD, three probes, manifest PUT.
    assert proxy.count() <= 2 * 22 + 5


@pytest.mark.parametrize("password", [False, True])
def test_unchanged_and_small_update(
    password: bool, plain: RegistryServer, locked: RegistryServer
) -> None:
    memory = MemoryStore()
    first = make_version(memory, "one", [1 << 20] * 8)
    second = make_version(memory, "two", [5000], first)
    server, options = (locked, (USER, PASSWORD)) if password else (plain, (None, None))
    with counting_proxy(server.port) as proxy:
        name = f"{proxy.host}/budget/update{password:d}"

        def push(version: Made, tag: str) -> int:
            # A new store for each, as in a new process: nothing is remembered.
            proxy.clear()
            store = RegistryStore(name, Settings(username=options[0], password=options[1]))
            assert copy(memory, version.descriptor.digest, store, tag).descriptor
            return proxy.count()

        push(first, "v1")
        assert push(first, "v1") <= 2
        assert push(second, "v2") <= 10
        assert push(second, "v2") <= 2
        # The same update where the moving tag names the parent.
        push(first, "latest")
        assert push(second, "latest") <= 10


def test_update_of_a_foreign_artifact(proxy: CountingProxy) -> None:
    # No annotation names a parent; what the tag names at the destination does as well.
    memory = MemoryStore()
    layers = [put(memory, noise(f"foreign {n}", 1 << 20), "application/x.any") for n in range(10)]
    config = put(memory, b"{}", "application/vnd.oci.empty.v1+json")

    def manifest(upto: int) -> Descriptor:
        value = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "artifactType": "application/vnd.example.other",
            "config": config.to_json(),
            "layers": [layer.to_json() for layer in layers[:upto]],
        }
        return memory.put_manifest(json.dumps(value, indent=3).encode(), MANIFEST_TYPE)

    store = RegistryStore(f"{proxy.host}/budget/foreign")
    copy(memory, manifest(9).digest, store, "latest")
    proxy.clear()
    result = copy(memory, manifest(10).digest, store, "latest")
    assert (result.blobs_copied, result.blobs_present) == (1, 10)
    assert proxy.count() <= 5


def test_skipped_generation(proxy: CountingProxy) -> None:
    # The parent was never pushed, its own parent was.
    memory = MemoryStore()
    first = make_version(memory, "g1", [1 << 20] * 8)
    second = make_version(memory, "g2", [4000], first)
    third = make_version(memory, "g3", [3000], second)
    store = RegistryStore(f"{proxy.host}/budget/generations")
    copy(memory, first.descriptor.digest, store, "v1")
    proxy.clear()
    result = copy(memory, third.descriptor.digest, store, "v3")
    assert result.blobs_copied == 5
    assert proxy.count() <= 3 + 2 * 5 + 1


# Other clients


def skopeo(*arguments: str) -> bytes:
    command = [need_program("skopeo"), "--insecure-policy", *arguments]
    return subprocess.run(command, check=True, capture_output=True).stdout


def test_skopeo_copies_byte_for_byte(plain: RegistryServer, tmp_path: Path) -> None:
    memory = MemoryStore()
    made = make_version(memory, "skopeo", [500_000, 3000], tag="v1")
    original = memory.get_manifest("v1")
    ours = RegistryStore(f"{plain.host}/skopeo/ours")
    copy(memory, "v1", ours, "v1")
    skopeo(
        "copy", "--src-tls-verify=false",
        f"docker://{plain.host}/skopeo/ours:v1", f"oci:{tmp_path}/layout:v1",
    )  # fmt: skip
    # Our layout store reads what skopeo wrote, and our copy goes on from there.
    layout = LayoutStore(tmp_path / "layout")
    assert layout.get_manifest("v1") == original
    for blob in made.layers:
        assert read_blob(layout, blob, 1 << 20) == read_blob(memory, blob, 1 << 20)
    skopeo(
        "copy", "--dest-tls-verify=false",
        f"oci:{tmp_path}/layout:v1", f"docker://{plain.host}/skopeo/theirs:v1",
    )  # fmt: skip
    theirs = RegistryStore(f"{plain.host}/skopeo/theirs")
    assert theirs.get_manifest("v1") == original
    assert copy(layout, "v1", theirs, "v1").unchanged
    # And skopeo reads a layout that we wrote.
    copy(theirs, "v1", LayoutStore(tmp_path / "second"), "v2")
    assert skopeo("inspect", "--raw", f"oci:{tmp_path}/second:v2") == original[1]
