"""What the stat cache trusts: identities, clocks and file systems, without packing anything."""

from __future__ import annotations

import os
import shutil
from array import array
from pathlib import Path

import pytest

from packer.files.name_column import Names
from packer.files.syscalls import has_local_times
from packer.files.tree import FILE, Tree
from packer.packing.stat_cache import Facts, StatCache

pytestmark = pytest.mark.usefixtures("local_times")

SECOND = 1_000_000_000


def one_file(mtime: int, ctime: int, *, inode: int = 7, device: int = 1, size: int = 9) -> Tree:
    stats = array("Q", [device, inode, size, mtime, ctime])
    return Tree(Names(b"file\0"), bytearray([FILE]), array("H", [0o644]), stats, Names())


def cache_at(
    tmp_path: Path, walked_ns: int, *, settings: str = "s", root: bytes = b""
) -> StatCache:
    """A cache of a root on device 1 that was walked at some time."""
    (tmp_path / "root").mkdir(exist_ok=True)
    cache = StatCache(str(tmp_path / "cache"), root or os.fsencode(tmp_path / "root"), settings)
    cache.walked_ns, cache._device = walked_ns, 1
    return cache


def noted(tmp_path: Path, tree: Tree, walked_ns: int) -> None:
    facts = Facts(1)
    facts.note(0, b"d" * 32)
    cache_at(tmp_path, walked_ns).save(tree, facts, "blake3:" + "0" * 64)


def is_known(tmp_path: Path, tree: Tree, walked_ns: int) -> bool:
    found = cache_at(tmp_path, walked_ns).load(tree)
    known = found is not None and found.find(0) is not None
    assert not (found is not None and found.unchanged and not known)
    return known


NOW = 1_700_000_000 * SECOND


@pytest.mark.parametrize(
    ("mtime", "ctime", "known"),
    [
        (NOW - 5 * SECOND + 1, NOW - 5 * SECOND + 1, True),
        (NOW - SECOND + 1, NOW - SECOND + 1, True),  # fine times: a tick is enough
        (NOW - 5 * SECOND, NOW - 5 * SECOND, True),  # whole seconds, long ago
        (NOW - SECOND, NOW - SECOND, False),  # whole seconds: perhaps changed once more in this one
        (NOW - 50_000_001, NOW - 50_000_001, False),  # within a slow tick
        (NOW, NOW, False),  # the tick of the walk
        (NOW + 1, NOW - 5 * SECOND + 1, False),  # an mtime from the future
        (NOW - 5 * SECOND + 1, NOW + 3600 * SECOND, False),  # the clock was set back since
        (NOW - 5 * SECOND + 1, NOW + 1, False),
        ((1 << 64) - SECOND, NOW - 5 * SECOND + 1, False),  # before 1970, which no clock says
    ],
)
def test_which_times_are_trusted(tmp_path: Path, mtime: int, ctime: int, known: bool) -> None:
    tree = one_file(mtime, ctime)
    noted(tmp_path, tree, NOW)
    assert is_known(tmp_path, tree, NOW + SECOND) == known


def test_every_part_of_the_identity_counts(tmp_path: Path) -> None:
    old = NOW - 5 * SECOND + 1
    noted(tmp_path, one_file(old, old), NOW)
    later = NOW + SECOND
    assert is_known(tmp_path, one_file(old, old), later)
    assert not is_known(tmp_path, one_file(old, old, size=10), later)
    assert not is_known(tmp_path, one_file(old, old, inode=8), later)
    assert not is_known(tmp_path, one_file(old, old, device=2), later)
    assert not is_known(tmp_path, one_file(old + 1, old), later)
    assert not is_known(tmp_path, one_file(old, old + 1), later)  # an inode used again


def test_files_of_other_file_systems_are_not_noted(tmp_path: Path) -> None:
    old = NOW - 5 * SECOND + 1
    tree = one_file(old, old, device=2)  # mounted below the root: perhaps with another clock
    noted(tmp_path, tree, NOW)
    assert not is_known(tmp_path, tree, NOW + SECOND)


def test_a_clock_that_was_set_back(tmp_path: Path) -> None:
    old = NOW - 5 * SECOND + 1
    tree = one_file(old, old)
    noted(tmp_path, tree, NOW)
    assert is_known(tmp_path, tree, NOW)
    assert not is_known(tmp_path, tree, NOW - 1)  # a change now could get the same times again


def test_the_cache_of_another_root_or_of_other_settings(tmp_path: Path) -> None:
    old = NOW - 5 * SECOND + 1
    tree = one_file(old, old)
    noted(tmp_path, tree, NOW)
    (path,) = (tmp_path / "cache").iterdir()
    (tmp_path / "elsewhere").mkdir()
    for other in (
        cache_at(tmp_path, NOW + SECOND, settings="others"),
        cache_at(tmp_path, NOW + SECOND, root=os.fsencode(tmp_path / "elsewhere")),
    ):
        assert other.load(tree) is None
        shutil.copy(path, other._path)  # and under its name
        assert other.load(tree) is None


def test_proc_has_no_local_times() -> None:
    try:
        fd = os.open("/proc", os.O_RDONLY)
    except FileNotFoundError:
        pytest.skip("no /proc")
    try:
        assert not has_local_times(fd)
    finally:
        os.close(fd)
