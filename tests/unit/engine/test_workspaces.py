"""Working memory: each thread has its own, until all of it is released."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from packer.engine.native import ffi
from packer.engine.workspaces import buffer, release_workspaces, workspace

freed: list[int] = []


def made() -> Any:
    return workspace("test", lambda: ffi.new("uint8_t[]", 1), lambda memory: freed.append(1))


def test_memory_of_all_threads_is_released() -> None:
    with ThreadPoolExecutor(1) as executor:
        here, there = made(), executor.submit(made).result()
        assert made() is here
        assert here is not there
        del there
        release_workspaces()
        executor.submit(int).result()  # the thread no longer holds its last result
        gc.collect()
        assert freed == [1]  # what is in use stays
        assert made() is not here
    release_workspaces()  # nothing calls `made`'s functions when the interpreter ends


def test_a_buffer_is_kept_until_more_is_asked_for() -> None:
    small = buffer("test buffer", 10)
    assert len(small) == 10
    assert buffer("test buffer", 7) is small
    large = buffer("test buffer", 11)
    assert len(large) == 11
    assert buffer("test buffer", 11) is large
    release_workspaces()
    assert buffer("test buffer", 11) is not large
