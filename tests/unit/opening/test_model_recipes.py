"""Segments that are analysed while their file is inflated further keep their memory so long."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import closing
from typing import Any

import blake3
import pytest

from packer.engine.deflate import Segment
from packer.opening import discovery
from packer.opening.discovery import Discovery, FoundStream, MadeStream
from packer.opening.model_recipes import ModelRecipes
from packer.opening.shelf import Shelf
from packer.opening.workers import Workers
from tests.builders import text

PLAIN = text("plain", 16 << 20)
STREAM = zlib.compress(PLAIN, 1, 31)


class Late(Executor):
    """Calls a function when its result is asked for: as late as a thread may come to it."""

    def submit(self, function: Callable[..., Any], /, *args: Any, **named: Any) -> Future[Any]:
        class Asked(Future[Any]):
            def result(self, timeout: float | None = None) -> Any:
                if not self.done():
                    self.set_result(function(*args, **named))
                return super().result(timeout)

        return Asked()


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
    models = ModelRecipes(Workers(Late()), shelf)

    def visit(stream: FoundStream | MadeStream, position: int, plain: memoryview) -> None:
        assert isinstance(stream, FoundStream)
        models.begin(stream, stream.count - 1, is_new=True)

    def read(start: int, length: int) -> bytes:
        return STREAM[start : start + length]

    found = Discovery(read, len(STREAM), visit=visit)
    with closing(found), closing(models), closing(shelf):
        (stream,) = found.roots
        assert stream.count > 6
        if releases:
            found.release()
        for at in range(stream.count):
            start, size, _ = stream.extent(at)
            recipe = models.get(stream, at)
            assert recipe is not None
            assert bytes(recipe) == recipe_of(PLAIN[start : start + size])
            list(stream.segments(0, stream.size))  # uses whatever memory is free
