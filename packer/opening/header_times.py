"""Headers in old archives, made like those of new ones before a delta is made.

An archive that is written anew often has a new time in each header: of a tar archive in one, of a
zip archive in two for each entry. In the old text with the new times, a delta finds the headers
again. The central directory of a zip archive also has an offset for each entry, and all of them
change behind an entry whose length changes. Old and new text tell offsets as differences to what is
due by the entry before, so that they are equal. docs/format.md, "Deltas".
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from packer.engine.native import ffi, lib, uncleared
from packer.opening.tar_headers import BLOCK

if TYPE_CHECKING:
    from typing_extensions import Buffer

MAX_TIMES = 64
"""Greatest number of times that a delta replaces: each header is compared with all of them."""
MAX_TIME = (1 << 33) - 1
"""Greatest time of eleven octal digits, in seconds since 1970."""

Times = tuple[tuple[int, int], ...]
"""Old times, and what replaces each: in seconds since 1970, or as DOS codes date and time."""

_LEAST_VOTES = 2
"""Headers of the same name that have changed from one time to another, at least: for one alone, a
pair in the recipe takes as much as what it saves."""
_MOST_HEADERS = 1 << 15
"""Greatest number of times of a text that are looked at, of tar and zip archives each."""
_LEAST_HEADER = 9
"""Bytes of a header for each of its times, at least."""


def replaced_times(old: Iterable[tuple[Buffer, int]], new: Iterable[tuple[Buffer, int]]) -> Times:
    """Return which times of an old text have become others in a new one.

    Args:
        old: stretches of old streams, and where each begins in its stream.
        new: the same of the new stream.

    Returns:
        At most MAX_TIMES pairs; the old times differ.
    """
    now = dict(pair for text, start in new for pair in _times(text, start))
    votes: dict[int, Counter[int]] = defaultdict(Counter)
    if now:
        for text, start in old:
            for name, time in _times(text, start):
                if name in now:
                    votes[time][now[name]] += 1
    found = []
    for time, targets in votes.items():
        target, count = min(targets.items(), key=lambda item: (-item[1], item[0]))
        if target != time and count >= _LEAST_VOTES:
            found.append((-count, time, target))
    return tuple((time, target) for _, time, target in sorted(found)[:MAX_TIMES])


def retime(text: memoryview, start: int, times: Times | list[tuple[int, int]]) -> None:
    """Replace times in the headers of a stretch of a stream.

    Args:
        text: the stretch; changed.
        start: where it begins in the stream: headers of tar lie at multiples of BLOCK there.
        times: old and new ones; of several with one old time, the first counts.
    """
    if not times:
        return
    pairs = ffi.new("uint64_t[]", [value for pair in times for value in pair])
    data = ffi.from_buffer("uint8_t[]", text, require_writable=True)
    at = -start % BLOCK
    if at < len(text):
        lib.pk_tar_retime(data + at, len(text) - at, pairs, len(times))
    lib.pk_zip_retime(data, len(text), pairs, len(times))


def relink(text: memoryview, *, undo: bool = False) -> int:
    """Replace the offsets in central directories by what they are more than is due.

    Args:
        text: changed.
        undo: whether to give back the offsets instead.

    Returns:
        The number of offsets that were replaced.
    """
    data = ffi.from_buffer("uint8_t[]", text, require_writable=True)
    count: int = lib.pk_zip_relink(data, len(text), undo)
    return count


def _times(text: Buffer, start: int) -> Iterator[tuple[int, int]]:
    """Yield a hash of the name, and the time, of each header in a stretch of a stream."""
    data = ffi.from_buffer("uint8_t[]", text)
    most = min(len(data) // _LEAST_HEADER + 1, _MOST_HEADERS)
    out = uncleared("pk_header_time[]", most)
    at = -start % BLOCK
    if at < len(data):
        count = lib.pk_tar_times(data + at, len(data) - at, out, most)
        yield from ((out[number].name, out[number].time) for number in range(count))
    count = lib.pk_zip_times(data, len(data), out, most)
    yield from ((out[number].name, out[number].time) for number in range(count))
