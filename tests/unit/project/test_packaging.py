"""What pyproject.toml and the files for releases declare is whole, and agrees."""

from __future__ import annotations

import fnmatch
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import packer

if sys.version_info >= (3, 11):
    import tomllib
else:
    import pip._vendor.tomli as tomllib

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
SETTINGS: dict[str, Any] = tomllib.loads(TEXT)
PROJECT: dict[str, Any] = SETTINGS["project"]


def workflow(name: str) -> dict[str, Any]:
    """Return a workflow of GitHub."""
    found = yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def test_every_dependency_says_why_it_is_there() -> None:
    block = re.search(r"^dependencies = \[\n(.*?)^\]", TEXT, re.S | re.M)
    assert block is not None
    lines = block[1].splitlines()
    assert len(lines) == len(PROJECT["dependencies"])
    assert all(re.fullmatch(r' +"\S+", +# \w.+', line) for line in lines)


def test_extras_are_for_users_and_groups_for_us() -> None:
    assert not set(PROJECT["optional-dependencies"]) & set(SETTINGS["dependency-groups"])
    included = {entry["include-group"] for entry in SETTINGS["dependency-groups"]["dev"]}
    assert included == {"test", "lint", "bench", "docs"}
    # What an extra brings is tested, so the group has it too, at the same version.
    for extra in PROJECT["optional-dependencies"].values():
        assert set(extra) <= set(SETTINGS["dependency-groups"]["test"])


def test_the_licence_is_an_expression() -> None:
    assert PROJECT["license"] == "Apache-2.0"
    assert not [entry for entry in PROJECT["classifiers"] if entry.startswith("License")]


def test_the_pythons_declared_are_tested() -> None:
    declared = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', TEXT)
    matrix = workflow("ci.yml")["jobs"]["test"]["strategy"]["matrix"]
    assert declared == matrix["python"]
    assert PROJECT["requires-python"] == f">={declared[0]}"
    built = (ROOT / "tools" / "build_standalone.py").read_text(encoding="utf-8")
    assert f"PYTHONS = {tuple(declared)!r}".replace("'", '"') in built
    assert f'"cp{declared[0].replace(".", "")}"' in (ROOT / "setup.py").read_text()


def test_every_data_file_is_declared() -> None:
    # A template that no pattern matches is missing from wheels, and only from wheels.
    listed = subprocess.run(["git", "ls-files", "packer"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    patterns = SETTINGS["tool"]["setuptools"]["package-data"]["packer"]
    for name in listed.stdout.split():
        inner = name.removeprefix("packer/")
        assert name.endswith(".py") or any(
            fnmatch.fnmatchcase(inner, pattern) and inner.count("/") == pattern.count("/")
            for pattern in patterns
        ), name


def test_examples_name_this_version() -> None:
    for path in (ROOT / "examples" / "ci").iterdir():
        for version in re.findall(r"layer-packer/layer-packer:([\w.]+)", path.read_text()):
            assert version == packer.__version__, path.name


def test_a_release_with_wrong_texts_is_refused() -> None:
    program = ROOT / "tools" / "release_check.py"
    call = [sys.executable, str(program), "999.0.0", "--texts-only"]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    for file in ("packer/_version.py", "CHANGELOG.md", "samples/999.0.0", "tekton-task.yaml"):
        assert file in done.stderr


def test_publishing_needs_no_stored_password() -> None:
    publish = workflow("release.yml")["jobs"]["publish"]
    assert publish["permissions"]["id-token"] == "write"
    assert set(publish["needs"]) == {"test", "alpine"}
    text = (ROOT / ".github" / "workflows" / "release.yml").read_text()
    assert "secrets." not in text
