"""Bzip2 streams: opened where libbz2 gives them back, closed elsewhere; recipes from strangers."""

from __future__ import annotations

import bz2
import io
import random
import zlib
from pathlib import Path

import pytest

import packer
from packer.engine import bzip2
from packer.errors import FormatError
from packer.files.temporary import Gathered
from packer.opening import recipe as op
from packer.opening.rebuilder import Rebuilder
from tests.property.test_expand import gz, opened, round_trip, tar, text

TEXT = text(300_000)


@pytest.mark.slow
@pytest.mark.parametrize("level", [1, 5, 9])
def test_a_stream_costs_its_plaintext(level: int) -> None:
    content, recipe = round_trip(bz2.compress(TEXT, level))
    assert b"".join(content) == TEXT
    assert len(recipe) < 50


@pytest.mark.slow
def test_runs_and_noise_come_back() -> None:
    rng = random.Random(3)
    noise = rng.randbytes(150_000)
    for data in (bytes(2_000_000), noise, b"a" * 259 * 400 + noise[:100], b"ab" * 60_000):
        content, _ = round_trip(bz2.compress(data, 1))
        assert b"".join(content) == data


def test_a_changed_line_costs_a_changed_chunk() -> None:
    content, recipe = round_trip(bz2.compress(TEXT, 1))
    half = len(TEXT) // 2
    new, new_recipe = round_trip(bz2.compress(TEXT[:half] + b"one more line\n" + TEXT[half:], 1))
    assert len(set(new) - set(content)) <= 2
    assert abs(len(recipe) - len(new_recipe)) < 8


def test_streams_at_any_offset_and_one_after_another() -> None:
    # As pbzip2 writes them: a stream for each 900 KB.
    parts = [bz2.compress(TEXT[at : at + 100_000], 9) for at in range(0, 300_000, 100_000)]
    content, _ = round_trip(b"".join(parts))
    assert b"".join(content) == TEXT
    between = text(5000, 7)
    content, _ = round_trip(between.join([b"", *parts, b""]))
    assert sum(map(len, content)) == len(TEXT) + 4 * len(between)


@pytest.mark.slow
def test_within_archives_and_around_them() -> None:
    inner = tar({"a.yaml": TEXT, "b.txt": b"short"})
    content, _ = round_trip(gz(tar({"chart/crds.bz2": bz2.compress(TEXT), "x": text(900, 2)})))
    assert b"".join(content).startswith(TEXT)
    content, recipe = round_trip(bz2.compress(inner))
    assert b"short" in content
    assert len(recipe) < 300
    content, _ = round_trip(bz2.compress(tar({"one.tgz": gz(TEXT), "two.bz2": bz2.compress(TEXT)})))
    assert b"".join(content).count(TEXT) == 2


def test_depth_is_bounded() -> None:
    data = TEXT[:50_000]
    for _ in range(6):
        data = bz2.compress(data + b"x" * 600)
    round_trip(data)


def test_what_does_not_come_back_stays_closed() -> None:
    stream = bytearray(bz2.compress(TEXT, 9))
    foreign = b"BZh1" + bytes(stream[4:])  # a block of level 9 in a stream of level 1
    damaged = bytearray(stream)
    damaged[len(damaged) // 2] ^= 4
    for data in (foreign, bytes(damaged), bytes(stream[:-20]), bz2.compress(b""), b"BZh9" * 2000):
        content, recipe = round_trip(data)
        assert not recipe
        assert b"".join(content) == data


def test_a_stream_that_is_cut_off_is_opened_as_far_as_its_blocks_go() -> None:
    stream = bz2.compress(TEXT, 1)
    for cut in (len(stream) - 3, len(stream) // 2):
        content, recipe = round_trip(stream[:cut])
        assert recipe
        assert b"".join(content)[:90_000] == TEXT[:90_000]
    wrong_end = stream[:-3] + bytes([stream[-3] ^ 8]) + stream[-2:]
    content, _ = round_trip(wrong_end + TEXT[:700])
    assert b"".join(content).startswith(TEXT)


def test_short_streams_stay_closed() -> None:
    data = bz2.compress(text(500))
    assert round_trip(data) == ([data], b"")


def numbers(*values: int) -> bytes:
    out = bytearray()
    for value in values:
        while value >= 0x80:
            out.append(value & 0x7F | 0x80)
            value >>= 7
        out.append(value)
    return bytes(out)


def recipe_of(records: bytes, content: int, streams: int = 1) -> bytes:
    operations = numbers(op.BZIP2, op.CONTENT, content, op.END, op.END)
    lengths = (len(records),) * streams
    return b"\1" + numbers(len(operations), 0, 0, streams, *lengths) + operations + records


def rebuilt(recipe: bytes, content: bytes, size: int) -> bytes:
    given = Gathered([memoryview(recipe)], len(recipe), len(recipe), None)
    rebuilder = Rebuilder(given, iter([memoryview(content)]), size, "file")
    return b"".join(bytes(piece) for piece in rebuilder.pieces())


def test_the_records_of_a_stream() -> None:
    stream = bz2.compress(TEXT[:80_000], 3)
    recipe = recipe_of(numbers(3, 80_000, 0), 80_000)
    assert rebuilt(recipe, TEXT[:80_000], len(stream)) == stream
    assert opened(stream)[1] == recipe


@pytest.mark.parametrize(
    ("records", "content"),
    [
        (numbers(0, 1000, 0), 1000),  # no such level
        (numbers(10, 1000, 0), 1000),
        (b"", 1000),
        (numbers(1, 1000), 1001),  # plaintext left over
        (numbers(1, 1001, 0), 1000),  # too little of it
        (numbers(1, 1000, 0, 0), 1000),  # something behind the trailer
        (numbers(1, 1000, 0, 1000), 2000),
        (numbers(1, 250_000, 0), 250_000),  # several blocks
        (numbers(1, bzip2.MAX_BLOCK_PLAIN + 1, 0), 1000),
        (numbers(1, 1 << 62, 0), 1000),
        (b"\x01\xff", 1000),
    ],
)
def test_hostile_records_are_refused(records: bytes, content: int) -> None:
    with pytest.raises(FormatError):
        rebuilt(recipe_of(records, content), TEXT[:content], 1 << 20)


@pytest.mark.slow
def test_the_work_that_a_recipe_asks_for_is_bounded() -> None:
    # Each block is 18 MiB of zeros: 15 of them exceed 256 MiB, whatever the file's size.
    records = numbers(9, *[bzip2.MAX_BLOCK_PLAIN] * 15, 0)
    operations = numbers(op.BZIP2, op.ZEROS, 1 << 40, op.END, op.END)
    head = b"\1" + numbers(len(operations), 0, 0, 1, len(records))
    with pytest.raises(FormatError, match="too long"):
        rebuilt(head + operations + records, b"", 1000)


def test_a_block_too_large_stays_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bzip2, "MAX_BLOCK_PLAIN", 100_000)
    data = bz2.compress(bytes(200_000) + TEXT)
    assert round_trip(data)[1] == b""


def test_without_libbz2_streams_stay_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    data = bz2.compress(TEXT[:80_000], 3)
    recipe = opened(data)[1]
    monkeypatch.setattr(bzip2, "bz2", None)
    assert opened(data)[1] == b""
    with pytest.raises(FormatError, match="without bz2"):
        rebuilt(recipe, TEXT[:80_000], len(data))


def test_random_damage_never_gives_wrong_bytes() -> None:
    rng = random.Random(8)
    stream = bz2.compress(TEXT[:20_000], 1) + zlib.compress(TEXT)[:50]
    for _ in range(60):
        data = bytearray(stream)
        for _ in range(rng.randint(1, 3)):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        file = io.BytesIO(data)
        content, recipe = opened(file.getvalue())
        if recipe:
            assert rebuilt(recipe, b"".join(content), len(data)) == data
        else:
            assert b"".join(content) == data


def test_magic_numbers_are_found_at_every_bit() -> None:
    for shift in range(40):
        for magic, is_end in ((0x314159265359, False), (0x177245385090, True)):
            value = (magic << 200 | 0x5A5A5A) << 7
            data = (value << 64 - shift).to_bytes(60, "big")
            at = bin(int.from_bytes(data, "big") | 1 << 480)[3:].index(f"{magic:048b}")
            assert bzip2.find_magic(data, at) == (at, is_end)
            assert bzip2.find_magic(data, 0) == (at, is_end)
            assert bzip2.find_magic(data, at + 1) is None


@pytest.mark.slow
def test_a_changed_line_costs_below_2_kb(tmp_path: Path) -> None:
    # The target of the operation: the whole update, with index, config and manifest.
    lines = text(2_000_000).splitlines(keepends=True)
    store, root = packer.MemoryStore(), tmp_path / "app"
    root.mkdir()
    for number in range(2):
        lines[len(lines) // 2] = b"version: 1.0.%d of the application\n" % number
        (root / "crds.bz2").write_bytes(bz2.compress(b"".join(lines)))
        packed = packer.pack(root, store=store, tag=f"app:{number}", opening="all")
    assert packed.new_bytes < 2000
    packer.unpack("app:1", tmp_path / "out", store=store)
    assert (tmp_path / "out" / "crds.bz2").read_bytes() == (root / "crds.bz2").read_bytes()
