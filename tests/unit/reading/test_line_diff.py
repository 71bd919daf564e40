"""Line diffs: right for any texts, as short as need be, and bounded in time."""

from __future__ import annotations

import random
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packer.reading.line_diff import Hunk, hunks_of, matching_blocks
from tests.builders import text


def applied(old: bytes, hunks: list[Hunk]) -> bytes:
    """Apply hunks as patch does, and check what they say of the old text."""
    lines = old.split(b"\n")
    last = lines.pop()
    before = [line + b"\n" for line in lines] + ([last] if last else [])
    out: list[bytes] = []
    at = 0
    for hunk in hunks:
        start = hunk.old_start - (hunk.old_lines > 0)
        assert start >= at
        out += before[at:start]
        at = start
        assert len(out) == hunk.new_start - (hunk.new_lines > 0)
        counts = {" ": 0, "-": 0, "+": 0}
        for mark, line in hunk.lines:
            data = line.encode("utf-8", "surrogateescape")
            counts[mark] += 1
            if mark != "+":
                assert before[at] == data
                at += 1
            if mark != "-":
                out.append(data)
        assert counts[" "] + counts["-"] == hunk.old_lines
        assert counts[" "] + counts["+"] == hunk.new_lines
        assert counts["-"] + counts["+"]
    return b"".join(out + before[at:])


LINES = st.lists(st.sampled_from([b"a\n", b"b\n", b"c\n", b"d\n", b"\n", b"e"]), max_size=30)


@given(LINES, LINES, st.integers(0, 4))
def test_any_texts(old: list[bytes], new: list[bytes], context: int) -> None:
    one, other = b"".join(old), b"".join(new)
    assert applied(one, list(hunks_of(one, other, context))) == other


@given(st.lists(st.integers(0, 3), max_size=12), st.lists(st.integers(0, 3), max_size=12))
def test_what_is_equal_is_found(old: list[int], new: list[int]) -> None:
    blocks = matching_blocks(old, new)
    at = to = 0
    for first, begin, length in blocks:
        assert first >= at
        assert begin >= to
        assert old[first : first + length] == new[begin : begin + length]
        at, to = first + length, begin + length
    if len(set(old)) == len(old) and set(old) == set(new):  # a permutation: something stays
        assert not old or blocks
    if old == new:
        assert sum(block[2] for block in blocks) == len(old)


def test_the_shortest_edit_between_anchors() -> None:
    old, new = [1, 2, 1, 2, 3, 3], [2, 1, 2, 1, 3, 3, 3]
    assert sum(block[2] for block in matching_blocks(old, new)) == 5


def test_an_edit_of_a_large_text_is_small() -> None:
    old = text(1, 400_000)
    lines = old.split(b"\n")
    lines[100] = b"changed"
    lines.insert(5000, b"inserted")
    del lines[9000]
    new = b"\n".join(lines)
    hunks = list(hunks_of(old, new))
    assert len(hunks) == 3
    assert sum(line.mark != " " for hunk in hunks for line in hunk.lines) == 4
    assert applied(old, hunks) == new


@pytest.mark.slow
@pytest.mark.parametrize("lines", ["two", "few", "shuffled", "blocks"])
def test_time_is_bounded(lines: str) -> None:
    """What would take a search without bounds hours."""
    rng = random.Random(1)
    count = 200_000
    make: Callable[[], bytes] = {
        "two": lambda: rng.choice([b"\n", b"a\n"]),
        "few": lambda: b"%d\n" % rng.randrange(50),
        "shuffled": lambda: b"%d\n" % rng.randrange(2 * count),
        "blocks": lambda: b"%d\n" % (rng.randrange(10) * 1000),
    }[lines]
    one, other = (b"".join(make() for _ in range(count)) for _ in range(2))
    start = time.process_time()
    hunks = list(hunks_of(one, other))
    assert time.process_time() - start < 30
    assert applied(one, hunks) == other


@pytest.mark.slow
def test_git_finds_no_shorter_ones_where_texts_are_alike(tmp_path: Path) -> None:
    if shutil.which("git") is None:
        pytest.skip("no git")
    rng = random.Random(3)
    for _ in range(10):
        old = [b"%d\n" % rng.randrange(300) for _ in range(400)]
        new = list(old)
        for _ in range(30):
            at = rng.randrange(len(new))
            new[at : at + rng.randrange(3)] = [b"%d\n" % rng.randrange(300)] * rng.randrange(3)
        (tmp_path / "old").write_bytes(b"".join(old))
        (tmp_path / "new").write_bytes(b"".join(new))
        shown = subprocess.run(
            ["git", "diff", "--no-index", "--minimal", "old", "new"],
            cwd=tmp_path,
            capture_output=True,
            check=False,
        ).stdout.split(b"\n")[4:]
        least = sum(line[:1] in (b"+", b"-") for line in shown)
        hunks = hunks_of(b"".join(old), b"".join(new))
        ours = sum(line.mark != " " for hunk in hunks for line in hunk.lines)
        assert least <= ours <= 1.3 * least
