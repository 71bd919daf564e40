"""Archives and zstd streams of the base that a new one is like, whatever their names.

Blobs of image layouts are named by their digest, so no name says which one was replaced. What the
first archives in them hold does: samples of the first MiB of plaintext are compared.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import zstandard

from packer.engine.chunking import ChunkParams
from packer.engine.pieces import cut_pieces, key_set
from packer.files.tree import FILE
from packer.format.index import Index
from packer.opening.ahead import Run, all_ahead
from packer.opening.lookahead import find_signature
from packer.opening.zstd_frames import MAGIC

if TYPE_CHECKING:
    from typing_extensions import Buffer

HEAD_BYTES = 512 << 10
"""Bytes of an archive that are read to compare it."""

_PLAIN_BYTES = 1 << 20
"""Plaintext that is compared, in bytes."""
_SAMPLES = 128
"""Pieces of it that are compared: those of the smallest hashes, so that equal texts give the same.
"""
_MOST_TEXTS = 64
"""Signatures of archives that are looked at, at most."""
_LEAST_COMMON = 1 / 16
"""Share of the samples that two archives have in common at least."""
_SURE_COMMON = 1 / 4
"""Share of the samples in common from which the root of an opened archive stands for it: else the
archive itself is made and compared, which takes 0.2 s."""
_MOST_RATIO = 16
"""Greatest ratio of the sizes of two archives that are compared."""
_MOST_TRIED = 64
"""Archives of the base that are read: those nearest in size to the first new one."""
_LEAST_BYTES = 1 << 10
_PIECES = ChunkParams(1 << 10)
_READ_BYTES = 128 << 10
_MAX_WINDOW_BYTES = 128 << 20
"""Greatest window of a zstd frame that is read, in bytes: only what is read of it is touched."""
_DEFLATE, _ZSTD = "deflate", "zstd"


class _Samples(NamedTuple):
    """Samples of an archive.

    Args:
        kind: of the archive; "" is none, which nothing is compared with.
        samples: of its text.
        of_root: whether its root was read.
    """

    kind: str
    samples: frozenset[int]
    of_root: bool


class Alike:
    """Finds archives of the base by what they begin with.

    Args:
        base: index of the base.
        is_gone: returns whether the new version has no file at a path of the base.
        read: returns the first bytes of an entry of the base, at most HEAD_BYTES of them.
        read_root: returns those of what an entry was when it was closed; none if it is so now.
    """

    def __init__(
        self,
        base: Index,
        is_gone: Callable[[bytes], bool],
        read: Callable[[int], bytes],
        read_root: Callable[[int], bytes],
    ) -> None:
        self._base = base
        self._is_gone = is_gone
        self._read = read
        self._read_root = read_root
        self._samples: dict[int, _Samples] | None = None
        self._rooted: list[int] = []  # those whose root was read
        self._sizes: dict[int, int] = {}

    def find(self, head: bytes, size: int, run: Run | None = None) -> int:
        """Return the entry of the base that an archive is most like, -1 if there is none.

        Args:
            head: the archive's first HEAD_BYTES.
            size: of the archive in bytes.
            run: reads archives of the base beside one another; None reads one after another.
        """
        kind = _kind(head)
        if size < _LEAST_BYTES or not kind:
            return -1
        if self._samples is None:
            found = self._archives(size)
            self._samples = dict(self._sampled(found, self._from_root, run))
            self._rooted = [entry for entry in found if self._samples[entry].of_root]
        wanted = samples(head)
        best, entry = self._most_alike(kind, wanted, size)
        if best < _SURE_COMMON and self._rooted:
            self._samples.update(self._sampled(self._rooted, self._from_entry, run))
            self._rooted = []
            best, entry = self._most_alike(kind, wanted, size)
        return entry

    def _most_alike(self, kind: str, wanted: frozenset[int], size: int) -> tuple[float, int]:
        """Return the entry that has most of some samples, -1 if none has enough, and the share."""
        assert self._samples is not None
        best, entry = _LEAST_COMMON, -1
        for other, found in self._samples.items():
            low, high = sorted((size, self._sizes[other]))
            if high <= _MOST_RATIO * low and kind == found.kind:
                common = len(wanted & found.samples)
                share = common / max(min(len(wanted), len(found.samples)), 1)
                if share > best:
                    best, entry = share, other
        return best, entry

    def _archives(self, size: int) -> list[int]:
        """Return the entries of the base that a new archive is compared with.

        Those that the new version lacks come first. Others may have been split.
        """
        base = self._base
        sizes = base.entry_sizes()
        found = [
            entry
            for entry, kind in enumerate(base.kinds)
            if kind == FILE
            and sizes[entry] >= _LEAST_BYTES
            and (entry not in base.expansions or base.expansions[entry].predecessors)
        ]
        there = {entry for entry in found if not self._is_gone(base.paths[entry])}
        found.sort(key=lambda entry: (entry in there, abs(sizes[entry] - size), entry))
        found = sorted(found[:_MOST_TRIED], key=lambda entry: (entry in there, entry))
        self._sizes = {entry: sizes[entry] for entry in found}
        return found

    def _sampled(
        self, entries: Sequence[int], sample: Callable[[int], _Samples], run: Run | None
    ) -> Iterator[tuple[int, _Samples]]:
        """Yield entries of the base, and samples of them."""
        with all_ahead([partial(sample, entry) for entry in entries], run) as waiting:
            for entry, wait in zip(entries, waiting, strict=True):
                yield entry, wait()

    def _from_root(self, entry: int) -> _Samples:
        """Return samples of what an entry was when it was closed; from any thread.

        An opened archive is dear to make. Most begin much as their root did.
        """
        if head := self._read_root(entry):
            return _Samples(_kind(head), samples(head), of_root=True)
        return self._from_entry(entry)

    def _from_entry(self, entry: int) -> _Samples:
        """Return samples of an entry; from any thread."""
        head = self._read(entry)
        return _Samples(_kind(head), samples(head), of_root=False)


def samples(head: bytes) -> frozenset[int]:
    """Return hashes of some pieces of the plaintext that an archive begins with.

    Args:
        head: its first bytes.
    """
    found: set[int] = set()
    kind = _kind(head)
    texts = _inflated(head) if kind == _DEFLATE else [_unframed(head)] if kind else ()
    for text in texts:
        found.update(key_set(cut_pieces(text, _PIECES).keys))
    return frozenset(sorted(found)[:_SAMPLES])


def _kind(head: bytes) -> str:
    """Return what begins here: _DEFLATE, _ZSTD or ""."""
    if head.startswith(MAGIC):
        return _ZSTD
    from packer.opening.discovery import is_archive  # loaded by the first file that is compared

    return _DEFLATE if is_archive(head) else ""


def _inflated(head: bytes) -> Iterator[bytes]:
    """Yield the plaintexts that an archive begins with: a zip archive has one for each entry."""
    from packer.opening.discovery import behind_header

    def read(start: int, length: int) -> Buffer:
        return head[start : start + length]

    at, left = 0, _PLAIN_BYTES
    for _ in range(_MOST_TEXTS):
        at = find_signature(head, at, len(head))
        if at < 0 or left <= 0:
            break
        start, _ = behind_header(read, at, len(head))
        at += 1
        if start:
            inflater = zlib.decompressobj(-15)
            try:
                text = inflater.decompress(memoryview(head)[start:], left)
            except zlib.error:
                continue
            yield text
            left -= len(text)
            at = len(head) - len(inflater.unused_data) if inflater.eof else len(head)


def _unframed(head: bytes) -> bytes:
    """Return the plaintext that zstd frames begin with."""
    context = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES)
    out = bytearray()
    reader = context.stream_reader(head, read_across_frames=True)
    with contextlib.suppress(zstandard.ZstdError):
        while part := reader.read(min(_READ_BYTES, _PLAIN_BYTES - len(out))):
            out += part
    return bytes(out)
