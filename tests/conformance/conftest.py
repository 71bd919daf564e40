"""Fixtures of several modules."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conformance.gap import Gap, made


@pytest.fixture(scope="module")
def gap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gap]:
    """Two versions in a registry on the near side, and an empty registry on the far side."""
    with made(tmp_path_factory.mktemp("gap")) as sides:
        yield sides
