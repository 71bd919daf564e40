"""Plain OCI images of versions: their layers hold every byte, and other tools read them."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import zstandard

import packer
from packer.cli.main import main
from packer.errors import (
    Cancelled,
    Conflict,
    IntegrityError,
    InvalidParameter,
    InvalidReference,
    UnsupportedFile,
)
from packer.reading.image_layers import MOST_LAYERS
from packer.stores.layout import LayoutStore
from tests.registry_server import need_program, run_registry

GZIP_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "charts" / ("l" * 120)).mkdir(parents=True)
    (root / "charts" / ("l" * 120) / ("m" * 130)).write_text("long")
    (root / "charts" / "app.tgz").write_bytes(gzip.compress(b"values\n" * 9000, mtime=0))
    (root / "charts-more").mkdir(mode=0o700)
    (root / "charts-more" / "x").write_bytes(b"")
    (root / "empty").mkdir()
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o755)
    (root / "values.yaml").write_text("version: 1\n" * 500)
    (root / "latest").symlink_to("charts/app.tgz")
    (root / "charts" / "up").symlink_to("../values.yaml")
    (root / os.fsdecode(b"\xff-name")).mkdir()
    return root


def document(store: LayoutStore, digest: str) -> dict[str, Any]:
    path = Path(store.path or "") / "blobs" / "sha256" / digest[7:]
    value = json.loads(path.read_bytes())
    assert isinstance(value, dict)
    return value


def blob(store: LayoutStore, digest: str) -> bytes:
    return (Path(store.path or "") / "blobs" / "sha256" / digest[7:]).read_bytes()


def listed(root: Path) -> dict[str, tuple[str, int, bytes]]:
    out = {}
    for path in root.rglob("*"):
        name, mode = str(path.relative_to(root)), path.lstat().st_mode & 0o777
        if path.is_symlink():
            out[name] = ("link", 0o777, os.fsencode(os.readlink(path)))
        elif path.is_dir():
            out[name] = ("directory", mode, b"")
        else:
            out[name] = ("file", mode, path.read_bytes())
    return out


def members(archive: bytes) -> dict[str, tuple[str, int, bytes]]:
    out = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            assert (member.uid, member.gid, member.mtime) == (0, 0, 315_532_800)
            if member.issym():
                found = ("link", 0o777, os.fsencode(member.linkname))
            elif member.isdir():
                found = ("directory", member.mode, b"")
            else:
                file = tar.extractfile(member)
                assert file is not None
                found = ("file", member.mode, file.read())
            assert member.name not in out
            out[member.name] = found
    return out


def plain(store: LayoutStore, layer: dict[str, Any]) -> bytes:
    data = blob(store, layer["digest"])
    if layer["mediaType"] == GZIP_LAYER:
        return gzip.decompress(data)
    assert layer["mediaType"] == GZIP_LAYER.replace("gzip", "zstd")
    return zstandard.ZstdDecompressor().decompressobj().decompress(data)


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
@pytest.mark.parametrize("one_layer", [False, True])
def test_layers_hold_every_byte(
    tree: Path, tmp_path: Path, compression: str, one_layer: bool
) -> None:
    store = tmp_path / "store"
    packed = packer.pack(tree, store=store, tag="app:1")
    made = packer.export_image(
        "app:1",
        f"oci:{tmp_path}/image:1",
        store=store,
        compression=compression,
        one_layer=one_layer,
        platform="linux/arm64/v8",
    )
    image = LayoutStore(tmp_path / "image")
    manifest = document(image, image.resolve("1").digest)
    config = document(image, manifest["config"]["digest"])
    created = packed_annotations(store)["org.opencontainers.image.created"]
    assert made.version == packed.digest
    assert image.resolve("1").digest == made.descriptor.digest
    assert manifest["annotations"] == {
        "org.opencontainers.image.created": created,
        "org.opencontainers.image.version": "1",
        "layer-packer.version": packed.digest,
    }
    assert "artifactType" not in manifest
    assert (config["os"], config["architecture"], config["variant"]) == ("linux", "arm64", "v8")
    assert config["created"] == created
    archives = [plain(image, layer) for layer in manifest["layers"]]
    digests = ["sha256:" + hashlib.sha256(archive).hexdigest() for archive in archives]
    assert config["rootfs"] == {"type": "layers", "diff_ids": digests}
    assert [layer.diff_id for layer in made.layers] == digests
    assert [layer.tar_bytes for layer in made.layers] == [len(data) for data in archives]
    assert len(config["history"]) == len(archives)
    found: dict[str, tuple[str, int, bytes]] = {}
    for archive in archives:
        for name, what in members(archive).items():
            assert name not in found
            found[name] = what
    assert found == listed(tree)
    paths = [layer.path for layer in made.layers]
    odd = os.fsdecode(b"\xff-name")
    assert paths == ([""] if one_layer else ["charts", "charts-more", "empty", odd, ""])


def packed_annotations(store: Path) -> dict[str, str]:
    annotations = packer.open_version("app:1", store=store).manifest.annotations
    return dict(annotations)


def test_equal_directories_are_equal_layers(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever, whenever and however the versions were packed."""
    for number, opening in ((1, "changed"), (2, "all")):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000")
        packer.pack(tree, store=tmp_path / f"store{number}", tag="app:1", opening=opening)
    first, second = (
        packer.export_image(
            "app:1", f"oci:{tmp_path}/i{number}:1", store=tmp_path / f"store{number}"
        )
        for number in (1, 2)
    )
    assert first.layers == second.layers
    again = packer.export_image("app:1", f"oci:{tmp_path}/i1:1", store=tmp_path / "store1")
    assert again.descriptor == first.descriptor
    assert again.copied.unchanged
    (tree / "values.yaml").write_text("version: 2\n")
    packer.pack(tree, store=tmp_path / "store1", tag="app:2")
    later = packer.export_image("app:2", f"oci:{tmp_path}/i1:2", store=tmp_path / "store1")
    assert later.layers[:-1] == first.layers[:-1]
    assert later.layers[-1] != first.layers[-1]
    assert later.copied.blobs_copied == 2, "the layer of files, and the config"


def test_many_directories_share_a_layer(tmp_path: Path) -> None:
    root = tmp_path / "many"
    for number in range(MOST_LAYERS + 30):
        (root / f"d{number:03}").mkdir(parents=True)
        (root / f"d{number:03}" / "f").write_bytes(b"x" * (number + 1))
    (root / "file").touch()
    packer.pack(root, store=tmp_path / "store", tag="many")
    made = packer.export_image("many", f"oci:{tmp_path}/image:1", store=tmp_path / "store")
    assert len(made.layers) == MOST_LAYERS
    assert made.layers[0].path == "d032", "the smallest share a layer"
    image = LayoutStore(tmp_path / "image")
    found: dict[str, tuple[str, int, bytes]] = {}
    for layer in made.layers:
        found |= members(gzip.decompress(blob(image, layer.descriptor.digest)))
    assert found == listed(root)


def test_an_empty_tree_and_a_file(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "file").write_bytes(b"content")
    store = tmp_path / "store"
    for name, content in (("none", {}), ("file", {"file": ("file", 0o644, b"content")})):
        (tmp_path / "file").chmod(0o644)
        packer.pack(tmp_path / name, store=store, tag=name)
        made = packer.export_image(name, f"oci:{tmp_path}/{name}-image:1", store=store)
        (layer,) = made.layers
        data = blob(LayoutStore(tmp_path / f"{name}-image"), layer.descriptor.digest)
        assert members(gzip.decompress(data)) == content


@pytest.mark.parametrize("path", [".wh.a", "d/.wh..wh..opq", ".wh.d/x"])
def test_names_that_delete_are_refused(tmp_path: Path, path: str) -> None:
    target = tmp_path / "tree" / path
    target.parent.mkdir(parents=True)
    target.touch()
    packer.pack(tmp_path / "tree", store=tmp_path / "store", tag="app:1")
    with pytest.raises(UnsupportedFile, match=r"\.wh\."):
        packer.export_image("app:1", f"oci:{tmp_path}/image:1", store=tmp_path / "store")
    assert not (tmp_path / "image").exists()


def test_a_damaged_version_is_not_named(tree: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    packer.pack(tree, store=store, tag="app:1")
    version = packer.open_version("app:1", store=store)
    layer = max(version.manifest.data_layers, key=lambda item: item.size)
    path = store / "blobs" / "sha256" / layer.digest[7:]
    data = bytearray(path.read_bytes())
    data[20] ^= 1
    path.write_bytes(data)
    with pytest.raises(IntegrityError):
        packer.export_image("app:1", f"oci:{tmp_path}/image:1", store=store)
    assert list(LayoutStore(tmp_path / "image").tags()) == []


class _After:
    """Is set at the n-th look."""

    def __init__(self, looks: int) -> None:
        self.left = looks

    def is_set(self) -> bool:
        self.left -= 1
        return self.left < 0


@pytest.mark.parametrize("looks", [0, 3, 20])
def test_it_is_cancelled_without_a_trace(
    tree: Path, tmp_path: Path, looks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    packer.pack(tree, store=tmp_path / "store", tag="app:1")
    with pytest.raises(Cancelled):
        packer.export_image(
            "app:1", f"oci:{tmp_path}/image:1", store=tmp_path / "store", cancel=_After(looks)
        )
    assert list((tmp_path / "tmp").iterdir()) == []
    if (tmp_path / "image").exists():
        assert list(LayoutStore(tmp_path / "image").tags()) == []


def test_memory_does_not_grow_with_a_file(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    with (root / "file").open("wb") as file:
        for number in range(48):
            file.write(hashlib.shake_128(b"%d" % number).digest(1 << 20))
    packer.pack(root, store=tmp_path / "store", tag="app:1", durable=False)
    tracemalloc.start()
    try:
        packer.export_image("app:1", f"oci:{tmp_path}/image:1", store=tmp_path / "store")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40 << 20


def test_a_version_is_not_hidden(tree: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    packer.pack(tree, store=store, tag="app:1")
    packer.push(f"oci:{tmp_path}/there:1", "app:1", store=store)
    with pytest.raises(Conflict, match="names a version"):
        packer.export_image("app:1", f"oci-image:oci:{tmp_path}/there:1", store=store)
    packer.export_image("app:1", f"oci-image:oci:{tmp_path}/there:1-image", store=store)
    packer.verify(f"oci:{tmp_path}/there:1", store=store)


@pytest.mark.parametrize(
    ("changes", "kind", "why"),
    [
        ({"compression": "xz"}, InvalidParameter, "gzip, zstd"),
        ({"platform": "linux"}, InvalidParameter, "OS/ARCHITECTURE"),
        ({"platform": "linux/" + "a" * 10_000}, InvalidParameter, "OS/ARCHITECTURE"),
        ({"platform": "linux/amd64\n"}, InvalidParameter, "OS/ARCHITECTURE"),
        ({"jobs": 0}, InvalidParameter, "jobs=0"),
        ({"destination": "oci-image:"}, InvalidReference, "oci-image:registry"),
        ({"destination": "app:1"}, InvalidReference, "is a version of"),
        ({"destination": "oci-image:oci-image:oci:x:1"}, InvalidReference, "no version is read"),
        ({"destination": "oci:x@sha256:" + "0" * 64}, InvalidReference, "under a tag"),
    ],
)
def test_wrong_arguments(
    tree: Path, tmp_path: Path, changes: dict[str, Any], kind: type[Exception], why: str
) -> None:
    packer.pack(tree, store=tmp_path / "store", tag="app:1")
    arguments = {"name": "app:1", "destination": f"oci:{tmp_path}/image:1", **changes}
    with pytest.raises(kind, match=why):
        packer.export_image(**arguments, store=tmp_path / "store")
    assert not (tmp_path / "image").exists()


def test_an_image_is_no_reference(tmp_path: Path) -> None:
    """Without this, Docker Hub would be asked for a repository oci-image."""
    for call in (packer.pull, packer.unpack):
        with pytest.raises(InvalidReference, match="no version is read"):
            call("oci-image:localhost:1/x:1", tmp_path / "out", store=tmp_path / "store")


def test_command(tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = str(tmp_path / "store")
    packer.pack(tree, store=store, tag="app:1")
    place = f"oci-image:oci:{tmp_path}/image:1"

    def run(*words: str) -> tuple[int, str, str]:
        code = main(["copy", "--store", store, "--progress", "none", "app:1", *words])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    code, out, _ = run(place)
    assert code == 0
    assert "a plain image of 5 layers" in out
    code, out, _ = run(place, "--json", "--compression", "zstd", "--one-layer")
    value = json.loads(out)
    assert (code, len(value["image_layers"])) == (0, 1)
    assert value["image_layers"][0]["media_type"].endswith("tar+zstd")
    for words in (
        [place, "--compression", "lzma"],
        [place, "--platform", "amd64"],
        [place, "--platform", ""],
        [place, "--have", "app:1"],
        [place, "--dry-run"],
        [place, "--split", "1MB"],
        ["oci-image:"],
        [f"oci:{tmp_path}/other:1", "--one-layer"],
        [f"oci:{tmp_path}/other:1", "--platform", ""],
    ):
        code, _, error = run(*words)
        assert code == 2, words
        assert error.count("\n") == 1, words


@pytest.mark.registry
@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_other_tools_read_it_from_a_registry(tree: Path, tmp_path: Path, compression: str) -> None:
    need_program("docker-registry")
    if shutil.which("skopeo") is None:
        pytest.skip("skopeo is not installed")
    packer.pack(tree, store=tmp_path / "store", tag="app:1")
    folder = tmp_path / "registry"
    folder.mkdir()
    with run_registry(folder) as server:
        place = f"{server.host}/acme/app:1-image"
        made = packer.export_image(
            "app:1", f"oci-image:{place}", store=tmp_path / "store", compression=compression
        )
        for words in (
            ["inspect", "--tls-verify=false", f"docker://{place}"],
            ["inspect", "--config", "--tls-verify=false", f"docker://{place}"],
            [
                *("copy", "--insecure-policy", "--src-tls-verify=false", "--preserve-digests"),
                *(f"docker://{place}", f"oci:{tmp_path}/copy:1"),
            ],
        ):
            done = subprocess.run(["skopeo", *words], check=False, capture_output=True, timeout=60)
            assert done.returncode == 0, done.stderr
    copied = LayoutStore(tmp_path / "copy")
    assert copied.resolve("1").digest == made.descriptor.digest
    out = tmp_path / "out"
    out.mkdir()
    for layer in made.layers:
        path = tmp_path / "copy" / "blobs" / "sha256" / layer.descriptor.digest[7:]
        data = plain(copied, layer.descriptor.to_json())
        assert path.stat().st_size == layer.descriptor.size
        subprocess.run(["tar", "-xpf", "-", "-C", str(out)], input=data, check=True)
    assert listed(out) == listed(tree)
