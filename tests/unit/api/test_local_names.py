"""Local names are not sent to Docker Hub."""

from __future__ import annotations

from pathlib import Path

import pytest

import packer
from packer.errors import InvalidReference


def test_a_local_version_or_a_path_is_no_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "app").mkdir()
    (tmp_path / "update.tar").touch()
    packer.pack("app", store="s", tag="app:1")
    version = r"it is a version of oci:.*write a host before it, as in registry.example/app:1"
    with pytest.raises(InvalidReference, match=version):
        packer.push("app:1", store="s")
    with pytest.raises(InvalidReference, match=version):
        packer.pull("app:1", "out", store="s")
    with pytest.raises(InvalidReference, match=version):
        packer.copy("app:1", "app:1", store="s")
    with pytest.raises(InvalidReference, match=r"oci:update\.tar or oci-archive:update\.tar"):
        packer.copy("app:1", "update.tar", store="s")
    assert not (tmp_path / "out").exists()
