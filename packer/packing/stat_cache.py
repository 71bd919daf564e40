"""The stat cache: files that look as they did when they were packed last are not read again.

Beside a local store lies one file for each root that was packed into it. It holds the `lstat`
result of every file, and the digests of its chunks. A file that looks the same is taken to be the
same. Its chunks are then looked up like those of a file that was read, so the result of packing is
the same. The cache is a convenience: if it is missing, damaged or of another root, files are read
again.

A file looks the same if path, device, inode, size, mtime and ctime are equal. Nobody can set a
ctime, so editing, replacing and restoring an mtime all show. Three changes could stay hidden, and
are excluded:

- A change in the same tick of the clock as the file was read. So a file is recorded only if its
  times lie clearly before the moment its tree was walked: by more than a tick where ctimes are
  fine, by two seconds where they are whole seconds.
- Times by another clock. So only file systems that use this machine's clock are trusted, no network
  and no FUSE, and only files on the same one as the root.
- A clock that was set back. A cache from the future is not trusted, nor is a file with such a time.

A program that keeps a file mapped and writes to it without msync is not seen until the kernel
writes the page back; only reading would see it.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import time
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain
from operator import sub

import blake3
import xxhash

from packer.files.name_column import Names, side_by_side
from packer.files.syscalls import STAT_WORDS, has_local_times
from packer.files.tree import Tree
from packer.format.index import FULL_DIGEST_BYTES

MAX_ROOTS = 32
"""Greatest number of roots whose caches a store keeps; the one packed longest ago goes first."""
FINE_MARGIN_NS = 100_000_000
"""Least age in ns of a recorded file with a fine ctime: ten ticks of the slowest kernel clock."""
COARSE_MARGIN_NS = 2_000_000_000
"""Least age in ns of a recorded file whose ctime may be in whole seconds."""

_MAGIC = 0x32544154534B504C  # "LPKSTAT2", as a number: another byte order reads as another magic
_HEAD = struct.Struct("=QQ10Q")
_CHECK_BYTES = 16
_PREFIX = "stat-"
_PIECE = 1 << 18
"""Bytes of the mapped file that are looked at before its pages are released."""
_BLOCK = 64
"""Entries whose identities are compared in one go."""
_WRITTEN_ENTRIES = 4096
"""Entries written at a time."""


class Facts:
    """Digests of the chunks of a tree's files, collected in the order of its entries.

    Args:
        entries: number of entries of the tree.
        remembered: digests known from before, which are referred to and not copied.
    """

    def __init__(self, entries: int, remembered: Remembered | None = None) -> None:
        self.counts = array("I", bytes(4 * entries))
        """Number of digests of each entry; 0 except for a file with content."""
        self.recipes: dict[int, int] = {}
        """Number of chunks of the recipe, by entry, of each file that was opened."""
        self._remembered = remembered
        self._own = bytearray()
        # Places of the digests, in order: pairs of (start, end) in the remembered digests or, from
        # one byte behind their end on, in our own.
        self._parts = array("Q")
        self._base = (len(remembered.digests) if remembered is not None else 0) + 1

    def note(self, entry: int, digests: bytes | bytearray | memoryview) -> None:
        """Record the digests of a file.

        Args:
            entry: the file's entry.
            digests: full digests of its chunks; of an opened file, its own digest in front.
        """
        self.counts[entry] = len(digests) // FULL_DIGEST_BYTES
        start = self._base + len(self._own)
        self._own += digests
        self._append(start, start + len(digests))

    def take(self, entry: int, counts: array[int], start: int, end: int) -> None:
        """Record remembered digests of entries that follow one another.

        Args:
            entry: the first entry.
            counts: number of digests of each.
            start: first byte of the digests in the remembered ones.
            end: byte behind the last one.
        """
        self.counts[entry : entry + len(counts)] = counts
        self._append(start, end)

    def _append(self, start: int, end: int) -> None:
        """Append a place; it extends the last one if they adjoin."""
        if self._parts and self._parts[-1] == start:
            self._parts[-1] = end
        else:
            self._parts.extend((start, end))

    def digests(self) -> Iterator[memoryview]:
        """Yield the digests of all files, in order and in parts."""
        own = memoryview(self._own)
        for start, end in zip(self._parts[::2], self._parts[1::2], strict=True):
            if start >= self._base:
                yield own[start - self._base : end - self._base]
                continue
            assert self._remembered is not None
            for at in range(start, end, _PIECE):
                piece = self._remembered.digests[at : min(at + _PIECE, end)]
                yield piece
                self._remembered.release(len(piece))


class Remembered:
    """The cached digests of the files that look the same.

    Args:
        rows: the cache's row for each entry of the tree, -1 for a file that looks different.
        first: number of digests before each row, and of all rows at the end.
        digests: digests of all rows.
        recipes: number of chunks of the recipe, by row, of each file that was opened.
        tree: tree digest of the tree that was packed; its entries are the rows.
        mapped: the mapped file that `digests` is a part of.
        unchanged: whether the whole tree looks the same.
    """

    def __init__(
        self,
        rows: Sequence[int],
        first: array[int],
        digests: memoryview,
        recipes: dict[int, int],
        tree: str,
        mapped: mmap.mmap,
        *,
        unchanged: bool,
    ) -> None:
        self._mapped = mapped
        self._looked = 0
        self._rows = rows
        self._first = first
        self.digests = digests
        self._recipes = recipes
        self.tree = tree
        self.unchanged = unchanged

    def stretch(self, entry: int, most: int) -> range:
        """Return rows that follow one another, of successive entries that look the same.

        A file that was opened ends the stretch.

        Args:
            entry: the first entry.
            most: greatest number of entries.

        Returns:
            the rows; empty if the first entry looks different, or was opened.
        """
        row, count = self._rows[entry], 0
        last = min(entry + most, len(self._rows))
        if row >= 0:
            for at, found in enumerate(self._rows[entry:last], row):
                if at != found or at in self._recipes:
                    break
                count += 1
        return range(row, row + count)

    def counts(self, rows: range) -> array[int]:
        """Return the number of digests of each of some rows.

        Args:
            rows: rows of the cache.

        Returns:
            a number for each.
        """
        return array(
            "I",
            map(
                sub,
                self._first[rows.start + 1 : rows.stop + 1],
                self._first[rows.start : rows.stop],
            ),
        )

    def release(self, count: int) -> None:
        """Count bytes that were looked at, and release their pages now and then.

        The kernel reads a released page again when it is needed.

        Args:
            count: number of bytes.
        """
        self._looked += count
        if self._looked >= _PIECE and hasattr(mmap, "MADV_DONTNEED"):
            self._looked = 0
            self._mapped.madvise(mmap.MADV_DONTNEED)

    def span(self, rows: range) -> tuple[int, int]:
        """Return the bytes of `digests` that belong to some rows.

        Args:
            rows: rows of the cache.

        Returns:
            the first byte, and the byte behind the last one.
        """
        width = FULL_DIGEST_BYTES
        return self._first[rows.start] * width, self._first[rows.stop] * width

    def find(self, entry: int) -> tuple[memoryview, int] | None:
        """Return what is known of a file.

        Args:
            entry: its entry.

        Returns:
            its digests, as in `Facts`, and the number of chunks of its recipe; None if the file
            looks different.
        """
        row = self._rows[entry]
        if row < 0:
            return None
        width = FULL_DIGEST_BYTES
        found = self.digests[self._first[row] * width : self._first[row + 1] * width]
        return (found, self._recipes.get(row, 0)) if found else None


class StatCache:
    """The cache of one root in one store.

    Args:
        directory: the directory of the caches, made when first written to; "" keeps nothing.
        root: path of the directory or file that is packed, without links in it.
        settings: everything that decides how files are cut into chunks.
    """

    def __init__(self, directory: str, root: bytes, settings: str) -> None:
        self._key = root + b"\0" + settings.encode()
        name = _PREFIX + blake3.blake3(self._key).hexdigest(16)
        self._path = os.path.join(directory, name) if directory else ""
        self.walked_ns = 0
        self._device = -1
        if self._path:
            self._begin(root)

    def _begin(self, root: bytes) -> None:
        """Read the clock, and find out whether the root's file system uses it."""
        try:
            fd = os.open(root, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            self._path = ""  # packing will report the error
            return
        try:
            if not has_local_times(fd):
                self._path = ""
            self._device = os.fstat(fd).st_dev
        finally:
            os.close(fd)
        self.walked_ns = clock_ns()

    def load(self, tree: Tree) -> Remembered | None:
        """Return what is known of a tree.

        Args:
            tree: as it was walked just now.

        Returns:
            the cached digests; None if there is no sound cache.
        """
        if not self._path:
            return None
        try:
            with open(self._path, "rb") as file:
                if os.fstat(file.fileno()).st_size < _HEAD.size + _CHECK_BYTES:
                    return None
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError:
            return None
        columns = self._columns(memoryview(mapped))
        found = _compare(columns, tree, mapped) if columns is not None else None
        if found is not None:
            found.release(len(mapped))
        return found

    def _columns(self, view: memoryview) -> list[memoryview] | None:
        """Return the columns of a cache that is sound, of this root, and not from the future."""
        magic, written_ns, *lengths = _HEAD.unpack_from(view)
        sound = (
            magic == _MAGIC
            and written_ns <= self.walked_ns
            and sum(lengths) + _HEAD.size + _CHECK_BYTES == len(view)
            and xxhash.xxh3_128_digest(view[:-_CHECK_BYTES]) == view[-_CHECK_BYTES:]
        )
        if not sound:
            return None
        columns, at = [], _HEAD.size
        for length in lengths:
            columns.append(view[at : at + length])
            at += length
        return columns if columns[0] == self._key else None

    def save(self, tree: Tree, facts: Facts, digest: str) -> None:
        """Keep the digests of a tree's files, if the cache can be written.

        Args:
            tree: as it was walked, after this object was made.
            facts: digests of its files.
            digest: its tree digest.
        """
        if not self._path:
            return
        recipes = array("Q", [word for row in facts.recipes.items() for word in row])
        before = (
            self._key,
            digest.encode(),
            tree.paths.joined,
            tree.kinds,
            tree.modes,
            tree.links.joined,
        )
        behind = (facts.counts, recipes)
        lengths = [memoryview(column).nbytes for column in (*before, tree.stats, *behind)]
        lengths.append(sum(facts.counts) * FULL_DIGEST_BYTES)
        head = _HEAD.pack(_MAGIC, self.walked_ns, *lengths)
        parts: Iterable[bytes | bytearray | array[int] | memoryview]
        parts = chain((head,), before, self._trusted(tree.stats), behind, facts.digests())
        check = xxhash.xxh3_128()
        directory = os.path.dirname(self._path)
        temporary = f"{self._path}.{os.urandom(4).hex()}"
        try:
            os.makedirs(directory, exist_ok=True)
            with open(temporary, "wb") as file:
                for part in parts:
                    check.update(memoryview(part).cast("B") if len(part) else b"")
                    file.write(part)
                file.write(check.digest())
            os.replace(temporary, self._path)
            _forget_oldest(directory)
        except OSError:  # a full or read-only disk costs only the saving
            with contextlib.suppress(OSError):
                os.unlink(temporary)

    def _trusted(self, stats: array[int]) -> Iterator[array[int]]:
        """Yield the identities of files, made to match nothing where times are not trusted.

        Not even the zeros of a directory that replaces a file match those.
        """
        fine, coarse = self.walked_ns - FINE_MARGIN_NS, self.walked_ns - COARSE_MARGIN_NS
        nothing = array("Q", [(1 << 64) - 1] * STAT_WORDS)
        device = self._device
        for first in range(0, len(stats), _WRITTEN_ENTRIES * STAT_WORDS):
            out = stats[first : first + _WRITTEN_ENTRIES * STAT_WORDS]
            columns = zip(out[::STAT_WORDS], out[3::STAT_WORDS], out[4::STAT_WORDS], strict=True)
            for at, (on, mtime, ctime) in enumerate(columns):
                if not (on or mtime or ctime):
                    continue  # not a file
                latest = mtime if mtime > ctime else ctime
                if latest >= coarse or on != device:
                    if on == device and latest < fine and ctime % 1_000_000:
                        continue  # a time with a part below the millisecond is a fine one
                    out[at * STAT_WORDS : (at + 1) * STAT_WORDS] = nothing
            yield out


def clock_ns() -> int:
    """Return the time in ns that a local file system would write into a file changed now."""
    coarse = getattr(time, "CLOCK_REALTIME_COARSE", None)  # Linux: what the kernel itself uses
    return time.time_ns() if coarse is None else time.clock_gettime_ns(coarse)


def _compare(columns: list[memoryview], tree: Tree, mapped: mmap.mmap) -> Remembered | None:
    """Return the rows of a cache that look like the tree's entries; None if it is not sound."""
    _, digest, names, kinds, modes, links, stats, counts, recipes, digests = columns
    stats, counts, recipes = stats.cast("Q"), counts.cast("I"), recipes.cast("Q")
    if len(counts) * STAT_WORDS != len(stats) or sum(counts) * FULL_DIGEST_BYTES != len(digests):
        return None
    first = array("I", chain((0,), accumulate(counts)))
    rows: Sequence[int]
    same_paths = _equal(names, tree.paths.joined)
    same_stats = _equal(stats, tree.stats)
    rest = _equal(kinds, tree.kinds) and _equal(modes, tree.modes)
    whole = same_paths and same_stats and rest and _equal(links, tree.links.joined)
    if same_paths and same_stats:
        rows = range(len(tree))
    else:
        rows = _rows(tree, None if same_paths else Names(bytes(names)), stats)
    known = dict(zip(recipes[::2], recipes[1::2], strict=True))
    tree_digest = bytes(digest).decode()
    return Remembered(rows, first, digests, known, tree_digest, mapped, unchanged=whole)


def _rows(tree: Tree, names: Names | None, stats: memoryview) -> array[int]:
    """Return the row of each entry, -1 for an entry that looks different.

    Args:
        tree: as it is now.
        names: the cache's paths; None if they are the tree's.
        stats: the cache's identities.
    """
    words, now = STAT_WORDS, memoryview(tree.stats)
    if names is None:
        out = array("i", range(len(tree)))
    else:
        pairs = side_by_side(names, tree.paths)
        out = array("i", (-1 if row is None else row for _, row, at in pairs if at is not None))
    for first in range(0, len(out), _BLOCK):
        rows = out[first : first + _BLOCK]
        last, row = first + len(rows), rows[0]
        if 0 <= row == rows[-1] - len(rows) + 1:  # in one go if they follow one another
            its = stats[row * words : (row + len(rows)) * words]
            if now[first * words : last * words].tobytes() == its.tobytes():
                continue
        for entry, row in enumerate(rows, first):
            mine, theirs = entry * words, row * words
            if row >= 0 and now[mine : mine + words] != stats[theirs : theirs + words]:
                out[entry] = -1
    return out


def _equal(view: memoryview, other: bytes | bytearray | array[int]) -> bool:
    """Compare as bytes, in pieces. Memoryviews compare element by element, ten times slower."""
    one, two = view.cast("B"), memoryview(other).cast("B")
    return len(one) == len(two) and all(
        one[at : at + _PIECE].tobytes() == two[at : at + _PIECE].tobytes()
        for at in range(0, len(one), _PIECE)
    )


def _forget_oldest(directory: str) -> None:
    """Remove the caches of all but the roots packed last."""
    with os.scandir(directory) as listing:
        found = [
            (item.stat().st_mtime_ns, item.path)
            for item in listing
            if item.name.startswith(_PREFIX) and "." not in item.name
        ]
    for _, path in sorted(found)[:-MAX_ROOTS]:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
