"""The text of a file: zstd around what is compressed already is taken off, and comes back."""

from __future__ import annotations

import random
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import pytest

from packer.engine.chunking import ChunkParams
from packer.errors import FormatError
from packer.files.spool import Pile
from packer.files.temporary import Gathered
from packer.opening import flat_file, parsed_stream, zstd_frames
from packer.opening.closed import ClosedTally
from packer.opening.expander import Expander
from packer.opening.flat_file import FlatFile, flattened
from packer.opening.rebuilder import Rebuilder
from packer.opening.recipe import Recipe
from packer.opening.workers import Workers
from packer.opening.zstd_frames import Frames
from tests.updates import tar, texts
from tests.zstd_archives import SKIPPABLE, frames, package, zstd

PACKAGE = package(1, noise_bytes=2_300_000)
PARAMS = ChunkParams()


def flat_of(data: bytes, closed: ClosedTally | None = None) -> FlatFile | None:
    def read(start: int, length: int) -> bytes:
        return data[start : start + length]

    tally, text_runs = ClosedTally() if closed is None else closed, list[Frames]()
    with ThreadPoolExecutor(2) as executor:
        made = flattened(read, len(data), Workers(executor), tally, text_runs)
    for run in text_runs:
        tally.add("zstd", "text", run.end - run.start)
    return made


def opened(data: bytes, *, expand: bool = False) -> tuple[bytes, bytes]:
    """Open a file; return its content and its recipe."""
    flat = flat_of(data)
    assert flat is not None
    expander = Expander(
        flat.readinto,
        len(data),
        PARAMS,
        bytearray(4 << 20),
        Workers(),
        expand=expand,
        parts=flat.parts,
    )
    content = b"".join(map(bytes, expander.content()))
    recipe = b"".join(map(bytes, expander.recipe_chunks()))
    expander.close()
    flat.close()
    return content, recipe


def rebuilt(content: bytes, recipe: bytes, size: int, *, as_text: bool = False) -> bytes:
    gathered = Gathered(iter([memoryview(recipe)]), len(recipe), 1 << 30, None)
    pieces = iter([memoryview(content)])
    return b"".join(Rebuilder(gathered, pieces, size, "a file", as_text=as_text).pieces())


@pytest.mark.parametrize(
    "coded",
    [
        zstd(PACKAGE),
        zstd(PACKAGE, 1, write_checksum=True),
        zstd(PACKAGE, 9, content_size=True),
        pytest.param(zstd(PACKAGE, 16), marks=pytest.mark.slow),
        zstd(PACKAGE, 3, threads=2),
        zstd(PACKAGE, 3, threads=1, enable_ldm=True, window_log=23),
        zstd(PACKAGE, 3, window_log=25),
        frames(PACKAGE, 300_000),
        frames(PACKAGE, 40_000, 1),
        SKIPPABLE + zstd(PACKAGE) + SKIPPABLE,
        zstd(PACKAGE) + b"trailing bytes",
        zstd(PACKAGE) + SKIPPABLE + zstd(PACKAGE, 5) + SKIPPABLE * 2,
        tar({"a.tar.zst": zstd(PACKAGE), "b.txt": b"text", "c.tar.zst": zstd(PACKAGE, 1)}),
        b"!<arch>\n" + bytes(60) + zstd(PACKAGE) + b"\n" + bytes(60) + zstd(PACKAGE, 7),
    ],
)
@pytest.mark.parametrize("expand", [False, True])
def test_every_byte_comes_back(coded: bytes, expand: bool) -> None:
    content, recipe = opened(coded, expand=expand)
    assert rebuilt(content, recipe, len(coded)) == coded
    parts = Recipe(memoryview(recipe), "a recipe")
    assert parts.text_bytes is not None
    text = rebuilt(content, recipe, parts.text_bytes, as_text=True)
    assert PACKAGE in text
    if not expand:
        assert parts.is_content()
        assert text == content
        assert len(recipe) < len(coded) / 50


def test_a_text_is_read_at_any_place() -> None:
    coded = SKIPPABLE + zstd(PACKAGE) + SKIPPABLE + zstd(PACKAGE) + b"behind"
    flat = flat_of(coded)
    assert flat is not None
    text = SKIPPABLE + PACKAGE + SKIPPABLE + PACKAGE + b"behind"
    assert flat.size == len(text)
    drawn = random.Random(1)
    for _ in range(100):
        start = drawn.randrange(len(text))
        length = drawn.randrange(len(text) - start + 1)
        assert flat.read(start, length) == text[start : start + length]
    flat.close()


def closed_rows(data: bytes) -> list[tuple[str, str]]:
    closed = ClosedTally()
    assert flat_of(data, closed) is None
    return [(row.kind, row.reason) for row in closed.rows()]


def test_text_and_damage_stay_closed() -> None:
    whole = zstd(PACKAGE, write_checksum=True)
    assert closed_rows(zstd(tar(texts()))) == [("zstd", "text")]
    assert closed_rows(whole[:-1]) == [("zstd", "damaged")]
    # The headers alone do not tell that the middle of a compressed block is damaged.
    at = compressed_block(whole)
    hurt = whole[:at] + bytes(byte ^ 0x55 for byte in whole[at : at + 40]) + whole[at + 40 :]
    assert closed_rows(hurt) == [("zstd", "damaged")]


def test_frames_of_a_byte_each_reach_a_limit() -> None:
    assert closed_rows(frames(PACKAGE[:40_000], 1)) == [("zstd", "limit")]


def test_a_match_from_too_far_back_reaches_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = random.Random(9).randbytes(9 << 20)
    whole = zstd(noise + noise[:300_000], window_log=24, enable_ldm=True)
    monkeypatch.setattr(parsed_stream, "MAX_WINDOW_BYTES", 8 << 20)
    assert closed_rows(whole) == [("zstd", "limit")]
    monkeypatch.undo()
    flat = flat_of(whole)
    assert flat is not None
    flat.close()


def compressed_block(frame: bytes) -> int:
    """Return where the first compressed block of a frame without a content size begins."""
    at = 6
    while True:
        head = int.from_bytes(frame[at : at + 3], "little")
        if head >> 1 & 3 == 2:
            return at + 3
        at += 3 + (1 if head >> 1 & 3 == 1 else head >> 3)


def test_a_recipe_that_does_not_pay_stays_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flat_file, "RECIPE_SHARE", 1e-5)
    assert closed_rows(zstd(PACKAGE)) == [("zstd", "text")]


def test_threads_change_nothing() -> None:
    coded = zstd(PACKAGE)

    def read(start: int, length: int) -> bytes:
        return coded[start : start + length]

    alone = flattened(read, len(coded), Workers(), ClosedTally(), [])
    beside = flat_of(coded)
    assert alone is not None and beside is not None
    assert alone.parts == beside.parts
    alone.close()
    beside.close()


def mutations(data: bytes, count: int, seed: int) -> Iterable[bytes]:
    drawn = random.Random(seed)
    for _ in range(count):
        out = bytearray(data)
        for _ in range(drawn.randrange(1, 4)):
            at = drawn.randrange(len(out))
            what = drawn.randrange(3)
            if what == 0:
                out[at] = drawn.randrange(256)
            elif what == 1:
                del out[at : at + drawn.randrange(1, 20)]
            else:
                out[at:at] = drawn.randbytes(drawn.randrange(1, 20))
        yield bytes(out)


def test_recipes_from_strangers_give_the_bytes_or_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # More text than is opened otherwise, so that most of the recipe is sequences.
    monkeypatch.setattr(flat_file, "RECIPE_SHARE", 1.0)
    monkeypatch.setattr(zstd_frames, "COMPRESSED_SHARE", 1.0)
    data = package(1, noise_bytes=200_000)
    coded = zstd(data, write_checksum=True)
    content, recipe = opened(coded)
    errors = 0
    for other in mutations(recipe, 400, 1):
        try:
            out = rebuilt(content, other, len(coded))
        except FormatError:
            errors += 1
        else:
            assert len(out) == len(coded)  # the digest of the file decides
    assert errors > 200
    with pytest.raises(FormatError):
        rebuilt(content[:-1], recipe, len(coded))
    with pytest.raises(FormatError):
        rebuilt(content + b"x", recipe, len(coded))


def test_a_zstd_stream_lies_in_no_other() -> None:
    def recipe(version: int, operations: bytes) -> bytes:
        head = bytes([version]) + (b"\5" if version == 2 else b"")
        return head + bytes([len(operations), 0, 0, 2, 0, 0]) + operations

    nested = bytes([9, 9, 1, 5, 0, 0, 0])
    for data in (recipe(2, nested), recipe(1, bytes([9, 1, 5, 0, 9, 0, 0]))):
        with pytest.raises(FormatError, match="zstd"):
            rebuilt(b"hello", data, 5)


def test_raw_blocks_are_read_from_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what zstd changed goes to the temporary file; any part of the text can be read."""
    stored: list[int] = []
    add = Pile.add

    def counted(pile: Pile, data: memoryview) -> None:
        stored.append(len(data))
        add(pile, data)

    monkeypatch.setattr(Pile, "add", counted)
    between = b"between" * 99
    data = tar({"a": b"text", "b": zstd(PACKAGE), "c": between, "d": frames(PACKAGE, 700_000)})
    flat, drawn = flat_of(data), random.Random(4)
    assert flat is not None
    assert sum(stored) < len(PACKAGE) / 2
    whole = bytes(flat.read(0, flat.size))
    assert whole.count(PACKAGE) == 2
    assert between in whole
    for _ in range(200):
        start = drawn.randrange(flat.size)
        length = drawn.randrange(min(400_000, flat.size - start) + 1)
        assert flat.read(start, length) == whole[start : start + length]
    assert flat.read(flat.size, 0) == b""
    flat.close()
