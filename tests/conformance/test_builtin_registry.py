"""The built-in registry: its manifests against schemas, its configuration in the real server."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

import packer
from packer.cli import builtin_registry
from packer.cli.builtin_registry import RegistryConfig
from packer.cli.main import main
from packer.errors import InvalidParameter, RegistryError
from tests.builders import noise
from tests.registry_server import (
    PASSWORD,
    USER,
    free_port,
    make_certificate,
    need_program,
    optional_program,
    wait_until_ready,
)
from tests.s3_server import KEY, SECRET, run_moto

ROOT = Path(__file__).parents[2]
CONFIG_PATH = "/etc/registry/config/config.yml"
PLAIN = RegistryConfig()
S3 = RegistryConfig(storage="s3", bucket="layer-packer")
FULL = RegistryConfig(
    storage="s3",
    bucket="acme.app-1",
    endpoint="http://s3.example:9000",
    host="registry.example",
    namespace="acme",
    replicas=3,
    delete_untagged=True,
)
PAGE = RegistryConfig(page="docker://registry.layer-packer.svc/org/base", namespace="acme")
SIZED = RegistryConfig(size="1Ti", storage_class="fast.ssd", schedule="@daily", host="r.example")

READ_ONLY = "REGISTRY_STORAGE_MAINTENANCE_READONLY"
KUBERNETES = ("1.29", "1.33")
"""Versions whose schemas the manifests have to follow."""


def resources(config: RegistryConfig) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(builtin_registry.stream(config)))


def only(config: RegistryConfig, kind: str, name: str = "registry") -> dict[str, Any]:
    (found,) = [
        each
        for each in resources(config)
        if each["kind"] == kind and each["metadata"]["name"] == name
    ]
    return found


def pods(config: RegistryConfig) -> Iterator[dict[str, Any]]:
    """Yield the pod template of the server and of garbage collection."""
    yield only(config, "Deployment" if config.storage == "s3" else "StatefulSet")["spec"][
        "template"
    ]
    job = only(config, "CronJob", "registry-garbage-collection")
    yield job["spec"]["jobTemplate"]["spec"]["template"]


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize(
    "config", [PLAIN, S3, FULL, SIZED, PAGE], ids=["plain", "s3", "full", "sized", "page"]
)
def test_manifests_follow_the_schemas_of_kubernetes(config: RegistryConfig, version: str) -> None:
    for resource in resources(config):
        kubernetes_validate.validate(resource, version, strict=True)


def test_the_schema_check_finds_errors() -> None:
    broken = only(PLAIN, "StatefulSet")
    broken["spec"]["template"]["spec"]["containers"][0]["prots"] = []
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, KUBERNETES[0], strict=True)


@pytest.mark.parametrize("config", [PLAIN, FULL], ids=["plain", "full"])
def test_what_manifests_name_is_there(config: RegistryConfig) -> None:
    server, job = pods(config)
    labels = server["metadata"]["labels"]
    for kind in ("Service", "NetworkPolicy"):
        spec = only(config, kind)["spec"]
        selector = spec["selector"] if kind == "Service" else spec["podSelector"]["matchLabels"]
        assert selector.items() <= labels.items()
        assert not selector.items() <= job["metadata"]["labels"].items()
    maps = {each["metadata"]["name"] for each in resources(config) if each["kind"] == "ConfigMap"}
    claims = {
        each["metadata"]["name"]
        for each in only(config, "StatefulSet")["spec"]["volumeClaimTemplates"]
    } if config.storage == "filesystem" else set()  # fmt: skip
    for pod in (server["spec"], job["spec"]):
        volumes = {each["name"] for each in pod.get("volumes", [])}
        for volume in pod.get("volumes", []):
            assert "configMap" not in volume or volume["configMap"]["name"] in maps
        assert pod["securityContext"]["runAsNonRoot"] is True
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            mounted = {each["name"] for each in container.get("volumeMounts", [])}
            assert mounted <= volumes | claims
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert "memory" in container["resources"]["limits"]
    # The role of garbage collection names the one thing that it changes.
    kind = only(config, "Deployment" if config.storage == "s3" else "StatefulSet")["kind"]
    rule, *others = only(config, "Role", "registry-garbage-collection")["rules"]
    assert all(set(other["verbs"]) <= {"get", "list", "watch"} for other in others)
    assert rule["resources"] == [kind.lower() + "s"]
    assert rule["resourceNames"] == ["registry"]
    for container in job["spec"]["initContainers"]:
        for word in container.get("args", []):
            assert not word.startswith(("deployment/", "statefulset/")) or word == (
                kind.lower() + "/registry"
            )


def test_garbage_collection_runs_between_read_only_and_writable() -> None:
    steps = [each["name"] for each in list(pods(S3))[1]["spec"]["initContainers"]]
    assert steps == [
        "read-only", "wait-for-read-only", "wait-for-writers-to-end", "garbage-collect", "writable",
    ]  # fmt: skip
    server, job = pods(S3)
    by_name = {each["name"]: each for each in job["spec"]["initContainers"]}
    for name, value, phase in (("read-only", True, "read"), ("writable", False, "write")):
        patch = yaml.safe_load(by_name[name]["args"][-1])["spec"]["template"]
        assert patch["metadata"]["labels"] == {"layer-packer/phase": phase}
        (container,) = patch["spec"]["containers"]
        assert container["name"] == server["spec"]["containers"][0]["name"]
        (variable,) = container["env"]
        assert (variable["name"], json.loads(variable["value"])) == (READ_ONLY, {"enabled": value})
    assert server["metadata"]["labels"]["layer-packer/phase"] == "write"
    assert "layer-packer/phase=write" in str(by_name["wait-for-writers-to-end"]["args"])


def test_the_repository_holds_what_the_command_writes(tmp_path: Path) -> None:
    # `make deploy` writes them anew.
    for name, *options in (
        ("kubernetes",),
        ("kubernetes", "--storage", "s3", "--bucket", "layer-packer"),
        ("kubernetes", "--page", "docker://registry.layer-packer.svc/layer-packer/base"),
        ("", "--for", "compose"),
    ):
        words = ["registry", "config", *options, "--output", str(tmp_path / name), "-q"]
        assert main(words) == 0
    made = {path.relative_to(tmp_path): path for path in tmp_path.rglob("*") if path.is_file()}
    kept = ROOT / "deploy"
    there = {path.relative_to(kept): path for path in kept.rglob("*") if path.is_file()}
    assert sorted(made) == sorted(there)
    for place, path in made.items():
        assert path.read_text() == there[place].read_text(), place


def test_kustomizations_name_files_that_are_there() -> None:
    folder = ROOT / "deploy" / "kubernetes"
    for path in folder.glob("*/kustomization.yaml"):
        value = yaml.safe_load(path.read_text())
        generators = value.get("configMapGenerator", [])
        named = [*value["resources"], *(name for each in generators for name in each["files"])]
        assert all((path.parent / name).exists() for name in named)
        files = {each.name for each in path.parent.iterdir()} - {path.name}
        assert files == {name for name in named if not name.startswith("..")}


@pytest.mark.parametrize("config", [PLAIN, S3], ids=["filesystem", "s3"])
def test_kustomize_builds_what_the_command_prints(config: RegistryConfig) -> None:
    program = shutil.which("kustomize") or shutil.which("kustomize", path=Path.home() / "go/bin")
    if program is None:
        pytest.skip("the program kustomize is not installed")
    folder = ROOT / "deploy" / "kubernetes" / config.storage
    built = subprocess.run([program, "build", str(folder)], check=True, capture_output=True)

    def shape(found: list[dict[str, Any]]) -> list[Any]:
        # Suffixes of the ConfigMap's name come from different digests; it has no labels here.
        text = re.sub(r"registry-config-\w{10}", "registry-config", json.dumps(found))
        out = json.loads(text)
        for each in out:
            if each["kind"] == "ConfigMap":
                each["metadata"].pop("labels", None)
        return sorted(out, key=lambda each: (each["kind"], each["metadata"]["name"]))

    assert shape(list(yaml.safe_load_all(built.stdout))) == shape(resources(config))


@pytest.mark.parametrize("config", [PLAIN, FULL], ids=["plain", "full"])
def test_compose_files_follow_their_schema(config: RegistryConfig, tmp_path: Path) -> None:
    path = tmp_path / "compose.yaml"
    path.write_text(builtin_registry.compose_yaml(config))
    program = Path(sys.executable).with_name("check-jsonschema")
    subprocess.run(
        [program, "--builtin-schema", "vendor.compose-spec", str(path)],
        check=True,
        capture_output=True,
    )
    services = yaml.safe_load(path.read_text())["services"]
    assert services["garbage-collect"]["volumes"] == services["registry"]["volumes"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("host", "a.example\n  evil: yes"),
        ("namespace", "Upper"),
        ("image", "registry:2 # x"),
        ("schedule", '17 3 * * 0"\n'),
        ("endpoint", "https://user:secret@s3.example"),
        ("bucket", "a b"),
        ("size", "20Gi}"),
        ("tls_secret", "{x"),
        ("page", "registry.example/a b"),
        ("page", "registry.example/a\n  evil: yes"),
        ("page", "--store"),
    ],
)
def test_values_that_would_change_the_yaml_are_refused(name: str, value: str) -> None:
    with pytest.raises(InvalidParameter, match=name.replace("_", "-")):
        RegistryConfig(**{name: value})  # type: ignore[arg-type]


def test_the_command_tells_usage_errors(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["registry", "config", "--storage", "s3"]) == 2
    assert "--bucket" in capsys.readouterr().err
    assert main(["registry", "config", "--json", "--host", "r.example", "--for", "config"]) == 0
    assert "realm: r.example\n" in json.loads(capsys.readouterr().out)["text"]


@dataclass
class Shipped:
    """The server under a configuration as shipped; only places differ, by its environment."""

    host: str
    config: Path
    environment: dict[str, str]
    options: packer.RegistryOptions

    @property
    def message(self) -> Path:
        """File of the container's last words."""
        return self.config.parent / "termination-log"

    def collect(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run the command of a manifest's container."""
        programs = self.config.parent / "bin"
        programs.mkdir(exist_ok=True)
        command = command.replace(CONFIG_PATH, str(self.config))
        with contextlib.suppress(FileExistsError):
            (programs / "registry").symlink_to(need_program("docker-registry"))
        return subprocess.run(
            ["/bin/sh", "-c", command.replace("/dev/termination-log", str(self.message))],
            env=self.environment | {"PATH": f"{programs}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )


@contextlib.contextmanager
def serve(folder: Path, config: RegistryConfig, **more: str) -> Iterator[Shipped]:
    """Run Debian's server with the configuration of a RegistryConfig."""
    program = need_program("docker-registry")
    folder.mkdir(exist_ok=True)
    authority = folder / "cert.pem"
    if not authority.exists():
        make_certificate(folder)
        (folder / "htpasswd").write_bytes(
            subprocess.run(
                [need_program("htpasswd"), "-Bbn", USER, PASSWORD], check=True, capture_output=True
            ).stdout
        )
    path = folder / "config.yml"
    path.write_text(builtin_registry.config_yml(config))
    for attempt in range(5):
        port = free_port()
        environment = {
            "PATH": os.environ["PATH"],
            "REGISTRY_HTTP_ADDR": f"127.0.0.1:{port}",
            "REGISTRY_HTTP_SECRET": "secret",
            "REGISTRY_HTTP_TLS_CERTIFICATE": str(authority),
            "REGISTRY_HTTP_TLS_KEY": str(folder / "key.pem"),
            "REGISTRY_AUTH_HTPASSWD_PATH": str(folder / "htpasswd"),
            **more,
        }
        with (folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [program, "serve", str(path)], stdout=log, stderr=log, env=environment
            )
        try:
            if wait_until_ready(process, port, Path(environment["REGISTRY_HTTP_TLS_CERTIFICATE"])):
                options = packer.RegistryOptions(
                    username=USER, password=PASSWORD, ca_file=str(authority)
                )
                yield Shipped(f"localhost:{port}", path, environment, options)
                return
        finally:
            process.kill()
            process.wait()
        assert attempt < 4, (folder / "log").read_text(errors="replace")


def make_versions(folder: Path) -> list[Path]:
    """Make two versions, the second with content of its own."""
    out = []
    for number in (1, 2):
        version = folder / f"v{number}"
        version.mkdir(parents=True)
        (version / "same.bin").write_bytes(b"same" * 1000)
        (version / "own.bin").write_bytes(os.urandom(200_000))
        out.append(version)
    return out


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.registry
def test_the_server_with_a_volume(tmp_path: Path) -> None:
    data = tmp_path / "data"
    place = {"REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY": str(data)}
    server_pod = only(PLAIN, "StatefulSet")["spec"]["template"]["spec"]
    (collect,) = server_pod["initContainers"][0]["args"]
    probe = server_pod["containers"][0]["livenessProbe"]["httpGet"]
    one, two = make_versions(tmp_path)
    with serve(tmp_path / "server", PLAIN, **place) as server:
        # A new volume: nothing to collect, and no reason not to start.
        assert server.collect(collect).returncode == 0
        assert server.message.read_text() == "collected"
        context = ssl.create_default_context(cafile=server.options.ca_file)
        url = f"{probe['scheme'].lower()}://{server.host}{probe['path']}"
        assert urllib.request.urlopen(url, context=context).status == 200
        with pytest.raises(packer.AuthError):
            packer.ls(
                f"docker://{server.host}/acme/app:x",
                store=str(tmp_path / "none"),
                registry=packer.RegistryOptions(ca_file=server.options.ca_file),
            )
        base = f"docker://{server.host}/acme/app"
        with packer.open_storage(base, registry=server.options) as storage:
            storage.save("demo", one)
            storage.save("demo", two)
            storage.load("demo", 0, tmp_path / "first")
            storage.delete("demo", 1)
    full = size_of(data)
    # The pod starts anew: its init container collects before the server is there.
    done = server.collect(collect)
    assert (done.returncode, server.message.read_text()) == (0, "collected"), done.stderr
    assert size_of(data) < full - 150_000
    with serve(tmp_path / "server", PLAIN, **place) as server:
        base = f"docker://{server.host}/acme/app"
        with packer.open_storage(base, registry=server.options) as storage:
            storage.load("demo", 0, tmp_path / "second")
            assert [version.sequence for version in storage.history("demo")] == [0]
            storage.save("demo", two)
    for name in ("first", "second"):
        assert (tmp_path / name / "own.bin").read_bytes() == (one / "own.bin").read_bytes()


@pytest.mark.registry
def test_the_guide_with_compose(tmp_path: Path) -> None:
    # Every block is run; in place of `docker compose up`, Debian's server with what they made.
    text = (ROOT / "docs" / "registry.md").read_text()
    make, use = re.findall(r"^```sh\n(.*?)^```", text, re.S | re.M)
    need_program("htpasswd"), need_program("openssl")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "DOCKER_CONFIG": str(tmp_path / "docker"),
        "LAYER_PACKER_STORE": str(tmp_path / "store"),
        "HOST": "localhost",
        "PASSWORD": PASSWORD,
    }
    words: dict[str, Any] = {"cwd": tmp_path, "env": environment, "text": True, "timeout": 120}

    def run(script: str) -> str:
        done = subprocess.run(["sh", "-e", "-c", script], capture_output=True, check=False, **words)
        assert done.returncode == 0, done.stderr
        return str(done.stdout)

    run(make)
    (tmp_path / "release").mkdir()
    (tmp_path / "release" / "app.yaml").write_text("version: 1\n")
    service = yaml.safe_load((tmp_path / "compose.yaml").read_text())["services"]["registry"]
    places = dict(volume.split(":")[1::-1] for volume in service["volumes"])
    here = {inside: str(tmp_path / outside) for inside, outside in places.items()}
    config = yaml.safe_load((tmp_path / "config.yml").read_text())

    def outside(path: str) -> str:
        return next(path.replace(a, b) for a, b in here.items() if path.startswith(a))

    tls = config["http"]["tls"]
    with serve(
        tmp_path / "server",
        RegistryConfig(),
        REGISTRY_HTTP_TLS_CERTIFICATE=outside(tls["certificate"]),
        REGISTRY_HTTP_TLS_KEY=outside(tls["key"]),
        REGISTRY_AUTH_HTPASSWD_PATH=outside(config["auth"]["htpasswd"]["path"]),
        REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY=outside(
            config["storage"]["filesystem"]["rootdirectory"]
        ),
    ) as server:
        printed = run(use.replace("$HOST:5000", server.host))
    assert "0  " in printed.splitlines()[-1]
    assert (tmp_path / "data" / "docker").exists()


def contents(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


@pytest.mark.registry
def test_space_of_deleted_versions_comes_back(tmp_path: Path) -> None:
    # Versions as they follow each other: the older ones' layers are shared, or compressed against.
    # LAYER_PACKER_VERSIONS=DIR tries real ones (DIR/v1, DIR/v2, ...), and tells the figures.
    given = os.environ.get("LAYER_PACKER_VERSIONS")
    if given:
        versions = sorted(Path(given).glob("v*"), key=lambda path: int(path.name[1:]))
    else:
        versions = [tmp_path / f"v{number}" for number in range(8)]
        kept = noise("kept", 600_000)
        for number, version in enumerate(versions):
            version.mkdir()
            kept = kept[:100_000] + noise(number, 40) + kept[100_040:]
            (version / "kept.bin").write_bytes(kept)
            (version / "new.bin").write_bytes(noise(f"new {number}", 400_000))
            (version / "app.yaml").write_text(f"version: {number}\n")
    data = tmp_path / "data"
    blobs = data / "docker/registry/v2/blobs"
    place = {"REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY": str(data)}
    (collect,) = only(PLAIN, "StatefulSet")["spec"]["template"]["spec"]["initContainers"][0]["args"]
    with serve(tmp_path / "server", PLAIN, **place) as server:
        base = f"docker://{server.host}/acme/app"
        with packer.open_storage(base, registry=server.options) as storage:
            for version in versions:
                storage.save("demo", version)
            storage.save("other", versions[-1])  # shares blobs, in a repository of its own
            storage.save_support_bundle("one", versions[0])
            storage.save_support_bundle("two", versions[-1])
            storage.deploy("demo", 1)
            full = size_of(blobs)
            storage.delete("demo", 2)
            done = storage.retain("demo", keep=2)
            storage.bundles.delete("one")
    last = len(versions) - 1
    assert done.kept == (1, last - 1, last)
    after = server.collect(collect)
    assert (after.returncode, server.message.read_text()) == (0, "collected"), after.stderr
    freed = full - size_of(blobs)
    print(f"{full} bytes of blobs, {freed} freed, {done.freed_bytes} promised by retain")
    with serve(tmp_path / "server", PLAIN, **place) as server:
        base = f"docker://{server.host}/acme/app"
        with packer.open_storage(base, registry=server.options) as storage:
            assert [each.sequence for each in storage.history("demo")] == list(done.kept)
            for number in done.kept:
                storage.load("demo", number, tmp_path / "out" / str(number))
                assert contents(tmp_path / "out" / str(number)) == contents(versions[number])
            storage.load("other", 0, tmp_path / "out" / "other")
            assert contents(tmp_path / "out" / "other") == contents(versions[-1])
            storage.bundles.load("two", tmp_path / "out" / "two")
            assert contents(tmp_path / "out" / "two") == contents(versions[-1])
            # Nothing is left that nothing needs, but for what the registry keeps of its own.
            needed: dict[str, int] = {}
            for app, number in [*(("demo", number) for number in done.kept), ("other", 0)]:
                manifest = storage.version(app, number).manifest
                needed |= {each.digest: each.size for each in (manifest.config, *manifest.layers)}
            (bundle,) = storage.support_bundles()
            most = sum(needed.values()) + bundle.stored_bytes
            assert size_of(blobs) < most + 30_000
            # And what comes next builds on what is there.
            assert storage.save("demo", versions[-1]).new_bytes < 20_000
    if not given:
        assert freed > 4 * 400_000


@pytest.mark.registry
@pytest.mark.parametrize("program", ["docker-registry", "registry"])
def test_what_a_full_disk_left_does_not_stop_collections(tmp_path: Path, program: str) -> None:
    # Distribution 2.8 and 3 end each collection at an empty link, which a manifest that did not
    # fit leaves, and at an empty manifest; 2.8 keeps the parts of uploads that were given up. The
    # init container's failure must be seen, while the registry serves.
    path = need_program(program) if program == "docker-registry" else optional_program(program)
    data = tmp_path / "data"
    place = {"REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY": str(data)}
    (collect,) = only(PLAIN, "StatefulSet")["spec"]["template"]["spec"]["initContainers"][0]["args"]
    one, two = make_versions(tmp_path)
    with serve(tmp_path / "server", PLAIN, **place) as server:
        base = f"docker://{server.host}/acme/app"
        with packer.open_storage(base, registry=server.options) as storage:
            storage.save("demo", one)
            storage.save("demo", two)
            storage.delete("demo", 1)
    (server.config.parent / "bin").mkdir()
    (server.config.parent / "bin" / "registry").symlink_to(path)
    repository = data / "docker/registry/v2/repositories/acme/app/demo"
    empty = repository / "_manifests/revisions/sha256" / ("0" * 64) / "link"
    empty.parent.mkdir()
    empty.touch()
    hollow = data / "docker/registry/v2/blobs/sha256/22" / ("2" * 64) / "data"
    hollow.parent.mkdir(parents=True)
    hollow.touch()
    revision = repository / "_manifests/revisions/sha256" / ("2" * 64) / "link"
    revision.parent.mkdir()
    revision.write_text("sha256:" + "2" * 64)
    part = repository / "_uploads/5c0a0b7e-6a0e-4d57-9d8e-1f7d3d6a9c11/data"
    part.parent.mkdir(parents=True)
    part.write_bytes(bytes(300_000))
    full = size_of(data)
    bare = f"registry garbage-collect {CONFIG_PATH}"
    assert bare in collect
    assert "invalid checksum digest format" in server.collect(bare).stderr
    empty.unlink()
    assert "garbage collect" in server.collect(bare).stderr
    empty.touch()
    assert size_of(data) == full
    done = server.collect(collect)
    assert (done.returncode, server.message.read_text()) == (0, "collected"), done.stderr
    assert size_of(data) < full - 450_000
    assert not part.exists()
    with serve(tmp_path / "server", PLAIN, **place) as server:
        base = f"docker://{server.host}/acme/app"
        with packer.open_storage(base, registry=server.options) as storage:
            storage.load("demo", 0, tmp_path / "first")
    assert (tmp_path / "first/own.bin").read_bytes() == (one / "own.bin").read_bytes()
    # What else stops a collection is told, and the registry starts all the same.
    broken = repository / "_manifests/revisions/sha256" / ("1" * 64) / "link"
    broken.parent.mkdir()
    broken.write_text("no digest")
    assert server.collect(collect).returncode == 0
    assert server.message.read_text() == "garbage collection ended with 1"


@pytest.mark.registry
def test_servers_over_one_bucket(tmp_path: Path) -> None:
    one, two = make_versions(tmp_path)
    steps = {each["name"]: each for each in list(pods(S3))[1]["spec"]["initContainers"]}
    (command,) = steps["garbage-collect"]["args"]
    phases: dict[str, dict[str, str]] = {}
    for name in ("read-only", "writable"):  # the very environment that the job's patches set
        patch = yaml.safe_load(steps[name]["args"][-1])["spec"]["template"]["spec"]
        (variable,) = patch["containers"][0]["env"]
        phases[name] = {variable["name"]: variable["value"]}
    with run_moto(tmp_path) as bucket, contextlib.ExitStack() as stack:
        config = RegistryConfig(storage="s3", bucket=bucket.bucket, endpoint=bucket.endpoint)
        keys = {"REGISTRY_STORAGE_S3_ACCESSKEY": KEY, "REGISTRY_STORAGE_S3_SECRETKEY": SECRET}
        # Two servers, the one still writing, the other read-only: what one is given, the other has.
        reader = stack.enter_context(
            serve(tmp_path / "reader", config, **keys, **phases["read-only"])
        )
        reading = stack.enter_context(
            packer.open_storage(f"docker://{reader.host}/acme/app", registry=reader.options)
        )
        with (
            serve(tmp_path / "writer", config, **keys, **phases["writable"]) as writer,
            packer.open_storage(
                f"docker://{writer.host}/acme/app", registry=writer.options
            ) as storage,
        ):
            storage.save("demo", one)
            storage.save("demo", two)
            reading.load("demo", 0, tmp_path / "first")
            storage.delete("demo", 1)
        full = bucket.total_bytes()
        with pytest.raises(RegistryError) as refused:
            reading.save("demo", two)
        assert refused.value.status == 405
        status = tmp_path / "status"
        done = reader.collect(command.replace("/run/collection/status", str(status)))
        assert (done.returncode, status.read_text()) == (0, "0\n"), done.stderr
        assert bucket.total_bytes() < full - 150_000
        reading.load("demo", 0, tmp_path / "second")  # of the server that ran all the while
        assert (tmp_path / "second" / "own.bin").read_bytes() == (one / "own.bin").read_bytes()
