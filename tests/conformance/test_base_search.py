"""The best base of a repository with 1,000 tags, from an empty disk, against a real registry."""

from __future__ import annotations

import io
import json
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import packer
from packer.cli.main import main
from packer.oci import CONFIG_TYPE, INDEX_TYPE, MANIFEST_TYPE, Descriptor, canonical_json, digest_of
from packer.packing.older.bases import tags_to_look_at
from packer.stores.memory import MemoryStore
from packer.stores.registry.store import RegistryStore
from tests.builders import noise, text, write
from tests.registry_server import (
    PASSWORD,
    USER,
    CountingProxy,
    RegistryServer,
    counting_proxy,
    run_registry,
)
from tests.rule_proxy import Fault, rule_proxy

pytestmark = [pytest.mark.registry, pytest.mark.slow]

COMMITS = [f"{random.Random(n).getrandbits(160):040x}" for n in range(1000)]
MOST_REQUESTS = 24
"""Of packing, everything included; looking at each tag would take more than 1,000."""


def write_version(root: Path, number: int) -> Path:
    """Write a version: a large file that stays, and texts that each change in a line."""
    files = {"image.bin": noise(1, 300_000)}
    for at in range(20):
        files[f"manifests/{at}.yaml"] = b"version: %d\n" % number + text(at, 3_000)
    return write(root, files)


@dataclass
class Repositories:
    """A registry with a repository of 1,000 tags for each way to name versions."""

    server: RegistryServer
    proxy: CountingProxy
    trees: Path
    digests: dict[str, str]
    """Digest of the real versions, by reference without the host."""

    def name(self, repository: str) -> str:
        return f"{self.proxy.host}/{repository}"


def fill(
    store: RegistryStore, manifest: bytes, tags: list[str], created: Callable[[int], str]
) -> None:
    """Put variants of a manifest, which tell other times, under many tags."""
    value = json.loads(manifest)

    def put(at: int) -> None:
        value_at = value | {"annotations": value["annotations"] | {
            "org.opencontainers.image.created": created(at)}}  # fmt: skip
        store.put_manifest(canonical_json(value_at), MANIFEST_TYPE, tags[at])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, range(len(tags))))


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repositories]:
    folder = tmp_path_factory.mktemp("bases")
    (folder / "registry").mkdir()
    trees = folder / "trees"
    local = folder / "store"
    with run_registry(folder / "registry") as server, counting_proxy(server.port) as proxy:
        digests = {}
        for number in range(1, 4):
            write_version(trees / str(number), number)
        strange = write(trees / "strange", {f"src/{n}.go": text(n, 5_000) for n in range(9)})
        foreign = packer.pack(strange, store=local, tag="strange:1")
        old = packer.pack(trees / "1", store=local, tag="app:1", base="none")
        time.sleep(1.1)  # manifests tell their time to the second
        new = packer.pack(trees / "2", store=local, tag="app:2", base="app:1")
        for repository, last in (("versions", "1.4.500"), ("commits", "main"), ("mixed", "v2.0")):
            tags = [f"1.4.{n}" for n in range(999)] if repository == "versions" else COMMITS[:999]
            packer.push(f"{server.host}/acme/{repository}:{last}", new, store=local)
            packer.push(f"{server.host}/acme/{repository}:0.1", old, store=local)
            with RegistryStore(f"{server.host}/acme/{repository}") as store:
                _, manifest = store.get_manifest(old.digest)
                rest = [tag for tag in tags if tag != last]
                fill(store, manifest, rest, lambda at: f"2020-01-01T{at // 60:02}:{at % 60:02}:00Z")
            digests[f"acme/{repository}:{last}"] = new.digest
        packer.push(f"{server.host}/acme/mixed:v3.0", foreign, store=local)
        yield Repositories(server, proxy, trees, digests)


def next_version(repositories: Repositories, tmp_path: Path) -> Path:
    return write_version(tmp_path / "next", 3)


@pytest.mark.parametrize(
    ("repository", "tag", "base", "by"),
    [
        ("versions", "1.4.501", "1.4.500", "tree"),
        ("versions", "v1.4.501", "1.4.500", "tree"),
        ("versions", "app-1.4.501", "1.4.500", "tree"),
        ("commits", COMMITS[999], "main", "tree"),
        ("commits", "main", "main", "tree"),
        ("mixed", "v2.1", "v2.0", "tree"),
        ("mixed", "3.1", "v2.0", "tree"),
    ],
)
def test_a_thousand_tags(
    repositories: Repositories, tmp_path: Path, repository: str, tag: str, base: str, by: str
) -> None:
    root = next_version(repositories, tmp_path)
    found = []
    for disk in ("one", "two"):
        repositories.proxy.clear()
        packed = packer.pack(
            root,
            store=tmp_path / disk,
            tag=tag,
            base=f"auto:{repositories.name(f'acme/{repository}')}",
        )
        assert packed.base is not None
        found.append(packed.base)
        assert repositories.proxy.count() <= MOST_REQUESTS
        assert packed.new_bytes < 10_000
    assert found[0] == found[1]
    assert found[0].name == f"{repositories.name(f'acme/{repository}')}:{base}"
    assert found[0].digest == packed.parent == repositories.digests[f"acme/{repository}:{base}"]
    assert found[0].found_by == by


def test_nothing_tells_which_commit_is_the_newest(
    repositories: Repositories, tmp_path: Path
) -> None:
    # Of 1,000 equal versions that tell their time alone, the newest of sixteen.
    local = tmp_path / "local"
    packed = packer.pack(repositories.trees / "1", store=local, tag="x")
    host = repositories.server.host
    packer.push(f"{host}/acme/plain:{COMMITS[0]}", packed, store=local)
    with RegistryStore(f"{host}/acme/plain") as store:
        _, manifest = store.get_manifest(packed.digest)
        fill(store, manifest, COMMITS, lambda at: f"2020-01-01T{at // 60:02}:{at % 60:02}:00Z")
    root = next_version(repositories, tmp_path)
    repositories.proxy.clear()
    packed = packer.pack(
        root, store=MemoryStore(), tag="0" * 40, base=f"auto:{repositories.name('acme/plain')}"
    )
    assert packed.base is not None
    newest = max(tags_to_look_at(COMMITS, "0" * 40), key=COMMITS.index)
    assert packed.base.name.rpartition(":")[2] == newest
    assert repositories.proxy.count() <= MOST_REQUESTS


def test_a_directory_is_pushed_on_the_best_base(
    repositories: Repositories, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = next_version(repositories, tmp_path)
    repositories.proxy.clear()
    done = packer.push(
        f"{repositories.name('acme/versions')}:2.0.0-rc.1", root, store=tmp_path / "empty"
    )
    assert done.bytes_copied < 20_000
    assert repositories.proxy.count() <= MOST_REQUESTS + 10
    assert not caplog.messages
    out = tmp_path / "out"
    packer.pull(f"{repositories.name('acme/versions')}:2.0.0-rc.1", out, store=tmp_path / "other")
    assert (out / "image.bin").read_bytes() == (root / "image.bin").read_bytes()
    # What is there already is found again, under any name.
    again = packer.push(
        f"{repositories.name('acme/versions')}:nightly", root, store=tmp_path / "third"
    )
    assert again.descriptor.digest == done.descriptor.digest
    # The first version of a repository has no base, and that is said.
    packer.push(f"{repositories.name('acme/first')}:1", root, store=tmp_path / "fourth")
    assert [message.startswith("no base was found") for message in caplog.messages] == [True]


def test_the_command(
    repositories: Repositories, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = str(next_version(repositories, tmp_path))
    store = ["--store", str(tmp_path / "store"), "-q"]
    base = f"auto:{repositories.name('acme/versions')}:1.4.501"
    assert main(["pack", root, "--tag", "app:1.4.501", "--base", base, *store[:2]]) == 0
    name = f"{repositories.name('acme/versions')}:1.4.500"
    assert f"\non {name}  sha256:" in capsys.readouterr().out
    assert main(["pack", root, "--tag", "b:1", "--base", base, "--json", *store]) == 0
    value = json.loads(capsys.readouterr().out)["base"]
    assert value.pop("shared_paths") == 1
    digest = repositories.digests["acme/versions:1.4.500"]
    assert value == {"name": name, "digest": digest, "found_by": "tree"}
    for wrong in ("auto:", "auto:acme/app", "auto:oci:x", f"{base}@sha256:1", "auto:x.y/Z"):
        assert main(["pack", root, "--base", wrong, *store]) == 2, wrong
        assert capsys.readouterr().err.count("\n") == 1


def test_a_repository_of_other_artifacts(repositories: Repositories, tmp_path: Path) -> None:
    # No version among 60 images, and a tag that a registry made of a referrer.
    host = repositories.server.host
    with RegistryStore(f"{host}/acme/images") as store:
        config = b"{}"
        blob = Descriptor(CONFIG_TYPE, digest_of(config), len(config))
        store.push(blob, io.BytesIO(config))
        for at in range(60):
            value = {
                "schemaVersion": 2,
                "mediaType": MANIFEST_TYPE,
                "artifactType": "application/example",
                "config": blob.to_json(),
                "layers": [blob.to_json()],
                "annotations": {"n": str(at)},
            }
            store.put_manifest(canonical_json(value), MANIFEST_TYPE, f"1.{at}")
    root = next_version(repositories, tmp_path)
    base = f"auto:{repositories.name('acme/images')}"
    packed = packer.pack(root, store=tmp_path / "store", tag="1.4.2", base=base)
    assert packed.base is None


def test_damaged_and_hostile_versions_are_passed_over(
    repositories: Repositories, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    host = repositories.server.host
    local = tmp_path / "local"
    sound = packer.pack(repositories.trees / "1", store=local, tag="app:1.0", base="none")
    packer.push(f"{host}/acme/hostile:1.0", sound, store=local)
    with RegistryStore(f"{host}/acme/hostile") as store:
        manifest = json.loads(store.get_manifest("1.0")[1])
        config = json.loads(store.fetch(Descriptor(**_named(manifest["config"]))).read())
        later = manifest["annotations"] | {"org.opencontainers.image.created": "2099"}
        configs = b"{}", b"[" * 9000, canonical_json(config | {"format": 99})
        for number, wrong in enumerate(configs):
            blob = Descriptor(CONFIG_TYPE, digest_of(wrong), len(wrong))
            store.push(blob, io.BytesIO(wrong))
            value = manifest | {"config": blob.to_json(), "annotations": later}
            store.put_manifest(canonical_json(value), MANIFEST_TYPE, f"1.{number + 2}")
        noise_blob = Descriptor(INDEX_TYPE, digest_of(b"noise"), 5)
        store.push(noise_blob, io.BytesIO(b"noise"))
        layers = [layer for layer in manifest["layers"] if layer["mediaType"] != INDEX_TYPE]
        value = manifest | {"layers": [*layers, noise_blob.to_json()]}
        store.put_manifest(canonical_json(value), MANIFEST_TYPE, "1.1")
    root = next_version(repositories, tmp_path)
    base = f"auto:{repositories.name('acme/hostile')}"
    packed = packer.pack(root, store=tmp_path / "store", tag="1.1.1", base=base)
    assert packed.base is not None
    assert packed.base.name == f"{repositories.name('acme/hostile')}:1.0"
    assert packed.parent == sound.digest
    assert all(f"{message} ".count("is not packed on") for message in caplog.messages)
    assert len(caplog.messages) == 4


def _named(value: dict[str, Any]) -> dict[str, Any]:
    return {"media_type": value["mediaType"], "digest": value["digest"], "size": value["size"]}


def test_a_registry_that_lists_no_tags(
    repositories: Repositories, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = next_version(repositories, tmp_path)

    def refuse(method: str, path: str) -> Fault:
        return Fault.IMMUTABLE if "/tags/list" in path else Fault.NONE

    with rule_proxy(repositories.server.port) as proxy:
        proxy.rule = refuse
        base = f"auto:{proxy.host}/acme/mixed:v2.0"
        packed = packer.pack(root, store=tmp_path / "store", tag="x", base=base)
    assert packed.base is not None
    assert packed.base.digest == repositories.digests["acme/mixed:v2.0"]
    (message,) = caplog.messages
    assert "are not listed, so only v2.0 and latest may be packed on: " in message


def test_passwords(tmp_path: Path) -> None:
    root = write_version(tmp_path / "v", 1)
    (tmp_path / "registry").mkdir()
    with run_registry(tmp_path / "registry", htpasswd=True) as server:
        base = f"auto:{server.host}/acme/app"
        right = packer.RegistryOptions(username=USER, password=PASSWORD)
        wrong = packer.RegistryOptions(username=USER, password="wrong")
        store = tmp_path / "store"
        assert packer.pack(root, store=store, tag="1", base=base, registry=right).base is None
        with pytest.raises(packer.AuthError):
            packer.pack(root, store=store, tag="2", base=base, registry=wrong)
        packer.push(f"{server.host}/acme/app:1", root, store=store, registry=right)
        (root / "new").write_bytes(b"new")
        far = packer.pack(root, store=tmp_path / "x", tag="2", base=base, registry=right)
        assert far.base is not None
