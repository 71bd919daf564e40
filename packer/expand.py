"""Opening files: archives in them, at any depth, to what they hold. docs/format.md, "Recipes".

A file is read as a stream. Where a deflate stream begins in it (of a gzip member, of an entry of a
zip archive) and can be given back bit for bit, its plaintext is read as a stream in its place;
where a tar archive begins, its headers go to the recipe. What is left is content, cut into chunks.
Whatever does not fit stays as it is: nothing that a file may hold is an error here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from packer.chunking import cut_points
from packer.deflate import MAX_SEGMENT_INPUT, WINDOW_BYTES, NotDeflate, Segment
from packer.expansion import MAX_RECIPE_BYTES, most_opened
from packer.model import ChunkParams
from packer.recipe import (
    BLOCK,
    MAX_DEFLATE_DEPTH,
    Cursor,
    RecipeWriter,
    content_size,
    decode_header,
    encode_header,
    is_header,
)
from packer.source import Source

LOOK_AHEAD = 1 << 20
"""Bytes of a stream that are looked at together."""
INLINE_BYTES = 1024
"""Shorter pieces between opened streams are kept in the recipe: headers, trailers, directories."""
MIN_PLAIN_BYTES = 512
"""Streams with less plaintext are not opened."""
SMALL_BYTES = 64 << 10
"""Members of a tar archive up to this size are taken at once."""
MAX_META_BYTES = 64 << 10
"""Names and attributes of members up to this size go to the recipe."""

_INPUT_BYTES = 1 << 20
_TRIAL_BYTES = 64 << 10
_GZIP = b"\x1f\x8b\x08"
_ZIP = b"PK\x03\x04"
_SIGNATURE_BYTES = 4
_META_TYPES = b"xgLK"
_ZEROS = bytes(64 << 10)


class Expander:
    """Opens one file.

    Args:
        fill: reads the file, as `Source` says.
        size: of the file in bytes.
        params: chunk sizes.
        buffer: memory for the file's stream, at least twice the greatest chunk.
        pool: memory for parts of deflate streams, to take from and to put back.
        expand: False to keep the file as it is.
    """

    def __init__(
        self,
        fill: Callable[[memoryview], int | None],
        size: int,
        params: ChunkParams,
        buffer: bytearray,
        pool: list[Segment],
        *,
        expand: bool = True,
    ) -> None:
        self._file = Source(fill, buffer)
        self._params = params
        self._pool = pool
        self._expand = expand
        self._spare = most_opened(size)
        self._hint = -1
        self.recipe = RecipeWriter()

    def content(self) -> Iterator[memoryview]:
        """Yield the chunks of the content, each valid until the next is asked for."""
        if self._expand:
            return self._stream(self._file, 0)
        return self._raw(self._file, MAX_DEFLATE_DEPTH)

    def recipe_chunks(self) -> Iterator[memoryview]:
        """Yield the chunks of the recipe; none if the file is its content."""
        if self.recipe.opened:
            yield from self._chunks(memoryview(self.recipe.finish()))

    def _chunks(self, data: memoryview) -> Iterator[memoryview]:
        start = 0
        for end in cut_points(data, self._params):
            yield data[start:end]
            start = end

    def _stream(self, source: Source, depth: int) -> Iterator[memoryview]:
        if source.ahead(BLOCK) >= BLOCK and is_header(bytes(source.view(0, BLOCK))):
            yield from self._tar(source, depth)
            yield from self._raw(source, depth, opened=True)
        else:
            yield from self._raw(source, depth)

    def _raw(self, source: Source, depth: int, *, opened: bool = False) -> Iterator[memoryview]:
        """Content, and the deflate streams in it, to the end of the stream."""
        recipe, params = self.recipe, self._params
        look_ahead = max(LOOK_AHEAD, 2 * params.max_bytes)
        begun = False  # a piece of content goes on
        length = 0  # of it
        searched = 0
        while True:
            have = source.ahead(look_ahead)
            ended = have < look_ahead
            found = self._find(source, searched, have, depth)
            if found is not None:
                end, final = found.start, True
            else:
                # A signature may begin in the last bytes.
                end, final = (have, True) if ended else (have - _SIGNATURE_BYTES, False)
            if final and not begun and end < INLINE_BYTES and (found is not None or opened):
                recipe.inline(source.view(0, end))
                source.skip(end)
            else:
                start = 0
                for cut in cut_points(source.view(0, end), params, final=final):
                    yield source.view(start, cut)
                    start = cut
                source.skip(start)
                searched = end - start
                length += start
                begun = True
                if final and length:
                    recipe.content(length)
            if found is not None:
                yield from self._open(source, found, depth)
                begun, opened, length, searched = False, True, 0, 0
            elif final:
                return

    def _find(self, source: Source, start: int, end: int, depth: int) -> _Found | None:
        """Return the first deflate stream that can be opened, within bytes in hand."""
        if depth >= MAX_DEFLATE_DEPTH:
            return None
        gzip, zip_ = source.find(_GZIP, start, end), source.find(_ZIP, start, end)
        while gzip >= 0 or zip_ >= 0:
            if zip_ < 0 or 0 <= gzip < zip_:
                begin = _behind_gzip_header(source, gzip)
                gzip = source.find(_GZIP, gzip + 1, end)
            else:
                begin = _behind_zip_header(source, zip_)
                zip_ = source.find(_ZIP, zip_ + 1, end)
            if begin and (found := self._try(source, begin)) is not None:
                return found
        return None

    def _try(self, source: Source, start: int) -> _Found | None:
        if self.recipe.size > MAX_RECIPE_BYTES // 2:
            return None
        segment = self._pool.pop() if self._pool else Segment()
        stream = _Deflate(self, source, segment, self._hint)
        if stream.read(start) and len(stream.plain) >= MIN_PLAIN_BYTES:
            return _Found(start, stream)
        self._pool.append(segment)
        self.charge(_TRIAL_BYTES)
        return None

    def _open(self, source: Source, found: _Found, depth: int) -> Iterator[memoryview]:
        """The plaintext of a deflate stream that begins here."""
        stream = found.stream
        stream.number = self.recipe.deflate()
        stream.accept()
        inner = Source(stream.fill, bytearray(len(stream.plain) + 1))
        yield from self._stream(inner, depth + 1)
        self.recipe.end()
        self._hint = stream.hint
        self._pool.append(stream.segment)

    def _tar(self, source: Source, depth: int) -> Iterator[memoryview]:
        """Members of a tar archive, as far as they are regular."""
        recipe = self.recipe
        previous = bytes(BLOCK)
        while source.ahead(BLOCK) >= BLOCK:
            block = bytes(source.view(0, BLOCK))
            if block[0] == 0:
                if not self._zeros(source):
                    return
                continue
            size = content_size(block) if is_header(block) else -1
            if size < 0:
                return
            padding = -size % BLOCK
            whole = BLOCK + size + padding
            small = size <= SMALL_BYTES and source.ahead(whole) >= whole
            regular = small and source.view(BLOCK + size, whole) == _ZEROS[:padding]
            meta = block[156] in _META_TYPES and small and size <= MAX_META_BYTES
            plain = regular and not meta and self._is_plain(source, BLOCK, BLOCK + size, depth)
            coded = encode_header(block, previous)
            if decode_header(Cursor(memoryview(coded), "header"), previous) != block:
                return
            recipe.header(coded, is_member=plain)
            previous = block
            if plain:
                if size:
                    yield from self._chunks(source.view(BLOCK, BLOCK + size))
                source.skip(whole)
                continue
            source.skip(BLOCK)
            if block[156] == ord("S"):
                self._sparse(source, block)
            if meta:
                recipe.inline(source.view(0, size))
                source.skip(size)
            elif size:
                outer = source.limit(source.position + size)
                if outer is not None and outer < source.position + size:
                    source.limit(outer)
                yield from self._stream(source, depth)
                source.limit(outer)
            have = min(source.ahead(padding), padding)
            if source.view(0, have) == _ZEROS[:have]:
                recipe.zeros(have)
            else:
                recipe.inline(source.view(0, have))
            source.skip(have)

    def _sparse(self, source: Source, block: bytes) -> None:
        """The extended headers of an old GNU sparse member."""
        more = block[482]
        while more and source.ahead(BLOCK) >= BLOCK:
            self.recipe.inline(source.view(0, BLOCK))
            more = source.view(504, 505)[0]
            source.skip(BLOCK)

    def _zeros(self, source: Source) -> int:
        """Skip zero bytes, return how many."""
        count = 0
        while True:
            have = min(source.ahead(len(_ZEROS)), len(_ZEROS))
            view = source.view(0, have)
            if view != _ZEROS[:have]:
                have = next(at for at, byte in enumerate(view) if byte)
                have -= have % BLOCK
            source.skip(have)
            count += have
            if have < len(_ZEROS):
                break
        self.recipe.zeros(count)
        return count

    def _is_plain(self, source: Source, start: int, end: int, depth: int) -> bool:
        """Tell whether there is nothing to open within bytes in hand."""
        if end - start >= BLOCK and is_header(bytes(source.view(start, start + BLOCK))):
            return False
        return depth >= MAX_DEFLATE_DEPTH or (
            source.find(_GZIP, start, end) < 0 and source.find(_ZIP, start, end) < 0
        )

    def charge(self, count: int) -> bool:
        """Take plaintext from what the file may still grow by; False if that is used up."""
        self._spare -= count
        return self._spare >= 0


class _Found:
    """A deflate stream that can be opened.

    Args:
        start: where it begins, counted from the source's next byte.
        stream: with its first segment in hand.
    """

    def __init__(self, start: int, stream: _Deflate) -> None:
        self.start = start
        self.stream = stream


class _Deflate:
    """A deflate stream, segment by segment; its plaintext fills a source.

    It ends where a segment cannot be given back: from that byte on, it is content of its source.

    Args:
        expander: of the file.
        source: that holds it.
        segment: memory for one segment.
        hint: first byte of a recipe found before, -1 if there is none.
    """

    def __init__(self, expander: Expander, source: Source, segment: Segment, hint: int) -> None:
        self._expander = expander
        self._source = source
        self.segment = segment
        self.hint = hint
        self.number = -1
        self._bit = 0
        self._window = b""
        self._input = _INPUT_BYTES
        self._last = False
        self._end = 0
        self._position = 0
        self._recipe = b""
        self.plain: memoryview = memoryview(b"")
        """Plaintext of the segment in hand, what has not been given yet."""

    def read(self, start: int = 0) -> bool:
        """Take the next segment in hand; False if there is none that can be opened."""
        source = self._source
        wanted = self._input
        while True:
            have = source.ahead(start + wanted) - start
            try:
                got = self.segment.inflate(
                    source.view(start, start + min(have, wanted)),
                    self._bit,
                    self._window,
                    self._position,
                )
            except NotDeflate:
                return False
            if got is not None:
                break
            if have < wanted or wanted >= MAX_SEGMENT_INPUT:
                return False
            wanted = self._input = min(2 * wanted, MAX_SEGMENT_INPUT)
        if not self._expander.charge(got.plain_length):
            return False
        if self._expander.recipe.size > MAX_RECIPE_BYTES // 2:
            return False
        recipe = self.segment.analyse(self.hint)
        if recipe is None:
            return False
        self.plain = self.segment.plain
        self._recipe, self._end, self._last = recipe, got.end_bit, got.last
        return True

    def accept(self) -> None:
        """Note the segment in hand, which begins at the source's next byte."""
        self._expander.recipe.segment(self.number, len(self.plain), self._bit, self._recipe)
        self._source.skip(self._end >> 3)
        self._bit = self._end & 7
        self._window = (self._window + bytes(self.plain[-WINDOW_BYTES:]))[-WINDOW_BYTES:]
        self._position += len(self.plain)
        self.hint = self._recipe[0]

    def fill(self, out: memoryview) -> int:
        """Write plaintext to a buffer, as `Source` asks."""
        if not self.plain:
            if self._last or not self.read():
                self._last = True
                return 0
            self.accept()
        count = min(len(out), len(self.plain))
        out[:count] = self.plain[:count]
        self.plain = self.plain[count:]
        return count


def _behind_gzip_header(source: Source, at: int) -> int:
    """Return where the deflate stream of a gzip member begins, 0 if it has none. RFC 1952."""
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
    """Return where the deflate stream of a zip entry begins, 0 if it has none.

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
