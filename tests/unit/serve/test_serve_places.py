"""What is served: stores, applications, versions, layouts, storages, and what is not."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest

import packer
from packer.errors import InvalidReference, NotFound
from packer.oci import Descriptor, digest_of
from packer.serve.finding import open_place
from packer.stores.layout import LayoutStore
from tests.serving import run_service


def test_a_store_is_grouped_by_applications(shown: Path) -> None:
    place = open_place(str(shown / "store"))
    assert place.kind == "store"
    assert place.apps() == ["acme/manifests", "registry"]
    assert place.names("registry") == [f"registry:1.{n}" for n in range(4)]
    row = place.rows("registry", ["registry:1.2"])[0]
    assert place.version("registry", row.digest).descriptor.digest == row.digest
    for name in ("registry:9", "acme/manifests:1", "registry.example/a/b:1", "oci:/etc:1"):
        with pytest.raises(NotFound):
            place.version("registry", name)


def test_one_application_and_one_version(shown: Path) -> None:
    store = str(shown / "store")
    one = open_place("registry", store=store)
    assert one.apps() == ["registry"]
    assert len(one.names("registry")) == 4
    single = open_place("registry:1.1", store=store)
    assert (single.kind, single.names("registry")) == ("version", ["registry:1.1"])
    digest = single.rows("registry", ["registry:1.1"])[0].digest
    assert open_place(digest.removeprefix("sha256:")[:12], store=store).apps()
    with pytest.raises(NotFound):
        single.version("registry", "registry:1.2")
    with pytest.raises(NotFound):
        open_place("none:1", store=store)


def test_layouts_and_archives(shown: Path, tmp_path: Path) -> None:
    store = str(shown / "store")
    for number in (1, 2):
        packer.copy(f"registry:1.{number}", f"oci:{tmp_path}/layout:1.{number}", store=store)
    packer.copy("registry:1.1", f"oci-archive:{tmp_path}/one.tar:1.1", store=store)
    layout = open_place(f"oci:{tmp_path}/layout")
    assert (layout.kind, layout.apps()) == ("repository", ["layout"])
    assert layout.names("layout") == ["1.1", "1.2"]
    assert open_place(f"oci:{tmp_path}/layout:1.2").names("layout") == ["1.2"]
    archive = open_place(f"oci-archive:{tmp_path}/one.tar")
    assert archive.names("one.tar") == ["1.1"]
    assert archive.version("one.tar", "1.1").index.paths
    with pytest.raises(NotFound):
        open_place(f"oci:{tmp_path}/none")
    with pytest.raises(InvalidReference):
        open_place("registry.example/Bad")


def test_a_storage(shown: Path, tmp_path: Path) -> None:
    base = f"oci:{tmp_path}/base"
    with packer.open_storage(base) as storage:
        for number in range(3):
            storage.save("a/../b", shown / f"v{number}", labels={"by": "<me>"})
        storage.deploy("a/../b", 1)
        storage.save_support_bundle("bundle <1>", shown / "v0" / "data.bin")
    place = open_place(base)
    assert (place.kind, place.apps()) == ("storage", ["a/../b"])
    with run_service(base) as client:
        app = "app=a/../b"
        told = client.get(f"api/history?{app}").json
        assert [row["version"] for row in told["versions"]] == ["2", "1", "0"]
        assert told["current"] == "1"
        assert client.get(f"api/deployments?{app}").json["deployments"][0]["version"] == "1"
        assert client.get("api/bundles").json["bundles"][0]["id"] == "bundle <1>"
        assert "bundle &lt;1&gt;" in client.get("bundles").text
        html = client.get(f"history?{app}").text
        assert "by=&lt;me&gt;" in html
        assert "deployed" in html
        assert client.get(f"api/version?{app}&version=2").json["before"] == "1"
        for wrong in ("9", "-1", "x", "latest"):
            assert client.get(f"api/version?{app}&version={wrong}").status == 404
        assert client.get("api/history?app=none").status == 404
        assert client.get("api/changes?" + app + "&old=0&new=1").json["total"] > 0


def test_signatures_are_listed_and_are_no_versions(tmp_path: Path, shown: Path) -> None:
    packer.pack(shown / "v0", tag="one:1", store=tmp_path)
    store = LayoutStore(str(tmp_path))
    digest = store.resolve("one:1").digest
    empty = Descriptor("application/vnd.oci.empty.v1+json", digest_of(b"{}"), 2)
    store.push(empty, io.BytesIO(b"{}"))
    manifest = (
        '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",'
        f'"config":{{"mediaType":"{empty.media_type}","digest":"{empty.digest}","size":2}},'
        '"layers":[]}'
    ).encode()
    tag = digest.replace(":", "-") + ".sig"
    store.put_manifest(manifest, "application/vnd.oci.image.manifest.v1+json", tag)
    with run_service(tmp_path) as client:
        assert [row["app"] for row in client.get("api/apps").json["apps"]] == ["one"]
        told = client.get("api/version?app=one&version=one:1").json
        (found,) = told["signatures"]
        assert (found["tag"], found["kind"]) == (tag, "signature of cosign")
        assert "signature of cosign" in client.get("version?app=one&version=one:1").text


def test_a_damaged_version_is_listed_with_its_problem(tmp_path: Path, shown: Path) -> None:
    packer.pack(shown / "v0", tag="one:1", store=tmp_path)
    packed = packer.pack(shown / "v1", tag="one:2", store=tmp_path)
    path = tmp_path / "blobs" / "sha256" / packed.digest.removeprefix("sha256:")
    path.chmod(0o600)
    path.write_bytes(b"{" + path.read_bytes()[1:-1] + b" ")
    with run_service(tmp_path) as client:
        rows = client.get("api/history?app=one").json["versions"]
        assert [bool(row["problem"]) for row in rows] == [True, False]
        assert client.get("history?app=one").status == 200
        assert client.get("layers?app=one").status == 200
        answer = client.get("api/version?app=one&version=one:2")
        assert (answer.status, answer.json["kind"]) == (500, "DigestMismatch")


def test_an_empty_store(tmp_path: Path) -> None:
    with run_service(tmp_path) as client:
        assert client.get("api/apps").json["total"] == 0
        assert "no version yet" in client.get("apps").text
        packer.pack(Path(__file__), tag="late:1", store=tmp_path)
        for _ in range(100):  # a listing is believed for two seconds
            if client.get("api/apps").json["total"]:
                return
            time.sleep(0.1)
    pytest.fail("the version that came later is not listed")
