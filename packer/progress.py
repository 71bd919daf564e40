"""Progress reports of long operations, and the event that cancels an operation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from packer.errors import Cancelled


@dataclass(frozen=True, slots=True)
class Progress:
    """One report.

    Args:
        phase: the work in one word: "pack", "copy", "restore", ...
        done_bytes: bytes done so far; the number falls when a transfer begins again.
        total_bytes: bytes of all the work, 0 if not known yet; the number may grow.
        item: the path or digest that is being worked on; "" for none.
    """

    phase: str
    done_bytes: int
    total_bytes: int
    item: str = ""


ProgressCallback = Callable[[Progress], None]
"""Called often and from any thread, but never from two at once. It must return quickly."""


class CancelEvent(Protocol):
    """Stops an operation once it is set: a `threading.Event`, or anything like it."""

    def is_set(self) -> bool:
        """Return whether to stop."""


def cancellable(
    progress: ProgressCallback | None, cancel: CancelEvent | None, what: str
) -> ProgressCallback | None:
    """Combine a progress callback and a cancel event into one callback.

    Operations report wherever they may be stopped, and leave nothing half-made when the callback
    raises. So cancelling needs nothing else.

    Args:
        progress: the caller's callback; None for none.
        cancel: the caller's event; None for none.
        what: the work, such as "packing", for the error.

    Returns:
        A callback that raises `Cancelled` once the event is set; None if there is nothing to call.

    Raises:
        Cancelled: the returned callback raises it.
    """
    if cancel is None:
        return progress

    def report(state: Progress) -> None:
        if cancel.is_set():
            raise Cancelled(what)
        if progress is not None:
            progress(state)
            if cancel.is_set():  # the callback itself may have set it
                raise Cancelled(what)

    return report
