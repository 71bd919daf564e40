"""Builds programs with cargo that write deflate streams: zlib-rs and miniz_oxide.

Programs are kept in a directory, as crates are fetched for them; what cannot be had is left out.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.go_encoders import Encoder

FLATE2 = "1.1.5"
BACKENDS = (("zlib-rs", "zlib-rs"), ("miniz_oxide", "rust_backend"))
"""Name and the feature of flate2 that chooses it."""
LEVELS = (1, 6, 9)
MANIFEST = """\
[package]
name = "encoder"
version = "0.0.0"
edition = "2021"

[[bin]]
name = "encoder"
path = "main.rs"

[dependencies]
flate2 = {{ version = "={release}", default-features = false, features = ["{feature}"] }}
"""


def rust_encoders(kept: Path) -> Iterator[Encoder]:
    """Yield the encoders that can be built; each writes a raw deflate stream.

    Args:
        kept: directory of the programs; made if it is not there.
    """
    if not shutil.which("cargo"):
        return
    kept.mkdir(parents=True, exist_ok=True)
    for name, feature in BACKENDS:
        program = kept / f"flate2-{FLATE2}-{name}"
        if not program.exists():
            try:
                _build(feature, program)
            except (OSError, subprocess.CalledProcessError):
                continue
        yield from (Encoder(f"{name} {level}", [str(program), str(level)]) for level in LEVELS)


def _build(feature: str, program: Path) -> None:
    with tempfile.TemporaryDirectory() as work:
        shutil.copy(Path(__file__).parent / "flate2.rs", Path(work, "main.rs"))
        Path(work, "Cargo.toml").write_text(MANIFEST.format(release=FLATE2, feature=feature))
        command = ["cargo", "build", "--release", "--quiet"]
        subprocess.run(command, check=True, cwd=work, capture_output=True)
        shutil.move(Path(work, "target", "release", "encoder"), program)
