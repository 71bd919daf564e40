"""Predecessors that lie on this machine as files: they are neither fetched nor rebuilt.

A recipe often refers to the very archives that an update replaces. A whole file is found by its
size, then its digest, or those of its chunks; `OldFiles` verifies it once more while it copies it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from typing import IO

import blake3

from packer.format.index import DIGEST_BYTES, Index
from packer.format.text_match import TextMatch
from packer.reading.seeds import READ_FLAGS, files_below

_READ_BYTES = 256 << 10
"""Bytes read at a time: a closed predecessor of the same size differs in the first ones, mostly."""


def old_copies(
    index: Index, entries: Iterable[int], directories: Iterable[bytes], *, closed: bool
) -> dict[int, bytes]:
    """Find files that equal predecessors.

    Args:
        index: of the version.
        entries: ordinals of the entries to rebuild.
        directories: searched in this order; unreadable parts are skipped.
        closed: whether to look for predecessors that are stored closed, too.

    Returns:
        By ordinal of a predecessor, the path of a file that equalled it.
    """
    wanted: dict[int, set[int]] = {}  # size -> ordinals
    for ordinal in _predecessors(index, entries):
        row = index.predecessors[ordinal]
        if row.is_opened_file or (closed and not row.recipe_chunks):
            wanted.setdefault(row.size, set()).add(ordinal)
    found: dict[int, bytes] = {}
    for directory in directories if wanted else ():
        for path in files_below(directory):
            with suppress(OSError):
                size = os.lstat(path).st_size
                if size in wanted:
                    equal = _equal(index, wanted[size], path)
                    found.update(dict.fromkeys(equal, path))
                    wanted[size] -= equal
                    if not wanted[size]:
                        del wanted[size]
            if not wanted:
                return found
    return found


def _equal(index: Index, ordinals: Iterable[int], path: bytes) -> set[int]:
    """Return those of some predecessors that a file equals."""
    out, digest = set[int](), b""
    with open(os.open(path, READ_FLAGS), "rb", buffering=0) as file:
        for ordinal in ordinals:
            row = index.predecessors[ordinal]
            file.seek(0)
            if not row.recipe_chunks:
                match = TextMatch(row, index)
                while (data := file.read(_READ_BYTES)) and match.take(data):
                    pass
                is_equal = match.is_whole
            else:
                digest = digest or _digest(file)  # once, however many there are
                is_equal = digest == row.digest
            if is_equal:
                out.add(ordinal)
    return out


def _digest(file: IO[bytes]) -> bytes:
    """Return the digest of a file, as an index records it."""
    hasher = blake3.blake3()
    while data := file.read(_READ_BYTES):
        hasher.update(data)
    return hasher.digest()[:DIGEST_BYTES]


def _predecessors(index: Index, entries: Iterable[int]) -> set[int]:
    """Return all predecessors that entries refer to, by themselves or through others."""
    rows = [index.expansions[entry] for entry in entries if entry in index.expansions]
    todo = [ordinal for row in rows for ordinal in row.predecessors]
    found: set[int] = set()
    while todo:
        ordinal = todo.pop()
        if ordinal not in found:
            found.add(ordinal)
            todo += index.predecessors[ordinal].predecessors
    return found
