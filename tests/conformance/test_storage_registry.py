"""The storage in Debian's docker-registry: writers at once, requests, reading without pulling."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

import packer
from packer import Conflict, RegistryError, Storage
from packer.oci import MANIFEST_TYPE, Manifest
from packer.storage.state.history import LABEL_PREFIX
from packer.storage.state.repositories import Repositories
from packer.storage.state.repository import NONCE
from tests.builders import write_release
from tests.registry_server import (
    CountingProxy,
    RegistryServer,
    counting_proxy,
    need_program,
    run_registry,
)

pytestmark = pytest.mark.registry


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    with run_registry(tmp_path_factory.mktemp("registry")) as server:
        yield server


@pytest.fixture(scope="module")
def proxy(server: RegistryServer) -> Iterator[CountingProxy]:
    with counting_proxy(server.port) as proxy:
        yield proxy


@pytest.fixture
def uri(proxy: CountingProxy, request: pytest.FixtureRequest) -> str:
    name = request.node.name.replace("_", "-").lower()
    return f"docker://{proxy.host}/org/{name}"


WRITER = """
import sys, packer
storage = packer.open_storage(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for round in range(int(sys.argv[4])):
    labels = {"by": sys.argv[3], "round": str(round)}
    print(storage.save("2gKSUID", sys.argv[2], labels=labels).sequence, flush=True)
"""


def race(uri: str, tmp_path: Path, writers: int, rounds: int) -> list[list[int]]:
    """Let processes save at once; return the numbers each was given, in order."""
    running = []
    for number in range(writers):
        root = write_release(tmp_path / f"v{number}", number)
        running.append(
            subprocess.Popen(
                [sys.executable, "-c", WRITER, uri, str(root), str(number), str(rounds)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
    try:
        for process in running:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in running:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        printed = [process.communicate(timeout=250)[0].split() for process in running]
    finally:
        for process in running:
            process.kill()
            process.wait()
    assert [process.returncode for process in running] == [0] * writers
    return [list(map(int, words)) for words in printed]


def check_race(storage: Storage, given: list[list[int]], tmp_path: Path) -> None:
    """What was returned is what everybody sees: nothing lost, nothing renumbered."""
    history = storage.history("2gKSUID")
    found = {one.sequence: (int(one.labels["by"]), int(one.labels["round"])) for one in history}
    expected = {
        number: (by, turn)
        for by, numbers in enumerate(given)
        for turn, number in enumerate(numbers)
    }
    assert found == expected
    assert all(numbers == sorted(numbers) for numbers in given)
    for sequence in (min(found), max(found)):
        storage.load("2gKSUID", sequence, tmp_path / f"out{sequence}")
        text = (tmp_path / f"out{sequence}" / "app.yaml").read_text()
        assert f"version: {found[sequence][0]}\n" in text


def test_eight_processes_save_at_once(uri: str, tmp_path: Path) -> None:
    given = race(uri, tmp_path, 8, 2)
    check_race(packer.open_storage(uri), given, tmp_path)
    names = Repositories(uri, packer.RegistryOptions()).repository("2gKSUID").names()
    assert not [name for name in names if name.startswith("claim-")]  # nobody is in the way


def test_a_registry_that_does_not_delete(tmp_path: Path) -> None:
    folder = tmp_path / "registry"
    folder.mkdir()
    with run_registry(folder, delete=False) as server:
        uri = f"docker://{server.host}/org/base"
        given = race(uri, tmp_path, 3, 2)
        storage = packer.open_storage(uri)
        check_race(storage, given, tmp_path)
        with pytest.raises(RegistryError) as refused:
            storage.delete("2gKSUID", given[0][0])
        assert refused.value.status == 405
        assert len(storage.history("2gKSUID")) == 6


def test_requests_of_a_small_update(uri: str, proxy: CountingProxy, tmp_path: Path) -> None:
    storage = packer.open_storage(uri)
    storage.save("app", write_release(tmp_path / "v", 0))
    write_release(tmp_path / "v", 1)
    proxy.clear()
    saved = packer.open_storage(uri).save("app", tmp_path / "v")
    assert saved.new_bytes < 2_000
    # What there is: tags, manifest, config, index, one frame. Three blobs of two requests. The
    # number: tags, claim, tags, the number itself; the version; the claim goes.
    assert proxy.count() <= 5 + 6 + 6
    proxy.clear()
    assert storage.save("app", tmp_path / "v").new_bytes == 0
    assert proxy.count("POST") == 0  # no blob is sent


def test_a_thousand_versions_in_few_requests(
    server: RegistryServer, uri: str, proxy: CountingProxy, tmp_path: Path
) -> None:
    direct = uri.replace(proxy.host, server.host)  # many requests that nobody counts
    storage = packer.open_storage(direct)
    storage.save("app", write_release(tmp_path / "v", 0))
    repository = Repositories(direct, packer.RegistryOptions()).repository("app")
    _, data = repository.store.get_manifest("0")
    manifest = Manifest.decode(data)

    def put(number: int) -> None:
        # As saving would, but for the packing.
        more = {NONCE: f"{number:016x}", LABEL_PREFIX + "n": str(number)}
        version = replace(manifest, annotations={**manifest.annotations, **more})
        repository.store.put_manifest(version.encode(), MANIFEST_TYPE, str(number))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, range(1, 1000)))
    first = packer.open_storage(direct).history("app")  # nothing gathered yet: it does that
    assert [one.sequence for one in first] == list(range(1000))
    assert [one.labels.get("n") for one in first[1:]] == [str(n) for n in range(1, 1000)]
    proxy.clear()
    reader = packer.open_storage(uri)
    assert reader.history("app") == first
    assert proxy.count() == 3  # tags, what was gathered: a manifest and its blob
    proxy.clear()
    storage.save("app", tmp_path / "v")
    proxy.clear()
    assert len(reader.history("app")) == 1001
    assert proxy.count() == 2  # tags, and the one that is new
    proxy.clear()
    assert len(packer.open_storage(uri).history("app")) == 1001
    assert proxy.count() == 4


def test_reading_one_file_of_many(uri: str, proxy: CountingProxy, tmp_path: Path) -> None:
    # As a large version is made: images in many layers, manifests and a chart beside them.
    root = tmp_path / "v"
    rng = random.Random(3)
    for number in range(6):
        path = root / "images" / f"{number}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(rng.randbytes(12_000_000))
    (root / "manifests").mkdir()
    for number in range(200):
        (root / "manifests" / f"{number}.yaml").write_text(f"kind: App\nnumber: {number}\n" * 20)
    saved = packer.open_storage(uri).save("app", root)
    assert saved.layers > 2
    proxy.clear()
    storage = packer.open_storage(uri)
    entries = storage.entries("app", 0)
    assert len(entries) == 208
    with storage.open("app", 0, "manifests/123.yaml") as file:
        assert file.read() == b"kind: App\nnumber: 123\n" * 20
    assert [method for method, _, _ in proxy.requests] == ["GET"] * 4
    assert [status for _, _, status in proxy.requests] == [200, 200, 200, 206]
    proxy.clear()
    with storage.open("app", 0, "images/3.bin") as file:
        file.seek(6_000_000)
        assert file.read(10) == (root / "images" / "3.bin").read_bytes()[6_000_000:6_000_010]
    assert proxy.count() == 1


def test_what_is_deleted_can_be_collected(tmp_path: Path) -> None:
    folder = tmp_path / "registry"
    folder.mkdir()
    program = need_program("docker-registry")

    def size() -> int:
        return sum(path.stat().st_size for path in (folder / "data").rglob("*") if path.is_file())

    root = tmp_path / "v"
    root.mkdir()
    rng = random.Random(5)
    with run_registry(folder) as server:
        storage = packer.open_storage(f"docker://{server.host}/org/base")
        for number in range(9):
            # Half of the content is new each time, so old layers die.
            (root / "kept.bin").write_bytes(random.Random(number // 3).randbytes(500_000))
            (root / "new.bin").write_bytes(rng.randbytes(1_000_000))
            storage.save("app", root)
        storage.deploy("app", 6)
        before = size()
        done = storage.retain("app", keep=1)
        assert done.kept == (6, 8)
        assert len(done.deleted) == 7
    subprocess.run(
        [program, "garbage-collect", str(folder / "config.yml")],
        check=True,
        capture_output=True,
        timeout=60,
    )
    after = size()
    assert before - after >= done.freed_bytes * 0.95
    # Two versions of 1.5 MB, which share a third: what stays is not much more than they need.
    assert after < 1.25 * 2_500_000
    with run_registry(folder) as server:
        storage = packer.open_storage(f"docker://{server.host}/org/base")
        assert [one.sequence for one in storage.history("app")] == [6, 8]
        storage.load("app", 8, tmp_path / "out")
        assert (tmp_path / "out/new.bin").read_bytes() == (root / "new.bin").read_bytes()
        assert storage.save("app", root).sequence == 9


def test_a_base_with_a_missing_blob_is_not_built_on(
    server: RegistryServer, uri: str, tmp_path: Path
) -> None:
    storage = packer.open_storage(uri)
    storage.save("app", write_release(tmp_path / "v", 0))
    version = storage.version("app", 0)
    (layer,) = version.manifest.data_layers
    blob = server.data / "docker/registry/v2/blobs/sha256" / layer.digest[7:9] / layer.digest[7:]
    shutil.rmtree(blob)
    saved = packer.open_storage(uri).save("app", write_release(tmp_path / "v", 1))
    assert (saved.sequence, saved.parent) == (1, "")
    storage.load("app", 1, tmp_path / "out")


def test_a_cache_keeps_layers(uri: str, proxy: CountingProxy, tmp_path: Path) -> None:
    writer = packer.open_storage(uri)
    for number in range(3):
        writer.save("app", write_release(tmp_path / "v", number))
    storage = packer.open_storage(uri, cache=tmp_path / "cache")
    storage.load("app", 0, tmp_path / "out0")
    proxy.clear()
    storage.load("app", 2, tmp_path / "out2")
    assert (tmp_path / "out2/app.yaml").read_bytes() == (tmp_path / "v/app.yaml").read_bytes()
    # The manifest, for each of both steps; config, two patches of the index, two small layers.
    assert proxy.count() <= 8
    proxy.clear()
    storage.load("app", 2, tmp_path / "again")
    assert proxy.count() <= 1
    assert storage.save("app", write_release(tmp_path / "v", 3)).new_bytes < 3_000


def test_versions_are_those_of_the_other_calls(uri: str, tmp_path: Path) -> None:
    storage = packer.open_storage(uri)
    for number in range(2):
        storage.save("My App", write_release(tmp_path / "v", number))
    assert storage.apps() == ["My App"]
    reference = storage.reference("My App", 1)
    store = tmp_path / "store"
    packer.pull(reference, tmp_path / "out", store=store)
    assert (tmp_path / "out/app.yaml").read_bytes() == (tmp_path / "v/app.yaml").read_bytes()
    assert packer.verify(reference, store=store).chunks
    with pytest.raises(Conflict):
        storage.save("My App", tmp_path / "v", sequence=0)
