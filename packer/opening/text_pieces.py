"""How a stretch of new plaintext is stored: as a delta against old text, or as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from packer.engine import delta, zstd
from packer.engine.memory import writable
from packer.engine.tokens import MAX_SPAN_BYTES
from packer.opening.found_stream import FoundStream
from packer.opening.frames_update import FoundFrames
from packer.opening.locating import Place, Votes
from packer.opening.old_text import OldText
from packer.opening.recipe import MAX_DELTA_BYTES
from packer.opening.repeated_text import KEPT_BYTES, KEPT_FILE_BYTES, LEAST_BYTES
from packer.opening.tar_times import Times, replaced_times, retime
from packer.opening.update_plan import ContentPiece, DeltaPiece, InlinePiece
from packer.opening.workers import Workers

Stream = FoundStream | FoundFrames
"""A stream of the new file."""

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
        both = size + sum(place.span.size for place in places)
        if both < LARGE_DELTA_BYTES:
            return self._make(stream, start, size, places)
        with self._workers.room(both):
            return self._make(stream, start, size, places)

    def _make(
        self, stream: Stream, start: int, size: int, places: tuple[Place, ...]
    ) -> DeltaPiece | ContentPiece | InlinePiece:
        """Return how a stretch is stored, given the old text that it is like."""
        buffer, times = self._both(places, stream, start, size)
        prefix, text = buffer[:-size], buffer[-size:]
        compressing = self._workers.compressing
        level = _SMALL_LEVEL if self._size < LARGE_FILE_BYTES else _QUICK_LEVEL
        made = delta.delta_of(buffer, len(prefix), level, is_part=True, alone=compressing)
        assert made is not None  # no share is demanded
        payload = made.frame()
        if len(payload) * _CLEARLY_SMALL > size:
            alone = _alone(text, len(payload))
            if len(payload) > _TEXT_SHARE * alone:
                if size < INLINE_BYTES:
                    return InlinePiece(bytes(text))
                together = _TOGETHER if size < _SHORT_BYTES else 1
                return ContentPiece(start, size, int(alone * together))
        if not delta.is_frame_of(text, payload, "delta", prefix):
            return ContentPiece(start, size, size)
        return DeltaPiece(size, places, payload, times, made if self._may_keep(made) else None)

    def _may_keep(self, made: delta.Delta) -> bool:
        """Return whether the rest of a delta may be kept as it is."""
        is_small = self._size <= KEPT_FILE_BYTES and len(made.rest) <= KEPT_BYTES
        return is_small and len(made.body) >= LEAST_BYTES

    def _both(
        self, places: Sequence[Place], stream: Stream, start: int, size: int
    ) -> tuple[memoryview, Times]:
        """Return old text, with new times, and behind it new text; and these times."""
        buffer, at = writable(sum(place.span.size for place in places) + size), 0
        older: list[tuple[memoryview, int]] = []
        for number, span in places:
            part = buffer[at : at + span.size]
            self._old.streams[number].read_into(span.start, part)
            older.append((part, span.start))
            at += span.size
        newer = buffer[at:]
        stream.read_into(start, newer)
        times = replaced_times(older, newer, start)
        for part, begin in older:
            retime(part, begin, times)
        return buffer, times


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
