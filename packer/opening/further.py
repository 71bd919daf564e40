"""Further predecessors of a file, where its own lacks much of its text.

An archive that was merged of two has text of both; one that got what another archive of the same
version got as well has text of that one. Pieces of text that the predecessor lacks say which other
files hold them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Protocol

from packer.errors import FormatError
from packer.opening.found_stream import FoundStream
from packer.opening.locating import Votes
from packer.opening.old_text import OldText
from packer.opening.predecessor import OldStream, Predecessor

MAX_FURTHER = 3
"""Predecessors of a file beside its own, at most."""


class Further(Protocol):
    """A file that holds text which the predecessor lacks."""

    def open(self, beside: OldText) -> AbstractContextManager[OldText]:
        """Read it.

        Args:
            beside: the file's own predecessor.
        """

    def rows(self) -> list[Predecessor]:
        """Return the rows that `add` adds to the index, without streams, once it was read."""

    def add(self, streams: tuple[OldStream, ...]) -> int:
        """List it in the index; return its ordinal there.

        Args:
            streams: those that the file's recipe refers to.
        """


Find = Callable[[bytes], "Sequence[Further]"]
"""Returns at most MAX_FURTHER files that hold pieces of text, given their hashes, as `Votes` has
them."""


class FurtherTexts:
    """The further predecessors of one file.

    Args:
        old: its own predecessor.
        find: finds further ones.
    """

    def __init__(self, old: OldText, find: Find) -> None:
        self._old = old
        self._find = find
        self._stack = ExitStack()
        self.found: list[Further] = []
        """In order: `OldText.owner` of a stream is 0 or 1 + the place in this list."""

    def look(self, streams: Sequence[FoundStream], votes: dict[int, Votes]) -> None:
        """Find further predecessors, and what of the file lies in them.

        Args:
            streams: of the file, all of them.
            votes: of the streams by number; changed for those whose text is found.
        """
        found = self._find(b"".join(votes[stream.number].missing for stream in streams))
        for further in found[:MAX_FURTHER]:
            try:
                text = self._stack.enter_context(further.open(self._old))
            except FormatError:
                continue
            if text.streams:
                self._old.add(text)
                self.found.append(further)
        if not self.found:
            return
        for stream in streams:
            if votes[stream.number].missing:
                votes[stream.number] = Votes()
                for at in range(stream.count):
                    position, size, _ = stream.extent(at)
                    plain = stream.read(position, size)
                    self._old.prints.find(position, plain, votes[stream.number])

    def close(self) -> None:
        """Close them."""
        self._stack.close()
