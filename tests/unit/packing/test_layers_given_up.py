"""Which layers a new version gives up: by figures alone, and on a tree that once went wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

import packer
from packer.oci import DATA_TYPE, INDEX_TYPE, UPDATE_TYPE, Descriptor
from packer.packing.older.compaction import Liveness, layers_to_drop
from packer.packing.older.merging import LEAST_LAYERS, MERGED_BYTES, layers_to_merge
from packer.stores.memory import MemoryStore
from tests.builders import noise, text, write

MB = 1_000_000


def layers(*sizes: tuple[str, int]) -> list[Descriptor]:
    return [
        Descriptor(kind, f"sha256:{number:064x}", size) for number, (kind, size) in enumerate(sizes)
    ]


def updates(*sizes: int) -> list[Descriptor]:
    """A first version of 1 MB, and updates of some sizes."""
    first = ((DATA_TYPE, MB), (INDEX_TYPE, 6000))
    return layers(*first, *((UPDATE_TYPE, size) for size in sizes))


def merged(*sizes: int) -> set[int]:
    return set(layers_to_merge(updates(*sizes)))


def test_a_handful_of_small_layers_is_merged() -> None:
    assert LEAST_LAYERS == 4
    assert merged(150, 150, 150) == set()
    assert merged(150, 150, 150, 150) == {1, 2, 3, 4}


def test_a_large_layer_is_merged_once_enough_updates_follow() -> None:
    assert merged(7000, *[150] * 4) == {2, 3, 4, 5}
    assert merged(7000, *[150] * 5) == {1, 2, 3, 4, 5, 6}
    assert merged(6000, 1000, *[150] * 5) == {1, 2, 3, 4, 5, 6, 7}
    assert merged(MERGED_BYTES + 1, *[150] * 6) == set(range(2, 8))


def test_updates_of_kilobytes_wait_longer_and_large_ones_are_left() -> None:
    assert merged(*[2500] * 6) == set()
    assert merged(*[2500] * 12) != set()
    assert merged(*[40_000] * 40) == set()


def test_index_layers_count_as_lines_but_are_no_data() -> None:
    pairs = [(DATA_TYPE, 100), (INDEX_TYPE, 100)] * 2
    assert layers_to_merge(layers((DATA_TYPE, MB), (INDEX_TYPE, 6000), *pairs)) == {1, 2}
    assert layers_to_merge([]) == frozenset()


def use(stored: list[int], live: list[int], alone: list[float], new: int) -> Liveness:
    """Layers that need no other, and a new frame without a prefix."""
    return Liveness(stored, live, alone, [set() for _ in stored], set(), new, float(new))


def test_a_layer_that_is_live_is_not_stored_again_however_badly_it_compresses() -> None:
    # The second layer holds a file that does not compress; one mean rate would promise a gain.
    found = use([MB, 300_000], [5 * MB, 300_000], [MB * 0.99, 300_000.0], 500)
    found.stored_bytes[0] += 400_000
    assert 1 not in layers_to_drop(found, 1)


def test_a_line_does_not_pay_for_a_layer_that_is_mostly_live() -> None:
    stored, live = [4 * MB, MB], [6 * MB, 2 * MB]
    found = use(stored, live, [3.0 * MB, MB], 500)
    assert layers_to_drop(found, 1) == frozenset()  # 3 MB for one
    found = use(stored, live, [3.0 * MB, MB], 200_000)
    assert layers_to_drop(found, 1) == {0}  # the update pays
    found = use(stored, live, [1.0 * MB, MB], 500)
    assert layers_to_drop(found, 1) == {0}  # a pull gains 3 MB


def test_merged_layers_are_not_counted_again() -> None:
    found = use([4 * MB, 4 * MB], [8 * MB, 0], [4.0 * MB, 0.0], 500)
    assert layers_to_drop(found, 1, frozenset({1})) == frozenset()


@pytest.mark.slow
def test_a_line_costs_a_line_after_a_large_update_of_a_dense_file(tmp_path: Path) -> None:
    files = {f"{n}.yaml": text(n, 50_000) for n in range(40)}
    files |= {"images.bin": noise(1, 300_000), "Chart.yaml": b"version: 1\n"}
    store = MemoryStore()
    packer.pack(write(tmp_path, files), store=store, tag="app:1")
    more = {f"{n}.yaml": text(100 + n, 50_000) for n in range(8)}
    write(tmp_path, more | {"images.bin": noise(2, 300_000)})
    assert packer.pack(tmp_path, store=store, tag="app:2").new_bytes > 300_000
    for number in range(3, 9):
        write(tmp_path, {"Chart.yaml": b"version: %d\n" % number})
        assert packer.pack(tmp_path, store=store, tag=f"app:{number}").new_bytes < 3000
    packer.verify("app:8", store=store)
