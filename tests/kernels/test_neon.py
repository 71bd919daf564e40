"""The NEON kernel, and the portable one on 64-bit ARM, emulated: the frozen cut points."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest

from tests.kernels.goldens import cases, describe, key, load
from tests.kernels.inputs import INPUTS
from tests.registry_server import need_program

TESTS = Path(__file__).parents[2] / "csrc" / "tests"
COMPILER = "aarch64-linux-gnu-gcc"
EMULATOR = "qemu-aarch64"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need_program(COMPILER)
    need_program(EMULATOR)
    build = tmp_path_factory.mktemp("arm")
    words = ["make", "-s", "-C", str(TESTS), f"BUILD={build}", f"CC={COMPILER}", f"{build}/cuts"]
    subprocess.run(words, check=True, timeout=300)
    return build / "cuts"


@pytest.mark.parametrize("kernel", ["portable", "neon"])
def test_cut_points_are_the_frozen_ones(program: Path, kernel: str) -> None:
    wanted = load()
    inputs = b"".join(
        struct.pack("<QQ", length, average) + INPUTS[name](length)
        for name, length, average in cases()
    )
    words = [EMULATOR, "-L", "/usr/aarch64-linux-gnu", str(program), kernel]
    done = subprocess.run(words, input=inputs, capture_output=True, check=True, timeout=300)
    lines = done.stdout.decode().splitlines()
    found = {
        key(*case): describe([int(word) for word in line.split()])
        for case, line in zip(cases(), lines, strict=True)
    }
    assert found == wanted
