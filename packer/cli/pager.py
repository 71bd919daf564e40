"""A pager between the command and the terminal, as git starts one."""

from __future__ import annotations

import io
import os
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from packer.cli.output import Output, OutputClosed

DEFAULT = "less"
"""The pager where no variable names one."""


@contextmanager
def paged(out: Output, *, wanted: bool) -> Iterator[Output]:
    """Show what is written on a terminal in a pager; elsewhere, write it as it is.

    The pager is LAYER_PACKER_PAGER, else PAGER, else less; an empty name or ``cat`` means none. If
    it cannot be started, the terminal gets the output. A person who leaves it early ends the work.

    Args:
        out: standard output.
        wanted: False for no pager.

    Yields:
        Where to write.
    """
    process = _start() if wanted and out.is_terminal else None
    if process is None:
        yield out
        return
    assert process.stdin is not None
    inner = Output(io.TextIOWrapper(process.stdin, encoding="utf-8"))
    inner.has_styles = out.has_styles
    inner.is_for_people = True
    try:
        with suppress(OutputClosed):
            yield inner
            inner.flush()
    finally:
        with suppress(OSError):
            process.stdin.close()
        process.wait()


def _start() -> subprocess.Popen[bytes] | None:
    """Start the pager; None if there is none, or none that can be started."""
    named = os.environ.get("LAYER_PACKER_PAGER", os.environ.get("PAGER", DEFAULT))
    try:
        words = shlex.split(named)
    except ValueError:
        return None
    if not words or words == ["cat"]:
        return None
    # F: leave at once if all fits the screen; R: show colours; X: leave the text on the screen.
    environment = {"LESS": "FRX", "LV": "-c", **os.environ}
    try:
        return subprocess.Popen(words, stdin=subprocess.PIPE, env=environment)  # noqa: S603 - no shell
    except OSError:
        return None
