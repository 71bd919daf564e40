"""Input for the benchmarks: real files, without a download.

The standard library of the running Python stands for an application (a few hundred text files, some
megabytes); its second version is the same with a version label changed in every tenth file. Set
LAYER_PACKER_CORPUS to a directory that holds v1/ and v2/ (see corpora.py) to time something else.
"""

from __future__ import annotations

import os
import shutil
import sysconfig
from pathlib import Path

import pytest

FILES = 400


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two successive versions of a tree."""
    if given := os.environ.get("LAYER_PACKER_CORPUS"):
        return Path(given, "v1"), Path(given, "v2")
    root = tmp_path_factory.mktemp("corpus")
    library = Path(sysconfig.get_paths()["stdlib"])
    names = [path for path in sorted(library.rglob("*.py")) if "site-packages" not in path.parts]
    for number, path in enumerate(names[:FILES]):
        for version in ("v1", "v2"):
            target = root / version / path.relative_to(library)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
            if version == "v2" and number % 10 == 0:
                data = target.read_bytes()
                half = len(data) // 2
                target.write_bytes(data[:half] + b"# release 1.4.2\n" + data[half:])
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
