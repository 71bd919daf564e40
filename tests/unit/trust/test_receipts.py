"""Receipts: what is written comes back, and directories that differ from it are told."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packer.errors import (
    BadSignature,
    FormatError,
    InvalidParameter,
    PackerError,
    UnknownSigner,
    Unsigned,
    UnsupportedVersion,
)
from packer.oci import digest_of
from packer.trust.checking import Signature, Trusted
from packer.trust.dsse import STATEMENT_TYPE, seal
from packer.trust.installed import deviations
from packer.trust.receipt import InstalledFile, Receipt, decode_receipt, read_receipt
from tests.signatures import make_pair

DIGEST = "sha256:" + "1" * 64


def receipt(files: tuple[InstalledFile, ...] | None = (), *, complete: bool = True) -> Receipt:
    return Receipt(
        "pull",
        "2026-06-01T00:00:00Z",
        "registry.example/acme/app:1",
        "/srv/app",
        DIGEST,
        "1",
        "",
        "2026-05-01T00:00:00Z",
        "blake3:" + "2" * 64,
        Trusted(DIGEST, "r", "p", DIGEST, "*", (Signature("a", "b", "cosign", DIGEST),)),
        files,
        complete,
    )


def tree(folder: Path) -> tuple[InstalledFile, ...]:
    """Make a directory, and return its entries."""
    folder.mkdir()
    (folder / "d").mkdir(mode=0o755)
    (folder / "d" / "b").write_bytes(b"b")
    (folder / "l").symlink_to("d/b")
    name = os.fsdecode(b"\xff")
    (folder / name).write_bytes(b"x")
    for path in (folder / "d" / "b", folder / name):
        path.chmod(0o644)
    return (
        InstalledFile("d", "directory", 0o755, 0),
        InstalledFile("d/b", "file", 0o644, 1, digest_of(b"b")),
        InstalledFile("l", "symlink", 0o777, 0, "", "d/b"),
        InstalledFile(name, "file", 0o644, 1, digest_of(b"x")),
    )


def test_a_receipt_comes_back(tmp_path: Path) -> None:
    made = receipt(tree(tmp_path / "app"))
    pair = make_pair(tmp_path, "site")
    made.write(tmp_path / "r.json")
    assert read_receipt(tmp_path / "r.json") == made
    with pytest.raises(Unsigned):
        read_receipt(tmp_path / "r.json", [pair.key.public])
    made.write(tmp_path / "r.json", pair.key)
    assert read_receipt(tmp_path / "r.json", [pair.key.public]) == made
    assert read_receipt(tmp_path / "r.json") == made
    with pytest.raises(UnknownSigner):
        read_receipt(tmp_path / "r.json", [make_pair(tmp_path, "other").key.public])
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_a_changed_receipt(tmp_path: Path) -> None:
    pair = make_pair(tmp_path, "site")
    value = json.loads(receipt().encode(pair.key))
    other = json.loads(receipt(None).encode(pair.key))
    value["payload"] = other["payload"]
    with pytest.raises(UnknownSigner):
        decode_receipt(json.dumps(value).encode(), "r", [pair.key.public])
    value = seal(b"{}", "text/plain", pair.key).to_json()
    with pytest.raises(BadSignature, match="text/plain"):
        decode_receipt(json.dumps(value).encode(), "r", [pair.key.public])
    value = seal(b"{}", STATEMENT_TYPE, pair.key).to_json()
    with pytest.raises(UnsupportedVersion):
        decode_receipt(json.dumps(value).encode(), "r", [pair.key.public])


def test_it_is_a_statement_that_others_read() -> None:
    value = json.loads(receipt().encode())
    assert value["_type"] == "https://in-toto.io/Statement/v1"
    assert value["subject"] == [{"name": "1", "digest": {"sha256": "1" * 64}}]


@pytest.mark.parametrize(
    "field",
    ["action", "time", "source", "destination", "version", "tool", "verification", "complete"],
)
def test_missing_fields(field: str) -> None:
    value: dict[str, Any] = json.loads(receipt().encode())
    del value["predicate"][field]
    with pytest.raises(FormatError):
        decode_receipt(json.dumps(value).encode(), "r")


@pytest.mark.parametrize(
    "file",
    [
        {},
        {"path": "a", "kind": "file", "mode": "0644", "size": 1, "digest": "sha256:1"},
        {"path": "a", "kind": "file", "mode": "0644", "size": "1", "digest": DIGEST},
        {"path": "a", "kind": "file", "mode": "9", "size": 1, "digest": DIGEST},
        {"path": "a", "kind": "device", "mode": "0644"},
        {"path": "a", "kind": "symlink", "mode": "0777"},
        {"path": "a", "path_base64": "?", "kind": "directory", "mode": "0755"},
    ],
)
def test_malformed_files(file: dict[str, object]) -> None:
    value: dict[str, Any] = json.loads(receipt().encode())
    value["predicate"]["files"] = [file]
    with pytest.raises(FormatError):
        decode_receipt(json.dumps(value).encode(), "r")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)


@given(JSON, st.sampled_from(["predicate", "subject", "files", "version", "verification"]))
def test_hostile_receipts_raise_only_our_errors(junk: Any, where: str) -> None:
    value: dict[str, Any] = json.loads(receipt().encode())
    (value if where in value else value["predicate"])[where] = junk
    with contextlib.suppress(PackerError):
        decode_receipt(json.dumps(value).encode(), "r")


def test_a_directory_that_is_as_it_was(tmp_path: Path) -> None:
    made = receipt(tree(tmp_path / "app"))
    assert deviations(made, tmp_path / "app") == []


def test_what_differs_is_told(tmp_path: Path) -> None:
    root = tmp_path / "app"
    made = receipt(tree(root))
    odd = os.fsdecode(b"\xff")

    def wrong(expected: Receipt = made) -> dict[str, str]:
        return {each.path: each.what for each in deviations(expected, root)}

    (root / "d" / "b").write_bytes(b"c")  # of the same size
    (root / "l").unlink()
    (root / "l").symlink_to("elsewhere")
    (root / odd).chmod(0o600)
    (root / "new").mkdir()
    assert wrong() == {"d/b": "content", "l": "target", odd: "mode", "new": "added"}
    assert "new" not in wrong(receipt(made.files, complete=False))
    (root / "l").unlink()
    (root / "l").mkdir()
    (root / odd).unlink()
    assert wrong() == {"d/b": "content", "l": "kind", odd: "missing", "new": "added"}


def test_a_link_in_place_of_a_directory_is_not_followed(tmp_path: Path) -> None:
    made = receipt(tree(tmp_path / "app"))
    (tmp_path / "app" / "d").rename(tmp_path / "elsewhere")
    (tmp_path / "app" / "d").symlink_to(tmp_path / "elsewhere")
    found = {each.path: each.what for each in deviations(made, tmp_path / "app")}
    assert found == {"d": "kind", "d/b": "missing"}


def test_a_receipt_without_files(tmp_path: Path) -> None:
    with pytest.raises(InvalidParameter, match="lists no files"):
        deviations(receipt(None), tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidParameter, match="no directory"):
        deviations(receipt(), tmp_path / "file")
