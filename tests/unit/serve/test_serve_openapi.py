"""The service against its OpenAPI document, by a tool that makes requests of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from packer.serve import openapi
from packer.serve.views import VIEWS
from tests.serving import Client


def test_the_document_is_sound(tmp_path: Path) -> None:
    document = openapi.document()
    assert {f"/api/{name}" for name in VIEWS} | {"/raw"} == set(document["paths"])
    path = tmp_path / "openapi.yaml"
    path.write_text(yaml.safe_dump(document))
    names = [it["get"]["operationId"] for it in document["paths"].values()]
    assert len(names) == len(set(names))


@pytest.mark.slow
def test_answers_follow_the_document(client: Client, tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("schemathesis")
    # Real names first, so that answers with something in them are checked as well.
    config = tmp_path / "schemathesis.toml"
    config.write_text(
        '[parameters]\n"app" = ["registry"]\n"version" = ["registry:1.3", "registry:1.0"]\n'
        '"old" = ["registry:1.0"]\n"new" = ["registry:1.2"]\n'
    )
    words = [str(program), "--config-file", str(config), "run", client.url + "openapi.json"]
    words += ["--max-examples", "12", "--phases", "examples,coverage,fuzzing", "--seed", "7"]
    words += ["--checks", "not_a_server_error,status_code_conformance,content_type_conformance"]
    words += ["response_schema_conformance"]
    words[-2:] = [words[-2] + "," + words[-1]]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
