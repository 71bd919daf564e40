"""Directories that nobody meant to make."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import packer
from packer.errors import InvalidParameter
from packer.stores.layout import LayoutStore


@pytest.mark.parametrize("name", ["host:5000/acme/app", "oci:store", "docker://host/app", "a:b"])
def test_no_directory_with_a_colon_is_made(name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidParameter, match="oci://host/repository"):
        LayoutStore(tmp_path / name)
    assert os.listdir(tmp_path) == []
    late = LayoutStore(tmp_path / name, late=True)
    with pytest.raises(InvalidParameter):
        late.create()
    assert os.listdir(tmp_path) == []


def test_one_that_is_there_is_used(tmp_path: Path) -> None:
    (tmp_path / "2026-01-01T00:00").mkdir()
    LayoutStore(tmp_path / "2026-01-01T00:00")
    LayoutStore(tmp_path / "2026-01-01T00:00" / "below")


def test_pushing_to_a_mistyped_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "a").write_text("a")
    packer.pack("app", tag="v1", store="store")
    before = sorted(os.listdir(tmp_path))
    for reference in ("oci:127.0.0.1:5000/acme/app:1", "oci:host:1/app:1"):
        with pytest.raises(InvalidParameter, match="':'"):
            packer.push(reference, "v1", store="store")
    assert sorted(os.listdir(tmp_path)) == before
