"""Keeping house and repairing beside a real registry."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import packer
from packer.cli.main import main
from packer.stores.layout import LayoutStore
from tests.builders import flip
from tests.conformance.gap import Gap, near

pytestmark = pytest.mark.registry


def largest_blob(store: Path) -> Path:
    return max((store / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size)


def test_a_pulled_version_is_repaired_from_its_registry(
    gap: Gap, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    for tag in ("1.4.1", "1.4.2"):
        packer.pull(near(gap, tag), tmp_path / "out", store=store, update=True)
    assert [row.origin for row in packer.versions(store=store)] == [
        near(gap, "1.4.1"),
        near(gap, "1.4.2"),
    ]
    path = largest_blob(store)
    flip(path)
    assert main(["verify", "--all", "--store", str(store)]) == 4
    assert main(["repair", "--all", "--store", str(store)]) == 0
    assert "1 of 1 damaged blob fetched again" in capsys.readouterr().out
    assert main(["verify", "--all", "--store", str(store)]) == 0
    path.unlink()
    name = gap.digests["1.4.2"][7:19]
    capsys.readouterr()
    assert (
        main(["repair", name, "--from", near(gap, "1.4.1"), "--store", str(store), "--json"]) == 0
    )
    (row,) = json.loads(capsys.readouterr().out)["versions"]
    assert (row["damaged_blobs"], row["repaired_blobs"]) == (1, 1)
    assert row["sources"] == [near(gap, "1.4.1")]
    assert main(["verify", "--all", "--store", str(store)]) == 0


def test_an_archive_is_proved_with_its_base_in_the_registry(gap: Gap, tmp_path: Path) -> None:
    archive = f"oci-archive:{tmp_path}/update.tar:1.4.2"
    packer.copy(near(gap, "1.4.2"), archive, have="1.4.1", store=tmp_path / "none")
    done = packer.verify(archive, base_from=near(gap, "1.4.1"), store=tmp_path / "none")
    assert done.left_out_blobs == len(gap.blobs["1.4.2"] & gap.blobs["1.4.1"])
    assert [base.split()[1] for base in done.bases] == [gap.digests["1.4.1"]]


def test_a_pull_beside_garbage_collection_keeps_its_blobs(gap: Gap, tmp_path: Path) -> None:
    # Would catch: a collection that removes a blob which a running pull has found and counts on.
    store = tmp_path / "store"
    packer.pull(near(gap, "1.4.1"), tmp_path / "one", store=store)
    layout = LayoutStore(store)
    for tag, _ in list(layout.tags()):
        layout.untag(tag)
    removed = []

    def collect(_: packer.Progress) -> None:
        removed.append(packer.gc(store=store, grace_seconds=0).blobs)

    done = packer.pull(near(gap, "1.4.2"), tmp_path / "two", store=store, progress=collect)
    assert removed
    assert done.fetched_blobs == len(gap.lacking)
    packer.verify(near(gap, "1.4.2"), store=store)


def test_what_lies_in_the_registry_is_not_counted_here(gap: Gap, tmp_path: Path) -> None:
    store = tmp_path / "store"
    packer.pack(gap.trees["1.4.2"], tag="app:1.4.2", base=near(gap, "1.4.1"), store=store)
    (row,) = packer.versions(store=store)
    assert row.stored_bytes is not None
    assert row.new_bytes is not None
    assert row.new_bytes < row.stored_bytes - 2_900_000
    assert packer.forget(["app:1.4.2"], dry_run=True, store=store).freed_bytes == row.new_bytes
    packer.gc(store=store, grace_seconds=0)  # the base's manifest, which nothing names here
    assert packer.usage(store=store).bytes == row.new_bytes
    assert [one.condition for one in packer.verify_all(store=store)] == ["sound"]
    assert [one.why for one in packer.repair(store=store)] == [""]
