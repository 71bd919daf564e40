"""The page of a repository in a real registry, which may also be away."""

from __future__ import annotations

import json
import ssl
import time
import urllib.request
from pathlib import Path

import pytest

import packer
from packer.errors import InvalidParameter
from packer.serve.finding import open_place
from packer.serve.running import Listening, serve
from tests.registry_server import make_certificate, run_registry
from tests.serving import make_tree, run_service

pytestmark = [pytest.mark.registry, pytest.mark.slow]


def test_a_repository(tmp_path: Path) -> None:
    (tmp_path / "registry").mkdir()
    trees = [make_tree(tmp_path / f"v{number}", number) for number in range(3)]
    with run_registry(tmp_path / "registry") as server:
        repository = f"{server.host}/acme/app"
        for number, tree in enumerate(trees):
            packer.pack(tree, tag=f"app:1.{number}", store=tmp_path / "store")
            packer.push(f"{repository}:1.{number}", store=tmp_path / "store")
        packer.pack(trees[0], tag="secret:1", store=tmp_path / "store")
        packer.push(f"{server.host}/acme/other:1", store=tmp_path / "store", version="secret:1")
        options = packer.RegistryOptions(outage_seconds=1)
        with run_service(repository, registry=options, store=tmp_path / "none") as client:
            app = "app=acme/app"
            told = client.get(f"api/history?{app}").json
            assert [row["version"] for row in told["versions"]] == ["1.2", "1.1", "1.0"]
            digests = [
                packer.inspect(f"app:1.{n}", store=tmp_path / "store").digest for n in (2, 1)
            ]
            assert [row["digest"] for row in told["versions"][:2]] == digests
            assert 0 < told["versions"][0]["added_bytes"] < told["versions"][0]["stored_bytes"]
            whole = (trees[2] / "data.bin").read_bytes()
            file = f"raw?{app}&version=1.2&path=data.bin"
            assert client.get(file).body == whole
            assert client.get(file, range="bytes=1000-1999").body == whole[1000:2000]
            patches = client.get(f"api/patches?{app}&old=1.0&new=1.2&limit=50").json["patches"]
            assert any("!/registry/Chart.yaml" in patch["path"] for patch in patches)
            # Only what the repository lists is opened, whatever a request names.
            for wrong in (f"{server.host}/acme/other:1", "../other:1", "latest"):
                assert client.get(f"api/version?{app}&version={wrong}").status == 404
            assert server.process is not None
            server.process.kill()
            server.process.wait()
            answer = client.get(f"api/version?{app}&version=1.0")
            assert (answer.status, answer.json["kind"]) == (502, "TransportError")
            assert client.get("healthz").status == 200


def test_a_storage_is_found_by_its_base(tmp_path: Path) -> None:
    (tmp_path / "registry").mkdir()
    with run_registry(tmp_path / "registry") as server:
        base = f"docker://{server.host}/org/base"
        early = open_place(base)
        assert early.apps() == [], "nothing is there yet"
        with packer.open_storage(base) as storage:
            storage.save("demo", make_tree(tmp_path / "v0", 0))
        for _ in range(100):  # what was seen is believed for two seconds
            if early.kind == "storage":
                break
            time.sleep(0.1)
        assert (early.kind, early.apps()) == ("storage", ["demo"])
        place = open_place(base)
        assert (place.kind, place.apps()) == ("storage", ["demo"])
        assert open_place(f"{base}/demo").kind == "repository"
        one = open_place(f"{base}/demo:0")
        assert (one.kind, one.names("org/base/demo")) == ("version", ["0"])


def test_https(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    packer.pack(Path(__file__), tag="one:1", store=tmp_path / "store")
    listening = Listening(cert_file=str(certificate), key_file=str(tmp_path / "key.pem"))
    with run_service(tmp_path / "store", listening) as client:
        context = ssl.create_default_context(cafile=str(certificate))
        url = f"https://localhost:{client.port}/api/apps"
        assert json.load(urllib.request.urlopen(url, context=context))["total"] == 1
    with pytest.raises(InvalidParameter, match=r"test_serve_registry\.py"):
        serve(open_place(str(tmp_path / "store")), Listening(cert_file=__file__))
