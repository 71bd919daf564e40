"""Names: IDs of applications as repositories and tags, bases, references."""

from __future__ import annotations

from pathlib import Path

import pytest

import packer
from packer import (
    InvalidParameter,
)
from packer.errors import InvalidReference
from packer.reference import is_repository, is_tag
from packer.storage.state.encoded_names import decode_app, decode_tag, encode_app, encode_tag

NAMES = [
    "app", "2gmOaSDLxWyCCOsqaAbSf9jPx6d", "xA", "A", "x__41", "__41", "a-B", "a_b", "a__b", "é x/y",
    "-a", "a-", "x", "x78", "a.b-c_d", "..", "../../etc", "x-Y", "a--b", "history", "_shared",
    "A" * 29,
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_any_id_is_a_name_and_comes_back(name: str) -> None:
    encoded = encode_app(name)
    assert is_repository(encoded)
    assert is_tag("app-" + encoded)
    assert decode_app(encoded) == name
    tag = encode_tag(name, "ID")
    assert is_tag("bundle-" + tag)
    assert decode_tag(tag) == name


def test_no_two_ids_share_a_name() -> None:
    assert len({encode_app(name) for name in NAMES}) == len(set(NAMES))
    assert [decode_app(name) for name in ("a__4", "a__61", "a__ff", "__41", "A")] == [None] * 5


@pytest.mark.parametrize("name", ["", "a\0b", "a\nb", "\udcff", "a" * 121, "A" * 31])
def test_ids_that_cannot_be_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidParameter):
        packer.open_storage("memory:").history(name)


@pytest.mark.parametrize(
    ("uri", "reference"),
    [
        ("docker://localhost:5000/org/base", "localhost:5000/org/base/app:3"),
        ("docker://docker.io/org/base", "docker.io/org/base-app:3"),
        ("oci:/var/lib/x", "oci:/var/lib/x/app:3"),
    ],
)
def test_bases_and_what_other_tools_call_a_version(uri: str, reference: str) -> None:
    assert packer.open_storage(uri).reference("app", 3) == reference


@pytest.mark.parametrize("uri", ["docker://h.example/a:1", "oci:/x:1", "s3://b/c", "", "docker://"])
def test_bad_bases_are_refused(uri: str) -> None:
    with pytest.raises(InvalidReference):
        packer.open_storage(uri)


def test_the_base_may_come_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAYER_PACKER_STORAGE", f"oci:{tmp_path / 'base'}")
    assert packer.open_storage().base_uri == f"oci:{tmp_path / 'base'}"
    assert packer.open_storage("memory:").base_uri == "memory:"
    monkeypatch.setenv("LAYER_PACKER_STORAGE", "")
    with pytest.raises(InvalidParameter, match="LAYER_PACKER_STORAGE"):
        packer.open_storage()
