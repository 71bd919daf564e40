"""What of a file is opened, and how: the plan of `updating`, and writing it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from packer.engine.chunking import ChunkParams, cut_points
from packer.engine.delta import Delta
from packer.opening.bzip2_members import Bzip2Piece
from packer.opening.found_stream import FoundStream, Read
from packer.opening.header_times import Times
from packer.opening.locating import Place
from packer.opening.recipe import RecipeWriter, ZstdSegment, against
from packer.opening.repeated_text import RepeatedText
from packer.opening.shelf import Kept

_READ_BYTES = 4 << 20
"""Bytes of content read at a time."""


@dataclass(slots=True)
class Opened:
    """A stream that is opened, or the file.

    Args:
        stream: the deflate stream; None for the file, and for a zstd stream.
        segments: of the deflate stream.
        items: how its plaintext is made, in order.
        cost: bytes that the recipe takes for it, and content, about.
        frames: segments of the zstd stream.
        sequences: the same, if recipes may need old streams; then it is the `stream`.
    """

    stream: FoundStream | FramesText | None
    segments: list[SegmentRecipe] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    cost: int = 0
    frames: Sequence[ZstdSegment] = ()
    sequences: Sequence[FramesRecipe] = ()


class FramesText(Protocol):
    """A zstd stream of text, `frames_update.FoundFrames`."""

    @property
    def number(self) -> int:
        """Its number in the file."""

    @property
    def closed_bytes(self) -> int:
        """Length of the stream."""

    @property
    def whole_bytes(self) -> int:
        """The same."""

    def read(self, start: int, length: int) -> bytes:
        """Return `length` bytes of the plaintext from `start` on."""


class FramesRecipe(NamedTuple):
    """The recipe of a segment of a zstd stream of text.

    Args:
        old: number of the old stream that it depends on; -1 if on none.
        recipe: from `engine.zstd_streams`.
        plain_bytes: of the segment.
        coded_bytes: its own length.
    """

    old: int
    recipe: Kept
    plain_bytes: int
    coded_bytes: int

    def stored(self, numbers: Mapping[int, int]) -> ZstdSegment:
        """Return the segment as its recipe is stored, given the numbers of the old streams."""
        recipe = bytes(self.recipe)
        if self.old >= 0:
            recipe = against(recipe, numbers[self.old])
        return ZstdSegment(self.plain_bytes, self.coded_bytes, recipe)


class SegmentRecipe(NamedTuple):
    """The recipe of a segment.

    Args:
        old: number of the old stream that it depends on; -1 if it is of a model.
        recipe: from `engine`.
        plain_bytes: of the segment.
        bit: at which it begins.
    """

    old: int
    recipe: Kept
    plain_bytes: int
    bit: int


@dataclass(slots=True)
class DeltaPiece:
    """Plaintext from a delta against places in old streams, with times replaced there.

    Args:
        length: of the plaintext in bytes.
        places: the spans of the delta.
        payload: the delta frame.
        times: replaced in the spans.
        relinked: whether spans and plaintext tell the offsets of zip archives as differences.
        delta: the parts of the frame, if its rest may be kept as it is.
        is_held: whether it only holds the plaintext, of which `HeldPiece`s give parts.
    """

    length: int
    places: tuple[Place, ...]
    payload: Kept
    times: Times
    relinked: bool
    delta: Delta | None = None
    is_held: bool = False


@dataclass(slots=True)
class HeldPiece:
    """The next bytes of the `DeltaPiece` before that is held."""

    length: int


@dataclass(slots=True)
class ContentPiece:
    """Bytes that become chunks, which take `stored` bytes, about."""

    start: int
    length: int
    stored: int = 0


@dataclass(slots=True)
class InlinePiece:
    """Bytes that the recipe keeps."""

    data: bytes


Item = Opened | Bzip2Piece | DeltaPiece | HeldPiece | ContentPiece | InlinePiece
"""What a stream, or the file, is made of."""


def written(
    plan: Opened,
    read: Read,
    recipe: RecipeWriter,
    numbers: Mapping[int, int],
    params: ChunkParams,
    *,
    repeated: RepeatedText,
) -> Iterator[tuple[int, memoryview]]:
    """Write the recipe of a stream, or the file; yield the content.

    Args:
        plan: of the stream or the file.
        read: reads its plaintext, or the file's text.
        recipe: takes the operations.
        numbers: of the old streams, by their number in the predecessor.
        params: sizes of chunks.
        repeated: text of the version's recipes so far.

    Yields:
        The chunks of the content, each valid until the next is asked for; and where each begins in
        the file's text, -1 if it lies in the plaintext of a stream.
    """
    within = plan.stream is not None
    for item in plan.items:
        if isinstance(item, Opened) and item.stream is None:
            recipe.zstd(item.frames)
            yield from written(item, read, recipe, numbers, params, repeated=repeated)
            recipe.end()
        elif isinstance(item, Opened):
            assert item.stream is not None
            if item.sequences:
                recipe.zstd((each.stored(numbers) for each in item.sequences), is_text=False)
            else:
                number = recipe.deflate()
            for old, kept, size, bit in item.segments:
                coded = bytes(kept)
                stored = coded if old < 0 else against(coded, numbers[old])
                recipe.segment(number, size, bit, stored)
            inner = item.stream.read
            yield from written(item, inner, recipe, numbers, params, repeated=repeated)
            recipe.end()
        elif isinstance(item, Bzip2Piece):
            stream = item.stream
            number = recipe.bzip2(stream.level)
            for size in (*stream.sizes, 0):
                recipe.number(number, size)
            for _, chunk in _chunks(stream.read, ContentPiece(0, stream.size), params):
                yield -1, chunk
            recipe.content(stream.size)
            recipe.end()
        elif isinstance(item, DeltaPiece):
            spans = [(numbers[stream], *span) for stream, span in item.places]
            payload = bytes(item.payload) if item.delta is None else repeated.frame(item.delta)
            recipe.delta(
                item.length,
                spans,
                payload,
                times=item.times,
                relinked=item.relinked,
                hold=item.is_held,
            )
        elif isinstance(item, HeldPiece):
            recipe.held(item.length)
        elif isinstance(item, InlinePiece):
            recipe.inline(item.data)
        else:
            for at, chunk in _chunks(read, item, params):
                yield -1 if within else at, chunk
            recipe.content(item.length)


def used_streams(plan: Opened) -> Iterator[int]:
    """Yield the old streams that a stream's recipe refers to, each as often as it does."""
    needed = [segment.old for segment in plan.segments]
    needed += [segment.old for segment in plan.sequences]
    yield from (old for old in needed if old >= 0)
    for item in plan.items:
        if isinstance(item, Opened):
            yield from used_streams(item)
        elif isinstance(item, DeltaPiece):
            yield from (place.stream for place in item.places)


def _chunks(
    read: Read, part: ContentPiece, params: ChunkParams
) -> Iterator[tuple[int, memoryview]]:
    """Yield where each chunk of a stretch of a file or a plaintext begins, and the chunk."""
    at, end = part.start, part.start + part.length
    while at < end:
        count = min(end - at, max(_READ_BYTES, 2 * params.max_bytes))
        view = memoryview(bytes(read(at, count)))
        start = 0
        for cut in cut_points(view, params, final=at + count == end):
            yield at + start, view[start:cut]
            start = cut
        at += start
