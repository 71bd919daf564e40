"""What users copy into their CI: the scripts in it are run, against a registry."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import packer
from tests.registry_server import PASSWORD, USER, optional_program, run_registry

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "ci"

pytestmark = pytest.mark.registry


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a directory to ship, with a blank in its name."""
    folder = tmp_path / "my release"
    shutil.copytree(ROOT / "docs", folder)
    return folder


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    """Return what a runner gives a step: layer-packer and layer-packer-publish are in its path."""
    programs = tmp_path / "bin"
    programs.mkdir(exist_ok=True)
    for name, target in (
        ("layer-packer", Path(sys.executable).with_name("layer-packer")),
        ("layer-packer-publish", EXAMPLES / "publish"),
    ):
        if not (programs / name).exists():
            (programs / name).symlink_to(target)
    (tmp_path / "home").mkdir(exist_ok=True)
    (tmp_path / "temporary").mkdir(exist_ok=True)
    path = f"{programs}:/usr/bin:/bin"
    return {
        "PATH": path,
        "HOME": str(tmp_path / "home"),
        "TMPDIR": str(tmp_path / "temporary"),
    } | more


def run_script(shell: list[str], script: str, given: dict[str, str], folder: Path) -> str:
    """Run a script as a runner does, and return what it prints."""
    done = subprocess.run(
        [*shell, "-c", script], env=given, cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def outputs(path: Path) -> dict[str, str]:
    """Return the outputs that a step wrote."""
    return dict(line.split("=", 1) for line in path.read_text().splitlines())


def pulled(reference: str, tmp_path: Path, **login: Any) -> dict[str, bytes]:
    """Return the files of a version in a registry."""
    out = tmp_path / "pulled"
    shutil.rmtree(out, ignore_errors=True)
    packer.pull(reference, out, store=packer.MemoryStore(), **login)
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*.md")}


def test_the_action_ships_only_what_is_new(tmp_path: Path, tree: Path) -> None:
    # The last step of action.yml, as GitHub's runner calls it: inputs become variables.
    action = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
    step = action["runs"]["steps"][-1]
    inputs = {name: given.get("default", "") for name, given in action["inputs"].items()}
    (tmp_path / "registry").mkdir()
    found = []
    with run_registry(tmp_path / "registry", htpasswd=True) as server:
        for number in (1, 2):
            reference = f"{server.host}/acme/app:{number}"
            inputs |= {"path": str(tree), "reference": reference, "pack-options": "--level 3"}
            inputs |= {"registry": server.host, "username": USER, "password": PASSWORD}
            given = {
                name: inputs[value.removeprefix("${{ inputs.").removesuffix(" }}")]
                for name, value in step["env"].items()
            }
            files = {
                "GITHUB_OUTPUT": tmp_path / f"out{number}",
                "GITHUB_STEP_SUMMARY": tmp_path / "md",
            }
            given |= {name: str(path) for name, path in files.items()}
            given["GITHUB_ACTION_PATH"] = str(ROOT)
            shell = ["bash", "--noprofile", "--norc", "-eo", "pipefail"]
            run_script(shell, step["run"], environment(tmp_path, **given), tmp_path)
            found.append(outputs(tmp_path / f"out{number}"))
            (tree / "index.md").write_text("changed\n")
        registry = packer.RegistryOptions(username=USER, password=PASSWORD)
        files_of_second = pulled(reference, tmp_path, registry=registry)
    assert files_of_second["index.md"] == b"changed\n"
    assert set(found[0]) == set(action["outputs"])
    assert int(found[1]["sent-bytes"]) < int(found[0]["sent-bytes"]) / 10
    summary = (tmp_path / "md").read_text()
    assert summary.count("| sent to the registry |") == 2
    assert found[1]["digest"] in summary
    assert not list((tmp_path / "temporary").iterdir())
    assert PASSWORD not in summary


def test_a_step_without_a_login_and_with_a_base(tmp_path: Path, tree: Path) -> None:
    # Inputs that are left out come as empty variables; they must not be taken for a user or a base.
    step = yaml.safe_load((ROOT / "action.yml").read_text())["runs"]["steps"][-1]
    (tmp_path / "registry").mkdir()
    with run_registry(tmp_path / "registry") as server:
        given = dict.fromkeys(step["env"], "") | {"SOURCE": str(tree)}
        given |= {"REFERENCE": f"{server.host}/acme/app:1", "GITHUB_ACTION_PATH": str(ROOT)}
        said = run_script(["bash", "-e"], step["run"], environment(tmp_path, **given), tmp_path)
        assert "### " + given["REFERENCE"] in said
        given |= {"BASE": "none", "REFERENCE": f"{server.host}/acme/app:2"}
        said = run_script(["bash", "-e"], step["run"], environment(tmp_path, **given), tmp_path)
    assert "| sent to the registry | 0 B |" not in said


def test_a_failure_fails_the_step(tmp_path: Path, tree: Path) -> None:
    done = subprocess.run(
        ["sh", EXAMPLES / "publish", tree, "127.0.0.1:1/acme/app:1"],
        env=environment(tmp_path, LAYER_PACKER_OUTAGE_SECONDS="0"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "layer-packer: " in done.stderr
    assert not list((tmp_path / "temporary").iterdir())


def test_the_gitlab_component(tmp_path: Path, tree: Path) -> None:
    text = (EXAMPLES / "gitlab-component.yml").read_text(encoding="utf-8")
    header, body = yaml.safe_load_all(text)
    inputs = header["spec"]["inputs"]
    used = set(re.findall(r"\$\[\[ inputs\.(\w+) \]\]", text))
    assert used == set(inputs), "each input is declared and used"
    job = body["layer-packer"]
    (tmp_path / "registry").mkdir()
    with run_registry(tmp_path / "registry", htpasswd=True) as server:
        login = {
            "CI_REGISTRY": server.host,
            "CI_REGISTRY_USER": USER,
            "CI_REGISTRY_PASSWORD": PASSWORD,
        }
        values = {"path": str(tree), "reference": f"{server.host}/acme/app:1", "base": ""}
        given = {
            name: re.sub(r"\$\[\[ inputs\.(\w+) \]\]", lambda at: values[at[1]], value)
            for name, value in job["variables"].items()
        }
        given = {name: login.get(value.lstrip("$"), value) for name, value in given.items()}
        script = "\n".join(["set -e", *job["script"]])
        said = run_script(["sh"], script, environment(tmp_path, **given), tmp_path)
        registry = packer.RegistryOptions(username=USER, password=PASSWORD)
        assert pulled(values["reference"], tmp_path, registry=registry)
    assert "### " + values["reference"] in said
    assert [str(path.name) for path in tmp_path.glob("*.md")] == job["artifacts"]["paths"]


def test_the_tekton_task(tmp_path: Path, tree: Path) -> None:
    task = yaml.safe_load((EXAMPLES / "tekton-task.yaml").read_text(encoding="utf-8"))
    (step,) = task["spec"]["steps"]
    (tmp_path / "registry").mkdir()
    with run_registry(tmp_path / "registry") as server:
        reference = f"{server.host}/acme/app:1"
        values = {
            "params.path": tree.name,
            "params.reference": reference,
            "workspaces.docker-config.path": str(tmp_path / "home"),
            "results.digest.path": str(tmp_path / "digest"),
        }
        given = {
            entry["name"]: re.sub(r"\$\(([\w.-]+)\)", lambda at: values[at[1]], entry["value"])
            for entry in step["env"]
        }
        given["TMPDIR"] = str(tmp_path / "temporary")
        run_script(["sh"], step["script"], environment(tmp_path) | given, tmp_path)
        found = packer.inspect(f"docker://{reference}", store=packer.MemoryStore())
    assert (tmp_path / "digest").read_text() == found.digest
    mounted = {mount["name"] for mount in step["volumeMounts"]}
    assert mounted == {volume["name"] for volume in task["spec"]["volumes"]}


def test_the_jenkins_script(tmp_path: Path, tree: Path) -> None:
    text = (EXAMPLES / "Jenkinsfile").read_text(encoding="utf-8")
    (script,) = re.findall(r"sh '''(.*?)'''", text, re.S)
    (tmp_path / "build").mkdir()
    tree.rename(tmp_path / "build" / "release")
    (tmp_path / "registry").mkdir()
    with run_registry(tmp_path / "registry", htpasswd=True) as server:
        given = {"REGISTRY": server.host, "VERSION": "1", "LOGIN_USR": USER, "LOGIN_PSW": PASSWORD}
        run_script(["sh", "-xe"], script, environment(tmp_path, **given), tmp_path)
        registry = packer.RegistryOptions(username=USER, password=PASSWORD)
        assert pulled(f"{server.host}/acme/app:1", tmp_path, registry=registry)
    assert "### " in (tmp_path / "layer-packer.md").read_text()


def test_the_workflows_are_sound() -> None:
    actionlint = optional_program("actionlint")
    files = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
    assert files
    done = subprocess.run(
        [actionlint, "-format", "{{json .}}", *files],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"HOME": "/"},
    )
    assert json.loads(done.stdout) == [], done.stdout
