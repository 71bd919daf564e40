"""Any history of trees comes back, version by version, from stores of every kind."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import packer
from packer.engine.chunking import ChunkParams
from packer.stores.memory import MemoryStore
from tests.builders import write
from tests.conformance.make_samples import read_tree

NAMES = st.sampled_from(["a", "a-b", "a/b", "a/c", "b", "z/deep/er", "z/deep/x", "é", "A"])
CONTENT = st.one_of(
    st.binary(max_size=3000),
    st.builds(lambda unit, count: unit * count, st.binary(min_size=1, max_size=40),
              st.integers(1, 2000)),
)  # fmt: skip


@st.composite
def trees(draw: st.DrawFn) -> dict[str, bytes]:
    found = draw(st.dictionaries(NAMES, CONTENT, max_size=6))
    # A name cannot be both a file and a directory.
    return {
        name: data
        for name, data in found.items()
        if not any(other.startswith(name + "/") for other in found)
    }


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(trees(), min_size=1, max_size=5), st.sampled_from([1024, 4096, 65536]))
def test_every_version_comes_back(history: list[dict[str, bytes]], average: int) -> None:
    store = MemoryStore()
    with tempfile.TemporaryDirectory() as name:
        for number, tree in enumerate(history):
            root = Path(name, f"v{number}")
            root.mkdir()
            packer.pack(
                write(root, tree), store=store, tag=f"app:{number}", params=ChunkParams(average)
            )
        current = Path(name, "current")
        for number in range(len(history)):
            fresh, expected = Path(name, f"out{number}"), read_tree(Path(name, f"v{number}"))
            packer.unpack(f"app:{number}", fresh, store=store)
            assert read_tree(fresh) == expected
            packer.unpack(f"app:{number}", current, store=store, update=True, delete=True)
            assert read_tree(current) == expected
            packer.verify(f"app:{number}", store=store)
