"""Looking into the archives of a version, as they are stored; and where bytes went."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import os
import random
import re
import tarfile
import zipfile
from pathlib import Path
from typing import NoReturn

import pytest

import packer
from packer.api.locations import open_version
from packer.cli.main import main
from packer.opening.members import stored_pieces
from packer.opening.members.member_listing import Listing, list_members
from packer.opening.members.member_reading import read_member
from packer.opening.members.spooling import spooled
from packer.opening.members.stored_pieces import Run, Stream
from packer.reading.entry_content import FileReader
from tests.unit.opening.test_member_listing import header, tar, tgz, zipped


def values(count: int, changed: str = "") -> bytes:
    rng = random.Random(1)
    lines = [f"key{at}: {rng.getrandbits(64):x}" for at in range(count)]
    return ("\n".join(lines) + changed).encode()


def test_diff_ls_and_cat_inside(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    for number, changed in ((1, ""), (2, "\nnew: line")):
        root = tmp_path / f"v{number}"
        root.mkdir()
        chart = {"app/values.yaml": values(2000, changed), "app/Chart.yaml": b"name: app"}
        (root / f"app-1.4.{number}.tgz").write_bytes(tgz(chart))
        (root / "same.tgz").write_bytes(tgz({"one": b"1" * 600}))
        (root / "lib.zip").write_bytes(zipped({"a": values(99), f"b{number}": b"b"}))
        packer.pack(root, store=store, tag=f"app:{number}", opening="all")
    plain = packer.diff("app:1", "app:2", store=store)
    assert not any(change.inside for change in plain)
    changes = packer.diff("app:1", "app:2", store=store, inside=True)
    assert [change for change in changes if not change.inside] == plain
    assert {(change.change, change.path) for change in changes if change.inside} == {
        ("changed", "app-1.4.2.tgz!/app/values.yaml"),
        ("removed", "lib.zip!/b1"),
        ("added", "lib.zip!/b2"),
    }
    listed = packer.ls("app:2", store=store, inside=True)
    assert [item.path for item in listed if item.kind == "member"] == [
        "app-1.4.2.tgz!/app/values.yaml",
        "app-1.4.2.tgz!/app/Chart.yaml",
        "lib.zip!/a",
        "lib.zip!/b2",
        "same.tgz!/one",
    ]
    path = "app-1.4.2.tgz!/app/Chart.yaml"
    assert b"".join(packer.cat("app:2", path, store=store, inside=True)) == b"name: app"
    for missing in ("app-1.4.2.tgz!/nothing", "nothing!/x"):
        with pytest.raises(packer.NotFound):
            list(packer.cat("app:2", missing, store=store, inside=True))
    with pytest.raises(packer.NotFound):
        list(packer.cat("app:2", path, store=store))


def jar(version: int) -> dict[str, bytes]:
    """Return the classes of a version: two of sixty differ."""
    texts = {f"d/{at}.txt": values(100 + at) for at in range(60)}
    texts["d/7.txt"] += b"%d" % version
    texts["d/40.txt"] = b"%d" % version + texts["d/40.txt"]
    return texts


def timed_zip(version: int) -> bytes:
    """Return a jar whose entries have the version's time."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", 8) as archive:
        for name, data in jar(version).items():
            info = zipfile.ZipInfo(name, (2024, 1, 1 + version, 1, 1, 2))
            info.compress_type = 8
            archive.writestr(info, data)
    return out.getvalue()


def test_inside_of_a_zip_with_new_times_in_all_headers(tmp_path: Path) -> None:
    """What lies between its streams is one delta, given in parts; so it is in a jar in a tgz."""
    store = str(tmp_path / "store")
    for version in range(3):
        root = tmp_path / f"v{version}"
        root.mkdir()
        (root / "a.jar").write_bytes(timed_zip(version))
        (root / "b.tgz").write_bytes(tgz({"lib/a.jar": timed_zip(version)}))
        packer.pack(root, store=store, tag=f"app:{version}")
    for version in (1, 2):
        opened = packer.inspect(f"app:{version}", store=store).opened
        assert {each.path for each in opened} == {"a.jar", "b.tgz"}
        listed = packer.ls(f"app:{version}", store=store, inside=True)
        found = {item.path: item.size for item in listed if item.kind == "member"}
        texts = jar(version)
        for name, data in texts.items():
            assert found[f"a.jar!/{name}"] == found[f"b.tgz!/lib/a.jar!/{name}"] == len(data)
            if name in ("d/0.txt", "d/7.txt", "d/40.txt", "d/59.txt"):
                for path in (f"a.jar!/{name}", f"b.tgz!/lib/a.jar!/{name}"):
                    content = packer.cat(f"app:{version}", path, store=store, inside=True)
                    assert b"".join(content) == data
        changes = packer.diff(f"app:{version - 1}", f"app:{version}", store=store, inside=True)
        assert {change.path for change in changes if change.inside} == {
            "b.tgz!/lib/a.jar",
            *(f"a.jar!/d/{at}.txt" for at in (7, 40)),
            *(f"b.tgz!/lib/a.jar!/d/{at}.txt" for at in (7, 40)),
        }
        patches = packer.patches(f"app:{version - 1}", f"app:{version}", store=store)
        assert {patch.path for patch in patches if patch.hunks} >= {"a.jar!/d/7.txt"}


def rows(listing: Listing | None) -> object:
    assert listing is not None
    return [(path, item[:5]) for path, item in listing.walk()], [*listing.all_problems()]


class Archives:
    """Archives of all kinds within one another."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)

    def text(self, size: int) -> bytes:
        line = b"key: %x\n" % self._rng.getrandbits(80)
        return (line + self._rng.randbytes(40).hex().encode() + b"\n") * (size // 30 + 1)

    def _odd(self, data: bytearray) -> bytes:
        """Return a tar archive, sometimes with what no tar program writes."""
        rng, how = self._rng, self._rng.random()
        headers = [at for at in range(0, len(data), 512) if data[at + 257 : at + 262] == b"ustar"]
        at = rng.choice(headers)
        if how < 0.1:  # padding that is not zeros
            size = int(data[at + 124 : at + 135], 8)
            data[at + 512 + size : at + 512 + size + -size % 512] = rng.randbytes(-size % 512)
        elif how < 0.2:  # a header that is kept as it is
            data[at + 329 : at + 345] = b"no device number"
            data[at + 148 : at + 156] = b" " * 8
            data[at + 148 : at + 156] = b"%06o\0 " % sum(data[at : at + 512])
        elif how < 0.3:  # no end
            del data[len(data.rstrip(b"\0")) :]
            data += bytes(-len(data) % 512)
        return bytes(data)

    def make(self, depth: int = 0) -> bytes:
        rng = self._rng
        inner = ["text", "noise", "gz", "tgz", "bz2"] if depth else ["tar.bz2"]
        kind = rng.choice(["tar", "tgz", "zip", *inner])
        if kind == "text" or depth > 3:
            return self.text(rng.choice([600, 3000, 20_000]))[: rng.choice([1, 511, 512, 99_999])]
        if kind == "noise":
            return rng.randbytes(rng.choice([0, 10, 5000]))
        if kind == "gz":
            within = self.make(depth + 1) if rng.random() < 0.5 else self.text(3000)
            return gzip.compress(within, rng.choice([1, 6, 9]), mtime=0)
        if kind == "bz2":
            return bz2.compress(self.text(200_000), rng.choice([1, 9])) + bz2.compress(b"more")
        out = io.BytesIO()
        names = [f"d{at}/{'x' * rng.randrange(120)}" for at in range(rng.randrange(1, 6))]
        if kind == "zip":
            with zipfile.ZipFile(out, "w") as archive:
                for name in names:
                    archive.writestr(name, self.make(depth + 1), rng.choice([0, 8, 8, 12]))
                archive.comment = rng.choice([b"", b"comment"])
            return out.getvalue()
        form = rng.choice([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
        with tarfile.open(fileobj=out, mode="w", format=form) as members:
            for name in names:
                data, info = self.make(depth + 1), tarfile.TarInfo(name)
                info.size = len(data)
                members.addfile(info, io.BytesIO(data))
                if rng.random() < 0.3:
                    link = tarfile.TarInfo("link" + name)
                    link.type, link.linkname = rng.choice([b"1", b"2"]), name
                    members.addfile(link)
        data = self._odd(bytearray(out.getvalue()))
        if kind == "tar":
            return data
        return gzip.compress(data, mtime=0) if kind == "tgz" else bz2.compress(data)


@pytest.mark.parametrize(
    "seed",
    [0, 4, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2, 3, *range(5, 16)))],
)
def test_what_is_stored_lists_like_the_file(seed: int, tmp_path: Path) -> None:
    data = Archives(seed).make()
    root = tmp_path / "v"
    root.mkdir()
    (root / "a").write_bytes(data)
    packer.pack(root, store=tmp_path / "store", tag="v:1", opening="all")
    version = open_version("v:1", store=tmp_path / "store")
    content = spooled([data])
    expected = list_members(lambda: Stream([Run(content, 0, len(data))]), 1 << 40, digests=True)
    with FileReader(version) as files:
        assert rows(files.members(0, digests=True)) == rows(expected)
        assert expected is not None
        for path, member in [*expected.walk()][:8]:
            if member.kind == "file":
                exact = read_member(lambda: Stream([Run(content, 0, len(data))]), path, 1 << 40)
                found = b"".join(files.member(0, path))
                assert found == b"".join(exact)
                assert len(found) == member.size


def test_nothing_is_compressed_to_look_inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Archives were rebuilt, bit for bit, to be inflated at once."""
    store, root = tmp_path / "store", tmp_path / "v"
    root.mkdir()
    chart = tgz({"app/values.yaml": values(900), "app/Chart.yaml": b"name: app"})
    layer = tgz({"etc/os-release": values(500), "lib.zip": zipped({"m": values(99)})})
    image = tar({"blobs/1": layer, "blobs/2": tgz({"x": values(300)}), "index.json": b"{}"})
    wheel = zipped({"a.py": values(99), "b.py": b"pass"})
    for number in (1, 2):
        bundle = {"charts/app.tgz": chart, "images/app.tar": image, "version": b"%d" % number}
        (root / "bundle.airgap").write_bytes(tgz(bundle))
        (root / "lib.whl").write_bytes(wheel)
        packer.pack(root, store=store, tag=f"app:{number}", opening="all")

    def refuse(*_: object) -> NoReturn:
        raise AssertionError("an archive is rebuilt")

    monkeypatch.setattr(stored_pieces, "rebuild", refuse)
    monkeypatch.setattr("packer.opening.rebuilder.rebuild", refuse)
    assert packer.inspect("app:1", store=store).opened
    listed = [entry.path for entry in packer.ls("app:1", store=store, inside=True)]
    assert "bundle.airgap!/images/app.tar!/blobs/1!/lib.zip!/m" in listed
    assert "bundle.airgap!/charts/app.tgz!/app/Chart.yaml" in listed
    changes = packer.diff("app:1", "app:2", store=store, inside=True)
    assert [each.path for each in changes if each.inside] == ["bundle.airgap!/version"]
    path = "bundle.airgap!/images/app.tar!/blobs/2!/x"
    assert b"".join(packer.cat("app:1", path, store=store, inside=True)) == values(300)
    monkeypatch.undo()
    path = "bundle.airgap!/images/app.tar!/blobs/1"
    assert b"".join(packer.cat("app:1", path, store=store, inside=True)) == layer


def test_what_changed_beside_the_content(tmp_path: Path) -> None:
    for number in (1, 2):
        root = tmp_path / f"v{number}"
        root.mkdir()
        for kind in ("mode", "target", "directory", "nothing"):
            with tarfile.open(root / f"{kind}.tar", "w") as archive:
                info = tarfile.TarInfo("run.sh")
                info.mode = 0o755 if (kind, number) == ("mode", 2) else 0o644
                info.mtime = number
                archive.addfile(info, io.BytesIO(b""))
                link = tarfile.TarInfo("current")
                link.type, link.linkname = tarfile.SYMTYPE, f"v{number}" * (kind == "target")
                archive.addfile(link)
                if (kind, number) == ("directory", 2):
                    new = tarfile.TarInfo("new")
                    new.type = tarfile.DIRTYPE
                    archive.addfile(new)
        packer.pack(root, store=tmp_path / "store", tag=f"v:{number}", opening="all")
    changes = packer.diff("v:1", "v:2", store=tmp_path / "store", inside=True)
    assert [(each.path, each.change, each.detail) for each in changes if each.inside] == [
        ("directory.tar!/new", "added", "directory"),
        ("mode.tar!/run.sh", "changed", "mode 0644 to 0755"),
        ("nothing.tar!/", "changed", "its compression or headers alone"),
        ("target.tar!/current", "changed", "target v1 to v2"),
    ]


def test_a_listing_that_stopped_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAYER_PACKER_STORE", str(tmp_path / "store"))
    for number in (1, 2):
        root = tmp_path / f"v{number}"
        root.mkdir()
        data = tar({"a": b"%d" % number})[:1024] + header("cut", b"0", 1 << 40)
        (root / "cut.tar").write_bytes(data)
        (root / "sound.tar").write_bytes(tar({"a": b"%d" % number}))
        assert main(["pack", str(root), "--tag", f"v:{number}", "-q"]) == 0
    capsys.readouterr()
    assert main(["ls", "v:1", "--inside"]) == 11
    found = capsys.readouterr()
    assert found.out.split() == [
        *("cut.tar", "cut.tar!/a", "cut.tar!/cut"),
        *("sound.tar", "sound.tar!/a"),
    ]
    reason = "cut.tar: not all of the archive is listed: the archive is cut short"
    assert reason in found.err
    assert main(["ls", "v:1", "--inside", "--json"]) == 11
    incomplete = [{"path": "cut.tar", "reason": "the archive is cut short"}]
    assert json.loads(capsys.readouterr().out)["incomplete"] == incomplete
    assert main(["ls", "v:1", "-l"]) == 0
    capsys.readouterr()
    assert main(["diff", "v:1", "v:2", "--inside", "--exit-code"]) == 11
    found = capsys.readouterr()
    assert re.search(r"^~ .* cut\.tar!/a$", found.out, re.MULTILINE)
    assert reason in found.err
    assert main(["diff", "v:1", "v:2", "--inside", "--json"]) == 11
    value = json.loads(capsys.readouterr().out)
    assert value["incomplete"] == incomplete
    assert {each["path"] for each in value["changes"]} == {
        *("cut.tar", "cut.tar!/a", "sound.tar", "sound.tar!/a"),
    }


def test_where_the_bytes_went(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    noise = random.Random(2).randbytes(300_000)
    root = tmp_path / "v"
    for name in ("one", "two"):
        (root / name).mkdir(parents=True)
    (root / "one" / "noise").write_bytes(noise)
    (root / "two" / "copy").write_bytes(noise)
    (root / "two" / "chart.tgz").write_bytes(tgz({"values.yaml": values(9000)}))
    first = packer.pack(root, store=store, tag="app:1", opening="all")
    parts = {part.path: part for part in first.parts}
    assert parts["one"].new_bytes == parts["two"].reused_bytes == 300_000
    assert parts["one"].stored_bytes + parts["two"].stored_bytes <= first.new_bytes
    assert sum(part.bytes for part in parts.values()) == first.bytes
    (root / "two" / "chart.tgz").write_bytes(tgz({"values.yaml": values(9000, "\nnew: 1")}))
    second = packer.pack(root, store=store, tag="app:2", opening="all")
    parts = {part.path: part for part in second.parts}
    assert parts["one"].reused_bytes == 300_000
    assert parts["one"].stored_bytes == 0
    assert parts["two"].delta_bytes > 0
    assert 0 < parts["two"].stored_bytes + second.index_bytes < second.new_bytes < 3000
    details = packer.inspect("app:2", store=store)
    assert details.parts == second.parts
    (chart,) = details.opened
    assert chart.path == os.path.join("two", "chart.tgz")
    assert chart.content_bytes > chart.bytes > 0 < chart.recipe_bytes < 1000
    again = packer.pack(root, store=store, tag="app:3", opening="all")
    assert again.unchanged
    assert all(part.stored_bytes == part.new_bytes == 0 for part in again.parts)
