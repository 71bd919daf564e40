"""Where zstd frames lie in a file, by their headers and those of their blocks alone. RFC 8878, 3.1.

What was compressed already is stored in raw blocks. So a few bytes for each block tell how much of
a frame is text that zstd compressed, before anything is decompressed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from packer.opening.closed import DAMAGED, FORMAT, LIMIT, TEXT
from packer.opening.lookahead import find_zstd

if TYPE_CHECKING:
    from typing_extensions import Buffer

Read = Callable[[int, int], "Buffer"]
"""Returns bytes, given the first one's offset and their number; fewer at the end."""

MAGIC = b"\x28\xb5\x2f\xfd"
MAX_WINDOW_BYTES = 32 << 20
"""How far back a match may reach in a frame that is opened, in bytes: the parser holds two windows
of that. It is that of klauspost/compress at its best level; zstd has up to 8 MiB, more if `--long`
or `--ultra` ask. What frames declare may be more: nearly all of them reach less far back."""
LEAST_BYTES = 32 << 10
"""Bytes of a run of frames below which it stays closed."""
COMPRESSED_SHARE = 1 / 8
"""Share of compressed blocks in a run of frames above which it stays closed at first sight: they
are text, and a recipe takes a sixth to a third of them. Later ones: `frames_update`."""

_BLOCK_BYTES = 128 << 10
_HEADER_BYTES = 18
_SEARCH_BYTES = 1 << 20
_SPARE_BLOCKS = 1 << 16
_SKIPPABLE = b"\x2a\x4d\x18"
_CONTAINERS = (b"!<arch>\n", b"PK\x03\x04", b"\xed\xab\xee\xdb")
"""First bytes of what holds zstd frames as they are: Debian packages, zip archives with stored
members (conda), RPM packages. So do tar archives."""
_USTAR = slice(257, 262), b"ustar"


class Frames(NamedTuple):
    """A run of zstd frames.

    Args:
        start: of the first one in the file.
        end: behind the last one.
        reason: why it stays closed, as in `opening.closed`; "" if it may be opened.
        window: greatest window that a frame declares, in bytes.
    """

    start: int
    end: int
    reason: str
    window: int = 0

    def moved(self, by: int) -> Frames:
        """Return the run, `by` bytes further behind."""
        return self._replace(start=self.start + by, end=self.end + by)


class _NoFrame(Exception):
    """No frame begins here."""


def may_hold_frames(head: bytes) -> bool:
    """Return whether a file with some first bytes (512, or all) is searched for zstd frames."""
    return begins(head) or head.startswith(_CONTAINERS) or head[_USTAR[0]] == _USTAR[1]


def frame_runs(read: Read, size: int) -> Iterator[Frames]:
    """Yield the runs of frames in a file, in order; `LEAST_BYTES` and more of each.

    Args:
        read: reads the file.
        size: of the file in bytes.
    """
    walk, at = _Walk(read, size), 0
    while not walk.ended and (at := walk.signature(at)) < size:
        found = walk.run(at)
        at = at + 1 if found is None else found.end
        if found is not None and found.end - found.start >= LEAST_BYTES:
            yield found


def frames_end(runs: Sequence[Frames], at: int) -> int:
    """Return where the run ends that a place lies in; 0 if it lies in none.

    Args:
        runs: in order.
        at: the place.
    """
    number = bisect_right(runs, at, key=attrgetter("end"))
    return runs[number].end if number < len(runs) and runs[number].start <= at else 0


class _Walk:
    """Goes from header to header.

    Args:
        read: reads the file.
        size: of the file in bytes.
    """

    def __init__(self, read: Read, size: int) -> None:
        self._read = read
        self._size = size
        self._blocks = 4 * size // _BLOCK_BYTES + _SPARE_BLOCKS
        self._compressed = self._window = 0
        self._searched: Buffer = b""
        self._searched_at = 0

    @property
    def ended(self) -> bool:
        """Whether no more blocks may be looked at: a file may hold any number of signatures."""
        return self._blocks < 0

    def run(self, start: int) -> Frames | None:
        """Return the run of frames that begins at a signature; None if there is none."""
        at, reason, self._compressed, self._window = start, "", 0, 0
        while at < self._size and not self.ended:
            try:
                at, reason = self._frame(at, is_first=at == start)
            except _NoFrame:
                self._blocks -= 1
                break
            if reason:
                break
        if self.ended:
            reason = reason or LIMIT
        if at == start and not reason:
            # Nothing that could be told, unless the file says that it is nothing else.
            return Frames(start, self._size, DAMAGED) if start == 0 else None
        if not reason and self._compressed > COMPRESSED_SHARE * (at - start):
            reason = TEXT
        return Frames(start, at, reason, self._window)

    def signature(self, start: int) -> int:
        """Return where the next frame may begin in the file; its size if nowhere."""
        while start < self._size:
            data = memoryview(self._searched)[max(start - self._searched_at, 0) :]
            if start < self._searched_at or len(data) < len(MAGIC):
                # Kept: where nearly every byte begins a signature, each is not read for anew.
                self._searched = self._read(start, min(_SEARCH_BYTES, self._size - start))
                self._searched_at = start
                data = memoryview(self._searched)
            at = find_zstd(data)
            if at >= 0:
                return start + at
            end = start + len(data)
            start = end if end == self._size else end - len(MAGIC) + 1
        return self._size

    def _frame(self, at: int, *, is_first: bool) -> tuple[int, str]:
        """Return where the frame at a place ends, and why it stays closed.

        Args:
            at: the place.
            is_first: whether a run begins there: a frame that stays closed is a run of its own.

        Raises:
            _NoFrame: none begins there.
        """
        head = bytes(self._read(at, _HEADER_BYTES))
        if head[:4] != MAGIC or len(head) < 6:
            raise _NoFrame
        flags = head[4]
        is_single = flags >> 5 & 1
        dictionary = (0, 1, 2, 4)[flags & 3]
        if flags & 8 or (dictionary and not is_first):
            raise _NoFrame
        told = (is_single, 2, 4, 8)[flags >> 6]
        behind = 5 + (not is_single) + dictionary
        size = int.from_bytes(head[behind : behind + told], "little")
        window = size if is_single else _window(head[5])
        self._window = max(self._window, window)
        at += behind + told
        while True:
            self._blocks -= 1
            header = bytes(self._read(at, 3))
            if len(header) < 3 or self.ended:
                raise _NoFrame
            block = int.from_bytes(header, "little")
            kind, length = block >> 1 & 3, block >> 3
            if kind == 3 or length > _BLOCK_BYTES:
                raise _NoFrame
            self._compressed += length * (kind == 2)
            at += 3 + (1 if kind == 1 else length)
            if block & 1:
                break
        at += flags & 4
        if at > self._size:
            raise _NoFrame
        return at, FORMAT if dictionary else ""


def begins(head: bytes) -> bool:
    """Return whether a file begins with a zstd frame, or with a skippable one."""
    return head[:4] == MAGIC or (head[1:4] == _SKIPPABLE and head[0] >> 4 == 5)


def _window(descriptor: int) -> int:
    """Return the bytes of a window. RFC 8878, 3.1.1.1.2."""
    base = 1 << 10 + (descriptor >> 3)
    return base + base // 8 * (descriptor & 7)
