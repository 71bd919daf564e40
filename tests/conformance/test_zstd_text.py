"""Zstd archives of text: closed at first sight, then opened against what was there before."""

from __future__ import annotations

import bz2
import random
from pathlib import Path
from typing import IO

import pytest
import zstandard

import packer
from packer.api.locations import open_version
from packer.files import spool
from packer.files.temporary import temporary_file
from packer.opening import discovery, old_streams, parsed_stream, zstd_frames
from packer.opening.zstd_frames import frame_runs
from tests.conformance.decoder import decode
from tests.conformance.test_zstd_updates import debian as debian_of_noise
from tests.updates import History, changed, libdeflate, tar, texts, zipped, zlib_gzip
from tests.zstd_archives import SKIPPABLE, frames, layers, package, zstd

FILES = texts(3, 160)


def text(version: int) -> bytes:
    return tar(changed(FILES, version), 1_700_000_000 + version)


def archive(version: int, level: int = 3) -> bytes:
    return zstd(text(version), level)


@pytest.mark.parametrize("level", [1, 3, 9, 19])
def test_two_versions(level: int, tmp_path: Path) -> None:
    history = History(tmp_path)
    data = archive(1, level)
    first = history.pack({"app.tar.zst": data})
    assert [(row.kind, row.reason) for row in first.closed] == [("zstd", "text")]
    assert history.opened() == {}
    second = history.pack({"app.tar.zst": archive(2, level)})
    assert second.closed == ()
    assert second.new_bytes < len(data) / 12
    assert history.opened() == {"app.tar.zst": 1}


@pytest.mark.parametrize("size", [False, True])
def test_windows_that_are_larger_than_the_text(size: bool, tmp_path: Path) -> None:
    history = History(tmp_path)
    for version in (1, 2):
        data = zstd(text(version), enable_ldm=True, window_log=27, content_size=size)
        packed = history.pack({"app.tar.zst": data})
    assert packed.closed == ()
    assert packed.new_bytes < len(data) / 12


def test_a_match_from_too_far_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (parsed_stream, zstd_frames):
        monkeypatch.setattr(module, "MAX_WINDOW_BYTES", 1 << 20)
    noise = random.Random(1).randbytes(2 << 20)
    for reason, end in (("", 0), ("limit", 99_000)):
        history = History(tmp_path / str(end))
        for version in (1, 2):
            part = text(version)[:99_000]
            data = zstd(part + noise + part[:end], enable_ldm=True, window_log=27)
            packed = history.pack({"app.tar.zst": data})
            assert [row.reason for row in packed.closed] == [reason] * bool(reason)


def test_an_update_that_is_damaged(tmp_path: Path) -> None:
    """Within a block, which nobody reads before there is an older file."""
    history = History(tmp_path)
    history.pack({"app.tar.zst": archive(1)})
    for window in (0, 27):
        data = bytearray(zstd(text(2), window_log=window))
        data[len(data) // 2] ^= 0x55
        packed = history.pack({"app.tar.zst": bytes(data)})
        assert {(row.kind, row.reason) for row in packed.closed} == {("zstd", "damaged")}
        history.pack({"app.tar.zst": archive(1)})


def test_a_chain(tmp_path: Path) -> None:
    history = History(tmp_path)
    for version in range(1, 5):
        packed = history.pack({"app.tar.zst": archive(version)})
        if version > 1:
            assert packed.new_bytes < len(archive(version)) / 12
    index = open_version("app:4", store=history.store).index
    assert [len(row.streams) for row in index.predecessors] == [1, 1, 1]
    assert {stream.kind for row in index.predecessors for stream in row.streams} == {1}
    for version in range(1, 5):
        history.check(f"app:{version}", {"app.tar.zst": archive(version)})
    history.pack({"app.tar.zst": archive(2)})  # back to an older one


@pytest.mark.slow
@pytest.mark.parametrize(("level", "window"), [(3, 27), (19, 0)])
def test_the_decoder_of_the_specification_reads_it(level: int, window: int, tmp_path: Path) -> None:
    history = History(tmp_path)
    files = texts(5, 24)
    made = [
        b"head" * 99
        + zstd(tar(changed(files, version), version), level, window_log=window)
        + SKIPPABLE
        for version in (1, 2, 3)
    ]
    made = [tar({"a": b"x", "b.zst": data}) for data in made]
    for data in made:
        history.pack({"app.tar": data})
    assert history.opened() == {"app.tar": 1}
    for version, data in enumerate(made, 1):
        (entry,) = decode(history.store, f"app:{version}")
        assert entry.content == data


def nested(version: int, level: int = 3) -> bytes:
    """Return a zstd archive of text, and of archives that change, three within one another."""
    chart = changed(texts(6, 30), version)
    files = {
        "data/service.json.gz": libdeflate(tar(changed(texts(7, 30), version))),
        "data/same.json.gz": libdeflate(tar(texts(8, 30))),
        "charts/app.tgz": libdeflate(tar({**chart, "inner.tgz": zlib_gzip(tar(chart))})),
        "classes.jar": zipped(changed(texts(9, 30), version)),
    }
    return zstd(tar(changed(FILES, version) | files), level, write_checksum=True)


@pytest.mark.parametrize("level", [3, 19])
def test_archives_within_text(level: int, tmp_path: Path) -> None:
    history = History(tmp_path)
    first = history.pack({"app.tar.zst": nested(1, level)})
    for version in (2, 3):
        packed = history.pack({"app.tar.zst": nested(version, level)})
        assert packed.closed == ()
        assert packed.new_bytes < first.new_bytes / 14  # 5 if they stay closed
    index = open_version("app:3", store=history.store).index
    (frames, *inner) = index.predecessors[0].streams
    assert (frames.kind, frames.parent) == (1, 0)
    assert len(inner) > 20
    assert {stream.kind for stream in inner} == {0}
    parents = {stream.parent for stream in inner}
    assert len(parents) == 2  # the frames, and the chart
    assert 1 in parents


@pytest.mark.slow
def test_the_decoder_of_the_specification_reads_archives_within_text(tmp_path: Path) -> None:
    history = History(tmp_path)
    made = []
    for version in (1, 2, 3):
        inner = {"chart.tgz": libdeflate(tar(changed(texts(6, 16), version)))}
        files = changed(texts(5, 12), version) | inner
        made.append(zstd(tar(files)))
        history.pack({"app.tar.zst": made[-1]})
    assert history.opened() == {"app.tar.zst": 1}
    for version, data in enumerate(made, 1):
        (entry,) = decode(history.store, f"app:{version}")
        assert entry.content == data


def test_an_archive_within_text_that_is_damaged(tmp_path: Path) -> None:
    history = History(tmp_path)
    for version in (1, 2):
        whole = libdeflate(tar(changed(texts(6, 30), version)))
        files = {"a.gz": whole[:-900], "b.gz": b"\x1f\x8b\x08" * 9999}
        data = zstd(tar(changed(FILES, version) | files))
        packed = history.pack({"app.tar.zst": data})
    assert packed.new_bytes < len(data) / 3
    assert history.opened() == {"app.tar.zst": 1}


def test_bzip2_within_text(tmp_path: Path) -> None:
    history = History(tmp_path)
    for version in (1, 2, 3):
        coded = bz2.compress(tar(changed(texts(4, 40), version)))
        data = zstd(tar(changed(FILES, version) | {"crds.bz2": coded}))
        packed = history.pack({"app.tar.zst": data})
        if version > 1:  # else told as zstd of text
            assert packed.closed == ()
            assert history.opened() == {"app.tar.zst": 1}
    assert packed.new_bytes < len(coded) / 4


def test_five_archives_within_one_another(tmp_path: Path) -> None:
    """The zstd stream is one of the four that a reader looks into; the fifth is bytes."""
    history = History(tmp_path)
    for version in (1, 2):
        data = tar(changed(texts(6, 9), version))
        for _ in range(4):
            data = tar({"name": zlib_gzip(data)})
        history.pack({"app.tar.zst": zstd(tar(changed(FILES, version)) + data)})
    assert history.opened() == {"app.tar.zst": 1}


def test_a_last_segment_of_a_few_bytes(tmp_path: Path) -> None:
    """Its recipe may be longer than it is."""
    history = History(tmp_path)
    for version in (1, 2):
        data = (text(version) * 3)[: 2 << 20]
        assert len(data) == 2 << 20
        packed = history.pack({"app.tar.zst": zstd(data + data[:9000])})
    assert packed.closed == ()
    assert packed.new_bytes < len(zstd(data)) / 10


def test_a_package_whose_text_grows(tmp_path: Path) -> None:
    """The second version holds more text than one that is opened at first sight; the older was."""
    history = History(tmp_path)
    for version, files in ((1, 8), (2, 60), (3, 60)):
        manifests = {f"m/{name}": data for name, data in changed(texts(9, files), version).items()}
        data = zstd(tar(layers(version, noise_bytes=1_200_000) | manifests))
        packed = history.pack({"app.tar.zst": data})
        assert packed.closed == ()
        assert history.opened() == {"app.tar.zst": min(version - 1, 1)}
        if version > 1:
            assert packed.new_bytes < len(data) / 4
    (run,) = frame_runs(lambda start, size: data[start : start + size], len(data))
    assert run.reason == "text"


def test_more_streams_than_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are found first are opened, and the text is."""
    monkeypatch.setattr(discovery, "MAX_FOUND_STREAMS", 3)
    history = History(tmp_path)
    for version in (1, 2):
        packed = history.pack({"app.tar.zst": nested(version)})
    assert history.opened() == {"app.tar.zst": 1}
    assert packed.new_bytes < len(nested(2)) / 2


def test_many_streams_take_few_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []

    def counted(directory: bytes | None) -> IO[bytes]:
        made.append(directory)
        return temporary_file(directory)

    monkeypatch.setattr(spool, "temporary_file", counted)
    monkeypatch.setattr(old_streams, "_PLAIN_BYTES", 1 << 20)
    history = History(tmp_path)
    for version in (1, 2):
        files = {f"{at}.zst": zstd(tar(changed(texts(at, 20), version))) for at in range(40)}
        packed = history.pack({"app.tar": tar(files)})
    assert packed.new_bytes < len(tar(files)) / 10
    assert len(made) < 40


def many(version: int) -> bytes:
    """Return frames of all kinds, one behind another, some of which change."""
    data = text(version)
    return (
        frames(data[:300_000], 50_000)
        + SKIPPABLE
        + zstd(data, threads=2, write_checksum=True)
        + SKIPPABLE
        + zstd(text(1)[:400_000])  # which never changes
        + zstandard.ZstdCompressor(level=3).compress(b"")
        + b"behind"
    )


def test_frames_of_all_kinds(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.pack({"app.tar.zst": many(1)})
    for version in (2, 3):
        packed = history.pack({"app.tar.zst": many(version)})
        assert packed.new_bytes < len(many(version)) / 10
    listed = packer.ls("app:3", store=history.store, inside=True)
    assert "app.tar.zst!/chart/templates/1.yaml" in {row.path for row in listed} or len(listed) == 1


def debian(version: int) -> bytes:
    """Return an `ar` archive with two members that are zstd files."""
    out = bytearray(b"!<arch>\n")
    control = zstd(tar(changed(texts(9, 30), version)), 19)
    members = {
        "debian-binary": b"2.0\n",
        "control.tar.zst": control,
        "data.tar.zst": archive(version, 19),
    }
    for name, data in members.items():
        out += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode()
        out += data + b"\n" * (len(data) % 2)
    return bytes(out)


def test_members_of_a_package(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.pack({"a.deb": debian(1)})
    for version in (2, 3):
        packed = history.pack({"a.deb": debian(version)})
        assert packed.new_bytes < len(debian(version)) / 8
        assert packed.closed == ()


def mixed(version: int) -> bytes:
    """Return streams of both sorts, and a gzip member, in one file."""
    layers = zstd(package(version, noise_bytes=600_000))
    return b"".join((archive(version), SKIPPABLE, layers, SKIPPABLE, libdeflate(text(version))))


def test_beside_streams_of_other_kinds(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.pack({"app": mixed(1), "b.deb": debian_of_noise(1)})
    for version in (2, 3, 4):
        packed = history.pack({"app": mixed(version), "b.deb": debian_of_noise(version)})
        assert packed.new_bytes < len(mixed(version)) / 10
    index = open_version("app:4", store=history.store).index
    kinds = {stream.kind for row in index.predecessors for stream in row.streams}
    assert kinds == {0, 1}


def test_another_encoder_stays_closed(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.pack({"app.tar.zst": archive(1)})
    packed = history.pack({"app.tar.zst": zstd(tar(texts(77, 160)), 9)})
    assert {(row.kind, row.reason) for row in packed.closed} == {("zstd", "text")}
    assert history.opened() == {}
    history.pack({"app.tar.zst": archive(2, 9)})
    cut = archive(3, 9)[:-5]
    history.pack({"app.tar.zst": cut})
    history.pack({"app.tar.zst": archive(4, 9)})


def test_readers_look_inside(tmp_path: Path) -> None:
    history = History(tmp_path)
    for version in (1, 2, 3):
        history.pack({"app.tar.zst": archive(version)})
    for version in (2, 3):
        name = f"app:{version}"
        member = "chart/templates/7.yaml"
        path = f"app.tar.zst!/{member}"
        got = b"".join(packer.cat(name, path, store=history.store, inside=True))
        assert got == changed(FILES, version)[member]
    changes = {row.path for row in packer.diff("app:2", "app:3", store=history.store, inside=True)}
    assert "app.tar.zst!/chart/templates/7.yaml" in changes
