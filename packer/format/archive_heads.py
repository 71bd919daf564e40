"""The first bytes of files, to tell which are archives: from as few bytes of layers as will do.

A frame of archives hardly compresses, and zstd stores what does not compress as it is. So a file's
first bytes lie where the index says, and a few bytes are read. In another frame they are found by
decompressing it from its start. Frames with a prefix are left alone: a closed archive hardly ever
lies in one.

Nothing is verified: a digest covers a whole chunk. So the bytes are good for a remark to the user,
and for nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from packer.engine import zstd
from packer.errors import IntegrityError, NotFound
from packer.format.blob_ranges import BlobRanges
from packer.format.frames import Frames
from packer.format.version import Version
from packer.opening.closed import SIGNATURE_BYTES
from packer.stores.protocols import Completed, Ranged

LOCAL_BYTES, REMOTE_BYTES = 64 << 20, 4 << 20
"""Bytes of frames that are read and decompressed at most, from a local store and from a registry.
"""
_REQUEST_BYTES = 16 << 10
"""What reading a few bytes counts for: a request takes as long as about so many."""


class _Part(NamedTuple):
    """Bytes of a layer that hold the first bytes of files.

    Args:
        files: bytes of these files.
        cost: bytes that are read and decompressed, at most.
        layer: ordinal of the layer.
        offset: in the layer.
        length: number of bytes.
        at: by entry, where its first bytes are: in the bytes, or in what they decompress to.
        is_frame: whether they are the start of a frame, or lie there as they are.
    """

    files: int
    cost: int
    layer: int
    offset: int
    length: int
    at: Mapping[int, int]
    is_frame: bool


def archive_heads(version: Version, frames: Frames, sizes: Mapping[int, int]) -> dict[int, bytes]:
    """Return the first bytes of files.

    Args:
        version: holds them.
        frames: of its index.
        sizes: by entry, the sizes of files that have content and were not opened.

    Returns:
        By entry, the first `SIGNATURE_BYTES`, not verified; less of a shorter file. Those are
        missing that would take too much reading, are damaged, or lie in a registry while the rest
        of the version lies here.

    Raises:
        StoreError: the store failed.
    """
    heads: dict[int, bytes] = {}
    store, layers = version.store, version.manifest.data_layers
    parts = _parts(frames, sizes)
    if isinstance(store, Completed):
        far = [store.lacks(layer) for layer in layers]
        parts = (part for part in parts if not far[part.layer])
    with BlobRanges(store, layers) as ranges:
        left = REMOTE_BYTES if ranges.remote else LOCAL_BYTES
        chosen = []
        for part in sorted(parts, key=lambda part: part.cost / part.files):
            if part.cost <= left:
                left -= part.cost
                chosen.append(part)
        for number, part in enumerate(chosen):
            if isinstance(store, Ranged) and store.ignores_ranges:
                break  # each part would take a whole layer, as the first one did
            if number == 1:
                ranges.expect((part.layer, part.offset, part.length) for part in chosen[1:])
            try:
                data = bytes(ranges.read(part.layer, part.offset, part.length))
                if part.is_frame:
                    end = max(part.at.values()) + SIGNATURE_BYTES
                    data = zstd.decompress_start(data, end, "start of a frame")
            except (IntegrityError, NotFound):
                continue  # `verify` says what is wrong
            for entry, at in part.at.items():
                if head := data[at : at + min(SIGNATURE_BYTES, sizes[entry])]:
                    heads[entry] = head
    return heads


def _parts(frames: Frames, sizes: Mapping[int, int]) -> Iterator[_Part]:
    """Yield what may be read; a file's first bytes are in one of the parts at most."""
    index = frames.index
    started: dict[int, dict[int, int]] = {}
    for entry, size in sizes.items():
        chunk = index.runs_of(entry)[0][0]
        frame = frames.of_chunk(chunk)
        if index.frame_depths[frame]:
            continue
        at = frames.end[chunk] - frames.end[frames.first_chunk[frame]]
        stored = index.frame_stored[frame]
        position = zstd.plain_position(stored, frames.plain_bytes(frame), at)
        if position is None:
            started.setdefault(frame, {})[entry] = at
            continue
        yield _Part(
            files=size,
            cost=_REQUEST_BYTES,
            layer=frames.layer[frame],
            offset=frames.offset[frame] + position,
            length=min(SIGNATURE_BYTES, size, stored - position),
            at={entry: 0},
            is_frame=False,
        )
    for frame, places in started.items():
        start = zstd.start_bytes(max(places.values()) + SIGNATURE_BYTES)
        yield _Part(
            files=sum(sizes[entry] for entry in places),
            cost=start,
            layer=frames.layer[frame],
            offset=frames.offset[frame],
            length=min(start, index.frame_stored[frame]),
            at=places,
            is_frame=True,
        )
