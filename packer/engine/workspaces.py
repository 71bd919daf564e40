"""Working memory of the C core: one of each kind for each thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from packer.engine.native import ffi

_local = threading.local()


def workspace(kind: str, new: Callable[[], Any], free: Callable[[Any], None]) -> Any:
    """Return this thread's working memory of a kind; it is made when it is first asked for.

    Args:
        kind: its name.
        new: makes it.
        free: releases it.

    Raises:
        MemoryError: there is none.
    """
    local = _local
    found = getattr(local, kind, None)
    if found is None:
        found = ffi.gc(new(), free)
        if not found:
            raise MemoryError
        setattr(local, kind, found)
    return found


def buffer(kind: str, size: int) -> memoryview:
    """Return this thread's buffer of a kind: pages of new memory would cost half of a copy.

    Args:
        kind: its name, which no working memory has.
        size: bytes that it has at least; what they hold is not defined.
    """
    local = _local
    found: memoryview | None = getattr(local, kind, None)
    if found is None or len(found) < size:
        found = memoryview(bytearray(size))
        setattr(local, kind, found)
    return found


def release_workspaces() -> None:
    """Release the working memory of all threads, once nobody uses it; the next ones make it again.

    It grows with what was worked on, to 10 MB of each kind, and lives as long as its thread.
    """
    global _local
    _local = threading.local()
