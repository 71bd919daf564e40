"""Packing on a base that lies in a registry, from an empty disk: what is read, and what is left."""

from __future__ import annotations

import base64
import json
import random
import shutil
import threading
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest

import packer
from packer.cli.main import main
from packer.errors import NotFound
from packer.format.frames import Frames
from packer.format.version import Version
from packer.oci import Manifest
from packer.progress import Progress
from packer.stores.index_json import PROMISED
from packer.stores.layout import LayoutStore
from packer.stores.memory import MemoryStore
from packer.stores.registry.store import RegistryStore
from packer.stores.registry.transport.retries import RetryPolicy
from tests.conformance.make_samples import read_tree
from tests.fault_proxy import ACTIONS, POSITIONS, Fault, fault_proxy
from tests.hostile import Exchange, hostile_registry
from tests.registry_server import (
    PASSWORD,
    USER,
    CountingProxy,
    RegistryServer,
    counting_proxy,
    run_registry,
)

pytestmark = pytest.mark.registry


WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta"]


def write(root: Path, version: int, *, images: int = 3, texts: int = 300) -> Path:
    """Make a version: large images that stay, and many manifests that each change in a line."""
    (root / "images").mkdir(parents=True, exist_ok=True)
    (root / "manifests").mkdir(exist_ok=True)
    for number in range(images):
        content = random.Random(number).randbytes(12_000_000)
        (root / "images" / f"{number}.bin").write_bytes(content)
    for number in range(texts):
        words = random.Random(number).choices(WORDS, k=400)
        text = "\n".join(" ".join(words[at : at + 8]) for at in range(0, 400, 8))
        path = root / "manifests" / f"{number}.yaml"
        path.write_text(f"kind: App\nversion: 1.4.{version}\nnumber: {number}\n{text}\n")
    return root


@dataclass
class Pushed:
    """A base in a registry, and the disk of another machine."""

    server: RegistryServer
    proxy: CountingProxy
    repository: str
    base: packer.Packed
    full: Path
    old: Path
    new: Path

    @property
    def name(self) -> str:
        return f"{self.proxy.host}/{self.repository}"


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pushed]:
    folder = tmp_path_factory.mktemp("far")
    old, new = write(folder / "old", 1), write(folder / "new", 2)
    (folder / "registry").mkdir()
    with run_registry(folder / "registry") as server, counting_proxy(server.port) as proxy:
        base = packer.pack(old, store=folder / "full", tag="app:1.4.1")
        packer.push(f"{proxy.host}/acme/app:1.4.1", base, store=folder / "full")
        yield Pushed(server, proxy, "acme/app", base, folder / "full", old, new)


def manifest_of(store: object, name: str) -> Manifest:
    assert isinstance(store, (LayoutStore, MemoryStore, RegistryStore))
    return Manifest.decode(store.get_manifest(name)[1])


def stored_frames(version: Version, below: bytes) -> int:
    """Return the stored bytes of the frames that hold the files below a directory."""
    frames, index = Frames(version.index), version.index
    needed: set[int] = set()
    for entry, path in enumerate(index.paths):
        runs = index.runs_of(entry)
        for start, length in runs if path.startswith(below) else ():
            first = bisect_right(frames.first_chunk, start) - 1
            last = bisect_right(frames.first_chunk, start + length - 1)
            needed.update(range(first, last))
    return sum(index.frame_stored[frame] for frame in needed)


def test_the_same_small_update_as_on_a_base_that_is_here(
    pushed: Pushed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    pushed.proxy.clear()
    far = packer.pack(
        pushed.new, store=tmp_path / "empty", tag="app:1.4.2", base=f"{pushed.name}:1.4.1"
    )
    packed = pushed.proxy.count(), sum(pushed.proxy.answers)
    shutil.copytree(pushed.full, tmp_path / "full")
    near = packer.pack(pushed.new, store=tmp_path / "full", tag="app:1.4.2", base="app:1.4.1")
    # The same layers and index, byte for byte, so even the same manifest.
    assert far == near
    assert far.parent == pushed.base.digest
    assert far.new_bytes < 20_000
    # What was read: manifest, config, index, and the frames of the texts, not of the images.
    small = pushed.base.index_bytes + 20_000
    base = packer.open_version("app:1.4.1", store=pushed.full)
    stored = sum(layer.size for layer in base.manifest.layers)
    print(f"read {packed[1]} bytes in {packed[0]} requests, of {stored}; new: {far.new_bytes}")
    assert packed[0] <= 8
    assert packed[1] < small + stored_frames(base, b"manifests/") < stored // 10
    assert {method for method, _, _ in pushed.proxy.requests} == {"GET"}
    # Little of it is written here, too.
    blobs = sum(path.stat().st_size for path in (tmp_path / "empty" / "blobs").rglob("*"))
    assert blobs < far.new_bytes + small
    # And it goes to the registry as any small update does.
    pushed.proxy.clear()
    done = packer.push(f"{pushed.name}:1.4.2", far, store=tmp_path / "empty")
    assert done.blobs_copied == 2  # an update layer and the config
    assert pushed.proxy.count() <= 8
    assert packer.push(f"{pushed.name}:1.4.2", far, store=tmp_path / "empty").unchanged
    packer.pull(f"{pushed.name}:1.4.2", tmp_path / "out", store=tmp_path / "other")
    assert read_tree(tmp_path / "out") == read_tree(pushed.new)


@pytest.mark.parametrize("kind", ["layout", "memory"])
def test_reading_what_is_not_all_here(pushed: Pushed, tmp_path: Path, kind: str) -> None:
    store = LayoutStore(tmp_path / "s") if kind == "layout" else MemoryStore()
    far = packer.pack(pushed.new, store=store, tag="app:1.4.2", base=f"{pushed.name}:1.4.1")
    absent = [blob for blob in manifest_of(store, "app:1.4.2").layers if not store.exists(blob)]
    assert len(absent) > 1
    pushed.proxy.clear()
    assert len(packer.ls("app:1.4.2", store=store)) == 305
    assert packer.inspect("app:1.4.2", store=store).parts[0].reused_bytes > 30_000_000
    assert not pushed.proxy.requests  # the index is here
    text = b"".join(packer.cat("app:1.4.2", "manifests/7.yaml", store=store))
    assert text == (pushed.new / "manifests" / "7.yaml").read_bytes()
    assert 1 <= pushed.proxy.count() <= 3
    packer.unpack("app:1.4.2", tmp_path / "out", store=store)
    assert read_tree(tmp_path / "out") == read_tree(pushed.new)
    assert packer.verify("app:1.4.2", store=store).digest == far.digest
    # A later pack on it needs what it needed, and says so in the same way.
    pushed.proxy.clear()
    third = write(tmp_path / "third", 3)
    next_one = packer.pack(third, store=store, tag="app:1.4.3", base="app:1.4.2")
    assert next_one.parent == far.digest
    assert next_one.new_bytes < 20_000
    packer.unpack("app:1.4.3", tmp_path / "out3", store=store)
    assert read_tree(tmp_path / "out3") == read_tree(third)
    # Nothing is taken for a base by itself that would need the network.
    assert packer.pack(third, store=store, tag="app:1.4.4").digest == next_one.digest
    (third / "new").write_text("new")
    pushed.proxy.clear()
    alone = packer.pack(third, store=store, tag="app:1.4.5")
    assert alone.parent == ""
    assert not pushed.proxy.requests
    # With the base pulled, nothing is missing any more.
    packer.pull(f"{pushed.name}:1.4.1", tmp_path / "out1", store=store)
    pushed.proxy.clear()
    packer.unpack("app:1.4.2", tmp_path / "again", store=store)
    packer.push(f"oci:{tmp_path}/elsewhere:1", "app:1.4.2", store=store)
    assert not pushed.proxy.requests


def test_unchanged(pushed: Pushed, tmp_path: Path) -> None:
    store = LayoutStore(tmp_path / "s")
    same = packer.pack(pushed.old, store=store, tag="app:again", base=f"{pushed.name}:1.4.1")
    assert (same.unchanged, same.digest) == (True, pushed.base.digest)
    assert packer.push(f"{pushed.name}:again", same, store=store).blobs_copied == 0
    packer.unpack("app:again", tmp_path / "out", store=store)
    assert read_tree(tmp_path / "out") == read_tree(pushed.old)
    # Pinned, and known by its digest here: nothing needs a tag.
    pinned = f"{pushed.name}@{pushed.base.digest}"
    again = packer.pack(pushed.old, store=tmp_path / "t", tag="x", base=pinned)
    assert again.digest == pushed.base.digest


def test_what_the_store_claims(pushed: Pushed, tmp_path: Path) -> None:
    store = LayoutStore(tmp_path / "s")
    packer.pack(pushed.new, store=store, tag="app:1.4.2", base=f"{pushed.name}:1.4.1")
    (entry,) = json.loads((tmp_path / "s" / "index.json").read_text())["manifests"]
    (promise,) = json.loads(entry["annotations"][PROMISED])
    assert promise["tag"] == f"{pushed.name}:1.4.1"
    assert promise["digest"] == pushed.base.digest
    layers = manifest_of(store, "app:1.4.2").layers
    assert promise["blobs"] == sorted(blob.digest for blob in layers if not store.exists(blob))
    # Collecting garbage takes nothing that the version needs.
    store.collect_garbage(0)
    packer.unpack("app:1.4.2", tmp_path / "out", store=store)
    assert read_tree(tmp_path / "out") == read_tree(pushed.new)
    data = store.get_manifest("app:1.4.2")[1]
    with pytest.raises(NotFound):  # no other store takes it for complete
        LayoutStore(tmp_path / "other").put_manifest(data, store.resolve("app:1.4.2").media_type)
    # A push to the base's repository still needs no blob of the base, without its manifest here.
    packer.push(f"{pushed.name}:collected", "app:1.4.2", store=store)
    packer.pull(f"{pushed.name}:collected", tmp_path / "out2", store=tmp_path / "fresh")
    assert read_tree(tmp_path / "out2") == read_tree(pushed.new)


@pytest.mark.parametrize("place", ["registry", "layout", "archive"])
def test_destinations_that_lack_the_base(pushed: Pushed, tmp_path: Path, place: str) -> None:
    store = LayoutStore(tmp_path / "s")
    packer.pack(pushed.new, store=store, tag="app:1.4.2", base=f"{pushed.name}:1.4.1")
    (tmp_path / "second").mkdir()
    with run_registry(tmp_path / "second") as second:
        target = {
            "registry": f"{second.host}/acme/app:1.4.2",
            "layout": f"oci:{tmp_path}/layout:1.4.2",
            "archive": f"oci-archive:{tmp_path}/archive.tar:1.4.2",
        }[place]
        with pytest.raises(NotFound) as caught:
            packer.copy("app:1.4.2", target, store=store)
        assert caught.value.kind == "base"
        assert f"{pushed.name}:1.4.1 {pushed.base.digest}" in caught.value.name
        assert f"or pull it into {store.name}" in str(caught.value)
        if place == "registry":
            assert not list(RegistryStore(f"{second.host}/acme/app").tag_names())
            with pytest.raises(NotFound) as caught:
                packer.estimate("app:1.4.2", target, store=store)
            assert caught.value.kind == "base"
        # As the message says: the base first.
        if place != "archive":
            packer.copy(f"{pushed.name}:1.4.1", target.replace("1.4.2", "1.4.1"), store=store)
        else:
            packer.pull(f"{pushed.name}:1.4.1", tmp_path / "base", store=store)
        packer.copy("app:1.4.2", target, store=store)
        packer.unpack(target, tmp_path / "out", store=tmp_path / "fresh")
        assert read_tree(tmp_path / "out") == read_tree(pushed.new)


def test_a_registry_that_lost_the_base(tmp_path: Path) -> None:
    # Between packing and pushing; and a manifest there still vouches for its blobs.
    old, new = write(tmp_path / "old", 1, images=1), write(tmp_path / "new", 2, images=1)
    store = LayoutStore(tmp_path / "s")
    with hostile_registry() as server:
        name = f"{server.host}/app"
        base = packer.pack(old, store=tmp_path / "full", tag="app:1")
        packer.push(f"{name}:1", base, store=tmp_path / "full")
        packer.pack(new, store=store, tag="app:2", base=f"{name}:1")
        layers = manifest_of(LayoutStore(tmp_path / "full"), "app:1").data_layers
        kept = {layer.digest: server.blobs.pop(layer.digest) for layer in layers}
        with pytest.raises(NotFound) as caught:
            packer.push(f"{name}:2", "app:2", store=store)
        assert (caught.value.kind, "2" in server.tags) == ("base", False)
        with pytest.raises(NotFound) as caught:
            packer.unpack("app:2", tmp_path / "out", store=store)
        assert caught.value.kind == "base"
        assert "is not any more" in str(caught.value)
        with pytest.raises(NotFound):
            packer.pack(new, store=tmp_path / "t", tag="app:2", base=f"{name}:1")
        assert packer.versions(store=tmp_path / "t") == []
        server.blobs.update(kept)
        packer.push(f"{name}:2", "app:2", store=store)
        packer.pull(f"{name}:2", tmp_path / "out", store=MemoryStore())
        assert read_tree(tmp_path / "out") == read_tree(new)


def test_verify_finds_what_the_registry_lost(tmp_path: Path) -> None:
    old, new = write(tmp_path / "old", 1, images=1), write(tmp_path / "new", 2, images=1)
    with hostile_registry() as server:
        name = f"{server.host}/app"
        base = packer.pack(old, store=tmp_path / "full", tag="app:1")
        packer.push(f"{name}:1", base, store=tmp_path / "full")
        packer.pack(new, store=tmp_path / "s", tag="app:2", base=f"{name}:1")
        layer = manifest_of(LayoutStore(tmp_path / "full"), "app:1").data_layers[0]
        server.on("GET", f"/blobs/{layer.digest}", lambda it: it.fail(404, "BLOB_UNKNOWN"), None)
        with pytest.raises(NotFound) as caught:
            packer.push(f"{name}:2", "app:2", store=tmp_path / "s", verify=True)
        assert (caught.value.kind, "2" in server.tags) == ("base", False)


@pytest.mark.parametrize("status", [200, 416])
def test_a_registry_without_ranges(tmp_path: Path, status: int) -> None:
    old, new = write(tmp_path / "old", 1), write(tmp_path / "new", 2)
    with hostile_registry() as server:
        name = f"{server.host}/app"
        base = packer.pack(old, store=tmp_path / "full", tag="app:1")
        packer.push(f"{name}:1", base, store=tmp_path / "full")

        def whole(exchange: Exchange) -> bool:
            if "range" not in exchange.headers:
                return False
            if status != 200:
                exchange.reply(status, b"no")
            else:
                exchange.reply(200, server.blobs[exchange.path.rpartition("/")[2]])
            return True

        server.on("GET", "/blobs/", whole, times=None)
        server.seen.clear()
        far = packer.pack(new, store=tmp_path / "s", tag="app:2", base=f"{name}:1")
        near = packer.pack(new, store=tmp_path / "full", tag="app:2", base="app:1")
        assert (far.new_bytes, far.layers) == (near.new_bytes, near.layers)
        layers = {blob.digest for blob in manifest_of(server_store(name), "1").data_layers}
        asked = [item.path.rpartition("/")[2] for item in server.seen]
        read = [digest for digest in asked if digest in layers]
        # Layers that hold what changed, each a time as a part and once whole; not the others.
        assert len(set(read)) < len(layers)
        assert len(read) <= 2 * len(set(read))
        packer.push(f"{name}:2", far, store=tmp_path / "s")
        packer.pull(f"{name}:2", tmp_path / "out", store=MemoryStore())
        assert read_tree(tmp_path / "out") == read_tree(new)


def server_store(name: str) -> RegistryStore:
    return RegistryStore(name)


def test_cancelled_while_the_registry_is_silent(tmp_path: Path) -> None:
    old, new = write(tmp_path / "old", 1, images=1), write(tmp_path / "new", 2, images=1)
    cancel, asked = threading.Event(), threading.Event()
    with hostile_registry() as server:
        name = f"{server.host}/app"
        base = packer.pack(old, store=tmp_path / "full", tag="app:1")
        packer.push(f"{name}:1", base, store=tmp_path / "full")

        def silence(exchange: Exchange) -> bool:
            if "range" in exchange.headers:
                asked.set()
                server.stopping.wait(30)
            return False

        def follow() -> None:
            asked.wait(30)
            cancel.set()

        server.on("GET", "/blobs/", silence, times=None)
        threading.Thread(target=follow).start()
        seen: list[Progress] = []
        with pytest.raises(packer.Cancelled):
            packer.pack(
                new,
                store=tmp_path / "s",
                tag="app:2",
                base=f"{name}:1",
                cancel=cancel,
                progress=seen.append,
            )
        assert packer.versions(store=tmp_path / "s") == []
        server.stopping.set()


@pytest.mark.parametrize("action", ACTIONS)
def test_damage_on_the_way(tmp_path: Path, action: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # A frame of the base that came damaged, taken as it is, would make a version nobody can read.
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    monkeypatch.setattr(RetryPolicy, "pause", lambda *_: 0.0)
    old = write(tmp_path / "old", 1, images=0, texts=40)
    new = write(tmp_path / "new", 2, images=0, texts=40)
    base = packer.pack(old, store=tmp_path / "full", tag="app:1")
    right = packer.pack(new, store=tmp_path / "full", tag="app:2", base="app:1").digest
    (layer,) = manifest_of(LayoutStore(tmp_path / "full"), "app:1").data_layers
    shutil.rmtree(tmp_path / "full" / "cache")
    hit = 0
    with hostile_registry() as server, fault_proxy(server.host) as proxy:
        packer.push(f"{proxy.host}/app:1", base, store=tmp_path / "full")
        few = ("headers", "body-middle")
        places = [("/manifests/", few), ("/blobs/", few), (f"/blobs/{layer.digest}", POSITIONS)]
        for path, positions in places:
            for side, position in product(("request", "response"), positions):
                proxy.fault = Fault("GET", path, side, action, position)
                for _ in range(2):
                    store = MemoryStore()
                    try:
                        packed = packer.pack(
                            new, store=store, tag="app:2", base=f"{proxy.host}/app:1"
                        )
                    except packer.PackerError:
                        assert list(store.tags()) == []
                    else:
                        break
                assert packed.digest == right
                hit += proxy.fault is None
                proxy.fault = None
    assert hit >= 15


def test_with_a_password_over_tls(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = write(tmp_path / "old", 1, images=1), write(tmp_path / "new", 2, images=1)
    (tmp_path / "registry").mkdir()
    with run_registry(tmp_path / "registry", htpasswd=True, tls=True) as server:
        access = packer.RegistryOptions(
            username=USER, password=PASSWORD, ca_file=str(server.ca_file)
        )
        name = f"{server.host}/acme/app"
        base = packer.pack(old, store=tmp_path / "full", tag="app:1")
        packer.push(f"{name}:1", base, store=tmp_path / "full", registry=access)
        auth = tmp_path / "auth.json"
        login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        auth.write_text(json.dumps({"auths": {server.host: {"auth": login}}}))
        common = ["--store", str(tmp_path / "s"), "--ca-file", str(server.ca_file)]
        common += ["--auth-file", str(auth)]
        words = ["pack", str(new), "--tag", "app:2", "--base", f"{name}:1", "--json", *common]
        assert main(words) == 0
        printed = json.loads(capsys.readouterr().out)
        assert printed["parent"] == base.digest
        assert printed["new_bytes"] < 20_000
        assert main(["push", f"{name}:2", *common]) == 0
        assert main(["unpack", "app:2", str(tmp_path / "out"), *common]) == 0
        assert read_tree(tmp_path / "out") == read_tree(new)
        capsys.readouterr()
        # Without credentials: said as such, and nothing is tagged.
        bare = ["--store", str(tmp_path / "t"), "--ca-file", str(server.ca_file)]
        assert main(["pack", str(new), "--tag", "app:2", "--base", f"{name}:1", *bare]) == 6
        assert packer.versions(store=tmp_path / "t") == []
