"""Members of a tar archive, found by their headers alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from packer.engine.native import ffi, lib
from packer.opening.tar_headers import BLOCK

if TYPE_CHECKING:
    from typing_extensions import Buffer

Read = Callable[[int, int], "Buffer"]
"""Returns bytes, given the first one's offset and their number."""
Stretch = tuple[int, int]
"""First byte, and the byte behind the last one."""

LEAST_BYTES = 256 << 10
"""Bytes of a member below which it is not compared: to inflate it takes a millisecond."""
_MOST_HEADERS = 1 << 14
"""Greatest number of headers that are read."""
_WINDOW_BYTES = 16 << 10
"""Bytes read at a time behind a smaller member: the next ones are probably small as well."""
_NAME_BYTES = 100
_COMPARED_BYTES = 1 << 20


class Member(NamedTuple):
    """A member of a tar archive.

    Args:
        name: in its header.
        content: where its bytes are.
    """

    name: bytes
    content: Stretch


def members(read: Read, size: int, least: int = LEAST_BYTES) -> Iterator[Member]:
    """Yield the members of a tar archive at the start of a text; none if there is no such archive.

    Args:
        read: reads the text.
        size: of it in bytes.
        least: bytes of the smallest member that is wanted.
    """
    headers, at, length = ffi.new("uint32_t *", _MOST_HEADERS), 0, size
    within, content = ffi.new("uint64_t *"), ffi.new("int64_t *")
    while size - at >= BLOCK:
        most = _WINDOW_BYTES if length < _WINDOW_BYTES else BLOCK
        window = bytes(read(at, min(most, size - at)))
        within[0] = 0
        while True:
            found = lib.pk_tar_next(window, len(window), size - at, least, headers, within, content)
            if found != lib.PK_TAR_FOUND:
                break
            first = within[0]
            begin = at + first + BLOCK
            yield Member(window[first : first + _NAME_BYTES], (begin, begin + content[0]))
            within[0] = first + BLOCK + -(-content[0] // BLOCK) * BLOCK
        if found != lib.PK_TAR_MORE:
            return
        at, length = at + within[0], content[0]


def is_same(read: Read, start: int, old_read: Read, old_start: int, size: int) -> bool:
    """Return whether two stretches hold the same bytes.

    Args:
        read: of what holds the first.
        start: of the first.
        old_read: of what holds the second.
        old_start: of the second.
        size: of both in bytes.
    """
    return all(
        bytes(read(start + at, min(_COMPARED_BYTES, size - at)))
        == bytes(old_read(old_start + at, min(_COMPARED_BYTES, size - at)))
        for at in range(0, size, _COMPARED_BYTES)
    )
