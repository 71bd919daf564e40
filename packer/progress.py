"""What long operations tell their caller while they run, and how the caller stops them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from packer.errors import Cancelled


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


class CancelEvent(Protocol):
    """What stops an operation once it is set: a `threading.Event`, or anything like it."""

    def is_set(self) -> bool:
        """Tell whether to stop."""


def cancellable(
    progress: ProgressCallback | None, cancel: CancelEvent | None, what: str
) -> ProgressCallback | None:
    """Return a callback that reports, and raises `Cancelled` before or after once the event is set.

    Operations report wherever they may be stopped, and leave nothing half-made when the callback
    raises; so this is all that cancelling needs.
    """
    if cancel is None:
        return progress

    def report(state: Progress) -> None:
        if cancel.is_set():
            raise Cancelled(what)
        if progress is not None:
            progress(state)
            if cancel.is_set():  # by the callback, mostly
                raise Cancelled(what)

    return report
