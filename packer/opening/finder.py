"""Finds the streams that may be opened in a stream of bytes: deflate and bzip2."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from packer.opening.closed import ENCODER, LIMIT, METHOD, kind_of, of_entry
from packer.opening.lookahead import Source, find_signature
from packer.opening.workers import IN_FLIGHT_BYTES, Budget

if TYPE_CHECKING:
    from packer.opening.bzip2_streams import Bzip2Stream
    from packer.opening.deflate_streams import DeflateStream

    FoundStream = DeflateStream | Bzip2Stream

LOOK_AHEAD = 1 << 20
"""Bytes of a stream in which signatures are searched at a time."""
MAX_FOUND = 8
"""Streams found ahead of the one being read; keeps several processors busy with short streams."""
SIGNATURE_BYTES = 4
"""Length of the longest signature of an archive, in bytes."""

_GZIP, _BZIP2 = 0x1F, 0x42
"""First bytes of a gzip member and of a bzip2 stream."""

_ZIP_BZIP2 = 12
"""Method of zip entries that hold a bzip2 stream."""


class _Refused:
    """A stream whose header says that it is not opened.

    Args:
        start: position in the source at which its header begins.
        reason: as in `opening.closed`.
    """

    complete = True

    def __init__(self, start: int, reason: str) -> None:
        self.start = start
        self.end = start + 1
        self.reason = reason

    def begin(self) -> bool:
        return True

    def ready(self) -> bool:
        return False

    def close(self) -> None:
        pass


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
        self._found: deque[tuple[FoundStream | _Refused, str]] = deque()  # with their kinds
        self._closed: tuple[int, str, str] | None = None  # start, kind, reason of the last one
        self._kind = ""  # of the stream that is being read
        self.met = False
        """Whether a stream was found, even if it stays closed."""

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
            stream, kind = self._found.popleft()
            self.settle(stream.start)
            if stream.ready():
                assert not isinstance(stream, _Refused)
                self._kind = kind
                return stream
            reason = LIMIT if self._budget.ended else ENCODER
            if isinstance(stream, _Refused):
                reason = stream.reason
            self._closed = stream.start, kind, reason
            stream.close()

    def used(self, stream: FoundStream) -> None:
        """Go on behind a stream that `next` returned and that was read."""
        if stream.cut:
            self._closed = self._source.position, self._kind, stream.cut
        stream.close()
        self._searched = max(self._searched, self._source.position)

    def settle(self, end: int) -> None:
        """Count the closed stream before a position: it lasts until there.

        Args:
            end: where the next stream begins, or the source ends.
        """
        if self._closed is not None:
            start, kind, reason = self._closed
            self._budget.closed.add(kind, reason, end - start)
            self._closed = None

    def _look(self, end: int) -> None:
        """Find streams before the position `end`, as many as may be in flight."""
        found, workers, source = self._found, self._budget.workers, self._source
        while not self._budget.ended and (
            not found
            or (
                found[-1][0].complete
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
                self.met = True
                found.append((stream, kind_of(source.view(at, source.ahead(at + 4)))))
                self._searched = stream.end
            else:
                # What inflates is not searched again, even if the stream does not pay.
                if stream.end > stream.start:
                    self.met = True
                    self._searched = stream.end
                stream.close()

    def _stream(self, at: int) -> FoundStream | _Refused | None:
        """Return the stream of the signature at `at`, counted from the next byte; None if none."""
        source = self._source
        first = source.view(at, at + 1)[0]
        if first == _BZIP2:
            if not _is_bzip2(source, at):
                return None
            # Only now: most files hold no such stream.
            from packer.opening.bzip2_streams import Bzip2Stream

            level = source.view(at + 3, at + 4)[0] - ord("0")
            return Bzip2Stream(self._budget, source, source.position + at, level)
        if first == _GZIP:
            start = behind_gzip_header(source, at)
        else:
            start, reason = behind_zip_header(source, at)
            if reason:
                return _Refused(source.position + at, reason)
        if not start:
            return None
        from packer.opening.deflate_streams import DeflateStream

        return DeflateStream(self._budget, source, source.position + start)


def may_begin(data: memoryview) -> bool:
    """Return whether a gzip member, a zip entry or a bzip2 stream may begin in `data`."""
    return find_signature(data, 0, len(data)) >= 0


def behind_gzip_header(source: Source, at: int) -> int:
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


def behind_zip_header(source: Source, at: int) -> tuple[int, str]:
    """Return where the deflate stream of the zip entry at `at` begins, 0 if it has none, and why.

    The reason is that of `opening.closed`, "" if there is nothing compressed.

    Source: APPNOTE.TXT of PKWARE, 4.3.7.
    """
    if source.ahead(at + 30) < at + 30:
        return 0, ""
    head = bytes(source.view(at, at + 30))
    method, reason = int.from_bytes(head[8:10], "little"), of_entry(head)
    if reason == METHOD and method == _ZIP_BZIP2:
        from packer.engine import bzip2

        if bzip2.is_available():
            return 0, ""  # the bzip2 stream behind the header is found by its own signature
    if reason or method != 8:
        return 0, reason
    end = at + 30 + int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
    return (end if source.ahead(end) >= end else 0), ""


def _is_bzip2(source: Source, at: int) -> bool:
    """Return whether a bzip2 stream with a block begins at `at`, and this Python reads it."""
    from packer.engine import bzip2  # loads libbz2

    start, end = at + bzip2.HEADER_BYTES, at + bzip2.HEADER_BYTES + 6
    return (
        source.ahead(end) >= end
        and bzip2.is_block(source.view(start, end))
        and bzip2.is_available()
    )
