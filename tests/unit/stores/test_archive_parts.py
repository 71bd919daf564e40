"""Archives in parts."""

from __future__ import annotations

import io
import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from packer.errors import (
    DigestMismatch,
    IntegrityError,
    InvalidParameter,
    NotFound,
    PackerError,
    SizeMismatch,
    StoreError,
)
from packer.oci import DATA_TYPE, MANIFEST_TYPE, Descriptor, Manifest, digest_of
from packer.stores.archive.store import ArchiveStore
from packer.stores.layout import LayoutStore
from packer.stores.memory import MemoryStore
from packer.transfer.copy_graph import copy
from tests.artifacts import make
from tests.builders import noise
from tests.registry_server import need_program
from tests.unit.stores.test_archive import SIZES, archive, check
from tests.unit.stores.test_archive import source as source


def parts_of(path: Path) -> list[Path]:
    return sorted(path.parent.glob(path.name + ".[0-9]*"))


@pytest.mark.parametrize("part_bytes", [1000, 4096, 7777, 29_000, 10**9])
def test_parts_make_up_the_archive(tmp_path: Path, source: MemoryStore, part_bytes: int) -> None:
    whole, path = tmp_path / "whole.tar", tmp_path / "a.tar"
    archive(whole, source)
    archive(path, source, part_bytes)
    data = whole.read_bytes()
    parts = parts_of(path)
    assert [part.read_bytes() for part in parts] == [
        data[at : at + part_bytes] for at in range(0, len(data), part_bytes)
    ]
    assert [part.name for part in parts] == [f"a.tar.{n:03}" for n in range(len(parts))]
    subprocess.run(
        [need_program("sha256sum"), "--check", "--strict", "--quiet", "a.tar.sha256"],
        cwd=tmp_path,
        check=True,
    )
    check(path, source)
    blob = Descriptor("", digest_of(noise("layer 20000", 20_000)), 20_000)
    store = ArchiveStore(path)
    for start, length in ((0, 1), (1, 19_998), (12_345, 7655)):
        with store.fetch(blob, start, length) as reader:
            assert reader.read() == noise("layer 20000", 20_000)[start : start + length]
    assert len(os.listdir(tmp_path)) == len(parts) + 2


def spoil(part: Path, how: str) -> type[PackerError]:
    data = part.read_bytes()
    if how == "missing":
        part.unlink()
        return NotFound
    if how == "flipped":
        part.write_bytes(bytes(byte ^ 1 for byte in data))  # not in padding alone
        return DigestMismatch
    part.write_bytes(data[:-1] if how == "short" else data + b"x" if how == "long" else b"")
    return SizeMismatch


@pytest.mark.slow
@pytest.mark.parametrize("how", ["missing", "short", "long", "empty", "flipped"])
def test_a_damaged_part_is_named_and_written_again(
    tmp_path: Path, source: MemoryStore, how: str
) -> None:
    path = tmp_path / "a.tar"
    archive(path, source, 3000)
    parts = parts_of(path)
    good = {part.name: part.read_bytes() for part in parts}
    for part in parts:
        before = {other: other.stat().st_mtime_ns for other in parts}
        error = spoil(part, how)
        with pytest.raises(error) as caught:
            check(path, source)
        assert str(part) in str(caught.value)
        again = archive(path, source, 3000)
        assert not again.unchanged
        assert {part.name: part.read_bytes() for part in parts_of(path)} == good
        after = {other: other.stat().st_mtime_ns for other in parts}
        assert {other for other in parts if before[other] != after[other]} == {part}
        check(path, source)
    assert archive(path, source, 3000).unchanged


def test_parts_that_are_complete_are_kept(tmp_path: Path, source: MemoryStore) -> None:
    # Broken off at each blob in turn; the list names complete parts only, reading says so.
    whole = tmp_path / "whole.tar"
    archive(whole, source)
    for count in range(len(SIZES) + 1):
        folder = tmp_path / str(count)
        folder.mkdir()
        path = folder / "a.tar"
        failing = Failing(source, count)
        with pytest.raises(StoreError):
            copy(failing, "v1", ArchiveStore(path, part_bytes=2000), "v1", jobs=1)
        assert not [name for name in os.listdir(folder) if name.endswith(".tmp")]
        kept = {part: part.stat().st_mtime_ns for part in parts_of(path)}
        with pytest.raises(NotFound, match="never finished"):
            ArchiveStore(path)
        done = copy(source, "v1", ArchiveStore(path, part_bytes=2000), "v1")
        assert {part: part.stat().st_mtime_ns for part in kept} == kept
        assert b"".join(part.read_bytes() for part in parts_of(path)) == whole.read_bytes()
        # One blob may reach from a part that was kept into one that was not.
        assert done.blobs_copied <= len(SIZES) + 1 - max(0, count - 2)


class Failing(MemoryStore):
    """Fails after some blobs."""

    def __init__(self, source: MemoryStore, count: int) -> None:
        super().__init__()
        self._blobs, self._tags, self._manifests = source._blobs, source._tags, source._manifests
        self._counter = itertools.count()
        self._count = count

    def fetch(self, blob: Descriptor, start: int = 0, length: int | None = None):  # type: ignore[no-untyped-def]
        if length is not None and next(self._counter) >= self._count:
            raise StoreError("the line is dead")
        return super().fetch(blob, start, length)


def test_other_parts_are_not_overwritten(tmp_path: Path, source: MemoryStore) -> None:
    path = tmp_path / "a.tar"
    archive(path, source, 3000)
    before = {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)}
    with pytest.raises(InvalidParameter, match="of another size"):
        archive(path, source, 4000)
    make(source, [77], "v1")
    with pytest.raises(InvalidParameter, match="another archive"):
        archive(path, source, 3000)
    with pytest.raises(InvalidParameter, match="split into parts"):
        archive(path, source)
    assert {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)} == before
    (tmp_path / "a.tar.sha256").unlink()
    with pytest.raises(InvalidParameter, match="but no"):
        archive(path, source, 3000)
    with pytest.raises(NotFound, match="list of parts"):
        ArchiveStore(path)
    archive(tmp_path / "b.tar", source)
    with pytest.raises(InvalidParameter, match="not split"):
        archive(tmp_path / "b.tar", source, 3000)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "",
        lambda text: text.replace("layer-packer", "other"),
        lambda text: text.replace(" bytes in parts of 3000", " bytes in parts of 0"),
        lambda text: text.replace("# layer-packer: ", "# layer-packer: 9"),
        lambda text: text.replace("  a.tar", "  ../a.tar"),
        lambda text: text + text.splitlines()[-1] + "\n",
        lambda text: text.replace(".001", ".999"),
        lambda text: text.replace("  ", " "),
        lambda text: text + "\n",
    ],
)
def test_a_malformed_list_is_refused(
    tmp_path: Path, source: MemoryStore, change: Callable[[str], str]
) -> None:
    path = tmp_path / "a.tar"
    archive(path, source, 3000)
    sums = tmp_path / "a.tar.sha256"
    text = sums.read_text()
    assert change(text) != text
    sums.write_text(change(text))
    with pytest.raises((IntegrityError, NotFound)) as caught:
        check(path, source)
    assert "a.tar" in str(caught.value)


def test_parts_may_be_too_many(tmp_path: Path, source: MemoryStore) -> None:
    make(source, [1_200_000], "v1")
    with pytest.raises(InvalidParameter, match="the limit is 1000"):
        archive(tmp_path / "a.tar", source, 1000)
    with pytest.raises(InvalidParameter, match="below"):
        archive(tmp_path / "a.tar", source, 999)
    assert os.listdir(tmp_path) == []


def test_a_split_archive_is_only_written_at_once(tmp_path: Path) -> None:
    store = ArchiveStore(tmp_path / "a.tar", part_bytes=3000)
    with pytest.raises(InvalidParameter, match="at once"):
        store.push(Descriptor(DATA_TYPE, digest_of(b"x"), 1), io.BytesIO(b"x"))
    with pytest.raises(InvalidParameter, match="at once"):
        store.put_manifest(Manifest(Descriptor("", digest_of(b""), 0), ()).encode(), MANIFEST_TYPE)
    with pytest.raises(InvalidParameter, match="at once"):
        store.untag("x")


def test_names_of_archives(tmp_path: Path, source: MemoryStore) -> None:
    for name in ("a\nb", "a\\b", "a\r"):
        with pytest.raises(InvalidParameter, match="cannot hold"):
            archive(tmp_path / name, source, 3000)
    for name in ("x" * 240, "\U0001f4e6" * 50, "a b", "-"):
        for part_bytes in (None, 3000):
            folder = tmp_path / f"{len(name)}-{part_bytes}"
            archive(folder / name, source, part_bytes)
            check(folder / name, source)


def test_parts_may_be_renamed(tmp_path: Path, source: MemoryStore) -> None:
    archive(tmp_path / "a.tar", source, 3000)
    for path in list(tmp_path.iterdir()):
        shutil.move(path, tmp_path / path.name.replace("a.tar", "b.tar"))
    check(tmp_path / "b.tar", source)


def test_a_disk_that_is_full(tmp_path: Path, source: MemoryStore) -> None:
    limit = 'ulimit -f 8; exec "$@"'
    code = (
        "import sys, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from packer.transfer.copy_graph import copy\n"
        "from packer.stores.archive.store import ArchiveStore\n"
        "from packer.stores.layout import LayoutStore\n"
        "copy(LayoutStore(sys.argv[1]), 'v1', ArchiveStore(sys.argv[2]), 'v1')"
    )
    copy(source, "v1", LayoutStore(tmp_path / "layout"), "v1")
    (tmp_path / "out").mkdir()
    done = subprocess.run(
        [
            "sh",
            "-c",
            limit,
            "sh",
            sys.executable,
            "-c",
            code,
            tmp_path / "layout",
            tmp_path / "out/a.tar",
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert "OSError: [Errno 27]" in done.stderr
    assert os.listdir(tmp_path / "out") == []
