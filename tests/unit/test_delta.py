"""Delta frames: every text comes back, and frames from strangers are refused with a reason."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packer import codec, delta
from packer.errors import FormatError
from tests.conformance import decoder


def manifest(count: int, seed: int, label: str) -> bytes:
    """Return text like that of many manifests which all name a version."""
    draw = random.Random(seed)
    return b"".join(
        b"kind: Deployment\nmetadata:\n  name: app-%d\n  label: %s\n  token: %x\n"
        % (number, label.encode(), draw.getrandbits(400))
        for number in range(count)
    )


def encoded(older: bytes, text: bytes, level: int = 6) -> bytes:
    frame = delta.encode(bytearray(older + text), len(older), level)
    assert frame is not None
    return frame


def check(older: bytes, text: bytes) -> bytes:
    """Encode; let package and independent decoder read it; return the frame."""
    frame = encoded(older, text)
    assert delta.decode(frame, len(text), "frame", older) == text
    assert decoder.read_delta(frame, older, len(text)) == text
    return frame


def test_a_label_that_changed_everywhere_costs_little() -> None:
    older, text = manifest(3000, 1, "1.4.1"), manifest(3000, 1, "1.4.2")
    frame = check(older, text)
    assert len(frame) < 1000 < len(codec.compress(text, 12, older)) * 2
    assert encoded(older, text) == frame


def test_older_bytes_that_are_too_few_are_not_tried() -> None:
    draw = random.Random(4)
    older, new = draw.randbytes(20_000), draw.randbytes(60_000)
    few = older + new
    assert delta.encode(bytearray(older + few), len(older), 6, share=1 / 3) is None
    assert delta.encode(bytearray(older + few), len(older), 6, share=1 / 4) is not None
    # What repeats is no reason to give up.
    repeated = older + new[:30_000] * 5
    assert delta.encode(bytearray(older + repeated), len(older), 6, share=1 / 3) is not None


def test_text_that_repeats_itself_is_copied_within() -> None:
    noise = random.Random(2).randbytes(40_000)
    frame = check(b"nothing in common" * 9, noise + b"x" + noise + noise[7:])
    assert len(frame) < 42_000


def test_moved_and_reordered_stretches_are_found() -> None:
    draw = random.Random(3)
    parts = [draw.randbytes(3000) for _ in range(40)]
    older = b"".join(parts)
    draw.shuffle(parts)
    assert len(check(older, b"".join(parts))) < 1000


@pytest.mark.parametrize(
    ("older", "text"),
    [(b"a", b""), (b"a", b"a"), (bytes(100_000), bytes(99_999)), (b"ab" * 70, b"ba" * 9000)],
    ids=["empty", "equal", "zeros", "period"],
)
def test_odd_input(older: bytes, text: bytes) -> None:
    check(older, text)


@given(
    st.integers(0, 1 << 30),
    st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 400), st.binary(max_size=80))),
)
def test_any_edits_come_back(seed: int, edits: list[tuple[int, int, bytes]]) -> None:
    older = random.Random(seed).randbytes(2500) + manifest(20, seed, "x")
    text = bytearray(older)
    for at, removed, added in edits:
        text[at : at + removed] = added
    check(older, bytes(text))


@given(st.data())
def test_damaged_frames_are_refused_or_give_other_bytes(data: st.DataObject) -> None:
    # The chunks' digests decide in the end; nothing but FormatError may come out before.
    older, text = manifest(50, 5, "1"), manifest(50, 5, "2")
    frame = bytearray(encoded(older, text))
    for _ in range(data.draw(st.integers(1, 3))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(frame)))
    for damaged in (bytes(frame), bytes(frame[:cut])):
        try:
            assert len(delta.decode(damaged, len(text), "frame", older)) == len(text)
        except FormatError as error:
            assert "frame" in str(error)


def test_copies_that_lie_are_refused() -> None:
    def frame(*values: int, rest: bytes = b"") -> bytes:
        head = codec.compress(b"".join(codec.number(value) for value in values), 3)
        return codec.number(len(head)) + b"\2" + head + codec.compress(rest, 3)

    older = bytes(range(100))
    assert delta.decode(frame(1, 0, 100, 0), 100, "f", older) == older
    for values in (
        (0,),  # no copy
        (2, 0, 100, 0),  # too few numbers
        (1, 0, 100, 0, 0),  # too many
        (1, 0, 0, 0),  # nothing
        (1, 0, 100, 2),  # out of the older bytes into the text
        (1, 0, 100, 200),  # itself
        (1, 1, 100, 0),  # behind the end
        (1, 0, 101, 0),
        (1, 0, 100, 1),  # before the beginning
        (1 << 31, 0),
    ):
        with pytest.raises(FormatError):
            delta.decode(frame(*values), 100, "f", older)
    with pytest.raises(FormatError):
        delta.decode(frame(1, 0, 50, 0, rest=bytes(49)), 100, "f", older)
    bomb = codec.compress(bytes(delta.MAX_COPIES_BYTES + 1), 3)
    with pytest.raises(FormatError):
        delta.decode(codec.number(len(bomb)) + b"\2" + bomb, 100, "f", older)
