"""Packages with zstd around them: opened at first sight, then what changed in their layers."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

import packer
from packer.api.locations import open_version
from packer.opening.predecessor import MAX_LINKS
from tests.conformance.decoder import decode
from tests.registry_server import run_registry
from tests.updates import History, changed, tar, texts, write
from tests.zstd_archives import SKIPPABLE, layers, package, zstd

NOISE = 1_200_000


def archive(version: int, level: int = 3) -> bytes:
    return zstd(package(version, noise_bytes=NOISE), level)


def test_seven_versions_of_a_package(tmp_path: Path) -> None:
    history = History(tmp_path)
    made = [archive(version) for version in range(1, 8)]
    links = []
    for version, data in enumerate(made, 1):
        packed = history.pack({"app.tar.zst": data})
        assert packed.closed == ()
        if version == 1:
            assert packed.new_bytes < 1.01 * len(data)
            assert history.opened() == {"app.tar.zst": 0}
        else:
            assert packed.new_bytes < len(data) / 40
            assert history.opened() == {"app.tar.zst": 1}
            index = open_version(f"app:{version}", store=history.store).index
            links.append(len(index.predecessors))
            # The text of the first version is its content: no recipe is followed to read it.
            assert index.predecessors[0].recipe_chunks == 0
    assert links[:4] == [1, 2, 3, 4]
    assert max(links) <= MAX_LINKS
    for version, data in enumerate(made, 1):
        history.check(f"app:{version}", {"app.tar.zst": data})


@pytest.mark.slow
def test_the_decoder_of_the_specification_reads_it(tmp_path: Path) -> None:
    history = History(tmp_path)
    made = [archive(version) for version in (1, 2, 3)]
    for data in made:
        history.pack({"app.tar.zst": data})
    for version, data in enumerate(made, 1):
        (entry,) = decode(history.store, f"app:{version}")
        assert entry.content == data


def test_it_costs_what_the_tar_archive_costs(tmp_path: Path) -> None:
    sizes: list[list[int]] = []
    for kind in (archive, lambda version: package(version, noise_bytes=NOISE)):
        history = History(tmp_path / str(len(sizes)))
        history.pack({"app": kind(1)})
        sizes.append([history.pack({"app": kind(version)}).new_bytes for version in (2, 3, 4)])
    for coded, plain in zip(*sizes, strict=True):
        assert coded < 1.5 * plain + 2000


@pytest.mark.parametrize("opening", ["all", "none"])
def test_other_choices_before(opening: str, tmp_path: Path) -> None:
    history = History(tmp_path, opening)
    history.pack({"app.tar.zst": archive(1)})
    assert history.opened() == ({"app.tar.zst": 0} if opening == "all" else {})
    for choice in ("changed", "all", "changed"):
        history.opening = choice
        history.pack({"app.tar.zst": archive(history.count + 1)})
        assert "app.tar.zst" in history.opened()
    history.opening = "none"
    history.pack({"app.tar.zst": archive(9)})
    assert history.opened() == {}


def test_a_file_that_is_the_text_of_an_older_one(tmp_path: Path) -> None:
    """Its digest is that of a predecessor, whose recipe makes another file."""
    history = History(tmp_path)
    for version in range(1, 5):
        history.pack({"app.tar.zst": archive(version)})
    for version in (3, 2):
        history.pack({"app.tar.zst": package(version, noise_bytes=NOISE)})


def test_another_encoder_costs_no_layer(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.pack({"app.tar.zst": archive(1)})
    packed = history.pack({"app.tar.zst": archive(2, 9) + SKIPPABLE})
    assert packed.new_bytes < 40_000
    history.pack({"app.tar.zst": package(3, noise_bytes=NOISE)})  # without zstd, and back
    history.pack({"app.tar.zst": archive(4)})


def conda(version: int) -> bytes:
    """Return a zip archive with stored members that are zstd files."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as made:
        made.writestr("metadata.json", b"{}")
        made.writestr("info.tar.zst", zstd(tar(changed(texts(), version))))
        made.writestr("pkg.tar.zst", archive(version))
    return out.getvalue()


def debian(version: int) -> bytes:
    """Return an `ar` archive with a member that is a zstd file, and one that xz made."""
    import lzma

    out = bytearray(b"!<arch>\n")
    members = {
        "debian-binary": b"2.0\n",
        "control.tar.xz": lzma.compress(tar(changed(texts(), version))),
        "data.tar.zst": archive(version),
    }
    for name, data in members.items():
        out += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode()
        out += data + b"\n" * (len(data) % 2)
    return bytes(out)


def test_containers_of_frames(tmp_path: Path) -> None:
    history = History(tmp_path)
    sizes = [
        history.pack({"a.conda": conda(version), "b.deb": debian(version)}) for version in (1, 2, 3)
    ]
    assert set(history.opened()) == {"a.conda", "b.deb"}
    whole = len(conda(1)) + len(debian(1))
    assert all(packed.new_bytes < whole / 6 for packed in sizes[1:])
    told = {(row.path, row.kind, row.reason) for row in sizes[0].closed}
    assert ("a.conda", "zstd", "text") in told


def test_what_stays_closed_is_told(tmp_path: Path) -> None:
    history = History(tmp_path)
    text = zstd(tar(texts()))
    whole = archive(1)
    files = {"text.tar.zst": text, "cut.tar.zst": whole[:-3], "half.tar.zst": whole[:600_000]}
    packed = history.pack(files)
    assert {(row.path, row.kind, row.reason) for row in packed.closed} == {
        ("text.tar.zst", "zstd", "text"),
        ("cut.tar.zst", "zstd", "damaged"),
        ("half.tar.zst", "zstd", "damaged"),
    }
    assert history.opened() == {}
    history.pack({"text.tar.zst": zstd(tar(changed(texts(), 1))), "cut.tar.zst": archive(2)[:-9]})


def test_readers_look_inside(tmp_path: Path) -> None:
    history = History(tmp_path)
    text = zstd(tar(texts()))
    for version in (1, 2):
        history.pack({"app.tar.zst": archive(version), "text.tar.zst": text})
    for version in (1, 2):
        name = f"app:{version}"
        made = layers(version, noise_bytes=NOISE)
        listed = {row.path for row in packer.ls(name, store=history.store, inside=True)}
        assert "app.tar.zst!/index.json" in listed
        assert "app.tar.zst!/blobs/layer.gz!/chart/templates/1.yaml" in listed
        assert "text.tar.zst!/chart/templates/1.yaml" in listed
        got = b"".join(
            packer.cat(name, "app.tar.zst!/index.json", store=history.store, inside=True)
        )
        assert got == made["index.json"]
        got = b"".join(
            packer.cat(name, "app.tar.zst!/blobs/layer.gz", store=history.store, inside=True)
        )
        assert got == made["blobs/layer.gz"]
        assert b"".join(packer.cat(name, "app.tar.zst", store=history.store)) == archive(version)
    changes = {row.path for row in packer.diff("app:1", "app:2", store=history.store, inside=True)}
    assert "app.tar.zst!/index.json" in changes
    assert "app.tar.zst!/blobs/base.gz" not in changes


def test_through_a_registry_and_with_seeds(tmp_path: Path) -> None:
    history = History(tmp_path)
    (tmp_path / "registry").mkdir()
    with run_registry(tmp_path / "registry") as server:
        name = f"{server.host}/acme/app"
        for version in (1, 2, 3):
            history.pack({"app.tar.zst": archive(version)})
            packer.push(f"{name}:{version}", f"app:{version}", store=history.store)
        out = tmp_path / "target"
        for version in (1, 2, 3):
            packer.pull(f"{name}:{version}", out, store=tmp_path / "other", update=True)
            assert (out / "app.tar.zst").read_bytes() == archive(version)
        seeded = tmp_path / "seeded"
        packer.pull(f"{name}:2", seeded, store=tmp_path / "third", seed=[out])
        assert (seeded / "app.tar.zst").read_bytes() == archive(2)
        root = write(tmp_path / "next", {"app.tar.zst": archive(4)})
        far = packer.pack(root, store=tmp_path / "far", tag="app:4", base=f"{name}:3")
        assert far.new_bytes < 40_000


def test_the_number_of_threads_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = set()
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    for count in (1, 4):
        monkeypatch.setattr("os.cpu_count", lambda count=count: count)
        history = History(tmp_path / str(count))
        for version in (1, 2):
            packed = history.pack({"app.tar.zst": archive(version)})
        digests.add(packed.digest)
    assert len(digests) == 1
