"""The page and the init container as Kubernetes would run them, against a real registry.

There is no cluster: the commands of the manifests run as processes, with their places below a
temporary directory and the registry's name replaced.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

import packer
from packer.cli import builtin_registry
from packer.cli.builtin_registry import RegistryConfig
from tests.registry_server import PASSWORD, USER, free_port, run_registry
from tests.serving import make_tree

ROOT = Path(__file__).parents[2]
CONFIG = RegistryConfig(page="docker://registry.example/org/base")
TOKEN = "a token of twenty characters"


def page_of(kind: str) -> dict[str, Any]:
    (found,) = [
        each
        for each in yaml.safe_load_all(builtin_registry.stream(CONFIG))
        if each["kind"] == kind and each["metadata"]["name"] == "layer-packer-page"
    ]
    assert isinstance(found, dict)
    return found


def test_the_parts_of_the_page_fit_together() -> None:
    template = page_of("Deployment")["spec"]["template"]
    labels, pod = template["metadata"]["labels"], template["spec"]
    (container,) = pod["containers"]
    (port,) = container["ports"]
    for selector in (
        page_of("Service")["spec"]["selector"],
        page_of("NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        page_of("Deployment")["spec"]["selector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()
    assert page_of("Service")["spec"]["ports"][0]["targetPort"] == port["name"]
    assert page_of("NetworkPolicy")["spec"]["ingress"][0]["ports"][0]["port"] == port["name"]
    assert f"--port={port['containerPort']}" in container["args"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    volumes = {each["name"] for each in pod["volumes"]}
    assert {each["name"] for each in container["volumeMounts"]} == volumes
    # A server that has no page has no part of it.
    assert "layer-packer-page" not in builtin_registry.stream(RegistryConfig())


@pytest.mark.registry
@pytest.mark.slow
def test_the_page_shows_a_storage_of_a_registry(tmp_path: Path) -> None:
    (container,) = page_of("Deployment")["spec"]["template"]["spec"]["containers"]
    secret = tmp_path / "secret"
    for folder in (secret, tmp_path / "registry", tmp_path / "tmp"):
        folder.mkdir()
    with run_registry(tmp_path / "registry", htpasswd=True, tls=True) as server:
        assert server.ca_file is not None
        options = packer.RegistryOptions(
            username=USER, password=PASSWORD, ca_file=str(server.ca_file)
        )
        base = f"docker://{server.host}/org/base"
        with packer.open_storage(base, registry=options) as storage:
            for number in (0, 1):
                storage.save("demo", make_tree(tmp_path / f"v{number}", number))
            storage.deploy("demo", 1)
        (secret / "token").write_text(TOKEN + "\n")
        (secret / "ca.crt").write_bytes(server.ca_file.read_bytes())
        login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        (secret / "config.json").write_text(json.dumps({"auths": {server.host: {"auth": login}}}))
        port = free_port()
        places = {
            "/etc/layer-packer/page": str(secret),
            "docker://registry.example/org/base": base,
            "--host=0.0.0.0": "--host=127.0.0.1",
            "--port=8321": f"--port={port}",
        }
        words = [replaced(word, places) for word in container["args"]]
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path / "tmp")}
        environment |= {
            each["name"]: each["value"].replace("/tmp", str(tmp_path / "tmp"))
            for each in container["env"]
        }
        command = [sys.executable, "-m", "packer", *words]
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
            try:
                probe = container["readinessProbe"]["httpGet"]["path"]
                wait_for(f"http://127.0.0.1:{port}{probe}")
                with pytest.raises(urllib.error.HTTPError, match="401"):
                    ask(port, "api/apps", "another token")
                assert ask(port, "api/apps")["kind"] == "storage"
                assert ask(port, "api/history?app=demo")["current"] == "1"
                patches = ask(port, "api/patches?app=demo&old=0&new=1&limit=50")["patches"]
                assert any("!/registry/Chart.yaml" in patch["path"] for patch in patches)
                file = "raw?app=demo&version=1&path=README.txt"
                assert ask_bytes(port, file) == (tmp_path / "v1" / "README.txt").read_bytes()
            finally:
                process.terminate()
            assert process.wait(60) == 0
    assert not (tmp_path / "tmp" / "store").exists(), "nothing is written"


@pytest.mark.registry
@pytest.mark.slow
def test_the_init_container_brings_a_version(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "installing.md").read_text(encoding="utf-8")
    found = re.search(r"^```yaml\n(initContainers:.*?)^```", text, re.S | re.M)
    assert found is not None
    init = yaml.safe_load(found[1])["initContainers"]
    volumes = [{"name": each["name"], "emptyDir": {}} for each in init[0]["volumeMounts"]]
    main = {"name": "app", "image": "registry.example/acme/app"}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "app"},
        "spec": {"initContainers": init, "containers": [main], "volumes": volumes},
    }
    kubernetes_validate.validate(pod, "1.33", strict=True)
    (tmp_path / "registry").mkdir()
    tree = make_tree(tmp_path / "v1", 1)
    with run_registry(tmp_path / "registry") as server:
        packer.pack(tree, tag="app:1.4.2", store=tmp_path / "vendor")
        packer.push(f"{server.host}/acme/app:1.4.2", store=tmp_path / "vendor")
        places = {"registry.example": server.host}
        for each in init[0]["volumeMounts"]:
            place = tmp_path / "pod" / each["mountPath"].strip("/")
            place.mkdir(parents=True)
            places[each["mountPath"]] = str(place)
        words = [replaced(word, places) for word in init[0]["args"]]
        # As the image sets them.
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": places["/tmp"],
            "TMPDIR": places["/tmp"],
            "LAYER_PACKER_STORE": places["/store"],
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        command = [sys.executable, "-m", "packer", *words]
        for _ in range(2):  # a pod that starts anew finds its volumes as they were
            subprocess.run(command, env=environment, capture_output=True, check=True)
            restored = Path(places["/content"]) / "app"
            subprocess.run(["diff", "-r", str(tree), str(restored)], check=True)


def replaced(word: str, places: dict[str, str]) -> str:
    """Return a word with places in it replaced, each once."""
    return re.sub("|".join(map(re.escape, places)), lambda found: places[found[0]], word)


def ask_bytes(port: int, path: str, token: str = TOKEN) -> bytes:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/{path}")
    request.add_header("Authorization", f"Bearer {token}")
    with urllib.request.urlopen(request, timeout=60) as answer:
        data = answer.read()
    assert isinstance(data, bytes)
    return data


def ask(port: int, path: str, token: str = TOKEN) -> Any:
    return json.loads(ask_bytes(port, path, token))


def wait_for(url: str) -> None:
    for _ in range(600):
        try:
            urllib.request.urlopen(url, timeout=5)
        except OSError:
            time.sleep(0.1)
        else:
            return
    pytest.fail(f"{url} does not answer")
