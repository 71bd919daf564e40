"""A part of a version: chosen by paths and patterns, verified, and only what it needs is read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import packer
from packer.stores.layout import LayoutStore
from tests.builders import noise, text, write
from tests.conformance.make_samples import read_tree
from tests.registry_server import counting_proxy, run_registry

FILES = {
    "charts/app/values.yaml": b"a: 1\n",
    "charts/app/templates/x.yaml": b"x\n",
    "charts/notes.md": b"n\n",
    "images/big.bin": noise(1, 3_000_000),
    "images/small.bin": noise(2, 1000),
    "a-b/file": b"beside a in the order of bytes\n",
    "a/file": b"in a\n",
    "readme.md": text(3, 5000),
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = write(tmp_path / "tree", FILES)
    os.symlink("../readme.md", made / "charts" / "link")
    os.chmod(made / "charts", 0o750)
    return made


@pytest.fixture
def store(tmp_path: Path, root: Path) -> LayoutStore:
    layout = LayoutStore(str(tmp_path / "store"))
    packer.pack(root, store=layout, tag="app:1")
    return layout


def paths_below(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir()}


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"paths": ["charts"]}, {name for name in FILES if "charts/" in name} | {"charts/link"}),
        ({"paths": ["./a/", "readme.md"]}, {"a/file", "readme.md"}),
        ({"paths": ["charts/link"]}, {"charts/link"}),
        ({"include": ["*.yaml"]}, {n for n in FILES if n.endswith(".yaml")}),
        ({"include": ["/charts/app/"]}, {n for n in FILES if "charts/app/" in n}),
        (
            {"include": ["/charts/app/", "!values.yaml"]},
            {"charts/app/templates/x.yaml"},
        ),
        ({"exclude": ["images", "charts"]}, {"a-b/file", "a/file", "readme.md"}),
        ({"exclude": ["*", "!/a", "!/a/file"]}, {"a/file"}),
        ({"paths": ["images"], "exclude": ["big.*"]}, {"images/small.bin"}),
        ({"include": ["*.md"], "exclude": ["charts/"]}, {"readme.md"}),
    ],
)
def test_what_is_chosen_is_written(
    store: LayoutStore,
    root: Path,
    tmp_path: Path,
    choice: dict[str, list[str]],
    expected: set[str],
) -> None:
    done = packer.unpack("app:1", tmp_path / "out", store=store, **choice)  # type: ignore[arg-type]
    assert paths_below(tmp_path / "out") == expected
    assert done.files == done.written_files == len(expected - {"charts/link"})
    whole = read_tree(root)
    for path, found in read_tree(tmp_path / "out").items():
        assert whole[path] == found  # modes of the directories above, too


def test_all_that_is_chosen_is_the_whole(store: LayoutStore, root: Path, tmp_path: Path) -> None:
    packer.unpack("app:1", tmp_path / "out", store=store, include=["*"])
    assert read_tree(tmp_path / "out") == read_tree(root)


def test_update_replaces_only_the_part(store: LayoutStore, tmp_path: Path) -> None:
    out = write(tmp_path / "out", {"readme.md": b"mine", "charts/notes.md": b"old", "x": b"x"})
    done = packer.unpack("app:1", out, store=store, update=True, paths=["charts"])
    assert (out / "readme.md").read_bytes() == b"mine"
    assert (out / "charts/notes.md").read_bytes() == FILES["charts/notes.md"]
    assert done.written_files == 3
    with pytest.raises(packer.InvalidParameter, match="whole version"):
        packer.unpack("app:1", out, store=store, update=True, delete=True, paths=["charts"])
    assert (out / "x").exists()


def test_a_damaged_part_changes_nothing(store: LayoutStore, tmp_path: Path) -> None:
    largest = max((Path(store.path) / "blobs/sha256").iterdir(), key=lambda p: p.stat().st_size)
    data = bytearray(largest.read_bytes())
    # Noise does not compress, so its bytes are in the layer as they are.
    data[data.index(FILES["images/big.bin"][1_000_000:1_000_100])] ^= 1
    os.chmod(largest, 0o600)
    largest.write_bytes(data)
    with pytest.raises(packer.IntegrityError):
        packer.unpack("app:1", tmp_path / "out", store=store, paths=["images"])
    assert not (tmp_path / "out").exists()


def test_what_is_not_there_is_not_found(store: LayoutStore, tmp_path: Path) -> None:
    for choice in ({"paths": ["chart"]}, {"paths": ["readme.md/x"]}, {"include": ["nothing"]}):
        with pytest.raises(packer.NotFound):
            packer.unpack("app:1", tmp_path / "out", store=store, **choice)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "choice",
    [
        {"paths": [""]},
        {"paths": ["/etc"]},
        {"paths": ["charts/../readme.md"]},
        {"paths": ["a\0b"]},
        {"include": ["["]},
        {"include": ["!"]},
        {"include": ["charts", " "]},
        {"exclude": ["# comment"]},
        {"exclude": ["/"]},
        {"exclude": ["a\\"]},
        {"exclude": ["[z-a]"]},
        {"exclude": ["[[:alpha:]]"]},
        {"exclude": ["*a*a*a*a*a*a*a*b"]},
        {"exclude": ["**/a/" * 8 + "b"]},
        {"exclude": ["x" * 5000]},
        {"exclude": ["a\0b"]},
        {"exclude": ["a"] * 5000},
    ],
)
def test_malformed_choices(
    store: LayoutStore, tmp_path: Path, choice: dict[str, list[str]]
) -> None:
    with pytest.raises(packer.InvalidParameter):
        packer.unpack("app:1", tmp_path / "out", store=store, **choice)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


@pytest.mark.registry
@pytest.mark.slow
def test_only_what_is_needed_is_fetched(root: Path, tmp_path: Path) -> None:
    """Bytes are counted on the wire, before a real registry."""
    write(root, {f"more/{at}.bin": noise(f"more {at}", 500_000) for at in range(40)})
    store = LayoutStore(str(tmp_path / "store"))
    packer.pack(root, store=store, tag="app:1")
    (tmp_path / "registry").mkdir()
    with run_registry(tmp_path / "registry") as server, counting_proxy(server.port) as proxy:
        ref = f"{proxy.host}/acme/app:1"
        packer.push(ref, "app:1", store=store)
        empty = tmp_path / "empty"
        for call in (packer.pull, packer.unpack):
            proxy.clear()
            target = tmp_path / call.__name__
            call(ref, target, store=empty, paths=["charts", "more/3.bin"])
            got = sum(proxy.answers)
            assert 500_000 < got < 7_000_000, got  # two frames of a 23 MB version
            assert (target / "more/3.bin").read_bytes() == (root / "more/3.bin").read_bytes()
            assert paths_below(target) == {
                "more/3.bin",
                "charts/link",
                *(name for name in FILES if "charts/" in name),
            }
        assert not (empty / "blobs").exists()
        packer.pull(ref, tmp_path / "whole", store=empty)
        proxy.clear()
        done = packer.pull(ref, tmp_path / "again", store=empty, paths=["more/3.bin"])
        assert done.fetched_bytes == 0
        assert sum(proxy.answers) < 10_000
        for blob in (empty / "blobs/sha256").iterdir():  # damage here is made good from there
            if blob.stat().st_size > 1_000_000:
                os.chmod(blob, 0o600)
                data = bytearray(blob.read_bytes())
                data[::1000] = bytes(len(data[::1000]))
                blob.write_bytes(data)
        done = packer.pull(ref, tmp_path / "third", store=empty, paths=["more/3.bin"])
        assert done.fetched_bytes > 500_000
        assert read_tree(tmp_path / "third") == read_tree(tmp_path / "again")
