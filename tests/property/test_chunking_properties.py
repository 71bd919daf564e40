"""Properties of cut points: cover, bounds, split invariance, locality; no collapse on any data."""

from __future__ import annotations

import hashlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packer.engine.chunking import ChunkParams, cut_points, kernels
from tests.kernels import reference
from tests.kernels.inputs import INPUTS, noise

PARAMS = st.builds(ChunkParams, st.integers(512, 3000).map(lambda half: 2 * half))


@st.composite
def contents(draw: st.DrawFn) -> bytes:
    """Inputs of some 30 KB in which runs, periods, copies and noise follow one another."""
    parts: list[bytes] = []
    for _ in range(draw(st.integers(0, 6))):
        length = draw(st.integers(0, 9000))
        kind = draw(st.sampled_from(["noise", "input", "period", "copy"]))
        if kind == "noise":
            parts.append(noise(str(draw(st.integers(0, 9))), length))
        elif kind == "input":
            parts.append(INPUTS[draw(st.sampled_from(sorted(INPUTS)))](length))
        elif kind == "period":
            period = draw(st.binary(min_size=1, max_size=40))
            parts.append((period * (length // len(period) + 1))[:length])
        elif parts:
            parts.append(draw(st.sampled_from(parts)))
    return b"".join(parts)


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    return [data[start:end] for start, end in zip([0, *cuts], cuts, strict=False)]


@given(contents(), PARAMS)
def test_cover_and_bounds(data: bytes, params: ChunkParams) -> None:
    cuts = cut_points(data, params)
    assert (cuts[-1] if cuts else 0) == len(data)
    lengths = [len(chunk) for chunk in split(data, cuts)]
    assert all(length <= params.max_bytes for length in lengths)
    assert all(length >= params.min_bytes for length in lengths[:-1])
    assert all(length > 0 for length in lengths)


@given(contents(), PARAMS, st.booleans())
def test_kernels_agree_with_the_reference(data: bytes, params: ChunkParams, final: bool) -> None:
    data = data[:12_000]  # the reference is slow
    expected = reference.cut_points(data, params, final=final)
    for kernel in kernels():
        assert cut_points(data, params, final=final, kernel=kernel) == expected


@given(contents(), PARAMS, st.lists(st.integers(1, 12_000), max_size=8), st.integers(0, 5))
def test_any_split_gives_the_same_cuts(
    data: bytes, params: ChunkParams, sizes: list[int], pick: int
) -> None:
    kernel = kernels()[pick % len(kernels())]
    cuts: list[int] = []
    tail = b""
    base = at = 0
    for size in [*sizes, len(data)]:
        piece = data[at : at + size]
        at += len(piece)
        tail += piece
        found = cut_points(tail, params, final=False, kernel=kernel)
        cuts += [base + cut for cut in found]
        if found:
            base += found[-1]
            tail = tail[found[-1] :]
    cuts += [base + cut for cut in cut_points(tail, params, kernel=kernel)]
    assert cuts == cut_points(data, params)


# What makes resuming possible: a cut point found once is a chunk start like the first byte.
@given(contents(), PARAMS)
def test_cuts_from_a_cut_are_the_rest(data: bytes, params: ChunkParams) -> None:
    cuts = cut_points(data, params)
    for index, start in enumerate(cuts[:3]):
        rest = [start + cut for cut in cut_points(data[start:], params)]
        assert rest == cuts[index + 1 :]


# Cuts before an edit that are a maximum away from it do not see it.
@given(contents(), PARAMS, st.integers(0, 60_000), st.binary(max_size=50), st.integers(0, 50))
def test_edits_do_not_move_earlier_cuts(
    data: bytes, params: ChunkParams, at: int, put: bytes, drop: int
) -> None:
    at = min(at, len(data))
    edited = data[:at] + put + data[at + drop :]
    old, new = cut_points(data, params), cut_points(edited, params)
    reach = at - params.max_bytes - params.min_bytes
    assert [c for c in old if c <= reach] == [c for c in new if c <= reach]


def edit(data: bytes, count: int, seed: str) -> bytes:
    """Insert, delete or replace up to 20 bytes at `count` places."""
    source = random.Random(seed)
    out, last = [], 0
    for at in sorted(source.randrange(len(data)) for _ in range(count)):
        out.append(data[last:at])
        kind, length = source.randrange(3), source.randrange(1, 20)
        out.append(b"" if kind == 0 else source.randbytes(length))
        last = max(last, at) if kind == 1 else at + length
    out.append(data[last:])
    return b"".join(out)


def new_fraction(old: bytes, new: bytes, params: ChunkParams) -> float:
    """Return the share of `new` that is in no chunk of `old`."""

    def chunks(data: bytes) -> dict[bytes, int]:
        return {hashlib.blake2b(c).digest(): len(c) for c in split(data, cut_points(data, params))}

    known = chunks(old)
    return sum(size for name, size in chunks(new).items() if name not in known) / len(new)


EDITED_BYTES = 4 << 20
EDITS = 20

# Between its changes, periodic data looks alike everywhere: cuts find their place again at the next
# change only, each change is seen by 16 of 242 offsets, and chunks without a change are of maximal
# length. Measured: up to 2.4 times random data's.
HARD = ("noisy", "disk", "zeros 1e-4", "spaces 1e-4", "period")


# The collapse that gear hashes show here: 50-97 % new after these edits (docs/chunking.md).
@pytest.mark.parametrize("average", [16 << 10, 64 << 10])
@pytest.mark.parametrize("name", [n for n in INPUTS if n != "random"])
def test_edits_cost_about_as_much_as_in_random_data(name: str, average: int) -> None:
    params = ChunkParams(average)
    edits = EDITS if average == 16 << 10 else EDITS // 4

    def cost(kind: str) -> float:
        old = INPUTS[kind](EDITED_BYTES)
        # Few edits make a noisy figure: the mean of four sets.
        sets = [new_fraction(old, edit(old, edits, f"{kind} {i}"), params) for i in range(4)]
        return sum(sets) / len(sets)

    assert cost(name) <= cost("random") * (2.5 if name.startswith(HARD) else 1.5)


@pytest.mark.parametrize("period", range(1, 513))
def test_periodic_data_is_cut_long_and_alike(period: int) -> None:
    params = ChunkParams(4096)
    data = (noise(f"every period {period}", period) * (120_000 // period + 1))[:120_000]
    cuts = cut_points(data, params)
    chunks = split(data, cuts)
    # The first chunk ends at the pattern's place; from there on all but the last are the same.
    assert len(set(chunks[1:-2])) == 1
    assert len(chunks[1]) > params.max_bytes - period
