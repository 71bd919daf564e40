"""What compaction may cost, over any history: a line costs a line, unless a pull gains as much."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import packer
from packer.format.version import Version
from packer.packing.older import compaction, merging
from packer.stores.memory import MemoryStore
from tests.builders import noise, text

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["line", "line", "line", "labels", "text", "noise", "add", "remove"]),
        st.integers(0, 999),
    ),
    min_size=6,
    max_size=25,
)
SLACK = 3000
"""Documents of a version that differ: a longer manifest, an index in full."""


def change(files: dict[str, bytes], kind: str, seed: int) -> None:
    """Change a tree as an update would."""
    rng = random.Random(seed)
    name = rng.choice(sorted(files))
    if kind == "line":
        lines = files["0.yaml"].split(b"\n")
        lines[rng.randrange(len(lines))] = b"  changed: %d" % seed
        files["0.yaml"] = b"\n".join(lines)
    elif kind == "labels":
        for other in files:
            if other.endswith(".yaml"):
                files[other] = b"version: %d\n" % seed + files[other].partition(b"\n")[2]
    elif kind == "text":
        files[f"{seed % 8}.yaml"] = text(seed, rng.randrange(1000, 60_000))
    elif kind == "noise":
        files[f"{seed % 4}.bin"] = noise(seed, rng.randrange(1000, 200_000))
    elif kind == "add":
        files[f"new-{seed}.yaml"] = text(seed, rng.randrange(100, 5000))
    elif name != "0.yaml":
        del files[name]


class History:
    """Versions of one application, packed one on another into a store in memory."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "app"
        self.root.mkdir()
        self.store = MemoryStore()
        self.files = {f"{n}.yaml": text(n, 20_000) for n in range(6)} | {"0.bin": noise(0, 50_000)}
        self.number = 0

    def pack(self, tag: str, base: str) -> Version:
        for path in self.root.iterdir():
            path.unlink()
        for name, data in self.files.items():
            (self.root / name).write_bytes(data)
        packer.pack(self.root, store=self.store, tag=tag, base=base, cache=False)
        return packer.open_version(tag, store=self.store)

    def plain_update(self) -> Version:
        """Pack the next version as if there were no compaction; the history does not go on here."""
        with (
            mock.patch("packer.packing.pack_tree.layers_to_drop", return_value=frozenset()),
            mock.patch("packer.packing.pack_tree.layers_to_merge", return_value=frozenset()),
        ):
            return self.pack("plain:0", f"app:{self.number}")

    def update(self) -> Version:
        self.number += 1
        return self.pack(f"app:{self.number}", f"app:{self.number - 1}")


def pull(version: Version) -> int:
    """Bytes of a fresh pull."""
    blobs = (version.manifest.config, *version.manifest.layers)
    return len(version.manifest_bytes) + sum(blob.size for blob in blobs)


def cost(version: Version, base: Version) -> int:
    """Bytes of a pull of a version by one who has another."""
    there = {layer.digest for layer in base.manifest.layers}
    return pull(version) - sum(
        layer.size for layer in version.manifest.layers if layer.digest in there
    )


def new_data(version: Version, base: Version) -> int:
    """Stored bytes of the layers that a version added."""
    there = {layer.digest for layer in base.manifest.layers}
    return sum(layer.size for layer in version.manifest.data_layers if layer.digest not in there)


@pytest.mark.slow
@settings(max_examples=15)
@given(STEPS)
def test_an_update_costs_its_change_or_the_pull_gains_as_much(
    steps: list[tuple[str, int]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        history = History(Path(folder))
        base = history.pack("app:0", "none")
        for kind, seed in steps:
            change(history.files, kind, seed)
            plain = history.plain_update()
            found = history.update()
            again = cost(found, base) - cost(plain, base)
            gain = pull(plain) - pull(found)
            paid = compaction.PAID_COST * new_data(plain, base)
            assert again <= SLACK + max(merging.MERGED_BYTES + paid, 1.2 * gain + paid)
            # Whatever was given up, a pull gets no dearer for it; but content that is stored again
            # beside much that is new may become part of a frame without a prefix.
            assert pull(found) <= pull(plain) + SLACK + new_data(plain, base) / 2
            base = found
        packer.verify(f"app:{history.number}", store=history.store)


@pytest.mark.slow
@settings(max_examples=15)
@given(STEPS)
def test_nothing_is_compacted_twice(steps: list[tuple[str, int]]) -> None:
    """After any history, several changes of one line in a row: at most one stores much again."""
    with tempfile.TemporaryDirectory() as folder:
        history = History(Path(folder))
        history.pack("app:0", "none")
        for kind, seed in steps:
            change(history.files, kind, seed)
            base = history.update()
        costs = []
        for seed in range(4):
            change(history.files, "line", 5000 + seed)
            found = history.update()
            costs.append(cost(found, base))
            base = found
        assert sum(size > merging.MERGED_BYTES + 4 * SLACK for size in costs) <= 1


def one_line(number: int, files: dict[str, bytes]) -> None:
    change(files, "line", number)


def labels(number: int, files: dict[str, bytes]) -> None:
    change(files, "labels", number)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "most"), [(one_line, 2500), (labels, 3500)])
def test_small_updates_in_a_row(
    kind: Callable[[int, dict[str, bytes]], None], most: int, tmp_path: Path
) -> None:
    """Manifests and small layers do not add up over a long history."""
    history = History(tmp_path)
    base = first = history.pack("app:0", "none")
    costs = []
    for number in range(60):
        kind(number, history.files)
        found = history.update()
        costs.append(cost(found, base))
        base = found
        assert len(found.manifest.layers) < 16
    assert sum(costs) / len(costs) < most
    assert pull(found) < pull(first) + 8000
    assert first.manifest.data_layers[0] in found.manifest.data_layers
