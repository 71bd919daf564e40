"""Small files read many at a time: as one by one, and nothing but what was walked."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import packer
from packer.files.tree import Tree, walk
from packer.packing import small_files
from packer.packing.pack_tree import PackJob
from packer.packing.small_files import BATCH_ENTRIES, SMALL_BYTES, SmallFiles
from tests.builders import noise


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """More than two batches, with files of other kinds between."""
    root = tmp_path / "v"
    for number in range(3 * BATCH_ENTRIES):
        path = root / f"{number % 7}" / f"{number:04}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(noise(number, number * 31 % 5000))
    (root / "3" / "chart.tgz").write_bytes(gzip.compress(noise("chart", 2000), mtime=0))
    (root / "3" / "greatest").write_bytes(noise("greatest", SMALL_BYTES))
    (root / "3" / "large").write_bytes(noise("large", SMALL_BYTES + 1))
    (root / "3" / "link").symlink_to("large")
    (root / "4" / "name\nin every\xff byte").write_bytes(b"odd")
    return root


def reader(root: Path, tree: Tree, *, expand: bool = True) -> SmallFiles:
    return SmallFiles(os.fsencode(root), tree, lambda at: True, expand=expand)


@pytest.fixture
def small(root: Path) -> Iterator[tuple[Tree, SmallFiles]]:
    tree = walk(os.fsencode(root))
    files = reader(root, tree)
    yield tree, files
    files.close()


def take_all(tree: Tree, files: SmallFiles) -> dict[bytes, bytes]:
    found = {}
    for at, path in enumerate(tree.paths):
        if tree.size(at) and (data := files.take(at)) is not None:
            found[path] = bytes(data)
    return found


def test_every_small_file_is_there(root: Path, small: tuple[Tree, SmallFiles]) -> None:
    tree, files = small
    found = take_all(tree, files)
    assert b"3/greatest" in found
    assert not {b"3/large", b"3/chart.tgz", b"3/link"} & set(found)
    assert len(found) == sum(0 < tree.size(at) <= SMALL_BYTES for at in range(len(tree))) - 1
    for path, data in found.items():
        assert (root / os.fsdecode(path)).read_bytes() == data


def test_archives_are_plain_where_nothing_is_opened(root: Path) -> None:
    tree = walk(os.fsencode(root))
    files = reader(root, tree, expand=False)
    assert b"3/chart.tgz" in take_all(tree, files)
    files.close()


def test_positions_may_be_left_out(root: Path, small: tuple[Tree, SmallFiles]) -> None:
    tree, files = small
    for at in (0, 5, 6, 400, 401, len(tree) - 1):
        data = files.take(at)
        if 0 < tree.size(at) <= SMALL_BYTES:
            assert data is not None
            assert bytes(data) == (root / os.fsdecode(tree.paths[at])).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["write", "grow", "cut", "replace", "remove", "link", "directory"])
def test_what_changed_since_the_walk_is_not_taken(root: Path, how: str) -> None:
    victim = root / "5" / "0005"
    tree = walk(os.fsencode(root))
    data = victim.read_bytes()
    if how == "write":
        victim.write_bytes(data[::-1])
    elif how == "grow":
        victim.write_bytes(data + b"more")
    elif how == "cut":
        os.truncate(victim, 10)
    else:
        victim.rename(root / "elsewhere")
        if how == "replace":
            victim.write_bytes(data)
        elif how == "link":
            victim.symlink_to(root / "elsewhere")
        elif how == "directory":
            victim.mkdir()
    files = reader(root, tree)
    found = take_all(tree, files)
    files.close()
    assert b"5/0005" not in found
    assert b"5/0012" in found
    # The error names the file, as that of any other.
    with pytest.raises(OSError if how == "link" else packer.SourceChanged, match="5/0005"):
        _pack_as_walked(root, tree)


def _pack_as_walked(root: Path, tree: Tree) -> None:
    with pytest.MonkeyPatch.context() as patch:

        def job(*args: Any, **options: Any) -> PackJob:
            return PackJob(*args, **{**options, "walk": lambda _: tree})

        patch.setattr("packer.packing.pack_tree.PackJob", job)
        packer.pack(root, store=root.parent / "s", tag="app:1", cache=False)


@pytest.mark.slow
def test_the_same_version_as_one_by_one(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")

    def versions(name: str) -> list[str]:
        store = root.parent / name
        first = packer.pack(root, store=store, tag="app:1")
        (root / "2" / "0002").write_bytes(b"changed")
        second = packer.pack(root, store=store, tag="app:2")
        (root / "2" / "0002").write_bytes(noise(2, 62))
        return [first.digest, second.digest]

    together = versions("s")
    monkeypatch.setattr(small_files, "SMALL_BYTES", 0)
    assert versions("t") == together
    packer.unpack("app:1", root.parent / "out", store=root.parent / "s")
    assert (root.parent / "out" / "2" / "0002").read_bytes() == noise(2, 62)


def test_nothing_stays_open_when_packing_fails(root: Path) -> None:
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("no list of open files here")

    def stop(_: packer.Progress) -> None:
        raise InterruptedError("enough")

    with pytest.raises(InterruptedError):
        packer.pack(root, store=root.parent / "s", tag="app:1", progress=stop)
    left = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
    assert not [name for name in left if name.startswith(str(root))]
