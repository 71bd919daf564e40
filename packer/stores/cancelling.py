"""Ending requests that wait, in this thread or in others, once the caller's event is set."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from packer.errors import Cancelled, StoreError
from packer.progress import CancelEvent
from packer.stores.protocols import Interruptible, Store

POLL_SECONDS = 0.1
"""Seconds between looks at the caller's cancel event and for signals. A signal that arrives just
before Python begins to wait for a lock would otherwise be seen only when the wait ends."""


def pause(seconds: float, cancel: CancelEvent | None) -> bool:
    """Sleep, and wake up when the caller's event is set.

    Args:
        seconds: length of the sleep.
        cancel: the caller's event; None for none.

    Returns:
        Whether the event is set.
    """
    end = time.monotonic() + seconds
    while not (cancel is not None and cancel.is_set()):
        left = end - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(left, POLL_SECONDS))
    return True


@contextmanager
def interrupted(stores: Sequence[Store]) -> Iterator[None]:
    """Make calls that wait for these stores fail while the context is open.

    Args:
        stores: those that are not `Interruptible` are left alone.

    Yields:
        Nothing.
    """
    found = [store for store in stores if isinstance(store, Interruptible)]
    for store in found:
        store.interrupt()
    try:
        yield
    finally:
        for store in found:
            store.resume()


@contextmanager
def until_cancelled(
    cancel: CancelEvent | None, stores: Sequence[Store], what: str
) -> Iterator[None]:
    """End the context's requests with `Cancelled` once the caller's event is set.

    Args:
        cancel: the caller's event; None to watch nothing.
        stores: their requests are cut off.
        what: the operation, for the error.

    Yields:
        Nothing.

    Raises:
        Cancelled: the event is set, and a request of the context failed.
        StoreError: the same request failed, and the event is not set.
    """
    if cancel is None:
        yield
        return
    done = threading.Event()

    def watch() -> None:
        while not done.wait(POLL_SECONDS):
            if cancel.is_set():
                with interrupted(stores):
                    done.wait()
                return

    watcher = threading.Thread(target=watch, name="packer-cancel", daemon=True)
    watcher.start()
    try:
        yield
    except StoreError as error:
        if cancel.is_set():
            raise Cancelled(what) from error
        raise
    finally:
        done.set()
        watcher.join()
