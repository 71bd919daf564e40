"""Predecessors are taken from older copies on this machine: neither fetched nor rebuilt."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import blake3
import pytest

import packer
from packer.format import rebuilding
from packer.format.index import Index
from packer.format.version import load_version
from packer.opening.expansion import Expansion
from packer.opening.predecessor import Predecessor
from packer.reading.old_copies import old_copies
from packer.stores.layout import LayoutStore
from tests.kots import archive
from tests.registry_server import counting_proxy, run_registry

VERSIONS = 3
SIZE = 3 << 19  # a copy needs a temporary file


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trees v1 to v3 of one archive, and a store: closed in the first, then a chain."""
    folder = tmp_path_factory.mktemp("made")
    for number in range(1, VERSIONS + 1):
        (folder / f"v{number}").mkdir()
        (folder / f"v{number}" / "a.tar.gz").write_bytes(archive(number, SIZE))
        packer.pack(folder / f"v{number}", store=folder / "store", tag=f"app:{number}")
    rows = load_version(LayoutStore(folder / "store"), "app:3").index.predecessors
    assert [row.recipe_chunks > 0 for row in rows] == [False, True]
    return folder


@pytest.fixture
def rebuilds(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the predecessors that were rebuilt."""
    names: list[str] = []
    real = rebuilding._rebuilder

    def rebuilder(reader: Any, row: Any, runs: Any, what: str, *more: Any) -> object:
        if isinstance(row, Predecessor):
            names.append(what)
        return real(reader, row, runs, what, *more)

    monkeypatch.setattr(rebuilding, "_rebuilder", rebuilder)
    return names


def layers(made: Path, tag: str) -> set[str]:
    """Return the digests of a version's data layers."""
    version = load_version(LayoutStore(made / "store"), tag)
    return {layer.digest for layer in version.manifest.data_layers}


@pytest.mark.slow
@pytest.mark.registry
def test_only_the_new_layer_is_fetched(
    made: Path, tmp_path: Path, rebuilds: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "registry").mkdir()
    with run_registry(tmp_path / "registry") as server, counting_proxy(server.port) as proxy:
        for number in range(1, VERSIONS + 1):
            ref = f"{server.host}/acme/app:{number}"
            packer.push(ref, f"app:{number}", store=made / "store")

        def fetched(number: int, fetch: Callable[[str, Path], object]) -> tuple[set[str], int]:
            """Return the data layers that were asked for, and the bytes of all answers."""
            proxy.clear()
            out = tmp_path / f"out{len(os.listdir(tmp_path))}"
            fetch(f"{proxy.host}/acme/app:{number}", out)
            assert (out / "a.tar.gz").read_bytes() == archive(number, SIZE)
            seen = {path.rpartition("/")[2] for _, path, _ in proxy.requests}
            return seen & layers(made, "app:3"), sum(proxy.answers)

        def pull(*seeds: str) -> Callable[[str, Path], object]:
            paths = [made / seed for seed in seeds] or [tmp_path / "none"]
            return lambda ref, out: packer.pull(ref, out, store=tmp_path / "unused", seed=paths)

        def update(ref: str, out: Path) -> object:
            shutil.copytree(made / "v2", out)
            return packer.unpack(ref, out, store=tmp_path / "unused", update=True)

        first, second, third = (layers(made, f"app:{at}") for at in (1, 2, 3))
        assert fetched(2, pull())[0] == second
        found, count = fetched(2, pull("v1"))
        assert found == second - first
        assert count < 10_000
        assert not rebuilds
        assert fetched(3, pull("v1"))[0] == third - first
        assert len(rebuilds) == 1  # v2, from v1
        for fetch in (pull("v1", "v2"), update):
            found, count = fetched(3, fetch)
            assert third - second <= found <= third - first  # v2's layer has a part of the index
            assert count < 10_000
        assert len(rebuilds) == 1
        # A copy that is gone when it is asked for: its chunks are fetched once, as ever.
        monkeypatch.setattr(
            "packer.reading.restore.old_copies", lambda *_, **__: {0: b"/nowhere/a.tar.gz"}
        )
        found, count = fetched(2, pull("v1"))
        assert found == second
        assert SIZE < count < SIZE * 1.1


def test_a_chain_is_not_rebuilt_from_a_local_store(
    made: Path, tmp_path: Path, rebuilds: list[str]
) -> None:
    store = made / "store"
    packer.unpack("app:3", tmp_path / "whole", store=store)
    assert len(rebuilds) == 1
    whole = packer.unpack("app:3", tmp_path / "seeded", store=store, seed=[made / "v2"])
    shutil.copytree(made / "v2", tmp_path / "out")
    packer.unpack("app:3", tmp_path / "out", store=store, update=True)
    assert len(rebuilds) == 1
    assert whole.read_layers == 1
    for name in ("whole", "seeded", "out"):
        assert (tmp_path / name / "a.tar.gz").read_bytes() == archive(3, SIZE)


@pytest.mark.parametrize("change", ["byte", "shorter", "longer", "gone", "pipe"])
def test_a_copy_that_changes_meanwhile(
    made: Path, tmp_path: Path, rebuilds: list[str], monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    copy = tmp_path / "copy"
    asked: list[bytes] = []
    shutil.copytree(made / "v2", copy)

    def find(*args: object, **more: bool) -> dict[int, bytes]:
        found = old_copies(*args, **more)  # type: ignore[arg-type]
        asked.extend(found.values())
        data = bytearray((copy / "a.tar.gz").read_bytes())
        (copy / "a.tar.gz").unlink()
        if change == "pipe":
            os.mkfifo(copy / "a.tar.gz")
        elif change != "gone":
            data[1000] ^= change == "byte"
            data = data[:-1] if change == "shorter" else data
            (copy / "a.tar.gz").write_bytes(data + b"!" * (change == "longer"))
        return found

    monkeypatch.setattr("packer.reading.restore.old_copies", find)
    packer.unpack("app:3", tmp_path / "out", store=made / "store", seed=[copy])
    assert asked == [bytes(copy / "a.tar.gz")]
    assert (tmp_path / "out" / "a.tar.gz").read_bytes() == archive(3, SIZE)
    assert len(rebuilds) == 1


def test_a_file_of_the_same_size_is_no_copy(
    made: Path, tmp_path: Path, rebuilds: list[str]
) -> None:
    other = bytearray(archive(2, SIZE))
    other[-1] ^= 1
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "a.tar.gz").write_bytes(other)
    (tmp_path / "old" / "link").symlink_to(made / "v2" / "a.tar.gz")  # links are not followed
    packer.unpack("app:3", tmp_path / "out", store=made / "store", seed=[tmp_path / "old"])
    assert (tmp_path / "out" / "a.tar.gz").read_bytes() == archive(3, SIZE)
    assert len(rebuilds) == 1


def test_closed_predecessors_of_one_size(tmp_path: Path) -> None:
    index = Index()
    texts = [bytes([at]) * 300 + b"end" for at in range(3)]
    for at, text in enumerate(texts):
        index.chunk_lengths.append(len(text))
        index.chunk_digests += blake3.blake3(text).digest()[:16]
        index.predecessors.append(Predecessor(len(text), 0, b"", ((at, 1),)))
    index.expansions[0] = Expansion(1, 1, bytes(16), (0, 1, 2))
    for name, text in (("a", texts[2]), ("b", texts[0]), ("c", b"!" * 303), ("d", texts[2])):
        (tmp_path / name).write_bytes(text)
    where = [bytes(tmp_path)]
    assert old_copies(index, [0], where, closed=True) == {
        0: bytes(tmp_path / "b"),
        2: bytes(tmp_path / "a"),
    }
    assert not old_copies(index, [0], where, closed=False)
    assert not old_copies(index, [], where, closed=True)
