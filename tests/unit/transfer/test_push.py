"""Which version a push means."""

from __future__ import annotations

from pathlib import Path

import pytest

import packer
from packer.errors import InvalidParameter, NotFound
from packer.stores.layout import LayoutStore


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "work" / "app-1.4.2"
    root.mkdir(parents=True)
    (root / "file").write_text("old")
    monkeypatch.chdir(root.parent)
    return root


def content(layout: Path, tag: str) -> bytes:
    return b"".join(packer.cat(tag, "file", store=layout))


def test_a_directory_is_packed_whatever_a_version_is_called(app: Path, tmp_path: Path) -> None:
    store, there = tmp_path / "s", tmp_path / "there"
    packer.pack("app-1.4.2", store=store)
    app.joinpath("file").write_text("new")
    with pytest.raises(InvalidParameter, match=r"\./app-1\.4\.2 means the directory, sha256:"):
        packer.push(f"oci:{there}:1", "app-1.4.2", store=store)
    assert not there.exists()
    packer.push(f"oci:{there}:1", Path("app-1.4.2"), store=store)
    assert content(there, "1") == b"new"
    app.joinpath("file").write_text("newer")
    packer.push(f"oci:{there}:2", "./app-1.4.2", store=store)
    assert content(there, "2") == b"newer"


def test_a_name_is_a_version_where_no_directory_has_it(app: Path, tmp_path: Path) -> None:
    store, there = tmp_path / "s", tmp_path / "there"
    packed = packer.pack(app, store=store, tag="app:1")
    versions: list[str | packer.Packed] = ["app:1", packed.digest, packed]
    for number, version in enumerate(versions):
        packer.push(f"oci:{there}:{number}", version, store=store)
        assert content(there, str(number)) == b"old"


def test_without_a_version_the_one_with_the_name_goes(app: Path, tmp_path: Path) -> None:
    store, there = tmp_path / "s", tmp_path / "there"
    for tag in ("1", "2", "3"):
        app.joinpath("file").write_text(tag)
        packer.pack(app, store=store, tag=tag)
    packer.push(f"oci:{there}:2", store=store)
    assert content(there, "2") == b"2"
    # Whatever was packed last: a push means a name, not what happened before it.
    with pytest.raises(NotFound, match="other"):
        packer.push(f"oci:{there}:other", store=store)


def test_without_a_version_another_store_has_its_own(app: Path, tmp_path: Path) -> None:
    one, two, there = tmp_path / "one", tmp_path / "two", tmp_path / "there"
    packer.pack(app, store=two, tag="1")
    app.joinpath("file").write_text("new")
    packer.pack(app, store=one, tag="1")
    packer.push(f"oci:{there}:1", store=two)
    assert content(there, "1") == b"old"
    packer.push(f"oci:{there}-2:1", store=LayoutStore(str(one)))
    assert content(tmp_path / "there-2", "1") == b"new"
    with pytest.raises(NotFound):
        packer.push(f"oci:{there}:1", store=tmp_path / "empty")


@pytest.mark.parametrize("name", ["app-1.4.2", "./app-1.4.2", Path("app-1.4.2")])
def test_an_estimate_packs_nothing(name: str | Path, app: Path, tmp_path: Path) -> None:
    store = tmp_path / "s"
    with pytest.raises(InvalidParameter, match="is no version: pack it first"):
        packer.estimate(name, f"oci:{tmp_path / 'there'}:1", store=store)  # type: ignore[arg-type]
    assert not packer.versions(store=store)
