"""Patches: what changed, to read, also in archives, and no more read than that needs."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import subprocess
import tarfile
import time
import zipfile
from pathlib import Path

import pytest

import packer
from packer.cli.patch_text import _lines
from packer.reading.entry_content import FileReader
from packer.stores.layout import LayoutStore
from packer.stores.memory import MemoryStore
from tests.builders import noise, text, write
from tests.conformance.make_samples import read_tree
from tests.registry_server import counting_proxy, run_registry


def tgz(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return gzip.compress(out.getvalue(), mtime=0)


def zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return out.getvalue()


def make(root: Path, number: int) -> Path:
    """A release with texts, links, modes, and archives in archives."""
    values = f"image: app:{number}\nreplicas: 1\n".encode()
    inner = tgz({"sub/values.yaml": values, "sub/same.txt": b"same\n"})
    write(
        root,
        {
            "app.yaml": text(1, 3000) + f"\nversion: {number}\n".encode() + text(2, 3000),
            f"charts/app-1.{number}.tgz": tgz({"app/values.yaml": values, "app/sub.tgz": inner}),
            "images/data.bin": noise(number, 2000) + b"\0",
            "pack.zip": zipped({"a.txt": b"a\n" + values, "b.txt": b"b\n"}),
            "no-end": b"line\nno end %d" % number,
            "with space": b"%d\n" % number,
            "latin": b"caf\xe9 %d\n" % number,
            "big.txt": text(number, 2_000_000),
            "same.txt": b"same\n",
            "mode.sh": b"x\n",
            "umlaut-\u00e4": b"%d\n" % number,
            os.fsdecode(b"odd\xff\tname"): b"%d\n" % number,
            f"only-{'ab'[number - 1]}": b"only here\n",
            f"empty-{'ab'[number - 1]}": b"",
            f"dir-{'ab'[number - 1]}/x": b"x\n",
        },
    )
    os.chmod(root / "mode.sh", 0o644 if number == 1 else 0o755)
    os.symlink(f"target-{number}", root / "link")
    if number == 1:
        (root / "kind").write_bytes(b"file\n")
    else:
        os.symlink("app.yaml", root / "kind")
    return root


@pytest.fixture
def store(tmp_path: Path) -> MemoryStore:
    store = MemoryStore()
    for number in (1, 2):
        packer.pack(make(tmp_path / f"v{number}", number), store=store, tag=f"app:{number}")
    return store


def found(store: MemoryStore, **options: object) -> dict[str, list[packer.Patch]]:
    out: dict[str, list[packer.Patch]] = {}
    for patch in packer.patches("app:1", "app:2", store=store, **options):  # type: ignore[arg-type]
        out.setdefault(patch.path, []).append(patch)
    return out


def changed(patch: packer.Patch) -> list[str]:
    return [
        line.mark + line.text for hunk in patch.hunks for line in hunk.lines if line.mark != " "
    ]


def test_every_kind_of_difference(store: MemoryStore) -> None:
    patches = found(store)
    assert not any(path.startswith("same") for path in patches)
    (app,) = patches["app.yaml"]
    assert (app.change, app.form, len(app.hunks)) == ("changed", "text", 1)
    assert changed(app) == ["-version: 1\n", "+version: 2\n"]
    assert len(app.hunks[0].lines) == 8
    assert patches["images/data.bin"][0].form == "binary"
    assert patches["big.txt"][0].form == "large"
    assert changed(patches["no-end"][0]) == ["-no end 1", "+no end 2"]
    assert changed(patches["latin"][0]) == ["-caf\udce9 1\n", "+caf\udce9 2\n"]
    (mode,) = patches["mode.sh"]
    assert (mode.form, mode.old_mode, mode.new_mode) == ("other", 0o100644, 0o100755)
    assert mode.detail == "mode 0644 to 0755"
    assert changed(patches["link"][0]) == ["-target-1", "+target-2"]
    gone, come = patches["kind"]
    assert (gone.change, gone.old_mode, changed(gone)) == ("removed", 0o100644, ["-file\n"])
    assert (come.change, come.new_mode, changed(come)) == ("added", 0o120777, ["+app.yaml"])
    assert changed(patches["only-b"][0]) == ["+only here\n"]
    assert changed(patches["only-a"][0]) == ["-only here\n"]
    assert (patches["empty-b"][0].form, patches["empty-b"][0].hunks) == ("text", ())
    assert patches["dir-b"][0].detail == "directory"


def test_archives_are_looked_into(store: MemoryStore) -> None:
    patches = found(store)
    lines = ["-image: app:1\n", "+image: app:2\n"]
    chart = "charts/app-1.2.tgz"
    (values,) = patches[f"{chart}!/app/values.yaml"]
    assert changed(values) == lines
    assert values.old_path == "charts/app-1.1.tgz!/app/values.yaml"
    assert changed(patches[f"{chart}!/app/sub.tgz!/sub/values.yaml"][0]) == lines
    assert f"{chart}!/app/sub.tgz!/sub/same.txt" not in patches
    assert patches[f"{chart}!/app/sub.tgz"][0].form == "binary"
    assert changed(patches["pack.zip!/a.txt"][0]) == lines
    assert "pack.zip!/b.txt" not in patches


def test_paths_choose(store: MemoryStore) -> None:
    assert set(found(store, paths=["app.yaml", "images/"])) == {"app.yaml", "images/data.bin"}
    chart = "charts/app-1.2.tgz"
    inside = found(store, paths=[f"{chart}!/app/values.yaml"])
    assert set(inside) == {f"{chart}!/app/values.yaml"}
    assert len(found(store, paths=["charts"])) == 5
    assert not found(store, paths=["same.txt"])
    for paths in (["nothing"], ["app.yam"]):
        with pytest.raises(packer.NotFound):
            packer.patches("app:1", "app:2", store=store, paths=paths)
    for options in (
        {"paths": ["../x"]},
        {"paths": [""]},
        {"context": -1},
        {"context": 5000},
        {"max_bytes": -1},
        {"max_bytes": 1 << 40},
    ):
        with pytest.raises(packer.InvalidParameter):
            packer.patches("app:1", "app:2", store=store, **options)


def test_bounds(store: MemoryStore) -> None:
    assert found(store, max_bytes=4_000_000)["big.txt"][0].form == "text"
    assert found(store, max_bytes=100)["app.yaml"][0].form == "large"
    assert len(found(store, context=0)["app.yaml"][0].hunks[0].lines) == 2


def test_texts_read_together_are_those_read_alone(
    store: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of names that occur twice, links, files above the bound, and a damaged archive."""
    for number in (3, 4):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as archive:
            for at in range(40):
                for name, data in (
                    (f"f{at % 30}", b"%d %d\n" % (at, number) * 50),
                    (f"d{at}/sub.zip", zipped({"a": b"%d\n" % number, "b": text(number, 3000)})),
                ):
                    info = tarfile.TarInfo(name)
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))
            hard = tarfile.TarInfo("hard")
            hard.type, hard.linkname = tarfile.LNKTYPE, "f3"
            archive.addfile(hard)
        data = out.getvalue()
        root = write(
            tmp_path / f"v{number}",
            {"a.tar": data, "a.tgz": gzip.compress(data, mtime=0), "cut.tgz": b"", "odd.tar": b""},
        )
        (root / "cut.tgz").write_bytes(gzip.compress(data, mtime=0)[:-3000])
        (root / "odd.tar").write_bytes(data[: len(data) // 3] + b"x" + data[len(data) // 3 :])
        packer.pack(root, store=store, tag=f"app:{number}")
    together = list(packer.patches("app:3", "app:4", store=store, max_bytes=2000))
    monkeypatch.setattr("packer.reading.file_patches.AHEAD_BYTES", 0)
    alone = list(packer.patches("app:3", "app:4", store=store, max_bytes=2000))
    assert together == alone
    forms = {patch.form for patch in together}
    assert forms >= {"text", "binary", "large", "unreadable"}
    assert len(together) > 200


def test_many_changes_in_one_archive_take_one_pass(tmp_path: Path) -> None:
    store = MemoryStore()
    for number in (1, 2):
        files = {f"f{at}": b"%d %d\n" % (at, number) for at in range(3000)}
        packer.pack(
            write(tmp_path / f"v{number}", {"a.tgz": tgz(files)}), store=store, tag=f"app:{number}"
        )
    start = time.process_time()
    assert len(found(store)) == 3001
    assert time.process_time() - start < 20  # minutes, if each was looked for by itself


def test_texts_read_together_are_bounded(tmp_path: Path) -> None:
    """Whatever an archive says of the sizes of its files."""
    store = MemoryStore()
    files = {f"f{at}": b"x" * 1000 for at in range(10)}
    packer.pack(write(tmp_path / "v", {"a.tgz": tgz(files)}), store=store, tag="app:1")
    with FileReader(packer.open_version("app:1", store=store)) as reader:
        read = reader.member_texts(0, files.keys(), 2000, 5500)
        assert sorted(map(type, read.values()), key=str) == [bytes] * 5 + [str] * 5
        assert "more than it says" in str(read["f9"])
        assert reader.member_texts(0, {"f1", "no"}, 99, 5500) == {"f1": b"x" * 100}


def as_text(store: MemoryStore, **options: object) -> bytes:
    lines = [
        line
        for patch in packer.patches("app:1", "app:2", store=store, **options)  # type: ignore[arg-type]
        for line in _lines(patch)
    ]
    return "".join(line + "\n" for line in lines).encode("utf-8", "surrogateescape")


@pytest.mark.parametrize("tool", ["git", "patch"])
def test_tools_apply_it(store: MemoryStore, tmp_path: Path, tool: str) -> None:
    """The text of one version and the patch give the text of the other."""
    if shutil.which(tool) is None:
        pytest.skip(f"no {tool}")
    first, second = tmp_path / "v1", tmp_path / "v2"
    data = as_text(store, max_bytes=4_000_000)
    if tool == "git":
        # Binary files and archives are named, not told: leave them out.
        names = sorted(set(os.listdir(first)) | set(os.listdir(second)))
        paths = [n for n in names if n not in ("images", "charts", "pack.zip")]
        data = as_text(store, max_bytes=4_000_000, paths=paths)
        subprocess.run(["git", "init", "-q", first], check=True)
        subprocess.run(["git", "apply", "-"], cwd=first, input=data, check=True)
        shutil.rmtree(first / ".git")
        one, other = read_tree(first), read_tree(second)
        for path in one.keys() | other.keys():
            if path.split(b"/")[0] not in (b"images", b"charts", b"pack.zip"):
                assert one.get(path) == other.get(path), path
    else:
        data = as_text(store, paths=["app.yaml", "no-end", "latin", "with space", "only-a"])
        subprocess.run(["patch", "-p1", "-s"], cwd=first, input=data, check=True)
        for name in ("app.yaml", "no-end", "latin", "with space"):
            assert (first / name).read_bytes() == (second / name).read_bytes()
        assert not (first / "only-a").exists()


def test_damage_in_what_is_read_is_told(tmp_path: Path) -> None:
    store = LayoutStore(str(tmp_path / "store"))
    for number in (1, 2):
        root = write(tmp_path / f"v{number}", {"a": noise(number, 50_000).hex().encode()})
        packer.pack(root, store=store, tag=f"app:{number}", base="none")
    for blob in (Path(store.path) / "blobs/sha256").iterdir():
        if blob.stat().st_size > 20_000:
            os.chmod(blob, 0o600)
            data = bytearray(blob.read_bytes())
            data[10_000] ^= 1
            blob.write_bytes(data)
    with pytest.raises(packer.IntegrityError):
        list(packer.patches("app:1", "app:2", store=store))


@pytest.mark.registry
@pytest.mark.slow
def test_a_registry_sends_only_the_frames_needed(tmp_path: Path) -> None:
    store = MemoryStore()
    for number in (1, 2):
        root = write(
            tmp_path / f"v{number}",
            {
                "app.yaml": text(1, 3000) + b"\nversion: %d\n" % number,
                **{f"images/{at}.bin": noise(f"{at}", 1_000_000) for at in range(12)},
                "images/other.bin": noise(f"changed {number}", 4_000_000),
            },
        )
        packer.pack(root, store=store, tag=f"app:{number}")
    (tmp_path / "registry").mkdir()
    with run_registry(tmp_path / "registry") as server, counting_proxy(server.port) as proxy:
        for number in (1, 2):
            packer.push(f"{proxy.host}/acme/app:{number}", f"app:{number}", store=store)
        proxy.clear()
        one, other = (f"{proxy.host}/acme/app:{number}" for number in (1, 2))
        (patch,) = packer.patches(one, other, paths=["app.yaml"], store=MemoryStore())
        assert changed(patch) == ["-version: 1\n", "+version: 2\n"]
        assert sum(proxy.answers) < 8_000_000  # of 20 MB
        shown = list(packer.patches(one, "app:2", store=store))  # one remote, one local
        assert [each.form for each in shown] == ["text", "large"]
