"""The same things done to every registry program that can be had, beside Debian's.

They differ in what they leave out: mounts, the referrers API, the removal of tags. What they leave
out is stated here for each, so that a new version that changes it is noticed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import packer
from packer.errors import RegistryError
from packer.oci import Manifest
from packer.stores.archive.store import ArchiveStore
from packer.stores.layout import LayoutStore
from packer.stores.memory import MemoryStore
from packer.stores.registry.store import RegistryStore
from packer.transfer.copy_graph import copy
from tests.artifacts import make_version
from tests.builders import noise
from tests.conformance.make_samples import read_tree
from tests.conformance.test_interop import must
from tests.referrers import check_signed, sign_all, sigstore_bundle
from tests.registry_server import optional_program, run_other, run_registry

pytestmark = pytest.mark.registry
BY_HAND = "LAYER_PACKER_INTEROP=1 tools/install-servers builds it"
IN_FULL = "LAYER_PACKER_ALL_SERVERS=1 tools/install-servers builds it, which takes minutes"
NOT_SERVED = "its module could not be had where this was written; put it on the path, or build it"


@dataclass(frozen=True)
class Kind:
    """A registry program.

    Args:
        name: of the program.
        how: it can be had.
        mounts: blobs of another repository.
        referrers: has the API.
        untags: removes single tags.
    """

    name: str
    how: str
    mounts: bool = True
    referrers: bool = False
    untags: bool = True


KINDS = [
    Kind("docker-registry", "apt has it", untags=False),
    Kind("registry", IN_FULL),
    Kind("crane", BY_HAND, mounts=False),
    Kind("ociserver", "tools/install-servers builds it where Go is", referrers=True),
    Kind("zot", NOT_SERVED, referrers=True),  # by its documentation: not run here yet
]


@pytest.fixture(scope="module", params=KINDS, ids=[kind.name for kind in KINDS])
def kind(request: pytest.FixtureRequest) -> Kind:
    made: Kind = request.param
    return made


@pytest.fixture(scope="module")
def host(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    program = optional_program(kind.name, kind.how)
    folder = tmp_path_factory.mktemp(kind.name)
    if kind.name.endswith("registry"):
        with run_registry(folder, program=program) as server:
            yield server.host
        return

    def zot(port: int) -> list[str]:
        config = {
            "distSpecVersion": "1.1.1",
            "storage": {"rootDirectory": str(folder / "data"), "gc": False},
            "http": {"address": "127.0.0.1", "port": str(port)},
            "log": {"level": "error"},
        }
        (folder / "config.json").write_text(json.dumps(config))
        return [program, "serve", "config.json"]

    commands: dict[str, Callable[[int], list[str]]] = {
        "crane": lambda port: [program, "registry", "serve", "--address", f"127.0.0.1:{port}"],
        "ociserver": lambda port: [program, f"127.0.0.1:{port}"],
        "zot": zot,
    }
    with run_other(folder, commands[kind.name]) as address:
        yield address


def test_round_trip_ranges_and_tags(kind: Kind, host: str, tmp_path: Path) -> None:
    memory = MemoryStore()
    made = make_version(memory, count=3, size=200_000)
    registry = RegistryStore(f"{host}/round/trip")
    assert copy(memory, "v1", registry, "v1").blobs_copied == 5
    assert copy(memory, "v1", registry, "v1").unchanged
    layout = LayoutStore(tmp_path / "layout")
    copy(registry, "v1", layout, "v1")
    assert layout.get_manifest("v1") == memory.get_manifest("v1")
    blob = Manifest.decode(memory.get_manifest("v1")[1]).layers[1]
    for start, length in ((1000, 70), (0, 1), (199_999, 1), (0, 200_000)):
        with registry.fetch(blob, start, length) as reader:
            assert reader.read() == noise("layer 1", 200_000)[start : start + length]
    assert not registry.ignores_ranges
    copy(memory, "v1", registry, "v2")
    assert sorted(registry.tags()) == [("v1", made), ("v2", made)]
    if kind.untags:
        registry.untag("v1")
        assert list(registry.tags()) == [("v2", made)]
    else:
        with pytest.raises(RegistryError, match="does not support removing tags"):
            registry.untag("v1")


def test_updates_and_mounts(kind: Kind, host: str, tmp_path: Path) -> None:
    app, store = tmp_path / "app", tmp_path / "store"
    app.mkdir()
    for number in range(4):
        (app / f"file{number}").write_bytes(noise(f"file {number}", 300_000))
    packer.push(f"{host}/acme/app:1", packer.pack(app, store=store, tag="app:1"), store=store)
    with (app / "file1").open("ab") as file:
        file.write(b"more")
    second = packer.pack(app, store=store, tag="app:2")
    pushed = packer.push(f"{host}/acme/app:2", second, store=store, verify=True)
    assert pushed.bytes_copied < 10_000
    done = packer.copy(f"{host}/acme/app:2", f"{host}/mirror/app:2", verify=True)
    moved = done.blobs_mounted if kind.mounts else done.blobs_copied
    assert moved == pushed.blobs_copied + pushed.blobs_present
    packer.pull(f"{host}/mirror/app:2", tmp_path / "out", store=MemoryStore(), expect=second.digest)
    assert read_tree(tmp_path / "out") == read_tree(app)
    # A base that lies there, by ranges, and from its place into a third repository.
    with (app / "file2").open("ab") as file:
        file.write(b"more")
    near = tmp_path / "near"
    third = packer.pack(app, store=near, tag="app:3", base=f"{host}/mirror/app:2")
    place = "third" if kind.mounts else "mirror"
    done = packer.push(f"{host}/{place}/app:3", third, store=near)
    assert done.bytes_copied < 10_000
    packer.pull(f"{host}/{place}/app:3", tmp_path / "out3", store=MemoryStore())
    assert read_tree(tmp_path / "out3") == read_tree(app)


def test_the_doctor_is_right(kind: Kind, host: str) -> None:
    memory = MemoryStore()
    make_version(memory, count=1, size=1000)
    copy(memory, "v1", RegistryStore(f"{host}/doctor"), "v1")
    found = packer.doctor(f"{host}/doctor:v1", write=True)
    works = {probe.name: probe.works == "yes" for probe in found.probes}
    expected = dict.fromkeys(works, True)
    expected |= {"mount": kind.mounts, "referrers": kind.referrers}
    assert works == expected
    assert len(works) == 11


def test_referrers(kind: Kind, host: str, tmp_path: Path) -> None:
    # What oras attaches goes along with our copy, and oras finds it there, by the API or the tag.
    memory = MemoryStore()
    made = make_version(memory, count=1, size=1000)
    near, far = f"{host}/near/app", f"{host}/far/app"
    copy(memory, "v1", RegistryStore(near), "v1")
    (tmp_path / "sbom.json").write_text("{}")
    words = ["--artifact-type", "application/x.sbom", f"{near}:v1", "sbom.json"]
    must("oras", "attach", "--plain-http", *words, cwd=tmp_path)
    shown = must("oras", "discover", "--plain-http", "--format", "json", f"{near}:v1", cwd=tmp_path)
    tree = json.loads(shown)
    (entry,) = tree.get("referrers") or tree.get("manifests")
    assert entry["artifactType"] == "application/x.sbom"
    tags = set(RegistryStore(near).tag_names())
    assert tags == {"v1"} | (set() if kind.referrers else {made.digest.replace(":", "-")})
    archive = ArchiveStore(tmp_path / "between.tar")
    assert copy(RegistryStore(near), "v1", archive, "v1").referrers_copied == 1
    assert copy(archive, "v1", RegistryStore(far), "v1").referrers_copied == 1
    theirs = RegistryStore(near).get_manifest(entry["digest"])
    assert RegistryStore(far).get_manifest(entry["digest"]) == theirs
    words = ["--plain-http", "--format", "json", f"{far}:v1"]
    tree = json.loads(must("oras", "discover", *words, cwd=tmp_path))
    (again,) = tree.get("referrers") or tree.get("manifests")
    assert (again["digest"], again["artifactType"]) == (entry["digest"], "application/x.sbom")


def test_everything_that_refers_goes_along(kind: Kind, host: str, tmp_path: Path) -> None:
    memory = MemoryStore()
    made = make_version(memory, count=1, size=1000)
    signed = sign_all(memory, made)
    near, far = f"{host}/signed/near", f"{host}/signed/far"
    count = copy(memory, "v1", RegistryStore(near), "v1").referrers_copied
    assert count == len(signed.tags) + sum(map(len, signed.attached.values()))
    assert copy(RegistryStore(near), "v1", RegistryStore(far), "v1").referrers_copied == count
    check_signed(RegistryStore(far), signed)
    again = copy(RegistryStore(near), "v1", RegistryStore(far), "v1")
    assert (again.unchanged, again.referrers_present) == (True, count)
    lists = {name for name in RegistryStore(far).tag_names() if len(name) == 71}
    assert len(lists) == (0 if kind.referrers else len(signed.attached))
    # A second signer, at the far side alone; and one here.
    theirs = sigstore_bundle(RegistryStore(far), made, "theirs")
    ours = sigstore_bundle(memory, made, "ours")
    assert copy(memory, "v1", RegistryStore(far), "v1").referrers_copied == 1
    found = {one.digest for one in RegistryStore(far).referrers(made.digest)}
    assert found == signed.attached[made.digest] | {theirs.digest, ours.digest}
    layout = LayoutStore(tmp_path / "layout")
    copy(RegistryStore(far), "v1", layout, "v1")
    check = RegistryStore(f"{host}/signed/back")
    assert copy(layout, "v1", check, "v1", verify=True).referrers_copied == count + 2
