"""Members of `ar` archives, as Debian packages are, in formats that are never opened."""

from __future__ import annotations

from collections.abc import Iterator

from packer.opening.closed import SIGNATURE_BYTES, is_opened, kind_of
from packer.opening.zstd_frames import Read

AR_MAGIC = b"!<arch>\n"
"""First bytes of an `ar` archive."""
_HEADER_BYTES = 60
_SIZE = slice(48, 58)
_HEADER_END = b"`\n"
_MOST_MEMBERS = 64
_MOST_BYTES = 64 << 10
"""Bytes of a member up to which it is not told, as in a tar archive."""


def closed_members(read: Read, size: int) -> Iterator[tuple[str, int]]:
    """Yield the kind and the size of members in formats that are never opened, of more than 64 KiB.

    Args:
        read: reads a file.
        size: of it in bytes.
    """
    at = len(AR_MAGIC)
    if size < at or bytes(read(0, at)) != AR_MAGIC:
        return
    for _ in range(_MOST_MEMBERS):
        header = bytes(read(at, min(_HEADER_BYTES + SIGNATURE_BYTES, size - at)))
        told = header[_SIZE].strip()
        if header[_SIZE.stop : _HEADER_BYTES] != _HEADER_END or not told.isdigit():
            return
        at += _HEADER_BYTES
        length = min(int(told), size - at)
        kind = kind_of(header[_HEADER_BYTES:])
        if kind and not is_opened(kind) and length > _MOST_BYTES:
            yield kind, length
        at += length + length % 2
        if at >= size:
            return
