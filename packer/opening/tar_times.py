"""Times in the headers of old tar archives, replaced by those of new ones before a delta is made.

An archive that is written anew often has a new time, and so another checksum, in each header. In
the old text with the new times, a delta finds the headers again. docs/format.md, "Deltas".
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING

from packer.engine.native import ffi, lib
from packer.opening.tar_headers import BLOCK

if TYPE_CHECKING:
    from typing_extensions import Buffer

MAX_TIMES = 64
"""Greatest number of times that a delta replaces: each header is compared with all of them."""
MAX_TIME = (1 << 33) - 1
"""Greatest time of eleven octal digits, in seconds since 1970."""

Times = tuple[tuple[int, int], ...]
"""Old times, and what replaces each, in seconds since 1970."""

_LEAST_VOTES = 2
"""Headers of the same name that have changed from one time to another, at least: for one alone, a
pair in the recipe takes as much as what it saves."""
_MOST_HEADERS = 1 << 15
"""Greatest number of headers of a text that are looked at."""


def replaced_times(old: Iterable[tuple[Buffer, int]], new: Buffer, new_start: int) -> Times:
    """Return which times of an old text have become others in a new one.

    Args:
        old: stretches of old streams, and where each begins in its stream.
        new: a stretch of the new stream.
        new_start: where it begins there.

    Returns:
        At most MAX_TIMES pairs; the old times differ.
    """
    now = dict(_times(new, new_start))
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
    """Replace times in the tar headers of a stretch of a stream.

    Args:
        text: the stretch; changed.
        start: where it begins in the stream: headers lie at multiples of BLOCK there.
        times: old and new ones; of several with one old time, the first counts.
    """
    at = -start % BLOCK
    if times and at < len(text):
        pairs = ffi.new("uint64_t[]", [value for pair in times for value in pair])
        data = ffi.from_buffer("uint8_t[]", text, require_writable=True)
        lib.pk_tar_retime(data + at, len(text) - at, pairs, len(times))


def _times(text: Buffer, start: int) -> list[tuple[int, int]]:
    """Return a hash of the name, and the time, of each tar header in a stretch of a stream."""
    data = ffi.from_buffer("uint8_t[]", text)
    at = -start % BLOCK
    if at >= len(data):
        return []
    capacity = min((len(data) - at) // BLOCK, _MOST_HEADERS)
    out = ffi.new("pk_tar_time[]", capacity)
    count = lib.pk_tar_times(data + at, len(data) - at, out, capacity)
    return [(out[number].name, out[number].time) for number in range(count)]
