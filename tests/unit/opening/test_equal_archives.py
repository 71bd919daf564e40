"""Archives that two tar archives hold alike, beside the chunks that they share."""

from __future__ import annotations

import gzip
import io
import random
from collections.abc import Iterator
from itertools import pairwise

import blake3
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packer.engine.chunking import iter_chunks
from packer.opening import equal_archives as module
from packer.opening.equal_archives import Changed, TarText, changed_archives
from packer.opening.equal_stretches import Chunk
from packer.opening.tar_members import LEAST_BYTES
from tests.builders import noise, text
from tests.updates import tar, zipped

LARGE = noise("large", 3 * LEAST_BYTES)
GZ = [gzip.compress(text(at, 3_000 + 500 * at), mtime=0) for at in range(5)]
SEPARATE = noise("separate", 300_000)
"""Between members, so that a new time does not lie in a chunk of the large one."""


class Reader:
    """Reads a text as a file would be read: never beyond its end."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __call__(self, start: int, length: int) -> bytes:
        assert 0 <= start <= start + length <= len(self.data)
        return self.data[start : start + length]


def chunks(data: bytes, made: bytes = b"") -> list[Chunk]:
    """Return the chunks of a text; those that meet `made` are none."""
    out, position = [], 0
    at = data.index(made) if made else -1
    for view, cuts in iter_chunks(io.BytesIO(data)):
        for start, end in pairwise((0, *cuts)):
            chunk = bytes(view[start:end])
            meets = bool(made) and position < at + len(made) and at < position + len(chunk)
            out.append((len(chunk), b"" if meets else blake3.blake3(chunk).digest()[:16]))
            position += len(chunk)
    return out


def compared(new: bytes, old: bytes, made: bytes = b"") -> Changed | None:
    return changed_archives(
        TarText(Reader(new), len(new), chunks(new)),
        TarText(Reader(old), len(old), chunks(old, made)),
    )


def versions(changed: bytes, **others: bytes) -> tuple[bytes, bytes]:
    """Return a tar archive and its older self; all headers have a new time."""
    same = {"a.gz": GZ[0], "b.jar": zipped({"x": text("x", 900)}), **others, "c.gz": GZ[1]}
    old = tar({"large": LARGE, **same, "d.gz": GZ[2], "e": SEPARATE}, 1_600_000_000)
    new = tar({"large": LARGE, "e": SEPARATE, "d.gz": changed, **same}, 1_700_000_000)
    return new, old


def test_a_changed_one_among_others() -> None:
    new, old = versions(GZ[3])
    found = compared(new, old)
    assert found is not None
    assert list(found.places) == [new.index(GZ[3])]
    assert list(found.old_places) == [old.index(GZ[2])]
    assert found.bytes == len(GZ[3])
    assert len(GZ[3]) < found.read_bytes < len(new) + len(old) - 2 * LEAST_BYTES


def test_nothing_changed() -> None:
    found = compared(*versions(GZ[2]))
    assert found is not None
    assert not len(found.places)
    assert not len(found.old_places)
    assert found.bytes == 0
    assert found.read_bytes > 0


def test_an_old_one_that_was_opened_lies_in_no_chunk() -> None:
    new, old = versions(GZ[2])
    found = compared(new, old, made=GZ[1])
    assert found is not None
    assert new.index(GZ[1]) in found.places
    assert old.index(GZ[1]) in found.old_places
    assert found.bytes >= len(GZ[1])


def test_an_archive_behind_no_header() -> None:
    """It counts up to where the next one begins, though it may end before that."""
    new, old = versions(GZ[2], bin=b"program" * 99 + GZ[4] + b"behind" * 99)
    found = compared(new, old)
    assert found is not None
    assert list(found.places) == [new.index(GZ[4])]
    assert found.bytes == new.index(GZ[1]) - new.index(GZ[4])


@pytest.mark.parametrize("most", [0, 3])
def test_more_places_than_are_noted(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(module, "_MOST_PLACES", most)
    assert compared(*versions(GZ[2])) is None


def test_more_archives_than_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of what lies between equal chunks may have changed then."""
    monkeypatch.setattr(module, "_MOST_COMPARED", 2)
    new, old = versions(GZ[2])
    found = compared(new, old)
    assert found is not None
    assert {new.index(data) for data in GZ[:3]} <= set(found.places)
    assert {old.index(data) for data in GZ[:3]} <= set(found.old_places)
    assert 3 * len(GZ[0]) < found.bytes < found.read_bytes


def test_chunks_of_what_is_no_tar_archive_are_not_listed() -> None:
    def never() -> Iterator[Chunk]:
        raise AssertionError
        yield

    for data in (b"", GZ[0], b"x" * 9_000):
        text = TarText(Reader(data), len(data), never())
        assert changed_archives(text, text) is None


def test_what_is_no_tar_archive_or_shares_nothing() -> None:
    assert compared(b"x" + LARGE, b"x" + LARGE) is None
    assert compared(tar({"a": LARGE, "b": GZ[0]}), tar({"c": noise("c", 99)})) is None
    assert compared(b"", b"") is None


MEMBERS = {
    "large": LARGE,
    "separate": SEPARATE,
    "text": text("t", 5_000),
    **{f"{at}.gz": data for at, data in enumerate(GZ)},
    "x.zip": zipped({"x": text("x", 900), "y": text("y", 90)}),
    "inner.tar": tar({"a.gz": GZ[4], "noise": noise("i", 9_000)}),
    "within": b"\x7fELF" + GZ[3] + b"behind",
}


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from(sorted(MEMBERS)), max_size=9),
    st.lists(st.sampled_from(sorted(MEMBERS)), max_size=9),
    st.integers(0, 2),
)
def test_any_archives(new_names: list[str], old_names: list[str], seed: int) -> None:
    """What the older self lacks begins where something is looked for."""
    draw = random.Random(seed)
    new, old = (
        tar({f"{at}-{name}": MEMBERS[name] for at, name in enumerate(["large", *names])}, time)
        for names, time in ((new_names, draw.choice([1, 9])), (old_names, 1))
    )
    found = compared(new, old)
    if found is None:
        return
    assert list(found.places) == sorted(set(found.places))
    missing = 0
    for name, data in MEMBERS.items():
        if name.endswith((".gz", ".zip")) and data in new and data not in old:
            assert new.index(data) in found.places
            missing += len(data)
    assert found.bytes >= missing
