"""Keeping house in the local store: lists, names, policies, garbage, measures."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest

import packer
from packer.errors import InvalidParameter, NotFound
from packer.files.cache_file import trim_caches
from packer.stores.layout import LayoutStore


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


def make(
    root: Path, store: Path, number: int, monkeypatch: pytest.MonkeyPatch, day: int = 0
) -> str:
    """Pack version `number` of app, as if on a day of 2024; return its digest."""
    root.mkdir(exist_ok=True)
    (root / "same.bin").write_bytes(b"same" * 5000)
    (root / "values.yaml").write_text(f"version: {number}\n" * 50)
    (root / f"only-{number}").write_bytes(os.urandom(3000))
    monkeypatch.setenv("SOURCE_DATE_EPOCH", str(1_704_067_200 + 86_400 * (day or number)))
    return packer.pack(root, store=store, tag=f"app:{number}").digest


def test_versions_tell_dates_sizes_and_what_each_adds(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = [make(tmp_path / "app", store, number, monkeypatch) for number in (1, 2)]
    packer.tag("app:1", "stable", store=store)
    rows = packer.versions(store=store)
    assert [(row.tag, row.digest) for row in rows] == [
        ("app:1", digests[0]),
        ("app:2", digests[1]),
        ("stable", digests[0]),
    ]
    assert [row.created for row in rows[:2]] == ["2024-01-02T00:00:00Z", "2024-01-03T00:00:00Z"]
    assert [row.files for row in rows] == [3, 4, 3]
    assert rows[0].bytes == 20_000 + 550 + 3000
    assert rows[0].new_bytes == rows[0].stored_bytes
    assert rows[1].new_bytes is not None
    assert rows[1].stored_bytes is not None
    assert 3000 < rows[1].new_bytes < rows[1].stored_bytes
    assert rows[2].new_bytes == 0
    assert sum(row.new_bytes or 0 for row in rows) == packer.usage(store=store).bytes


def test_a_damaged_version_is_listed_with_its_problem(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = make(tmp_path / "app", store, 1, monkeypatch)
    make(tmp_path / "app", store, 2, monkeypatch)
    (store / "blobs" / "sha256" / digest[7:]).unlink()
    first, second = packer.versions(store=store)
    assert "manifest" in first.problem
    assert (first.files, first.stored_bytes, first.new_bytes) == (None, None, None)
    assert second.files == 4
    with pytest.raises(NotFound):
        packer.gc(store=store, grace_seconds=0)


def test_first_digits_name_a_version(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = make(tmp_path / "app", store, 1, monkeypatch)
    for name in (digest[7:14], digest[7:19], digest[:30]):
        assert packer.inspect(name, store=store).digest == digest
    assert packer.push(f"oci:{tmp_path}/there:x", digest[7:19], store=store).descriptor
    with pytest.raises(NotFound):
        packer.inspect(digest[7:13], store=store)  # six digits are too few
    packer.tag("app:1", digest[7:19][::-1], store=store)  # a tag of hex digits is a tag
    assert packer.inspect(digest[7:19][::-1], store=store).digest == digest


def test_digits_that_begin_several_digests_are_refused(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "app", store, 1, monkeypatch)
    make(tmp_path / "app", store, 2, monkeypatch)
    monkeypatch.setattr("packer.api.locations._SHORT_DIGEST", __import__("re").compile(r"\Z"))
    with pytest.raises(InvalidParameter, match="begins 2 digests"):
        packer.inspect("sha256:", store=store)


def test_tag_names_a_version_and_says_what_it_replaced(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = (make(tmp_path / "app", store, number, monkeypatch) for number in (1, 2))
    assert packer.tag("app:1", "stable", store=store).replaced == ""
    assert packer.tag("app:1", "stable", store=store).replaced == ""
    done = packer.tag(two[7:19], "stable", store=store)
    assert (done.digest, done.replaced) == (two, one)
    for bad in ("", "a b", "-x", one, "x" * 300):
        with pytest.raises(InvalidParameter):
            packer.tag("app:1", bad, store=store)
    with pytest.raises(NotFound):
        packer.tag("nosuch", "stable", store=store)


def tags(store: Path) -> list[str]:
    return [row.tag for row in packer.versions(store=store)]


@pytest.mark.slow
def test_forget_names(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two, _ = (make(tmp_path / "app", store, number, monkeypatch) for number in (1, 2, 3))
    packer.tag("app:1", "stable", store=store)
    with pytest.raises(NotFound):
        packer.forget(["app:2", "nosuch"], store=store)
    with pytest.raises(NotFound, match="it is an application"):
        packer.forget(["app"], store=store)
    assert len(tags(store)) == 4  # all or nothing
    done = packer.forget([two[:19]], store=store, dry_run=True)
    assert [row.tag for row in done.forgotten] == ["app:2"]
    assert done.freed_bytes > 0
    assert len(tags(store)) == 4
    assert packer.forget(["stable"], store=store).freed_bytes == 0
    packer.tag("app:1", "stable", store=store)
    assert {row.tag for row in packer.forget([one], store=store).forgotten} == {"app:1", "stable"}
    assert tags(store) == ["app:2", "app:3"]


@pytest.mark.slow
def test_forget_by_policy(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(1, 7):
        make(tmp_path / "app", store, number, monkeypatch, day=10 * number)
    packer.tag("app:6", "app:latest", store=store)  # another name is no other version
    packer.tag("app:1", "other:1", store=store)
    done = packer.forget(["app"], keep_last=1, dry_run=True, store=store)
    assert [one.version.tag for one in done.kept] == ["app:6", "app:latest"]
    done = packer.forget(
        ["app"], keep_last=1, keep_within=timedelta(days=20), dry_run=True, store=store
    )
    assert [(one.version.tag, one.reasons) for one in done.kept] == [
        ("app:4", ("within",)),
        ("app:5", ("within",)),
        ("app:6", ("last", "within")),
        ("app:latest", ("last", "within")),
    ]
    done = packer.forget([], keep_last=1, dry_run=True, store=store)
    assert [one.version.tag for one in done.kept] == ["app:6", "app:latest", "other:1"]
    before = packer.usage(store=store)
    assert before.garbage_bytes == 0
    done = packer.forget(["app"], keep_last=2, store=store)
    assert tags(store) == ["app:5", "app:6", "app:latest", "other:1"]
    collected = packer.gc(store=store, grace_seconds=0)
    assert collected.bytes == done.freed_bytes > 3000
    assert packer.usage(store=store).bytes == before.bytes - collected.bytes
    for row in packer.versions(store=store):
        packer.verify(row.tag, store=store)


@pytest.mark.parametrize(
    ("names", "options"),
    [
        ([], {}),
        (["app"], {"keep_last": 0}),
        (["app"], {"keep_last": -1}),
        (["app"], {"keep_within": timedelta()}),
        (["app"], {"keep_within": timedelta(-1)}),
    ],
)
def test_policies_out_of_range(names: list[str], options: dict[str, object], store: Path) -> None:
    LayoutStore(store)
    with pytest.raises(InvalidParameter):
        packer.forget(names, store=store, **options)  # type: ignore[arg-type]
    assert packer.gc(store=store).freed_bytes == 0


def test_a_policy_for_a_version_names_its_application(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "app", store, 1, monkeypatch)
    with pytest.raises(NotFound, match="the application of this version is app"):
        packer.forget(["app:1"], keep_last=1, store=store)


def test_usage_counts_what_only_one_application_needs(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "app", store, 1, monkeypatch)
    make(tmp_path / "app", store, 2, monkeypatch)
    packer.tag("app:1", "copy:1", store=store)
    found = packer.usage(store=store)
    by_name = {row.app: row for row in found.apps}
    assert list(by_name) == ["app", "copy"]
    assert by_name["copy"].own_bytes == 0
    assert 0 < by_name["app"].own_bytes < by_name["app"].stored_bytes == found.bytes
    assert found.caches > 0
    assert packer.gc(store=store, caches=True, dry_run=True).cache_bytes == found.cache_bytes
    assert packer.gc(store=store, caches=True).cache_bytes == found.cache_bytes
    assert packer.usage(store=store).caches == 0


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    missing = tmp_path / "nosuch"
    assert packer.versions(store=missing) == []
    assert packer.usage(store=missing).bytes == 0
    assert packer.gc(store=missing).freed_bytes == 0
    assert not missing.exists()
    with pytest.raises(InvalidParameter):
        packer.gc(store=packer.MemoryStore())


@pytest.mark.parametrize("grace", [-1.0, float("nan"), float("inf")])
def test_a_grace_out_of_range(grace: float, store: Path) -> None:
    with pytest.raises(InvalidParameter):
        packer.gc(store=store, grace_seconds=grace)


def test_caches_have_a_limit(tmp_path: Path) -> None:
    for number in range(5):
        path = tmp_path / f"{number}"
        path.write_bytes(b"x" * 10)
        os.utime(path, (number, number))
    (tmp_path / "recipes.0123abcd").write_bytes(b"left by a killed process")
    os.utime(tmp_path / "recipes.0123abcd", (9, 9))
    (tmp_path / "recipes.89abcdef").write_bytes(b"new")
    assert trim_caches(str(tmp_path), 33, dry_run=True) == (3, 44)
    assert trim_caches(str(tmp_path), 33) == (3, 44)
    assert sorted(os.listdir(tmp_path)) == ["2", "3", "4", "recipes.89abcdef"]
    assert trim_caches(str(tmp_path), 1)[0] == 3  # the newest may be larger than the limit
    assert os.listdir(tmp_path) == ["recipes.89abcdef"]
    assert trim_caches(str(tmp_path / "nosuch")) == (0, 0)


@pytest.mark.slow
def test_thirty_versions_forgotten_and_collected_beside_a_running_pack(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Would catch: garbage collection that takes the running pack's base, or its fresh blobs.
    for number in range(1, 31):
        make(tmp_path / "app", store, number, monkeypatch)
    for path in (store / "blobs" / "sha256").iterdir():
        os.utime(path, (time.time() - 86_400,) * 2)
    tree = tmp_path / "next"
    shutil.copytree(tmp_path / "app", tree)
    for number in range(600):
        (tree / f"big-{number}").write_bytes(os.urandom(100_000))
    pack = subprocess.Popen(
        [sys.executable, "-m", "packer", "pack", tree, "--tag", "app:31", "--store", store]
    )
    uses = store / "ingest"
    deadline = time.monotonic() + 60
    while not list(uses.glob("use-*")):
        assert time.monotonic() < deadline
        assert pack.poll() is None
    done = packer.forget(["app"], keep_last=1, store=store)
    assert len(done.forgotten) == 29
    packer.forget(["app:30"], store=store)  # the base of the pack that runs
    freed = 0
    while pack.poll() is None:  # as often as the machine's speed allows
        freed += packer.gc(store=store, grace_seconds=0).bytes
        time.sleep(0.01)
    assert pack.returncode == 0
    assert tags(store) == ["app:31"]
    packer.verify("app:31", store=store)
    freed += packer.gc(store=store, grace_seconds=0).bytes
    assert freed > 30 * 3000 / 2  # once the pack needed it no more
    packer.verify("app:31", store=store)
    assert not list(uses.glob("use-*"))
    assert packer.usage(store=store).garbage_bytes == 0


def pulled(store: Path, place: str, root: Path, **options: object) -> tuple[str, ...]:
    done = packer.pull(place, root, store=store, update=True, **options)  # type: ignore[arg-type]
    return done.forgotten


@pytest.mark.slow
def test_pull_keeps_the_last_two_and_what_was_packed_here(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, out = tmp_path / "there", tmp_path / "out"
    for number in range(1, 6):
        make(tmp_path / "app", there, number, monkeypatch)
    packer.pack(out.parent / "app", store=store, tag="app:mine")
    for number in (1, 2):
        assert pulled(store, f"oci:{there}:app:{number}", out) == ()
    assert pulled(store, f"oci:{there}:app:1", out) == ()  # a rollback: now 1 is the last
    for path in (store / "blobs" / "sha256").iterdir():
        os.utime(path, (time.time() - 86_400,) * 2)
    before = packer.usage(store=store)
    assert pulled(store, f"oci:{there}:app:3", out) == ("app:2",)
    assert tags(store) == ["app:mine", "app:1", "app:3"]
    assert packer.usage(store=store).garbage_bytes == 0
    assert packer.usage(store=store).blobs < before.blobs + 4
    assert pulled(store, f"oci:{there}:app:4", out, keep=None) == ()
    assert pulled(store, f"oci:{there}:app:5", out, keep=1) == ("app:1", "app:3", "app:4")
    assert tags(store) == ["app:mine", "app:5"]
    assert packer.versions(store=store)[-1].origin == f"oci:{there}:app:5"
    packer.verify("app:5", store=store)
    packer.verify("app:mine", store=store)
    with pytest.raises(InvalidParameter):
        packer.pull(f"oci:{there}:app:1", out, store=store, keep=0)


@pytest.mark.slow
def test_packing_under_the_name_of_a_pulled_version_protects_it(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, out = tmp_path / "there", tmp_path / "out"
    for number in (1, 2):
        make(tmp_path / "app", there, number, monkeypatch)
    pulled(store, f"oci:{there}:app:1", out)
    (out / "mine").write_text("changed here, and nowhere else")
    packer.pack(out, store=store, tag="app:1")
    assert pulled(store, f"oci:{there}:app:2", tmp_path / "two", keep=1) == ()
    assert tags(store) == ["app:1", "app:2"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_store_that_cannot_be_written_serves_a_pull_that_finds_everything(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    # Tests may run as root, whom no mode stops.
    there = tmp_path / "there"
    for version in (1, 2, 3):
        make(tmp_path / "app", there, version, monkeypatch)
        pulled(store, f"oci:{there}:app:{version}", tmp_path / "out", keep=None)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("packer.stores.layout_directory.locked", refuse)
    assert pulled(store, f"oci:{there}:app:3", tmp_path / "new", keep=1) == ()
    assert (tmp_path / "new" / "only-3").exists()
    with pytest.raises(OSError, match=os.strerror(number)):
        packer.gc(store=store)
