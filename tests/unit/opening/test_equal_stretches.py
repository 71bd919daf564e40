"""Stretches that a tar archive shares with the chunks of its older self."""

from __future__ import annotations

import gzip
import random
from contextlib import closing
from io import BytesIO
from itertools import pairwise

import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from packer.engine.chunking import iter_chunks
from packer.opening.equal_stretches import Chunk, equal_stretches
from packer.opening.old_text import OldText
from packer.opening.tar_members import LEAST_BYTES, Read, Stretch
from tests.updates import tar

RANDOM = random.Random(11)
NOISE = [RANDOM.randbytes(LEAST_BYTES * 3) for _ in range(3)]
ZIPPED = gzip.compress(NOISE[2], 0, mtime=0)


def chunks(data: bytes) -> list[Chunk]:
    out = []
    for view, cuts in iter_chunks(BytesIO(data)):
        for start, end in pairwise((0, *cuts)):
            chunk = bytes(view[start:end])
            out.append((len(chunk), blake3.blake3(chunk).digest()[:16]))
    return out


def reading(data: bytes) -> Read:
    return lambda start, length: data[start : start + length]


def equal(new: bytes, old: bytes) -> list[tuple[Stretch, bytes]]:
    """Return the stretches of the new text, and what they hold; both texts hold them."""
    found = equal_stretches(
        reading(new), len(new), chunks(new), reading(old), len(old), chunks(old)
    )
    held = {old[start:end] for start, end in found.old}
    assert all(behind <= start for (_, behind), (start, _) in pairwise(found.new))
    assert all(behind < start for (_, behind), (start, _) in pairwise(found.old))
    for start, end in found.new:
        assert any(new[start:end] in each for each in held)
    return [((start, end), new[start:end]) for start, end in found.new]


def covered(found: list[tuple[Stretch, bytes]], start: int, end: int) -> bool:
    return any(first <= start and end <= last for (first, last), _ in found)


def test_all_of_it() -> None:
    data = tar({"a": NOISE[0], "b.gz": ZIPPED})
    assert [stretch for stretch, _ in equal(data, data)] == [(0, len(data))]


def test_members_of_an_archive_within_that_moved_and_was_renamed() -> None:
    inner = {"a": NOISE[0], "b.gz": ZIPPED, "c": b"one"}
    old = tar({"layer-1.tar": tar(inner), "z": NOISE[1]})
    new = tar({"a": b"!" * 100_000, "layer-2.tar": tar({**inner, "c": b"two"})})
    found = equal(new, old)
    at = new.index(ZIPPED)
    assert covered(found, at, at + len(ZIPPED))
    at = new.index(b"c\0\0\0")
    assert not covered(found, at, at + 600)


def test_an_archive_that_changed_is_left_from_its_start() -> None:
    """What is known of it ends where it begins: else its stream would not be found."""
    other = ZIPPED[:-300_000] + NOISE[1][:299_992] + ZIPPED[-8:]
    files = {"a": NOISE[0], "b.gz": ZIPPED, "c": NOISE[1]}
    old, new = tar(files), tar({**files, "b.gz": other})
    found = equal(new, old)
    start = new.index(other)
    assert covered(found, start - 100_000, start - 512)
    assert not any(
        first < start + len(other) - 9 and start - 512 < last for (first, last), _ in found
    )


def test_an_archive_between_members_that_changed() -> None:
    """It begins in a chunk that both share in part; it is set aside from its first byte."""
    old = tar({"a": b"1" * 999, "b.gz": ZIPPED, "c": b"1" * 999})
    new = tar({"a": b"2" * 999, "b.gz": ZIPPED, "c": b"2" * 999})
    found = equal(new, old)
    start = new.index(ZIPPED)
    assert found[0][0][0] == start
    assert covered(found, start, start + len(ZIPPED) - 600)


def test_a_member_without_archives_is_set_aside_in_part() -> None:
    edited = NOISE[0][:400_000] + b"edited" + NOISE[0][400_000:]
    found = equal(tar({"a": edited}), tar({"a": NOISE[0]}))
    assert len(found) == 2
    assert sum(len(held) for _, held in found) > len(NOISE[0]) - (512 << 10)


def test_what_is_set_aside_is_not_read() -> None:
    old = tar({"a": NOISE[0], "b.gz": ZIPPED, "c.gz": gzip.compress(b"old" * 999, mtime=0)})
    new = tar({"a": NOISE[0], "b.gz": ZIPPED, "c.gz": gzip.compress(b"new" * 999, mtime=0)})
    asked: list[Stretch] = []

    def read(start: int, length: int) -> bytes:
        asked.append((start, start + length))
        return old[start : start + length]

    found = equal_stretches(reading(new), len(new), chunks(new), read, len(old), chunks(old))
    assert sum(end - start for start, end in asked) < 256 << 10
    asked.clear()
    assert list(found.old) == list(found.new)
    places = [old.index(gzip.compress(b"old" * 999, mtime=0))]
    with closing(OldText(read, len(old), None, places=places)) as text:
        assert [stream.size for stream in text.streams] == [3 * 999]
    assert sum(end - start for start, end in asked) < len(old) / 5


def test_nothing_is_read_behind_the_end() -> None:
    """A member is cut off behind its header, and chunks end within what is left of it."""
    start = tar({"a": NOISE[0], "b.gz": ZIPPED})
    start = start[: start.index(ZIPPED)]
    new, old = start + b"xy", start + b"xz"

    def read(at: int, length: int) -> bytes:
        assert at + length <= len(new)
        return new[at : at + length]

    one, two, three = (bytes([at]) * 16 for at in range(3))
    found = equal_stretches(
        read,
        len(new),
        [(len(start) + 1, one), (1, two)],
        reading(old),
        len(old),
        [(len(start) + 1, one), (1, three)],
    )
    assert list(found.new) == list(found.old) == [(0, len(start) + 1)]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 3)), min_size=1, max_size=9), st.data())
def test_any_tars(members: list[tuple[int, int]], data: st.DataObject) -> None:
    """Each archive that is not in both is searched for from its first byte."""
    kinds = [NOISE[0], NOISE[1][:70_000], ZIPPED, ZIPPED[:-9] + b"x" + ZIPPED[-8:]]

    def made(order: list[tuple[int, int]]) -> bytes:
        files = {f"{at}-{name}": kinds[kind] for at, (name, kind) in enumerate(order)}
        inner = {f"i{name}": content for name, content in files.items()}
        return tar({**files, "l.tar": tar(inner)})

    old, new = made(members), made(data.draw(st.permutations(members)))
    found = equal(new, old)
    for (first, last), held in found:
        at = held.find(ZIPPED[:20])
        while at >= 0:
            begin = first + at
            if begin + len(ZIPPED) > last:  # only if nothing that follows differs
                assert last == len(new)
            at = held.find(ZIPPED[:20], at + 1)
