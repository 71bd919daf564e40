"""Two sides of an air gap, for the tests beside this."""

from __future__ import annotations

import filecmp
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import packer
from packer.stores.archive.store import ArchiveStore
from packer.stores.layout import LayoutStore
from packer.stores.manifests import read_graph
from packer.stores.memory import MemoryStore
from tests.builders import noise
from tests.registry_server import RegistryServer, run_registry


@dataclass
class Gap:
    """Two versions in a registry on the near side, and an empty registry on the far side.

    Args:
        near, far: the servers.
        trees: the versions' directories, by tag.
        store: the vendor's local store, with both.
        blobs: digests of the versions' blobs, by tag.
        digests: of their manifests.
    """

    near: RegistryServer
    far: RegistryServer
    trees: dict[str, Path]
    store: Path
    blobs: dict[str, frozenset[str]]
    digests: dict[str, str]

    @property
    def lacking(self) -> frozenset[str]:
        """What the far side lacks of the newer version, if it has the older."""
        return self.blobs["1.4.2"] - self.blobs["1.4.1"]


@contextmanager
def made(folder: Path) -> Iterator[Gap]:
    """Make both sides, and two versions on the near one, below a directory."""
    old, new = folder / "1.4.1", folder / "1.4.2"
    (old / "charts").mkdir(parents=True)
    (old / "images").write_bytes(noise("images", 3_000_000))
    for name in "abc":
        (old / "charts" / f"{name}.yaml").write_text(f"app: {name}\nversion: 1.4.1\n" * 500)
    shutil.copytree(old, new)
    for name in "ab":
        (new / "charts" / f"{name}.yaml").write_text(f"app: {name}\nversion: 1.4.2\n" * 500)
    (new / "extra").write_bytes(noise("extra", 300_000))
    store = folder / "store"
    with (
        run_registry(_made(folder / "near")) as near,
        run_registry(_made(folder / "far")) as far,
    ):
        trees = {"1.4.1": old, "1.4.2": new}
        blobs, digests = {}, {}
        for tag, tree in trees.items():
            packed = packer.pack(tree, store=store, tag=f"app:{tag}")
            packer.push(f"{near.host}/acme/app:{tag}", packed, store=store)
            digests[tag] = packed.digest
            graph = read_graph(LayoutStore(store).get_manifest(packed.digest)[1], "")
            blobs[tag] = frozenset(blob.digest for blob in graph.blobs)
        assert blobs["1.4.1"] & blobs["1.4.2"]
        yield Gap(near, far, trees, store, blobs, digests)


def _made(path: Path) -> Path:
    path.mkdir()
    return path


def same_trees(one: Path, two: Path) -> bool:
    compared = filecmp.dircmp(one, two)
    files = compared.common_files
    return (
        not (compared.left_only or compared.right_only or compared.funny_files)
        and filecmp.cmpfiles(one, two, files, shallow=False)[0] == files
        and all(same_trees(one / name, two / name) for name in compared.common_dirs)
    )


def near(gap: Gap, tag: str) -> str:
    return f"{gap.near.host}/acme/app:{tag}"


def base_on_the_far_side(gap: Gap, repository: str) -> str:
    """Bring the older version to a repository of the far side; return the repository."""
    there = f"{gap.far.host}/{repository}"
    packer.copy(near(gap, "1.4.1"), f"{there}:1.4.1", store=MemoryStore())
    return there


def in_archive(path: Path) -> set[str]:
    return set(ArchiveStore(path)._now().blobs)
