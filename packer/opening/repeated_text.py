"""Text that is new in many archives of one version, and is stored once.

What a delta does not find in old text, its *rest*, is compressed within it, against the old text
around. So where the same change is made in many archives, each would hold it. Once a rest turns out
to be another's, it is kept as it is instead: the frame that holds the recipe then finds it in the
recipes before.
"""

from __future__ import annotations

from packer.engine import zstd
from packer.engine.delta import Delta

KEPT_BYTES = 512 << 10
"""Bytes of a rest that may be kept as it is, at most."""
KEPT_FILE_BYTES = 4 << 20
"""Size in bytes of a file whose rests may be: they stay in memory until its recipe is written."""
LEAST_BYTES = 128
"""Bytes of a compressed rest below which it is not looked for."""

_WINDOW_BYTES = 256 << 10
"""Bytes of rests in which others are looked for: the last ones, as a frame holds few MiB."""
_LEVEL = 1
"""zstd level by which lengths are only compared, never stored."""


class RepeatedText:
    """The rests of a version's deltas so far; for one thread."""

    def __init__(self) -> None:
        self._seen, self._kept = bytearray(), bytearray()
        self._wasted = 0  # bytes that kept rests would have saved so far

    def frame(self, delta: Delta) -> bytes:
        """Return the frame to be stored of the next delta.

        The first rest that is kept takes more than it did compressed. So one is kept when others
        before, had they been kept, would have saved as much.

        Args:
            delta: its rest has at most KEPT_BYTES.
        """
        rest, packed = delta.rest, len(delta.body)
        if packed < LEAST_BYTES:
            return delta.frame()
        again = _cost(rest, self._seen) if self._seen else packed
        _grow(self._seen, rest)
        if again >= packed:
            return delta.frame()
        more = _cost(rest, self._kept) - packed
        if more > self._wasted + packed - again:
            self._wasted += packed - again
            return delta.frame()
        if more > 0:
            self._wasted = 0
        _grow(self._kept, rest)
        return delta.plain_frame()


def _cost(rest: bytearray, before: bytearray) -> int:
    return len(zstd.compress(rest, _LEVEL, before))


def _grow(window: bytearray, rest: bytearray) -> None:
    window += rest
    del window[:-_WINDOW_BYTES]
