"""Content and trees for tests, the same for the same seed."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path


def text(seed: object, size: int) -> bytes:
    """Lines that look like a manifest, different for each seed."""
    rng = random.Random(str(seed))
    words = [f"{rng.getrandbits(40):x}" for _ in range(500)]
    out = bytearray()
    while len(out) < size:
        out += f"  {rng.choice(words)}: {rng.choice(words)}\n".encode()
    return bytes(out[:size])


def noise(seed: object, size: int) -> bytes:
    """Bytes that do not compress."""
    return random.Random(str(seed)).randbytes(size)


def write(root: Path, files: Mapping[str, bytes]) -> Path:
    """Write files below a directory, and the directories they need."""
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def write_release(root: Path, number: int) -> Path:
    """Write a release of an application: a large file that stays, a small one with its number."""
    image, manifest = noise(7, 400_000), f"kind: App\nversion: {number}\n" * 40
    return write(root, {"image.bin": image, "app.yaml": manifest.encode()})


def read_files(folder: Path) -> dict[str, bytes]:
    """Return the bytes of the files below a directory, by path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def flip(path: Path) -> None:
    """Flip a bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
