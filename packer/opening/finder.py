"""Finds the streams that may be opened in a stream of bytes: deflate and bzip2."""

from __future__ import annotations

from collections import deque

from packer.engine import bzip2
from packer.opening.bzip2_streams import Bzip2Stream
from packer.opening.deflate_streams import DeflateStream
from packer.opening.lookahead import Source, find_signature
from packer.opening.workers import IN_FLIGHT_BYTES, Budget

LOOK_AHEAD = 1 << 20
"""Bytes of a stream in which signatures are searched at a time."""
MAX_FOUND = 8
"""Streams found ahead of the one being read; keeps several processors busy with short streams."""
SIGNATURE_BYTES = 4
"""Length of the longest signature of an archive, in bytes."""

_GZIP, _BZIP2 = 0x1F, 0x42
"""First bytes of a gzip member and of a bzip2 stream."""

FoundStream = DeflateStream | Bzip2Stream


class Finder:
    """Finds the streams of gzip members and zip entries, and bzip2 streams, in a source, in order.

    Args:
        budget: limits of the file.
        source: searched from its next byte on.
    """

    def __init__(self, budget: Budget, source: Source) -> None:
        self._budget = budget
        self._source = source
        self._searched = source.position
        self._found: deque[FoundStream] = deque()

    def look(self, have: int) -> bool:
        """Begin the streams found in the next `have` bytes; return whether there are any."""
        self._look(self._source.position + have)
        return bool(self._found)

    def next(self, have: int) -> FoundStream | None:
        """Return the next stream in the next `have` bytes that can be rebuilt, or None."""
        while True:
            self._look(self._source.position + have)
            if not self._found:
                return None
            stream = self._found.popleft()
            if stream.ready():
                return stream
            stream.close()

    def used(self, stream: FoundStream) -> None:
        """Go on behind a stream that `next` returned and that was read."""
        stream.close()
        self._searched = max(self._searched, self._source.position)

    def _look(self, end: int) -> None:
        """Find streams before the position `end`, as many as may be in flight."""
        found, workers, source = self._found, self._budget.workers, self._source
        while not self._budget.ended and (
            not found
            or (
                found[-1].complete
                and len(found) < MAX_FOUND
                and workers.in_flight < IN_FLIGHT_BYTES
            )
        ):
            begin, position = self._searched, source.position
            at = source.find_signature(max(begin - position, 0), end - position)
            if at < 0:
                # A signature may begin in the last bytes and end behind them.
                self._searched = max(begin, end - SIGNATURE_BYTES + 1)
                return
            stream = self._stream(at)
            self._searched = position + at + 1
            if stream is None:
                continue
            if stream.begin():
                found.append(stream)
                self._searched = stream.end
            else:
                # What inflates is not searched again, even if the stream does not pay.
                if stream.end > stream.start:
                    self._searched = stream.end
                stream.close()

    def _stream(self, at: int) -> FoundStream | None:
        """Return the stream of the signature at `at`, counted from the next byte; None if none."""
        source = self._source
        first = source.view(at, at + 1)[0]
        if first == _BZIP2:
            if not _is_bzip2(source, at):
                return None
            level = source.view(at + 3, at + 4)[0] - ord("0")
            return Bzip2Stream(self._budget, source, source.position + at, level)
        start = (_behind_gzip_header if first == _GZIP else _behind_zip_header)(source, at)
        return DeflateStream(self._budget, source, source.position + start) if start else None


def may_begin(data: memoryview) -> bool:
    """Return whether a gzip member, a zip entry or a bzip2 stream may begin in `data`."""
    return find_signature(data, 0, len(data)) >= 0


def _behind_gzip_header(source: Source, at: int) -> int:
    """Return where the deflate stream of the gzip member at `at` begins, 0 if nowhere. RFC 1952."""
    have = source.ahead(at + 10)
    if have < at + 10:
        return 0
    flags = source.view(at + 3, at + 4)[0]
    end = at + 10
    if flags & 0xE0:
        return 0
    if flags & 4:
        if source.ahead(end + 2) < end + 2:
            return 0
        end += 2 + int.from_bytes(source.view(end, end + 2), "little")
    for flag in (8, 16):
        if flags & flag:
            have = min(source.ahead(end + 4096), end + 4096)
            zero = source.find(b"\0", end, have) if end < have else -1
            if zero < 0:
                return 0
            end = zero + 1
    if flags & 2:
        end += 2
    return end if source.ahead(end) >= end else 0


def _behind_zip_header(source: Source, at: int) -> int:
    """Return where the deflate stream of the zip entry at `at` begins, 0 if it has none.

    Source: APPNOTE.TXT of PKWARE, 4.3.7.
    """
    if source.ahead(at + 30) < at + 30:
        return 0
    head = bytes(source.view(at, at + 30))
    encrypted = head[6] & 1
    if encrypted or int.from_bytes(head[8:10], "little") != 8:
        return 0
    end = at + 30 + int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
    return end if source.ahead(end) >= end else 0


def _is_bzip2(source: Source, at: int) -> bool:
    """Return whether a bzip2 stream with a block begins at `at`, and this Python reads it."""
    start, end = at + bzip2.HEADER_BYTES, at + bzip2.HEADER_BYTES + 6
    return (
        source.ahead(end) >= end
        and bzip2.is_block(source.view(start, end))
        and bzip2.is_available()
    )
