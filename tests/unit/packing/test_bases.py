"""The base that is found: by name, by looks, in the local store."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

import packer
from packer.files.tree import walk
from packer.packing.older.bases import (
    LOOK_TAGS,
    LOOK_UNORDERED_TAGS,
    application,
    may_be_one_application,
    tags_to_look_at,
    version_key,
)
from packer.packing.older.likeness import ALIKE, SAMPLE_PATHS, Looks
from packer.stores.memory import MemoryStore
from tests.builders import text, write

COMMITS = [f"{random.Random(n).getrandbits(160):040x}" for n in range(1000)]


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.mark.parametrize(
    ("tag", "name"),
    [
        ("app:1.4.2", "app"),
        ("registry.example:5000/acme/app:latest", "app"),
        ("app-1.4.2.tar.gz", "app"),
        ("app-v2", "app"),
        ("app-latest", "app"),
        ("app-3f2a9c1", "app"),
        (f"app-{COMMITS[0]}", "app"),
        ("app", None),
        ("1.4.2", None),
        ("v1.4.2", None),
        ("41", None),
        ("latest", None),
        ("main", None),
        ("main-20261130-3f2a9c1", None),
        ("build-41", None),
        ("3f2a9c1", None),
        ("sha-3f2a9c1", None),
        (COMMITS[1], None),
    ],
)
def test_applications_of_tags(tag: str, name: str | None) -> None:
    assert application(tag) == name


def test_tags_of_different_applications() -> None:
    assert not may_be_one_application("a:1", "b-2")
    assert may_be_one_application("a:1", "registry.example/x/a:2")
    assert may_be_one_application("a:1", "1.4.2")
    assert may_be_one_application("1.4.1", "1.4.2")


def test_versions_are_ordered_as_people_order_them() -> None:
    tags = "1.4.2-rc.1 1.4.2-rc.2 1.4.2-rc.10 1.4.2 1.4.2_1 v1.4.10 app-1.5 41".split()  # noqa: SIM905
    keys = [version_key(tag) for tag in tags]
    assert None not in keys
    assert sorted(keys) == keys  # type: ignore[type-var]
    assert version_key("1.4") == version_key("v1.4.0")
    for tag in ("latest", "main", "app", "3f2a9c1", COMMITS[0], f"app-{COMMITS[0]}"):
        assert version_key(tag) is None, tag
    assert version_key("main-20261130-3f2a9c1") == version_key("20261130")
    assert version_key("9" * 128) is not None


def test_which_tags_are_looked_at() -> None:
    tags = [f"1.{minor}.{patch}" for minor in range(40) for patch in range(25)]
    found = tags_to_look_at([*tags, "latest", f"sha256-{'a' * 64}.sig"], "1.7.9")
    assert found == ["1.7.8", "1.7.9", "1.7.7", "1.39.24", "1.39.23", "1.39.22", "latest"]
    assert tags_to_look_at(reversed(tags), "1.40.0") == ["1.39.24", "1.39.23", "1.39.22"]
    assert tags_to_look_at(["a-1.0", "b-1.0", "b-2.0"], "b-1.5") == ["b-1.0", "b-2.0"]
    few = tags_to_look_at(COMMITS, "0" * 40)
    assert len(set(few)) == LOOK_UNORDERED_TAGS
    assert few == tags_to_look_at(reversed(COMMITS), "0" * 40)
    mixed = tags_to_look_at([*COMMITS, "main", "latest"], COMMITS[7])
    assert mixed[:3] == [COMMITS[7], "latest", "main"]
    assert len(set(mixed)) == LOOK_TAGS
    assert tags_to_look_at([], "1.0") == []


def looks(tmp_path: Path, name: str, files: dict[str, int]) -> Looks:
    root = write(tmp_path / name, {path: bytes(size) for path, size in files.items()})
    return Looks(walk(bytes(root)))


def test_likeness(tmp_path: Path) -> None:
    one = looks(tmp_path, "one", {f"d/{'x' * n}": 10 for n in range(1, 11)})
    same = one.compare(one)
    assert (same.paths, same.same_bytes) == (1.0, 1.0)
    half = looks(tmp_path, "half", {f"d/{'x' * n}": 10 + (n > 8) for n in range(6, 16)})
    assert one.compare(half).paths == pytest.approx(5 / 15)
    assert one.compare(half).paths >= ALIKE
    assert one.compare(half).same_bytes == pytest.approx(30 / (100 + 107 - 30))
    # Numbers in names do not count, but how many files have a name of that shape does.
    first = looks(tmp_path, "first", {"app-1.4.1.tgz": 5})
    assert first.compare(looks(tmp_path, "second", {"app-1.4.2.tgz": 6})).paths == 1
    many = looks(tmp_path, "many", {f"app-1.4.{n}.tgz": 5 for n in range(9)})
    assert first.compare(many).paths == pytest.approx(1 / 9)
    assert not first.may_resemble(9)
    empty = looks(tmp_path, "empty", {"d/e/f": 0})
    assert empty.compare(empty).paths == 1


def test_likeness_of_large_trees_is_estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    from packer.format.index import Index

    def made(first: int, last: int) -> Looks:
        index = Index()
        letters = str.maketrans("0123456789", "abcdefghij")
        index.paths = [f"{n:06}".translate(letters).encode() for n in range(first, last)]
        index.kinds = bytearray([1]) * (last - first)
        index.run_counts.extend([0] * (last - first))
        return Looks(index)

    count = 5 * SAMPLE_PATHS
    share = made(0, 2 * count).compare(made(count, 3 * count)).paths
    assert share == pytest.approx(1 / 3, abs=0.03)
    assert made(0, count).compare(made(count, 2 * count)).paths == 0


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("1.4.1", "1.4.2"),
        ("v1.4.1", "v1.4.2"),
        ("40", "41"),
        ("latest", "main"),
        (COMMITS[0], COMMITS[1]),
        ("app-3f2a9c1", "app-4e1b8d2"),
        ("registry.example/acme/app:1.4.1", "app-1.4.2"),
        ("1.4.1", "app:1.4.2"),
        ("app:1.4.1", COMMITS[2]),
    ],
)
def test_the_base_is_found_for_any_tag(
    tmp_path: Path, store: MemoryStore, old: str, new: str
) -> None:
    # Without a base the second version costs what the first did.
    files = {f"charts/{n}/values.yaml": text(n, 60_000) for n in "abcd"}
    first = packer.pack(write(tmp_path / "old", files), store=store, tag=old)
    files["charts/a/values.yaml"] += b"one more line\n"
    second = packer.pack(write(tmp_path / "new", files), store=store, tag=new)
    assert second.parent == first.digest
    assert second.new_bytes < first.new_bytes / 20
    assert second.base is not None
    assert (second.base.name, second.base.digest) == (old, first.digest)
    assert second.base.found_by == ("name" if "app" in old and "app" in new else "tree")
    assert second.base.shared_paths == 1


def test_another_application_is_no_base(tmp_path: Path, store: MemoryStore) -> None:
    files = {f"charts/{n}/values.yaml": text(n, 6_000) for n in "abcd"}
    root = write(tmp_path / "v", files)
    packer.pack(root, store=store, tag="app:1.4.1")
    (root / "new").write_bytes(b"new")
    named = packer.pack(root, store=store, tag="other:1.4.2")
    assert (named.parent, named.base) == ("", None)
    strange = write(tmp_path / "w", {f"src/{n}.go": text(n, 6_000) for n in "abcd"})
    unlike = packer.pack(strange, store=store, tag="1.4.2")
    assert (unlike.parent, unlike.base) == ("", None)


def test_the_newest_version_that_looks_alike(tmp_path: Path, store: MemoryStore) -> None:
    files = {f"charts/{n}/values.yaml": text(n, 6_000) for n in "abcd"}
    root = write(tmp_path / "v", files)
    packer.pack(root, store=store, tag="1.4.2")
    (root / "one").write_bytes(b"1")
    newest = packer.pack(root, store=store, tag="1.4.1")  # tagged last
    strange = write(tmp_path / "w", {f"src/{n}.go": text(n, 6_000) for n in "abcd"})
    packer.pack(strange, store=store, tag="2.0.0")
    (root / "two").write_bytes(b"2")
    packed = packer.pack(root, store=store, tag="main")
    assert packed.base is not None
    assert packed.base.name == "1.4.1"
    assert packed.parent == newest.digest


def test_what_is_left_out_does_not_count(tmp_path: Path, store: MemoryStore) -> None:
    root = write(tmp_path / "v", {f"charts/{n}/values.yaml": text(n, 6_000) for n in "abcd"})
    write(root, {f"build/{'x' * n}.o": b"o" for n in range(1, 60)})
    first = packer.pack(root, store=store, tag="1.4.1", exclude=["build/"])
    write(root, {"new": b"new", **{f"build/{'y' * n}.o": b"o" for n in range(1, 60)}})
    packed = packer.pack(root, store=store, tag="1.4.2", exclude=["build/"])
    assert packed.parent == first.digest
    assert packed.left_out.directories == 1


def test_an_incomplete_version_is_no_base(tmp_path: Path) -> None:
    root = write(tmp_path / "v", {f"{n}.yaml": text(n, 60_000) for n in "abcd"})
    folder = tmp_path / "store"
    first = packer.pack(root, store=folder, tag="1.0")
    version = packer.open_version("1.0", store=folder)
    for layer in version.manifest.data_layers:
        (folder / "blobs" / "sha256" / layer.digest.removeprefix("sha256:")).unlink()
    (root / "new").write_bytes(b"new")
    again = packer.pack(root, store=folder, tag="1.1")
    assert again.base is None
    assert again.new_bytes > first.new_bytes / 2


@pytest.mark.parametrize(
    "base",
    [
        "auto:",
        "auto:acme",
        "auto:acme/app",
        "auto:oci:dir",
        "auto:registry.example/acme/app@sha256:" + "0" * 64,
        "auto:registry.example/Acme/app",
        "auto:registry.example/acme/app:~1",
        "auto:auto:registry.example/acme/app",
        "auto:registry.example/acme/\x1b[31m",
        "auto:registry.example:99999/acme/app",
        "auto:" + "a" * 100_000,
    ],
)
def test_malformed_searches(tmp_path: Path, store: MemoryStore, base: str) -> None:
    root = write(tmp_path / "v", {"a": b"a"})
    with pytest.raises(packer.InvalidParameter):
        packer.pack(root, store=store, tag="1.0", base=base)
    assert not list(store.tags())


def test_a_tag_that_begins_like_a_search(tmp_path: Path, store: MemoryStore) -> None:
    root = write(tmp_path / "v", {"a": text(1, 9_000)})
    first = packer.pack(root, store=store, tag="auto:1.0")
    (root / "b").write_bytes(b"b")
    packed = packer.pack(root, store=store, tag="x:1", base="auto:1.0")
    assert packed.parent == first.digest
    assert packed.base == packer.BaseChoice("auto:1.0", first.digest, "given")
