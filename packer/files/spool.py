"""Bytes that are written once, front to back, and read in any order, while they are written too."""

from __future__ import annotations

from threading import Lock
from typing import IO

from packer.engine.memory import writable
from packer.files.temporary import fill_at, read_at, temporary_file, write_at


class Memory:
    """What several spools may take of memory together.

    Args:
        most: in bytes.
    """

    def __init__(self, most: int) -> None:
        self._left = most
        self._lock = Lock()

    def take(self, size: int) -> bool:
        """Return whether `size` bytes are left, which are then taken.

        Args:
            size: in bytes.
        """
        with self._lock:
            if size > self._left:
                return False
            self._left -= size
            return True

    def give(self, size: int) -> None:
        """Give back what was taken.

        Args:
            size: in bytes.
        """
        with self._lock:
            self._left += size


class Pile:
    """A temporary file for several owners, each of which appends all it has before the next one.

    One thread at a time may append; any may read what was appended.

    Args:
        directory: of the file, as `temporary_file` takes it.
    """

    def __init__(self, directory: bytes | None) -> None:
        self._directory = directory
        self._file: IO[bytes] | None = None
        self.size = 0

    def add(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes."""
        if self._file is None:
            self._file = temporary_file(self._directory)
        write_at(self._file, data, self.size)
        self.size += len(data)

    def read(self, start: int, length: int) -> bytes:
        """Return a part."""
        assert self._file is not None
        return read_at(self._file, length, start)

    def read_into(self, start: int, out: memoryview) -> None:
        """Fill `out` from `start` on."""
        assert self._file is not None
        fill_at(self._file, out, start)

    def truncate(self, size: int) -> None:
        """Forget what was added behind the first `size` bytes."""
        self.size = size

    def close(self) -> None:
        """Remove the file."""
        if self._file is not None:
            self._file.close()


class Spool:
    """Bytes in memory, or in a temporary file if no memory is left for them.

    One thread at a time may append; any may read what was appended.

    Args:
        most: greatest number of bytes.
        memory: what it may take.
        directory: of the temporary file, as `temporary_file` takes it.
        pile: takes the place of a file of its own.
    """

    def __init__(
        self, most: int, memory: Memory, directory: bytes | None, pile: Pile | None = None
    ) -> None:
        self.size = 0
        """Bytes appended so far."""
        self._most = most
        self._memory = memory
        self._pile = Pile(directory) if pile is None else pile
        self._is_shared = pile is not None
        self._base = 0  # where its bytes begin in the pile
        # Not resized later, so that views of it may be given out.
        self._held = writable(most) if memory.take(most) else None

    @classmethod
    def of(cls, text: memoryview) -> Spool:
        """Return a spool of bytes that are in memory already; nothing can be appended.

        Args:
            text: the bytes, not to be changed.
        """
        out = cls(0, Memory(0), None)
        out._held, out._most, out.size = text, len(text), len(text)
        return out

    def append(self, data: bytes | bytearray | memoryview) -> bool:
        """Append bytes.

        Args:
            data: the bytes.

        Returns:
            False if there would be more than `most`; nothing is appended then.
        """
        end = self.size + len(data)
        if end > self._most:
            return False
        if self._held is not None:
            self._held[self.size : end] = data
        else:
            if not self.size:
                self._base = self._pile.size
            self._pile.add(data)
        self.size = end
        return True

    def take(self, data: bytes | memoryview) -> bool:
        """Append bytes as `append` does; if they are all and fit in memory, they are not copied.

        Args:
            data: the bytes, not to be changed any more. A view of a part of something larger is
                copied, as it would keep that alive.

        Returns:
            As `append` does.
        """
        if self._held is None or self.size or len(data) != self._most:
            return self.append(data)
        view = memoryview(data)
        if memoryview(view.obj).nbytes != len(view):
            return self.append(data)
        self._held, self.size = view, len(view)
        return True

    def read(self, start: int, length: int) -> memoryview:
        """Return bytes that were appended.

        Args:
            start: of the first one.
            length: in bytes.
        """
        if self._held is not None:
            return self._held[start : start + length]
        out = writable(length)
        self.read_into(start, out)
        return out

    def read_into(self, start: int, out: memoryview) -> None:
        """Copy bytes that were appended.

        Args:
            start: of the first one.
            out: filled.
        """
        if self._held is not None:
            out[:] = self._held[start : start + len(out)]
        elif self.size:
            self._pile.read_into(self._base + start, out)

    def close(self) -> None:
        """Release the memory, or remove the temporary file if it is its own."""
        if self._held is not None:
            self._held = None
            self._memory.give(self._most)
        if not self._is_shared:
            self._pile.close()
