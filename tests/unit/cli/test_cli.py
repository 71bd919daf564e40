"""Every verb of the command line, in this process, on real directories and layouts."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import random
import re
import stat
from pathlib import Path
from typing import Any, cast

import pytest

from packer.cli.main import main
from packer.cli.output import Output
from packer.engine.zstd import DEFAULT_LEVEL, LARGE_LEVEL
from packer.format.layer_writer import LARGE_BYTES
from tests.command import Run
from tests.registry_server import run_registry

ROOT = Path(__file__).parents[3]

RESTORED = {"digest", "directory", "files", "bytes", "written_files", "written_bytes", "deleted"}
RESTORED |= {"seeded_bytes", "verification"}
COPIED = {"digest", "copied_blobs", "copied_bytes", "present_blobs", "unchanged"}
COPIED |= {"mounted_blobs", "mounted_bytes"}
COPIED |= {"copied_referrers", "present_referrers", "kept_referrers"}


def tree(root: Path) -> dict[str, tuple[int, bytes]]:
    out: dict[str, tuple[int, bytes]] = {}
    for base, names, files in os.walk(os.fsencode(root)):
        for name in (*names, *files):
            path = os.path.join(base, name)
            mode = os.lstat(path).st_mode
            data = b""
            if stat.S_ISLNK(mode):
                data = os.readlink(path)
            elif stat.S_ISREG(mode):
                data = Path(os.fsdecode(path)).read_bytes()
            out[os.fsdecode(os.path.relpath(path, os.fsencode(root)))] = mode, data
    return out


def test_pack_says_what_it_did(run: Run, app: Path) -> None:
    first = run("pack", app, "--tag", "app:1")
    assert first.code == 0
    head, summary, hint = first.text.splitlines()
    assert hint.startswith("no base found, so all of it is new; ")
    assert "no base" not in run("pack", app, "--tag", "b:1", "--base", "none").text
    assert re.fullmatch(r"app:1  sha256:[0-9a-f]{64}", head)
    assert re.fullmatch(
        r"2 files, \d+\.\d KB; added \d+\.\d KB in 1 layer \(\d+\.\d % of \d+\.\d KB\)", summary
    )
    assert re.fullmatch(r"layer-packer: pack: .* in .* s \(.*/s\)\n", first.err)
    again = run("pack", app, "--tag", "app:1")
    assert again.text.splitlines()[0] == head
    assert again.text.splitlines()[1].endswith("unchanged, nothing added")


def test_archives_that_stay_closed_are_told(run: Run, app: Path) -> None:
    (app / "a.tar.xz").write_bytes(b"\xfd7zXZ\0" + random.Random(1).randbytes(100_000))
    (app / "b.tar.zst").write_bytes(b"\x28\xb5\x2f\xfd\0" + random.Random(2).randbytes(90_000))
    told = run("pack", app, "--tag", "app:1").text.splitlines()
    assert told[2] == (
        "archives that stayed closed, 190.0 KB: a.tar.xz (xz, this format is not opened; 100.0 KB)"
        " and 1 more, see --json"
    )
    (app / "new").write_bytes(b"new")
    (row, _) = run("pack", app, "--tag", "app:2", "--no-cache", "--json").json["closed"]
    assert row == {
        "path": "a.tar.xz",
        "kind": "xz",
        "reason": "format",
        "streams": 1,
        "bytes": 100_006,
        "stored_bytes": 0,
    }
    text = run("inspect", "app:1").text
    assert re.search(r"\na.tar.xz +xz +this format is not opened +100.0 KB +100\.", text)
    assert re.search(r"\nb.tar.zst +zstd +zstd of text, .* +90.0 KB +90\.", text)


def test_pack_json(run: Run, app: Path, changed: Path) -> None:
    first = run("pack", app, "--tag", "app:1", "--json")
    assert first.err == ""
    assert first.json.keys() == {
        *("digest", "tag", "files", "bytes", "new_bytes"),
        *("new_layers", "layers", "unchanged", "parent", "index_bytes", "parts"),
        *("closed_bytes", "closed", "base", "left_out"),
    }
    assert first.json["files"] == 2
    size = sum(len(data) for mode, data in tree(app).values() if stat.S_ISREG(mode))
    assert first.json["bytes"] == size
    assert first.json["parent"] is None
    assert first.json["unchanged"] is False
    again = run("pack", app, "--tag", "app:1", "--json").json
    assert (again["unchanged"], again["new_bytes"], again["new_layers"]) == (True, 0, 0)
    assert again["digest"] == first.json["digest"]
    # Options may stand before the verb, too.
    second = run("--json", "pack", changed, "--tag", "app:2").json
    assert second["parent"] == first.json["digest"]
    assert second["new_bytes"] < 5000
    alone = run("pack", changed, "--tag", "alone:1", "--base", "none", "--level", "1", "--json")
    assert alone.json["parent"] is None
    assert alone.json["new_bytes"] > 10_000


def test_pack_new_bytes_are_what_the_store_grew_by(run: Run, app: Path, store: Path) -> None:
    value = run("pack", app, "--json").json
    blobs = [path.stat().st_size for path in (store / "blobs" / "sha256").iterdir()]
    assert value["new_bytes"] == sum(blobs)
    assert value["tag"] == "app-1.0"


def test_unpack_gives_the_same_tree(run: Run, app: Path, tmp_path: Path) -> None:
    run("pack", app, "--tag", "app:1")
    target = tmp_path / "deep" / "out"
    result = run("unpack", "app:1", target)
    assert result.code == 0
    assert f"to {target}" in result.text
    assert tree(target) == tree(app)
    value = run("unpack", "app:1", tmp_path / "out2", "--json").json
    assert value.keys() == RESTORED | {"name"}
    assert value["directory"] == str(tmp_path / "out2")
    assert value["written_files"] == value["files"] == 2


def test_unpack_update_and_delete(run: Run, app: Path, changed: Path, tmp_path: Path) -> None:
    run("pack", app, "--tag", "app:1")
    run("pack", changed, "--tag", "app:2")
    target = tmp_path / "out"
    run("unpack", "app:1", target)
    before = (target / "a.yaml").stat()
    same = run("unpack", "app:1", target, "--update", "--json").json
    assert (same["written_files"], same["deleted"]) == (0, 0)
    assert (target / "a.yaml").stat().st_mtime_ns == before.st_mtime_ns
    (target / "mine").write_text("kept")
    run("unpack", "app:2", target, "--update")
    assert (target / "mine").read_text() == "kept"
    assert (target / "sub" / "run").exists()
    value = run("unpack", "app:2", target, "--update", "--delete", "--json").json
    assert value["deleted"] == 2
    assert tree(target) == tree(changed)


def test_delete_alone_is_refused(run: Run, app: Path, tmp_path: Path) -> None:
    run("pack", app, "--tag", "app:1")
    result = run("unpack", "app:1", tmp_path / "out", "--delete")
    assert (result.code, result.err) == (2, "layer-packer: --delete needs --update\n")


def test_push_copy_pull_between_layouts(run: Run, app: Path, tmp_path: Path) -> None:
    digest = run("pack", app, "--tag", "app:1", "--json").json["digest"]
    there = f"oci:{tmp_path}/there:app-1"
    pushed = run("push", there, "--from", "app:1", "--json").json
    assert pushed.keys() == COPIED | {"reference"}
    assert (pushed["digest"], pushed["unchanged"]) == (digest, False)
    assert pushed["copied_blobs"] == 3
    again = run("push", there, "--from", "app:1", "--json").json
    assert (again["unchanged"], again["copied_bytes"]) == (True, 0)
    assert "unchanged, nothing sent" in run("push", there, "--from", digest).text
    copied = run("copy", there, f"oci:{tmp_path}/third:x", "--jobs", "2", "--json").json
    left_out = {"left_out_blobs", "left_out_bytes"}
    assert copied.keys() == COPIED | {"destination", "verification"} | left_out
    other = tmp_path / "other-store"
    pulled = run(
        *("pull", f"oci:{tmp_path}/third:x", tmp_path / "out"), "--store", other, "--json"
    ).json
    assert pulled.keys() == RESTORED | {
        *("reference", "fetched_blobs", "fetched_bytes", "forgotten", "referrers")
    }
    assert pulled["digest"] == digest
    assert pulled["fetched_bytes"] == pushed["copied_bytes"]
    assert tree(tmp_path / "out") == tree(app)
    plain = run("pull", f"oci:{tmp_path}/third:x", tmp_path / "out", "--update", "--store", other)
    assert "fetched 0 B in 0 blobs" in plain.text
    assert "2 files untouched" in plain.text


def test_a_share_above_all_is_not_told(run: Run, tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "a").write_bytes(b"x")
    assert run("pack", tmp_path / "tiny").text.splitlines()[1].endswith(" in 1 layer")


def test_push_packs_a_directory(run: Run, app: Path, tmp_path: Path) -> None:
    result = run("push", f"oci:{tmp_path}/there:v", "--from", app)
    assert result.code == 0
    assert run("ls", f"oci:{tmp_path}/there:v").text.splitlines()[0] == "a.yaml"
    assert re.search(r"2 files, [0-9.]+ KB; added [0-9.]+ KB in 1 layer", result.text)
    value = run("push", f"oci:{tmp_path}/there:v", "--from", app, "--json").json
    assert value["packed"]["unchanged"]
    assert value["packed"]["digest"] == value["digest"]
    assert "packed" not in run("push", f"oci:{tmp_path}/there:v", "--from", app.name, "--json").json


@pytest.mark.registry
def test_push_of_a_directory_tells_its_base(run: Run, app: Path, tmp_path: Path) -> None:
    """A registry that has an older version, and a local store that has nothing."""
    (tmp_path / "registry").mkdir()
    with run_registry(tmp_path / "registry") as server:
        place = f"{server.host}/acme/app"
        run("push", f"{place}:41", "--from", app, "--store", tmp_path / "first")
        (app / "a.yaml").write_text("changed")
        result = run("push", f"{place}:42", "--from", app, "--store", tmp_path / "second")
        assert f"\non {place}:41  sha256:" in result.text
        (app / "a.yaml").write_text("changed again")
        value = run(
            *("push", f"{place}:43", "--from", app, "--store", tmp_path / "third", "--json")
        ).json
        assert value["packed"]["base"]["name"] == f"{place}:42"


def test_ls(run: Run, app: Path) -> None:
    digest = run("pack", app, "--tag", "app:1", "--json").json["digest"]
    assert run("ls", "app:1").text == "a.yaml\nempty/\nlink\nsub/\nsub/run\n"
    long = run("ls", "-l", digest).text.splitlines()
    assert long[0].split() == ["MODE", "SIZE", "PATH"]
    assert long[1] == f"-rw-r--r--  {(app / 'a.yaml').stat().st_size}  a.yaml"
    assert re.fullmatch(r"lrwxrwxrwx +0  link -> a.yaml", long[3])
    assert long[5] == "-rwxr-xr-x   70000  sub/run"
    value = run("ls", "app:1", "--json").json
    assert value.keys() == {"name", "digest", "entries"}
    assert value["entries"][4] == {
        "path": "sub/run",
        "kind": "file",
        "mode": "0755",
        "size": 70_000,
    }
    assert value["entries"][2]["target"] == "a.yaml"


def test_cat(run: Run, app: Path) -> None:
    run("pack", app, "--tag", "app:1")
    for path in ("a.yaml", "sub/run"):
        data = (app / path).read_bytes()
        assert run("cat", "app:1", path).out == data
        value = run("cat", "app:1", path, "--json").json
        cost = {"read_bytes", "old_text_bytes"}
        assert value.keys() == {"name", "path", "bytes", "content_base64", *cost}
        assert value["bytes"] == len(data)
        assert value["read_bytes"] > 0
        assert value["old_text_bytes"] == 0
        assert base64.b64decode(value["content_base64"], validate=True) == data


def test_cat_of_an_empty_file_and_one_of_many_frames(run: Run, tmp_path: Path) -> None:
    root = tmp_path / "v"
    root.mkdir()
    (root / "empty").touch()
    (root / "large").write_bytes(os.urandom(5_000_001))
    run("pack", root, "--tag", "v")
    assert run("cat", "v", "empty").out == b""
    empty = run("cat", "v", "empty", "--json").json
    assert (empty["bytes"], empty["content_base64"]) == (0, "")
    large = run("cat", "v", "large", "--json").json
    assert base64.b64decode(large["content_base64"]) == (root / "large").read_bytes()


def test_diff(run: Run, app: Path, changed: Path) -> None:
    run("pack", app, "--tag", "app:1")
    run("pack", changed, "--tag", "app:2")
    result = run("diff", "app:1", "app:2")
    assert result.code == 0
    assert [line.split()[:: len(line.split()) - 1] for line in result.text.splitlines()[:-1]] == [
        *(["WAS", "PATH"], ["~", "a.yaml"], ["+", "new"], ["-", "sub/run"])
    ]
    assert result.text.splitlines()[-1].startswith("1 added, 1 removed, 1 changed; ")
    assert result.text.endswith("of content changed\n")
    value = run("diff", "app:1", "app:2", "--json").json
    counts = {"added": 1, "removed": 1, "changed": 1}
    assert value.keys() == {"old", "new", *counts, "new_chunk_bytes", "changes"}
    assert {key: value[key] for key in counts} == counts
    size = (app / "a.yaml").stat().st_size
    first = value["changes"][0]
    assert first.pop("new_chunk_bytes") > 0
    assert first.pop("inside") is False
    assert first == {"path": "a.yaml", "change": "changed", "old_size": size, "new_size": size + 9}


def test_diff_exit_code(run: Run, app: Path, changed: Path) -> None:
    run("pack", app, "--tag", "app:1")
    run("pack", changed, "--tag", "app:2")
    assert run("diff", "app:1", "app:2", "--exit-code").code == 10
    assert run("diff", "app:1", "app:2", "--exit-code", "--json").code == 10
    same = run("diff", "app:1", "app:1", "--exit-code")
    assert (same.code, same.text) == (0, "no differences\n")


def test_inspect(run: Run, app: Path, changed: Path) -> None:
    first = run("pack", app, "--tag", "app:1", "--json").json
    second = run("pack", changed, "--tag", "app:2", "--json").json
    text = run("inspect", "app:2").text
    assert f"digest   {second['digest']}" in text
    assert f"parent   {first['digest']}" in text
    value = run("inspect", "app:2", "--json").json
    assert value.keys() == {
        *("name", "digest", "created", "parent", "tool", "zstd", "level", "average_chunk_bytes"),
        *("files", "directories", "symlinks", "bytes", "chunks", "stored_bytes", "index_bytes"),
        *("index_layers", "index_stored_bytes", "layers", "parts", "opened", "closed"),
        "referrers",
    }
    assert value["layers"][0].keys() == {
        *("digest", "size", "frames", "chunks", "live_chunks", "plain_bytes", "live_bytes"),
    }
    assert (value["files"], value["directories"], value["symlinks"]) == (2, 2, 1)
    assert len(value["layers"]) == second["layers"]


def test_verify(run: Run, app: Path) -> None:
    digest = run("pack", app, "--tag", "app:1", "--json").json["digest"]
    assert run("verify", "app:1").text.splitlines()[1].startswith("sound: 4 blobs, ")
    value = run("verify", "app:1", "--json").json
    assert value.keys() == {
        *("name", "digest", "blobs", "bytes", "chunks", "referrers", "referrer_bytes"),
        "verification",
    }
    assert value["digest"] == digest


def test_versions(run: Run, app: Path, changed: Path, store: Path) -> None:
    assert run("versions").text == ""
    one = run("pack", app, "--tag", "app:1.0", "--json").json["digest"]
    two = run("pack", changed, "--tag", "b", "--json").json["digest"]
    lines = run("versions").text.splitlines()
    assert lines[0].split() == ["TAG", "DIGEST", "CREATED", "(UTC)", "FILES", "SIZE", "ADDS"]
    assert [line.split()[:2] for line in lines[1:3]] == [["app:1.0", one[7:19]], ["b", two[7:19]]]
    assert lines[3].startswith("2 versions, ")
    assert len(lines) == 4
    assert len(run("versions", "-q").text.splitlines()) == 3
    value = run("versions", "--json").json
    assert value["store"] == str(store)
    assert [(row["tag"], row["digest"]) for row in value["versions"]] == [
        ("app:1.0", one),
        ("b", two),
    ]


def test_quiet_leaves_only_what_was_asked_for(run: Run, app: Path, tmp_path: Path) -> None:
    for words in (
        ("pack", app, "--tag", "app:1"),
        ("unpack", "app:1", tmp_path / "out"),
        ("verify", "app:1"),
        ("push", f"oci:{tmp_path}/there:x", "--from", "app:1"),
        ("pull", f"oci:{tmp_path}/there:x", tmp_path / "out2"),
    ):
        result = run(*words, "-q")
        assert (result.code, result.out, result.err) == (0, b"", "")
    assert run("ls", "app:1", "-q").text.startswith("a.yaml\n")
    failed = run("ls", "nosuch", "-q")
    assert (failed.code, failed.err.count("\n")) == (3, 1)


def test_store_option_wins_over_the_environment(run: Run, app: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere"
    run("pack", app, "--tag", "app:1", "--store", other)
    assert run("versions").text == ""
    assert "\napp:1 " in run("--store", other, "versions").text


@pytest.mark.skipif(os.uname().sysname == "Darwin", reason="macOS refuses such names")
def test_names_in_any_bytes(run: Run, tmp_path: Path) -> None:
    hostile = os.fsdecode(b"caf\xe9\x1b[31m\nx")
    root = tmp_path / "v"
    root.mkdir()
    (root / hostile).write_text("content")
    (root / "link").symlink_to(hostile)
    run("pack", root, "--tag", "v")
    assert run("ls", "v").text == "caf\\xe9\\x1b[31m\\nx\nlink\n"
    assert "-> caf\\xe9\\x1b[31m\\nx\n" in run("ls", "-l", "v").text
    result = run("ls", "v", "--json")
    assert result.out.isascii()
    entry, link = result.json["entries"]
    assert entry["path"] == "caf\ufffd\x1b[31m\nx"
    assert base64.b64decode(entry["path_base64"]) == os.fsencode(hostile)
    assert base64.b64decode(link["target_base64"]) == os.fsencode(hostile)
    assert "path_base64" not in link
    # Strict parsers refuse lone surrogates, escaped ones too.
    result.text.encode().decode()
    json.dumps(result.json, ensure_ascii=False).encode()
    assert run("cat", "v", hostile).out == b"content"
    assert run("unpack", "v", tmp_path / hostile).code == 0
    missing = run("cat", "v", hostile + "!", "--json")
    assert missing.code == 3
    assert missing.err.count("\n") == 1
    assert missing.err.rstrip("\n").isprintable()
    assert base64.b64decode(missing.json["name_base64"]) == os.fsencode(hostile + "!")


# The reference


def test_reference_names_everything(capsys: pytest.CaptureFixture[str]) -> None:
    """docs/cli.md has every verb and option that --help has."""
    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    verbs = re.findall(r"^    ([a-z]+) ", shown, re.MULTILINE)
    assert len(verbs) >= 12
    for verb in verbs:
        assert f"### {verb}" in text
        with pytest.raises(SystemExit):
            main([verb, "--help"])
        for option in re.findall(r"--[a-z-]+", capsys.readouterr().out):
            assert f"`{option}" in text, option


@pytest.mark.parametrize("verb", [("pack",), ("storage", "save")])
def test_help_tells_the_level(capsys: pytest.CaptureFixture[str], verb: tuple[str, ...]) -> None:
    """It is not imported there: reading zstd's module would slow every command down."""
    with pytest.raises(SystemExit):
        main([*verb, "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    large = f"{LARGE_LEVEL} above {LARGE_BYTES >> 20} MiB without --small"
    assert f"zstd level, 1 to 22 (default: {DEFAULT_LEVEL}; {large})" in shown


@pytest.mark.slow
def test_reference_names_every_key(run: Run, app: Path, changed: Path, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    (app / "chart.gz").write_bytes(gzip.compress(b"key: value\n" * 200))
    (app / "a.xz").write_bytes(b"\xfd7zXZ\0" + random.Random(1).randbytes(70_000))
    run("pack", app, "--tag", "app:1")
    (changed / "a.xz").write_bytes(b"\xfd7zXZ\0" + random.Random(2).randbytes(70_000))
    for words in (
        ("pack", changed, "--tag", "app:2"),
        ("push", f"oci:{tmp_path}/there:x", "--from", "app:2"),
        ("pull", f"oci:{tmp_path}/there:x", tmp_path / "out"),
        ("copy", "app:1", f"oci:{tmp_path}/there:y"),
        ("unpack", "app:1", tmp_path / "out2"),
        ("ls", "app:1"),
        ("cat", "app:1", "a.yaml"),
        ("diff", "app:1", "app:2"),
        ("inspect", "app:1"),
        ("verify", "app:1"),
        ("versions",),
        ("tag", "app:1", "stable"),
        ("usage",),
        ("forget", "app", "--keep-last", "1", "--dry-run"),
        ("gc",),
        ("ls", "nosuch"),
        ("pack", tmp_path / "nosuch"),
        ("ls", "localhost:1/a:b"),
    ):
        section = text.partition(f"### {words[0]}")[2].partition("\n### ")[0]
        value = run(*words, "--json").json
        if "error" in value:
            section = text.partition("## Errors")[2]
        keys = set(value)
        for rows in value.values():
            if isinstance(rows, list):
                keys |= {key for row in rows[:1] for key in row}
        for key in keys:
            assert f"`{key}`" in section, (words[0], key)


def test_json_arrays_have_a_line_for_each_item(run: Run, app: Path, tmp_path: Path) -> None:
    run("pack", app, "--tag", "app:1")
    lines = run("ls", "app:1", "--json").text.splitlines()
    assert [json.loads(line.rstrip(","))["path"] for line in lines[4:-2]] == [
        "a.yaml", "empty", "link", "sub", "sub/run",
    ]  # fmt: skip
    empty = tmp_path / "nothing"
    empty.mkdir()
    run("pack", empty, "--tag", "empty:1")
    assert run("ls", "empty:1", "--json").json["entries"] == []


class Reluctant(io.RawIOBase):
    """Takes three bytes at a time, as a stream without a buffer may."""

    def __init__(self) -> None:
        self.taken = b""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.taken += bytes(data[:3])
        return len(data[:3])


def test_all_is_written_to_a_stream_without_a_buffer() -> None:
    raw = Reluctant()
    stream = io.TextIOWrapper(cast("Any", raw), encoding="utf-8")
    Output(stream).json({"a": iter(()), "b": [1, "\u202e"], "c": None})
    assert json.loads(raw.taken) == {"a": [], "b": [1, "\u202e"], "c": None}
