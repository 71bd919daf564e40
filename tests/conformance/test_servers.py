"""Servers and clients beyond Debian's: object storage behind a registry, distribution 3, oras.

Each is skipped with a reason where it cannot be had; ``tools/install-servers`` builds them.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import packer
from benchmarks import transfer
from packer.oci import Manifest
from packer.stores.layout import LayoutStore
from packer.stores.manifests import read_graph
from packer.stores.memory import MemoryStore
from packer.stores.protocols import read_blob
from packer.stores.registry.settings import Settings
from packer.stores.registry.store import RegistryStore
from packer.transfer.copy_graph import copy
from tests.artifacts import make_version
from tests.builders import noise
from tests.conformance.make_samples import read_tree
from tests.registry_server import (
    PASSWORD,
    USER,
    RegistryServer,
    object_store,
    optional_program,
    run_registry,
    token_service,
)

pytestmark = pytest.mark.registry


@pytest.fixture
def app(tmp_path: Path) -> Path:
    folder = tmp_path / "app"
    folder.mkdir()
    for number in range(4):
        (folder / f"file{number}").write_bytes(noise(f"file {number}", 300_000))
    return folder


# A registry on object storage, which sends clients on to signed URLs


def test_object_storage_with_redirects(app: Path, tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    login = packer.RegistryOptions(username=USER, password=PASSWORD)
    with (
        object_store(tmp_path) as url,
        run_registry(tmp_path, htpasswd=True, s3=url) as server,
    ):
        name = f"{server.host}/app:1"
        packer.pack(app, store=store, tag="app:1")
        packer.push(name, "app:1", store=store, registry=login)
        fresh = str(tmp_path / "fresh")
        packer.pull(name, tmp_path / "out", store=fresh, registry=login)
        assert read_tree(tmp_path / "out") == read_tree(app)
        # Ranges survive the redirect; the registry's password does not go along.
        content = b"".join(packer.cat(name, "file2", store=str(tmp_path / "e"), registry=login))
        assert content == noise("file 2", 300_000)
        assert packer.push(name, "app:1", store=store, registry=login, verify=True).unchanged
        (app / "file1").write_bytes(noise("changed", 300_000))
        packer.pack(app, store=store, tag="app:2")
        done = packer.push(f"{server.host}/app:2", "app:2", store=store, registry=login)
        assert (done.blobs_copied, done.blobs_present) == (3, 2)  # the index's first part too
        found = packer.doctor(name, registry=login)
        assert found.works("ranges") == found.works("pull") == "yes"


# distribution 3


@pytest.fixture
def third(tmp_path: Path) -> Iterator[RegistryServer]:
    program = optional_program("registry")
    folder = tmp_path / "third"
    folder.mkdir()
    with run_registry(folder, program=program) as server:
        yield server


def test_distribution_3(third: RegistryServer, tmp_path: Path) -> None:
    memory = MemoryStore()
    made = make_version(memory, count=3, size=200_000)
    registry = RegistryStore(f"{third.host}/app")
    copy(memory, "v1", registry, "v1")
    layout = LayoutStore(tmp_path / "layout")
    copy(registry, "v1", layout, "v1")
    assert layout.get_manifest("v1") == memory.get_manifest("v1")
    blob = Manifest.decode(memory.get_manifest("v1")[1]).layers[1]
    with registry.fetch(blob, 1000, 70) as reader:
        assert reader.read() == noise("layer 1", 200_000)[1000:1070]
    copy(memory, "v1", registry, "v2")
    assert list(registry.tags()) == [("v1", made), ("v2", made)]
    registry.untag("v1")  # version 2 cannot
    assert list(registry.tags()) == [("v2", made)]
    found = packer.doctor(f"{third.host}/app:v2", write=True)
    works = {probe.name: probe.works for probe in found.probes}
    assert works.pop("referrers") == "no"
    assert set(works.values()) == {"yes"}
    assert len(works) == 10


def test_distribution_3_with_tokens(tmp_path: Path) -> None:
    program = optional_program("registry")
    memory = MemoryStore()
    make_version(memory, count=6, size=100_000)
    with (
        token_service(tmp_path) as service,
        run_registry(tmp_path, realm=service.realm, program=program) as server,
    ):
        service.life_seconds = 3
        store = RegistryStore(f"{server.host}/app", Settings(username=USER, password=PASSWORD))
        copy(memory, "v1", store, "v1")
        copy(store, "v1", MemoryStore(), "v1")
        assert service.granted


# oras


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RegistryServer]:
    folder = tmp_path / "registry"
    folder.mkdir()
    with run_registry(folder) as made:
        yield made


def oras(*words: str, cwd: Path) -> bytes:
    environment = os.environ | {"HOME": str(cwd), "DOCKER_CONFIG": str(cwd)}
    done = subprocess.run(
        [optional_program("oras"), *words],
        cwd=cwd, env=environment, check=False, capture_output=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def test_oras_copies_and_reads_versions(server: RegistryServer, app: Path, tmp_path: Path) -> None:
    optional_program("oras")
    store = str(tmp_path / "store")
    packed = packer.pack(app, store=store, tag="app:1")
    name = f"{server.host}/app:1"
    packer.push(name, "app:1", store=store)
    original = RegistryStore(f"{server.host}/app").get_manifest("1")[1]
    assert oras("manifest", "fetch", "--plain-http", name, cwd=tmp_path) == original
    # To another repository and to a layout, byte for byte; ours reads both.
    mirror = f"{server.host}/mirror/app:1"
    oras("copy", "--from-plain-http", "--to-plain-http", name, mirror, cwd=tmp_path)
    oras("copy", "--from-plain-http", "--to-oci-layout", name, "layout:1", cwd=tmp_path)
    for number, reference in enumerate((mirror, f"oci:{tmp_path}/layout:1")):
        out = tmp_path / f"out{number}"
        pulled = packer.pull(
            reference, out, store=str(tmp_path / f"s{number}"), expect=packed.digest
        )
        assert pulled.digest == packed.digest
        assert read_tree(out) == read_tree(app)
    oras("pull", "--plain-http", name, "-o", "files", cwd=tmp_path)
    # From what oras attaches to a version, ours finds its way back, and oras sees it afterwards.
    (tmp_path / "note.txt").write_text("checked by hand")
    words = ["--artifact-type", "application/x.note", mirror, "note.txt:text/plain"]
    oras("attach", "--plain-http", *words, cwd=tmp_path)
    tree = json.loads(oras("discover", "--plain-http", "--format", "json", mirror, cwd=tmp_path))
    listed = tree.get("referrers") or tree.get("manifests")
    assert [item["artifactType"] for item in listed] == ["application/x.note"]
    assert packer.copy(mirror, f"{server.host}/third/app:1").descriptor.digest == packed.digest
    # An artifact of oras: copied by us as it is.
    foreign = f"{server.host}/foreign:1"
    oras("push", "--plain-http", foreign, "note.txt:text/plain", cwd=tmp_path)
    packer.copy(foreign, f"oci:{tmp_path}/foreign:1")
    target = LayoutStore(tmp_path / "foreign")
    (blob,) = read_graph(target.get_manifest("1")[1], "manifest").layers
    assert read_blob(target, blob, 100) == b"checked by hand"


# The benchmark


def test_the_benchmark_of_transfers_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--megabytes", "1", "--rounds", "1", "--blobs", "2", "--latency-ms", "1"]
    words += ["--directory", str(tmp_path), "--json", str(tmp_path / "rows")]
    assert transfer.main(words) == 0
    rows = json.loads((tmp_path / "rows").read_text())
    tasks = {row["task"] for row in rows if row["client"] == "layer-packer"}
    assert tasks == {"push", "pull", "pull, on disk", "push 2 blobs, 1 ms"}
    assert {"oras-py", "layer-packer"} <= {row["client"] for row in rows}
    assert len(capsys.readouterr().out.splitlines()) == 3 + len(rows)
