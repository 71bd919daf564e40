"""Texts of predecessors, read in any part: what recipes made, and content that stays in chunks."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import blake3
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import packer
from packer.errors import FormatError
from packer.files.temporary import Gathered
from packer.format.frame_reader import FrameReader, opened_frames
from packer.format.index import DIGEST_BYTES
from packer.format.predecessor_texts import ContentPieces, OpenedText
from packer.opening.predecessor import Predecessor
from packer.opening.rebuilder import Leave, Rebuilder
from packer.opening.recipe import RecipeWriter
from tests import updates
from tests.builders import noise, write
from tests.predecessors import CHUNK, File, closed
from tests.predecessors import write as write_version

DATA = noise("content", 13 * CHUNK + 77)
Runs = list[tuple[int, int]]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    layout = tmp_path_factory.mktemp("store")
    files: dict[str, File] = {"f": closed(DATA)}
    write_version(layout, "a:1", files)
    return layout


@contextmanager
def frames(store: Path) -> Iterator[tuple[FrameReader, Runs]]:
    version = packer.open_version("a:1", store=store)
    with opened_frames(version) as reader:
        yield reader, list(version.index.runs_of(version.index.paths.index(b"f")))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(1, 3 * CHUNK)), min_size=1, max_size=9),
    st.randoms(use_true_random=False),
)
def test_what_was_made_and_what_was_left(
    store: Path, parts: list[tuple[bool, int]], draw: random.Random
) -> None:
    with frames(store) as (reader, runs):
        text = OpenedText(Predecessor(1 << 16, 0, b"", tuple(runs)), reader)
        expected, at, whole = b"", 0, set[int]()
        for is_left, size in parts:
            if is_left and at + size <= len(DATA):
                text.leave(at, size)
                expected += DATA[at : at + size]
                whole.update(range(-(-at // CHUNK), (at + size) // CHUNK))
                at += size
            else:
                made = draw.randbytes(size)
                text.append(made[: size // 2])
                text.append(made[size // 2 :])
                expected += made
        assert text.size == len(expected)
        assert text.is_made == (at == 0)
        with closing(text):
            for _ in range(20):
                start = draw.randrange(len(expected) + 1)
                length = draw.randrange(len(expected) - start + 1)
                assert bytes(text.read(start, length)) == expected[start : start + length]
            listed = list(text.chunks())
        assert sum(length for length, _ in listed) == len(expected)
        named, start = set[bytes](), 0
        for length, digest in listed:
            if digest:
                full = blake3.blake3(expected[start : start + length]).digest()
                assert digest == full[:DIGEST_BYTES]
                named.add(digest)
            start += length
        assert len(named) == len(whole)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-1, 4 * CHUNK), max_size=20))
def test_chunks_that_are_passed_over(store: Path, steps: list[int]) -> None:
    """A step is the bytes that may be passed over; -1 takes a chunk."""
    with frames(store) as (reader, runs):
        pieces, at = ContentPieces(reader, runs), 0
        for step in steps:
            if step < 0:
                piece = next(pieces, None)
                assert (piece is None) == (at == len(DATA))
                if piece is not None:
                    assert bytes(piece) == DATA[at : at + CHUNK]
                    at += len(piece)
            else:
                skipped = pieces.skip(step)
                assert skipped <= step
                assert skipped == len(DATA) - at or (
                    skipped % CHUNK == 0 and skipped > step - CHUNK
                )
                at += skipped
        assert b"".join(pieces) == DATA[at:]


def rebuilt(recipe: RecipeWriter, content: bytes, size: int, *, leaves: bool) -> bytes:
    """Return what a recipe makes of content, whose long stretches may be left."""
    data = b"".join(recipe.finish())
    pieces = [memoryview(content)[at : at + 700] for at in range(0, len(content), 700)]
    pieces.reverse()

    def taken() -> Iterator[memoryview]:
        while pieces:
            yield pieces.pop()

    def skip(most: int) -> int:
        left = most
        while pieces and len(pieces[-1]) <= left:
            left -= len(pieces.pop())
        return most - left

    out = io.BytesIO()

    def left(start: int, length: int) -> None:
        out.write(content[start : start + length])

    made = Rebuilder(
        Gathered([memoryview(data)], len(data), 1 << 20, None),
        taken(),
        size,
        "f",
        as_text=True,
        leave=Leave(skip, left) if leaves else None,
    )
    for piece in made.pieces():
        out.write(piece)
    return out.getvalue()


def made_of(parts: list[int]) -> RecipeWriter:
    recipe = RecipeWriter()
    for at, size in enumerate(parts):
        recipe.inline(b"%d" % at)
        recipe.content(size)
    return recipe


@pytest.mark.parametrize("parts", [[5, 9_000, 3, 1_000, 20_000], [30_008]], ids=str)
def test_stretches_are_left_in_turn(monkeypatch: pytest.MonkeyPatch, parts: list[int]) -> None:
    monkeypatch.setattr("packer.opening.rebuilder._LEAST_LEFT_BYTES", 1_000)
    content = noise("c", sum(parts))
    size = sum(parts) + len(parts)
    expected = rebuilt(made_of(parts), content, size, leaves=False)
    assert len(expected) == size
    assert rebuilt(made_of(parts), content, size, leaves=True) == expected


@pytest.mark.parametrize("leaves", [False, True])
def test_content_or_a_size_that_does_not_fit(
    monkeypatch: pytest.MonkeyPatch, *, leaves: bool
) -> None:
    monkeypatch.setattr("packer.opening.rebuilder._LEAST_LEFT_BYTES", 1_000)
    content = noise("c", 9_000)
    with pytest.raises(FormatError, match="content is too short"):
        rebuilt(made_of([9_001]), content, 9_002, leaves=leaves)
    with pytest.raises(FormatError, match="more than the file's size"):
        rebuilt(made_of([9_000]), content, 9_000, leaves=leaves)
    with pytest.raises(FormatError, match="less than the file's size"):
        rebuilt(made_of([9_000]), content, 9_002, leaves=leaves)
    with pytest.raises(FormatError, match="left over"):
        rebuilt(made_of([8_000]), content, 8_001, leaves=leaves)


def test_of_a_large_archive_that_was_opened_little_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image that is not compressed, with archives in it: each version changes one of them."""
    large = {f"layer{at}": noise(at, 700_000) for at in range(4)}
    names = [f"app{at}.gz" for at in range(3)]
    inner = {name: updates.texts(at, 12) for at, name in enumerate(names)}
    for version in range(1, 6):
        if version > 1:
            name = names[version % 3]
            inner[name] = updates.changed(inner[name], version)
        zipped = {name: updates.libdeflate(updates.tar(inner[name])) for name in names}
        layers = list(large.items())
        files = dict(layers[:2]) | zipped | dict(layers[2:])
        write(tmp_path / f"v{version}", {"image.tar": updates.tar(files)})
    size = (tmp_path / "v5/image.tar").stat().st_size
    made: list[int] = []
    append = OpenedText.append

    def count(self: OpenedText, piece: bytes | memoryview) -> None:
        made.append(len(piece))
        append(self, piece)

    monkeypatch.setattr(OpenedText, "append", count)
    for version in range(1, 6):
        made.clear()
        packed = packer.pack(tmp_path / f"v{version}", store=tmp_path / "s", tag=f"app:{version}")
        assert version == 1 or packed.new_bytes < 20_000
        assert (sum(made) > 0) == (version > 2)
        assert sum(made) < size / 8 * (version - 2 if version > 2 else 1)
        made.clear()
        out = tmp_path / f"out{version}"
        packer.unpack(f"app:{version}", out, store=tmp_path / "s")
        data = (tmp_path / f"v{version}/image.tar").read_bytes()
        assert (out / "image.tar").read_bytes() == data
        assert (sum(made) > 0) == (version > 2)
        assert sum(made) < size / 8 * (version - 2 if version > 2 else 1)
