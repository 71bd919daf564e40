"""Headers of tar archives, coded as what differs from the one before. docs/format.md, "Recipes"."""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

from packer.engine.native import ffi, lib
from packer.opening.recipe import Cursor

BLOCK = 512
"""Bytes of a block of a tar archive."""

_FAILURES = {
    lib.PK_TOO_LONG: "a field of a tar header is too long",
    lib.PK_OUT_OF_RANGE: "a number of a tar header is out of range",
}


def is_header(block: bytes | bytearray | memoryview) -> bool:
    """Tell whether a block is a header of a tar archive: its checksum is right."""
    return len(block) >= BLOCK and bool(lib.pk_tar_is_header(ffi.from_buffer("uint8_t[]", block)))


def content_size(header: bytes) -> int:
    """Return how many bytes of content follow a tar header; -1 if that cannot be told."""
    return int(lib.pk_tar_size(ffi.from_buffer("uint8_t[]", header)))


def encode_header(block: bytes, previous: bytes) -> tuple[bytes, int]:
    """Return a tar header as its differences to the one before, and how much content follows.

    Sizes and times that are written in the usual way are coded as numbers, times relative to the
    previous one, and a right checksum not at all.

    Args:
        block: the header.
        previous: the last one of the same deflate stream (or outside of all), of whichever
            archive; zeros for the first.

    Returns:
        b"" and -1 if it is no header, or one that would not come back.
    """
    out, size = ffi.new("uint8_t[]", lib.PK_TAR_CODED), ffi.new("int64_t *")
    length = lib.pk_tar_encode(block, previous, out, size)
    return (bytes(ffi.buffer(out, length)), int(size[0])) if length else (b"", -1)


class Members(NamedTuple):
    """Some members of a tar archive.

    Args:
        taken: how many bytes of the archive they are.
        operations: of the recipe.
        headers: coded as by `encode_header`.
        kept: bytes that the recipe keeps at the end, for which there is no operation yet.
        last: the last one's header.
        pieces: of the archive, in order: start, end, and 1 if the recipe keeps it, 0 if it is
            content, one after another.
    """

    taken: int
    operations: bytes
    headers: bytes
    kept: int
    last: bytes
    pieces: list[int]


_local = threading.local()


def take_members(data: memoryview, previous: bytes, most: int, *, look: bool) -> Members | None:
    """Return the members that an archive begins with, up to one that needs a closer look.

    That is one that is not all there, has an odd header or padding, or may hold something to open.

    Args:
        data: what is there of the archive.
        previous: as `encode_header` takes it.
        most: longer members need a closer look as well.
        look: deflate streams may be opened.

    Returns:
        None if the first one needs it.
    """
    if not hasattr(_local, "members"):
        _local.members = ffi.new("pk_members *")
    out: Any = _local.members
    out.header = previous
    lib.pk_members_take(out, ffi.from_buffer("uint8_t[]", data), len(data), most, look)
    if not out.taken:
        return None
    return Members(
        out.taken,
        bytes(ffi.buffer(out.operations, out.operations_length)),
        bytes(ffi.buffer(out.coded, out.coded_length)),
        out.kept,
        bytes(ffi.buffer(out.header)),
        ffi.unpack(ffi.addressof(out.pieces, 0), 3 * out.piece_count),
    )


def decode_header(cursor: Cursor, previous: bytes) -> bytes:
    """Return the next tar header; the inverse of `encode_header`.

    Raises:
        FormatError: through the cursor: it is cut off, or a field or number is too large.
    """
    block = bytearray(BLOCK)
    rest = cursor.rest()
    coded, to = ffi.from_buffer("uint8_t[]", rest), ffi.from_buffer("uint8_t[]", block)
    taken = ffi.new("size_t *")
    status = lib.pk_tar_decode(coded, len(rest), previous, to, taken)
    if status != lib.PK_OK:
        cursor.fail(_FAILURES.get(status, "a tar header is cut off"))
    cursor.take(taken[0])
    return bytes(block)
