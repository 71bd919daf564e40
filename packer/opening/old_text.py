"""A predecessor as its successor is compared with it: its streams, and where their text lies."""

from __future__ import annotations

from collections.abc import Sequence

from packer.opening.discovery import HEAD_BYTES, Discovery, FoundStream, MadeStream, Read
from packer.opening.locating import Fingerprints
from packer.opening.old_streams import PlainStream

_RATIO = 4
"""Plaintext of a file by its size, about."""


class OldText:
    """A predecessor, and the deflate streams in it.

    Args:
        read: reads it; from any thread.
        size: of it in bytes.
        directory: of temporary files, as `temporary_file` takes it.
        only: where its only stream begins, and the stream, if that was made without the file; then
            nothing of the file is read.
    """

    def __init__(
        self,
        read: Read,
        size: int,
        directory: bytes | None,
        only: tuple[int, PlainStream] | None = None,
    ) -> None:
        self.prints = Fingerprints(_RATIO * size)
        self._found = Discovery(
            read,
            size,
            visit=lambda stream, position, plain: self.prints.add(stream.number, position, plain),
            directory=directory,
            only=MadeStream(*only) if only is not None else None,
        )
        self.streams: Sequence[FoundStream | MadeStream] = self._found.streams
        self.prints.forget(len(self.streams))
        self.sizes = [stream.size for stream in self.streams]
        self._heads: dict[bytes, list[FoundStream]] = {}
        for stream in self._found.streams:
            if isinstance(stream, MadeStream):
                continue  # its file was opened: what is equal is opened as well
            self._heads.setdefault(stream.head, []).append(stream)

    def same(self, read: Read, offset: int, end: int) -> FoundStream | None:
        """Return the stream that is equal to the one at an offset, byte for byte.

        Args:
            read: reads what holds the new stream.
            offset: where that begins.
            end: size of what holds it.
        """
        head = bytes(read(offset, min(HEAD_BYTES, end - offset)))
        for stream in self._heads.get(head, ()):
            if offset + stream.closed_bytes <= end and stream.is_equal(read, offset):
                return stream
        return None

    def close(self) -> None:
        """Release the memory, and remove temporary files."""
        self._found.close()
        self.streams = []
        self._heads.clear()
