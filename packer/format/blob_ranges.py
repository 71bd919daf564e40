"""Byte ranges of a version's layers, from any kind of store."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from io import BytesIO
from typing import BinaryIO, cast

from packer.engine.memory import writable
from packer.errors import SizeMismatch
from packer.forks import Lock
from packer.format.reading_ahead import ReadingAhead
from packer.oci import READ_BYTES, Descriptor
from packer.stores.protocols import LocalBlobs, Positioned, Ranged, Store


class BlobRanges:
    """Reads byte ranges of layers; a context manager that closes the files it opened.

    A layer of a local store is opened once and read with pread, so threads share the file. From a
    registry that ignores ranges, each layer is fetched once, whole and verified, into a temporary
    file without a name, and read the same way. Parts in a registry that are expected are fetched
    ahead, if they are small.

    Args:
        store: the store that holds the layers.
        layers: the version's data layers, in the order of the index.
    """

    def __init__(self, store: Store, layers: Sequence[Descriptor]) -> None:
        self._store = store
        self._layers = layers
        self._files: dict[int, BinaryIO] = {}
        self._lock = Lock()
        self.remote = not isinstance(store, LocalBlobs)
        """Whether each read may be a request to a server."""
        self._ahead = ReadingAhead(store, layers) if self.remote else None
        self.read_bytes = 0
        """Bytes read so far."""
        self.read_layers: set[int] = set()
        """Ordinals of the layers that anything was read of."""

    def expect(self, parts: Iterable[tuple[int, int, int]]) -> None:
        """Begin to fetch small parts of layers in a registry.

        Args:
            parts: for each its layer's ordinal, its offset and its length in bytes.
        """
        if self._ahead is not None:
            self._ahead.expect(parts)

    def read(self, layer: int, offset: int, length: int) -> bytes | memoryview:
        """Return some bytes of a layer; they are not verified.

        Args:
            layer: the layer's ordinal.
            offset: the first byte.
            length: number of bytes.

        Returns:
            exactly `length` bytes.

        Raises:
            NotFound: the layer is missing.
            SizeMismatch: it is shorter than its descriptor says.
        """
        blob = self._layers[layer]
        data: bytes | memoryview | None = None
        if self._ahead is not None:
            data = self._ahead.take(layer, offset, length)
        if data is not None:
            pass
        elif isinstance(self._store, LocalBlobs):
            data = self._read_local(self._store, layer, offset, length)
        elif isinstance(self._store, Ranged) and self._store.ignores_ranges:
            data = _read_at(self._fetch_whole(layer), length, offset)
        else:
            with self._store.fetch(blob, offset, length) as reader:
                data = reader.read()
        if len(data) != length:
            raise SizeMismatch(f"layer {blob.digest}", blob.size, offset + len(data))
        with self._lock:
            self.read_bytes += length
            self.read_layers.add(layer)
        return data

    def _read_local(
        self, store: LocalBlobs, layer: int, offset: int, length: int
    ) -> bytes | memoryview:
        with self._lock:
            file = self._files.get(layer)
            if file is None:
                file = self._files[layer] = store.open_file(self._layers[layer])
        if isinstance(file, BytesIO):
            return bytes(file.getbuffer()[offset : offset + length])
        if isinstance(file, Positioned):
            return file.pread(length, offset)
        return _read_at(file, length, offset)

    def _fetch_whole(self, layer: int) -> BinaryIO:
        import tempfile  # as in `temporary`

        with self._lock:  # one at a time: a whole layer fills the connection
            file = self._files.get(layer)
            if file is None:
                blob = self._layers[layer]
                file = cast(BinaryIO, tempfile.TemporaryFile(prefix="layer-packer-"))  # noqa: SIM115
                try:
                    with self._store.fetch(blob) as reader:
                        while data := reader.read(READ_BYTES):
                            file.write(data)
                    file.flush()
                except BaseException:
                    file.close()
                    raise
                self._files[layer] = file
        return file

    def __enter__(self) -> BlobRanges:
        """Return the reader."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the files."""
        if self._ahead is not None:
            self._ahead.close()
        for file in self._files.values():
            file.close()


def _read_at(file: BinaryIO, length: int, offset: int) -> memoryview:
    """Return bytes of a file; fewer if it ends before."""
    out = writable(length)
    return out[: os.preadv(file.fileno(), [out], offset)]
