"""An index to bytes and back: a head, a directory of sections, and one section a column.

docs/format.md, section "Index", is the specification.
"""

from __future__ import annotations

import struct
import sys
from array import array
from itertools import accumulate, chain
from operator import add, sub

from packer.errors import FormatError, UnsupportedVersion
from packer.files.name_column import Names
from packer.format.index import Index, little_endian
from packer.format.index_checks import check_index, require
from packer.opening import expansion, predecessor

MAGIC = b"LPINDEX\x01"
"""First bytes of an index; the last one is the format version."""
MAX_INDEX_BYTES = 256 << 20
"""Greatest index in bytes that is read: it is held in memory as a whole."""
MAX_SECTIONS = 1000
"""Greatest number of sections that is read."""
OPTIONAL_SECTION = 1000
"""A reader ignores sections from this number on if it does not know them; it refuses an index with
an unknown section below."""

# Section numbers and the array type of their column (None: raw bytes). docs/format.md lists them.
_PATHS, _KINDS, _MODES, _RUN_COUNTS, _TARGETS = 10, 11, 12, 13, 14
_RUN_STARTS, _RUN_LENGTHS = 20, 21
_EXPANSIONS = 30
_LAYER_FRAMES = 42
_FRAME_STORED, _FRAME_CHUNKS, _FRAME_DEPTHS, _FRAME_PREFIX_RUNS = 50, 51, 52, 53
_PREFIX_STARTS, _PREFIX_LENGTHS = 54, 55
_CHUNK_LENGTHS, _CHUNK_DIGESTS = 60, 61
_PREDECESSORS = 70  # only in an index that has some
_COLUMNS: dict[int, str | None] = {
    _PATHS: None,
    _KINDS: None,
    _MODES: "H",
    _RUN_COUNTS: "I",
    _TARGETS: None,
    _RUN_STARTS: "I",
    _RUN_LENGTHS: "I",
    _EXPANSIONS: None,
    _LAYER_FRAMES: "I",
    _FRAME_STORED: "I",
    _FRAME_CHUNKS: "I",
    _FRAME_DEPTHS: None,
    _FRAME_PREFIX_RUNS: "I",
    _PREFIX_STARTS: "I",
    _PREFIX_LENGTHS: "I",
    _CHUNK_LENGTHS: "I",
    _CHUNK_DIGESTS: None,
}
_WORD = 0xFFFFFFFF
"""Mask of an unsigned 32-bit number: differences of run starts are stored modulo 2^32."""
_HEAD = struct.Struct("<8sII")  # magic, number of sections, zero
_ROW = struct.Struct("<IIQ")  # of the directory: section number, zero, length in bytes


def encode_index(index: Index) -> bytes:
    """Return the bytes of an index; equal indexes have equal bytes.

    Args:
        index: complete.

    Returns:
        the plaintext of the index, before compression.
    """
    # A run's start is stored relative to the end of the run before it. That is 0 nearly everywhere,
    # so a file that moves to a new layer changes two numbers and not every number behind it.
    expected = chain((0,), map(add, index.run_starts, index.run_lengths))
    starts = array("I", (_WORD & at for at in map(sub, index.run_starts, expected)))
    columns: dict[int, bytes | bytearray | array[int]] = {
        _PATHS: Names.of(index.paths).joined,
        _KINDS: index.kinds,
        _MODES: index.modes,
        _RUN_COUNTS: index.run_counts,
        _TARGETS: Names.of(index.targets).joined,
        _RUN_STARTS: starts,
        _RUN_LENGTHS: index.run_lengths,
        _EXPANSIONS: expansion.encode(index.expansions),
        _LAYER_FRAMES: index.layer_frames,
        _FRAME_STORED: index.frame_stored,
        _FRAME_CHUNKS: index.frame_chunks,
        _FRAME_DEPTHS: index.frame_depths,
        _FRAME_PREFIX_RUNS: index.frame_prefix_runs,
        _PREFIX_STARTS: index.prefix_starts,
        _PREFIX_LENGTHS: index.prefix_lengths,
        _CHUNK_LENGTHS: index.chunk_lengths,
        _CHUNK_DIGESTS: index.chunk_digests,
    }
    if index.predecessors:
        columns[_PREDECESSORS] = predecessor.encode(index.predecessors, index.expansions)
    parts = {number: little_endian(column) for number, column in columns.items()}
    head = [_HEAD.pack(MAGIC, len(parts), 0)]
    head += [_ROW.pack(number, 0, part.nbytes) for number, part in parts.items()]
    return b"".join([*head, *parts.values()])


def decode_index(data: bytes | bytearray, what: str = "index") -> Index:
    """Parse and check an index that a stranger wrote.

    Another format version, or a section that this reader does not know, raises
    `UnsupportedVersion`. Any other breach raises what `check_index` raises.

    Args:
        data: its bytes, at most MAX_INDEX_BYTES.
        what: the index's name in errors.

    Returns:
        the index, checked.
    """
    sections = _sections(data, what)
    columns: dict[int, array[int]] = {}
    for number, code in _COLUMNS.items():
        if code is not None:
            columns[number] = _column(code, sections[number], number, what)
    starts, lengths = columns[_RUN_STARTS], columns[_RUN_LENGTHS]
    require(len(starts) == len(lengths), what, "run columns differ in length")
    before = chain((0,), accumulate(lengths))
    starts = array("I", (_WORD & at for at in map(add, accumulate(starts), before)))
    index = Index(
        paths=_names(sections[_PATHS], "paths", what),
        kinds=bytearray(sections[_KINDS]),
        modes=columns[_MODES],
        run_counts=columns[_RUN_COUNTS],
        targets=_names(sections[_TARGETS], "targets", what),
        run_starts=starts,
        run_lengths=lengths,
        layer_frames=columns[_LAYER_FRAMES],
        frame_stored=columns[_FRAME_STORED],
        frame_chunks=columns[_FRAME_CHUNKS],
        frame_depths=bytearray(sections[_FRAME_DEPTHS]),
        frame_prefix_runs=columns[_FRAME_PREFIX_RUNS],
        prefix_starts=columns[_PREFIX_STARTS],
        prefix_lengths=columns[_PREFIX_LENGTHS],
        chunk_lengths=columns[_CHUNK_LENGTHS],
        chunk_digests=bytearray(sections[_CHUNK_DIGESTS]),
        expansions=expansion.decode(bytes(sections[_EXPANSIONS]), what),
    )
    if _PREDECESSORS in sections:
        rows = sections[_PREDECESSORS]
        index.predecessors = predecessor.decode(rows, index.expansions, index.chunk_count, what)
    check_index(index, what)
    return index


def _sections(data: bytes | bytearray, what: str) -> dict[int, memoryview]:
    """Return the known sections by number; all of them are there."""
    require(len(data) <= MAX_INDEX_BYTES, what, f"above {MAX_INDEX_BYTES} bytes")
    if data[: len(MAGIC) - 1] != MAGIC[:-1] or len(data) < _HEAD.size:
        raise FormatError(what, "not an index of layer-packer")
    magic, count, reserved = _HEAD.unpack_from(data)
    if magic != MAGIC:
        raise UnsupportedVersion(f"{what} has format version {magic[-1]}, this reader knows 1")
    at = _HEAD.size + count * _ROW.size
    require(count <= MAX_SECTIONS and at <= len(data), what, "section directory is cut off")
    require(reserved == 0, what, "reserved bytes are not zero")
    sections: dict[int, memoryview] = {}
    view = memoryview(data)
    last = -1
    for row in range(count):
        number, zero, length = _ROW.unpack_from(data, _HEAD.size + row * _ROW.size)
        require(number > last and zero == 0, what, "section directory is out of order")
        require(length <= len(data) - at, what, f"section {number} is cut off")
        if number in _COLUMNS or number == _PREDECESSORS:
            sections[number] = view[at : at + length]
        elif number < OPTIONAL_SECTION:
            raise UnsupportedVersion(f"{what} holds section {number}, unknown to this reader")
        at += length
        last = number
    require(at == len(data), what, "bytes behind the last section")
    missing = [number for number in _COLUMNS if number not in sections]
    require(not missing, what, f"sections {missing} are missing")
    return sections


def _column(code: str, data: memoryview, number: int, what: str) -> array[int]:
    """Return a section as an array of numbers."""
    column = array(code)
    require(len(data) % column.itemsize == 0, what, f"section {number} has a broken length")
    column.frombytes(data)
    if sys.byteorder == "big":
        column.byteswap()
    return column


def _names(data: memoryview, column: str, what: str) -> Names:
    """Return a section as a column of names."""
    joined = bytes(data)
    require(not joined or joined.endswith(b"\0"), what, f"{column} do not end in NUL")
    return Names(joined)
