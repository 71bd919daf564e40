"""Tests of built files: LAYER_PACKER_DIST names the directory that `make wheels` and others filled.

Building takes minutes, so the ordinary run skips them; `make release-check` runs them.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture
def dist() -> Path:
    """Return the directory with the built files."""
    if not (folder := os.environ.get("LAYER_PACKER_DIST")):
        pytest.skip("LAYER_PACKER_DIST names no directory with built files")
    return Path(folder)
