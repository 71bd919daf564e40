"""A version, or a part of it, as a tar archive: a stream, the same bytes for the same tree.

Members stand in byte order of their paths. Owners are root, times are fixed, and permissions are
the version's. Each byte was verified before it is yielded; memory does not grow with the tree.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

from packer.errors import FormatError
from packer.files.tar_format import END, TarHeader, padded, write_header
from packer.files.tree import DIRECTORY, FILE, show
from packer.format.blob_ranges import BlobRanges
from packer.format.frame_reader import FrameReader
from packer.format.index import Index
from packer.format.version import Version
from packer.reading.entry_content import frames_of, read_entry


def tar_of(version: Version, index: Index) -> Iterator[bytes | memoryview]:
    """Yield a tar archive.

    Args:
        version: whose blobs are read.
        index: of the version, or of a part of it.

    Yields:
        The archive in pieces, each valid until the next is asked for.

    Raises:
        NotFound: a layer is missing.
        IntegrityError: a layer, frame or chunk is damaged; the archive has no end then.
        FormatError: likewise.
    """
    layers = version.manifest.data_layers
    sizes, links = index.entry_sizes(), index.symlinks()
    with (
        BlobRanges(version.store, layers) as ranges,
        FrameReader(
            index, layers, ranges.read, remote=ranges.remote, store=version.store
        ) as reader,
        ThreadPoolExecutor(os.cpu_count() or 1, "rebuild") as executor,
    ):
        files = [entry for entry, kind in enumerate(index.kinds) if kind == FILE]
        reader.expect(chain.from_iterable(frames_of(reader, entry) for entry in files))
        for entry, (path, kind) in enumerate(zip(index.paths, index.kinds, strict=True)):
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
