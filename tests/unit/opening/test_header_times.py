"""Times of tar headers, replaced in an old text before a delta against it is made."""

from __future__ import annotations

import io
import random
import tarfile
from collections.abc import Sequence

import pytest

from packer.opening.header_times import MAX_TIME, MAX_TIMES, replaced_times, retime
from tests.conformance.recipe_decoder import replace_times
from tests.updates import tar, texts

OLD, NEW, OTHER = 1_600_000_000, 1_700_000_000, 1_650_000_001
FILES = texts(3, 6)


def retimed(text: bytes, start: int, times: Sequence[tuple[int, int]]) -> bytes:
    """Return a stretch of a stream with other times."""
    out = bytearray(text)
    with memoryview(out) as view:
        retime(view, start, list(times))
    return bytes(out)


def mixed(times: list[int], form: int = tarfile.USTAR_FORMAT) -> bytes:
    """Return an archive whose members have these times by turns."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for number, (name, data) in enumerate(sorted(FILES.items())):
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), times[number % len(times)]
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


@pytest.mark.parametrize("start", [0, 512, 1000, 1024, 1])
def test_an_archive_with_the_times_of_another(start: int) -> None:
    old, new = tar(FILES, OLD), tar(FILES, NEW)
    times = replaced_times([(old[start:], start)], [(new, 0)])
    assert times == ((OLD, NEW),)
    made = retimed(old[start:], start, times)
    at = -start % 512  # a header that is cut off stays as it is
    assert made == old[start : start + at] + new[start + at :]
    assert old == tar(FILES, OLD)


def test_each_old_time_becomes_what_most_members_have_now() -> None:
    old = mixed([OLD, OTHER])
    new = mixed([NEW, NEW + 1])
    times = replaced_times([(old, 0)], [(new, 0)])
    assert sorted(times) == [(OLD, NEW), (OTHER, NEW + 1)]
    assert retimed(old, 0, times) == new


def test_times_that_stay_and_those_of_single_members_are_left() -> None:
    one = {"a": b"1", **FILES}
    assert replaced_times([(tar(FILES, OLD), 0)], [(tar(FILES, OLD), 0)]) == ()
    assert replaced_times([(tar({"a": b"1"}, OLD), 0)], [(tar({"a": b"1"}, NEW), 0)]) == ()
    assert replaced_times([(tar(one, OLD), 0)], [(b"no archive" * 1000, 0)]) == ()
    assert replaced_times([(b"", 0)], [(b"", 0)]) == ()
    assert replaced_times([(b"short", 7)], [(b"short", 9)]) == ()


def test_at_most_so_many_times() -> None:
    files = {f"{number:03}": b"" for number in range(400)}
    pairs = [(tar({name: b""}, OLD + at // 2)[:512]) for at, name in enumerate(files)]
    later = [(tar({name: b""}, NEW + at // 2)[:512]) for at, name in enumerate(files)]
    assert len(replaced_times([(b"".join(pairs), 0)], [(b"".join(later), 0)])) == MAX_TIMES


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_the_second_reader_replaces_the_same(form: int) -> None:
    draw = random.Random(form)
    whole = mixed([OLD, OTHER, 0, MAX_TIME], form)
    for _ in range(300):
        text = bytearray(whole)
        for _ in range(draw.randrange(4)):  # headers that are none, or written otherwise
            at = 512 * draw.randrange(len(text) // 512)
            text[at + draw.choice([0, 136, 140, 147, 148, 153, 154, 155, 257, 400])] ^= 1
        start = draw.choice([0, 3, 512, 700])
        times = [(draw.choice([OLD, OTHER, 0, 1 << 60]), draw.randrange(MAX_TIME + 1))]
        times += [(OLD, 5), (MAX_TIME, MAX_TIME), (5, 6)]
        expected = text[start:]
        replace_times(expected, start, dict(reversed(times)))
        assert retimed(bytes(text[start:]), start, times) == expected
