"""Files that could be opened to more than readers take are opened as far as that goes."""

from __future__ import annotations

import io
import random
import tarfile
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

import packer
from packer.engine.deflate import Segment
from packer.opening import expansion
from packer.opening.recipe import Recipe
from packer.opening.workers import RESERVED_BYTES
from tests.property.test_expand import FILES, gz, opened, round_trip, tar, text, zip_of


@pytest.fixture(autouse=True)
def _ratios(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the bounds are those that a test sets."""
    monkeypatch.setattr(expansion, "MAX_RATIO", 1)
    monkeypatch.setattr(expansion, "RECIPE_RATIO", 1 << 40)


def within_bounds(data: bytes) -> tuple[list[bytes], bytes]:
    """Open and rebuild, as `round_trip` does; what a reader checks holds."""
    content, recipe = round_trip(data)
    assert not recipe or sum(map(len, content)) <= expansion.most_opened(len(data))
    assert len(recipe) <= expansion.most_recipe(len(data))
    return content, recipe


def packed(tmp_path: Path, data: bytes) -> None:
    """Pack and unpack a file, and one beside it."""
    root, other = tmp_path / "v", gz(text(50_000, 77))
    root.mkdir()
    (root / "large").write_bytes(data)
    (root / "other.gz").write_bytes(other)
    packer.pack(root, store=tmp_path / "store", tag="a:1")
    packer.unpack("a:1", tmp_path / "out", store=tmp_path / "store")
    assert (tmp_path / "out" / "large").read_bytes() == data
    assert (tmp_path / "out" / "other.gz").read_bytes() == other


def long_names(count: int) -> bytes:
    """An archive whose recipe is longer than what it leaves of content."""
    rng = random.Random(count)
    return tar({f"{rng.randbytes(100).hex()}/{at}": b"x" * (at % 3) for at in range(count)})


def sparse_member(blocks: int) -> bytes:
    """An old GNU sparse member with as many extended headers, and content."""
    info = tarfile.TarInfo("sparse")
    info.size = 3000
    head = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    head[156], head[482] = ord("S"), 1
    head[148:156] = b"%06o\0 " % (sum(head) - sum(head[148:156]) + 8 * 32)
    more = b"".join(
        random.Random(at).randbytes(504) + bytes([at + 1 < blocks]) + bytes(7)
        for at in range(blocks)
    )
    return bytes(head) + more + text(3000) + bytes(72)


def odd_padding(count: int) -> bytes:
    """Members whose padding is not zero."""
    out = b""
    for at in range(count):
        info = tarfile.TarInfo(f"{at}")
        info.size = 600
        out += info.tobuf() + text(600, at) + random.Random(at).randbytes(424)
    return out


def nested_tars(depth: int) -> bytes:
    data = text(700)
    for at in range(depth):
        info = tarfile.TarInfo(f"{at}")
        info.size = len(data)
        data = info.tobuf(tarfile.GNU_FORMAT) + data + b"!" * (-len(data) % 512)
    return data


def mixed() -> bytes:
    inner = tar({**FILES, "in.tgz": gz(tar(FILES)), "in.zip": zip_of(FILES)})
    members = {"image.tar": nested_tars(5), "layer.tgz": gz(inner + b"behind"), "x": text(3000)}
    whole = tar(members) + long_names(60) + sparse_member(5) + odd_padding(9)
    return whole + gz(whole) + b"end"


def bounds(most: int) -> Iterator[int]:
    rng = random.Random(most)
    return (rng.randrange(most) for _ in range(40))


def test_any_bound_of_the_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    data = mixed()
    whole = len(opened(data)[1])
    assert whole > 15_000
    lengths = set()
    for most in bounds(whole):
        monkeypatch.setattr(expansion, "SPARE_RECIPE_BYTES", RESERVED_BYTES + most)
        lengths.add(len(within_bounds(data)[1]))
    assert len(lengths) > 15
    monkeypatch.setattr(expansion, "SPARE_RECIPE_BYTES", RESERVED_BYTES + whole)
    assert len(within_bounds(data)[1]) == whole


def test_any_bound_of_the_content(monkeypatch: pytest.MonkeyPatch) -> None:
    data = mixed() + gz(text(300_000, 8)) + random.Random(8).randbytes(100_000) + gz(bytes(9000))
    whole = sum(map(len, opened(data)[0]))
    lengths = set()
    for most in bounds(whole):
        monkeypatch.setattr(expansion, "SPARE_BYTES", most)
        lengths.add(sum(map(len, within_bounds(data)[0])))
    assert len(lengths) > 3


def _streams(recipe: bytes) -> int:
    return len(Recipe(memoryview(recipe), "recipe")._streams)


def test_any_bound_of_the_streams() -> None:
    data = b"".join(gz(text(600 + at, at)) for at in range(30)) + gz(mixed())
    whole = _streams(opened(data)[1])
    assert whole > 32
    for most in range(0, 40, 3):
        with (
            patch("packer.opening.workers.MAX_STREAMS", most),
            patch("packer.opening.recipe.MAX_STREAMS", most),
        ):
            _, recipe = within_bounds(data)
            assert not recipe or _streams(recipe) == min(most, whole)


def test_an_archive_of_long_names_is_packed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its headers were taken without an end, and the version was refused when all was done."""
    monkeypatch.setattr(expansion, "SPARE_RECIPE_BYTES", 64 << 10)
    packed(tmp_path, long_names(1000) + gz(text(9000)))


def test_zeros_with_a_stream_of_noise_behind_are_packed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plaintext was within bounds, but with the noise the content was not."""
    monkeypatch.setattr(expansion, "SPARE_BYTES", 7 << 20)
    data = gz(bytes(9 << 20), 9) + random.Random(1).randbytes(3 << 20)
    content, recipe = within_bounds(data)
    assert recipe and sum(map(len, content)) > 6 << 20, "opened as far as it goes"
    packed(tmp_path, data)


def test_more_streams_than_readers_take_are_packed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("workers", "recipe"):
        monkeypatch.setattr(f"packer.opening.{module}.MAX_STREAMS", 20)
    packed(tmp_path, b"".join(gz(text(600, at)) for at in range(60)))


@pytest.mark.parametrize("depth", [31, 32, 33, 2000])
def test_tars_within_one_another_without_end(depth: int) -> None:
    """Each took two calls of Python's stack, so that a thousand of them could not be packed."""
    within_bounds(nested_tars(depth))
    within_bounds(gz(gz(nested_tars(depth) + gz(nested_tars(40)))))


def test_a_file_that_is_longer_than_readers_open_stays_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = gz(text(9000))
    monkeypatch.setattr("packer.opening.expander.MAX_FILE_BYTES", len(data))
    assert opened(data)[1]
    monkeypatch.setattr("packer.opening.expander.MAX_FILE_BYTES", len(data) - 1)
    assert not opened(data)[1]


def test_nothing_is_inflated_when_the_bound_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for the first stream that is too much, nor for those behind it."""
    monkeypatch.setattr(expansion, "SPARE_BYTES", 100_000)
    data = b"".join(gz(bytes(50_000), 9) + b"behind" for _ in range(500))
    with patch.object(Segment, "inflate", autospec=True, side_effect=Segment.inflate) as inflate:
        opened(data)
    assert 0 < inflate.call_count < 20


def test_the_file_is_what_it_was_made_from() -> None:
    """The helpers above make what they say."""
    with tarfile.open(fileobj=io.BytesIO(long_names(3))) as archive:
        assert len(archive.getnames()) == 3
    assert opened(sparse_member(5))[0] == [text(3000)]
    assert len(opened(nested_tars(3))[0]) == 1
