"""The doctor: what it finds, and that it leaves nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import packer
from packer.cli.main import main
from packer.oci import digest_of
from packer.stores.memory import MemoryStore
from packer.stores.registry.store import RegistryStore
from packer.transfer.copy_graph import copy
from tests.artifacts import make_version
from tests.hostile import Exchange, HostileRegistry, open_store
from tests.registry_server import run_registry


def probes(reference: str, write: bool = False) -> dict[str, str]:
    found = packer.doctor(reference, write=write)
    return {probe.name: probe.works for probe in found.probes}


def test_doctor_leaves_nothing(server: HostileRegistry) -> None:
    memory = MemoryStore()
    make_version(memory, count=1)
    copy(memory, "v1", open_store(server), "v1")
    before = dict(server.blobs), dict(server.manifests), dict(server.tags)
    server.seen.clear()
    found = probes(f"{server.host}/app:v1")
    assert found == {
        "reach": "yes", "pull": "yes", "tags": "yes", "referrers": "no", "ranges": "yes",
        "push": "yes", "delete": "yes", "mount": "no",
    }  # fmt: skip
    assert (server.blobs, server.manifests, server.tags) == before
    assert server.count("PUT") == 0
    # A repository with nothing in it: what needs a blob is not tried.
    assert "ranges" not in probes(f"{server.host}/empty:v2")


def test_doctor_finds_limits(server: HostileRegistry) -> None:
    # What ECR says (405 for more than 500 layers).
    def ecr(exchange: Exchange) -> bool:
        data = exchange.receive()
        if len(json.loads(data)["layers"]) > 500:
            exchange.fail(405, "UNSUPPORTED", "Limit on number of layers per image exceeded")
            return True
        exchange.reply(201, b"", {"Docker-Content-Digest": digest_of(data)})
        return True

    server.on("PUT", "/manifests/", ecr, times=None)
    found = packer.doctor(f"{server.host}/app", write=True)
    (layers,) = [probe for probe in found.probes if probe.name == "layers"]
    assert layers.works == "yes"
    assert layers.detail.startswith("500 accepted, 1000 not")
    assert "Limit on number of layers" in layers.detail
    assert found.works("manifest") == "yes"
    assert server.tags == {}
    assert server.count("DELETE", "/manifests/") >= 4


def test_doctor_meets_refusals(server: HostileRegistry, capsys: pytest.CaptureFixture[str]) -> None:
    text = "\x1b[31mno way"
    server.on("GET", "/manifests/", lambda e: e.fail(403, "DENIED", text), times=None)
    server.on("GET", "/tags/", lambda e: e.cut(), times=None)
    server.on("POST", "/uploads/", lambda e: e.fail(403, "DENIED", text), times=None)
    assert main(["doctor", f"{server.host}/app:v1"]) == 5
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "pull       no       " in shown
    assert "push       no       " in shown
    assert "delete" not in shown
    assert main(["doctor", "127.0.0.1:1/app", "--json"]) == 5
    value = json.loads(capsys.readouterr().out)
    assert [probe["name"] for probe in value["probes"]] == ["reach"]
    assert main(["doctor", "oci:somewhere"]) == 2


@pytest.mark.registry
def test_doctor_of_docker_registry(tmp_path: Path) -> None:
    memory = MemoryStore()
    make_version(memory, count=1)
    with run_registry(tmp_path) as real:
        copy(memory, "v1", RegistryStore(f"{real.host}/app"), "v1")
        assert probes(f"{real.host}/app:v1", write=True) == {
            "reach": "yes", "pull": "yes", "tags": "yes", "referrers": "no", "push": "yes",
            "delete": "yes", "upload": "yes", "ranges": "yes", "mount": "yes", "layers": "yes",
            "manifest": "yes",
        }  # fmt: skip
        assert [tag for tag, _ in RegistryStore(f"{real.host}/app").tags()] == ["v1"]


@pytest.mark.parametrize(
    ("body", "works"),
    [
        (b'{"manifests":[]}', "yes"),
        (b'{"manifests":null}', "yes"),  # as some write an empty list
        (b'{"manifests":{"a":1}}', "no"),
        (b"{}", "no"),
        (b"[]", "no"),
        (b"null", "no"),
        (b"x", "no"),
    ],
)
def test_doctor_reads_lists_of_referrers(server: HostileRegistry, body: bytes, works: str) -> None:
    server.on("GET", "/referrers/", lambda e: e.reply(200, body), times=None)
    assert packer.doctor(f"{server.host}/app:v1").works("referrers") == works
