"""A registry that does what a test tells it, and a tree of several layers' worth of noise."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders import noise
from tests.hostile import HostileRegistry, hostile_registry


@pytest.fixture
def server() -> Iterator[HostileRegistry]:
    with hostile_registry() as registry:
        yield registry


@pytest.fixture
def app(tmp_path: Path) -> Path:
    folder = tmp_path / "app"
    folder.mkdir()
    for number in range(8):  # 3.2 MB, of which a frame holds about 2
        (folder / f"file{number}").write_bytes(noise(f"file {number}", 400_000))
    return folder
