"""Seeds: what an older copy holds is not read from the store, and never taken unverified."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

import packer
from packer.cli import main
from packer.reading import seeds as seeding
from packer.reading.seeds import Seeds
from packer.stores.layout import LayoutStore
from tests.conformance.make_samples import read_tree
from tests.registry_server import counting_proxy, run_registry
from tests.unit.packing.test_stat_cache import archive


def data(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


@pytest.fixture
def new(tmp_path: Path) -> Path:
    """The version that is unpacked; of random bytes, so that stored sizes tell what was read."""
    root = tmp_path / "new"
    (root / "dir").mkdir(parents=True)
    for number in range(40):
        (root / "dir" / f"same{number}").write_bytes(data(number, 20_000))
    (root / "moved-here").write_bytes(data(100, 700_000))
    (root / "large").write_bytes(data(101, 4_000_000) + b"new end" + data(102, 500_000))
    (root / "added").write_bytes(data(103, 300_000))
    (root / "chart.tgz").write_bytes(archive(1))
    (root / "empty").touch()
    (root / "dir" / "link").symlink_to("../large")
    (root / "dir" / "tool").write_bytes(data(104, 100))
    (root / "dir" / "tool").chmod(0o555)
    return root


@pytest.fixture
def old(tmp_path: Path, new: Path) -> Path:
    """An older copy."""
    root = tmp_path / "old"
    shutil.copytree(new, root, symlinks=True)
    (root / "moved-here").rename(root / "was-there")
    (root / "large").write_bytes(b"old start" + data(101, 4_000_000) + data(102, 500_000))
    (root / "added").unlink()
    return root


@pytest.fixture
def store(tmp_path: Path, new: Path) -> LayoutStore:
    layout = LayoutStore(str(tmp_path / "store"))
    packer.pack(new, store=layout, tag="app:2")
    return layout


def unpack(store: LayoutStore, target: Path, **more: Any) -> packer.Restored:
    return packer.unpack("app:2", target, store=store, **more)


def test_only_what_seeds_lack_is_read(
    tmp_path: Path, new: Path, old: Path, store: LayoutStore
) -> None:
    whole = unpack(store, tmp_path / "out0")
    assert whole.seeded_bytes == 0
    assert whole.read_bytes > 6_000_000
    done = unpack(store, tmp_path / "out", seed=[old])
    assert read_tree(tmp_path / "out") == read_tree(new)
    # The frames with "added" and with the edits of "large" at most, 3 MiB each.
    assert done.read_bytes < whole.read_bytes - done.seeded_bytes + 3_200_000
    assert done.seeded_bytes > 1_500_000
    same = unpack(store, tmp_path / "out2", seed=new)
    assert read_tree(tmp_path / "out2") == read_tree(new)
    assert same.read_bytes == 0
    assert same.seeded_bytes == same.bytes


def test_a_frame_is_put_together_from_chunks_of_several_seeds(
    tmp_path: Path, new: Path, store: LayoutStore
) -> None:
    for name, file in (("one", "large"), ("two", "added"), ("three", "moved-here")):
        (tmp_path / name).mkdir()
        content = (new / file).read_bytes()
        (tmp_path / name / "x").write_bytes(content + b"and more")  # no file is equal
        rest = tmp_path / name / "rest"
        shutil.copytree(new / "dir", rest, symlinks=True)
    seeds = [tmp_path / name for name in ("missing", "one", "two", "three")]
    done = unpack(store, tmp_path / "out", seed=seeds)
    assert read_tree(tmp_path / "out") == read_tree(new)
    assert done.seeded_bytes > 3_500_000
    assert done.read_bytes < done.bytes - 3_000_000  # not the frame with most of `large`


def test_update_in_place_with_a_seed(
    tmp_path: Path, new: Path, old: Path, store: LayoutStore
) -> None:
    (tmp_path / "out").mkdir()
    shutil.copy(new / "added", tmp_path / "out" / "added")
    done = unpack(store, tmp_path / "out", seed=[old], update=True, delete=True)
    assert read_tree(tmp_path / "out") == read_tree(new)
    assert done.written_files == done.files - 1
    assert done.seeded_bytes > 1_500_000


def test_a_seed_that_changes_meanwhile(
    tmp_path: Path, new: Path, store: LayoutStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    # After the seed was looked through, before anything is taken from it.
    copy = tmp_path / "copy"
    shutil.copytree(new, copy, symlinks=True)
    (copy / "large").write_bytes((copy / "large").read_bytes() + b"!")
    begin = Seeds.__init__

    def change(self: Seeds, *args: Any) -> None:
        begin(self, *args)
        assert self.whole and self
        for path in sorted(copy.rglob("*")):
            if path.is_file() and not path.is_symlink():
                path.chmod(0o644)
                content = bytearray(path.read_bytes())
                if path.name.startswith("same1"):
                    path.unlink()
                elif path.name.startswith("same2"):
                    path.write_bytes(content[:-1])
                elif path.name.startswith("same3"):
                    path.write_bytes(content + b"longer")
                elif content:
                    content[len(content) // 2] ^= 1
                    path.write_bytes(content)

    monkeypatch.setattr(Seeds, "__init__", change)
    done = unpack(store, tmp_path / "out", seed=[copy])
    assert read_tree(tmp_path / "out") == read_tree(new)
    assert 0 < done.seeded_bytes < 4_000_000
    assert done.read_bytes > 0


def test_strange_seeds(tmp_path: Path, new: Path, old: Path, store: LayoutStore) -> None:
    os.mkfifo(old / "pipe")
    (old / "loop").symlink_to(".")
    (old / "outside").symlink_to(new / "added")  # links are not followed
    (old / "dir" / "same1").chmod(0)
    assert unpack(store, tmp_path / "out", seed=[old, tmp_path / "none", new / "large"])
    assert read_tree(tmp_path / "out") == read_tree(new)
    assert os.lstat(old / "dir" / "same1").st_mode & 0o777 == 0


def test_blocks_are_shared_where_that_can_be_done(
    tmp_path: Path, new: Path, store: LayoutStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With a file system that says it shared blocks, and gave wrong ones.
    cloned = []

    def clone(to: int, source: int) -> bool:
        content = os.pread(source, 1 << 24, 0)
        cloned.append(len(content))
        os.write(to, content if len(cloned) % 2 else content[::-1])
        return True

    monkeypatch.setattr(seeding, "clone_file", clone)
    done = unpack(store, tmp_path / "out", seed=[new])
    assert read_tree(tmp_path / "out") == read_tree(new)
    assert len(cloned) == 45
    assert 0 < done.seeded_bytes < done.bytes


def test_seeds_on_the_command_line(
    tmp_path: Path, new: Path, old: Path, store: LayoutStore, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["unpack", "app:2", str(out), "--store", store.path, "--seed", str(old)]
    assert main.main([*words, "--seed", str(tmp_path)]) == 0
    assert "from seeds" in capsys.readouterr().out
    assert read_tree(out) == read_tree(new)


@pytest.mark.registry
@pytest.mark.slow
def test_pulling_from_a_registry_fetches_what_is_missing(
    tmp_path: Path, new: Path, old: Path, store: LayoutStore
) -> None:
    (tmp_path / "registry").mkdir()
    with run_registry(tmp_path / "registry") as server, counting_proxy(server.port) as proxy:
        ref = f"localhost:{server.port}/acme/app:2"
        packer.push(ref, "app:2", store=store)
        local = tmp_path / "local"
        full = packer.pull(ref, tmp_path / "full", store=local)
        done = packer.pull(ref, tmp_path / "out", store=tmp_path / "unused", seed=[old])
        assert read_tree(tmp_path / "out") == read_tree(new)
        assert not (tmp_path / "unused").exists()
        assert done.fetched_bytes < full.fetched_bytes * 0.8
        proxy.requests.clear()
        through = ref.replace(str(server.port), proxy.host.rpartition(":")[2])
        none = packer.pull(through, tmp_path / "out2", store=tmp_path / "unused", seed=[new])
        assert read_tree(tmp_path / "out2") == read_tree(new)
        assert none.fetched_bytes < 20_000
        assert len(proxy.requests) <= 5  # manifest, config, index, and asking for the way
