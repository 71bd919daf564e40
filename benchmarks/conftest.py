"""Input for the benchmarks: real files, without a download.

The standard library of the running Python stands for an application (a few hundred text files, some
megabytes); its second version is the same with a version label changed in every tenth file. Set
LAYER_PACKER_CORPUS to a directory that holds v1/ and v2/ (see corpora.py) to time something else.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from benchmarks.samples import FILES, make_files


def pytest_benchmark_update_machine_info(
    config: pytest.Config, machine_info: dict[str, Any]
) -> None:
    """Leave out of kept results what tells one machine of a kind from another."""
    machine_info.pop("node", None)
    machine_info.get("cpu", {}).pop("flags", None)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two successive versions of a tree."""
    if given := os.environ.get("LAYER_PACKER_CORPUS"):
        return Path(given, "v1"), Path(given, "v2")
    root = make_files(tmp_path_factory.mktemp("corpus"), FILES, 2)
    return root / "v1", root / "v2"


@pytest.fixture(scope="session")
def memory(corpus: tuple[Path, Path]) -> bytes:
    """The files of the first version, one after another: 16 MB of plaintext."""
    parts, size = [], 0
    while size < 16_000_000:
        for path in sorted(corpus[0].rglob("*")):
            if path.is_file() and size < 16_000_000:
                parts.append(path.read_bytes())
                size += len(parts[-1])
    return b"".join(parts)[:16_000_000]
