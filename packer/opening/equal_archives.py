"""Archives in a tar archive that its older self has as well, byte for byte: nobody inflates them.

Chunks tell where both are alike (`equal_stretches`). Beside these there are new times in headers,
programs that were built anew, and many small archives that did not change. The tar header before an
archive tells where that ends; so it is compared as it is. What is left is what may have changed:
that tells whether anything is to be opened at all.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import blake3

from packer.opening.discovery import signatures
from packer.opening.equal_stretches import Chunk, equal_stretches
from packer.opening.tar_headers import BLOCK, content_size, is_header
from packer.opening.tar_members import Read, Stretch

_READ_BYTES = 1 << 20
_DIGEST_BYTES = 16
_MOST_PLACES = 1 << 20
"""Places in a text where archives may begin that are noted, at most: 8 MB."""
_MOST_COMPARED = 1 << 16
"""Such places in a text, at most, if archives are compared: 200 bytes each. No more than a quarter
as many streams are listed."""


class TarText(NamedTuple):
    """A tar archive as it is compared.

    Args:
        read: reads it.
        size: of it in bytes.
        chunks: what it consists of, in order; taken once, and only if the new text is an archive.
    """

    read: Read
    size: int
    chunks: Iterable[Chunk]


class Changed(NamedTuple):
    """What two texts do not have alike.

    Args:
        places: in the new text, where archives may begin, in order.
        old_places: the same in the old text.
        bytes: of archives in the new text that begin there, at most.
        read_bytes: of both texts, where these may be.
    """

    places: Sequence[int]
    old_places: Sequence[int]
    bytes: int
    read_bytes: int


def changed_archives(new: TarText, old: TarText) -> Changed | None:
    """Find where a tar archive may hold archives that its older self has not.

    An old one counts only if it lies in chunks: what was opened lies in none, so it would have to
    be stored again where the new one stays closed.

    Args:
        new: the new text.
        old: the old text.

    Returns:
        The places; None if they may be anywhere.
    """
    if not is_header(bytes(new.read(0, min(BLOCK, new.size)))):
        return None
    old = old._replace(chunks=list(old.chunks))
    equal = equal_stretches(new.read, new.size, new.chunks, old.read, old.size, old.chunks)
    if not equal.new:
        return None
    gaps, old_gaps = _gaps(new.size, equal.new), _gaps(old.size, equal.old)
    places, old_places = _places(new, gaps), _places(old, old_gaps)
    most, read_bytes = max(len(places), len(old_places)), _bytes(gaps) + _bytes(old_gaps)
    if most > _MOST_PLACES:
        return None
    if most > _MOST_COMPARED:
        return Changed(places, old_places, _bytes(gaps), read_bytes)
    archives = list(_archives(new, gaps, places))
    sizes = {each.end - each.start for each in archives if each.is_member}
    made = _made(old.chunks)
    older = _by_digest(
        old,
        (
            each
            for each in _archives(old, old_gaps, old_places)
            if each.is_member and not _meets(made, each.start, each.end)
        ),
        sizes,
    )
    sizes = {each.end - each.start for same in older.values() for each in same}
    newer = _by_digest(new, (each for each in archives if each.is_member), sizes)
    both = newer.keys() & older.keys()
    alike = sorted(each for digest in both for each in newer[digest])
    old_alike = sorted(each for digest in both for each in older[digest])
    changed = sum(each.end - each.start for each in archives)
    return Changed(
        _outside(places, alike),
        _outside(old_places, old_alike),
        changed - sum(each.end - each.start for each in alike),
        read_bytes,
    )


class _Archive(NamedTuple):
    """What may be an archive in a text.

    Args:
        start: its first byte.
        end: behind its last byte. Without a tar header that tells it, this is where the next one
            begins at the latest.
        is_member: whether a tar header tells it.
    """

    start: int
    end: int
    is_member: bool


def _gaps(size: int, stretches: Sequence[Stretch]) -> list[Stretch]:
    """Return what lies between stretches of a text."""
    bounds = pairwise([(0, 0), *stretches, (size, size)])
    return [(behind, start) for (_, behind), (start, _) in bounds if behind < start]


def _bytes(stretches: Iterable[Stretch]) -> int:
    return sum(end - start for start, end in stretches)


def _places(text: TarText, gaps: Iterable[Stretch]) -> array[int]:
    """Return where archives may begin; a few more than are noted, if there are more."""
    out = array("Q")
    for start, end in gaps:
        out.extend(signatures(text.read, text.size, start, end))
        if len(out) > _MOST_PLACES:
            break
    return out


def _archives(text: TarText, gaps: Iterable[Stretch], places: Sequence[int]) -> Iterator[_Archive]:
    """Yield what may be archives, in order; in others, none."""
    at = 0
    for _, end in gaps:
        behind, foreign = 0, -1
        while at < len(places) and places[at] < end:
            place = places[at]
            at += 1
            if place < behind:
                continue
            if foreign >= 0:
                yield _Archive(foreign, place, is_member=False)
            header = bytes(text.read(place - BLOCK, BLOCK)) if place >= BLOCK else b""
            behind = place + content_size(header) if is_header(header) else place
            if place < behind <= end:
                yield _Archive(place, behind, is_member=True)
                foreign = -1
            else:
                foreign = behind = place
        if foreign >= 0:
            yield _Archive(foreign, end, is_member=False)


def _by_digest(
    text: TarText, archives: Iterable[_Archive], sizes: Collection[int]
) -> dict[bytes, list[_Archive]]:
    """Return those archives that have certain sizes, by digest."""
    out: dict[bytes, list[_Archive]] = {}
    for each in archives:
        if each.end - each.start in sizes:
            hasher = blake3.blake3()
            for at in range(each.start, each.end, _READ_BYTES):
                hasher.update(text.read(at, min(_READ_BYTES, each.end - at)))
            out.setdefault(hasher.digest(_DIGEST_BYTES), []).append(each)
    return out


def _made(chunks: Iterable[Chunk]) -> list[int]:
    """Return where what is no chunk begins and ends in a text, in turns."""
    out, position = list[int](), 0
    for length, digest in chunks:
        if not digest:
            if out and out[-1] == position:
                out[-1] = position + length
            else:
                out += position, position + length
        position += length
    return out


def _meets(bounds: Sequence[int], start: int, end: int) -> bool:
    """Return whether a stretch meets one of those that begin and end in turns."""
    at = bisect_right(bounds, start)
    return at % 2 == 1 or (at < len(bounds) and bounds[at] < end)


def _outside(places: Sequence[int], archives: Iterable[_Archive]) -> array[int]:
    """Return the places that lie in none of some archives."""
    out, at = array("Q"), 0
    for each in archives:
        while at < len(places) and places[at] < each.start:
            out.append(places[at])
            at += 1
        while at < len(places) and places[at] < each.end:
            at += 1
    out.extend(places[at:])
    return out
