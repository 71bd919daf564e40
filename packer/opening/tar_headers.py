"""Headers of tar archives, coded as differences to the one before. docs/format.md, "Recipes"."""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

from packer.engine.native import ffi, lib
from packer.opening.recipe import Cursor

BLOCK = 512
"""Length of a block of a tar archive, in bytes."""

_FAILURES = {
    lib.PK_TOO_LONG: "a field of a tar header is too long",
    lib.PK_OUT_OF_RANGE: "a number of a tar header is out of range",
}


def is_header(block: bytes | bytearray | memoryview) -> bool:
    """Return whether a block is a header of a tar archive: whether its checksum is right."""
    if len(block) < BLOCK:
        return False
    # Released at once: a view that a traceback keeps borrowed crashes Python's collector.
    with ffi.from_buffer("uint8_t[]", block) as view:
        return bool(lib.pk_tar_is_header(view))


def content_size(header: bytes) -> int:
    """Return how many bytes of content follow a tar header; -1 if its size field is invalid."""
    return int(lib.pk_tar_size(header))


def encode_header(block: bytes, previous: bytes) -> tuple[bytes, int]:
    """Code a tar header as its differences to the one before.

    Sizes and times in the usual notation are coded as numbers, times relative to the previous
    header's. A right checksum is not coded.

    Args:
        block: the header.
        previous: the last header of the same deflate stream (or outside of all streams), of any
            archive; zeros for the first.

    Returns:
        The coded header and how many bytes of content follow it; b"" and -1 if the block is not a
        header, or not one that `decode_header` would return.
    """
    out, size = ffi.new("uint8_t[]", lib.PK_TAR_CODED), ffi.new("int64_t *")
    length = lib.pk_tar_encode(block, previous, out, size)
    return (bytes(ffi.buffer(out, length)), int(size[0])) if length else (b"", -1)


class Members(NamedTuple):
    """Some members of a tar archive.

    Args:
        taken: their length in the archive, in bytes.
        operations: of the recipe.
        headers: coded as by `encode_header`.
        kept: number of kept bytes at the end that have no operation yet.
        last: header of the last one.
        pieces: three numbers a piece of the archive, in order: start, end, and 1 if the recipe
            keeps it, 0 if it is content.
    """

    taken: int
    operations: bytes
    headers: bytes
    kept: int
    last: bytes
    pieces: list[int]


_local = threading.local()


def take_members(data: memoryview, previous: bytes, most: int, *, look: bool) -> Members | None:
    """Take the plain members at the start of an archive, in one call into C.

    It stops before the first member that is incomplete, has an odd header or padding, is longer
    than `most`, or may hold something to open.

    Args:
        data: the archive, as far as it is in hand.
        previous: as `encode_header` takes it.
        most: greatest size of a member in bytes.
        look: whether deflate streams may be opened.

    Returns:
        The members, or None if it stops before the first.
    """
    if not hasattr(_local, "members"):
        _local.members = ffi.new("pk_members *")
    out: Any = _local.members
    out.header = previous
    with ffi.from_buffer("uint8_t[]", data) as view:
        lib.pk_members_take(out, view, len(data), most, look)
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
    """Decode the next tar header: the inverse of `encode_header`.

    The cursor raises FormatError if the header is cut off, or a field or number is too large.

    Args:
        cursor: of coded headers, from a stranger.
        previous: as `encode_header` takes it.

    Returns:
        The block.
    """
    block = bytearray(BLOCK)
    rest = cursor.rest()
    taken = ffi.new("size_t *")
    with ffi.from_buffer("uint8_t[]", rest) as coded, ffi.from_buffer("uint8_t[]", block) as to:
        status = lib.pk_tar_decode(coded, len(rest), previous, to, taken)
    if status != lib.PK_OK:
        cursor.fail(_FAILURES.get(status, "a tar header is cut off"))
    cursor.take(taken[0])
    return bytes(block)
