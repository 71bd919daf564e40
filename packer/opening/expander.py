"""Opens the archives in a file, at any depth: content and recipe. docs/format.md, "Recipes".

A file is read as a stream. Where a deflate stream begins in it (of a gzip member or a zip entry),
or a bzip2 stream, and can be rebuilt bit for bit, its plaintext is read as a stream of the same
kind. Where a tar archive begins, its headers go to the recipe. The rest is content, cut into
chunks. Bytes that do not fit stay content: no file is an error here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from packer.engine.chunking import ChunkParams, chunks_of, cut_points, iter_chunks
from packer.opening.closed import DAMAGED, DEPTH, FORMAT, LIMIT, is_opened, kind_of
from packer.opening.closed import SIGNATURE_BYTES as KIND_BYTES
from packer.opening.expansion import MAX_FILE_BYTES
from packer.opening.finder import (
    LOOK_AHEAD,
    SIGNATURE_BYTES,
    Finder,
    may_begin,
)
from packer.opening.lookahead import Source
from packer.opening.pieces import Pieces
from packer.opening.recipe import MAX_DEFLATE_DEPTH, RecipeWriter
from packer.opening.tar_headers import BLOCK, Members, encode_header, is_header, take_members
from packer.opening.workers import Budget, Workers

if TYPE_CHECKING:
    from packer.opening.finder import FoundStream
    from packer.opening.flat_file import FlatPart

INLINE_BYTES = 1024
"""Length in bytes below which a piece between opened streams goes to the recipe (headers, trailers,
directories): as chunks, short pieces would cost more."""
SMALL_BYTES = 64 << 10
"""Greatest size in bytes of tar members that are taken many at a time, in one call into C."""
MAX_TAR_DEPTH = 32
"""Greatest number of tar archives within one another that are opened, across the deflate streams
between them: each is a level of recursion."""

_ZEROS = bytes(64 << 10)
"""Zeros for comparing and writing, 64 KiB at a time."""


class Expander:
    """Opens one file.

    Args:
        fill: reads the file, as `Source` asks.
        size: of the file in bytes.
        params: sizes of chunks.
        buffer: memory for the file's stream, at least twice the greatest chunk.
        workers: analyse deflate streams.
        expand: whether to open archives; False keeps the file, or its text, as it is.
        parts: of the file's text, if `fill` reads that.
    """

    def __init__(
        self,
        fill: Callable[[memoryview], int | None],
        size: int,
        params: ChunkParams,
        buffer: bytearray,
        workers: Workers,
        *,
        expand: bool = True,
        parts: Sequence[FlatPart] = (),
    ) -> None:
        self._file = Source(fill, buffer)
        self._parts = parts
        self._size = size
        self._params = params
        self._expand = expand and size <= MAX_FILE_BYTES
        self._tars = 0  # tar archives that are open, within one another
        self.recipe = RecipeWriter(workers.directory)
        self._budget = Budget(size, self.recipe, workers)
        self.closed = self._budget.closed
        """What stays closed; complete once `content` has ended."""
        self._header = bytes(BLOCK)  # the last tar header of this deflate stream or file
        self._look_ahead = max(LOOK_AHEAD, 2 * params.max_bytes)
        self._begun: Finder | None = None

    def begin(self) -> bool:
        """Begin to analyse the archives in the first bytes; optional, and only before `content`.

        The content does not depend on this call; it only becomes ready earlier.

        Returns:
            Whether there is a stream to open in the first bytes.
        """
        if self._expand and not self._parts:
            have = self._file.ahead(self._look_ahead)
            if not (have >= BLOCK and is_header(self._file.view(0, BLOCK))):
                self._begun = Finder(self._budget, self._file)
                return self._begun.look(have)
        return False

    def content(self) -> Iterator[memoryview]:
        """Return the chunks of the content; each is valid until the next is asked for."""
        if self._parts:
            return self._text()
        if not self._expand:
            return self._raw(self._file, MAX_DEFLATE_DEPTH)
        return self._small() if self._size <= LOOK_AHEAD else self._stream(self._file, 0)

    def recipe_chunks(self) -> Iterator[memoryview]:
        """Yield the chunks of the recipe; none if nothing was opened."""
        if self.recipe.opened:
            recipe = self.recipe.finish()
            if not self.recipe.spilled:
                yield from chunks_of(memoryview(b"".join(recipe)), self._params)
            else:
                for view, cuts in iter_chunks(Pieces(recipe), self._params):
                    for start, end in pairwise((0, *cuts)):
                        yield view[start:end]

    def close(self) -> None:
        """Remove temporary files."""
        self.recipe.close()

    def _text(self) -> Iterator[memoryview]:
        """Yield the content of the parts of a text."""
        source, recipe = self._file, self.recipe
        recipe.text(self._parts[-1].end)
        for part in self._parts:
            source.limit(part.end)
            header = self._header
            if part.segments:
                self._header = bytes(BLOCK)
                self._budget.unwrap(part.segments)
                recipe.zstd(part.segments)
            if self._expand:
                yield from self._stream(source, 0)
            else:
                yield from self._raw(source, MAX_DEFLATE_DEPTH)
            if part.segments:
                self._header = header
                recipe.end()
        source.limit(None)

    def _small(self) -> Iterator[memoryview]:
        """Return the content of a small file: read at once, and most often with nothing to open."""
        source = self._file
        have = source.ahead(self._size + 1)
        view = source.view(0, have)
        if _is_plain(view, 0):
            self._tell(kind_of(view), have, None, source)
            return chunks_of(view, self._params)
        return self._stream(source, 0)

    def _stream(self, source: Source, depth: int) -> Iterator[memoryview]:
        """Yield the content of a stream, which may begin with a tar archive."""
        is_tar = source.ahead(BLOCK) >= BLOCK and is_header(source.view(0, BLOCK))
        if is_tar and self._tars < MAX_TAR_DEPTH:
            self._tars += 1
            yield from self._tar(source, depth)
            self._tars -= 1
            yield from self._raw(source, depth, opened=True)
        else:
            yield from self._raw(source, depth)

    def _raw(self, source: Source, depth: int, *, opened: bool = False) -> Iterator[memoryview]:
        """Yield the content of a stream to its end, and of the streams opened in it."""
        recipe, params, look_ahead = self.recipe, self._params, self._look_ahead
        finder, self._begun = self._begun, None
        if finder is None and depth < MAX_DEFLATE_DEPTH:
            finder = Finder(self._budget, source)
        begun = False  # whether a piece of content has begun
        length = 0  # of this piece so far
        first = source.position
        kind = kind_of(source.view(0, min(source.ahead(look_ahead), KIND_BYTES)))
        while True:
            have = source.ahead(look_ahead)
            ended = have < look_ahead
            found = finder.next(have) if finder is not None else None
            if found is not None:
                end, final = found.start - source.position, True
            else:
                # A signature may begin in the last bytes.
                end, final = (have, True) if ended else (have - SIGNATURE_BYTES, False)
            is_piece = final and not begun and end < INLINE_BYTES
            if is_piece and (found is not None or (opened and self._budget.has_room(end))):
                recipe.inline(source.view(0, end))
                source.skip(end)
            else:
                start = 0
                for cut in cut_points(source.view(0, end), params, final=final):
                    yield source.view(start, cut)
                    start = cut
                source.skip(start)
                length += start
                begun = True
                if final and length:
                    recipe.content(length)
            if found is not None and finder is not None:
                yield from self._found(found, depth + 1)
                recipe.end()
                finder.used(found)
                begun, opened, length = False, True, 0
            elif final:
                if finder is not None:
                    finder.settle(source.position)
                self._tell(kind, source.position - first, finder, source)
                return

    def _tell(self, kind: str, size: int, finder: Finder | None, source: Source) -> None:
        """Count a stream of bytes that begins as an archive and in which none was found.

        Args:
            kind: of the archive, or "".
            size: of the stream in bytes.
            finder: that searched it; None if it is not to be searched.
            source: holds it.
        """
        if not kind or not self._expand or (finder is not None and finder.met):
            return
        if kind == "zstd":
            if source is self._file or size <= SMALL_BYTES:
                return  # `flat_file` told
            reason = DEPTH
        elif not is_opened(kind):
            if size <= SMALL_BYTES:
                return  # as small files and members that are taken many at a time, unseen
            reason = FORMAT
        elif self._budget.ended:
            reason = LIMIT
        elif finder is None:
            reason = DEPTH
        elif kind == "zip":
            return  # entries that are not compressed
        else:
            reason = DAMAGED
        self.closed.add(kind, reason, size)

    def _found(self, found: FoundStream, depth: int) -> Iterator[memoryview]:
        """Yield the content of a stream's plaintext."""
        plain = found.whole
        if plain is not None and _is_plain(plain, depth):
            found.use()  # as most members of archives: chunks are views of the plaintext
            yield from chunks_of(plain, self._params)
            self.recipe.content(len(plain))
        else:
            header, self._header = self._header, bytes(BLOCK)
            yield from self._stream(found.open(), depth)
            self._header = header

    def _tar(self, source: Source, depth: int) -> Iterator[memoryview]:
        """Yield the content of a tar archive's members, up to one that no recipe can express."""
        recipe, has_room = self.recipe, self._budget.has_room
        while (have := source.ahead(BLOCK)) >= BLOCK:
            # Most members are files of a few KiB with nothing to open in them.
            view = source.view(0, have)
            look = depth < MAX_DEFLATE_DEPTH
            members = take_members(view, self._header, SMALL_BYTES, look=look)
            if members is not None:
                if not has_room(_recipe_bytes(members)):
                    return
                recipe.members(members.operations, members.headers, members.kept)
                self._header = members.last
                yield from self._pieces(view, members.pieces)
                source.skip(members.taken)
                continue
            block = bytes(source.view(0, BLOCK))
            if block[0] == 0:
                if not self._zeros(source):
                    return
                continue
            coded, size = encode_header(block, self._header)
            if not coded or not has_room(len(coded)):
                return
            padding = -size % BLOCK
            whole = BLOCK + size + padding
            if size <= SMALL_BYTES and have < whole and source.ahead(whole) >= whole:
                continue  # now it is in hand as a whole
            recipe.header(coded)
            self._header = block
            source.skip(BLOCK)
            if block[156] == ord("S"):
                self._sparse(source, block)
            if size:
                outer = source.limit(source.position + size)
                if outer is not None and outer < source.position + size:
                    source.limit(outer)
                yield from self._stream(source, depth)
                source.limit(outer)
            have = min(source.ahead(padding), padding)
            if source.view(0, have) == _ZEROS[:have]:
                recipe.zeros(have)
            elif has_room(have):
                recipe.inline(source.view(0, have))
            else:
                return
            source.skip(have)

    def _pieces(self, view: memoryview, pieces: list[int]) -> Iterator[memoryview]:
        """Yield the content of members; pieces that the recipe keeps go to the recipe."""
        params = self._params
        numbers = iter(pieces)
        for start, end, is_kept in zip(numbers, numbers, numbers, strict=True):
            if is_kept:
                self.recipe.keep(view[start:end])
            elif end - start < 2 * params.min_bytes:
                yield view[start:end]  # one chunk, as `cut_points` says
            else:
                yield from chunks_of(view[start:end], params)

    def _sparse(self, source: Source, block: bytes) -> None:
        """Keep the extension headers of an old GNU sparse member in the recipe."""
        more = block[482]
        while more and source.ahead(BLOCK) >= BLOCK and self._budget.has_room(BLOCK):
            self.recipe.inline(source.view(0, BLOCK))
            more = source.view(504, 505)[0]
            source.skip(BLOCK)

    def _zeros(self, source: Source) -> int:
        """Record whole blocks of zeros, as many as come; return their length in bytes."""
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


def _is_plain(data: memoryview, depth: int) -> bool:
    """Return whether a stream that is in memory holds nothing to open."""
    return not is_header(data) and (depth >= MAX_DEFLATE_DEPTH or not may_begin(data))


def _recipe_bytes(members: Members) -> int:
    """Return how many bytes the recipe grows by for members of a tar archive."""
    numbers = iter(members.pieces)
    kept = sum(
        is_kept * (end - start)
        for start, end, is_kept in zip(numbers, numbers, numbers, strict=True)
    )
    return len(members.operations) + len(members.headers) + kept
