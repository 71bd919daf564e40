"""The verbs below ``layer-packer storage``, in this process, on layouts."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from packer.cli.main import main

Run = Callable[..., tuple[int, bytes]]

SAVED = {
    "app", "sequence", "digest", "created", "labels", "files", "bytes", "stored_bytes",
    "new_bytes", "layers", "parent",
}  # fmt: skip


@pytest.fixture
def run(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> Run:
    def run(verb: str, *arguments: object) -> tuple[int, bytes]:
        uri = f"oci:{tmp_path / 'base'}"
        code = main(["storage", verb, *map(str, arguments), "--storage-base-uri", uri])
        return code, capsysbinary.readouterr().out

    return run


def decoded(result: tuple[int, bytes]) -> dict[str, Any]:
    assert result[0] == 0, result
    value = json.loads(result[1])
    assert isinstance(value, dict)
    return value


def write(root: Path, number: int) -> Path:
    root.mkdir(exist_ok=True)
    (root / "app.yaml").write_text(f"version: {number}\n")
    return root


def test_a_version_from_save_to_delete(run: Run, tmp_path: Path) -> None:
    root = tmp_path / "v"
    for number in range(3):
        label = ("--label", f"version=1.{number}", "--label", "ci=a=b")
        saved = decoded(run("save", "My App", write(root, number), *label, "--json"))
        assert set(saved) == SAVED
        assert (saved["app"], saved["sequence"]) == ("My App", number)
        assert saved["labels"] == {"version": f"1.{number}", "ci": "a=b"}
        assert (saved["parent"] is None) == (number == 0)
    assert decoded(run("apps", "--json")) == {"apps": ["My App"], "without_versions": []}
    assert decoded(run("current", "My App", "--json")) == {"app": "My App", "current": None}
    assert run("current", "My App")[1] == b"nothing is deployed\n"
    decoded(run("deploy", "My App", 1, "--json"))
    assert decoded(run("deploy", "My App", 2, "--json"))["sequence"] == 2
    assert decoded(run("rollback", "My App", "--json"))["sequence"] == 1
    history = decoded(run("history", "My App", "--json"))
    assert history["current"] == 1
    assert [version["sequence"] for version in history["versions"]] == [0, 1, 2]
    lines = run("history", "My App")[1].decode().splitlines()
    assert lines[0].split()[:3] == ["SEQUENCE", "CREATED", "(UTC)"]
    assert [line[0] for line in lines] == [" ", " ", "*", " "]
    assert lines[3].endswith("ci=a=b  version=1.2")
    assert run("current", "My App")[1].decode().splitlines()[1].split()[0] == "1"
    assert decoded(run("current", "My App", "--json"))["current"]["sequence"] == 1

    code, out = run("diff", "My App", 0, 2, "--exit-code")
    assert (code, out.splitlines()[1].split()[::7]) == (10, [b"~", b"app.yaml"])
    assert decoded(run("diff", "My App", 0, 2, "--json"))["changed"] == 1
    assert run("open", "My App", 0, "app.yaml") == (0, b"version: 0\n")
    value = decoded(run("open", "My App", 2, "app.yaml", "--json"))
    assert base64.b64decode(value["content_base64"]) == b"version: 2\n"
    value = decoded(run("load", "My App", 2, tmp_path / "out", "--json"))
    assert (value["sequence"], value["written_files"]) == (2, 1)
    assert (tmp_path / "out/app.yaml").read_text() == "version: 2\n"
    assert run("load", "My App", 0, tmp_path / "out")[0] == 8
    assert run("load", "My App", 0, tmp_path / "out", "--update")[0] == 0

    assert decoded(run("load", "My App", "latest", tmp_path / "new", "--json"))["sequence"] == 2
    assert run("open", "My App", "latest", "app.yaml") == (0, b"version: 2\n")
    assert decoded(run("diff", "My App", 0, "latest", "--json"))["new"] == "2"
    assert run("load", "Your App", "latest", tmp_path / "none")[0] == 3
    assert run("delete", "My App", "latest")[0] == 2  # by its number alone
    value = decoded(run("retain", "My App", "--keep", 1, "--dry-run", "--json"))
    assert (value["deleted"], value["kept"], value["dry_run"]) == ([0], [1, 2], True)
    lines = run("retain", "My App", "--keep", 1, "--dry-run")[1].decode().splitlines()
    assert lines[0].startswith("My App: would delete 1 version, keep 2; ")
    assert lines[1] == "to be deleted: 0"
    assert len(decoded(run("history", "My App", "--json"))["versions"]) == 3

    assert run("delete", "My App", 1)[0] == 1  # it is deployed
    value = decoded(run("retain", "My App", "--keep", 1, "--protect", 0, "--json"))
    assert (value["deleted"], value["kept"]) == ([], [0, 1, 2])
    assert decoded(run("delete", "My App", 0, "--json")) == {"app": "My App", "sequence": 0}
    assert run("load", "My App", 0, tmp_path / "gone")[0] == 3


def test_unknown_applications_are_errors(
    run: Run, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    for words in (("history",), ("current",), ("retain", "--keep", "1"), ("verify",)):
        assert run(words[0], "shop", *words[1:])[0] == 3, words
    assert run("save", "shop", write(tmp_path / "v", 1))[0] == 0
    for words in (("history",), ("current",), ("retain", "--keep", "1"), ("verify",)):
        uri = f"oci:{tmp_path / 'base'}"
        code = main(["storage", words[0], "shpo", *words[1:], "--storage-base-uri", uri])
        error = capsysbinary.readouterr().err
        assert words[0] in ("retain", "verify") or b"did you mean shop?" in error
        assert code == 3


def test_a_storage_is_verified(run: Run, tmp_path: Path) -> None:
    for number in range(2):
        assert run("save", "shop", write(tmp_path / "v", number))[0] == 0
    (tmp_path / "b.tgz").write_bytes(b"bundle")
    assert run("save-bundle", "b", tmp_path / "b.tgz")[0] == 0
    assert run("verify")[1].decode().splitlines() == [
        "shop: 2 of 2 versions sound", "support bundles: 1 of 1 bundle sound",
    ]  # fmt: skip
    newest = decoded(run("history", "shop", "--json"))["versions"][1]
    (tmp_path / "base/shop/blobs/sha256" / newest["digest"].removeprefix("sha256:")).unlink()
    code, out = run("verify", "shop")
    assert code == 4
    assert out.decode().splitlines()[0] == "shop: 1 of 2 versions sound"
    assert out.decode().splitlines()[1].startswith("shop 1  stale: manifest not found: sha256:")
    value = json.loads(run("verify", "--json")[1])
    assert [one["condition"] for one in value["applications"][0]["versions"]] == ["sound", "stale"]
    assert value["bundles"] == [{"id": "b", "condition": "sound", "why": None}]


def test_chosen_sequences(run: Run, tmp_path: Path) -> None:
    root = write(tmp_path / "v", 1)
    assert decoded(run("save", "app", root, "--sequence", 7, "--json"))["sequence"] == 7
    assert run("save", "app", root, "--sequence", 7)[0] == 0
    write(root, 2)
    assert run("save", "app", root, "--sequence", 7)[0] == 1
    assert run("save", "app", root, "--sequence", -1)[0] == 2


def test_support_bundles(run: Run, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.tar.gz"
    bundle.write_bytes(bytes(range(256)) * 100)
    saved = decoded(run("save-bundle", "b/1", bundle, "--label", "app=x", "--json"))
    assert (saved["id"], saved["bytes"], saved["labels"]) == ("b/1", 25_600, {"app": "x"})
    assert decoded(run("bundles", "--json")) == {"bundles": [saved]}
    heading, row = run("bundles")[1].decode().splitlines()
    assert heading.split() == ["ID", "CREATED", "(UTC)", "DIGEST", "SIZE", "ADDS", "LABELS"]
    assert row.split()[::3] == ["b/1", saved["digest"][7:19], "1.4"]
    assert run("open-bundle", "b/1") == (0, bundle.read_bytes())
    assert run("open-bundle", "b/2")[0] == 3
    found = decoded(run("load-bundle", "b/1", tmp_path / "out", "--json"))
    assert (found["id"], found["directory"]) == ("b/1", str(tmp_path / "out"))
    assert (tmp_path / "out" / bundle.name).read_bytes() == bundle.read_bytes()
    root = write(tmp_path / "v", 1)
    (root / "more.yaml").write_bytes(b"a: 1\n")
    assert run("save-bundle", "b/3", root)[0] == 0
    assert run("open-bundle", "b/3")[0] == 2
    assert run("load-bundle", "b/3", tmp_path / "tree")[0] == 0
    assert sorted(os.listdir(tmp_path / "tree")) == sorted(os.listdir(root))


@pytest.mark.parametrize(
    "arguments",
    [
        ("save", "app", "v", "--label", "novalue"),
        ("load", "app", "x", "out"),
        ("load", "app", "Latest", "out"),
        ("load", "app", "", "out"),
        ("retain", "app", "--keep", "1", "--dry-run", "yes"),
        ("load", "app", "0", "out", "--delete"),
        ("retain", "app", "--keep", "0"),
        ("retain", "app"),
        ("history", ""),
        ("nothing",),
    ],
)
def test_wrong_use(run: Run, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    write(tmp_path / "v", 1)
    assert run("save", "app", tmp_path / "v")[0] == 0
    assert run(*[str(tmp_path / "v") if word == "v" else word for word in arguments])[0] == 2


def test_the_base_is_needed_and_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("LAYER_PACKER_STORAGE", raising=False)
    assert main(["storage", "history", "app"]) == 2
    assert "LAYER_PACKER_STORAGE" in capsys.readouterr().err
    for wrong in ("s3://b", "docker://", "oci:", "\x1b[31m", "x" * 10_000):
        monkeypatch.setenv("LAYER_PACKER_STORAGE", wrong)
        assert main(["storage", "apps"]) == 2, wrong
    monkeypatch.setenv("LAYER_PACKER_STORAGE", f"oci:{tmp_path / 'base'}")
    assert main(["storage", "save", "app", str(write(tmp_path / "v", 1))]) == 0
    assert main(["storage", "apps", "-q"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "app"
    assert main(["storage", "apps", "--storage-base-uri", f"oci:{tmp_path / 'other'}"]) == 0
    assert capsys.readouterr().out == ""
    assert main(["storage", "history", "app", "--storage-base-uri", "s3://b"]) == 2
    # Docker Hub would be asked for what was mistyped.
    for mistyped in ("garbage", "org/base", "memory", "oci"):
        assert main(["storage", "apps", "--storage-base-uri", mistyped]) == 2
    assert main(["storage", "history", "app", "--storage-base-uri", "oci:/x:1"]) == 2
    with pytest.raises(SystemExit):
        main(["storage", "save", "--help"])
