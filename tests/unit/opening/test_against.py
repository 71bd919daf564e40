"""Recipes that refer to old streams, changed anywhere: refused, or other bytes; never worse."""

from __future__ import annotations

import gzip
import random

import pytest

from packer.errors import FormatError
from packer.files.temporary import Gathered
from packer.opening.old_streams import OldFile, OldStreams
from packer.opening.predecessor import OldStream
from packer.opening.rebuilder import Rebuilder
from tests.builders import text
from tests.predecessors import gzip_against

PLAIN = text("old", 12_000)
NEW = PLAIN[:5000] + text("new", 300) + PLAIN[5100:]
OLD_FILE, NEW_FILE = (gzip.compress(data, 9, mtime=0) for data in (PLAIN, NEW))


def rebuilt(recipe: bytes, content: bytes, old_file: bytes = OLD_FILE) -> bytes:
    """Return what a recipe gives."""
    file = OldFile(
        lambda start, length: old_file[start : start + length],
        len(old_file),
        [OldStream(0, 10, len(PLAIN))],
        "old",
    )
    old = OldStreams([file])
    try:
        gathered = Gathered([memoryview(recipe)], len(recipe), 1 << 20, None)
        pieces = iter([memoryview(content)])
        rebuilder = Rebuilder(gathered, pieces, len(NEW_FILE), "f", None, old)
        return b"".join(rebuilder.pieces())
    finally:
        old.close()


@pytest.mark.slow
def test_bytes_of_a_recipe_changed_at_random() -> None:
    sizes = {"target": 4_000, "most": 3_000}
    made = gzip_against(NEW_FILE, OLD_FILE, (NEW, PLAIN), **sizes).file(NEW_FILE)
    assert rebuilt(made.recipe, made.content) == NEW_FILE
    draw, wrong = random.Random(5), 0
    for _ in range(1500):
        recipe = bytearray(made.recipe)
        for _ in range(draw.randint(1, 3)):
            at = draw.randrange(len(recipe))
            recipe[at] = draw.choice([0, 1, 64, 127, 128, 255, recipe[at] ^ 1 << draw.randrange(8)])
        try:
            wrong += rebuilt(bytes(recipe), made.content) != NEW_FILE
        except FormatError as error:
            assert "recipe of f" in str(error) or "old" in str(error)
    assert wrong < 1500


@pytest.mark.slow
def test_bytes_of_a_predecessor_changed_at_random() -> None:
    made = gzip_against(NEW_FILE, OLD_FILE, (NEW, PLAIN)).file(NEW_FILE)
    draw, same = random.Random(6), 0
    for _ in range(300):
        old = bytearray(OLD_FILE)
        old[draw.randrange(10, len(old) - 8)] ^= 1 << draw.randrange(8)
        try:
            same += rebuilt(made.recipe, made.content, bytes(old)) == NEW_FILE
        except FormatError as error:
            assert "recipe of f" in str(error) or "old" in str(error)
    assert same < 100  # of a literal that the recipe does not need
