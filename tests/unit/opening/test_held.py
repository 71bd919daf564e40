"""Bytes of a delta that a recipe holds and gives in parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from packer.engine import delta
from packer.engine.tokens import Span
from packer.errors import FormatError
from packer.files.temporary import Gathered
from packer.opening.against import Against
from packer.opening.members.stored_stream import stored_stream
from packer.opening.old_streams import OldFile, OldStreams
from packer.opening.predecessor import WHOLE, OldStream
from packer.opening.rebuilder import Rebuilder
from packer.opening.recipe import Recipe, RecipeWriter
from tests.builders import text

OLD = text("old", 20_000)
HELD = OLD[:9_000] + b"changed" + OLD[9_100:]
HOLD, SIZE = -1, len(HELD)


def streams() -> OldStreams:
    file = OldFile(
        lambda start, length: OLD[start : start + length],
        len(OLD),
        [OldStream(0, 0, len(OLD), WHOLE)],
        "old",
    )
    return OldStreams([file])


def hold(recipe: RecipeWriter) -> None:
    payload = delta.encode(bytearray(OLD + HELD), len(OLD), 6)
    assert payload is not None
    recipe.delta(len(HELD), [(0, 0, len(OLD))], payload, hold=True)


class Nothing:
    """Content of no bytes."""

    size = 0

    def read(self, start: int, length: int) -> Iterator[memoryview]:
        raise AssertionError


def walked(write: Callable[[RecipeWriter], object], size: int, threads: int = 0) -> bytes:
    """Return what the reader of insides gives."""
    recipe, old = RecipeWriter(), streams()
    write(recipe)
    try:
        against = Against(old, size, "f")
        return stored_stream(
            Recipe(memoryview(b"".join(recipe.finish())), "f"), Nothing(), against
        ).read(size)
    finally:
        old.close()


def rebuilt(write: Callable[[RecipeWriter], object], size: int, threads: int = 0) -> bytes:
    """Return what a recipe gives."""
    recipe, old = RecipeWriter(), streams()
    write(recipe)
    data = b"".join(recipe.finish())
    gathered = Gathered([memoryview(data)], len(data), 1 << 20, None)
    executor = ThreadPoolExecutor(threads) if threads else None
    try:
        made = Rebuilder(gathered, iter([memoryview(b"")]), size, "f", executor, old)
        return b"".join(made.pieces())
    finally:
        old.close()
        if executor is not None:
            executor.shutdown()


@pytest.mark.parametrize("threads", [0, 2])
def test_parts_between_others(threads: int) -> None:
    def write(recipe: RecipeWriter) -> None:
        for _ in range(2):
            hold(recipe)
            recipe.held(5_000)
            recipe.inline(b"between")
            recipe.held(1)
            recipe.held(len(HELD) - 5_001)

    expected = HELD[:5_000] + b"between" + HELD[5_000:]
    assert rebuilt(write, 2 * len(expected), threads) == 2 * expected
    assert walked(write, 2 * len(expected)) == 2 * expected


@pytest.mark.parametrize(
    "parts",
    [[1], [HOLD, 0, SIZE], [HOLD, SIZE + 1], [HOLD, SIZE - 1], [HOLD, HOLD, SIZE], [HOLD, SIZE, 1]],
    ids=str,
)
def test_refused(parts: list[int]) -> None:
    def write(recipe: RecipeWriter) -> None:
        for part in parts:
            if part == HOLD:
                hold(recipe)
            else:
                recipe.held(part)

    for reader in (rebuilt, walked):
        with pytest.raises(FormatError, match="held"):
            reader(write, SIZE + 1)


def test_a_text_has_no_tokens() -> None:
    old = streams()
    assert old.plain(0, Span(3, 50)) == OLD[3:53]
    assert old.reached(0) == old.size(0) == len(OLD)
    with pytest.raises(FormatError, match="no bytes"):
        old.plain(0, Span(19_990, 11))
    with pytest.raises(FormatError, match="no deflate stream"):
        old.fill(0, Span(0, 10))
    old.close()
