"""The benchmark of published artifacts, as far as it needs no network."""

from __future__ import annotations

import gzip
import json
import random
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from benchmarks import reach
from benchmarks.corpora import CorpusError

PAIRS: dict[str, Any] = json.loads(reach.PINS.read_text(encoding="utf-8"))


def test_pins_are_well_formed() -> None:
    for pairs in PAIRS.values():
        for pair in pairs:
            assert pair["client"] in reach.CLIENTS
            assert len(pair["versions"]) == 2
            assert pair["pins"].keys() == set(pair["versions"])
            for pin in pair["pins"].values():
                assert re.fullmatch("[0-9a-f]{64}", pin["sha256"])
                assert 0 < pin["bytes"] < 50 << 20
    assert json.loads(reach.json_of(PAIRS)) == PAIRS


def test_what_is_not_pinned_is_refused(tmp_path: Path) -> None:
    pair = {"client": "npm", "name": "@a/b", "versions": ["1", "2"]}
    (tmp_path / "a-b-1.tgz").write_bytes(b"artifact")
    with pytest.raises(CorpusError, match="has no pin"):
        reach.fetch(pair, 0, tmp_path, pin=False)
    reach.fetch(pair, 0, tmp_path, pin=True)
    (tmp_path / "a-b-1.tgz").write_bytes(b"another")
    with pytest.raises(CorpusError, match="pinned 8"):
        reach.fetch(pair, 0, tmp_path, pin=True)


@pytest.mark.skipif(shutil.which("zstd") is None, reason="zstd is not installed")
def test_a_pair_is_measured(tmp_path: Path) -> None:
    text = random.Random(1).randbytes(40_000).hex().encode()
    paths = []
    for number in range(2):
        paths.append(tmp_path / f"a-{number}.gz")
        paths[-1].write_bytes(gzip.compress(text + b"version %d" % number, mtime=number))
    row = reach.measure("npm", "a", ("0", "1"), *paths)
    assert row.is_opened
    assert row.closed_bytes == 0
    assert row.patch_bytes < row.update_bytes < 3000 < row.first_bytes
    shown = reach.table([row, row])
    assert "**npm: 2 of 2 opened**" in shown
    assert "| a 0 to 1 |" in shown
