"""Delta frames: every text comes back, and frames from strangers are refused with a reason."""

from __future__ import annotations

import itertools
import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packer.engine import delta, zstd
from packer.engine.native import ffi, lib
from packer.errors import FormatError
from tests.conformance import frame_decoder


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
    assert frame_decoder.read_delta(frame, older, len(text)) == text
    assert delta.is_frame_of(memoryview(text), frame, "frame", older)
    for at in {0, len(text) // 2, len(text) - 1} if text else ():
        other = bytearray(text)
        other[at] ^= 1
        assert not delta.is_frame_of(memoryview(other), frame, "frame", older)
    return frame


def test_a_label_that_changed_everywhere_costs_little() -> None:
    older, text = manifest(3000, 1, "1.4.1"), manifest(3000, 1, "1.4.2")
    frame = check(older, text)
    assert len(frame) < 1000 < len(zstd.compress(text, 12, older)) * 2
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


def test_next_to_no_older_bytes_are_not_looked_at() -> None:
    draw = random.Random(5)
    older, new = draw.randbytes(2_000), draw.randbytes(2_000)
    for times, tried in ((10, True), (16, False)):
        text = (older + new) * times
        frame = delta.encode(bytearray(older + text), len(older), 6, share=1 / 3)
        assert (frame is not None) is tried


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
            assert len(delta.decode(damaged, len(text), "frame", bytearray(older))) == len(text)
        except FormatError as error:
            assert "frame" in str(error)


def test_copies_that_lie_are_refused() -> None:
    def frame(*parts: bytes, rest: bytes = b"", extra: bytes = b"") -> bytes:
        """A frame with these columns of classes."""
        columns = b"".join(b"\0" + part for part in parts)
        coded = zstd.number(len(parts[0]) if parts else 0) + columns + b"\0" + extra
        return zstd.number(len(coded)) + coded + b"\0" + zstd.compress(rest, 3)

    older = bytes(range(30))

    def both(stored: bytes) -> bytes:
        text = delta.decode(stored, 30, "f", bytearray(older))
        assert frame_decoder.read_delta(stored, older, 30) == text
        return bytes(text)

    assert both(frame(b"\0", bytes([30]), b"\0")) == older
    twice = frame(b"\0\0", bytes([15, 15]), b"\0" + bytes([128 + 30]))
    assert both(twice) == older[:15] * 2
    packed = zstd.number(len(column := zstd.compress(bytes([30]), 3))) + column
    coded = b"\1\0\0" + packed + b"\0\0\0"
    assert both(zstd.number(len(coded)) + coded + b"\0" + zstd.compress(b"", 3)) == older
    for stored in (
        frame(),  # no copy
        frame(b"\0", bytes([30])),  # a column is missing
        frame(b"\0", bytes([30]), b"\0", b"\0"),  # one too many
        frame(b"\0", bytes([30]), b"\0", extra=b"\0"),  # bits too many
        frame(b"\0", bytes([32]), b"\0"),  # and missing
        frame(b"\0", bytes([116]), b"\0", extra=bytes(9)),  # no such class
        frame(b"\0", b"\0", b"\0"),  # nothing
        frame(b"\0", bytes([30]), b"\1"),  # out of the older bytes into the text
        frame(b"\0", bytes([30]), b"\2"),  # before the beginning
        frame(b"\0", bytes([30]), b"\x80"),  # itself
        frame(b"\0\0", bytes([15, 15]), b"\0" + bytes([29])),  # the other kind
        frame(b"\1", bytes([30]), b"\0"),  # behind the end
        frame(b"\0", bytes([31]), b"\0"),
        frame(b"\0", bytes([15]), b"\0", rest=bytes(14)),
        b"\x07" + zstd.number(delta.MAX_COPIES + 1) + b"\0\0\0\0\0" + zstd.compress(b"", 3),
    ):
        with pytest.raises(FormatError):
            delta.decode(stored, 30, "f", bytearray(older))
        with pytest.raises(Exception):  # noqa: B017
            frame_decoder.read_delta(stored, older, 30)
    # Bits of padding that are not 0.
    text = bytes(range(30)) * 2
    wide = frame(b"\0", bytes([32]), b"\0", rest=text[32:], extra=b"\0")
    assert delta.decode(wide, 60, "f", bytearray(text)) == text
    with pytest.raises(FormatError):
        delta.decode(
            frame(b"\0", bytes([32]), b"\0", rest=text[32:], extra=b"\x80"),
            60,
            "f",
            bytearray(text),
        )
    bomb = zstd.compress(bytes(1 << 20), 3)
    coded = b"\1" + zstd.number(len(bomb)) + bomb + b"\0\0\0\0\0"
    with pytest.raises(FormatError):
        delta.decode(zstd.number(len(coded)) + coded + b"\0" + bomb, 30, "f", bytearray(older))


def bits(*codes: str) -> bytes:
    """Bytes of these bits, the first one the lowest."""
    joined = "".join(codes)
    return int(joined[::-1], 2).to_bytes((len(joined) + 7) // 8, "little")


@pytest.mark.parametrize(
    ("selection", "kept"),
    [
        (b"", []),
        (b"\0" + bits("1", "1"), [0]),
        (b"\0" + bits("1", "00110"), [0, 1, 2, 3, 4]),
        (b"\0" + bits("0", "010", "1"), [2]),
        (b"\0" + bits("0", "1", "1", "1", "1"), [1, 3]),
        (b"\x21" + bits("1", "100", "10", "100"), [0, 2]),
        (b"\0" + bits("1", "1", "1", "1", "1", "1", "010"), None),  # ends with blocks left out
        (b"\0" + bits("1", "00111"), None),  # a block too many
        (b"\0" + bits("0", "00101"), None),  # nothing kept
        (b"\0" + bits("1", "1") + b"\0", None),  # a byte too many
        (b"\0" + bits("1", "1", "01"), None),  # bits left
        (b"\0" + bits("1", "0001"), None),  # cut off
        (b"\0" + bits("1") + bytes(9), None),
        (b"\0", None),
        (b"\x0c" + bits("1", "1"), None),  # no such order
        (b"\xc0" + bits("1", "1"), None),
    ],
)
def test_selections(selection: bytes, kept: list[int] | None) -> None:
    older = random.Random(1).randbytes(4 * 1024 + 5)
    if kept is not None:
        assert frame_decoder.read_selection(selection, 5) == kept
        prefix = b"".join(older[at * 1024 : at * 1024 + 1024] for at in kept)
    else:
        with pytest.raises(Exception):  # noqa: B017
            frame_decoder.read_selection(selection, 5)
        prefix = b""
    for text in (prefix, prefix * 3 + bytes(2000)):  # behind zeros, the second one
        if text:
            body = zstd.compress(text, 3, prefix.rjust(len(text), b"\0") if prefix else b"")
            stored = b"\0" + zstd.number(len(selection)) + selection + body
            if kept is None:
                with pytest.raises(FormatError):
                    delta.decode(stored, len(text), "f", bytearray(older))
            else:
                assert delta.decode(stored, len(text), "f", older) == text
                assert frame_decoder.read_delta(stored, older, len(text)) == text


def test_only_what_has_something_in_common_is_kept() -> None:
    draw = random.Random(8)
    parts = [draw.randbytes(1024) for _ in range(400)]
    pieces = parts[77][500:520], parts[201], parts[200][40:90]
    text = b"".join(draw.randbytes(300) + piece for piece in pieces)
    frame = check(b"".join(parts), text)
    copies, at = zstd.read_number(frame, "f")
    length, start = zstd.read_number(frame[at + copies :], "f")
    selection = frame[at + copies + start :][:length]
    assert frame_decoder.read_selection(selection, 400) == [77, 200]  # 201 is copied


def copies_of(older: bytes, text: bytes) -> list[tuple[int, int, int]]:
    """Place in the text, place in both and length of each copy."""
    data = older + text
    with ffi.from_buffer("uint8_t[]", data) as view:
        table, out = ffi.new("uint32_t[]", 1 << 16), ffi.new("pk_copy[]", len(text) // 64 + 1)
        count = lib.pk_delta_find_fresh(
            view, len(older), len(data), len(data), table, 16, ffi.NULL, out, len(out)
        )
    return [(each.at - len(older), getattr(each, "from"), each.length) for each in out[0:count]]


def test_copies_in_gaps_between_others_are_found() -> None:
    """Short stretches from afar, of which no coarse fingerprint is taken, and a repeated one."""
    draw = random.Random(9)
    older, new = draw.randbytes(400_000), draw.randbytes(400)
    short = [older[at : at + 300] for at in range(300_000, 390_000, 3_000)]
    parts = [older[at : at + 10_000] for at in range(0, 300_000, 10_000)]
    text = b"".join(part + one + new for part, one in zip(parts, short, strict=True))
    found = copies_of(older, text)
    assert all((older + text)[at : at + n] == text[to : to + n] for to, at, n in found)
    assert all(one[0] + one[2] <= other[0] for one, other in itertools.pairwise(found))
    missing = len(text) - sum(length for _, _, length in found)
    assert missing < 2 * len(new) + 10 * len(short)
    check(older, text)


def test_a_copy_from_a_gap_may_cover_what_was_found_before() -> None:
    """One copy is made of what is in order, though newer bytes hold most of it as well."""
    draw = random.Random(10)
    for _ in range(20):
        stretch = draw.randbytes(3_000)
        older = draw.randbytes(5_000) + stretch + draw.randbytes(5_000) + stretch[900:2_100]
        text = draw.randbytes(700) + stretch + draw.randbytes(700)
        ((at, _, length),) = copies_of(older, text)
        assert at <= 700 and at + length >= 3_700  # random bytes around may be equal


@pytest.mark.parametrize("seed", range(8))
def test_the_search_for_copies_ends_early_only_where_a_delta_would_be_refused(seed: int) -> None:
    """A bound that is too low would store plain what a delta had halved: bytes would change."""
    rnd = random.Random(seed)
    older = rnd.randbytes(rnd.randrange(200, 40_000))
    text = bytearray()
    while len(text) < 300_000:
        source = rnd.choice((older, bytes(text) or older, rnd.randbytes(20_000)))
        start = rnd.randrange(len(source))
        text += source[start : start + rnd.randrange(100, 20_000)]
    data = older + bytes(text)
    view = ffi.from_buffer("uint8_t[]", data)
    table, copies = ffi.new("uint32_t[]", 1 << 14), ffi.new("pk_copy[]", 10_000)

    def find(most_fresh: int) -> int:
        return int(
            lib.pk_delta_find_fresh(
                view, len(older), len(data), most_fresh, table, 14, ffi.NULL, copies, 10_000
            )
        )

    count = find(len(data))
    assert 0 < count < 10_000
    own = lib.pk_delta_copied(copies, count, len(data))
    fresh = len(text) - own + lib.pk_delta_copied(copies, count, len(older))
    assert find(fresh) == count
    assert find(fresh // 2) == lib.PK_TOO_FRESH
    assert find(0) == lib.PK_TOO_FRESH


def test_large_deltas_of_low_levels_are_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    older, text = manifest(3000, 1, "1.4.1"), manifest(3000, 1, "1.4.2")
    levels: list[int] = []
    real = zstd.compress

    def compress(data: bytes, level: int, prefix: bytes = b"") -> bytes:
        if prefix:
            levels.append(level)
        return real(data, level, prefix)

    monkeypatch.setattr(zstd, "compress", compress)
    quick = delta._QUICK_LEVELS
    for usual, low in ((delta._LEVELS, quick), (((0, 19), (1 << 20, 17)), quick[1:]), ((), ())):
        monkeypatch.setattr(delta, "_LEVELS", usual)
        monkeypatch.setattr(delta, "_QUICK_LEVELS", low)
        for level in (3, 6, 8, 9):
            delta.encode(bytearray(older + text), len(older), level)
    assert levels == [12, 19, 19, 19, 12, 15, 15, 17, 12, 12, 12, 12]


def test_a_quick_delta_looks_only_around_what_changed() -> None:
    draw = random.Random(11)
    older = draw.randbytes(200_000)
    inner = [older[at : at + 300] for at in range(5_000, 150_000, 5_000)]  # short, and copied
    beside = older[160_100:160_400]  # near what was removed
    text = older[:160_000] + b"".join(draw.randbytes(100) + one for one in (*inner, beside))
    text += older[165_000:]
    quick, usual = (delta.encode(bytearray(older + text), len(older), level) for level in (3, 6))
    assert quick is not None and usual is not None
    new = 100 * (len(inner) + 1)
    assert len(usual) < new + 500
    assert new + 2_000 < len(quick) < new + 300 * len(inner) + 200
    for frame in (quick, usual):
        assert delta.decode(frame, len(text), "frame", older) == text


@pytest.mark.parametrize("gone", [0, 1, 23, 24, 63, 64, 65, 120, 191, 192, 193])
def test_a_stretch_goes_on_near_the_last_source(gone: int) -> None:
    """It is too short for a copy that begins elsewhere, and found up to 192 bytes away."""
    draw = random.Random(gone)
    head, short = draw.randbytes(1000), draw.randbytes(150)
    older = head + draw.randbytes(gone) + short + draw.randbytes(500)
    text = head + short + draw.randbytes(500)
    copies, table = ffi.new("pk_copy[]", 10), ffi.new("uint32_t[]", 1 << 10)
    both = older + text
    count = lib.pk_delta_find_fresh(
        both, len(older), len(both), len(both), table, 10, ffi.NULL, copies, 10
    )
    found = [struct.unpack_from("III", ffi.buffer(copies), 12 * at) for at in range(count)]
    start = len(older)
    whole = (start, 0, 1000 if gone else 1150)
    near = [] if gone in (0, 193) else [(start + 1000, 1000 + gone, 150)]
    assert found == [whole, *near]


def test_the_longest_stretch_near_the_last_source_is_taken() -> None:
    draw = random.Random(9)
    head, short = draw.randbytes(1000), draw.randbytes(150)
    older = head + b"!" * 7 + short[:100] + b"?" * 9 + short + draw.randbytes(500)
    text = head + short + draw.randbytes(500)
    made = delta.delta_of(bytearray(older + text), len(older), 6)
    assert made is not None
    assert len(made.rest) == 500


def test_short_columns_of_a_part_are_left_to_what_compresses_it() -> None:
    older = manifest(900, 1, "1.0")
    text = manifest(900, 1, "1.10")
    alone, part = (
        delta.delta_of(bytearray(older + text), len(older), 6, is_part=is_part)
        for is_part in (False, True)
    )
    assert alone is not None
    assert part is not None
    magic = b"\x28\xb5\x2f\xfd"
    assert magic in alone.copies
    assert magic not in part.copies
    assert part[1:] == alone[1:]
    assert delta.decode(part.frame(), len(text), "frame", older) == text
    assert frame_decoder.read_delta(part.frame(), older, len(text)) == text


def mixed(older: bytes, every: int, length: int, total: int) -> bytes:
    """Return noise that holds `length` bytes of `older` in each `every`, too short for copies."""
    draw = random.Random(every)
    out = bytearray()
    while len(out) < total:
        start = draw.randrange(len(older) - length)
        out += older[start : start + length] + draw.randbytes(every - length)
    return bytes(out)


@pytest.mark.parametrize(("every", "length"), [(400, 20), (400, 40), (100, 40), (1_000, 12)])
def test_few_samples_estimate_what_two_texts_share(every: int, length: int) -> None:
    older = random.Random(1).randbytes(3_000_000)
    rest = bytearray(mixed(older, every, length, 3_000_000))
    with ffi.from_buffer("uint8_t[]", older) as data:
        estimate = delta._estimate(data, len(older), rest) / delta._ESTIMATE_SHARE
    assert estimate == pytest.approx(len(rest) / every * (length - 7), rel=0.25)


def test_no_block_is_selected_for_a_long_rest_that_no_delta_pays_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Archives that changed while they stay closed: their new bytes share next to nothing."""
    asked: list[int] = []
    real = delta._select

    def select(*args: object, **options: bool) -> tuple[bytes, bytearray, int]:
        found = real(*args, **options)  # type: ignore[arg-type]
        asked.append(found[2])
        return found

    monkeypatch.setattr(delta, "_select", select)
    draw = random.Random(2)
    older = draw.randbytes(3_000_000)
    for share, every, length, is_tried in (
        (1 / 3, 400, 0, False),
        (1 / 3, 400, 40, False),  # of what compresses no further, a delta saves what it finds
        (1 / 3, 100, 60, True),
        (1 / 10, 400, 60, True),
        (0, 400, 0, True),
    ):
        text = mixed(older, every, length, 3_000_000)
        found = delta.encode(bytearray(older + text), len(older), 3, share=share)
        assert bool(asked) == is_tried
        assert (found is not None) == is_tried
        asked.clear()
    # Text that compresses is tried: a tenth of it may be a third of its compressed length.
    text = mixed(older, 560, 60, 1_500_000).hex().encode()
    older = older.hex().encode()
    assert delta.encode(bytearray(older + text), len(older), 3, share=1 / 3) is not None
    assert asked
