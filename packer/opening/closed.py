"""What stayed closed in a file, and why: said to the user, never stored.

An archive that stays closed costs its full size in each version that changes it. So packing counts
the bytes of each such archive, from where its stream begins to the next one, or to the end of what
holds it (the file, a member of a tar archive, the plaintext of a stream).
"""

from __future__ import annotations

from typing import NamedTuple

ENCODER = "encoder"
"""The bytes are sound, but no model gives them back: another encoder wrote them."""
FORMAT = "format"
"""A format that is never opened, or a zstd frame that needs a dictionary."""
METHOD = "method"
"""A zip entry, compressed by another method than deflate."""
ENCRYPTED = "encrypted"
"""A zip entry that is encrypted."""
DAMAGED = "damaged"
"""It does not decompress, or ends early."""
LIMIT = "limit"
"""A reader's bounds are reached: on the file's recipe, its streams or its content."""
DEPTH = "depth"
"""It lies too deep in other archives."""
NEW = "new"
"""It is opened against an older self alone; the base holds none, or one that shares too little."""
TEXT = "text"
"""A zstd stream of text, which is opened against an older self alone: to rebuild it takes more than
it saves; or the base holds none, or one that shares too little."""
REASONS = (ENCODER, FORMAT, METHOD, ENCRYPTED, DAMAGED, LIMIT, DEPTH, NEW, TEXT)

ZIP_METHODS = {1, 2, 3, 4, 5, 6, 9, 10, 12, 14, 16, 93, 94, 95, 96, 97, 98, 99}
"""Methods of zip entries that are not opened. APPNOTE.TXT of PKWARE, 4.4.5."""
_NEWEST_VERSION, _LAST_SYSTEM, _RESERVED_FLAGS = 63, 19, 0xD780
"""Greatest version of the format and number of a system, and the flags that are reserved, in the
header of a zip entry. APPNOTE.TXT of PKWARE, 4.4.2 to 4.4.4."""
SIGNATURE_BYTES = 10
"""Bytes that `kind_of` looks at."""
GZIP, ZIP = "gzip", "zip"
"""Kinds that hold deflate streams."""
_OPENED = {GZIP, ZIP, "bzip2", "zstd"}
_DICTIONARY = 3
"""Bits of the byte behind a zstd frame's signature: it needs a dictionary."""
_SIGNATURES = (
    (b"\x1f\x8b\x08", GZIP),
    (b"PK\x03\x04", ZIP),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"Rar!\x1a\x07", "rar"),
    (b"\x04\x22\x4d\x18", "lz4"),
)
"""First bytes of archives, and what they are called."""


class ClosedStreams(NamedTuple):
    """Streams of a file that stayed closed for the same reason.

    Args:
        kind: "gzip", "zip", "bzip2", "xz", "zstd", "7z", "rar" or "lz4".
        reason: one of `REASONS`.
        streams: number of them.
        bytes: of them together, as they lie in the file or in what holds them.
    """

    kind: str
    reason: str
    streams: int
    bytes: int


class ClosedTally:
    """Counts the streams of a file that stay closed: a row for each kind and reason."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], tuple[int, int]] = {}

    def add(self, kind: str, reason: str, size: int) -> None:
        """Count a stream.

        Args:
            kind: as in `ClosedStreams`.
            reason: one of `REASONS`.
            size: its length in bytes.
        """
        count, total = self._rows.get((kind, reason), (0, 0))
        self._rows[kind, reason] = count + 1, total + size

    def rows(self) -> list[ClosedStreams]:
        """Return the rows, in order of kind and reason."""
        return [ClosedStreams(*key, *self._rows[key]) for key in sorted(self._rows)]


def kind_of(head: bytes | memoryview) -> str:
    """Return what kind of archive begins with some bytes.

    Args:
        head: the first `SIGNATURE_BYTES`, or all if there are less.

    Returns:
        A kind as in `ClosedStreams`; "" if it is none.
    """
    start = bytes(head[:SIGNATURE_BYTES])
    if start[:3] == b"BZh" and start[4:] == b"1AY&SY":
        return "bzip2"
    return next((kind for magic, kind in _SIGNATURES if start.startswith(magic)), "")


def unopened(head: bytes, size: int) -> list[ClosedStreams]:
    """Return what to tell of a file that was not searched for archives.

    Args:
        head: its first bytes.
        size: of the file in bytes.

    Returns:
        A row if it begins as an archive; none if not.
    """
    kind = kind_of(head)
    if kind == ZIP:
        reason = of_entry(head) or NEW
    elif kind == "zstd":
        reason = FORMAT if head[4:5] and head[4] & _DICTIONARY else TEXT
    else:
        reason = NEW if is_opened(kind) else FORMAT
    return [ClosedStreams(kind, reason, 1, size)] if kind else []


def of_entry(head: bytes) -> str:
    """Return why a zip entry is not opened, whatever it holds; "" if its header does not forbid it.

    A program that reads zip archives has the signature among its instructions: what is behind it
    there is no header.

    Args:
        head: its first SIGNATURE_BYTES, or all if there are less.
    """
    if len(head) < SIGNATURE_BYTES:
        return ""
    method, flags = int.from_bytes(head[8:10], "little"), int.from_bytes(head[6:8], "little")
    if head[4] > _NEWEST_VERSION or head[5] > _LAST_SYSTEM or flags & _RESERVED_FLAGS:
        return ""
    if head[6] & 1:
        return ENCRYPTED if method in (0, 8) or method in ZIP_METHODS else ""
    return METHOD if method in ZIP_METHODS else ""


def is_opened(kind: str) -> bool:
    """Return whether archives of a kind are opened at all."""
    return kind in _OPENED
