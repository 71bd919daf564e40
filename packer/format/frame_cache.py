"""Decoded frames in bounded memory, and behind it in a temporary file."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import IO

from packer.engine.memory import writable
from packer.files.temporary import fill_at, free_bytes, temporary_file, write_at

SPILL_BYTES = 1 << 30
"""Greatest size of the temporary file in bytes, but for frames that must not be lost: others could
be decoded again, which takes five times as long as to read one back."""
_FREE_SHARE = 8
"""Such frames take one of so many bytes that are free where the file is."""


class FrameCache:
    """Holds decoded frames, the ones used last in memory, the others in a temporary file.

    Not safe to share between threads; `FrameReader` holds a lock around each call.

    Args:
        memory_bytes: bound on the frames in memory.
        size_of: returns the plaintext bytes of a frame.
        is_precious: tells of a frame that it must not be lost, as decoding it again costs too much.
            The temporary file takes it whatever its size.
        directory: where the temporary file may grow; None for where temporary files survive a
            restart, which is more often on a disk than the other place.
    """

    def __init__(
        self,
        memory_bytes: int,
        size_of: Callable[[int], int],
        is_precious: Callable[[int], bool],
        directory: bytes | None,
    ) -> None:
        self._memory_bytes = memory_bytes
        self._size_of = size_of
        self._is_precious = is_precious
        self._directory = directory
        self._held: OrderedDict[int, memoryview] = OrderedDict()  # the one used last at end
        self._held_bytes = 0
        self._spill: IO[bytes] | None = None
        self._spill_bytes = self._most_spilled = 0
        self._spilled: dict[int, int] = {}  # frame -> offset in the temporary file
        self._uses: Counter[int] | None = None

    def renew_after_fork(self) -> None:
        """In a forked child: forget the temporary file, to which the parent goes on writing."""
        self.close()
        self._spilled = {}
        self._spill_bytes = 0

    def __contains__(self, frame: int) -> bool:
        """Return whether a frame is held, in memory or in the file."""
        return frame in self._held or frame in self._spilled

    def expect(self, uses: Counter[int]) -> None:
        """Set how often each frame will be asked for, so that it is released after its last use.

        Args:
            uses: number of uses by frame.
        """
        self._uses = uses

    def count_use(self, frame: int) -> bool:
        """Count one use of a frame, and release it from memory after the last one.

        Args:
            frame: its ordinal.

        Returns:
            whether it may be asked for again.
        """
        if self._uses is None:
            return True
        self._uses[frame] -= 1
        if self._uses[frame]:
            return True
        if frame in self._held:
            self._held_bytes -= len(self._held.pop(frame))
        return False

    def find(self, frame: int) -> memoryview | None:
        """Return a frame, reading it back into memory if only the file has it.

        Args:
            frame: its ordinal.

        Returns:
            its plaintext; None if it is not held.
        """
        data = self._held.get(frame)
        if data is not None:
            self._held.move_to_end(frame)
        elif frame in self._spilled:
            data = self._read(frame, 0, self._size_of(frame))
            self.keep(frame, data)
        return data

    def read_part(self, frame: int, start: int, end: int) -> memoryview | None:
        """Return a part of a frame that only the file has; it counts as a use.

        Content whose chunks lie all over a version would otherwise read each frame, and take its
        memory, once for each of them.

        Args:
            frame: its ordinal.
            start: first byte in the frame.
            end: byte behind the last one.

        Returns:
            the bytes; None if the frame is in memory, or not held.
        """
        if frame in self._held or frame not in self._spilled:
            return None
        self.count_use(frame)
        return self._read(frame, start, end)

    def keep(self, frame: int, data: memoryview) -> None:
        """Hold a frame in memory; the frames used longest ago make room for it.

        Args:
            frame: its ordinal.
            data: its plaintext.
        """
        self._held[frame] = data
        self._held_bytes += len(data)
        while self._held_bytes > self._memory_bytes:
            old, data = self._held.popitem(last=False)
            self._held_bytes -= len(data)
            if old not in self._spilled:
                self._write(old, data)

    def _read(self, frame: int, start: int, end: int) -> memoryview:
        """Return a part of a frame from the temporary file."""
        assert self._spill is not None
        out = writable(end - start)
        fill_at(self._spill, out, self._spilled[frame] + start)
        return out

    def _write(self, frame: int, data: memoryview) -> None:
        """Write a frame to the temporary file, if that is worth its space."""
        precious = self._is_precious(frame)
        try:
            if self._spill is None:
                self._spill = temporary_file(self._directory)
                self._most_spilled = min(SPILL_BYTES, free_bytes(self._spill) // _FREE_SHARE)
            if not precious and self._spill_bytes + len(data) > self._most_spilled:
                return
            write_at(self._spill, data, self._spill_bytes)
        except OSError:
            if precious:
                raise
            return  # no space: the frame is decoded again
        self._spilled[frame] = self._spill_bytes
        self._spill_bytes += len(data)

    def close(self) -> None:
        """Remove the temporary file."""
        if self._spill is not None:
            self._spill.close()
            self._spill = None
