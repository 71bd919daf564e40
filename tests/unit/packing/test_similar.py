"""Sketches kept beside the store: packing leaves those that reading the layers would give."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

import packer
from packer.format.frame_reader import FrameReader
from packer.packing.older import prefixes, similar


def version(path: Path, seed: int) -> Path:
    """Return a directory whose files are too short, uniform, or changed in a few places."""
    path.mkdir()
    (path / "short").write_bytes(b"%d" % seed)
    (path / "uniform").write_bytes(bytes(200_000 + seed))
    data = bytearray(random.Random(7).randbytes(900_000))
    for at in range(seed, len(data), 150_000):
        data[at] ^= 1
    (path / f"data-{seed}").write_bytes(data)
    return path


def test_packing_leaves_what_the_next_pack_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    read: list[int] = []
    real = similar._features

    def features(base: FrameReader, frame: int, chunks: int) -> object:
        read.append(frame)
        return real(base, frame, chunks)

    monkeypatch.setattr(similar, "_features", features)
    one, two = version(tmp_path / "1", 1), version(tmp_path / "2", 2)
    near, far = tmp_path / "near", tmp_path / "far"
    packer.pack(one, store=near, tag="a:1", cache=False)
    shutil.copytree(near, far)
    manifest = packer.open_version("a:1", store=near).manifest
    files = [Path("cache", layer.digest[7:]) for layer in manifest.data_layers]
    with_sketches = packer.pack(two, store=near, tag="a:2", cache=False)
    assert not read
    for file in files:
        (far / file).unlink()
    assert packer.pack(two, store=far, tag="a:2", cache=False).digest == with_sketches.digest
    assert read
    for file in files:
        assert (far / file).read_bytes() == (near / file).read_bytes()


def test_sketches_of_the_first_chunks_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a layer that holds more chunks than are noted: with their cache and without, the same."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    for module in (similar, prefixes):
        monkeypatch.setattr(module, "MAX_SKETCHES", 5)
    one, two = version(tmp_path / "1", 1), version(tmp_path / "2", 2)
    near, far = tmp_path / "near", tmp_path / "far"
    packer.pack(one, store=near, tag="a:1", cache=False)
    shutil.copytree(near, far)
    (layer,) = packer.open_version("a:1", store=near).manifest.data_layers
    file = Path("cache", layer.digest[7:])
    kept = (near / file).read_bytes()
    assert len(kept) < 6 * similar._RECORD_BYTES
    (far / file).unlink()
    digests = {packer.pack(two, store=at, tag="a:2", cache=False).digest for at in (near, far)}
    assert len(digests) == 1
    assert (far / file).read_bytes() == kept


def _mixed(value: int) -> int:
    """Return the finalizer of splitmix64."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        value = (value ^ value >> shift) * factor % (1 << 64)
    return value


def _expected(data: bytes) -> list[int]:
    """Return the super-features of a chunk, by the definition."""
    table = [_mixed(byte + 1) for byte in range(256)]
    code, sampled = 0, []
    for byte in data:
        code = ((code << 2) + table[byte]) % (1 << 64)
        if not code >> 59:
            sampled.append(code)
    if len(sampled) < similar.SUPER_FEATURES:
        return []
    greatest = [
        max((each * (_mixed(1000 + n) | 1) + _mixed(2000 + n)) % (1 << 64) for each in sampled)
        for n in range(2 * similar.SUPER_FEATURES)
    ]
    return [
        _mixed(_mixed(number + 1 ^ one) ^ two)
        for number, (one, two) in enumerate(zip(greatest[::2], greatest[1::2], strict=True))
    ]


@pytest.mark.parametrize("length", [0, 1, 31, 32, 33, 35, 36, 200, 1056, 4128, 4133, 70_001])
def test_a_sketch_is_that_of_its_definition(length: int) -> None:
    """Four stretches of a chunk are hashed side by side; that is not to be seen."""
    for first in range(3 if length < 5000 else 1):
        data = random.Random(first).randbytes(length)
        assert list(similar.sketch(data)) == _expected(data)
