"""A storage in memory and one in a layout."""

from __future__ import annotations

from pathlib import Path

import pytest

import packer
from packer import Storage


@pytest.fixture(params=["memory", "oci"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    uri = "memory:" if request.param == "memory" else f"oci:{tmp_path / 'base'}"
    return packer.open_storage(uri)
