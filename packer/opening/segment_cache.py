"""Segments of old streams that were used last."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from weakref import WeakKeyDictionary

from packer.engine.deflate import Segment

_FREE_BYTES = 8 << 20
"""Memory of segments that are not kept, for others, in bytes, at most: memory from the system costs
half as much time as inflating into it."""
_LEAST_PLAIN = 256 << 10
"""Bytes of plaintext below which a segment gets new memory: that of a long one would be kept with
it, and counted."""


class SegmentCache:
    """Segments that were used last, and memory of ones that are used no more.

    Args:
        most: memory of them, in bytes.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = Lock()
        self._streams = 0
        self._held: OrderedDict[tuple[int, int], _Kept] = OrderedDict()
        self._bytes = 0
        self._free: list[Segment] = []
        self._free_bytes = 0
        self._lent: WeakKeyDictionary[Segment, int] = WeakKeyDictionary()
        """How often segments are in use that were dropped meanwhile."""

    def stream(self) -> int:
        """Return the number of one more stream: the first half of its segments' keys."""
        with self._lock:
            self._streams += 1
            return self._streams

    def new(self, plain_bytes: int) -> Segment:
        """Return a segment to be filled; it may have memory already.

        Args:
            plain_bytes: that it may get, at most.
        """
        if plain_bytes >= _LEAST_PLAIN:
            with self._lock:
                if self._free:
                    segment = self._free.pop()
                    self._free_bytes -= segment.memory
                    return segment
        return Segment()

    def give(self, segment: Segment) -> None:
        """Let the memory of a segment be used again, which is not kept.

        Args:
            segment: which is not to be used any more.
        """
        with self._lock:
            self._keep_free(segment)

    def get(self, key: tuple[int, int]) -> Segment | None:
        """Return a segment, None if it is not kept; `release` it to let its memory be used again.

        Args:
            key: of the segment: the number of its stream, and its own there.
        """
        with self._lock:
            found = self._held.get(key)
            if found is None:
                return None
            self._held.move_to_end(key)
            found.users += 1
            return found.segment

    def put(self, key: tuple[int, int], segment: Segment) -> None:
        """Keep a segment, and drop others if there are too many.

        Args:
            key: as `get` takes it.
            segment: in use, as if `get` had returned it.
        """
        size = segment.memory
        with self._lock:
            old = self._held.pop(key, None)
            self._bytes += size - (old.size if old is not None else 0)
            self._held[key] = _Kept(segment, size)
            while self._bytes > self._most and len(self._held) > 1:
                self._drop(next(iter(self._held)))

    def release(self, key: tuple[int, int], segment: Segment) -> None:
        """End the use of a segment that `get` returned, or that was put.

        Args:
            key: as `get` takes it.
            segment: which is not to be used any more.
        """
        with self._lock:
            found = self._held.get(key)
            if found is not None and found.segment is segment:
                found.users -= 1
            elif (users := self._lent.pop(segment, 0)) > 1:
                self._lent[segment] = users - 1
            elif users:
                self._keep_free(segment)

    def drop(self, stream: int) -> None:
        """Drop the segments of a stream.

        Args:
            stream: its number.
        """
        with self._lock:
            for key in [key for key in self._held if key[0] == stream]:
                self._drop(key)

    def clear(self) -> None:
        """Drop all segments."""
        with self._lock:
            self._held.clear()
            self._lent.clear()
            self._free.clear()
            self._bytes = self._free_bytes = 0

    def _drop(self, key: tuple[int, int]) -> None:
        kept = self._held.pop(key)
        self._bytes -= kept.size
        if kept.users:
            self._lent[kept.segment] = kept.users
        else:
            self._keep_free(kept.segment)

    def _keep_free(self, segment: Segment) -> None:
        """Keep the memory of a segment that is used no more, if there is room."""
        size = segment.memory
        if size >= _LEAST_PLAIN and self._free_bytes + size <= _FREE_BYTES:
            self._free.append(segment)
            self._free_bytes += size


class _Kept:
    """A segment in the cache.

    Args:
        segment: just put.
        size: its memory in bytes.
    """

    __slots__ = ("segment", "size", "users")

    def __init__(self, segment: Segment, size: int) -> None:
        self.segment = segment
        self.size = size
        self.users = 1
        """How often it is in use; if never, its memory may be used for another."""
