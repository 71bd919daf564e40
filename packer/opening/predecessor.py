"""Files of older versions that recipes refer to. docs/format.md, "Predecessors"."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, repeat
from typing import NamedTuple

from packer.opening.expansion import Expansion, most_opened
from packer.opening.recipe import MAX_DEFLATE_DEPTH, Cursor, put_number

MAX_LINKS = 8
"""Greatest number of predecessors from an opened file to the end of its chain. A reader rebuilds
each of them: the bound on its work."""
PACKING_CACHE_BYTES = 12 << 20
"""Memory of the inflated segments of a file that a packer keeps, in bytes: it holds two files."""
MAX_FILES = 256
"""Greatest number of predecessors that one opened file refers to, by itself or through others, each
counted as often as it is referred to: the other bound on that work."""
MAX_PREDECESSORS = 1 << 16
"""Greatest number of predecessors of a version; bounds a reader's memory (20 MiB)."""
MAX_OLD_STREAMS = 1 << 18
"""Greatest number of old streams of all predecessors; bounds a reader's memory (40 MiB)."""
MAX_RUNS = 1 << 19
"""Greatest number of runs of all predecessors; bounds a reader's memory (60 MiB)."""
DIGEST_BYTES = 16
"""Bytes of a predecessor's BLAKE3-256 that are stored, as of other digests in the index."""


NO_FILE = bytes(DIGEST_BYTES)
"""In place of the digest of a text that was never a file, so that nobody can have it as one."""

DEFLATE, ZSTD, WHOLE = 0, 1, 2
"""Kinds of old streams; one of WHOLE is the predecessor's text itself."""
_KIND_BITS = 2


class OldStream(NamedTuple):
    """A deflate or zstd stream in a predecessor, or its text.

    Args:
        parent: what holds it: 0 the file, else 1 + the number of an earlier stream of the file.
        offset: of its first byte (behind the header of gzip or zip) in the file, or in the parent's
            plaintext.
        size: bytes of its plaintext.
        kind: DEFLATE, ZSTD or WHOLE; one of ZSTD lies in the file itself.
    """

    parent: int
    offset: int
    size: int
    kind: int = DEFLATE


class Predecessor(NamedTuple):
    """The text of a file of an older version that recipes of this one refer to.

    The text is the file, but that zstd streams which the recipe makes have their plaintext in their
    place.

    Args:
        size: of the text in bytes.
        recipe_chunks: number of chunks at the end of its runs that are its recipe; 0 if the text
            is closed, so that its chunks are its bytes.
        digest: first DIGEST_BYTES of the BLAKE3-256 of the text, if that was opened and is the
            file; NO_FILE if it is another text, empty if it is closed: its chunks have digests.
        runs: first ordinal and number of chunks of each; the content first, then the recipe.
        predecessors: ordinals of the ones that its recipe refers to, all smaller than its own.
        streams: deflate and zstd streams in it; of those with one parent, the offsets increase.
    """

    size: int
    recipe_chunks: int
    digest: bytes
    runs: tuple[tuple[int, int], ...]
    predecessors: tuple[int, ...] = ()
    streams: tuple[OldStream, ...] = ()

    @property
    def is_opened_file(self) -> bool:
        """Whether it was opened, and its text is the file that its digest is of."""
        return self.digest not in (b"", NO_FILE)


def encode(predecessors: Sequence[Predecessor], expansions: Mapping[int, Expansion]) -> bytes:
    """Code predecessors, and which opened file refers to which, for the index.

    Args:
        predecessors: in order.
        expansions: by ordinal of the entry.

    Returns:
        The section; empty if there is no predecessor.
    """
    out = bytearray()
    if not predecessors:
        return b""
    put_number(out, len(predecessors))
    expected = 0
    for own, row in enumerate(predecessors):
        put_number(out, row.size)
        put_number(out, row.recipe_chunks)
        out += row.digest  # none if it is closed
        put_number(out, len(row.runs))
        for start, length in row.runs:
            put_number(out, _folded(start - expected))
            put_number(out, length)
            expected = start + length
        put_number(out, len(row.predecessors))
        for other in row.predecessors:
            put_number(out, own - 1 - other)
        put_number(out, len(row.streams))
        last: dict[int, int] = {}
        for stream in row.streams:
            put_number(out, stream.parent << _KIND_BITS | stream.kind)
            put_number(out, stream.offset - last.get(stream.parent, 0))
            put_number(out, stream.size)
            last[stream.parent] = stream.offset
    before = -1
    for entry, expansion in sorted(expansions.items()):
        if expansion.predecessors:
            put_number(out, entry - before - 1)
            put_number(out, len(expansion.predecessors))
            for other in expansion.predecessors:
                put_number(out, other)
            before = entry
    return bytes(out)


def decode(
    data: memoryview, expansions: dict[int, Expansion], chunks: int, what: str
) -> list[Predecessor]:
    """Decode the section that `encode` returns, and check it.

    Not checked: the lengths of content and recipe, which depend on the chunks' lengths.

    Args:
        data: the section, not empty, from a stranger.
        expansions: of the index, by ordinal of the entry; these get their `predecessors`.
        chunks: number of chunks in the index.
        what: how errors name the index.

    Returns:
        The predecessors.

    Raises:
        FormatError: the section breaks a rule of docs/format.md.
    """
    section = _Section(Cursor(data, what), chunks)
    section.read()
    before = -1
    cursor = section.cursor
    while not cursor.ended:
        entry = before + 1 + cursor.number()
        row = expansions.get(entry)
        if row is None:
            cursor.fail("predecessors of an entry that was not opened")
        named = section.name(cursor.number(), (cursor.number() for _ in repeat(None)))
        if not named:
            cursor.fail("an entry without the predecessors that it announces")
        expansions[entry] = row._replace(predecessors=named)
        before = entry
    section.end()
    return section.rows


@dataclass
class _Section:
    """What has been read of the section of predecessors."""

    cursor: Cursor
    chunks: int

    def __post_init__(self) -> None:
        self.rows: list[Predecessor] = []
        self._links: list[int] = []  # length of the chain that each predecessor begins
        self._files: list[int] = []  # number of predecessors that each stands for
        self._unnamed: set[int] = set()
        self._runs = self._streams = self._expected = 0

    def read(self) -> None:
        """Read all predecessors."""
        count = _bounded(self.cursor, MAX_PREDECESSORS, "predecessors")
        if not count:
            self.cursor.fail("a section of predecessors without any")
        for own in range(count):
            self._row(own)

    def end(self) -> None:
        """Check that each predecessor was named."""
        if self._unnamed:
            self.cursor.fail(f"predecessor {min(self._unnamed)} is of no use")

    def name(self, count: int, numbers: Iterator[int]) -> tuple[int, ...]:
        """Check, record and return the predecessors that a recipe refers to."""
        if count > MAX_FILES:
            self.cursor.fail(f"{count} predecessors of one file")
        named = tuple(islice(numbers, count))
        if len(set(named)) < len(named):
            self.cursor.fail("a predecessor that is named twice")
        for other in named:
            if not 0 <= other < len(self.rows):
                self.cursor.fail(f"predecessor {other} does not exist, or not yet")
        if sum(self._files[other] for other in named) > MAX_FILES:
            self.cursor.fail("a file with too many predecessors")
        self._unnamed.difference_update(named)
        return named

    def _row(self, own: int) -> None:
        """Read one predecessor."""
        cursor = self.cursor
        size, recipe_chunks = cursor.number(), cursor.number()
        digest = bytes(cursor.take(DIGEST_BYTES)) if recipe_chunks else b""
        runs = self._read_runs()
        if not runs or recipe_chunks > sum(length for _, length in runs):
            cursor.fail(f"predecessor {own} lacks chunks")
        named = self.name(cursor.number(), (own - 1 - cursor.number() for _ in repeat(None)))
        if named and not recipe_chunks:
            cursor.fail(f"predecessor {own} is closed and has predecessors")
        links = 1 + max((self._links[other] for other in named), default=0)
        if links > MAX_LINKS:
            cursor.fail(f"predecessor {own} begins a chain of {links}")
        streams = self._read_streams(size)
        self.rows.append(Predecessor(size, recipe_chunks, digest, runs, named, streams))
        self._links.append(links)
        self._files.append(1 + sum(self._files[other] for other in named))
        self._unnamed.add(own)

    def _read_runs(self) -> tuple[tuple[int, int], ...]:
        cursor, out = self.cursor, []
        for _ in range(_bounded(cursor, MAX_RUNS - self._runs, "runs of predecessors")):
            start = self._expected + _unfolded(cursor.number())
            length = cursor.number()
            self._expected = start + length
            if start < 0 or not length or self._expected > self.chunks:
                cursor.fail("a run of a predecessor is outside the chunks")
            out.append((start, length))
        self._runs += len(out)
        return tuple(out)

    def _read_streams(self, size: int) -> tuple[OldStream, ...]:
        cursor, left = self.cursor, most_opened(size)
        out: list[OldStream] = []
        last: dict[int, int] = {}
        sizes, depths = [size], [0]  # of the file, then of each stream
        for _ in range(_bounded(cursor, MAX_OLD_STREAMS - self._streams, "old streams")):
            head, gap, plain = cursor.number(), cursor.number(), cursor.number()
            parent, kind = head >> _KIND_BITS, head & (1 << _KIND_BITS) - 1
            if parent > len(out):
                cursor.fail("an old stream lies in a later one")
            if kind > WHOLE:
                cursor.fail(f"an old stream of kind {kind}")
            if kind != DEFLATE and parent:
                cursor.fail("an old stream of zstd frames, or a text, lies in another one")
            if parent and out[parent - 1].kind == WHOLE:
                cursor.fail("an old stream lies in a text as another stream")
            if kind == WHOLE and (gap or out or plain != size):
                cursor.fail("an old text that is not the predecessor's")
            if parent in last and not gap:
                cursor.fail("old streams are out of order")
            offset = last.get(parent, 0) + gap
            left -= plain
            if offset >= sizes[parent] or not plain or left < 0:
                cursor.fail("an old stream is out of range")
            if depths[parent] == MAX_DEFLATE_DEPTH:
                cursor.fail("old streams within one another, too many")
            last[parent] = offset
            sizes.append(plain)
            depths.append(depths[parent] + 1)
            out.append(OldStream(parent, offset, plain, kind))
        self._streams += len(out)
        return tuple(out)


def _bounded(cursor: Cursor, most: int, noun: str) -> int:
    """Return a count that is at most `most`."""
    count = cursor.number()
    if count > most:
        cursor.fail(f"{count} {noun}")
    return count


def _folded(value: int) -> int:
    """Return a difference as a number."""
    return 2 * value if value >= 0 else -2 * value - 1


def _unfolded(number: int) -> int:
    """Return the difference that `_folded` made a number of."""
    return -(number + 1) // 2 if number & 1 else number // 2
