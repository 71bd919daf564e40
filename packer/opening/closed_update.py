"""What an update leaves closed of a file, and why: said to the user, never stored.

Only what is new counts. What the predecessor holds as well costs nothing, opened or not.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from packer.opening.bzip2_members import Bzip2Piece
from packer.opening.closed import (
    DEPTH,
    ENCODER,
    FORMAT,
    GZIP,
    NEW,
    SIGNATURE_BYTES,
    TEXT,
    ZIP,
    ClosedTally,
    is_opened,
    kind_of,
    of_entry,
)
from packer.opening.discovery import Discovery
from packer.opening.expander import SMALL_BYTES
from packer.opening.found_stream import FoundStream, Read
from packer.opening.frames_update import FoundFrames
from packer.opening.locating import Votes
from packer.opening.lookahead import find_signature
from packer.opening.tar_members import Stretch, members
from packer.opening.update_plan import Opened

_OLD_SHARE = 0.5
"""Share of a stretch that is found in the predecessor above which it is no new one."""
_ENTRIES_BYTES = 1 << 20
"""Bytes of a zip archive in which the first entry with a compressed content is looked for."""
_DEFLATED = b"\x08\0"
"""Method of an entry."""


def of_entries(read: Read, size: int) -> str:
    """Return why the first zip entry with a compressed content is not opened, as `of_entry` does.

    Directories, which archives often begin with, and what is stored say nothing.

    Args:
        read: reads the file.
        size: of it in bytes.
    """
    data = bytes(read(0, min(_ENTRIES_BYTES, size)))
    at = find_signature(data, 0, len(data))
    while at >= 0:
        head = data[at : at + SIGNATURE_BYTES]
        if kind_of(head) == ZIP:
            if reason := of_entry(head):
                return reason
            if head.endswith(_DEFLATED):
                break
        at = find_signature(data, at + 1, len(data))
    return ""


@dataclass(frozen=True, slots=True)
class Telling:
    """Tells what stayed closed of a file.

    Args:
        read: reads the file's text.
        size: of it in bytes.
        found: the deflate streams in it.
        frames: the zstd streams of text that may be opened.
        votes: for the old places of each stream's text, by its number.
        average: bytes of a piece that votes.
        unknown: returns the parts of a stretch of the text that are in no known chunk.
        foreign: numbers of streams whose encoder is not known.
        closed: gets what stayed closed.
    """

    read: Read
    size: int
    found: Discovery
    frames: Sequence[FoundFrames]
    votes: Mapping[int, Votes]
    average: int
    unknown: Callable[[int, int], Sequence[Stretch]]
    foreign: Collection[int]
    closed: ClosedTally

    def tell(self, plans: Sequence[Opened], *, pays: bool) -> None:
        """Tell it, once it is decided what is opened.

        Args:
            plans: of the file's streams that could be opened.
            pays: whether they are.
        """
        planned = set(_numbers(plans))
        opened: set[int] = planned if pays else set()
        holders: list[FoundStream | FoundFrames | None] = [None]
        for frames in self.frames:
            if frames.number in opened:
                holders.append(frames)
            else:
                self.closed.add("zstd", TEXT, frames.closed_bytes)
        for stream in self.found.streams:
            assert isinstance(stream, FoundStream)
            holder = stream.parent
            if stream.number in opened:
                holders += [stream] * (stream.size > SMALL_BYTES)
            elif holder is None or holder.number in opened:
                assert holder is None or isinstance(holder, (FoundStream, FoundFrames))
                reason = ENCODER if stream.number in self.foreign else NEW
                end = stream.offset + stream.closed_bytes
                self._add(holder, stream.offset, end, stream.kind, reason)
        for within, start, end, kind, reason in self.found.unread:
            if within is None or within.number in opened:
                assert within is None or isinstance(within, (FoundStream, FoundFrames))
                self._add(within, start, end, kind, reason)
        bzip2 = set(_bzip2(plans, -1)) if pays else set()
        for each in holders:
            number = each.number if each is not None else -1
            self._tell_formats(each, {at for within, at in bzip2 if within == number})

    def _tell_formats(
        self, holder: FoundStream | FoundFrames | None, opened: Collection[int]
    ) -> None:
        """Tell what is of a format that is not opened, and begins a stream or a tar member.

        Args:
            holder: the stream; None for the file.
            opened: where bzip2 streams begin in it that are opened.
        """
        read, size = (self.read, self.size) if holder is None else (holder.read, holder.size)
        stretches = [(0, size), *(each.content for each in members(read, size, SMALL_BYTES))]
        for start, end in stretches:
            kind = kind_of(bytes(read(start, min(SIGNATURE_BYTES, end - start))))
            if not kind or end - start <= SMALL_BYTES or kind in (GZIP, ZIP):
                continue
            if (kind == "zstd" and holder is None) or start in opened:
                continue  # `flat_file` told, or it is opened
            reason = ENCODER if kind == "bzip2" else DEPTH if is_opened(kind) else FORMAT
            self._add(holder, start, end, kind, reason)

    def _add(
        self,
        holder: FoundStream | FoundFrames | None,
        start: int,
        end: int,
        kind: str,
        reason: str,
    ) -> None:
        """Tell a stretch if most of it is new."""
        if holder is None:
            new = sum(behind - first for first, behind in self.unknown(start, end))
            if 2 * new > end - start:
                self.closed.add(kind, reason, end - start)
        elif self._old_share(holder, start, end) < _OLD_SHARE:
            self.closed.add(kind, reason, end - start)

    def _old_share(self, stream: FoundStream | FoundFrames, start: int, end: int) -> float:
        return self.votes[stream.number].share(start, end, self.average)


def _numbers(plans: Sequence[Opened]) -> Iterator[int]:
    """Yield the numbers of the streams that plans open."""
    for plan in plans:
        if plan.stream is not None:
            yield plan.stream.number
        yield from _numbers([item for item in plan.items if isinstance(item, Opened)])


def _bzip2(plans: Sequence[Opened], holder: int) -> Iterator[tuple[int, int]]:
    """Yield the bzip2 streams that plans open: the number of what holds each, and its offset."""
    for plan in plans:
        within = plan.stream.number if plan.stream is not None else holder
        for item in plan.items:
            if isinstance(item, Bzip2Piece):
                yield within, item.stream.offset
        yield from _bzip2([item for item in plan.items if isinstance(item, Opened)], within)
