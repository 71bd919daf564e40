"""The index: everything known about one version, as one table of packed columns.

Self-contained and deterministic: the tree (entries), and the directory of all layers, frames and
chunks it uses. What can be derived (offsets, ordinals, file sizes) is not stored, so it cannot
lie; what is stored is checked by `Index.decode` before anything uses it. docs/format.md, section
"Index", is the specification.
"""

from __future__ import annotations

import struct
import sys
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, chain, compress, pairwise
from operator import add, sub

import blake3

from packer.errors import FormatError, UnsupportedVersion
from packer.files.name_column import Names
from packer.files.tree import DIRECTORY, FILE, SYMLINK, check_paths, show
from packer.opening import expansion
from packer.opening.expansion import Expansion

MAGIC = b"LPINDEX\x01"
DIGEST_BYTES = 16
"""Stored of a chunk's BLAKE3-256. Enough to find and check a chunk; a whole restore also checks
the tree digest, which covers all 32 bytes of each (docs/decisions.md, "Half of each digest")."""
FULL_DIGEST_BYTES = 32

MAX_INDEX_BYTES = 256 << 20
"""Bound on an index in memory."""
MAX_CHUNK_BYTES = 8 << 20
MAX_FRAME_BYTES = 8 << 20
"""Bound on the plaintext of a frame."""
MAX_PREFIX_BYTES = 16 << 20
MAX_DEPTH = 16
"""Bound on a chain of delta frames."""

OPTIONAL_SECTION = 1000
"""Sections from this number on may be ignored by a reader that does not know them."""

# Section numbers and the array type of their column (None: raw bytes). docs/format.md lists them.
_PATHS, _KINDS, _MODES, _RUN_COUNTS, _TARGETS = 10, 11, 12, 13, 14
_RUN_STARTS, _RUN_LENGTHS = 20, 21
_EXPANSIONS = 30
_LAYER_FRAMES = 42
_FRAME_STORED, _FRAME_CHUNKS, _FRAME_DEPTHS, _FRAME_PREFIX_RUNS = 50, 51, 52, 53
_PREFIX_STARTS, _PREFIX_LENGTHS = 54, 55
_CHUNK_LENGTHS, _CHUNK_DIGESTS = 60, 61
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
_HEAD = struct.Struct("<8sII")
_ROW = struct.Struct("<IIQ")


@dataclass
class Index:
    """The columns of one version, and what follows from them.

    A *run* is (first chunk ordinal, number of chunks). A file's content is its runs' chunks one
    after another; chunks are numbered through all frames of all layers in order.

    Args:
        paths: relative paths in strictly increasing byte order, every parent before its children.
        kinds: DIRECTORY, FILE or SYMLINK, one byte an entry.
        modes: permission bits, at most 0o777.
        run_counts: runs of each entry (0 unless it is a file with content).
        targets: link targets of the symbolic links, in order.
        run_starts, run_lengths: the runs of all entries, in order.
        layer_frames: number of frames in each data layer, in the manifest's order.
        frame_stored: compressed length of each frame; frames fill their layer without a gap.
        frame_chunks: number of chunks in each.
        frame_depths: 0 for a frame that stands alone, else 1 + the depth of its deepest prefix.
        frame_prefix_runs: number of runs that make up its prefix.
        prefix_starts, prefix_lengths: those runs; all of chunks before the frame's own.
        chunk_lengths: plaintext length of each chunk.
        chunk_digests: the first DIGEST_BYTES of the BLAKE3-256 of each.
        expansions: by entry, of the files whose runs are content and a recipe.
    """

    paths: Sequence[bytes] = field(default_factory=Names)
    kinds: bytearray = field(default_factory=bytearray)
    modes: array[int] = field(default_factory=lambda: array("H"))
    run_counts: array[int] = field(default_factory=lambda: array("I"))
    targets: Sequence[bytes] = field(default_factory=Names)
    run_starts: array[int] = field(default_factory=lambda: array("I"))
    run_lengths: array[int] = field(default_factory=lambda: array("I"))
    layer_frames: array[int] = field(default_factory=lambda: array("I"))
    frame_stored: array[int] = field(default_factory=lambda: array("I"))
    frame_chunks: array[int] = field(default_factory=lambda: array("I"))
    frame_depths: bytearray = field(default_factory=bytearray)
    frame_prefix_runs: array[int] = field(default_factory=lambda: array("I"))
    prefix_starts: array[int] = field(default_factory=lambda: array("I"))
    prefix_lengths: array[int] = field(default_factory=lambda: array("I"))
    chunk_lengths: array[int] = field(default_factory=lambda: array("I"))
    chunk_digests: bytearray = field(default_factory=bytearray)
    expansions: dict[int, Expansion] = field(default_factory=dict)

    @property
    def chunk_count(self) -> int:
        """Number of chunks in all layers, live or not."""
        return len(self.chunk_lengths)

    def chunk_digest(self, ordinal: int) -> bytes:
        """Return the digest of a chunk, DIGEST_BYTES long."""
        at = ordinal * DIGEST_BYTES
        return bytes(self.chunk_digests[at : at + DIGEST_BYTES])

    @property
    def layer_sizes(self) -> list[int]:
        """Bytes of the frames of each data layer."""
        ends = [0, *accumulate(self.frame_stored)]
        frames = (0, *accumulate(self.layer_frames))
        return [ends[last] - ends[first] for first, last in pairwise(frames)]

    @cached_property
    def first_run(self) -> array[int]:
        """Number of runs before each entry; of an index that is complete."""
        return array("I", chain((0,), accumulate(self.run_counts)))

    def runs_of(self, entry: int) -> list[tuple[int, int]]:
        """Return the runs of one entry of an index that is complete."""
        at, end = self.first_run[entry], self.first_run[entry + 1]
        return list(zip(self.run_starts[at:end], self.run_lengths[at:end], strict=True))

    def entry_sizes(self) -> array[int]:
        """Return the size in bytes of each entry's content (0 for what is not a file)."""
        ends = _sums(self.chunk_lengths)
        runs = zip(self.run_starts, self.run_lengths, strict=True)
        sizes = self._by_entry(ends[start + length] - ends[start] for start, length in runs)
        for entry, row in self.expansions.items():
            sizes[entry] = row.size
        return sizes

    @cached_property
    def chunk_counts(self) -> array[int]:
        """Number of chunks of each entry, those of a recipe included; of a complete index."""
        return array("I", self._by_entry(self.run_lengths))

    def forget_sums(self) -> None:
        """Free what was derived from the runs; it is derived again when it is needed."""
        for name in ("first_run", "chunk_counts"):
            self.__dict__.pop(name, None)

    def _by_entry(self, of_runs: Iterable[int]) -> array[int]:
        """Return the sums over the runs of each entry."""
        until = _sums(of_runs)
        last = array("Q", map(until.__getitem__, accumulate(self.run_counts)))
        return array("Q", map(sub, last, chain((0,), last)))

    def split_runs(self, entry: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """Return the runs of an entry's content, and of its recipe."""
        content, recipe = self.runs_of(entry), list[tuple[int, int]]()
        left = self.expansions[entry].recipe_chunks if entry in self.expansions else 0
        while left:
            start, length = content.pop()
            count = min(left, length)
            recipe.insert(0, (start + length - count, count))
            if count < length:
                content.append((start, length - count))
            left -= count
        return content, recipe

    def find(self, path: bytes) -> int:
        """Return the ordinal of the entry at `path`, -1 if there is none."""
        at = bisect_right(self.paths, path) - 1
        return at if at >= 0 and self.paths[at] == path else -1

    def symlinks(self) -> dict[int, bytes]:
        """Return the target of each symbolic link, by entry ordinal."""
        links = (entry for entry, kind in enumerate(self.kinds) if kind == SYMLINK)
        return dict(zip(links, self.targets, strict=True))

    def content_key(self, runs: Iterable[tuple[int, int]]) -> bytes:
        """Return the digests of the runs' chunks: equal for equal content, chunked alike."""
        return b"".join(
            bytes(self.chunk_digests[start * DIGEST_BYTES : (start + length) * DIGEST_BYTES])
            for start, length in runs
        )

    @property
    def is_single_file(self) -> bool:
        """Whether the version is one file, such as an archive."""
        return len(self.paths) == 1 and self.kinds[0] == FILE

    def tree_digest(self, contents: bytes) -> str:
        """Return a digest of the tree alone: paths, kinds, modes, targets, contents.

        Two versions with the same content and chunk parameters have the same one, however their
        chunks are spread over layers.

        Args:
            contents: BLAKE3-256 over, file after file, the full digests of its chunks or, if it
                was opened, the full digest of the file.
        """
        hasher = blake3.blake3(b"layer-packer tree v1\0")
        chunks = array("Q", self.chunk_counts)
        for entry in self.expansions:
            chunks[entry] = 0
        paths, targets = Names.of(self.paths).joined, Names.of(self.targets).joined
        for column in (paths, self.kinds, self.modes, targets, chunks):
            data = _bytes_of(column)
            hasher.update(struct.pack("<Q", data.nbytes))
            hasher.update(data)
        hasher.update(contents)
        return "blake3:" + hasher.hexdigest()

    def encode(self) -> bytes:
        """Return the index's bytes; equal indexes have equal bytes."""
        # Start of a run relative to the end of the previous one: mostly 0, so a file that moves to
        # a new layer changes two numbers of the column instead of every number behind it.
        expected = chain((0,), map(add, self.run_starts, self.run_lengths))
        starts = array("I", (_WORD & at for at in map(sub, self.run_starts, expected)))
        columns: dict[int, bytes | bytearray | array[int]] = {
            _PATHS: Names.of(self.paths).joined,
            _KINDS: self.kinds,
            _MODES: self.modes,
            _RUN_COUNTS: self.run_counts,
            _TARGETS: Names.of(self.targets).joined,
            _RUN_STARTS: starts,
            _RUN_LENGTHS: self.run_lengths,
            _EXPANSIONS: expansion.encode(self.expansions),
            _LAYER_FRAMES: self.layer_frames,
            _FRAME_STORED: self.frame_stored,
            _FRAME_CHUNKS: self.frame_chunks,
            _FRAME_DEPTHS: self.frame_depths,
            _FRAME_PREFIX_RUNS: self.frame_prefix_runs,
            _PREFIX_STARTS: self.prefix_starts,
            _PREFIX_LENGTHS: self.prefix_lengths,
            _CHUNK_LENGTHS: self.chunk_lengths,
            _CHUNK_DIGESTS: self.chunk_digests,
        }
        parts = {number: _bytes_of(column) for number, column in columns.items()}
        head = [_HEAD.pack(MAGIC, len(parts), 0)]
        head += [_ROW.pack(number, 0, part.nbytes) for number, part in parts.items()]
        return b"".join([*head, *parts.values()])

    @classmethod
    def decode(cls, data: bytes | bytearray, what: str = "index") -> Index:
        """Parse and check an index from a stranger.

        Args:
            data: its bytes, at most MAX_INDEX_BYTES.
            what: how errors name it.

        Raises:
            UnsupportedVersion: another format version, or features this reader does not know.
            FormatError: anything that docs/format.md does not allow.
            UnsafePath: a path that could leave the target directory.
        """
        sections = _sections(data, what)
        columns: dict[int, array[int]] = {}
        for number, code in _COLUMNS.items():
            if code is not None:
                columns[number] = _column(code, sections[number], number, what)
        starts, lengths = columns[_RUN_STARTS], columns[_RUN_LENGTHS]
        _check(len(starts) == len(lengths), what, "run columns differ in length")
        before = chain((0,), accumulate(lengths))
        starts = array("I", (_WORD & at for at in map(add, accumulate(starts), before)))
        index = cls(
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
        index._check_entries(what)
        index._check_layers(what)
        index.check_expansions(what)
        return index

    def _check_entries(self, what: str) -> None:
        count = len(self.paths)
        _check(
            len(self.kinds) == len(self.modes) == len(self.run_counts) == count,
            what,
            "entry columns differ in length",
        )
        _check(max(self.kinds, default=FILE) <= SYMLINK, what, "an entry of unknown kind")
        _check(min(self.kinds, default=FILE) >= DIRECTORY, what, "an entry of unknown kind")
        _check(max(self.modes, default=0) <= 0o777, what, "mode bits beyond permissions")
        _check(self.kinds.count(SYMLINK) == len(self.targets), what, "targets do not match links")
        _check(sum(self.run_counts) == len(self.run_starts), what, "runs do not match entries")
        others = compress(self.run_counts, map(FILE.__ne__, self.kinds))
        _check(not any(others), what, "an entry with content that is not a file")
        check_paths(self.paths, self.kinds)
        for target in self.targets:
            _check(0 < len(target) <= 4095, what, "a link target is empty or above 4095 bytes")
        _check(min(self.run_lengths, default=1) > 0, what, "a run without chunks")
        end = max(map(add, self.run_starts, self.run_lengths), default=0)
        total = self.chunk_count
        _check(end <= total, what, f"a run up to chunk {end} is outside the {total} chunks")

    def check_expansions(self, what: str) -> None:
        """Check that what opened files need is within bounds.

        Raises:
            FormatError: it is not.
        """
        ends = [0, *accumulate(self.chunk_lengths)] if self.expansions else []
        for entry, row in self.expansions.items():
            _check(
                entry < len(self.paths)
                and 0 < row.size <= expansion.MAX_FILE_BYTES
                and row.recipe_chunks > 0,
                what,
                f"expansion of entry {entry} is out of range",
            )
            name = f"expansion of {show(self.paths[entry])}"
            chunks = sum(length for _, length in self.runs_of(entry))
            _check(row.recipe_chunks <= chunks, what, f"{name} has more recipe than chunks")
            content, recipe = (
                sum(ends[at + length] - ends[at] for at, length in runs)
                for runs in self.split_runs(entry)
            )
            _check(recipe <= expansion.most_recipe(row.size), what, f"{name}: too large a recipe")
            _check(content <= expansion.most_opened(row.size), what, f"{name} is too large")

    def _check_layers(self, what: str) -> None:
        frames, chunks = len(self.frame_stored), self.chunk_count
        _check(sum(self.layer_frames) == frames, what, "frames do not match layers")
        _check(
            len(self.frame_chunks)
            == len(self.frame_depths)
            == len(self.frame_prefix_runs)
            == frames,
            what,
            "frame columns differ in length",
        )
        _check(sum(self.frame_chunks) == chunks, what, "chunks do not match frames")
        _check(len(self.chunk_digests) == chunks * DIGEST_BYTES, what, "chunk digests")
        _check(min(self.frame_chunks, default=1) > 0, what, "a frame without chunks")
        _check(min(self.chunk_lengths, default=1) > 0, what, "an empty chunk")
        _check(
            max(self.chunk_lengths, default=0) <= MAX_CHUNK_BYTES,
            what,
            f"a chunk above {MAX_CHUNK_BYTES} bytes",
        )
        _check(min(self.layer_frames, default=1) > 0, what, "a layer without frames")
        _check(
            sum(self.frame_prefix_runs) == len(self.prefix_starts) == len(self.prefix_lengths),
            what,
            "prefix runs do not match frames",
        )
        self._check_frames(what)

    def _check_frames(self, what: str) -> None:
        directory = Frames(self)
        prefix = 0
        for frame, (runs, depth) in enumerate(
            zip(self.frame_prefix_runs, self.frame_depths, strict=True)
        ):
            _check(
                directory.plain_bytes(frame) <= MAX_FRAME_BYTES,
                what,
                f"frame {frame} holds more than {MAX_FRAME_BYTES} bytes",
            )
            if not runs:
                _check(depth == 0, what, f"frame {frame} has a depth but no prefix")
                continue
            own, total, deepest = directory.first_chunk[frame], 0, 0
            for start, length in zip(
                self.prefix_starts[prefix : prefix + runs],
                self.prefix_lengths[prefix : prefix + runs],
                strict=True,
            ):
                # Only chunks before the frame's own: no cycle can be written down.
                _check(
                    length > 0 and start + length <= own,
                    what,
                    f"prefix of frame {frame} is not before it",
                )
                total += directory.end[start + length] - directory.end[start]
                first, last = directory.of_chunk(start), directory.of_chunk(start + length - 1)
                deepest = max(deepest, *self.frame_depths[first : last + 1])
            _check(
                total <= MAX_PREFIX_BYTES,
                what,
                f"prefix of frame {frame} is above {MAX_PREFIX_BYTES} bytes",
            )
            _check(
                deepest + 1 == depth <= MAX_DEPTH,
                what,
                f"frame {frame} has depth {depth} on prefixes of depth {deepest}",
            )
            prefix += runs


class Frames:
    """Where frames and chunks are: positions derived from an index's columns.

    Args:
        index: checked, or about to be.
    """

    def __init__(self, index: Index) -> None:
        self.index = index
        self.first_chunk = _sums(index.frame_chunks)
        """Ordinal of each frame's first chunk; one more row at the end."""
        self.end = _sums(index.chunk_lengths)
        """Plaintext bytes before each chunk, through all layers; one more row at the end."""
        self.first_prefix_run = _sums(index.frame_prefix_runs)
        self.layer = array("I")
        """Layer of each frame."""
        self.offset = array("Q")
        """Offset in bytes of each frame in its layer."""
        frame = 0
        for layer, count in enumerate(index.layer_frames):
            at = 0
            for stored in index.frame_stored[frame : frame + count]:
                self.layer.append(layer)
                self.offset.append(at)
                at += stored
            frame += count

    def of_chunk(self, chunk: int) -> int:
        """Return the frame that holds a chunk."""
        return bisect_right(self.first_chunk, chunk) - 1

    def of_layer(self, layer: int) -> range:
        """Return the frames of a data layer."""
        return range(bisect_left(self.layer, layer), bisect_right(self.layer, layer))

    def parts(self, start: int, length: int) -> Iterator[tuple[int, int, int]]:
        """Yield a run of chunks frame by frame, as (frame, first chunk, chunk count)."""
        while length:
            frame = self.of_chunk(start)
            count = min(length, self.first_chunk[frame + 1] - start)
            yield frame, start, count
            start += count
            length -= count

    def plain_bytes(self, frame: int) -> int:
        """Return the length in bytes of a frame's plaintext."""
        return self.end[self.first_chunk[frame + 1]] - self.end[self.first_chunk[frame]]

    def prefix_runs(self, frame: int) -> list[tuple[int, int]]:
        """Return the runs of chunks a frame is compressed against."""
        first, last = self.first_prefix_run[frame], self.first_prefix_run[frame + 1]
        index = self.index
        return list(
            zip(index.prefix_starts[first:last], index.prefix_lengths[first:last], strict=True)
        )


def _sums(numbers: Iterable[int]) -> array[int]:
    """Return what is before each number, and the sum of all; made without a list of them."""
    return array("Q", chain((0,), accumulate(numbers)))


def _check(sound: bool, what: str, why: str) -> None:
    if not sound:
        raise FormatError(what, why)


def _names(data: memoryview, column: str, what: str) -> Names:
    joined = bytes(data)
    _check(not joined or joined.endswith(b"\0"), what, f"{column} do not end in NUL")
    return Names(joined)


def _bytes_of(column: bytes | bytearray | array[int]) -> memoryview:
    if isinstance(column, array) and sys.byteorder == "big":
        column = array(column.typecode, column)
        column.byteswap()
    return memoryview(column).cast("B") if column else memoryview(b"")


def _column(code: str, data: memoryview, number: int, what: str) -> array[int]:
    column = array(code)
    _check(len(data) % column.itemsize == 0, what, f"section {number} has a broken length")
    column.frombytes(data)
    if sys.byteorder == "big":
        column.byteswap()
    return column


def _sections(data: bytes | bytearray, what: str) -> dict[int, memoryview]:
    _check(len(data) <= MAX_INDEX_BYTES, what, f"above {MAX_INDEX_BYTES} bytes")
    if data[: len(MAGIC) - 1] != MAGIC[:-1] or len(data) < _HEAD.size:
        raise FormatError(what, "not an index of layer-packer")
    magic, count, reserved = _HEAD.unpack_from(data)
    if magic != MAGIC:
        raise UnsupportedVersion(f"{what} has format version {magic[-1]}, this reader knows 1")
    at = _HEAD.size + count * _ROW.size
    _check(count <= 1000 and at <= len(data), what, "section directory is cut off")
    _check(reserved == 0, what, "reserved bytes are not zero")
    sections: dict[int, memoryview] = {}
    view = memoryview(data)
    last = -1
    for row in range(count):
        number, zero, length = _ROW.unpack_from(data, _HEAD.size + row * _ROW.size)
        _check(number > last and zero == 0, what, "section directory is out of order")
        _check(length <= len(data) - at, what, f"section {number} is cut off")
        if number in _COLUMNS:
            sections[number] = view[at : at + length]
        elif number < OPTIONAL_SECTION:
            raise UnsupportedVersion(f"{what} holds section {number}, unknown to this reader")
        at += length
        last = number
    _check(at == len(data), what, "bytes behind the last section")
    missing = [number for number in _COLUMNS if number not in sections]
    _check(not missing, what, f"sections {missing} are missing")
    return sections
