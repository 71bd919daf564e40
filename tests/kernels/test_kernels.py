"""Every kernel == the pure-Python reference == the frozen goldens."""

from __future__ import annotations

import math
import re
import sys
from pathlib import Path

import pytest

from packer.engine.chunking import KERNELS, ChunkParams, cut_points, kernels
from packer.errors import InvalidParameter
from tests.kernels import goldens, reference
from tests.kernels.inputs import INPUTS, noise

GOLDENS = goldens.load()


@pytest.fixture(params=KERNELS)
def kernel(request: pytest.FixtureRequest) -> str:
    """Every kernel there can be; the portable one may not skip."""
    name: str = request.param
    if name == "portable":
        assert name in kernels()
    elif name not in kernels():
        with pytest.raises(InvalidParameter) as why:
            cut_points(b"", kernel=name)
        pytest.skip(str(why.value))
    return name


# A kernel that goes wrong on any lane, parity, partial row or partial block moves some cut here.
def test_kernel_gives_the_goldens(kernel: str) -> None:
    assert len(GOLDENS) == len(goldens.cases())
    wrong = []
    for name, length, average in goldens.cases():
        cuts = cut_points(INPUTS[name](length), ChunkParams(average), kernel=kernel)
        found = goldens.describe(cuts)
        if found != GOLDENS[goldens.key(name, length, average)]:
            wrong.append((name, length, average, found))
    assert not wrong


# The goldens are the rule's, not those of the C when it was frozen. (All: the slow test below.)
@pytest.mark.parametrize("name", INPUTS)
def test_reference_gives_the_goldens(name: str) -> None:
    average, times = goldens.MATRIX[0]
    length = int(average * times)
    cuts = reference.cut_points(INPUTS[name](length), ChunkParams(average))
    assert goldens.describe(cuts) == GOLDENS[goldens.key(name, length, average)]


@pytest.mark.slow
def test_reference_gives_all_goldens() -> None:
    assert goldens.compute() == GOLDENS


# Lengths around every boundary of the implementation: row (64), block (2048), interval, end rule.
def test_kernel_at_every_tail_length(kernel: str) -> None:
    params = ChunkParams(1024)
    data = noise("tails", 8192)
    for length in [*range(1000, 1700), *range(2040, 2060), *range(4090, 4110)]:
        expected = reference.cut_points(data[-length:], params)
        assert cut_points(data[-length:], params, kernel=kernel) == expected, length


# A read outside the buffer, or a dependence on its alignment, shows as a different result.
def test_kernel_ignores_alignment_and_surroundings(kernel: str) -> None:
    params = ChunkParams(4096)
    data = noise("aligned", 60_000)
    expected = cut_points(data, params, kernel="portable")
    for shift in (1, 2, 3, 31, 63):
        room = bytearray(b"\xff" * shift + data + b"\xff" * 512)
        view = memoryview(room)[shift : shift + len(data)]
        assert cut_points(view, params, kernel=kernel) == expected


# The largest chunks reach the ring of block maxima from end to end.
def test_largest_parameters(kernel: str) -> None:
    params = ChunkParams(4 << 20)
    data = noise("large", 19 << 20)
    assert cut_points(data, params, kernel=kernel) == cut_points(data, params, kernel="portable")
    zeros = bytes(19 << 20)
    assert cut_points(zeros, params, kernel=kernel)[0] == params.max_bytes


# The constants do what docs/chunking.md says of them; the C has its own copies, which the goldens
# tie to these.
def test_constants() -> None:
    ref = reference
    golden_ratio = math.isqrt(5 << 126) - (1 << 63)  # 2^64 (sqrt 5 - 1) / 2
    assert golden_ratio == ref.N
    assert golden_ratio >> 52 << 4 == ref.M
    assert ref.N % 2 == ref.M // 16 % 2 == 1
    assert pow(ref.M, ref.STEPS - 1, 2**16) != 0
    assert pow(ref.M, ref.STEPS, 2**16) == 0
    assert {p for p in range(1, 65) if ref.LAG % p == 0} == {1, 2, 3, 4, 6, 8, 12, 16, 24, 48}
    data = noise("constants", 1200)
    for cut in range(700, 1200):
        rolled = ref.M * ref.rolling_hash(data, cut - 64) + ref.word(data, cut)
        assert (rolled - ref.word(data, cut - 48)) % 2**16 == ref.rolling_hash(data, cut)


# Whoever implements docs/chunking.md anew has these to go by.
def test_documented_vectors() -> None:
    value, data = 1, bytearray()
    for _ in range(1 << 20):
        value = (1103515245 * value + 12345) % 2**32
        data.append(value >> 24)
    text = (Path(__file__).parents[2] / "docs" / "chunking.md").read_text()
    assert f"It begins {data[:8].hex()}." in text
    lines = text.split("```vectors\n")[1].split("```")[0].splitlines()
    assert len(lines) == 7
    for line in lines:
        what, expected = line.split(" = ")
        if what[0] in "hH":
            function = reference.rolling_hash if what[0] == "h" else reference.wide_hash
            assert hex(function(data, int(what[2:-1]))) == expected
        else:
            average, length = (int(word) for word in re.findall(r"\d+", what))
            cuts = cut_points(data[:length], ChunkParams(average))
            assert " ".join(map(str, cuts)) == expected
    period = (bytes(range(7)) * 43_000)[:300_000]
    for special in (bytes(200_000), period):
        found = [str(cut) for cut in cut_points(special)]
        assert f"{', '.join(found[:-1])} and {found[-1]}" in " ".join(text.split())


def test_report_kernels(capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        sys.stdout.write(f" [kernels covered: {', '.join(kernels())}]")
