"""The frozen cut points: part of the format. A change here is a new format version.

``python -m tests.kernels.goldens`` computes them anew, with the pure-Python reference alone, and
prints the JSON; the test compares, it never writes.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

from packer.engine.chunking import ChunkParams
from tests.kernels import reference
from tests.kernels.inputs import INPUTS

PATH = Path(__file__).with_name("goldens.json")

# Average size, and input length as a multiple of it: a few chunks, and inputs that end before and
# after a maximum.
MATRIX = [(1024, 9.3), (1026, 4.0), (4096, 5.51), (10_000, 3.2), (65536, 1.5)]


def cases() -> list[tuple[str, int, int]]:
    """Return (input, length, average) of every golden; the reference takes some seconds for all."""
    out = [(name, int(average * times), average) for name in INPUTS for average, times in MATRIX]
    out += [
        ("random", length, 1024) for length in (1, 511, 1023, 1024, 1025, 1535, 1536, 1537, 2048)
    ]
    out += [("random", 400_000, 65536), ("csv", 400_000, 65536), ("random", 3_000_000, 1 << 20)]
    return out


def key(name: str, length: int, average: int) -> str:
    """Return a golden's name in the file."""
    return f"{name}/{length}/{average}"


def describe(cuts: list[int]) -> str:
    """Return the number of cut points and a digest of them."""
    raw = b"".join(cut.to_bytes(8, "little") for cut in cuts)
    return f"{len(cuts)} {hashlib.blake2b(raw, digest_size=12).hexdigest()}"


def load() -> dict[str, str]:
    """Return the frozen goldens."""
    out: dict[str, str] = json.loads(PATH.read_text())
    return out


def compute() -> dict[str, str]:
    """Return what the reference says."""
    return {
        key(name, length, average): describe(
            reference.cut_points(INPUTS[name](length), ChunkParams(average))
        )
        for name, length, average in cases()
    }


if __name__ == "__main__":
    json.dump(compute(), sys.stdout, indent=0, sort_keys=True)
    print()
