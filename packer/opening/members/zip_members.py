"""Members of a zip archive, for listings: by its central directory, which is found from its end.

Source: APPNOTE.TXT of PKWARE, 4.3 and 4.4; Info-ZIP's extra field 0x7075, "Unicode Path".
"""

from __future__ import annotations

import stat
import struct
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING

from packer.opening.members.gzip_members import Damaged, inflated
from packer.opening.members.stored_pieces import (
    Data,
    Deflated,
    Irregular,
    Patched,
    Piece,
    Run,
    Stream,
    Zeros,
)
from packer.opening.recipe import BZIP2, DEFLATE

if TYPE_CHECKING:
    import bz2
    import lzma

MAX_COMMENT_BYTES = 65_535
"""Greatest length of an archive's comment, which lies behind the end record."""

_END = struct.Struct("<4s4H2LH")
_LOCATOR = struct.Struct("<4sLQL")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_READ_BYTES = 256 << 10
_MAX_DICTIONARY_BYTES = 64 << 20
"""Greatest window of an entry in LZMA that is decoded: the decoder allocates it."""
_MAX_GAP_BYTES = 1 << 10
"""Greatest number of bytes between the data of an entry and what follows: a data descriptor."""
_MAX_SEARCHED_BYTES = 8 << 20
"""Greatest piece, in bytes, in which the header of the next entry is searched."""
_STORED, _DEFLATED, _BZIP2, _LZMA = 0, 8, 12, 14
_UNIX = 3


@dataclass(frozen=True, slots=True)
class ZipMember:
    """An entry of a zip archive.

    Args:
        name: as the archive has it, decoded.
        kind: "file", "directory" or "symlink".
        mode: permission bits, 0 if the archive was not written on a Unix system.
        size: of the content in bytes.
        method: of compression.
        is_encrypted: whether its content is encrypted.
        coded_size: bytes in the archive.
        offset: of its local header, from the archive's first byte.
        encoded_name: the name's bytes in the archive.
    """

    name: str
    kind: str
    mode: int
    size: int
    method: int
    is_encrypted: bool
    coded_size: int
    offset: int
    encoded_name: bytes


class _Placed:
    """Pieces with their positions: random access to an archive as it is stored.

    Args:
        pieces: of the whole archive.
    """

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self._pieces = pieces
        last = max((at for at, each in enumerate(pieces) if isinstance(each, Deflated)), default=-1)
        self._tail = pieces[last + 1 :]
        self.tail_bytes = sum(len(piece) for piece in self._tail if not isinstance(piece, Deflated))
        self._starts: list[int] = []
        self._sizes: list[int] = []

    def tail(self, start: int, length: int) -> bytes:
        """Return bytes of the part behind the last deflate stream, counted from its start."""
        return _slice(self._tail, start, length)

    def place(self, length_of: Callable[[int, int], int] | None) -> int:
        """Find the position of each piece.

        Args:
            length_of: returns the length of a deflate stream, given its number among the pieces and
                its position; None if there is no such stream.

        Returns:
            The length of the archive.
        """
        end = 0
        for at, piece in enumerate(self._pieces):
            if isinstance(piece, Deflated):
                assert length_of is not None
                length = length_of(at, end)
            else:
                length = len(piece)
            self._starts.append(end)
            self._sizes.append(length)
            end += length
        return end

    def read(self, start: int, length: int) -> bytes:
        """Return bytes of the archive that no deflate stream holds."""
        return Stream(self.pieces(start, length)).read(length)

    def pieces(self, start: int, length: int) -> Iterator[Piece]:
        """Yield the pieces of a part of the archive, as far as they were placed."""
        at = bisect_right(self._starts, start) - 1
        while length > 0 and 0 <= at < len(self._starts):
            piece, begin = self._pieces[at], self._starts[at]
            if isinstance(piece, Deflated):
                size = self._sizes[at]
                if begin != start or size > length:
                    raise Irregular
                yield piece.again()
            else:
                if start > begin:
                    piece = piece.split(min(start - begin, len(piece)))[1]
                if len(piece) > length:
                    piece = piece.split(length)[0]
                size = len(piece)
                yield piece
            start, length, at = start + size, length - size, at + 1


def _slice(pieces: Sequence[Piece], start: int, length: int) -> bytes:
    stream = Stream(pieces)
    stream.skip(start)
    return stream.read(length)


class ZipReader:
    """Reads a zip archive.

    Args:
        pieces: of the whole archive; `Deflated` ones can be read more than once.

    Raises:
        Damaged: no central directory is found.
        Irregular: the deflate streams do not lie where the directory says.
    """

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self._placed = _Placed(pieces)
        self._count = self._offset = 0
        self._directory = self._find_directory()
        self.is_cut = False
        """Whether the central directory ended before its last entry."""
        self._base = self._place(pieces)

    def _find_directory(self) -> tuple[int, int]:
        """Return where in the tail the central directory begins, and its length."""
        placed = self._placed
        length = min(placed.tail_bytes, _END.size + MAX_COMMENT_BYTES)
        start = placed.tail_bytes - length
        window = placed.tail(start, length)
        at = len(window) - _END.size + 4
        candidates = []
        while (at := window.rfind(b"PK\5\6", 0, at)) >= 0:
            if at + _END.size <= len(window):
                candidates.append(at)
            at += 3
        whole = [
            at
            for at in candidates
            if at + _END.size + int.from_bytes(window[at + 20 : at + 22], "little") == len(window)
        ]
        for at in (*whole, *candidates):
            found = self._directory_of(start + at, window[at : at + _END.size])
            if found is not None:
                return found
        raise Damaged("no central directory is found at its end")

    def _directory_of(self, at: int, record: bytes) -> tuple[int, int] | None:
        """Return the central directory that an end record names, None if it is not there."""
        placed = self._placed
        _, _, _, _, count, size, offset, _ = _END.unpack(record)
        locator = placed.tail(at - _LOCATOR.size, _LOCATOR.size) if at >= _LOCATOR.size else b""
        if locator[:4] == b"PK\6\7":
            # The record lies before its locator, which counts from the archive's start: that is
            # not known here. It may have data of its own at its end.
            first = max(at - _LOCATOR.size - _READ_BYTES, 0)
            window = placed.tail(first, at - _LOCATOR.size - first)
            found = window.rfind(b"PK\6\6")
            if 0 <= found <= len(window) - _END_64.size:
                *_, count, size, offset = _END_64.unpack_from(window, found)
                at = first + found
        start = at - size
        if start < 0 or (size and placed.tail(start, 4) != b"PK\1\2"):
            return None
        self._count, self._offset = count, offset
        return start, size

    def _place(self, pieces: Sequence[Piece]) -> int:
        """Find the position of each piece; return where the archive's own first byte is."""
        placed = self._placed
        lengths = None
        if any(isinstance(piece, Deflated) for piece in pieces):
            lengths = _Lengths(pieces, sorted(self.members(), key=attrgetter("offset")))
            lengths.data_start = self._data_start
            lengths.directory = self._directory[0], self._offset
        end = placed.place(lengths.length if lengths is not None else None)
        base = end - placed.tail_bytes + self._directory[0] - self._offset
        if base and lengths is not None:
            raise Irregular
        return base

    def _data_start(self, offset: int) -> int:
        """Return where the data of an entry begins; -1 if no local header is there."""
        head = self._placed.read(offset, _LOCAL.size)
        if len(head) < _LOCAL.size or head[:4] != b"PK\3\4":
            return -1
        *_, name_bytes, extra_bytes = _LOCAL.unpack(head)
        return int(offset + _LOCAL.size + name_bytes + extra_bytes)

    def members(self) -> Iterator[ZipMember]:
        """Yield the entries in the order of the central directory."""
        at, left = self._directory
        window, first, number = b"", 0, 0
        while left >= _ENTRY.size:
            if len(window) < min(at - first + _ENTRY.size + 3 * 65_535, at - first + left):
                first, window = at, self._placed.tail(at, min(left, _READ_BYTES))
            fields = _ENTRY.unpack_from(window, at - first)
            size = _ENTRY.size + sum(fields[10:13])
            if fields[0] != b"PK\1\2" or size > left:
                break
            yield _entry(fields, window, at - first + _ENTRY.size)
            number += 1
            at, left = at + size, left - size
        # The count is of 16 bits, unless the archive is of the 64-bit kind.
        self.is_cut = number & 0xFFFF != self._count & 0xFFFF

    def content(self, member: ZipMember) -> Stream:
        """Return the content of an entry.

        Args:
            member: of this archive.

        Returns:
            Its plaintext.

        Raises:
            Damaged: it is encrypted, its method is not known, or it is not where it should be.
            Irregular: it is stored as another stream than its method says.
        """
        if member.is_encrypted:
            raise Damaged("it is encrypted")
        if member.method not in (_STORED, _DEFLATED, _BZIP2, _LZMA):
            raise Damaged(f"it is compressed by method {member.method}, which is not supported")
        coded = self.stored(member)
        if member.method == _STORED:
            return coded
        piece = coded.peek()
        if isinstance(piece, Deflated):
            if piece.kind == (BZIP2 if member.method == _BZIP2 else DEFLATE):
                return piece.plaintext()
            raise Irregular
        return Stream(_decoded(member, coded), is_sequential=True)

    def stored(self, member: ZipMember) -> Stream:
        """Return the stored bytes of an entry.

        Args:
            member: of this archive.

        Returns:
            Its compressed and perhaps encrypted bytes.

        Raises:
            Damaged: it is not where it should be.
        """
        start = self._data_start(member.offset + self._base)
        if start < 0:
            raise Damaged("its local header is damaged")
        return Stream(self._placed.pieces(start, member.coded_size))


class _Lengths:
    """Finds how long deflate streams are that a recipe holds: the entries say where they lie.

    A stream is the data of an entry, or lies within the data of one that is stored. Then the next
    entry's header tells where that ends; of several streams in it, the first one is taken to be as
    long as all of them.

    Args:
        pieces: of the archive.
        entries: by offset.
    """

    def __init__(self, pieces: Sequence[Piece], entries: Sequence[ZipMember]) -> None:
        self._pieces = pieces
        self._entries = entries
        self._offsets = [entry.offset for entry in entries]
        self._done: set[int] = set()
        self.data_start: Callable[[int], int] = int
        """Returns where the data of an entry begins, given its offset; -1 if it is not there."""
        self.directory = 0, 0
        """Where the central directory begins: behind the last stream, and in the archive."""

    def length(self, number: int, position: int) -> int:
        """Return the length of the stream that is piece `number`, at `position`."""
        if number in self._done:
            return 0
        at = bisect_right(self._offsets, position) - 1
        start = self.data_start(self._offsets[at]) if at >= 0 else -1
        if start < 0:
            raise Irregular
        entry = self._entries[at]
        behind = self._entries[at + 1] if at + 1 < len(self._entries) else None
        gap = (behind.offset if behind else self.directory[1]) - start - entry.coded_size
        if not 0 <= gap <= _MAX_GAP_BYTES or not start <= position < start + entry.coded_size:
            raise Irregular
        raw = position - start - gap
        streams = [number]
        for other in range(number + 1, len(self._pieces)):
            piece = self._pieces[other]
            if isinstance(piece, Deflated):
                streams.append(other)
                continue
            found = self._header_in(piece, behind)
            if found >= 0:
                self._done.update(streams[1:])
                length = entry.coded_size - raw - found
                if length < 0:
                    raise Irregular
                return length
            raw += len(piece)
        raise Irregular

    def _header_in(self, piece: Run | Data | Zeros | Patched, entry: ZipMember | None) -> int:
        """Return where in a piece the header of an entry is, or the central directory; else -1."""
        if entry is None:
            # It lies behind the last stream, in one piece or several.
            return self.directory[0] if piece is self._tail_start() else -1
        if len(piece) > _MAX_SEARCHED_BYTES:
            raise Irregular
        data = b"".join(piece.read())
        at = data.find(b"PK\3\4")
        while at >= 0:
            length = int.from_bytes(data[at + 26 : at + 28], "little")
            if data[at + _LOCAL.size : at + _LOCAL.size + length] == entry.encoded_name:
                return at
            at = data.find(b"PK\3\4", at + 1)
        return -1

    def _tail_start(self) -> Piece:
        """Return the first piece behind the last stream."""
        at = len(self._pieces) - 1
        while not isinstance(self._pieces[at - 1], Deflated):
            at -= 1
        return self._pieces[at]


def _entry(fields: tuple[bytes | int, ...], window: bytes, at: int) -> ZipMember:
    """Return an entry of the central directory.

    Args:
        fields: its fixed part.
        window: holds its name and extra fields.
        at: where the name begins.
    """
    numbers = [field for field in fields if isinstance(field, int)]
    made_by, _, flags, method, _, _, _, coded_size, size, name_bytes, extra_bytes = numbers[:11]
    attributes, offset = numbers[-2:]
    name = window[at : at + name_bytes]
    extra = window[at + name_bytes : at + name_bytes + extra_bytes]
    sizes = [size, coded_size, offset]
    unicode_name = b""
    for kind, data in _extra_fields(extra):
        if kind == 1:  # the 64-bit values of those that are all ones, in this order
            values = iter(struct.unpack_from(f"<{len(data) // 8}Q", data))
            sizes = [next(values, each) if each == 0xFFFFFFFF else each for each in sizes]
        elif kind == 0x7075 and data[:5] == b"\1" + zlib.crc32(name).to_bytes(4, "little"):
            unicode_name = data[5:]
    is_unix = made_by >> 8 == _UNIX
    mode = attributes >> 16 if is_unix else 0
    text = _decoded_name(name, unicode_name, is_utf8=bool(flags & 0x800), is_unix=is_unix)
    kind_name = "symlink" if stat.S_ISLNK(mode) else "file"
    if text.endswith("/") or stat.S_ISDIR(mode):
        kind_name = "directory"
    return ZipMember(
        name=text,
        kind=kind_name,
        mode=mode & 0o7777,
        size=sizes[0],
        method=method,
        is_encrypted=bool(flags & 1),
        coded_size=sizes[1],
        offset=sizes[2],
        encoded_name=name,
    )


def _extra_fields(extra: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 4 <= len(extra):
        kind, size = struct.unpack_from("<2H", extra, at)
        if at + 4 + size > len(extra):
            return
        yield kind, extra[at + 4 : at + 4 + size]
        at += 4 + size


def _decoded_name(name: bytes, unicode_name: bytes, *, is_utf8: bool, is_unix: bool) -> str:
    """Return a name as text: UTF-8 if the archive says so or is from Unix, else code page 437.

    Archives from Unix have the bytes of the file system, which mostly are UTF-8.
    """
    if unicode_name:
        name, is_utf8 = unicode_name, True
    if is_utf8 or is_unix:
        return name.decode("utf-8", "surrogateescape")
    return name.decode("cp437")


def _decoded(member: ZipMember, coded: Stream) -> Iterator[Data]:
    """Yield the plaintext of a compressed entry."""
    if member.method == _DEFLATED:
        yield from inflated(coded)
        return
    try:
        import bz2
        import lzma
    except ImportError as error:  # Python can be built without them
        raise Damaged(str(error)) from None
    decoder: bz2.BZ2Decompressor | lzma.LZMADecompressor
    try:
        decoder = bz2.BZ2Decompressor() if member.method == _BZIP2 else _lzma_decoder(coded)
        left = member.size
        while left > 0 and not decoder.eof:
            data = coded.read(_READ_BYTES) if decoder.needs_input else b""
            out = decoder.decompress(data, min(left, _READ_BYTES))
            if not out and not data:
                raise Damaged("its compressed data is cut short")
            if out:
                yield Data(out)
                left -= len(out)
    except (OSError, ValueError, EOFError, lzma.LZMAError) as error:
        raise Damaged(f"its compressed data is damaged: {error}") from None


def _lzma_decoder(coded: Stream) -> lzma.LZMADecompressor:
    """Return a decoder for an entry in LZMA, whose properties come first. APPNOTE.TXT, 5.8.8."""
    import lzma

    head = coded.read(4)
    size = int.from_bytes(head[2:4], "little")
    properties = coded.read(size)
    if len(properties) < 5 or size > 16:
        raise ValueError("no properties")
    value, dictionary = properties[0], int.from_bytes(properties[1:5], "little")
    if value >= 9 * 5 * 5 or dictionary > _MAX_DICTIONARY_BYTES:
        raise ValueError("properties are out of range")
    settings = {
        "id": lzma.FILTER_LZMA1,
        "dict_size": max(dictionary, 4096),
        "lc": value % 9,
        "lp": value // 9 % 5,
        "pb": value // 45,
    }
    return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[settings])
