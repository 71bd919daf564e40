"""From digests or sketches of chunks to their ordinals, in little memory."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any

from packer.engine.native import ffi, lib

if TYPE_CHECKING:
    from typing_extensions import Buffer


class Ordinals:
    """A map from keys of one size to numbers below 2^32; for one thread at a time.

    A million digests take 30 MB here, 8 MB if they are lent, and 200 MB in a dict.

    Args:
        key_bytes: 8 or 16.
        lent: keys, one behind another, that `put_lent` puts without copying them.

    Raises:
        MemoryError: no memory for the map.
    """

    def __init__(self, key_bytes: int, lent: Buffer = b"") -> None:
        self._key_bytes = key_bytes
        self._map = ffi.gc(lib.pk_map_new(key_bytes), lib.pk_map_free)
        if not self._map:
            raise MemoryError
        self._lent = ffi.from_buffer("uint8_t[]", lent)  # nobody resizes it now
        lib.pk_map_lend(self._map, self._lent, len(self._lent) // key_bytes)
        self._found = ffi.new("int64_t[1]")

    @property
    def handle(self) -> Any:
        """The map of the C core, as long as this lives."""
        return self._map

    def put_lent(self, first: int, count: int) -> None:
        """Put lent keys under their positions; a key replaces an equal one.

        Args:
            first: position of the first one.
            count: how many to put.

        Raises:
            MemoryError: no memory for the map.
        """
        assert first + count <= len(self._lent) // self._key_bytes
        if lib.pk_map_put_lent(self._map, first, count):
            raise MemoryError

    def put(self, keys: Buffer, first: int, *, each: int = 1) -> None:
        """Put keys under successive numbers; a key replaces an equal one.

        Args:
            keys: one behind another; copied.
            first: number of the first one.
            each: how many successive keys share a number.

        Raises:
            MemoryError: no memory for the map.
        """
        width = self._key_bytes
        # Released at once: a view that a traceback keeps borrowed crashes Python's collector.
        with ffi.from_buffer("uint8_t[]", keys) as view:
            failed = lib.pk_map_put(self._map, view, width, len(view) // width, first, each)
        if failed:
            raise MemoryError

    def get(self, key: Buffer) -> int:
        """Return the number of the key that `key` begins with, -1 if it was not put."""
        with ffi.from_buffer("uint8_t[]", key) as view:
            lib.pk_map_get(self._map, view, 0, 1, self._found)
        return int(self._found[0])

    def get_all(self, keys: Buffer, stride: int) -> array[int]:
        """Look up many keys in one call.

        Args:
            keys: a buffer in which a key begins every `stride` bytes.
            stride: at least the size of a key, in bytes.

        Returns:
            The number of each key as "q", -1 for a key that was not put.
        """
        with ffi.from_buffer("uint8_t[]", keys) as view:
            out = array("q", bytes(8 * (len(view) // stride)))
            with ffi.from_buffer("int64_t[]", out) as to:
                lib.pk_map_get(self._map, view, stride, len(out), to)
        return out
