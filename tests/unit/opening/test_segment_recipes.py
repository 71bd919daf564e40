"""Segments that are analysed while their file is inflated further keep their memory so long."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import closing
from typing import Any

import blake3
import pytest

from packer.engine.deflate import Segment
from packer.engine.tokens import KIND, OldSpan, Span
from packer.opening import discovery, segment_recipes
from packer.opening.discovery import Discovery
from packer.opening.found_stream import FoundStream, MadeStream
from packer.opening.locating import Votes
from packer.opening.old_text import OldText
from packer.opening.segment_recipes import SegmentRecipes
from packer.opening.shelf import Shelf
from packer.opening.update_plan import SegmentRecipe
from packer.opening.workers import Workers
from tests.builders import text

PLAIN = text("plain", 16 << 20)
STREAM = zlib.compress(PLAIN, 1, 31)
OLDER = zlib.compress(text("older", 1 << 16), 1, 31)


class Late(Executor):
    """Calls a function when its result is asked for: as late as a thread may come to it."""

    def submit(self, function: Callable[..., Any], /, *args: Any, **named: Any) -> Future[Any]:
        class Asked(Future[Any]):
            def result(self, timeout: float | None = None) -> Any:
                if not self.done():
                    self.set_result(function(*args, **named))
                return super().result(timeout)

        return Asked()


def reading(data: bytes) -> Callable[[int, int], bytes]:
    """Return what reads parts of data."""
    return lambda start, length: data[start : start + length]


def recipe_of(plain: bytes | memoryview) -> bytes:
    """Return what stands for the recipe of a segment here: model 6, and a digest of its text."""
    return bytes((6,)) + blake3.blake3(plain).digest()


@pytest.mark.parametrize("releases", [False, True])
def test_recipes_are_those_of_their_segments(
    releases: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing is kept longer than it is held.
    monkeypatch.setattr(discovery, "PACKING_CACHE_BYTES", 1)
    monkeypatch.setattr(Segment, "analyse", lambda self, guess=-1: recipe_of(self.plain))
    shelf = Shelf(None, most=0)
    older = OldText(reading(OLDER), len(OLDER), None)
    votes: dict[int, Votes] = {}
    recipes = SegmentRecipes(older, votes, Workers(Late()), shelf)

    def visit(stream: FoundStream | MadeStream, position: int, plain: memoryview) -> None:
        assert isinstance(stream, FoundStream)
        votes.setdefault(stream.number, Votes())  # none: all of its text is new
        recipes.begin(stream, stream.count - 1)

    found = Discovery(reading(STREAM), len(STREAM), visit=visit)
    with closing(older), closing(found), closing(recipes), closing(shelf):
        (stream,) = found.roots
        assert stream.count > 6
        if releases:
            found.release()
        for at in range(stream.count):
            start, size, _ = stream.extent(at)
            recipe = recipes.get(stream, at, 0)
            assert recipe is not None
            assert bytes(recipe.recipe) == recipe_of(PLAIN[start : start + size])
            list(stream.segments(0, stream.size))  # uses whatever memory is free


def made_of(old: bytes, new: bytes) -> list[SegmentRecipe | None]:
    """Return the recipes of the only stream of a file against its predecessor."""
    votes: dict[int, Votes] = {}
    shelf = Shelf(None)
    older = OldText(reading(old), len(old), None)
    recipes = SegmentRecipes(older, votes, Workers(None), shelf)

    def visit(stream: FoundStream | MadeStream, position: int, plain: memoryview) -> None:
        assert isinstance(stream, FoundStream)
        older.prints.find(position, plain, votes.setdefault(stream.number, Votes()))
        recipes.begin(stream, stream.count - 1)

    found = Discovery(reading(new), len(new), visit=visit)
    with closing(older), closing(found), closing(recipes), closing(shelf):
        (stream,) = found.roots
        return [recipes.get(stream, at, 0) for at in range(stream.count)]


def test_what_is_mostly_old_comes_from_tokens_and_what_is_new_by_a_model() -> None:
    # Segments of 2 MiB: alike, with changed places, and half new.
    changed = bytearray(PLAIN[: 10 << 20])
    for at in range(4 << 20, 6 << 20, 96 << 10):
        changed[at : at + 1200] = text(f"some {at}", 1200)
    for at in range(8 << 20, 10 << 20, 16 << 10):
        changed[at : at + (8 << 10)] = text(f"new {at}", 8 << 10)
    old, new = (zlib.compress(data, 6, 31) for data in (PLAIN, bytes(changed)))
    made = made_of(old, new)
    assert all(made)
    kinds = [(bytes(each.recipe)[0] == KIND, len(each.recipe)) for each in made if each]
    alike, some, half = kinds[1], kinds[2], kinds[4]
    assert alike[0] and alike[1] < 64
    assert some[0] and 128 < some[1] < 2200
    assert not half[0] and half[1] < 64


def dense(size: int, seed: int) -> bytes:
    """Return text that hardly shrinks, as an archive within another."""
    return bytes(each & 0x7F for each in random.Random(seed).randbytes(size))


def literals(data: bytes) -> bytes:
    """Return a stream of a token for each byte."""
    encoder = zlib.compressobj(1, zlib.DEFLATED, 31, 9, zlib.Z_HUFFMAN_ONLY)
    return encoder.compress(data) + encoder.flush()


def test_a_span_of_a_large_text_takes_as_much_memory_however_dense_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun: list[int] = []
    begin = OldSpan.begin

    def beginning(self: OldSpan, span: Span) -> None:
        begun.append(span.size)
        begin(self, span)

    monkeypatch.setattr(OldSpan, "begin", beginning)
    monkeypatch.setattr(Segment, "analyse", lambda self, guess=-1: None)  # no model
    data = dense(6 << 20, 1)
    cuts = range(0, len(data), 256 << 10)  # each part moves by 256 KiB against the one before
    newer = b"".join(dense(256 << 10, at) + data[at : at + (256 << 10)] for at in cuts)
    old, new = literals(data), literals(newer)
    made_of(old, new)
    assert max(begun) > 3_000_000
    begun.clear()
    monkeypatch.setattr(segment_recipes, "_LARGE_BYTES", 1 << 20)
    made_of(old, new)
    share = 7 / 8
    assert 2 << 20 < max(begun) <= (12 << 20) / (1 + 4 * share)


@pytest.mark.parametrize("has_model", [False, True])
def test_nothing_is_analysed_twice(has_model: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int | None] = []

    def no_tokens(
        self: OldSpan, segment: Segment, most: int | None, work: int | None
    ) -> tuple[None, None]:
        asked.append(most)
        return None, None

    monkeypatch.setattr(OldSpan, "analyse", no_tokens)
    monkeypatch.setattr(
        Segment,
        "analyse",
        lambda self, guess=-1: bytes((6,)) + bytes(1 << 10) if has_model else None,
    )
    made = made_of(*(zlib.compress(PLAIN[: 6 << 20], 6, 31) for _ in range(2)))
    assert len(asked) == len(made) > 2
    if has_model:  # its recipe is longer than a sure one, and shorter than what tokens may take
        assert all(made) and all(most is not None and most > 1 << 10 for most in asked[:2])
    else:
        assert not any(made) and asked == [None] * len(made)


@pytest.mark.parametrize("recipe", [None, bytes(100), bytes(1 << 10)])
@pytest.mark.parametrize("segments", [1, 3])
def test_new_text_is_analysed_once(
    segments: int, recipe: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def analyse(self: Segment, guess: int = -1) -> bytes | None:
        asked.append(len(self.plain))
        return recipe

    monkeypatch.setattr(Segment, "analyse", analyse)
    new = text("new", segments * (2 << 20) - (1 << 20))
    made = made_of(OLDER, zlib.compress(new, 6, 31))
    assert len(made) == segments
    least = 1 if recipe is None else segments  # no model: the others are not tried
    assert len(asked) == least
    if recipe is not None and len(recipe) <= 256:
        assert [bytes(each.recipe) for each in made if each] == [recipe] * segments
