"""The pieces of a file that was opened, as the operations of its recipe tell them."""

from __future__ import annotations

from collections.abc import Iterator

from packer.errors import FormatError
from packer.opening import recipe as op
from packer.opening.against import Against
from packer.opening.members.stored_pieces import (
    Content,
    Data,
    Deflated,
    Header,
    LastMade,
    Patched,
    Piece,
    Run,
    Stream,
    Zeros,
)
from packer.opening.recipe import MAX_DEFLATE_DEPTH, Recipe
from packer.opening.tar_headers import BLOCK, content_size, decode_header


def stored_stream(recipe: Recipe, content: Content, against: Against) -> Stream:
    """Return the pieces of a file that was opened.

    Args:
        recipe: of the file, from a stranger; consumed.
        content: of the file.
        against: of the recipe.

    Returns:
        The stream; FormatError while it is read if the recipe does not fit the content.
    """
    return Stream(_Operations(recipe, content, against).pieces(0))


class _Operations:
    """Turns the operations of a recipe into pieces."""

    def __init__(self, recipe: Recipe, content: Content, against: Against) -> None:
        self._recipe = recipe
        self._content = content
        self._against = against
        self._last = LastMade()
        self._at = 0

    def _run(self, length: int) -> Run:
        start, self._at = self._at, self._at + length
        if self._at > self._content.size:
            raise FormatError(self._recipe.what, "the content is too short")
        return Run(self._content, start, length)

    def pieces(self, depth: int, *, within: bool = False) -> Iterator[Piece]:
        """Yield the pieces of a stream up to its end; arguments as for `Rebuilder`."""
        recipe = self._recipe
        number, header = recipe.operations.number, bytes(BLOCK)
        held = nothing = Patched(lambda: memoryview(b""), self._last, 0, 0)
        while (operation := number()) != op.END:
            if operation in (op.MEMBER, op.HEADER):
                header = decode_header(recipe.headers, header)
                yield Header(header)
                if operation == op.MEMBER:
                    size = content_size(header)
                    if size < 0:
                        raise FormatError(recipe.what, "a member's size cannot be told")
                    if size:
                        yield self._run(size)
                    if size % BLOCK:
                        yield Zeros(-size % BLOCK)
            elif operation == op.CONTENT:
                yield self._run(number())
            elif operation == op.INLINE:
                yield Data(bytes(recipe.inline.take(number())))
            elif operation == op.ZEROS:
                yield Zeros(number())
            elif operation in (op.DEFLATE, op.BZIP2, op.ZSTD, op.SEQUENCES):
                is_zstd = operation in (op.ZSTD, op.SEQUENCES)
                has_text = recipe.text_bytes is not None or operation != op.ZSTD
                if is_zstd and (within or not has_text):
                    raise FormatError(recipe.what, "a zstd stream where none may be")
                if depth >= MAX_DEFLATE_DEPTH:
                    raise FormatError(recipe.what, "deflate streams within one another, too many")
                records = recipe.next_stream()
                plain = Stream(self.pieces(depth + (not is_zstd), within=True))
                yield Deflated(plain, records, self._against, operation)
            elif operation == op.DELTA:
                length = number()
                make, _ = self._against.delta(recipe.next_stream(), length)
                yield Patched(make, self._last, 0, length)
            elif operation == op.HOLD:
                if held.length:
                    raise FormatError(recipe.what, "bytes held are left over")
                length = number()
                make, _ = self._against.delta(recipe.next_stream(), length)
                held = Patched(make, LastMade(), 0, length)
            elif operation == op.HELD:
                length = number()
                if not 1 <= length <= held.length:
                    raise FormatError(recipe.what, "bytes that are not held")
                part, rest = held.split(length)
                held = rest if rest.length else nothing  # which keeps no memory
                yield part
            else:
                raise FormatError(recipe.what, f"unknown operation {operation}")
        if held.length:
            raise FormatError(recipe.what, "bytes held are left over")
