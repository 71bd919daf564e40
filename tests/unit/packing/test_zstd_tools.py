"""Packages and layers that real tools compress by zstd: an update costs what changed in it."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import zstandard

import packer
from tests.builders import write
from tests.updates import changed, tar, texts

TEXTS = texts(files=60)


def debian_package(options: list[str], files: dict[str, bytes], work: Path, out: Path) -> None:
    control = (
        b"Package: app\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b.c>\nDescription: a\n"
    )
    root = write(work / "root", {**files, "DEBIAN/control": control})
    command = ["dpkg-deb", "--root-owner-group", *options, "-b", str(root), str(out / "app.deb")]
    subprocess.run(command, check=True, capture_output=True)


def archive(options: list[str], files: dict[str, bytes], work: Path, out: Path) -> None:
    """Piped, as `tar | zstd` is: the tool does not know how much is to come."""
    command = [*options, "-q", "-c"]
    coded = subprocess.run(command, input=tar(files), check=True, capture_output=True).stdout
    (out / "app.tar.zst").write_bytes(coded)


def archive_of_file(options: list[str], files: dict[str, bytes], work: Path, out: Path) -> None:
    (work / "app.tar").write_bytes(tar(files))
    command = ["zstd", "-q", *options, str(work / "app.tar"), "-o", str(out / "app.tar.zst")]
    subprocess.run(command, check=True, capture_output=True)


def seekable_layer(files: dict[str, bytes], work: Path, out: Path) -> None:
    """A frame for each file, a table of contents in a skippable frame, and one that tells where."""
    coded, places = bytearray(), []
    for name, data in files.items():
        member = tar({name: data})[:-1024]
        frame = zstandard.ZstdCompressor(level=3).compress(member)
        places.append({"name": name, "offset": len(coded), "size": len(data)})
        coded += frame
    coded += zstandard.ZstdCompressor(level=3).compress(bytes(1024))
    table = zstandard.compress(json.dumps({"version": 1, "entries": places}).encode())
    footer = struct.pack("<QQ", len(coded) + 8, len(table)) + b"GNUlInUx"
    for content in (table, footer):
        coded += struct.pack("<II", 0x184D2A50, len(content)) + content
    (out / "layer").write_bytes(coded)


def rpm_package(files: dict[str, bytes], work: Path, out: Path) -> None:
    root = write(work / "root", files)
    spec = work / "app.spec"
    spec.write_text(
        "Name: app\nVersion: 1\nRelease: 1\nSummary: a\nLicense: a\nBuildArch: noarch\n"
        "%description\na\n%install\nmkdir -p %{buildroot}/usr\n"
        f"cp -a {root}/. %{{buildroot}}/usr/\n%files\n/usr\n"
    )
    defines = (f"_topdir {work}/rpm", "_binary_payload w3.zstdio", "__os_install_post %{nil}")
    options = [part for each in defines for part in ("--define", each)]
    subprocess.run(["rpmbuild", "-bb", *options, str(spec)], check=True, capture_output=True)
    (made,) = (work / "rpm/RPMS").rglob("*.rpm")
    shutil.copy(made, out / "app.rpm")


def chunked_image(files: dict[str, bytes], work: Path, out: Path) -> None:
    """Layers are named by their digests, and end with a table of contents in a skippable frame."""
    blobs = work / "oci/blobs/sha256"
    blobs.mkdir(parents=True)

    def blob(data: bytes, kind: str) -> dict[str, str | int]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        media = f"application/vnd.oci.image.{kind}"
        return {"mediaType": media, "digest": f"sha256:{digest}", "size": len(data)}

    layer = tar(files)
    diff = "sha256:" + hashlib.sha256(layer).hexdigest()
    root = {"type": "layers", "diff_ids": [diff]}
    config = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": root}
    manifest = {
        "schemaVersion": 2,
        "config": blob(json.dumps(config).encode(), "config.v1+json"),
        "layers": [blob(layer, "layer.v1.tar")],
    }
    named = blob(json.dumps(manifest).encode(), "manifest.v1+json")
    named["annotations"] = {"org.opencontainers.image.ref.name": "app"}  # type: ignore[assignment]
    index = {"schemaVersion": 2, "manifests": [named]}
    (work / "oci/oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (work / "oci/index.json").write_text(json.dumps(index))
    copy = ["skopeo", "--insecure-policy", "copy", "-q", "--dest-compress"]
    copy += ["--dest-compress-format", "zstd:chunked", f"oci:{work}/oci:app", f"dir:{out}/image"]
    subprocess.run(copy, check=True, capture_output=True)


def test_members_by_xz_are_told(tmp_path: Path) -> None:
    if shutil.which("dpkg-deb") is None:
        pytest.skip("dpkg-deb is not installed")
    for number in (1, 2):
        work, out = tmp_path / f"work{number}", tmp_path / f"v{number}"
        work.mkdir()
        out.mkdir()
        debian_package(["-Zxz"], changed(TEXTS, number), work, out)
        packed = packer.pack(out, store=tmp_path / "store", tag=f"app:{number}")
        (row,) = packed.closed
        assert (row.path, row.kind, row.reason, row.streams) == ("app.deb", "xz", "format", 1)
        size = (out / "app.deb").stat().st_size
        assert 0.9 * size < row.bytes < size


@pytest.mark.parametrize(
    ("tool", "make"),
    [
        ("dpkg-deb", partial(debian_package, ["-Zzstd"])),
        ("dpkg-deb", partial(debian_package, ["-Zzstd", "-z19", "--no-uniform-compression"])),
        ("rpmbuild", rpm_package),
        ("skopeo", chunked_image),
        ("", seekable_layer),
        ("zstd", partial(archive, ["zstd", "-3"])),
        ("zstd", partial(archive, ["zstd", "--long=27"])),
        ("zstd", partial(archive, ["zstd", "--long=31"])),
        ("zstd", partial(archive, ["zstd", "--ultra", "-22"])),
        ("zstd", partial(archive, ["zstd", "--rsyncable", "-B512KiB"])),
        ("zstd", partial(archive, ["zstd", "-T2", "-B512KiB"])),
        # Each of its frames is behind a skippable one.
        ("pzstd", partial(archive, ["pzstd", "-p", "2"])),
        ("zstd", partial(archive_of_file, ["--long=27"])),
        ("zstd", partial(archive_of_file, ["--rsyncable", "-T2", "--long=27"])),
    ],
    ids=lambda value: " ".join(value.args[0]) if isinstance(value, partial) else None,
)
def test_updates(
    tool: str, make: Callable[[dict[str, bytes], Path, Path], None], tmp_path: Path
) -> None:
    if tool and shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    sizes = []
    for number in (1, 2):
        work, out = tmp_path / f"work{number}", tmp_path / f"v{number}"
        work.mkdir()
        out.mkdir()
        make({f"share/{name}": data for name, data in changed(TEXTS, number).items()}, work, out)
        packed = packer.pack(out, store=tmp_path / "store", tag=f"app:{number}")
        packer.unpack(f"app:{number}", tmp_path / f"back{number}", store=tmp_path / "store")
        compared = ["diff", "-r", str(out), str(tmp_path / f"back{number}")]
        assert subprocess.run(compared, check=False).returncode == 0
        sizes.append(packed.new_bytes)
    assert sizes[1] < sizes[0] / 8
    assert packer.inspect("app:2", store=tmp_path / "store").opened
