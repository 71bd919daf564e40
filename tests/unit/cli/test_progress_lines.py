"""Progress for programs: JSON lines on standard error, as docs/cli.md describes them."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest

from packer.cli.display import LineDisplay, SilentDisplay, open_display
from packer.cli.main import main
from packer.cli.progress_lines import JsonDisplay
from packer.progress import Progress
from tests.builders import noise, write
from tests.fault_proxy import Fault, fault_proxy
from tests.registry_server import run_registry

KEYS = {"phase", "done", "total", "item", "rate", "retries", "end"}


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def decoded(text: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    assert all(set(line) - {"item_base64"} == KEYS for line in lines)
    return lines


def test_lines_of_two_phases() -> None:
    stream, clock = io.StringIO(), Clock()
    with JsonDisplay(stream, clock) as display:
        for done in range(0, 4_000_001, 1000):
            display.callback(Progress("copy", done, 4_000_000, "sha256:x"))
            clock.now += 0.0005
        display.on_retry()
        display.callback(Progress("unpack", 0, 0, "caf\udce9"))
        clock.now += 2
        display.callback(Progress("unpack", 500, 1000))
    lines = decoded(stream.getvalue())
    copied = [line for line in lines if line["phase"] == "copy"]
    assert copied[0] == {
        "phase": "copy",
        "done": 0,
        "total": 4_000_000,
        "item": "sha256:x",
        "rate": 0,
        "retries": 0,
        "end": False,
    }
    assert 5 <= len(copied) <= 7  # the first, each half second, the retry, the end
    assert [line["done"] for line in copied] == sorted(line["done"] for line in copied)
    assert 1_900_000 < copied[1]["rate"] < 2_100_000
    assert [line["end"] for line in copied] == [False] * (len(copied) - 1) + [True]
    assert copied[-1]["retries"] == 1
    first, second, last = (line for line in lines if line["phase"] == "unpack")
    assert (first["total"], first["item"], first["item_base64"]) == (None, "caf\ufffd", "Y2Fm6Q==")
    assert (second["rate"], second["item"]) == (250, None)
    assert (last["end"], last["done"], last["rate"]) == (True, 500, 250)
    assert stream.getvalue().isascii()


def test_a_phase_that_fails_has_no_end() -> None:
    stream = io.StringIO()
    with pytest.raises(OSError, match="full"), JsonDisplay(stream) as display:
        display.callback(Progress("pack", 5, 10))
        raise OSError("full")
    assert [line["end"] for line in decoded(stream.getvalue())] == [False]


def test_nobody_reads() -> None:
    read, written = os.pipe()
    os.close(read)
    with open(written, "w", encoding="utf-8") as stream:
        with JsonDisplay(stream) as display:
            display.callback(Progress("pack", 5, 10))
        os.dup2(os.open(os.devnull, os.O_WRONLY), written)


def test_choices() -> None:
    for quiet in (False, True):
        stream = io.StringIO()
        assert isinstance(open_display(quiet=quiet, how="json", stream=stream), JsonDisplay)
        assert isinstance(open_display(quiet=quiet, how="plain", stream=stream), LineDisplay)
        assert isinstance(open_display(quiet=quiet, how="none", stream=stream), SilentDisplay)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LAYER_PACKER_STORE", str(tmp_path / "store"))
    return write(tmp_path / "v", {"a.bin": noise(1, 2_000_000)})


def test_the_command(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--json"], []):
        assert main(["pack", str(root), "--no-cache", "--progress", "json", *words]) == 0
        out, err = capsys.readouterr()
        lines = decoded(err)
        assert len(lines) == len(err.splitlines())
        assert lines[-1]["end"]
        assert lines[-1]["done"] == lines[-1]["total"] == 2_000_000
        assert not words or json.loads(out)["files"] == 1
    assert main(["--progress=none", "pack", str(root), "--no-cache"]) == 0
    assert capsys.readouterr().err == ""
    assert main(["pack", str(root), "--no-cache", "--json", "--progress=plain"]) == 0
    assert capsys.readouterr().err.startswith("layer-packer: pack: 2.0 MB in ")


@pytest.mark.parametrize(
    "words",
    [
        *(["--progress", "bars"], ["--progress", ""], ["--progress"], ["--progress", "\x1b[31m"]),
        *(["-q", "--progress", "json"], ["-q", "--progress=plain"]),
        *(["--limit-rate", "0"], ["--limit-rate", "-5M"], ["--limit-rate", "5 Mbit"]),
        *(["--limit-rate", ""], ["--limit-rate", "999"], ["--limit-rate", "nan"]),
        *(["--limit-rate", "9" * 5000], ["--limit-rate", "99999T"], ["--limit-rate", "1e9"]),
    ],
)
def test_wrong_use(root: Path, capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert main(["pack", str(root), *words]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert len(err) < 400


@pytest.mark.registry
def test_retries_are_told(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "registry").mkdir()
    with run_registry(tmp_path / "registry") as server, fault_proxy(server.host) as proxy:
        assert main(["pack", str(root), "--tag", "app:1"]) == 0
        assert main(["push", f"{proxy.host}/acme/app:1", "--limit-rate", "50MB"]) == 0
        capsys.readouterr()
        proxy.fault = Fault("GET", "/blobs/", "response", "cut", "body-middle")
        words = ["pull", f"{proxy.host}/acme/app:1", str(tmp_path / "out"), "--progress=json"]
        assert main([*words, "--store", str(tmp_path / "other")]) == 0
    lines = decoded(capsys.readouterr().err)
    assert {line["phase"] for line in lines} == {"copy", "unpack"}
    assert lines[-1]["retries"] == 1
    assert (tmp_path / "out" / "a.bin").read_bytes() == noise(1, 2_000_000)
