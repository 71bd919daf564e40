"""Members that two tar archives hold alike, and what is looked for beside them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import closing

import pytest

from packer.engine.chunking import ChunkParams
from packer.opening import equal_members as module
from packer.opening.equal_members import LEAST_BYTES, Stretch, equal_members
from packer.opening.old_text import OldText
from packer.opening.updating import Update
from packer.opening.workers import Workers
from tests.updates import changed, libdeflate, tar, texts
from tests.zstd_archives import layers

NOISE = random.Random(3).randbytes(LEAST_BYTES)


def reading(data: bytes) -> module.Read:
    return lambda start, length: data[start : start + length]


def none_unknown(start: int, end: int) -> Sequence[Stretch]:
    return ()


def equal(
    new: bytes, old: bytes, unknown: Sequence[Stretch] = ()
) -> tuple[list[bytes], list[bytes]]:
    def parts(start: int, end: int) -> list[Stretch]:
        return [(max(a, start), min(b, end)) for a, b in unknown if a < end and b > start]

    found = equal_members(reading(new), len(new), reading(old), len(old), parts)
    return [new[slice(*at)] for at in found.new], [old[slice(*at)] for at in found.old]


def test_members_of_the_same_name_and_size() -> None:
    old = tar({"a": NOISE, "b": NOISE + b"1", "c": b"small", "gone": NOISE})
    new = tar({"a": NOISE, "b": NOISE + b"12", "c": b"small", "d": NOISE})
    assert equal(new, old) == ([NOISE], [NOISE])


def test_what_is_unknown_is_compared() -> None:
    other = b"x" + NOISE[1:]
    old, new = tar({"a": other, "b": NOISE}), tar({"a": NOISE, "b": NOISE})
    assert equal(new, old, [(0, 1024)])[0] == [NOISE]
    second = new.index(NOISE, 1024)
    assert equal(new, old, [(0, 1024), (second - 9, second + 9)])[0] == [NOISE]


def test_a_member_that_is_unknown_for_the_most_part_is_opened_once_more() -> None:
    data = tar({"a": NOISE})
    half = 512 + len(NOISE) // 2
    assert equal(data, data, [(512, half)]) == ([NOISE], [NOISE])
    assert equal(data, data, [(512, half + 1)]) == ([], [])


@pytest.mark.parametrize(
    "text",
    [b"", bytes(1024), b"no archive" * 100, tar({"a": NOISE})[: 512 + 9], b"a" + tar({"a": NOISE})],
)
def test_what_is_no_archive_has_no_members(text: bytes) -> None:
    assert equal(text, text) == ([], [])


def test_the_number_of_headers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    data = tar({"a": NOISE, "b": NOISE})
    monkeypatch.setattr(module, "_MOST_HEADERS", 1)
    assert equal(data, data) == ([NOISE], [NOISE])


def test_layers_that_did_not_change_are_not_read() -> None:
    """The old text is read where its members begin, and beside what did not change."""
    old, new = (tar(layers(version, noise_bytes=2 << 20)) for version in (1, 2))
    start = old.index(b"\x1f\x8b")
    base = start, start + int(old[start - 512 + 124 : start - 512 + 135], 8)

    def read(at: int, length: int) -> bytes:
        assert at + length <= base[0] + 3 or at >= base[1], "it is read"
        return old[at : at + length]

    found = equal_members(reading(new), len(new), read, len(old), none_unknown)
    assert list(found.old) == [base]
    with closing(OldText(read, len(old), None, aside=found.old)) as text:
        assert not text.is_whole
        assert len(text.streams) == 1
        made = Update(reading(new), len(new), text, Workers(), aside=found.new)
        with closing(made):
            assert made.begin(1e9)
            stored = sum(len(bytes(chunk)) for chunk in made.content(ChunkParams()))
            recipe = sum(len(bytes(chunk)) for chunk in made.recipe_chunks(ChunkParams()))
    changed_bytes = len(libdeflate(tar(changed(texts(), 2))))
    assert recipe < changed_bytes / 20
    assert stored > 2 << 20
