"""Plaintext of old streams, kept from one version to the next that is read."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

MOST_BYTES = 32 << 20
"""Bytes of all texts that are kept."""


class KeptTexts:
    """Texts that were made last; may be used by several threads.

    Versions that are read one after another refer to the texts of the same predecessors: each is
    made from that of an older one, and so on.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._texts: OrderedDict[bytes, memoryview] = OrderedDict()
        self._bytes = 0

    def get(self, key: bytes) -> memoryview | None:
        """Return a text, None if it is not kept.

        Args:
            key: tells all that the text is made of.
        """
        with self._lock:
            found = self._texts.get(key)
            if found is not None:
                self._texts.move_to_end(key)
            return found

    def put(self, key: bytes, text: memoryview) -> None:
        """Keep a text, and drop others if there are too many bytes; a long one is not kept.

        Args:
            key: as `get` takes it.
            text: not to be changed any more.
        """
        with self._lock:
            if len(text) > MOST_BYTES or key in self._texts:
                return
            self._texts[key] = text
            self._bytes += len(text)
            while self._bytes > MOST_BYTES:
                _, dropped = self._texts.popitem(last=False)
                self._bytes -= len(dropped)
