"""Frames are written by a thread of their own: what fails there, and what is left of it."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait

import blake3
import pytest

from packer.format.layer_writer import LayerWriter
from packer.oci import Descriptor
from packer.stores.memory import MemoryStore


class Full:
    """Takes a number of frames; a blob writer, and the store of it."""

    def __init__(self, frames: int) -> None:
        self._left = frames
        self.discarded = self.refused = 0
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def create(self) -> Full:
        """Return the writer."""
        return self

    def __enter__(self) -> Full:
        return self

    def __exit__(self, *_: object) -> None:
        self.discarded += 1

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        """Take a frame, if there is room."""
        self.may_go_on.wait()
        if not self._left:
            self.refused += 1
            raise OSError(28, "no space left on device")
        self._left -= 1
        return len(data)

    def commit(self, media_type: str) -> tuple[Descriptor, bool]:
        """Never called."""
        raise AssertionError(media_type)


def chunks(count: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield chunks of 1 MiB that do not compress, and their digests."""
    noise = random.Random(3)
    for _ in range(count):
        data = noise.randbytes(1 << 20)
        yield data, blake3.blake3(data).digest()


def writing() -> list[str]:
    """Return the names of threads that write frames."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("write")]


@pytest.mark.parametrize("room", [0, 1, 5])
def test_an_error_of_writing_is_raised(room: int) -> None:
    store = Full(room)
    with ThreadPoolExecutor(2) as executor:
        writer = LayerWriter(store, executor, level=1, layer_bytes=1 << 40, backlog=3)
        with pytest.raises(OSError, match="no space"):
            for data, digest in chunks(40):
                writer.add(data, digest)
        writer.abort()
    assert store.discarded == 1
    assert not writing()


def test_nothing_is_written_behind_a_frame_that_failed() -> None:
    store = Full(1)
    store.may_go_on.clear()
    with ThreadPoolExecutor(2) as executor:
        writer = LayerWriter(store, executor, level=1, layer_bytes=1 << 40, backlog=100)
        for data, digest in chunks(12):
            writer.add(data, digest)
        store.may_go_on.set()
        assert len(writer._written) > 3
        wait(writer._written)
        with pytest.raises(OSError, match="no space"):
            writer.flush()
        writer.abort()
    assert store.refused == 1


def test_frames_are_the_same_however_many_wait() -> None:
    seen = []
    for threads, backlog in ((1, 0), (1, 1), (3, 8)):
        store = MemoryStore()
        with ThreadPoolExecutor(threads) as executor:
            writer = LayerWriter(store, executor, level=1, layer_bytes=4 << 20, backlog=backlog)
            for data, digest in chunks(24):
                writer.add(data, digest)
            writer.close()
        assert not writing()
        seen.append((writer.layers, list(writer.frame_stored), list(writer.layer_frames)))
    assert seen[0] == seen[1] == seen[2]
    assert len(seen[0][0]) > 2


def test_one_frame_needs_no_thread() -> None:
    with ThreadPoolExecutor(1) as executor:
        writer = LayerWriter(MemoryStore(), executor, level=1, layer_bytes=4 << 20)
        writer.add(b"text", bytes(32))
        writer.flush()
    assert writer._writing is None
    assert writer.last_bytes > 0
