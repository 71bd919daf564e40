"""Rules: what they leave out, and that the walk by rules is the walk of C but for that."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

import packer
from packer.errors import InvalidParameter, UnsupportedFile
from packer.files.rules import LeftOut, Rules
from packer.files.tree import Tree, walk
from packer.stores.layout import LayoutStore
from packer.stores.memory import MemoryStore
from tests.builders import write

FILES = {
    "app.yaml": b"app\n",
    "debug.log": b"12345",
    "logs/a.log": b"a",
    "logs/keep.log": b"k",
    "node_modules/x/index.js": b"js",
    "src/main.c": b"c",
    "src/build/out.o": b"o",
    "src/-/x": b"x",
    "src-2/y": b"y",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = write(tmp_path / "tree", FILES)
    os.symlink("app.yaml", made / "link.log")
    return made


def paths(tree: Tree) -> set[str]:
    return {found.path.decode() for found in tree if found.kind != 0}


def same(one: Tree, other: Tree) -> bool:
    return (one.paths, one.kinds, one.modes, one.stats, one.links) == (
        *(other.paths, other.kinds, other.modes, other.stats, other.links),
    )


def test_without_effect_it_is_the_walk_of_c(root: Path) -> None:
    rng = random.Random(1)
    for _ in range(200):
        name = "/".join("".join(rng.choices("a-/.b\xe9", k=3)) for _ in range(3))
        path = root / "many" / "/".join(p for p in name.split("/") if p not in ("", ".", ".."))
        if not path.exists() and not any(p.is_file() for p in path.parents):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")
    os.chmod(root / "src", 0o751)
    left_out = LeftOut()
    found = Rules(["/nothing"]).walk(bytes(root), left_out)
    assert same(found, walk(bytes(root)))
    assert len(found) > 100
    assert not left_out


def test_patterns_of_the_caller(root: Path) -> None:
    left_out = LeftOut()
    found = Rules(["*.log", "!keep.log", "node_modules/", "/src/build"]).walk(bytes(root), left_out)
    assert paths(found) == {"app.yaml", "logs/keep.log", "src/main.c", "src/-/x", "src-2/y"}
    assert (left_out.files, left_out.bytes, left_out.directories) == (3, 6, 2)
    assert sorted(left_out.paths) == sorted(
        ["debug.log", "link.log", "logs/a.log", "node_modules/", "src/build/"]
    )


def test_files_in_the_tree(root: Path) -> None:
    """As .gitignore: for their own directory, the deeper one decides, the caller before both."""
    (root / ".layerpackerignore").write_bytes(
        b"\xef\xbb\xbf# all logs\n*.log\n/main.c\r\n\nbuild/\n"
    )
    (root / "logs/.layerpackerignore").write_bytes(b"!keep.log\n")
    (root / "src/.layerpackerignore").write_bytes(b"/-\n")
    found = paths(Rules().walk(bytes(root), LeftOut()))
    assert found == {
        *(".layerpackerignore", "logs/.layerpackerignore", "src/.layerpackerignore"),
        *("app.yaml", "logs/keep.log", "node_modules/x/index.js", "src/main.c", "src-2/y"),
    }
    again = paths(Rules(["!debug.log", "src"]).walk(bytes(root), LeftOut()))
    assert "debug.log" in again
    assert not any(path.startswith("src/") for path in again)
    assert paths(Rules(files=False).walk(bytes(root), LeftOut())) == paths(walk(bytes(root)))


def test_a_file_deep_in_the_tree_is_found(root: Path) -> None:
    (root / "src/.layerpackerignore").write_bytes(b"*.o\n")
    assert "src/build/out.o" not in paths(Rules().walk(bytes(root), LeftOut()))


def test_what_is_left_out_is_not_looked_at(root: Path) -> None:
    os.mkfifo(root / "run.sock")
    os.chmod(root / "node_modules", 0)
    try:
        with pytest.raises(UnsupportedFile, match=r"run\.sock.*fifo"):
            Rules(["node_modules"]).walk(bytes(root), LeftOut())
        found = Rules(["*.sock", "node_modules"]).walk(bytes(root), LeftOut())
        assert "app.yaml" in paths(found)
        (root / "src/.layerpackerignore").write_bytes(b"x.sock\n")  # C meets the fifo first
        with pytest.raises((UnsupportedFile, PermissionError)):
            Rules().walk(bytes(root), LeftOut())
        (root / ".layerpackerignore").write_bytes(b"*.sock\nnode_modules\n")
        assert "app.yaml" in paths(Rules().walk(bytes(root), LeftOut()))
    finally:
        os.chmod(root / "node_modules", 0o700)


@pytest.mark.parametrize("data", [b"[\n", b"x" * 5000, b"a\n" * 5000, b"a\0b", b"#" * (2 << 20)])
def test_malformed_files(root: Path, data: bytes) -> None:
    (root / "src/.layerpackerignore").write_bytes(data)
    with pytest.raises(InvalidParameter, match="layerpackerignore"):
        Rules().walk(bytes(root), LeftOut())


def test_a_file_that_is_a_link(root: Path) -> None:
    os.symlink("/etc/passwd", root / "src/.layerpackerignore")
    with pytest.raises(InvalidParameter, match="regular file"):
        Rules().walk(bytes(root), LeftOut())
    os.unlink(root / "src/.layerpackerignore")
    (root / ".layerpackerignore").mkdir()
    with pytest.raises(InvalidParameter, match="regular file"):
        Rules().walk(bytes(root), LeftOut())


def test_names_in_any_bytes(root: Path) -> None:
    (root / os.fsdecode(b"bad\xff.tmp")).write_bytes(b"x")
    (root / ".layerpackerignore").write_bytes(b"bad\xff.*\n")
    left_out = LeftOut()
    Rules().walk(bytes(root), left_out)
    assert left_out.paths == ["bad\udcff.tmp"]


def test_the_same_tree_and_rules_give_the_same_version(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    rules = tmp_path / "rules"
    rules.write_text("*.log\nnode_modules/\n")
    clean = tmp_path / "clean"
    packer.pack(root, store=MemoryStore(), tag="app:0", exclude=["*.log", "node_modules"])
    one = packer.pack(root, store=MemoryStore(), tag="app:1", exclude_from=[rules])
    (root / "other.log").write_bytes(b"more")
    two = packer.pack(root, store=MemoryStore(), tag="app:1", exclude=["*.log", "node_modules/"])
    assert one.digest == two.digest
    assert one.left_out.directories == 1
    assert (two.left_out.files, one.left_out.files) == (5, 4)
    store = MemoryStore()
    packer.pack(root, store=store, tag="app:1", exclude_from=[rules])
    packer.unpack("app:1", clean, store=store)
    assert packer.pack(clean, store=MemoryStore(), tag="app:1").digest == one.digest


def test_rules_change_between_packs_of_one_store(root: Path, tmp_path: Path) -> None:
    """The stat cache knows files, not rules."""
    store = LayoutStore(str(tmp_path / "store"))
    whole = packer.pack(root, store=store, tag="app:1")
    less = packer.pack(root, store=store, tag="app:2", exclude=["logs"])
    assert (whole.files, less.files) == (9, 7)
    assert packer.pack(root, store=store, tag="app:3").digest == whole.digest
    assert packer.pack(root, store=store, tag="app:4", exclude=["logs"]).digest == less.digest
