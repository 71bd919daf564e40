"""One store for all tests of the page, and a service for those that only ask."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving import Client, make_store, run_service


@pytest.fixture(scope="session")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with a store, and with the trees that it was packed from."""
    folder = tmp_path_factory.mktemp("shown")
    make_store(folder)
    return folder


@pytest.fixture(scope="module")
def client(shown: Path) -> Iterator[Client]:
    """Ask the service of that store; its threads end with the module, as later tests may fork."""
    with run_service(shown / "store") as found:
        yield found
