"""Ending work that waits for somebody else: requests that other threads, or this one, have made."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from packer.errors import Cancelled, StoreError
from packer.progress import CancelEvent
from packer.stores.protocols import Interruptible, Store

POLL_SECONDS = 0.1
"""How often to look at the caller's cancel event, and for signals, while nothing else happens: one
that arrives just before Python begins to wait for a lock would be seen at the end of the wait."""


def pause(seconds: float, cancel: CancelEvent | None) -> bool:
    """Let time pass, less of it once the caller's event is set; tell whether it is."""
    end = time.monotonic() + seconds
    while not (cancel is not None and cancel.is_set()):
        left = end - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(left, POLL_SECONDS))
    return True


@contextmanager
def interrupted(stores: Sequence[Store]) -> Iterator[None]:
    """Make everything that waits for these stores fail, as long as the context is open."""
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
    """Watch the caller's event; once it is set, the context's requests end with `Cancelled`.

    Args:
        cancel: or None, and nothing is watched.
        stores: whose requests are cut off.
        what: is being done, for the error.
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
