"""The page in one file, and the verbs."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

import packer
from packer.cli.main import main
from packer.serve.report import hash_of
from tests.serving import HOSTILE
from tests.unit.serve.test_serve_answers import links


def test_a_report_needs_nothing_else(shown: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "page.html"
    words = ["report", "registry", "-o", str(out), "--store", str(shown / "store"), "-q"]
    assert main(words) == 0
    html = out.read_text(encoding="utf-8")
    found = links(html)
    assert set(found.found) == {"#main"}, "nothing is asked for"
    assert found.inline == ["style"], "the one style is named in the policy"
    (style,) = re.findall(r"<style>(.*?)</style>", html, re.S)
    assert f"style-src &#39;{hash_of(style)}&#39;" in html
    assert "<script" not in html
    assert HOSTILE not in html
    for text in ("registry:1.3", "registry:1.0", "By layer", "-version", "What changed"):
        assert text.removeprefix("-") in html


def test_a_report_of_one_version(shown: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    words = ["report", "registry:1.1", "-o", str(out), "--store", str(shown / "store"), "--json"]
    assert main(words) == 0
    html = out.read_text(encoding="utf-8")
    assert "registry:1.1" in html
    assert "registry:1.2" not in html
    assert main(["report", "none:1", *words[2:]]) == 3
    assert main(["report", str(shown / "store"), *words[2:]]) == 2, "it has two applications"


def test_a_storage_is_reported(tmp_path: Path, shown: Path) -> None:
    base = f"oci:{tmp_path}/base"
    with packer.open_storage(base) as storage:
        for number in (0, 1):
            storage.save("app/one", shown / f"v{number}", labels={"version": f"1.{number}"})
        storage.deploy("app/one", 0)
    out = tmp_path / "page.html"
    assert main(["report", "app/one", "-o", str(out), "--storage-base-uri", base, "-q"]) == 0
    assert "0 is deployed" in out.read_text(encoding="utf-8")


def test_the_command_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["serve", str(tmp_path), "--host", "0.0.0.0"]) == 2
    assert "token" in capsys.readouterr().err
    short = tmp_path / "token"
    short.write_text("short\n")
    assert main(["serve", str(tmp_path), "--token-file", str(short)]) == 2
    short.write_text("\n")
    assert main(["serve", str(tmp_path), "--token-file", str(short)]) == 2
    capsys.readouterr()
    monkeypatch.setattr("packer.cli.serving.find_spec", lambda name: None)
    assert main(["report", "x", "-o", str(tmp_path / "page.html")]) == 2
    assert "layer-packer[serve]" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_process(shown: Path, tmp_path: Path, number: int) -> None:
    token = tmp_path / "token"
    token.write_text("0123456789abcdef\n")
    words = [sys.executable, "-m", "packer", "serve", "--port", "0", "--json"]
    words += ["--store", str(shown / "store"), "--token-file", str(token)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        read = ""
        while not read.endswith("}\n"):
            read += process.stdout.readline().decode()
        url = json.loads(read)["url"]
        assert urllib.request.urlopen(url + "healthz").read() == b"ok\n"
        asked = urllib.request.Request(url + "api/apps")
        asked.add_header("Authorization", "Bearer 0123456789abcdef")
        assert json.load(urllib.request.urlopen(asked))["total"] == 2
        os.kill(process.pid, number)
        assert process.wait(60) == 0
        assert process.stderr.read() == b""
