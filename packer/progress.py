"""What long operations tell their caller while they run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """One report.

    Args:
        phase: what is being done, one word: "pack", "copy", "restore", ...
        done_bytes: how much of `total_bytes` is done; may fall when a transfer begins again.
        total_bytes: how much there is, 0 if not known yet; may grow.
        item: the path or digest at hand, or "".
    """

    phase: str
    done_bytes: int
    total_bytes: int
    item: str = ""


ProgressCallback = Callable[[Progress], None]
"""Called often and from any thread, but never from two at once; must return quickly."""
