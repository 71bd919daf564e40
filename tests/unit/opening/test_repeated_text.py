"""New text of many archives of one version: kept as it is from when that pays."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import pytest
import zstandard

import packer
from packer.engine import zstd
from packer.engine.delta import Delta, decode, delta_of
from packer.opening import repeated_text
from packer.opening.repeated_text import KEPT_FILE_BYTES, RepeatedText
from tests.updates import tar


def lines(seed: int, count: int) -> bytes:
    drawn = random.Random(seed)
    return b"".join(b"key-%d: %x\n" % (at, drawn.getrandbits(64)) for at in range(count))


def delta(old: bytes, new: bytes) -> Delta:
    made = delta_of(bytearray(old + new), len(old), 3)
    assert made is not None
    return made


@pytest.mark.parametrize("size", [1, 255, 256, 131_071, 131_072, 131_073, 400_000])
def test_a_plain_frame_is_one_of_zstd(size: int) -> None:
    data = random.Random(size).randbytes(size)
    frame = zstd.plain_frame(data)
    assert data[: 128 << 10] in frame
    assert zstd.decompress(frame, size, "f") == data
    assert zstandard.ZstdDecompressor().decompress(frame) == data


def test_both_frames_of_a_delta_give_its_text() -> None:
    old = lines(1, 2000)
    new = old[:20_000] + lines(2, 300) + old[20_100:]
    made = delta(old, new)
    for frame in (made.frame(), made.plain_frame()):
        assert decode(frame, len(new), "f", old) == new
    assert bytes(made.rest) in made.plain_frame()


def test_a_text_is_kept_once_that_pays() -> None:
    added, repeated = lines(100, 400), RepeatedText()
    frames = []
    for seed in range(6):
        old = lines(seed, 1000)
        made = delta(old, old[:9000] + added + old[9000:])
        frames.append((made, repeated.frame(made)))
    kept = [frame == made.plain_frame() for made, frame in frames]
    assert not kept[0]
    assert all(kept[-3:])
    for made, frame in frames:
        assert frame in (made.frame(), made.plain_frame())


def test_texts_that_differ_are_compressed() -> None:
    repeated = RepeatedText()
    for seed in range(6):
        old = lines(seed, 1000)
        added = random.Random(seed).randbytes(5000)
        made = delta(old, old[:9000] + added + old[9000:])
        assert repeated.frame(made) == made.frame()


def packed(directory: Path, count: int, *, size: int = 4000) -> int:
    """Pack two versions of some archives, check the second one; return its bytes."""
    store, added = directory / "store", lines(100, 600)
    for version, extra in (("v1", b""), ("v2", added)):
        tree = directory / version
        tree.mkdir(parents=True)
        for at in range(count):
            text = lines(at, size)
            members = {"a": text, "b": text[::2] + extra, "c": lines(at + 50, 300)}
            (tree / f"{at}.tgz").write_bytes(gzipped(members))
        new = packer.pack(tree, tag=f"a:{version}", store=store, cache=False).new_bytes
    packer.unpack("a:v2", directory / "out", store=store)
    for at in range(count):
        name = f"{at}.tgz"
        assert (directory / "out" / name).read_bytes() == (directory / "v2" / name).read_bytes()
    packer.verify("a:v2", store=store)
    return new


def gzipped(members: dict[str, bytes]) -> bytes:
    return gzip.compress(tar(members), 9, mtime=0)


def test_a_change_in_many_archives_is_stored_about_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = packed(tmp_path / "shared", 12)
    monkeypatch.setattr(repeated_text.RepeatedText, "frame", lambda _, made: made.frame())
    assert shared < packed(tmp_path / "each", 12) / 2


def test_rests_of_large_files_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert KEPT_FILE_BYTES >= 1 << 20
    monkeypatch.setattr("packer.opening.text_pieces.KEPT_FILE_BYTES", 1000)
    many = packed(tmp_path / "each", 6)
    monkeypatch.undo()
    assert packed(tmp_path / "shared", 6) < many
