"""The chunking rule in plain Python: slow, obvious, the oracle for the C.

Source: docs/chunking.md, whose formulas it follows line by line. It shares no code with the C.
"""

from __future__ import annotations

from packer.engine.chunking import ChunkParams

STRIDE = 64
LAG = 48
STEPS = 4
M = 0x9E30
WIDE = 512
N = 0x9E3779B97F4A7C15


def word(data: bytes | bytearray, cut: int) -> int:
    """Return the little-endian word of the two bytes before offset `cut`."""
    return data[cut - 2] | data[cut - 1] << 8


def rolling_hash(data: bytes | bytearray, cut: int) -> int:
    """Return h(cut), the 16-bit hash of the 242 bytes before offset `cut`."""
    total = 0
    for step in range(STEPS):
        at = cut - STRIDE * step
        total += M**step * (word(data, at) - word(data, at - LAG))
    return total % 2**16


def wide_hash(data: bytes | bytearray, cut: int) -> int:
    """Return H(cut), the 64-bit hash of the 512 bytes before offset `cut`."""
    total = 0
    for at in range(cut - WIDE, cut, 8):
        word64 = int.from_bytes(data[at : at + 8], "little")
        total = total * N + (word64 ^ word64 >> 32)
    return total % 2**64


def best_cut(data: bytes, low: int, high: int) -> int:
    """Return the cut point among offsets `low` to `high`, both included."""
    hashes = [rolling_hash(data, cut) for cut in range(low, high + 1)]
    most = max(hashes)
    ties = [low + index for index, value in enumerate(hashes) if value == most]
    if len(ties) == 1:
        return ties[0]
    return max(ties, key=lambda cut: (wide_hash(data, cut), cut))


def cut_points(data: bytes, params: ChunkParams, *, final: bool = True) -> list[int]:
    """Return the cut points of `data`, as `packer.chunking.cut_points` does."""
    cuts: list[int] = []
    start = 0
    while start < len(data):
        left = len(data) - start
        if left >= params.max_bytes:
            cut = best_cut(data, start + params.min_bytes, start + params.max_bytes)
        elif not final:
            break
        elif left < 2 * params.min_bytes:
            cut = len(data)
        else:
            cut = best_cut(data, start + params.min_bytes, len(data) - params.min_bytes)
        cuts.append(cut)
        start = cut
    return cuts
