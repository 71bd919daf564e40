"""Stretches of a tar archive that its older self has as well: nobody looks into them.

A package of image layers that changed a little shares most of its chunks with the last one, in the
same order. In such a stretch no archive changed; so the new text is not searched there, and the old
one not even read. Names of members do not matter, nor where the layers moved.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from packer.opening.finder import SIGNATURE_BYTES, may_begin
from packer.opening.tar_headers import BLOCK, content_size, is_header
from packer.opening.tar_members import LEAST_BYTES, Read, Stretch, is_same

Chunk = tuple[int, bytes]
"""Bytes of a stretch, and its digest if it is a chunk: as the index stores it, else empty."""

_WINDOW_BYTES = 64 << 10
"""Bytes searched for a header at a time."""
_MAGIC, _MAGIC_AT = b"ustar", 257
_BESIDE_BYTES = 256 << 10
"""Bytes on either side of equal chunks in which an archive may begin or end that is set aside with
them: more than two of the longest chunks of the usual size. One that reaches further is opened."""


class Equal(NamedTuple):
    """Stretches that two texts hold alike.

    Args:
        new: in the new text, in order.
        old: in the old text, in order.
    """

    new: Sequence[Stretch] = ()
    old: Sequence[Stretch] = ()


def equal_stretches(
    read: Read,
    size: int,
    chunks: Iterable[Chunk],
    old_read: Read,
    old_size: int,
    old_chunks: Iterable[Chunk],
) -> Equal:
    """Return the stretches of a tar archive that lie in chunks of its older self.

    Members tell where archives begin, also those of an archive within that is not compressed. A
    stretch ends with a member, or within one that is no archive: so no archive reaches out of it to
    where the versions differ. It begins with the archive that reaches into it, if both have that.

    Args:
        read: reads the new text, a tar archive.
        size: of it in bytes.
        chunks: of it, in order.
        old_read: reads the old text.
        old_size: of it in bytes.
        old_chunks: what it consists of, in order.
    """
    new: list[Stretch] = []
    old: list[Stretch] = []
    walk = _Walk(read, size, old_read, old_size)
    for start, old_start, length in _shared(chunks, old_chunks):
        shift = old_start - start
        begin, end = walk.stretch(start, start + length, shift)
        if end - begin >= LEAST_BYTES:
            new.append((begin, end))
            old.append((begin + shift, end + shift))
    return Equal(new, list(_merged(old)))


class _Walk:
    """Looks for the ends of stretches, front to back.

    Args:
        read: reads the new text.
        size: of it in bytes.
        old_read: reads the old text.
        old_size: of it in bytes.
    """

    def __init__(self, read: Read, size: int, old_read: Read, old_size: int) -> None:
        self._read = read
        self._size = size
        self._old_read = old_read
        self._old_size = old_size
        self._header = 0  # the last one up to `_seen`
        self._seen = 0
        self._behind = 0  # the end of the last stretch

    def stretch(self, start: int, end: int, shift: int) -> Stretch:
        """Return what of equal chunks, and beside them, may be set aside.

        It is worth it from LEAST_BYTES on; less, or an end before the start, is nothing.

        Args:
            start: of the chunks in the new text; they come in order.
            end: of the chunks.
            shift: what is added to a place to get the old one.
        """
        start = max(start, self._behind)
        if end - start < LEAST_BYTES:
            return start, start
        header = self._header_before(start)
        first = header + BLOCK
        least = max(self._behind, -shift, start - _BESIDE_BYTES)
        if least <= first < start and self._is_archive(header) and self._same(first, start, shift):
            start = first
        header = self._header_before(end)
        if end < self._size and self._is_archive(header, end):
            last = header + BLOCK + content_size(bytes(self._read(header, BLOCK)))
            most = min(self._size, self._old_size - shift, end + _BESIDE_BYTES)
            is_held = header + BLOCK >= start and end <= last <= most
            end = last if is_held and self._same(end, last, shift) else header
        self._behind = max(end, self._behind)
        return start, end

    def _header_before(self, place: int) -> int:
        """Return the last header that begins at a place or before it."""
        self._header = _last_header(self._read, self._seen, place, self._size) or self._header
        self._seen = place
        return self._header

    def _is_archive(self, header: int, end: int | None = None) -> bool:
        """Return whether a member may be an archive that reaches beyond `end`.

        Args:
            header: of the member.
            end: what lies behind it is not looked at; None is the end of the text.
        """
        content = header + BLOCK
        if end is not None and content >= end:
            return True
        return may_begin(
            memoryview(self._read(content, min(SIGNATURE_BYTES, self._size - content)))
        )

    def _same(self, start: int, end: int, shift: int) -> bool:
        """Return whether the texts hold the same bytes in a stretch."""
        return is_same(self._read, start, self._old_read, start + shift, end - start)


def _shared(chunks: Iterable[Chunk], old_chunks: Iterable[Chunk]) -> Iterator[tuple[int, int, int]]:
    """Yield where chunks lie that follow one another in both texts, there and there, and bytes."""
    places: dict[bytes, int] = {}  # by digest, the number of the first such old chunk
    older: list[tuple[bytes, int]] = []  # of each old chunk, its digest and where it begins
    position = 0
    for length, digest in old_chunks:
        places.setdefault(digest, len(older))
        older.append((digest, position))
        position += length
    start = old_start = at = 0
    following = -1  # the old chunk behind those of the run; -1 if there is no run
    for length, digest in chunks:
        if 0 <= following < len(older) and older[following][0] == digest:
            following += 1
        else:
            if following >= 0:
                yield start, old_start, at - start
            found = places.get(digest, -1)
            start, following = at, -1
            if found >= 0:
                old_start, following = older[found][1], found + 1
        at += length
    if following >= 0:
        yield start, old_start, at - start


def _last_header(read: Read, start: int, end: int, size: int) -> int:
    """Return where the last tar header begins in ``(start, end]``; 0 if none does."""
    high = end
    while high > start:
        low = max(start, high - _WINDOW_BYTES)
        data = bytes(read(low, min(high + BLOCK, size) - low))
        at = len(data)
        while (at := data.rfind(_MAGIC, _MAGIC_AT, at)) >= 0:
            first = at - _MAGIC_AT
            is_block = (low + first) % BLOCK == 0 and start < low + first <= high
            if is_block and is_header(data[first : first + BLOCK]):
                return low + first
            at += len(_MAGIC) - 1
        high = low
    return 0


def _merged(stretches: Iterable[Stretch]) -> Iterator[Stretch]:
    """Yield stretches in order, those that overlap as one."""
    ordered = sorted(stretches)
    if not ordered:
        return
    start, end = ordered[0]
    for _, (first, last) in pairwise(ordered):
        if first > end:
            yield start, end
            start = first
        end = max(end, last)
    yield start, end
