"""How a stretch of new plaintext is stored: as a delta against old text, or as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple, Protocol

from packer.engine import delta, zstd
from packer.engine.memory import writable
from packer.engine.tokens import MAX_SPAN_BYTES
from packer.opening.found_stream import FoundStream, Read
from packer.opening.frames_update import FoundFrames
from packer.opening.header_times import Times, relink, replaced_times, retime
from packer.opening.locating import Place, Votes
from packer.opening.old_text import OldText
from packer.opening.recipe import MAX_DELTA_BYTES
from packer.opening.repeated_text import KEPT_BYTES, KEPT_FILE_BYTES, LEAST_BYTES
from packer.opening.update_plan import ContentPiece, DeltaPiece, InlinePiece
from packer.opening.workers import Workers

Stream = FoundStream | FoundFrames
"""A stream of the new file."""


class Text(Protocol):
    """A stream, or the text of the file."""

    def read_into(self, start: int, out: memoryview) -> None:
        """Copy the text from `start` on."""


PIECE_BYTES = 12 << 20
"""Plaintext of a delta in bytes, at most: with as much around it as may have moved, the old text is
within MAX_SPAN_BYTES. A stream of MAX_DELTA_BYTES is one piece, as what repeats in it is stored
once."""
SHORT_PIECE_BYTES = 6 << 20
"""The same in a stretch of more than MANY_PIECES_BYTES, which has work for all cores: two of these
are made at a time. In a shorter one, what repeats would cost more than the time is worth."""
MANY_PIECES_BYTES = 64 << 20
LARGE_DELTA_BYTES = 4 << 20
"""Old and new text of a delta in bytes from which it waits until there is room for its memory."""
LEAST_DELTA_BYTES = 48
"""Bytes of plaintext below which the recipe keeps them: a delta takes about as many."""
INLINE_BYTES = 1024
"""Bytes between streams of a file below which the recipe keeps them, as `expander` does."""

_QUICK_LEVEL, _SMALL_LEVEL = 3, 6
"""Levels of deltas, as `delta_of` takes them; a text alone is compressed at the former, which tells
whether a delta pays. The latter is for files below LARGE_FILE_BYTES: an update may consist of a few
of these, and its bytes take longer than its deltas."""
LARGE_FILE_BYTES = 2 << 20
_READ_BYTES = 1 << 20
"""Bytes of the file that are read at a time."""
_CLEARLY_SMALL = 16
"""A delta below 1/16 of its text is taken without comparing it with the text alone."""
_TEXT_SHARE = 0.75
"""Share of a compressed text that a delta may take; above it, the text becomes chunks."""
_SAMPLES, _SAMPLE_BYTES = 8, 64 << 10
"""Parts of a large text, and their length in bytes, that tell how well it compresses alone."""
_CLEARLY_MORE = 2
"""How much more than its delta a text takes alone if these parts alone tell it: in samples, what
repeats over more than their length does not show."""
_SHORT_BYTES = 32 << 10
"""Bytes of a text below which it is thought of as compressed with its neighbours."""
_TOGETHER = 0.6
"""Share that texts below _SHORT_BYTES take as chunks of what each takes compressed alone: they are
compressed together. Measured on the classes of jars: 0.6 to 0.7."""


class _FileText(NamedTuple):
    """The text of the file."""

    read: Read

    def read_into(self, start: int, out: memoryview) -> None:
        """Copy the text from `start` on."""
        for at in range(0, len(out), _READ_BYTES):
            part = out[at : at + _READ_BYTES]
            part[:] = memoryview(self.read(start + at, len(part)))


class TextPieces:
    """Makes the pieces of one file against one predecessor.

    Args:
        old: the predecessor.
        votes: by number of a stream of the new file, where its text lies in the old one; filled
            before its pieces are made.
        workers: have room for large deltas.
        size: of the new file's text in bytes.
    """

    def __init__(
        self, old: OldText, votes: Mapping[int, Votes], workers: Workers, size: int
    ) -> None:
        self._old = old
        self._votes = votes
        self._workers = workers
        self._size = size

    def make(
        self, stream: Stream, start: int, end: int, guess: int
    ) -> DeltaPiece | ContentPiece | InlinePiece:
        """Return how a stretch of a stream's plaintext is stored; from any thread.

        Args:
            stream: of the new file.
            start: of the stretch in its plaintext.
            end: of the stretch.
            guess: the old stream in which it probably lies.
        """
        size = end - start
        if size < LEAST_DELTA_BYTES:
            return InlinePiece(bytes(stream.read(start, size)))
        votes, sizes = self._votes[stream.number], self._old.sizes
        places = votes.spans(start, end, stream.size, sizes, guess, MAX_SPAN_BYTES)
        made = self._delta(stream, ((start, end),), places)
        if isinstance(made, DeltaPiece):
            return made
        if made and size < INLINE_BYTES:
            return InlinePiece(bytes(stream.read(start, size)))
        together = _TOGETHER if size < _SHORT_BYTES else 1
        return ContentPiece(start, size, int(made * together) if made else size)

    def make_held(
        self, stream: Stream, stretches: Sequence[tuple[int, int]], guess: int
    ) -> DeltaPiece | None:
        """Return stretches of a stream's plaintext as one delta; None if that does not pay.

        Args:
            stream: of the new file.
            stretches: in order, together at most MAX_DELTA_BYTES.
            guess: the old stream in which they probably lie.
        """
        start, end = stretches[0][0], stretches[-1][1]
        votes, sizes = self._votes[stream.number], self._old.sizes
        places = votes.spans(start, end, stream.size, sizes, guess, MAX_SPAN_BYTES)
        return _held(self._delta(stream, stretches, places))

    def make_raw(
        self, read: Read, stretches: Sequence[tuple[int, int]], size: int, old: int, most: float
    ) -> DeltaPiece | None:
        """Return stretches of the file's text as one delta; None if that does not pay.

        Args:
            read: reads the file's text.
            stretches: in order, together at most MAX_DELTA_BYTES.
            size: of the file's text in bytes.
            old: number of the old text among the old streams.
            most: bytes that the delta may take.
        """
        start, end = stretches[0][0], stretches[-1][1]
        places = Votes().spans(start, end, size, self._old.sizes, old, MAX_SPAN_BYTES)
        made = _held(self._delta(_FileText(read), stretches, places))
        return made if made is not None and len(made.payload) <= most else None

    def _delta(
        self, text: Text, stretches: Sequence[tuple[int, int]], places: tuple[Place, ...]
    ) -> DeltaPiece | int:
        """Return stretches of a text as a delta, given the old text that they are like.

        Returns:
            The delta. If it does not pay, what the text takes compressed alone, in bytes; 0 if that
            is not known.
        """
        size = sum(end - start for start, end in stretches)
        both = size + sum(place.span.size for place in places)
        if both < LARGE_DELTA_BYTES:
            return self._made(text, stretches, size, places)
        with self._workers.room(both):
            return self._made(text, stretches, size, places)

    def _made(
        self,
        stream: Text,
        stretches: Sequence[tuple[int, int]],
        size: int,
        places: tuple[Place, ...],
    ) -> DeltaPiece | int:
        """As `_delta`, once there is room."""
        buffer, times = self._both(places, stream, stretches, size)
        prefix, text = buffer[:-size], buffer[-size:]
        relinked = self._relink(places, prefix, text)
        compressing = self._workers.compressing
        level = _SMALL_LEVEL if self._size < LARGE_FILE_BYTES else _QUICK_LEVEL
        made = delta.delta_of(buffer, len(prefix), level, is_part=True, alone=compressing)
        assert made is not None  # no share is demanded
        payload = made.frame()
        if len(payload) * _CLEARLY_SMALL > size:
            alone = _alone(text, len(payload))
            if len(payload) > _TEXT_SHARE * alone:
                return alone
        if not delta.is_frame_of(text, payload, "delta", prefix):
            return 0
        kept = made if self._may_keep(made) else None
        return DeltaPiece(size, places, payload, times, relinked, kept)

    def _may_keep(self, made: delta.Delta) -> bool:
        """Return whether the rest of a delta may be kept as it is."""
        is_small = self._size <= KEPT_FILE_BYTES and len(made.rest) <= KEPT_BYTES
        return is_small and len(made.body) >= LEAST_BYTES

    def _both(
        self,
        places: Sequence[Place],
        stream: Text,
        stretches: Sequence[tuple[int, int]],
        size: int,
    ) -> tuple[memoryview, Times]:
        """Return old text, with new times, and behind it new text; and these times."""
        buffer, at = writable(sum(place.span.size for place in places) + size), 0
        older: list[tuple[memoryview, int]] = []
        for number, span in places:
            part = buffer[at : at + span.size]
            self._old.streams[number].read_into(span.start, part)
            older.append((part, span.start))
            at += span.size
        newer: list[tuple[memoryview, int]] = []
        for start, end in stretches:
            part = buffer[at : at + end - start]
            stream.read_into(start, part)
            newer.append((part, start))
            at += end - start
        times = replaced_times(older, newer)
        for part, begin in older:
            retime(part, begin, times)
        return buffer, times

    @staticmethod
    def _relink(places: Sequence[Place], prefix: memoryview, text: memoryview) -> bool:
        """Let old and new text tell offsets as differences; return whether the new one has any."""
        if not relink(text):
            return False
        at = 0
        for _, span in places:
            relink(prefix[at : at + span.size])
            at += span.size
        return True


def _held(made: DeltaPiece | int) -> DeltaPiece | None:
    """Return a delta that holds its plaintext, if there is one."""
    if not isinstance(made, DeltaPiece):
        return None
    made.is_held = True
    return made


def _alone(text: memoryview, delta_bytes: int) -> int:
    """Return what a text takes compressed alone; only about if it is far more than its delta.

    Args:
        text: not empty.
        delta_bytes: that its delta takes.
    """
    if len(text) >= 2 * _SAMPLES * _SAMPLE_BYTES:
        step = len(text) // _SAMPLES
        samples = (text[at : at + _SAMPLE_BYTES] for at in range(0, step * _SAMPLES, step))
        sampled = sum(len(zstd.compress(sample, _QUICK_LEVEL)) for sample in samples)
        about = sampled * len(text) // (_SAMPLES * _SAMPLE_BYTES)
        if about > _CLEARLY_MORE * delta_bytes:
            return about
    return len(zstd.compress(text, _QUICK_LEVEL))


def cut_pieces(start: int, end: int) -> list[tuple[int, int]]:
    """Cut a stretch into pieces of about the same length."""
    size = end - start
    most = SHORT_PIECE_BYTES if size > MANY_PIECES_BYTES else PIECE_BYTES
    count = 1 if size <= MAX_DELTA_BYTES else -(-size // most)
    cuts = [start + size * at // count for at in range(count + 1)]
    return [pair for pair in pairwise(cuts) if pair[0] < pair[1]]
