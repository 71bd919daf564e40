"""The recipe cache: what was analysed before is not again, and nothing depends on that."""

from __future__ import annotations

import gzip
import io
import random
import tarfile
import zlib
from pathlib import Path

import pytest

import packer
from packer.engine.deflate import Segment
from packer.opening import recipe_cache
from packer.opening.recipe_cache import RecipeCache, key_of


@pytest.fixture(autouse=True)
def _same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")


@pytest.fixture
def analysed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Plaintext bytes of every segment that was analysed."""
    out: list[int] = []
    real = Segment.analyse

    def analyse(self: Segment, guess: int = -1) -> bytes | None:
        out.append(len(self.plain))
        return real(self, guess)

    monkeypatch.setattr(Segment, "analyse", analyse)
    return out


def text(size: int, seed: int) -> bytes:
    rng = random.Random(seed)
    words = [f"{rng.getrandbits(24):x}" for _ in range(500)]
    return " ".join(rng.choice(words) for _ in range(size // 6)).encode()


def version(path: Path, changed: int, members: int = 5) -> Path:
    """A directory with one tar of gzip members, of which one is another than before."""
    path.mkdir()
    with tarfile.open(path / "image.tar", "w") as archive:
        for at in range(members):
            data = gzip.compress(text(20_000 + at, at + 100 * (at == changed)), mtime=0)
            item = tarfile.TarInfo(f"doc/{at}.gz")
            item.size = len(data)
            archive.addfile(item, io.BytesIO(data))
    return path


def digests(store: Path, versions: list[Path], *, cache: bool = True) -> list[str]:
    return [
        packer.pack(v, store=store, tag=f"a:{v.name}", opening="all", cache=cache).digest
        for v in versions
    ]


def test_only_what_changed_is_analysed(tmp_path: Path, analysed: list[int]) -> None:
    versions = [version(tmp_path / f"v{at}", at) for at in range(3)]
    with_cache = []
    for count, item in zip((5, 2, 1), versions, strict=True):
        analysed.clear()
        with_cache += digests(tmp_path / "store", [item])
        assert len(analysed) == count  # in v2 one is as it was in v0
    analysed.clear()
    assert digests(tmp_path / "other", versions, cache=False) == with_cache
    assert len(analysed) == 15
    assert not (tmp_path / "other" / "cache" / "recipes").exists()


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "other", "directory"])
def test_damaged(tmp_path: Path, analysed: list[int], damage: str) -> None:
    versions = [version(tmp_path / "v0", 0), version(tmp_path / "v1", 1)]
    expected = digests(tmp_path / "other", versions)
    first = digests(tmp_path / "store", versions[:1])
    recipes = tmp_path / "store" / "cache" / "recipes"
    data = bytearray(recipes.read_bytes())
    if damage == "cut":
        del data[-30:]
    elif damage == "empty":
        data.clear()
    else:
        data[len(data) // 2] ^= 1
    recipes.unlink()
    if damage == "directory":
        recipes.mkdir()
    else:
        recipes.write_bytes(b"x" * 100 if damage == "other" else data)
    analysed.clear()
    assert first + digests(tmp_path / "store", versions[1:]) == expected
    assert len(analysed) == 5
    assert [path.name for path in recipes.parent.iterdir() if "recipes." in path.name] == []


def test_what_does_not_pay_is_remembered(tmp_path: Path, analysed: list[int]) -> None:
    root = tmp_path / "v"
    root.mkdir()
    encoder = zlib.compressobj(9, zlib.DEFLATED, -15, 8, zlib.Z_FILTERED)  # no rule is made for it
    odd = encoder.compress(text(40_000, 1)) + encoder.flush()
    segment = Segment()
    assert segment.inflate(odd, 0, b"", 0) is not None
    assert segment.analyse() is None
    for name in ("a", "b"):
        (root / name).write_bytes(gzip.compress(b"")[:10] + odd + name.encode())
    analysed.clear()
    digests(tmp_path / "store", [root])
    assert len(analysed) == 1
    assert None in kept(tmp_path / "store" / "cache").values()


def kept(folder: Path) -> dict[bytes, bytes | None]:
    """What a cache's file holds."""
    return RecipeCache(str(folder))._load()


def test_round_trip_of_the_file(tmp_path: Path) -> None:
    cache = RecipeCache(str(tmp_path))
    entries = {bytes([at]) * 16: bytes(at) if at % 3 else None for at in range(200)}
    for key, recipe in entries.items():
        with pytest.raises(KeyError):
            cache[key]
        cache.put(key, recipe)
    cache.save()
    again = RecipeCache(str(tmp_path))
    assert {key: again[key] for key in entries} == entries
    assert kept(tmp_path) == entries


def test_what_was_used_last_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe_cache, "MAX_RECIPES", 4)
    keys = [bytes([at]) * 16 for at in range(8)]
    cache = RecipeCache(str(tmp_path))
    for key in keys[:5]:
        cache.put(key, b"r")
    cache.save()
    assert list(kept(tmp_path)) == keys[:4]  # there was no room for more
    cache = RecipeCache(str(tmp_path))
    assert cache[keys[1]] == b"r"
    for key in keys[5:7]:
        cache.put(key, None)
    cache.save()
    assert list(kept(tmp_path)) == [keys[1], keys[5], keys[6], keys[0]]


def test_the_key_covers_all_that_a_recipe_depends_on() -> None:
    data = memoryview(b"some bytes")
    keys = {
        key_of(data, 0, 80, b"", 0),
        key_of(data, 1, 80, b"", 0),
        key_of(data, 0, 79, b"", 0),
        key_of(data, 0, 80, b"s", 0),
        key_of(data[1:], 0, 80, b"s", 0),
        key_of(data, 0, 80, b"", 1),
    }
    assert len(keys) == 6


@pytest.mark.parametrize("level", [1, 2, 4, 6, 9])
@pytest.mark.slow
def test_recipes_do_not_depend_on_the_guess(level: int) -> None:

    encoder = zlib.compressobj(level, zlib.DEFLATED, -15)
    data = text(600_000, level)
    stream = encoder.compress(data) + encoder.flush()
    segment, at, bit, window, position = Segment(), 0, 0, b"", 0
    while True:
        found = segment.inflate(stream[at:], bit, window, position, 200_000)
        assert found is not None
        assert len({segment.analyse(guess) for guess in range(-1, 28)}) == 1
        window = (window + bytes(segment.plain))[-(32 << 10) :]
        position += found.plain_length
        at, bit = at + (found.end_bit >> 3), found.end_bit & 7
        if found.last:
            return
