"""A version, or a part of it, as a tar archive: a stream, the same bytes for the same tree.

Members stand in byte order of their paths. Owners are root, times are fixed, and permissions are
the version's. Each byte was verified before it is yielded; memory does not grow with the tree.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from itertools import chain

from packer.errors import FormatError
from packer.files.tar_format import END, TarHeader, padded, write_header
from packer.files.tree import DIRECTORY, FILE, show
from packer.format.cost import Cost
from packer.format.frame_reader import FrameReader, opened_frames
from packer.format.index import Index
from packer.format.version import Version
from packer.reading.entry_content import frames_of, read_entry


def tar_of(
    version: Version, index: Index, cost: Cost | None = None
) -> Iterator[bytes | memoryview]:
    """Yield a tar archive.

    Args:
        version: whose blobs are read.
        index: of the version, or of a part of it.
        cost: counts what is read, complete behind the last piece.

    Yields:
        The archive in pieces, each valid until the next is asked for.

    Raises:
        NotFound: a layer is missing.
        IntegrityError: a layer, frame or chunk is damaged; the archive has no end then.
        FormatError: likewise.
    """
    for archive in tars_of(version, index, [range(len(index.paths))], cost):
        yield from archive


def tars_of(
    version: Version, index: Index, groups: Sequence[Sequence[int]], cost: Cost | None = None
) -> Iterator[Iterator[bytes | memoryview]]:
    """Yield tar archives, one for each group of entries.

    Args:
        version: whose blobs are read.
        index: of the version, or of a part of it.
        groups: ordinals of entries in `index`, in ascending order within a group.
        cost: as for `tar_of`.

    Yields:
        Archives as `tar_of` yields one. Take all of one before the next is asked for.

    Raises:
        NotFound: a layer is missing.
        IntegrityError: as for `tar_of`.
        FormatError: as for `tar_of`.
    """
    with (
        opened_frames(version, index, cost=cost) as reader,
        ThreadPoolExecutor(os.cpu_count() or 1, "rebuild") as executor,
    ):
        files = (entry for entry in chain.from_iterable(groups) if index.kinds[entry] == FILE)
        reader.expect(chain.from_iterable(frames_of(reader, entry) for entry in files))
        sizes, links = index.entry_sizes(), index.symlinks()
        for entries in groups:
            yield _archive(reader, entries, sizes, links, executor)


def _archive(
    reader: FrameReader,
    entries: Iterable[int],
    sizes: Sequence[int],
    links: Mapping[int, bytes],
    executor: Executor,
) -> Iterator[bytes | memoryview]:
    """Yield the archive of some entries."""
    index = reader.index
    for entry in entries:
        path, kind = index.paths[entry], index.kinds[entry]
        mode, size = index.modes[entry], sizes[entry]
        if kind == DIRECTORY:
            yield write_header(TarHeader(path + b"/", "directory", mode, 0, b""))
        elif kind == FILE:
            yield write_header(TarHeader(path, "file", mode, size, b""))
            left = size
            for piece in read_entry(reader, entry, executor):
                left -= len(piece)
                yield piece
            if left:
                raise FormatError(f"file {show(path)}", f"its size is not {size} bytes")
            yield bytes(padded(size) - size)
        else:
            yield write_header(TarHeader(path, "symlink", 0o777, 0, links[entry]))
    yield END
