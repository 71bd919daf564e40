"""Errors of the command: one line, the documented code, and a JSON object."""

from __future__ import annotations

import os
import socketserver
import threading
from pathlib import Path

import pytest

from packer.cli.main import main
from packer.oci import DATA_TYPE, MANIFEST_TYPE, Descriptor, Manifest, canonical_json, digest_of
from packer.stores.layout import LayoutStore
from tests.command import Run, check_error
from tests.registry_server import free_port


@pytest.mark.parametrize(
    "words",
    [
        ("frobnicate",),
        ("pack",),
        ("ls", "a", "b"),
        ("pack", "x", "--level", "much"),
        ("ls", "a", "--jobs", "2"),
        ("ls", "--lon", "a"),
    ],
)
def test_usage_errors(run: Run, words: tuple[str, ...]) -> None:
    assert "--help" in check_error(run, 2, "UsageError", *words)["error"]


def test_values_out_of_range(run: Run, app: Path, tmp_path: Path) -> None:
    run("pack", app, "--tag", "app:1")
    check_error(run, 2, "InvalidParameter", "pack", app, "--level", "99")
    check_error(run, 2, "InvalidParameter", "cat", "app:1", "link")
    check_error(run, 2, "InvalidParameter", "copy", "app:1", f"oci:{tmp_path}/x:y", "--jobs", "0")
    check_error(run, 2, "InvalidReference", "push", "reg.example/UPPER:1", "--from", "app:1")
    check_error(run, 2, "InvalidParameter", "ls", "app:1", "--username", "me")
    check_error(run, 2, "InvalidParameter", "ls", "app:1", "--password-stdin")
    check_error(run, 2, "InvalidParameter", "versions", "--store", app)


def test_not_found(run: Run, app: Path, tmp_path: Path) -> None:
    run("pack", app, "--tag", "app:1")
    value = check_error(run, 3, "NotFound", "unpack", "nosuch", tmp_path / "out")
    assert (value["missing"], value["name"]) == ("tag", "nosuch")
    assert not (tmp_path / "out").exists()
    check_error(run, 3, "NotFound", "cat", "app:1", "no/such")
    check_error(run, 3, "NotFound", "ls", "sha256:" + "0" * 64)
    check_error(run, 3, "NotFound", "pull", f"oci:{tmp_path}/none:x", tmp_path / "out")
    check_error(run, 3, "NotFound", "pack", app, "--base", "nosuch")
    check_error(run, 3, "NotFound", "push", f"oci:{tmp_path}/there:x", "--from", "nosuch")


def largest_blob(store: Path) -> Path:
    return max((store / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size)


def test_flipped_blob(run: Run, app: Path, store: Path, tmp_path: Path) -> None:
    run("pack", app, "--tag", "app:1")
    blob = largest_blob(store)
    data = bytearray(blob.read_bytes())
    data[len(data) // 2] ^= 1
    blob.chmod(0o644)
    blob.write_bytes(data)
    assert blob.name in check_error(run, 4, "DigestMismatch", "verify", "app:1")["error"]
    target = tmp_path / "out"
    for words in (
        ("unpack", "app:1", target),
        ("push", f"oci:{tmp_path}/there:x", "--from", "app:1"),
    ):
        assert run(*words).code == 4
    assert not target.exists()
    assert not list(tmp_path.glob(".layer-packer*"))
    assert run("cat", "app:1", "sub/run").code == 4


def test_missing_blob(run: Run, app: Path, store: Path, tmp_path: Path) -> None:
    run("pack", app, "--tag", "app:1")
    blob = largest_blob(store)
    blob.unlink()
    value = check_error(run, 3, "NotFound", "unpack", "app:1", tmp_path / "out")
    assert (value["missing"], value["name"]) == ("blob", "sha256:" + blob.name)
    assert not (tmp_path / "out").exists()


def test_manifest_of_another_tool(run: Run, store: Path, tmp_path: Path) -> None:
    layout = LayoutStore(store)
    with layout.create() as writer:
        writer.write(b"{}")
        config, _ = writer.commit("application/vnd.oci.image.config.v1+json")
    foreign = canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": config.to_json(),
            "layers": [],
        }
    )
    layout.put_manifest(foreign, MANIFEST_TYPE, "image:1")
    value = check_error(run, 4, "UnsupportedVersion", "unpack", "image:1", tmp_path / "out")
    assert "layer-packer" in value["error"]
    check_error(run, 4, "UnsupportedVersion", "ls", "image:1")


def test_fifo_in_the_tree(run: Run, app: Path) -> None:
    os.mkfifo(app / "sub" / "pipe")
    value = check_error(run, 7, "UnsupportedFile", "pack", app, "--tag", "app:1")
    assert value["path"].endswith("sub/pipe")
    assert run("versions").text == ""


def test_target_with_content(run: Run, app: Path, tmp_path: Path) -> None:
    run("pack", app, "--tag", "app:1")
    target = tmp_path / "out"
    target.mkdir()
    (target / "mine").write_text("mine")
    value = check_error(run, 8, "TargetExists", "unpack", "app:1", target)
    assert value["path"] == str(target)
    assert os.listdir(target) == ["mine"]


def test_file_system_says_no(run: Run, app: Path, tmp_path: Path) -> None:
    missing = tmp_path / "nosuch"
    value = check_error(run, 9, "FileNotFoundError", "pack", missing)
    assert value["path"] == str(missing)
    assert value["error"] == f"{missing}: No such file or directory"
    run("pack", app, "--tag", "app:1")
    (tmp_path / "file").touch()
    check_error(run, 9, "NotADirectoryError", "pack", tmp_path / "file" / "below")


@pytest.mark.slow
def test_registry_down(run: Run, app: Path, tmp_path: Path) -> None:
    run("pack", app, "--tag", "app:1")
    name = f"localhost:{free_port()}/acme/app:1"
    value = check_error(run, 5, "TransportError", "pull", name, tmp_path / "out")
    assert value["retryable"] is True
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_registry_that_answers_nonsense(run: Run) -> None:
    class Nonsense(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(4096)
            self.request.sendall(b"\x1b[31mSSH-2.0 nonsense\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Nonsense) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        name = f"localhost:{server.server_address[1]}/acme/app:1"
        result = run("ls", name)
        server.shutdown()
    assert result.code == 5
    assert "\x1b" not in result.err


def test_hostile_text_in_a_manifest_does_not_reach_the_terminal(
    run: Run, store: Path, tmp_path: Path
) -> None:
    # The parent and creation time are copied from annotations that anybody can write.
    layout = LayoutStore(store)
    with layout.create() as writer:
        writer.write(b"{}")
        config, _ = writer.commit("text/\x1b[31mred")
    manifest = Manifest(
        Descriptor(config.media_type, config.digest, config.size),
        (Descriptor(DATA_TYPE, digest_of(b"{}"), 2),),
        {"org.opencontainers.image.created": "\x1b]0;title\x07"},
    )
    layout.put_manifest(manifest.encode(), MANIFEST_TYPE, "bad")
    for words in (("inspect", "bad"), ("ls", "bad")):
        result = run(*words)
        assert result.code == 4
        assert "\x1b" not in result.err


def test_a_defect_is_one_line_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**_: object) -> None:
        raise ZeroDivisionError("ouch")

    monkeypatch.setattr("packer.api.listing.versions", broken)
    check_error(run, 1, "ZeroDivisionError", "versions")
    assert "Traceback" in run("versions", "--debug").err


def test_debug_adds_the_traceback(run: Run) -> None:
    result = run("ls", "nosuch", "--debug")
    assert result.err.startswith("Traceback")
    assert result.err.splitlines()[-1].startswith("layer-packer: tag not found: nosuch")


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("pul", "x", "y"), "unknown verb pul; did you mean pull?"),
        (("list",), "unknown verb list; did you mean ls?"),
        (("storage", "hist", "app"), "unknown verb hist; did you mean history?"),
        (("unpack", "x", "y", "--updat"), "unknown argument --updat; did you mean --update?"),
        (("help", "registr"), "unknown verb registr; did you mean registry?"),
    ],
)
def test_typos_are_answered_with_what_was_meant(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], hint: str
) -> None:
    assert main(list(words)) == 2
    assert hint in capsys.readouterr().err


@pytest.mark.parametrize("topic", [("pack",), ("storage", "save"), ()])
def test_help_is_a_verb(capsys: pytest.CaptureFixture[str], topic: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*topic, "--help"])
    assert ended.value.code == 0
    expected = capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main(["help", *topic])
    assert ended.value.code == 0
    assert capsys.readouterr().out == expected


def test_shared_options_have_a_help_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["help", "options"])
    shown = capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["pull", "--help"])
    pull = capsys.readouterr().out
    for option in ("--json", "--store", "--ca-file", "--auth-file", "--registry"):
        assert option in shown
        assert option not in pull
    assert "layer-packer help options" in pull
    assert "example:" in pull
